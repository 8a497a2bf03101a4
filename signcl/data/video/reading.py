"""Video files and folders of frame images to RGB arrays: `probe` looks at the header only, `read_frames` decodes.

Whatever can be wrong with a clip ends in one line that names it: missing, empty, no video, truncated, no frames.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from signcl.data.video.pictures import Fit, Frames, Indices, resize_frame, sample_indices
from signcl.data.video.shards import find_entry, in_shard, open_member

if TYPE_CHECKING:
    import av.container
    import av.video.stream

__all__ = ["IMAGE_SUFFIXES", "VIDEO_SUFFIXES", "VideoInfo", "count_clip_frames", "probe", "read_frames", "read_into"]

VIDEO_SUFFIXES = (".mp4", ".avi", ".webm", ".mov", ".mkv", ".m4v", ".gif")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class VideoInfo:
    """What a clip says about itself, found without decoding it."""

    num_frames: int
    """Frames by its header (or by its packets where the header has no count); images of a folder."""
    height: int
    """Pixels, as displayed: a phone's rotation mark is not applied here but is by `read_frames`."""
    width: int
    """Pixels."""
    fps: float | None
    """Frames per second; None for a folder of images, which does not say."""


def probe(path: str | Path) -> VideoInfo:
    """Number, size and rate of a clip's frames, without decoding it. Says nothing about whether they can be read.

    Args:
        path: a video file or a folder of frame images.

    Returns:
        What its header says.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: not a video, no frames, or so truncated that its header is gone.
    """
    path = Path(path)
    if in_shard(path):
        entry = find_entry(path)
        return VideoInfo(entry.frames, entry.height, entry.width, None)
    if path.is_dir():
        images = _images(path)
        height, width = _read_image(str(images[0]), images[0]).shape[:2]
        return VideoInfo(len(images), height, width, None)
    with _open(path) as container:
        stream = _video_stream(container, path)
        num_frames = stream.frames or _count_packets(container, stream)
        if num_frames == 0:
            raise ValueError(f"{path}: no frames in this video; make it again or take it out of the corpus")
        rate = stream.average_rate or stream.guessed_rate
        return VideoInfo(num_frames, stream.height, stream.width, float(rate) if rate else None)


def count_clip_frames(path: str | Path) -> int:
    """Frames of a clip by its header; of a folder without opening an image, which `probe` does for the size.

    Raises:
        FileNotFoundError, ValueError: as of `probe`.
    """
    path = Path(path)
    return len(_images(path)) if not in_shard(path) and path.is_dir() else probe(path).num_frames


def read_frames(
    path: str | Path,
    *,
    max_frames: int | None = None,
    indices: Sequence[int] | Indices | None = None,
    size: int | tuple[int, int] | None = None,
    fit: Fit = "stretch",
    generator: np.random.Generator | None = None,
    strict: bool = True,
    threads: int = 1,
) -> Frames:
    """The frames of a clip as RGB.

    Args:
        path: a video file (mp4, avi, webm, mov, mkv, gif ...) or a folder of png/jpg images, read in natural order
            (frame2 before frame10).
        max_frames: most frames to return, chosen by `sample_indices`.
        indices: or exactly these frames, in this order; negative numbers are refused.
        size: (height, width) of the result, or one number for a square; see `resize_frames`.
        fit: how a clip of another shape is brought to `size`; see `resize_frames`.
        generator: makes the choice of `max_frames` random; give one in training only.
        strict: refuse a clip of which fewer frames can be read than its header promises (3 frames or 2 % fewer are
            let pass: real files are off by as much). False takes what is there, if there is at least one frame.
        threads: decoder threads; 1 is best where several workers read, 0 lets the decoder choose.

    Returns:
        Frames. [T, H, W, 3] uint8 RGB

    Raises:
        FileNotFoundError: nothing there.
        ValueError: not a video, no frames, truncated, images of different sizes, or an index beyond the end.
    """
    path = Path(path)
    seed = None if generator is None else int(generator.integers(2**62))

    def choose(num_frames: int) -> Indices:
        if indices is not None:
            return _checked_indices(indices, num_frames, path)
        return sample_indices(num_frames, max_frames, None if seed is None else np.random.default_rng(seed))

    return read_into(path, choose, size=size, fit=fit, strict=strict, threads=threads)


def _fresh(count: int, height: int, width: int) -> tuple[Frames, int, int]:
    """New memory for whole frames."""
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
    strict: bool = True,
    threads: int = 1,
) -> Frames:
    """Chosen frames of a clip, each written once: from the decoder into the place where it is wanted.

    Args:
        path: as of `read_frames`.
        choose: number of frames -> which of them, in any order, repeats allowed. It is asked again where a video turns
            out to have another number of frames than its header says, so it must answer alike for equal numbers.
        allocate: (count, height, width) of the frames after resizing -> memory [count, h, w, 3] and the top and left
            pixel of the window of h x w pixels that is kept.
        only: the part of the clip that `choose` chooses from; None is all of it.
        every: of a folder, decode the images that are not chosen too, so that a broken one is found in every epoch.
        size, fit, strict, threads: as of `read_frames`.

    Returns:
        The memory that `allocate` gave, or its beginning where the clip is shorter than its header says.

    Raises:
        FileNotFoundError, ValueError: as of `read_frames`.
    """
    path = Path(path)
    if in_shard(path):
        member = open_member(path)
        if member.rows is not None:
            return _place_all(member.rows, _chosen(choose, only, len(member.rows), path), allocate, size, fit, path)
        if member.images:
            pictures = [(f"{path} frame {number}", data) for number, data in enumerate(member.images)]
            return _read_images(pictures, choose, allocate, only, every, size, fit, path)
        return _read_video(io.BytesIO(member.data), path, choose, allocate, only, size, fit, strict, threads)
    if path.is_dir():
        images = [(str(image), image) for image in _images(path)]
        return _read_images(images, choose, allocate, only, every, size, fit, path)
    return _read_video(path, path, choose, allocate, only, size, fit, strict, threads)


def _chosen(choose: Callable[[int], Indices], only: range | None, num_frames: int, path: Path) -> Indices:
    """Which frames of the whole clip are wanted."""
    if only is None:
        return np.asarray(choose(num_frames), dtype=np.int64)
    inside = _checked_indices(only, num_frames, path)
    return inside[choose(len(inside))]


class _Places:
    """Where frames go: memory is asked for when the size of the first frame is known."""

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
        """Resize and crop a decoded frame to every row that wants it."""
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
        """Refuse a frame of another size than those before it, where nothing brings them to one."""
        if self.size is None and self.shape and pixels.shape != self.shape:
            raise ValueError(
                f"{label}: {pixels.shape[0]} x {pixels.shape[1]} pixels, but the frames before it have "
                f"{self.shape[0]} x {self.shape[1]}; give a size to bring them to one"
            )

    def filled(self) -> Frames:
        """The memory, of a clip whose chosen frames have all been put."""
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
    """Frames that lie in a file as they are."""
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


def _open(path: Path, source: Path | io.BytesIO | None = None) -> av.container.InputContainer:
    """Open a video file, or its bytes, or say in one line why that cannot be done."""
    import av

    in_memory = isinstance(source, io.BytesIO)
    if not in_memory and not path.exists():
        raise FileNotFoundError(f"{path}: no such clip; check the path and the folder it is relative to")
    if not in_memory and path.stat().st_size == 0:
        raise ValueError(f"{path}: empty file (0 bytes); copy or make it again")
    try:
        container = av.open(source if in_memory else str(path), "r", metadata_errors="replace")
    except PermissionError:
        raise
    except (av.error.FFmpegError, OSError) as error:
        cut = not in_memory and _lacks_mp4_index(path)
        reason = "truncated (its index, the 'moov' atom, is missing); copy it again" if cut else "not a readable video"
        raise ValueError(f"{path}: {reason} ({type(error).__name__})") from error
    if container.format.name == "tty":  # ffmpeg takes any text for terminal art
        container.close()
        raise ValueError(f"{path}: not a readable video (a text file)")
    return container


def _lacks_mp4_index(path: Path) -> bool:
    """Whether a file starts like mp4/mov but has no 'moov' box at its top level."""
    with path.open("rb") as file:
        size, found_type = path.stat().st_size, False
        while file.tell() + 8 <= size:
            start = file.tell()
            header = file.read(16)
            length, kind = int.from_bytes(header[:4], "big"), header[4:8]
            if kind == b"moov":
                return False
            if kind == b"ftyp":
                found_type = True
            if length == 1:  # a 64-bit length follows
                length = int.from_bytes(header[8:16], "big")
            if not found_type or length < 8:
                break
            file.seek(start + length)
        return found_type


def _video_stream(container: av.container.InputContainer, path: Path) -> av.video.stream.VideoStream:
    if not container.streams.video:
        raise ValueError(f"{path}: no video in this file (only {len(container.streams)} other streams)")
    return container.streams.video[0]


def _count_packets(container: av.container.InputContainer, stream: av.video.stream.VideoStream) -> int:
    """Compressed frames of a file whose header has no count (webm): reads the file without decoding it."""
    import av

    try:
        return sum(packet.size > 0 for packet in container.demux(stream))
    except av.error.FFmpegError:
        return 0


def _read_video(
    source: Path | io.BytesIO,
    path: Path,
    choose: Callable[[int], Indices],
    allocate: Callable[[int, int, int], tuple[Frames, int, int]],
    only: range | None,
    size: int | tuple[int, int] | None,
    fit: Fit,
    strict: bool,
    threads: int,
) -> Frames:
    """The chosen frames of a video. Trusts the count of its header, and decodes once more where that proves wrong."""
    with _open(path, source) as container:
        stream = _video_stream(container, path)
        total = stream.frames or _count_packets(container, stream)
    if total == 0:
        raise ValueError(f"{path}: no frame could be read; copy it again or take it out of the corpus")
    wanted = _chosen(choose, only, total, path)
    while True:
        places = _Places(wanted, allocate, size, fit)
        decoded = _decode(source, path, places, strict, threads)
        if decoded == total:
            return places.filled()
        total, before, wanted = decoded, wanted, _chosen(choose, only, decoded, path)
        if len(wanted) and np.array_equal(wanted, before[: len(wanted)]):
            return places.filled()[: len(wanted)]


def _decode(source: Path | io.BytesIO, path: Path, places: _Places, strict: bool, threads: int) -> int:
    """Decode a whole file, convert and place the wanted frames; how many frames there are."""
    import av
    from av.video.reformatter import VideoReformatter

    decoded = 0
    problem = ""
    if isinstance(source, io.BytesIO):
        source.seek(0)
    with _open(path, source) as container:
        stream = _video_stream(container, path)
        stream.thread_count = threads
        reformatter = VideoReformatter()  # kept: a new one for each frame makes decoding 2-3 times slower
        try:
            for frame in container.decode(stream):
                if decoded in places:  # converting to RGB costs more than decoding
                    places.put(decoded, _to_rgb(frame, reformatter), f"{path} frame {decoded}")
                decoded += 1
        except (av.error.FFmpegError, OSError) as error:
            problem = f" ({type(error).__name__})"
        promised = _promised_frames(container, stream)
        if not problem and container.format.name == "gif" and not _ends_with(path, b";"):
            problem = " (the end mark of the GIF is missing)"
    if decoded == 0:
        raise ValueError(f"{path}: no frame could be read{problem}; copy it again or take it out of the corpus")
    short = promised - decoded > max(3, promised // 50)
    if strict and (short or problem):
        raise ValueError(
            f"{path}: truncated or damaged, {decoded} of {promised or 'an unknown number of'} frames could be "
            f"read{problem}; copy it again, or read what is there with strict=False"
        )
    return decoded


def _promised_frames(container: av.container.InputContainer, stream: av.video.stream.VideoStream) -> int:
    """Frames by the header, or by its duration where it has no count (webm); 0 where it says nothing."""
    if stream.frames:
        return stream.frames
    if "matroska" in container.format.name and container.duration and stream.average_rate:
        return int(container.duration / 1_000_000 * float(stream.average_rate))  # duration is in microseconds
    return 0


def _ends_with(path: Path, mark: bytes) -> bool:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 64))
        return file.read().rstrip(b"\0").endswith(mark)


def _to_rgb(frame: Any, reformatter: Any) -> Frames:
    """A decoded frame as RGB, a view into the converter's memory. [H, W, 3]"""
    converted = reformatter.reformat(frame, format="rgb24", threads=1)  # 1: twice as fast when small
    plane = converted.planes[0]
    # Lines are padded to a multiple of some bytes, so the view has its own stride; `to_ndarray` would copy.
    shape, strides = (converted.height, converted.width, 3), (plane.line_size, 3, 1)
    pixels: Frames = np.ndarray(shape, np.uint8, buffer=plane, strides=strides)
    if frame.rotation:  # phones store the picture as the chip saw it, and how to turn it
        pixels = np.ascontiguousarray(np.rot90(pixels, frame.rotation // 90))
    return pixels


# --- folders of images -----------------------------------------------------------------------------------------------


def _images(folder: Path) -> list[Path]:
    """The frame images of a folder in natural order; hidden files (a Mac's ._000.png) are not frames."""

    def natural(path: Path) -> list[tuple[int, int, str]]:
        parts = re.findall(r"\d+|\D+", path.name)
        return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts]

    found = [item for item in folder.iterdir() if item.suffix.lower() in IMAGE_SUFFIXES and item.name[0] != "."]
    if not found:
        raise ValueError(f"{folder}: no frames in this folder; it needs images ({', '.join(IMAGE_SUFFIXES)})")
    return sorted(found, key=natural)


def _read_image(label: str, image: Path | bytes | memoryview) -> Frames:
    import cv2

    data = np.frombuffer(image.read_bytes() if isinstance(image, Path) else image, np.uint8)
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
