"""Contrasts between arms from one linear model over all runs, with pooled residuals, Holm's correction and power.

Comparing two arms alone with a few seeds leaves few degrees of freedom. All arms share their seeds, so one linear
model, value = arm + seed + residual, estimates the residual variance from every run. Sentences are a second source of
chance: their contribution to a contrast's variance is estimated by bootstrap and added.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from paper.jobs import Result
from paper.statistics import Effect

__all__ = [
    "Contrast",
    "Model",
    "fit_model",
    "holm",
    "p_shown",
    "pooled_effect",
    "resampled",
    "resampled_runs",
    "verdict",
]

POWER = 0.8
RESAMPLES = 1000


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of the arms' means."""

    name: str
    estimate: float
    low: float
    """Lower end of the 95 % interval over seeds and, if resampled, sentences."""
    high: float
    p_value: float
    """Two-sided, uncorrected."""
    p_holm: float
    """Corrected for the number of primary contrasts; equal to `p_value` if the contrast is not primary."""
    could_see: float
    """Detectable difference: a true difference of this size would give an interval without 0 in 4 of 5 repetitions."""
    freedom: int
    """Degrees of freedom of the pooled residual."""

    def __str__(self) -> str:
        return f"{self.estimate:+.2f} ({self.low:+.2f} to {self.high:+.2f})"

    @property
    def tested(self) -> str:
        """The contrast with its corrected p-value and the difference that it could have seen."""
        return f"{self}; p {p_shown(self.p_holm)} by Holm; could have seen {self.could_see:.2f}"


@dataclass(frozen=True)
class Model:
    """Least-squares fit of value = arm + seed + residual."""

    arms: tuple[str, ...]
    means: np.ndarray
    """Mean of each arm, adjusted for missing seeds. [A]"""
    covariance: np.ndarray
    """Covariance of `means`, in units of the residual variance. [A, A]"""
    variance: float
    """Residual variance."""
    freedom: int

    def contrast(self, name: str, weights: Mapping[str, float], sentences: float = 0.0) -> Contrast:
        """Estimates sum_a weights[a] * mean[a] with its interval.

        Args:
            name: name of the contrast.
            weights: weight of each arm; they add up to 0.
            sentences: variance of the contrast over sentences; see `resampled`.

        Raises:
            ValueError: an unknown arm, or weights that do not add up to 0.
        """
        from scipy.stats import t

        strange = sorted(set(weights) - set(self.arms))
        if strange or abs(sum(weights.values())) > 1e-9:
            raise ValueError(f"the contrast {name} needs weights of the arms that add up to 0, got {dict(weights)}")
        c = np.array([weights.get(arm, 0.0) for arm in self.arms])
        estimate = float(c @ self.means)
        error = math.sqrt(self.variance * float(c @ self.covariance @ c) + sentences)
        if self.freedom < 1 or error == 0:
            ends = (estimate, estimate) if self.freedom >= 1 else (-math.inf, math.inf)
            return Contrast(name, estimate, *ends, 1.0, 1.0, math.inf if self.freedom < 1 else 0.0, self.freedom)
        half = float(t.ppf(0.975, self.freedom)) * error
        p_value = float(2 * t.sf(abs(estimate) / error, self.freedom))
        could_see = half + float(t.ppf(POWER, self.freedom)) * error
        return Contrast(name, estimate, estimate - half, estimate + half, p_value, p_value, could_see, self.freedom)


def fit_model(values: Mapping[str, Mapping[int, float]]) -> Model:
    """Fits value = arm + seed + residual by least squares.

    Args:
        values: arm -> seed -> value; if seeds are missing, means are adjusted for them.

    Raises:
        ValueError: no arm, or an arm without a run.
    """
    empty = [arm for arm, runs in values.items() if not runs]
    if not values or empty:
        raise ValueError(f"a model needs a run of every arm, got none of {', '.join(empty) or 'any arm'}")
    arms = tuple(values)
    seeds = sorted({seed for runs in values.values() for seed in runs})
    rows, measured = [], []
    for a, arm in enumerate(arms):
        for seed, value in values[arm].items():
            row = np.zeros(len(arms) + len(seeds))
            row[a] = row[len(arms) + seeds.index(seed)] = 1
            rows.append(row)
            measured.append(value)
    # Seed effects sum to 0 (the last is minus the sum of the others), so an arm's coefficient is its mean.
    design = np.array(rows)
    effects = design[:, len(arms) : -1] - design[:, -1:]
    whole = np.concatenate([design[:, : len(arms)], effects], axis=1)
    y = np.array(measured, dtype=float)
    inverse = np.linalg.pinv(whole.T @ whole)
    solution = inverse @ whole.T @ y
    freedom = len(y) - int(np.linalg.matrix_rank(whole))
    rest = float(((y - whole @ solution) ** 2).sum())
    variance = rest / freedom if freedom > 0 else math.nan
    return Model(arms, solution[: len(arms)], inverse[: len(arms), : len(arms)], variance, freedom)


def resampled(
    answers: Mapping[str, Sequence[Sequence[str]]], references: Sequence[str], tokenize: str, metric: str = "bleu4"
) -> dict[str, np.ndarray]:
    """Mean score of each arm's runs on shared resamples of the test texts; clips of one text are resampled together.

    Args:
        answers: arm -> the answers of each run, in the order of the references.
        tokenize: BLEU tokenizer.

    Returns:
        Arm -> [RESAMPLES]. The variance of a weighted sum of these is the argument `sentences` of `Model.contrast`.
    """
    from signcl.metrics.bootstrap import resampled_score

    _, text = np.unique(np.asarray(references, dtype=object).astype(str), return_inverse=True)
    count = int(text.max()) + 1
    times = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)[:, text]

    def scores(told: Sequence[str]) -> np.ndarray:
        return resampled_score(metric, told, references, tokenize, "exp")(times)  # type: ignore[arg-type]

    return {arm: np.mean([scores(told) for told in runs], axis=0) for arm, runs in answers.items()}


def resampled_runs(found: Mapping[str, Sequence[Result]]) -> dict[str, np.ndarray]:
    """`resampled` BLEU-4 of the runs of each arm, which share their test texts."""
    answers = {arm: [result.answers() for result in of_seeds] for arm, of_seeds in found.items()}
    told = {arm: [hypotheses for hypotheses, _ in runs] for arm, runs in answers.items()}
    first = next(iter(found))
    return resampled(told, answers[first][0][1], found[first][0].scored_as()[1])


def pooled_effect(contrast: Contrast, seeds: int) -> Effect:
    """The contrast in the form that pictures draw."""
    return Effect(contrast.estimate, contrast.low, contrast.high, seeds, "seeds and sentences, pooled")


def verdict(contrast: Contrast, claim: int = 1) -> str:
    """Verdict, with the corrected p-value, on the claim that a contrast is positive (1) or negative (-1)."""
    if contrast.freedom < 1 or contrast.p_holm >= 0.05:
        return "not seen"
    return "supported" if contrast.estimate * claim > 0 else "contradicted"


def p_shown(value: float) -> str:
    """A p-value with three decimals, or `< 0.001`."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def holm(contrasts: Sequence[Contrast]) -> list[Contrast]:
    """The same contrasts with p-values corrected for their number (Holm 1979)."""
    order = np.argsort([c.p_value for c in contrasts], kind="stable")
    corrected, largest = [1.0] * len(contrasts), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(contrasts) - rank) * contrasts[i].p_value))
        corrected[i] = largest
    return [replace(c, p_holm=p) for c, p in zip(contrasts, corrected, strict=True)]
