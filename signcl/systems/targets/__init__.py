"""What a loss term needs of each sentence beside its tokens and glosses: sentence vectors, pseudo-glosses.

Made from the training sentences once, kept in the run folder, and put into `Batch.targets` under the term's name.
`TARGETS` names the maker of each such term; a maker is imported when its term is weighed, not before.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from signcl.data.batch import Sample
from signcl.training.recipe import Recipe

__all__ = ["TARGETS", "Maker", "Targets", "build_targets", "load_targets"]

TARGETS: dict[str, str] = {
    "pseudo_gloss": "signcl.systems.targets.pseudo_glosses:PseudoGlosses",
    "sentence_similarity": "signcl.systems.targets.sentences:SentenceVectors",
}
"""Loss term -> `module:class` of its maker."""


class Maker(Protocol):
    """Targets of one loss term."""

    @classmethod
    def build(cls, recipe: Recipe, samples: Sequence[Sample]) -> Maker:
        """From the training samples.

        Raises:
            ValueError, OSError: nothing to make targets from, or a model that is not there.
        """

    def __call__(self, samples: Sequence[Sample]) -> Tensor:
        """One row per sample. [B, ...]"""

    def save(self, folder: Path) -> None:
        """Into a run folder."""

    @classmethod
    def load(cls, recipe: Recipe, folder: Path) -> Maker:
        """From a run folder."""


class Targets:
    """The makers of all terms of a recipe, by term."""

    def __init__(self, makers: dict[str, Any]) -> None:
        self.makers = makers

    def __call__(self, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """What `Batch.targets` holds for these samples."""
        return {term: maker(samples) for term, maker in self.makers.items()}

    def foresee(self, samples: Sequence[Sample]) -> None:
        """Make slow targets of further samples (dev) now, once, and not in every loader process."""
        for maker in self.makers.values():
            if hasattr(maker, "foresee"):
                maker.foresee(samples)

    def save(self, folder: Path) -> None:
        """Keep every maker in a run folder."""
        for maker in self.makers.values():
            maker.save(folder)


def build_targets(recipe: Recipe, samples: Sequence[Sample]) -> Targets | None:
    """The targets of a recipe from its training samples; None where no term needs any."""
    makers = {term: _maker(term).build(recipe, samples) for term in recipe.loss.weights if term in TARGETS}
    return Targets(makers) if makers else None


def load_targets(recipe: Recipe, folder: Path) -> Targets | None:
    """The targets of a run from its folder; None where no term needs any."""
    makers = {term: _maker(term).load(recipe, folder) for term in recipe.loss.weights if term in TARGETS}
    return Targets(makers) if makers else None


def _maker(term: str) -> type[Maker]:
    module, _, name = TARGETS[term].partition(":")
    found: type[Maker] = getattr(importlib.import_module(module), name)
    return found
