"""Reads and writes the committed numbers: `runs.csv`, `predictions.tsv.gz`, `measurements.json.gz` in a results folder.

Every table, interval and picture is computed from these numbers, whether runs were made just now or long ago on another
machine. `--from-results` only skips the training. A run is identified by its job: the content of its recipe, its seed
and what it starts from (`paper.measured.key_of`). The version of the code is a column, not part of the job.
`paper/results.md` explains the columns.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signcl.data.files import write_bytes, write_text

if TYPE_CHECKING:
    from paper.jobs import Fit, Place

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["COLUMNS", "SCORES", "Missing", "Store", "packed", "plain", "unpacked"]

SCORES = ("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "chrf", "exact_match", "wer", "retrieval")
"""Scores of a split; empty if a system has no such score."""
WHAT = ("job", "recipe", "changes", "start", "features", "corpus", "seed")
DENSITY = ("sdr", "sdr_low", "sdr_high", "sdr_shuffled", "intra", "inter", "norm", "signs")
FOUND = ("map", "one_nn", "hubness", "nearest_ratio", "auc", "d_prime")
TRAINING = ("clips", "parameters", "steps", "seconds", "with_negative")
MADE = ("reader", "tokenize", "content", "run", "code")
COLUMNS = (*WHAT, *SCORES, *(f"dev_{name}" for name in SCORES), *DENSITY, *FOUND, *TRAINING, *MADE)
"""Columns of `runs.csv`, which has one row per run."""
WORDS = {"job", "recipe", "changes", "start", "features", "corpus", "reader", "tokenize", "content", "run", "code"}
WHOLE = {"seed", "signs", "clips", "parameters", "steps"}
DIGITS = 8
"""Significant digits of every stored number. Tables are computed from stored numbers, without other rounding."""

Row = dict[str, Any]
Answers = dict[str, tuple[str, str]]
"""Name of a clip -> (reference, hypothesis)"""


class Missing(RuntimeError):
    """Numbers needed for a table are not among the committed ones."""


@dataclass
class _Numbers:
    """Content of the three files."""

    rows: dict[str, Row] = field(default_factory=dict)
    """By job."""
    answers: dict[str, Answers] = field(default_factory=dict)
    """By job."""
    measured: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By job or corpus: {"of": its run or content, "values": {name and arguments: value}}."""


class Store:
    """The numbers of one corpus.

    Args:
        folder: folder of the files, such as `paper/results/synthetic`.
        reading: train and measure nothing; numbers that are not in the files raise `Missing`.
        only_missing: do not repeat runs whose numbers are in the files (`paper.measured.committed`).
    """

    def __init__(self, folder: Path, *, reading: bool = False, only_missing: bool = False) -> None:
        self.folder, self.reading, self.only_missing = folder, reading, only_missing
        self.elsewhere: dict[str, tuple[Fit, Place]] = {}
        """Run folder name -> a run whose numbers were taken from the files and whose folder is not on this machine."""
        self._all = _read(folder)
        self._own = _Numbers()
        self._used: dict[str, None] = {}

    def __contains__(self, job: str) -> bool:
        return job in self._all.rows

    def row(self, job: str) -> Row:
        """The row of a run. Adds its code version to `codes`.

        Raises:
            Missing: no such run.
        """
        if job not in self._all.rows:
            raise Missing(f"the run {job} is not in {self.folder}")
        self._used[job] = None
        return self._all.rows[job]

    def answers(self, job: str) -> Answers:
        """The answers of a run on test; empty for a system without answers."""
        return self._all.answers.get(job, {})

    def codes(self) -> list[str]:
        """Code versions of the runs that were read."""
        return sorted({self._all.rows[job]["code"] for job in self._used})

    def value(self, whose: str, name: str, arguments: Mapping[str, Any]) -> Any:
        """A stored measurement.

        Args:
            whose: a job or a corpus.
            name: name of the measurement.
            arguments: its arguments.

        Raises:
            Missing: no such measurement, or it belongs to an earlier run of this job.
        """
        kept = self._all.measured.get(whose, {"of": "", "values": {}})
        label = _label(name, arguments)
        if label not in kept["values"] or (whose in self and kept["of"] != self._all.rows[whose]["run"]):
            raise Missing(f"{label} of {whose} is not in {self.folder}")
        return kept["values"][label]

    def record(self, row: Row, answers: Answers) -> None:
        """Adds a run or replaces it; measurements of the replaced run are deleted."""
        row = {name: _rounded(row.get(name)) for name in COLUMNS}
        for numbers in (self._all, self._own):
            _put(numbers, row, answers)

    def keep(self, whose: str, of: str, name: str, arguments: Mapping[str, Any], value: Any) -> Any:
        """Adds a measurement; returns the value in the form in which it will be read back.

        Args:
            of: the folder name of the run, or the content hash of the corpus; values of another `of` are invalid.
        """
        value = plain(value)
        for numbers in (self._all, self._own):
            _measure(numbers, whose, of, {_label(name, arguments): value})
        return value

    def write(self) -> None:
        """Merges new numbers into the files under a lock, so parallel commands on one folder lose nothing."""
        if self.reading or not (self._own.rows or self._own.measured):
            return
        with _alone(self.folder):
            self._all = whole = _read(self.folder)
            for job, row in self._own.rows.items():
                _put(whole, row, self._own.answers.get(job, {}))
            for whose, kept in self._own.measured.items():
                _measure(whole, whose, kept["of"], kept["values"])
            write_text(self.folder / "runs.csv", _csv(whole.rows))
            write_bytes(self.folder / "predictions.tsv.gz", packed(_tsv(whole.answers)))
            write_bytes(self.folder / "measurements.json.gz", packed(_json(whole.measured)))


def plain(value: Any) -> Any:
    """Converts a value to JSON types: arrays and tuples to lists, numbers to eight digits.

    Raises:
        TypeError: a type that cannot be converted.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(own) for key, own in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, str | bool | None):
        return value
    if isinstance(value, float | int):
        return _rounded(value)
    if isinstance(value, Iterable):
        return [plain(own) for own in value]
    raise TypeError(f"a measurement is made of numbers, texts, lists and dictionaries, got {type(value).__name__}")


def _rounded(value: Any) -> Any:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _label(name: str, arguments: Mapping[str, Any]) -> str:
    return " ".join([name, *(f"{key}={json.dumps(arguments[key], ensure_ascii=False)}" for key in sorted(arguments))])


def _put(numbers: _Numbers, row: Row, answers: Answers) -> None:
    job = row["job"]
    if numbers.measured.get(job, {"of": row["run"]})["of"] != row["run"]:
        del numbers.measured[job]
    numbers.rows[job] = row
    numbers.answers.pop(job, None)
    if answers:
        numbers.answers[job] = answers


def _measure(numbers: _Numbers, whose: str, of: str, values: Mapping[str, Any]) -> None:
    kept = numbers.measured.get(whose)
    if kept is None or kept["of"] != of:
        kept = numbers.measured[whose] = {"of": of, "values": {}}
    kept["values"].update(values)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Locks a folder so that one command at a time writes numbers; others wait.

    The folder itself is locked, because a lock file would be committed with the numbers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if fcntl is None:  # no locking on Windows
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _read(folder: Path) -> _Numbers:
    """Reads the three files; numbers of missing files are empty.

    Raises:
        ValueError: a file is damaged or has another format.
    """
    numbers = _Numbers()
    if (folder / "runs.csv").is_file():
        for row in _rows(folder / "runs.csv"):
            numbers.rows[row["job"]] = row
    if (folder / "predictions.tsv.gz").is_file():
        for cells in csv.reader(io.StringIO(unpacked(folder / "predictions.tsv.gz"), newline=""), dialect="excel-tab"):
            if len(cells) != len(PREDICTED):
                raise ValueError(f"{folder / 'predictions.tsv.gz'}: a row has {', '.join(PREDICTED)}, got {cells}")
            job, name, reference, hypothesis = cells
            numbers.answers.setdefault(job, {})[name] = (reference, hypothesis)
        numbers.answers.pop("job", None)
    if (folder / "measurements.json.gz").is_file():
        try:
            numbers.measured = json.loads(unpacked(folder / "measurements.json.gz"))
        except json.JSONDecodeError as error:
            raise ValueError(f"{folder / 'measurements.json.gz'} is damaged: {error}; take it from git") from None
    return numbers


def _rows(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if lacking := [name for name in ("job", "run", "code") if name not in (reader.fieldnames or ())]:
            raise ValueError(f"{path} has no column {', '.join(lacking)}; it was not written by these scripts")
        for number, cells in enumerate(reader, start=2):
            try:
                yield {name: _cell(name, cells.get(name) or "") for name in COLUMNS}
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}; take the file from git") from None


def _cell(name: str, text: str) -> Any:
    if name in WORDS:
        return text
    return None if not text else int(text) if name in WHOLE else float(text)


def _csv(rows: Mapping[str, Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for job in sorted(rows):
        writer.writerow([_shown(rows[job][name]) for name in COLUMNS])
    return text.getvalue()


def _shown(value: Any) -> str:
    return "" if value is None else f"{value:.{DIGITS}g}" if isinstance(value, float) else str(value)


PREDICTED = ("job", "name", "reference", "hypothesis")


def _tsv(answers: Mapping[str, Answers]) -> str:
    """One row per answer, sorted by clip, which compresses best."""
    text = io.StringIO()
    writer = csv.writer(text, dialect="excel-tab", lineterminator="\n")
    writer.writerow(PREDICTED)
    writer.writerows(
        sorted(
            ((job, name, *pair) for job, own in answers.items() for name, pair in own.items()),
            key=lambda cells: (cells[1], cells[2], cells[0]),
        )
    )
    return text.getvalue()


def _json(measured: Mapping[str, dict[str, Any]]) -> str:
    """Sorts names alphabetically; each value keeps its order, because a table may depend on it."""
    ordered = {
        whose: {"of": kept["of"], "values": dict(sorted(kept["values"].items()))}
        for whose, kept in sorted(measured.items())
    }
    return json.dumps(ordered, ensure_ascii=False, separators=(",", ":")) + "\n"


def packed(text: str) -> bytes:
    """Compresses a text; equal texts give equal bytes at any time."""
    return gzip.compress(text.encode(), mtime=0)


def unpacked(path: Path) -> str:
    """The text of a compressed file.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        return gzip.decompress(path.read_bytes()).decode()
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise ValueError(f"{path} is damaged: {error}; take it from git") from None
