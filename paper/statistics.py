"""Compares trainings: mean differences over seeds, with intervals over seeds and sentences."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from paper.jobs import Result
from signcl.metrics import clean_phoenix_2014_trans, seeded_bootstrap

__all__ = [
    "Effect",
    "Noise",
    "cell",
    "effect",
    "mean_and_spread",
    "noise",
    "seed_interval",
    "unpaired",
    "values_of",
    "verdict",
]


@dataclass(frozen=True)
class Effect:
    """Difference between two trainings with its 95 % interval."""

    difference: float
    low: float
    high: float
    seeds: int
    over: str
    """The sources of variation in the interval."""

    def __str__(self) -> str:
        return f"{self.difference:+.2f} ({self.low:+.2f} to {self.high:+.2f})"


def mean_and_spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation over seeds; just the number if there is one seed."""
    mean = f"{statistics.mean(values):.2f}"
    return f"{mean} ± {statistics.stdev(values):.2f}" if len(values) > 1 else mean


def values_of(metric: str, found: Sequence[Result]) -> list[float]:
    """A score on test for every run; `sdr` omits runs whose corpus has no spans."""
    if metric == "sdr":
        return [result.density["sdr"] for result in found if result.density is not None]
    return [result.scores[metric] for result in found]


def cell(metric: str, found: Sequence[Result]) -> str:
    """Mean and spread of a score over seeds as shown in tables; a dash if it was not measured."""
    values = values_of(metric, found)
    return mean_and_spread(values) if values else "–"


def seed_interval(values: Sequence[float]) -> Effect:
    """The mean of paired differences with its 95 % t-interval over seeds."""
    n = len(values)
    if n < 2:
        return Effect(values[0], -math.inf, math.inf, n, "one seed")
    from scipy.stats import t

    half = float(t.ppf(0.975, n - 1)) * statistics.stdev(values) / math.sqrt(n)
    mean = statistics.mean(values)
    return Effect(mean, mean - half, mean + half, n, "seeds")


def unpaired(treated: Sequence[float], plain: Sequence[float], seeds: int, over: str) -> Effect:
    """The difference between two means of independent numbers, with its 95 % interval by Welch's t.

    Args:
        seeds: number of seeds that each number is averaged over.
        over: what the numbers represent.
    """
    difference = statistics.mean(treated) - statistics.mean(plain)
    if min(len(treated), len(plain)) < 2:  # the spread is unknown
        return Effect(difference, -math.inf, math.inf, seeds, over)
    from scipy.stats import ttest_ind

    if statistics.variance(treated) == statistics.variance(plain) == 0:
        return Effect(difference, difference, difference, seeds, over)
    low, high = ttest_ind(treated, plain, equal_var=False).confidence_interval(0.95)
    return Effect(difference, float(low), float(high), seeds, over)


def effect(
    metric: str,
    treated: Sequence[Result],
    plain: Sequence[Result],
    *,
    samples: int = 10_000,
    tokenize: str | None = None,
    blocks: Sequence[int] | None = None,
) -> Effect:
    """The gain in a metric, with its interval.

    The interval of a sentence metric is over seeds and sentences (clips of one text are resampled together); that of
    `sdr` is over seeds.

    Args:
        metric: `sdr`, or a metric of `signcl.metrics.seeded_bootstrap`.
        blocks: a number for each pair of results; pairs with the same number, such as arms of one seed, count once.
        tokenize: BLEU tokenizer; None takes that of the runs' scores. Glosses are always treated as words.
    """
    if metric == "sdr":
        pairs = zip(values_of(metric, treated), values_of(metric, plain), strict=True)
        gains = [ours - theirs for ours, theirs in pairs]
        own = range(len(gains)) if blocks is None else blocks
        return seed_interval([
            statistics.mean(gain for gain, block in zip(gains, own, strict=True) if block == name)
            for name in sorted({*own})
        ])  # fmt: skip
    a, b = [result.answers() for result in treated], [result.answers() for result in plain]
    references = a[0][1]
    if any(other[1] != references for other in (*a, *b)):
        raise ValueError("runs to be compared must have answered the same sentences")
    reader, scored = treated[0].scored_as()
    if tokenize is None:
        tokenize = "none" if metric == "wer" else scored
    clean = _same
    if metric == "wer" and reader == "phoenix14t":  # same as in `signcl evaluate` and `compare`
        clean = clean_phoenix_2014_trans
    found = seeded_bootstrap(
        metric,
        [[clean(line) for line in one[0]] for one in a],
        [[clean(line) for line in one[0]] for one in b],
        [clean(line) for line in references],
        samples,
        tokenize=tokenize,  # type: ignore[arg-type]
        together=references,
        blocks=blocks,
    )
    seeds = len(a) if blocks is None else len({*blocks})
    over = "seeds and sentences" if seeds > 1 else "sentences, one seed"
    return Effect(found.difference, found.low, found.high, seeds, over)


def _same(line: str) -> str:
    return line


def verdict(found: Effect, claim: int = 1) -> str:
    """Verdict on the claim that an effect is positive (1) or negative (-1); always "not seen" with one seed."""
    if found.seeds < 2:
        return "not seen"
    if found.low * claim > 0 and found.high * claim > 0:
        return "supported"
    if found.low * claim < 0 and found.high * claim < 0:
        return "contradicted"
    return "not seen"


@dataclass(frozen=True)
class Noise:
    """Whether settings differ by more than seed noise."""

    spread: float
    """Standard deviation of the settings' means over seeds."""
    expected: float
    """Standard deviation expected from seed noise if settings have no effect."""
    p_value: float
    """Probability of at least this spread if settings have no effect; nan with one seed."""

    @property
    def verdict(self) -> str:
        """Verdict on the claim that the setting matters little."""
        if math.isnan(self.p_value):
            return "not seen"
        return "contradicted" if self.p_value < 0.05 else "within seed noise"

    def __str__(self) -> str:
        return f"spread {self.spread:.2f}, by seeds alone {self.expected:.2f} (p = {self.p_value:.2f})"


def noise(values: Sequence[Sequence[float]]) -> Noise:
    """Compares the spread of settings' means with the spread expected from seeds alone.

    Analysis of variance with seeds as blocks, since all settings are trained with the same seeds:
    F = S var(means) / var(residuals) on K - 1 and (K - 1)(S - 1) degrees of freedom. A residual is a value minus the
    means of its setting and its seed, plus the overall mean.

    Args:
        values: one number per setting and seed. [K][S]
    """
    import numpy as np
    from scipy.stats import f as f_distribution

    table = np.array(values, dtype=float)
    settings, seeds = table.shape
    spread = float(table.mean(axis=1).std(ddof=1))
    if seeds < 2:
        return Noise(spread, math.nan, math.nan)
    rest = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0, keepdims=True) + table.mean()
    inner, outer = settings - 1, (settings - 1) * (seeds - 1)
    variance = float((rest**2).sum() / outer)
    if variance == 0:
        return Noise(spread, 0.0, 1.0 if spread == 0 else 0.0)
    p_value = float(f_distribution.sf(seeds * spread**2 / variance, inner, outer))
    return Noise(spread, math.sqrt(variance / seeds), p_value)
