"""Reads the frames of a sample from a clip or features file, or from a segment of a long one.

All code that reads frames outside the loader uses this module, so a long video is never mistaken for one sentence.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from signcl.data.array_files import load_arrays
from signcl.data.batch import Sample, Segment
from signcl.data.features import FeatureStore, count_feature_frames, open_features, read_features, read_part
from signcl.data.features.store import checked
from signcl.data.poses import PoseReading
from signcl.data.video import Damaged, Frames, count_clip_frames, read_into
from signcl.data.video.parts import count_part, read_part_into
from signcl.data.video.reading import _fresh

__all__ = ["count_sample", "pose_rate", "read_clip", "read_clip_into", "read_rows"]

Choose = Callable[[int], np.ndarray]


def count_sample(sample: Sample, fps: float | None = None) -> int:
    """Number of frames of a sample, or of its segment, from the header of its file.

    Args:
        fps: for a video, count frames at this rate; features are not resampled.

    Raises:
        FileNotFoundError, ValueError: the file cannot be opened, or does not contain the segment.
    """
    if sample.features is not None:
        if sample.segment is None:
            return count_feature_frames(sample.features, sample.whole or sample.name)
        return len(_rows(sample.features, sample, sample.segment))
    if sample.clip is None:
        raise ValueError(f"{sample.name} has neither a clip nor features")
    if sample.segment is None:
        return count_clip_frames(sample.clip, fps)
    return count_part(sample.clip, sample.segment, fps)


def read_clip(
    sample: Sample,
    *,
    indices: Sequence[int] | np.ndarray | None = None,
    size: int | tuple[int, int] | None = None,
    fps: float | None = None,
    damaged: Damaged = "few",
    note: Callable[[str], None] | None = None,
) -> Frames:
    """Reads the frames of a sample with a clip.

    Args:
        sample: if it is a segment, only the segment is decoded.
        indices: read exactly these frames of the sample, in this order; None reads all. With `fps`, a range that is
            resampled to the rate.
        size, fps, damaged, note: as in `read_into`.

    Returns:
        [T, H, W, 3] uint8 RGB

    Raises:
        FileNotFoundError, ValueError: as in `read_frames` and `read_part_into`.
    """
    only = indices if isinstance(indices, range) else None

    def choose(count: int) -> np.ndarray:
        if indices is None or only is not None:
            return np.arange(count)
        wanted = np.asarray(indices, dtype=np.int64)
        if not len(wanted) or wanted.min() < 0 or wanted.max() >= count:
            what = f"{sample.clip}: needs frame numbers in 0..{count - 1}, got {wanted.tolist()[:8]}"
            raise ValueError(what if sample.segment is None else f"{sample.segment.row}: {what} of {sample.segment}")
        return wanted

    return read_clip_into(
        sample, choose, _fresh, only=only, every=False, size=size, fps=fps, damaged=damaged, note=note
    )


def read_clip_into(
    sample: Sample,
    choose: Choose,
    allocate: Callable[[int, int, int], tuple[Frames, int, int]],
    *,
    only: range | None,
    every: bool,
    size: int | tuple[int, int] | None,
    fps: float | None = None,
    damaged: Damaged = "few",
    note: Callable[[str], None] | None = None,
) -> Frames:
    """`signcl.data.video.read_into` for a sample; `only` counts from the first frame of its segment."""
    assert sample.clip is not None
    if sample.segment is None:
        return read_into(
            sample.clip,
            choose,
            allocate,
            only=only,
            every=every,
            size=size,
            fps=fps,
            damaged=damaged,
            note=note,
        )
    return read_part_into(
        sample.clip,
        sample.segment,
        choose,
        allocate,
        only=only,
        every=every,
        size=size,
        fps=fps,
        damaged=damaged,
        note=note,
    )


def read_rows(sample: Sample, pose: PoseReading | None = None) -> np.ndarray:
    """Reads the features of a sample, or only the rows of its segment. [T, D]

    Args:
        pose: how key points become features; None: x and y.

    Raises:
        FileNotFoundError, ValueError: as in `read_features`; a segment that the file does not contain.
    """
    features, name = sample.features, sample.whole or sample.name
    assert features is not None
    if sample.segment is None:
        return read_features(features, name, pose)
    rows = _rows(features, sample, sample.segment)
    if isinstance(features, Path) and features.suffix.lower() == ".npy":
        try:
            # Memory-mapped, so a long file is not read for one sentence.
            array = load_arrays(features, mapped=True)
        except (ValueError, EOFError, OSError):
            array = None
        if array is not None and array.ndim == 2:
            part = np.array(array[rows.start : rows.stop])
            return checked(part, name, f"{features}, {sample.segment}").astype(np.float32, copy=False)
    if not isinstance(features, Path):  # `_rows` has rejected several files
        return read_features(features, name)[rows.start : rows.stop]
    try:
        return read_part(features, name, rows, pose)
    except ValueError as error:
        raise ValueError(str(error).replace(str(features), f"{features}, {sample.segment}", 1)) from None


def _rows(features: Any, sample: Sample, segment: Segment) -> range:
    """The rows of a segment in its file, checked against the length of the file."""
    name = sample.whole or sample.name
    if isinstance(features, tuple):
        raise segment.error(f"of {sample.name} cannot be read from several feature files; give one")
    if isinstance(features, Path) and features.suffix.lower() == ".pose":
        return _checked(segment, *_pose_clock(str(features), os.stat(features).st_mtime_ns), features)
    where = features if isinstance(features, Path) else "its array"
    total = count_feature_frames(features, name)
    if isinstance(features, Path) and features.is_dir():
        source = open_features(features)
        clock = source.clock(name) if isinstance(source, FeatureStore) else (1.0, 0.5)
        if clock != (1.0, 0.5):
            return _in_rows(segment, clock, total, where)
    return _checked(segment, segment.fps, total, where)


def _in_rows(segment: Segment, clock: tuple[float, float], total: int, where: Any) -> range:
    """Rows of a store with several frames per row: those whose centres are in the segment."""
    stride, first = clock
    frames = segment if segment.unit == "frames" else _in_frames(segment, where)
    start, stop = (max(0, math.ceil((edge - first) / stride)) for edge in (frames.start, frames.stop))
    # A row covers about `stride` frames, so a segment may end up to that many frames after the centre of the last row.
    if frames.stop > first + stride * total + max(first, stride):
        raise segment.error(f"ends after {where}, which has {total} rows, one every {stride:g} frames")
    if start >= min(stop, total):
        raise segment.error(f"contains no row of {where}, which has one every {stride:g} frames")
    return range(start, min(stop, total))


def _in_frames(segment: Segment, where: Any) -> Segment:
    if segment.fps is None:
        raise segment.error(f"is given in seconds, and {where} does not say its frames a second; add a column fps")
    return replace(segment, start=segment.start * segment.fps, stop=segment.stop * segment.fps, unit="frames")


def _checked(segment: Segment, fps: float | None, total: int, where: Any) -> range:
    """The frames of a segment at a constant rate, checked against the length of the file."""
    if segment.unit == "seconds" and not fps:
        raise segment.error(f"is given in seconds, and {where} does not say its frames a second; add a column fps")
    rows = segment.at(fps or 0)
    if rows.stop > total + (segment.unit == "seconds"):  # a rounded end may include one frame too many, as with videos
        raise segment.error(f"ends after {where}, which has {total} frames")
    rows = range(rows.start, min(rows.stop, total))
    if not len(rows):
        raise segment.error(f"contains no frame of {where}")
    return rows


def pose_rate(path: Path) -> float:
    """Frames per second of a .pose file.

    Raises:
        ValueError: not a readable .pose file, or pose-format is not installed.
    """
    return _pose_clock(str(path), os.stat(path).st_mtime_ns)[0]


@lru_cache(maxsize=1024)
def _pose_clock(path: str, _age: int) -> tuple[float, int]:
    """Frames per second and number of frames of a .pose file."""
    body = _pose(Path(path)).body
    return float(body.fps), len(body.data)


def _pose(path: Path) -> Any:
    """Opens a .pose file."""
    try:
        from pose_format import Pose
    except ImportError:
        raise ValueError(
            f"{path}: reading .pose files needs the package pose-format; install it with pip install 'signcl[pose]'"
        ) from None
    try:
        return Pose.read(path.read_bytes())
    except OSError:
        raise
    except Exception as error:  # struct, value, memory and index errors all mean a broken file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: not a readable .pose file ({reason}); copy or convert it again") from None
