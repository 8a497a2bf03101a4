"""Title and direction of every score, shared by tables, reports and curves."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SCORES", "Score"]


@dataclass(frozen=True)
class Score:
    """How a score is displayed."""

    title: str
    explained: str = ""
    """Shown next to the title of a curve: the unit, or what is averaged."""
    lower_is_better: bool = False
    loss: bool = False
    """Whether it is a loss; tables of answers leave losses out."""


SCORES = {
    "bleu1": Score("BLEU-1", "dev"),
    "bleu2": Score("BLEU-2", "dev"),
    "bleu3": Score("BLEU-3", "dev"),
    "bleu4": Score("BLEU-4", "dev"),
    "rouge_l": Score("ROUGE-L", "dev"),
    "chrf": Score("chrF", "dev"),
    "chrf++": Score("chrF++", "dev"),
    "exact_match": Score("Exact match", "dev, % of sentences"),
    "wer": Score("WER", "dev, %", lower_is_better=True),
    "gloss_wer": Score("Gloss WER", "dev, %", lower_is_better=True),
    "top1": Score("Top-1", "dev, %"),
    "top5": Score("Top-5", "dev, %"),
    "top1_per_gloss": Score("Top-1, mean over glosses", "dev, %"),
    "sdr": Score("SDR", "%", lower_is_better=True),
}
"""Scores of answers and features; scores of a loss term are defined with the term (`signcl.systems.terms`)."""
