"""From frames to features: the frame encoders, their training augmentation, and the loading of published weights."""

from signcl.systems.encoders.augment import Augment, augment
from signcl.systems.encoders.dinov2 import DINOV2_SIZES, DINOv2, load_dinov2
from signcl.systems.encoders.frame_encoders import VISUALS, FeatureMLP, Identity, ResNet, SmallCNN, build_visual
from signcl.systems.encoders.i3d import I3D
from signcl.systems.encoders.pose_stream import PoseStream
from signcl.systems.encoders.published_weights import WeightReport, load_i3d_weights, load_resnet_weights

__all__ = [
    "DINOV2_SIZES",
    "I3D",
    "VISUALS",
    "Augment",
    "DINOv2",
    "FeatureMLP",
    "Identity",
    "PoseStream",
    "ResNet",
    "SmallCNN",
    "WeightReport",
    "augment",
    "build_visual",
    "load_dinov2",
    "load_i3d_weights",
    "load_resnet_weights",
]
