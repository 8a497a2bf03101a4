"""Windows of frames over the clips of a packed batch, for encoders that give one vector per window."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from signcl.data.batch import Batch, unpack
from signcl.systems.parts.layers import at_least

__all__ = ["ClipWindows", "Windows"]


@dataclass(frozen=True)
class ClipWindows:
    """All windows of all clips of a batch."""

    frames: Tensor
    """Row indices into `batch.inputs` of each window. [M, window] long"""
    counts: Tensor
    """Number of windows of each clip. [B]"""
    positions: Tensor
    """Position of each window in the padded layout. [M] long"""
    most: int
    """Number of windows of the longest clip."""

    def padded(self, rows: Tensor) -> Tensor:
        """Pad rows per window to clips, zero at padding. [M, D] -> [B, most, D]"""
        return unpack(rows, self.positions, len(self.counts), self.most)


@dataclass(frozen=True)
class Windows:
    """Windows of `size` frames every `stride` frames.

    A clip of n frames has (n - size) // stride + 1 windows, all inside the clip; a clip shorter than one window is
    padded with its last frame to one window.
    """

    size: int
    stride: int

    def count(self, frames: int) -> int:
        """Number of windows of a clip with this number of frames."""
        return (at_least(frames, self.size) - self.size) // self.stride + 1

    def counts(self, lengths: Tensor) -> Tensor:
        """Number of windows of clips with these numbers of frames. [B] -> [B]"""
        return (lengths.clamp(min=self.size) - self.size) // self.stride + 1

    def of(self, batch: Batch) -> ClipWindows:
        """The windows of the clips of a batch."""
        lengths, device = batch.lengths, batch.lengths.device
        counts = self.counts(lengths)  # [B]
        # sizes come from the host's copy of the lengths, which avoids a device synchronisation
        total = sum(self.count(length) for length in batch.host_lengths)
        most = self.count(batch.max_length)
        clip = torch.repeat_interleave(torch.arange(len(batch), device=device), counts, output_size=total)  # [M]
        order = torch.arange(total, device=device) - (counts.cumsum(0) - counts)[clip]  # [M] window in its clip
        inside = order[:, None] * self.stride + torch.arange(self.size, device=device)  # [M, size] frame in its clip
        inside = torch.minimum(inside, lengths[clip, None] - 1)  # repeat the last frame of a short clip
        frames = inside + (lengths.cumsum(0) - lengths)[clip, None]
        return ClipWindows(frames, counts, clip * most + order, most)
