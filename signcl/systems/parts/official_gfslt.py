"""Shared by official checkpoints of GFSLT and its pretraining: frame encoder, convolution, input sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from signcl.systems.encoders.published_weights import resnet_name, resnet_of
from signcl.systems.parts.layers import kind_of
from signcl.systems.parts.official import Checkpoint, Name

__all__ = ["released_input", "visual_names", "visual_sizes"]

CONV = {"0": "conv1", "1": "norm1", "4": "conv2", "5": "norm2"}
"""Our names for modules of the released temporal convolution ([K5, P2, K5, P2] or shorter), by index in its list."""


def visual_names(prefix: str) -> dict[str, Name]:
    """Patterns for tensor names of frame encoder and convolution; `prefix` is a pattern too."""
    return {
        prefix + r"conv_2d\.resnet\.(.+)": lambda hit: f"visual.resnet.{resnet_name(hit[1])}",
        prefix + r"conv_1d\.temporal_conv\.([0145])\.(.+)": lambda hit: f"conv.{CONV[hit[1]]}.{hit[2]}",
    }


def visual_sizes(state: Mapping[str, Tensor], prefix: str) -> dict[str, Any]:
    """Recipe values of frame encoder and convolution."""
    frames = f"{prefix}conv_2d.resnet."
    names = (name.removeprefix(frames) for name in state if name.startswith(frames))
    conv = f"{prefix}conv_1d.temporal_conv."
    return {"visual": resnet_of(names), "conv": kind_of(state, conv), "conv_width": len(state[f"{conv}0.bias"])}


def released_input(given: Checkpoint) -> dict[str, Any]:
    """Input settings of the released loaders, from the script's arguments if the file contains them."""
    return {
        "input.size": int(given.argument("resize", 256)),
        "input.crop": int(given.argument("input_size", 224)),
        "input.max_frames": 300,
    }
