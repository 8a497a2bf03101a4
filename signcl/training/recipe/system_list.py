"""Which systems there are, which stages train each and with which terms; and the recipe section of each system."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

__all__ = [
    "GLOSS_TERMS",
    "SELECT",
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

GLOSS_TERMS = ("recognition", "classification")
"""Terms that need the gloss vocabulary of the training split."""
SELECT = {"recognise": "-wer", "pretrain": "-loss", "finetune": "bleu4"}
"""Score that chooses the kept weights, where neither the recipe nor its system names one."""


@dataclass(frozen=True)
class System:
    """What the recipe and the reader of a list must know of a system before it is built."""

    title: str
    """The published name and what it is, in a line."""
    stage: str
    """recognise | pretrain | finetune: the stage that trains it."""
    terms: tuple[str, ...]
    """Loss terms it can compute, `signcl` among them; see `signcl.systems.terms`."""
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
    select: str = ""
    """Score that chooses the kept weights, where it is not its stage's."""


SYSTEMS = {
    "classifier": System(
        "one sign a clip to its gloss: how I3D was trained on isolated signs (WLASL), for any frame encoder",
        "recognise",
        ("classification",),
        ("classification",),
        needed=("classification",),
        needs="frames (or features) of single signs, or spans to cut them out by, and glosses",
        select="top1",
    ),
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
    "pgp": System(
        "PGP: pseudo-gloss pretraining of Sign2GPT, the sentence's words found in the clip (ICLR 2024)",
        "pretrain",
        ("pseudo_gloss", "signcl"),
        ("pseudo_gloss",),
        needed=("pseudo_gloss",),
        needs="frames (or features) and sentences; a spaCy model and word vectors for the published form",
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
    "sign2gpt": System(
        "Sign2GPT: frames to a sentence through a frozen language model (ICLR 2024); starts from pgp",
        "finetune",
        ("translation", "signcl"),
        ("translation",),
        needs="frames (or features) and sentences; starts from a pgp run and a causal language model",
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
"""Every system by its name in `model.name`; `signcl.systems.MODELS` has the classes."""


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

    window: int = 8
    """Frames of a window. Published: 8 (GASLT); 8, 12 and 16 (TSPNet); 64 for training on isolated signs (WLASL)."""
    stride: int = 2
    """Frames from one window to the next."""
    width_factor: float = 1.0
    """All channels times this; 1 for published weights, 0.125 trains on a CPU."""
    channels: Literal["rgb", "bgr"] = "rgb"
    """Order of the pixels' channels; bgr for checkpoints of the WLASL code, whose loader keeps OpenCV's order."""
    norm_momentum: float = 0.01
    """Of the batch norms; 0.1 for short runs, whose running statistics would lag behind the weights."""


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

    vit: Literal["tiny", "small", "base", "large"] = "tiny"
    """visual=dinov2 without a folder or hub id of weights: its size; small is the published ViT-S/14."""
    lora_rank: int = 4
    """visual=dinov2: 0 leaves it frozen."""
    lora_alpha: float = 4.0
    lora_dropout: float = 0.1
    lora_blocks: int = 3
    """visual=dinov2: the last blocks that are adapted."""
    blocks: tuple[int, int] = (2, 2)
    """Blocks of the sign encoder before and after its steps are merged by two."""
    window: int = 7
    """Frames that a frame attends to, itself in the middle."""
    layer_scale: float = 1e-5
    drop_path: float = 0.1
    """Share of clips for which the last block is left out in training; rises from 0 in the first."""
    prototype_dim: int = 300
    """pgp: size of a pseudo-gloss's vector."""
    vectors: str = ""
    """pgp: pretrained:FILE of word vectors as text (fastText .vec); empty: random ones, orthogonal where that goes."""
    learn_prototypes: bool = False
    """pgp: train these vectors too."""
    temperature: float = 0.1
    """pgp: what cosines are divided by, at first; learned."""
    lemmatiser: str = "words"
    """pgp: words | rules:de | rules:en | characters | bigrams | spacy:MODEL (content words' lemmas, as published)."""
    max_share: float = 0.4
    """pgp: pseudo-glosses of more than this share of the sentences are dropped."""
    min_count: int = 1
    """pgp: pseudo-glosses of fewer sentences are dropped."""
    stop_length: int = 3
    """pgp: words of at most so many letters in more than `stop_share` of the sentences are dropped; not with spacy."""
    stop_share: float = 0.05
    vocabulary: Literal["train", "as_released"] = "train"
    """pgp: sentences that the pseudo-glosses come from; as_released reads train, dev and test."""

    def __post_init__(self) -> None:
        _at_least("model.pgp", self, 0, "lora_rank", "lora_blocks", "layer_scale", "stop_length", "stop_share")
        _at_least("model.pgp", self, 1, "prototype_dim", "min_count", "window")
        if min(self.blocks) < 0:
            raise ValueError(f"model.pgp.blocks: needs two numbers of at least 0, got {list(self.blocks)}")
        if self.window % 2 == 0:
            raise ValueError(f"model.pgp.window: needs an odd number of frames, got {self.window}")
        if not self.temperature > 0 or not self.lora_alpha > 0:
            raise ValueError("model.pgp.temperature and model.pgp.lora_alpha: need numbers above 0")
        if not (0 <= self.drop_path < 1 and 0 <= self.lora_dropout < 1 and 0 < self.max_share <= 1):
            raise ValueError("model.pgp: drop_path and lora_dropout need 0 to below 1, max_share above 0 to 1")
        if self.vectors and not self.vectors.startswith("pretrained:"):
            raise ValueError(f"model.pgp.vectors: needs pretrained:FILE, got {self.vectors!r}")
        if self.lemmatiser not in LEMMATISERS and not self.lemmatiser.startswith("spacy:"):
            raise ValueError(
                f"model.pgp.lemmatiser: needs {', '.join(LEMMATISERS)} or spacy:MODEL, got {self.lemmatiser!r}"
            )


@dataclass
class LMRecipe:
    """sign2gpt: the causal language model that writes the sentence, and its adapters."""

    name: str = ""
    """pretrained:FOLDER_OR_HUB_ID of any causal language model of transformers; empty: one that starts at random."""
    architecture: Literal["gpt2", "xglm"] = "gpt2"
    """Of one that starts at random, with these sizes, `model.dropout` and `model.max_positions`:"""
    layers: int = 2
    width: int = 128
    heads: int = 4
    ffn: int = 256
    train: Literal["adapters", "all"] = "adapters"
    """all: the language model is trained too, for one that starts at random."""
    lora_rank: int = 4
    """In query, key, value and output of every layer's attention; 0 leaves LoRA out."""
    lora_alpha: float = 4.0
    lora_dropout: float = 0.1
    adapter_width: int = 256
    """Of the gated attention by which each layer looks at the steps."""
    adapter_heads: int = 8
    gate: float = 0.0
    """What the adapters' gates start at. 0, as published, lets nothing of the clip in before the first step."""

    def __post_init__(self) -> None:
        _at_least("model.lm", self, 1, "layers", "width", "heads", "ffn", "adapter_width", "adapter_heads")
        _at_least("model.lm", self, 0, "lora_rank")
        if self.name and not self.name.startswith("pretrained:"):
            raise ValueError(f"model.lm.name: needs pretrained:FOLDER_OR_HUB_ID, got {self.name!r}")
        if self.width % self.heads or self.adapter_width % self.adapter_heads:
            raise ValueError("model.lm: heads must divide width, and adapter_heads adapter_width")
        if not self.lora_alpha > 0 or not 0 <= self.lora_dropout < 1:
            raise ValueError("model.lm: lora_alpha needs a number above 0, lora_dropout one from 0 to below 1")


LEMMATISERS = ("words", "rules:de", "rules:en", "characters", "bigrams")


def _at_least(section: str, recipe: Any, low: float, *names: str) -> None:
    for name in names:
        if not getattr(recipe, name) >= low:
            raise ValueError(f"{section}.{name}: needs a number of at least {low}, got {getattr(recipe, name)}")
