"""What a run writes while it trains: metrics.jsonl and TensorBoard events, cut back to the state on a resumption."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from signcl.data.files import read_bytes, write_text
from signcl.data.json_files import check_shape, parse_json
from signcl.data.progress import say

__all__ = ["Record", "read_record"]


class Record:
    """The log of one run; the same values go to both files."""

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.path = folder / "metrics.jsonl"
        kept = [line for line in read_record(folder) if line["step"] <= step] if step else []
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in kept))
        if not step:
            for events in folder.glob("events.out.tfevents.*"):
                events.unlink()
        self.writer = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def log(self, kind: str, step: int, epoch: int, values: dict[str, float]) -> None:
        """Add a line: `kind` is train or dev."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, "step": step, "epoch": epoch, **values}) + "\n")
        for name, value in values.items():
            self.writer.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        """Write what TensorBoard still holds."""
        self.writer.close()


LINE = {"kind": str, "step": int, "epoch": float}


def read_record(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; a last line that a kill cut short is left out, and what is damaged is said."""
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
