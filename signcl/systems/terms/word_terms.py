"""Terms that apply the words of a clip's sentence to its frames: word_signcl, word_contrast, for all systems.

The time at which a word is signed is unknown: each term keeps one vector per word to estimate it (`WordMemory`).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from signcl.data.batch import Batch
from signcl.data.bounds import bounded
from signcl.losses import word_contrast_loss
from signcl.systems.parts.word_memory import WordMemory
from signcl.systems.targets.clip_words import ContrastWords, SignCLWords, WordSettings
from signcl.systems.terms import TermContext, register_term
from signcl.systems.terms.frame_terms import contrast_of
from signcl.systems.terms.shared import frame_contrast

__all__ = ["WordContrastSettings", "word_contrast", "word_signcl"]


@dataclass
class WordContrastSettings(WordSettings):
    """`loss.word_contrast` of a recipe."""

    temperature: float = bounded(0.1, above=0, high=1000)
    """Temperature of the contrastive loss of frames."""
    frames: int = bounded(512, low=16, high=65_536)
    """Frames sampled from each batch for comparison."""


def memory_of(dim: int, targets: Any) -> WordMemory:
    """Create an empty memory for a vocabulary."""
    return WordMemory(dim, len(targets))


def _shares(frames: Tensor, lengths: Tensor, own: Tensor, context: TermContext) -> Tensor:
    """Share of each word in each frame; in training also updates the memory. [B, T, V]"""
    memory: WordMemory = context.memory or WordMemory(frames.shape[2], own.shape[1]).to(frames.device)
    shares = memory.shares(frames, lengths, own, context.settings.share_temperature)
    if context.progress is not None:
        memory.learn(frames, lengths, shares, context.settings.rate, context.gather)
    return shares


@register_term(
    "word_signcl",
    settings=WordSettings,
    targets=SignCLWords,
    memory=memory_of,
    title="Word-aware SignCL loss",
    explained="frame contrast, far frames of one word spared",
)
def word_signcl(out: Any, batch: Batch, context: TermContext) -> Tensor:
    """SignCL in which a distant pair has weight 1 - a_t^T a_j; its settings are those of `loss.signcl`."""
    if context.loss.signcl.variant != "paper":
        raise ValueError(
            "loss.weights.word_signcl: needs loss.signcl.variant=paper, got released, which has no such option"
        )
    shares = _shares(*contrast_of(out), batch.targets["word_signcl"], context)
    value: Tensor = frame_contrast.function(out, batch, context, shares @ shares.mT)
    return value


@register_term(
    "word_contrast",
    settings=WordContrastSettings,
    targets=ContrastWords,
    memory=memory_of,
    title="Word contrast loss",
    explained="frames of one word in other clips against all others",
)
def word_contrast(out: Any, batch: Batch, context: TermContext) -> Tensor:
    """Pulls frames of different clips together if they show the same word; over all ranks."""
    parts = [*contrast_of(out), batch.targets["word_contrast"]]
    features, lengths, own = parts if context.gather is None else map(context.gather, parts)
    shares = _shares(features, lengths, own, dataclasses.replace(context, gather=None))
    return word_contrast_loss(
        features, lengths, shares, temperature=context.settings.temperature, frames=context.settings.frames
    )
