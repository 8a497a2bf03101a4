"""Reads and writes recipes as YAML and command-line overrides, with clear errors for typos."""

from __future__ import annotations

import contextlib
import dataclasses
import numbers
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from signcl.data.bounds import hints_of, shown
from signcl.data.corpora import CORPORA
from signcl.data.files import read_text, write_text
from signcl.data.registry import did_you_mean, digest_of_loaded, load_plugins, nearest_word, plugins_as_list
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
        overrides: `{"train.epochs": 1}`, or texts such as `train.epochs=1`, with or without leading dashes. A section
            may be given as a mapping, `{"train": {"epochs": 1}}`; its other keys stay.
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
            _set(data, str(key).lstrip("-"), value, path)
    else:
        if not isinstance(overrides, list | tuple) or not all(isinstance(one, str) for one in overrides):
            raise ValueError(
                f"overrides are a list of texts such as 'train.epochs=1' or a mapping such as {{'train.epochs': 1}}, "
                f"got {shown(overrides)}"
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
    parsed: Any = value
    with contextlib.suppress(ValueError):  # plain text such as `a: b: c`
        parsed = parse_yaml(value)
    _set(data, key, parsed, path)


def _set(data: dict[str, Any], key: str, value: Any, path: str | Path) -> None:
    """Set one value. The keys of a section are set one by one, so `train={epochs: 1}` keeps the other keys of train.

    The section `model` of another system replaces the recipe's.
    """
    node, last = section_of(data, key, path)
    known = node.get(last)
    merged = isinstance(value, Mapping) and bool(value) and isinstance(known, dict) and _is_section(key)
    if merged and not (key == "model" and _system_named(value) != _system_named(known) and "name" in value):
        for inner, inner_value in value.items():
            _set(data, f"{key}.{inner}", inner_value, path)
    else:
        node[last] = value


def _is_section(key: str) -> bool:
    """Whether a dotted key names a section of keys, not one value such as `loss.weights`."""
    kind: Any = Recipe
    for part in key.split("."):
        if not dataclasses.is_dataclass(kind):
            return False
        hints = hints_of(typing.cast(Any, kind))
        if part not in hints:
            return kind is LossRecipe  # the settings of a term
        kind = hints[part]
    return dataclasses.is_dataclass(kind)


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
            listed = f"loss has {', '.join(sorted(known))}"
            raise ValueError(f"unknown recipe key loss.{key}{f'{hint} ({listed})' if hint else f'; {listed}'}")
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
        _check_colons(data, where)
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
        _check_colons(data, where)
        return {str(k): _build(arguments[1], v, f"{where}{k}.") for k, v in data.items()}
    if origin is list:
        if not isinstance(data, list | tuple):
            raise ValueError(f"{name}: a list in brackets is needed, got {data!r}{_as_list(data)}")
        return [_build(arguments[0], v, where) for v in data]
    if origin is tuple:
        if not isinstance(data, list | tuple) or len(data) != len(arguments):
            raise ValueError(f"{name}: needs {len(arguments)} numbers in brackets, got {data!r}")
        return tuple(_build(a, v, where) for a, v in zip(arguments, data))
    if kind is str and (data is None or isinstance(data, Path) or _is_number(data)):
        return "" if data is None else str(data)  # `--model.init_from=` and `--out=7` mean text
    if isinstance(data, numbers.Number) and hasattr(data, "item"):
        data = data.item()  # a number of numpy
    if kind is float and isinstance(data, int | float) and not isinstance(data, bool):
        try:
            return float(data)
        except OverflowError:  # an int beyond all bounds; the bounds check rejects it
            return data
    if isinstance(data, bool) != (kind is bool) or not isinstance(data, kind):
        wanted = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[kind]
        raise ValueError(f"{name}: needs {wanted}, got {'nothing' if data is None else shown(data)}")
    return data


def _is_number(data: Any) -> bool:
    return isinstance(data, int | float) and not isinstance(data, bool)


def _as_list(data: Any) -> str:
    """The end of an error for a single value where a list is needed."""
    return f"; write [{data}]" if isinstance(data, str) and data and data[0] not in "[{(" else ""


def _check_colons(data: dict[Any, Any], where: str) -> None:
    """Raises an error for `{translation:1}`, which YAML reads as the key `translation:1` without a value."""
    for key, value in data.items():
        if value is None and ":" in str(key):
            raise ValueError(f"{where.rstrip('.') or 'recipe'}: put a space after the colon, got {{{key}}}")


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
    hint = moved_key(where, key) or _of_others(where, str(key), data) or _near_keys(fields, where, str(key), data)
    listed = f"{has} has {', '.join(sorted(fields))}"
    return ValueError(f"unknown recipe key {where}{key}{hint}{f' ({listed})' if hint.endswith('?') else f'; {listed}'}")


def _near_keys(fields: set[str], where: str, key: str, data: dict[str, Any]) -> str:
    """The end of an error that suggests the key that is meant: of this section, of another one, or similar.

    So `train.batch-size`, `epochs`, `train_epochs`, `learning_rate` and `epoch` lead to the right key.
    """
    plain = key.lower().lstrip("-").replace("-", "_")
    plain = OTHER_KEYS.get(plain, plain)
    if where and plain in fields:
        return f"; did you mean {where}{plain}?"
    keys = _all_keys(Recipe, _system_named(data) if not where else "gfslt")
    ends = {full: full.rpartition(".")[2] for full in keys}
    same = [full for full in keys if plain in (ends[full], full.replace(".", "_"))]
    if same:
        return f"; did you mean {' or '.join(same[:3])}?"
    if close := nearest_word(plain, fields):
        return f"; did you mean {where}{close}?"
    close = "" if where else nearest_word(plain, ends.values())
    return f"; did you mean {' or '.join([full for full in keys if ends[full] == close][:3])}?" if close else ""


def _all_keys(kind: type, system: str, where: str = "") -> list[str]:
    """The names of all recipe keys that hold a value, those of the most general sections first."""
    found: list[str] = []
    sections: list[tuple[type, str]] = []
    for name, hint in hints_of(kind).items():
        if hint is SystemConfig:
            hint = system_class(system).Config if system in SYSTEMS else SystemConfig
        if dataclasses.is_dataclass(hint):
            sections.append((typing.cast(type, hint), f"{where}{name}."))
        elif name != "sections":
            found.append(f"{where}{name}")
    return found + [key for section, name in sections for key in _all_keys(section, system, name)]


OTHER_KEYS = {
    "learning_rate": "lr",
    **dict.fromkeys(("num_epochs", "max_epochs", "num_train_epochs"), "epochs"),
    **dict.fromkeys(("bs", "per_device_train_batch_size", "train_batch_size"), "batch_size"),
    **dict.fromkeys(("grad_accum", "gradient_accumulation_steps", "accumulate_grad_batches"), "accumulate"),
    **dict.fromkeys(("max_grad_norm", "gradient_clip_val", "clip_grad_norm"), "clip_norm"),
    **dict.fromkeys(("num_beams", "beam_size", "beam"), "beams"),
    **dict.fromkeys(("num_workers", "dataloader_num_workers"), "workers"),
    **dict.fromkeys(("output_dir", "model_dir", "default_root_dir"), "out"),
    **dict.fromkeys(("eval_every", "eval_steps", "validation_freq", "check_val_every_n_epoch"), "evaluate_every"),
    "save_steps": "save_every",
    **dict.fromkeys(("lr_scheduler", "lr_scheduler_type", "scheduling"), "schedule"),
    "random_seed": "seed",
    "data_path": "root",
    "report_to": "logger",
}
"""Keys by the names that they have in transformers, Lightning and Joey NMT, for suggestions."""


def _of_others(where: str, key: str, data: dict[str, Any]) -> str:
    """The end of an error for a key of `model` that belongs to other systems, with their names."""
    if where != "model.":
        return ""
    having = [name for name, system in SYSTEMS.loadable() if key in {f.name for f in dataclasses.fields(system.Config)}]
    return f": model.{key} belongs to {', '.join(having)}, not to {_system_named(data)}" if having else ""
