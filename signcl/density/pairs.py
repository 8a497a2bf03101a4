"""Distances between the rows of a labelled feature matrix, a block at a time, and their sums by gloss.

Nothing of size N x N ever exists: rows are taken in the order of their glosses, gathered in panels, and multiplied
block by block above the diagonal only (a distance and its mirror are one number). A Euclidean distance comes from a
matrix product, |x - y|^2 = |x|^2 + |y|^2 - 2 x.y, which loses digits where two rows are close: those pairs are
computed again from their differences. Squared and cosine distances need no pairs: see `Moments`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

__all__ = ["Moments", "Pairs", "Progress", "Rows", "distance_blocks", "within_sums"]

Progress = Callable[[int, int], None]
"""Called with (panel pairs done, panel pairs in all)."""

# Below this share of |x|^2 + |y|^2 a squared distance has lost the digits that matter and is computed again. The
# product is off by about 1e-7 (float32) or 1e-16 (float64) of that sum, so what is kept is right to about 1e-6.
CLOSE = {torch.float32: 1e-2, torch.float64: 1e-9}
FEW = 1 / 64  # share of close pairs in a block up to which they are mended pair by pair
CHUNK = 4096  # rows looked at at once where no pairs are formed
PANEL = 8  # blocks of rows that are gathered and cast at once
SMALL = 32  # rows of a gloss up to which direct differences beat a matrix product


class Rows:
    """The rows of a feature matrix in the order of their glosses: gathered on demand, never copied whole."""

    def __init__(self, features: Tensor | np.ndarray, order: Tensor) -> None:
        """Look at every row once: refuse NaN and infinity, find the centre and the scale.

        Args:
            features: any float or integer type; a memory-mapped array is read panel by panel. [N, D]
            order: row numbers, sorted by gloss. [n]

        Raises:
            ValueError: rows with NaN or infinity (counted), or all rows equal.
        """
        self.features, self.order = features, order
        size, device = features.shape[1], order.device
        total = torch.zeros(size, dtype=torch.float64, device=device)
        low, high = torch.full_like(total, math.inf), torch.full_like(total, -math.inf)
        broken = 0
        for start in range(0, len(order), CHUNK):
            chunk = self.raw(slice(start, start + CHUNK))
            if not chunk.is_floating_point():
                chunk = chunk.double()
            chunk = chunk.float() if chunk.dtype.itemsize == 2 else chunk
            finite = torch.isfinite(chunk).all(dim=1)
            if not finite.all():
                broken += int((~finite).sum())
                continue
            total += chunk.sum(dim=0, dtype=torch.float64)
            low = torch.minimum(low, chunk.amin(dim=0).double())
            high = torch.maximum(high, chunk.amax(dim=0).double())
        if broken:
            raise ValueError(
                f"density needs finite features, got NaN or infinity in {broken} of {len(order)} rows; find the frames "
                "they come from, or drop these rows."
            )
        if torch.equal(low, high):
            raise ValueError(
                f"density needs rows that differ, got {len(order)} equal rows of size {len(low)}: every distance is 0 "
                "and the ratio undefined; check what made these features."
            )
        centre = torch.minimum(torch.maximum(total / len(order), low), high)
        reach = float(torch.maximum(high - centre, centre - low).max())
        self.scale: float = 2.0 ** math.floor(math.log2(reach))  # a power of two: scaling rounds nothing
        self.centre = centre / self.scale
        given = self.raw(slice(0, 1)).dtype
        single = (given.is_floating_point or given in (torch.uint8, torch.int8)) and given != torch.float64
        # float32 products only where they are that: not under TF32 or bfloat16 "high" precision, not near overflow.
        single = single and torch.get_float32_matmul_precision() == "highest" and 2.0**-60 < self.scale < 2.0**60
        self.dtype = torch.float32 if single else torch.float64

    def __len__(self) -> int:
        return len(self.order)

    def raw(self, part: slice | Tensor) -> Tensor:
        """Rows as they were given, by their place in the order. [n, D]"""
        index = self.order[part]
        if isinstance(self.features, np.ndarray):
            return torch.from_numpy(np.ascontiguousarray(self.features[index.numpy()]))
        return self.features[index]

    def centred(self, raw: Tensor, dtype: torch.dtype) -> Tensor:
        """Rows less the common centre, in units of `scale`. [n, D]"""
        return raw.to(dtype).mul(1 / self.scale).sub_(self.centre.to(dtype))


class _Panel:
    """A run of rows, ready to be multiplied: left[i] . right[j] = |x_i - y_j|^2."""

    def __init__(self, centred: Tensor, exact: Callable[[slice], Tensor]) -> None:
        """Args: rows in the working type [P, D], and how to get some of them in float64 when that is not enough."""
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
        """The same, centred on one gloss. mean [D] float64"""
        wide = rows.centred(rows.raw(slice(start, stop)), torch.float64) - mean
        return cls(wide.to(rows.dtype), lambda part: wide[part])


def _distances(a: _Panel, i: slice, b: _Panel, j: slice, out: Tensor, ignore: Tensor | None) -> Tensor:
    """Euclidean distances between two runs of rows, written into `out`; ignored pairs come out as 0. [I, J]"""
    torch.mm(a.left[i], b.right[j].T, out=out)
    if ignore is not None:
        out.masked_fill_(ignore, torch.inf)
    if out.amin() < CLOSE[out.dtype] * (a.squares[i].max() + b.squares[j].max()):
        _mend(out, a, i, b, j)
    out.sqrt_()
    return out if ignore is None else out.masked_fill_(ignore, 0)


def _mend(squared: Tensor, a: _Panel, i: slice, b: _Panel, j: slice) -> None:
    """Compute the squared distances of close pairs again, in place and in float64."""
    close = squared < CLOSE[squared.dtype] * (a.squares[i, None] + b.squares[None, j])
    if not close.any():
        return
    x, y = a.exact(i), b.exact(j)
    if squared.dtype == torch.float32 and close.sum() > FEW * close.numel():
        # Many: a product in float64 settles all but the nearly equal pairs.
        left, right = _Panel(x, lambda part: x[part]), _Panel(y, lambda part: y[part])
        again = left.left @ right.right.T
        squared.copy_(torch.where(close, again.to(squared.dtype), squared))
        close &= again < CLOSE[torch.float64] * (left.squares[:, None] + right.squares)
    if close.sum() > FEW * close.numel():
        # So many nearly equal pairs are copies, such as frames of zeros: measure each different row once.
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
    """0 where row and column share a gloss; a buffer that the next block overwrites. [rows, columns]"""
    mirrored: bool
    """True where the block stands for its mirror image too (it does not touch the diagonal)."""


def distance_blocks(rows: Rows, glosses: Tensor, block: int, progress: Progress | None = None) -> Iterator[Pairs]:
    """Every distance between rows of different glosses, above the diagonal, block by block.

    Memory: two panels of `PANEL` blocks of rows and one block of distances, whatever the number of rows.

    Args:
        rows: the rows, sorted by gloss. [N, D]
        glosses: gloss of each row, ascending. [N]
        block: rows of a block.
        progress: told after every pair of panels.
    """
    size, total = PANEL * block, len(rows)
    starts = range(0, total, size)
    buffer = torch.empty(block * block, dtype=rows.dtype, device=rows.order.device)
    done, pairs = 0, len(starts) * (len(starts) + 1) // 2
    for top in starts:
        a = _Panel.of(rows, top, top + size)
        for side in starts[top // size :]:
            b = a if side == top else _Panel.of(rows, side, side + size)
            for i in range(top, min(top + size, total), block):
                for j in range(max(side, i), min(side + size, total), block):
                    here, there = slice(i, min(i + block, total)), slice(j, min(j + block, total))
                    height, width = here.stop - i, there.stop - j
                    shared = glosses[j] <= glosses[here.stop - 1]  # sorted: only then can a gloss be in both
                    same = glosses[here, None] == glosses[None, there] if shared else None
                    out = buffer[: height * width].view(height, width)
                    part, other = slice(i - top, here.stop - top), slice(j - side, there.stop - side)
                    yield Pairs(here, there, _distances(a, part, b, other, out, same), j != i)
            done += 1
            if progress:
                progress(done, pairs)


def within_sums(rows: Rows, starts: list[int], stops: list[int], block: int) -> Tensor:
    """Sum of the Euclidean distances over ordered pairs of different rows of each gloss. [K] float64

    Small glosses by direct differences in float64; a large one is centred on its own mean first, so that a tight gloss
    far from the others loses no digits.

    Args:
        rows: the rows, sorted by gloss. [N, D]
        starts: first row of each gloss. [K]
        stops: one past its last row. [K]
        block: rows of a block.
    """
    sums = torch.zeros(len(starts), dtype=torch.float64)
    for k, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        if stop - start <= SMALL:
            sums[k] = 2 * torch.pdist(rows.centred(rows.raw(slice(start, stop)), torch.float64)).sum()
            continue
        parts = [(i, min(i + block, stop)) for i in range(start, stop, block)]
        part_sums = [rows.centred(rows.raw(slice(*part)), torch.float64).sum(dim=0) for part in parts]
        mean = torch.stack(part_sums).sum(dim=0) / (stop - start)
        for i, one in enumerate(parts):
            a = _Panel.around(mean, rows, *one)
            for j, other in enumerate(parts[i:], start=i):
                b = a if i == j else _Panel.around(mean, rows, *other)
                out = a.left.new_empty(len(a.left), len(b.left))
                itself = torch.eye(len(out), dtype=torch.bool, device=out.device) if i == j else None
                total = _distances(a, slice(None), b, slice(None), out, itself).sum(dtype=torch.float64)
                sums[k] += total if i == j else 2 * total
    return sums * rows.scale


class Moments(NamedTuple):
    """What squared distances between glosses depend on: E|x - y|^2 = spread_i + spread_j + |mean_i - mean_j|^2."""

    mean: Tensor
    """Mean row of each gloss, less the common centre. [K, D] float64"""
    spread: Tensor
    """Mean squared distance of its rows from that mean. [K] float64"""

    @classmethod
    def of(cls, rows: Rows, glosses: Tensor, counts: Tensor, unit: bool) -> Moments:
        """Read all rows twice, in chunks.

        Args:
            rows: the rows, sorted by gloss. [N, D]
            glosses: gloss of each row, 0..K-1 ascending. [N]
            counts: rows of each gloss. [K]
            unit: scale every row to length 1 first (cosine).

        Raises:
            ValueError: `unit`, and rows of zeros.
        """
        firsts = counts.cumsum(0) - counts

        def read(part: slice | Tensor) -> Tensor:
            raw = rows.raw(part)
            if not unit:
                return rows.centred(raw, torch.float64)
            largest = raw.double().abs().amax(dim=1, keepdim=True)
            if (largest == 0).any():
                raise ValueError("cosine distance needs rows that are not all zeros; drop those, or use 'euclidean'.")
            return torch.nn.functional.normalize(raw.double() / largest, dim=1)  # divided first: no square overflows

        # Deviations are taken from the first row of each gloss, so that equal rows deviate by exactly 0.
        first = read(firsts)
        offset, spread = torch.zeros_like(first), torch.zeros_like(first[:, 0])
        for start in range(0, len(rows), CHUNK):
            part = slice(start, start + CHUNK)
            offset.index_add_(0, glosses[part], read(part) - first[glosses[part]])
        offset /= counts[:, None]
        for start in range(0, len(rows), CHUNK):
            part = slice(start, start + CHUNK)
            label = glosses[part]
            spread.index_add_(0, label, (read(part) - first[label] - offset[label]).square().sum(dim=1))
        mean = first + offset
        return cls(mean - mean.mean(dim=0), spread / counts)
