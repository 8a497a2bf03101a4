"""JSON files of runs, stores and packs, read against the shape that they must have."""

from __future__ import annotations

import json
import math
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["check_shape", "read_json"]


def read_json(path: Path, shape: Any, advice: str, check: Callable[[Any], None] | None = None) -> Any:
    """What a JSON file holds, once it has the shape.

    Args:
        path: must exist; the caller knows what it means when it does not.
        shape: a type or union (`int`, `str | None`); `[shape]` a list of them; `(a, b)` a list of just these; `{str:
            shape}` names to values; `{"key": shape, "other?": shape}` a mapping with a key and perhaps another, and
            whatever else.
        advice: what to do about a damaged file.
        check: called with what has the shape, for what a shape cannot say; raises ValueError.

    Raises:
        FileNotFoundError: no such file.
        ValueError: names the file, the place in it, what is needed and what came.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError(f"{path} is damaged (too many levels); {advice}") from None
    except ValueError as error:  # not UTF-8, not JSON, a number of thousands of digits
        raise ValueError(f"{path} is damaged ({str(error)[:100]}); {advice}") from None
    try:
        check_shape(data, shape)
        if check is not None:
            check(data)
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); {advice}") from None
    return data


def check_shape(data: Any, shape: Any, where: str = "") -> None:
    """Refuse a value of another shape; see `read_json`.

    Raises:
        ValueError: the place, what is needed, what came.
    """
    name = where or "the whole"
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
    """Whether a value is of a type: true is no number, whole numbers are numbers, NaN and infinity are none."""
    kinds = kind.__args__ if isinstance(kind, types.UnionType) else (kind,)
    if isinstance(data, bool):
        return bool in kinds
    if float in kinds and isinstance(data, int | float):
        return math.isfinite(data)
    return isinstance(data, kinds)


def _needs(holds: bool, name: str, needed: str, data: Any) -> None:
    if not holds:
        text = repr(data)
        raise ValueError(f"{name}: needs {needed}, got {text if len(text) <= 40 else text[:37] + '...'}")
