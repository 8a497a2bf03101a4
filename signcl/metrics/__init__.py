"""Scores (`scores`, `accuracy`, `by_gloss`), their confidence intervals (`bootstrap`), all at once (`summary`)."""

from signcl.metrics.accuracy import score_classes
from signcl.metrics.bootstrap import Comparison, Interval, bootstrap_interval, paired_bootstrap, seeded_bootstrap
from signcl.metrics.by_gloss import GlossScore, gloss_accuracy
from signcl.metrics.scores import Bleu, Wer, bleu, chrf, clean_phoenix_2014_trans, exact_match, rouge_l, wer
from signcl.metrics.summary import score_all, score_glosses
from signcl.metrics.tags import f1_score, mean_average_precision
from signcl.metrics.written_forms import normalize, tokenization_for

__all__ = [
    "Bleu",
    "Comparison",
    "GlossScore",
    "Interval",
    "Wer",
    "bleu",
    "bootstrap_interval",
    "chrf",
    "clean_phoenix_2014_trans",
    "exact_match",
    "f1_score",
    "gloss_accuracy",
    "mean_average_precision",
    "normalize",
    "paired_bootstrap",
    "rouge_l",
    "score_all",
    "score_classes",
    "score_glosses",
    "seeded_bootstrap",
    "tokenization_for",
    "wer",
]
