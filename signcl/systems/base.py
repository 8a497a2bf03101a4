"""The contract of a system: one file with its config, network, loss terms, taps and answers.

`System` defines what a system must have and implements what most systems share; `register` adds it under its name. The
recipe's `model` keys and their checks, `signcl systems`, scores and their titles, and `signcl.testing.check_system` are
derived from it. docs/adding-a-system.md walks through an example. Nothing here reads a file or computes a loss.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from signcl.data.batch import Batch
from signcl.data.bounds import bounded, check_bounds, numbers_without_bounds
from signcl.data.registry import Registry
from signcl.data.text import GlossVocabulary, Tokenizer
from signcl.systems.encoders import DINOv2Config, GraphsConfig, I3DConfig, StreamsConfig, build_frame_encoder
from signcl.systems.parts.frames import (
    Tapped,
    feature_lengths,
    feature_size,
    frame_features,
    no_such_tap,
    tap_of_frames,
)
from signcl.systems.parts.language_model import first_other_word
from signcl.systems.parts.module_names import check_parts
from signcl.systems.parts.official import Checkpoint, Published
from signcl.systems.parts.search import ctc_greedy, ctc_prefix_beam
from signcl.systems.parts.transfer import transfer_parts
from signcl.systems.parts.written import Answer, Written, mean_features, sentence_log_probs
from signcl.systems.terms import Term, check_term_name

__all__ = [
    "SYSTEMS",
    "Decode",
    "EarlierRun",
    "Outputs",
    "Sizes",
    "Start",
    "System",
    "SystemConfig",
    "TransformerConfig",
    "check_same_words",
    "register",
    "system_class",
    "system_names",
]

Stage = Literal["recognise", "pretrain", "finetune"]
Answers = Literal["sentences", "glosses", "classes", "nothing"]


@dataclass(frozen=True, kw_only=True)
class SystemConfig:
    """Settings shared by all systems: the frame encoder and initial weights. `model` in a recipe."""

    name: str = ""
    """Name of the system; `signcl systems` lists all systems with the stage that trains each."""
    visual: str = "small_cnn"
    """Frame encoder: small_cnn, resnet18|34|50|101, i3d, dinov2 (pixels), feature_mlp, feature_streams, identity
    (features), pose_stream, part_graphs (key points)."""
    visual_weights: str = ""
    """Initial weights of the frame encoder: pretrained:FILE_OR_FOLDER_OR_HUB_ID, or pretrained:RUN for the encoder of
    an earlier run; empty: random."""
    visual_dim: int = bounded(128, low=1, high=65_536)
    """Feature size D, for encoders without a published size."""
    chunk: int | None = bounded(None, low=1, high=1_000_000)
    """Frames encoded at a time by the frame encoder and recomputed in the backward pass; None: all at once."""
    i3d: I3DConfig = field(default_factory=I3DConfig)
    dinov2: DINOv2Config = field(default_factory=DINOv2Config)
    streams: StreamsConfig = field(default_factory=StreamsConfig)
    graphs: GraphsConfig = field(default_factory=GraphsConfig)
    sync_norm: bool = False
    """Synchronise batch norm statistics across ranks, except in the frame encoder; GFSLT-VLP synchronises those too.
    `uni_sign` synchronises its frame encoder, where it has all its batch norms."""
    init_from: str = ""
    """Run folder to load initial weights from, e.g. the pretraining run before finetuning."""
    init_parts: list[str] = field(default_factory=list)
    """Modules to load from init_from, e.g. [visual, conv]; the others start as without it. Empty: all modules."""
    freeze: list[str] = field(default_factory=list)
    """Modules to freeze, e.g. [visual, conv]: no gradient, no optimizer state, always in evaluation mode (no dropout,
    fixed batch norm statistics)."""

    def __post_init__(self) -> None:
        check_bounds(self, "model.")
        if self.i3d != I3DConfig() and self.visual != "i3d":
            raise ValueError(f"model.i3d: these values belong to model.visual=i3d, and model.visual is {self.visual}")
        if self.dinov2 != DINOv2Config() and self.visual != "dinov2":
            raise ValueError(
                f"model.dinov2: these values belong to model.visual=dinov2, and model.visual is {self.visual}"
            )
        if self.streams != StreamsConfig() and self.visual != "feature_streams":
            raise ValueError(
                f"model.streams: these values belong to model.visual=feature_streams, and model.visual is {self.visual}"
            )
        if self.graphs != GraphsConfig() and self.visual != "part_graphs":
            raise ValueError(
                f"model.graphs: these values belong to model.visual=part_graphs, and model.visual is {self.visual}"
            )
        if bool(self.graphs.crops) != bool(self.graphs.crop_size):
            raise ValueError("model.graphs: crops and crop_size belong together; give both or neither")
        if self.init_parts and not self.init_from:
            raise ValueError(f"model.init_parts={self.init_parts} needs a run to load them from: set model.init_from")


@dataclass(frozen=True, kw_only=True)
class TransformerConfig(SystemConfig):
    """Sizes shared by all systems with a Transformer. Defaults are a small CPU preset, not the published sizes."""

    width: int = bounded(256, low=1, high=65_536)
    """Size of the hidden states."""
    encoder_layers: int = bounded(2, low=0, high=1000)
    heads: int = bounded(4, low=1, high=1024)
    """Attention heads; must divide width."""
    ffn: int = bounded(512, low=1, high=1_000_000)
    """Hidden size of the feed-forward layers."""
    dropout: float = bounded(0.1, low=0, below=1)
    attention_dropout: float = bounded(0.0, low=0, below=1)
    activation: str = "relu"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % self.heads:
            raise ValueError(f"model.heads: {self.heads} does not divide model.width {self.width}")


@dataclass
class Decode:
    """Search settings: beam search for sentences, CTC prefix search for glosses. `decode` in a recipe."""

    beams: int = bounded(4, low=1, high=1000)
    length_penalty: float = bounded(1.0, low=-100, high=100)
    """alpha: log p is divided by length ** alpha (gfslt, sign2gpt) or ((5 + length) / 6) ** alpha (slt, gaslt;
    negative: off)."""
    max_new_tokens: int = bounded(60, low=1, high=10_000)
    """Longest sentence, in tokens."""
    dev_beams: int = bounded(1, low=1, high=1000)
    """Beams for scoring dev during training."""
    gloss_beams: int = bounded(10, low=1, high=1000)
    """Prefixes kept by the CTC search; 1: greedy, the best class of each step."""

    def __post_init__(self) -> None:
        check_bounds(self, "decode.")

    def on_dev(self) -> Decode:
        """The settings for scoring dev during training."""
        return dataclasses.replace(self, beams=self.dev_beams, gloss_beams=self.dev_beams)


@dataclass(frozen=True)
class Sizes:
    """What a system must know about the data before it can be built."""

    tokenizer: Tokenizer | None = None
    """Tokenizer of the sentences: `vocab_size`, `pad_id`, `start_id`, `end_id`, and `decode` for answers."""
    feature_dim: int | None = None
    """Size of pre-extracted features; None if the corpus has pixels."""
    glosses: GlossVocabulary | None = None
    """Gloss classes, if a term needs them: 0 is the CTC blank, 1 unknown."""
    terms: tuple[str, ...] = ()
    """Loss terms with a weight in the recipe; a module that no term trains may be left out."""
    targets: Any = None
    """Training targets of the sentences (`signcl.systems.targets.Targets`), for systems whose size depends on them."""
    described: Mapping[str, Any] = field(default_factory=dict)
    """Configurations of published networks in the system, by module name, as saved in a run folder."""
    visual: nn.Module | None = None
    """Frame encoder to use instead of the one that the config names."""

    def classes(self) -> int:
        """Number of gloss classes C.

        Raises:
            ValueError: no gloss vocabulary was given.
        """
        if self.glosses is None and self.terms:  # from a recipe, so do not mention Sizes
            raise ValueError(
                f"this system recognises glosses, but no weighed loss term ({', '.join(self.terms)}) asks for their "
                f"vocabulary; weigh a term that does, or, in a system of yours, list the term as "
                f'Term(f, needs=("glosses",))'
            )
        if self.glosses is None:
            raise ValueError("this system recognises glosses, so it needs their vocabulary: Sizes(glosses=...)")
        return len(self.glosses)

    def words(self) -> Tokenizer:
        """The tokenizer.

        Raises:
            ValueError: none was given.
        """
        if self.tokenizer is None:
            raise ValueError("this system writes sentences, so it needs a tokenizer: Sizes(tokenizer=...)")
        return self.tokenizer


@dataclass(frozen=True)
class Outputs:
    """What a system computes from a batch. A system may define its own output class with these fields and more."""

    features: Tensor
    """Features for SignCL and density, zero at padding. [B, T, D]"""
    lengths: Tensor
    """Rows of `features` without padding. [B]"""
    steps: Tensor
    """States after the encoder. [B, S, width]"""
    step_lengths: Tensor
    """Rows of `steps` without padding. [B]"""
    logits: Tensor | None = None
    """Token scores at each position of `batch.tokens`, given the tokens before it. [B, U, V]"""
    log_probs: Tensor | None = None
    """Log-softmax over gloss classes; class 0 is the blank. [B, S, C]"""
    contrast: tuple[Tensor, Tensor] | None = None
    """Rows and lengths for SignCL, if it does not use `features` and `lengths`. [B, L, D], [B]"""


@dataclass(frozen=True)
class EarlierRun:
    """A trained run that initialises another: its config and weights, read from its folder."""

    folder: Path
    config: SystemConfig
    terms: tuple[str, ...]
    read_tensors: Callable[[], dict[str, Tensor]] = field(repr=False)
    read_tokenizer: Callable[[], Tokenizer] = field(repr=False)
    module: Callable[[], System] = field(repr=False)
    """Builds the system with its weights; shared tensors appear there under all their names."""
    load_into: Callable[[nn.Module], None] = field(repr=False)
    """Loads every tensor into a system of the same config, or raises an error."""

    @property
    def system(self) -> str:
        """Name of its system."""
        return self.config.name

    def is_a(self, name: str) -> bool:
        """Whether its system has this name or is derived from the system with this name."""
        return isinstance(self.config, system_class(name).Config)

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Its weights by name; tensors that share memory appear once."""
        return self.read_tensors()

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Tokenizer of its sentences."""
        return self.read_tokenizer()


@dataclass(frozen=True)
class Start:
    """What a new system can use to load weights: this run's tokenizer and targets, and a function to open earlier
    runs."""

    tokenizer: Tokenizer | None = None
    """Tokenizer of this run; None: vocabularies are not compared."""
    targets: Any = None
    earlier: Callable[[str], EarlierRun | None] = lambda folder: None
    """Returns the run in a folder, or None if it holds none."""


class System(nn.Module):
    """One published system: clips in, answers out.

    A subclass sets the class attributes, builds its network in `__init__` (after `super().__init__(config, sizes)`,
    which creates the frame encoder `self.visual`), and writes `forward`. Answers come from `generate` (sentences),
    `recognise` (glosses) or its own `answer`.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(SystemConfig):
        """The recipe's `model` section. A subclass derives its own from this one."""

    title: ClassVar[str] = ""
    """One line: the published name and what the system is."""
    label: ClassVar[str] = ""
    """The published name, for tables and reports; empty: the name in recipes."""
    needs: ClassVar[str] = ""
    """What it needs: frames or features, sentences or glosses, published weights, an optional package."""
    stage: ClassVar[Stage] = "finetune"
    """Stage that trains it."""
    terms: ClassVar[Mapping[str, Term | Callable[..., Tensor]]] = {}
    """Loss terms that it can compute, by name: (outputs, batch) -> scalar, or a `Term`."""
    default: ClassVar[tuple[str, ...]] = ()
    """Terms with weight 1 if a recipe gives no weights; empty: all except signcl."""
    required_terms: ClassVar[tuple[str, ...]] = ()
    """Terms that must have a weight."""
    answers: ClassVar[Answers] = "nothing"
    """What it answers for a clip: a sentence, glosses, one gloss per clip, or nothing (pretraining)."""
    select: ClassVar[str] = ""
    """Score that selects the best epoch; -NAME means lower is better. Empty: bleu4, -wer or top1 depending on
    `answers`, or for a system without answers its first weighted term (`select_by`)."""
    TAPS: ClassVar[tuple[str, ...]] = ("features",)
    """Taps that `extract`, `density` and SignCL can read; SignCL reads `features`."""
    gloss_term: ClassVar[str] = ""
    """For a system that answers sentences: the term that trains its gloss head. If it has a weight, `recognise` returns
    gloss scores and evaluation scores the glosses as well as the sentences."""
    starts_from: ClassVar[tuple[str, ...]] = ()
    """Other systems whose runs can initialise it (`model.init_from`), including systems derived from them. Runs of the
    system itself always can."""
    checkpoint: ClassVar[str] = ""
    """Name in `signcl import` of the official checkpoints that `published` reads; empty: none."""
    checkpoint_marks: ClassVar[tuple[str, ...]] = ()
    """Name endings of tensors that every such checkpoint has; used to detect its kind."""

    config: SystemConfig
    term_memory: nn.ModuleDict
    """State that loss terms keep between steps, by term (`Term.memory`). Present only in runs with such a term."""

    def __init__(self, config: SystemConfig, sizes: Sizes) -> None:
        super().__init__()
        self.config, self.tokenizer, self.glosses = config, sizes.tokenizer, sizes.glosses
        trained = self.gloss_term != "" and (not sizes.terms or self.gloss_term in sizes.terms)
        self.recognises = sizes.glosses is not None and (self.answers == "glosses" or trained)
        given = sizes.visual
        self.visual: nn.Module = (
            build_frame_encoder(config, sizes.feature_dim, sizes.described.get("visual")) if given is None else given
        )

    # -- what a recipe may say -----------------------------------------------------------------------------------------

    @classmethod
    def check(cls, recipe: Any) -> None:
        """Check the recipe for values that conflict with this system's config.

        Args:
            recipe: the whole `signcl.training.recipe.Recipe`; its model section is a `Config` of this class.

        Raises:
            ValueError: two values conflict; the message names both keys.
        """

    @classmethod
    def select_by(cls, weights: Mapping[str, float]) -> str:
        """The score that selects the best epoch of a recipe with these `loss.weights`.

        A system without answers (pretraining) uses the dev value of one term: the first in `terms` with a weight above
        0. It is never SignCL nor a sum that includes SignCL, so that runs with and without it, or with different
        weights for it, select by the same measure. If no other term has a weight, it is `-loss`.
        """
        by_answer = {"sentences": "bleu4", "glosses": "-wer", "classes": "top1"}
        weighed = [name for name in cls.terms if name != "signcl" and weights.get(name, 0) > 0]
        own = f"-{weighed[0]}" if weighed else "-loss"
        return cls.select or by_answer.get(cls.answers, own)

    @classmethod
    def default_terms(cls, config: SystemConfig) -> tuple[str, ...]:
        """Terms with weight 1 if a recipe gives no weights."""
        return cls.default or tuple(name for name in cls.terms if name != "signcl")

    # -- a batch through it --------------------------------------------------------------------------------------------

    def forward(self, batch: Batch) -> Any:
        """Compute everything that the loss terms need: `Outputs`, or a class with those fields and more."""
        raise TypeError(f"{type(self).__name__} needs a method forward(batch)")

    def features(self, batch: Batch) -> Tensor:
        """Features at the tap that SignCL reads, zero at padding. [B, T, D]"""
        return frame_features(self.visual, batch)[0]

    @property
    def contrast_dim(self) -> int:
        """Feature size seen by frame losses: of `Outputs.contrast` if present, else of `Outputs.features`."""
        return feature_size(self.visual)

    def step_lengths(self, lengths: Tensor) -> Tensor:
        """Number of steps for clips with these numbers of frames. [B] -> [B]"""
        return feature_lengths(self.visual, lengths)

    def tapped(self, batch: Batch, tap: str = "features") -> Tapped:
        """States at a tap of `TAPS`, with their positions in time.

        Raises:
            ValueError: no such tap.
        """
        self.check_tap(tap)
        if tap == "features":
            return tap_of_frames(self.visual, *frame_features(self.visual, batch))
        return self.tap(batch, tap)

    def check_tap(self, tap: str) -> None:
        """Raise ValueError if a tap is not in `TAPS`."""
        if tap not in self.TAPS:
            raise no_such_tap(tap, self.TAPS)

    def tap(self, batch: Batch, name: str) -> Tapped:
        """States at a tap other than `features`."""
        raise TypeError(f"{type(self).__name__} has a tap {name} in TAPS and no method tap(batch, name) that gives it")

    # -- answers -------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def answer(self, batch: Batch, decode: Decode) -> list[str]:
        """The answer for each clip: sentences from `generate`, glosses from `recognise`. Put the model in eval mode
        first.

        Raises:
            ValueError: a system without answers.
        """
        if self.answers == "sentences":
            assert self.tokenizer is not None
            ids = self.generate(
                batch,
                num_beams=decode.beams,
                length_penalty=decode.length_penalty,
                max_new_tokens=decode.max_new_tokens,
            )
            return [self.tokenizer.decode(row) for row in ids.tolist()]
        if self.answers == "glosses":
            return self.recognised(batch, decode)
        if self.answers == "classes":
            return [found[0] for found in self.ranked(self(batch), most=1)]
        raise ValueError(
            f"{self.config.name} is trained by {self.stage}: it has no answers, it only initialises other systems"
        )

    def generate(self, batch: Batch, *, num_beams: int, length_penalty: float, max_new_tokens: int) -> Tensor:
        """Token ids of each clip's sentence, without the start token, padded with the pad id. [B, U] long"""
        raise TypeError(f"{type(self).__name__} answers sentences: it needs a method generate, or answer")

    @torch.no_grad()
    def answer_scored(self, batch: Batch, decode: Decode) -> list[Answer]:
        """`answer` with the log-probability of each sentence. Put the model in eval mode first.

        Systems with their own `answer`, and systems that do not answer sentences, give no probability.
        """
        return [ranked[0] for ranked in self.answer_ranked(batch, decode, 1)]

    @torch.no_grad()
    def answer_ranked(self, batch: Batch, decode: Decode, most: int) -> list[list[Answer]]:
        """The best answers of each clip from one search, best first; the first is that of `answer_scored`. In eval
        mode.

        Args:
            most: maximum number of answers per clip. There is one if the search has one beam, if the system does not
                answer sentences, or if its `generate_scored` does not take `most`.
        """
        if self.answers != "sentences" or type(self).answer is not System.answer:
            return [[Answer(text)] for text in self.answer(batch, decode)]
        assert self.tokenizer is not None
        kinds = type(self).__mro__
        searched, scored = (
            next(at for at, kind in enumerate(kinds) if name in vars(kind)) for name in ("generate", "generate_scored")
        )
        # if a subclass overrides `generate` but inherits `generate_scored`, that scores another search: use teacher
        # forcing
        score: Any = System.generate_scored if searched < scored else type(self).generate_scored
        count = min(most, decode.beams) if "most" in inspect.signature(score).parameters else 1
        found = score(
            self,
            batch,
            num_beams=decode.beams,
            length_penalty=decode.length_penalty,
            max_new_tokens=decode.max_new_tokens,
            **({"most": count} if count > 1 else {}),
        )
        texts = [self.tokenizer.decode(row) for row in found.ids.tolist()]
        rows = found.features.float().cpu()
        every = [
            Answer(text, log_prob, tokens, rows[number // count])
            for number, (text, log_prob, tokens) in enumerate(
                zip(texts, found.log_probs.tolist(), found.counts.tolist())
            )
        ]
        clips = [every[first : first + count] for first in range(0, len(every), count)]
        # a search with fewer finished sentences than asked for fills up with rows of probability 0
        return [[best, *(one for one in others if one.log_prob != -math.inf)] for best, *others in clips]

    def generate_scored(self, batch: Batch, *, num_beams: int, length_penalty: float, max_new_tokens: int) -> Written:
        """`generate` with log p of each sentence, computed by teacher forcing with `forward`.

        A system overrides this if its search already has the scores, or if it can reuse the encoded clips. One whose
        search can give more than the best sentence also takes `most` and returns `most` rows for each clip, best first.
        """
        ids = self.generate(batch, num_beams=num_beams, length_penalty=length_penalty, max_new_tokens=max_new_tokens)
        pad_id = self.tokenizer.pad_id if self.tokenizer is not None else 0
        outputs = self(dataclasses.replace(batch, tokens=ids, token_lengths=(ids != pad_id).sum(dim=1)))
        log_probs, counts = sentence_log_probs(outputs.logits, ids, pad_id)
        return Written(ids, log_probs, counts, mean_features(outputs.features, outputs.lengths))

    @torch.no_grad()
    def recognise(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Gloss log-probabilities from `forward` (class 0 is the blank) and steps of each clip, in eval mode.
        [B, S, C], [B]"""
        outputs = self(batch)
        if getattr(outputs, "log_probs", None) is None:
            raise TypeError(f"{type(self).__name__} answers glosses: its forward needs to give log_probs")
        return outputs.log_probs, outputs.step_lengths

    @torch.no_grad()
    def glosses_of(self, batch: Batch, decode: Decode) -> list[str]:
        """The glosses of each clip, for a system that answers glosses or has a gloss head besides its sentences."""
        return self.answer(batch, decode) if self.answers == "glosses" else self.recognised(batch, decode)

    @torch.no_grad()
    def recognised(self, batch: Batch, decode: Decode) -> list[str]:
        """Glosses of each clip by CTC prefix search; greedy if `decode.gloss_beams` is 1."""
        assert self.glosses is not None
        log_probs, step_lengths = self.recognise(batch)
        if decode.gloss_beams == 1:
            paths = ctc_greedy(log_probs, step_lengths)
        else:
            paths = [found[0] for found in ctc_prefix_beam(log_probs, step_lengths, beams=decode.gloss_beams)]
        return [" ".join(self.glosses.decode(path.classes)) for path in paths]

    # -- what `signcl export` writes -----------------------------------------------------------------------------------

    def exported_states(self, features: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Outputs of the exported encoder. Only operations that torch.export can trace: no Python numbers from tensors.

        Args:
            features: output of the frame encoder, zero at padding. [B, T, D]
            lengths: rows of each clip without padding. [B]

        Returns:
            For a system that answers sentences: `steps` [B, S, width], `step_lengths` [B], and further states of fixed
            size [B, ...] if needed; `exported_word` reads them all by name. If it recognises glosses: their
            `log_probs`, [B, S, C] with `step_lengths` or [B, C] without.

        Raises:
            ValueError: a system that does not implement this.
        """
        raise ValueError(
            f"model.name={self.config.name} cannot be exported: {type(self).__name__} has no method exported_states "
            f"(docs/export.md)"
        )

    def exported_word(self, tokens: Tensor, steps: Tensor, step_lengths: Tensor) -> Tensor:
        """One step of the exported decoder: log-probabilities of the next token, as used by the search in `generate`.

        Args:
            tokens: tokens read so far, beginning with `start_id`; without padding. [B, U]
            steps, step_lengths: from `exported_states`; a system with further states has further arguments.

        Returns:
            [B, V] float32
        """
        raise ValueError(
            f"model.name={self.config.name} cannot be exported: {type(self).__name__} has no method exported_word "
            f"(docs/export.md)"
        )

    def ranked(self, outputs: Any, most: int = 5) -> list[list[str]]:
        """The most likely glosses of each one-sign clip, best first.

        Args:
            outputs: from `forward`; its `logits` leave out the classes blank and unknown. [B, C - 2]
            most: maximum number of glosses per clip.
        """
        assert self.glosses is not None
        logits = outputs.logits
        found = logits.float().topk(min(most, logits.shape[1]), dim=1).indices + 2
        return [self.glosses.decode(row) for row in found.tolist()]

    # -- loading weights -----------------------------------------------------------------------------------------------

    @classmethod
    def published(cls, given: Checkpoint) -> Published:
        """Convert an official checkpoint of this system: sizes, tensors under our names, vocabularies.

        Raises:
            ValueError: tensors that no released model has, an unsupported configuration, or a vocabulary that does not
                fit.
        """
        raise TypeError(f"{cls.__name__} names a checkpoint {cls.checkpoint!r} and has no method published")

    def load_published(self, start: Start) -> list[str]:
        """Load the published weights that the config names, other than those of the frame encoder.

        Returns:
            What was loaded, one line per source.
        """
        return []

    def take_over(self, earlier: EarlierRun, start: Start) -> str:
        """Load the weights of an earlier run (`model.init_from`). Returns one line that says what was loaded.

        Args:
            earlier: a run of this system, or of one in `starts_from`.

        Raises:
            ValueError: tensors that do not fit.
        """
        only, keep, added = list(self.config.init_parts), self.filled(), self.added()
        if not only and not keep and not added:
            check_same_words(earlier, start)  # first, since other words give tables of another size
            earlier.load_into(self)
            return "every tensor transferred"
        check_parts(self, only, "model.init_parts")
        report = transfer_parts(earlier.tensors, self, keep=keep, only=only, optional=added)
        own, size = self.state_dict(), getattr(self.tokenizer, "vocab_size", None)
        if any(own[name].shape[:1] == (size,) for name in report.transferred):  # embeddings with one row per word
            check_same_words(earlier, start)
        return str(report)

    def added(self) -> Sequence[str]:
        """Modules that start without effect and that an earlier run may lack, such as maps that start at zero."""
        return [f"visual.{name}" for name in getattr(self.visual, "added", ())]

    def filled(self) -> Sequence[str]:
        """Modules loaded by `load_published`, which an earlier run must not overwrite."""
        return ()


def check_same_words(earlier: EarlierRun, start: Start) -> None:
    """Check that the rows of the word embeddings belong to the same words in both runs.

    Raises:
        ValueError: the vocabularies differ; names the first id that differs.
    """
    if start.tokenizer is None:
        return
    other = first_other_word(earlier.tokenizer, start.tokenizer)
    if other is not None:
        i, theirs, ours = other
        raise ValueError(
            f"model.init_from={earlier.folder}: its tokenizer has {theirs!r} where this run's has {ours!r} (id {i}); "
            f"both stages need the same text section and training sentences; parts without words can be loaded alone, "
            f"such as model.init_parts=[visual]"
        )


def _name_in_config(system: type[System]) -> str:
    """The name of a system in recipes; ValueError if the class is not a valid system."""
    config = getattr(system, "Config", None)
    if not (isinstance(config, type) and issubclass(config, SystemConfig)):
        raise ValueError(f"{system.__name__} needs a class Config inside it, derived from System.Config")
    if "__dataclass_fields__" not in vars(config):
        raise ValueError(f"{system.__name__}.Config needs the line `@dataclass(frozen=True, kw_only=True)` above it")
    name = config.__dataclass_fields__["name"].default
    if not name or not isinstance(name, str):
        raise ValueError(f'{system.__name__}.Config needs a name for recipes: `name: str = "my_system"`')
    return name


def _accept_system(name: str, system: Any) -> type[System]:
    """Check that the object of an entry point is a system with this name."""
    if not (isinstance(system, type) and issubclass(system, System)):
        raise ValueError(f"a class derived from signcl.System is needed, got {system!r}")
    if (own := _name_in_config(system)) != name:
        raise ValueError(f"{system.__name__}.Config has the name {own!r}; call the entry point {own}")
    return system


SYSTEMS: Registry[type[System]] = Registry(
    "system",
    key="model.name",
    package="signcl.systems",
    not_entries=("base", "encoders", "parts", "targets", "terms"),
    entry_points="signcl.systems",
    accept=_accept_system,
)
"""All systems by name: files of this package, installed entry points, and systems registered by plugins."""


def register(system: type[System]) -> type[System]:
    """Register a system under the name in its config: `@register class MySystem(System): ...`.

    Args:
        system: the class; `model.name` of a recipe is the default of `name` in its `Config`.

    Returns:
        The same class, so that it can be used as a decorator.

    Raises:
        ValueError: a missing or duplicate name, or a `Config` that is not a dataclass derived from `SystemConfig` or
            has numbers without bounds.
    """
    name = _name_in_config(system)
    if bare := numbers_without_bounds(system.Config):
        raise ValueError(
            f"{system.__name__}.Config: {', '.join(bare)} needs bounds, since a recipe may give any number; write "
            f"`{bare[0].split('.')[-1]}: ... = bounded(DEFAULT, low=0, high=1)` with signcl.data.bounds.bounded"
        )
    for term in system.terms:
        check_term_name(term, of_system=True)
    SYSTEMS.add(name, system)
    return system


def system_class(name: str) -> type[System]:
    """The class of a system.

    Raises:
        ValueError: no system of that name; suggests the closest one.
    """
    return SYSTEMS[name]


def system_names() -> list[str]:
    """Names of all systems, for recipes."""
    return SYSTEMS.names()
