"""Reads clips from the tar shards that `signcl corpus pack` writes, by byte offset.

A clip in a shard has the path SHARD.tar/KEY.mp4, .jpg or .rgb, as if the shard were a folder. SHARD.index.json next to
it stores where each clip begins, so no search is needed. The tar has webdataset's layout; any tar tool reads it.

    KEY.mp4                      a video                KEY.rgb    [T, H, W, 3] uint8, uncompressed
    KEY.000000.jpg, KEY.000001.jpg, ...    its frames   KEY.json   name, text, glosses
"""

from __future__ import annotations

import functools
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from signcl.data.files import naming
from signcl.data.json_files import read_json
from signcl.data.video.pictures import Frames

__all__ = ["Entry", "Member", "check_shard", "find_entry", "in_shard", "index_path", "open_member"]

BLOCK = 512
"""Bytes of a tar block: a header takes one block, and every file is padded to full blocks."""


@dataclass(frozen=True)
class Entry:
    """Position and size of a clip in its shard."""

    offset: int
    """Position of the first content byte of its first file."""
    sizes: tuple[int, ...]
    """Bytes of each of its files: one file, or one per JPEG."""
    frames: int
    height: int
    width: int
    crc: int
    """CRC-32 of the contents."""


@dataclass(frozen=True)
class Member:
    """The content of a clip in a shard; exactly one of the three fields is set."""

    rows: Frames | None = None
    """Uncompressed frames, memory-mapped. [T, H, W, 3]"""
    images: tuple[memoryview, ...] = ()
    """One JPEG file per frame."""
    data: bytes = b""
    """Content of a video file."""


def in_shard(path: Path) -> bool:
    """Whether a clip is stored in a tar shard, judged by its path."""
    return path.parent.suffix == ".tar"


def index_path(shard: Path) -> Path:
    """Path of the index of a shard."""
    return shard.with_suffix(".index.json")


def find_entry(path: Path) -> Entry:
    """Looks up a clip in the index of its shard.

    Raises:
        FileNotFoundError: no shard, no index, or no such clip in it.
        ValueError: the index is damaged or does not match its tar.
    """
    shard = path.parent
    if not shard.is_file():
        raise FileNotFoundError(f"{shard}: no such shard; copy the pack again or run `signcl corpus pack` again")
    if not (index := index_path(shard)).is_file():
        raise FileNotFoundError(f"{index}: the shard has no index; run `signcl corpus pack` again to create it")
    ages = shard.stat().st_mtime_ns, index.stat().st_mtime_ns
    found = _index(str(shard), shard.stat().st_size, ages).get(path.name)
    if found is None:
        raise FileNotFoundError(f"{path}: the index of the shard has no such clip; pack the corpus again")
    return found


@functools.lru_cache(maxsize=256)
def _index(shard: str, size: int, ages: tuple[int, int]) -> dict[str, Entry]:
    """The index of a shard of `size` bytes; `ages` is part of the cache key, so changed files are read again."""
    path = index_path(Path(shard))
    read = read_json(path, INDEX, "delete it and run `signcl corpus pack` again", _check_index)
    told: int = read["tar_bytes"]
    clips = {key: Entry(offset, tuple(sizes), *rest) for key, (offset, sizes, *rest) in read["clips"].items()}
    end = max((entry.offset + _stretch(entry.sizes) for entry in clips.values()), default=0)
    if told != size or end > size:
        raise ValueError(
            f"{path}: does not fit its tar: the index is of a file of {max(told, end):,} bytes, {Path(shard).name} has "
            f"{size:,}; copy both again, or delete both and run `signcl corpus pack` again"
        )
    return clips


INDEX = {"tar_bytes": int, "clips": {str: (int, [int], int, int, int, int)}}


def _check_index(read: dict[str, Any]) -> None:
    """Raises an error for an index entry that is impossible in a tar."""
    for key, (offset, sizes, frames, height, width, _) in read["clips"].items():
        where = f"clips[{key[:40]!r}]"
        if offset < BLOCK or not sizes or min(sizes) < 0:
            raise ValueError(f"{where}: needs an offset from {BLOCK} and sizes, got {offset} and {str(sizes)[:40]}")
        if min(frames, height, width) < 1:
            raise ValueError(f"{where}: needs frames, height and width of at least 1, got {frames}, {height}, {width}")
        if key.endswith(".rgb") and sizes != [frames * height * width * 3]:
            raise ValueError(f"{where}: {frames} frames of {height} x {width} are not {str(sizes)[:40]} bytes")
        if key.endswith(".jpg") and len(sizes) != frames:
            raise ValueError(f"{where}: {frames} frames and {len(sizes)} pictures")


def _stretch(sizes: tuple[int, ...]) -> int:
    """Bytes from the start of the first file's content to the end of the last file's content."""
    return sum(-(-size // BLOCK) * BLOCK + BLOCK for size in sizes[:-1]) + sizes[-1]


def open_member(path: Path) -> Member:
    """The content of a clip in a shard. Verifies its checksum, except for .rgb, which is often read in part.

    Raises:
        FileNotFoundError, ValueError: as in `find_entry`; or another file is at the offset, or the clip has changed.
    """
    entry = find_entry(path)
    with naming(path), path.parent.open("rb", buffering=0) as file:
        header = os.pread(file.fileno(), BLOCK, entry.offset - BLOCK)
        key = path.stem if path.suffix == ".jpg" else path.name
        if not header.startswith(key.encode()):
            raise ValueError(
                f"{path}: the index does not fit its tar, another file lies at byte {entry.offset}; copy both again"
            )
        if path.suffix == ".rgb":
            shape = (entry.frames, entry.height, entry.width, 3)
            return Member(rows=np.memmap(file, np.uint8, "r", entry.offset, shape))
        data = os.pread(file.fileno(), _stretch(entry.sizes), entry.offset)
    if path.suffix != ".jpg":
        member = Member(data=data)
    else:
        images, start, view = [], 0, memoryview(data)
        for size in entry.sizes:
            images.append(view[start : start + size])
            start += -(-size // BLOCK) * BLOCK + BLOCK
        member = Member(images=tuple(images))
    _check_sum(path, member)
    return member


def check_shard(path: Path) -> None:
    """Reads a clip of a shard and verifies its checksum.

    Raises:
        FileNotFoundError, ValueError: as in `open_member`; or the bytes have changed.
    """
    _check_sum(path, open_member(path))


def _check_sum(path: Path, member: Member) -> None:
    crc = 0
    for part in member.images or (member.data if member.rows is None else member.rows.reshape(-1).data,):
        crc = zlib.crc32(part, crc)
    if crc != find_entry(path).crc:
        raise ValueError(f"{path}: its bytes have changed since it was packed (CRC-32); copy or pack the shard again")
