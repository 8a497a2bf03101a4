"""Runs cases in a worker process that is replaced when it crashes or hangs, and counts the results."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
HANG = 10.0
"""CPU seconds after which a case is killed. More than 5 is a fault, which the worker usually reports."""
STUCK = 120.0
"""Wall-clock limit in seconds, for cases that wait without using the CPU; high, so that a busy machine is no fault."""


@dataclass(frozen=True)
class Fault:
    """A case with a fault."""

    reader: str
    seed: int
    case: int
    said: str
    folder: Path

    def __str__(self) -> str:
        again = f"python -m tests.fuzz --reader {self.reader} --seed {self.seed} --case {self.case}"
        return f"{self.reader} {self.seed} {self.case}: {self.said}\n  kept in {self.folder}\n  again: {again}"


@dataclass
class Campaign:
    """Runs cases and counts their outcomes.

    Args:
        work: an empty folder for temporary files.
        keep: folder for the files of faults.
    """

    work: Path
    keep: Path
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)
    worker: Any = None
    waiting: bytes = b""
    """Output of the worker that has not been read yet."""

    def run(self, cases: Iterable[tuple[str, int, int]]) -> Iterator[tuple[str, str]]:
        """Tries each (reader, seed, case); yields its outcome (`read`, `refused` or `fault`) and the message."""
        try:
            for reader, seed, case in cases:
                outcome, said = self._one(reader, seed, case)
                self.counts[reader, outcome] += 1
                if outcome == "fault":
                    self._keep(reader, seed, case, said)
                yield outcome, said
        finally:
            self._end()

    def _one(self, reader: str, seed: int, case: int) -> tuple[str, str]:
        if self.worker is None:
            # unbuffered, because `select` checks the pipe, not a buffer
            command = [sys.executable, "-m", f"{__package__}.worker", str(self.work)]
            paths = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
            env = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
            self.worker = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env=env, bufsize=0
            )
            if self._line(None) != "ready":
                raise RuntimeError("the worker does not start; run `python -m tests.fuzz.worker /tmp/x` to see why")
        self.worker.stdin.write(f"{reader} {seed} {case}\n".encode())
        if self._line(None) is None:  # no time limit: the worker may have to make the valid files first
            raise RuntimeError(f"the valid files of {reader} cannot be made or read")
        line = self._line(self._processor())
        if line is not None:
            outcome, said = json.loads(line)
            return outcome, said
        self.worker.poll()
        code = self.worker.wait() if self.worker.returncode is not None else None
        self._end()
        return "fault", "hangs" if code is None else f"crash: the process ended with {code}"

    def _line(self, since: float | None) -> str | None:
        """The next line of the worker; None if it has ended or exceeded the time limit.

        Args:
            since: CPU seconds of the worker at the start of the case; None for no limit.
        """
        started = time.monotonic()
        while b"\n" not in self.waiting:
            if select.select([self.worker.stdout], [], [], 0.2)[0]:
                content = os.read(self.worker.stdout.fileno(), 65536)
                if not content:
                    self.worker.wait()
                    return None
                self.waiting += content
            elif since is not None and (self._processor() - since > HANG or time.monotonic() - started > STUCK):
                return None
        line, _, self.waiting = self.waiting.partition(b"\n")
        return line.decode()

    def _processor(self) -> float:
        """CPU seconds that the worker has used."""
        with suppress(OSError):
            stat = Path(f"/proc/{self.worker.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
            return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
        return 0.0

    def _keep(self, reader: str, seed: int, case: int, said: str) -> None:
        name = f"{reader}-{seed}-{case}"
        if (self.work / name).is_dir():
            shutil.copytree(self.work / name, self.keep / name, dirs_exist_ok=True)
            shutil.rmtree(self.work / name)
        self.faults.append(Fault(reader, seed, case, said, self.keep / name))

    def _end(self) -> None:
        if self.worker is not None:
            self.worker.kill()
            self.worker.wait()
            self.worker.stdin.close()
            self.worker.stdout.close()
            self.worker, self.waiting = None, b""


def new_campaign(keep: Path | str | None = None) -> Campaign:
    """A campaign in a temporary folder, which the caller removes (`work`)."""
    work = Path(tempfile.mkdtemp(prefix="signcl-fuzz-"))
    return Campaign(work, Path(keep) if keep else Path(tempfile.gettempdir()) / "signcl-fuzz-faults")
