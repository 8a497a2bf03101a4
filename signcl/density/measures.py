"""Other measures of how well glosses are separated, on the rows of the ratio, so "density" does not rest on one number.

Silhouette, Davies-Bouldin, neighbours and kernel densities come from scikit-learn. Each docstring says which direction
is better. `other_measures` computes all of them, overall and, where it makes sense, per gloss.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from signcl.density.rows import checked_rows, group_means

__all__ = [
    "BETTER",
    "Measures",
    "alignment_uniformity",
    "fisher_ratio",
    "kde_entropy",
    "neighbour_purity",
    "other_measures",
]

CHUNK = 1024
BETTER = {
    "fisher": "higher",
    "silhouette": "higher",
    "davies_bouldin": "lower",
    "neighbour_purity": "higher",
    "alignment": "lower",
    "uniformity": "lower",
    "kde_entropy": "no direction",
}
"""Whether a higher or lower value means that glosses are better separated."""


@dataclass(frozen=True)
class Measures:
    """Measures of a labelled feature matrix other than the ratio."""

    values: dict[str, float]
    """Overall values; `BETTER` says which direction is better. No alignment and uniformity if any row is all zeros."""
    by_gloss: dict[str, np.ndarray]
    """fisher, silhouette, neighbour_purity of each gloss. [K] each"""
    gloss_ids: np.ndarray
    """Ascending; glosses with a single row are left out everywhere. [K]"""
    settings: dict[str, int | float | str]
    """rows, neighbours, dims of the kernel density, metric, zero_rows."""


def other_measures(
    features: np.ndarray, glosses: np.ndarray, *, min_count: int = 2, neighbours: int = 5, dims: int = 10
) -> Measures:
    """Computes all measures of this module, on glosses with at least `min_count` rows. Time grows with N^2.

    Args:
        features: one row per sign instance. [N, D]
        glosses: gloss number of each row. [N]
        min_count: glosses with fewer rows are left out.
        neighbours: see `neighbour_purity`.
        dims: see `kde_entropy`.

    Raises:
        ValueError: shapes that do not match, non-finite rows, fewer than two glosses.
    """
    from sklearn.metrics import davies_bouldin_score, silhouette_samples

    rows, labels = checked_rows(features, glosses)
    ids, counts = np.unique(labels, return_counts=True)
    keep = np.isin(labels, ids[counts >= max(min_count, 2)])
    rows, labels = rows[keep], labels[keep]
    ids, numbers = np.unique(labels, return_inverse=True)
    if len(ids) < 2:
        raise ValueError(f"measures need at least 2 glosses with {max(min_count, 2)} rows, got {len(ids)}.")
    counts = np.bincount(numbers)
    silhouette = silhouette_samples(rows, numbers)
    purity = neighbour_purity(rows, numbers, neighbours)
    fisher = fisher_ratio(rows, numbers)
    values = {
        "fisher": float(fisher.mean()),
        "silhouette": float(silhouette.mean()),
        "davies_bouldin": float(davies_bouldin_score(rows, numbers)),
        "neighbour_purity": float(purity.mean()),
    }
    zeros = int((~rows.any(axis=1)).sum())
    if not zeros:  # a row of zeros has no direction
        values["alignment"], values["uniformity"] = alignment_uniformity(rows, numbers)
    return Measures(
        values={**values, "kde_entropy": kde_entropy(rows, dims)},
        by_gloss={
            "fisher": fisher,
            "silhouette": np.bincount(numbers, silhouette) / counts,
            "neighbour_purity": np.bincount(numbers, purity) / counts,
        },
        gloss_ids=ids,
        settings={"rows": len(rows), "neighbours": neighbours, "dims": dims, "metric": "euclidean", "zero_rows": zeros},
    )


def fisher_ratio(features: np.ndarray, glosses: np.ndarray) -> np.ndarray:
    """Distance of each gloss's mean from the other means, relative to their spreads. Higher is better. [K]

    F(i) = mean_{j != i} |mean_i - mean_j|^2 / (var_i + var_j), with var the mean squared distance of a gloss's rows
    from its mean. Capped at 1e12 for two glosses without spread at different points.

    Args:
        features: [N, D]
        glosses: numbers 0..K-1, each with at least one row. [N]
    """
    rows, labels = checked_rows(features, glosses)
    counts = np.bincount(labels)
    means = group_means(rows, labels)
    spread = np.bincount(labels, ((rows - means[labels]) ** 2).sum(axis=1)) / counts
    squares = (means**2).sum(axis=1)
    apart = np.maximum(squares[:, None] + squares - 2 * means @ means.T, 0)
    ratio = np.minimum(apart / np.maximum(spread[:, None] + spread, 1e-300), 1e12)
    np.fill_diagonal(ratio, 0)
    return np.asarray(ratio.sum(axis=1) / (len(counts) - 1))


def neighbour_purity(features: np.ndarray, glosses: np.ndarray, neighbours: int = 5) -> np.ndarray:
    """Share of each row's nearest other rows that have the same gloss, 0..1. Higher is better. [N]

    For a gloss of n rows, min(neighbours, n - 1) neighbours are used, so rare glosses can reach 1.

    Args:
        features: [N, D]
        glosses: numbers 0..K-1, each with at least two rows. [N]
        neighbours: number of neighbours.
    """
    from sklearn.neighbors import NearestNeighbors

    rows, labels = checked_rows(features, glosses)
    if neighbours < 1:
        raise ValueError(f"neighbour_purity needs at least 1 neighbour, got {neighbours}.")
    asked = np.minimum(neighbours, np.bincount(labels)[labels] - 1)
    search = NearestNeighbors(n_neighbors=int(asked.max()), algorithm="brute").fit(rows)
    nearest = search.kneighbors(return_distance=False)  # a row is not its own neighbour
    within = np.arange(nearest.shape[1]) < asked[:, None]
    return np.asarray(((labels[nearest] == labels[:, None]) & within).sum(axis=1) / asked)


def alignment_uniformity(features: np.ndarray, glosses: np.ndarray) -> tuple[float, float]:
    """How close rows of the same gloss are, and how evenly all rows fill the sphere; for both, lower is better.

    With rows scaled to length 1: alignment = mean |x - y|^2 over pairs of the same gloss, with equal weight per gloss
    (as in the ratio); uniformity = log of the mean of exp(-2 |x - y|^2) over all pairs of different rows.

    Args:
        features: no row may be all zeros. [N, D]
        glosses: numbers 0..K-1, each with at least two rows. [N]

    Source: Wang & Isola 2020.
    """
    rows, labels = checked_rows(features, glosses)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not lengths.all():
        raise ValueError(
            f"alignment and uniformity need rows that are not all zeros, got {int((lengths == 0).sum())} such rows; "
            "leave them out."
        )
    rows = rows / lengths
    counts = np.bincount(labels)
    means = group_means(rows, labels)
    spread = 1 - (means**2).sum(axis=1)  # mean squared distance of unit rows from their mean
    alignment = float(np.mean(2 * np.maximum(spread, 0) * counts / (counts - 1)))
    total = 0.0
    for start in range(0, len(rows), CHUNK):
        total += float(np.exp(-4 + 4 * np.minimum(rows[start : start + CHUNK] @ rows.T, 1)).sum())
    pairs = len(rows) * (len(rows) - 1)
    return alignment, float(np.log((total - len(rows)) / pairs))


def kde_entropy(features: np.ndarray, dims: int = 10) -> float:
    """Entropy of the rows by kernel density, in nats: how widely they spread, regardless of gloss.

    Minus the mean log density at the rows, after PCA to `dims` and division by the root mean square (so units do not
    matter); Gaussian kernels with Scott's bandwidth. It does not use glosses. Low means "compact", which SpaMo
    considers good, but which is bad for density. Compare feature sets only with equal `dims` and about equal N.

    Args:
        features: [N, D]
        dims: dimensions kept; at most N and D.

    Source: SpaMo (2025) reports a similar entropy but not its settings; these settings are ours.
    """
    from sklearn.decomposition import PCA
    from sklearn.neighbors import KernelDensity

    rows, _ = checked_rows(features, np.zeros(len(features), dtype=np.int64))
    if dims < 1:
        raise ValueError(f"kde_entropy needs at least 1 dimension, got {dims}.")
    if not np.ptp(rows, axis=0).any():
        raise ValueError(f"kde_entropy needs rows that differ, got {len(rows)} equal rows.")
    kept = PCA(min(dims, *rows.shape), svd_solver="full" if len(rows) < 500 else "covariance_eigh").fit_transform(rows)
    kept = kept / np.sqrt((kept**2).mean())
    return -float(KernelDensity(bandwidth="scott").fit(kept).score_samples(kept).mean())
