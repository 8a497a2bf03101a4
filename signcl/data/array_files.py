"""Reads .npy and .npz files, after a check of their headers: numpy allocates whatever memory they claim to need."""

from __future__ import annotations

import io
import math
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

__all__ = ["check_members", "checked_arrays", "load_arrays", "npy_head", "parsed"]

Read = TypeVar("Read")

LONGEST_HEAD = 10_000
"""Bytes of a header that are read; numpy rejects longer ones, but only after allocating the memory they claim."""
MOST_TRIES = 20
MOST_PACKED = 1032
"""Maximum compression ratio of deflate."""


def checked_arrays(path: Path) -> Path:
    """Checks that every array in the file is as large as its header claims; returns the path, for `np.load`.

    Raises:
        ValueError: what is wrong, without the name of the file.
    """
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            _check(file, os.fstat(file.fileno()).st_size)
        return path
    try:
        with zipfile.ZipFile(path) as archive:
            check_members(archive)
            for info in archive.infolist():
                with archive.open(info) as member:
                    if info.filename.endswith(".npy"):
                        _check(member, info.file_size)
    except ValueError:
        raise
    except Exception as error:  # zipfile raises nearly anything
        raise ValueError(f"a damaged archive ({str(error)[:100] or type(error).__name__})") from None
    return path


def load_arrays(path: Path, *, mapped: bool = False) -> Any:
    """`np.load` without pickles, after `checked_arrays`.

    Args:
        mapped: map a .npy file into memory and read what is used.
    """
    checked_arrays(path)
    return parsed(lambda: np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False))


def parsed(read: Callable[[], Read]) -> Read:
    """Calls a function that parses headers, again if Python's parser fails because other threads use it.

    A header is a Python expression. Before 3.11.9 and 3.12.2, `ast.literal_eval` in several threads raises SystemError
    from time to time (CPython issue 106905), and a clip would count as broken.
    """
    for _ in range(MOST_TRIES):
        try:
            return read()
        except SystemError:
            continue
    return read()


def npy_head(file: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Reads shape, order and dtype from the header of an array; leaves the file position at the start of the data.

    Args:
        file: a binary file, at its start.

    Raises:
        ValueError: not a .npy header.
    """
    start = io.BytesIO(file.read(LONGEST_HEAD))
    try:
        version = np.lib.format.read_magic(start)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        begin = start.tell()
        shape, fortran, dtype = parsed(lambda: (start.seek(begin), read(start))[1])
    except (MemoryError, RecursionError):  # raised by Python's parser; no memory was allocated
        raise ValueError("not a .npy header (an expression nested too deeply)") from None
    except Exception as error:  # the header is a Python expression, whose tokenizer has its own errors
        raise ValueError(f"not a .npy header ({str(error)[:100] or type(error).__name__})") from None
    file.seek(start.tell())
    return shape, fortran, dtype


def check_members(archive: zipfile.ZipFile) -> None:
    """Rejects archives whose members claim to unpack to more than their compressed size allows.

    Raises:
        ValueError: what is wrong, without the name of the file.
    """
    for info in archive.infolist():
        packed = info.compress_type != zipfile.ZIP_STORED
        if info.file_size > info.compress_size * (MOST_PACKED if packed else 1):
            raise ValueError(
                f"its member {info.filename[:60]!r} has {info.compress_size:,} bytes but claims to unpack to "
                f"{info.file_size:,}"
            )


def _check(file: Any, size: int) -> None:
    """Rejects an array that is larger than its file."""
    shape, _, dtype = npy_head(file)
    if any(type(length) is not int or length < 0 for length in shape):
        raise ValueError(f"it has an array of invalid shape {str(shape)[:60]}")
    needed, there = math.prod(shape) * dtype.itemsize, size - file.tell()
    if not dtype.hasobject and needed > there:
        raise ValueError(f"an array of {dtype} {list(shape)} needs {needed:,} bytes, but the file has {there:,}")
