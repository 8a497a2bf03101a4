"""Terms on frame features that any system can weigh: slow, invariance, sigreg. The arithmetic is in `signcl.losses`.

They look where SignCL looks. `loss.weights: {translation: 1.0, slow: 0.3, sigreg: 3.0}` keeps SignCL's idea of near
frames together and spreads all frames evenly instead of pushing pairs apart.
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
    """Random directions that the cloud of frames is looked at from, new ones in each step. LeJEPA: 64 to 1024."""
    frames: int = bounded(512, low=16, high=1_000_000)
    """Frames of a batch that are looked at, drawn."""


def contrast_of(out: Any) -> tuple[Tensor, Tensor]:
    """Frames and rows of each clip that losses on features see: `out.contrast` if the system has one, else `features`.

    [B, T, D], [B]
    """
    features, lengths = getattr(out, "contrast", None) or (out.features, out.lengths)
    return features, lengths


@register_term("slow", title="Slow-feature loss", explained="squared step between neighbouring frames")
def slow(out: Any, batch: Batch) -> Tensor:
    """Neighbouring frames near each other, after layer normalization. Alone it lets features collapse."""
    return slow_loss(*contrast_of(out))


@register_term("sigreg", settings=SigregSettings, title="SIGReg loss", explained="distance to an even Gaussian")
def sigreg(out: Any, batch: Batch, context: TermContext) -> Tensor:
    """The frames of a batch like an isotropic Gaussian cloud. Source: LeJEPA."""
    settings = context.settings
    return sigreg_loss(*contrast_of(out), directions=settings.directions, frames=settings.frames)


@register_term("invariance", title="Invariance loss", explained="squared difference of two views of a frame")
def invariance(out: Any, batch: Batch, context: TermContext) -> Tensor:
    """A frame near itself in another view: `input.augment` drawn anew, noise where the input is no pixels.

    Costs a second pass of the frame encoder.
    """
    if context.view is None:
        raise ValueError("loss.weights.invariance needs a second view of the clips, which only training gives")
    return invariance_loss(out.features, context.view(batch), out.lengths)
