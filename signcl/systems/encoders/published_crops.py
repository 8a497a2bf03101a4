"""A published image model applied to pictures of the hands or the face, cut out of each frame by key points."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from signcl.data.batch import Batch
from signcl.systems.encoders.published_vision import KEY, PublishedImages, PublishedVideos

__all__ = ["PublishedCrops", "cut_squares"]

Squares = Callable[[str, int, int, int], tuple[np.ndarray, np.ndarray]]
"""Name of a clip, its number of frames, width and height -> squares in pixels [T, P, 3], whether found [T, P]."""


class PublishedCrops(nn.Module):
    """One row per frame: the vectors of the cut-out parts, concatenated; zero for a part that was not found.

    Args:
        images: the published image model; it reads each part at its input size, without its own resizing and cropping.
        parts: names of the parts, in the order of a row.
        squares: where the parts are in a clip.

    Source: the idea is that of Uni-Sign's RGB-pose form and of SHuBERT (hands and face through DINOv2); the image model
    is frozen here.
    """

    def __init__(self, images: PublishedImages, parts: Sequence[str], squares: Squares) -> None:
        super().__init__()
        if isinstance(images, PublishedVideos):
            raise ValueError(f"--crops: {KEY}={images.source} reads windows of frames; needs an image model")
        if images.reading.scales != (1,):
            raise ValueError("--crops: parts are read at the size of the model; leave out --scales")
        self.images, self.parts, self.squares = images, tuple(parts), squares
        self.dim = images.dim * len(self.parts)

    def described(self) -> dict[str, Any]:
        """Description saved in a feature store."""
        return {**self.images.described(), "crops": list(self.parts)}

    @torch.no_grad()
    def encode_clips(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Rows of each clip, zero at padding, and frames per clip. [B, T, dim], [B]"""
        frames, lengths = batch.inputs, batch.lengths
        if frames.ndim != 4 or frames.shape[-1] != 3:
            raise ValueError(f"--crops needs RGB frames [N, H, W, 3], got {frames.dtype} {list(frames.shape)}")
        height, width = frames.shape[1:3]
        rows = frames.new_zeros((len(batch), batch.max_length, len(self.parts), self.images.dim), dtype=torch.float32)
        for i, (name, own) in enumerate(zip(batch.names, frames.split(lengths.tolist()))):  # packed: clip after clip
            for t, part, vector in self._vectors(own, *self.squares(name, len(own), width, height)):
                rows[i, t, part] = vector
        return rows.flatten(2), lengths

    def _vectors(self, frames: Tensor, squares: np.ndarray, found: np.ndarray) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Frame numbers, part numbers and vectors of the parts that were found, some pictures at a time."""
        made = []
        there = torch.from_numpy(np.argwhere(found)).to(frames.device)  # [n, 2]: frame, part
        places = torch.from_numpy(squares[found]).float().to(frames.device)  # [n, 3]
        for some, at in zip(there.split(self.images.reading.chunk), places.split(self.images.reading.chunk)):
            pictures = cut_squares(frames[some[:, 0]], at, self.images.prepare.size)
            made.append((some[:, 0], some[:, 1], self.images.pooled(self.images.prepare.normalized(pictures))))
        return made


def cut_squares(frames: Tensor, squares: Tensor, size: tuple[int, int]) -> Tensor:
    """Cut one square out of each frame and resize it bilinearly; outside of the frame it is black.

    Args:
        frames: uint8 [n, H, W, 3]
        squares: centre x, centre y and side, pixels. [n, 3]
        size: height and width of the result.

    Returns:
        float, 0 to 255 [n, 3, h, w]
    """
    height, width = frames.shape[1:3]
    across, down, side = squares.unbind(1)
    zero = torch.zeros_like(side)
    # grid_sample counts from -1 to 1 over the frame
    move = torch.stack(
        [
            torch.stack([side / width, zero, 2 * across / width - 1], dim=1),
            torch.stack([zero, side / height, 2 * down / height - 1], dim=1),
        ],
        dim=1,
    )
    grid = F.affine_grid(move, [len(frames), 3, *size], align_corners=False)
    return F.grid_sample(frames.permute(0, 3, 1, 2).float(), grid, mode="bilinear", align_corners=False)
