"""The contract of a system: one file with its config, its network, its loss terms, its taps and its answers.

`System` says what a system must have and gives what most have in common; `register` makes it known by name. From this
the recipe's `model` keys and their checks, `signcl systems`, scores and their titles, and `signcl.testing.check_system`
are derived. docs/adding-a-system.md walks through one. Nothing here reads a file or computes a loss.
"""

from __future__ import annotations

import dataclasses
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
from signcl.systems.encoders import DINOv2Config, I3DConfig, StreamsConfig, build_frame_encoder
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
    """A system by name; `signcl systems` lists them with the stage that trains each."""
    visual: str = "small_cnn"
    """Frame encoder: small_cnn, resnet18|34|50|101, i3d, dinov2 (pixels), feature_mlp, feature_streams, identity
    (features), pose_stream, part_graphs (key points)."""
    visual_weights: str = ""
    """pretrained:FILE_OR_FOLDER_OR_HUB_ID for the frame encoder, or pretrained:RUN for that of an earlier run; empty
    starts at random."""
    visual_dim: int = bounded(128, low=1, high=65_536)
    """Feature size D, for the encoders that have no published one."""
    chunk: int | None = bounded(None, low=1, high=1_000_000)
    """Frames that pass the frame encoder at a time, recomputed in the backward pass; None takes all at once."""
    i3d: I3DConfig = field(default_factory=I3DConfig)
    dinov2: DINOv2Config = field(default_factory=DINOv2Config)
    streams: StreamsConfig = field(default_factory=StreamsConfig)
    sync_norm: bool = False
    """Statistics of the batch norms after the frame encoder over all ranks; GFSLT-VLP has it, with the frame
    encoder's too."""
    init_from: str = ""
    """A run folder whose weights start this one, e.g. the pretraining run of a finetuning."""
    init_parts: list[str] = field(default_factory=list)
    """Modules that init_from gives, e.g. [visual, conv]; the others start as without it. Empty: all of them."""
    freeze: list[str] = field(default_factory=list)
    """Modules that do not train, e.g. [visual, conv]: no gradient, no optimizer state, and evaluation mode throughout
    (no dropout, batch norm statistics stand still)."""

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
        if self.init_parts and not self.init_from:
            raise ValueError(f"model.init_parts={self.init_parts} needs the run that gives them: set model.init_from")


@dataclass(frozen=True, kw_only=True)
class TransformerConfig(SystemConfig):
    """Sizes that systems with a Transformer share. Defaults are a small CPU preset, not the published sizes."""

    width: int = bounded(256, low=1, high=65_536)
    """Size of a state."""
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
    """How answers are searched for: beam search of sentences, CTC prefix search of glosses. `decode` in a recipe."""

    beams: int = bounded(4, low=1, high=1000)
    length_penalty: float = bounded(1.0, low=-100, high=100)
    """alpha: log p is divided by length ** alpha (gfslt, sign2gpt) or ((5 + length) / 6) ** alpha (slt, gaslt;
    negative: off)."""
    max_new_tokens: int = bounded(60, low=1, high=10_000)
    """Longest sentence, in tokens."""
    dev_beams: int = bounded(1, low=1, high=1000)
    """Beams while training."""
    gloss_beams: int = bounded(10, low=1, high=1000)
    """Prefixes of the CTC search; 1 takes the best class of each step."""

    def __post_init__(self) -> None:
        check_bounds(self, "decode.")

    def on_dev(self) -> Decode:
        """The search while training."""
        return dataclasses.replace(self, beams=self.dev_beams, gloss_beams=self.dev_beams)


@dataclass(frozen=True)
class Sizes:
    """What a system must know of the data before it can be built."""

    tokenizer: Tokenizer | None = None
    """Of the sentences: `vocab_size`, `pad_id`, `start_id`, `end_id`, and `decode` for answers."""
    feature_dim: int | None = None
    """Size of pre-extracted features, None where the corpus gives pixels."""
    glosses: GlossVocabulary | None = None
    """Gloss classes, where a term needs them: 0 is the CTC blank, 1 unknown."""
    terms: tuple[str, ...] = ()
    """Loss terms that the recipe weighs; a part that no term trains may be left out."""
    targets: Any = None
    """What terms need of each sentence (`signcl.systems.targets.Targets`), for systems whose size depends on it."""
    described: Mapping[str, Any] = field(default_factory=dict)
    """Configurations of published networks inside the system by the name of their module, as a run folder has them."""
    visual: nn.Module | None = None
    """A frame encoder in place of the one that the config names."""

    def classes(self) -> int:
        """Gloss classes C, where a system cannot be built without them."""
        if self.glosses is None and self.terms:  # of a recipe: nobody builds Sizes by hand
            raise ValueError(
                f"this system recognises glosses, but no weighed loss term ({', '.join(self.terms)}) asks for their "
                f"vocabulary; weigh a term that does, or, in a system of yours, list the term as "
                f'Term(f, needs=("glosses",))'
            )
        if self.glosses is None:
            raise ValueError("this system recognises glosses, so it needs their vocabulary: Sizes(glosses=...)")
        return len(self.glosses)

    def words(self) -> Tokenizer:
        """The tokenizer, where a system cannot be built without one."""
        if self.tokenizer is None:
            raise ValueError("this system writes sentences, so it needs a tokenizer: Sizes(tokenizer=...)")
        return self.tokenizer


@dataclass(frozen=True)
class Outputs:
    """What a system makes of a batch. A system may have an output class of its own with the same names and more."""

    features: Tensor
    """Where SignCL and density look, zero at padding. [B, T, D]"""
    lengths: Tensor
    """Real rows of `features`. [B]"""
    steps: Tensor
    """States after the encoder. [B, S, width]"""
    step_lengths: Tensor
    """Real rows of `steps`. [B]"""
    logits: Tensor | None = None
    """Scores of `batch.tokens`, position by position, given the tokens before. [B, U, V]"""
    log_probs: Tensor | None = None
    """Log-softmax over gloss classes, 0 the blank. [B, S, C]"""
    contrast: tuple[Tensor, Tensor] | None = None
    """Frames and rows of each clip that SignCL sees, where they are not `features` and `lengths`. [B, L, D], [B]"""


@dataclass(frozen=True)
class EarlierRun:
    """A trained run that starts another: its config and weights, read from its folder."""

    folder: Path
    config: SystemConfig
    terms: tuple[str, ...]
    read_tensors: Callable[[], dict[str, Tensor]] = field(repr=False)
    read_tokenizer: Callable[[], Tokenizer] = field(repr=False)
    module: Callable[[], System] = field(repr=False)
    """Builds the system with its weights; shared tensors have all their names there."""
    load_into: Callable[[nn.Module], None] = field(repr=False)
    """Puts every tensor into a system of the same config, or refuses."""

    @property
    def system(self) -> str:
        """Its system by name."""
        return self.config.name

    def is_a(self, name: str) -> bool:
        """Whether its system is the one of that name, or derived from it."""
        return isinstance(self.config, system_class(name).Config)

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Its weights by name; tensors that share memory have one name."""
        return self.read_tensors()

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Of its sentences."""
        return self.read_tokenizer()


@dataclass(frozen=True)
class Start:
    """What a new system may use to load weights: this run's tokenizer and targets, and a way to open earlier runs."""

    tokenizer: Tokenizer | None = None
    """Of this run; None: words are not checked."""
    targets: Any = None
    earlier: Callable[[str], EarlierRun | None] = lambda folder: None
    """The run in a folder, None where the folder holds none."""


class System(nn.Module):
    """One published system: clips in, answers out.

    A subclass sets the class attributes, builds its network in `__init__` (after `super().__init__(config, sizes)`,
    which makes `self.visual`, the frame encoder), and writes `forward`. Answers come from `generate` (sentences) or
    `recognise` (glosses), or from an `answer` of its own.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(SystemConfig):
        """The recipe's `model` section. A subclass has its own, derived from this one."""

    title: ClassVar[str] = ""
    """The published name and what it is, in a line."""
    label: ClassVar[str] = ""
    """The published name alone, for tables and reports; empty: the name in recipes."""
    needs: ClassVar[str] = ""
    """What it must be given: frames or features, sentences or glosses, published weights, an extra."""
    stage: ClassVar[Stage] = "finetune"
    """The stage that trains it."""
    terms: ClassVar[Mapping[str, Term | Callable[..., Tensor]]] = {}
    """Loss terms that it can compute, by name: (outputs, batch) -> scalar, or a `Term`."""
    default: ClassVar[tuple[str, ...]] = ()
    """Terms with weight 1 where a recipe weighs none; empty: all but signcl."""
    required_terms: ClassVar[tuple[str, ...]] = ()
    """Terms without which it does not train."""
    answers: ClassVar[Answers] = "nothing"
    """What it says of a clip: a sentence, glosses, the one gloss of a clip, or nothing (pretraining)."""
    select: ClassVar[str] = ""
    """Score that chooses the kept weights, -NAME: lower wins. Empty: bleu4, -wer or top1 by `answers`; of a system
    without answers its first weighed term, see `select_by`."""
    TAPS: ClassVar[tuple[str, ...]] = ("features",)
    """Where `extract`, `density` and SignCL may look; `features` is where SignCL looks."""
    gloss_term: ClassVar[str] = ""
    """Of a system that answers sentences: the term that trains its gloss head. With a weight for it, `recognise` gives
    gloss scores too, and evaluation scores them beside the sentences."""
    starts_from: ClassVar[tuple[str, ...]] = ()
    """Other systems whose runs can start it, and with them those derived from them; one of its own kind always can."""
    checkpoint: ClassVar[str] = ""
    """What `signcl import` calls the official checkpoints that `published` reads; empty: it reads none."""
    checkpoint_marks: ClassVar[tuple[str, ...]] = ()
    """Tensors that every such checkpoint has, by the ends of their names; they tell its kind from others."""

    config: SystemConfig
    term_memory: nn.ModuleDict
    """What loss terms keep from step to step, by term (`Term.memory`). A run of such a term attaches it; no other model
    has it."""

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
        """Refuse recipe values that conflict with this system's config.

        Args:
            recipe: the whole `signcl.training.recipe.Recipe`; its model section is a `Config` of this class.

        Raises:
            ValueError: names both keys.
        """

    @classmethod
    def select_by(cls, weights: Mapping[str, float]) -> str:
        """The score that chooses the kept weights of a recipe with these `loss.weights`.

        A system without answers (pretraining) is chosen by the dev value of one term: the first of its own, in the
        order of `terms`, that has a weight above 0. That is never SignCL, nor a sum with SignCL in it: runs with and
        without it, or with other weights of it, then keep their epoch by the same measure. `-loss` where it weighs no
        other term of its own.
        """
        by_answer = {"sentences": "bleu4", "glosses": "-wer", "classes": "top1"}
        weighed = [name for name in cls.terms if name != "signcl" and weights.get(name, 0) > 0]
        own = f"-{weighed[0]}" if weighed else "-loss"
        return cls.select or by_answer.get(cls.answers, own)

    @classmethod
    def default_terms(cls, config: SystemConfig) -> tuple[str, ...]:
        """Terms with weight 1 where a recipe weighs none."""
        return cls.default or tuple(name for name in cls.terms if name != "signcl")

    # -- a batch through it --------------------------------------------------------------------------------------------

    def forward(self, batch: Batch) -> Any:
        """Everything that its terms need: `Outputs`, or a class with those names and more."""
        raise TypeError(f"{type(self).__name__} needs a method forward(batch)")

    def features(self, batch: Batch) -> Tensor:
        """The tap of SignCL, zero at padding. [B, T, D]"""
        return frame_features(self.visual, batch)[0]

    @property
    def contrast_dim(self) -> int:
        """Size of a frame as losses on frames see it: of `Outputs.contrast`, else of `Outputs.features`."""
        return feature_size(self.visual)

    def step_lengths(self, lengths: Tensor) -> Tensor:
        """Steps that clips of so many frames give. [B] -> [B]"""
        return feature_lengths(self.visual, lengths)

    def tapped(self, batch: Batch, tap: str = "features") -> Tapped:
        """States at a tap of `TAPS`, with their place in time.

        Raises:
            ValueError: no such tap.
        """
        self.check_tap(tap)
        if tap == "features":
            return tap_of_frames(self.visual, *frame_features(self.visual, batch))
        return self.tap(batch, tap)

    def check_tap(self, tap: str) -> None:
        """Refuse a tap that is not in `TAPS`."""
        if tap not in self.TAPS:
            raise no_such_tap(tap, self.TAPS)

    def tap(self, batch: Batch, name: str) -> Tapped:
        """States at a tap other than `features`."""
        raise TypeError(f"{type(self).__name__} has a tap {name} in TAPS and no method tap(batch, name) that gives it")

    # -- answers -------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def answer(self, batch: Batch, decode: Decode) -> list[str]:
        """The answer for each clip; put it in eval mode first. Sentences from `generate`, glosses from `recognise`.

        Raises:
            ValueError: a system that says nothing.
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
        raise ValueError(f"{self.config.name} is trained by {self.stage}: it has no answers, it starts other systems")

    def generate(self, batch: Batch, *, num_beams: int, length_penalty: float, max_new_tokens: int) -> Tensor:
        """Token ids of each clip's sentence, without the start token, padded with the pad id. [B, U] long"""
        raise TypeError(f"{type(self).__name__} answers sentences: it needs a method generate, or answer")

    @torch.no_grad()
    def answer_scored(self, batch: Batch, decode: Decode) -> list[Answer]:
        """`answer` with the probability of each sentence; without it of a system with an `answer` of its own, or that
        answers no sentences. In eval mode."""
        if self.answers != "sentences" or type(self).answer is not System.answer:
            return [Answer(text) for text in self.answer(batch, decode)]
        assert self.tokenizer is not None
        kinds = type(self).__mro__
        searched, scored = (
            next(at for at, kind in enumerate(kinds) if name in vars(kind)) for name in ("generate", "generate_scored")
        )
        # a system with a search of its own above one that scores another search: teacher forcing fits any
        score = System.generate_scored if searched < scored else type(self).generate_scored
        found = score(
            self,
            batch,
            num_beams=decode.beams,
            length_penalty=decode.length_penalty,
            max_new_tokens=decode.max_new_tokens,
        )
        texts = [self.tokenizer.decode(row) for row in found.ids.tolist()]
        numbers = zip(found.log_probs.tolist(), found.counts.tolist())
        rows = found.features.float().cpu()
        return [Answer(text, *pair, row) for text, pair, row in zip(texts, numbers, rows)]

    @torch.no_grad()
    def answer_ranked(self, batch: Batch, decode: Decode, most: int) -> list[list[Answer]]:
        """The answer of each clip, as `answer_scored` gives it, then others of the same search, best first.

        Args:
            most: answers of a clip; a system whose search keeps only the best gives only that. In eval mode.
        """
        return [[answer] for answer in self.answer_scored(batch, decode)]

    def generate_scored(self, batch: Batch, *, num_beams: int, length_penalty: float, max_new_tokens: int) -> Written:
        """`generate` with log p of each sentence, here by teacher forcing: `forward` reads what was written.

        A system whose search knows the scores, or that can keep the encoded clips for the second look, has its own.
        """
        ids = self.generate(batch, num_beams=num_beams, length_penalty=length_penalty, max_new_tokens=max_new_tokens)
        pad_id = self.tokenizer.pad_id if self.tokenizer is not None else 0
        outputs = self(dataclasses.replace(batch, tokens=ids, token_lengths=(ids != pad_id).sum(dim=1)))
        log_probs, counts = sentence_log_probs(outputs.logits, ids, pad_id)
        return Written(ids, log_probs, counts, mean_features(outputs.features, outputs.lengths))

    @torch.no_grad()
    def recognise(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Gloss log-probabilities, class 0 the blank, and steps of each clip: `forward`'s; in eval mode.
        [B, S, C], [B]"""
        outputs = self(batch)
        if getattr(outputs, "log_probs", None) is None:
            raise TypeError(f"{type(self).__name__} answers glosses: its forward needs to give log_probs")
        return outputs.log_probs, outputs.step_lengths

    @torch.no_grad()
    def glosses_of(self, batch: Batch, decode: Decode) -> list[str]:
        """The glosses of each clip, of a system that answers glosses or has a gloss head beside its sentences."""
        return self.answer(batch, decode) if self.answers == "glosses" else self.recognised(batch, decode)

    @torch.no_grad()
    def recognised(self, batch: Batch, decode: Decode) -> list[str]:
        """Glosses of each clip by CTC prefix search; with one beam by the best class of each step."""
        assert self.glosses is not None
        log_probs, step_lengths = self.recognise(batch)
        if decode.gloss_beams == 1:
            paths = ctc_greedy(log_probs, step_lengths)
        else:
            paths = [found[0] for found in ctc_prefix_beam(log_probs, step_lengths, beams=decode.gloss_beams)]
        return [" ".join(self.glosses.decode(path.classes)) for path in paths]

    # -- what `signcl export` writes down ------------------------------------------------------------------------------

    def exported_states(self, features: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """What an exported encoder gives, of operations that torch.export can follow: no Python number from a tensor.

        Args:
            features: of the frame encoder, zero at padding. [B, T, D]
            lengths: real rows of each clip. [B]

        Returns:
            Of a system that answers sentences `steps` [B, S, width] and `step_lengths` [B], which `exported_word`
            reads. `log_probs` of glosses, where it recognises them: [B, S, C] with `step_lengths`, or [B, C] without.

        Raises:
            ValueError: a system that has not said how.
        """
        raise ValueError(
            f"model.name={self.config.name} cannot be exported: {type(self).__name__} has no method exported_states "
            f"(docs/export.md)"
        )

    def exported_word(self, tokens: Tensor, steps: Tensor, step_lengths: Tensor) -> Tensor:
        """One step of an exported decoder: log-probabilities of the next token, as `generate` searches in them.

        Args:
            tokens: what was read so far, `start_id` first; without padding. [B, U]
            steps, step_lengths: of `exported_states`.

        Returns:
            [B, V] float32
        """
        raise ValueError(
            f"model.name={self.config.name} cannot be exported: {type(self).__name__} has no method exported_word "
            f"(docs/export.md)"
        )

    def ranked(self, outputs: Any, most: int = 5) -> list[list[str]]:
        """The likeliest glosses of each clip of one sign, the best first.

        Args:
            outputs: of `forward`; its `logits` leave out the classes blank and unknown. [B, C - 2]
            most: how many, at most.
        """
        assert self.glosses is not None
        logits = outputs.logits
        found = logits.float().topk(min(most, logits.shape[1]), dim=1).indices + 2
        return [self.glosses.decode(row) for row in found.tolist()]

    # -- weights of others ---------------------------------------------------------------------------------------------

    @classmethod
    def published(cls, given: Checkpoint) -> Published:
        """An official checkpoint of this system in our terms: sizes, tensors under our names, vocabularies.

        Raises:
            ValueError: tensors that no released model has, a configuration that is not built here, a vocabulary that
                does not fit.
        """
        raise TypeError(f"{cls.__name__} names a checkpoint {cls.checkpoint!r} and has no method published")

    def load_published(self, start: Start) -> list[str]:
        """Fill in the published weights that the config names, beside those of the frame encoder.

        Returns:
            What went where, a line for each source.
        """
        return []

    def take_over(self, earlier: EarlierRun, start: Start) -> str:
        """Fill in the weights of an earlier run (`model.init_from`); what went where, in a line.

        Args:
            earlier: of this system, or of one in `starts_from`.

        Raises:
            ValueError: tensors that do not fit.
        """
        only, keep = list(self.config.init_parts), self.filled()
        if not only and not keep:
            earlier.load_into(self)
            check_same_words(earlier, start)
            return "every tensor transferred"
        check_parts(self, only, "model.init_parts")
        report = transfer_parts(earlier.tensors, self, keep=keep, only=only)
        own, size = self.state_dict(), getattr(self.tokenizer, "vocab_size", None)
        if any(own[name].shape[:1] == (size,) for name in report.transferred):  # a table with a row for each word
            check_same_words(earlier, start)
        return str(report)

    def filled(self) -> Sequence[str]:
        """Modules that `load_published` has filled, and that an earlier run must not fill again."""
        return ()


def check_same_words(earlier: EarlierRun, start: Start) -> None:
    """Refuse a word table of the right size whose rows belong to other words.

    Raises:
        ValueError: the first id whose words differ.
    """
    if start.tokenizer is None:
        return
    other = first_other_word(earlier.tokenizer, start.tokenizer)
    if other is not None:
        i, theirs, ours = other
        raise ValueError(
            f"model.init_from={earlier.folder}: its tokenizer has {theirs!r} where this run's has {ours!r} (id {i}); "
            f"both stages need the same text section and training sentences"
        )


def _name_in_config(system: type[System]) -> str:
    """The name of a system for recipes; refuses a class that cannot be one."""
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
    """What an entry point gives, as a system of that name."""
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
"""Every system by its name: a file of this package, an installed entry point, or one that a plugin has registered."""


def register(system: type[System]) -> type[System]:
    """Make a system known by the name in its config: `@register class MySystem(System): ...`.

    Raises:
        ValueError: a name that another system has, no name, or a `Config` that is no dataclass, no `SystemConfig`, or
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
        ValueError: no system of that name; the nearest is named.
    """
    return SYSTEMS[name]


def system_names() -> list[str]:
    """Every system that can be named in a recipe."""
    return SYSTEMS.names()
