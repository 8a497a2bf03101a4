"""The samples of a split, as selected by a recipe."""

from __future__ import annotations

from pathlib import Path

from signcl.data.batch import Sample
from signcl.data.loading import corpus_samples
from signcl.training.recipe.fields import Recipe

__all__ = ["recipe_samples"]


def recipe_samples(recipe: Recipe, split: str, root: str | Path | None = None) -> list[Sample]:
    """The samples of a split; applies `corpus.fraction` to the training split.

    Args:
        root: the corpus folder, if not the recipe's.
    """
    return corpus_samples(recipe.corpus, split, root, seed=recipe.train.seed)
