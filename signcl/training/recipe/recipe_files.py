"""Reads and writes recipes as YAML and command-line overrides, with clear errors for typos."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from signcl.data.bounds import hints_of, shown
from signcl.data.corpora import CORPORA
from signcl.data.files import read_text, write_text
from signcl.data.registry import did_you_mean, digest_of_loaded, load_plugins, plugins_as_list
from signcl.data.safe_yaml import parse_yaml
from signcl.systems import SYSTEMS, SystemConfig, system_class
from signcl.systems.terms import LossRecipe, terms_with_settings
from signcl.training.recipe.fields import Recipe
from signcl.training.recipe.old_recipes import moved_key, of_today
from signcl.training.recipe.shipped import find_recipe

SHARED_KEYS = {f.name for f in dataclasses.fields(LossRecipe)} - {"sections"}

__all__ = [
    "load_recipe",
    "put",
    "read_yaml",
    "recipe_from_dict",
    "recipe_text",
    "recipe_to_dict",
    "save_recipe",
    "section_of",
]


def load_recipe(
    path: str | Path,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    *,
    run_plugins: bool = False,
    of_run: bool = False,
) -> Recipe:
    """Read a YAML recipe and apply overrides.

    Args:
        path: a YAML file, the name of a shipped recipe such as `synthetic/finetune`, or a run folder.
        overrides: `{"train.epochs": 1}`, or texts such as `train.epochs=1`, with or without leading dashes.
        run_plugins: import the recipe's `plugins`, which runs their code; use it only for a recipe that the user wants
            to fit. Otherwise they must already be imported (`signcl.load_plugins`, `--plugins`).
        of_run: the recipe belongs to a run folder, so convert keys of earlier versions. This is automatic if a run's
            card is next to the recipe.

    Raises:
        FileNotFoundError: no such recipe.
        ValueError: not YAML, an unknown key (with a suggestion), or a value of the wrong type.
    """
    path = find_recipe(path)
    data = read_yaml(path)
    if isinstance(overrides, Mapping):
        for key, value in overrides.items():
            node, last = section_of(data, key, path)
            node[last] = value
    else:
        if isinstance(overrides, str):
            raise ValueError(
                f"overrides are a list of texts or a mapping of keys to values, got the text {overrides!r}"
            )
        for override in overrides:
            put(data, override, path)
    if of_run or (path.parent / "card.json").is_file():
        data = of_today(data)
    try:
        plugins = plugins_as_list(data.get("plugins"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if run_plugins:
        load_plugins(plugins)
    advice = _without_plugins(plugins)
    try:
        recipe = recipe_from_dict(data)
        if advice or not of_run:  # reports on a run work without its corpus
            CORPORA.check_name(recipe.corpus.name)
    except ValueError as error:
        raise ValueError(f"{path}: {advice}{error}") from None
    return recipe


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a recipe file as nested dicts, without checks.

    Raises:
        OSError: the file is missing or unreadable.
        ValueError: not YAML, or not a mapping.
    """
    try:
        data = parse_yaml(read_text(path)) or {}
    except ValueError as error:  # also raised for non-UTF-8 files
        raise ValueError(f"{path} is not a YAML recipe: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path}: a recipe is a mapping of keys to values, got {type(data).__name__}")
    return data


def put(data: dict[str, Any], override: str, path: str | Path) -> None:
    """Set one value in the nested dicts of a recipe, `key.sub=value` with or without leading dashes.

    Args:
        path: name of the recipe in messages.

    Raises:
        ValueError: no `=`, or a key below a plain value.
    """
    key, equals, value = override.lstrip("-").partition("=")
    if not equals:
        raise ValueError(f"{override!r}: an override is written --key.sub=value")
    node, last = section_of(data, key, path)
    try:
        node[last] = parse_yaml(value)
    except ValueError:  # plain text such as `a: b: c`
        node[last] = value


def section_of(data: dict[str, Any], key: str, path: str | Path) -> tuple[dict[str, Any], str]:
    """The section of a dotted key, created if missing, and the key's name in it.

    Raises:
        ValueError: a key below a plain value.
    """
    *parents, last = key.split(".")
    for parent in parents:
        if not isinstance(data.setdefault(parent, {}), dict):
            raise ValueError(f"--{key}: {parent} is a value in {path}, not a section")
        data = data[parent]
    return data, last


def _without_plugins(plugins: Sequence[str]) -> str:
    """The start of an error for a recipe whose plugins have not been imported, with instructions."""
    missing = [plugin for plugin in plugins if digest_of_loaded(plugin) is None]
    if not missing:
        return ""
    flags = " ".join(f"--plugins {plugin}" for plugin in missing)
    return (
        f"it needs the plugins {', '.join(missing)}, which are code and are never imported automatically; if you trust "
        f"them, add {flags} (in Python: signcl.load_plugins({missing})). Without them: "
    )


def recipe_from_dict(data: dict[str, Any]) -> Recipe:
    """Build a recipe from nested dicts; ValueError for unknown keys and wrong types."""
    if isinstance(data.get("loss"), dict):
        data = data | {"loss": _with_sections(data["loss"], _system_named(data.get("model")))}
    return typing.cast(Recipe, _build(Recipe, data, ""))


def _system_named(model: Any) -> str:
    return str(model.get("name", "gfslt")) if isinstance(model, dict) else "gfslt"


def _with_sections(loss: dict[str, Any], system: str) -> dict[str, Any]:
    """The loss section with the terms' own settings moved to `sections`."""
    shared = {key: value for key, value in loss.items() if key in SHARED_KEYS}
    others = {key: value for key, value in loss.items() if key not in SHARED_KEYS}
    if not others:
        return shared
    kinds, sections = terms_with_settings(system_class(system)), {}
    for key, value in others.items():
        if key not in kinds:
            known = [*SHARED_KEYS, *kinds]
            hint = did_you_mean(str(key), known, "loss.")
            raise ValueError(f"unknown recipe key loss.{key}{hint}; loss has {', '.join(sorted(known))}")
        sections[key] = _build(kinds[key], value, f"loss.{key}.")
    return shared | {"sections": sections}


def recipe_to_dict(recipe: Any) -> dict[str, Any]:
    """Convert a recipe to plain YAML values, complete with defaults."""
    data: dict[str, Any] = _plain(dataclasses.asdict(recipe))
    if isinstance(loss := data.get("loss"), dict):
        loss |= loss.pop("sections", {})  # terms' settings are written next to the common keys
    return data


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return list(value) if isinstance(value, tuple) else value


def recipe_text(recipe: Recipe) -> str:
    """The complete recipe as YAML."""
    return yaml.safe_dump(recipe_to_dict(recipe), sort_keys=False, allow_unicode=True)


def save_recipe(recipe: Recipe, path: str | Path) -> None:
    """Write the complete recipe; `signcl fit` on it repeats the run."""
    write_text(Path(path), recipe_text(recipe))


def _build(kind: Any, data: Any, where: str) -> Any:
    """Convert `data` to type `kind`; otherwise raise a ValueError that names `where`."""
    if dataclasses.is_dataclass(kind):
        if not isinstance(data, dict):
            raise ValueError(f"{where.rstrip('.')}: a section of keys is needed, got {data!r}")
        if kind is SystemConfig:
            kind = system_class(_system_named(data)).Config
        fields, hints = {f.name for f in dataclasses.fields(kind)}, hints_of(kind)
        for key in data:
            if key not in fields:
                raise _unknown_key(kind, key, data, where)
        return kind(**{key: _build(hints[key], value, f"{where}{key}.") for key, value in data.items()})
    name = where.rstrip(".")
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return data
    if origin is Literal:
        if data not in arguments:
            raise ValueError(
                f"{name}: needs one of {', '.join(map(str, arguments))}, got {data!r}"
                f"{did_you_mean(str(data), [str(a) for a in arguments])}"
            )
        return data
    if origin in (typing.Union, types.UnionType):
        if data is None and type(None) in arguments:
            return None
        members = [a for a in arguments if a is not type(None)]
        return _build(next((a for a in members if _is_shaped(data, a)), members[0]), data, where)
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
        try:
            return float(data)
        except OverflowError:  # an int beyond all bounds; the bounds check rejects it
            return data
    if isinstance(data, bool) != (kind is bool) or not isinstance(data, kind):
        wanted = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[kind]
        raise ValueError(f"{name}: needs {wanted}, got {shown(data)}")
    return data


def _is_shaped(data: Any, kind: Any) -> bool:
    """Whether a value has the shape of a union member: a list, a mapping, or a single value."""
    outer = typing.get_origin(kind) or kind
    if outer in (list, tuple):
        return isinstance(data, list | tuple)
    if outer is dict or dataclasses.is_dataclass(outer):
        return isinstance(data, dict)
    return isinstance(data, outer) if isinstance(outer, type) else False


def _unknown_key(kind: Any, key: Any, data: dict[str, Any], where: str) -> ValueError:
    """The error for a key that a section does not have."""
    fields = {f.name for f in dataclasses.fields(kind)} - {"sections"}
    has = f"{where.rstrip('.') or 'a recipe'}{f' of {_system_named(data)}' if where == 'model.' else ''}"
    hint = moved_key(where, key) or _of_others(where, str(key), data) or _in_section(where, str(key))
    hint = hint or did_you_mean(str(key), fields, where)
    return ValueError(f"unknown recipe key {where}{key}{hint}; {has} has {', '.join(sorted(fields))}")


def _in_section(where: str, key: str) -> str:
    """The end of an error for e.g. `epochs`, suggesting `train.epochs`."""
    if where:
        return ""
    kinds = {name: kind for name, kind in hints_of(Recipe).items() if dataclasses.is_dataclass(kind)}
    full = [f"{name}.{key}" for name, kind in kinds.items() if key in {f.name for f in dataclasses.fields(kind)}]
    return f"; did you mean {' or '.join(full)}?" if full else ""


def _of_others(where: str, key: str, data: dict[str, Any]) -> str:
    """The end of an error for a key of `model` that belongs to other systems, with their names."""
    if where != "model.":
        return ""
    having = [name for name, system in SYSTEMS.loadable() if key in {f.name for f in dataclasses.fields(system.Config)}]
    return f": model.{key} belongs to {', '.join(having)}, not to {_system_named(data)}" if having else ""
