"""From frames to one row per sign: chooses the frame that represents a sign ("best frame", paper section A.3).

In the paper, two volunteers picked a frame by eye in every aligned span. Here the choice is a rule, and results should
always name it. Works on frame features and on steps after temporal pooling.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from signcl.data.batch import Span

__all__ = ["Choice", "clip_frames", "pool_spans", "span_steps"]

Choice = Literal["centre", "mean", "medoid"]


def clip_frames(num_steps: int, *, stride: float = 1.0, first_centre: float | None = None) -> int:
    """Maximum number of frames of a clip with `num_steps` rows; arguments as in `span_steps`."""
    first = stride / 2 if first_centre is None else first_centre
    # Pooling drops up to stride - 1 frames at the end; the last row extends as far after its centre as the first before
    # its own.
    return math.ceil((num_steps - 1) * stride + 2 * first + stride - 1)


def span_steps(
    num_steps: int, spans: Sequence[Span], *, stride: float = 1.0, first_centre: float | None = None
) -> list[tuple[int, int]]:
    """Finds the rows of a feature matrix that belong to each span of frames.

    Row s is centred at first_centre + s * stride (frame f covers [f, f + 1)); it belongs to a span that contains this
    point. A span without such a point gets the row nearest to its middle, so no span is empty.

    Args:
        num_steps: rows of the clip.
        spans: frames of each sign, stop exclusive.
        stride: frames per row: 1 for frame features, 4 after two poolings by two.
        first_centre: centre of the first row, in frames; default stride / 2 (rows tile the clip). Unpadded convolutions
            shift it: with K5-P2-K5-P2 a row covers 16 frames, so it is 8.

    Returns:
        (start, stop) of each span in rows, stop exclusive, at least one row.

    Raises:
        ValueError: a stride that is not positive, no rows, or a span that is empty or beyond the clip.
    """
    if not stride > 0 or num_steps < 1:
        raise ValueError(
            f"span_steps needs a positive stride and at least one row, got stride {stride}, {num_steps} rows."
        )
    first = stride / 2 if first_centre is None else first_centre
    num_frames = clip_frames(num_steps, stride=stride, first_centre=first_centre)
    rows = []
    for span in spans:
        if not 0 <= span.start < span.stop or span.stop > num_frames:
            raise ValueError(
                f"span {span.token}:{span.start}-{span.stop} does not fit a clip of {num_frames} frames ({num_steps} "
                f"rows, stride {stride:g}); needs 0 <= start < stop <= {num_frames}: do both belong to the same clip?"
            )
        start = max(math.ceil((span.start - first) / stride), 0)
        stop = min(math.ceil((span.stop - first) / stride), num_steps)
        if start >= stop:
            middle = ((span.start + span.stop) / 2 - first) / stride
            start = min(max(math.ceil(middle - 0.5), 0), num_steps - 1)
            stop = start + 1
        rows.append((start, stop))
    return rows


def pool_spans(
    features: Tensor,
    spans: Sequence[Span],
    choice: Choice = "centre",
    *,
    stride: float = 1.0,
    first_centre: float | None = None,
) -> Tensor:
    """One row per sign: the centre row of its span, the mean of its rows, or their medoid.

    - "centre": the middle row, the earlier of two.
    - "mean": the average. It is less noisy than a single frame, which alone lowers the intra-gloss distance.
    - "medoid": the row with the smallest sum of Euclidean distances to the other rows of the span, the first of equals.

    Args:
        features: frames or steps of one clip. [T, D]
        spans: frames of each sign.
        choice: which row to use.
        stride: frames per row, see `span_steps`.
        first_centre: centre of the first row, see `span_steps`.

    Returns:
        One row per span, in the same order. [len(spans), D]

    Raises:
        ValueError: features not [T, D], an unknown choice, spans beyond the clip.

    Source: paper section A.3 (best frame by volunteers); the rules are ours.
    """
    if features.ndim != 2:
        raise ValueError(f"pool_spans needs the features of one clip [T, D], got shape {tuple(features.shape)}.")
    if choice not in ("centre", "mean", "medoid"):
        raise ValueError(f"pool_spans needs choice 'centre', 'mean' or 'medoid', got {choice!r}.")
    pooled = []
    for start, stop in span_steps(len(features), spans, stride=stride, first_centre=first_centre):
        rows = features[start:stop]
        if choice == "mean":
            pooled.append(rows.float().mean(dim=0).to(rows.dtype) if rows.dtype.itemsize < 4 else rows.mean(dim=0))
        elif choice == "medoid" and len(rows) > 2:
            wide = rows.double()
            apart = torch.cdist(wide, wide, compute_mode="donot_use_mm_for_euclid_dist").sum(dim=1)
            pooled.append(rows[int(apart.argmin())])
        else:
            pooled.append(rows[(len(rows) - 1) // 2])
    return torch.stack(pooled) if pooled else features[:0]
