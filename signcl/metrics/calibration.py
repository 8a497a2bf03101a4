"""Calibration of confidences: calibration curves, calibration error, and the gain from rejecting unsure answers.

Pure functions of numbers. `quality` is a number from 0 to 1 for each answer: 1 or 0 for right or wrong, or a graded
score such as chrF / 100. A confidence is calibrated if answers with this confidence have it as their mean quality.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

__all__ = [
    "Bin",
    "Calibration",
    "calibration_error",
    "cross_fitted",
    "fit_calibration",
    "reliability",
    "risk_coverage_area",
]

FEWEST = 30  # no curve is fitted to fewer answers: each of ten bins would hold fewer than three
FREE_FORM = 200  # from this number of answers on, the curve is isotonic; below, a curve with two parameters
FOLDS = 5

Numbers = Sequence[float] | np.ndarray


@dataclass(frozen=True)
class Calibration:
    """A monotone curve from a raw score to the expected quality."""

    kind: Literal["isotonic", "logistic"]
    x: tuple[float, ...]
    """Isotonic: raw scores of the breakpoints, increasing. Logistic: slope and intercept."""
    y: tuple[float, ...] = ()
    """Isotonic: quality at the breakpoints; linear between them, constant outside."""

    def __call__(self, scores: Numbers) -> np.ndarray:
        """The expected quality of answers with these raw scores, 0 to 1. [N] -> [N]"""
        raw = np.asarray(scores, dtype=float)
        if self.kind == "isotonic":
            return np.interp(raw, self.x, self.y)
        slope, intercept = self.x
        return 1 / (1 + np.exp(-np.clip(slope * raw + intercept, -60, 60)))

    def as_dict(self) -> dict[str, Any]:
        """The curve as a dictionary, for a file."""
        return asdict(self)


@dataclass(frozen=True)
class Bin:
    """Answers of similar confidence."""

    confidence: float
    """Mean confidence."""
    quality: float
    """Mean quality."""
    count: int


def fit_calibration(scores: Numbers, quality: Numbers) -> Calibration | None:
    """Fits a curve from raw scores to quality: isotonic from 200 answers on, logistic (Platt) below.

    Isotonic regression fits any increasing curve but needs many points; Platt's curve 1 / (1 + exp(-(a s + b))) has two
    parameters. A graded quality q counts as a right answer with weight q and a wrong one with weight 1 - q.

    Args:
        scores: one number per answer, higher is surer. [N]
        quality: 0 to 1. [N]

    Returns:
        The curve, or None if there are fewer than 30 answers or all scores are equal.

    Raises:
        ValueError: lists of different lengths, non-finite values, quality outside 0 to 1.

    Source: Platt 1999; Zadrozny and Elkan 2002; both implemented in scikit-learn.
    """
    raw, good = _checked(scores, quality)
    if len(raw) < FEWEST or np.ptp(raw) == 0:
        return None
    if len(raw) >= FREE_FORM:
        from sklearn.isotonic import IsotonicRegression

        curve = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(raw, good)
        return Calibration("isotonic", _floats(curve.X_thresholds_), _floats(curve.y_thresholds_))
    if good.min() == good.max():  # one class only: a constant
        level = float(np.clip(good[0], 1e-3, 1 - 1e-3))
        return Calibration("logistic", (0.0, float(np.log(level / (1 - level)))))
    from sklearn.linear_model import LogisticRegression

    # Scores are standardized, so that the small penalty of the fit does not depend on their unit.
    mean, spread = float(raw.mean()), float(raw.std())
    column = np.tile((raw - mean) / spread, 2)[:, None]
    labels = np.repeat([1, 0], len(raw))
    fitted = LogisticRegression(C=100.0).fit(column, labels, sample_weight=np.concatenate([good, 1 - good]))
    slope = max(0.0, float(fitted.coef_[0, 0])) / spread  # a decreasing curve would rate the surest answers worst
    intercept = float(fitted.intercept_[0]) - slope * mean
    if slope == 0:
        level = float(np.clip(good.mean(), 1e-3, 1 - 1e-3))
        intercept = float(np.log(level / (1 - level)))
    return Calibration("logistic", (slope, intercept))


def cross_fitted(scores: Numbers, quality: Numbers, *, seed: int = 0) -> np.ndarray | None:
    """Calibrated confidences by five-fold cross-fitting; None as in `fit_calibration`. [N]

    Each answer is calibrated by a curve fitted to the other folds, which avoids the optimistic bias of a curve on the
    answers it was fitted to.
    """
    raw, good = _checked(scores, quality)
    if fit_calibration(raw, good) is None:
        return None
    fold = np.random.default_rng(seed).permutation(len(raw)) % FOLDS
    found = np.empty(len(raw))
    for number in range(FOLDS):
        inside = fold != number
        curve = fit_calibration(raw[inside], good[inside])
        found[~inside] = good[inside].mean() if curve is None else curve(raw[~inside])
    return found


def reliability(confidence: Numbers, quality: Numbers, *, bins: int = 10) -> list[Bin]:
    """Mean confidence and mean quality of answers in bins of equal count, sorted by confidence.

    With equal counts, no bin is empty or has a single answer. If there are fewer answers than bins, each answer is a
    bin.
    """
    sure, good = _checked(confidence, quality)
    order = np.argsort(sure, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return [Bin(float(sure[part].mean()), float(good[part].mean()), len(part)) for part in parts]


def calibration_error(confidence: Numbers, quality: Numbers, *, bins: int = 10) -> float:
    """Expected calibration error: mean gap between confidence and quality. Lower is better; 0 to 1.

    ECE = sum over bins of n_b / N * |mean confidence - mean quality|, with the bins of `reliability`.

    Source: Naeini et al. 2015, with bins of equal counts (Nguyen and O'Connor 2015).
    """
    parts = reliability(confidence, quality, bins=bins)
    total = sum(part.count for part in parts)
    return sum(part.count * abs(part.confidence - part.quality) for part in parts) / total if total else 0.0


def risk_coverage_area(confidence: Numbers, quality: Numbers) -> float:
    """Area under the risk-coverage curve: how bad the kept answers are if unsure ones are rejected. Lower is better; 0
    to 1.

    Risk at coverage k / N is 1 - the mean quality of the k surest answers; the area is its mean over k = 1..N. Answers
    with equal confidence are ties: each counts with their mean quality. A random order gives the mean risk of all
    answers.

    Source: Geifman and El-Yaniv 2017; El-Yaniv and Wiener 2010.
    """
    sure, good = _checked(confidence, quality)
    if not len(sure):
        return 0.0
    _, place = np.unique(sure, return_inverse=True)
    counts = np.bincount(place)
    shared = np.bincount(place, weights=good) / counts
    ordered = shared[place][np.argsort(-sure, kind="stable")]
    kept = np.cumsum(ordered) / np.arange(1, len(ordered) + 1)
    return float(np.mean(1 - kept))


def _checked(scores: Numbers, quality: Numbers) -> tuple[np.ndarray, np.ndarray]:
    raw, good = np.asarray(scores, dtype=float), np.asarray(quality, dtype=float)
    if raw.ndim != 1 or raw.shape != good.shape:
        raise ValueError(f"calibration needs one quality for each score, got {raw.shape} and {good.shape}")
    if not (np.isfinite(raw).all() and np.isfinite(good).all()):
        raise ValueError("calibration needs finite scores and qualities, got NaN or infinity")
    if len(good) and not 0 <= good.min() <= good.max() <= 1:
        raise ValueError(f"quality: needs numbers from 0 to 1, got {good.min():g} to {good.max():g}")
    return raw, good


def _floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
