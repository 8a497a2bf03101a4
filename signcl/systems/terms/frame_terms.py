"""Terms on frame features for all systems: slow, invariance, sigreg. The formulas are in `signcl.losses`.

They read the same tap as SignCL. `loss.weights: {translation: 1.0, slow: 0.3, sigreg: 3.0}` pulls neighbouring frames
together like SignCL, but spreads all frames evenly instead of pushing pairs apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from signcl.data.batch import Batch
from signcl.data.bounds import bounded
from signcl.losses import invariance_loss, sigreg_loss, slow_loss
from signcl.systems.terms import TermContext, register_term

__all__ = ["SigregSettings", "contrast_of", "invariance", "sigreg", "slow"]


@dataclass
class SigregSettings:
    """`loss.sigreg` of a recipe."""

    directions: int = bounded(64, low=1, high=65_536)
    """Random directions onto which frames are projected, new in each step. LeJEPA: 64 to 1024."""
    frames: int = bounded(512, low=16, high=1_000_000)
    """Frames sampled from each batch."""


def contrast_of(out: Any) -> tuple[Tensor, Tensor]:
    """Rows and lengths for losses on features: `out.contrast` if the system has it, else `features` and `lengths`.
    [B, T, D], [B]
    """
    features, lengths = getattr(out, "contrast", None) or (out.features, out.lengths)
    return features, lengths


@register_term("slow", title="Slow-feature loss", explained="squared step between neighbouring frames")
def slow(out: Any, batch: Batch) -> Tensor:
    """Pulls neighbouring frames together, after layer normalization. Alone it lets features collapse."""
    return slow_loss(*contrast_of(out))


@register_term("sigreg", settings=SigregSettings, title="SIGReg loss", explained="distance to an even Gaussian")
def sigreg(out: Any, batch: Batch, context: TermContext) -> Tensor:
    """Makes the distribution of the batch's frames an isotropic Gaussian. Source: LeJEPA."""
    settings = context.settings
    return sigreg_loss(*contrast_of(out), directions=settings.directions, frames=settings.frames)


@register_term("invariance", title="Invariance loss", explained="squared difference of two views of a frame")
def invariance(out: Any, batch: Batch, context: TermContext) -> Tensor:
    """Pulls two views of a frame together: `input.augment` sampled again, or noise if the input is not pixels.

    Costs a second pass of the frame encoder.
    """
    if context.view is None:
        raise ValueError("loss.weights.invariance needs a second view of the clips, which only training gives")
    return invariance_loss(out.features, context.view(batch), out.lengths)
