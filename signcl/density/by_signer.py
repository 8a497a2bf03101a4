"""Density within and across signers: is a sign near its other instances only when the same person signs?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from signcl.density.ratio import gloss_distances, sign_density_ratio
from signcl.density.rows import checked_rows, numbered

__all__ = ["SignerRatios", "balanced_weights", "signer_ratios"]


@dataclass(frozen=True)
class SignerRatios:
    """Sign Density Ratios within and across signers; lower is better."""

    within: float | None
    """Mean over signers of the ratio of each signer's instances alone; None if nobody makes a sign twice."""
    across: float | None
    """The ratio with pairs of *different* signers only, in numerator and denominator; None if no gloss has two signers.
    """
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
    glosses: Sequence[int] | np.ndarray | torch.Tensor,
    signers: Sequence[object] | np.ndarray,
    *,
    device: torch.device | str | None = None,
) -> SignerRatios:
    """Computes the ratio of each signer, and of pairs across signers.

    Distances are Euclidean; all other glosses have equal weight. Across signers, D(G_i, G_j) is the mean distance
    between a row of G_i and a row of G_j by different signers.

    Args:
        features: one row per sign instance. [N, D]
        glosses: gloss number of each row. [N]
        signers: signer of each row. [N]
        device: as in `gloss_distances`.

    Raises:
        ValueError: shapes that do not match, fewer than two signers.
    """
    rows, labels = checked_rows(features, glosses)
    number = numbered(signers, len(rows), "signer")
    names = sorted({str(signer) for signer in signers})
    if len(names) < 2:
        raise ValueError(f"density by signer needs at least 2 signers, got {len(names)}: {', '.join(names)}.")
    ids, place = np.unique(labels, return_inverse=True)
    sums, pairs = _pair_sums(rows, place, len(ids), device)
    sdr, counted = np.full(len(names), np.nan), np.zeros(len(names), dtype=np.int64)
    for s in range(len(names)):
        own = np.flatnonzero(number == s)
        own_sums, own_pairs = _pair_sums(rows[own], place[own], len(ids), device)
        sums, pairs = sums - own_sums, pairs - own_pairs
        _, repeats = np.unique(place[own], return_counts=True)
        if len(repeats) > 1 and repeats.max() > 1:
            found = sign_density_ratio(torch.from_numpy(rows[own]), torch.from_numpy(place[own]), device=device)
            sdr[s], counted[s] = found.mean, len(found.sdr)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(pairs > 0, sums / pairs, np.nan)
    intra = mean.diagonal().copy()
    np.fill_diagonal(mean, np.nan)
    known = ~np.isnan(mean)
    inter = np.where(known, mean, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    has = ~np.isnan(intra) & (inter > 0)
    return SignerRatios(
        within=float(np.nanmean(sdr)) if (~np.isnan(sdr)).any() else None,
        across=float((intra[has] / inter[has]).mean()) if has.any() else None,
        signers=names,
        rows=np.bincount(number, minlength=len(names)),
        glosses=counted,
        sdr=sdr,
        glosses_across=int(has.sum()),
    )


def balanced_weights(glosses: Sequence[object] | np.ndarray, signers: Sequence[object] | np.ndarray) -> np.ndarray:
    """Row weights that give every signer of a gloss the same total, however often they sign it. [N]"""
    both = numbered([f"{gloss}\0{signer}" for gloss, signer in zip(glosses, signers, strict=True)], None, "row")
    weights: np.ndarray = 1.0 / np.bincount(both)[both]
    return weights


def _pair_sums(
    rows: np.ndarray, labels: np.ndarray, glosses: int, device: torch.device | str | None
) -> tuple[np.ndarray, np.ndarray]:
    """Sum of distances and number of ordered pairs for every two glosses. [K, K] each"""
    sums, pairs = np.zeros((glosses, glosses)), np.zeros((glosses, glosses))
    counts = np.bincount(labels, minlength=glosses).astype(float)
    several = np.outer(counts, counts) - np.diag(counts)
    if len(np.unique(labels)) > 1:
        found = gloss_distances(torch.from_numpy(rows), torch.from_numpy(labels), device=device)
        at = np.ix_(found.gloss_ids.numpy(), found.gloss_ids.numpy())
        sums[at] = found.mean.numpy() * several[at]
    elif len(rows) > 1:  # `gloss_distances` needs two glosses
        wide = torch.from_numpy(rows)
        sums[labels[0], labels[0]] = float(torch.cdist(wide, wide).sum())
    pairs += several
    return sums, pairs
