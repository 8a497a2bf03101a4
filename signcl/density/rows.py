"""The rows of a labelled feature matrix, checked, weighted and sorted by gloss.

Rows are read on demand and moved to the computing device one panel at a time, so a memory-mapped matrix can be larger
than memory. Labels are sorted on the host, which then knows where each gloss begins without waiting for the device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "CHUNK",
    "Rows",
    "Sorted",
    "as_array",
    "capped_rows",
    "checked_rows",
    "feature_matrix",
    "gloss_numbers",
    "group_means",
    "numbered",
    "sort_rows",
]

CHUNK = 4096  # rows processed at once where no pairs are formed


def gloss_numbers(
    glosses: Tensor | np.ndarray | Sequence[str] | Sequence[int],
) -> tuple[tuple[str, ...] | None, Tensor | np.ndarray]:
    """Glosses as numbers, and their names in alphabetical order if they were given as text.

    Numbers among text count as text: 1 and "1" are one gloss.

    Raises:
        ValueError: a missing gloss (None or NaN); text of more than one dimension.
    """
    if isinstance(glosses, Tensor):
        return None, glosses.long() if glosses.dtype == torch.bool else glosses
    given = glosses if isinstance(glosses, np.ndarray) else np.asarray(glosses)
    if given.dtype.kind == "b":
        return None, given.astype(np.int64)
    if given.dtype.kind not in "UO":
        return None, _readable(given)
    names, numbers = np.unique(_text(glosses, "gloss"), return_inverse=True)
    return tuple(names.tolist()), np.asarray(numbers.astype(np.int64))


def numbered(names: Sequence[object] | np.ndarray | Tensor, rows: int | None = None, what: str = "name") -> np.ndarray:
    """Numbers the distinct names in alphabetical order. [N]

    Raises:
        ValueError: the number of names differs from `rows`, or a name is missing; `what` names them in the message.
    """
    given = _text(names, what)
    if given.ndim != 1 or (rows is not None and len(given) != rows):
        raise ValueError(f"one {what} for each of {rows} rows is needed, got {', '.join(map(str, given.shape))}.")
    return np.asarray(np.unique(given, return_inverse=True)[1].astype(np.int64))


def _text(names: Sequence[object] | np.ndarray | Tensor, what: str) -> np.ndarray:
    """Names as an array of text; a missing one (None or NaN) is an error."""
    given = np.asarray(names.tolist() if isinstance(names, Tensor) else names, dtype=object)
    if given.ndim == 1:
        for i, name in enumerate(given.tolist()):
            if name is None or name != name:  # only NaN differs from itself
                raise ValueError(f"each row needs a {what}, got {name} in row {i} (counted from 0).")
    return given.astype(str)


def feature_matrix(features: Tensor | np.ndarray | Sequence[Sequence[float]]) -> Tensor | np.ndarray:
    """Features as a tensor or an array of real numbers, not copied.

    Raises:
        ValueError: not numbers, or complex numbers.
    """
    if isinstance(features, Tensor):
        if not features.is_complex():
            return features
        raise ValueError(f"density needs features of real numbers [N, D], got {features.dtype} {list(features.shape)}.")
    given = features if isinstance(features, np.ndarray) else np.asarray(features)
    if given.dtype.kind not in "fiub":
        raise ValueError(f"density needs features of real numbers [N, D], got {given.dtype} {list(given.shape)}.")
    return given


def checked_rows(
    features: Tensor | np.ndarray, glosses: Tensor | np.ndarray | Sequence[str] | Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Validates features and glosses and returns them as float64 [N, D] and gloss numbers [N].

    Rows whose squares would overflow or vanish are scaled, all by the same power of two: no measure depends on units.

    Raises:
        ValueError: shapes that do not match, labels that are not whole numbers, non-finite rows.
    """
    rows, labels = as_array(feature_matrix(features), np.float64), as_array(gloss_numbers(glosses)[1])
    if rows.ndim != 2 or 0 in rows.shape or labels.shape != (len(rows),) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"measures need features [N, D] and whole gloss numbers [N], got {rows.shape} and {labels.dtype} "
            f"{labels.shape}."
        )
    broken = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(broken):
        raise ValueError(
            f"a measure needs finite features, got {len(broken)} of {len(rows)} rows, first {broken[:5].tolist()}, "
            "with NaN or infinity."
        )
    largest = float(np.abs(rows).max())
    if largest and not 2.0**-200 < largest < 2.0**200:
        rows = np.ldexp(rows, -math.frexp(largest)[1])
    return _readable(rows), labels


def _readable(array: np.ndarray) -> np.ndarray:
    """The array, or a copy if torch cannot read it (negative steps) or warns about it (read-only)."""
    return array if array.flags.writeable and all(step >= 0 for step in array.strides) else array.copy()


def group_means(rows: np.ndarray, group: np.ndarray) -> np.ndarray:
    """The mean of each group of rows, 0 for groups without rows. [N, D], [N] -> [groups, D]"""
    sums = np.zeros((int(group.max()) + 1, rows.shape[1]))
    np.add.at(sums, group, rows)
    means: np.ndarray = sums / np.maximum(np.bincount(group), 1)[:, None]
    return means


def as_array(values: Tensor | np.ndarray, dtype: type[np.generic] | None = None) -> np.ndarray:
    """Values as a numpy array, from tensors on any device; bfloat16, which numpy lacks, becomes float32."""
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    return np.asarray(values, dtype=dtype)


class Rows:
    """The rows of a feature matrix sorted by gloss: read on demand, never copied as a whole."""

    def __init__(self, features: Tensor | np.ndarray, order: Tensor, device: torch.device) -> None:
        """Reads every row once to check for NaN and infinity and to find the centre and scale.

        Args:
            features: any float or integer type; a memory-mapped array is read panel by panel. [N, D]
            order: row numbers, sorted by gloss, on the CPU. [n]
            device: device for the computation.

        Raises:
            ValueError: rows with NaN or infinity (counted), or all rows equal.
        """
        self.features, self.device = features, device
        self.order = order.to(features.device) if isinstance(features, Tensor) else order
        size = features.shape[1]
        total = torch.zeros(size, dtype=torch.float64, device=device)
        low, high = torch.full_like(total, math.inf), torch.full_like(total, -math.inf)
        broken: list[int] = []
        count = 0
        for start in range(0, len(order), CHUNK):
            chunk = self.raw(slice(start, start + CHUNK))
            if not chunk.is_floating_point():
                chunk = chunk.double()
            chunk = chunk.float() if chunk.dtype.itemsize == 2 else chunk
            finite = torch.isfinite(chunk).all(dim=1)
            if not finite.all():
                count += int((~finite).sum())
                broken += order[start : start + CHUNK][~finite.cpu()].tolist()
                broken = sorted(broken)[:5]
                continue
            total += chunk.sum(dim=0, dtype=torch.float64)
            low = torch.minimum(low, chunk.amin(dim=0).double())
            high = torch.maximum(high, chunk.amax(dim=0).double())
        if count:
            raise ValueError(
                f"density needs finite features, got NaN or infinity in {count} of {len(order)} rows (row "
                f"{', '.join(map(str, broken))}{', ...' if count > 5 else ''}, counted from 0); find the frames they "
                f"come from, or drop these rows."
            )
        if torch.equal(low, high):
            raise ValueError(
                f"density needs rows that differ, got {len(order)} equal rows of size {len(low)}: every distance is 0 "
                "and the ratio undefined; check where the features come from."
            )
        centre = torch.minimum(torch.maximum(total / len(order), low), high)
        reach = float(torch.maximum(high - centre, centre - low).max())
        self.scale: float = 2.0 ** math.floor(math.log2(reach))  # a power of two: scaling is exact
        self.centre = centre / self.scale
        given = self.raw(slice(0, 1)).dtype
        single = (given.is_floating_point or given in (torch.uint8, torch.int8)) and given != torch.float64
        single = single and 2.0**-60 < self.scale < 2.0**60  # not near overflow
        self.dtype = torch.float32 if single else torch.float64

    def __len__(self) -> int:
        return len(self.order)

    def raw(self, part: slice | Tensor) -> Tensor:
        """Unchanged rows by their index in the sorted order, moved to the device in their dtype. [n, D]"""
        index = self.order[part if isinstance(part, slice) else part.to(self.order.device)]
        if isinstance(self.features, np.ndarray):
            return torch.from_numpy(np.ascontiguousarray(self.features[index.numpy()])).to(self.device)
        return self.features[index].to(self.device)

    def centred(self, raw: Tensor, dtype: torch.dtype) -> Tensor:
        """Rows minus the common centre, in units of `scale`. [n, D]"""
        return raw.to(dtype).mul(1 / self.scale).sub_(self.centre.to(dtype))


class Sorted(NamedTuple):
    """Result of `sort_rows`. Tensors are on the computing device, except `gloss_ids`."""

    rows: Rows
    gloss_ids: Tensor
    """Ascending, on the CPU. [K] long"""
    counts: Tensor
    """Rows of each gloss, after capping. [K] long"""
    labels: Tensor
    """Gloss of each sorted row, 0..K-1. [N]"""
    starts: Tensor
    """First sorted row of each gloss. [K]"""
    kept: Tensor
    """Glosses that have a ratio: at least `min_count` rows before capping. [K'] long"""
    weights: Tensor | None
    """Weight of each sorted row, or of each row in R replicates. [N] or [N, R] float64"""
    edges: list[int]
    """First sorted row of each gloss, then the number of rows, on the host. [K + 1]"""


def capped_rows(glosses: Tensor | np.ndarray, cap: int, *, seed: int = 0) -> Tensor:
    """Draws at most `cap` rows per gloss at random and returns their row numbers, ascending.

    With the same seed, the rows of a smaller cap are a subset of those of a larger one, so caps can be compared.

    Args:
        glosses: gloss number of each row. [N]
        cap: maximum number of rows per gloss.
        seed: seed of the draw.

    Raises:
        ValueError: a cap below 2 (a single row has no pair).
    """
    if cap < 2:
        raise ValueError(f"a cap of rows per gloss needs to be at least 2, got {cap}; one row has no pair.")
    labels = torch.as_tensor(glosses).cpu()
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    order = shuffled[labels[shuffled].argsort(stable=True)]  # sorted by gloss, random within a gloss
    _, counts = torch.unique(labels, return_counts=True)
    place = torch.arange(len(labels)) - torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    return order[place < cap].sort().values


def sort_rows(
    features: Tensor | np.ndarray | Sequence[Sequence[float]],
    glosses: Tensor | np.ndarray | Sequence[str] | Sequence[int],
    min_count: int,
    others: bool,
    *,
    cap: int | None = None,
    seed: int = 0,
    weights: Tensor | np.ndarray | None = None,
    device: torch.device | str | None = None,
) -> Sorted:
    """Validates the input and sorts the rows by gloss; arguments as in `sign_density_ratio`."""
    features = feature_matrix(features)
    labels = torch.as_tensor(gloss_numbers(glosses)[1])
    if len(features.shape) != 2 or 0 in features.shape or labels.ndim != 1 or len(labels) != len(features):
        raise ValueError(
            "density needs features [N, D] and one gloss number per row [N], "
            f"got shapes {tuple(features.shape)} and {tuple(labels.shape)}."
        )
    if labels.is_floating_point() or labels.is_complex():
        raise ValueError(f"density needs glosses as whole numbers, got {labels.dtype}; number the glosses first.")
    labels = labels.cpu()
    if isinstance(features, Tensor):
        features = features.detach()
    place = _measuring_device(features, device)
    gloss_ids, inverse, counts = torch.unique(labels, return_inverse=True, return_counts=True)
    order = inverse.argsort(stable=True)
    enough = counts >= min_count
    if not enough.any():
        raise ValueError(
            f"density needs at least one gloss with {min_count} rows, got {len(labels)} rows of {len(counts)} glosses, "
            f"at most {int(counts.max())} each; lower min_count, or give more instances."
        )
    if cap is not None:
        chosen = torch.zeros(len(labels), dtype=torch.bool, device=labels.device)
        chosen[capped_rows(inverse, cap, seed=seed)] = True
        order = order[chosen[order]]
        counts = counts.clamp(max=cap)
    if not others:
        order = order[enough[inverse[order]]]
        gloss_ids, counts, enough = gloss_ids[enough], counts[enough], enough[enough]
    if len(counts) < 2:
        raise ValueError(
            f"density needs at least 2 glosses to compare, got {len(counts)}; give instances of more than one sign."
        )
    group = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    sorted_weights = None
    if weights is not None:
        given = _checked(weights, len(labels))
        sorted_weights = given[order.to(given.device)].to(place)
    starts = counts.cumsum(0) - counts
    return Sorted(
        rows=Rows(features, order, place),
        gloss_ids=gloss_ids,
        counts=counts.to(place),
        labels=group.to(place),
        starts=starts.to(place),
        kept=enough.nonzero().flatten().to(place),
        weights=sorted_weights,
        edges=[*starts.tolist(), len(order)],
    )


def _measuring_device(features: Tensor | np.ndarray, device: torch.device | str | None) -> torch.device:
    """The computing device: the given one, else that of the features."""
    if device is None:
        device = features.device if isinstance(features, Tensor) else "cpu"
    place = torch.device(device)
    return torch.device("cpu") if place.type == "mps" else place  # mps has no float64


def _checked(weights: Tensor | np.ndarray, rows: int) -> Tensor:
    given = torch.as_tensor(weights if isinstance(weights, Tensor) else _readable(np.asarray(weights))).double()
    if given.ndim not in (1, 2) or len(given) != rows or not bool(((given > 0) & given.isfinite()).all()):
        raise ValueError(
            f"density needs one weight above 0 per row [{rows}], such as the frames of each sign, got shape "
            f"{tuple(given.shape)}, smallest {float(given.min()) if given.numel() else math.nan:g}."
        )
    return given
