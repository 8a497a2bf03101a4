"""All scores of a set of translations in one dictionary, with what is needed to read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from signcl.metrics.bootstrap import bootstrap_interval
from signcl.metrics.scores import (
    Smoothing,
    Tokenize,
    Unit,
    bleu,
    chrf,
    chrf_signature,
    clean_phoenix_2014_trans,
    exact_match,
    rouge_l,
    tokens,
    wer,
)

__all__ = ["score_all", "score_glosses"]


def score_all(
    hypotheses: Sequence[str],
    references: Sequence[str],
    *,
    tokenize: Tokenize = "none",
    smoothing: Smoothing = "exp",
    samples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Every score of a set of translations with what is needed to read it, ready for scores.json.

    Args:
        hypotheses: one sentence each.
        references: the raw references.
        tokenize: for BLEU; "zh" and "char" also make ROUGE-L and WER count characters.
        smoothing: for BLEU.
        samples: resamples of the intervals; 0 leaves them out.
        seed: of the resampling.

    Returns:
        bleu1..bleu4, chrf, rouge_l, exact_match, wer and its split; `intervals` (95 %) of bleu4, chrf and rouge_l;
        `signatures`; `counts`; `final_dot`: the shares of lines that end in " ." on either side, which must agree.

    Raises:
        ValueError: as the single scores.
    """
    unit: Unit = "character" if tokenize in ("zh", "char") else "word"
    blue = bleu(hypotheses, references, tokenize, smoothing=smoothing)
    errors = wer(hypotheses, references, unit=unit)
    dots = [
        100 * sum(line.rstrip().endswith(" .") for line in lines) / len(lines) for lines in (hypotheses, references)
    ]
    scores: dict[str, Any] = {
        **{f"bleu{order}": getattr(blue, f"bleu{order}") for order in (1, 2, 3, 4)},
        "chrf": chrf(hypotheses, references),
        "rouge_l": rouge_l(hypotheses, references, unit=unit),
        "exact_match": exact_match(hypotheses, references),
        "wer": errors.wer,
        "wer_split": {
            "substitutions": errors.substitutions,
            "deletions": errors.deletions,
            "insertions": errors.insertions,
        },
        "signatures": {
            "bleu": blue.signature,
            "chrf": chrf_signature(),
            "rouge_l": f"rougeL|lcs-f:coco|beta:1.2|mean:sentence|unit:{unit}|case:mixed",
            "wer": errors.signature,
        },
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
    """Word error rate of recognised glosses with its split, ready for scores.json. Lower is better.

    Args:
        hypotheses: glosses of each clip, between spaces.
        references: the annotation.
        phoenix: clean both sides as PHOENIX-2014T's evaluation does, and align with sclite's costs.
        samples: resamples of the 95 % interval over clips; 0 leaves it out.
        seed: of the resampling.

    Returns:
        wer, wer_split, exact_match, `signatures`, `counts`, and `intervals` where asked for.

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
        "exact_match": exact_match(hypotheses, references),
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
        interval = bootstrap_interval("wer", hypotheses, references, samples, seed)
        scores["intervals"] = {"level": 0.95, "samples": samples, "seed": seed, "wer": [interval.low, interval.high]}
    return scores
