"""Targets that loss terms need for each sentence besides tokens and glosses: sentence vectors, pseudo-glosses.

They are made once from the training sentences, saved in the run folder, and put into `Batch.targets` under the term's
name. `Term.targets` gives the maker: the class, or a function that returns it, called when the term has a weight.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from signcl.data.batch import Sample
from signcl.systems.terms import Term

__all__ = ["Maker", "Targets", "build_targets", "load_targets"]


class Maker(Protocol):
    """Makes the targets of one loss term."""

    @classmethod
    def build(
        cls,
        config: Any,
        samples: Sequence[Sample],
        texts_of: Callable[[str], list[str]],
        folder: Path,
        settings: Any = None,
    ) -> Maker:
        """Build from the training samples.

        Args:
            config: the system's config.
            texts_of: returns the sentences of another split, for makers that need them.
            folder: the run folder; it may hold results of an earlier start of the same run.
            settings: the term's settings, an instance of `Term.settings`; None for a term without settings.

        Raises:
            ValueError, OSError: nothing to make targets from, or a missing model.
        """

    def __call__(self, samples: Sequence[Sample]) -> Tensor:
        """One row per sample. [B, ...]"""

    def save(self, folder: Path) -> None:
        """Save to a run folder."""

    @classmethod
    def load(cls, config: Any, folder: Path) -> Maker:
        """Load from a run folder."""


class Targets:
    """The makers of all terms of a recipe, by term."""

    def __init__(self, makers: dict[str, Any]) -> None:
        self.makers = makers

    def __call__(self, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """`Batch.targets` for these samples."""
        return {term: maker(samples) for term, maker in self.makers.items()}

    def foresee(self, samples: Sequence[Sample]) -> None:
        """Compute slow targets of further samples (dev) once in advance, not in every loader process."""
        for maker in self.makers.values():
            if hasattr(maker, "foresee"):
                maker.foresee(samples)

    def notes(self) -> list[str]:
        """Lines that makers want to be printed before training: their `note()`, if they have one."""
        told = [maker.note() for maker in self.makers.values() if hasattr(maker, "note")]
        return [line for line in told if line]

    def save(self, folder: Path) -> None:
        """Save every maker to a run folder."""
        for maker in self.makers.values():
            maker.save(folder)


def build_targets(
    terms: Mapping[str, Term],
    config: Any,
    samples: Sequence[Sample],
    texts_of: Callable[[str], list[str]],
    folder: Path,
    sections: Mapping[str, Any] | None = None,
) -> Targets | None:
    """Build the targets of a run's terms from its training samples (`Maker.build`); None if no term needs any.

    Args:
        sections: settings by term: `LossRecipe.sections`.
    """
    makers = {
        name: maker.build(config, samples, texts_of, folder, settings=(sections or {}).get(name))
        for name, term in terms.items()
        if (maker := _maker(name, term)) is not None
    }
    return Targets(makers) if makers else None


def load_targets(terms: Mapping[str, Term], config: Any, folder: Path) -> Targets | None:
    """Load the targets of a run from its folder; None if no term needs any."""
    makers = {
        name: maker.load(config, folder) for name, term in terms.items() if (maker := _maker(name, term)) is not None
    }
    return Targets(makers) if makers else None


def _maker(name: str, term: Term) -> type[Maker] | None:
    """The class of a term's targets; None if it needs none.

    Raises:
        ValueError: `Term.targets` is neither a class with the methods of a `Maker` nor a function that returns one.
    """
    if term.targets is None:
        return None
    maker: Any = term.targets if isinstance(term.targets, type) else term.targets()
    missing = [method for method in ("build", "save", "load") if not hasattr(maker, method)]
    if not isinstance(maker, type) or missing:
        raise ValueError(
            f"targets of the loss term {name}: needs a class with build, __call__, save and load "
            f"(signcl.systems.targets.Maker), got {maker!r}"
        )
    return maker
