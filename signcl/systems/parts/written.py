"""Sentences with their log-probabilities, as returned by `System.generate_scored`.

log p(sentence) = sum over tokens of log p(token | clip, tokens before), including the end token and excluding padding.
Divided by the number of tokens it is independent of length; its exp is then the geometric mean over tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from signcl.data.batch import frame_mask

__all__ = ["Answer", "Written", "mean_features", "sentence_log_probs"]


@dataclass(frozen=True)
class Written:
    """The sentences that a system generated for a batch."""

    ids: Tensor
    """Token ids without the start token, padded with the pad id; `most` rows for each clip. [B * most, U] long"""
    log_probs: Tensor
    """log p of each sentence; -inf for a row without a sentence. [B * most]"""
    counts: Tensor
    """Tokens of each sentence, including the end token. [B * most] long"""
    features: Tensor
    """Mean of each clip's features at the tap that SignCL reads. [B, D]"""


@dataclass(frozen=True)
class Answer:
    """A system's answer for one clip, with its log-probability."""

    text: str
    log_prob: float | None = None
    """Natural logarithm of the sentence's probability; None if the system does not give it."""
    tokens: int = 0
    """Tokens of the sentence, including the end token."""
    features: Tensor | None = None
    """Mean of the clip's frame features, on the CPU. [D]"""


def sentence_log_probs(logits: Tensor, ids: Tensor, pad_id: int) -> tuple[Tensor, Tensor]:
    """log p of sentences from the scores of their tokens (teacher forcing), and their numbers of tokens. [B, U, V],
    [B, U] -> [B], [B] long
    """
    real = ids != pad_id
    # the pad id may be outside the scores, if the model has no such token
    chosen = logits.float().log_softmax(dim=2).gather(2, ids.masked_fill(~real, 0)[:, :, None])[:, :, 0]  # [B, U]
    return chosen.masked_fill(~real, 0.0).sum(dim=1), real.sum(dim=1)


def mean_features(features: Tensor, lengths: Tensor) -> Tensor:
    """Mean over the frames of each clip; padding must be zero. [B, T, D], [B] -> [B, D]"""
    return (features.float() * frame_mask(lengths, features.shape[1])[:, :, None]).sum(dim=1) / lengths.clamp(min=1)[
        :, None
    ]
