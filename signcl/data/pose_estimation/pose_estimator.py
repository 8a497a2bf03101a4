"""Starts and talks to the process that estimates key points; `Extractor` identifies how key points were made."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from signcl.data.json_files import parse_json
from signcl.data.pose_estimation.pose_environment import find_python
from signcl.data.pose_estimation.pose_worker import HEAD, POINTS

__all__ = ["Extractor", "PoseProcess", "start_holistic"]

WORKER = Path(__file__).with_name("pose_worker.py")
KEPT = {"python", "numpy"}  # versions for information; they do not affect key points


@dataclass(frozen=True)
class Extractor:
    """How key points were made. A model expects key points of the extractor that it was trained on."""

    estimator: str
    """Such as `mediapipe-holistic`."""
    version: str
    """Version of the estimator's package, and thus of its models."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings of the estimator."""
    fill: int = 0
    """Gaps of at most this many frames were filled afterwards."""

    def described(self) -> dict[str, Any]:
        """The fields, for a JSON file."""
        return asdict(self)

    @classmethod
    def read(cls, said: Any, where: str) -> Extractor:
        """Reads an extractor from the content of a JSON file.

        Args:
            said: the parsed JSON.
            where: the file, for messages.

        Raises:
            ValueError: the content does not describe an extractor.
        """
        kinds = {"estimator": str, "version": str, "settings": dict, "fill": int}
        if not isinstance(said, dict) or any(not isinstance(said.get(key), kind) for key, kind in kinds.items()):
            raise ValueError(f"{where}: does not name the extractor of the key points; extract them again")
        return cls(**{key: said[key] for key in kinds})

    def __hash__(self) -> int:
        return hash((self.estimator, self.version, self.fill))  # settings are a dict; only equality uses them

    def __str__(self) -> str:
        return f"{self.estimator} {self.version}"

    def differs(self, other: Extractor) -> str:
        """How another extractor differs, for messages; empty if it does not."""
        one, two = ({"fill": e.fill, **e.settings} for e in (self, other))
        if (self.estimator, self.version) != (other.estimator, other.version):
            return f"{self} against {other}"
        keys = [key for key in sorted({*one, *two}) if one.get(key) != two.get(key)]
        return ", ".join(f"{key} {one.get(key)} against {two.get(key)}" for key in keys)


class PoseProcess:
    """A process that estimates the key points of clips, one after another; a context manager.

    Args:
        command: the command to start; it must use the protocol of `pose_worker`.

    Raises:
        ValueError: the process does not start; the message has the reason.
    """

    def __init__(self, command: Sequence[str | Path]) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  (`close` closes it)  stderr, read if the process ends
        try:
            self._process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                start_new_session=True,  # Ctrl-C reaches only this process, which then ends the other
            )
        except OSError as error:
            self._said.close()
            raise ValueError(f"{command[0]}: cannot be started ({error.strerror})") from None
        try:
            said = parse_json(self._ask("hello"))
            self.about: dict[str, Any] = {key: value for key, value in said.items() if key in KEPT}
            named = {key: value for key, value in said.items() if key not in KEPT}
            self.extractor = Extractor(named.pop("estimator"), named.pop("version"), named)
        except ValueError as error:
            self.close()
            raise ValueError(f"{command[0]}: {error}") from None

    def __enter__(self) -> PoseProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def points(self, frames: np.ndarray) -> np.ndarray:
        """Estimates the key points of one clip.

        Args:
            frames: [T, H, W, 3] uint8 RGB

        Returns:
            x, y and depth in pixels, and confidence (0 if not found). [T, K, 4] float32

        Raises:
            ValueError: the process fails.
        """
        self._ask("clip")
        rows = []
        for frame in frames:
            body = self._ask("frame", frame.shape[0], frame.shape[1], np.ascontiguousarray(frame))
            rows.append(np.frombuffer(body, np.float32).reshape(POINTS, 4))
        return np.stack(rows)

    def close(self) -> None:
        """Ends the process."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._said.close()

    def alive(self) -> bool:
        """Whether the process is running."""
        return self._process.poll() is None

    def kill(self) -> None:
        """Kills the process immediately."""
        self._process.kill()

    def _ask(self, name: str, height: int = 0, width: int = 0, body: Any = b"") -> bytes:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(HEAD.pack(name.encode().ljust(8), height, width))
            process.stdin.write(memoryview(body).cast("B") if len(body) else b"")
            process.stdin.flush()
        except (OSError, ValueError):  # the process has ended, or `close` was called
            raise ValueError(self._end()) from None
        head = process.stdout.read(HEAD.size)
        if len(head) < HEAD.size:
            raise ValueError(self._end())
        kind, size, _ = HEAD.unpack(head)
        found = process.stdout.read(size)
        if len(found) < size:
            raise ValueError(self._end())
        if kind.strip() == b"error":
            raise ValueError(f"the estimator of key points failed: {found.decode(errors='replace')[:300]}")
        return found

    def _end(self) -> str:
        """The error message for a process that has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        code = self._process.poll()
        try:
            self._said.seek(0)
            lines = [line for line in self._said.read().decode(errors="replace").splitlines() if line.strip()]
        except ValueError:  # closed
            lines = []
        last = f": {lines[-1].strip()[:300]}" if lines else ""
        return f"the estimator of key points ended (exit code {code}){last}"


def start_holistic(python: str | Path | None = None) -> PoseProcess:
    """Starts a process with MediaPipe Holistic.

    Args:
        python: Python of an environment with MediaPipe; None for the one of `signcl pose --install`.

    Raises:
        FileNotFoundError: there is no such environment; the message has the command that creates it.
        ValueError: the environment has no usable MediaPipe.
    """
    return PoseProcess([find_python(python), "-I", WORKER])
