"""Profiles the time of a run: `signcl fit --profile`."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from signcl.data.files import write_json
from signcl.data.progress import say

__all__ = ["Profile"]

WARM_UP = 3
"""Steps to ignore: the first ones start workers, allocate memory and choose kernels."""
LOOK = 50  # steps between readings of the device's events


class Profile:
    """Measures the time of the parts of a run. If off, it does nothing and has no cost.

    Each part is timed on the host. On a GPU its work is also timed on the device, with events that are read every 50
    steps to avoid synchronisation. If the host time of a part exceeds its device time, kernel launches are the
    bottleneck. Not run on a GPU here.
    """

    def __init__(self, device: torch.device, *, on: bool) -> None:
        self.on, self.events_on = on, on and device.type == "cuda"
        self.host: dict[str, list[float]] = defaultdict(list)
        self.device: dict[str, float] = defaultdict(float)
        self._events: list[tuple[str, Any, Any]] = []
        self.steps = 0
        self._began = time.perf_counter()
        self._scoring = 0.0
        self._warm = 0

    @contextlib.contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Time a block as a part of the run; `scoring` is counted separately, other parts per step."""
        if not self.on:
            yield
            return
        events: list[Any] = [torch.cuda.Event(enable_timing=True) for _ in range(2)] if self.events_on else []
        if events:
            events[0].record()
        started = time.perf_counter()
        yield
        seconds = time.perf_counter() - started
        if part == "scoring":
            self._scoring += seconds
        if self._warm >= WARM_UP:
            self.host[part].append(seconds)
            if events:
                events[1].record()
                self._events.append((part, events[0], events[1]))

    def step_done(self) -> None:
        """Call at the end of each optimizer step."""
        if not self.on:
            return
        self._warm += 1
        if self._warm == WARM_UP:
            self._began, self._scoring = time.perf_counter(), 0.0
        if self._warm > WARM_UP:
            self.steps += 1
            if self.steps % LOOK == 0:
                self._read_events()

    def _read_events(self) -> None:
        if self._events:
            self._events[-1][2].synchronize()
        for part, begin, end in self._events:
            self.device[part] += begin.elapsed_time(end) / 1000
        self._events.clear()

    def result(self) -> dict[str, Any]:
        """Seconds by part over the counted steps, with the rest as `other`."""
        self._read_events()
        whole = time.perf_counter() - self._began
        parts = {name: {"seconds": sum(times), "device_seconds": self.device.get(name) if self.events_on else None}
                 for name, times in self.host.items()}  # fmt: skip
        other = whole - sum(part["seconds"] or 0.0 for part in parts.values())
        parts["other"] = {"seconds": other, "device_seconds": None}
        return {"steps": self.steps, "seconds": whole, "warm_up_steps": WARM_UP, "parts": parts}

    def tell(self, folder: Path) -> None:
        """Print the profile and write `profile.json`."""
        if not self.on:
            return
        found = self.result()
        write_json(folder / "profile.json", found)
        if not found["steps"]:
            say(f"profile: needs more than {WARM_UP} steps, the run took {self._warm}; raise train.epochs")
            return
        steps = found["steps"]
        say(
            f"profile of {steps} steps, {1000 * (found['seconds'] - self._scoring) / steps:.1f} ms each without scoring"
        )
        say(f"{'part':18}{'seconds':>9}{'share':>8}{'ms/step':>9}" + (f"{'GPU ms':>9}" if self.events_on else ""))
        for name, part in sorted(found["parts"].items(), key=lambda item: -item[1]["seconds"]):
            line = f"{name:18}{part['seconds']:9.2f}{part['seconds'] / found['seconds']:8.1%}"
            line += f"{1000 * part['seconds'] / steps:9.1f}"
            if self.events_on:
                line += f"{1000 * (part['device_seconds'] or 0.0) / steps:9.1f}"
            say(line)
