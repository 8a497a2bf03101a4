"""The verb for the recipes that come with the package: `recipes list | show | copy`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from signcl.cli.common import add_json, add_verb, show

__all__ = ["add"]


def add(verbs: Any, words: list[str]) -> None:
    """Add the verbs of this file."""
    text = "list, show or copy the recipes that come with the package"
    recipes = verbs.add_parser("recipes", help=text, description=text)
    group = recipes.add_subparsers(title="commands", metavar="COMMAND")
    add_json(recipes)
    recipes.set_defaults(run=_list, words=[], traceback=False, plugins=[])  # `signcl recipes` alone

    command = add_verb(group, "list", _list, "list the recipes: name, system and first line")
    command.add_argument(
        "words", metavar="WORD", nargs="*", help="list only recipes whose name or system contains every word"
    )
    add_json(command)

    command = add_verb(group, "show", _show, "print one recipe with its comments")
    command.add_argument("name", metavar="NAME", help="name of a recipe, such as synthetic/finetune")
    add_json(command)

    command = add_verb(group, "copy", _copy, "copy one recipe to a file that you can change")
    command.add_argument("name", metavar="NAME", help="name of a recipe, such as synthetic/finetune")
    command.add_argument(
        "to", metavar="FILE", nargs="?", help="file to write; default: the last part of NAME, in the current folder"
    )
    add_json(command)


def _list(options: argparse.Namespace) -> None:
    from signcl.cli.tables import recipes_table
    from signcl.training.catalogue import list_recipes

    show(options, list_recipes(options.words), recipes_table)


def _show(options: argparse.Namespace) -> None:
    from signcl.training.recipe import recipe_path

    path = recipe_path(options.name)
    found = {"name": options.name.removesuffix(".yaml"), "file": str(path), "text": path.read_text(encoding="utf-8")}
    show(options, found, lambda found: found["text"].rstrip("\n"))


def _copy(options: argparse.Namespace) -> None:
    from signcl.data.files import write_text
    from signcl.training.recipe import recipe_path

    path = recipe_path(options.name)
    to = Path(options.to or path.name)
    if to.is_dir() or str(options.to).endswith(("/", "\\")):
        to = to / path.name
    if to.exists():
        raise ValueError(f"{to} already exists; give another file")
    write_text(to, path.read_text(encoding="utf-8"))
    show(options, {"name": options.name.removesuffix(".yaml"), "file": str(to)}, lambda found: found["file"])
