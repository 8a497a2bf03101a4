"""Intervals of measures that a bootstrap would bias: each group of rows is left out once.

A bootstrap repeats rows. Two equal rows are neighbours and add no direction, so it would change hubness, RankMe and
shares of variance. The jackknife only leaves rows out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from signcl.density.rows import numbered

__all__ = ["around_mean", "jackknife_interval"]

PARTS = 20  # groups left out, each on its own; more groups are merged at random
FEWEST = 3


def jackknife_interval(
    measure: Callable[[np.ndarray], np.ndarray],
    groups: Sequence[object] | np.ndarray | torch.Tensor,
    *,
    level: float = 0.95,
    seed: int = 0,
) -> np.ndarray:
    """Intervals of measures for other groups of the same kind, such as other clips or signers.

    With G groups, M of all rows and M(-g) without group g: M -+ t(G - 1) sqrt((G - 1) / G sum_g (M(-g) - mean)^2).

    Args:
        measure: rows to use, a mask [N] -> the values of M measures. [M]
        groups: group of each row; more than 20 groups are merged to 20 at random. [N]
        level: coverage of the intervals.
        seed: seed of the merging.

    Returns:
        Lower and upper end of each measure; NaN with fewer than 3 groups, and where a measure has no value without some
        group. [M, 2]

    Source: Efron & Tibshirani 1993, chapter 11.
    """
    if not 0 < level < 1:
        raise ValueError(f"an interval needs a level between 0 and 1, got {level}.")
    number = numbered(groups, None, "group")
    whole = np.asarray(measure(np.ones(len(number), dtype=bool)), dtype=float)
    count = int(number.max()) + 1
    if count < FEWEST:
        return np.full((len(whole), 2), np.nan)
    if count > PARTS:
        number = (np.random.default_rng(seed).permutation(count) % PARTS)[number]
        count = PARTS
    without = np.stack([measure(number != group) for group in range(count)])
    low, high = around_mean(whole, -(count - 1) * without, level)  # pseudo-values, up to a constant
    return np.stack([low, high], axis=1)


def around_mean(measured: np.ndarray, values: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Interval of a mean of independent values, by Student's t. [M], [G, M] -> [M], [M]"""
    from scipy.stats import t

    error = values.std(axis=0, ddof=1) / len(values) ** 0.5
    reach = t.ppf((1 + level) / 2, len(values) - 1) * error
    return measured - reach, measured + reach
