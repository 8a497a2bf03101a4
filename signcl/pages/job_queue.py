"""A short queue of uploaded clips, and the watch over the one worker process that translates them.

A thread takes clips in order, hands each to the worker and passes its stages on. It kills the worker, and starts
another, when a clip takes too long or too much memory, when the worker crashes, or when the person who waited for the
clip has left. Memory is the resident size over that of the idle worker, looked at every `LOOK` seconds, and no
RLIMIT_AS: libraries reserve address space far beyond what they use (CUDA tens of gigabytes), and an allocation that
fails deep inside a decoder ends in worse than a line.
"""

from __future__ import annotations

import collections
import contextlib
import json
import multiprocessing
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from multiprocessing import connection
from pathlib import Path
from typing import Any

from signcl.data.json_files import parse_json
from signcl.data.progress import say
from signcl.data.registry import loaded_plugins
from signcl.pages.uploads import MEGABYTE, Limits, Part
from signcl.pages.worker import Work, work
from signcl.training.runs import read_recipe

__all__ = ["Full", "Job", "JobQueue"]

LOOK = 0.05
"""Seconds between two looks at the worker's time and memory."""
GRACE = 1.0
"""Seconds that a worker may go on after its client has left: most clips are done by then, a new worker costs more."""
STARTS = 3
"""Workers in a row that may fail to start before the queue says so and waits for the next clip."""

Stage = dict[str, Any]


class Full(Exception):
    """The queue takes no more; `seconds` is when to try again."""

    def __init__(self, waiting: int, seconds: int) -> None:
        super().__init__(f"{waiting} clips are waiting already; try again in {seconds} s")
        self.seconds = seconds


class Job:
    """A clip on its way: where it lies, and who is told its stages."""

    def __init__(self, path: Path, name: str, tell: Callable[[Stage], None]) -> None:
        """Args: the file, what its sender calls it, and what is called with each stage (in the queue's thread).

        `part`, `keep` and `extractor` may be set: only this part is read; a clean video of it goes there, and nothing
        is translated; what its key points were made with.
        """
        self.part: Part | None = None
        self.keep: Path | None = None
        self.extractor: str | None = None
        self.path, self.name, self.tell = path, name, tell
        self.left: float | None = None
        """When its client left."""


class JobQueue:
    """The queue of one run; see the head of this file."""

    def __init__(
        self, run: Path, *, limits: Limits | None = None, device: str = "auto", pose_python: str | None = None
    ) -> None:
        """Start the worker and wait until it has loaded the run.

        Raises:
            ValueError: the run cannot translate, or cannot be read.
        """
        self.run, self.limits, self.device, self.pose_python = run, limits or Limits(), device, pose_python
        self.place = Path(tempfile.mkdtemp(prefix="signcl-serve-"))
        self.seconds = 1.0
        """What the last clips took, for those who are told to come back."""
        self._waiting: collections.deque[Job] = collections.deque()
        self._current: Job | None = None
        self._changed = threading.Condition()
        self._closed = False
        self._worker: _Worker | None = None
        try:
            self._worker = self._start()
            self._worker.wait_until_ready(lambda: False)
        except BaseException as error:
            self.close()
            if isinstance(error, _Gone):
                raise ValueError(error.args[0]) from None
            raise
        self._thread = threading.Thread(target=self._serve, daemon=True, name="translations")
        self._thread.start()

    def __len__(self) -> int:
        """Clips that wait, without the one that is translated."""
        return len(self._waiting)

    def check(self) -> None:
        """Raise `Full` where no clip would be taken now."""
        if len(self._waiting) >= self.limits.waiting:
            raise Full(len(self._waiting), max(1, round(self.seconds * len(self._waiting))))

    def add(self, job: Job) -> None:
        """Put a clip at the end.

        Raises:
            Full: too many wait.
        """
        with self._changed:
            self.check()
            self._waiting.append(job)
            self._tell_places()
            self._changed.notify()

    def forget(self, job: Job) -> None:
        """Its client has left: it is not translated, or not to the end. Nothing for a job that is done."""
        with self._changed:
            job.left = time.monotonic()
            with contextlib.suppress(ValueError):
                self._waiting.remove(job)
                self._tell_places()

    def processes(self) -> list[int]:
        """The worker's process, where there is one now."""
        worker = self._worker
        return [] if worker is None or worker.process.pid is None else [worker.process.pid]

    def close(self) -> None:
        """End at once, whatever is under way, and remove every upload."""
        self._closed = True
        if self._worker is not None:
            self._worker.kill()
        until = time.monotonic() + GRACE
        while self.place.exists() and time.monotonic() < until:  # a thread may be writing a last piece of an upload
            shutil.rmtree(self.place, ignore_errors=True)

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while not self._closed:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()  # a thread of a closed queue may wait for ever: it is a daemon
                self._current = job = self._waiting.popleft()
                self._tell_places()
            started = time.monotonic()
            last = self._translated(job)
            self._current = None
            if not self._closed:
                self.seconds += 0.2 * (time.monotonic() - started - self.seconds)
                job.tell(last)

    def _translated(self, job: Job) -> Stage:
        """Every stage but the last is told; the last comes back."""
        try:
            worker = self._ready(job)
            return worker.translate(job, self.limits)
        except _Gone as gone:
            if job.left is None and not self._closed:
                say(f"{job.name}: {gone.args[0]}; the worker is replaced")
            self._replace()
            return {"stage": "failed", "error": f"{job.name}: {gone.args[0]}", "status": gone.status}

    def _ready(self, job: Job) -> _Worker:
        """The worker, with its model loaded."""
        for attempt in range(1, STARTS + 1):
            if self._worker is None or not self._worker.process.is_alive():
                self._replace()
            try:
                if self._worker is None:
                    raise _Gone("no process for translations can be started; try again later", 503)
                if not self._worker.is_ready:
                    job.tell({"stage": "starting"})
                    self._worker.wait_until_ready(lambda: job.left is not None)
                return self._worker
            except _Gone:
                if attempt == STARTS or job.left is not None:
                    raise
        raise AssertionError

    def _replace(self) -> None:
        """Kill the worker and start another, which loads its model while the next clip is awaited."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.kill()
        if self._closed:
            return
        try:
            self._worker = self._start()
        except (OSError, ValueError) as error:  # no process to be had, or a run folder that is no longer there
            say(f"no process for translations can be started: {error}")
        if self._closed and self._worker is not None:  # closed in between
            self._worker.kill()

    def _start(self) -> _Worker:
        return _Worker(Work(self.run, self.device, list(loaded_plugins()), self.place, self.pose_python))

    def _tell_places(self) -> None:
        """Everybody's place: 1 is the next one."""
        for place, job in enumerate(self._waiting, 1):
            if place > 1 or self._current is not None:
                job.tell({"stage": "waiting", "place": place})


class _Gone(Exception):
    """The worker was killed or has died; `status` is the HTTP status for whoever waited for it."""

    def __init__(self, reason: str, status: int = 422) -> None:
        super().__init__(reason)
        self.status = status


class _Worker:
    """The process and the pipe to it."""

    def __init__(self, task: Work) -> None:
        context = _context(task.run)
        self._ending = threading.Lock()
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(theirs, task), daemon=True, name="signcl translation")
        self.process.start()
        theirs.close()  # so that a worker that dies closes the pipe
        self.is_ready = False
        self.idle = 0
        """Resident bytes when it had loaded its model and translated nothing."""

    def wait_until_ready(self, given_up: Callable[[], bool]) -> None:
        """Wait for the model.

        Raises:
            _Gone: the run cannot be loaded, the process died, or the client has left.
        """
        while (stage := self._heard()) is None:
            if given_up():
                raise _Gone("the client has left")
        if stage["stage"] != "ready":
            raise _Gone(stage["error"], 409)
        self.is_ready, self.idle = True, self._resident()

    def translate(self, job: Job, limits: Limits) -> Stage:
        """Pass the stages of a clip on, return the last.

        Raises:
            _Gone: the worker must be replaced.
        """
        if job.left is not None:
            return {"stage": "failed", "error": "the client has left", "status": 422}
        keep = None if job.keep is None else str(job.keep)
        what = {"path": str(job.path), "name": job.name, "part": job.part, "keep": keep}
        what["extractor"] = job.extractor
        self._send(what | {"limits": asdict(limits)})
        until = time.monotonic() + limits.seconds
        while True:
            stage = self._heard()
            now = time.monotonic()
            if stage is not None:
                if stage["stage"] in ("done", "failed"):
                    return stage
                if job.left is None:
                    job.tell(stage)
            elif job.left is not None and now > job.left + GRACE:
                raise _Gone("the client has left")
            if now > until:
                raise _Gone(
                    f"it takes more than {limits.seconds:g} s to read and translate; make it smaller or shorter "
                    "(signcl serve --max-seconds)",
                    413,
                )
            if self._resident() > self.idle + limits.memory_megabytes * MEGABYTE:
                raise _Gone(
                    f"it takes more than {limits.memory_megabytes:g} MB of memory; make it smaller or shorter "
                    "(signcl serve --max-memory)",
                    413,
                )

    def kill(self) -> None:
        """End it at once. Safe in several threads: the queue and the end of the server may both call it."""
        with self._ending:
            self.process.kill()
            self.process.join(5)
            self.pipe.close()  # two threads within it would close the same number twice, an OSError in the second

    def _send(self, message: Stage) -> None:
        try:
            self.pipe.send_bytes(json.dumps(message).encode())
        except OSError:
            raise self._died() from None

    def _heard(self) -> Stage | None:
        """The next message, or None after `LOOK` seconds."""
        try:
            if connection.wait([self.pipe], LOOK):
                return dict(parse_json(self.pipe.recv_bytes()))
            return None
        except (OSError, EOFError, ValueError):  # no JSON: what the decoder has become sends that
            raise self._died() from None

    def _died(self) -> _Gone:
        self.process.join(1)
        code = self.process.exitcode
        how = f"by signal {-code}" if code is not None and code < 0 else f"with code {code}"
        return _Gone(f"the process that reads clips has ended over it ({how}); send another file")

    def _resident(self) -> int:
        import psutil

        try:
            return int(psutil.Process(self.process.pid).memory_info().rss)
        except psutil.Error:
            return 0  # it has just died; the pipe says so


def _context(run: Path) -> Any:
    """A fork server where there is one: it has torch imported already, so that a new worker is there in moments."""
    if sys.platform == "win32":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["signcl.pages.worker", read_recipe(run).system.__module__])
    return context
