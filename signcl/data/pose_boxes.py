"""The coordinates of key points as Uni-Sign's code computes them: the body in its box, other parts around their roots.

Source: Uni-Sign (ICLR 2025), `load_part_kp` and `crop_scale` of the released code.
"""

from __future__ import annotations

import numpy as np

from signcl.data.pose_layouts import PoseLayout

__all__ = ["boxed_points"]

FEWEST = 4  # points of the body in a clip, fewer give no box


def boxed_points(points: np.ndarray, seen: np.ndarray, layout: PoseLayout, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Scales a clip by the square around all points of its body.

    Body: -1 to 1 across the square. Other parts: distances from their root (the wrist of a hand, the tip of the nose)
    in sides of the square, cut off at -1 and 1. The root counts wherever the estimator puts it, even if its confidence
    is low. Points that were not found are zero.

    Args:
        points: coordinates, also of points below the lowest confidence. [T, K, 2]
        seen: confidences, 0 if not found. [T, K]
        layout: the body first; every other part has a root.
        where: the clip, for messages.

    Returns:
        Coordinates [T, K, 2] and confidences [T, K]; points of a part whose root has no position count as not found.

    Raises:
        ValueError: less than 4 points of the body in the entire clip, or all at one position.
    """
    points = np.where(np.isfinite(points), points, np.nan)
    ranges = layout.ranges()
    first, last = ranges.pop("body")
    found = points[:, first:last][seen[:, first:last] > 0]  # [n, 2]
    if len(found) < FEWEST:
        raise ValueError(
            f"{where}: {len(found)} points of the body are found in the entire clip; their box, which gives the scale, "
            f"needs {FEWEST} (of a confidence above input.pose_min_confidence)"
        )
    low, high = found.min(axis=0), found.max(axis=0)
    side = float((high - low).max())
    if not side > 0:
        raise ValueError(f"{where}: all points of the body are at one position, so key points cannot be scaled")
    rows = np.zeros_like(points)
    rows[:, first:last] = 2 * (points[:, first:last] - (low + high) / 2) / side
    seen = seen.copy()
    roots = {part.name: part.root for part in layout.parts}
    for part, (first, last) in ranges.items():
        root = roots[part]
        assert root is not None, f"{part} of {layout.name} has no root"
        origin = points[:, first + root]  # [T, 2]
        seen[~np.isfinite(origin).all(axis=1), first:last] = 0
        rows[:, first:last] = (points[:, first:last] - origin[:, None]) / side
    return np.where(seen[..., None] > 0, rows.clip(-1, 1), 0), seen
