"""Scoring conventions of public corpora, by name: `signcl score --preset NAME`."""

from __future__ import annotations

from dataclasses import dataclass

from signcl.metrics.written_forms import Step, Tokenize

__all__ = ["PRESETS", "Preset"]


@dataclass(frozen=True)
class Preset:
    """The scoring convention of one corpus."""

    tokenize: Tokenize
    stated: str
    """The convention in words: final stop, case, width, spaces, tokenizer."""
    steps: tuple[Step, ...] = ("nfc",)
    """Normalization of both sides before scoring, from `signcl.metrics.written_forms.STEPS`."""
    phoenix_glosses: bool = False
    """Clean glosses as PHOENIX-2014T's evaluation does."""


PRESETS = {
    "phoenix14t": Preset(
        "none",
        "lower-cased German, tokenized; every sentence ends in ' .' and the stop counts; BLEU splits at spaces; WER of "
        "glosses after the corpus's clean-up",
        phoenix_glosses=True,
    ),
    "csl-daily": Preset(
        "zh",
        "Chinese with its full-width marks '。，？！' as in the corpus, which count; tokens are characters, so "
        "spaces between them have no effect",
    ),
    "how2sign": Preset("13a", "English as written, cased, punctuation touching the words; sacreBLEU's default 13a"),
    "wmt-slt": Preset(
        "13a", "as WMT-SLT scores: German, French or Italian as written, cased, not tokenized; sacreBLEU's default 13a"
    ),
}
"""Name -> convention. Every preset normalizes letters with accents (NFC) and changes nothing else."""
