"""The two scores of every probe, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from signcl.metrics import bootstrap_interval, paired_bootstrap
from signcl.metrics.written_forms import Tokenize

__all__ = ["PROBED", "against_intact", "scored"]

PROBED = ("bleu4", "rouge_l")


def scored(
    hypotheses: Sequence[str], references: Sequence[str], *, tokenize: Tokenize, samples: int, seed: int = 0
) -> dict[str, Any]:
    """BLEU-4 and ROUGE-L, with 95 % bootstrap intervals over sentences unless `samples` is 0."""
    found: dict[str, Any] = {"sentences": len(references), "distinct_hypotheses": len(set(hypotheses)), "intervals": {}}
    for metric in PROBED:
        interval = bootstrap_interval(metric, hypotheses, references, max(samples, 1), seed, tokenize=tokenize)
        found[metric] = interval.value
        if samples:
            found["intervals"][metric] = [interval.low, interval.high]
    return found


def against_intact(
    hypotheses: Sequence[str],
    intact: Sequence[str],
    references: Sequence[str],
    *,
    tokenize: Tokenize,
    samples: int,
    seed: int = 0,
) -> dict[str, Any]:
    """`scored`, with the difference to the intact run on the same sentences and the remaining share of its score.

    `remaining` is a percentage of the intact score, or None if that is 0; differences are altered minus intact.
    """
    found = scored(hypotheses, references, tokenize=tokenize, samples=samples, seed=seed)
    found["difference"], found["remaining"] = {}, {}
    for metric in PROBED:
        c = paired_bootstrap(metric, hypotheses, intact, references, max(samples, 1), seed, tokenize=tokenize)
        entry: dict[str, float] = {"value": c.difference}
        if samples:
            entry |= {"low": c.low, "high": c.high, "p_value": c.p_value}
        found["difference"][metric] = entry
        found["remaining"][metric] = 100 * c.a / c.b if c.b else None
    return found
