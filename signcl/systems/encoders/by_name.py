"""Builds a frame encoder with random weights from its name in a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from signcl.data.registry import did_you_mean
from signcl.systems.encoders.dinov2 import DINOv2, DINOv2Config
from signcl.systems.encoders.feature_streams import FeatureStreams, StreamsConfig
from signcl.systems.encoders.frame_encoders import FeatureMLP, Identity, ResNet, SmallCNN
from signcl.systems.encoders.i3d import I3D, I3DConfig
from signcl.systems.encoders.part_graphs import GraphsConfig, PartGraphs
from signcl.systems.encoders.pose_stream import PoseStream

__all__ = ["VISUALS", "build_frame_encoder", "build_visual"]

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101")
VISUALS = (
    *("small_cnn", *RESNETS, "i3d", "dinov2"),
    *("feature_mlp", "feature_streams", "pose_stream", "part_graphs", "identity"),
)
OF_FEATURES = ("feature_mlp", "feature_streams", "pose_stream", "part_graphs", "identity")


def build_frame_encoder(config: Any, feature_dim: int | None, described: Mapping[str, Any] | None = None) -> nn.Module:
    """The frame encoder that a system's config names.

    Args:
        config: a `signcl.systems.base.SystemConfig`.
        feature_dim: size of pre-extracted features, or None when the corpus gives pixels.
        described: the configuration of a published network, as saved in a run folder.

    Raises:
        ValueError: a pixel encoder for a corpus of features, or vice versa.
    """
    return build_visual(
        config.visual,
        feature_dim=feature_dim,
        dim=config.visual_dim,
        chunk=config.chunk,
        i3d=config.i3d,
        dinov2=config.dinov2,
        streams=config.streams,
        graphs=config.graphs,
        described=described,
        weights=config.visual_weights,
    )


def build_visual(
    name: str,
    *,
    feature_dim: int | None = None,
    dim: int = 128,
    chunk: int | None = None,
    i3d: I3DConfig | None = None,
    dinov2: DINOv2Config | None = None,
    streams: StreamsConfig | None = None,
    graphs: GraphsConfig | None = None,
    described: Mapping[str, Any] | None = None,
    weights: str = "",
) -> nn.Module:
    """Build the frame encoder with this name.

    Args:
        name: one of `VISUALS`. small_cnn, the ResNets, i3d and dinov2 take pixels; feature_mlp, feature_streams and
            identity take features; pose_stream and part_graphs take key points.
        feature_dim: size of the pre-extracted features or key points.
        dim: size of a feature for small_cnn, feature_mlp, feature_streams (per source), pose_stream and part_graphs;
            the others have a fixed size.
        chunk: frames encoded at a time, for pixel encoders; see `ResNet`.
        i3d: windows, width and channels of i3d; None: as published.
        dinov2: size and adapters of dinov2; None: the tiny size.
        streams: sizes and fusion of feature_streams.
        graphs: picture features of part_graphs.
        described, weights: sources of the sizes of a dinov2, see `DINOv2Config.sizes`.

    Raises:
        ValueError: an unknown name, or a name that does not fit the inputs.
    """
    if name not in VISUALS:
        raise ValueError(
            f"model.visual must be one of {', '.join(VISUALS)}, got {name!r}{did_you_mean(name, VISUALS) or '.'}"
        )
    if name in OF_FEATURES:
        if feature_dim is None:
            raise ValueError(
                f"model.visual={name} needs a corpus of features, but this one has video frames; use resnet18."
            )
        if name == "pose_stream":
            return PoseStream(feature_dim, dim)
        if name == "part_graphs":
            return PartGraphs(feature_dim, dim, graphs)
        if name == "feature_streams":
            return FeatureStreams.of(streams or StreamsConfig(), feature_dim, dim)
        return Identity(feature_dim) if name == "identity" else FeatureMLP(feature_dim, dim)
    if feature_dim is not None:
        raise ValueError(
            f"model.visual={name} needs video frames, but this corpus has features of size {feature_dim}; "
            "use feature_mlp, feature_streams or identity."
        )
    if name == "i3d":
        return I3D.of(i3d or I3DConfig(), chunk)
    if name == "dinov2":
        return DINOv2.of(dinov2 or DINOv2Config(), chunk, described, weights)
    return SmallCNN(dim, chunk=chunk) if name == "small_cnn" else ResNet(int(name.removeprefix("resnet")), chunk=chunk)
