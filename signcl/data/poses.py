"""Poses: key points as features, one row of normalised points per frame.

`signcl.data.pose_files` reads files, `signcl.data.pose_layouts` defines layouts; this module selects, cleans, fills and
normalises the signer's points. Points that were not found are zero. Only .pose files need the package pose-format
(`pip install 'signcl[pose]'`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from signcl.data.pose_boxes import boxed_points
from signcl.data.pose_files import RawPoints, read_points
from signcl.data.pose_layouts import (
    LAYOUTS,
    POINT_ORDERS,
    PointOrder,
    PoseLayout,
    PosePart,
    layout_of,
    other_layout,
    points_of,
)
from signcl.data.pose_signer import follow_signer

__all__ = [
    "LAYOUTS",
    "POINT_ORDERS",
    "PointOrder",
    "PoseClip",
    "PoseLayout",
    "PosePart",
    "PoseReading",
    "layout_of",
    "other_layout",
    "points_of",
    "read_pose",
    "signer_points",
]

SMALL = 4.0  # smaller coordinates are not pixels but relative to the picture, or already normalised
HIGHEST = 20.0  # RTMPose's confidences go up to about 10; above this, they are percentages or not confidences


@dataclass(frozen=True)
class PoseReading:
    """How key points become features: the keys `input.pose_*` of a recipe."""

    dims: int = 2
    """2 for x and y, 3 to add the depth estimated by MediaPipe (noisy)."""
    confidence: bool = False
    """Add the confidence of each point as a further number, so that "not found" differs from "at the centre"."""
    layout: str = "auto"
    """The order of points in arrays, a key of `POINT_ORDERS`; auto: by their number."""
    min_confidence: float = 0.0
    """Points with this confidence or less count as not found."""
    fill: int = 0
    """Gaps of at most this many frames are interpolated."""
    aspect: float | None = None
    """Width / height of the picture, for coordinates relative to it; None leaves them unchanged."""


@dataclass(frozen=True)
class PoseClip:
    """The signer's points in a clip before normalisation, with notes on their quality."""

    where: str
    layout: PoseLayout
    points: np.ndarray
    """[T, K, 2 or 3]"""
    seen: np.ndarray
    """Confidences, 0 if not found. [T, K]"""
    notes: tuple[str, ...] = ()
    """Doubts about who the signer is, with frames."""
    small: bool = False
    """Coordinates are not in pixels."""
    guesses: np.ndarray | None = None
    """`points` before those below `PoseReading.min_confidence` became zero. [T, K, 2 or 3]"""

    def lacks(self) -> dict[str, np.ndarray]:
        """For each part, the frames in which less than half of its points were found. [T] bool each"""
        found = {
            part: (self.seen[:, first:last] > 0).mean(axis=1) < 0.5
            for part, (first, last) in self.layout.ranges().items()
        }
        return found


def read_pose(path: Path | str, *, dims: int = 2, confidence: bool = False) -> np.ndarray:
    """Reads the key points of one clip as features, see `pose_rows`.

    Args:
        path: a .pose file, or another file of a single clip that `signcl.data.pose_files.read_points` reads.
        dims, confidence: as in `PoseReading`.

    Raises:
        ValueError: pose-format is not installed; no readable key points; an unknown layout; no depth although `dims` is
            3; no frame with both shoulders.
        FileNotFoundError: nothing at `path`.
    """
    found = read_points(Path(path))
    if found is None or len(found) != 1:
        came = "other features" if found is None else f"{len(found)} clips"
        raise ValueError(f"{path}: needs the key points of one clip, got {came}")
    return pose_rows(next(iter(found.values())), PoseReading(dims, confidence))


def signer_points(raw: RawPoints, reading: PoseReading) -> PoseClip:
    """Selects the signer's points of a layout; with several people, one is tracked (`follow_signer`).

    Raises:
        ValueError: an unknown layout, infinite points, or fewer numbers per point than `reading.dims`.
    """
    if reading.dims not in (2, 3):
        raise ValueError(f"input.pose_dims: key points have 2 or 3 dimensions, got {reading.dims}")
    layout, numbers, scores = raw.placed(reading.layout)  # [T, P, K, 2 or 3], [T, P, K]
    if numbers.shape[3] < reading.dims:
        raise ValueError(
            f"{raw.where}: has {numbers.shape[3]} dimensions per point, got input.pose_dims={reading.dims}; set it to 2"
        )
    points = numbers[..., : reading.dims]
    scores = np.nan_to_num(scores, nan=0.0)
    # NaN means that a point was not found, as in MediaPipe tables; infinity means a broken file.
    seen = np.where((scores > reading.min_confidence) & ~np.isnan(points).any(axis=3), scores, 0.0)
    broken = np.isinf(scores) | (np.isinf(points).any(axis=3) & (seen > 0))
    if broken.any():
        t, _, k = (int(index[0]) for index in np.nonzero(broken))
        part = next(name for name, (first, last) in layout.ranges().items() if first <= k < last)
        raise ValueError(f"{raw.where}: frame {t} has an infinite key point in {part}; extract it again")
    person, notes = follow_signer(points[..., :2], seen, layout.parts[0].count)
    frames = np.arange(len(points))
    guesses = points[frames, person]
    seen = np.where(person[:, None] >= 0, seen[frames, person], 0.0)
    points = np.where(seen[..., None] > 0, guesses, 0.0)
    small = bool((seen > 0).any() and np.abs(points[..., :2]).max() < SMALL)
    return PoseClip(raw.where, layout, points, seen, tuple(notes), small, guesses)


def pose_rows(raw: RawPoints, reading: PoseReading) -> np.ndarray:
    """Converts the key points of a clip to features.

    Points are centred between the shoulders and scaled to a shoulder width of 1, both averaged over the clip. The
    position of the signer and the size of the picture thus do not matter, but movement of the torso is kept. Points
    that were not found are all zeros. The layout `uni_sign` has a scale of its own: `signcl.data.pose_boxes`.

    Returns:
        Rows of K points, with the numbers of each point adjacent. [T, K * (dims + confidence)] float32

    Raises:
        ValueError: as in `signer_points`; no frame with both shoulders; invalid confidences.
    """
    clip = signer_points(raw, reading)
    boxed = clip.layout.name == "uni_sign"
    points, seen = clip.guesses if boxed and clip.guesses is not None else clip.points, clip.seen
    if reading.aspect is not None and clip.small:
        points = points * np.array([reading.aspect, 1.0, reading.aspect][: reading.dims], points.dtype)
    if boxed:
        if reading.fill:
            points, seen = filled(points, seen, reading.fill)
        rows, seen = boxed_points(points, seen, clip.layout, raw.where)
    else:
        middle, apart = _shoulders(points, seen, raw.where)
        if reading.fill:
            points, seen = filled(points, seen, reading.fill)
        rows = np.where(seen[..., None] > 0, (points - middle) / apart, 0)
    if reading.confidence:
        if seen.max() > HIGHEST:
            raise ValueError(
                f"{raw.where}: has confidences up to {seen.max():.4g}, but input.pose_confidence needs 0 to 1 "
                f"(percent? divide by 100, or set it to false)"
            )
        rows = np.concatenate([rows, seen.clip(0, 1)[..., None]], axis=2)
    return np.ascontiguousarray(rows.reshape(len(rows), -1), dtype=np.float32)


def _shoulders(points: np.ndarray, seen: np.ndarray, where: str) -> tuple[np.ndarray, float]:
    """The middle between the shoulders and their distance, averaged over the frames that show both."""
    both = (seen[:, :2] > 0).all(axis=1)
    if not both.any():
        raise ValueError(f"{where}: no frame shows both shoulders, which are needed to normalise key points")
    shoulders = points[both, :2]
    apart = float(np.linalg.norm(shoulders[:, 0, :2] - shoulders[:, 1, :2], axis=1).mean())
    if not apart > 0:
        raise ValueError(f"{where}: both shoulders are at the same point, so key points cannot be normalised")
    return shoulders.mean(axis=(0, 1)), apart


def filled(points: np.ndarray, seen: np.ndarray, longest: int) -> tuple[np.ndarray, np.ndarray]:
    """Fills short gaps of a point by linear interpolation.

    A filled point gets the lower confidence of the two neighbours. Longer gaps, and gaps at the start or end of a clip,
    are not filled.

    Args:
        points: [T, K, 2 or 3]
        seen: confidences, 0 if not found. [T, K]
        longest: maximum length of a gap, in frames.
    """
    points, seen = points.copy(), seen.copy()
    frames = np.arange(len(seen))[:, None]
    found = seen > 0
    before = np.maximum.accumulate(np.where(found, frames, -1), axis=0)  # last frame that has the point, -1: none
    after = np.minimum.accumulate(np.where(found, frames, len(seen))[::-1], axis=0)[::-1]
    gap = ~found & (before >= 0) & (after < len(seen)) & (after - before - 1 <= longest)
    t, k = np.nonzero(gap)
    first, last = before[t, k], after[t, k]
    share = ((t - first) / (last - first))[:, None]
    points[t, k] = (1 - share) * points[first, k] + share * points[last, k]
    seen[t, k] = np.minimum(seen[first, k], seen[last, k])
    return points, seen
