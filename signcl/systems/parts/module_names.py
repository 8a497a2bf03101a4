"""Selects parts of a model by the dotted names of its modules, and reports unknown names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from torch import nn

__all__ = ["check_parts", "under"]


def under(name: str, parts: Iterable[str]) -> str:
    """The longest of `parts` that is `name` or a module containing it; "" if there is none."""
    found = [part for part in parts if name == part or name.startswith(f"{part}.")]
    return max(found, key=len, default="")


def check_parts(model: nn.Module, parts: Iterable[str], key: str) -> None:
    """Raise ValueError for names that no module or parameter of a model has.

    Args:
        key: the recipe key of the names, for the message.

    Raises:
        ValueError: an unknown name; lists the modules and suggests the closest.
    """
    modules = [name for name, _ in model.named_modules() if name]
    known = {*modules, *(name for name, _ in model.named_parameters())}
    for part in parts:
        if part not in known:
            top = [name for name, _ in model.named_children()]
            near = difflib.get_close_matches(part, modules, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"{key}: this model has {', '.join(top)} and the modules within, not {part!r}{hint}")
