"""Windows of frames over the clips of a packed batch, for encoders that give a vector per window."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from signcl.data.batch import Batch, unpack

__all__ = ["ClipWindows", "Windows"]


@dataclass(frozen=True)
class ClipWindows:
    """All windows of all clips of a batch."""

    frames: Tensor
    """The rows of `batch.inputs` in each window. [M, window] long"""
    counts: Tensor
    """Windows of each clip. [B]"""
    positions: Tensor
    """Where each window goes in the padded layout. [M] long"""
    most: int
    """Windows of the longest clip."""

    def padded(self, rows: Tensor) -> Tensor:
        """One row for each window, zero at padding. [M, D] -> [B, most, D]"""
        return unpack(rows, self.positions, len(self.counts), self.most)


@dataclass(frozen=True)
class Windows:
    """A clip of n frames gives (n - size) // stride + 1 windows, all of them inside the clip; one shorter than a window
    is lengthened by its last frame and gives one."""

    size: int
    stride: int

    def count(self, frames: int) -> int:
        """Windows of a clip of so many frames."""
        return (max(frames, self.size) - self.size) // self.stride + 1

    def counts(self, lengths: Tensor) -> Tensor:
        """Windows of clips of so many frames. [B] -> [B]"""
        return (lengths.clamp(min=self.size) - self.size) // self.stride + 1

    def of(self, batch: Batch) -> ClipWindows:
        """The windows of the clips of a batch."""
        lengths, device = batch.lengths, batch.lengths.device
        counts = self.counts(lengths)  # [B]
        # the sizes come from the host's copy of the lengths, so that the device is asked nothing
        total = sum(self.count(length) for length in batch.host_lengths)
        most = self.count(batch.max_length)
        clip = torch.repeat_interleave(torch.arange(len(batch), device=device), counts, output_size=total)  # [M]
        order = torch.arange(total, device=device) - (counts.cumsum(0) - counts)[clip]  # [M] window of its clip
        inside = order[:, None] * self.stride + torch.arange(self.size, device=device)  # [M, size] frame of its clip
        inside = torch.minimum(inside, lengths[clip, None] - 1)  # a short clip goes on with its last frame
        frames = inside + (lengths.cumsum(0) - lengths)[clip, None]
        return ClipWindows(frames, counts, clip * most + order, most)
