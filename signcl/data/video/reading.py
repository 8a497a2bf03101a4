"""Video files and folders of frame images to RGB arrays: `probe` looks at the header only, `read_frames` decodes.

Whatever can be wrong with a clip ends in one line that names it: missing, empty, no video, truncated, no frames.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from signcl.data.video.pictures import Fit, Frames, Indices, resize_frames, sample_indices

if TYPE_CHECKING:
    import av.container
    import av.video.stream

__all__ = ["IMAGE_SUFFIXES", "VIDEO_SUFFIXES", "VideoInfo", "probe", "read_frames"]

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
    if path.is_dir():
        images = _images(path)
        height, width = _read_image(images[0]).shape[:2]
        return VideoInfo(len(images), height, width, None)
    with _open(path) as container:
        stream = _video_stream(container, path)
        num_frames = stream.frames or _count_packets(container, stream)
        if num_frames == 0:
            raise ValueError(f"{path}: no frames in this video; make it again or take it out of the corpus")
        rate = stream.average_rate or stream.guessed_rate
        return VideoInfo(num_frames, stream.height, stream.width, float(rate) if rate else None)


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
    if path.is_dir():
        return _read_folder(path, max_frames, indices, size, fit, generator)
    seed = None if generator is None else int(generator.integers(2**62))

    def choose(num_frames: int) -> Indices:
        if indices is not None:
            return _checked_indices(indices, num_frames, path)
        return sample_indices(num_frames, max_frames, None if seed is None else np.random.default_rng(seed))

    wanted, total = None, None
    if indices is not None or max_frames is not None:
        # Converting to RGB costs more than decoding, so frames that are not wanted are never converted. This trusts
        # the count in the header; where that proves wrong the clip is decoded once more with the true count.
        total = probe(path).num_frames
        wanted = choose(total)
    frames, decoded = _decode(path, wanted, size, fit, strict, threads)
    if wanted is not None and decoded != total:
        wanted = choose(decoded)
        frames, _ = _decode(path, wanted, size, fit, strict, threads)
    if wanted is None:
        return np.stack([frames[index] for index in range(decoded)])
    return np.stack([frames[int(index)] for index in wanted])


def _checked_indices(indices: Sequence[int] | Indices, num_frames: int, path: Path) -> Indices:
    wanted = np.asarray(indices, dtype=np.int64)
    if wanted.size == 0 or wanted.min() < 0 or wanted.max() >= num_frames:
        raise ValueError(
            f"{path}: need frame numbers in 0..{num_frames - 1}, got {wanted.tolist()[:8]}; "
            f"the clip has {num_frames} frames"
        )
    return wanted


# --- video files -----------------------------------------------------------------------------------------------------


def _open(path: Path) -> av.container.InputContainer:
    """Open a video file, or say in one line why that cannot be done."""
    import av

    if not path.exists():
        raise FileNotFoundError(f"{path}: no such clip; check the path and the folder it is relative to")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: empty file (0 bytes); copy or make it again")
    try:
        container = av.open(str(path), metadata_errors="replace")
    except PermissionError:
        raise
    except (av.error.FFmpegError, OSError) as error:
        cut = _lacks_mp4_index(path)
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


def _decode(
    path: Path,
    wanted: Indices | None,
    size: int | tuple[int, int] | None,
    fit: Fit,
    strict: bool,
    threads: int,
) -> tuple[dict[int, Frames], int]:
    """Decode a whole file; convert the wanted frames. Returns them by number, and how many frames there are."""
    import av
    from av.video.reformatter import VideoReformatter

    keep = None if wanted is None else {int(index) for index in wanted}
    frames: dict[int, Frames] = {}
    decoded = 0
    problem = ""
    with _open(path) as container:
        stream = _video_stream(container, path)
        stream.thread_count = threads
        reformatter = VideoReformatter()  # kept: a new one for each frame makes decoding 2-3 times slower
        try:
            for frame in container.decode(stream):
                if keep is None or decoded in keep:
                    frames[decoded] = _to_rgb(frame, reformatter, size, fit)
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
    return frames, decoded


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


def _to_rgb(frame: Any, reformatter: Any, size: int | tuple[int, int] | None, fit: Fit) -> Frames:
    pixels: Frames = reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()  # 1: twice as fast when small
    if frame.rotation:  # phones store the picture as the chip saw it, and how to turn it
        pixels = np.ascontiguousarray(np.rot90(pixels, frame.rotation // 90))
    return pixels if size is None else resize_frames(pixels[None], size, fit)[0]


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


def _read_image(path: Path) -> Frames:
    import cv2

    data = np.frombuffer(path.read_bytes(), np.uint8)
    image: Any = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB) if len(data) else None
    if image is None:
        raise ValueError(f"{path}: not a readable image (empty, truncated or of another format); copy it again")
    return np.asarray(image, np.uint8)


def _read_folder(
    folder: Path,
    max_frames: int | None,
    indices: Sequence[int] | Indices | None,
    size: int | tuple[int, int] | None,
    fit: Fit,
    generator: np.random.Generator | None,
) -> Frames:
    images = _images(folder)
    if indices is None:
        wanted = sample_indices(len(images), max_frames, generator)
    else:
        wanted = _checked_indices(indices, len(images), folder)

    def load() -> Iterator[Frames]:
        first: tuple[int, ...] | None = None
        for index in wanted:
            image = _read_image(images[index])
            first = first or image.shape
            if size is not None:
                image = resize_frames(image[None], size, fit)[0]
            elif image.shape != first:
                raise ValueError(
                    f"{images[index]}: {image.shape[0]} x {image.shape[1]} pixels, but the frames before it have "
                    f"{first[0]} x {first[1]}; give a size to bring them to one"
                )
            yield image

    return np.stack(list(load()))
