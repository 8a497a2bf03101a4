"""Initial weights of a frame encoder: published ones, or those of an earlier run's frame encoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from signcl.systems.encoders.dinov2 import DINOv2, load_published_dinov2
from signcl.systems.encoders.frame_encoders import ResNet
from signcl.systems.encoders.i3d import I3D
from signcl.systems.encoders.published_weights import load_i3d_weights, load_resnet_weights
from signcl.systems.parts.checkpoints import read_tensors

__all__ = ["initialise_visual"]


def initialise_visual(visual: nn.Module, source: str, earlier: Callable[[str], Any] = lambda folder: None) -> str:
    """Load published weights, or those of an earlier run's frame encoder. Returns what was loaded.

    Args:
        source: `model.visual_weights`.
        earlier: returns the run in a folder (`signcl.systems.base.EarlierRun`), or None if the folder holds none.

    Raises:
        ValueError, OSError: nothing found, or tensors that do not fit.
    """
    key, name = "model.visual_weights", source.removeprefix("pretrained:")
    if name == source:
        raise ValueError(f"{key}: needs pretrained:FILE, pretrained:RUN or pretrained:HUB_ID, got {source!r}")
    run = earlier(name)
    if run is not None:
        theirs = {k.removeprefix("visual."): v for k, v in run.tensors.items() if k.startswith("visual.")}
        own = visual.state_dict()
        wrong = [
            k for k in own.keys() | theirs.keys() if k not in own or k not in theirs or own[k].shape != theirs[k].shape
        ]
        if wrong or not own:
            raise ValueError(
                f"{key}={source}: the frame encoder of that run ({run.config.visual}) is not this one; {len(wrong)} "
                f"tensors differ" + (f", first {min(wrong)}" if wrong else ": it has none to take over")
            )
        visual.load_state_dict(theirs)
        return f"frame encoder from the run {name}: every one of {len(own)} tensors ({run.config.visual})"
    if isinstance(visual, DINOv2):
        return f"frame encoder from {source}: {load_published_dinov2(visual, source)}"
    tensors = read_tensors(source, key)
    if isinstance(visual, I3D):
        return f"frame encoder from {source}: {load_i3d_weights(visual, tensors)}"
    if isinstance(visual, ResNet):
        return f"frame encoder from {source}: {load_resnet_weights(visual, tensors)}"
    raise ValueError(
        f"{key}={source}: published weights are known for the ResNets, i3d and dinov2, not for this frame encoder"
    )
