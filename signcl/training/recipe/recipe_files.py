"""YAML and command line to a recipe and back, with clear answers to what people mistype."""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from pathlib import Path
from typing import Any, Literal

import yaml

from signcl.training.recipe.fields import Recipe, nearest

__all__ = ["load_recipe", "recipe_from_dict", "recipe_to_dict", "save_recipe"]


def load_recipe(path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> Recipe:
    """Read a YAML recipe and apply `key.sub=value` overrides (with or without leading dashes).

    Raises:
        FileNotFoundError: no such recipe.
        ValueError: not YAML, an unknown key (the nearest known one is named), or a value of the wrong type.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no recipe at {path}; `signcl fit` needs a YAML file such as recipes/synthetic/*.yaml")
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a YAML recipe: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path}: a recipe is a mapping of keys to values, got {type(data).__name__}")
    for override in overrides:
        key, equals, value = override.lstrip("-").partition("=")
        if not equals:
            raise ValueError(f"{override!r}: an override is written --key.sub=value")
        node = data
        *parents, last = key.split(".")
        for parent in parents:
            if not isinstance(node.setdefault(parent, {}), dict):
                raise ValueError(f"--{key}: {parent} is a value in {path}, not a section")
            node = node[parent]
        try:
            node[last] = yaml.load(value, Loader=_Loader)
        except yaml.YAMLError:
            node[last] = value
    try:
        return recipe_from_dict(data)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads `1e-3` as a string; recipes mean a number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def recipe_from_dict(data: dict[str, Any]) -> Recipe:
    """A recipe from nested dicts; unknown keys and wrong types are refused by name."""
    return typing.cast(Recipe, _build(Recipe, data, ""))


def recipe_to_dict(recipe: Any) -> dict[str, Any]:
    """The complete recipe as plain YAML values."""
    return {
        key: (list(value) if isinstance(value, tuple) else value) if not isinstance(value, dict) else _plain(value)
        for key, value in dataclasses.asdict(recipe).items()
    }


def _plain(data: dict[str, Any]) -> dict[str, Any]:
    return {k: _plain(v) if isinstance(v, dict) else list(v) if isinstance(v, tuple) else v for k, v in data.items()}


def save_recipe(recipe: Recipe, path: str | Path) -> None:
    """Write the complete recipe, so that `signcl fit` on it repeats the run."""
    Path(path).write_text(yaml.safe_dump(recipe_to_dict(recipe), sort_keys=False, allow_unicode=True), encoding="utf-8")


def _build(kind: Any, data: Any, where: str) -> Any:
    """`data` as a value of type `kind`, or a ValueError that names `where`."""
    if dataclasses.is_dataclass(kind):
        if not isinstance(data, dict):
            raise ValueError(f"{where.rstrip('.')}: a section of keys is needed, got {data!r}")
        fields = {f.name for f in dataclasses.fields(kind)}
        hints = typing.get_type_hints(kind)
        for key in data:
            if key not in fields:
                raise ValueError(
                    f"unknown recipe key {where}{key}{nearest(str(key), fields, where)}; "
                    f"{where.rstrip('.') or 'a recipe'} has {', '.join(sorted(fields))}"
                )
        return kind(**{key: _build(hints[key], value, f"{where}{key}.") for key, value in data.items()})  # type: ignore[operator]
    name = where.rstrip(".")
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return data
    if origin is Literal:
        if data not in arguments:
            raise ValueError(
                f"{name}: needs one of {', '.join(map(str, arguments))}, got {data!r}"
                f"{nearest(str(data), [str(a) for a in arguments])}"
            )
        return data
    if origin in (typing.Union, types.UnionType):
        if data is None:
            return None
        return _build(next(a for a in arguments if a is not type(None)), data, where)
    if origin is dict:
        if not isinstance(data, dict):
            raise ValueError(f"{name}: a mapping is needed, got {data!r}")
        return {str(k): _build(arguments[1], v, f"{where}{k}.") for k, v in data.items()}
    if origin is list:
        if not isinstance(data, list):
            raise ValueError(f"{name}: a list in brackets is needed, got {data!r}")
        return [_build(arguments[0], v, where) for v in data]
    if origin is tuple:
        if not isinstance(data, list | tuple) or len(data) != len(arguments):
            raise ValueError(f"{name}: needs {len(arguments)} numbers in brackets, got {data!r}")
        return tuple(_build(a, v, where) for a, v in zip(arguments, data))
    if kind is str and (data is None or (isinstance(data, int | float) and not isinstance(data, bool))):
        return "" if data is None else str(data)  # `--model.init_from=` and `--out=7` mean text
    if kind is float and isinstance(data, int | float) and not isinstance(data, bool):
        return float(data)
    if isinstance(data, bool) != (kind is bool) or not isinstance(data, kind):
        wanted = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[kind]
        raise ValueError(f"{name}: needs {wanted}, got {data!r}")
    return data
