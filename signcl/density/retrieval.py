"""Can a sign be found again? For each sign instance, others are ranked by distance; its own gloss should come first.

The Sign Density Ratio averages over all other glosses, so it does not notice two signs that coincide, and dimensions
that the glosses do not use move it. Retrieval asks what a decoder needs: are the nearest signs the same sign, in
*other clips*, or made by *other signers*?
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from signcl.density.rows import as_array, checked_rows, gloss_numbers, numbered

__all__ = ["RECALL_AT", "Retrieval", "RetrievalInterval", "retrieval", "retrieval_interval", "shuffled_retrieval"]

RECALL_AT = (1, 5, 10)
HUBS_AT = 10  # neighbours that are counted for hubness
BLOCK = 1 << 24  # distances held at a time, float64: 128 MB
TIE = 1e-12  # of the mean squared length: distances this near are equal, and equal ones count against the gloss


@dataclass(frozen=True)
class Retrieval:
    """How well signs find their own kind. All values in 0..1 but hubness; higher is better."""

    map: float
    """Mean average precision over the queries: 1 where every instance of the gloss comes before all others."""
    one_nn: float
    """Share of queries whose nearest candidate has their gloss."""
    recall: dict[int, float]
    """k -> share of queries with their gloss among the k nearest candidates."""
    by_gloss: np.ndarray
    """Mean average precision of each gloss. [K]"""
    gloss_ids: np.ndarray
    """Glosses that were asked for, ascending. [K]"""
    hubness: float
    """Skewness of how often a row is among the 10 nearest of another; near 0 is even, above 1 a few rows are near to
    everything (Radovanovic et al. 2010)."""
    queries: int
    without_match: int
    """Instances that could not be asked for: their gloss is in no other clip (or of no other signer)."""
    average_precision: np.ndarray
    """Of each query. [Q]"""
    found_first: np.ndarray
    """Whether the nearest candidate has its gloss. [Q]"""
    asked: np.ndarray
    """Row of each query. [Q]"""


@dataclass(frozen=True)
class RetrievalInterval:
    """A percentile bootstrap over groups of queries; candidates stay as they are."""

    map: tuple[float, float]
    one_nn: tuple[float, float]
    level: float
    samples: int
    seed: int


def retrieval(
    features: np.ndarray | torch.Tensor,
    glosses: Sequence[int] | np.ndarray | torch.Tensor,
    clips: Sequence[object] | np.ndarray,
    *,
    signers: Sequence[object] | np.ndarray | None = None,
    distance: str = "euclidean",
    recall_at: Sequence[int] = RECALL_AT,
    device: torch.device | str | None = None,
) -> Retrieval:
    """Rank, for each sign instance, the instances of other clips by distance. Exact; time grows with N^2.

    AP(q) = 1/R sum_{r relevant} (relevant candidates no farther than r) / (candidates no farther than r)

    Of candidates at the same distance the wrong ones come first, so features that are all equal find nothing.

    Args:
        features: one row per sign instance. [N, D]
        glosses: gloss number of each row. [N]
        clips: clip of each row: a row is no candidate for a row of its own clip, which shares signer, light and
            neighbours. [N]
        signers: of each row; where given, candidates are of *other signers*. [N]
        distance: "euclidean" or "cosine".
        recall_at: the k of `recall`.
        device: where distances are computed; None is the CPU.

    Raises:
        ValueError: shapes that do not fit, rows that are not finite, no gloss in two clips (or of two signers).

    Source: the usual measures of retrieval (Manning et al. 2008, chapter 8).
    """
    rows, labels = checked_rows(features, glosses)
    if distance not in ("euclidean", "cosine"):
        raise ValueError(f"retrieval needs distance='euclidean' or 'cosine', got {distance!r}.")
    blocked = numbered(signers if signers is not None else clips, len(rows), "clip" if signers is None else "signer")
    ids, numbers, counts = np.unique(labels, return_inverse=True, return_counts=True)
    order = np.argsort(numbers, kind="stable")  # rows of a gloss stand together
    place = torch.device("cpu" if device is None or torch.device(device).type == "mps" else device)
    x = torch.from_numpy(rows[order]).to(place)
    x = x - x.mean(dim=0) if distance == "euclidean" else torch.nn.functional.normalize(x, dim=1)
    owner = torch.from_numpy(blocked[order]).to(place)
    squares = x.square().sum(dim=1)
    step = max(float(squares.mean()) * TIE, 1e-300)
    precision = np.full(len(rows), np.nan)
    first = np.zeros(len(rows))
    rank = np.full(len(rows), np.inf)  # of the first relevant candidate, from 1
    near = torch.zeros(len(rows), dtype=torch.float64, device=place)
    starts = np.concatenate([[0], np.cumsum(counts)])
    size = max(1, BLOCK // len(rows))
    for start, stop in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        for begin in range(start, stop, size):
            here = slice(begin, min(begin + size, stop))
            apart = squares[here, None] + squares - 2 * x[here] @ x.T
            apart = (apart / step).round_().clamp_(min=0)
            apart.masked_fill_(owner[here, None] == owner, torch.inf)
            k = min(HUBS_AT, len(rows) - 1)
            nearest = apart.topk(k, dim=1, largest=False)
            near.index_add_(0, nearest.indices.flatten(), nearest.values.isfinite().flatten().double())
            right = apart[:, start:stop].sort(dim=1).values  # candidates of the gloss, nearest first; inf where none
            everything = apart.sort(dim=1).values
            no_farther = torch.searchsorted(everything, right, right=True).double()
            of_gloss = torch.searchsorted(right, right, right=True).double()
            # Ties: the wrong ones first, so the i-th right one stands behind all wrong ones at its distance.
            number = torch.arange(1, stop - start + 1, device=place, dtype=torch.float64)
            at = no_farther - of_gloss + number
            real = right.isfinite()
            relevant = real.sum(dim=1)
            mean = (number / at).where(real, 0).sum(dim=1) / relevant.clamp(min=1)
            found = order[here]
            precision[found] = mean.where(relevant > 0, torch.nan).cpu().numpy()
            rank[found] = at[:, 0].where(real[:, 0], torch.inf).cpu().numpy()
            first[found] = (rank[found] == 1).astype(float)
    asked = np.flatnonzero(~np.isnan(precision))
    if not len(asked):
        other = "made by two signers" if signers is not None else "in two clips"
        raise ValueError(f"retrieval needs a gloss {other}, got {len(rows)} instances of {len(ids)} glosses, none so.")
    queries, of_queries = precision[asked], numbers[asked]
    known = np.unique(of_queries)
    occurrence = near.cpu().numpy()
    spread = occurrence.std()
    skew = float((((occurrence - occurrence.mean()) / spread) ** 3).mean()) if spread > 0 else 0.0
    return Retrieval(
        map=float(queries.mean()),
        one_nn=float(first[asked].mean()),
        recall={k: float((rank[asked] <= k).mean()) for k in recall_at},
        by_gloss=np.array([queries[of_queries == number].mean() for number in known]),
        gloss_ids=ids[known],
        hubness=skew,
        queries=len(asked),
        without_match=len(rows) - len(asked),
        average_precision=queries,
        found_first=first[asked],
        asked=asked,
    )


def shuffled_retrieval(
    features: np.ndarray | torch.Tensor,
    glosses: Sequence[int] | np.ndarray | torch.Tensor,
    clips: Sequence[object] | np.ndarray,
    *,
    seed: int = 0,
    signers: Sequence[object] | np.ndarray | None = None,
    distance: str = "euclidean",
    device: torch.device | str | None = None,
) -> Retrieval:
    """The same after the glosses were dealt out again at random: what features give that know nothing of them."""
    labels = np.random.default_rng(seed).permutation(as_array(gloss_numbers(glosses)[1]))
    return retrieval(features, labels, clips, signers=signers, distance=distance, device=device)


def retrieval_interval(
    found: Retrieval,
    groups: Sequence[object] | np.ndarray,
    *,
    samples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> RetrievalInterval:
    """How far the values would move with other queries of the same kind.

    Args:
        found: what was measured.
        groups: of each *row*, such as its clip or its signer; groups are drawn whole. [N]
    """
    precision, first = group_bootstrap(
        np.stack([found.average_precision, found.found_first], axis=1),
        numbered(groups, None, "group")[found.asked],
        samples,
        seed,
    ).T
    ends = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.quantile(precision, ends)
    low_first, high_first = np.quantile(first, ends)
    return RetrievalInterval((float(low), float(high)), (float(low_first), float(high_first)), level, samples, seed)


def group_bootstrap(values: np.ndarray, groups: np.ndarray, samples: int, seed: int) -> np.ndarray:
    """Means of columns over groups that are drawn with replacement. [Q, C], [Q] -> [samples, C]"""
    _, number = np.unique(groups, return_inverse=True)
    count = int(number.max()) + 1
    sums = np.zeros((count, values.shape[1]))
    np.add.at(sums, number, values)
    sizes = np.bincount(number, minlength=count).astype(float)
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=samples)
    return np.asarray((drawn @ sums) / np.maximum(drawn @ sizes, 1)[:, None])
