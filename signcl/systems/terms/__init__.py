"""Loss terms: what one is, how a recipe weighs them, and the one line that sums them.

A term is a function (outputs, batch) -> scalar, or a `Term` where it has settings, a title or a measure of its own. A
system lists the terms that it computes; a term that works with any system is registered by name (`register_term`).
`weighted_sum` adds them, Eq. 6, so that no term can be logged and yet not trained: the released pretraining builds
`total_loss` with SignCL in it and then back-propagates the contrast alone (docs/paper-vs-code.md).
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from torch import Tensor

from signcl.data.batch import Batch
from signcl.data.bounds import bounded, check_bounds, numbers_without_bounds
from signcl.data.registry import Registry, did_you_mean
from signcl.losses import weighted_sum
from signcl.metrics.titles import SCORES, Score

__all__ = [
    "TERMS",
    "Gather",
    "LossRecipe",
    "Measure",
    "SignCLRecipe",
    "Term",
    "TermContext",
    "as_term",
    "compute_terms",
    "register_term",
    "score_shown",
    "shown_scores",
    "terms_of",
    "weighted_sum",
]

Gather = Callable[[Tensor], Tensor]
"""Rows of all ranks, with gradient."""


@dataclass
class SignCLRecipe:
    """The frame contrast, paper Eq. 4-5 and sheet of switches in docs/paper-vs-code.md."""

    variant: Literal["paper", "released"] = "paper"
    distance_margin: float | None = bounded(None, above=0, high=1e9)
    """m in feature units; None takes the variant's own: 64 (paper), 32 (released). A factor if relative; None: 1."""
    distance_margin_mode: Literal["absolute", "relative"] = "absolute"
    """relative (ours): m is distance_margin times the mean distance of the clip's own negatives, for any encoder."""
    same_sign: float | None = bounded(None, above=0, high=1000)
    """Ours: a negative nearer than this share of the mean distance of its clip's negatives looks like the same sign, is
    pushed less than half. 0.75 is a start; None pushes all alike."""
    negatives: int | None = bounded(None, low=1, high=1_000_000)
    """Negatives per anchor; None uses every legal one. The paper draws 1, the released code 4."""
    words_per_gloss: float = bounded(2.3, above=0, high=1000)
    """Spoken words per gloss, paper section 4.1."""
    frame_margin_floor: float = bounded(10.0, low=0, high=1_000_000)
    """Smallest frame margin, frames."""
    frame_margin_rule: Literal["per_clip", "released"] = "per_clip"
    """released: one margin per batch from padded lengths and token counts, doubled and clamped as the code does."""
    start_epoch: int = bounded(0, low=0, high=1_000_000)
    """Epochs before the term is switched on (released finetuning: 70)."""
    decay: float = bounded(1.0, above=0, high=1)
    """The weight is multiplied by this when the dev score stalls (released PHOENIX finetuning: 0.5)."""
    decay_patience: int = bounded(10, low=0, high=1_000_000)
    """Epochs without an improvement of `decay_delta` before a decay."""
    decay_delta: float = bounded(2.0, low=0, high=1e9)
    """Improvement of the dev score that counts, for the decay."""

    def __post_init__(self) -> None:
        check_bounds(self, "loss.signcl.")
        if self.variant == "released" and (self.same_sign is not None or self.distance_margin_mode == "relative"):
            raise ValueError(
                "loss.signcl: same_sign and distance_margin_mode=relative need variant paper, got variant released, "
                "which stays as released"
            )


@dataclass
class LossRecipe:
    """The weighted terms of Eq. 6. A term with settings of its own has a section under its name."""

    weights: dict[str, float] = bounded({}, low=0, high=1e9)
    """Term -> weight; `signcl systems NAME` lists the terms of a system. Leave a term out: off. Empty: the system's
    own terms, each with weight 1."""
    schedule: dict[str, tuple[int, int | None]] = bounded({}, low=0, high=1_000_000)
    """Term -> [first epoch, first epoch without it or null], counted from 0: outside them its weight is 0. A term that
    is not named counts in every epoch; the `loss` of dev counts all terms in full."""
    distillation_temperature: float = bounded(8.0, above=0, high=1e6)
    """smkd: divides the logits of both heads before they are compared."""
    signcl: SignCLRecipe = field(default_factory=SignCLRecipe)
    label_smoothing: float = bounded(0.2, low=0, below=1)
    clip_target: Literal["one_hot", "released"] = "one_hot"
    """released: KL divergence to softmax(10 I) as the released code has it."""
    token_temperature: float = bounded(0.07, above=0, high=1e6)
    """token_clip: temperature of the softmax over a sentence's words, and over a clip's steps. CiCo: 0.07."""
    mask_rate: float = bounded(0.15, low=0, high=1)
    """Share of words masked, at most, in the masked-text term."""
    mask_kind: Literal["random", "omit_last"] = "random"
    """omit_last masks the last words, as released."""
    ctc_too_long: Literal["skip", "stop"] = "skip"
    """A clip with fewer steps than its glosses need is named and left out of `recognition`, or stops the run."""
    mask_duplicates: bool = True
    """Equal sentences in a batch are no negatives of each other."""
    sections: dict[str, Any] = field(default_factory=dict)
    """Settings of terms from outside, by the name of the term; in a recipe they stand beside these keys."""

    def __post_init__(self) -> None:
        check_bounds(self, "loss.")
        for term, (first, end) in self.schedule.items():
            if end is not None and end <= first:
                raise ValueError(
                    f"loss.schedule.{term}: needs [first epoch, first epoch without it] such as [0, 20], or [20, null] "
                    f"to the end, got {[first, end]}"
                )


@dataclass(frozen=True)
class TermContext:
    """What a term may ask for beside outputs and batch."""

    loss: LossRecipe
    """The recipe's loss section."""
    pad_id: int = 0
    """Of the tokenizer."""
    gather: Gather | None = None
    """Collects rows over ranks with gradient, so that a contrast sees every clip of the step; None on one rank."""
    settings: Any = None
    """The term's own section, `loss.<term>`, where it has one."""


@dataclass(frozen=True)
class Measure:
    """What a term can tell of a whole dev split beside its mean, such as a retrieval rate."""

    collect: Callable[[Any, Batch], tuple[Tensor, ...]]
    """What is kept of each batch, on the CPU."""
    summarise: Callable[[list[tuple[Tensor, ...]], LossRecipe], dict[str, float]]
    """Scores from what was kept of all batches of all ranks."""
    scores: Mapping[str, Score] = field(default_factory=dict)
    """Their names and titles."""


@dataclass(frozen=True)
class Term:
    """One part of the loss."""

    function: Callable[..., Tensor]
    """(outputs, batch) -> scalar, or (outputs, batch, context) with a `TermContext`. Unweighted, a mean over clips."""
    title: str = ""
    """For curves and tables; empty: its name."""
    explained: str = ""
    """What it is a mean of, in a few words."""
    settings: type | None = None
    """A dataclass of its own recipe keys, with bounds beside each number: the section `loss.<name of the term>`."""
    needs: tuple[str, ...] = ()
    """`glosses`: the gloss vocabulary of training. `one_gloss`: also that every clip has one. `masked_tokens`."""
    targets: str = ""
    """`module:class` of what it needs of each sentence beside these, see `signcl.systems.targets`."""
    measure: Measure | None = None
    reaches_frames: bool = True
    """Its gradient reaches the frame encoder; not so for a term of sentences alone."""

    def __call__(self, outputs: Any, batch: Batch, context: TermContext) -> Tensor:
        """The value. Scalar"""
        plain = _arguments(self.function) == 2
        value: Tensor = self.function(outputs, batch) if plain else self.function(outputs, batch, context)
        return value


@lru_cache
def _arguments(function: Callable[..., Tensor]) -> int:
    return len(inspect.signature(function).parameters)


TERMS: Registry[Term] = Registry("loss term", key="loss.weights", entry_points="signcl.terms")
"""Terms that every system can be trained with, from plugins and installed packages; a system has its own beside."""


def register_term(
    name: str, *, settings: type | None = None, title: str = "", **options: Any
) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Make a function a loss term of every system: `@register_term("smooth") def smooth(outputs, batch): ...`.

    Args:
        name: its key in `loss.weights`.
        settings, title, options: see `Term`.

    Raises:
        ValueError: a name that another term has.
    """

    if settings is not None and (bare := numbers_without_bounds(settings)):
        raise ValueError(f"settings of the term {name} without bounds: {', '.join(bare)}; use `bounded` for numbers")

    def add(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        TERMS.add(name, dataclasses.replace(as_term(function), settings=settings, title=title, **options))
        return function

    return add


def as_term(term: Term | Callable[..., Tensor]) -> Term:
    """A term from what a system lists."""
    return term if isinstance(term, Term) else Term(term)


def terms_of(system: Any, names: Iterable[str], stage_mates: Iterable[Any] = ()) -> dict[str, Term]:
    """The terms of these names: the system's own, or registered ones.

    Args:
        system: a class of `System`.
        stage_mates: systems of the same stage, for the advice in the message.

    Raises:
        ValueError: a term that neither the system computes nor a plugin has registered.
    """
    own = system.terms
    found = {}
    for name in names:
        if name in own:
            found[name] = as_term(own[name])
        elif name in TERMS:
            found[name] = TERMS[name]
        else:
            known = [*own, *TERMS.names()]
            able = [mate.Config().name for mate in stage_mates if name in mate.terms]
            having = f"; {' and '.join(able)} {'has' if len(able) == 1 else 'have'} {name}" if able else ""
            raise ValueError(
                f"loss.weights.{name}: {system.Config().name} computes {', '.join(known)}"
                f"{having or did_you_mean(name, known)}"
            )
    return found


def compute_terms(outputs: Any, batch: Batch, terms: Mapping[str, Term], context: TermContext) -> dict[str, Tensor]:
    """The terms that a recipe weighs, unweighted, by name."""
    return {
        name: term(outputs, batch, dataclasses.replace(context, settings=context.loss.sections.get(name)))
        for name, term in terms.items()
    }


def shown_scores(systems: Sequence[Any]) -> dict[str, Score]:
    """How every number of these systems is shown: scores of answers, measures of terms, then losses."""
    terms = {name: as_term(term) for system in systems for name, term in system.terms.items()}
    terms |= {name: TERMS[name] for name in TERMS.names()}
    measures = {n: s for term in terms.values() if term.measure is not None for n, s in term.measure.scores.items()}
    losses = {"loss": Score("Loss", "weighted sum of the terms", lower_is_better=True, loss=True)}
    losses |= {
        name: Score(term.title or _titled(name), term.explained, lower_is_better=True, loss=True)
        for name, term in terms.items()
    }
    return SCORES | measures | losses


def score_shown(name: str, shown: Mapping[str, Score]) -> Score:
    """One of these, or its name in words where nothing is known of it."""
    return shown.get(name, Score(_titled(name)))


def _titled(name: str) -> str:
    return name.replace("_", " ").capitalize()
