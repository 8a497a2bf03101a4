"""Descriptions of recipe keys, read from the docstrings under the fields, for `signcl fit --keys` and other help."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
import typing
from typing import Any, Literal

from signcl.data.bounds import bounds_of
from signcl.systems import SystemConfig, system_class
from signcl.systems.terms import LossRecipe, terms_with_settings
from signcl.training.recipe.fields import Recipe

__all__ = ["describe_keys", "field_docs", "list_keys"]


def field_docs(kind: type) -> dict[str, str]:
    """The docstring under each field of a dataclass, including inherited fields, by name; "" if there is none."""
    docs: dict[str, str] = {}
    for part in reversed(kind.__mro__):
        if dataclasses.is_dataclass(part):
            docs |= {name: text for name, text in _own_docs(part).items() if text or name not in docs}
    return docs


def _own_docs(kind: type) -> dict[str, str]:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    except (OSError, TypeError):  # a class defined in a console has no file
        return {f.name: "" for f in dataclasses.fields(kind)}
    docs: dict[str, str] = {}
    last = ""
    for node in typing.cast(ast.ClassDef, tree).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            last = node.target.id
            docs[last] = ""
        elif last and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            docs[last] = " ".join(str(node.value.value).split())
            last = ""
    return docs


def describe_keys(kind: type = Recipe, where: str = "", *, system: str = "gfslt") -> str:
    """All recipe keys with default, bounds and description, one per line, as printed by `signcl fit --keys`.

    Args:
        system: the system for the section `model` and for the terms in `loss`.
    """
    lines = []
    docs = field_docs(kind)
    hints = typing.get_type_hints(kind)
    for f in dataclasses.fields(kind):
        if kind is LossRecipe and f.name == "sections":
            sections = terms_with_settings(system_class(system))
            lines += [_section(f"{where}{term}", settings, system) for term, settings in sections.items()]
            continue
        if dataclasses.is_dataclass(hints[f.name]):
            section = typing.cast(type, hints[f.name])
            if section is SystemConfig:
                section = system_class(system).Config
            lines.append(_section(f"{where}{f.name}", section, system))
            continue
        named = [t for t in typing.get_args(hints[f.name]) if dataclasses.is_dataclass(t)]  # settings by name
        default = f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default
        choices = typing.get_args(hints[f.name]) if typing.get_origin(hints[f.name]) is Literal else ()
        bounds = bounds_of(f)
        parts = (" | ".join(choices) + "." if choices else "", docs[f.name], f"[{bounds.short()}]" if bounds else "")
        lines.append(f"  {where}{f.name} = {default!r:<12}  {' '.join(part for part in parts if part)}".rstrip())
        lines += [_section(f"{where}{f.name}.NAME", typing.cast(type, kind_of), system) for kind_of in named]
    return "\n".join(lines)


def list_keys(kind: type = Recipe, where: str = "", *, system: str = "gfslt") -> list[dict[str, Any]]:
    """All recipe keys in the order of `describe_keys`, for JSON: key, default, bounds, choices, meaning."""
    rows: list[dict[str, Any]] = []
    docs, hints = field_docs(kind), typing.get_type_hints(kind)
    for f in dataclasses.fields(kind):
        hint = hints[f.name]
        if kind is LossRecipe and f.name == "sections":
            for term, settings in terms_with_settings(system_class(system)).items():
                rows += list_keys(settings, f"{where}{term}.", system=system)
        elif dataclasses.is_dataclass(hint):
            section = system_class(system).Config if hint is SystemConfig else typing.cast(type, hint)
            rows += list_keys(section, f"{where}{f.name}.", system=system)
        else:
            default = f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default
            bounds = bounds_of(f)
            rows.append(
                {
                    "key": f"{where}{f.name}",
                    "default": default,
                    "bounds": bounds.short() if bounds else None,
                    "choices": list(typing.get_args(hint)) if typing.get_origin(hint) is Literal else None,
                    "meaning": docs[f.name],
                }
            )
            for named in typing.get_args(hint):  # settings by name
                if dataclasses.is_dataclass(named):
                    rows += list_keys(typing.cast(type, named), f"{where}{f.name}.NAME.", system=system)
    return rows


def _section(name: str, kind: type, system: str) -> str:
    about = " ".join((kind.__doc__ or "").split())
    return f"\n{name}:  {about}\n{describe_keys(kind, f'{name}.', system=system)}"
