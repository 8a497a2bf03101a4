"""Reading label tables (TSV, CSV with any one-character delimiter, plain or gzip) row by row, with file and line in
every complaint. Used by the corpus readers; knows nothing about signs.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["OnError", "Row", "find_table", "has_words", "read_table", "stop"]

OnError = Callable[[ValueError], None]
"""What to do with a broken row: `stop` raises; `signcl corpus check` passes a function that collects."""


def stop(error: ValueError) -> None:
    """The default `OnError`: the first broken row ends the reading."""
    raise error


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    path: Path
    line: int
    """Counted from 1, the header is line 1."""
    cells: dict[str, str]
    """Stripped cell of each column of the header; "" where the line is too short."""

    def error(self, what: str) -> ValueError:
        """A complaint that says where: `train.tsv:17: what`."""
        return ValueError(f"{self.path}:{self.line}: {what}")


def find_table(*candidates: Path) -> Path | None:
    """The first of the files that exists, plain or with `.gz` behind its name; None where there is none."""
    for candidate in candidates:
        for path in (candidate, candidate.with_name(candidate.name + ".gz")):
            if path.is_file():
                return path
    return None


def has_words(text: str) -> bool:
    """Whether a sentence holds anything but punctuation and spaces."""
    return any(character.isalnum() for character in text)


def read_table(
    path: Path, required: Sequence[str], *, delimiter: str = "\t", quoted: bool = False, on_error: OnError = stop
) -> Iterator[Row]:
    """The rows of a table with a header line.

    Empty lines are passed over. A byte order mark and Windows line ends are taken off.

    Args:
        path: a UTF-8 file; gzip where the name ends in `.gz`.
        required: columns that the header must have.
        delimiter: one character.
        quoted: a cell may stand in double quotes, doubled inside, as spreadsheets write it. Otherwise a cell ends at
            the delimiter and nowhere else.
        on_error: called for each row that has more cells than the header.

    Raises:
        ValueError: not UTF-8, no header line, or a required column missing; these cannot be passed over.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8-sig", newline="" if quoted else "\n") as file:
        try:
            lines = _quoted(file, delimiter) if quoted else _plain(file, delimiter)
            _, header = next(lines, (1, []))
            missing = [column for column in required if column not in header]
            if missing:
                raise ValueError(
                    f"{path}:1: needs the columns {', '.join(required)} in its header line, "
                    f"{', '.join(missing)} missing; found {', '.join(filter(None, header)) or 'nothing'}"
                )
            for line, cells in lines:
                if len(cells) > len(header):
                    on_error(
                        ValueError(
                            f"{path}:{line}: has {len(cells)} cells where the header has {len(header)}; "
                            f"take the delimiter {delimiter!r} out of the text"
                        )
                    )
                    continue
                cells += [""] * (len(header) - len(cells))
                yield Row(path, line, dict(zip(header, cells, strict=True)))
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{path}: must be UTF-8 text ({error.reason} at byte {error.start}); re-encode it"
            ) from None
        except (gzip.BadGzipFile, EOFError) as error:
            raise ValueError(f"{path}: cannot be unpacked ({error}); copy or download it again") from None


def _plain(file: Iterable[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Line number and stripped cells of each line that is not empty."""
    for line, text in enumerate(file, start=1):
        text = text.rstrip("\r\n")
        if text.strip():
            yield line, [cell.strip() for cell in text.split(delimiter)]


def _quoted(file: Iterable[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(file, delimiter=delimiter)
    for cells in reader:
        if any(cells):
            yield reader.line_num, [cell.strip() for cell in cells]
