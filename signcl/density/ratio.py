"""Sign Density Ratio: how crowded each gloss is among the others, for any features (paper section 3.1, Eq. 1-3).

Pure functions of a feature matrix and one gloss per row. `spans` chooses the row of each sign; `pairs` sums distances
without an N x N matrix.
"""

from __future__ import annotations

import contextlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from signcl.density.pairs import ALONE, Moments, Progress, Share, distance_blocks, within_sums
from signcl.density.rows import Sorted, gloss_numbers, sort_rows

__all__ = [
    "Density",
    "GlossDistances",
    "gloss_distances",
    "measure",
    "shuffle_baseline",
    "sign_density_ratio",
    "to_rows",
]

Distance = Literal["euclidean", "squared", "cosine"]
Inter = Literal["gloss", "instance"]
BLOCK = 512  # rows per block: 1 MB of float32 distances, which stays in the cache of a CPU core
BLOCK_DEVICE = 8192  # BLOCK on an accelerator, where large products are cheap and every iteration is costly


@dataclass(frozen=True)
class Density:
    """Intra- and inter-gloss distance and their ratio for every gloss with enough rows. All distances are float64.

    All tensors are on the CPU, whatever the device of the rows.
    """

    gloss_ids: Tensor
    """The measured glosses, ascending. [K] long"""
    counts: Tensor
    """Measured rows of each gloss. [K] long"""
    intra: Tensor
    """D(G_i): mean distance between two different rows of the gloss. [K]"""
    inter: Tensor
    """Mean distance to the other glosses (or to their rows). [K]"""
    sdr: Tensor
    """intra / inter: lower is better; about 1 if the features do not separate the glosses. [K]"""
    mean: float
    """Mean of `sdr` over the glosses; the paper prints 100 times this."""
    settings: dict[str, str | int | bool]
    """What affects the result: distance, inter, min_count, others, rows, glosses, rare_glosses (below min_count), and
    if given: cap with its seed, weighted."""
    names: tuple[str, ...] | None = None
    """If glosses were given as text, their names in alphabetical order; `gloss_ids` are indices into them."""

    def __str__(self) -> str:
        rare = f", {self.settings['rare_glosses']} rare glosses left out" if self.settings["rare_glosses"] else ""
        return (
            f"SDR {100 * self.mean:.2f} % ({self.settings['distance']}; {self.settings['rows']} signs of "
            f"{len(self.sdr)} glosses{rare}; within {float(self.intra.mean()):.4g}, to others "
            f"{float(self.inter.mean()):.4g})"
        )


@dataclass(frozen=True)
class GlossDistances:
    """Mean distance between every two glosses; all tensors are on the CPU."""

    gloss_ids: Tensor
    """Ascending. [K] long"""
    counts: Tensor
    """Rows of each gloss. [K] long"""
    mean: Tensor
    """D(G_i, G_j); on the diagonal D(G_i), which is 0 for a gloss of one row. [K, K] float64"""
    names: tuple[str, ...] | None = None
    """As in `Density`."""


def sign_density_ratio(
    features: Tensor | np.ndarray | Sequence[Sequence[float]],
    glosses: Tensor | np.ndarray | Sequence[str] | Sequence[int],
    *,
    distance: Distance = "euclidean",
    inter: Inter = "gloss",
    min_count: int = 2,
    others: bool = True,
    cap: int | None = None,
    seed: int = 0,
    weights: Tensor | np.ndarray | None = None,
    block: int | None = None,
    device: torch.device | str | None = None,
    distributed: bool = False,
    progress: Progress | None = None,
) -> Density:
    """How crowded each gloss is: its spread divided by its mean distance to the other glosses. Lower is better.

    SDR(G_i) = D(G_i) / mean_{j != i} D(G_i, G_j), with D the mean distance between two rows. Shifting, rotating or
    scaling all features does not change it; scaling single dimensions, the set of glosses and `min_count` do.

    Exact: all pairs are used, in blocks above the diagonal; memory does not grow with N^2. Products are in float32 for
    float32 or half features (sums in float64; relative error of the ratios about 1e-6) and in float64 for float64.

    Args:
        features: one row per sign instance; a memory-mapped array is read in chunks. [N, D]
        glosses: gloss of each row, as a number or as text. [N]
        distance: "euclidean" (paper), "squared" or "cosine" (1 - cosine); the last two need no pairs and are fast.
        inter: "gloss": mean over the other glosses with equal weight (paper). "instance": mean over their rows.
        min_count: minimum number of rows of a gloss with a ratio (at least 2, since D(G_i) needs a pair).
        others: keep glosses with fewer rows in the inter-gloss distance of the rest; False drops their rows.
        cap: use at most this many rows per gloss, drawn at random (`capped_rows`); time falls with its square.
        seed: seed of that draw.
        weights: weight of each row, such as the frames of its sign. A pair has the product of its two weights, within
            a gloss and, with inter="instance", between glosses. Default: equal weights (paper). [N]
        block: rows multiplied at once; affects speed and memory, not the result. Default 512, or 8192 off the CPU.
        device: device for the computation, such as "cuda"; default: the device of the features (CPU for an array).
            Features on the CPU are moved there one panel at a time, in their dtype.
        distributed: divide the pairs among the processes of `torch.distributed`. All of them must make the same call;
            each returns the full result.
        progress: called with (done, total) during the computation.

    Returns:
        The ratio of every gloss with at least `min_count` rows.

    Raises:
        ValueError: shapes that do not match, NaN or infinite features (counted, first rows named), all rows equal,
            fewer than two glosses, no gloss with `min_count` rows, weights that are not above 0.

    Source: paper section 3.1, Eq. 1-3. It does not state the split, `min_count` or how rare glosses are handled. No
    code was released.
    """
    check_options(distance, inter, min_count)
    if weights is not None and np.ndim(weights) != 1:
        raise ValueError(f"sign_density_ratio needs one weight per row [N], got shape {tuple(np.shape(weights))}.")
    names, glosses = gloss_numbers(glosses)
    data = sort_rows(features, glosses, min_count, others, cap=cap, seed=seed, weights=weights, device=device)
    mean_intra, mean_inter = measure(data, distance, inter, block=block, distributed=distributed, progress=progress)
    mean_intra, mean_inter = mean_intra.cpu(), mean_inter.cpu()
    sdr = mean_intra / mean_inter
    settings: dict[str, str | int | bool] = {
        "distance": distance,
        "inter": inter,
        "min_count": min_count,
        "others": others,
        "rows": len(data.rows),
        "glosses": len(data.counts),
        "rare_glosses": len(data.counts) - len(data.kept),
    }
    if cap is not None:
        settings |= {"cap": cap, "seed": seed}
    if weights is not None:
        settings["weighted"] = True
    kept = data.kept.cpu()
    return Density(
        data.gloss_ids[kept], data.counts.cpu()[kept], mean_intra, mean_inter, sdr, float(sdr.mean()), settings, names
    )


def check_options(distance: str, inter: str, min_count: int) -> None:
    """Validates the options of `sign_density_ratio`."""
    if distance not in ("euclidean", "squared", "cosine") or inter not in ("gloss", "instance"):
        raise ValueError(
            "sign_density_ratio needs distance='euclidean', 'squared' or 'cosine' and inter='gloss' or 'instance', "
            f"got distance={distance!r}, inter={inter!r}."
        )
    if min_count < 2:
        raise ValueError(
            f"sign_density_ratio needs min_count of at least 2 (a single row has no pair), got {min_count}."
        )


def gloss_distances(
    features: Tensor | np.ndarray,
    glosses: Tensor | np.ndarray | Sequence[str] | Sequence[int],
    *,
    distance: Distance = "euclidean",
    block: int | None = None,
    device: torch.device | str | None = None,
    distributed: bool = False,
    progress: Progress | None = None,
) -> GlossDistances:
    """Mean distance between every two glosses; small values off the diagonal mean confusable signs.

    Args:
        features: one row per sign instance. [N, D]
        glosses: gloss of each row, as a number or as text. [N]
        distance, block, device: as in `sign_density_ratio`.
        distributed: as in `sign_density_ratio`.
        progress: called with (done, total).

    Raises:
        ValueError: as `sign_density_ratio`.

    Source: paper Eq. 1 (off the diagonal) and Eq. 2 (on it).
    """
    check_options(distance, "gloss", 2)
    names, glosses = gloss_numbers(glosses)
    data = sort_rows(features, glosses, 1, True, device=device)
    if distance != "euclidean":
        mean = _squared_between(data, unit=distance == "cosine")
        return GlossDistances(data.gloss_ids, data.counts.cpu(), mean.cpu(), names)
    counts, labels, edges = data.counts, data.labels, data.edges
    share, size = _share(distributed), block or _block(counts)
    sums = torch.zeros(len(counts), len(counts), dtype=torch.float64, device=labels.device)
    with _exact(labels.device):
        for here, there, distances, mirrored in distance_blocks(data.rows, labels, edges, size, progress, share):
            # The glosses of a block are consecutive numbers, known to the host.
            above = slice(bisect_right(edges, here.start) - 1, bisect_right(edges, here.stop - 1))
            beside = slice(bisect_right(edges, there.start) - 1, bisect_right(edges, there.stop - 1))
            member = torch.nn.functional.one_hot(labels[there] - beside.start, beside.stop - beside.start)
            by_row = (distances @ member.to(distances)).double()  # [rows, glosses of the columns]
            part = torch.zeros(above.stop - above.start, by_row.shape[1], dtype=torch.float64, device=labels.device)
            part.index_add_(0, labels[here] - above.start, by_row)
            sums[above, beside] += part
            if mirrored:
                sums[beside, above] += part.T
        sums = _all_sum(sums, share) * data.rows.scale
        several = (counts > 1).nonzero().flatten()
        mean = sums / torch.outer(counts, counts)
        mean[several, several] = _within(data, several, None, size, share)
    return GlossDistances(data.gloss_ids, counts.cpu(), mean.cpu(), names)


def shuffle_baseline(
    features: Tensor | np.ndarray,
    glosses: Tensor | np.ndarray | Sequence[str] | Sequence[int],
    *,
    seed: int = 0,
    distance: Distance = "euclidean",
    inter: Inter = "gloss",
    min_count: int = 2,
    others: bool = True,
    cap: int | None = None,
    weights: Tensor | np.ndarray | None = None,
    block: int | None = None,
    device: torch.device | str | None = None,
    distributed: bool = False,
) -> Density:
    """`sign_density_ratio` with randomly permuted glosses: the chance level, about 1 in expectation.

    A ratio close to this one means that the features do not separate the glosses. Counts per gloss do not change.

    Args:
        features, glosses: as in `sign_density_ratio`. [N, D], [N]
        seed: seed of the permutation and of `cap`.
        distance, inter, min_count, others, cap, weights, block, device, distributed: as in `sign_density_ratio`.
    """
    labels = torch.as_tensor(gloss_numbers(glosses)[1])
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed), device="cpu").to(labels.device)
    return sign_density_ratio(
        features,
        labels[order],
        distance=distance,
        inter=inter,
        min_count=min_count,
        others=others,
        cap=cap,
        seed=seed,
        weights=weights,
        block=block,
        device=device,
        distributed=distributed,
    )


def to_rows(
    density: Density, names: dict[int, str] | Sequence[str] | None = None
) -> list[dict[str, str | int | float]]:
    """One dictionary per gloss, most crowded first, for a table or a CSV file.

    Args:
        density: the measured density.
        names: name of each gloss number; default `density.names`, or else the number.

    Raises:
        ValueError: a gloss number that is not in `names`.
    """
    table: list[dict[str, str | int | float]] = []
    order = density.sdr.argsort(descending=True, stable=True).tolist()
    ids, counts = density.gloss_ids.tolist(), density.counts.tolist()
    intra, inter, sdr = density.intra.tolist(), density.inter.tolist(), density.sdr.tolist()
    names = density.names if names is None else names
    known = names if isinstance(names, dict) else dict(enumerate(names)) if names is not None else None
    for k in order:
        if known is not None and ids[k] not in known:
            raise ValueError(f"to_rows needs a name for gloss {ids[k]}, got names for {len(known)} glosses.")
        gloss = ids[k] if known is None else known[ids[k]]
        table.append({"gloss": gloss, "count": counts[k], "intra": intra[k], "inter": inter[k], "sdr": sdr[k]})
    return table


def measure(
    data: Sorted,
    distance: str,
    inter: str,
    *,
    block: int | None = None,
    distributed: bool = False,
    progress: Progress | None = None,
) -> tuple[Tensor, Tensor]:
    """Intra- and inter-gloss distance of the glosses `data.kept`, for every replicate of `data.weights`.

    Returns:
        Two tensors, [K] or [K, R] float64.
    """
    share = _share(distributed)
    weights = data.weights
    with _exact(data.counts.device):
        if distance == "euclidean":
            return _euclidean(data, inter, block or _block(data.counts), progress, share)
        if weights is None or weights.ndim == 1:
            return _squared(data, inter, weights, unit=distance == "cosine")
        found = [_squared(data, inter, column, unit=distance == "cosine") for column in weights.unbind(dim=1)]
    return torch.stack([intra for intra, _ in found], dim=1), torch.stack([inter_ for _, inter_ in found], dim=1)


@contextlib.contextmanager
def _exact(device: torch.device) -> Iterator[None]:
    """Context for exact products: switches off autocast, and TF32 or bfloat16 where a program has allowed them."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def _block(like: Tensor) -> int:
    return BLOCK if like.device.type == "cpu" else BLOCK_DEVICE


def _share(distributed: bool) -> Share:
    if not distributed:
        return ALONE
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        raise ValueError(
            "distributed=True needs a process group: call torch.distributed.init_process_group first, or "
            "start the command with torchrun."
        )
    return Share(torch.distributed.get_rank(), torch.distributed.get_world_size())


def _all_sum(sums: Tensor, share: Share) -> Tensor:
    """The sum over all processes."""
    if share.world > 1:
        by_host = torch.distributed.get_backend() == "gloo"  # gloo reduces on the CPU
        total = sums.cpu() if by_host else sums
        torch.distributed.all_reduce(total)
        return total.to(sums.device)
    return sums


def _by_gloss(data: Sorted, rows: Tensor) -> Tensor:
    """Sums of the rows of each gloss. [N] or [N, R] -> [K] or [K, R]"""
    return rows.new_zeros(len(data.counts), *rows.shape[1:]).index_add_(0, data.labels, rows)


def _euclidean(data: Sorted, inter: str, block: int, progress: Progress | None, share: Share) -> tuple[Tensor, Tensor]:
    """Intra- and inter-gloss distance from all pairs. In the mean of its gloss, a row x has weight w(x) / mass."""
    labels, kept = data.labels, data.kept
    own = (
        data.weights if data.weights is not None else torch.ones(len(labels), dtype=torch.float64, device=labels.device)
    )
    mass = _by_gloss(data, own)
    weight = own / mass[labels] if inter == "gloss" else own  # of a row in the inter-gloss distance of the others
    part = weight.to(data.rows.dtype)
    sums = torch.zeros_like(weight)  # over y: weight(y) |x - y|
    for here, there, distances, mirrored in distance_blocks(data.rows, labels, data.edges, block, progress, share):
        sums[here] += distances @ part[there]
        if mirrored:
            sums[there] += distances.T @ part[here]
    all_others = torch.ones_like(mass) if inter == "gloss" else mass
    found = _by_gloss(data, own * _all_sum(sums, share)) / mass / (all_others.sum(dim=0) - all_others)
    return _within(data, kept, data.weights, block, share), found[kept] * data.rows.scale


def _squared(data: Sorted, inter: str, weights: Tensor | None, unit: bool) -> tuple[Tensor, Tensor]:
    """`_euclidean` for squared distances, or 1 - cosine = |x - y|^2 / 2 of `unit` rows, from means and spreads only."""
    kept = data.kept
    own = weights if weights is not None else torch.ones_like(data.labels, dtype=torch.float64)
    mass, squares = _by_gloss(data, own), _by_gloss(data, own.square())
    mean, spread = Moments.of(data, unit, own, mass)
    around = spread + mean.square().sum(dim=1)  # mean squared distance from the common centre [all glosses]
    if float(around.max()) < 1e-28:
        raise ValueError("cosine distance needs rows with different directions, got rows that are all parallel.")
    share = torch.ones_like(mass) if inter == "gloss" else mass
    rest = share.sum() - share
    others_around = ((share * around).sum() - share * around) / rest
    others_mean = ((share[:, None] * mean).sum(dim=0) - share[:, None] * mean) / rest[:, None]  # [all glosses, D]
    found = around + others_around - 2 * (mean * others_mean).sum(dim=1)
    factor = 0.5 if unit else data.rows.scale**2
    intra = 2 * spread[kept] * mass[kept].square() / (mass.square() - squares)[kept]
    return intra * factor, found[kept] * factor


def _squared_between(data: Sorted, unit: bool) -> Tensor:
    """Mean squared distance between every two glosses, or 1 - cosine = |x - y|^2 / 2 of `unit` rows. [K, K]"""
    mass = data.counts.double()
    with _exact(data.counts.device):
        mean, spread = Moments.of(data, unit, torch.ones_like(data.labels, dtype=torch.float64), mass)
        apart = torch.cdist(mean, mean, compute_mode="donot_use_mm_for_euclid_dist").square()
    found = apart + spread + spread[:, None]
    within = 2 * spread * mass / (mass - 1).clamp(min=1)  # a row is not its own neighbour
    return found.diagonal_scatter(within) * (0.5 if unit else data.rows.scale**2)


def _within(data: Sorted, kept: Tensor, weights: Tensor | None, block: int, share: Share) -> Tensor:
    """Mean Euclidean distance between different rows of the glosses `kept`. [K] or [K, R] float64"""
    chosen = kept.tolist()
    starts, stops = [data.edges[k] for k in chosen], [data.edges[k + 1] for k in chosen]
    sums = within_sums(data.rows, starts, stops, block, weights=weights, share=share)
    sums = _all_sum(sums, share)
    if weights is None:
        return sums / (data.counts * (data.counts - 1))[kept]
    mass, squares = _by_gloss(data, weights), _by_gloss(data, weights.square())
    return sums / (mass.square() - squares)[kept]
