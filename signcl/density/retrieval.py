"""Sign retrieval: for each sign instance, ranks the others by distance; those of the same gloss should come first.

The Sign Density Ratio averages over all other glosses, so it hides two signs that coincide, and dimensions unrelated to
the glosses affect it. Retrieval measures what a decoder needs: are the nearest signs in *other clips*, or by *other
signers*, the same sign?
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from signcl.density.jackknife import jackknife_interval
from signcl.density.rows import as_array, checked_rows, gloss_numbers, numbered

__all__ = [
    "RECALL_AT",
    "Retrieval",
    "RetrievalInterval",
    "hubness_interval",
    "retrieval",
    "retrieval_interval",
    "shuffled_retrieval",
]

RECALL_AT = (1, 5, 10)
HUBS_AT = 10  # neighbours counted for hubness
BLOCK = 1 << 24  # distances in memory at a time, float64: 128 MB
TIE = 1e-12  # relative to the mean squared length: closer distances are ties, and ties count against the gloss


@dataclass(frozen=True)
class Retrieval:
    """How well signs retrieve the same sign. Values are in 0..1, except hubness; higher is better."""

    map: float
    """Mean average precision over the queries; 1 if every instance of the gloss comes before all others."""
    one_nn: float
    """Share of queries whose nearest candidate has the same gloss."""
    recall: dict[int, float]
    """k -> share of queries with the same gloss among the k nearest candidates."""
    by_gloss: np.ndarray
    """Mean average precision of each gloss. [K]"""
    gloss_ids: np.ndarray
    """Glosses with queries, ascending. [K]"""
    hubness: float
    """Skewness of how often a row is among the 10 nearest of another. Near 0: evenly spread; above 1: a few rows are
    close to everything (Radovanovic et al. 2010)."""
    queries: int
    without_match: int
    """Instances that cannot be queries: their gloss is in no other clip (or by no other signer)."""
    average_precision: np.ndarray
    """Average precision of each query. [Q]"""
    found_first: np.ndarray
    """Whether the nearest candidate of each query has the same gloss. [Q]"""
    of_query: np.ndarray
    """Gloss of each query. [Q]"""
    asked: np.ndarray
    """Row of each query. [Q]"""
    ranks: np.ndarray
    """Rank of the first candidate of the same gloss, from 1, for each query. [Q]"""
    neighbours: np.ndarray
    """Nearest candidates of every row, at most 10, as row numbers; -1 where there are fewer. [N, k]"""
    names: tuple[str, ...] | None = None
    """If glosses were given as text, their names in alphabetical order; `gloss_ids` are indices into them."""

    @property
    def found_by_gloss(self) -> np.ndarray:
        """Share of the queries of each gloss whose nearest candidate has the same gloss. [K]"""
        of_gloss = np.searchsorted(self.gloss_ids, self.of_query)
        share: np.ndarray = np.bincount(of_gloss, self.found_first) / np.bincount(of_gloss)
        return share


@dataclass(frozen=True)
class RetrievalInterval:
    """Percentile bootstrap intervals over groups of queries; the candidates stay fixed."""

    map: tuple[float, float]
    one_nn: tuple[float, float]
    recall: dict[int, tuple[float, float]]
    """k -> interval."""
    level: float
    samples: int
    seed: int


def retrieval(
    features: np.ndarray | torch.Tensor,
    glosses: Sequence[str] | Sequence[int] | np.ndarray | torch.Tensor,
    clips: Sequence[object] | np.ndarray | torch.Tensor,
    *,
    signers: Sequence[object] | np.ndarray | torch.Tensor | None = None,
    distance: str = "euclidean",
    recall_at: Sequence[int] = RECALL_AT,
    device: torch.device | str | None = None,
) -> Retrieval:
    """Measures whether the nearest signs in other clips are the same sign. Exact; time grows with N^2.

    AP(q) = 1/R sum_{r relevant} (relevant candidates no farther than r) / (candidates no farther than r)

    Among candidates at the same distance, wrong ones are ranked first, so constant features score lowest.

    Args:
        features: one row per sign instance. [N, D]
        glosses: gloss of each row, as a number or as text. [N]
        clips: clip of each row. Rows of the query's clip are not candidates, because they share signer, light and
            neighbours. [N]
        signers: signer of each row; if given, only rows of *other signers* are candidates. [N]
        distance: "euclidean" or "cosine".
        recall_at: the values of k for `recall`.
        device: device for the distances; None is the CPU.

    Raises:
        ValueError: shapes that do not match, non-finite rows, fewer than two glosses, no gloss in two clips (or by two
            signers).

    Source: standard retrieval measures (Manning et al. 2008, chapter 8).
    """
    names, glosses = gloss_numbers(glosses)
    rows, labels = checked_rows(features, glosses)
    if distance not in ("euclidean", "cosine"):
        raise ValueError(f"retrieval needs distance='euclidean' or 'cosine', got {distance!r}.")
    blocked = numbered(signers if signers is not None else clips, len(rows), "clip" if signers is None else "signer")
    ids, numbers, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(ids) < 2:
        raise ValueError(
            f"retrieval needs at least 2 glosses, got {len(rows)} instances of {len(ids)}: any order of one gloss is "
            "right; give instances of more than one sign."
        )
    order = np.argsort(numbers, kind="stable")  # rows of a gloss are contiguous
    place = torch.device("cpu" if device is None or torch.device(device).type == "mps" else device)
    x = torch.from_numpy(rows[order]).to(place)
    x = x - x.mean(dim=0) if distance == "euclidean" else torch.nn.functional.normalize(x, dim=1)
    owner = torch.from_numpy(blocked[order]).to(place)
    squares = x.square().sum(dim=1)
    step = max(float(squares.mean()) * TIE, 1e-300)
    precision = np.full(len(rows), np.nan)
    first = np.zeros(len(rows))
    rank = np.full(len(rows), np.inf)  # of the first relevant candidate, from 1
    k = min(HUBS_AT, len(rows) - 1)
    neighbours = np.full((len(rows), k), -1)
    starts = np.concatenate([[0], np.cumsum(counts)])
    size = max(1, BLOCK // len(rows))
    for start, stop in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        for begin in range(start, stop, size):
            here = slice(begin, min(begin + size, stop))
            apart = squares[here, None] + squares - 2 * x[here] @ x.T
            apart = (apart / step).round_().clamp_(min=0)
            apart.masked_fill_(owner[here, None] == owner, torch.inf)
            nearest = apart.topk(k, dim=1, largest=False)
            own = order[nearest.indices.cpu().numpy()]
            neighbours[order[here]] = np.where(nearest.values.isfinite().cpu().numpy(), own, -1)
            right = apart[:, start:stop].sort(dim=1).values  # candidates of the gloss, nearest first; inf = excluded
            everything = apart.sort(dim=1).values
            no_farther = torch.searchsorted(everything, right, right=True).double()
            of_gloss = torch.searchsorted(right, right, right=True).double()
            # Ties: wrong ones first, so the i-th right candidate is ranked after all wrong ones at its distance.
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
        raise ValueError(f"retrieval needs a gloss {other}, but none of {len(ids)} glosses ({len(rows)} instances) is.")
    queries, of_queries = precision[asked], numbers[asked]
    known = np.unique(of_queries)
    return Retrieval(
        map=float(queries.mean()),
        one_nn=float(first[asked].mean()),
        recall={k: float((rank[asked] <= k).mean()) for k in recall_at},
        by_gloss=np.array([queries[of_queries == number].mean() for number in known]),
        gloss_ids=ids[known],
        hubness=_hubness(neighbours, len(rows)),
        queries=len(asked),
        without_match=len(rows) - len(asked),
        average_precision=queries,
        found_first=first[asked],
        of_query=labels[asked],
        asked=asked,
        ranks=rank[asked],
        neighbours=neighbours,
        names=names,
    )


def shuffled_retrieval(
    features: np.ndarray | torch.Tensor,
    glosses: Sequence[str] | Sequence[int] | np.ndarray | torch.Tensor,
    clips: Sequence[object] | np.ndarray | torch.Tensor,
    *,
    seed: int = 0,
    signers: Sequence[object] | np.ndarray | torch.Tensor | None = None,
    distance: str = "euclidean",
    device: torch.device | str | None = None,
) -> Retrieval:
    """`retrieval` with randomly permuted glosses: the chance level.

    Args:
        features, glosses, clips, signers, distance, device: as in `retrieval`.
        seed: seed of the permutation.

    Raises:
        ValueError: as `retrieval`.
    """
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
    """Intervals of the retrieval scores for other queries of the same kind.

    Args:
        found: the retrieval result.
        groups: group of each *row*, such as its clip or signer; the rows of a group are drawn together. [N]
        samples: number of resamples.
        seed: seed of the resampling.
        level: coverage of the intervals.

    Returns:
        A (low, high) pair for each score, in the unit of the score.
    """
    if samples < 1 or not 0 < level < 1:
        raise ValueError(f"an interval needs samples >= 1 and a level between 0 and 1, got {samples} and {level}.")
    among = [found.ranks <= k for k in found.recall]
    columns = np.stack([found.average_precision, found.found_first, *among], axis=1)
    drawn = group_bootstrap(columns, numbered(groups, None, "group")[found.asked], samples, seed)
    ends = [(float(low), float(high)) for low, high in np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0).T]
    return RetrievalInterval(
        map=ends[0],
        one_nn=ends[1],
        recall=dict(zip(found.recall, ends[2:], strict=True)),
        level=level,
        samples=samples,
        seed=seed,
    )


def hubness_interval(
    found: Retrieval, groups: Sequence[object] | np.ndarray, *, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """Interval of the hubness for other queries of the same kind, by a jackknife; the candidates stay fixed.

    Args:
        found: the retrieval result.
        groups: group of each *row*, such as its clip or signer, left out together. [N]
        seed, level: as in `jackknife_interval`.

    Returns:
        Low and high end; NaN with fewer than 3 groups.
    """
    ((low, high),) = jackknife_interval(
        lambda kept: np.array([_hubness(found.neighbours[kept], len(kept))]), groups, level=level, seed=seed
    )
    return float(low), float(high)


def _hubness(neighbours: np.ndarray, candidates: int) -> float:
    """Skewness of how often each of the candidates is a neighbour; 0 if all are equally often."""
    counts = np.bincount(neighbours[neighbours >= 0], minlength=candidates)
    spread = counts.std()
    return float((((counts - counts.mean()) / spread) ** 3).mean()) if spread > 0 else 0.0


def group_bootstrap(values: np.ndarray, groups: np.ndarray, samples: int, seed: int) -> np.ndarray:
    """Column means over groups drawn with replacement. [Q, C], [Q] -> [samples, C]"""
    _, number = np.unique(groups, return_inverse=True)
    count = int(number.max()) + 1
    sums = np.zeros((count, values.shape[1]))
    np.add.at(sums, number, values)
    sizes = np.bincount(number, minlength=count).astype(float)
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=samples)
    return np.asarray((drawn @ sums) / np.maximum(drawn @ sizes, 1)[:, None])
