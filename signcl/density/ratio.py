"""Sign Density Ratio: how crowded each gloss is among the others, for anybody's features (paper section 3.1, Eq. 1-3).

Pure functions of a feature matrix and a gloss per row. Which row stands for a sign is chosen in `spans`; how the pairs
are summed without an N x N matrix is in `pairs`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from signcl.density.pairs import Moments, Progress, Rows, distance_blocks, within_sums

__all__ = [
    "Density",
    "GlossDistances",
    "SdrInterval",
    "gloss_distances",
    "sdr_interval",
    "shuffle_baseline",
    "sign_density_ratio",
    "to_rows",
]

Distance = Literal["euclidean", "squared", "cosine"]
Inter = Literal["gloss", "instance"]
BLOCK = 1024  # rows of a block: 4 MB of float32 distances, which stays in the cache of a CPU core
BLOCK_DEVICE = 8192  # the same on an accelerator, where large products are cheap and each step has a price


@dataclass(frozen=True)
class Density:
    """Inter, intra and their ratio for every gloss that has enough rows. All distances are float64."""

    gloss_ids: Tensor
    """The measured glosses, ascending. [K] long"""
    counts: Tensor
    """Rows of each. [K] long"""
    intra: Tensor
    """D(G_i): mean distance between two different rows of the gloss. [K]"""
    inter: Tensor
    """Mean over the other glosses (or rows) of the distance to this one. [K]"""
    sdr: Tensor
    """intra / inter: lower is better, about 1 where the features know nothing of the glosses. [K]"""
    mean: float
    """Mean of `sdr` over the glosses; the paper prints 100 times this."""
    settings: dict[str, str | int | bool]
    """What moves the number: distance, inter, min_count, others, rows, glosses, rare_glosses (below min_count)."""


@dataclass(frozen=True)
class GlossDistances:
    """Mean distance between every two glosses."""

    gloss_ids: Tensor
    """Ascending. [K] long"""
    counts: Tensor
    """Rows of each. [K] long"""
    mean: Tensor
    """D(G_i, G_j); on the diagonal D(G_i), and 0 for a gloss of one row, which has none. [K, K] float64"""


@dataclass(frozen=True)
class SdrInterval:
    """A bootstrap interval over glosses."""

    mean: float
    low: float
    high: float
    level: float
    """Coverage, such as 0.95."""
    samples: int
    seed: int


class _Sorted(NamedTuple):
    rows: Rows
    gloss_ids: Tensor
    counts: Tensor
    labels: Tensor
    """Gloss of each sorted row, 0..K-1. [N]"""
    starts: Tensor
    """First sorted row of each gloss. [K]"""


def sign_density_ratio(
    features: Tensor | np.ndarray,
    glosses: Tensor | np.ndarray,
    *,
    distance: Distance = "euclidean",
    inter: Inter = "gloss",
    min_count: int = 2,
    others: bool = True,
    block: int | None = None,
    progress: Progress | None = None,
) -> Density:
    """How crowded each gloss is: its own spread over its mean distance to the others. Higher is worse.

    SDR(G_i) = D(G_i) / mean_{j != i} D(G_i, G_j), with D the mean distance between two rows. Unchanged by shifting,
    rotating and scaling all features; changed by scaling single dimensions, by the set of glosses and by `min_count`.

    Exact: every pair counts, in blocks above the diagonal, in memory that does not grow with N^2. The products run in
    float32 for float32 or half features (sums in float64; ratios right to about 1e-6) and in float64 for float64.

    Args:
        features: one row per sign instance; a memory-mapped array is read piece by piece. [N, D]
        glosses: gloss number of each row. [N]
        distance: "euclidean" (paper), "squared" or "cosine" (1 - cosine); the last two need no pairs and are fast.
        inter: "gloss": the mean over the other glosses, each weighing the same (paper). "instance": over their rows.
        min_count: a gloss with fewer rows has no ratio (at least 2: one row has no neighbour of its own).
        others: keep such rare glosses as "others" in the inter-gloss distance of the rest; False drops their rows.
        block: rows multiplied at once; changes speed and memory, not the result. Default 1024, or 8192 off the CPU.
        progress: called with (done, all) as the pairs are worked off.

    Returns:
        The ratio of every gloss with at least `min_count` rows.

    Raises:
        ValueError: shapes that do not fit, NaN or infinite features (counted), all rows equal, fewer than two glosses,
            or no gloss with `min_count` rows.

    Source: paper section 3.1, Eq. 1-3. Not stated there: rare glosses, `min_count`, which split. No code was released.
    """
    if distance not in ("euclidean", "squared", "cosine") or inter not in ("gloss", "instance"):
        raise ValueError(
            "sign_density_ratio needs distance='euclidean', 'squared' or 'cosine' and inter='gloss' or 'instance', "
            f"got distance={distance!r}, inter={inter!r}."
        )
    if min_count < 2:
        raise ValueError(
            f"sign_density_ratio needs min_count of at least 2 (a row is no neighbour of itself), got {min_count}."
        )
    data = _sort(features, glosses, min_count, others)
    counts = data.counts
    kept = (counts >= min_count).nonzero().flatten()  # [K]
    weight = counts.double().reciprocal() if inter == "gloss" else torch.ones_like(counts, dtype=torch.float64)
    with torch.autocast(counts.device.type, enabled=False):  # a measure is not for half precision
        if distance == "euclidean":
            mean_intra, mean_inter = _euclidean(data, kept, weight, block or _block(counts), progress)
        else:
            mean_intra, mean_inter = _squared(data, kept, weight, unit=distance == "cosine")
    sdr = mean_intra / mean_inter
    settings: dict[str, str | int | bool] = {
        "distance": distance,
        "inter": inter,
        "min_count": min_count,
        "others": others,
        "rows": len(data.rows),
        "glosses": len(counts),
        "rare_glosses": len(counts) - len(kept),
    }
    return Density(data.gloss_ids[kept], counts[kept], mean_intra, mean_inter, sdr, float(sdr.mean()), settings)


def gloss_distances(
    features: Tensor | np.ndarray,
    glosses: Tensor | np.ndarray,
    *,
    block: int | None = None,
    progress: Progress | None = None,
) -> GlossDistances:
    """Mean Euclidean distance between every two glosses: small off the diagonal = confusable signs.

    Args:
        features: one row per sign instance. [N, D]
        glosses: gloss number of each row. [N]
        block: rows multiplied at once.
        progress: called with (done, all).

    Raises:
        ValueError: as `sign_density_ratio`.

    Source: paper Eq. 1 (off the diagonal) and Eq. 2 (on it).
    """
    data = _sort(features, glosses, 1, True)
    counts, labels = data.counts, data.labels
    sums = torch.zeros(len(counts), len(counts), dtype=torch.float64, device=labels.device)
    for here, there, distances, mirrored in distance_blocks(data.rows, labels, block or _block(counts), progress):
        i, j = labels[here], labels[there]
        member = torch.nn.functional.one_hot(j - j[0]).to(distances)  # [columns, glosses of this block]
        by_row = (distances @ member).double()
        part = torch.zeros(int(i[-1] - i[0]) + 1, by_row.shape[1], dtype=torch.float64, device=labels.device)
        part.index_add_(0, i - i[0], by_row)
        sums[i[0] : i[-1] + 1, j[0] : j[-1] + 1] += part
        if mirrored:
            sums[j[0] : j[-1] + 1, i[0] : i[-1] + 1] += part.T
    sums *= data.rows.scale
    several = (counts > 1).nonzero().flatten()
    mean = sums / torch.outer(counts, counts)
    mean[several, several] = _within(data, several, block or _block(counts))
    return GlossDistances(data.gloss_ids, counts, mean)


def shuffle_baseline(
    features: Tensor | np.ndarray,
    glosses: Tensor | np.ndarray,
    *,
    seed: int = 0,
    distance: Distance = "euclidean",
    inter: Inter = "gloss",
    min_count: int = 2,
    others: bool = True,
    block: int | None = None,
) -> Density:
    """The same measure after the glosses were dealt out again at random: about 1 in expectation.

    A ratio near this one says that the features do not know the glosses. Counts per gloss stay as they are.

    Args:
        features: as in `sign_density_ratio`. [N, D]
        glosses: as there. [N]
        seed: of the permutation.
        distance, inter, min_count, others, block: as there.
    """
    labels = torch.as_tensor(glosses)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed)).to(labels.device)
    return sign_density_ratio(
        features, labels[order], distance=distance, inter=inter, min_count=min_count, others=others, block=block
    )


def sdr_interval(density: Density, *, samples: int = 1000, seed: int = 0, level: float = 0.95) -> SdrInterval:
    """How far the mean ratio would move with other glosses of the same kind: percentile bootstrap over glosses.

    Each gloss is drawn with its ratio; the distances are not measured again, so the spread that comes from the choice
    of rows within a gloss is not in it.

    Args:
        density: what was measured.
        samples: resamples.
        seed: of the resampling.
        level: coverage of the interval.

    Raises:
        ValueError: no samples, or a level outside 0..1.
    """
    if samples < 1 or not 0 < level < 1:
        raise ValueError(f"sdr_interval needs samples >= 1 and a level between 0 and 1, got {samples} and {level}.")
    ratios = density.sdr.cpu().numpy()
    generator = np.random.default_rng(seed)
    means = np.array([ratios[generator.integers(len(ratios), size=len(ratios))].mean() for _ in range(samples)])
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return SdrInterval(density.mean, float(low), float(high), level, samples, seed)


def to_rows(density: Density, names: dict[int, str] | list[str] | None = None) -> list[dict[str, str | int | float]]:
    """One dictionary per gloss, most crowded first, for a table or a CSV file.

    Args:
        density: what was measured.
        names: written gloss of each gloss number; without it the number stands.

    Raises:
        ValueError: a gloss number that `names` does not know.
    """
    table: list[dict[str, str | int | float]] = []
    order = density.sdr.argsort(descending=True, stable=True).tolist()
    ids, counts = density.gloss_ids.tolist(), density.counts.tolist()
    intra, inter, sdr = density.intra.tolist(), density.inter.tolist(), density.sdr.tolist()
    known = names if isinstance(names, dict) else dict(enumerate(names)) if names is not None else None
    for k in order:
        if known is not None and ids[k] not in known:
            raise ValueError(f"to_rows needs a name for gloss {ids[k]}, got names for {len(known)} glosses.")
        gloss = ids[k] if known is None else known[ids[k]]
        table.append({"gloss": gloss, "count": counts[k], "intra": intra[k], "inter": inter[k], "sdr": sdr[k]})
    return table


def _sort(features: Tensor | np.ndarray, glosses: Tensor | np.ndarray, min_count: int, others: bool) -> _Sorted:
    """Check the input and put the rows in the order of their glosses."""
    labels = torch.as_tensor(glosses)
    if len(features.shape) != 2 or 0 in features.shape or labels.ndim != 1 or len(labels) != len(features):
        raise ValueError(
            "density needs features [N, D] and one gloss number per row [N], "
            f"got shapes {tuple(features.shape)} and {tuple(labels.shape)}."
        )
    if labels.is_floating_point() or labels.is_complex():
        raise ValueError(f"density needs glosses as whole numbers, got {labels.dtype}; number the glosses first.")
    if isinstance(features, Tensor):
        features = features.detach()
        labels = labels.to(features.device)
    gloss_ids, inverse, counts = torch.unique(labels, return_inverse=True, return_counts=True)
    order = inverse.argsort(stable=True)
    if not (counts >= min_count).any():
        raise ValueError(
            f"density needs at least one gloss with {min_count} rows, got {len(labels)} rows of {len(counts)} glosses, "
            f"at most {int(counts.max())} each; lower min_count, or give more instances."
        )
    if not others:
        order = order[(counts >= min_count)[inverse[order]]]
        gloss_ids, counts = gloss_ids[counts >= min_count], counts[counts >= min_count]
    if len(counts) < 2:
        raise ValueError(
            f"density needs at least 2 glosses to compare, got {len(counts)}; give instances of more than one sign."
        )
    group = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    return _Sorted(Rows(features, order), gloss_ids, counts, group, counts.cumsum(0) - counts)


def _block(like: Tensor) -> int:
    return BLOCK if like.device.type == "cpu" else BLOCK_DEVICE


def _euclidean(
    data: _Sorted, kept: Tensor, weight: Tensor, block: int, progress: Progress | None
) -> tuple[Tensor, Tensor]:
    """Intra and inter distance of the glosses `kept`, from every pair of rows; weight is that of one row of a gloss."""
    labels, counts = data.labels, data.counts
    row_weight = weight[labels].to(data.rows.dtype)  # [N]
    sums = torch.zeros(len(labels), dtype=torch.float64, device=labels.device)  # over y: weight(y) |x - y|
    for here, there, distances, mirrored in distance_blocks(data.rows, labels, block, progress):
        sums[here] += distances @ row_weight[there]
        if mirrored:
            sums[there] += distances.T @ row_weight[here]
    share = weight * counts
    inter = sums.new_zeros(len(counts)).index_add_(0, labels, sums) / counts / (share.sum() - share)
    return _within(data, kept, block), inter[kept] * data.rows.scale


def _squared(data: _Sorted, kept: Tensor, weight: Tensor, unit: bool) -> tuple[Tensor, Tensor]:
    """The same for squared distances, or for 1 - cosine = |x - y|^2 / 2 of `unit` rows: means and spreads suffice."""
    mean, spread = Moments.of(data.rows, data.labels, data.counts, unit)
    around = spread + mean.square().sum(dim=1)  # mean squared distance from the common centre [all glosses]
    if float(around.max()) < 1e-28:
        raise ValueError("cosine distance needs rows of more than one direction, got rows that are all parallel.")
    share = weight * data.counts
    rest = share.sum() - share
    others_around = ((share * around).sum() - share * around) / rest
    others_mean = ((share[:, None] * mean).sum(dim=0) - share[:, None] * mean) / rest[:, None]  # [all glosses, D]
    inter = around + others_around - 2 * (mean * others_mean).sum(dim=1)
    intra = 2 * spread * data.counts / (data.counts - 1).clamp(min=1)
    factor = 0.5 if unit else data.rows.scale**2
    return intra[kept] * factor, inter[kept] * factor


def _within(data: _Sorted, kept: Tensor, block: int) -> Tensor:
    """Mean Euclidean distance between different rows of the glosses `kept`. [K] float64"""
    starts, stops = data.starts[kept].tolist(), (data.starts + data.counts)[kept].tolist()
    sums = within_sums(data.rows, starts, stops, block).to(data.counts.device)
    return sums / (data.counts * (data.counts - 1))[kept]
