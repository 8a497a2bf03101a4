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
    part: Literal["both", "pull", "push"] = "both"
    """Ours: one half of the loss alone: neighbours together (pull), or far frames apart (push)."""
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
        ours = self.same_sign is not None or self.distance_margin_mode == "relative" or self.part != "both"
        if self.variant == "released" and ours:
            raise ValueError(
                "loss.signcl: same_sign, distance_margin_mode=relative and part need variant paper, got variant "
                "released, which stays as released"
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
    ctc_reduction: Literal["clip", "gloss"] = "clip"
    """What a clip's CTC loss (`recognition`, `auxiliary`) is divided by before the mean over clips: nothing (VAC), or
    the number of its glosses (neccam/slt), which makes it about 8 times smaller on PHOENIX-2014T."""
    mask_shuffle: float = bounded(0.0, low=0, high=1)
    """Probability that the words and masks of a masked training sentence are shuffled. Released command: 0.5."""
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
    """The term's own section, `loss.<term>`, with defaults where the recipe gives no value; None for a term without."""
    view: Callable[[Batch], Tensor] | None = None
    """The features of a batch in a second view, drawn anew, with gradient. [B, T, D]"""
    step_lengths: Callable[[Tensor], Tensor] | None = None
    """Steps that clips of so many frames give in this model, for `Term.counts`. [B] -> [B]"""
    progress: float | None = None
    """How much of training is done, 0 in the first step and 1 in the last; None on dev, which is scored as a whole."""
    noted: dict[str, Any] | None = None
    """Counts over training that the run's card tells, see `note`; None on dev."""
    memories: Mapping[str, nn.Module] = field(default_factory=dict)
    """What terms keep from step to step, by term: `System.term_memory`."""
    memory: Any = None
    """The term's own, made by `Term.memory`; None where there is no run, as when a loss is computed by hand."""

    def note(self, **counts: Tensor) -> None:
        """Add to what the term counts over training; nothing waits for the device.

        Args:
            counts: scalars of this batch; their sums over all batches and ranks stand in the run's card.json.
        """
        if self.noted is not None:
            for name, count in counts.items():
                self.noted[name] = self.noted.get(name, 0) + count.detach()


@dataclass(frozen=True)
class Measure:
    """Extra dev scores of a term, such as a retrieval rate."""

    collect: Callable[[Any, Batch], tuple[Tensor, ...]]
    """What is kept of each batch, on the CPU."""
    summarise: Callable[[list[tuple[Tensor, ...]], LossRecipe], dict[str, float]]
    """Scores from what was kept of all batches of all ranks."""
    scores: Mapping[str, Score] = field(default_factory=dict)
    """Their names and titles."""


NEEDS = ("glosses", "one_gloss", "masked_tokens")
"""What `Term.needs` may hold."""


@dataclass(frozen=True)
class Term:
    """One part of the loss.

    Raises:
        ValueError: a function of other arguments, settings that are no dataclass or have a field without default or
            bounds, an unknown need, or targets given as text.
    """

    function: Callable[..., Tensor]
    """(outputs, batch) -> scalar, or (outputs, batch, context) with a `TermContext`. Unweighted, a mean over clips.
    Further parameters keep their defaults."""
    title: str = ""
    """For curves and tables; empty: its name."""
    explained: str = ""
    """What it is a mean of, in a few words."""
    settings: type | None = None
    """A dataclass of its own recipe keys, each with a default, and bounds beside each number: the section
    `loss.<name of the term>`."""
    needs: tuple[str, ...] = ()
    """`glosses`: the gloss vocabulary of training. `one_gloss`, beside `glosses`: that every clip has one.
    `masked_tokens`: sentences with masked words."""
    targets: type | Callable[[], type] | None = None
    """The class that makes tensors of each sentence (`signcl.systems.targets.Maker`), or a function without arguments
    that returns it, for a class that is imported when its term is weighed, not before."""
    measure: Measure | None = None
    memory: Callable[[int, Any], nn.Module] | None = None
    """(size of a frame feature, the term's targets) -> a module of buffers without weights, which is saved and loaded
    with the model. The term reads it as `context.memory`, and changes it in training only: where `context.progress` is
    not None."""
    reaches_frames: bool = True
    """Its gradient reaches the frame encoder; not so for a term of sentences alone."""
    counts: Callable[[Batch, TermContext], Tensor | float] | None = None
    """(batch, context) -> how many things its value is a mean of: a number, or a scalar on the device of the batch.
    None: the clips. Accumulated batches and ranks are weighed by it, so that they give the mean of one big batch."""

    def __post_init__(self) -> None:
        _ = self.takes_context  # refuses other arguments
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
        """What its author wrote: the registry compares and names the file of the function, not this one."""
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
    """Whether a term's function takes (outputs, batch, context), and not (outputs, batch).

    A parameter with a default is not filled, but for a third one named context.

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
    """What an entry point gives, as a loss term: a `Term`, or the function of one."""
    if not isinstance(term, Term) and (not callable(term) or isinstance(term, type)):
        raise ValueError(f"a function (outputs, batch) or a signcl.systems.Term is needed, got {term!r}")
    return as_term(term)


TERMS: Registry[Term] = Registry("loss term", key="loss.weights", entry_points="signcl.terms", accept=_accept_term)
"""Terms that every system can be trained with, from plugins and installed packages; a system has its own beside."""


OWNED = (
    "sentence_tags",
    "sign_tags",
    *("translation", "signcl", "recognition", "auxiliary", "distillation", "classification", "clip", "token_clip"),
    *("masked_text", "pseudo_gloss", "sentence_similarity"),
)
"""Terms that systems of this package have of their own; a registered one of that name would never be computed."""
LOGGED = ("loss", "kind", "step", "epoch", "lr", "gradient_norm")
"""Keys of metrics.jsonl beside terms and scores."""


def check_term_name(name: str, *, of_system: bool = False) -> None:
    """Refuse a name that a loss term cannot have.

    Args:
        of_system: a system lists the term as its own: it may use names of `OWNED`, such as translation.

    Raises:
        ValueError: no Python identifier, or a name that the log, a score, the loss section or a built-in term has.
    """
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"a loss term needs a name of letters, digits and _ that starts with a letter, got {name!r}")
    if name in OWNED:
        if of_system:
            return
        raise ValueError(
            f"{name} is a loss term that systems of signcl have of their own: give yours another name, or list yours "
            f"under `terms` of a system of yours"
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
    """Make a function a loss term of every system: `@register_term("smooth") def smooth(outputs, batch): ...`.

    A function of the same file and name replaces an earlier one, as when a cell of a notebook runs again.

    Args:
        name: its key in `loss.weights`.
        title, explained, settings, needs, targets, measure, memory, reaches_frames, counts: see `Term`.

    Raises:
        ValueError: a name that another term has or that no term can have, or what `Term` refuses.
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


def terms_with_settings(system: Any) -> dict[str, type]:
    """Settings classes of the terms that a system can be trained with, by term: its own and registered ones.

    Args:
        system: a class of `System`.
    """
    terms = terms_of(system, [*system.terms, *(name for name, _ in TERMS.loadable())])
    return {name: term.settings for name, term in terms.items() if term.settings is not None}


def compute_terms(outputs: Any, batch: Batch, terms: Mapping[str, Term], context: TermContext) -> dict[str, Tensor]:
    """The terms that a recipe weighs, unweighted, by name."""
    return {name: term(outputs, batch, _own(context, name, term)) for name, term in terms.items()}


def term_counts(batch: Batch, terms: Mapping[str, Term], context: TermContext) -> Tensor:
    """What the value of each term is a mean of: tokens, clips and so on; nothing waits for the device.

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
    """How every number of these systems is shown: scores of answers, measures of terms, then losses."""
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
    """One of these, or its name in words where nothing is known of it."""
    return shown.get(name, Score(_titled(name)))


def _titled(name: str) -> str:
    return name.replace("_", " ").capitalize()
