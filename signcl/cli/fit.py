"""Verbs that train: `demo`, `fit`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from signcl.cli.common import add_json, add_verb, show

__all__ = ["add"]


def add(verbs: Any, words: list[str]) -> None:
    """Add the verbs of this file."""
    command = add_verb(
        verbs, "demo", _demo, "train, score and compare a system without and with SignCL, on a synthetic corpus"
    )
    command.add_argument(
        "--out",
        metavar="FOLDER",
        help="folder for the corpus, the runs and the report; default: runs/demo, or runs/demo-quick with --quick",
    )
    command.add_argument(
        "--quick", action="store_true", help="run every step in a minute or two, too short to learn much"
    )
    text = "only copy the sample clips of the shipped runs into this folder, and print the sentence of each"
    command.add_argument("--clips", metavar="FOLDER", help=text)
    add_json(command)

    command = add_verb(verbs, "fit", _fit, "train a run from a recipe, or resume a stopped run")
    command.add_argument(
        "recipe", metavar="RECIPE", nargs="?", help="a YAML file, the name of a shipped recipe, or a run to resume"
    )
    command.add_argument("--out", metavar="RUN", help="the run folder; default: the recipe's `out`")
    command.add_argument("--fresh", action="store_true", help="start over, even if the run folder already holds a run")
    command.add_argument(
        "--dry-run",
        action="store_true",
        help="read the corpus, build the model, try a few steps; print sizes, steps, memory and time; write nothing",
    )
    command.add_argument("--print-config", action="store_true", help="print the complete recipe as YAML and stop")
    command.add_argument(
        "--profile",
        action="store_true",
        help="measure where the time goes; print it and write it to profile.json in the run folder",
    )
    command.add_argument(
        "--keys",
        action="store_true",
        help="list every recipe key of the recipe's system with its default, bounds and meaning",
    )
    add_json(command)
    command.usage = "signcl fit RECIPE [--key.sub=value ...] [options]"
    command.epilog = (
        "Any recipe key is an option: --train.lr=0.001. `signcl fit RECIPE --keys` lists them; `signcl recipes` lists "
        "the recipes that come with the package."
    )
    command.set_defaults(takes_overrides=True)


def _demo(options: argparse.Namespace) -> None:
    from signcl.cli.demo import copied_text, copy_clips, demo, demo_text

    if options.clips is not None:
        show(options, copy_clips(Path(options.clips)), copied_text)
        return
    out = options.out or ("runs/demo-quick" if options.quick else "runs/demo")
    show(options, demo(Path(out), quick=options.quick), demo_text)


def _fit(options: argparse.Namespace) -> None:
    from signcl.training.recipe import describe_keys, list_keys, load_recipe, recipe_text, recipe_to_dict

    overrides = list(options.overrides)
    if options.recipe is not None and Path(options.recipe).is_dir():
        overrides = [f"out={options.recipe}", *overrides]  # a run folder may have moved since its recipe was written
    if options.out is not None:
        overrides.append(f"out={options.out}")
    if options.keys:
        system = "gfslt"
        if options.recipe is not None:
            system = load_recipe(options.recipe, overrides).model.name  # listing the keys runs no plugin
        show(options, list_keys(system=system) if options.json else None, lambda _: describe_keys(system=system))
        return
    if options.recipe is None:
        raise ValueError("fit needs a recipe, e.g. `signcl fit synthetic/finetune`; `signcl recipes` lists them")
    recipe = load_recipe(options.recipe, overrides, run_plugins=True)
    if options.print_config:
        show(options, recipe_to_dict(recipe), lambda _: recipe_text(recipe).rstrip("\n"))
        return
    if options.dry_run:
        from signcl.training.rehearsal import rehearse

        show(options, rehearse(recipe), _rehearsed)
        return
    from signcl.training import fit

    folder = fit(recipe, fresh=options.fresh, profile=options.profile)
    show(options, {"run": str(folder)}, lambda found: found["run"])


def _rehearsed(found: dict[str, Any]) -> str:
    """Format what `--dry-run` prints."""
    frozen = "" if found["trained"] == found["parameters"] else f", {found['trained']:,} of them trained"
    longest = found["longest_batch"]
    return "\n".join(
        (
            f"{found['system']} ({found['stage']}) into {found['out']}; nothing was written",
            f"corpus      {found['clips']:,} clips to train, {found['dev_clips']:,} dev; {found['frames']}",
            f"model       {found['parameters']:,} parameters{frozen}",
            f"training    {found['steps']:,} steps of {found['epochs']} epochs",
            f"device      {found['device']} in {found['numbers']}",
            f"batch       the longest has {longest['clips']} clips of {longest['frames']} frames",
            f"memory      {found['memory']}",
            f"time        {found['time']}",
        )
    )
