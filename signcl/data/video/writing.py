"""Writes RGB arrays to video files, atomically."""

from __future__ import annotations

import io
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np

from signcl.data.files import write_bytes
from signcl.data.video.pictures import Frames

__all__ = ["video_bytes", "write_video"]

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".avi": "avi"}


def write_video(
    path: str | Path,
    frames: Frames | Iterable[Frames],
    fps: float = 25,
    *,
    crf: int = 18,
    preset: str = "medium",
    gop: int | None = None,
) -> Path:
    """Writes frames as an h264 video. The file is written atomically; equal frames give identical bytes.

    Even sizes are stored as yuv420p, which every player supports. Odd sizes are stored as yuv444p, which keeps the
    exact size but is not supported by some browsers.

    Args:
        path: target; .mp4, .m4v, .mov, .mkv or .avi. Its folder is created if needed.
        frames: [T, H, W, 3] uint8 RGB, or an iterable of [H, W, 3].
        fps: frames per second.
        crf: quality loss, 0 (only the colour conversion) to 51; 18 looks like the original.
        preset: x264 preset, "ultrafast" to "veryslow"; slower presets compress better.
        gop: maximum number of frames between two key frames; None leaves it to the encoder.

    Returns:
        The path.

    Raises:
        ValueError: no frames, frames that are not uint8 RGB of one size, an unknown ending, or a crf out of range.
    """
    path = Path(path)
    if path.suffix.lower() not in CONTAINERS:
        raise ValueError(f"{path}: cannot write video as {path.suffix!r}; use one of {', '.join(CONTAINERS)}")
    if not 0 <= crf <= 51 or fps <= 0:
        raise ValueError(f"{path}: need crf in 0..51 and fps above 0, got crf={crf}, fps={fps}")
    write_bytes(
        path,
        video_bytes(frames, fps, container=CONTAINERS[path.suffix.lower()], crf=crf, preset=preset, gop=gop, path=path),
    )
    return path


def video_bytes(
    frames: Frames | Iterable[Frames],
    fps: float = 25,
    *,
    container: str = "mp4",
    crf: int = 18,
    preset: str = "medium",
    gop: int | None = None,
    path: Path | str = "video",
) -> bytes:
    """Encodes frames as an h264 video in memory; see `write_video`. `path` appears in error messages."""
    # Macroblock-tree rate control reads uninitialized memory (x264 in PyAV 18, mostly with narrow frames): the same
    # frames gave up to 10 different files in 10 tries. Without it they give one; files grow by about 0.7.
    options = {"crf": str(crf), "preset": preset, "mbtree": "0"} | ({} if gop is None else {"g": str(gop)})
    return _encode(frames, container, fps, options, path)


def _encode(
    frames: Frames | Iterable[Frames], container_format: str, fps: float, options: dict[str, str], path: Path | str
) -> bytes:
    """Encode to h264 in memory."""
    import av
    from av.video.reformatter import VideoReformatter

    target = io.BytesIO()
    shape: tuple[int, ...] | None = None
    with av.open(target, "w", format=container_format) as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001), options=options)
        stream.thread_count = 1  # identical bytes on every machine, and faster for small frames
        reformatter = VideoReformatter()
        for pixels in frames:
            pixels = np.ascontiguousarray(pixels)
            if shape is None:
                shape = pixels.shape
                if len(shape) == 3:
                    stream.height, stream.width = shape[:2]
                    stream.pix_fmt = "yuv420p" if shape[0] % 2 == 0 and shape[1] % 2 == 0 else "yuv444p"
            if pixels.dtype != np.uint8 or pixels.shape != shape or len(shape) != 3 or shape[2] != 3:
                raise ValueError(
                    f"{path}: frames must be uint8 [T, H, W, 3] of one size, got {pixels.dtype} {list(pixels.shape)}"
                    f" after {list(shape)}"
                )
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            container.mux(stream.encode(reformatter.reformat(frame, format=stream.pix_fmt, threads=1)))
        if shape is None:
            raise ValueError(f"{path}: no frames to write; a video needs at least 1")
        container.mux(stream.encode(None))
    return target.getvalue()
