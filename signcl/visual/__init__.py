"""From frames to features: the frame encoders, their training augmentation, and the loading of published weights."""

from signcl.visual.augment import Augment, augment
from signcl.visual.encoders import VISUALS, FeatureMLP, Identity, ResNet, SmallCNN, build_visual
from signcl.visual.pose_stream import PoseStream
from signcl.visual.weights import WeightReport, load_resnet_weights

__all__ = [
    "VISUALS",
    "Augment",
    "FeatureMLP",
    "Identity",
    "PoseStream",
    "ResNet",
    "SmallCNN",
    "WeightReport",
    "augment",
    "build_visual",
    "load_resnet_weights",
]
