"""How two trainings are compared here: the mean over seeds, and an interval that knows seeds and sentences."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from paper.jobs import Result
from signcl.metrics import seeded_bootstrap

__all__ = ["Effect", "effect", "mean_and_spread", "seed_interval", "verdict"]

T95 = (math.nan, math.nan, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""Two-sided 95 % quantiles of Student's t, by number of values."""


@dataclass(frozen=True)
class Effect:
    """What one training gains over another."""

    difference: float
    low: float
    high: float
    seeds: int
    over: str
    """What the interval was drawn over."""

    def __str__(self) -> str:
        return f"{self.difference:+.2f} ({self.low:+.2f} to {self.high:+.2f})"


def mean_and_spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation over seeds."""
    spread = statistics.stdev(values) if len(values) > 1 else math.nan
    return f"{statistics.mean(values):.2f} ± {spread:.2f}"


def seed_interval(values: Sequence[float]) -> Effect:
    """The mean of a paired difference with its 95 % t-interval over seeds."""
    n = len(values)
    if n < 2:
        return Effect(values[0], -math.inf, math.inf, n, "one seed")
    quantile = T95[n] if n < len(T95) else 1.96
    half = quantile * statistics.stdev(values) / math.sqrt(n)
    mean = statistics.mean(values)
    return Effect(mean, mean - half, mean + half, n, "seeds")


def effect(
    metric: str, treated: Sequence[Result], plain: Sequence[Result], *, samples: int = 1000, tokenize: str = "none"
) -> Effect:
    """The gain of a metric of sentences, over seeds and sentences; of `sdr`, over seeds."""
    if metric == "sdr":
        return seed_interval([_sdr(a) - _sdr(b) for a, b in zip(treated, plain, strict=True)])
    a, b = [result.answers() for result in treated], [result.answers() for result in plain]
    references = a[0][1]
    if any(other[1] != references for other in (*a, *b)):
        raise ValueError("runs to be compared must have answered the same sentences")
    found = seeded_bootstrap(
        metric,
        [one[0] for one in a],
        [one[0] for one in b],
        references,
        samples,
        tokenize=tokenize,  # type: ignore[arg-type]
    )
    return Effect(found.difference, found.low, found.high, len(a), "seeds and sentences")


def _sdr(result: Result) -> float:
    assert result.density is not None
    value: float = result.density["sdr"]
    return value


def verdict(found: Effect, claim: int = 1) -> str:
    """What an effect says of a claim that it is positive (1) or negative (-1)."""
    if found.low * claim > 0 and found.high * claim > 0:
        return "supported"
    if found.low * claim < 0 and found.high * claim < 0:
        return "contradicted"
    return "not seen"
