"""All scores of a set of translations in one dictionary, with signatures, intervals and counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from signcl.metrics.bootstrap import bootstrap_interval
from signcl.metrics.scores import (
    Smoothing,
    bleu,
    check,
    chrf,
    chrf_signature,
    clean_phoenix_2014_trans,
    exact_match,
    rouge_l,
    tokens,
    wer,
)
from signcl.metrics.written_forms import STOPS, Tokenize, normalize, tokenization_warning, tokenize_as, unit_for

__all__ = ["score_all", "score_glosses"]


def score_all(
    hypotheses: Sequence[str],
    references: Sequence[str],
    *,
    tokenize: Tokenize = "auto",
    smoothing: Smoothing = "exp",
    samples: int = 1000,
    seed: int = 0,
    steps: Sequence[str] = ("nfc",),
) -> dict[str, Any]:
    """Computes every score of a set of translations, with signatures, intervals and counts, for scores.json.

    Args:
        hypotheses: one sentence per clip.
        references: the raw references.
        tokenize: for BLEU; with "zh" and "char", ROUGE-L, WER and exact match also count characters. "auto" chooses by
            the script of the references.
        smoothing: for BLEU.
        samples: resamples for the intervals; 0 leaves the intervals out.
        seed: seed of the resampling.
        steps: normalization of both sides (`signcl.metrics.written_forms.STEPS`). NFC only unifies the encoding of
            letters with accents.

    Returns:
        - bleu1..bleu4, chrf, chrf++, rouge_l, exact_match, wer and its split;
        - `intervals` (95 %) of bleu4, chrf and rouge_l; `signatures`; `counts`; `normalization`;
        - `tokenize`, the tokenizer used, and `warning` if it does not fit the references;
        - `final_dot`: the percentages of lines on both sides that end in " .", which must agree;
        - `final_stop`: the percentages that end in any full stop, also one attached to a word.

    Raises:
        ValueError: as the individual scores.
    """
    check(hypotheses, references)
    hypotheses, references = normalize(hypotheses, steps), normalize(references, steps)
    tokenize = tokenize_as(tokenize, references)
    unit = unit_for(tokenize)
    blue = bleu(hypotheses, references, tokenize, smoothing=smoothing)
    errors = wer(hypotheses, references, unit=unit)
    dots, stops = (
        [100 * sum(line.rstrip().endswith(end) for line in lines) / len(lines) for lines in (hypotheses, references)]
        for end in (" .", tuple(STOPS))
    )
    scores: dict[str, Any] = {
        **{f"bleu{order}": getattr(blue, f"bleu{order}") for order in (1, 2, 3, 4)},
        "chrf": chrf(hypotheses, references),
        "chrf++": chrf(hypotheses, references, word_order=2),
        "rouge_l": rouge_l(hypotheses, references, unit=unit),
        "exact_match": exact_match(hypotheses, references, unit=unit),
        "wer": errors.wer,
        "wer_split": {
            "substitutions": errors.substitutions,
            "deletions": errors.deletions,
            "insertions": errors.insertions,
        },
        "signatures": {
            "bleu": blue.signature,
            "chrf": chrf_signature(),
            "chrf++": chrf_signature(word_order=2),
            "rouge_l": f"rougeL|lcs-f:coco|beta:1.2|mean:sentence|unit:{unit}|case:mixed",
            "wer": errors.signature,
            "exact_match": f"exact|unit:{unit}|case:mixed",
        },
        "tokenize": tokenize,
        "normalization": list(steps),
        "warning": tokenization_warning(tokenize, references),
        "counts": {
            "sentences": len(references),
            "reference_tokens": errors.reference_tokens,
            "hypothesis_tokens": sum(len(tokens(line, unit)) for line in hypotheses),
            "distinct_hypotheses": len(set(hypotheses)),
            "empty_hypotheses": sum(not line.strip() for line in hypotheses),
            "empty_references": sum(not line.strip() for line in references),
            "ngram_matches": list(blue.matches),
        },
        "final_dot": {"hypotheses": dots[0], "references": dots[1], "agree": abs(dots[0] - dots[1]) <= 10},
        "final_stop": {"hypotheses": stops[0], "references": stops[1], "agree": abs(stops[0] - stops[1]) <= 10},
    }
    if samples:
        scores["intervals"] = {"level": 0.95, "samples": samples, "seed": seed}
        for name in ("bleu4", "chrf", "rouge_l"):
            interval = bootstrap_interval(
                name, hypotheses, references, samples, seed, tokenize=tokenize, smoothing=smoothing
            )
            scores["intervals"][name] = [interval.low, interval.high]
    return scores


def score_glosses(
    hypotheses: Sequence[str], references: Sequence[str], *, phoenix: bool = False, samples: int = 0, seed: int = 0
) -> dict[str, Any]:
    """Word error rate of recognised glosses with its split, for scores.json. Lower is better.

    Args:
        hypotheses: glosses of each clip, separated by spaces.
        references: annotated glosses of each clip.
        phoenix: clean both sides as PHOENIX-2014T's evaluation does, and align with sclite's costs.
        samples: resamples for the 95 % interval over clips; 0 leaves the interval out.
        seed: seed of the resampling.

    Returns:
        wer, wer_split, exact_match, `signatures`, `counts`, and `intervals` if requested.

    Raises:
        ValueError: as `wer`.
    """
    if phoenix:
        hypotheses = [clean_phoenix_2014_trans(line) for line in hypotheses]
        references = [clean_phoenix_2014_trans(line) for line in references]
    errors = wer(hypotheses, references, "sclite" if phoenix else "plain")
    scores: dict[str, Any] = {
        "wer": errors.wer,
        "wer_split": {
            "substitutions": errors.substitutions,
            "deletions": errors.deletions,
            "insertions": errors.insertions,
        },
        "exact_match": exact_match(hypotheses, references, unit="word"),
        "signatures": {"wer": errors.signature + ("|cleaned:phoenix-2014-T" if phoenix else "")},
        "counts": {
            "sentences": len(references),
            "reference_tokens": errors.reference_tokens,
            "hypothesis_tokens": sum(len(line.split()) for line in hypotheses),
            "distinct_hypotheses": len(set(hypotheses)),
            "empty_hypotheses": sum(not line.strip() for line in hypotheses),
        },
    }
    if samples:
        interval = bootstrap_interval("wer", hypotheses, references, samples, seed, tokenize="none")
        scores["intervals"] = {"level": 0.95, "samples": samples, "seed": seed, "wer": [interval.low, interval.high]}
    return scores
