"""The weights that a frame encoder starts from: published ones, or those of an earlier run's frame encoder."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from signcl.systems.encoders import I3D, DINOv2, ResNet, load_i3d_weights, load_resnet_weights
from signcl.training.build.tensors import read_tensors
from signcl.training.recipe import load_recipe

__all__ = ["initialise_visual"]


def initialise_visual(visual: nn.Module, source: str) -> str:
    """Fill a frame encoder with published weights, or with those of an earlier run's frame encoder; what went where.

    Args:
        source: `model.visual_weights`.
    """
    key, folder = "model.visual_weights", Path(source.removeprefix("pretrained:"))
    of_run = (folder / "recipe.yaml").is_file()
    if isinstance(visual, DINOv2) and not of_run:
        from signcl.training.build.published import load_published_dinov2

        return f"frame encoder from {source}: {load_published_dinov2(visual, source)}"
    tensors = read_tensors(source, key)
    if of_run:
        name = load_recipe(folder / "recipe.yaml").model.visual
        theirs = {k.removeprefix("visual."): v for k, v in tensors.items() if k.startswith("visual.")}
        own = visual.state_dict()
        wrong = [
            k for k in own.keys() | theirs.keys() if k not in own or k not in theirs or own[k].shape != theirs[k].shape
        ]
        if wrong or not own:
            raise ValueError(
                f"{key}={source}: the frame encoder of that run ({name}) is not this one; {len(wrong)} tensors differ"
                + (f", first {min(wrong)}" if wrong else ": it has none to take over")
            )
        visual.load_state_dict(theirs)
        return f"frame encoder from the run {folder}: every one of {len(own)} tensors ({name})"
    if isinstance(visual, I3D):
        return f"frame encoder from {source}: {load_i3d_weights(visual, tensors)}"
    if isinstance(visual, ResNet):
        return f"frame encoder from {source}: {load_resnet_weights(visual, tensors)}"
    raise ValueError(
        f"{key}={source}: published weights are known for resnet18, resnet34, i3d and dinov2, not for this frame "
        f"encoder"
    )
