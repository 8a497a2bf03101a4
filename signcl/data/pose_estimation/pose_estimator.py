"""This package's end of the process that estimates key points, and what says which estimator made them."""

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
KEPT = {"python", "numpy"}  # said for people; they change no point


@dataclass(frozen=True)
class Extractor:
    """What made the key points of a clip: poses of other extractors are other inputs to a model."""

    estimator: str
    """`mediapipe-holistic`"""
    version: str
    """Of the estimator's package, and so of its models."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Of the estimator."""
    fill: int = 0
    """Frames of a gap that was filled after estimating."""

    def described(self) -> dict[str, Any]:
        """For a JSON file."""
        return asdict(self)

    @classmethod
    def read(cls, said: Any, where: str) -> Extractor:
        """From a JSON file.

        Raises:
            ValueError: it is none.
        """
        kinds = {"estimator": str, "version": str, "settings": dict, "fill": int}
        if not isinstance(said, dict) or any(not isinstance(said.get(key), kind) for key, kind in kinds.items()):
            raise ValueError(f"{where}: does not say which extractor made the key points; extract them again")
        return cls(**{key: said[key] for key in kinds})

    def __hash__(self) -> int:
        return hash((self.estimator, self.version, self.fill))  # settings are a mapping; they count when compared

    def __str__(self) -> str:
        return f"{self.estimator} {self.version}"

    def differs(self, other: Extractor) -> str:
        """How another one differs, for messages; nothing where it does not."""
        one, two = ({"fill": e.fill, **e.settings} for e in (self, other))
        if (self.estimator, self.version) != (other.estimator, other.version):
            return f"{self} against {other}"
        keys = [key for key in sorted({*one, *two}) if one.get(key) != two.get(key)]
        return ", ".join(f"{key} {one.get(key)} against {two.get(key)}" for key in keys)


class PoseProcess:
    """A process that estimates the key points of one clip after another; a context manager.

    Args:
        command: what is started; it talks as `pose_worker` says.

    Raises:
        ValueError: it does not start; says why.
    """

    def __init__(self, command: Sequence[str | Path]) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  (`close` does)  its warnings: looked at only where it dies
        try:
            self._process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                start_new_session=True,  # Ctrl-C is for this process, which then ends that one
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
        """Key points of the frames of one clip.

        Args:
            frames: [T, H, W, 3] uint8 RGB

        Returns:
            x, y and depth in pixels, and a confidence, 0 where not found. [T, K, 4] float32

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
        """End the process."""
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
        """Whether it can be asked."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End it at once, whatever it does."""
        self._process.kill()

    def _ask(self, name: str, height: int = 0, width: int = 0, body: Any = b"") -> bytes:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(HEAD.pack(name.encode().ljust(8), height, width))
            process.stdin.write(memoryview(body).cast("B") if len(body) else b"")
            process.stdin.flush()
        except (OSError, ValueError):  # it has ended, or was closed here
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
        """Why the process is gone."""
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
    """A process of MediaPipe Holistic.

    Args:
        python: of an environment that has MediaPipe; None takes the one of `signcl pose --install`.

    Raises:
        FileNotFoundError: there is no such environment; the message has the command that makes it.
        ValueError: it has no MediaPipe that can be used.
    """
    return PoseProcess([find_python(python), "-I", WORKER])
