"""What a run trains on: samples, tokenizer, feature size, datasets, lengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from signcl.batch import Sample
from signcl.data import ClipDataset, count_frames, load_raw, recipe_samples
from signcl.recipe import InputRecipe, Recipe
from signcl.text import Tokenizer, build_tokenizer

__all__ = ["Material", "feature_dim", "prepare"]


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
    text = recipe.text
    train, dev = recipe_samples(recipe, "train"), recipe_samples(recipe, "dev")
    tokenizer = build_tokenizer(
        text.tokenizer,
        [s.text for s in train],
        vocab_size=text.vocab_size,
        lowercase=text.lowercase,
        language=text.language,
        min_count=text.min_count,
    )
    cache = recipe.input.cache_gb if recipe.train.workers == 0 else 0.0  # every worker would keep its own copy
    dim = feature_dim(train)
    return Material(
        train=ClipDataset(train, tokenizer, recipe, training=True, cache_gb=cache * 0.8, dim=dim),
        dev=ClipDataset(dev, tokenizer, recipe, training=False, cache_gb=cache * 0.2, dim=dim),
        train_lengths=count_frames(train, recipe.input),
        dev_lengths=count_frames(dev, recipe.input),
        tokenizer=tokenizer,
        feature_dim=dim,
    )


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
