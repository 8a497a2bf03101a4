"""The verb that lists the systems: `systems`."""

from __future__ import annotations

import argparse
from typing import Any

from signcl.cli.common import add_json, add_verb, show

__all__ = ["add"]


def add(verbs: Any, words: list[str]) -> None:
    """Add the verbs of this file."""
    command = add_verb(
        verbs, "systems", _systems, "list every system: what it is, what it needs, its sizes and recipes"
    )
    command.add_argument("names", metavar="SYSTEM", nargs="*", help="describe only these, in more detail")
    add_json(command)


def _systems(options: argparse.Namespace) -> None:
    from signcl.cli.tables import systems_table
    from signcl.training.catalogue import describe_system, list_systems

    rows = list_systems(options.names)
    if options.names and not options.json:
        for row in rows:
            print(f"{systems_table([row])}\n\n{describe_system(row['system'])}\n")
            print("terms:   " + ", ".join(row["terms"]))
            print("taps:    " + ", ".join(row["taps"]))
            print("recipes: " + ("\n         ".join(row["recipes"]) or "none") + "\n")
        return
    show(options, rows, systems_table)
