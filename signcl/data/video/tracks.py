"""Video files: which of their tracks is read, how many pictures it should have, and whether it was all there.

A header's count is no evidence: an edit list hides packets, AVI repeats a picture by an empty one, and a container
lasts as long as its longest track. A file is cut off where its parts end early (`containers`), where packets of its
index are missing, or where the video track stops before its own end. It is damaged where the decoder says so.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from signcl.data.files import naming
from signcl.data.video.containers import Layout, layout_of

if TYPE_CHECKING:
    import av.container
    import av.video.stream

__all__ = [
    "DAMAGED",
    "Damaged",
    "End",
    "count_pictures",
    "expected_end",
    "failure",
    "has_hidden_frames",
    "is_cover",
    "open_video",
    "rate_of",
    "verdict",
    "video_track",
]

Damaged = Literal["refuse", "few", "read"]
DAMAGED = ("refuse", "few", "read")
PICTURE_CODECS = ("mjpeg", "png", "bmp", "webp", "tiff", "jpeg2000")
WITH_HIDDEN_PACKETS = ("vp8", "vp9", "av1")
"""Codecs with packets that are kept for reference and never shown, so that packets are more than frames."""


def open_video(path: Path, source: Path | io.BytesIO | None = None) -> av.container.InputContainer:
    """Open a video file, or its bytes, or say in one line why that cannot be done.

    Raises:
        FileNotFoundError, ValueError: as of `read_frames`.
    """
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
        raise ValueError(f"{path}: {reason} ({failure(error)})") from error
    if container.format.name == "tty":  # ffmpeg takes any text for terminal art
        container.close()
        raise ValueError(f"{path}: not a readable video (a text file)")
    if "webp" in container.format.name and not container.streams.video[0].width:
        container.close()
        raise ValueError(f"{path}: an animated WebP, which cannot be read here; convert it to mp4 or gif")
    return container


def failure(error: Exception, stream: Any = None) -> str:
    """What stopped libav, in a word or two.

    Args:
        stream: the track that was read. Its index may ask for a packet of impossible size, which libav calls a lack of
            memory without having asked for any.
    """
    entries = () if stream is None else stream.index_entries
    if isinstance(error, MemoryError) and (sizes := [entry.size for entry in entries if entry.size < 0]):
        return f"a packet of {sizes[0]:,} bytes in its index"
    return type(error).__name__


def _lacks_mp4_index(path: Path) -> bool:
    """Whether a file starts like mp4/mov but has no 'moov' box at its top level."""
    with naming(path), path.open("rb") as file:
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
            if not found_type or length < 8 or start + length > size:
                break
            file.seek(start + length)
        return found_type


def is_cover(stream: av.video.stream.VideoStream) -> bool:
    """Whether a track is a picture that stands for the file, not its video."""
    import av.stream

    kinds = av.stream.Disposition
    return bool(stream.disposition & (kinds.attached_pic | kinds.timed_thumbnails))


def video_track(container: av.container.InputContainer, path: Path) -> av.video.stream.VideoStream:
    """The track that is the video: no cover picture, and of several the one that the file names as its default.

    Raises:
        ValueError: there is none, or no decoder for it.
    """
    import av.stream

    found = [stream for stream in container.streams.video if not is_cover(stream)]
    if not found:
        covers = len(container.streams.video)
        other = "only a cover picture" if covers else f"only {len(container.streams)} other streams"
        raise ValueError(f"{path}: no video in this file ({other})")
    readable: list[Any] = [stream for stream in found if stream.codec_context is not None]  # type: ignore[redundant-expr]
    if not readable:
        raise ValueError(f"{path}: its video is of a codec that cannot be read here; convert it to h264 with ffmpeg")
    # A cover that is not marked as one: a picture beside a video.
    videos = [stream for stream in readable if stream.codec_context.name not in PICTURE_CODECS] or readable
    default = [stream for stream in videos if stream.disposition & av.stream.Disposition.default]
    chosen: av.video.stream.VideoStream = (default or videos)[0]
    return chosen


def rate_of(stream: av.video.stream.VideoStream) -> float | None:
    """Frames per second by the header, on average; None where it does not say."""
    rate = stream.average_rate or stream.guessed_rate
    return float(rate) if rate else None


def is_indexed(container: av.container.InputContainer, stream: av.video.stream.VideoStream) -> bool:
    """Whether the file has a list of all packets of the track.

    A fragmented mp4 has one of its first part only, and of an AVI that lost its list the first packet is known.
    """
    kinds = container.format.name.split(",")
    if "avi" in kinds:
        return stream.frames == 1 or len(stream.index_entries) > 1
    return "mp4" in kinds and stream.frames > 0 and len(stream.index_entries) > 0


def has_hidden_frames(container: av.container.InputContainer, stream: av.video.stream.VideoStream) -> bool:
    """Whether an edit list hides packets that must be decoded nevertheless."""
    return is_indexed(container, stream) and any(entry.is_discard for entry in stream.index_entries)


def count_pictures(container: av.container.InputContainer, stream: av.video.stream.VideoStream) -> int:
    """Pictures that a track shows, without decoding: by its index, its header, or by reading its packets."""
    import av

    if is_indexed(container, stream):
        return sum(not entry.is_discard for entry in stream.index_entries)
    if stream.frames:
        return stream.frames
    try:
        return sum(packet.size > 0 and not packet.is_discard for packet in container.demux(stream))
    except (av.error.FFmpegError, OSError):
        return 0


@dataclass
class End:
    """What a file promised of its video track, and what came of it."""

    codec: str
    layout: Layout
    entries: int | None = None
    """Packets in its index."""
    promised: int = 0
    """Frames by the header; evidence only where nothing else is known. 0 where it says nothing."""
    until: float | None = None
    """When the track ends, seconds of the container's clock."""
    by_any_track: bool = False
    """`until` is the end of the longest track, whichever that is."""
    rate: float = 25.0
    packets: int = 0
    shown: int = 0
    """Packets of pictures that are to be shown."""
    decoded: int = 0
    errors: int = 0
    """Packets that the decoder refused."""
    corrupt: int = 0
    """Packets that came damaged, and frames of which the decoder made up parts."""
    fields: int = 0
    """Interlaced frames."""
    stopped: str = ""
    """Why reading stopped before the end."""
    reason: str = ""
    """Of the first error."""
    ended: float = 0.0
    """When the last packet ends."""
    longest: float = 0.0
    """The longest gap between two packets, seconds."""
    clock: Any = None

    def reach(self, packet: Any, unit: Any) -> None:
        """Note a packet's time."""
        if packet.pts is not None:
            begin = float(packet.pts * unit)
            self.longest = max(self.longest, begin - self.ended)
            self.ended = max(self.ended, begin + float((packet.duration or 0) * unit))

    @property
    def lost(self) -> int:
        """Pictures for which there was a packet and no frame."""
        if self.layout.pictures is not None:
            return max(0, self.layout.pictures - self.decoded)
        if self.codec in WITH_HIDDEN_PACKETS or (self.fields and 2 * self.decoded >= self.shown - 2):
            return 0  # the two fields of a frame may come in two packets
        return max(0, self.shown - self.decoded)

    @property
    def expected(self) -> int:
        """Frames that the whole file would have; 0 where nothing says so."""
        if self.entries is not None:
            there = self.decoded + max(0, self.entries - self.packets) + self.lost
            return max(there, self.promised) if self.layout.cut and self.entries == self.shown else there
        if self.layout.pictures is not None:
            return 0 if self.layout.cut else self.layout.pictures
        if self.promised:
            return self.promised
        if self.until is None or self.by_any_track or not self.ended:
            return 0
        return max(self.decoded, round(self.decoded * self.until / self.ended))

    def cut(self) -> str:
        """Why the file is taken for cut off; empty where the video track came to its end."""
        if self.stopped:
            return self.stopped
        if self.entries is not None:
            if self.packets < self.entries:
                return self.layout.cut or f"{self.entries - self.packets} packets of its index are missing"
            if self.corrupt or self.entries < self.promised:  # of a cut AVI the index is what was found of it
                return self.layout.cut
            return ""
        if self.until is not None:
            slack = max(3 / self.rate, self.until / 50, self.longest)
            if self.until - self.ended > slack:
                return self.layout.cut or f"it stops at {self.ended:.2f} s of {self.until:.2f} s"
            # Its last second may lie in the part that is missing even where the clock says little.
            return self.layout.cut if self.corrupt or self.until - self.ended > 1.5 / self.rate else ""
        if self.layout.cut:
            return self.layout.cut
        if self.promised - self.decoded > max(3, self.promised // 50):
            return f"its header promises {self.promised} frames"
        return ""

    def damage(self) -> tuple[int, str]:
        """How many frames are broken or lost, and how one knows."""
        count = max(self.errors, self.lost) + self.corrupt + bool(self.layout.broken)
        kinds = (
            (self.layout.broken, self.layout.broken),
            (self.errors, f"the decoder refused {self.errors}{f', {self.reason}' if self.reason else ''}"),
            (self.corrupt, f"{self.corrupt} decoded with errors"),
            (self.lost > self.errors, f"{self.lost} lost"),
        )
        return count, ", ".join(text for there, text in kinds if there)


def expected_end(
    container: av.container.InputContainer, stream: av.video.stream.VideoStream, source: Path | io.BytesIO
) -> End:
    """What a file promises of its video track; `End` is filled while it is decoded."""
    kind = container.format.name
    if isinstance(source, io.BytesIO):
        place = source.tell()
        layout = layout_of(source, kind)
        source.seek(place)  # the container goes on reading there
    else:
        about = source.stat()
        layout = _layout(str(source), kind, about.st_size, about.st_mtime_ns)
    end = End(stream.codec_context.name, layout, promised=stream.frames, rate=rate_of(stream) or 25.0)
    if is_indexed(container, stream):
        end.entries = len(stream.index_entries)
    elif "matroska" in kind:
        end.until = _own_end(stream)
        if end.until is None and container.duration:
            end.until = container.duration / 1_000_000  # microseconds
            end.by_any_track = len(container.streams) > 1
    elif kind == "avi" and stream.frames:
        end.until = stream.frames / end.rate  # not a count: a picture that is repeated is an empty packet
    return end


@lru_cache(maxsize=4096)
def _layout(path: str, kind: str, size: int, changed: int) -> Layout:
    """The layout of a file, once per file and not once per epoch; `size` and `changed` make a new file be looked at."""
    with naming(Path(path)), open(path, "rb") as file:
        return layout_of(file, kind)


def _own_end(stream: av.video.stream.VideoStream) -> float | None:
    """When a track of a Matroska file ends, by its tag DURATION = 00:00:02.003000000."""
    for key, value in stream.metadata.items():
        found = re.fullmatch(r"(\d{1,9}):(\d{1,9}):(\d{1,9}(?:\.\d{1,20})?)", value.strip("\0 "))
        if key.upper().startswith("DURATION") and found:
            hours, minutes, seconds = found.groups()
            return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    return None


def verdict(end: End, path: Path, damaged: Damaged) -> str:
    """What is to be said of a file that is read, empty where it is whole.

    Raises:
        ValueError: it is cut off or damaged, more than `damaged` allows.
    """
    cut = end.cut()
    count, why = end.damage()
    if not cut and not count:
        return ""
    expected = end.expected
    of = f"{end.decoded} of {expected or 'an unknown number of'} frames could be read"
    advice = "copy it again, or read what is there with input.damaged=read"
    if cut:
        if damaged != "read":
            raise ValueError(f"{path}: truncated or damaged, {of} ({cut}); {advice}")
        return f"{path}: truncated or damaged, {of} ({cut})"
    total = max(expected, end.decoded)
    text = f"{path}: damaged, {min(count, total)} of {total} frames are broken or lost ({why})"
    if damaged == "refuse" or (damaged == "few" and count > max(3, total // 50)):
        raise ValueError(f"{text}; {advice}")
    return text
