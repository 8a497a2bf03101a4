"""Every JSON file is read here, against the shape that it must have; tests/test_damaged_json.py holds the rule.

Python's own reader takes the last of two equal keys, text that is no Unicode, and as many levels as its stack holds.
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
"""Lists and mappings within each other: what goes through the values afterwards needs a stack too."""
HALF = re.compile(r"\\u[dD][89a-fA-F]")  # an escape for one half of a character beyond 16 bits


@dataclass(frozen=True)
class Maybe:
    """A shape, or null."""

    shape: Any


def read_json(path: Path, shape: Any, advice: str, check: Callable[[Any], None] | None = None) -> Any:
    """What a JSON file holds, once it has the shape.

    Args:
        path: must exist; the caller knows what it means when it does not.
        shape: a type or union (`int`, `str | None`); `[shape]` a list of them; `(a, b)` a list of just these; `{str:
            shape}` names to values; `{"key": shape, "other?": shape}` a mapping with a key and perhaps another, and
            whatever else; `Maybe(shape)` it or null.
        advice: what to do about a damaged file.
        check: called with what has the shape, for what a shape cannot say; raises ValueError.

    Raises:
        FileNotFoundError: no such file.
        ValueError: names the file, the place in it, what is needed and what came.
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
    """What a JSON text stands for: a line of a file, or the whole. Bytes are UTF-8, perhaps with its mark.

    Raises:
        ValueError: what is wrong and where, without the name of the file: no UTF-8, no JSON, a key that stands twice, a
            number of thousands of digits, half a character, more than `MAX_DEPTH` levels.
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
        raise ValueError(f"no UTF-8: {error.reason} at byte {error.start}") from None
    except UnicodeEncodeError:
        raise ValueError("it holds half a character (\\ud800 to \\udfff)") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON: {error}") from None
    except ValueError as error:
        raise ValueError(str(error).partition(";")[0][:100]) from None  # a number too long, a key twice
    if text.count("[") + text.count("{") > MAX_DEPTH:
        _check_depth(data)
    return data


def _keys_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the key {twice[:60]!r} stands twice")
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
    """Refuse a value of another shape; see `read_json`.

    Raises:
        ValueError: the place, what is needed, what came.
    """
    name = where or "the whole"
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
    """Whether a value is of a type: true is no number, whole numbers have 64 bits, NaN and infinity are none."""
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
