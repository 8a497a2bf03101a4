"""Which systems there are, which stages train each and with which terms; and the recipe section of each system."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = [
    "GLOSS_TERMS",
    "SELECT",
    "SYSTEMS",
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
    """model.language_model and model.form=as_released mean something."""
    select: str = ""
    """Score that chooses the kept weights, where it is not its stage's."""


SYSTEMS = {
    "classifier": System(
        "one sign a clip to its gloss: how I3D was trained on isolated signs (WLASL), for any frame encoder",
        "recognise",
        ("classification",),
        ("classification",),
        needed=("classification",),
        select="top1",
    ),
    "gfslt": System(
        "GFSLT: frames to a sentence (paper Tables 2, 3, 5)",
        "finetune",
        ("translation", "signcl"),
        ("translation",),
        needs="frames (or features) and sentences; starts from a vlp run or an mBART",
        language_model=True,
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
    "vlp": System(
        "GFSLT-VLP: clips and sentences brought together before translation (Tables 2, 3, 8)",
        "pretrain",
        ("clip", "token_clip", "masked_text", "signcl"),
        ("clip", "masked_text"),
        needs="frames (or features) and sentences; its text encoder starts from an mBART",
        language_model=True,
    ),
}
"""Every system by its name in `model.name`; `signcl.models.MODELS` has the classes."""


def terms_of(stage: str) -> tuple[str, ...]:
    """All loss terms that some system of a stage computes, each once, in order."""
    return tuple(dict.fromkeys(term for s in SYSTEMS.values() if s.stage == stage for term in s.terms))


@dataclass
class SMKDRecipe:
    """smkd: the recogniser of VAC and SMKD."""


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


@dataclass
class PGPRecipe:
    """pgp, sign2gpt: the visual encoder of Sign2GPT and its pseudo-glosses."""


@dataclass
class LMRecipe:
    """sign2gpt: the causal language model that writes the sentence, and its adapters."""
