"""A folder of clips or features with one table per split: the corpus format of this package.

    DIR/train.tsv, dev.tsv, test.tsv     UTF-8, tab-separated, header line
        name  path                       required
        text, gloss                      one of them required; gloss alone makes a corpus for recognition
        signer  num_frames  spans        optional
        start  stop                      optional: the row is a segment of a longer file, seconds
        start_frame  stop_frame          the same in frames, from 0, stop exclusive
        fps                              frames per second, for segments in seconds of files without a frame rate
        language                         optional: the language of the text
        key                              optional: the name in a feature store or .npz, if it is not `name`

`path` is relative to DIR and is one of: a video file, a folder of frame images, a `.npy` or `.npz` file of features, a
file of key points (`.pose`, `.pkl`, `.json`, `.pt`, or a folder of OpenPose's frames), the folder of a feature store,
in which `name` is the key (write the same path in every row), or a clip in a tar shard, SHARD.tar/KEY.mp4
(`signcl corpus pack`).
SPLIT.sentences.tsv may list the sentences of recordings with several: name, text, start, stop (frames, exclusive).
Several rows may name the same file, each with a segment; a row without a segment is the complete file. `num_frames` and
`spans` count from the first frame of the segment.
`gloss` is separated by spaces; `spans` is `GLOSS:start-stop` separated by spaces, stop exclusive, in order of time.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

from signcl.data.annotation.table_files import OnError, Row, has_words, read_table, stop
from signcl.data.batch import Sample, Segment, Span
from signcl.data.corpora._layout import Layout
from signcl.data.pose_files import KEY_POINT_SUFFIXES, is_openpose_folder
from signcl.data.registry import did_you_mean
from signcl.data.whole_numbers import whole_number

__all__ = ["parse_spans", "samples"]

FEATURE_SUFFIXES = (".npy", ".npz", *KEY_POINT_SUFFIXES)
VIDEO_SUFFIXES = (".mp4", ".avi", ".webm", ".gif", ".mov", ".mkv")
SENTENCES = ".sentences.tsv"
STORE_INDEX = "index.json"  # the file that marks a folder as a feature store (signcl/data/features)
OUTSIDE = re.compile(r"^[/\\]|^[A-Za-z]:|(^|[/\\])\.\.($|[/\\])")
SECONDS, FRAMES = ("start", "stop"), ("start_frame", "stop_frame")
NUMBER = re.compile(r"\d+(\.\d*)?|\.\d+")
LONGEST = 1e7  # seconds (four months) and, times 1000, frames: longer than any video
FASTEST = 1000.0  # frames per second
SPAN = re.compile(r"(?P<gloss>.+):(?P<start>\d+)-(?P<stop>\d+)")


LAYOUT = Layout(
    files=("train.tsv", "dev.tsv", "test.tsv"),
    about="a table per split in the format of this package",
    published="your own corpus",
    needs="a table SPLIT.tsv with the columns name, path and text (or gloss), and the files that `path` names",
)


def samples(root: Path, split: str, *, language: str = "", on_error: OnError = stop) -> list[Sample]:
    """Reads the sentences of one split, in the order of the table. Opens no clips: 100,000 rows take a few seconds.

    Args:
        root: the corpus folder.
        split: `train`, `dev`, `test`, or the name of any other table in the folder.
        language: read only rows with this value in the column `language`; "" reads all.
        on_error: called with each broken row; by default the first one is raised.

    Raises:
        ValueError: no such table, a column missing, no rows; or a row with an empty or repeated name, no text or gloss,
            a path that leaves the folder, a malformed number, span or segment.
    """
    root = Path(root)
    table = root / f"{split}.tsv"
    if not table.is_file():
        found = sorted(path.stem for path in root.glob("*.tsv"))
        if (root / "recipe.yaml").is_file():
            raise ValueError(f"{root} is a run folder, and the folder of a corpus is needed")
        known = [name for name in ("train", "dev", "test") if name in found] or found
        raise ValueError(
            f"{root}: split {split!r} needs the file {table.name}; found {'' if known else 'no '}tables"
            f"{' for ' + ', '.join(known) if known else ''}{did_you_mean(split, known)}"
        )
    seen: dict[str, int] = {}
    stores: dict[str, bool] = {}
    result: list[Sample] = []
    languages: set[str] = set()
    for row in read_table(table, ("name", "path"), on_error=on_error):
        if not languages and not result and not seen:
            _check_header(row, language)
        try:
            sample = _sample(root, row, stores)
            languages.add(sample.language)
            if (first := seen.setdefault(sample.name, row.line)) != row.line:
                raise row.error(f"name {sample.name!r} is already in line {first}; names must be unique in a split")
        except ValueError as error:
            on_error(error)
            continue
        if language in ("", sample.language):
            result.append(sample)
    if language and not result and seen:
        found = sorted(filter(None, languages))
        raise ValueError(
            f"{table}: corpus.options.language={language!r} matches no row; the column language has {', '.join(found)}"
            f"{did_you_mean(language, found)}"
        )
    result = _with_sentences(root / f"{split}{SENTENCES}", result, on_error)
    if not result and on_error is stop:
        raise ValueError(f"{table}: has a header but no rows; a split needs at least one sentence")
    return result


def _with_sentences(table: Path, samples: list[Sample], on_error: OnError) -> list[Sample]:
    """Adds the sentences of a table to the samples, if the table exists."""
    if not table.is_file():
        return samples
    found: dict[str, list[Span]] = {}
    for row in read_table(table, ("name", "text", "start", "stop"), on_error=on_error):
        cells = row.cells
        try:
            start, stop_ = whole_number(cells["start"]), whole_number(cells["stop"])
            if start is None or stop_ is None:
                raise row.error(f"start and stop must be whole frames, got {cells['start']!r}, {cells['stop']!r}")
            if not start < stop_:
                raise row.error(f"start {start} must be before stop {stop_}")
            found.setdefault(cells["name"], []).append(Span(cells["text"], start, stop_))
        except ValueError as error:
            on_error(error)
    if strange := sorted(found.keys() - {sample.name for sample in samples}):
        on_error(ValueError(f"{table}: names {strange[0]!r}, which the table of the split does not have"))
    by_start = {name: tuple(sorted(spans, key=lambda span: span.start)) for name, spans in found.items()}
    return [replace(sample, sentences=by_start.get(sample.name, ())) for sample in samples]


def parse_spans(text: str) -> tuple[Span, ...]:
    """Parses `HELLO:3-12 WORLD:15-27` to spans; glosses may contain colons.

    Raises:
        ValueError: an entry that is not `GLOSS:start-stop` with start < stop.
    """
    spans = []
    for entry in text.split():
        match = SPAN.fullmatch(entry)
        start, stop_ = (whole_number(match[edge]) if match else None for edge in ("start", "stop"))
        if match is None or start is None or stop_ is None or start >= stop_:
            raise ValueError(f"span {entry!r} must be GLOSS:start-stop with start < stop, frames counted from 0")
        spans.append(Span(match["gloss"], start, stop_))
    return tuple(spans)


def _check_header(row: Row, language: str) -> None:
    """Checks the columns of the header, given the first row."""
    columns, head = row.cells.keys(), f"{row.path}:1"
    if not {"text", "gloss"} & columns:
        raise ValueError(
            f"{head}: needs the columns name, path and text in its header line (or gloss instead of text, for "
            f"recognition), text missing; found {', '.join(filter(None, columns))}"
        )
    for first, last in (SECONDS, FRAMES):
        if (first in columns) != (last in columns):
            there, missing = (first, last) if first in columns else (last, first)
            raise ValueError(f"{head}: has the column {there} without {missing}; a segment needs both")
    if language and "language" not in columns:
        raise ValueError(f"{head}: corpus.options.language={language!r} needs a column language; found none")


def _segment(row: Row, name: str) -> Segment | None:
    """The segment of a row, or None if its cells are empty."""
    cells, where = row.cells, f"{row.path}:{row.line}"
    given = [columns for columns in (SECONDS, FRAMES) if any(cells.get(column, "") for column in columns)]
    if len(given) > 1:
        raise row.error(f"{name} has a segment in seconds and in frames; leave one of them empty")
    fps = _number(row, name, "fps", cells["fps"], "a number of frames per second") if cells.get("fps") else None
    if fps is not None and not 0 < fps <= FASTEST:
        raise row.error(f"{name} has fps {cells['fps']!r}, needs a number above 0 and at most {FASTEST:g}")
    if not given:
        return None
    first, last = given[0]
    for column in given[0]:
        if not cells[column]:
            raise row.error(f"{name} has {first if column == last else last} but no {column}; a segment needs both")
    if given[0] == FRAMES:
        for column in FRAMES:
            if whole_number(cells[column]) is None:
                raise row.error(f"{name} has {column} {cells[column]!r}, needs a whole number of at least 0")
        start, end = float(cells[first]), float(cells[last])
        most, unit = LONGEST * 1000, "frames"
    else:
        what = "seconds as a number of at least 0, such as 90.5"
        start, end = (_number(row, name, column, cells[column], what) for column in SECONDS)
        most, unit = LONGEST, "seconds"
    if not start < end:
        raise row.error(f"{name} has {first} {cells[first]} and {last} {cells[last]}; {first} must be before {last}")
    if end > most:
        raise row.error(
            f"{name} has {last} {cells[last]}, more than any file has ({most:g} {unit}); is the unit right?"
        )
    return Segment(start, end, "frames" if given[0] == FRAMES else "seconds", fps, where)


def _number(row: Row, name: str, column: str, cell: str, what: str) -> float:
    """Parses a plain decimal number: no sign, exponent, `nan` or clock time."""
    if not NUMBER.fullmatch(cell):
        hint = _as_seconds(cell)
        raise row.error(f"{name} has {column} {cell!r}, needs {what}{hint}")
    return float(cell)


def _as_seconds(cell: str) -> str:
    """Advice on what to write instead of a clock time or a decimal comma."""
    if re.fullmatch(r"\d+,\d+", cell):
        return f"; write {cell.replace(',', '.')}"
    parts = cell.split(":")
    if len(parts) in (2, 3) and all(NUMBER.fullmatch(part) for part in parts):
        seconds = 0.0
        for part in parts:
            seconds = 60 * seconds + float(part)
        return f"; write {seconds:.15g} if it is {'minutes' if len(parts) == 2 else 'hours'}:...:seconds"
    return ""


def _sample(root: Path, row: Row, stores: dict[str, bool]) -> Sample:
    """The sample of a row; `stores` caches which paths are feature stores."""
    cells = row.cells
    name, relative, text, gloss = cells["name"], cells["path"], cells.get("text", ""), cells.get("gloss", "").split()
    if not name:
        raise row.error("the column name is empty")
    if not relative:
        raise row.error(f"{name} has no path")
    if "text" in cells and not has_words(text):
        raise row.error(f"{name} has a text without words: {text!r}")
    if "text" not in cells and not gloss:
        raise row.error(f"{name} has no gloss, and the table has no column text")
    # Check the text without resolving it, because a link inside the folder may lead to another disk.
    if OUTSIDE.search(relative):
        raise row.error(
            f"{name} has the path {relative!r}, which leaves the corpus folder; write it relative to {root}"
        )
    told = cells.get("num_frames", "")
    num_frames = whole_number(told)
    if told and not num_frames:
        raise row.error(f"{name} has num_frames {told!r}, needs a whole number of at least 1 or nothing")
    try:
        spans = parse_spans(cells.get("spans", ""))
    except ValueError as error:
        raise row.error(f"{name}: {error}") from None
    segment = _segment(row, name)
    path = f"{root}/{relative}"
    is_features = _is_features(path, stores)
    return Sample(
        name=name,
        text=text,
        clip=None if is_features else Path(path),
        features=Path(path) if is_features else None,
        gloss=tuple(gloss),
        signer=cells.get("signer", ""),
        num_frames=num_frames,
        spans=spans,
        whole=cells.get("key", ""),
        segment=segment,
        language=cells.get("language", ""),
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
