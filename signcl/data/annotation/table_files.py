"""Reads label tables (TSV or CSV with any one-character delimiter, plain or gzip); errors name file and line.

Used by the corpus readers; not specific to signs.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from signcl.data.annotation.plain_text import read_plain
from signcl.data.progress import say

__all__ = ["OnError", "Row", "find_table", "has_words", "read_table", "stop"]

OnError = Callable[[ValueError], None]
"""What to do with a broken row: `stop` raises; `signcl corpus check` passes a function that collects."""

SEPARATORS = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "bars"}
QUOTED = re.compile(r'"([^"]|"")*"')  # a cell as quoted by spreadsheets


def stop(error: ValueError) -> None:
    """The default `OnError`: raises the error of the first broken row."""
    raise error


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    path: Path
    line: int
    """Line number; the header is line 1."""
    cells: dict[str, str]
    """Stripped cell of each column of the header; "" if the line is too short."""

    def error(self, what: str) -> ValueError:
        """An error with the position: `train.tsv:17: what`."""
        return ValueError(f"{self.path}:{self.line}: {what}")


def find_table(*candidates: Path) -> Path | None:
    """The first of the files that exists, plain or with `.gz` appended; None if none exists."""
    for candidate in candidates:
        for path in (candidate, candidate.with_name(candidate.name + ".gz")):
            if path.is_file():
                return path
    return None


def has_words(text: str) -> bool:
    """Whether a sentence contains anything but punctuation and spaces."""
    return any(character.isalnum() for character in text)


def read_table(
    path: Path, required: Sequence[str], *, delimiter: str = "\t", quoted: bool = False, on_error: OnError = stop
) -> Iterator[Row]:
    """Yields the rows of a table with a header line.

    Empty lines are skipped; byte order marks and the line ends of other systems are removed. Optional cells at the end
    of a row may be missing (editors cut trailing tabs); such rows are counted on stderr.

    Args:
        path: a UTF-8 file (or UTF-16 with a byte order mark); gzip if the name ends in `.gz`.
        required: columns that the header must have.
        delimiter: one character.
        quoted: cells may be in double quotes, doubled inside, as in spreadsheets. Otherwise a cell always ends at the
            delimiter; quotes are kept as text, and such cells are counted on stderr.
        on_error: called for each row that has more cells than the header, lacks a required cell, or contains a carriage
            return.

    Raises:
        ValueError: not text (see `read_plain`), no header line, a column missing or duplicated, a broken quote; these
            errors are always raised.
    """
    text = read_plain(path)
    lines = _quoted(text, delimiter, path) if quoted else _plain(text, delimiter)
    _, header = next(lines, (1, []))
    _check_header(path, header, required, delimiter)
    needed = max((header.index(column) + 1 for column in required), default=0)
    short: list[int] = []
    in_quotes: list[int] = []
    for line, cells in lines:
        wrong = _wrong_cells(header, cells, needed, delimiter)
        if wrong:
            on_error(ValueError(f"{path}:{line}: {wrong}"))
            continue
        if len(cells) < len(header):
            short.append(line)
            cells += [""] * (len(header) - len(cells))
        if not quoted and any(QUOTED.fullmatch(cell) for cell in cells):
            in_quotes.append(line)
        yield Row(path, line, dict(zip(header, cells, strict=True)))
    if short:
        say(f"{path}: {_lines(short)} fewer cells than the header; missing cells at the end count as empty")
    if in_quotes:
        say(
            f"{path}: {_lines(in_quotes)} cells in double quotes, which are read as part of "
            "the text; save the table without quotes if that is not intended"
        )


def _check_header(path: Path, header: list[str], required: Sequence[str], delimiter: str) -> None:
    twice = next((column for column in header if column and header.count(column) > 1), None)
    if twice is not None:
        raise ValueError(
            f"{path}:1: the column {twice!r} occurs {header.count(twice)} times in the header line; "
            "name each column once"
        )
    missing = [column for column in required if column not in header]
    if not missing:
        return
    hint = ""
    if any(column.strip('"') in required and column not in required for column in header):
        hint = "; the names are in double quotes: save the table without quotes"
    for other, name in SEPARATORS.items():
        if other != delimiter and any(
            set(required) <= {cell.strip().strip('"') for cell in column.split(other)} for column in header
        ):
            needed = SEPARATORS.get(delimiter, repr(delimiter))
            hint = f"; the line is separated by {name}, but {needed} are needed: save it with {needed}"
    raise ValueError(
        f"{path}:1: needs the columns {', '.join(required)} in its header line, "
        f"{', '.join(missing)} missing; found {', '.join(filter(None, header)) or 'nothing'}{hint}"
    )


def _wrong_cells(header: list[str], cells: list[str], needed: int, delimiter: str) -> str:
    """What is wrong with a row, or ""."""
    if any("\r" in cell for cell in cells):
        return "contains a carriage return; use the same line end in every line of the file"
    if len(cells) > len(header) and any(cells[len(header) :]):
        counts = f"has {len(cells)} cells where the header has {len(header)}"
        return f"{counts}; remove the delimiter {delimiter!r} from the text"
    if len(cells) < needed:
        lacking = ", ".join(header[len(cells) : needed])
        return f"has {len(cells)} cells where the header has {len(header)}; {lacking} missing"
    del cells[len(header) :]  # empty cells from trailing delimiters of a spreadsheet
    unnamed = next((cell for column, cell in zip(header, cells) if not column and cell), None)
    if unnamed is not None:
        return f"has {unnamed!r} in a column without a name; name the column in the header line or empty it"
    return ""


def _lines(numbers: list[int]) -> str:
    return f"line {numbers[0]} has" if len(numbers) == 1 else f"{len(numbers)} lines (the first is {numbers[0]}) have"


def _plain(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yields line number and stripped cells of each non-empty line; a cell with a carriage return is not stripped."""
    for line, row in enumerate(text.split("\n"), start=1):
        if row.strip():
            yield line, [cell if "\r" in cell else cell.strip() for cell in row.split(delimiter)]


def _quoted(text: str, delimiter: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        first = reader.line_num + 1  # a quoted cell may contain line ends; errors name the first line of the row
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise ValueError(
                f"{path}:{first}: is not well-formed quoted text ({error}); save the table again"
            ) from None
        if cells is None:
            return
        if any(cells):
            yield first, [cell.strip() for cell in cells]
