"""Messages and progress on stderr; results are written to stdout elsewhere.

On a terminal, progress is a bar; in a log file, occasional lines with the time left.
"""

from __future__ import annotations

import contextlib
import re
import sys
import time
from collections.abc import Iterator
from typing import Any, TypeVar

__all__ = ["Bar", "is_progress", "say", "spelt", "track"]

T = TypeVar("T")

APART = (10.0, 60.0)
"""Seconds until the first line of progress, and maximum between two; each pause is 1.5 times the previous one."""
MEASURED = 5.0
"""Seconds after the first step before the pace is estimated, because several processes start at the same time."""
LINE = re.compile(r".*: \d+ of \d+, .* left$")


def say(message: str) -> None:
    """Prints a line on stderr, above any progress bar."""
    if Bar.active is not None:
        Bar.active.console.print(message, highlight=False, markup=False, soft_wrap=True)
    else:
        print(message, file=sys.stderr, flush=True)


def is_progress(line: str) -> bool:
    """Whether a line from another process's stderr is a progress line."""
    return LINE.match(line) is not None


def spelt(seconds: float) -> str:
    """A duration for people, in a suitable unit."""
    for limit, size, unit in ((120, 1, "seconds"), (7200, 60, "minutes"), (172_800, 3600, "hours")):
        if seconds < limit:
            number = f"{seconds / size:.0f}"
            return f"about {number} {unit.removesuffix('s') if number == '1' else unit}"
    return f"about {seconds / 86_400:.1f} days"


class _Lines:
    """Progress as lines instead of `rich.progress.Progress`."""

    def __init__(self, what: str, total: int, done: int) -> None:
        self.what, self.total, self.done = what, total, done
        self.before: int | None = None
        self.started = time.monotonic()
        self.pause = APART[0]
        self.next = self.started + self.pause

    def advance(self, task: Any, steps: int) -> None:
        self.done += steps
        now = time.monotonic()
        if self.before is None:  # measure the pace from here, because the first step includes start-up time
            self.before, self.started = self.done, now
            self.next = max(self.next, now + MEASURED)
        if now < self.next or not self.before < self.done < self.total:
            return
        self.pause = min(APART[1], 1.5 * self.pause)
        self.next = now + self.pause
        left = (now - self.started) / (self.done - self.before) * (self.total - self.done)
        say(f"{self.what}: {self.done} of {self.total}, {spelt(left)} left")


class Bar:
    """A progress bar; does nothing if it is not shown."""

    active: Any = None

    def __init__(self, progress: Any, task: Any) -> None:
        self._progress, self._task = progress, task

    def advance(self, steps: int = 1) -> None:
        """Advances the bar."""
        if self._progress is not None:
            self._progress.advance(self._task, steps)

    def each(self, item: T) -> T:
        """Advances the bar and returns `item`, for use in `map`."""
        self.advance()
        return item


@contextlib.contextmanager
def track(what: str, *, total: int | None, done: int = 0, show: bool = True) -> Iterator[Bar]:
    """Shows progress on stderr with the time left. Bars may nest; an inner one is drawn below the outer."""
    if not show:
        yield Bar(None, None)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    if Bar.active is not None:
        task = Bar.active.add_task(what, total=total, completed=done)
        try:
            yield Bar(Bar.active, task)
        finally:
            Bar.active.remove_task(task)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Bar(None if total is None else _Lines(what, total, done), None)
        return
    with Progress(*columns, console=console, transient=True) as progress:
        Bar.active = progress
        try:
            yield Bar(progress, progress.add_task(what, total=total, completed=done))
        finally:
            Bar.active = None
