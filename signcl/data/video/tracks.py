"""Finds the video track of a file, its expected number of frames, and whether the file is complete.

The frame count in a header is not reliable: an edit list hides packets, AVI repeats a frame by an empty packet, and a
container lasts as long as its longest track. A file counts as cut off if its parts end early (`containers`), if packets
of its index are missing, or if the video track stops before its stated end. It counts as damaged if the decoder reports
errors or frames are lost.
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
"""Codecs with packets that are used for reference and never shown, so there are more packets than frames."""


def open_video(path: Path, source: Path | io.BytesIO | None = None) -> av.container.InputContainer:
    """Opens a video file, or its content in memory.

    Raises:
        FileNotFoundError, ValueError: as in `read_frames`; one line with the reason.
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
    if container.format.name == "tty":  # ffmpeg reads any text file as terminal art
        container.close()
        raise ValueError(f"{path}: not a readable video (a text file)")
    if "webp" in container.format.name and not container.streams.video[0].width:
        container.close()
        raise ValueError(f"{path}: an animated WebP, which cannot be read here; convert it to mp4 or gif")
    return container


def failure(error: Exception, stream: Any = None) -> str:
    """A short reason for an error of libav.

    Args:
        stream: the track that was read. Its index may list a packet of impossible size, which libav reports as an
            out-of-memory error.
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
    """Whether a track is a cover picture or thumbnail, not the video."""
    import av.stream

    kinds = av.stream.Disposition
    return bool(stream.disposition & (kinds.attached_pic | kinds.timed_thumbnails))


def video_track(container: av.container.InputContainer, path: Path) -> av.video.stream.VideoStream:
    """The video track of a file, ignoring cover pictures; if there are several, the one marked as default.

    Raises:
        ValueError: no video track, or no decoder for it.
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
    # Prefer tracks with a video codec: a picture track next to a video is a cover that is not marked as one.
    videos = [stream for stream in readable if stream.codec_context.name not in PICTURE_CODECS] or readable
    default = [stream for stream in videos if stream.disposition & av.stream.Disposition.default]
    chosen: av.video.stream.VideoStream = (default or videos)[0]
    return chosen


def rate_of(stream: av.video.stream.VideoStream) -> float | None:
    """Average frames per second from the header; None if it has no rate."""
    rate = stream.average_rate or stream.guessed_rate
    return float(rate) if rate else None


def is_indexed(container: av.container.InputContainer, stream: av.video.stream.VideoStream) -> bool:
    """Whether the file has an index of all packets of the track.

    A fragmented mp4 indexes only its first part. For an AVI without its index, libav knows only the first packet.
    """
    kinds = container.format.name.split(",")
    if "avi" in kinds:
        return stream.frames == 1 or len(stream.index_entries) > 1
    return "mp4" in kinds and stream.frames > 0 and len(stream.index_entries) > 0


def has_hidden_frames(container: av.container.InputContainer, stream: av.video.stream.VideoStream) -> bool:
    """Whether an edit list hides packets that must still be decoded."""
    return is_indexed(container, stream) and any(entry.is_discard for entry in stream.index_entries)


def count_pictures(container: av.container.InputContainer, stream: av.video.stream.VideoStream) -> int:
    """Number of frames that a track shows, without decoding: from its index, else its header, else its packets."""
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
    """Expected and actual content of a file's video track."""

    codec: str
    layout: Layout
    entries: int | None = None
    """Packets in its index."""
    promised: int = 0
    """Frame count in the header, used only if nothing better is known; 0 if absent."""
    until: float | None = None
    """Expected end of the track, seconds of the container's clock."""
    by_any_track: bool = False
    """`until` is the end of the longest track, not necessarily of the video."""
    rate: float = 25.0
    packets: int = 0
    shown: int = 0
    """Packets whose frames are to be shown."""
    decoded: int = 0
    errors: int = 0
    """Packets that the decoder rejected."""
    corrupt: int = 0
    """Damaged packets, and frames whose missing parts the decoder concealed."""
    fields: int = 0
    """Interlaced frames."""
    stopped: str = ""
    """Why reading stopped before the end."""
    reason: str = ""
    """Reason for the first error."""
    ended: float = 0.0
    """End of the last packet, seconds."""
    longest: float = 0.0
    """Longest gap between two packets, seconds."""
    clock: Any = None

    def reach(self, packet: Any, unit: Any) -> None:
        """Updates `ended` and `longest` with the time of a packet."""
        if packet.pts is not None:
            begin = float(packet.pts * unit)
            self.longest = max(self.longest, begin - self.ended)
            self.ended = max(self.ended, begin + float((packet.duration or 0) * unit))

    @property
    def lost(self) -> int:
        """Number of packets that gave no frame."""
        if self.layout.pictures is not None:
            return max(0, self.layout.pictures - self.decoded)
        if self.codec in WITH_HIDDEN_PACKETS or (self.fields and 2 * self.decoded >= self.shown - 2):
            return 0  # the two fields of a frame may come in two packets
        return max(0, self.shown - self.decoded)

    @property
    def expected(self) -> int:
        """Number of frames of the complete file; 0 if unknown."""
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
        """Why the file counts as cut off; empty if the video track is complete."""
        if self.stopped:
            return self.stopped
        if self.entries is not None:
            if self.packets < self.entries:
                return self.layout.cut or f"{self.entries - self.packets} packets of its index are missing"
            if self.corrupt or self.entries < self.promised:  # in a truncated AVI, the index lists only what was found
                return self.layout.cut
            return ""
        if self.until is not None:
            slack = max(3 / self.rate, self.until / 50, self.longest)
            if self.until - self.ended > slack:
                return self.layout.cut or f"it stops at {self.ended:.2f} s of {self.until:.2f} s"
            # Its last second may be in the missing part even if the time difference is small.
            return self.layout.cut if self.corrupt or self.until - self.ended > 1.5 / self.rate else ""
        if self.layout.cut:
            return self.layout.cut
        if self.promised - self.decoded > max(3, self.promised // 50):
            return f"its header promises {self.promised} frames"
        return ""

    def damage(self) -> tuple[int, str]:
        """Number of broken or lost frames, and the evidence in words."""
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
    """The expected end of a file's video track; decoding fills in the other fields of `End`."""
    kind = container.format.name
    if isinstance(source, io.BytesIO):
        place = source.tell()
        layout = layout_of(source, kind)
        source.seek(place)  # the container continues to read here
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
        end.until = stream.frames / end.rate  # not a count: a repeated frame is an empty packet
    return end


@lru_cache(maxsize=4096)
def _layout(path: str, kind: str, size: int, changed: int) -> Layout:
    """The layout of a file, computed once per file, not per epoch; `size` and `changed` detect a rewritten file."""
    with naming(Path(path)), open(path, "rb") as file:
        return layout_of(file, kind)


def _own_end(stream: av.video.stream.VideoStream) -> float | None:
    """End of a Matroska track in seconds, from its tag DURATION = 00:00:02.003000000."""
    for key, value in stream.metadata.items():
        found = re.fullmatch(r"(\d{1,9}):(\d{1,9}):(\d{1,9}(?:\.\d{1,20})?)", value.strip("\0 "))
        if key.upper().startswith("DURATION") and found:
            hours, minutes, seconds = found.groups()
            return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    return None


def verdict(end: End, path: Path, damaged: Damaged) -> str:
    """The note about a damaged file that is accepted; empty if the file is complete.

    Raises:
        ValueError: it is cut off, or more damaged than `damaged` allows.
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
