"""One vector per word: the running mean of the frames assigned to it. No gradient, no parameters.

Each step estimates which of its clip's words a frame shows (`signcl.losses.word_shares`), then moves each word's vector
towards the mean of the frames assigned to it. This is soft k-means in which a clip may use only the clusters of its
words. Words that always occur together get the same vector, since they cannot be distinguished.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from signcl.data.batch import frame_mask
from signcl.losses import normalized_frames, word_shares
from signcl.losses.precision import full_precision
from signcl.losses.regularisers import clean_frames

__all__ = ["WordMemory"]


class WordMemory(nn.Module):
    """Word vectors of a loss term, in buffers that are saved and loaded with the model.

    Args:
        dim: size of a frame feature, D.
        words: vocabulary size V.
    """

    means: Tensor
    """Mean layer-normalized frame of each word, and of all frames in the last row. [V + 1, D]"""
    steps: Tensor
    """Number of steps in which each row had a frame. [V + 1]"""

    def __init__(self, dim: int, words: int) -> None:
        super().__init__()
        self.register_buffer("means", torch.zeros(words + 1, dim))
        self.register_buffer("steps", torch.zeros(words + 1))

    def shares(self, features: Tensor, lengths: Tensor, own: Tensor, temperature: float) -> Tensor:
        """Share of each of the clip's words in each frame, see `word_shares`; equal before anything is learned.
        [B, T, V]

        Args:
            own: 1 for the words of the clip's sentence. [B, V]
        """
        centre = self.means[-1]
        words = (self.means[:-1] - centre) * (self.steps[:-1, None] > 0)
        return word_shares(features, lengths, own, words, centre=centre, temperature=temperature)

    @torch.no_grad()
    def learn(self, features: Tensor, lengths: Tensor, shares: Tensor, rate: float, gather: Any = None) -> None:
        """Update each word's mean with the frames assigned to it.

        This is the plain mean over steps at first, later a running mean with `rate`. A batch with a non-finite frame
        has no effect.

        Args:
            shares: result of `shares`. [B, T, V]
            gather: collects rows of all ranks, so that every rank has the same means.
        """
        with full_precision(features.device):
            z = normalized_frames(clean_frames(features, lengths)).to(self.means)
            real = frame_mask(lengths, z.shape[1])[..., None]
            held = torch.cat([shares.to(z), real.to(z)], dim=2).flatten(0, 1)  # [N, V + 1]
            frames = torch.cat([z, torch.ones_like(z[..., :1])], dim=2).flatten(0, 1)  # the last column counts
            sums = held.T @ frames  # [V + 1, D + 1]
        sums = sums if gather is None else gather(sums[None]).sum(dim=0)
        count = sums[:, -1:]
        moved = (count[:, 0] > TINY) & sums.isfinite().all(dim=1)
        self.steps += moved
        pace = (1 / self.steps.clamp(min=1)).clamp(min=rate)[:, None]
        mean = sums[:, :-1] / count.clamp(min=TINY)
        self.means.copy_(torch.where(moved[:, None], torch.lerp(self.means, mean, pace), self.means))


TINY = 1e-6  # minimum frames of a word in a batch to update it
