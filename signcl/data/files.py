"""Atomic file writes (a temporary file next to the target, renamed when complete), and errors that name the file."""

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

from signcl.data.registry import nearest_word

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
    "near_file",
    "read_bytes",
    "read_text",
    "write_bytes",
    "write_json",
    "write_text",
]

UMASK = os.umask(0)
"""Read once, while there is only one thread: reading it means setting it for a moment."""
os.umask(UMASK)


PART = ".part"
"""Suffix of an incomplete file; its name begins with a dot."""
_cleared: set[Path] = set()
"""Folders from which this process has removed the incomplete files of killed processes."""


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Adds the file name to errors raised while reading it; for a failing disk, the system's error lacks it."""
    try:
        yield
    except OSError as error:
        if error.filename is None and str(path) not in str(error):
            if error.errno is None:  # raised by a library with only a message
                error.args = (f"{path}: {error}",)
            else:
                error.filename = str(path)
        raise


def read_bytes(path: Path) -> bytes:
    """Reads a file as bytes; every error names the file."""
    with naming(path):
        return path.read_bytes()


def read_text(path: Path) -> str:
    """Reads a UTF-8 file; every system error names the file."""
    with naming(path):
        return path.read_text(encoding="utf-8")


def append_line(path: Path, line: bytes) -> None:
    """Appends one line to a file and syncs it to disk; creates the folder and file if needed.

    The line is one write in append mode under a lock, so lines of several processes never mix. If the last line was cut
    off by a full disk or a power failure, the new one starts on a new line.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        if fcntl is not None:  # on Windows, appending in one write must suffice
            fcntl.flock(handle, fcntl.LOCK_EX)
        size = os.fstat(handle).st_size
        cut = size and os.pread(handle, 1, size - 1) != b"\n"
        whole = b"\n" * bool(cut) + line + b"\n"
        written = os.write(handle, whole)
        if written != len(whole):
            raise OSError(f"{path}: only {written} of {len(whole)} bytes could be written; free space and try again")
        os.fsync(handle)
    finally:
        os.close(handle)  # releases the lock


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields a temporary path; it replaces `path` if the block succeeds and is removed if it fails.

    First removes incomplete files that killed processes left in the folder.

    Raises:
        OSError: the disk is full or the folder is not writable; says what to do. The old file is intact.
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
            kept = "the previous file is intact" if path.exists() else "nothing was overwritten"
            raise OSError(
                errno.ENOSPC, f"no space left while writing {path}; {kept}; free space and run the same command again"
            ) from None
        raise
    finally:
        temporary.unlink(missing_ok=True)
        os.close(handle)


def clear_unfinished(folder: Path) -> int:
    """Removes files that `atomic_write` left in a folder when its process was killed; returns their number.

    A file that is still being written is locked by its process and is kept.
    """
    cleared = 0
    for path in folder.glob(f".*{PART}"):
        if re.fullmatch(r"\..+\.[a-z0-9_]{8}\.part", path.name) and path.is_file():
            cleared += _remove_unlocked(path)
    return cleared


def near_file(path: Path) -> str:
    """The end of an error for a missing file: a similar name in the same folder, or ""."""
    try:
        beside = os.listdir(path.parent)
    except OSError:
        return ""
    match = nearest_word(path.name, beside)
    return f"; did you mean {path.parent / match}?" if match and match != path.name else ""


def is_empty(folder: Path) -> bool:
    """Whether a folder is empty or does not exist, after removing incomplete files of killed processes."""
    if not folder.is_dir():
        return True
    clear_unfinished(folder)
    return not any(folder.iterdir())


def _open_part(path: Path) -> tuple[int, Path]:
    """Creates a file next to `path`, locked while the handle is open."""
    while True:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PART)
        if fcntl is not None:
            with contextlib.suppress(OSError):  # a file system without locks, such as some network mounts
                fcntl.flock(handle, fcntl.LOCK_EX)
        if os.path.exists(name):
            return handle, Path(name)
        os.close(handle)  # another process cleared it before it was locked


def _remove_unlocked(path: Path) -> bool:
    """Removes a file that no running process has locked; without file locks, nothing is removed."""
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
    """Whether an error means a full disk; torch and safetensors report it with their own errors."""
    return getattr(error, "errno", None) == errno.ENOSPC or any(
        words in str(error)
        for words in ("No space left", "PytorchStreamWriter failed", "file write failed", "inline_container")
    )


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, data: Any) -> None:
    """Writes a JSON file atomically."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a binary file atomically."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
