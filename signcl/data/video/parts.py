"""Reads a segment of a long video without decoding the rest: seeks to the key frame before it and decodes to its end.

The frames are identical to those cut from the full video; a test compares them. If seeking cannot be exact (no
timestamps, or an index that disagrees with the frame count), the full video is decoded instead.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from signcl.data.batch import Segment
from signcl.data.video.pictures import Fit, Frames, Indices
from signcl.data.video.reading import _chosen, _fresh, _Places, _to_rgb, count_clip_frames, read_into
from signcl.data.video.shards import in_shard
from signcl.data.video.timing import clip_length, resample
from signcl.data.video.tracks import Damaged, failure, open_video, video_track

if TYPE_CHECKING:
    import av.container
    import av.video.stream

__all__ = ["count_part", "read_part_into"]

BACK = (0.0, 2.0, 10.0, None)
"""Seconds before the segment to seek to; the next value is tried if the seek lands too late. None: from the start."""


EDGE_SECONDS = 1e-7
"""A frame whose middle falls on an edge, up to rounding, belongs to the segment that begins there."""


class _NoSeek(Exception):
    """The segment cannot be found by seeking; the full video must be decoded."""


def read_part_into(
    path: str | Path,
    segment: Segment,
    choose: Callable[[int], Indices],
    allocate: Callable[[int, int, int], tuple[Frames, int, int]] = _fresh,
    *,
    only: range | None = None,
    every: bool = False,
    size: int | tuple[int, int] | None = None,
    fit: Fit = "stretch",
    fps: float | None = None,
    damaged: Damaged = "few",
    note: Callable[[str], None] | None = None,
    threads: int = 1,
) -> Frames:
    """Decodes chosen frames of a segment of a clip, as `read_into` does for a full clip.

    Args:
        path: a video file, a folder of frame images, or a clip in a shard.
        segment: the segment to read.
        choose: number of frames in the segment -> indices.
        allocate: as in `read_into`.
        only: the frames of the segment that `choose` chooses from, counted from its first; None is all of them.
        fps: the segment is resampled to this rate before `choose` is called, as in `read_into`.
        damaged: as in `read_into`; a damaged frame in the segment is an error unless this is `read`.
        every, size, fit, note, threads: as in `read_into`.

    Raises:
        FileNotFoundError: nothing at `path`.
        ValueError: the segment ends after the clip, contains no frame, needs an unknown frame rate, or is broken.
    """
    path = Path(path)
    if _seekable(path):
        try:
            return _read_by_seeking(path, segment, choose, allocate, only, size, fit, fps, damaged == "read", threads)
        except _NoSeek:
            pass
    inside = _frames_of(path, segment)
    kept = inside if only is None else inside[only.start : only.stop]
    if only is not None and len(kept) != len(only):
        raise segment.error(f"has {len(inside)} frames, {only.start}-{only.stop} of them are needed")
    return read_into(
        path,
        choose,
        allocate,
        only=kept,
        every=every,
        size=size,
        fit=fit,
        fps=fps,
        damaged=damaged,
        note=note,
        threads=threads,
    )


def count_part(path: str | Path, segment: Segment, fps: float | None = None) -> int:
    """Number of frames in a segment, without decoding.

    Exact for a segment given in frames; computed from the rate in the header for one given in seconds.

    Args:
        fps: count frames at this rate; a clip without a rate is not resampled.

    Raises:
        FileNotFoundError, ValueError: as in `read_part_into`.
    """
    path = Path(path)
    count = len(segment.at(0 if segment.unit == "frames" else _rate(path, segment)))
    own = _header_rate(str(path), _age(path)) if fps and _seekable(path) else None
    return count if not fps or not own else max(1, round(count * fps / own))


def _seekable(path: Path) -> bool:
    return not in_shard(path) and not path.is_dir()


def _frames_of(path: Path, segment: Segment) -> range:
    """The frame indices of a segment, checked against the length of the clip."""
    inside = segment.at(0) if segment.unit == "frames" else segment.at(_rate(path, segment))
    total = count_clip_frames(path)
    if inside.stop > total:
        raise segment.error(f"ends after {path}, which has {total} frames")
    if not len(inside):
        raise segment.error(f"holds no frame of {path}")
    return inside


def _rate(path: Path, segment: Segment) -> float:
    """Frames per second of a clip, from its header, or else from the corpus table."""
    rate = _header_rate(str(path), _age(path)) if _seekable(path) else None
    rate = rate or segment.fps
    if not rate:
        raise segment.error(f"is given in seconds, and {path} does not say its frames a second; add a column fps")
    return rate


@lru_cache(maxsize=4096)
def _header_rate(path: str, _age: tuple[int, int]) -> float | None:
    with open_video(Path(path)) as container:
        stream = video_track(container, Path(path))
        rate = stream.average_rate or stream.guessed_rate
        return float(rate) if rate else None


def _age(path: Path) -> tuple[int, int]:
    """Modification time and size: cache keys that prevent use of a stale index."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such clip; check the path and the folder it is relative to") from None
    return found.st_mtime_ns, found.st_size


@lru_cache(maxsize=256)
def _timestamps(path: str, _age: tuple[int, int]) -> np.ndarray | None:
    """Timestamps of a video's frames in display order, read from its packets; None if they are incomplete.

    [T] int64, in the stream's time base
    """
    import av

    found = []
    with open_video(Path(path)) as container:
        stream = video_track(container, Path(path))
        try:
            for packet in container.demux(stream):
                if packet.size == 0 or packet.is_discard:
                    continue
                if packet.pts is None:
                    return None
                found.append(packet.pts)
        except av.error.FFmpegError:
            return None
    stamps = np.unique(np.array(found, dtype=np.int64))
    # Frame indices must mean the same as in `read_frames`, so both must find the same number of frames.
    return stamps if len(stamps) == len(found) == count_clip_frames(path) else None


def _read_by_seeking(
    path: Path,
    segment: Segment,
    choose: Callable[[int], Indices],
    allocate: Callable[[int, int, int], tuple[Frames, int, int]],
    only: range | None,
    size: int | tuple[int, int] | None,
    fit: Fit,
    fps: float | None,
    keep_damaged: bool,
    threads: int,
) -> Frames:
    """Decodes chosen frames of a segment. Decodes a second time if a variable rate makes the estimated count wrong."""
    _age(path)  # raises an error that names a missing file
    if segment.unit == "frames":
        total = len(_frames_of(path, segment))
    else:
        try:
            total = max(1, count_part(path, segment))
        except ValueError:
            total = 1  # no rate in the header: decoding gives the count
    if fps is not None:
        # Frame times must be known before frames can be chosen; this pass converts no frames.
        nothing = _Places(np.arange(0), allocate, size, fit)
        edges = _decode_part(path, segment, nothing, threads, keep_damaged)
        inside = np.array(edges[:-1])
        kept = _chosen(np.arange, only, len(inside), path)
        end = edges[int(kept[-1]) + 1]
        times = inside[kept] - inside[kept[0]]
        rows = kept[resample(times, clip_length(times, end - inside[kept[-1]]), fps)]
        places = _Places(rows[choose(len(rows))], allocate, size, fit)
        _decode_part(path, segment, places, threads, keep_damaged)
        return places.filled()
    wanted = _chosen(choose, only, total, path)
    while True:
        places = _Places(wanted, allocate, size, fit)
        decoded = len(_decode_part(path, segment, places, threads, keep_damaged)) - 1
        if decoded == total:
            return places.filled()
        total, before = decoded, wanted
        wanted = _chosen(choose, only, total, path)
        if len(wanted) and np.array_equal(wanted, before):
            return places.filled()


def _decode_part(path: Path, segment: Segment, places: _Places, threads: int, keep_damaged: bool) -> list[float]:
    """Decodes a segment and stores the wanted frames, counted from its first.

    Returns:
        Start time of each frame and end time of the last, seconds.
    """
    import av

    for back in BACK:
        with open_video(path) as container:
            stream = video_track(container, path)
            stream.thread_count = threads
            clock = _Clock(container, stream, path, segment)
            try:
                found = clock.decode(places, back, keep_damaged)
            except (av.error.FFmpegError, OSError) as error:
                why = failure(error, clock.stream)
                raise ValueError(
                    f"{path}: truncated or damaged in the segment {segment} ({why}); copy it again, or take "
                    f"{segment.row or 'it'} out of the corpus"
                ) from None
            if found is not None:
                return found
    raise _NoSeek


class _Clock:
    """Finds the frames of an open video that belong to a segment, by their timestamps."""

    def __init__(
        self,
        container: av.container.InputContainer,
        stream: av.video.stream.VideoStream,
        path: Path,
        segment: Segment,
    ) -> None:
        self.container, self.stream, self.path, self.segment = container, stream, path, segment
        if stream.time_base is None:
            raise _NoSeek
        self.base = float(stream.time_base)
        # Players count time from the start of the file, which is the start of its earliest stream.
        begin = container.start_time
        self.zero = begin / 1_000_000 if begin is not None else (stream.start_time or 0) * self.base
        rate = stream.average_rate or stream.guessed_rate
        self.step = 1 / float(rate) if rate else 0.04
        if segment.unit == "seconds":
            self.first, self.last = segment.start - EDGE_SECONDS, segment.stop - EDGE_SECONDS
        else:
            stamps = _timestamps(str(path), _age(path))
            if stamps is None:
                raise _NoSeek
            inside = segment.at(0)
            # Half a tick before the first frame and after the last, so that comparing timestamps is safe.
            self.first = self._time(int(stamps[inside.start])) - self.base / 2
            self.last = self._time(int(stamps[inside.stop - 1])) + self.base / 2

    def decode(self, places: _Places, back: float | None, keep_damaged: bool) -> list[float] | None:
        """Stores the frames of the segment; returns their times and the end of the last, seconds.

        Returns None if seeking landed after the beginning of the segment.
        """
        from av.video.reformatter import VideoReformatter

        if back is not None and self.first - back <= self.step:
            back = None
        if back is not None:
            target = int((self.zero + self.first - back) / self.base)
            self.container.seek(target, stream=self.stream, backward=True, any_frame=False)
        reformatter = VideoReformatter()
        count, end, begun = 0, 0.0, False
        edges: list[float] = []
        ends = 0.0
        for frame, time, until in self._shown():
            if not begun and back is not None and time > self.first:
                return None
            begun, end = True, until
            # A segment in frames compares timestamps; one in seconds compares the middle of each frame's display time.
            at = time if self.segment.unit == "frames" else (time + until) / 2
            if at >= self.last:
                break
            if at < self.first:
                continue
            if frame.is_corrupt and not keep_damaged:
                if back is not None:
                    return None  # its reference frame may lie before the key frame
                raise ValueError(
                    f"{self.path}: damaged at {time:.3f} s, in the segment {self.segment}; copy it again, or take "
                    f"{self.segment.row or 'it'} out of the corpus"
                )
            if count in places:
                places.put(count, _to_rgb(frame, reformatter), f"{self.path} at {time:.3f} s")
            count += 1
            edges.append(time)
            ends = until
        else:
            if self.segment.unit == "seconds" and self.segment.stop > end + self.step:
                raise self.segment.error(f"ends after {self.path}, which lasts {end:.3f} seconds")
        if self.segment.unit == "frames" and count != len(self.segment.at(0)):
            raise _NoSeek
        if not count:
            raise self.segment.error(f"holds no frame of {self.path}")
        return [*edges, ends]

    def _shown(self) -> Iterator[tuple[Any, float, float]]:
        """Yields each frame with its start time and the start time of the next frame, seconds."""
        held: Any = None
        for frame in self.container.decode(self.stream):
            if frame.pts is None:
                raise _NoSeek
            if held is not None:
                yield held, self._time(held.pts), self._time(frame.pts)
            held = frame
        if held is not None:
            time = self._time(held.pts)
            lasts = (held.duration or 0) * self.base
            yield held, time, time + (lasts or self.step)

    def _time(self, stamp: int) -> float:
        return stamp * self.base - self.zero
