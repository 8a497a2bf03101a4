"""Any folder of clips or features with one table per split: the corpus format of this package.

    DIR/train.tsv, dev.tsv, test.tsv     UTF-8, tab-separated, header line
        name  path  text                 required
        signer  gloss  num_frames  spans optional

`path` is relative to DIR and is one of: a video file, a folder of frame images, a `.npy` or `.npz` file of features, a
file of key points (`.pose`, `.pkl`, `.json`, `.pt`, or a folder of OpenPose's frames), the folder of a feature store,
in which the row's `name` is the key (write the same path in every row), or a clip inside a tar shard,
SHARD.tar/KEY.mp4 (`signcl corpus pack`).
`gloss` is separated by spaces; `spans` is `GLOSS:start-stop` separated by spaces, stop exclusive, in order of time.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from signcl.data.annotation.table_files import OnError, Row, has_words, read_table, stop
from signcl.data.batch import Sample, Span
from signcl.data.pose_files import KEY_POINT_SUFFIXES, is_openpose_folder

__all__ = ["parse_spans", "samples"]

FEATURE_SUFFIXES = (".npy", ".npz", *KEY_POINT_SUFFIXES)
VIDEO_SUFFIXES = (".mp4", ".avi", ".webm", ".gif", ".mov", ".mkv")
STORE_INDEX = "index.json"  # the file that makes a folder a feature store (signcl/features.py)
OUTSIDE = re.compile(r"^[/\\]|^[A-Za-z]:|(^|[/\\])\.\.($|[/\\])")
SPAN = re.compile(r"(?P<gloss>.+):(?P<start>\d+)-(?P<stop>\d+)")


def samples(root: Path, split: str, *, on_error: OnError = stop) -> list[Sample]:
    """The sentences of one split, in the order of the table. No clip is opened: 100,000 rows take a few seconds.

    Args:
        root: the corpus folder.
        split: `train`, `dev`, `test`, or the name of any other table in the folder.
        on_error: called with each broken row; by default the first one stops.

    Raises:
        ValueError: no such table, a column missing, no rows; or a row with an empty or repeated name, no text, a path
            that leaves the folder, a malformed number or span.
    """
    root = Path(root)
    table = root / f"{split}.tsv"
    if not table.is_file():
        found = sorted(path.stem for path in root.glob("*.tsv"))
        raise ValueError(f"{root}: split {split!r} needs the file {table.name}; found tables for {found or 'no split'}")
    seen: dict[str, int] = {}
    stores: dict[str, bool] = {}
    result = []
    for row in read_table(table, ("name", "path", "text"), on_error=on_error):
        try:
            sample = _sample(root, row, stores)
            if (first := seen.setdefault(sample.name, row.line)) != row.line:
                raise row.error(f"name {sample.name!r} stands already in line {first}; names must be unique in a split")
        except ValueError as error:
            on_error(error)
            continue
        result.append(sample)
    if not result and on_error is stop:
        raise ValueError(f"{table}: has a header but no rows; a split needs at least one sentence")
    return result


def parse_spans(text: str) -> tuple[Span, ...]:
    """`HELLO:3-12 WORLD:15-27` as spans; the gloss itself may hold colons.

    Raises:
        ValueError: an entry that is not `GLOSS:start-stop` with start < stop.
    """
    spans = []
    for entry in text.split():
        match = SPAN.fullmatch(entry)
        if match is None or int(match["start"]) >= int(match["stop"]):
            raise ValueError(f"span {entry!r} must be GLOSS:start-stop with start < stop, frames counted from 0")
        spans.append(Span(match["gloss"], int(match["start"]), int(match["stop"])))
    return tuple(spans)


def _sample(root: Path, row: Row, stores: dict[str, bool]) -> Sample:
    """One row; `stores` remembers which paths are feature stores, so that each is looked at once."""
    cells = row.cells
    name, relative, text = cells["name"], cells["path"], cells["text"]
    if not name:
        raise row.error("the column name is empty")
    if not relative:
        raise row.error(f"{name} has no path")
    if not has_words(text):
        raise row.error(f"{name} has a text without words: {text!r}")
    # Checked as text, not by resolving: a link inside the folder may lead to another disk.
    if OUTSIDE.search(relative):
        raise row.error(
            f"{name} has the path {relative!r}, which leaves the corpus folder; write it relative to {root}"
        )
    num_frames = cells.get("num_frames", "")
    if num_frames and not (num_frames.isdecimal() and int(num_frames) > 0):
        raise row.error(f"{name} has num_frames {num_frames!r}, needs a whole number of at least 1 or nothing")
    try:
        spans = parse_spans(cells.get("spans", ""))
    except ValueError as error:
        raise row.error(f"{name}: {error}") from None
    path = f"{root}/{relative}"
    is_features = _is_features(path, stores)
    return Sample(
        name=name,
        text=text,
        clip=None if is_features else Path(path),
        features=Path(path) if is_features else None,
        gloss=tuple(cells.get("gloss", "").split()),
        signer=cells.get("signer", ""),
        num_frames=int(num_frames) if num_frames else None,
        spans=spans,
    )


def _is_features(path: str, stores: dict[str, bool]) -> bool:
    suffix = os.path.splitext(path)[1].lower()
    if suffix in FEATURE_SUFFIXES:
        return True
    if suffix in VIDEO_SUFFIXES or os.path.dirname(path).endswith(".tar"):
        return False
    if path not in stores:
        stores[path] = os.path.isfile(f"{path}/{STORE_INDEX}") or is_openpose_folder(Path(path))
    return stores[path]
