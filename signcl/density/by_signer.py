"""Density within and across signers: is a sign near its other instances only when the same person signs?

Both ratios come with an interval over signers. Few signers allow no bootstrap, so each is left out once (jackknife)
and the ratios of the rest give a standard error, multiplied by Student's t.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from signcl.density.jackknife import around_mean
from signcl.density.ratio import Distance, check_options, sign_density_ratio
from signcl.density.rows import checked_rows, numbered

__all__ = ["SignerRatios", "balanced_weights", "signer_ratios"]

BLOCK = 1 << 22  # distances in memory at a time
KEPT = 20_000_000  # numbers kept so that no pair is measured twice: 160 MB


@dataclass(frozen=True)
class SignerRatios:
    """Sign Density Ratios within and across signers; lower is better."""

    within: float | None
    """Mean over signers of the ratio of each signer's instances alone; None if nobody makes a sign twice."""
    across: float | None
    """The ratio with pairs of *different* signers only, in numerator and denominator; None if no gloss has two signers.
    """
    within_interval: tuple[float, float] | None
    """95 % for other signers; None with a ratio of one signer only."""
    across_interval: tuple[float, float] | None
    """95 % for other signers; None if a ratio without one of the signers does not exist, as with two signers."""
    signers: list[str]
    """[S]"""
    rows: np.ndarray
    """Instances of each signer. [S]"""
    glosses: np.ndarray
    """Glosses of each signer that have a ratio. [S]"""
    sdr: np.ndarray
    """Ratio of each signer; NaN for a signer without a ratio. [S]"""
    glosses_across: int
    """Number of glosses in `across`: those with at least two signers."""


def signer_ratios(
    features: np.ndarray | torch.Tensor,
    glosses: Sequence[str] | Sequence[int] | np.ndarray | torch.Tensor,
    signers: Sequence[object] | np.ndarray | torch.Tensor,
    *,
    distance: Distance = "euclidean",
    device: torch.device | str | None = None,
) -> SignerRatios:
    """Computes the ratio of each signer, and of pairs across signers.

    All other glosses have equal weight. Across signers, D(G_i, G_j) is the mean distance between a row of G_i and a row
    of G_j by different signers.

    Args:
        features: one row per sign instance. [N, D]
        glosses: gloss of each row, as a number or as text. [N]
        signers: signer of each row. [N]
        distance, device: as in `sign_density_ratio`.

    Raises:
        ValueError: shapes that do not match, fewer than two signers, all rows equal; with distance="cosine", a row of
            zeros.

    Source: intervals as in Efron & Tibshirani 1993, chapter 11.
    """
    check_options(distance, "gloss", 2)
    rows, labels = checked_rows(features, glosses)
    number = numbered(signers, len(rows), "signer")
    given = signers.tolist() if isinstance(signers, torch.Tensor) else signers
    names = sorted({str(signer) for signer in given})
    if len(names) < 2:
        raise ValueError(f"density by signer needs at least 2 signers, got {len(names)}: {', '.join(names)}.")
    if not np.ptp(rows, axis=0).any():
        raise ValueError(f"density by signer needs rows that differ, got {len(rows)} equal rows.")
    place = np.unique(labels, return_inverse=True)[1]
    sdr, counted = np.full(len(names), np.nan), np.zeros(len(names), dtype=np.int64)
    for s in range(len(names)):
        own = np.flatnonzero(number == s)
        repeats = np.bincount(place[own])
        if (repeats > 0).sum() > 1 and repeats.max() > 1 and np.ptp(rows[own], axis=0).any():
            found = sign_density_ratio(rows[own], place[own], distance=distance, device=device)
            sdr[s], counted[s] = found.mean, len(found.sdr)
    pairs = _Pairs(rows, place, number, distance, device)
    ratios = pairs.across()
    with_ratio = sdr[~np.isnan(sdr)]
    return SignerRatios(
        within=float(with_ratio.mean()) if len(with_ratio) else None,
        across=float(ratios.mean()) if len(ratios) else None,
        within_interval=_around(float(with_ratio.mean()), with_ratio) if len(with_ratio) > 1 else None,
        across_interval=_left_out(pairs, float(ratios.mean()), len(names)) if len(ratios) else None,
        signers=names,
        rows=np.bincount(number, minlength=len(names)),
        glosses=counted,
        sdr=sdr,
        glosses_across=len(ratios),
    )


def balanced_weights(
    glosses: Sequence[object] | np.ndarray | torch.Tensor, signers: Sequence[object] | np.ndarray | torch.Tensor
) -> np.ndarray:
    """Row weights that give every signer of a gloss the same total, however often they sign it.

    Args:
        glosses: gloss of each row, as a number or as text. [N]
        signers: signer of each row. [N]

    Returns:
        Weights for `sign_density_ratio(weights=...)`: 1 over the signer's number of rows of this gloss. [N]

    Raises:
        ValueError: different numbers of glosses and signers.
    """
    both = np.stack([numbered(glosses, None, "gloss"), numbered(signers, len(glosses), "signer")])
    cell = np.unique(both, axis=1, return_inverse=True)[1].reshape(-1)
    weights: np.ndarray = 1.0 / np.bincount(cell)[cell]
    return weights


class _Pairs:
    """Sums of distances between rows of different signers, for every two glosses."""

    def __init__(
        self,
        rows: np.ndarray,
        place: np.ndarray,
        number: np.ndarray,
        distance: str,
        device: torch.device | str | None,
    ) -> None:
        order = np.argsort(place, kind="stable")  # rows of a gloss are contiguous
        self.place, self.number, self.distance = place[order], number[order], distance
        self.counts = np.bincount(place)
        self.starts = np.cumsum(self.counts) - self.counts
        at = torch.device("cpu" if device is None or torch.device(device).type == "mps" else device)
        x = torch.from_numpy(rows[order]).to(at)
        if distance == "cosine":
            if not x.any(dim=1).all():
                raise ValueError("cosine distance needs rows that are not all zeros; drop those, or use 'euclidean'.")
            self.rows = torch.nn.functional.normalize(x, dim=1)
        else:
            self.rows = x - x.mean(dim=0)
        signers, glosses = int(number.max()) + 1, len(self.counts)
        self.kept = [self.of(s) for s in range(signers)] if signers * glosses * glosses <= KEPT else None
        self.sums, self.pairs = np.zeros((glosses, glosses)), np.zeros((glosses, glosses))
        for s in range(signers):
            sums, pairs = self.kept[s] if self.kept else self.of(s)
            self.sums += sums
            self.pairs += pairs

    def of(self, signer: int) -> tuple[np.ndarray, np.ndarray]:
        """Sums and numbers of the pairs of a row of this signer and a row of another one. [K, K] each"""
        own = np.flatnonzero(self.number == signer)
        others = (self.number != signer).astype(float)
        sums = np.zeros((len(self.counts), len(self.counts)))
        for part in np.array_split(own, -(-len(own) * len(others) // BLOCK)):
            apart = torch.cdist(self.rows[part], self.rows)
            if self.distance != "euclidean":
                apart = apart.square() * (0.5 if self.distance == "cosine" else 1.0)
            by_gloss = np.add.reduceat(apart.cpu().numpy() * others, self.starts, axis=1)
            np.add.at(sums, self.place[part], by_gloss)
        mine = np.bincount(self.place[own], minlength=len(self.counts))
        return sums, np.outer(mine, self.counts - mine).astype(float)

    def across(self, without: int | None = None) -> np.ndarray:
        """Ratio of each gloss that has pairs, over all signers or without one of them."""
        sums, pairs = self.sums, self.pairs
        if without is not None:  # a pair counts once in each direction
            own, several = self.kept[without] if self.kept else self.of(without)
            sums, pairs = sums - own - own.T, pairs - several - several.T
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = np.where(pairs > 0, sums / pairs, np.nan)
        intra = mean.diagonal().copy()
        np.fill_diagonal(mean, np.nan)
        known = ~np.isnan(mean)
        inter = np.where(known, mean, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
        has = ~np.isnan(intra) & (inter > 0)
        ratios: np.ndarray = intra[has] / inter[has]
        return ratios


def _left_out(pairs: _Pairs, measured: float, signers: int) -> tuple[float, float] | None:
    """The interval of the ratio across signers from the ratios without one signer each."""
    rest = [pairs.across(without=s) for s in range(signers)]
    if signers < 3 or not all(len(ratios) for ratios in rest):
        return None
    without = np.array([ratios.mean() for ratios in rest])
    return _around(measured, -(signers - 1) * without)  # pseudo-values, up to a constant


def _around(measured: float, values: np.ndarray) -> tuple[float, float]:
    low, high = around_mean(np.array(measured), values)
    return float(low), float(high)
