"""Talk on stderr: one-line messages and progress bars. Results go to stdout, elsewhere."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any, TypeVar

__all__ = ["Bar", "say", "track"]

T = TypeVar("T")


def say(message: str) -> None:
    """A line on stderr, above any progress bar."""
    if Bar.active is not None:
        Bar.active.console.print(message, highlight=False, markup=False, soft_wrap=True)
    else:
        print(message, file=sys.stderr, flush=True)


class Bar:
    """A bar that advances; does nothing when it is not shown."""

    active: Any = None

    def __init__(self, progress: Any, task: Any) -> None:
        self._progress, self._task = progress, task

    def advance(self, steps: int = 1) -> None:
        """Move the bar on."""
        if self._progress is not None:
            self._progress.advance(self._task, steps)

    def each(self, item: T) -> T:
        """Advance and hand `item` on, for use in `map`."""
        self.advance()
        return item


@contextlib.contextmanager
def track(what: str, *, total: int | None, done: int = 0, show: bool = True) -> Iterator[Bar]:
    """A progress bar on stderr, with the time left. Bars may nest; an inner one is drawn below the outer."""
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
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        Bar.active = progress if console.is_terminal else None
        try:
            yield Bar(progress, progress.add_task(what, total=total, completed=done))
        finally:
            Bar.active = None
