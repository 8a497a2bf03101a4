"""The recipe as a dataclass tree: the section `train`, the complete recipe, and checks that involve several keys.

The sections for data, model, loss and search are defined where they are used.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

from signcl.data.bounds import bounded, check_bounds, shown
from signcl.data.registry import did_you_mean
from signcl.data.sections import AugmentRecipe, CorpusRecipe, InputRecipe, Masking, Reading, TextRecipe
from signcl.systems import SYSTEMS, Decode, System, SystemConfig, system_class
from signcl.systems.terms import LossRecipe, SignCLRecipe, Term, terms_of

__all__ = [
    "AugmentRecipe",
    "CorpusRecipe",
    "Decode",
    "InputRecipe",
    "LossRecipe",
    "PartRecipe",
    "Recipe",
    "SignCLRecipe",
    "TextRecipe",
    "TrainRecipe",
]

SENTENCE_SCORES = ("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "exact_match")
ANSWER_SCORES = {
    "sentences": SENTENCE_SCORES,
    "glosses": ("wer",),
    "classes": ("top1", "top5", "top1_per_gloss"),
    "nothing": (),
}
"""Scores of the dev split by kind of answer."""


@dataclass
class PartRecipe:
    """A separate optimizer for a part of the model. Its learning rate follows the schedule of the run."""

    modules: list[str] = field(default_factory=list)
    """Modules of the part, e.g. [decoder, words, lm_head]; empty: the module with the name of the part."""
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: float = bounded(1e-3, above=0, high=1000)
    betas: tuple[float, float] = bounded((0.9, 0.98), low=0, below=1)
    eps: float = bounded(1e-8, above=0, high=1)
    momentum: float = bounded(0.9, above=0, below=1)
    """Nesterov momentum of sgd."""
    weight_decay: float = bounded(0.01, low=0, high=1000)
    every: int = bounded(1, low=1, high=1_000_000)
    """Interval of the part's updates in optimizer steps, from the first step of an epoch on. An update uses only the
    gradient of its step."""


@dataclass
class TrainRecipe:
    """The training loop."""

    epochs: int = bounded(20, low=1, high=1_000_000)
    max_steps: int | None = bounded(None, low=1, high=10**12)
    """Stop after this many optimizer steps, even before `epochs` are complete."""
    batch_size: int = bounded(16, low=1, high=1_000_000)
    """Maximum clips per batch."""
    batch_frames: int | None = bounded(None, low=1, high=10**9)
    """Maximum frames per batch (length-bucketed); None: no limit."""
    bucket: bool = True
    """Batch clips of similar length together."""
    language_temperature: float | None = bounded(None, low=1, high=1e6)
    """Temperature T for sampling languages of a multilingual corpus. An epoch has as many clips as the corpus, sampled
    in proportion to n ** (1 / T) for a language with n clips: 1 keeps the proportions, a large T makes languages
    equally frequent. Clips of a small language then occur several times per epoch, clips of a large one perhaps never.
    None: every clip once."""
    accumulate: int = bounded(1, low=1, high=1_000_000)
    """Batches per optimizer step."""
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: float = bounded(1e-3, above=0, high=1000)
    lr_scale: dict[str, float] = bounded({}, above=0, high=1e6)
    """Module -> factor on its learning rate, e.g. {mbart: 0.01}; for nested names the longest applies."""
    betas: tuple[float, float] = bounded((0.9, 0.98), low=0, below=1)
    eps: float = bounded(1e-8, above=0, high=1)
    """Epsilon of adam and adamw."""
    momentum: float = bounded(0.9, low=0, below=1)
    """Nesterov momentum of sgd."""
    weight_decay: float = bounded(0.01, low=0, high=1000)
    schedule: Literal["cosine", "onecycle", "plateau", "steps", "constant", "noam", "exponential", "restarts"] = (
        "cosine"
    )
    """Learning rate after the warm-up, from `lr` on. noam: falls with 1 / sqrt(step); exponential: falls smoothly, by
    `decay_factor` per `decay_steps`; restarts: a cosine that restarts after `restart_steps`."""
    warmup_steps: int = bounded(0, low=0, high=10**12)
    """Steps in which the learning rate rises to `lr`. `noam` needs at least 1; neccam/slt's noam is lr = factor /
    sqrt(hidden size x warm-up)."""
    min_lr: float = bounded(1e-8, low=0, high=1)
    """Final learning rate of `cosine`, `onecycle` and `restarts`, and lower limit of `exponential`."""
    decay_factor: float = bounded(0.99, above=0, high=1)
    """For `exponential`: factor on the learning rate per `decay_steps`."""
    decay_steps: int = bounded(1000, low=1, high=10**12)
    """For `exponential`: optimizer steps per decay; use the steps of an epoch for a decay per epoch."""
    restart_steps: int = bounded(1000, low=1, high=10**12)
    """For `restarts`: optimizer steps of the first cosine. neccam/slt: t_init."""
    restart_growth: int = bounded(2, low=1, high=1000)
    """For `restarts`: each cosine is this many times as long as the previous one. neccam/slt: t_mult."""
    plateau_patience: int = bounded(5, low=0, high=1_000_000)
    """For `plateau`: scorings without improvement before the learning rate is reduced."""
    plateau_factor: float = bounded(0.7, above=0, high=1)
    """For `plateau`: factor on the learning rate."""
    step_shares: tuple[float, float] = bounded((0.5, 0.875), low=0, high=1)
    """For `steps`: shares of the run after which the learning rate falls (VAC: epochs 20 and 35 of 40)."""
    step_factor: float = bounded(0.2, low=0, high=1)
    """For `steps`: factor on the learning rate each time."""
    clip_norm: float | None = bounded(1.0, above=0, high=1e9)
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"
    matmul_precision: Literal["highest", "high", "medium"] = "highest"
    """Precision of float32 matrix products on a GPU (`torch.set_float32_matmul_precision`). highest is full float32, as
    in the published code and on a CPU; high is TF32 and medium bfloat16, several times faster with 32-true. With
    bf16-mixed and 16-mixed few products are in float32, so it hardly matters."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: int = bounded(1, low=1, high=10_000)
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    """Strategy for several devices. ddp: each holds the full model. fsdp: each holds a share of weights, gradients and
    optimizer state, and the full weights of only the current layer. auto: ddp if there are several devices."""
    nodes: int = bounded(1, low=1, high=10_000)
    seed: int = bounded(0, low=0, high=2**32 - 1)
    workers: int = bounded(0, low=0, high=1024)
    """Loader processes; 0 loads in the training process, which is fastest with the memory cache."""
    evaluate_every: int = bounded(1, low=1, high=1_000_000)
    """Epochs between scorings of the dev split."""
    select: str = ""
    """Score that selects the best epoch; -NAME means lower is better. Empty: the system's default: bleu4 for sentences,
    -wer for glosses, top1 for a classifier. In pretraining it is the main term, without SignCL: -clip for vlp
    (-token_clip or -masked_text if only those have a weight), -pseudo_gloss for pgp."""
    patience: int | None = bounded(None, low=1, high=1_000_000)
    """Stop after this many scorings without improvement of `select`; None: no early stopping."""
    save_every: int = bounded(200, low=1, high=10**9)
    """Optimizer steps between resumable states. States are also saved at the end of epochs, if training since the last
    one took at least ten times as long as writing it."""
    compile: bool = False
    """Compile the repeated layers with torch.compile, once per kind. Worthwhile for long runs; needs a C++ compiler
    (CPU) or Triton (GPU)."""
    compile_mode: Literal["default", "reduce-overhead", "max-autotune"] = "default"
    """reduce-overhead replays CUDA graphs, one per set of shapes, so set `pad_to` too. Only on a GPU."""
    pad_to: int = bounded(1, low=1, high=1_000_000)
    """Pad clips to a multiple of this many frames, and sentences to a multiple of a quarter as many tokens, so that
    shapes repeat. Padding does not change results, except with form=as_released and frame_margin_rule=released, which
    read padded lengths."""
    recompute: bool = False
    """Recompute the repeated layers in the backward pass (activation checkpointing): about a third more time, far less
    memory. For frame encoders with batch norm use `model.chunk`."""
    frozen_precision: Literal["32", "bf16"] = "32"
    """bf16: store frozen matrices in bfloat16, which halves their memory; needs precision bf16-mixed. A LoRA model of 8
    B parameters then has 16 GB of weights."""
    parts: dict[str, PartRecipe] = field(default_factory=dict)
    """Name of a part -> its own optimizer, e.g. {text: {modules: [decoder, words, lm_head], lr: 0.001, every: 5}}. The
    keys above apply to the other weights; lr_scale also applies within parts."""


@dataclass
class Recipe:
    """All settings of one run."""

    stage: Literal["recognise", "pretrain", "finetune"] = "finetune"
    out: str = "runs/unnamed"
    """The run folder."""
    plugins: list[str] = field(default_factory=list)
    """Files (my_system.py) or modules (package.module) that register systems, corpora or terms. They are code:
    `signcl fit` imports them, other commands only if you name them with --plugins."""
    logger: list[Literal["tensorboard", "wandb", "mlflow"]] = field(default_factory=lambda: ["tensorboard"])
    """Loggers of losses and scores besides metrics.jsonl, e.g. [tensorboard, wandb]; []: none. See docs/loggers.md."""
    corpus: CorpusRecipe = field(default_factory=CorpusRecipe)
    input: InputRecipe = field(default_factory=InputRecipe)
    text: TextRecipe = field(default_factory=TextRecipe)
    model: SystemConfig = field(default_factory=lambda: system_class("gfslt").Config())
    loss: LossRecipe = field(default_factory=LossRecipe)
    train: TrainRecipe = field(default_factory=TrainRecipe)
    decode: Decode = field(default_factory=Decode)
    bleu_tokenize: Literal["auto", "none", "13a", "intl", "zh", "char"] = "auto"
    """Tokenization for BLEU. auto depends on the references: none if punctuation is separated by spaces, 13a if it
    touches words, zh for Chinese, char for other scripts without spaces. The score's signature contains it."""

    def __post_init__(self) -> None:
        self._check_scales()
        check_bounds(self)
        self._check_input()
        system = self.system
        self._check_stage(system)
        if not self.loss.weights:
            self.loss.weights = dict.fromkeys(system.default_terms(self.model), 1.0)
        self._check_terms(system)
        self._check_train()
        if not self.out.strip():
            raise ValueError("out: needs a run folder such as runs/mine, got nothing")
        if self.corpus.transductive and self.stage != "recognise":
            raise ValueError(
                f"corpus.transductive: training on the test split is for aligners (stage recognise), not {self.stage}"
            )
        system.check(self)

    @property
    def system(self) -> type[System]:
        """The class of its system."""
        return system_class(self.model.name)

    @property
    def terms(self) -> dict[str, Term]:
        """The loss terms that have a weight."""
        return terms_of(self.system, self.loss.weights)

    @property
    def needs_glosses(self) -> bool:
        """Whether a term needs the gloss vocabulary of the training split."""
        return any("glosses" in term.needs for term in self.terms.values())

    @property
    def select(self) -> str:
        """The score that selects the best epoch: the recipe's, or the system's default."""
        return self.train.select or self.system.select_by(self.loss.weights)

    @property
    def reading(self) -> Reading:
        """The settings that the loader needs."""
        masked = any("masked_tokens" in term.needs for term in self.terms.values())
        masking = Masking(self.loss.mask_rate, self.loss.mask_kind, self.loss.mask_shuffle) if masked else None
        return Reading(self.input, self.text.max_tokens, self.train.seed, masking)

    @property
    def dev_scores(self) -> list[str]:
        """Names of the dev scores computed in training, including `loss` and the terms."""
        measured = [name for term in self.terms.values() if term.measure for name in term.measure.scores]
        glosses = ["gloss_wer"] if self.system.gloss_term in self.loss.weights else []
        return [*ANSWER_SCORES[self.system.answers], *glosses, *measured, "loss", *self.loss.weights]

    def _check_scales(self) -> None:
        """Raise ValueError for a factor of 0 and suggest model.freeze, which is probably meant."""
        scales = self.train.lr_scale
        for part, factor in scales.items() if isinstance(scales, dict) else ():
            if isinstance(factor, int | float) and factor <= 0:
                raise ValueError(
                    f"train.lr_scale.{part}: needs a factor above 0, got {shown(factor)}; model.freeze=[{part}] "
                    f"stops it"
                )

    def _check_input(self) -> None:
        several = self.corpus.features
        if isinstance(several, list) and not (several and all(several)):
            raise ValueError(f"corpus.features: needs a path or a list of paths, got {several}")
        if isinstance(several, str) and several.startswith("["):  # in a list, YAML reads {split} as a mapping
            raise ValueError(f'corpus.features: in a list each path needs quotes, ["a/{{split}}", "b"], got {several}')
        size, crop = self.input.size, self.input.crop
        if size is not None and crop is not None and crop > size:
            raise ValueError(
                f"input.crop={crop}: needs a square within input.size={size}; make crop smaller or size larger"
            )
        if self.input.stride_from != "first" and self.input.stride == 1:
            raise ValueError(
                f"input.stride_from={self.input.stride_from}: needs input.stride of at least 2, got 1, where every "
                f"frame is used"
            )

    def _check_stage(self, system: type[System]) -> None:
        if system.stage != self.stage:
            names = [name for name, kind in SYSTEMS.loadable() if kind.stage == self.stage]
            raise ValueError(f"stage {self.stage} trains model.name={' or '.join(names)}, got {self.model.name}")

    def _check_terms(self, system: type[System]) -> None:
        """Raise ValueError for terms that the system cannot compute, or if a required term has no weight."""
        weights = self.loss.weights
        if any(name not in system.terms for name in weights):  # the message lists systems of the stage
            mates = [c for _, c in SYSTEMS.loadable() if c.stage == self.stage and c is not system]
            terms_of(system, weights, mates)
        for term in system.required_terms:
            if term not in weights:
                raise ValueError(f"loss.weights: {self.model.name} in stage {self.stage} needs a weight for {term}")
        for term in self.loss.schedule:
            if term not in weights:
                raise ValueError(
                    f"loss.schedule.{term}: loss.weights has {', '.join(weights)}; give the term a weight or leave "
                    f"its epochs out"
                )
        if self.loss.mask_shuffle and not any("masked_tokens" in term.needs for term in self.terms.values()):
            raise ValueError(
                f"loss.mask_shuffle={self.loss.mask_shuffle}: needs a term that reads masked sentences, such as "
                f"masked_text of vlp; loss.weights has {', '.join(weights)}"
            )
        for name in self.loss.sections:
            if name not in weights:
                raise ValueError(f"loss.{name}: these settings need a weight for it: loss.weights.{name}")
        for name, weighed in self.terms.items():
            self._complete_settings(name, weighed)
            for score in weighed.measure.scores if weighed.measure else ():
                if score in weights or score == "loss":
                    raise ValueError(
                        f"loss.weights: the term {name} has a dev score {score}, which is also the name of a loss; "
                        f"rename one of them"
                    )

    def _complete_settings(self, name: str, term: Term) -> None:
        """Check the settings of a weighted term, and fill in defaults if the recipe has none."""
        sections = self.loss.sections
        if term.settings is not None:
            sections.setdefault(name, term.settings())
        if name not in sections:
            return
        if term.settings is None or not dataclasses.is_dataclass(sections[name]):
            raise ValueError(f"loss.{name}: needs the settings class of the term {name}, got {sections[name]!r}")
        check_bounds(sections[name], f"loss.{name}.")

    def _check_train(self) -> None:
        train = self.train
        if train.select.removeprefix("-") not in ("", *self.dev_scores):
            raise ValueError(
                f"train.select={train.select}: this stage scores {', '.join(sorted(self.dev_scores))}"
                f"{did_you_mean(train.select.removeprefix('-'), self.dev_scores)}"
            )
        falling = ("cosine", "onecycle", "exponential", "restarts")  # other schedules ignore min_lr
        if train.schedule in falling and train.min_lr > train.lr:
            raise ValueError(
                f"train.min_lr={train.min_lr}: {train.schedule} falls to it from train.lr={train.lr}; make min_lr at "
                f"most lr"
            )
        for name, part in train.parts.items():
            if train.schedule in ("cosine", "onecycle") and train.min_lr > part.lr:
                raise ValueError(
                    f"train.parts.{name}.lr={part.lr}: {train.schedule} falls from it to train.min_lr={train.min_lr}; "
                    f"make min_lr at most lr"
                )
        if train.frozen_precision == "bf16" and train.precision != "bf16-mixed":
            raise ValueError(
                f"train.frozen_precision=bf16: needs train.precision=bf16-mixed, got {train.precision}, whose products "
                f"need float32 weights"
            )
        if train.compile_mode != "default" and not train.compile:
            raise ValueError(f"train.compile_mode={train.compile_mode}: needs train.compile=true, got false")
        if train.strategy == "fsdp" and train.precision == "16-mixed":
            raise ValueError("train.strategy=fsdp: needs train.precision=bf16-mixed or 32-true, got 16-mixed")
        if train.schedule == "noam" and not train.warmup_steps:
            raise ValueError("train.warmup_steps: noam needs at least 1, from which the learning rate falls, got 0")
        if train.step_shares[0] > train.step_shares[1]:
            raise ValueError(f"train.step_shares: needs two shares from 0 to 1 in order, got {list(train.step_shares)}")
        if train.optimizer == "sgd" and not train.momentum > 0:
            raise ValueError(f"train.momentum: sgd with Nesterov momentum needs a number above 0, got {train.momentum}")
