"""Poses: key points as features, one row of normalised points a frame.

Files are read in `signcl.data.pose_files`, layouts stand in `signcl.data.pose_layouts`; here the signer's points are
chosen, cleaned, filled and normalised. A point that was not found is zero. The package pose-format is needed to read a
.pose file (`pip install 'signcl[pose]'`), not to read others or to train on what was read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from signcl.data.pose_files import RawPoints, read_points
from signcl.data.pose_layouts import LAYOUTS, POINT_ORDERS, PointOrder, PoseLayout, PosePart, layout_of, other_layout
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
    "read_pose",
    "signer_points",
]

SMALL = 4.0  # no picture is this small in pixels: coordinates below are shares of the picture, or normalised before
HIGHEST = 20.0  # RTMPose rates points up to about 10; above this a confidence counts percent, or is no confidence


@dataclass(frozen=True)
class PoseReading:
    """How key points become features: the keys `input.pose_*` of a recipe."""

    dims: int = 2
    """2 for x and y, 3 with the depth that MediaPipe estimates (unsteady)."""
    confidence: bool = False
    """Keep each point's confidence as one more number, so that "not found" differs from "at the centre"."""
    layout: str = "auto"
    """The order of points in arrays, a key of `POINT_ORDERS`; auto: by their number."""
    min_confidence: float = 0.0
    """Points of this confidence or less count as not found."""
    fill: int = 0
    """Gaps of at most so many frames are interpolated."""
    aspect: float | None = None
    """Width over height of the picture, where coordinates are shares of it; None leaves them."""


@dataclass(frozen=True)
class PoseClip:
    """The signer's points of a clip before they are normalised, and how good they are."""

    where: str
    layout: PoseLayout
    points: np.ndarray
    """[T, K, 2 or 3]"""
    seen: np.ndarray
    """Confidences, 0 where not found. [T, K]"""
    notes: tuple[str, ...] = ()
    """What is doubtful about who the signer is, with frames."""
    small: bool = False
    """Coordinates are no pixels."""

    def lacks(self) -> dict[str, np.ndarray]:
        """Frames in which less than half of a part's points were found, by part. [T] bool each"""
        found = {
            part: (self.seen[:, first:last] > 0).mean(axis=1) < 0.5
            for part, (first, last) in self.layout.ranges().items()
        }
        return found


def read_pose(path: Path | str, *, dims: int = 2, confidence: bool = False) -> np.ndarray:
    """Key points of a file of one clip as features, see `pose_rows`.

    Args:
        path: a .pose file, or another one of a single clip that `signcl.data.pose_files.read_points` reads.
        dims, confidence: as of `PoseReading`.

    Raises:
        ValueError: pose-format is not installed; no readable key points; points of no known layout; no depth in it; no
            frame with both shoulders.
        FileNotFoundError: nothing at `path`.
    """
    found = read_points(Path(path))
    if found is None or len(found) != 1:
        came = "other features" if found is None else f"{len(found)} clips"
        raise ValueError(f"{path}: needs the key points of one clip, got {came}")
    return pose_rows(next(iter(found.values())), PoseReading(dims, confidence))


def signer_points(raw: RawPoints, reading: PoseReading) -> PoseClip:
    """One signer's points of a layout. Of several people one is followed (`follow_signer`).

    Raises:
        ValueError: points of no known layout, infinite ones, or fewer numbers a point than `reading.dims`.
    """
    if reading.dims not in (2, 3):
        raise ValueError(f"input.pose_dims: key points have 2 or 3 dimensions, got {reading.dims}")
    layout, numbers, scores = raw.placed(reading.layout)  # [T, P, K, 2 or 3], [T, P, K]
    if numbers.shape[3] < reading.dims:
        raise ValueError(
            f"{raw.where}: has {numbers.shape[3]} dimensions a point, got input.pose_dims={reading.dims}; set it to 2"
        )
    points = numbers[..., : reading.dims]
    scores = np.nan_to_num(scores, nan=0.0)
    # A point that is NaN is one that was not found, as MediaPipe tables have it; infinity is a broken file.
    seen = np.where((scores > reading.min_confidence) & ~np.isnan(points).any(axis=3), scores, 0.0)
    broken = np.isinf(scores) | (np.isinf(points).any(axis=3) & (seen > 0))
    if broken.any():
        t, _, k = (int(index[0]) for index in np.nonzero(broken))
        part = next(name for name, (first, last) in layout.ranges().items() if first <= k < last)
        raise ValueError(f"{raw.where}: frame {t} has an infinite key point in {part}; extract it again")
    person, notes = follow_signer(points[..., :2], seen, layout.parts[0].count)
    frames = np.arange(len(points))
    points = points[frames, person]
    seen = np.where(person[:, None] >= 0, seen[frames, person], 0.0)
    points = np.where(seen[..., None] > 0, points, 0.0)
    small = bool((seen > 0).any() and np.abs(points[..., :2]).max() < SMALL)
    return PoseClip(raw.where, layout, points, seen, tuple(notes), small)


def pose_rows(raw: RawPoints, reading: PoseReading) -> np.ndarray:
    """Key points of a clip as features.

    Centred between the shoulders and scaled so that they are 1 apart, both in the mean over the clip, so that neither
    the place of the signer in the picture nor the size of the picture matters; what the torso does within a clip stays.
    A point that was not found is all zeros.

    Returns:
        Rows of K points, each with its numbers side by side. [T, K * (dims + confidence)] float32

    Raises:
        ValueError: as of `signer_points`; no frame with both shoulders; confidences that are none.
    """
    clip = signer_points(raw, reading)
    points, seen = clip.points, clip.seen
    if reading.aspect is not None and clip.small:
        points = points * np.array([reading.aspect, 1.0, reading.aspect][: reading.dims], points.dtype)
    both = (seen[:, :2] > 0).all(axis=1)
    if not both.any():
        raise ValueError(f"{raw.where}: no frame shows both shoulders, by which key points are normalised")
    shoulders = points[both, :2]
    apart = float(np.linalg.norm(shoulders[:, 0, :2] - shoulders[:, 1, :2], axis=1).mean())
    if not apart > 0:
        raise ValueError(f"{raw.where}: both shoulders stand on one point, so that key points cannot be normalised")
    middle = shoulders.mean(axis=(0, 1))
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


def filled(points: np.ndarray, seen: np.ndarray, longest: int) -> tuple[np.ndarray, np.ndarray]:
    """Points that were lost for a few frames, on a straight line between the frames around.

    A filled point gets the lower confidence of the two. What is lost at the start or the end of a clip, or for longer,
    stays lost.

    Args:
        points: [T, K, 2 or 3]
        seen: confidences, 0 where not found. [T, K]
        longest: frames of a gap.
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
