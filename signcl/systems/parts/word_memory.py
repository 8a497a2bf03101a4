"""A vector for each word: the running mean of the frames that seem to show it. No gradient, no weights.

Each step guesses which of its clip's words a frame shows (`signcl.losses.word_shares`), then moves each word's vector
towards the mean of the frames that were given to it: soft k-means in which a clip knows the clusters it may use. Words
that always stand together keep one vector, since nothing tells them apart.
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
    """Word vectors of a loss term; its buffers are saved and loaded with the model.

    Args:
        dim: size of a frame feature, D.
        words: V.
    """

    means: Tensor
    """Mean frame of each word, and in the last row of all frames; layer-normalized frames. [V + 1, D]"""
    steps: Tensor
    """Steps in which each of them had a frame. [V + 1]"""

    def __init__(self, dim: int, words: int) -> None:
        super().__init__()
        self.register_buffer("means", torch.zeros(words + 1, dim))
        self.register_buffer("steps", torch.zeros(words + 1))

    def shares(self, features: Tensor, lengths: Tensor, own: Tensor, temperature: float) -> Tensor:
        """Which of its clip's words each frame shows, see `word_shares`; alike where nothing is learned yet. [B, T, V]

        Args:
            own: 1 for the words of the clip's sentence. [B, V]
        """
        centre = self.means[-1]
        words = (self.means[:-1] - centre) * (self.steps[:-1, None] > 0)
        return word_shares(features, lengths, own, words, centre=centre, temperature=temperature)

    @torch.no_grad()
    def learn(self, features: Tensor, lengths: Tensor, shares: Tensor, rate: float, gather: Any = None) -> None:
        """Move each word's mean towards the frames of a batch that show it: the plain mean over steps at first, later
        by `rate`. A batch with a frame that is not finite moves nothing.

        Args:
            shares: of `shares`. [B, T, V]
            gather: rows of all ranks, so that every rank keeps the same means.
        """
        with full_precision(features.device):
            z = normalized_frames(clean_frames(features, lengths)).to(self.means)
            real = frame_mask(lengths, z.shape[1])[..., None]
            held = torch.cat([shares.to(z), real.to(z)], dim=2).flatten(0, 1)  # [N, V + 1]
            frames = torch.cat([z, torch.ones_like(z[..., :1])], dim=2).flatten(0, 1)  # the last number counts
            sums = held.T @ frames  # [V + 1, D + 1]
        sums = sums if gather is None else gather(sums[None]).sum(dim=0)
        count = sums[:, -1:]
        moved = (count[:, 0] > TINY) & sums.isfinite().all(dim=1)
        self.steps += moved
        pace = (1 / self.steps.clamp(min=1)).clamp(min=rate)[:, None]
        mean = sums[:, :-1] / count.clamp(min=TINY)
        self.means.copy_(torch.where(moved[:, None], torch.lerp(self.means, mean, pace), self.means))


TINY = 1e-6  # frames of a word: with less in a batch nothing is learned of it
