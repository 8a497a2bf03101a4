"""Verbs that train: `demo`, `fit`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from signcl.cli.common import add_verb

__all__ = ["add"]


def add(verbs: Any, words: list[str]) -> None:
    """Add the verbs of this file; `words` is the command line, for those that need a look at it first."""
    command = add_verb(verbs, "demo", _demo, "the main job end to end on a synthetic corpus, without and with SignCL")
    command.add_argument("--out", default="runs/demo", help="where the corpus, the runs and the report go")
    command.add_argument("--quick", action="store_true", help="a pass of a minute or two, too short to learn much")

    command = add_verb(verbs, "fit", _fit, "train a run from a recipe, or go on with a stopped one")
    command.add_argument("recipe", nargs="?", help="a YAML recipe, e.g. recipes/synthetic/finetune.yaml")
    command.add_argument("--fresh", action="store_true", help="start anew where the run folder holds a run")
    command.add_argument(
        "--profile",
        action="store_true",
        help="print where the time goes, and write it to profile.json in the run folder",
    )
    command.add_argument(
        "--keys",
        action="store_true",
        help="list every recipe key of the recipe's system with its default, bounds and meaning",
    )
    command.usage = "signcl fit RECIPE.yaml [--key.sub=value ...] [--fresh]"
    command.epilog = (
        "Any recipe key is a flag: --train.lr=0.001 --out=runs/mine. `signcl fit RECIPE --keys` lists them."
    )
    command.set_defaults(takes_overrides=True)


def _demo(options: argparse.Namespace) -> None:
    from signcl.cli.demo import demo

    print(demo(Path(options.out), quick=options.quick))


def _fit(options: argparse.Namespace) -> None:
    from signcl.training.recipe import describe_keys, load_recipe

    if options.keys:
        system = "gfslt"
        if options.recipe is not None:
            system = load_recipe(options.recipe, options.overrides).model.name  # a list of keys runs no plugin
        print(describe_keys(system=system))
        return
    if options.recipe is None:
        raise ValueError(
            "fit needs a recipe, e.g. `signcl fit recipes/synthetic/finetune.yaml`; --keys lists what it holds"
        )
    recipe = load_recipe(options.recipe, options.overrides, run_plugins=True)
    from signcl.training import fit

    print(fit(recipe, fresh=options.fresh, profile=options.profile))
