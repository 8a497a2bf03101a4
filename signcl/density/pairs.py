"""Distances between the rows of a labelled feature matrix, in blocks, and their sums per gloss.

No N x N matrix is ever allocated: rows are sorted by gloss, gathered in panels, and multiplied block by block, above
the diagonal only, since distances are symmetric. Euclidean distances come from a matrix product,
|x - y|^2 = |x|^2 + |y|^2 - 2 x.y, which loses precision if two rows are close; such pairs are recomputed from their
differences. Squared and cosine distances need no pairs: see `Moments`.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from signcl.density.rows import CHUNK, Rows, Sorted

__all__ = ["ALONE", "Moments", "Pairs", "Progress", "Share", "distance_blocks", "within_sums"]

Progress = Callable[[int, int], None]
"""Called with (panel pairs done, total panel pairs)."""


class Share(NamedTuple):
    """Which of the blocks a process computes: every `world`-th, starting with number `rank`."""

    rank: int
    world: int


ALONE = Share(0, 1)

# Below this share of |x|^2 + |y|^2, a squared distance has lost too much precision and is recomputed. The error of the
# product is about 1e-7 (float32) or 1e-16 (float64) of that sum, so all others have a relative error of about 1e-6.
CLOSE = {torch.float32: 1e-2, torch.float64: 1e-9}
FEW = 1 / 64  # up to this share of close pairs in a block, they are recomputed pair by pair
PANEL = 16  # blocks of rows that are gathered and cast at once
SMALL = 32  # up to this number of rows per gloss, direct differences are faster than a matrix product
SMALL_DEVICE = 512  # SMALL on an accelerator, where every iteration over glosses is costly


class _Panel:
    """A run of rows prepared for products: left[i] . right[j] = |x_i - y_j|^2."""

    def __init__(self, centred: Tensor, exact: Callable[[slice], Tensor]) -> None:
        """Args: rows in the working dtype [P, D], and a function that returns some of them in float64."""
        self.squares = torch.cat([part.double().square().sum(dim=1) for part in torch.split(centred, 1024)])  # [P]
        norm, one = self.squares.to(centred.dtype)[:, None], torch.ones_like(centred[:, :1])
        self.left = torch.cat([-2 * centred, norm, one], dim=1)  # [P, D + 2]
        self.right = torch.cat([centred, one, norm], dim=1)  # [P, D + 2]
        self.exact = exact

    @classmethod
    def of(cls, rows: Rows, start: int, stop: int) -> _Panel:
        raw = rows.raw(slice(start, stop))
        return cls(rows.centred(raw, rows.dtype), lambda part: rows.centred(raw[part], torch.float64))

    @classmethod
    def around(cls, mean: Tensor, rows: Rows, start: int, stop: int) -> _Panel:
        """A panel centred on one gloss. mean [D] float64"""
        wide = rows.centred(rows.raw(slice(start, stop)), torch.float64) - mean
        return cls(wide.to(rows.dtype), lambda part: wide[part])


def _distances(a: _Panel, i: slice, b: _Panel, j: slice, out: Tensor, ignore: Tensor | None) -> Tensor:
    """Euclidean distances between two runs of rows, written into `out`; 0 for ignored pairs. [I, J]"""
    torch.mm(a.left[i], b.right[j].T, out=out)
    if ignore is not None:
        out.masked_fill_(ignore, torch.inf)
    if out.amin() < CLOSE[out.dtype] * (a.squares[i].max() + b.squares[j].max()):
        _mend(out, a, i, b, j)
    out.sqrt_()
    return out if ignore is None else out.masked_fill_(ignore, 0)


def _mend(squared: Tensor, a: _Panel, i: slice, b: _Panel, j: slice) -> None:
    """Recomputes the squared distances of close pairs in place, in float64."""
    close = squared < CLOSE[squared.dtype] * (a.squares[i, None] + b.squares[None, j])
    if not close.any():
        return
    x, y = a.exact(i), b.exact(j)
    if squared.dtype == torch.float32 and close.sum() > FEW * close.numel():
        # Many close pairs: a product in float64 is precise enough for all except nearly equal pairs.
        left, right = _Panel(x, lambda part: x[part]), _Panel(y, lambda part: y[part])
        again = left.left @ right.right.T
        squared.copy_(torch.where(close, again.to(squared.dtype), squared))
        close &= again < CLOSE[torch.float64] * (left.squares[:, None] + right.squares)
    if close.sum() > FEW * close.numel():
        # So many nearly equal pairs are usually copies, such as all-zero frames: measure each distinct row once.
        row, column = close.any(dim=1).nonzero(), close.any(dim=0).nonzero().T
        left_rows, left_place = torch.unique(x[row[:, 0]], dim=0, return_inverse=True)
        right_rows, right_place = torch.unique(y[column[0]], dim=0, return_inverse=True)
        exact = torch.cdist(left_rows, right_rows, compute_mode="donot_use_mm_for_euclid_dist").square()
        exact = exact[left_place[:, None], right_place].to(squared.dtype)
        squared[row, column] = torch.where(close[row, column], exact, squared[row, column])
        return
    for pairs in torch.split(close.nonzero(), 4096):
        row, column = pairs.unbind(dim=1)
        squared[row, column] = (x[row] - y[column]).square().sum(dim=1).to(squared.dtype)


class Pairs(NamedTuple):
    """One block of distances between different glosses."""

    rows: slice
    columns: slice
    distances: Tensor
    """0 if row and column share a gloss; a buffer that the next block overwrites. [rows, columns]"""
    mirrored: bool
    """True if the block also represents its mirror image (it is off the diagonal)."""


def distance_blocks(
    rows: Rows,
    glosses: Tensor,
    edges: Sequence[int],
    block: int,
    progress: Progress | None = None,
    share: Share = ALONE,
) -> Iterator[Pairs]:
    """Yields all distances between rows of different glosses, above the diagonal, block by block.

    Memory: two panels of at most `PANEL` blocks of rows and one block of distances, regardless of the number of rows.

    Args:
        rows: the rows, sorted by gloss. [N, D]
        glosses: gloss of each row, ascending, on the device of the rows. [N]
        edges: first row of each gloss, on the host, to avoid waiting for the device.
        block: rows per block.
        progress: called after every pair of panels.
        share: which pairs of panels to compute.
    """
    total = len(rows)
    blocks = PANEL
    if share.world > 1:  # smaller panels, so that every process gets several pairs of them
        blocks = min(PANEL, max(1, math.ceil(total / block) // (4 * share.world)))
    size = blocks * block
    starts = range(0, total, size)
    buffer = torch.empty(block * block, dtype=rows.dtype, device=rows.device)
    pairs = len(starts) * (len(starts) + 1) // 2
    number = done = 0
    mine = len(range(share.rank, pairs, share.world))
    for top in starts:
        a = None
        for side in starts[top // size :]:
            number += 1
            if (number - 1) % share.world != share.rank:
                continue
            a = a or _Panel.of(rows, top, top + size)
            b = a if side == top else _Panel.of(rows, side, side + size)
            for i in range(top, min(top + size, total), block):
                for j in range(max(side, i), min(side + size, total), block):
                    here, there = slice(i, min(i + block, total)), slice(j, min(j + block, total))
                    height, width = here.stop - i, there.stop - j
                    # Rows are sorted, so the blocks share a gloss only if the last row here has the first gloss there.
                    shared = bisect_right(edges, j) <= bisect_right(edges, here.stop - 1)
                    same = glosses[here, None] == glosses[None, there] if shared else None
                    out = buffer[: height * width].view(height, width)
                    part, other = slice(i - top, here.stop - top), slice(j - side, there.stop - side)
                    yield Pairs(here, there, _distances(a, part, b, other, out, same), j != i)
            done += 1
            if progress:
                progress(done, mine)


def within_sums(
    rows: Rows,
    starts: list[int],
    stops: list[int],
    block: int,
    *,
    weights: Tensor | None = None,
    share: Share = ALONE,
) -> Tensor:
    """Sum over ordered pairs of different rows of each gloss: weight(x) weight(y) |x - y|. [K] or [K, R] float64

    Small glosses use direct differences in float64. A large gloss is first centred on its mean, so a tight gloss far
    from the others loses no precision.

    Args:
        rows: the rows, sorted by gloss. [N, D]
        starts: first row of each gloss. [K]
        stops: one past the last row of each gloss. [K]
        block: rows per block.
        weights: of each row, or of each row in R replicates; default 1. [N] or [N, R] float64
        share: which part of the work to do; the results of all parts add up to the total.
    """
    sums = torch.zeros(
        len(starts), *(() if weights is None else weights.shape[1:]), dtype=torch.float64, device=rows.device
    )
    small = SMALL if rows.device.type == "cpu" else SMALL_DEVICE
    few = [k for k, (start, stop) in enumerate(zip(starts, stops, strict=True)) if stop - start <= small]
    _small_sums(sums, rows, few[share.rank :: share.world], starts, stops, weights)
    number = 0
    for k, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        if stop - start <= small:
            continue
        parts = [(i, min(i + block, stop)) for i in range(start, stop, block)]
        part_sums = [rows.centred(rows.raw(slice(*part)), torch.float64).sum(dim=0) for part in parts]
        mean = torch.stack(part_sums).sum(dim=0) / (stop - start)
        for i, one in enumerate(parts):
            a = None
            for j, other in enumerate(parts[i:], start=i):
                number += 1
                if (number - 1) % share.world != share.rank:
                    continue
                a = a or _Panel.around(mean, rows, *one)
                b = a if i == j else _Panel.around(mean, rows, *other)
                out = a.left.new_empty(len(a.left), len(b.left))
                itself = torch.eye(len(out), dtype=torch.bool, device=out.device) if i == j else None
                apart = _distances(a, slice(None), b, slice(None), out, itself)
                if weights is None:
                    total = apart.sum(dtype=torch.float64)
                else:
                    total = _weighted(apart, weights[slice(*one)], weights[slice(*other)])
                sums[k] += total if i == j else 2 * total
    return sums * rows.scale


def _small_sums(
    sums: Tensor, rows: Rows, few: list[int], starts: list[int], stops: list[int], weights: Tensor | None
) -> None:
    """Fills in the sums of the glosses `few` by direct differences, many glosses of similar size at once."""
    few = sorted(few, key=lambda k: stops[k] - starts[k])
    while few:
        # As many as fit, padded to the size of the largest, which is at most twice the size of the smallest.
        least = stops[few[0]] - starts[few[0]]
        taken = 1
        while taken < len(few):
            size = stops[few[taken]] - starts[few[taken]]
            if size > 2 * least or (taken + 1) * size > CHUNK:
                break
            taken += 1
        now, few = few[:taken], few[taken:]
        size = stops[now[-1]] - starts[now[-1]]
        first = torch.tensor([starts[k] for k in now], device=rows.device)[:, None]
        count = torch.tensor([stops[k] - starts[k] for k in now], device=rows.device)[:, None]
        place = torch.arange(size, device=rows.device)
        index = first + torch.minimum(place, count - 1)  # [g, P]; padding repeats the last row and does not count
        wide = rows.centred(rows.raw(index.flatten()), torch.float64).view(len(now), size, -1)  # [g, P, D]
        apart = torch.cdist(wide, wide, compute_mode="donot_use_mm_for_euclid_dist")  # [g, P, P]
        real = (place < count).to(apart)
        if weights is None:
            found = torch.einsum("gi,gij,gj->g", real, apart, real)
        else:
            own = weights[index] * (real if weights.ndim == 1 else real[:, :, None])  # [g, P] or [g, P, R]
            columns = own if own.ndim == 3 else own[:, :, None]
            found = (columns * (apart @ columns)).sum(dim=1).view(len(now), *weights.shape[1:])
        sums[torch.tensor(now, device=rows.device)] = found


def _weighted(apart: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Sum over the block of left(x) right(y) |x - y|; weights [I], [J] or with replicates [I, R], [J, R]."""
    return (left * (apart @ right.to(apart.dtype)).double()).sum(dim=0)


class Moments(NamedTuple):
    """Moments that give squared distances between glosses: E|x - y|^2 = spread_i + spread_j + |mean_i - mean_j|^2."""

    mean: Tensor
    """Mean row of each gloss, minus the mean of these means. [K, D] float64"""
    spread: Tensor
    """Mean squared distance of the rows of a gloss from their mean. [K] float64"""

    @classmethod
    def of(cls, data: Sorted, unit: bool, weights: Tensor, mass: Tensor) -> Moments:
        """Computes the moments; reads all rows twice, in chunks.

        Args:
            data: the rows.
            unit: scale every row to length 1 first (cosine).
            weights: weight of each row. [N] float64
            mass: sum of the weights of each gloss. [K]

        Raises:
            ValueError: an all-zero row with `unit`.
        """
        rows, glosses = data.rows, data.labels

        def read(part: slice | Tensor) -> Tensor:
            raw = rows.raw(part)
            if not unit:
                return rows.centred(raw, torch.float64)
            largest = raw.double().abs().amax(dim=1, keepdim=True)
            if (largest == 0).any():
                raise ValueError("cosine distance needs rows that are not all zeros; drop those, or use 'euclidean'.")
            return torch.nn.functional.normalize(raw.double() / largest, dim=1)  # divide first to avoid overflow

        # Deviations are from the first row of each gloss, so the deviation of equal rows is exactly 0.
        first = read(data.starts)
        offset, spread = torch.zeros_like(first), torch.zeros_like(first[:, 0])
        for start in range(0, len(rows), CHUNK):
            part = slice(start, start + CHUNK)
            offset.index_add_(0, glosses[part], (read(part) - first[glosses[part]]) * weights[part, None])
        offset /= mass[:, None]
        for start in range(0, len(rows), CHUNK):
            part = slice(start, start + CHUNK)
            label = glosses[part]
            square = (read(part) - first[label] - offset[label]).square().sum(dim=1)
            spread.index_add_(0, label, square * weights[part])
        mean = first + offset
        return cls(mean - mean.mean(dim=0), spread / mass)
