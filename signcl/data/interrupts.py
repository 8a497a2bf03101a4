"""Ctrl-C and SIGTERM: a verb that is told to end cleans up first, and training ends between steps, never within one."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

__all__ = ["Terminated", "sigterm_stops", "whole_or_not"]

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM: what a cluster sends to a job before it takes the machine away."""

    exit_code = 143  # 128 and the number of the signal


def _stop(number: int, _: Any) -> None:
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


@contextlib.contextmanager
def sigterm_stops() -> Iterator[None]:
    """Let SIGTERM raise `Terminated` in the block, as Ctrl-C raises KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may ask for signals
        yield
        return
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)


@contextlib.contextmanager
def whole_or_not() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back until the block is done, so that what is saved is never half a step.

    A second signal is obeyed at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # a signal that nobody here obeys, or that a caller ignores, stays as it is
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
