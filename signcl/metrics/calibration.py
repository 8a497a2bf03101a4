"""Can a confidence be believed: calibration curves, their error, and what is gained by leaving out unsure answers.

Pure functions of numbers. A `quality` is a number from 0 to 1 for each answer: 0 or 1 where an answer is right or
wrong, or a graded score such as chrF / 100. A calibrated confidence is the mean quality of the answers given with it.
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

FEWEST = 30  # answers below which no curve is fitted: a bin of ten would hold three
FREE_FORM = 200  # answers from which the free monotone curve (isotonic) has points enough; below a curve of two numbers
FOLDS = 5

Numbers = Sequence[float] | np.ndarray


@dataclass(frozen=True)
class Calibration:
    """A rising curve from a raw score to the quality to be expected."""

    kind: Literal["isotonic", "logistic"]
    x: tuple[float, ...]
    """Isotonic: raw scores of its corners, rising. Logistic: slope and intercept."""
    y: tuple[float, ...] = ()
    """Isotonic: quality at the corners; straight between them, level outside."""

    def __call__(self, scores: Numbers) -> np.ndarray:
        """The quality to be expected of answers with these raw scores, 0 to 1. [N] -> [N]"""
        raw = np.asarray(scores, dtype=float)
        if self.kind == "isotonic":
            return np.interp(raw, self.x, self.y)
        slope, intercept = self.x
        return 1 / (1 + np.exp(-np.clip(slope * raw + intercept, -60, 60)))

    def as_dict(self) -> dict[str, Any]:
        """For a file."""
        return asdict(self)


@dataclass(frozen=True)
class Bin:
    """Answers of about one confidence."""

    confidence: float
    """Their mean."""
    quality: float
    """Their mean."""
    count: int


def fit_calibration(scores: Numbers, quality: Numbers) -> Calibration | None:
    """A curve from raw scores to quality: isotonic from 200 answers on, below that logistic (Platt).

    Isotonic regression takes any rising form and needs many points; Platt's curve 1 / (1 + exp(-(a s + b))) has two
    numbers. A graded quality q counts as q of an answer that is right and 1 - q of one that is wrong.

    Args:
        scores: one number an answer, higher is surer. [N]
        quality: 0 to 1. [N]

    Returns:
        None where there are fewer than 30 answers, or all have one score: then nothing can be learned.

    Raises:
        ValueError: different numbers of both, values that are not finite, quality outside 0 to 1.

    Source: Platt 1999; Zadrozny and Elkan 2002; both by scikit-learn.
    """
    raw, good = _checked(scores, quality)
    if len(raw) < FEWEST or np.ptp(raw) == 0:
        return None
    if len(raw) >= FREE_FORM:
        from sklearn.isotonic import IsotonicRegression

        curve = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(raw, good)
        return Calibration("isotonic", _floats(curve.X_thresholds_), _floats(curve.y_thresholds_))
    if good.min() == good.max():  # one class only: a level line
        level = float(np.clip(good[0], 1e-3, 1 - 1e-3))
        return Calibration("logistic", (0.0, float(np.log(level / (1 - level)))))
    from sklearn.linear_model import LogisticRegression

    # scores are scaled, so that the small penalty of the fit does not depend on their unit
    mean, spread = float(raw.mean()), float(raw.std())
    column = np.tile((raw - mean) / spread, 2)[:, None]
    labels = np.repeat([1, 0], len(raw))
    fitted = LogisticRegression(C=100.0).fit(column, labels, sample_weight=np.concatenate([good, 1 - good]))
    slope = max(0.0, float(fitted.coef_[0, 0])) / spread  # a falling curve would call the surest answers the worst
    intercept = float(fitted.intercept_[0]) - slope * mean
    if slope == 0:
        level = float(np.clip(good.mean(), 1e-3, 1 - 1e-3))
        intercept = float(np.log(level / (1 - level)))
    return Calibration("logistic", (slope, intercept))


def cross_fitted(scores: Numbers, quality: Numbers, *, seed: int = 0) -> np.ndarray | None:
    """Calibrated confidence of answers from curves that have not seen them: five folds. None as `fit_calibration`. [N]

    What a curve says of the answers that it was fitted to looks better than it is; this does not.
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
    """Answers in order of confidence, in bins of as many answers each: what was promised beside what came.

    Bins of equal counts, so that none is empty or holds one answer. Fewer answers than bins make one bin an answer.
    """
    sure, good = _checked(confidence, quality)
    order = np.argsort(sure, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return [Bin(float(sure[part].mean()), float(good[part].mean()), len(part)) for part in parts]


def calibration_error(confidence: Numbers, quality: Numbers, *, bins: int = 10) -> float:
    """Expected calibration error: the gap between confidence and quality, a mean over bins weighed by answers; lower is
    better. 0 to 1.

    ECE = sum over bins of n_b / N * |mean confidence - mean quality|, bins as of `reliability`.

    Source: Naeini et al. 2015, with bins of equal counts (Nguyen and O'Connor 2015).
    """
    parts = reliability(confidence, quality, bins=bins)
    total = sum(part.count for part in parts)
    return sum(part.count * abs(part.confidence - part.quality) for part in parts) / total if total else 0.0


def risk_coverage_area(confidence: Numbers, quality: Numbers) -> float:
    """Area under the risk-coverage curve: how bad the kept answers are when the unsure ones are left out; lower is
    better. 0 to 1.

    Risk at coverage k / N is 1 - the mean quality of the k surest answers; the area is its mean over k = 1..N. Answers
    of one confidence share their places: each counts with the mean quality of them all. An order by chance has the mean
    risk of all answers.

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
        raise ValueError(f"needs one quality for each score, got {raw.shape} and {good.shape}")
    if not (np.isfinite(raw).all() and np.isfinite(good).all()):
        raise ValueError("needs finite scores and qualities")
    if len(good) and not 0 <= good.min() <= good.max() <= 1:
        raise ValueError(f"quality: needs numbers from 0 to 1, got {good.min():g} to {good.max():g}")
    return raw, good


def _floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
