"""Relates density to recognition: bins and correlations over glosses, with intervals and controlled for frequency.

All inputs have one entry per gloss. Rare glosses are both recognised badly and have unstable ratios. Correlations are
therefore also reported as partial ones, controlled for the logarithm of the gloss frequency (paper section A.4, Table
10).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Bin", "Correlation", "correlate", "density_bins"]


@dataclass(frozen=True)
class Bin:
    """Glosses of similar density."""

    glosses: int
    low: float
    """Smallest ratio in the bin."""
    high: float
    """Largest ratio in the bin."""
    sdr: float
    """Mean ratio."""
    accuracy: float
    """Mean accuracy of the glosses, with equal weights."""
    error: float
    """Standard error of that mean; nan for a single gloss."""


@dataclass(frozen=True)
class Coefficient:
    """A correlation coefficient with its p-value and bootstrap interval over glosses."""

    value: float
    p_value: float
    """Two-sided, from Student's t with n - 2 - (number of controls) degrees of freedom."""
    low: float
    high: float


@dataclass(frozen=True)
class Correlation:
    """Correlation of two quantities over glosses."""

    pearson: Coefficient
    spearman: Coefficient
    glosses: int
    controls: int
    """Number of control variables."""
    level: float
    samples: int
    seed: int


def density_bins(
    sdr: Sequence[float] | np.ndarray,
    accuracy: Sequence[float] | np.ndarray,
    bins: int = 9,
    *,
    by: Sequence[float] | np.ndarray | None = None,
) -> list[Bin]:
    """Sorts glosses by ratio and splits them into bins of nearly equal size; the last bin is the most crowded.

    Args:
        sdr: ratio of each gloss. [K]
        accuracy: accuracy of each gloss. [K]
        bins: number of bins; nine in the paper.
        by: values to sort by instead. The paper sorts by the ratio of SMKD features for all kinds of features, so bins
            have the same glosses everywhere. `low` and `high` are still the smallest and largest `sdr`. [K]

    Raises:
        ValueError: sizes that differ, or fewer glosses than bins.

    Source: paper section 3.3, Figure 3 (a).
    """
    ratio, right = _pair(sdr, accuracy)
    if not 1 <= bins <= len(ratio):
        raise ValueError(f"bins must be 1 to the number of glosses with both values, {len(ratio)}; got {bins}.")
    order = np.argsort(ratio if by is None else _pair(by, right)[0], kind="stable")
    return [
        Bin(
            glosses=len(part),
            low=float(ratio[part].min()),
            high=float(ratio[part].max()),
            sdr=float(ratio[part].mean()),
            accuracy=float(right[part].mean()),
            error=float(right[part].std(ddof=1) / len(part) ** 0.5) if len(part) > 1 else float("nan"),
        )
        for part in np.array_split(order, bins)
    ]


def correlate(
    x: Sequence[float] | np.ndarray,
    y: Sequence[float] | np.ndarray,
    controls: Sequence[Sequence[float] | np.ndarray] | np.ndarray = (),
    *,
    samples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Correlation:
    """Pearson and Spearman correlation of two quantities over glosses, optionally controlled for others.

    A partial correlation is the correlation of the residuals of x and y after least-squares regression on the controls.
    For Spearman, all values are ranked first (equal values share their mean rank).

    Args:
        x: value for each gloss. [K]
        y: value for each gloss. [K]
        controls: control variables, a value for each gloss. [any number, K]
        samples: bootstrap resamples of the glosses; those in which a quantity is constant are left out.
        seed: seed of the resampling.
        level: coverage of the intervals.

    Raises:
        ValueError: sizes that differ, NaN or infinity, a quantity that is constant (or fully explained by the
            controls), too few glosses (3 + number of controls are needed).

    Source: paper section A.4.2; the partial correlations are ours.
    """
    from scipy.stats import rankdata, t

    one, two = _pair(x, y)
    fixed = np.atleast_2d(np.asarray(controls, dtype=np.float64)) if len(controls) else np.empty((0, len(one)))
    if fixed.shape[1:] != one.shape or not np.isfinite(fixed).all():
        raise ValueError(f"correlate needs finite controls for {len(one)} glosses, got shape {fixed.shape}.")
    freedom = len(one) - 2 - len(fixed)
    if freedom < 1 or samples < 1 or not 0 < level < 1:
        raise ValueError(
            f"correlate needs at least {3 + len(fixed)} glosses, samples >= 1 and a level between 0 and 1, got "
            f"{len(one)}, {samples} and {level}."
        )
    values = np.stack([one, two, *fixed])
    draws = np.random.default_rng(seed).integers(len(one), size=(samples, len(one)))
    found = []
    for ranked in (False, True):
        value = float(_coefficients(rankdata(values, axis=1)[None] if ranked else values[None])[0])
        if np.isnan(value):
            raise ValueError(
                "correlate needs quantities that differ between the glosses"
                + (" by more than the controls do" if len(fixed) else "")
                + "; one of them is the same for all."
            )
        resampled = values[:, draws].transpose(1, 0, 2)  # [samples, 2 + C, K]
        spread = _coefficients(rankdata(resampled, axis=2) if ranked else resampled)
        spread = spread[~np.isnan(spread)]
        low, high = np.quantile(spread, [(1 - level) / 2, (1 + level) / 2]) if len(spread) else (np.nan, np.nan)
        statistic = abs(value) * np.sqrt(freedom / max(1 - value**2, 1e-300))
        found.append(Coefficient(value, float(2 * t.sf(statistic, freedom)), float(low), float(high)))
    return Correlation(found[0], found[1], len(one), len(fixed), level, samples, seed)


def _coefficients(values: np.ndarray) -> np.ndarray:
    """Correlations of the first two rows, controlled for the others; nan if a row is constant. [R, 2 + C, K] -> [R]"""
    rest = values - values.mean(axis=2, keepdims=True)
    pair = rest[:, :2]
    if values.shape[1] > 2:
        fixed = rest[:, 2:]  # [R, C, K]
        pair = pair - pair @ np.linalg.pinv(fixed) @ fixed  # residuals of the regression on the controls
    sizes, whole = (pair**2).sum(axis=2), (rest[:, :2] ** 2).sum(axis=2)
    # Below this share of the original variance, the residuals are rounding error.
    same = (sizes <= 1e-20 * np.maximum(whole, 1e-300)).any(axis=1)
    product = (pair[:, 0] * pair[:, 1]).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.clip(product / np.sqrt(sizes[:, 0] * sizes[:, 1]), -1, 1)
    return np.where(same, np.nan, found)


def _pair(x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    one, two = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if one.ndim != 1 or one.shape != two.shape or not np.isfinite(one).all() or not np.isfinite(two).all():
        raise ValueError(
            f"statistics over glosses need two finite values for each, got shapes {one.shape} and {two.shape}"
            + (", with NaN or infinity." if one.shape == two.shape else ".")
        )
    return one, two
