"""Sentences with their probability: what `System.generate_scored` gives, and the sum of log p over their tokens.

log p(sentence) = sum over tokens of log p(token | clip, tokens before), the end mark included and padding left out.
Divided by the number of tokens it does not depend on length: exp of it is the geometric mean over tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from signcl.data.batch import frame_mask

__all__ = ["Answer", "Written", "mean_features", "sentence_log_probs"]


@dataclass(frozen=True)
class Written:
    """The sentences of a batch as a system has written them."""

    ids: Tensor
    """Token ids without the start token, padded with the pad id. [B, U] long"""
    log_probs: Tensor
    """log p of each sentence. [B]"""
    counts: Tensor
    """Tokens of each sentence, the end mark included. [B] long"""
    features: Tensor
    """Mean over the frames of each clip, where SignCL looks. [B, D]"""


@dataclass(frozen=True)
class Answer:
    """What a system says of one clip, and how sure it is."""

    text: str
    log_prob: float | None = None
    """Natural logarithm of the sentence's probability; None of a system that does not say it."""
    tokens: int = 0
    """Tokens of the sentence, the end mark included."""
    features: Tensor | None = None
    """Mean of the clip's frame features, on the CPU. [D]"""


def sentence_log_probs(logits: Tensor, ids: Tensor, pad_id: int) -> tuple[Tensor, Tensor]:
    """log p of sentences from scores of their tokens, position by position (teacher forcing), and their tokens.

    [B, U, V], [B, U] -> [B], [B] long
    """
    real = ids != pad_id
    # the pad id may lie beyond the scores, as of a model that has no such token
    chosen = logits.float().log_softmax(dim=2).gather(2, ids.masked_fill(~real, 0)[:, :, None])[:, :, 0]  # [B, U]
    return chosen.masked_fill(~real, 0.0).sum(dim=1), real.sum(dim=1)


def mean_features(features: Tensor, lengths: Tensor) -> Tensor:
    """The mean over the real frames of each clip; padding is zero, as the contract says. [B, T, D], [B] -> [B, D]"""
    return (features.float() * frame_mask(lengths, features.shape[1])[:, :, None]).sum(dim=1) / lengths.clamp(min=1)[
        :, None
    ]
