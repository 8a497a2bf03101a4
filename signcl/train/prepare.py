"""What a run trains on: samples, tokenizer, feature size, datasets, lengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from signcl.batch import Sample
from signcl.corpora import load_samples
from signcl.data import ClipDataset, count_frames, load_raw
from signcl.recipe import InputRecipe, Recipe
from signcl.text import Tokenizer, build_tokenizer

__all__ = ["Material", "feature_dim", "prepare", "take_fraction"]


@dataclass
class Material:
    """Everything the loop reads."""

    train: ClipDataset
    dev: ClipDataset
    train_lengths: list[int]
    dev_lengths: list[int]
    tokenizer: Tokenizer
    feature_dim: int | None
    """Size of pre-extracted features, None for pixels."""


def prepare(recipe: Recipe) -> Material:
    """Read the corpus of a recipe and build its tokenizer from the training sentences.

    Raises:
        ValueError, OSError: no such corpus, an empty split, unreadable annotation.
    """
    corpus, text = recipe.corpus, recipe.text
    train = load_samples(corpus.name, Path(corpus.root), "train", **corpus.options)
    train = take_fraction(train, corpus.fraction, recipe.train.seed)
    dev = load_samples(corpus.name, Path(corpus.root), "dev", **corpus.options)
    tokenizer = build_tokenizer(
        text.tokenizer,
        [s.text for s in train],
        vocab_size=text.vocab_size,
        lowercase=text.lowercase,
        language=text.language,
        min_count=text.min_count,
    )
    cache = recipe.input.cache_gb if recipe.train.workers == 0 else 0.0  # every worker would keep its own copy
    return Material(
        train=ClipDataset(train, tokenizer, recipe, training=True, cache_gb=cache * 0.8),
        dev=ClipDataset(dev, tokenizer, recipe, training=False, cache_gb=cache * 0.2),
        train_lengths=count_frames(train, recipe.input),
        dev_lengths=count_frames(dev, recipe.input),
        tokenizer=tokenizer,
        feature_dim=feature_dim(train),
    )


def take_fraction(samples: list[Sample], fraction: float, seed: int) -> list[Sample]:
    """A random share of the samples, in their order; a smaller share of the same seed lies within a larger one."""
    if fraction >= 1:
        return samples
    order = np.random.default_rng(seed).permutation(len(samples))
    return [samples[i] for i in sorted(order[: max(1, round(fraction * len(samples)))].tolist())]


def feature_dim(samples: Sequence[Sample]) -> int | None:
    """Size of the corpus's features, or None for a corpus of clips; looks at the first readable sample."""
    reason = "there is no sample"
    for sample in samples:
        if sample.features is None:
            return None
        try:
            return int(load_raw(sample, InputRecipe()).shape[1])
        except (ValueError, OSError) as error:
            reason = str(error)
    raise ValueError(f"no features of the training split can be read ({reason}); try `signcl corpus check`")
