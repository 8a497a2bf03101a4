"""Reads all JSON files of the package and checks their shape; tests/test_damaged_json.py enforces that all use it.

Python's json module keeps the last of two equal keys, accepts text that is not valid Unicode, and nests as deeply as
its stack allows.
"""

from __future__ import annotations

import json
import math
import re
import types
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from signcl.data.files import read_bytes

__all__ = ["MAX_DEPTH", "Maybe", "check_shape", "parse_json", "read_json"]

MAX_DEPTH = 100
"""Maximum nesting of lists and mappings, because code that walks the values needs a stack too."""
HALF = re.compile(r"\\u[dD][89a-fA-F]")  # an escape for one half of a character beyond 16 bits


@dataclass(frozen=True)
class Maybe:
    """The shape, or null."""

    shape: Any


def read_json(path: Path, shape: Any, advice: str, check: Callable[[Any], None] | None = None) -> Any:
    """Reads a JSON file and checks that it has the expected shape.

    Args:
        path: must exist; callers handle missing files, whose meaning differs.
        shape: a type or union (`int`, `str | None`); `[shape]` a list; `(a, b)` a list of exactly these items; `{str:
            shape}` a mapping with any keys; `{"key": shape, "other?": shape}` a mapping with a required and an optional
            key, and any others; `Maybe(shape)` the shape or null.
        advice: what to do about a damaged file, for the message.
        check: called with the data for further checks; raises ValueError.

    Raises:
        FileNotFoundError: no such file.
        ValueError: with the file, the position in it, what is needed and what was found.
    """
    try:
        data = parse_json(read_bytes(path))
        check_shape(data, shape)
        if check is not None:
            check(data)
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); {advice}") from None
    return data


def parse_json(text: str | bytes) -> Any:
    """Parses a JSON text: a file or one line of it. Bytes are UTF-8, with or without a byte order mark.

    Raises:
        ValueError: what is wrong and where, without the name of the file: invalid UTF-8 or JSON, a duplicate key, a
            number with thousands of digits, a lone surrogate, more than `MAX_DEPTH` levels.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        data = json.loads(text, object_pairs_hook=_keys_once)
        if HALF.search(text):
            json.dumps(data, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError(f"at most {MAX_DEPTH} levels are read") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8: {error.reason} at byte {error.start}") from None
    except UnicodeEncodeError:
        raise ValueError("it contains a lone surrogate (\\ud800 to \\udfff)") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from None
    except ValueError as error:
        raise ValueError(str(error).partition(";")[0][:100]) from None  # a number that is too long, a duplicate key
    if text.count("[") + text.count("{") > MAX_DEPTH:
        _check_depth(data)
    return data


def _keys_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the key {twice[:60]!r} occurs twice")
    return found


def _check_depth(data: Any) -> None:
    level = [data]
    for _ in range(MAX_DEPTH + 1):
        held = [value for value in level if type(value) in (list, dict)]
        level = [part for value in held for part in (value if type(value) is list else value.values())]
        if not held:
            return
    raise ValueError(f"at most {MAX_DEPTH} levels are read")


def check_shape(data: Any, shape: Any, where: str = "") -> None:
    """Raises an error if a value does not have the shape; see `read_json`.

    Raises:
        ValueError: with the position, what is needed and what was found.
    """
    name = where or "the file"
    if isinstance(shape, Maybe):
        if data is None:
            return
        shape = shape.shape
    if isinstance(shape, dict):
        _needs(isinstance(data, dict), name, "a mapping", data)
        if str in shape:
            for key, value in data.items():
                check_shape(value, shape[str], f"{where}[{key[:40]!r}]")
            return
        for key, inner in shape.items():
            bare = key.removesuffix("?")
            if bare not in data and bare == key:
                raise ValueError(f"{name} has no {key!r}")
            if bare in data:
                check_shape(data[bare], inner, f"{where}.{bare}" if where else bare)
    elif isinstance(shape, list):
        _needs(isinstance(data, list), name, "a list", data)
        for i, value in enumerate(data):
            check_shape(value, shape[0], f"{where}[{i}]")
    elif isinstance(shape, tuple):
        _needs(isinstance(data, list) and len(data) == len(shape), name, f"a list of {len(shape)}", data)
        for i, (value, inner) in enumerate(zip(data, shape)):
            check_shape(value, inner, f"{where}[{i}]")
    elif shape is not Any:
        _needs(_is(data, shape), name, getattr(shape, "__name__", str(shape)), data)


def _is(data: Any, kind: Any) -> bool:
    """Whether a value is of a type: true is not a number, integers have 64 bits, NaN and infinity are not valid."""
    kinds = kind.__args__ if isinstance(kind, types.UnionType) else (kind,)
    if isinstance(data, bool):
        return bool in kinds
    if isinstance(data, int) and not -(2**63) <= data < 2**63:
        return False
    if float in kinds and isinstance(data, int | float):
        return math.isfinite(data)
    return isinstance(data, kinds)


def _needs(holds: bool, name: str, needed: str, data: Any) -> None:
    if not holds:
        text = repr(data)
        raise ValueError(f"{name}: needs {needed}, got {text if len(text) <= 40 else text[:37] + '...'}")
