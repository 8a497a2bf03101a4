"""Translating many clips to one table: finding the clips of a folder, and resuming after a stop."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from signcl.data.features import is_feature_file
from signcl.data.files import atomic_write
from signcl.data.json_files import check_shape, parse_json
from signcl.data.pose_files import is_openpose_folder
from signcl.data.progress import say
from signcl.data.video import IMAGE_SUFFIXES, VIDEO_SUFFIXES

__all__ = ["Work", "clips_of_folder", "holds_clips", "write_translations"]

COLUMNS = ("name", "hypothesis", "confidence", "warnings")
"""Columns of the table, which `signcl score` can read."""
ROW = {"name": str, "stamp": [int], "text": str, "confidence": float | None, "warnings": [str]}


def holds_clips(path: Path) -> bool:
    """Whether a path is a folder of clips rather than a single clip (a folder of images or key points)."""
    if not path.is_dir() or (path / "index.json").is_file() or (path / "recipe.yaml").is_file():  # a store; a run
        return False
    return not is_openpose_folder(path) and not _has_images(path)


def clips_of_folder(folder: Path, *, videos: bool, features: bool) -> dict[str, Path]:
    """All clips in a folder and its subfolders, by relative path, sorted.

    Args:
        videos: include video files and folders of images.
        features: include files of features and key points.

    Raises:
        ValueError: no clips; says what the folder contains.
    """
    found, others = {}, Counter[str]()
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name[0] != ".")
        here = Path(place)
        if here != folder and ((features and is_openpose_folder(here)) or (videos and _has_images(here))):
            found[here.relative_to(folder).as_posix()] = here
            folders[:] = []
            continue
        for file in (here / name for name in files if name[0] != "."):
            suffix = file.suffix.lower()
            if (videos and suffix in VIDEO_SUFFIXES) or (features and is_feature_file(file)):
                found[file.relative_to(folder).as_posix()] = file
            else:
                others[suffix or "no ending"] += 1
    kinds = " and ".join([*["videos"] * videos, *["features"] * features])
    there = ", ".join(f"{count} {suffix}" for suffix, count in sorted(others.items()))
    if not found:
        raise ValueError(f"{folder}: no clip in it; {kinds} are needed, there are {there or 'no files'}")
    if there:
        say(f"{folder}: {len(found)} clips; ignores other files: {there}")
    return dict(sorted(found.items()))


def _has_images(folder: Path) -> bool:
    return any(item.suffix.lower() in IMAGE_SUFFIXES and item.name[0] != "." for item in folder.iterdir())


class Work:
    """Finished translations of a table, one line per clip in `OUT.work`, so that the same command can resume.

    Args:
        out: the table.
        about: the run and its settings; work with other settings is an error.

    Raises:
        ValueError: work of another run or of other settings.
    """

    def __init__(self, out: Path, about: Mapping[str, Any]) -> None:
        self.path = out.with_name(out.name + ".work")
        self.rows: dict[str, dict[str, Any]] = {}
        self._about = parse_json(json.dumps(about))
        lines = self.path.read_bytes().splitlines() if self.path.is_file() else []
        read = list(_read(lines))
        if read and read[0] != self._about:
            other = " and ".join(key for key in self._about if read[0].get(key) != self._about[key])
            raise ValueError(
                f"{self.path}: unfinished work with another {other or 'command'}; delete it to begin again, or give "
                f"another -o"
            )
        for row in read[1:]:
            check_shape(row, ROW)
            self.rows[row["name"]] = row
        with atomic_write(self.path) as temporary:  # drops a line truncated by a kill
            temporary.write_text("".join(map(_line, [self._about, *self.rows.values()])), encoding="utf-8")

    def done(self, name: str, clip: Path) -> dict[str, Any] | None:
        """The earlier translation of a clip, if its file has not changed since."""
        row = self.rows.get(name)
        return row if row is not None and row["stamp"] == _stamp(clip) else None

    def add(self, name: str, clip: Path, text: str, confidence: float | None, warnings: list[str]) -> None:
        """Save a translation."""
        row = {"name": name, "stamp": _stamp(clip), "text": text, "confidence": confidence, "warnings": warnings}
        self.rows[name] = row
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_line(row))

    def close(self) -> None:
        """Delete the work file, after the table was written."""
        self.path.unlink(missing_ok=True)


def _read(lines: list[bytes]) -> Iterator[dict[str, Any]]:
    """Read lines up to the first truncated one."""
    for line in lines:
        try:
            read = parse_json(line)
        except ValueError:
            return
        if not isinstance(read, dict):
            return
        yield read


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def _stamp(clip: Path) -> list[int]:
    """Size and modification time of a clip's file or folder."""
    about = clip.stat()
    return [about.st_size, about.st_mtime_ns]


def write_translations(out: Path, rows: list[dict[str, Any]]) -> None:
    """Write the table: name, sentence, confidence (empty if unknown), warnings."""
    with atomic_write(out) as temporary:
        lines = ["\t".join(COLUMNS)]
        for row in rows:
            sure = "" if row["confidence"] is None else f"{row['confidence']:.4f}"
            cells = (row["name"], row["text"], sure, "; ".join(row["warnings"]))
            lines.append("\t".join(" ".join(cell.split()) for cell in cells))
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
