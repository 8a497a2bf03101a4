"""Squares around the hands and the face of a signer, found by key points: where to cut pictures of them.

The parts are `signcl.data.pose_layouts.CROPPED_PARTS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from signcl.data.poses import PoseClip, filled

__all__ = ["only_parts", "part_squares"]

MARGIN = 1.5  # side of a square, as a multiple of the larger side of the points; fingers are wider than their joints
FEWEST = 3  # points of a part, fewer give no square


def only_parts(clip: PoseClip, parts: Sequence[str]) -> PoseClip:
    """The same clip with these parts only, in this order, so that many clips fit into memory.

    Raises:
        ValueError: the layout has no such part.
    """
    ranges = clip.layout.ranges()
    if lacking := [part for part in parts if part not in ranges]:
        raise ValueError(f"{clip.where}: its key points ({clip.layout.name}) have no {', '.join(lacking)} to cut out")
    of_name = {part.name: part for part in clip.layout.parts}
    layout = replace(clip.layout, parts=tuple(of_name[part] for part in parts))
    kept = np.concatenate([np.arange(*ranges[part]) for part in parts])
    return replace(clip, layout=layout, points=clip.points[:, kept], seen=clip.seen[:, kept], guesses=None)


def part_squares(
    clip: PoseClip, parts: Sequence[str], size: tuple[int, int], *, fill: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """A square around each part in each frame.

    A square is never smaller than the median over the clip: a fist must not look as large as an open hand.

    Args:
        clip: the signer's points.
        parts: some of `CROPPED_PARTS`.
        size: width and height of a frame, pixels. Points relative to the picture (0 to 1) are scaled by it.
        fill: gaps of at most this many frames without a part are interpolated.

    Returns:
        Centre x, centre y and side, pixels [T, P, 3], and whether the part was found [T, P].

    Raises:
        ValueError: the layout has no such part.
    """
    clip = only_parts(clip, parts)
    ranges = clip.layout.ranges()
    points = clip.points[..., :2] * (np.array(size) if clip.small else 1.0)
    squares = np.zeros((len(points), len(parts), 3))
    found = np.zeros((len(points), len(parts)), bool)
    for number, part in enumerate(parts):
        first, last = ranges[part]
        there = clip.seen[:, first:last] > 0  # [T, K]
        found[:, number] = there.sum(axis=1) >= FEWEST
        if not found[:, number].any():
            continue
        own = np.where(there[..., None], points[:, first:last], np.nan)[found[:, number]]
        low, high = np.nanmin(own, axis=1), np.nanmax(own, axis=1)  # [n, 2]
        sides = MARGIN * (high - low).max(axis=1)
        squares[found[:, number], number] = np.c_[(low + high) / 2, np.maximum(sides, np.median(sides))]
    if fill:
        squares, seen = filled(squares, found.astype(float), fill)
        found = seen > 0
    return squares, found
