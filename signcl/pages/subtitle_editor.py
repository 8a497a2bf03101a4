"""Subtitles of a long video, edited in the browser: reads and saves the file behind the page.

The file is the only state. It is written as a whole, in its own format, by the writers of `signcl subtitle`; the
version before the first edit is kept as FILE.orig. A file that another program has changed in the meantime is not
overwritten. Confidences are in the table next to it (FILE.tsv, made by `signcl subtitle`); an edited sentence loses its
confidence.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import threading
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from signcl.data.annotation.clip_files import check_cell
from signcl.data.annotation.eaf_document import read_document
from signcl.data.annotation.elan import read_elan, write_elan
from signcl.data.annotation.subtitles import read_subtitles, write_subtitles
from signcl.data.annotation.table_files import read_table
from signcl.data.annotation.timed_text import video_beside
from signcl.data.batch import Span
from signcl.inference.subtitling import KINDS, Cue, write_cues
from signcl.inference.subtitling import Subtitles as Made

__all__ = ["Changed", "Subtitles"]

CLOCK = 1000.0  # "frames" per second: times are whole milliseconds, whatever the video's rate
FRAME = 0.06  # seconds: half a frame at 10 per second, plus a millisecond
TIERS = ("sentence", "confidence", "sign")
"""The tiers of ELAN files that `signcl subtitle` writes. A file with others is refused: saving would lose them."""
LATEST = 100 * 3600.0  # seconds
LONGEST = 1000  # characters of a sentence
MOST = 20_000  # sentences


class Changed(ValueError):
    """The file has changed since the page read it."""


@dataclass
class Subtitles:
    """A subtitle file and its video."""

    path: Path
    film: Path | None = None
    """The video; None: the page shows only the time line."""
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        """Check both files, so that errors are reported before the page is opened.

        Raises:
            ValueError, OSError: the file cannot be read, or cannot be written back without loss.
        """
        if self.path.suffix.lower() not in KINDS:
            raise ValueError(f"--subtitles {self.path}: needs a file that ends in {', '.join(KINDS)}")
        if not self.path.is_file():
            raise FileNotFoundError(
                f"no subtitles at {self.path}; `signcl subtitle` makes them, or start with an empty file"
            )
        if self.film is None:
            self.film = next(iter(video_beside(self.path)), None)
        elif not self.film.is_file():
            raise FileNotFoundError(f"--film {self.film}: there is no video at this path")
        self._cues()

    def state(self) -> dict[str, Any]:
        """The data of the page: sentences in order of time, the version of the file, and the file names."""
        with self._guard:
            return self._state()

    def save(self, wanted: Sequence[Mapping[str, Any]], version: str) -> dict[str, Any]:
        """Write the sentences; they are on disk when this returns.

        Args:
            wanted: `start` and `stop` in seconds, `text`; a sentence without text is kept only in the table.
            version: version of the file that the page has read.

        Returns:
            The new state.

        Raises:
            Changed: the file has changed; nothing is written.
            ValueError: times or texts are invalid, or the format cannot hold them.
            OSError: the file cannot be written; the old file is intact.
        """
        with self._guard:
            if version != self._version():
                raise Changed(
                    f"{self.path.name} was changed by another program; load the page again and repeat the edits"
                )
            before = {_key(cue): cue for cue in self._cues()}
            cues = sorted(
                (self._wanted(one, number) for number, one in enumerate(wanted, 1)), key=lambda c: (c.start, c.stop)
            )
            if len(cues) > MOST:
                raise ValueError(f"at most {MOST} sentences are accepted, got {len(cues)}")
            kept = [before.get(_key(cue), cue) for cue in cues]  # unchanged sentences keep their confidence
            original = self.path.with_name(f"{self.path.name}.orig")
            if not original.exists():
                shutil.copyfile(self.path, original)
            self._write(kept, self.path)
            if self._table is not None and self._table != self.path:
                self._write(kept, self._table)
            return self._state()

    def exported(self, suffix: str) -> bytes:
        """Convert the sentences to another format: .srt, .vtt, .eaf or .tsv.

        Raises:
            ValueError: another file ending, or a text that the format cannot hold.
        """
        if suffix not in KINDS:
            raise ValueError(f"subtitles can be written as {', '.join(KINDS)}, got {suffix!r}")
        with self._guard, tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / f"{self.path.stem}{suffix}"
            self._write(self._cues(), place)
            return place.read_bytes()

    # -- the files -----------------------------------------------------------------------------------------------------

    @property
    def _table(self) -> Path | None:
        """The table of `signcl subtitle`: the file itself, or the table next to it; None if there is none."""
        table = self.path if self.path.suffix.lower() == ".tsv" else self.path.with_suffix(".tsv")
        return table if table.is_file() else None

    def _version(self) -> str:
        return hashlib.sha256(self.path.read_bytes()).hexdigest()[:16]

    def _state(self) -> dict[str, Any]:
        rows = [
            {"start": cue.start, "stop": cue.stop, "text": cue.text, "confidence": cue.confidence}
            for cue in self._cues()
        ]
        film = None if self.film is None else self.film.name
        return {"cues": rows, "version": self._version(), "file": self.path.name, "film": film}

    def _cues(self) -> list[Cue]:
        """The sentences of the file with their data from the table, and the table's sentences without text."""
        known = [] if self._table is None else _read_table(self._table)
        if self._table == self.path:
            return sorted(known, key=lambda cue: (cue.start, cue.stop))
        read = [Cue(span.start / CLOCK, span.stop / CLOCK, str(span.token)) for span in self._spans()]
        rows: dict[str, list[Cue]] = {}
        for row in known:
            rows.setdefault(row.text, []).append(row)
        cues = [next((row for row in rows.get(cue.text, ()) if _is_row_of(row, cue)), cue) for cue in read]
        cues = [replace(one, start=cue.start, stop=cue.stop) for one, cue in zip(cues, read)]
        return sorted([*cues, *(cue for cue in known if not cue.text)], key=lambda cue: (cue.start, cue.stop))

    def _spans(self, tier: str = "sentence") -> tuple[Span, ...]:
        if self.path.suffix.lower() == ".eaf":
            tiers = read_document(self.path).tiers
            foreign = [name for name in tiers if name.rstrip("0123456789").rstrip() not in TIERS]
            if foreign:
                raise ValueError(
                    f"{self.path}: has the tiers {', '.join(foreign)}, which this page would lose; edit it in ELAN, or "
                    "convert its sentences to .srt first"
                )
            found = read_elan(self.path, clock=CLOCK, tier=tier) if tier in tiers else {}
        elif self.path.read_bytes().decode("utf-8", "replace").strip("\ufeff \r\n\t") in ("", "WEBVTT"):
            return ()
        else:
            found = read_subtitles(self.path, clock=CLOCK)
        return next(iter(found.values()), ())

    def _write(self, cues: Sequence[Cue], out: Path) -> None:
        name, suffix = out.stem, out.suffix.lower()
        spans = [Span(cue.text, round(cue.start * CLOCK), round(cue.stop * CLOCK)) for cue in cues if cue.text]
        if suffix == ".tsv":
            write_cues(out, Made(tuple(cues), (), CLOCK, 0), self.film or self.path)
        elif suffix == ".eaf":
            sure = [
                Span(f"{cue.confidence:.2f}", span.start, span.stop)
                for cue, span in zip([cue for cue in cues if cue.text], spans)
                if cue.confidence is not None
            ]
            signs = self._spans("sign") if self.path.suffix.lower() == ".eaf" else ()
            clips = None if self.film is None else {name: self.film}
            more = {"confidence": sure, "sign": signs}
            write_elan(out.parent, {name: spans}, fps=CLOCK, tier="sentence", clips=clips, file=out, more=more)
        else:
            write_subtitles(out.parent, {name: spans}, suffix=suffix, fps=CLOCK, file=out)

    @staticmethod
    def _wanted(one: Mapping[str, Any], number: int) -> Cue:
        start, stop = float(one["start"]), float(one["stop"])
        if not 0 <= start < stop <= LATEST or round(start * CLOCK) == round(stop * CLOCK):
            raise ValueError(f"sentence {number}: needs 0 <= start < stop in seconds, got {start:g} and {stop:g}")
        text = unicodedata.normalize("NFC", " ".join(str(one["text"]).split()))
        if len(text) > LONGEST:
            raise ValueError(f"sentence {number}: at most {LONGEST} characters are accepted, got {len(text)}")
        if text:
            check_cell(text, f"sentence {number}")
        return Cue(round(start, 3), round(stop, 3), text)


def _key(cue: Cue) -> tuple[int, int, str]:
    return round(cue.start * CLOCK), round(cue.stop * CLOCK), cue.text


def _is_row_of(row: Cue, cue: Cue) -> bool:
    """Whether a row of the table is this subtitle: the table has exact times, the file has times of whole frames."""
    return row.text == cue.text and max(abs(row.start - cue.start), abs(row.stop - cue.stop)) <= FRAME


def _read_table(table: Path) -> list[Cue]:
    """The rows of a table written by `write_cues`; empty for other tables."""
    if table.read_text(encoding="utf-8", errors="replace").split("\n", 1)[0].split("\t")[:3] != [
        "start",
        "stop",
        "text",
    ]:
        return []
    found = []
    for row in read_table(table, ("start", "stop")):
        cells = row.cells
        try:
            cue = Cue(float(cells["start"]), float(cells["stop"]), cells.get("text", ""))
            sure, likely = (float(cells[name]) if cells.get(name) else None for name in ("confidence", "probability"))
        except ValueError:
            raise row.error("start, stop, confidence and probability need numbers") from None
        outside = {"true": True, "false": False}.get(cells.get("out_of_domain", ""))
        found.append(replace(cue, confidence=sure, probability=likely, out_of_domain=outside))
    return found
