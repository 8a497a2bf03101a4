"""Reads sentences from files in common formats (lines, `id|text`, TSV, CSV, JSON, JSONL; also gzip) and aligns them.

The result says how each file was read. Ambiguous content is an error with file, line and what to do.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, Literal

from signcl.data.files import read_bytes
from signcl.data.json_files import parse_json

__all__ = ["Missing", "Role", "Sentences", "align", "read_sentences"]

Role = Literal["hypothesis", "reference", "training", "gloss hypothesis", "gloss reference"]
Missing = Literal["refuse", "empty", "drop"]

_OF_HYPOTHESES = ("hypothesis", "hypotheses", "hyp", "prediction", "predictions", "predicted", "pred", "output", "mt")
_OF_REFERENCES = ("reference", "references", "ref", "target", "gold", "ground_truth", "label")
_TEXTS = ("text", "translation", "sentence", "raw-text", "raw_text", "caption", "transcript")
_GLOSSES = ("gloss", "glosses", "orth", "annotation")
_IDS: tuple[str, ...] = ("name", "sentence_name", "sentence_id", "id", "sample_id", "clip", "clip_id", "utt_id", "key")
_IDS += (
    "utterance_id",
    "uid",
    "segment",
    "segment_id",
    "seg_id",
    "vid",
    "video",
    "video_name",
    "video_id",
    "file",
    "filename",
    "path",
)
TEXT_COLUMNS: dict[str, tuple[tuple[str, ...], ...]] = {
    "hypothesis": (_OF_HYPOTHESES, _TEXTS),
    "reference": (_OF_REFERENCES, _TEXTS),
    "training": (_OF_REFERENCES, _TEXTS),
    "gloss hypothesis": (_OF_HYPOTHESES, _GLOSSES, ("text",)),
    "gloss reference": (_GLOSSES, _OF_REFERENCES, ("text",)),
}
"""Columns that may hold the sentences, as groups in order of preference; two columns of one group are ambiguous."""


@dataclass(frozen=True)
class Sentences:
    """The sentences of one file, in order."""

    path: Path
    how: str
    """How the file was read, as text."""
    texts: list[str]
    names: list[str] | None = None
    """Unique ids of the sentences; None if the file has none."""
    own_references: list[str] | None = None
    """References from a column of a predictions file."""
    notes: list[str] = field(default_factory=list)
    """Notes for the user, with counts."""


def read_sentences(
    path: str | Path, role: Role = "hypothesis", *, text_column: str | None = None, id_column: str | None = None
) -> Sentences:
    """Read the sentences of a file and detect its format.

    - `.csv`, `.tsv` and any file whose first line is a header of known columns: a table, separated by `,` `;` tab or
      `|`.
    - `.jsonl`, `.ndjson`, `.json`: objects with these keys; a list of strings; one object of id -> text.
    - lines that all begin with an id and `|`, or an id and a tab: `id|text`.
    - everything else: one sentence per line, including empty lines.

    Args:
        path: UTF-8, plain or gzip.
        role: which sentences to read: from the columns `hypothesis` or `text` for hypotheses, `reference` or `text` for
            references.
        text_column: the column of the sentences, if it has another name.
        id_column: the column of the ids, if it has another name.

    Raises:
        ValueError, OSError: an unreadable file; names the line.
    """
    path = Path(path)
    if path.is_dir():
        made = sorted(path.glob("predictions.*.tsv"))
        hint = f"; give {made[0]}" if made else ""
        raise ValueError(f"{path}: a file of sentences is needed, but this is a folder{hint}")
    content = _text_of(path)
    kind = path.name.lower().removesuffix(".gz").rpartition(".")[2]
    lines = _lines(content)
    if not any(line.strip() for line in lines):
        raise ValueError(f"{path}: holds no sentence; an empty file cannot be scored")
    first = next(line for line in lines if line.strip()).strip()
    columns = (text_column, id_column)
    if kind == "json":
        return _from_json(path, content, role, columns)
    if kind in ("jsonl", "ndjson") or (first.startswith("{") and _is_json(first)):
        return _from_jsonl(path, lines, role, columns)
    delimiter = _delimiter(lines, kind, role, columns)
    if delimiter is not None:
        return _from_table(path, content, lines, delimiter, role, columns)
    if text_column or id_column:
        given = text_column or id_column
        raise ValueError(f"{path}:1: has no header line with the column {given}; its first line is {first[:60]!r}")
    if kind == "csv":
        wanted = ", ".join(name for group in TEXT_COLUMNS[role] for name in group[:3])
        raise ValueError(
            f"{path}:1: a CSV needs a header line with a column of sentences ({wanted}, ...), got {first[:60]!r}; "
            f"name it with --text-column, or save plain lines as .txt"
        )
    return _from_lines(path, lines)


def _text_of(path: Path) -> str:
    raw = read_bytes(path)
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path}: cannot be unpacked ({error}); copy or download it again") from None
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ValueError(f"{path}: is UTF-16, but UTF-8 is needed; save it as UTF-8 text")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{path}:{line}: must be UTF-8 text ({error.reason} at byte {error.start}); re-encode it"
        ) from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise ValueError(f"{path}:{line}: holds a NUL character, so it is not text or it is damaged; save it again")
    return text


def _lines(text: str) -> list[str]:
    """Split only at \\n, \\r\\n or \\r, not at Unicode separators, which may occur in a sentence."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines[:-1] if lines and lines[-1] == "" else lines


def _is_json(line: str) -> bool:
    try:
        return isinstance(parse_json(line), dict)
    except ValueError:
        return False


# -- tables ------------------------------------------------------------------------------------------------------------


def _delimiter(lines: list[str], kind: str, role: Role, columns: tuple[str | None, str | None]) -> str | None:
    """The delimiter of a table, if the first line is a header; else None."""
    known = {name for group in TEXT_COLUMNS[role] for name in group} | {name for name in columns if name}
    named = {name.lower() for name in known}
    others = {
        *_IDS,
        *_GLOSSES,
        *_OF_REFERENCES,
        *_OF_HYPOTHESES,
        "signer",
        "speaker",
        "start",
        "end",
        "index",
        "length",
    }
    header = next(line for line in lines if line.strip())
    for delimiter in ("\t", ",", ";", "|"):
        cells = [cell.strip().strip('"').lower() for cell in header.split(delimiter)]
        if named.intersection(cells) and (len(cells) > 1 and others.intersection(cells)):
            return delimiter
        if any(columns) and named.intersection(cells):
            return delimiter
        if kind in ("csv", "tsv") and named.intersection(cells):
            return delimiter
        # a header with only known cells, or a .csv or .tsv, but without a column of sentences: read it as a table, so
        # that the error lists its columns
        if len(cells) > 1 and len(others.intersection(cells)) == len(set(cells)):
            return delimiter
        if len(cells) > 2 and len(others.intersection(cells)) > 1:
            return delimiter
    return None


def _from_table(
    path: Path, content: str, lines: list[str], delimiter: str, role: Role, columns: tuple[str | None, str | None]
) -> Sentences:
    said = {"\t": "TSV", ",": "CSV", ";": "CSV with ;", "|": "table with |"}[delimiter]
    quoted = delimiter in (",", ";")
    notes = []
    rows: list[tuple[int, list[str]]]
    if quoted:
        reader = csv.reader(
            io.StringIO(content.replace("\r\n", "\n").replace("\r", "\n")), delimiter=delimiter, strict=True
        )
        try:
            rows = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if any(cells)]
        except csv.Error as error:
            raise ValueError(
                f"{path}:{reader.line_num}: broken quotes ({error}); write a quote inside a cell twice"
            ) from None
    else:
        rows = [
            (number, [cell.strip() for cell in line.split(delimiter)])
            for number, line in enumerate(lines, start=1)
            if line.strip()
        ]
    header = rows[0][1]
    twice = [name for name, count in Counter(name.lower() for name in header if name).items() if count > 1]
    if twice:
        raise ValueError(f"{path}:{rows[0][0]}: has the column {twice[0]} twice; keep one")
    text_at, id_at = _columns_of(path, header, role, columns, f"{path}:{rows[0][0]}")
    reference_at = None
    if role in ("hypothesis", "gloss hypothesis"):
        low = [name.lower() for name in header]
        reference_at = next((low.index(name) for name in _OF_REFERENCES if name in low), None)
        if reference_at == text_at:
            reference_at = None
    body = rows[1:]
    if not body:
        raise ValueError(f"{path}: has a header line and no row under it")
    for number, cells in body:
        if len(cells) != len(header):
            raise ValueError(
                f"{path}:{number}: has {len(cells)} cells where the header has {len(header)}; "
                f"take the delimiter {delimiter!r} out of the text"
                + ("" if quoted else ", or save the table as CSV with quotes")
            )
    texts = [cells[text_at] for _, cells in body]
    if not quoted:
        marked = sum(len(text) > 1 and text[0] == text[-1] == '"' for text in texts)
        if marked:
            notes.append(
                f"{marked} sentences are in double quotes, which are kept; if a program added them, "
                f"save the table as .csv with commas"
            )
    names = None
    if id_at is not None:
        names = _unique(path, [(number, cells[id_at]) for number, cells in body], header[id_at], role)
    how = f"{said}, sentences from `{header[text_at]}`, " + (
        f"ids from `{header[id_at]}`" if id_at is not None else "no ids"
    )
    own = [cells[reference_at] for _, cells in body] if reference_at is not None else None
    return Sentences(path, how, texts, names, own, notes)


def _columns_of(
    path: Path, header: Sequence[str], role: Role, columns: tuple[str | None, str | None], where: str
) -> tuple[int, int | None]:
    """Indices of the columns of sentences and ids."""
    low = [name.lower() for name in header]
    places = []
    for wanted, flag in zip(columns, ("--text-column", "--id-column")):
        if wanted is not None and wanted.lower() not in low:
            raise ValueError(f"{where}: has no column {wanted} ({flag}); found {', '.join(filter(None, header))}")
        places.append(None if wanted is None else low.index(wanted.lower()))
    text_at, id_at = places
    if text_at is None:
        for group in TEXT_COLUMNS[role]:
            found = [name for name in group if name in low]
            if len(found) > 1:
                raise ValueError(
                    f"{where}: {' and '.join(found)} may both hold the sentences of the {role}; say which with "
                    f"--text-column"
                )
            if found:
                text_at = low.index(found[0])
                break
    if text_at is None:
        wanted_names = ", ".join(name for group in TEXT_COLUMNS[role] for name in group[:3])
        raise ValueError(
            f"{where}: needs a column of sentences for the {role} ({wanted_names}, ...), found "
            f"{', '.join(filter(None, header)) or 'nothing'}; say which with --text-column"
        )
    if id_at is None:
        id_at = next((low.index(name) for name in _IDS if name in low and low.index(name) != text_at), None)
    return text_at, id_at


def _unique(path: Path, found: list[tuple[int, str]], column: str, role: Role) -> list[str] | None:
    """The ids; ValueError for duplicate or empty ones."""
    first: dict[str, int] = {}
    for line, name in found:
        if role == "training":
            continue  # training sentences are never aligned
        if not name:
            raise ValueError(f"{path}:{line}: has an empty id in {column}; give each sentence its own")
        if name in first:
            raise ValueError(
                f"{path}:{line}: the id {name} is already in line {first[name]}; each sentence needs a unique "
                f"id (--id-column names another column)"
            )
        first[name] = line
    return None if role == "training" else list(first)


# -- JSON --------------------------------------------------------------------------------------------------------------


def _from_jsonl(path: Path, lines: list[str], role: Role, columns: tuple[str | None, str | None]) -> Sentences:
    objects = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            objects.append((number, parse_json(line)))
        except ValueError as error:
            raise ValueError(
                f"{path}:{number}: is not a JSON object ({error}); JSONL has one object per line"
            ) from None
    return _from_objects(path, objects, "JSONL", role, columns, "")


def _from_json(path: Path, content: str, role: Role, columns: tuple[str | None, str | None]) -> Sentences:
    try:
        found = parse_json(content)
    except ValueError as error:
        raise ValueError(f"{path}: is not JSON ({error}); one object per line is JSONL, save it as .jsonl") from None
    if isinstance(found, dict) and found and all(isinstance(value, str) for value in found.values()):
        return Sentences(path, "JSON object of id -> text", list(found.values()), list(found))
    if isinstance(found, list) and found and all(isinstance(value, str) for value in found):
        return Sentences(path, "JSON list of sentences, no ids", found)
    if isinstance(found, list):
        return _from_objects(path, list(enumerate(found, start=1)), "JSON list", role, columns, "item ")
    raise ValueError(
        f"{path}: needs a list of objects, a list of sentences, or one object of id -> text; got {type(found).__name__}"
        f"{' with other values than text' if isinstance(found, dict) else ''}"
    )


def _from_objects(
    path: Path,
    objects: list[tuple[int, Any]],
    said: str,
    role: Role,
    columns: tuple[str | None, str | None],
    unit: str,
) -> Sentences:
    for number, one in objects:
        if not isinstance(one, dict):
            raise ValueError(
                f"{path}:{unit}{number}: needs an object with a key for the sentence, got {type(one).__name__}"
            )
    if not objects:
        raise ValueError(f"{path}: holds no sentence")
    number, first = objects[0]
    keys = list(first)
    text_at, id_at = _columns_of(path, keys, role, columns, f"{path}:{unit}{number}")
    text, identity = keys[text_at], None if id_at is None else keys[id_at]
    own = None
    if role in ("hypothesis", "gloss hypothesis"):
        own = next((key for key in keys if key.lower() in _OF_REFERENCES and key != text), None)
    texts, names, references = [], [], []
    for number, one in objects:
        for key in (text, identity):
            if key is not None and key not in one:
                raise ValueError(f"{path}:{unit}{number}: has no `{key}`, which line {objects[0][0]} has")
        if not isinstance(one[text], str):
            raise ValueError(
                f"{path}:{unit}{number}: `{text}` must be a text, got {type(one[text]).__name__}; one sentence each"
            )
        texts.append(one[text])
        if identity is not None:
            if not isinstance(one[identity], str | int) or isinstance(one[identity], bool):
                raise ValueError(f"{path}:{unit}{number}: the id `{identity}` must be a text or a whole number")
            names.append((number, str(one[identity])))
        if own is not None:
            references.append(one.get(own))
    how = f"{said}, sentences from `{text}`, " + (f"ids from `{identity}`" if identity is not None else "no ids")
    beside = [one for one in references if isinstance(one, str)]
    return Sentences(
        path,
        how,
        texts,
        _unique(path, names, identity, role) if identity is not None else None,
        beside if own is not None and len(beside) == len(texts) else None,
    )


# -- lines -------------------------------------------------------------------------------------------------------------

_NAMED = {"|": re.compile(r"([^\s|]+)\|([^|]*)"), "\t": re.compile(r"([^\s]+)\t([^\t]*)")}


def _from_lines(path: Path, lines: list[str]) -> Sentences:
    filled = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    for mark, shape in _NAMED.items():
        matches = [(number, shape.fullmatch(line.strip("\r\n"))) for number, line in filled]
        fitting = sum(match is not None for _, match in matches)
        if not fitting or (fitting < 0.5 * len(filled)) or (fitting == 1 and len(filled) > 1):
            continue
        for number, match in matches:
            if match is None:
                raise ValueError(
                    f"{path}:{number}: has no id before {mark!r}, or more than one {mark!r}, where {fitting} of "
                    f"{len(filled)} lines are id{'|' if mark == '|' else '<tab>'}text; fix this line, or save the "
                    f"file as CSV with columns id and text"
                )
        pairs = [(number, match) for number, match in matches if match is not None]
        names = _unique(path, [(number, match[1]) for number, match in pairs], "its first part", "hypothesis")
        how = f"lines of id{'|' if mark == '|' else '<tab>'}text"
        return Sentences(path, how, [match[2].strip() for _, match in pairs], names)
    tabs = next((number for number, line in filled if "\t" in line.strip()), None)
    if tabs is not None:
        raise ValueError(
            f"{path}:{tabs}: holds a tab, but the file has no header line with known columns and not every line is "
            f"id<tab>text; give the table a header such as id<tab>text"
        )
    return Sentences(path, "plain lines, no ids", [line.strip() for line in lines])


# -- alignment ---------------------------------------------------------------------------------------------------------


def _by_file_name(said: dict[str, str], true: Sequence[str]) -> dict[str, str] | None:
    """The sentences of `clips/a.mp4` under the id `a` of a reference; None if that is ambiguous or matches nothing."""
    stems = {name: PurePath(name).stem for name in said}
    known = set(true)
    if not all(PurePath(name).suffix for name in said):  # ids such as `test/a` may belong to another split
        return None
    if len(set(stems.values())) < len(said) or not known & set(stems.values()):
        return None
    return {stems[name] if stems[name] in known else name: text for name, text in said.items()}


def align(
    systems: Sequence[Sentences], references: Sentences, *, missing: Missing = "refuse"
) -> tuple[list[str] | None, list[list[str]], list[str], list[str]]:
    """Align the sentences of every system with the references, by id if both have ids, else by line.

    Args:
        systems: files of hypotheses.
        references: the file of references; its order is kept.
        missing: references without a hypothesis: an error, scored as an empty hypothesis, or dropped for all systems.

    Returns:
        Names (None without ids), the hypotheses of each system, the references, and notes on what was left out.

    Raises:
        ValueError: different numbers of lines, or missing or unmatched ids.
    """
    notes: list[str] = []
    columns: list[list[str | None]] = []
    true = references.names
    for one in systems:
        if one.names is None or true is None:
            if len(one.texts) != len(references.texts):
                who = "neither has" if one.names is None and true is None else "only one of them has"
                raise ValueError(
                    f"{one.path} has {len(one.texts)} sentences and {references.path} {len(references.texts)}; {who} "
                    f"ids, so "
                    f"they are aligned by line and the numbers must agree"
                )
            if (one.names is None) != (true is None):
                named, bare = (references, one) if one.names is None else (one, references)
                notes.append(
                    f"{bare.path.name} has no ids ({named.path.name} has): aligned by line, in the order of the files"
                )
            columns.append(list(one.texts))
            continue
        said = dict(zip(one.names, one.texts))
        if not any(name in said for name in true) and (renamed := _by_file_name(said, true)):
            said = renamed
            notes.append(f"{one.path.name}: its ids are files; matched by their names without folder and ending")
        absent = [name for name in true if name not in said]
        extra = [name for name in said if name not in set(true)] if len(absent) or len(said) > len(true) else []
        if len(absent) == len(true):
            raise ValueError(
                f"{one.path} and {references.path} have no id in common: the first are {one.names[0]} and {true[0]}"
            )
        if absent and missing == "refuse":
            raise ValueError(
                f"{one.path} lacks {len(absent)} of the {len(true)} ids of {references.path}, first {absent[0]}; "
                f"add them, or give --missing empty (scored as wrong) or --missing drop (left out for every system)"
            )
        if absent:
            done = "scored as empty" if missing == "empty" else "left out for every system"
            notes.append(f"{one.path.name}: {len(absent)} of {len(true)} ids are missing, first {absent[0]}; {done}")
        if extra:
            notes.append(f"{one.path.name}: {len(extra)} ids match no reference and are ignored, first {extra[0]}")
        columns.append([said.get(name, "" if missing == "empty" else None) for name in true])
    kept = [i for i in range(len(references.texts)) if all(column[i] is not None for column in columns)]
    names = None if true is None else [true[i] for i in kept]
    return names, [[column[i] or "" for i in kept] for column in columns], [references.texts[i] for i in kept], notes
