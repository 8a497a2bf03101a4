"""Loss terms: what a term is, how a recipe weights terms, and how they are summed.

A term is a function (outputs, batch) -> scalar, or a `Term` if it has settings, a title or a measure. A system lists
the terms that it computes; a term for all systems is registered by name (`register_term`). `weighted_sum` adds them
(Eq. 6), so that a term cannot be logged without being trained: the released pretraining computes a `total_loss` with
SignCL but back-propagates only the contrastive loss (docs/paper-vs-code.md).
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn

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
    "check_term_name",
    "compute_terms",
    "register_term",
    "score_shown",
    "shown_scores",
    "term_counts",
    "terms_of",
    "terms_with_settings",
    "weighted_sum",
]

Gather = Callable[[Tensor], Tensor]
"""Collects rows of all ranks, with gradient."""


@dataclass
class SignCLRecipe:
    """Settings of SignCL (paper Eq. 4-5); docs/paper-vs-code.md explains the switches."""

    variant: Literal["paper", "released"] = "paper"
    distance_margin: float | None = bounded(None, above=0, high=1e9)
    """m in feature units; None: the variant's value, 64 (paper) or 32 (released). If relative: a factor; None: 1."""
    distance_margin_mode: Literal["absolute", "relative"] = "absolute"
    """relative (ours): m is distance_margin times the mean distance of the clip's negatives, so it suits any
    encoder."""
    same_sign: float | None = bounded(None, above=0, high=1000)
    """Ours: a negative nearer than this share of the mean distance of its clip's negatives is assumed to be the same
    sign and pushed less than half as strongly. Try 0.75 first; None: push all equally."""
    part: Literal["both", "pull", "push"] = "both"
    """Ours: use only one half of the loss: pull neighbouring frames together, or push distant frames apart."""
    negatives: int | None = bounded(None, low=1, high=1_000_000)
    """Negatives per anchor; None: all valid ones. The paper samples 1, the released code 4."""
    words_per_gloss: float = bounded(2.3, above=0, high=1000)
    """Spoken words per gloss, paper section 4.1."""
    frame_margin_floor: float = bounded(10.0, low=0, high=1_000_000)
    """Minimum frame margin, in frames."""
    frame_margin_rule: Literal["per_clip", "released"] = "per_clip"
    """released: one margin per batch from padded lengths and token counts, doubled and clamped as in the released
    code."""
    start_epoch: int = bounded(0, low=0, high=1_000_000)
    """First epoch in which the term is active (released finetuning: 70)."""
    decay: float = bounded(1.0, above=0, high=1)
    """Factor on the weight when the dev score stalls (released PHOENIX finetuning: 0.5)."""
    decay_patience: int = bounded(10, low=0, high=1_000_000)
    """Epochs without an improvement of `decay_delta` before a decay."""
    decay_delta: float = bounded(2.0, low=0, high=1e9)
    """Minimum improvement of the dev score that counts, for the decay."""

    def __post_init__(self) -> None:
        check_bounds(self, "loss.signcl.")
        ours = self.same_sign is not None or self.distance_margin_mode == "relative" or self.part != "both"
        if self.variant == "released" and ours:
            raise ValueError(
                "loss.signcl: same_sign, distance_margin_mode=relative and part need variant paper, got variant "
                "released, which has no such options"
            )


@dataclass
class LossRecipe:
    """The weighted terms of Eq. 6. A term with its own settings has a section under its name."""

    weights: dict[str, float] = bounded({}, low=0, high=1e9)
    """Term -> weight; `signcl systems NAME` lists the terms of a system. A term that is left out is off. Empty: the
    system's default terms, each with weight 1."""
    schedule: dict[str, tuple[int, int | None]] = bounded({}, low=0, high=1_000_000)
    """Term -> [first epoch, first epoch without it or null], counted from 0; outside this range its weight is 0. Terms
    that are not listed are active in every epoch. The `loss` of dev always has full weights."""
    distillation_temperature: float = bounded(8.0, above=0, high=1e6)
    """smkd: temperature that divides the logits of both heads before they are compared."""
    signcl: SignCLRecipe = field(default_factory=SignCLRecipe)
    label_smoothing: float = bounded(0.2, low=0, below=1)
    clip_target: Literal["one_hot", "released"] = "one_hot"
    """released: KL divergence to softmax(10 I), as in the released code."""
    token_temperature: float = bounded(0.07, above=0, high=1e6)
    """token_clip: temperature of the softmax over a sentence's words, and over a clip's steps. CiCo: 0.07."""
    mask_rate: float = bounded(0.15, low=0, high=1)
    """Maximum share of masked words in the masked-text term."""
    mask_kind: Literal["random", "omit_last"] = "random"
    """omit_last masks the last words, as released."""
    ctc_reduction: Literal["clip", "gloss"] = "clip"
    """gloss: divide the CTC loss of a clip (`recognition`, `auxiliary`) by its number of glosses (neccam/slt) before
    the mean over clips, which makes it about 8 times smaller on PHOENIX-2014T. clip: do not divide (VAC)."""
    mask_shuffle: float = bounded(0.0, low=0, high=1)
    """Probability that the words and masks of a masked training sentence are shuffled. Released command: 0.5."""
    ctc_too_long: Literal["skip", "stop"] = "skip"
    """For a clip with too few steps for its glosses: skip warns and leaves it out of `recognition`; stop ends the
    run."""
    mask_duplicates: bool = True
    """Do not use equal sentences in a batch as negatives of each other."""
    sections: dict[str, Any] = field(default_factory=dict)
    """Settings of registered terms, by term; in a recipe they are sections next to these keys."""

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
    """What a term can use besides outputs and batch."""

    loss: LossRecipe
    """The recipe's loss section."""
    pad_id: int = 0
    """Pad id of the tokenizer."""
    gather: Gather | None = None
    """Collects rows of all ranks with gradient, so that a contrast sees every clip of the step; None on one rank."""
    settings: Any = None
    """The term's section `loss.<term>`, with defaults filled in; None for a term without settings."""
    view: Callable[[Batch], Tensor] | None = None
    """Features of the batch under a second random augmentation, with gradient. [B, T, D]"""
    step_lengths: Callable[[Tensor], Tensor] | None = None
    """Number of steps of the model for clips with these numbers of frames, for `Term.counts`. [B] -> [B]"""
    progress: float | None = None
    """Progress of training, 0 in the first step and 1 in the last; None on dev."""
    noted: dict[str, Any] | None = None
    """Counts over training for the run's card, see `note`; None on dev."""
    memories: Mapping[str, nn.Module] = field(default_factory=dict)
    """State that terms keep between steps, by term: `System.term_memory`."""
    memory: Any = None
    """The term's own memory, made by `Term.memory`; None outside a run."""

    def note(self, **counts: Tensor) -> None:
        """Add to the term's counts over training, without synchronising the device.

        Args:
            counts: scalars of this batch; their sums over all batches and ranks are saved in the run's card.json.
        """
        if self.noted is not None:
            for name, count in counts.items():
                self.noted[name] = self.noted.get(name, 0) + count.detach()


@dataclass(frozen=True)
class Measure:
    """Extra dev scores of a term, such as a retrieval rate."""

    collect: Callable[[Any, Batch], tuple[Tensor, ...]]
    """Returns what to keep of each batch, on the CPU."""
    summarise: Callable[[list[tuple[Tensor, ...]], LossRecipe], dict[str, float]]
    """Computes scores from what was kept of all batches of all ranks."""
    scores: Mapping[str, Score] = field(default_factory=dict)
    """Names and titles of the scores."""


NEEDS = ("glosses", "one_gloss", "masked_tokens")
"""Valid values in `Term.needs`."""


@dataclass(frozen=True)
class Term:
    """One part of the loss.

    Raises:
        ValueError: a function with other arguments, settings that are not a dataclass or have a field without default
            or bounds, an unknown need, or targets given as text.
    """

    function: Callable[..., Tensor]
    """(outputs, batch) -> scalar, or (outputs, batch, context) with a `TermContext`. Returns an unweighted mean over
    clips. Further parameters keep their defaults."""
    title: str = ""
    """For curves and tables; empty: its name."""
    explained: str = ""
    """What it measures, in a few words."""
    settings: type | None = None
    """Dataclass of the term's recipe keys, the section `loss.<name of the term>`; each has a default, each number
    bounds."""
    needs: tuple[str, ...] = ()
    """`glosses`: the gloss vocabulary of training. `one_gloss` (with `glosses`): exactly one gloss per clip.
    `masked_tokens`: sentences with masked words."""
    targets: type | Callable[[], type] | None = None
    """Class that makes tensors for each sentence (`signcl.systems.targets.Maker`), or a function without arguments that
    returns it, to import the class only if the term has a weight."""
    measure: Measure | None = None
    memory: Callable[[int, Any], nn.Module] | None = None
    """(size of a frame feature, the term's targets) -> a module with buffers but no parameters, saved and loaded with
    the model. The term reads it as `context.memory` and may change it only in training, when `context.progress` is not
    None."""
    reaches_frames: bool = True
    """Whether its gradient reaches the frame encoder; false for a term on sentences only."""
    counts: Callable[[Batch, TermContext], Tensor | float] | None = None
    """(batch, context) -> the number of items that its value is a mean over: a number, or a scalar on the device of the
    batch. None: the number of clips. Accumulated batches and ranks are weighted by it, so that they give the mean of
    one large batch."""

    def __post_init__(self) -> None:
        _ = self.takes_context  # raises if the arguments are wrong
        if self.settings is not None:
            _check_settings(self.settings)
        if not isinstance(self.needs, tuple):
            raise ValueError(f'needs of a loss term: a tuple such as ("glosses",) is needed, got {self.needs!r}')
        for need in self.needs:
            if need not in NEEDS:
                raise ValueError(
                    f"needs of a loss term: known are {', '.join(NEEDS)}, got {need!r}{did_you_mean(str(need), NEEDS)}"
                )
        if "one_gloss" in self.needs and "glosses" not in self.needs:
            raise ValueError('needs of a loss term: one_gloss needs glosses too; write needs=("glosses", "one_gloss")')
        if self.counts is not None and not callable(self.counts):
            raise ValueError(f"counts of a loss term: a function (batch, context) is needed, got {self.counts!r}")
        if self.memory is not None and not callable(self.memory):
            raise ValueError(f"memory of a loss term: a function (dim, targets) is needed, got {self.memory!r}")
        if self.targets is not None and not callable(self.targets):
            raise ValueError(
                f"targets of a loss term: the class itself is needed, or a function without arguments that returns it, "
                f"got {self.targets!r}"
            )

    @property
    def written_as(self) -> Callable[..., Tensor]:
        """The author's function, so that the registry compares and reports its file, not this one."""
        return self.function

    @cached_property
    def takes_context(self) -> bool:
        """Whether its function takes a `TermContext` as third argument."""
        return _takes_context(self.function)

    def __call__(self, outputs: Any, batch: Batch, context: TermContext) -> Tensor:
        """The value. Scalar"""
        value: Tensor = self.function(outputs, batch, context) if self.takes_context else self.function(outputs, batch)
        return value


def _takes_context(function: Any) -> bool:
    """Whether a term's function takes (outputs, batch, context) rather than (outputs, batch).

    Parameters with a default keep it, except a third one named context.

    Raises:
        ValueError: anything else.
    """
    name = getattr(function, "__qualname__", repr(function))
    needed = "needs a function (outputs, batch) or (outputs, batch, context); give other parameters a default"
    if not callable(function) or isinstance(function, type | Term):
        raise ValueError(f"a loss term {needed}; got {name}")
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        raise ValueError(f"the loss term {name} {needed}; its parameters cannot be read") from None
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p for p in positional if p.default is p.empty]
    keywords = [p for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    if len(required) not in (2, 3) or keywords:
        raise ValueError(f"the loss term {name} {needed}; got ({', '.join(map(str, parameters))})")
    return len(required) == 3 or (len(positional) > 2 and positional[2].name == "context")


def _check_settings(settings: type) -> None:
    name = getattr(settings, "__qualname__", repr(settings))
    if not (isinstance(settings, type) and dataclasses.is_dataclass(settings)):
        raise ValueError(f"settings of a loss term: a dataclass is needed, got {name}; write @dataclass above it")
    missing = dataclasses.MISSING
    bare = [f.name for f in dataclasses.fields(settings) if f.default is missing and f.default_factory is missing]
    if bare:
        raise ValueError(f"settings of a loss term: every field of {name} needs a default, {', '.join(bare)} has none")
    if unbounded := numbers_without_bounds(settings):
        raise ValueError(
            f"settings of a loss term: every number of {name} needs bounds, {', '.join(unbounded)} has none; "
            f"use `bounded`"
        )


def _accept_term(name: str, term: Any) -> Term:
    """Check that the object of an entry point is a `Term` or a term's function."""
    if not isinstance(term, Term) and (not callable(term) or isinstance(term, type)):
        raise ValueError(f"a function (outputs, batch) or a signcl.systems.Term is needed, got {term!r}")
    return as_term(term)


TERMS: Registry[Term] = Registry("loss term", key="loss.weights", entry_points="signcl.terms", accept=_accept_term)
"""Terms for all systems, from plugins and installed packages; each system also has its own."""


OWNED = (
    "sentence_tags",
    "sign_tags",
    *("translation", "signcl", "recognition", "auxiliary", "distillation", "classification", "clip", "token_clip"),
    *("masked_text", "pseudo_gloss", "sentence_similarity"),
)
"""Terms defined by systems of this package; a registered term with such a name would never be computed."""
LOGGED = ("loss", "kind", "step", "epoch", "lr", "gradient_norm")
"""Keys of metrics.jsonl besides terms and scores."""


def check_term_name(name: str, *, of_system: bool = False) -> None:
    """Raise ValueError if a loss term cannot have this name.

    Args:
        of_system: the term belongs to a system, so it may have a name of `OWNED`, such as translation.

    Raises:
        ValueError: not a Python identifier, or a name used by the log, a score, the loss section or a built-in term.
    """
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"a loss term needs a name of letters, digits and _ that starts with a letter, got {name!r}")
    if name in OWNED:
        if of_system:
            return
        raise ValueError(
            f"{name} is already a loss term of systems in signcl: give yours another name, or list it "
            f"under `terms` of your own system"
        )
    keys = [f.name for f in dataclasses.fields(LossRecipe)]
    for names, where in ((keys, "a key of the recipe's loss section"), (LOGGED, "a key of metrics.jsonl")):
        if name in names:
            raise ValueError(f"a loss term cannot be named {name}, which is {where}; give it another name")
    if name in SCORES:
        raise ValueError(f"a loss term cannot be named {name}, which is a score; give it another name")


def register_term(
    name: str,
    *,
    title: str = "",
    explained: str = "",
    settings: type | None = None,
    needs: tuple[str, ...] = (),
    targets: type | Callable[[], type] | None = None,
    measure: Measure | None = None,
    memory: Callable[[int, Any], nn.Module] | None = None,
    reaches_frames: bool = True,
    counts: Callable[[Batch, TermContext], Tensor | float] | None = None,
) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Register a loss term for all systems: `@register_term("smooth") def smooth(outputs, batch): ...`.

    A function with the same file and name replaces the earlier one, as when a notebook cell runs again.

    Args:
        name: its key in `loss.weights`.
        title, explained, settings, needs, targets, measure, memory, reaches_frames, counts: see `Term`.

    Raises:
        ValueError: an invalid name or one that another term has, or invalid values for `Term`.
    """
    check_term_name(name)

    def add(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        term = Term(
            function,
            title=title,
            explained=explained,
            settings=settings,
            needs=needs,
            targets=targets,
            measure=measure,
            memory=memory,
            reaches_frames=reaches_frames,
            counts=counts,
        )
        TERMS.add(name, term)
        return function

    return add


def as_term(term: Term | Callable[..., Tensor]) -> Term:
    """Convert an entry of a system's `terms` to a `Term`."""
    return term if isinstance(term, Term) else Term(term)


def terms_of(system: Any, names: Iterable[str], stage_mates: Iterable[Any] = ()) -> dict[str, Term]:
    """The terms with these names: the system's own, or registered ones.

    Args:
        system: a class of `System`.
        stage_mates: systems of the same stage, for suggestions in the message.

    Raises:
        ValueError: a term that the system does not compute and no plugin has registered.
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


def terms_with_settings(system: Any) -> dict[str, type]:
    """Settings classes of a system's own terms and of registered terms, by term.

    Args:
        system: a class of `System`.
    """
    terms = terms_of(system, [*system.terms, *(name for name, _ in TERMS.loadable())])
    return {name: term.settings for name, term in terms.items() if term.settings is not None}


def compute_terms(outputs: Any, batch: Batch, terms: Mapping[str, Term], context: TermContext) -> dict[str, Tensor]:
    """Compute the unweighted values of these terms, by name."""
    return {name: term(outputs, batch, _own(context, name, term)) for name, term in terms.items()}


def term_counts(batch: Batch, terms: Mapping[str, Term], context: TermContext) -> Tensor:
    """The number of items (tokens, clips ...) that each term's value is a mean over, without synchronising the device.

    Returns:
        In the order of `terms`, on the device of the batch. [terms] float64, on mps float32
    """
    device = batch.lengths.device
    dtype = torch.float32 if device.type == "mps" else torch.float64
    counts = [
        torch.as_tensor(len(batch) if term.counts is None else term.counts(batch, _own(context, name, term)))
        for name, term in terms.items()
    ]
    return torch.stack([count.to(device=device, dtype=dtype, non_blocking=True).reshape(()) for count in counts])


def _own(context: TermContext, name: str, term: Term) -> TermContext:
    """The context with the settings and the memory of one term."""
    settings = context.loss.sections.get(name)
    if settings is None and term.settings is not None:
        settings = term.settings()
    noted = None if context.noted is None else context.noted.setdefault(name, {})
    return dataclasses.replace(context, settings=settings, memory=context.memories.get(name), noted=noted)


def shown_scores(systems: Sequence[Any]) -> dict[str, Score]:
    """Titles of all numbers of these systems: scores of answers, measures of terms, then losses."""
    terms = {name: as_term(term) for system in systems for name, term in system.terms.items()}
    terms |= dict(TERMS.loadable())
    measures = {n: s for term in terms.values() if term.measure is not None for n, s in term.measure.scores.items()}
    losses = {"loss": Score("Loss", "weighted sum of the terms", lower_is_better=True, loss=True)}
    losses |= {
        name: Score(term.title or _titled(name), term.explained, lower_is_better=True, loss=True)
        for name, term in terms.items()
    }
    return SCORES | measures | losses


def score_shown(name: str, shown: Mapping[str, Score]) -> Score:
    """The title of a score, or its name in words if it is unknown."""
    return shown.get(name, Score(_titled(name)))


def _titled(name: str) -> str:
    return name.replace("_", " ").capitalize()
