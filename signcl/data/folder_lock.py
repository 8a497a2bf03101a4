"""Allows one writer per folder: the lock is released when its process ends, even if it is killed."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["LOCK", "only_writer"]

LOCK = ".lock"


@contextlib.contextmanager
def only_writer(folder: Path, what: str) -> Iterator[None]:
    """Locks a folder, so that only this process writes to it within the block.

    Args:
        what: what the process does, e.g. "trains in"; shown to the next process that needs the folder.

    Raises:
        ValueError: another process has locked the folder; the message names it.
    """
    try:
        import fcntl
    except ImportError:  # Windows: two writers are not detected
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ValueError(f"{folder}: needs to be a folder, but there is a file of that name") from None
    with (folder / LOCK).open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read(300).strip() or "another process"
            raise ValueError(f"{holder} {folder}; wait for it, stop it, or choose another folder") from None
        except OSError:  # a file system without locks, such as some network mounts
            yield
            return
        lock.truncate(0)
        began = time.strftime("%Y-%m-%d %H:%M:%S")
        lock.write(f"process {os.getpid()} on {socket.gethostname()} (since {began}) {what}")
        lock.flush()
        try:
            yield
        finally:
            lock.truncate(0)  # keep the file: removing it could unlock a folder that the next process has just locked
