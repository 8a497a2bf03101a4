"""Finds the nearest other gloss of each gloss and measures how well the two can be told apart.

SDR divides by the mean distance to *all* other glosses, which hides a single gloss that coincides with another. Here
each gloss is compared with its nearest one only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from signcl.density.ratio import Distance, gloss_distances
from signcl.density.rows import as_array, checked_rows, gloss_numbers

__all__ = ["Confusable", "confusable_glosses", "shuffled_confusable"]

MOST = 300  # of more instances of a gloss, 300 at even steps are compared, from all signers: 45,000 pairs
METRIC = {"euclidean": "euclidean", "squared": "sqeuclidean", "cosine": "cosine"}  # names in scipy
FARTHEST = 100.0  # d' if both distances have no spread but differ


@dataclass(frozen=True)
class Confusable:
    """Each gloss and its nearest other one."""

    gloss_ids: np.ndarray
    """Glosses with at least two rows, ascending. [K]"""
    nearest: np.ndarray
    """The other gloss with the smallest mean distance. [K]"""
    ratio: np.ndarray
    """D(G_i) over the mean distance to the nearest gloss; near 1, the two coincide. Lower is better. [K]"""
    auc: np.ndarray
    """Probability that a pair within the gloss is closer than a pair with the nearest gloss; 0.5 = no difference. [K]
    """
    d_prime: np.ndarray
    """(mean between - mean within) / sqrt of the mean of their variances. Higher is better. [K]"""
    names: tuple[str, ...] | None = None
    """If glosses were given as text, their names in alphabetical order; `gloss_ids` are indices into them."""

    @property
    def pairs(self) -> list[tuple[int, int, float]]:
        """(gloss, nearest gloss, auc), each pair once, the hardest to tell apart first."""
        listed: dict[frozenset[int], tuple[int, int, float]] = {}
        for k in np.argsort(self.auc, kind="stable"):
            one, other = int(self.gloss_ids[k]), int(self.nearest[k])
            listed.setdefault(frozenset((one, other)), (one, other, float(self.auc[k])))
        return list(listed.values())


def confusable_glosses(
    features: np.ndarray | torch.Tensor,
    glosses: Sequence[str] | Sequence[int] | np.ndarray | torch.Tensor,
    *,
    distance: Distance = "euclidean",
    device: torch.device | str | None = None,
) -> Confusable:
    """Compares each gloss with its nearest other gloss.

    The nearest of several is chosen, so without any signs AUC and d' lie below 0.5 and 0, further the fewer instances a
    gloss has: compare with `shuffled_confusable`.

    Args:
        features: one row per sign instance. [N, D]
        glosses: gloss of each row, as a number or as text. [N]
        distance, device: as in `gloss_distances`.

    Raises:
        ValueError: shapes that do not match, non-finite rows, fewer than two glosses, no gloss with two rows.
    """
    names, glosses = gloss_numbers(glosses)
    rows, labels = checked_rows(features, glosses)
    found = gloss_distances(torch.from_numpy(rows), torch.from_numpy(labels), distance=distance, device=device)
    ids, counts, mean = found.gloss_ids.numpy(), found.counts.numpy(), found.mean.numpy()
    several = np.flatnonzero(counts > 1)
    if not len(several):
        raise ValueError("confusable glosses need a gloss with at least 2 rows, got none.")
    between = mean.copy()
    np.fill_diagonal(between, np.inf)
    nearest = between.argmin(axis=1)
    centred = rows if distance == "cosine" else rows - rows.mean(axis=0)
    compared = {*several.tolist(), *nearest[several].tolist()}
    members = {k: centred[_spread(np.flatnonzero(labels == ids[k]))] for k in compared}
    told = [_told_apart(members[k], members[nearest[k]], METRIC[distance]) for k in several.tolist()]
    auc, d_prime = (np.array(column) for column in zip(*told, strict=True))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = mean[several, several] / mean[several, nearest[several]]
    return Confusable(
        ids[several], ids[nearest[several]], np.nan_to_num(ratio, nan=1.0, posinf=1e12), auc, d_prime, names
    )


def shuffled_confusable(
    features: np.ndarray | torch.Tensor,
    glosses: Sequence[str] | Sequence[int] | np.ndarray | torch.Tensor,
    *,
    seed: int = 0,
    distance: Distance = "euclidean",
    device: torch.device | str | None = None,
) -> Confusable:
    """`confusable_glosses` with randomly permuted glosses: the chance level.

    Args:
        features, glosses, distance, device: as in `confusable_glosses`.
        seed: seed of the permutation.

    Raises:
        ValueError: as `confusable_glosses`.
    """
    labels = np.random.default_rng(seed).permutation(as_array(gloss_numbers(glosses)[1]))
    return confusable_glosses(features, labels, distance=distance, device=device)


def _spread(rows: np.ndarray) -> np.ndarray:
    """At most `MOST` of the row numbers, at even steps."""
    return rows if len(rows) <= MOST else rows[np.linspace(0, len(rows) - 1, MOST).round().astype(int)]


def _told_apart(own: np.ndarray, other: np.ndarray, metric: str) -> tuple[float, float]:
    """AUC and d' of distances within `own` against distances to `other`."""
    from scipy.spatial.distance import cdist, pdist

    within, between = pdist(own, metric), cdist(own, other, metric).ravel()
    ordered = np.sort(between)
    # A pair within wins against the pairs between that are farther apart, and against half of those at equal distance.
    farther = len(between) - np.searchsorted(ordered, within, side="right")
    equal = np.searchsorted(ordered, within, side="right") - np.searchsorted(ordered, within, side="left")
    auc = float((farther + 0.5 * equal).mean() / len(between))
    gap, spread = between.mean() - within.mean(), np.sqrt((within.var() + between.var()) / 2)
    if spread == 0:
        return auc, FARTHEST * float(np.sign(gap))
    return auc, float(np.clip(gap / spread, -FARTHEST, FARTHEST))
