"""Which systems there are, which stages train each and with which terms; and the recipe section of each system."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = [
    "SYSTEMS",
    "CNNCTCRecipe",
    "GASLTRecipe",
    "I3DRecipe",
    "LMRecipe",
    "PGPRecipe",
    "SMKDRecipe",
    "System",
    "terms_of",
]


@dataclass(frozen=True)
class System:
    """What the recipe and the reader of a list must know of a system before it is built."""

    title: str
    """The published name and what it is, in a line."""
    stage: str
    """recognise | pretrain | finetune: the stage that trains it."""
    terms: tuple[str, ...]
    """Loss terms it can compute, `signcl` among them; see `signcl.terms`."""
    default: tuple[str, ...]
    """Terms with weight 1 where a recipe weighs none."""
    needed: tuple[str, ...] = ()
    """Terms without which it does not train."""
    needs: str = ""
    """What it must be given: frames or features, sentences or glosses, published weights, an extra."""
    taps: bool = False
    """model.signcl_tap chooses where SignCL looks."""
    language_model: bool = False
    """model.language_model means something."""
    as_released: bool = False
    """model.form=as_released means something."""


SYSTEMS = {
    "cnn_ctc": System(
        "per-frame CNN with CTC: local gloss features of our own, a stand-in for SRP (Tables 1, 11)",
        "recognise",
        ("recognition", "signcl"),
        ("recognition",),
        needed=("recognition",),
        needs="frames (or features) and glosses",
    ),
    "gaslt": System(
        "GASLT: Sign Language Transformer with local gloss attention, taught how alike sentences are (Table 2)",
        "finetune",
        ("translation", "sentence_similarity", "signcl"),
        ("translation", "sentence_similarity"),
        needed=("translation",),
        taps=True,
        needs="features (or frames) and sentences; optionally word vectors and a pretrained sentence encoder",
        as_released=True,
    ),
    "gfslt": System(
        "GFSLT: frames to a sentence (paper Tables 2, 3, 5)",
        "finetune",
        ("translation", "signcl"),
        ("translation",),
        needs="frames (or features) and sentences; starts from a vlp run or an mBART",
        language_model=True,
        as_released=True,
    ),
    "recogniser": System(
        "the CTC probe that gives a feature its word error rate (Tables 1, 11, 12)",
        "recognise",
        ("recognition", "signcl"),
        ("recognition",),
        needed=("recognition",),
        needs="features (or frames) and glosses",
        taps=True,
    ),
    "slt": System(
        "Sign Language Transformer: NSLT, and Joint-SLT with a weight for recognition (Tables 1, 4, 11, 12)",
        "finetune",
        ("translation", "recognition", "signcl"),
        ("translation",),
        needed=("translation",),
        needs="features (or frames) and sentences; glosses for Joint-SLT",
        taps=True,
    ),
    "smkd": System(
        "SMKD and VAC: ResNet, temporal convolution, BiLSTM, CTC on both (Tables 1, 11, 12)",
        "recognise",
        ("recognition", "auxiliary", "distillation", "signcl"),
        ("recognition", "auxiliary", "distillation"),
        needed=("recognition",),
        needs="frames (or features) and glosses; starts from an ImageNet ResNet or a VAC_CSLR checkpoint",
    ),
    "vlp": System(
        "GFSLT-VLP: clips and sentences brought together before translation (Tables 2, 3, 8)",
        "pretrain",
        ("clip", "token_clip", "masked_text", "signcl"),
        ("clip", "masked_text"),
        needs="frames (or features) and sentences; its text encoder starts from an mBART",
        language_model=True,
        as_released=True,
    ),
}
"""Every system by its name in `model.name`; `signcl.models.MODELS` has the classes."""


def terms_of(stage: str) -> tuple[str, ...]:
    """All loss terms that some system of a stage computes, each once, in order."""
    return tuple(dict.fromkeys(term for s in SYSTEMS.values() if s.stage == stage for term in s.terms))


@dataclass
class SMKDRecipe:
    """smkd: the recogniser of VAC and SMKD. Its LSTM has model.encoder_layers layers of model.width states."""

    share_classifier: bool = True
    """One gloss classifier after the convolution and after the LSTM (SMKD); false: one each (VAC)."""
    weight_norm: bool = True
    """Rows of the classifier have length 1 (SMKD); false: a plain linear layer with bias (VAC)."""
    pixels: Literal["imagenet", "symmetric"] = "imagenet"
    """How a ResNet is given pixels: with the mean and deviation of ImageNet, or as VAC_CSLR, x / 127.5 - 1."""
    weights: str = ""
    """pretrained:FILE of a VAC_CSLR checkpoint: everything but its classifiers is loaded."""


@dataclass
class CNNCTCRecipe:
    """cnn_ctc: a recogniser that sees a few frames at a time."""

    window: int = 5
    """Frames that a local feature sees, odd; 1: its own frame alone."""


@dataclass
class I3DRecipe:
    """visual=i3d: windows of frames through an Inception-I3D."""


@dataclass
class GASLTRecipe:
    """gaslt: local gloss attention and the transfer of sentence similarity."""

    keys: int = 7
    """Places that a frame attends to in each head, around it and moved by offsets that it predicts."""
    edge: Literal["stop", "wrap"] = "stop"
    """A place outside the clip is its first or last frame, or comes in again at the other end (the published formula).
    model.form=as_released has its own rule."""
    embedding_dropout: float | None = None
    """Dropout of frame and word embeddings where it differs from model.dropout. Released: 0.1 beside 0.5."""
    word_dim: int | None = None
    """Size of a word vector, mapped to model.width; None is model.width and no map. Released: 300."""
    word_vectors: str = ""
    """pretrained:FILE of word vectors that start the word table: word2vec text (.txt, .vec, also .gz) or binary (.bin).
    Released: BPEmb, German, 25 000 pieces."""
    sentence_encoder: str = "tfidf"
    """What tells how alike two sentences are: tfidf (of the training sentences), or pretrained:FOLDER_OR_HUB_ID of a
    transformers encoder, plain or as sentence-transformers lays it out. Released: distiluse-base-multilingual-cased."""

    def __post_init__(self) -> None:
        for name, value in (("keys", self.keys), ("word_dim", self.word_dim)):
            if value is not None and value < 1:
                raise ValueError(f"model.gaslt.{name}: needs a number above 0, got {value}")
        if self.embedding_dropout is not None and not 0 <= self.embedding_dropout <= 1:
            raise ValueError(f"model.gaslt.embedding_dropout: needs a number from 0 to 1, got {self.embedding_dropout}")
        if self.sentence_encoder != "tfidf" and not self.sentence_encoder.startswith("pretrained:"):
            raise ValueError(
                f"model.gaslt.sentence_encoder: needs tfidf or pretrained:FOLDER, got {self.sentence_encoder!r}"
            )
        if self.word_vectors and not self.word_vectors.startswith("pretrained:"):
            raise ValueError(f"model.gaslt.word_vectors: needs pretrained:FILE, got {self.word_vectors!r}")


@dataclass
class PGPRecipe:
    """pgp, sign2gpt: the visual encoder of Sign2GPT and its pseudo-glosses."""


@dataclass
class LMRecipe:
    """sign2gpt: the causal language model that writes the sentence, and its adapters."""
