"""Handles Ctrl-C and SIGTERM: a command cleans up before it ends, and training ends only between steps."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

__all__ = ["Terminated", "sigterm_stops", "whole_or_not"]

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """Raised on SIGTERM, which a cluster sends to a job before it kills it."""

    exit_code = 143  # 128 + the number of the signal


def _stop(number: int, _: Any) -> None:
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


@contextlib.contextmanager
def sigterm_stops() -> Iterator[None]:
    """Makes SIGTERM raise `Terminated` within the block, like Ctrl-C raises KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread can set signal handlers
        yield
        return
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)


@contextlib.contextmanager
def whole_or_not() -> Iterator[None]:
    """Defers Ctrl-C and SIGTERM until the block is done, so that saved state is never in the middle of a step.

    A second signal takes effect immediately.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # A signal without a Python handler, or one that the caller ignores, is left unchanged.
    before = {number: signal.getsignal(number) for number in SIGNALS}
    held = {number: old for number, old in before.items() if callable(old)}
    came: list[int] = []

    def hold(number: int, frame: Any) -> None:
        if came:
            _stop(number, frame)
        came.append(number)

    for number in held:
        signal.signal(number, hold)
    try:
        yield
    finally:
        for number, old in held.items():
            signal.signal(number, old)
    if came:
        _stop(came[0], None)
