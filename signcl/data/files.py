"""Writing files so that nothing is lost: beside the place first, moved there when whole; errors that name the file."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "append_line",
    "atomic_write",
    "clear_unfinished",
    "is_empty",
    "naming",
    "read_bytes",
    "read_text",
    "write_bytes",
    "write_json",
    "write_text",
]

UMASK = os.umask(0)
"""Asked once, while there is one thread: asking means setting it for a moment."""
os.umask(UMASK)


PART = ".part"
"""How the name of a file ends that is not whole yet; it begins with a dot."""
_cleared: set[Path] = set()
"""Folders in which this process has looked for what killed ones left."""


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Puts the name of a file into the errors of reading it: of a broken disk the system says no more than that."""
    try:
        yield
    except OSError as error:
        if error.filename is None and str(path) not in str(error):
            if error.errno is None:  # of a library that has no other words
                error.args = (f"{path}: {error}",)
            else:
                error.filename = str(path)
        raise


def read_bytes(path: Path) -> bytes:
    """A whole file; every error names it."""
    with naming(path):
        return path.read_bytes()


def read_text(path: Path) -> str:
    """A whole file of UTF-8; every error of the system names it."""
    with naming(path):
        return path.read_text(encoding="utf-8")


def append_line(path: Path, line: bytes) -> None:
    """Add one line to a file, on the disk when this returns; its folder and the file are made if need be.

    One write to a file opened for appending, under a lock: lines of several processes never mix. Where a line was cut
    by a full disk or a power cut, the new one starts on a line of its own.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        if fcntl is not None:  # on Windows appending in one write must do
            fcntl.flock(handle, fcntl.LOCK_EX)
        size = os.fstat(handle).st_size
        cut = size and os.pread(handle, 1, size - 1) != b"\n"
        whole = b"\n" * bool(cut) + line + b"\n"
        written = os.write(handle, whole)
        if written != len(whole):
            raise OSError(f"{path}: only {written} of {len(whole)} bytes could be written; free space and try again")
        os.fsync(handle)
    finally:
        os.close(handle)  # lets the lock go


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary path to write to; it replaces `path` when the block ends well and vanishes when it does not.

    What killed processes have left half written in the folder goes first.

    Raises:
        OSError: with what to do, when the disk is full or the folder may not be written. The old file is intact.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.parent not in _cleared:
        _cleared.add(path.parent)
        clear_unfinished(path.parent)
    handle, temporary = _open_part(path)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~UMASK)
        os.replace(temporary, path)
    except Exception as error:
        if _disk_full(error):
            kept = "the one written before is intact" if path.exists() else "nothing was overwritten"
            raise OSError(
                errno.ENOSPC, f"no space left while writing {path}; {kept}; free space and run the same command again"
            ) from None
        raise
    finally:
        temporary.unlink(missing_ok=True)
        os.close(handle)


def clear_unfinished(folder: Path) -> int:
    """Remove what `atomic_write` left in a folder when its process was killed; how many files.

    A file that is still being written is locked by its process, and stays.
    """
    cleared = 0
    for path in folder.glob(f".*{PART}"):
        if re.fullmatch(r"\..+\.[a-z0-9_]{8}\.part", path.name) and path.is_file():
            cleared += _remove_unlocked(path)
    return cleared


def is_empty(folder: Path) -> bool:
    """Whether a folder holds nothing, or does not exist; what a killed process left half written in it goes first."""
    if not folder.is_dir():
        return True
    clear_unfinished(folder)
    return not any(folder.iterdir())


def _open_part(path: Path) -> tuple[int, Path]:
    """A new file beside `path`, locked for as long as the handle is open."""
    while True:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PART)
        if fcntl is not None:
            with contextlib.suppress(OSError):  # a file system without locks, such as some network mounts
                fcntl.flock(handle, fcntl.LOCK_EX)
        if os.path.exists(name):
            return handle, Path(name)
        os.close(handle)  # another process cleared it before it was locked


def _remove_unlocked(path: Path) -> bool:
    """Remove a file that no living process holds. Where files cannot be locked, none is known to be left over."""
    if fcntl is None:
        return False
    try:
        handle = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def _disk_full(error: Exception) -> bool:
    """torch and safetensors report a full disk as their own kinds of error."""
    return getattr(error, "errno", None) == errno.ENOSPC or any(
        words in str(error)
        for words in ("No space left", "PytorchStreamWriter failed", "file write failed", "inline_container")
    )


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, data: Any) -> None:
    """Write a JSON file atomically."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file of bytes atomically."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
