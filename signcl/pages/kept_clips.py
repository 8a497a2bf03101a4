"""Stores clips whose signers have agreed, in a folder corpus that grows by one row at a time.

    FOLDER/clips/NAME.mp4     the video, written by the worker: only the pictures of the uploaded file
    FOLDER/train.tsv          name, path, text, signer: the table that `corpus: {name: folder}` reads
    FOLDER/consent.jsonl      for each clip: its name, the time, and the statement that the signer ticked

A row is written after its video, and the table is replaced as a whole, so a killed server leaves a readable corpus.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import threading
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from signcl.data.annotation.clip_files import check_cell
from signcl.data.annotation.plain_text import read_plain
from signcl.data.annotation.table_files import has_words
from signcl.data.corpora.folder import samples
from signcl.data.files import append_line, write_bytes, write_text

__all__ = ["FolderFull", "Keeper", "Wish"]

TABLE, CONSENT, LOCK = "train.tsv", "consent.jsonl", ".kept.lock"
COLUMNS = ("name", "path", "text", "signer")
LONGEST = {"text": 1000, "signer": 80}  # characters
STATEMENT = "This video may be kept in the corpus of this server and used to train and test translation."
"""What `consent=yes` means; the page shows it in the reader's language."""


class FolderFull(ValueError):
    """The folder holds as much as it may."""


@dataclass(frozen=True)
class Wish:
    """The texts to store with a video."""

    text: str
    signer: str = ""


@dataclass
class Keeper:
    """The folder; see the head of this file."""

    folder: Path
    most: float = math.inf
    """Most bytes of all files in `clips`, those of other servers included."""
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        """Check the folder before any clip arrives.

        Raises:
            ValueError, OSError: the folder cannot be written, or its table is not a valid corpus table.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise ValueError(f"--keep-in {self.folder}: this folder cannot be written")
        if self._table.is_file() and self._lines():
            self._header(self._lines())
            if len(self._lines()) > 1:
                samples(self.folder, "train")

    @property
    def _table(self) -> Path:
        return self.folder / TABLE

    def used(self) -> int:
        """Bytes of the files in `clips`."""
        clips = self.folder / "clips"
        with contextlib.suppress(FileNotFoundError), os.scandir(clips) as files:
            return sum(file.stat().st_size for file in files if file.is_file())
        return 0

    @property
    def full(self) -> bool:
        """Whether no clip can be stored."""
        return self.used() >= self.most

    def check_room(self, more: int = 1) -> None:
        """Raise `FolderFull` if a clip of this many bytes does not fit."""
        used = self.used()
        if used + more > self.most:
            room = f"{used / 1e6:.0f} of at most {self.most / 1e6:g} MB are used"
            raise FolderFull(f"this server keeps no more clips: {room} (--max-kept)")

    def check(self, texts: Mapping[str, str]) -> Wish:
        """Read the texts of a form.

        Raises:
            ValueError: no consent, no sentence, or a text that a table cannot hold.
        """
        if texts.get("consent") != "yes":
            raise ValueError("consent: a clip is kept only with the signer's consent, `consent=yes`")
        text, signer = (
            unicodedata.normalize("NFC", " ".join(texts.get(name, "").split())) for name in ("text", "signer")
        )
        if not has_words(text):
            raise ValueError("text: needs the sentence that is signed")
        for name, value in (("text", text), ("signer", signer)):
            if len(value) > LONGEST[name]:
                raise ValueError(f"{name}: at most {LONGEST[name]} characters are kept, got {len(value)}")
            if value:
                check_cell(value, name)
        return Wish(text, signer)

    def add(self, clip: Path, wish: Wish) -> str:
        """Store a video; everything is on disk when this returns.

        Returns:
            Its name in the corpus.

        Raises:
            FolderFull: it does not fit below the limit.
            OSError, ValueError: the clip cannot be written. In both cases nothing is kept.
        """
        now = datetime.now(UTC)
        name = f"kept-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"
        path = self.folder / "clips" / f"{name}.mp4"
        cells = {"name": name, "path": f"clips/{name}.mp4", "text": wish.text, "signer": wish.signer}
        content, consents = clip.read_bytes(), self.folder / CONSENT
        with self._alone():
            self.check_room(len(content))
            before = consents.stat().st_size if consents.is_file() else 0
            lines = self._lines() or ["\t".join(COLUMNS)]
            row = "\t".join(cells.get(column, "") for column in self._header(lines))
            try:
                write_bytes(path, content)
                consent = {"name": name, "time": now.isoformat(timespec="seconds"), "statement": STATEMENT}
                append_line(consents, json.dumps(consent, ensure_ascii=False).encode())
                write_text(self._table, "\n".join([*lines, row]) + "\n")
            except BaseException:
                path.unlink(missing_ok=True)
                if consents.is_file():
                    os.truncate(consents, before)
                raise
        return name

    def _lines(self) -> list[str]:
        """The lines of the table; empty if there is no table."""
        text = read_plain(self._table) if self._table.is_file() else ""
        return text.rstrip("\n").split("\n") if text.strip() else []

    def _header(self, lines: list[str]) -> list[str]:
        header = [cell.strip() for cell in lines[0].split("\t")]
        missing = [column for column in COLUMNS if column not in header]
        if missing:
            raise ValueError(
                f"{self._table}: needs the columns {', '.join(COLUMNS)} to take clips, {', '.join(missing)} missing"
            )
        return header

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Lock the folder, so that this server and others write to it one at a time."""
        with self._guard, (self.folder / LOCK).open("a") as lock:
            with contextlib.suppress(ImportError, OSError):  # Windows, or a file system without locks
                import fcntl

                fcntl.flock(lock, fcntl.LOCK_EX)
            yield
