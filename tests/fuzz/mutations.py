"""Seeded random changes to the bytes of a file: blind changes for any file, and changes that know its format."""

from __future__ import annotations

import gzip
import io
import json
import random
import re
import struct
import zipfile
from collections.abc import Callable
from typing import Any

__all__ = ["FORMS", "mutate"]

NUMBERS = (
    *(
        "-1",
        "0",
        "1",
        "2147483648",
        "-9223372036854775809",
        "99999999999999999999",
        "1e400",
        "-1e400",
        "1e308",
        "1e-320",
    ),
    *(
        "NaN",
        "nan",
        "inf",
        "-inf",
        "Infinity",
        "0x10",
        "1_000",
        "010",
        "1:30",
        "0.5",
        "-0.0",
        "9" * 5000,
        "",
        "１２",
        "²",
    ),
)
WORDS = (
    *("", " ", "\0", "\ufeff", "\u2028", "\x85", "\r", "\t", "\n", '"', "'", "\\", "../../etc/passwd", "/etc/passwd"),
    *(
        "%00",
        "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
        "é",
        "e\u0301",
        "x" * 70_000,
        "<",
        "&x;",
    ),
    *(
        "|",
        ",",
        ";",
        ":",
        "-",
        "null",
        "true",
        "[",
        "{",
        "]",
        "}",
        "!!python/object:os.system",
        "&a",
        "*a",
        "<<",
        "CON",
    ),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 0.5, 2**31, 2**63, -(2**63) - 1, 10**30, 1e308, float("nan"), float("inf"), "", "x"),
    *("1", "nan", "../x", [], {}, [[]], {"": None}, [1], ["a"], [None], [[1, 2], [3]], {"a": 1}, "x" * 70_000),
)

Draw = random.Random


def mutate(draw: Draw, content: bytes, form: str) -> tuple[bytes, bool]:
    """Changes the bytes in one to three ways; also returns whether all were blind, which a checksum must notice."""
    changed, blind = content, True
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        makers = FORMS[form]
        if makers and draw.random() < 0.7:
            try:
                changed, blind = draw.choice(makers)(draw, changed), False
                continue
            except Exception:  # the changed content no longer has this format
                pass
        changed = draw.choice(BLIND)(draw, changed)
    return changed, blind


# -- any file ----------------------------------------------------------------------------------------------------------


def _place(draw: Draw, content: bytes) -> int:
    """Draws a position, often near the start or end of the file, where structure is."""
    size = len(content)
    if size > 200 and draw.random() < 0.5:
        return draw.choice((draw.randrange(100), size - 1 - draw.randrange(100)))
    return draw.randrange(size) if size else 0


def _flip(draw: Draw, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 8))):
        if changed:
            changed[_place(draw, content)] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _overwrite(draw: Draw, content: bytes) -> bytes:
    at, size = _place(draw, content), draw.choice((1, 2, 4, 8, 64))
    new = draw.choice((b"\0" * size, b"\xff" * size, draw.randbytes(size), b"\x7f" + b"\xff" * (size - 1)))
    return content[:at] + new + content[at + size :]


def _whole_number(draw: Draw, content: bytes) -> bytes:
    at, kind = _place(draw, content), draw.choice(("<I", ">I", "<Q", ">Q", "<H", ">H"))
    bits = 8 * struct.calcsize(kind)
    value = draw.choice((0, 1, 2**bits - 1, 2 ** (bits - 1) - 1, 2 ** (bits - 1), len(content), 10**4))
    return content[:at] + struct.pack(kind, min(value, 2**bits - 1)) + content[at + bits // 8 :]


def _truncate(draw: Draw, content: bytes) -> bytes:
    return content[: draw.choice((0, 1, len(content) - 1, draw.randrange(len(content) + 1)))]


def _stretch(draw: Draw, content: bytes) -> tuple[int, int]:
    at = _place(draw, content)
    return at, min(len(content), at + draw.choice((1, 4, 16, 64, 512, 4096)))


def _delete(draw: Draw, content: bytes) -> bytes:
    start, stop = _stretch(draw, content)
    return content[:start] + content[stop:]


def _duplicate(draw: Draw, content: bytes) -> bytes:
    start, stop = _stretch(draw, content)
    return content[:stop] + content[start:stop] * draw.choice((1, 1, 3, 50)) + content[stop:]


def _swap(draw: Draw, content: bytes) -> bytes:
    a, b = sorted((_place(draw, content), _place(draw, content)))
    size = min(draw.choice((1, 8, 64, 512)), b - a)
    return content[:a] + content[b : b + size] + content[a + size : b] + content[a : a + size] + content[b + size :]


def _insert(draw: Draw, content: bytes) -> bytes:
    at = _place(draw, content)
    return content[:at] + draw.choice((b"\0", b"\xff", draw.randbytes(4), b"\n", content[:16])) + content[at:]


def _twice(draw: Draw, content: bytes) -> bytes:
    return content + draw.choice((content, b"\0" * 1000, b"\n", content[: len(content) // 2]))


BLIND = (_flip, _flip, _overwrite, _whole_number, _truncate, _delete, _duplicate, _swap, _insert, _twice)


# -- text --------------------------------------------------------------------------------------------------------------


def _of_text(change: Callable[[Draw, str], str]) -> Callable[[Draw, bytes], bytes]:
    def changed(draw: Draw, content: bytes) -> bytes:
        return change(draw, content.decode()).encode("utf-8", "surrogatepass")

    return changed


def _number(draw: Draw, text: str) -> str:
    found = draw.choice(list(re.finditer(r"-?\d+(\.\d+)?", text)))
    return text[: found.start()] + draw.choice(NUMBERS) + text[found.end() :]


def _word(draw: Draw, text: str) -> str:
    found = draw.choice(list(re.finditer(r"\w+", text)))
    return text[: found.start()] + draw.choice(WORDS) + text[found.end() :]


def _inserted(draw: Draw, text: str) -> str:
    at = draw.randrange(len(text) + 1)
    return text[:at] + draw.choice(WORDS) + text[at:]


def _lines(draw: Draw, text: str) -> str:
    lines = text.split("\n")
    a, b = draw.randrange(len(lines)), draw.randrange(len(lines))
    how = draw.randrange(5)
    if how == 0:
        del lines[a]
    elif how == 1:
        lines.insert(b, lines[a])
    elif how == 2:
        lines[a], lines[b] = lines[b], lines[a]
    elif how == 3:
        lines[a] = draw.choice(("  ", "\t", "#", "- ")) + lines[a]
    else:
        lines[a] += draw.choice((" ", "\r", ":", "|", "\t\t\t"))
    return "\n".join(lines)


def _cells(draw: Draw, text: str) -> str:
    lines = text.split("\n")
    mark = next(mark for mark in "\t|,;" if mark in lines[0])
    row = draw.randrange(len(lines))
    cells = lines[row].split(mark)
    a, b = draw.randrange(len(cells)), draw.randrange(len(cells))
    how = draw.randrange(4)
    if how == 0:
        del cells[a]
    elif how == 1:
        cells.insert(a, cells[b])
    elif how == 2:
        cells[a], cells[b] = cells[b], cells[a]
    else:
        cells[a] = draw.choice(NUMBERS + WORDS)
    lines[row] = mark.join(cells)
    return "\n".join(lines)


def _nested(draw: Draw, text: str) -> str:
    """Inserts many nesting levels at a value: brackets of YAML and JSON, or tags of XML."""
    at, depth = draw.choice([m.start() for m in re.finditer(r"\w+", text)]), draw.choice((20, 200, 100_000))
    left, right = draw.choice((("[", "]"), ('{"a":', "}"), ("<A>", "</A>"), ("- ", ""), ("(", ")")))
    return text[:at] + left * depth + draw.choice((right * depth, "")) + text[at:]


TEXT = tuple(_of_text(change) for change in (_number, _number, _word, _inserted, _lines))
NESTED = _of_text(_nested)


# -- JSON and XML ------------------------------------------------------------------------------------------------------


def _json(draw: Draw, content: bytes) -> bytes:
    data = json.loads(content)
    held: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
            held.append((value, key))
            walk(value[key])

    walk(data)
    where, key = draw.choice(held)
    how = draw.randrange(8)
    if how == 0:
        del where[key]
    elif how == 1 and isinstance(where, dict):
        where[draw.choice(WORDS)] = where.pop(key)
    elif how == 1 or how == 2:
        other, there = draw.choice(held)
        where[key] = json.loads(json.dumps(other[there]))
    elif how == 3:
        value = where[key]
        for _ in range(draw.choice((1, 3, 60, 300))):
            value = [value]
        where[key] = value
    elif how == 4 and isinstance(where, list):
        where.extend([where[key]] * draw.choice((1, 2, 1000)))
    elif how == 5 and isinstance(where[key], int | float):
        where[key] = draw.choice((-1, 1, 0.5, 10, 1000)) * where[key] + draw.choice((0, 1, -1))
    else:
        where[key] = draw.choice(VALUES)
    return json.dumps(data, ensure_ascii=draw.random() < 0.5).encode("utf-8", "surrogatepass")


def _xml(draw: Draw, text: str) -> str:
    how = draw.randrange(7)
    if how == 0:
        bomb = '<!DOCTYPE a [<!ENTITY a "ha">' + "".join(
            f'<!ENTITY a{i} "{f"&a{i - 1 if i else str()};" * 10}">' for i in range(9)
        )
        return text.replace("?>", f"?>{bomb}]>", 1)
    if how == 1:
        return text.replace("?>", '?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>', 1)
    tags = list(re.finditer(r"<(\w+)([^>]*)>", text))
    tag = draw.choice(tags)
    if how == 2:
        return text[: tag.start()] + text[tag.end() :]
    if how == 3:
        return text[: tag.end()] + tag[0] * draw.choice((1, 1000)) + text[tag.end() :]
    values = list(re.finditer(r'(\w+)="([^"]*)"', text))
    one, other = draw.choice(values), draw.choice(values)
    if how == 4:
        return text[: one.start()] + text[one.end() :]
    if how == 5:  # references to other elements, possibly circular
        return text[: one.start(2)] + other[2] + text[one.end(2) :]
    return text[: one.start(2)] + draw.choice(NUMBERS + WORDS) + text[one.end(2) :]


# -- files within files ------------------------------------------------------------------------------------------------


def _zip(draw: Draw, content: bytes) -> bytes:
    """Changes one member of a valid archive."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(info, archive.read(info)) for info in archive.infolist()]
    chosen = draw.randrange(len(members))
    made = io.BytesIO()
    how = draw.randrange(6)
    with zipfile.ZipFile(made, "w", draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for number, (info, data) in enumerate(members):
            if number == chosen and how == 0:
                continue
            if number == chosen and how == 1:
                archive.writestr(draw.choice(WORDS).replace("\0", "") or "x", data)
                continue
            if number == chosen:
                change = _npy if how == 2 and info.filename.endswith(".npy") else draw.choice(BLIND)
                data = change(draw, data) if data else draw.randbytes(8)
            archive.writestr(info.filename, data)
    return made.getvalue()


def _gzip(draw: Draw, content: bytes) -> bytes:
    return gzip.compress(draw.choice(BLIND)(draw, gzip.decompress(content)), mtime=0)


def _safetensors(draw: Draw, content: bytes) -> bytes:
    """Changes the JSON header; its length field stays correct."""
    size = int.from_bytes(content[:8], "little")
    head = _json(draw, content[8 : 8 + size])
    return len(head).to_bytes(8, "little") + head + content[8 + size :]


def _npy(draw: Draw, content: bytes) -> bytes:
    """Changes the header of an array: type or shape."""
    size = int.from_bytes(content[8:10], "little")
    head = content[10 : 10 + size].decode("latin1")
    shape = draw.choice(
        ("()", "(1,)", "(0, 4)", "(-1, 4)", "(99999999999, 4)", "(2, 2, 2, 2)", "(4294967296, 4294967296)")
    )
    kind = draw.choice(("<f2", "<f8", "|O", "|V8", "<U9", "<M8[s]", "|b1", "<c16", ">f4", "<i8", "x", "<f4,<f4"))
    head = draw.choice((re.sub(r"\([^)]*\)", shape, head), re.sub(r"'[<>|]\w+'", f"'{kind}'", head), head[::-1]))
    return content[:8] + len(head.encode("latin1")).to_bytes(2, "little") + head.encode("latin1") + content[10 + size :]


FORMS: dict[str, tuple[Callable[[Draw, bytes], bytes], ...]] = {
    "bytes": (),
    "text": TEXT,
    "table": (*TEXT, *[_of_text(_cells)] * 4),
    "json": (*TEXT[:3], NESTED, *[_json] * 6),
    "jsonl": (*TEXT, NESTED, _of_text(lambda draw, text: _in_line(draw, text))),
    "yaml": (*TEXT, *TEXT, NESTED),
    "xml": (*TEXT[:4], NESTED, *[_of_text(_xml)] * 6),
    "zip": (_zip,),
    "gzip": (_gzip,),
    "safetensors": (_safetensors,),
    "npy": (_npy,),
}


def _in_line(draw: Draw, text: str) -> str:
    lines = text.split("\n")
    row = draw.choice([number for number, line in enumerate(lines) if line])
    lines[row] = _json(draw, lines[row].encode()).decode("utf-8", "surrogatepass")
    return "\n".join(lines)
