"""What a loss term needs of each sentence beside its tokens and glosses: sentence vectors, pseudo-glosses.

Made from the training sentences once, kept in the run folder, and put into `Batch.targets` under the term's name. A
term gives its maker (`Term.targets`): the class, or a function that returns it, called when the term is weighed.
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
    """Targets of one loss term."""

    @classmethod
    def build(
        cls,
        config: Any,
        samples: Sequence[Sample],
        texts_of: Callable[[str], list[str]],
        folder: Path,
        settings: Any = None,
    ) -> Maker:
        """From the training samples.

        Args:
            config: of the system.
            texts_of: the sentences of another split, for makers that read these too.
            folder: of the run; an earlier start of the same run may have left its work there.
            settings: of the term, an instance of `Term.settings`; None for a term without.

        Raises:
            ValueError, OSError: nothing to make targets from, or a model that is not there.
        """

    def __call__(self, samples: Sequence[Sample]) -> Tensor:
        """One row per sample. [B, ...]"""

    def save(self, folder: Path) -> None:
        """Into a run folder."""

    @classmethod
    def load(cls, config: Any, folder: Path) -> Maker:
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


def build_targets(
    terms: Mapping[str, Term],
    config: Any,
    samples: Sequence[Sample],
    texts_of: Callable[[str], list[str]],
    folder: Path,
    sections: Mapping[str, Any] | None = None,
) -> Targets | None:
    """The targets of a run's terms from its training samples, see `Maker.build`; None where no term needs any.

    Args:
        sections: settings of terms, by term: `LossRecipe.sections`.
    """
    makers = {
        name: maker.build(config, samples, texts_of, folder, settings=(sections or {}).get(name))
        for name, term in terms.items()
        if (maker := _maker(name, term)) is not None
    }
    return Targets(makers) if makers else None


def load_targets(terms: Mapping[str, Term], config: Any, folder: Path) -> Targets | None:
    """The targets of a run from its folder; None where no term needs any."""
    makers = {
        name: maker.load(config, folder) for name, term in terms.items() if (maker := _maker(name, term)) is not None
    }
    return Targets(makers) if makers else None


def _maker(name: str, term: Term) -> type[Maker] | None:
    """The class of a term's targets, None where it needs none.

    Raises:
        ValueError: `Term.targets` is no class with the methods of a `Maker`, nor a function that returns one.
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
