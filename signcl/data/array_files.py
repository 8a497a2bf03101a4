"""The heads of .npy and .npz files looked at before numpy believes them: it sets aside what memory they ask for."""

from __future__ import annotations

import io
import math
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["check_members", "checked_arrays", "npy_head"]

LONGEST_HEAD = 10_000
"""Bytes of a head that are looked at; numpy reads no longer ones, but sets aside what memory they ask for."""
MOST_PACKED = 1032
"""Bytes that a byte of deflate can stand for at most."""


def checked_arrays(path: Path) -> Path:
    """The path, for `np.load`, once every array in the file is seen to be as large as its head says.

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


def npy_head(file: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and type from the head of an array; the file then stands at its numbers.

    Args:
        file: opened for reading bytes, at its start.

    Raises:
        ValueError: no head of a .npy file.
    """
    start = io.BytesIO(file.read(LONGEST_HEAD))
    try:
        version = np.lib.format.read_magic(start)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(start)
    except (MemoryError, RecursionError):  # of Python's parser; no memory was asked for
        raise ValueError("no head of a .npy file (an expression too deep to be read)") from None
    except Exception as error:  # the head is an expression of Python: its tokenizer has errors of its own
        raise ValueError(f"no head of a .npy file ({str(error)[:100] or type(error).__name__})") from None
    file.seek(start.tell())
    return shape, fortran, dtype


def check_members(archive: zipfile.ZipFile) -> None:
    """Refuse an archive whose members say that they unpack to more than their bytes can stand for.

    Raises:
        ValueError: what is wrong, without the name of the file.
    """
    for info in archive.infolist():
        packed = info.compress_type != zipfile.ZIP_STORED
        if info.file_size > info.compress_size * (MOST_PACKED if packed else 1):
            raise ValueError(
                f"its member {info.filename[:60]!r} has {info.compress_size:,} bytes and is to unpack to "
                f"{info.file_size:,}"
            )


def _check(file: Any, size: int) -> None:
    """Refuse an array that is larger than its file."""
    shape, _, dtype = npy_head(file)
    if any(type(length) is not int or length < 0 for length in shape):
        raise ValueError(f"it holds an array of the shape {str(shape)[:60]}")
    needed, there = math.prod(shape) * dtype.itemsize, size - file.tell()
    if not dtype.hasobject and needed > there:
        raise ValueError(f"an array of {dtype} {list(shape)} needs {needed:,} bytes, and {there:,} are there")
