"""Every key of a recipe, its default and what it means; the checks that need two keys stand at the end."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from signcl.training.recipe.model import ModelRecipe, check_starts
from signcl.training.recipe.recognition import check_recogniser, check_schedule
from signcl.training.recipe.system_list import SELECT, SYSTEMS, I3DRecipe, terms_of


@dataclass
class CorpusRecipe:
    """Which corpus, and how much of it."""

    name: str = "folder"
    """A key of `signcl.data.corpora.CORPORA`: folder, synthetic, imu_numbers, phoenix14t, csl_daily, how2sign,
    dgs_sentences."""
    root: str = "data"
    """The corpus folder, relative to where you stand."""
    options: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of that corpus's `samples` function, e.g. {text: digits}."""
    fraction: float = 1.0
    """Share of the training clips to use, nested: the 10 % lie within the 25 %. (0, 1]"""
    features: str = ""
    """Features extracted before, in place of clips: a store, pickle, folder of NAME.npy or .pose; {split} is filled."""
    isolated: bool = False
    """Every span of the corpus becomes a clip of its own, of one sign, for training on isolated signs."""
    transductive: bool = False
    """recognise: train on the test split too, as the paper's aligner did (section A.3). Good for spans to analyse; the
    word error rate on test is then no test score, and says so."""
    on_broken: Literal["skip", "stop"] = "skip"
    """A clip that cannot be read is skipped, counted and named at the end, or stops the run."""


@dataclass
class AugmentRecipe:
    """Training augmentation, the same for all frames of a clip; each kind is applied with its `probability`."""

    probability: float = 0.0
    """0 switches augmentation off. Released GFSLT: 0.5."""
    rotate: float = 30.0
    """Degrees to either side."""
    scale: float = 0.2
    """Relative size to either side."""
    translate: float = 0.05
    """Share of the frame's side, to either side. Released GFSLT: 10 pixels of about 224."""
    brightness: float = 0.0
    contrast: float = 0.0
    flip: bool = False
    """Mirrors the clip. Off by default: mirroring swaps the dominant hand."""
    temporal_rescale: float = 0.0
    """Every training clip (features too, whatever `probability` says) is made up to this share longer or shorter, by
    frames drawn anew in every epoch; VAC: 0.2. `train.batch_frames` counts frames before it."""


@dataclass
class InputRecipe:
    """What the frame encoder is given."""

    size: int | None = None
    """Side of the square that frames are resized to, pixels; None keeps the file's size."""
    crop: int | None = None
    """Side of the square cut out of it: at random in training, from the centre otherwise."""
    max_frames: int | None = 300
    """Longer clips are thinned to this many frames; see `thinning`."""
    thinning: Literal["spread", "window"] = "spread"
    """spread keeps frames over the whole clip: at random in training, evenly otherwise. window keeps frames in a row:
    from a random place in training, the middle otherwise."""
    stride: int = 1
    """Use every n-th frame."""
    augment: AugmentRecipe = field(default_factory=AugmentRecipe)
    pose_dims: int = 2
    """Of .pose files: x and y, or 3 for the estimated depth too."""
    pose_confidence: bool = False
    """Of .pose files: keep each point's confidence as one more number; points not found are zero either way."""
    cache_gb: float = 4.0
    """Decoded training clips are kept in memory up to this size; 0 decodes every epoch anew."""


@dataclass
class TextRecipe:
    """How sentences become token ids."""

    tokenizer: str = "word"
    """word | character | sentencepiece (trained on the training sentences) | pretrained:FOLDER or hub id (mBART,
    or any tokenizer that transformers reads)."""
    vocab_size: int = 2000
    """Pieces, for `sentencepiece`."""
    lowercase: bool = False
    language: str = "de_DE"
    """Language code of a pretrained mBART tokenizer."""
    min_count: int = 1
    """Words seen less often in training become <unk>, for `word` and `character`."""
    max_tokens: int = 150
    """Longer sentences are cut in training (counted and said)."""


@dataclass
class SignCLRecipe:
    """The frame contrast, paper Eq. 4-5 and sheet of switches in docs/paper-vs-code.md."""

    variant: Literal["paper", "released"] = "paper"
    distance_margin: float | None = None
    """m in feature units; None takes the variant's own: 64 (paper), 32 (released). A factor if relative; None: 1."""
    distance_margin_mode: Literal["absolute", "relative"] = "absolute"
    """relative (ours): m is distance_margin times the mean distance of the clip's own negatives, for any encoder."""
    same_sign: float | None = None
    """Ours: a negative nearer than this share of the mean distance of its clip's negatives looks like the same sign, is
    pushed less than half. 0.75 is a start; None pushes all alike."""
    negatives: int | None = None
    """Negatives per anchor; None uses every legal one. The paper draws 1, the released code 4."""
    words_per_gloss: float = 2.3
    """Spoken words per gloss, paper section 4.1."""
    frame_margin_floor: float = 10.0
    """Smallest frame margin, frames."""
    frame_margin_rule: Literal["per_clip", "released"] = "per_clip"
    """released: one margin per batch from padded lengths and token counts, doubled and clamped as the code does."""
    start_epoch: int = 0
    """Epochs before the term is switched on (released finetuning: 70)."""
    decay: float = 1.0
    """The weight is multiplied by this when the dev score stalls (released PHOENIX finetuning: 0.5)."""
    decay_patience: int = 10
    """Epochs without an improvement of `decay_delta` before a decay."""
    decay_delta: float = 2.0
    """Improvement of the dev score that counts, for the decay."""


@dataclass
class LossRecipe:
    """The weighted terms of Eq. 6."""

    weights: dict[str, float] = field(default_factory=dict)
    """Term -> weight. pretrain: clip, token_clip, masked_text (vlp), pseudo_gloss (pgp), signcl; finetune: translation,
    signcl, and recognition (slt), sentence_similarity (gaslt); recognise: recognition, signcl, and auxiliary,
    distillation (smkd), or classification (classifier). Leave a term out: off."""
    schedule: dict[str, tuple[int, int | None]] = field(default_factory=dict)
    """Term -> [first epoch, first epoch without it or null], counted from 0: outside them its weight is 0. A term that
    is not named counts in every epoch; the `loss` of dev counts all terms in full."""
    distillation_temperature: float = 8.0
    """smkd: divides the logits of both heads before they are compared."""
    signcl: SignCLRecipe = field(default_factory=SignCLRecipe)
    label_smoothing: float = 0.2
    clip_target: Literal["one_hot", "released"] = "one_hot"
    """released: KL divergence to softmax(10 I) as the released code has it."""
    token_temperature: float = 0.07
    """token_clip: temperature of the softmax over a sentence's words, and over a clip's steps. CiCo: 0.07."""
    mask_rate: float = 0.15
    """Share of words masked, at most, in the masked-text term."""
    mask_kind: Literal["random", "omit_last"] = "random"
    """omit_last masks the last words, as released."""
    ctc_too_long: Literal["skip", "stop"] = "skip"
    """A clip with fewer steps than its glosses need is named and left out of `recognition`, or stops the run."""
    mask_duplicates: bool = True
    """Equal sentences in a batch are no negatives of each other."""


@dataclass
class TrainRecipe:
    """The loop."""

    epochs: int = 20
    max_steps: int | None = None
    """Stop after this many optimizer steps, whatever `epochs` says."""
    batch_size: int = 16
    """Clips of a batch, at most."""
    batch_frames: int | None = None
    """Frames of a batch, at most (length-bucketed); None: no limit."""
    bucket: bool = True
    """Put clips of like length together."""
    accumulate: int = 1
    """Batches per optimizer step."""
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: float = 1e-3
    lr_scale: dict[str, float] = field(default_factory=dict)
    """Module -> factor on the learning rate of its weights, e.g. {mbart: 0.01}; of nested names the longest holds."""
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-8
    """For adam and adamw."""
    momentum: float = 0.9
    """For sgd, Nesterov."""
    weight_decay: float = 0.01
    schedule: Literal["cosine", "onecycle", "plateau", "steps", "constant"] = "cosine"
    warmup_steps: int = 0
    min_lr: float = 1e-8
    plateau_patience: int = 5
    plateau_factor: float = 0.7
    step_shares: tuple[float, float] = (0.5, 0.875)
    """For `steps`: the learning rate falls after these shares of the run (VAC: epochs 20 and 35 of 40)."""
    step_factor: float = 0.2
    """For `steps`: what it is multiplied by each time."""
    clip_norm: float | None = 1.0
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"
    device: str = "auto"
    """auto | cpu | cuda | mps."""
    devices: int = 1
    strategy: str = "auto"
    """auto | ddp."""
    nodes: int = 1
    seed: int = 0
    workers: int = 0
    """Loader processes; 0 loads in the training process (fastest with the memory cache)."""
    evaluate_every: int = 1
    """Epochs between scorings of the dev split."""
    select: str = ""
    """Score that chooses the kept weights; empty: -loss in pretraining, bleu4 in finetuning, -wer in recognition, top1
    of a classifier. '-': lower wins."""
    patience: int | None = None
    """Stop after this many scorings without a better `select`; None never stops early."""
    save_every: int = 200
    """Optimizer steps between resumable states, beside one at every epoch's end."""
    compile: bool = False
    """Through torch.compile: pays off on long runs; needs a C++ compiler (CPU) or Triton (GPU)."""


@dataclass
class DecodeRecipe:
    """Beam search: transformers' `generate` (gfslt) or `signcl.systems.parts.search` (slt, gaslt, recogniser)."""

    beams: int = 4
    length_penalty: float = 1.0
    """alpha: log p is divided by length ** alpha (gfslt) or ((5 + length) / 6) ** alpha (slt, gaslt;
    negative: off)."""
    max_new_tokens: int = 60
    dev_beams: int = 1
    """Beams while training."""
    gloss_beams: int = 10
    """Prefixes of the CTC search; 1 takes the best class of each step."""


@dataclass
class Recipe:
    """One run, complete."""

    stage: Literal["recognise", "pretrain", "finetune"] = "finetune"
    out: str = "runs/unnamed"
    """The run folder."""
    corpus: CorpusRecipe = field(default_factory=CorpusRecipe)
    input: InputRecipe = field(default_factory=InputRecipe)
    text: TextRecipe = field(default_factory=TextRecipe)
    model: ModelRecipe = field(default_factory=ModelRecipe)
    loss: LossRecipe = field(default_factory=LossRecipe)
    train: TrainRecipe = field(default_factory=TrainRecipe)
    decode: DecodeRecipe = field(default_factory=DecodeRecipe)
    bleu_tokenize: Literal["none", "13a", "zh", "char"] = "none"

    def __post_init__(self) -> None:
        self._check_system()
        check_starts(self.model, self.loss.weights, self.train.lr_scale)
        if not self.out.strip():
            raise ValueError("out: needs a run folder such as runs/mine, got nothing")
        if self.corpus.transductive and self.stage != "recognise":
            raise ValueError(
                f"corpus.transductive: training on the test split is for aligners (stage recognise), not {self.stage}"
            )
        train, model, loss = self.train, self.model, self.loss
        _positive("train", train, "epochs", "batch_size", "accumulate", "lr", "eps", "evaluate_every", "save_every")
        _positive("train", train, "max_steps", "batch_frames", "patience", "clip_norm", "devices", "nodes")
        _positive("model", model, "width", "conv_width", "heads", "visual_dim", "chunk", "max_positions", "ffn")
        _positive("model", model, "decoder_heads", "text_heads", "text_ffn")
        _within("model", model, 0, math.inf, "encoder_layers", "decoder_layers", "text_layers")
        _positive("model.i3d", model.i3d, "window", "stride", "width_factor", "norm_momentum")
        _positive("input", self.input, "stride", "size", "crop", "max_frames")
        _positive("decode", self.decode, "beams", "max_new_tokens", "dev_beams", "gloss_beams")
        _positive("loss.signcl", loss.signcl, "negatives", "words_per_gloss", "same_sign", "distance_margin")
        if loss.signcl.variant == "released" and (
            loss.signcl.same_sign is not None or loss.signcl.distance_margin_mode == "relative"
        ):
            raise ValueError(
                "loss.signcl: same_sign and distance_margin_mode=relative need variant paper, got variant released, "
                "which stays as released"
            )
        _within("train", train, 0, 2**32 - 1, "seed")
        _within("train", train, 0, math.inf, "workers", "warmup_steps", "weight_decay", "min_lr", "plateau_factor")
        _within("train", train, 0, 1, "step_factor")
        _within("model", model, 0, 1, "dropout", "attention_dropout", "text_dropout", "text_attention_dropout")
        _within("loss", loss, 0, 1, "label_smoothing", "mask_rate")
        _within("input.augment", self.input.augment, 0, 1, "probability")
        _within("input", self.input, 2, 3, "pose_dims")
        if not 0 <= (rescale := self.input.augment.temporal_rescale) < 1:
            raise ValueError(f"input.augment.temporal_rescale: needs a share from 0 to below 1, got {rescale}")
        _positive("loss", loss, "token_temperature", "distillation_temperature")
        check_schedule(loss.schedule, loss.weights)
        _within("text", self.text, 3, math.inf, "max_tokens")
        _positive("text", self.text, "vocab_size", "min_count")
        for name, weight in loss.weights.items():
            if not 0 <= weight < math.inf:
                raise ValueError(f"loss.weights.{name}: needs a number of at least 0, got {weight}")
        if not 0 <= train.step_shares[0] <= train.step_shares[1] <= 1:
            raise ValueError(f"train.step_shares: needs two shares from 0 to 1 in order, got {list(train.step_shares)}")
        if not all(0 <= beta < 1 for beta in train.betas):
            raise ValueError(f"train.betas: needs two numbers from 0 to below 1, got {list(train.betas)}")
        if train.optimizer == "sgd" and not train.momentum > 0:
            raise ValueError(f"train.momentum: sgd with Nesterov momentum needs a number above 0, got {train.momentum}")
        scores = {
            "pretrain": ["retrieval", "pseudo_gloss_map", "pseudo_gloss_f1"],
            "finetune": [f"bleu{n}" for n in (1, 2, 3, 4)] + ["rouge_l", "exact_match"],
            "recognise": ["wer"] if model.name != "classifier" else ["top1", "top5", "top1_per_gloss"],
        }
        if "token_clip" in loss.weights:
            scores["pretrain"].append("token_retrieval")
        if self.stage == "finetune" and "recognition" in loss.weights:
            scores["finetune"].append("gloss_wer")
        known = [*scores[self.stage], "loss", *loss.weights]
        if train.select.removeprefix("-") not in ("", *known):
            raise ValueError(
                f"train.select={train.select}: this stage scores {', '.join(sorted(known))}"
                f"{nearest(train.select.removeprefix('-'), known)}"
            )
        if self.train.device not in ("auto", "cpu", "cuda", "mps"):
            raise ValueError(f"train.device: needs auto, cpu, cuda or mps, got {self.train.device!r}")
        if not 0 < self.corpus.fraction <= 1:
            raise ValueError(f"corpus.fraction: needs a share above 0 and at most 1, got {self.corpus.fraction}")
        if model.i3d != I3DRecipe() and model.visual != "i3d":
            raise ValueError(f"model.i3d: these values belong to model.visual=i3d, and model.visual is {model.visual}")
        if self.model.width % self.model.heads:
            raise ValueError(f"model.heads: {self.model.heads} does not divide model.width {self.model.width}")
        check_recogniser(model)

    @property
    def select(self) -> str:
        """The score that chooses the kept weights: the recipe's, or its system's, or its stage's."""
        return self.train.select or SYSTEMS[self.model.name].select or SELECT[self.stage]

    def _check_system(self) -> None:
        """Refuse a system of another stage, terms that it cannot compute, and values that it has no use for."""
        m = self.model
        names = [name for name, s in SYSTEMS.items() if s.stage == self.stage]
        if m.name not in SYSTEMS:
            raise ValueError(f"model.name: needs one of {', '.join(SYSTEMS)}, got {m.name!r}{nearest(m.name, SYSTEMS)}")
        system = SYSTEMS[m.name]
        if system.stage != self.stage:
            raise ValueError(f"stage {self.stage} trains model.name={' or '.join(names)}, got {m.name}")
        if not self.loss.weights:
            self.loss.weights = dict.fromkeys(system.default, 1.0)
            if m.name == "vlp" and not m.masked_text:
                self.loss.weights.pop("masked_text")
        unknown = [term for term in self.loss.weights if term not in terms_of(self.stage)]
        if unknown:
            terms = terms_of(self.stage)
            raise ValueError(
                f"loss.weights: stage {self.stage} computes {', '.join(terms)}, got {', '.join(unknown)}"
                f"{nearest(unknown[0], terms)}"
            )
        foreign = [term for term in self.loss.weights if term not in system.terms]
        if foreign:
            able = [name for name in names if foreign[0] in SYSTEMS[name].terms]
            raise ValueError(
                f"loss.weights.{foreign[0]}: {m.name} computes {', '.join(system.terms)}; {' and '.join(able)} "
                f"{'has' if len(able) == 1 else 'have'} {foreign[0]}"
            )
        for term in system.needed:
            if term not in self.loss.weights:
                raise ValueError(f"loss.weights: {m.name} in stage {self.stage} needs a weight for {term}")
        taps = ["embedding", *(f"layer{k + 1}" for k in range(m.encoder_layers))] if system.taps else ["embedding"]
        if m.signcl_tap not in taps:
            having = [name for name, s in SYSTEMS.items() if s.taps]
            raise ValueError(
                f"model.signcl_tap: needs one of {', '.join(taps)}, got {m.signcl_tap!r}"
                if system.taps
                else f"model.signcl_tap={m.signcl_tap}: only {', '.join(having)} have taps to choose from; in {m.name} "
                f"SignCL looks at the frame encoder"
            )
        if system.taps and m.activation not in ("relu", "gelu"):
            raise ValueError(f"model.activation: {m.name} knows relu and gelu, got {m.activation!r}")
        if m.name == "sign2gpt" and m.lm.name and not self.text.tokenizer.startswith("pretrained:"):
            raise ValueError(
                f"text.tokenizer: the language model of model.lm.name knows the ids of its own tokenizer alone; needs "
                f"{m.lm.name}, got {self.text.tokenizer!r}"
            )
        if m.language_model and not system.language_model:
            having = [name for name, s in SYSTEMS.items() if s.language_model]
            raise ValueError(f"model.language_model belongs to {', '.join(having)}, not to {m.name}")
        if m.form != "fixed" and not system.as_released:
            having = [name for name, s in SYSTEMS.items() if s.as_released]
            raise ValueError(f"model.form=as_released belongs to {', '.join(having)}, not to {m.name}")


def _positive(section: str, recipe: Any, *names: str) -> None:
    for name in names:
        value = getattr(recipe, name)
        if value is not None and not value > 0:
            raise ValueError(f"{section}.{name}: needs a number above 0, got {value}")


def _within(section: str, recipe: Any, low: float, high: float, *names: str) -> None:
    for name in names:
        if not low <= (value := getattr(recipe, name)) <= high:
            wanted = f"a number of at least {low}" if high == math.inf else f"a number from {low} to {high}"
            raise ValueError(f"{section}.{name}: needs {wanted}, got {value}")


def nearest(word: str, known: Iterable[str], where: str = "") -> str:
    """The end of an error message: the known word that was probably meant, or nothing."""
    match = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {where}{match[0]}?" if match else ""
