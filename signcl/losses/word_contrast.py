"""Losses that use the words of a clip's sentence without knowing where in the clip they are signed.

`word_shares` estimates which word each frame shows, from one vector per word. `word_contrast_loss` and
`signcl_loss(same_word=...)` use the estimate. The vectors come from `signcl.systems.parts.word_memory`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from signcl.data.batch import frame_mask
from signcl.losses.precision import full_precision
from signcl.losses.regularisers import check_frames, clean_frames, drawn_frames, normalized_frames
from signcl.losses.sentence import unit_rows

__all__ = ["SHARE_TEMPERATURE", "word_contrast_loss", "word_shares"]

SHARE_TEMPERATURE = 0.05


@torch.no_grad()
def word_shares(
    features: Tensor,
    lengths: Tensor,
    own: Tensor,
    words: Tensor,
    *,
    centre: Tensor | None = None,
    temperature: float = SHARE_TEMPERATURE,
) -> Tensor:
    """Estimates which words of the sentence each frame shows: a_t, without gradient. [B, T, V]

        a_t = softmax over the words w of the clip's sentence of cos(z_t - centre, p_w) / temperature

    with z the layer-normalized frames and p the word vectors. Rows sum to 1; they are 0 on padding and in clips
    without a known word.

    Args:
        features: one vector per frame. [B, T, D]
        lengths: frames without padding. [B]
        own: 1 for the words of the clip's sentence. [B, V]
        words: p, one vector per word; a word with vector 0 matches every frame equally. [V, D]
        centre: the vector that all frames have in common, subtracted first. [D]
        temperature: near 0, each frame shows only its nearest word; near infinity, all words equally.

    Raises:
        ValueError: shapes that do not match, or a temperature that is not positive.

    Source: ours.
    """
    lengths = check_frames(features, lengths, "word_shares")
    if words.shape[1:] != features.shape[2:] or own.shape != (len(features), len(words)):
        raise ValueError(
            f"word_shares needs features [B, T, D], own [B, V] and words [V, D], got {list(features.shape)}, "
            f"{list(own.shape)} and {list(words.shape)}."
        )
    if not temperature > 0:
        raise ValueError(f"word_shares needs a temperature above 0, got {temperature}.")
    with full_precision(features.device):
        z = normalized_frames(clean_frames(features, lengths))
        z = z if centre is None else z - centre.to(z)
        near = F.normalize(z, dim=2) @ F.normalize(words.to(z), dim=1).T / temperature  # [B, T, V]
        has = own[:, None] > 0
        shares = near.masked_fill_(~has, torch.finfo(near.dtype).min).softmax(dim=2)
        return shares * (has & frame_mask(lengths, z.shape[1])[..., None])


def word_contrast_loss(
    features: Tensor,
    lengths: Tensor,
    shares: Tensor,
    *,
    temperature: float = 0.1,
    frames: int | None = 512,
    generator: torch.Generator | None = None,
) -> Tensor:
    """How badly frames find frames of the same word in other clips: lower is better. Scalar

        - sum_ij q_ij log p_ij / sum_ij q_ij    over pairs of frames of different clips

    with q_ij = a_i^T a_j the common word shares, constant for the gradient, and p_ij the softmax of
    cos(z_i, z_j) / temperature over all frames of clips other than i's.

    The loss depends on which clips share a batch. Exactly 0 if no two clips share a word. If there are more than
    `frames` frames, that many are drawn with replacement.

    Args:
        features: one vector per frame, layer-normalized here. [B, T, D]
        lengths: frames without padding. [B]
        shares: word shares of each frame, from `word_shares` or true ones. [B, T, V]
        temperature: of the softmax; near 0, only the most similar frames count.
        frames: largest number of frames compared; None uses all.
        generator: for drawing frames; None is torch's default.

    Raises:
        ValueError: shapes that do not match, a temperature that is not positive, or `frames` below 1.

    Source: ours, after the supervised contrastive loss of Khosla et al. 2020.
    """
    lengths = check_frames(features, lengths, "word_contrast_loss")
    if shares.dim() != 3 or shares.shape[:2] != features.shape[:2]:
        raise ValueError(
            f"word_contrast_loss needs shares [B, T, V] for features {list(features.shape)}, got {list(shares.shape)}."
        )
    if not temperature > 0 or (frames is not None and frames < 1):
        raise ValueError(
            f"word_contrast_loss needs a temperature above 0 and at least 1 frame, got {temperature} and {frames}."
        )
    with full_precision(features.device):
        real = frame_mask(lengths, features.shape[1])
        # Not F.normalize: of a frame whose numbers are all equal, its gradient is about 1e12 times too large.
        z = unit_rows(normalized_frames(clean_frames(features, lengths))).flatten(0, 1)  # [N, D]
        a = shares.detach().to(z).masked_fill(~real[..., None], 0).flatten(0, 1)  # [N, V]
        clip = torch.arange(len(features), device=z.device)[:, None].expand_as(real).flatten()
        real = real.flatten()
        if frames is not None and len(z) > frames:
            drawn = drawn_frames(real.to(z.dtype), frames, generator)
            z, a, clip, real = z[drawn], a[drawn], clip[drawn], real[drawn]
        other = (clip[:, None] != clip) & real  # real frames of other clips. [N, N]
        near = (z @ z.T / temperature).masked_fill(~other, torch.finfo(z.dtype).min)
        same = a @ a.T * other  # q
        found = near.log_softmax(dim=1).masked_fill(~other, 0)  # log p
        return (same * -found).sum() / same.sum().clamp(min=torch.finfo(z.dtype).tiny)
