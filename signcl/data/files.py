"""Writing files so that nothing is lost: beside the place first, moved there when whole."""

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

__all__ = ["atomic_write", "clear_unfinished", "write_bytes", "write_json", "write_text"]

UMASK = os.umask(0)
"""Asked once, while there is one thread: asking means setting it for a moment."""
os.umask(UMASK)


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary path to write to; it replaces `path` when the block ends well and vanishes when it does not.

    Raises:
        OSError: with what to do, when the disk is full or the folder may not be written. The old file is intact.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
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


def clear_unfinished(folder: Path) -> int:
    """Remove what `atomic_write` left in a folder whose process was killed; how many files.

    Only for a folder that no other process writes.
    """
    left = [path for path in folder.glob(".*") if path.is_file() and re.fullmatch(r"\..+\.[a-z0-9_]{8}", path.name)]
    for path in left:
        path.unlink(missing_ok=True)
    return len(left)


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
