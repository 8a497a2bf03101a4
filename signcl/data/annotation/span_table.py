"""Tables of spans, to import and export alignments: `name  gloss  start  stop  score`, TSV with a header.

One row per sign; frames count from 0, stop is exclusive, score is optional (default 1), and so is `peak`, the frame on
which the aligner is surest. The table is separate from the corpus; `attach_spans` adds it to the samples. Frames chosen
by people are read here too, as spans of one frame.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from signcl.data.annotation.choices import read_choices
from signcl.data.annotation.clip_files import check_cell
from signcl.data.annotation.table_files import read_table
from signcl.data.batch import Sample, Span
from signcl.data.files import write_text
from signcl.data.whole_numbers import whole_number

__all__ = ["attach_spans", "is_choices", "read_spans", "write_spans"]

COLUMNS = ("name", "gloss", "start", "stop", "score")


def write_spans(
    path: Path | str, spans: Mapping[str, Sequence[Span]], *, peaks: Mapping[str, Sequence[int]] | None = None
) -> None:
    """Writes the spans of each clip atomically.

    Args:
        path: output file; replaced if it exists.
        spans: clip name -> its spans. A clip without spans has no row.
        peaks: clip name -> a frame for each of its spans (`signcl.density.forced_align.peak_frames`), written as column
            `peak`.

    Raises:
        ValueError: a name or gloss that is empty, has outer spaces or contains a tab, line break or control character;
            an empty span; a score that is nan; a peak outside its span.
    """
    lines = ["\t".join((*COLUMNS, "peak") if peaks is not None else COLUMNS)]
    for name, found in spans.items():
        for number, span in enumerate(found):
            for cell in (name, str(span.token)):
                check_cell(cell, str(path))
            if not 0 <= span.start < span.stop:
                raise ValueError(f"{name}: span {span.token}:{span.start}-{span.stop} needs 0 <= start < stop")
            if math.isnan(span.score):
                raise ValueError(
                    f"{name}: span {span.token}:{span.start}-{span.stop} has the score nan; needs a number"
                )
            if peaks is not None and not span.start <= peaks[name][number] < span.stop:
                raise ValueError(
                    f"{name}: span {span.token}:{span.start}-{span.stop} needs a peak within the span, got "
                    f"{peaks[name][number]}"
                )
            peak = "" if peaks is None else f"\t{peaks[name][number]}"
            lines.append(f"{name}\t{span.token}\t{span.start}\t{span.stop}\t{span.score:.9g}{peak}")
    write_text(Path(path), "\n".join(lines) + "\n")


def read_spans(
    path: Path | str, *, lengths: Mapping[str, int | None] | None = None, names: Collection[str] | None = None
) -> dict[str, tuple[Span, ...]]:
    """Reads the spans of each clip, in order of time.

    Spans may overlap (two hands, coarticulation): density measures each separately and counts the overlaps. Code that
    needs one sign per frame documents which one it uses.

    Args:
        path: a TSV as written by `write_spans`, plain or gzip; other columns are ignored. Or a file of choices
            (`signcl.data.annotation.choices`, .jsonl): each span is then the one frame that people chose.
        lengths: frames of each clip, None if unknown; spans beyond the clip are errors.
        names: allowed clip names; default all of `lengths`, or any.

    Raises:
        ValueError: no such file, missing columns, no rows, an invalid number, an empty span, spans beyond their clips
            or of unknown clips (counted, the first five listed).
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no such file: {path}; needs a table of spans with the columns {', '.join(COLUMNS)}")
    found = _chosen(path) if is_choices(path) else _table(path)
    known = names if names is not None else lengths
    if known is not None:
        _refuse(path, "names of unknown clips", [name for name in found if name not in known])
    ordered = {name: tuple(sorted(spans, key=lambda s: (s.start, s.stop))) for name, spans in found.items()}
    beyond = [
        f"{name} {span.token}:{span.start}-{span.stop} of {length} frames"
        for name, spans in ordered.items()
        if (length := (lengths or {}).get(name)) is not None
        for span in spans
        if span.stop > length
    ]
    _refuse(path, "spans beyond the clip", beyond)
    return ordered


def _chosen(path: Path) -> dict[str, list[Span]]:
    """Every sign as a span of the one frame that people chose."""
    found: dict[str, list[Span]] = {}
    for key, frame in read_choices(path).items():
        found.setdefault(key.clip, []).append(Span(key.gloss, frame, frame + 1))
    return found


def _table(path: Path) -> dict[str, list[Span]]:
    if not path.stat().st_size:
        raise ValueError(
            f"{path}: is empty; a table of spans needs the header line {' '.join(COLUMNS)}, then one row per sign"
        )
    found: dict[str, list[Span]] = {}
    for row in read_table(path, COLUMNS[:-1]):
        cells = row.cells
        if not cells["name"] or not cells["gloss"]:
            raise row.error("a row needs a name and a gloss")
        start, stop = whole_number(cells["start"]), whole_number(cells["stop"])
        if start is None or stop is None or start >= stop:
            raise row.error(
                f"needs whole frames 0 <= start < stop, got start {cells['start']!r}, stop {cells['stop']!r}"
            )
        try:
            score = float(cells.get("score") or 1.0)
        except ValueError:
            score = math.nan
        if not math.isfinite(score):
            raise row.error(f"needs a number or nothing as score, got {cells['score']!r}")
        told = cells.get("peak") or ""
        peak = whole_number(told)
        if told and (peak is None or not start <= peak < stop):
            raise row.error(f"needs a frame of the span {start}-{stop} or nothing as peak, got {told!r}")
        span = Span(cells["gloss"], start, stop, score, peak=peak)
        found.setdefault(cells["name"], []).append(span)
    if not found:
        raise ValueError(f"{path}: has a header but no rows; needs one row per sign")
    return found


def is_choices(path: Path | str | None) -> bool:
    """Whether spans come from a file of choices, in which people chose the frame of each sign."""
    return path is not None and Path(path).suffix == ".jsonl"


def attach_spans(samples: Sequence[Sample], path: Path | str) -> list[Sample]:
    """Replaces the spans of samples by those of a table; clips that are not in the table get none.

    Raises:
        ValueError: as `read_spans`; only the names of the samples are allowed.
    """
    spans = read_spans(path, lengths={sample.name: sample.num_frames for sample in samples})
    return [replace(sample, spans=spans.get(sample.name, ())) for sample in samples]


def _refuse(path: Path, what: str, wrong: list[str]) -> None:
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise ValueError(
            f"{path}: {len(wrong)} {what}: {'; '.join(wrong[:5])}{more}. Table and corpus need the same split and "
            f"the same frame numbers (from 0, stop exclusive)."
        )
