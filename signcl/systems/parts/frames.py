"""What every system begins with: a batch through its frame encoder, and the places where its states can be read.

A frame encoder gives a vector per frame, or, when it reads windows of frames (I3D), a vector per window; whoever
needs lengths after it takes them from here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from signcl.data.batch import Batch, unpack

__all__ = ["FrameEncoder", "Tapped", "feature_lengths", "feature_size", "frame_features", "no_such_tap"]


@dataclass(frozen=True)
class Tapped:
    """States of a system at a named place, for extraction and density."""

    rows: Tensor
    """[B, L, D]"""
    lengths: Tensor
    """Real rows of each clip. [B]"""
    stride: float = 1.0
    """Frames from one row to the next."""
    first_centre: float = 0.5
    """The middle of what the first row has seen, in frames; frame t lasts from t to t + 1."""


def frame_features(visual: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Frame features, zero at padding, and how many each clip has. [B, T, D], [B]

    A frame encoder that reads windows has `encode_clips(batch)`, which returns both, and `feature_lengths(lengths)`.
    """
    windowed: Any = getattr(visual, "encode_clips", None)
    if windowed is not None:
        rows, lengths = windowed(batch)
        return rows, lengths
    return unpack(visual(batch.inputs), batch.positions, len(batch), batch.max_length), batch.lengths


def feature_lengths(visual: nn.Module, lengths: Tensor) -> Tensor:
    """Rows that the frame encoder gives for clips of so many frames. [B] -> [B]"""
    rule: Any = getattr(visual, "feature_lengths", None)
    return lengths if rule is None else rule(lengths)


def feature_size(visual: nn.Module) -> int:
    """What a frame encoder says about its features."""
    dim: Any = visual.dim
    return int(dim)


class FrameEncoder(nn.Module):
    """A frame encoder alone, with the interface of a system, so that it can be extracted from without training one."""

    TAPS = ("features",)

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual = visual

    def tapped(self, batch: Batch, tap: str = "features") -> Tapped:
        """Its features, the one tap.

        Raises:
            ValueError: another tap.
        """
        if tap not in self.TAPS:
            raise no_such_tap(tap, self.TAPS)
        return tap_of_frames(self.visual, *frame_features(self.visual, batch))


def tap_of_frames(visual: nn.Module, rows: Tensor, lengths: Tensor) -> Tapped:
    """Frame features as a tap, on the clock of the frame encoder."""
    stride, centre = getattr(visual, "stride", 1.0), getattr(visual, "first_centre", 0.5)
    return Tapped(rows, lengths, float(stride), float(centre))


def no_such_tap(name: str, known: Iterable[str]) -> ValueError:
    """The answer to a tap that a system does not have."""
    return ValueError(f"tap={name}: this system has {', '.join(known)}")
