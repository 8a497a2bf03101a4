"""Nearness in a feature space: neighbours of a sign, the most typical sign of a gloss, confusable pairs of glosses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from signcl.density import gloss_distances

__all__ = ["Pair", "confusable_pairs", "medoids", "nearest"]

BLOCK = 1024  # rows to compare with all others at a time


@dataclass(frozen=True)
class Pair:
    """Two glosses and their distance."""

    a: int
    b: int
    distance: float
    """Mean distance between a sign of one and a sign of the other."""
    ratio: float
    """`distance` divided by the mean of the two intra-gloss distances; near 1, the two cannot be told apart."""


def nearest(features: Tensor, k: int) -> np.ndarray:
    """The k nearest other rows of each row by Euclidean distance, nearest first; all others if there are fewer than k.

    Args:
        features: one row per sign. [N, D]
        k: number of neighbours.

    Returns:
        Row numbers. [N, min(k, N - 1)] int64
    """
    rows = features.float()
    rows = rows - rows.mean(dim=0)
    count = min(k, len(rows) - 1)
    if count < 1:
        return np.zeros((len(rows), 0), dtype=np.int64)
    found = []
    for start in range(0, len(rows), BLOCK):
        part = rows[start : start + BLOCK]
        apart = torch.cdist(part, rows)
        own = torch.arange(len(part), device=rows.device)
        apart[own, own + start] = torch.inf
        found.append(apart.topk(count, largest=False).indices)
    return torch.cat(found).cpu().numpy()


def medoids(features: Tensor, glosses: Tensor) -> list[int]:
    """The row of each gloss 0..K-1 with the smallest mean distance to its other rows. [K]"""
    chosen = []
    for gloss in range(int(glosses.max()) + 1):
        own = (glosses == gloss).nonzero().flatten()
        rows = features[own].double()
        if len(rows) > 4 * BLOCK:  # too many pairs: use the distance to the mean instead
            apart = torch.cdist(rows, rows.mean(dim=0, keepdim=True)).flatten()
        else:
            apart = torch.cdist(rows, rows).sum(dim=1)
        chosen.append(int(own[int(apart.argmin())]))
    return chosen


def confusable_pairs(features: Tensor, glosses: Tensor, most: int, min_count: int = 2) -> list[Pair]:
    """The pairs of glosses with the smallest mean distance (paper Eq. 1), nearest first.

    Args:
        features: one row per sign. [N, D]
        glosses: gloss of each row, 0..K-1. [N]
        most: largest number of pairs to return.
        min_count: glosses with fewer signs are left out, since one sign says little about a gloss.
    """
    found = gloss_distances(features, glosses)
    kept = (found.counts >= min_count).nonzero().flatten()
    if len(kept) < 2:
        return []
    mean = found.mean[kept][:, kept]
    ids, intra = found.gloss_ids[kept], mean.diagonal()
    a, b = torch.triu_indices(len(kept), len(kept), offset=1)
    apart = mean[a, b]
    order = apart.argsort()[:most]
    return [
        Pair(
            int(ids[a[i]]),
            int(ids[b[i]]),
            float(apart[i]),
            float(apart[i] / ((intra[a[i]] + intra[b[i]]) / 2).clamp(min=1e-12)),
        )
        for i in order.tolist()
    ]
