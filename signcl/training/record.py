"""The training log: metrics.jsonl, truncated to the saved state on resumption, and the loggers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from signcl.data.files import read_bytes, write_text
from signcl.data.json_files import check_shape, parse_json
from signcl.data.progress import say
from signcl.training.loggers import start_loggers

__all__ = ["Record", "read_record"]


class Record:
    """The log of one run; writes the same values to metrics.jsonl and to every logger.

    Args:
        step: completed optimizer steps.
        loggers: names of loggers, see `signcl.training.loggers`.
        settings: the recipe, for loggers that show it.
    """

    def __init__(
        self, folder: Path, step: int, loggers: Sequence[str] = ("tensorboard",), settings: dict[str, Any] | None = None
    ) -> None:
        self.path = folder / "metrics.jsonl"
        kept = [line for line in read_record(folder) if line["step"] <= step] if step else []
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in kept))
        self.loggers = start_loggers(loggers, folder, step, settings or {})

    def log(self, kind: str, step: int, epoch: int, values: dict[str, float]) -> None:
        """Add a line: `kind` is train or dev."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, "step": step, "epoch": epoch, **values}) + "\n")
        named = {f"{kind}/{name}": value for name, value in values.items()}
        for logger in self.loggers:
            logger.log(named, step)

    def close(self, *, finished: bool = True) -> None:
        """Close the loggers, at the end of the run or when it is stopped."""
        for logger in self.loggers:
            logger.close(finished=finished)


LINE = {"kind": str, "step": int, "epoch": float}


def read_record(folder: Path) -> list[dict[str, Any]]:
    """Read metrics.jsonl; leaves out a last line truncated by a kill, and reports damaged lines."""
    path = folder / "metrics.jsonl"
    content = read_bytes(path).splitlines() if path.is_file() else []
    lines = []
    for number, line in enumerate(content, start=1):
        try:
            read = parse_json(line)
            check_shape(read, LINE)
            wrong = next((key for key in read if key != "kind" and type(read[key]) not in (int, float)), None)
            if wrong is not None:
                raise ValueError(f"{wrong[:40]}: needs a number, got {str(read[wrong])[:40]!r}")
        except ValueError as error:
            if number < len(content):
                say(f"{path}, line {number}: {error}; it and the {len(content) - number} after it are left out")
            break
        lines.append(read)
    return lines
