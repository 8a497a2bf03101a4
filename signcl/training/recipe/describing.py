"""What each key means, read from the docstrings under the fields, for `signcl fit --keys` and other help."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
import typing
from typing import Literal

from signcl.training.recipe.fields import Recipe

__all__ = ["describe_keys", "field_docs"]


def field_docs(kind: type) -> dict[str, str]:
    """What stands under each field of a dataclass, by field name; "" where nothing does."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
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


def describe_keys(kind: type = Recipe, where: str = "") -> str:
    """Every recipe key with its default and meaning, one per line, as `signcl fit --keys` prints them."""
    lines = []
    docs = field_docs(kind)
    hints = typing.get_type_hints(kind)
    for f in dataclasses.fields(kind):
        if dataclasses.is_dataclass(hints[f.name]):
            section = typing.cast(type, hints[f.name])
            lines += [
                f"\n{where}{f.name}:  {(section.__doc__ or '').strip()}",
                describe_keys(section, f"{where}{f.name}."),
            ]
            continue
        default = f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default
        choices = typing.get_args(hints[f.name]) if typing.get_origin(hints[f.name]) is Literal else ()
        meaning = " ".join(part for part in (" | ".join(choices) + "." if choices else "", docs[f.name]) if part)
        lines.append(f"  {where}{f.name} = {default!r:<12}  {meaning}".rstrip())
    return "\n".join(lines)
