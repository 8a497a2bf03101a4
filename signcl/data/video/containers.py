"""Checks whether a video file is complete, using the part sizes stored in its container. Nothing is decoded.

A container stores the length of each of its parts, so a file that ends inside a part was cut off, whatever frame count
its header states. Bytes after the last part do not belong to the video and are ignored.

    mp4, mov    boxes                           [size, type]
    avi         RIFF chunks                     [type, size], the pictures in LIST movi
    mkv, webm   EBML elements                   [id, size], the pictures in Cluster elements
    gif         blocks up to the trailer 0x3B
    ts          packets of 188 bytes
"""

from __future__ import annotations

import io
import os
import struct
from dataclasses import dataclass
from typing import BinaryIO

__all__ = ["Layout", "layout_of"]

MP4_BOXES = {b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"uuid", b"mfra", b"sidx", b"meta"}
UNKNOWN = (0, 0xFFFFFFFF)
"""Placeholder sizes that recorders write into RIFF headers before the size is known."""

SEGMENT, CLUSTER = 0x18538067, 0x1F43B675
SEGMENT_PARTS = {
    CLUSTER,
    0x114D9B74,
    0x1549A966,
    0x1654AE6B,
    0x1C53BB6B,
    0x1941A469,
    0x1043A770,
    0x1254C367,
    0xEC,
    0xBF,
}
CLUSTER_PARTS = {0xE7, 0xA3, 0xA0, 0xA7, 0xAB, 0xAF, 0x5854, 0xEC, 0xBF}
"""Timecode, SimpleBlock, BlockGroup, Position, PrevSize, EncryptedBlock, SilentTracks, Void, CRC-32."""


@dataclass(frozen=True)
class Layout:
    """Whether the parts of a file are complete."""

    cut: str = ""
    """Why the file counts as cut off; empty if it is complete or its container does not show it."""
    broken: str = ""
    """Where the sequence of parts breaks; everything after that position may be lost."""
    pictures: int | None = None
    """Number of frames, if the container gives it (GIF)."""


def layout_of(file: BinaryIO, kind: str) -> Layout:
    """Checks that the parts of a video file are complete.

    Args:
        file: open for reading, at any position.
        kind: libav's name of the format, such as `mov,mp4,m4a,3gp,3g2,mj2`.
    """
    size = file.seek(0, os.SEEK_END)
    for name, walk in (("mp4", _mp4), ("avi", _avi), ("matroska", _matroska), ("gif", _gif), ("mpegts", _transport)):
        if name in kind.split(","):
            return walk(file, size)
    return Layout()


def _at(file: BinaryIO, place: int, count: int) -> bytes:
    file.seek(place)
    return file.read(count)


def _mp4(file: BinaryIO, size: int) -> Layout:
    place = 0
    while place + 8 <= size:
        head = _at(file, place, 16)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1:  # a 64-bit length follows
            length = int.from_bytes(head[8:16], "big")
        if not any(head):
            return Layout(f"it contains only zeros from byte {place:,} on")
        if kind not in MP4_BOXES or length == 0 or length < 8:  # data after the last box, or a box up to the end
            break
        if place + length > size:
            return Layout(f"it ends {place + length - size:,} bytes before the end of its part '{kind.decode()}'")
        place += length
    return Layout()


def _avi(file: BinaryIO, size: int) -> Layout:
    place = 0
    while place + 12 <= size:
        head = _at(file, place, 12)
        length = int.from_bytes(head[4:8], "little")
        if head[:4] != b"RIFF" or head[8:12] not in (b"AVI ", b"AVIX"):
            break
        if length in UNKNOWN:
            break
        if place + 8 + length > size:
            return Layout(f"it ends {place + 8 + length - size:,} bytes before the end of its part 'RIFF'")
        place += 8 + length + length % 2
    return Layout()


def _gif(file: BinaryIO, size: int) -> Layout:
    """Walks through every block of a GIF. Reads a few numbers per 255 bytes, so it costs much less than decoding."""
    data = _at(file, 0, size)
    pictures, lost = 0, Layout("the end mark of the GIF is missing")
    broken = _broken_gif(data)
    place = 13 + _palette(data[10]) if size > 13 else size
    while place < size:
        kind = data[place]
        if kind == 0x3B:
            return Layout(broken=broken, pictures=pictures)
        if kind == 0x2C:  # an image: 9 bytes of position and size, a palette, the code size
            if place + 10 > size:
                break
            pictures += 1
            place += 11 + _palette(data[place + 9])
        elif kind == 0x21:  # an extension and its label
            place += 2
        elif kind == 0:  # some writers put empty blocks between pictures
            place += 1
            continue
        else:
            return Layout(lost.cut, f"the data at byte {place:,} is not a GIF block", pictures)
        while place < size and data[place]:
            place += data[place] + 1
        place += 1
    return Layout(lost.cut, broken, pictures)


def _broken_gif(data: bytes) -> str:
    """The first GIF frame whose compressed pixels are invalid, found with Pillow: libav does not check this."""
    from PIL import Image

    number = 0
    try:
        with Image.open(io.BytesIO(data), formats=("GIF",)) as image:
            while True:
                image.seek(number)
                image.load()
                number += 1
    except EOFError:
        return ""  # after the last frame
    except (OSError, SyntaxError, ValueError, IndexError, struct.error):  # what Pillow raises for broken GIFs
        return f"the pixels of frame {number} are broken"
    except Image.DecompressionBombError:
        return ""  # libav reads images of any size


def _palette(flags: int) -> int:
    """Size of a palette in bytes."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _transport(file: BinaryIO, size: int) -> Layout:
    """Checks packets of equal length that each start with "G": plain, camcorder, or with error correction."""
    for packet, offset in ((188, 0), (192, 4), (204, 0)):
        if all(_at(file, packet * number + offset, 1) == b"G" for number in range(3)):
            return Layout(f"it ends inside a packet of {packet} bytes" if size % packet else "")
    return Layout()


def _number(data: bytes, keep_mark: bool) -> tuple[int | None, int]:
    """An EBML number and its length in bytes; None for an unknown size. The first 1 bit gives the length."""
    if not data or data[0] == 0:
        return None, 0
    count = 9 - data[0].bit_length()
    if len(data) < count:
        return None, 0
    value = int.from_bytes(data[:count], "big")
    if keep_mark:
        return value, count
    value &= (1 << 7 * count) - 1
    return (None if value == (1 << 7 * count) - 1 else value), count


def _matroska(file: BinaryIO, size: int) -> Layout:
    """Walks through the segment, its parts, and the blocks of its clusters.

    In a live recording, segment and clusters have unknown sizes, but blocks have a size.
    """
    place, end = 0, size
    cut = ""
    inside = False  # inside a cluster of unknown size
    clusters: list[int] = []
    while place < end:
        head = _at(file, place, 16)
        key, count = _number(head, True)
        length, more = _number(head[count:], False)
        if not count or not more:
            return Layout(cut, f"the data at byte {place:,} is not a part of a Matroska file")
        start = place + count + more
        if key == SEGMENT:
            if length is not None and start + length > size:
                cut = f"it ends {start + length - size:,} bytes before the end of its part 'Segment'"
            end = size if length is None else min(size, start + length)
            place = start
            continue
        clusters = [stop for stop in clusters if place < stop]
        inside = inside and key not in SEGMENT_PARTS - {0xEC, 0xBF}
        allowed = CLUSTER_PARTS if clusters or inside else SEGMENT_PARTS | {0x1A45DFA3}
        if key not in allowed:
            return Layout(cut, f"the data at byte {place:,} is not a part of a Matroska file")
        if key == CLUSTER:
            inside = length is None
            clusters = [] if length is None else [start + length]
            place = start
            continue
        if length is None:
            return Layout(cut, f"the part at byte {place:,} has no size")
        if clusters and start + length > clusters[0]:
            return Layout(cut, f"the part at byte {place:,} ends after the part that contains it")
        if start + length > size:
            return Layout(cut or f"it ends {start + length - size:,} bytes before the end of its last part")
        place = start + length
    return Layout(cut)
