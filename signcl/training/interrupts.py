"""Ctrl-C while a run trains: obeyed between steps, never within one."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

__all__ = ["whole_or_not"]


@contextlib.contextmanager
def whole_or_not() -> Iterator[None]:
    """Hold Ctrl-C back until the block is done, so that what is saved is never half a step; a second one is obeyed."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before in (signal.SIG_IGN, None):
        yield
        return
    pressed = False

    def hold(*_: Any) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt
