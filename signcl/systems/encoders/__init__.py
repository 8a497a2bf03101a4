"""Frame encoders, which map frames to features, their training augmentation, and the loading of published weights."""

from signcl.systems.encoders.augment import augment
from signcl.systems.encoders.by_name import OF_FEATURES, VISUALS, build_frame_encoder, build_visual
from signcl.systems.encoders.dinov2 import DINOV2_SIZES, DINOv2, DINOv2Config, load_dinov2
from signcl.systems.encoders.feature_streams import FeatureStreams, StreamsConfig
from signcl.systems.encoders.frame_encoders import FeatureMLP, Identity, ResNet, SmallCNN
from signcl.systems.encoders.i3d import I3D, I3DConfig
from signcl.systems.encoders.part_graphs import GraphsConfig, PartGraphs
from signcl.systems.encoders.pose_stream import PoseStream
from signcl.systems.encoders.published_crops import PublishedCrops
from signcl.systems.encoders.published_vision import PublishedImages, VisionReading, open_vision
from signcl.systems.encoders.published_weights import WeightReport, load_i3d_weights, load_resnet_weights
from signcl.systems.encoders.starting import initialise_visual

__all__ = [
    "DINOV2_SIZES",
    "I3D",
    "OF_FEATURES",
    "VISUALS",
    "DINOv2",
    "DINOv2Config",
    "FeatureMLP",
    "FeatureStreams",
    "GraphsConfig",
    "I3DConfig",
    "Identity",
    "PartGraphs",
    "PoseStream",
    "PublishedCrops",
    "PublishedImages",
    "ResNet",
    "SmallCNN",
    "StreamsConfig",
    "VisionReading",
    "WeightReport",
    "augment",
    "build_frame_encoder",
    "build_visual",
    "initialise_visual",
    "load_dinov2",
    "load_i3d_weights",
    "load_resnet_weights",
    "open_vision",
]
