"""Spans as a table of their own, to bring alignments in and out: `name  gloss  start  stop  score`, TSV with a header.

One row per sign, frames counted from 0, stop exclusive, score optional (1 where missing), and maybe `peak`, the frame
on which the aligner is surest. The table travels beside a corpus; `attach_spans` puts it on the samples of the corpus.
Frames that people chose are read here too: spans of one frame.
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
    """Write the spans of each clip; the file appears whole or not at all.

    Args:
        path: where to; an existing file is replaced.
        spans: clip name -> its spans. A clip without spans has no row.
        peaks: clip name -> a frame for each of its spans (`signcl.density.forced_align.peak_frames`), as a further
            column `peak`.

    Raises:
        ValueError: a name or gloss that is empty, padded or holds a tab, line break or control character; an empty
            span; a score that is nan; a peak outside of its span.
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
                    f"{name}: span {span.token}:{span.start}-{span.stop} has the score nan, a number is needed"
                )
            if peaks is not None and not span.start <= peaks[name][number] < span.stop:
                raise ValueError(
                    f"{name}: span {span.token}:{span.start}-{span.stop} needs a frame of its own as peak, got "
                    f"{peaks[name][number]}"
                )
            peak = "" if peaks is None else f"\t{peaks[name][number]}"
            lines.append(f"{name}\t{span.token}\t{span.start}\t{span.stop}\t{span.score:.9g}{peak}")
    write_text(Path(path), "\n".join(lines) + "\n")


def read_spans(
    path: Path | str, *, lengths: Mapping[str, int | None] | None = None, names: Collection[str] | None = None
) -> dict[str, tuple[Span, ...]]:
    """Spans of each clip, in order of time. They may overlap, as two hands or coarticulated signs do: density measures
    each by itself and counts the overlaps; code that needs one sign per frame documents which one it takes.

    Args:
        path: a TSV as `write_spans` makes it, plain or gzip; other columns are passed over. Or a file of choices
            (`signcl.data.annotation.choices`, .jsonl): every sign is then the one frame that people chose.
        lengths: frames of each clip, None where unknown; spans beyond them are refused.
        names: clips that may occur; default all of `lengths`, or any.

    Raises:
        ValueError: no such file, missing columns, no rows, a cell that should be a number, an empty span, spans
            beyond their clips or of unknown clips (the first five listed, with how many there are).
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(
            f"a table of spans is needed at {path}, there is no such file; its columns: {', '.join(COLUMNS)}"
        )
    found = _chosen(path) if is_choices(path) else _table(path)
    known = names if names is not None else lengths
    if known is not None:
        _refuse(path, "names that are no clip", [name for name in found if name not in known])
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
    """Every sign as the one frame that people chose for it."""
    found: dict[str, list[Span]] = {}
    for key, frame in read_choices(path).items():
        found.setdefault(key.clip, []).append(Span(key.gloss, frame, frame + 1))
    return found


def _table(path: Path) -> dict[str, list[Span]]:
    if not path.stat().st_size:
        raise ValueError(
            f"{path}: is empty; a table of spans needs the header line {' '.join(COLUMNS)}, then a row a sign"
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
        raise ValueError(f"{path}: has a header but no rows; no sign is aligned")
    return found


def is_choices(path: Path | str | None) -> bool:
    """Whether spans come from a file of choices, so that the frame of a sign is one that people chose."""
    return path is not None and Path(path).suffix == ".jsonl"


def attach_spans(samples: Sequence[Sample], path: Path | str) -> list[Sample]:
    """The samples with the spans of a table in place of their own; clips the table does not name have none.

    Raises:
        ValueError: as `read_spans`, with the samples as the clips that may occur.
    """
    spans = read_spans(path, lengths={sample.name: sample.num_frames for sample in samples})
    return [replace(sample, spans=spans.get(sample.name, ())) for sample in samples]


def _refuse(path: Path, what: str, wrong: list[str]) -> None:
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise ValueError(
            f"{path}: {len(wrong)} {what}: {'; '.join(wrong[:5])}{more}. Table and corpus must be of one split, on one "
            f"clock (frames from 0, stop exclusive)."
        )
