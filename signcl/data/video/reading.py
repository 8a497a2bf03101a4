"""Video files and folders of frame images to RGB arrays: `probe` looks at the header only, `read_frames` decodes.

Every fault of a clip is reported in one line that names it: missing, empty, no video, truncated, no frames.
`tracks` finds the video track and the end of a file; `containers` checks the container.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from signcl.data.files import read_bytes
from signcl.data.video.display import shown, turn_of
from signcl.data.video.pictures import Fit, Frames, Indices, resize_frame, sample_indices
from signcl.data.video.shards import find_entry, in_shard, open_member
from signcl.data.video.timing import Times, clip_length, frame_times, resample
from signcl.data.video.tracks import (
    DAMAGED,
    Damaged,
    End,
    count_pictures,
    expected_end,
    failure,
    has_hidden_frames,
    is_cover,
    open_video,
    rate_of,
    verdict,
    video_track,
)

__all__ = [
    "IMAGE_SUFFIXES",
    "VIDEO_SUFFIXES",
    "DamagedClip",
    "VideoInfo",
    "clip_rate",
    "count_clip_frames",
    "frames_at",
    "probe",
    "read_frames",
    "read_into",
    "remarks",
]

VIDEO_SUFFIXES = (".mp4", ".avi", ".webm", ".mov", ".mkv", ".m4v", ".gif")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


SLIDES = 60
"""A clip longer than this, in seconds, with less than one frame per second is considered damaged or not a film."""


class DamagedClip(UserWarning):
    """Warning: a clip has damaged frames and was read anyway."""


def _warn(message: str) -> None:
    warnings.warn(message, DamagedClip, stacklevel=5)


@dataclass(frozen=True)
class VideoInfo:
    """Size and rate of a clip from its header, without decoding."""

    num_frames: int
    """Number of frames from the index (or from packets if there is none); number of images in a folder."""
    height: int
    """Pixels, before rotation: the rotation mark of a phone is applied only by `read_frames`."""
    width: int
    """Pixels."""
    fps: float | None
    """Frames per second; None for a folder of images."""


def probe(path: str | Path) -> VideoInfo:
    """Number, size and rate of the frames of a clip, without decoding. Does not check that the frames can be read.

    Args:
        path: a video file or a folder of frame images.

    Returns:
        The values in the header.

    Raises:
        FileNotFoundError: nothing at `path`.
        ValueError: not a video, no frames, or truncated so that the header is missing.
    """
    path = Path(path)
    if in_shard(path):
        entry = find_entry(path)
        return VideoInfo(entry.frames, entry.height, entry.width, None)
    if path.is_dir():
        images = _images(path)
        height, width = _read_image(str(images[0]), images[0]).shape[:2]
        return VideoInfo(len(images), height, width, None)
    with open_video(path) as container:
        stream = video_track(container, path)
        num_frames = count_pictures(container, stream)
        if num_frames == 0:
            raise ValueError(f"{path}: no frames in this video; make it again or take it out of the corpus")
        return VideoInfo(num_frames, stream.height, stream.width, rate_of(stream))


def clip_rate(path: str | Path) -> float | None:
    """Frames per second of a clip from its header; None if it has no times. Raises the errors of `probe`."""
    path = Path(path)
    if in_shard(path) or path.is_dir():
        return None
    with open_video(path) as container:
        return rate_of(video_track(container, path))


def remarks(path: str | Path) -> list[str]:
    """Notes about unusual properties of a readable video, one line each; none for a folder of images.

    Decodes the first frame and counts packets. Raises the errors of `probe`.
    """
    path = Path(path)
    if in_shard(path) or path.is_dir():
        return []
    import av

    found = []
    with open_video(path) as container:
        stream = video_track(container, path)
        if len(container.streams.video) > 1 and (others := _other_videos(container, stream)):
            found.append(f"has {others + 1} videos; number {stream.index} is read, which it names as its default")
        shape = stream.sample_aspect_ratio
        if shape and shape != 1:
            wide = f"{round(stream.width * shape)} x {stream.height}"
            text = f"its pixels are {shape.numerator}:{shape.denominator}, not square: it is shown as {wide}"
            found.append(f"{text} and read as it is stored, {stream.width} x {stream.height}")
        clock = _clock(container, stream, path)
        gaps = np.diff(clock.times)
        if len(gaps) and gaps.max() > 2 * max(float(np.median(gaps)), 1e-3):
            text = f"its frames are not evenly spaced ({1000 * gaps.min():.0f} to {1000 * gaps.max():.0f} ms)"
            found.append(f"{text}; input.fps resamples them to one rate")
    with open_video(path) as container:
        stream = video_track(container, path)
        try:
            frame = next(iter(container.decode(stream)), None)
        except (av.error.FFmpegError, OSError):  # `read_frames` says which frames are broken
            frame = None
        if frame is not None and frame.interlaced_frame:
            found.append("is interlaced: moving hands have combs; deinterlace it first (ffmpeg -vf bwdif)")
        if frame is not None and frame.color_trc in (16, 18):  # PQ and HLG
            found.append("is in high dynamic range (HDR), read without tone mapping: its colours are pale")
    return found


def _other_videos(container: Any, stream: Any) -> int:
    """Number of other video tracks, without cover pictures."""
    return sum(other.index != stream.index and not is_cover(other) for other in container.streams.video)


def count_clip_frames(path: str | Path, fps: float | None = None) -> int:
    """Number of frames of a clip from its header, or of images in a folder, without opening one as `probe` does.

    Args:
        fps: count frames at this rate, by the rate in the header; a clip without a rate is not resampled.

    Raises:
        FileNotFoundError, ValueError: as in `probe`.
    """
    path = Path(path)
    if not in_shard(path) and path.is_dir():
        return len(_images(path))
    info = probe(path)
    return info.num_frames if not fps or not info.fps else max(1, round(info.num_frames * fps / info.fps))


def frames_at(path: str | Path, fps: float, only: range | None = None) -> Indices | None:
    """Index of the video frame to use for each frame at another rate, without decoding; None for clips without times.

    Args:
        path: a video file; folders of images and clips in a shard have no times.
        fps: the rate.
        only: a part of the clip, in frames of the file.

    Raises:
        FileNotFoundError, ValueError: as in `probe`.
    """
    path = Path(path)
    if in_shard(path) or path.is_dir():
        return None
    with open_video(path) as container:
        stream = video_track(container, path)
        clock = _clock(container, stream, path)
    if clock.count == 0:
        raise ValueError(f"{path}: no frame could be read; copy it again or take it out of the corpus")
    return _Wish(np.arange, _fresh, only, None, "stretch", fps, "few", _warn, 1).frames(clock, path)


def read_frames(
    path: str | Path,
    *,
    max_frames: int | None = None,
    indices: Sequence[int] | Indices | None = None,
    size: int | tuple[int, int] | None = None,
    fit: Fit = "stretch",
    fps: float | None = None,
    generator: np.random.Generator | None = None,
    strict: bool = True,
    damaged: Damaged = "few",
    note: Callable[[str], None] | None = None,
    threads: int = 1,
) -> Frames:
    """Reads the frames of a clip as RGB, rotated and mirrored as specified in the file.

    Non-square pixels are not rescaled; `signcl corpus check` lists such clips.

    Args:
        path: a video file (mp4, avi, webm, mov, mkv, gif ...) or a folder of png/jpg images, read in natural order
            (frame2 before frame10).
        max_frames: maximum number of frames to return, chosen by `sample_indices`.
        indices: alternatively, exactly these frames, in this order; negative numbers are errors.
        size: (height, width) of the result, or one number for a square; see `resize_frames`.
        fit: how to fit a clip with another aspect ratio to `size`; see `resize_frames`.
        fps: resample a video to this rate by the times of its frames, see `timing.resample`; `indices` and `max_frames`
            then count frames at this rate. None uses every frame once. Images in a folder have no times.
        generator: makes the choice of `max_frames` random; for training only.
        strict: False is the same as `damaged="read"`.
        damaged: how to treat a clip that is cut off or has broken or lost frames. "refuse": raise an error; "few":
            accept it with a note if it is not cut off and has at most 3 or 2 % such frames; "read": use all readable
            frames with a note, if there is at least one.
        note: called with one line about an accepted damaged clip; None warns (`DamagedClip`).
        threads: decoder threads; 1 is best if several workers read, 0 lets the decoder choose.

    Returns:
        Frames. [T, H, W, 3] uint8 RGB

    Raises:
        FileNotFoundError: nothing at `path`.
        ValueError: not a video, no frames, truncated, images of different sizes, or an index beyond the end.
    """
    path = Path(path)
    seed = None if generator is None else int(generator.integers(2**62))

    def choose(num_frames: int) -> Indices:
        if indices is not None:
            return _checked_indices(indices, num_frames, path)
        return sample_indices(num_frames, max_frames, None if seed is None else np.random.default_rng(seed))

    how = damaged if strict else "read"
    return read_into(path, choose, size=size, fit=fit, fps=fps, damaged=how, note=note, threads=threads)


def _fresh(count: int, height: int, width: int) -> tuple[Frames, int, int]:
    """Allocates memory for full frames."""
    return np.empty((count, height, width, 3), np.uint8), 0, 0


def read_into(
    path: str | Path,
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
    """Decodes chosen frames of a clip directly into given memory, without copies.

    Args:
        path: as in `read_frames`.
        choose: number of frames -> indices, in any order, with repeats allowed. It is called again if a video has a
            different number of frames than its header claims, so it must be deterministic.
        allocate: (count, height, width) of the frames after resizing -> memory [count, h, w, 3], and the top and left
            pixel of the window of h x w pixels to keep.
        only: the part of the clip from which `choose` chooses, in frames of the file; None is all of it.
        every: in a folder, also decode images that are not chosen, so that a broken one is found in every epoch.
        size, fit, fps, damaged, note, threads: as in `read_frames`. `choose` gets the number of frames at rate `fps`.

    Returns:
        The memory from `allocate`, or its beginning if the clip is shorter than its header claims.

    Raises:
        FileNotFoundError, ValueError: as in `read_frames`.
    """
    path = Path(path)
    if damaged not in DAMAGED or (fps is not None and not 0 < fps < 1e4):
        raise ValueError(
            f"{path}: needs damaged={' | '.join(DAMAGED)} and fps above 0, got damaged={damaged!r}, fps={fps}"
        )
    wish = _Wish(choose, allocate, only, size, fit, fps, damaged, note or _warn, threads)
    if in_shard(path):
        member = open_member(path)
        if member.rows is not None:
            return _place_all(member.rows, _chosen(choose, only, len(member.rows), path), allocate, size, fit, path)
        if member.images:
            pictures = [(f"{path} frame {number}", data) for number, data in enumerate(member.images)]
            return _read_images(pictures, choose, allocate, only, every, size, fit, path)
        return _read_video(io.BytesIO(member.data), path, wish)
    if path.is_dir():
        images = [(str(image), image) for image in _images(path)]
        return _read_images(images, choose, allocate, only, every, size, fit, path)
    return _read_video(path, path, wish)


def _chosen(choose: Callable[[int], Indices], only: range | None, num_frames: int, path: Path) -> Indices:
    """Indices of the chosen frames in the full clip."""
    if only is None:
        return np.asarray(choose(num_frames), dtype=np.int64)
    inside = _checked_indices(only, num_frames, path)
    return inside[choose(len(inside))]


class _Places:
    """Stores frames in the output array, which is allocated when the size of the first frame is known."""

    def __init__(
        self,
        wanted: Indices,
        allocate: Callable[[int, int, int], tuple[Frames, int, int]],
        size: int | tuple[int, int] | None,
        fit: Fit,
    ) -> None:
        self.size = None if size is None else (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
        self.fit, self.allocate, self.count = fit, allocate, len(wanted)
        self.rows: Frames | None = None
        self.shape: tuple[int, ...] = ()
        self._scratch: Frames | None = None
        self._places: dict[int, list[int]] = {}
        for row, frame in enumerate(wanted.tolist()):
            self._places.setdefault(frame, []).append(row)

    def __contains__(self, frame: int) -> bool:
        return frame in self._places

    def put(self, frame: int, pixels: Frames, label: str) -> None:
        """Resizes and crops a decoded frame and copies it to every output row that uses it."""
        if self.rows is None:
            self.shape = pixels.shape
            height, width = self.size or pixels.shape[:2]
            self.rows, self.top, self.left = self.allocate(self.count, height, width)
            self.whole = self.rows.shape[1:3] == (height, width)
        else:
            self.check(pixels, label)
        first, *others = self._places[frame]
        row = self.rows[first]
        if self.size is None or pixels.shape[:2] == self.size:
            row[:] = pixels[self.top : self.top + row.shape[0], self.left : self.left + row.shape[1]]
        elif self.whole and row.flags.c_contiguous:
            resize_frame(pixels, self.size, self.fit, out=row)
        else:
            self._scratch = resize_frame(pixels, self.size, self.fit, out=self._scratch)
            row[:] = self._scratch[self.top : self.top + row.shape[0], self.left : self.left + row.shape[1]]
        for other in others:
            self.rows[other] = row

    def check(self, pixels: Frames, label: str) -> None:
        """Raises an error if a frame differs in size from those before it and no resizing is requested."""
        if self.size is None and self.shape and pixels.shape != self.shape:
            raise ValueError(
                f"{label}: {pixels.shape[0]} x {pixels.shape[1]} pixels, but the frames before it have "
                f"{self.shape[0]} x {self.shape[1]}; give a size to bring them to one"
            )

    def filled(self) -> Frames:
        """The output array, after all chosen frames have been stored."""
        assert self.rows is not None
        return self.rows


def _place_all(
    frames: Frames,
    wanted: Indices,
    allocate: Callable[[int, int, int], tuple[Frames, int, int]],
    size: int | tuple[int, int] | None,
    fit: Fit,
    path: Path,
) -> Frames:
    """Stores the wanted frames of an uncompressed clip."""
    places = _Places(wanted, allocate, size, fit)
    for frame in sorted(set(wanted.tolist())):
        places.put(frame, frames[frame], str(path))
    return places.filled()


def _checked_indices(indices: Sequence[int] | Indices, num_frames: int, path: Path) -> Indices:
    wanted = np.asarray(indices, dtype=np.int64)
    if wanted.size == 0 or wanted.min() < 0 or wanted.max() >= num_frames:
        raise ValueError(
            f"{path}: need frame numbers in 0..{num_frames - 1}, got {wanted.tolist()[:8]}; "
            f"the clip has {num_frames} frames"
        )
    return wanted


# --- video files -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Wish:
    """The arguments of `read_into`."""

    choose: Callable[[int], Indices]
    allocate: Callable[[int, int, int], tuple[Frames, int, int]]
    only: range | None
    size: int | tuple[int, int] | None
    fit: Fit
    fps: float | None
    damaged: Damaged
    note: Callable[[str], None]
    threads: int

    def frames(self, clock: _Clock, path: Path) -> Indices:
        """Indices of the wanted frames in a file whose frames are described by `clock`."""
        if self.fps is None:
            return _chosen(self.choose, self.only, clock.count, path)
        if clock.length > SLIDES and clock.count < clock.length:
            raise ValueError(
                f"{path}: {clock.count} frames for {clock.length:.0f} s by their times, too few to bring to "
                f"{self.fps:g} frames a second; leave fps (input.fps) out or make the clip again"
            )
        inside = np.arange(clock.count) if self.only is None else _checked_indices(self.only, clock.count, path)
        times, after = clock.times, int(inside[-1]) + 1
        end = times[after] if after < clock.count else clock.length
        rows = inside[resample(times[inside] - times[inside[0]], float(end - times[inside[0]]), self.fps)]
        return rows[self.choose(len(rows))]


@dataclass(frozen=True)
class _Clock:
    """Number of frames of a video, and the display time of each."""

    count: int
    times: Times = field(default_factory=lambda: np.zeros(0))
    """Seconds from the first frame. [count], or empty if times were not requested."""
    length: float = 0.0
    """Seconds from the first frame to the end of the last."""


def _clock(container: Any, stream: Any, path: Path) -> _Clock:
    """The times of a video's frames, read from its packets without decoding."""
    import av

    shown_packets: list[tuple[int | None, int]] = []
    try:
        for packet in container.demux(stream):
            if packet.size > 0 and not packet.is_discard:
                shown_packets.append((packet.pts, packet.duration or 0))
    except (av.error.FFmpegError, OSError):
        pass  # decoding reports the error
    if all(stamp is not None for stamp, _ in shown_packets):
        shown_packets.sort(key=lambda packet: packet[0] or 0)
    return _timed([stamp for stamp, _ in shown_packets], shown_packets[-1][1] if shown_packets else 0, stream)


def _timed(stamps: list[int | None], last: int, stream: Any) -> _Clock:
    unit = float(stream.time_base or 0)
    times = frame_times(stamps, unit, rate_of(stream))
    return _Clock(len(stamps), times, clip_length(times, last * unit))


def _read_video(source: Path | io.BytesIO, path: Path, wish: _Wish) -> Frames:
    """Decodes the chosen frames of a video. Decodes a second time if the frame count in its index was wrong."""
    if isinstance(source, io.BytesIO):
        source.seek(0)
    with open_video(path, source) as container:
        stream = video_track(container, path)
        hidden = has_hidden_frames(container, stream)
        if wish.fps is None:
            clock = _Clock(count_pictures(container, stream))
        else:
            clock = _clock(container, stream, path)
    if clock.count == 0:
        raise ValueError(f"{path}: no frame could be read; copy it again or take it out of the corpus")
    wanted = wish.frames(clock, path)
    careful, unseen = hidden, 0
    while True:
        places = _Places(wanted, wish.allocate, wish.size, wish.fit)
        end = _decode(source, path, places, wish.threads, careful)
        if careful and end.errors:  # a hidden frame is broken; frames predicted from it are wrong, too
            careful, unseen = False, end.errors
            continue
        if end.decoded == 0:
            why = f" ({end.stopped})" if end.stopped else ""
            raise ValueError(f"{path}: no frame could be read{why}; copy it again or take it out of the corpus")
        end.errors = max(end.errors, unseen)
        said = verdict(end, path, wish.damaged)
        before = wanted
        if end.decoded != clock.count:
            clock = end.clock
            wanted = wish.frames(clock, path)
        if np.array_equal(wanted, before[: len(wanted)]):
            if said:
                wish.note(said)
            filled = places.filled()
            return filled if len(wanted) == len(before) else filled[: len(wanted)]


def _decode(source: Path | io.BytesIO, path: Path, places: _Places, threads: int, careful: bool) -> End:
    """Decodes a complete file and stores the wanted frames; returns what the decoder found.

    Args:
        careful: the decoder rejects a broken frame instead of concealing its missing parts, so errors in hidden
            frames (decoded, not shown) are reported too.
    """
    import av
    from av.video.reformatter import VideoReformatter

    if isinstance(source, io.BytesIO):
        source.seek(0)
    with open_video(path, source) as container:
        stream = video_track(container, path)
        stream.thread_count = threads
        if careful:
            stream.codec_context.options = {"err_detect": "explode"}
        reformatter = VideoReformatter()  # kept: a new one for each frame makes decoding 2-3 times slower
        end = expected_end(container, stream, source)
        stamps: list[int | None] = []
        decoded = last = 0
        leads = False
        begun: int | None = None  # time of the first key frame; frames due before it cannot be decoded
        tracks = container.streams if end.by_any_track else (stream,)
        packets = container.demux(*tracks)
        while True:
            try:
                packet = next(packets, None)
            except (av.error.FFmpegError, OSError) as error:
                end.stopped = end.stopped or failure(error, stream)
                break
            if packet is None:
                break
            if packet.stream.index != stream.index:  # `stream_index` would be 0 in the packet that ends a track
                end.reach(packet, packet.time_base)
                continue
            if packet.size:
                end.packets += 1
                if begun is None and packet.is_keyframe:
                    begun = packet.pts
                leads = begun is None or (packet.pts is not None and packet.pts < begun)
                end.corrupt += packet.is_corrupt
                end.shown += not (packet.is_discard or leads)
                end.reach(packet, packet.time_base)
            try:
                frames: list[Any] = packet.decode()
            except (av.error.FFmpegError, OSError) as error:
                if not leads:
                    end.errors += 1
                    end.reason = end.reason or failure(error, stream)
                continue
            for frame in frames:
                if decoded in places:  # converting to RGB costs more than decoding
                    places.put(decoded, _to_rgb(frame, reformatter), f"{path} frame {decoded}")
                end.corrupt += frame.is_corrupt
                end.fields += frame.interlaced_frame
                stamps.append(frame.pts)
                last = frame.duration
                decoded += 1
        end.decoded = decoded
        end.clock = _timed(stamps, last, stream)
    return end


def _to_rgb(frame: Any, reformatter: Any) -> Frames:
    """A decoded frame as RGB: a view into the converter's memory. [H, W, 3]"""
    converted = reformatter.reformat(frame, format="rgb24", threads=1)  # 1: twice as fast for small frames
    plane = converted.planes[0]
    # Lines are padded to an alignment, so the view needs an explicit stride; `to_ndarray` would copy.
    shape, strides = (converted.height, converted.width, 3), (plane.line_size, 3, 1)
    pixels: Frames = np.ndarray(shape, np.uint8, buffer=plane, strides=strides)
    return shown(pixels, turn_of(frame))  # phones store unrotated frames and a rotation mark


# --- folders of images -----------------------------------------------------------------------------------------------


def _images(folder: Path) -> list[Path]:
    """The frame images of a folder in natural order, without hidden files (macOS writes ._000.png)."""

    def natural(path: Path) -> list[tuple[int, int, str]]:
        parts = re.findall(r"\d+|\D+", path.name)
        return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts]

    found = [item for item in folder.iterdir() if item.suffix.lower() in IMAGE_SUFFIXES and item.name[0] != "."]
    if not found:
        raise ValueError(f"{folder}: no frames in this folder; it needs images ({', '.join(IMAGE_SUFFIXES)})")
    return sorted(found, key=natural)


def _read_image(label: str, image: Path | bytes | memoryview) -> Frames:
    import cv2

    data = np.frombuffer(read_bytes(image) if isinstance(image, Path) else image, np.uint8)
    pixels: Any = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB) if len(data) else None
    if pixels is None:
        raise ValueError(f"{label}: not a readable image (empty, truncated or of another format); copy it again")
    return np.asarray(pixels, np.uint8)


def _read_images(
    images: Sequence[tuple[str, Path | memoryview]],
    choose: Callable[[int], Indices],
    allocate: Callable[[int, int, int], tuple[Frames, int, int]],
    only: range | None,
    every: bool,
    size: int | tuple[int, int] | None,
    fit: Fit,
    path: Path,
) -> Frames:
    wanted = _chosen(choose, only, len(images), path)
    places = _Places(wanted, allocate, size, fit)
    for number in only or range(len(images)) if every else sorted(set(wanted.tolist())):
        pixels = _read_image(*images[number])
        if number in places:
            places.put(number, pixels, images[number][0])
        else:
            places.check(pixels, images[number][0])
    return places.filled()
