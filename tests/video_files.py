"""Small video files of common kinds, made with PyAV for tests."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

QUADRANTS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}
GREY_STEP = 9
"""Frame t of `greys` has the value 10 + 9 t, so its number can be read after any codec."""


def greys(count: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Frames whose brightness encodes their number. [T, H, W, 3]"""
    values = 10 + GREY_STEP * np.arange(count, dtype=np.int64)
    assert values[-1] < 250
    return np.broadcast_to(values[:, None, None, None], (count, height, width, 3)).astype(np.uint8)


def numbers(frames: np.ndarray) -> list[int]:
    """The numbers of these frames of `greys`."""
    return [round((float(value) - 10) / GREY_STEP) for value in frames.mean(axis=(1, 2, 3))]


def corners(height: int = 32, width: int = 48) -> np.ndarray:
    """Red and green above blue and white. [H, W, 3]"""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2] = QUADRANTS["red"]
    picture[: height // 2, width // 2 :] = QUADRANTS["green"]
    picture[height // 2 :, : width // 2] = QUADRANTS["blue"]
    picture[height // 2 :, width // 2 :] = QUADRANTS["white"]
    return picture


def corner_names(picture: np.ndarray) -> list[str]:
    """The colours top left, top right, bottom left, bottom right."""
    found = []
    for y, x in ((0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75)):
        pixel = picture[int(y * picture.shape[0]), int(x * picture.shape[1])].astype(int)
        found.append(min(QUADRANTS, key=lambda name: np.abs(pixel - QUADRANTS[name]).sum()))
    return found


def make_video(
    path: Path,
    frames: np.ndarray,
    *,
    rate: int = 25,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    stamps: list[int] | None = None,
    unit: Fraction | None = None,
    options: dict[str, str] | None = None,
    file_options: dict[str, str] | None = None,
    container: str | None = None,
    turn: tuple[float, bool, bool] | None = None,
    sound: float = 0.0,
    moved: int = 0,
    prepare: Any = None,
) -> Path:
    """Encodes frames as a video file.

    Args:
        stamps: time of each frame in `unit`; None for evenly spaced frames.
        turn: degrees, horizontal flip, vertical flip, for the display matrix.
        sound: length of a silent audio track in seconds.
        moved: number of frames by which all time stamps are shifted; mp4 hides negative ones with an edit list.
        prepare: called with the stream before the first frame.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format=container, options=file_options or {}) as file:
        stream = file.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pix_fmt
        stream.thread_count = 1
        if unit is not None:
            stream.codec_context.time_base = unit
        if turn is not None:
            stream.set_display_rotation(*turn)
        if prepare is not None:
            prepare(stream)
        audio = file.add_stream("aac", rate=16000, layout="mono") if sound else None
        packets = []
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24").reformat(format=pix_fmt)
            frame.pts = number if stamps is None else stamps[number]
            frame.time_base = unit or Fraction(1, rate)
            packets += stream.encode(frame)
        packets += stream.encode(None)
        for packet in packets:
            if moved:
                step = round(1 / (packet.time_base * rate))
                packet.pts += moved * step
                packet.dts += moved * step
            file.mux(packet)
        if audio is not None:
            for start in range(0, int(sound * 16000), 1024):
                silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
                silence.sample_rate, silence.pts = 16000, start
                file.mux(audio.encode(silence))
            file.mux(audio.encode(None))
    return path


def break_packets(path: Path, numbers: list[int]) -> None:
    """Overwrites the data of some packets of an mp4, so that the decoder rejects them."""
    with av.open(str(path)) as file:
        entries = list(file.streams.video[0].index_entries)
    data = bytearray(path.read_bytes())
    for number in numbers:
        entry = entries[number]
        data[entry.pos + 4 : entry.pos + entry.size] = bytes(entry.size - 4)
    path.write_bytes(bytes(data))
