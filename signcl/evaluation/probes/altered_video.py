"""Measures the score that remains without the video: frames shuffled, blanked, replaced by noise, or from another clip.

A translator that has memorised sentences keeps much of its score. Clip lengths never change, so a model may still use
them.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from signcl.data.batch import Batch

__all__ = ["ALTERED", "Look", "alter", "another_clip", "measure_look"]

ALTERED = {
    "shuffled": "the clip's own frames in random order",
    "zeros": "every frame black (features: 0)",
    "mean": "every frame the mean of the split",
    "noise": "independent normal noise with the split's mean and deviation",
}
CHUNK = 64  # frames to convert at a time


@dataclass(frozen=True)
class Look:
    """Statistics of a split's frames, per colour channel or per feature dimension."""

    mean: Tensor
    """[3] or [D] float"""
    deviation: Tensor
    """[3] or [D] float"""


def measure_look(batches: Sequence[Tensor]) -> Look:
    """Mean and standard deviation over packed frames and pixel positions.

    Args:
        batches: `Batch.inputs` of each batch. [N, H, W, 3] or [N, D]
    """
    count, total, squares = 0, torch.zeros(1), torch.zeros(1)
    for inputs in batches:
        for chunk in inputs.split(CHUNK):
            values = chunk.detach().cpu().reshape(-1, chunk.shape[-1]).double()
            count += len(values)
            total = total + values.sum(dim=0)
            squares = squares + values.square().sum(dim=0)
    mean = total / count
    return Look(mean.float(), (squares / count - mean.square()).clamp(min=0).sqrt().float())


def alter(batch: Batch, kind: str, look: Look, *, seed: int = 0) -> Batch:
    """Replace the frames of a batch; the result for a clip depends on its name and the seed, not on the batch.

    Args:
        batch: clips.
        kind: a key of `ALTERED`.
        look: statistics of the split, for `mean` and `noise`.
        seed: seed of `shuffled` and `noise`.

    Raises:
        ValueError: an unknown kind.
    """
    if kind not in ALTERED:
        raise ValueError(f"frames can be {', '.join(ALTERED)}; got {kind!r}")
    clips = batch.inputs.split(batch.lengths.tolist())
    return replace(batch, inputs=torch.cat([_altered(c, n, kind, look, seed) for c, n in zip(clips, batch.names)]))


def _altered(frames: Tensor, name: str, kind: str, look: Look, seed: int) -> Tensor:
    if kind == "zeros":
        return torch.zeros_like(frames)
    if kind == "mean":
        return _like(look.mean.to(frames.device).expand(frames.shape), frames)
    random = torch.Generator().manual_seed(zlib.crc32(f"{seed} {kind} {name}".encode()))
    if kind == "shuffled":
        return frames[torch.randperm(len(frames), generator=random).to(frames.device)]
    drawn = torch.randn(frames.shape, generator=random) * look.deviation + look.mean
    return _like(drawn.to(frames.device), frames)


def _like(values: Tensor, frames: Tensor) -> Tensor:
    """Convert values to the type of the frames; pixels become integers from 0 to 255."""
    if frames.dtype == torch.uint8:
        values = values.round().clamp(0, 255)
    return values.to(frames.dtype).contiguous()


def another_clip(references: Sequence[str], *, seed: int = 0) -> list[int]:
    """For each sentence, the index of a clip with a different sentence, whose video replaces its own.

    Clips are arranged in a random circle, and each takes the next clip with a different sentence. This needs no
    network: the answer to another clip's video is that clip's answer.

    Raises:
        ValueError: all sentences are equal.
    """
    if len(set(references)) < 2:
        raise ValueError("another clip's video needs at least 2 different sentences in the split")
    order = np.random.default_rng(seed).permutation(len(references)).tolist()
    found = [0] * len(order)
    for place, own in enumerate(order):
        step = 1
        while references[order[(place + step) % len(order)]] == references[own]:
            step += 1
        found[own] = order[(place + step) % len(order)]
    return found
