"""Shared first part of all systems: encoding a batch with the frame encoder, and the taps that read states.

A frame encoder gives one vector per frame, or one per window if it reads windows of frames (I3D). The functions here
give the resulting lengths.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from signcl.data.batch import Batch, unpack
from signcl.data.registry import did_you_mean

__all__ = ["FrameEncoder", "Tapped", "feature_lengths", "feature_size", "frame_features", "no_such_tap", "one_by_one"]


@dataclass(frozen=True)
class Tapped:
    """States of a system at a tap, for extraction and density."""

    rows: Tensor
    """[B, L, D]"""
    lengths: Tensor
    """Rows of each clip without padding. [B]"""
    stride: float = 1.0
    """Frames from one row to the next."""
    first_centre: float = 0.5
    """Middle of the first row's receptive field, in frames; frame t lasts from t to t + 1."""


def frame_features(visual: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Frame features, zero at padding, and their number per clip. [B, T, D], [B]

    A frame encoder that reads windows has `encode_clips(batch)`, which returns both, and `feature_lengths(lengths)`.
    """
    windowed: Any = getattr(visual, "encode_clips", None)
    if windowed is not None:
        rows, lengths = windowed(batch)
        return rows, lengths
    return unpack(visual(batch.inputs), batch.positions, len(batch), batch.max_length), batch.lengths


def feature_lengths(visual: nn.Module, lengths: Tensor) -> Tensor:
    """Number of rows of the frame encoder for clips with these numbers of frames. [B] -> [B]"""
    rule: Any = getattr(visual, "feature_lengths", None)
    return lengths if rule is None else rule(lengths)


def feature_size(visual: nn.Module) -> int:
    """Size of a frame encoder's features."""
    dim: Any = visual.dim
    return int(dim)


class FrameEncoder(nn.Module):
    """A frame encoder with the interface of a system, so that features can be extracted without training one."""

    TAPS = ("features",)

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual = visual

    def tapped(self, batch: Batch, tap: str = "features") -> Tapped:
        """Its features, the only tap.

        Raises:
            ValueError: another tap.
        """
        if tap not in self.TAPS:
            raise no_such_tap(tap, self.TAPS)
        return tap_of_frames(self.visual, *frame_features(self.visual, batch))


def tap_of_frames(visual: nn.Module, rows: Tensor, lengths: Tensor) -> Tapped:
    """Frame features as a tap, with the frame encoder's positions in time."""
    stride, centre = getattr(visual, "stride", 1.0), getattr(visual, "first_centre", 0.5)
    return Tapped(rows, lengths, float(stride), float(centre))


def one_by_one(first: Tensor, lengths: Tensor, second: Tensor) -> Tensor:
    """The real rows of `first`, and directly after them all rows of `second`; what follows is undefined.

    Args:
        first: [B, T, D]
        lengths: real rows of `first`. [B]
        second: [B, M, D]

    Returns:
        [B, T + M, D]
    """
    both = torch.cat([first, second], dim=1)
    place = torch.arange(both.shape[1], device=both.device)[None, :]
    behind = (place - lengths[:, None] + first.shape[1]).clamp(max=both.shape[1] - 1)
    index = torch.where(place < lengths[:, None], place, behind)  # [B, T + M]
    return both.gather(1, index[:, :, None].expand(-1, -1, both.shape[2]))


def no_such_tap(name: str, known: Iterable[str]) -> ValueError:
    """The error for a tap that a system does not have."""
    known = list(known)
    return ValueError(f"tap={name}: this system has {', '.join(known)}{did_you_mean(name, known)}")
