"""Entry point of training: starts or resumes a run, and refuses to mix two recipes in one folder."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from pathlib import Path
from typing import Any

from signcl.data.files import clear_unfinished
from signcl.data.folder_lock import only_writer
from signcl.data.progress import say
from signcl.data.registry import with_loaded_plugins
from signcl.training import run_folder
from signcl.training.loggers import check_loggers
from signcl.training.loop import Loop
from signcl.training.recipe import Recipe, recipe_from_dict, recipe_to_dict
from signcl.training.recipe.old_recipes import of_today

__all__ = ["fit"]

HARMLESS = {
    *("out", "plugins", "logger", "train.workers", "train.device", "train.save_every", "input.cache_gb"),
    *("train.strategy", "train.compile", "train.compile_mode", "train.recompute"),
}
"""Recipe values that may change when a run is resumed. A plugin may have another path."""
IN_A_STEP = ("train.devices", "train.nodes", "train.accumulate")
"""These may also change if their product, the batches of a step, stays the same."""


def fit(recipe: Recipe, *, fresh: bool = False, progress: bool = True, profile: bool = False) -> Path:
    """Train a run to its end, or resume one that was stopped.

    The run's recipe names every imported plugin, including those from `--plugins`.

    Args:
        recipe: all settings of the run.
        fresh: start from the beginning even if `recipe.out` holds a run.
        progress: show progress bars on stderr.
        profile: print a profile of the step time at the end and write `profile.json`; see `Profile`.

    Returns:
        The run folder.

    Raises:
        ValueError, OSError: an unusable corpus, recipe or folder, or gradients that stay non-finite.
        KeyboardInterrupt: after saving the state.
    """
    if (plugins := with_loaded_plugins(recipe.plugins)) != recipe.plugins:
        recipe = dataclasses.replace(recipe, plugins=plugins)
    check_loggers(recipe.logger)
    folder = Path(recipe.out)
    stamp = run_folder.state_stamp(folder)
    state = None if fresh else run_folder.load_state(folder)
    if state is not None:
        longer = _same_recipe(folder, state["recipe"], recipe_to_dict(recipe))
        run_folder.say_changed_plugins(folder)
        if state["finished"] and not longer:
            say(
                f"{folder} is finished ({state['step']} steps); a larger --train.epochs= trains it longer, --fresh "
                f"trains it again"
            )
            return folder
        if longer:
            say(f"{folder} resumes at step {state['step']} with {longer}; learning rates follow the longer schedule")
    loop = Loop(recipe, folder, state, progress=progress, profile=profile)
    with only_writer(folder, "is training") if loop.lead else contextlib.nullcontext():
        if loop.lead and run_folder.state_stamp(folder) != stamp:
            raise ValueError(f"another process trained {folder} while this one was starting; run the command again")
        if fresh and loop.lead:
            run_folder.clear_run(folder)  # only after everything that the new run needs was found
        if loop.lead:
            for place in (folder, folder / "state"):
                clear_unfinished(place)
        return loop.run()


LONGER = ("train.epochs", "train.max_steps")


def _same_recipe(folder: Path, old: dict[str, Any], new: dict[str, Any]) -> str:
    """Raise ValueError if the recipe differs; return the increased values if it only trains longer, else ""."""
    with contextlib.suppress(ValueError):  # new keys take their defaults; a removed key is a difference
        old = recipe_to_dict(recipe_from_dict(of_today(old)))
    a, b = _flat(old), _flat(new)
    same_step = math.prod(a.get(k, 1) for k in IN_A_STEP) == math.prod(b.get(k, 1) for k in IN_A_STEP)
    grown = [k for k in LONGER if a.get(k) != b.get(k) and _at_least(b.get(k), a.get(k))]
    free = HARMLESS | set(IN_A_STEP if same_step else ()) | set(grown)
    changed = [k for k in sorted(a.keys() | b.keys()) if a.get(k) != b.get(k) and k not in free]
    if changed:
        key = changed[0]
        more = f", and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise ValueError(
            f"{folder} holds a run with another recipe ({key}: {a.get(key)} there, {b.get(key)} here{more}); "
            f"choose another folder with --out=, or train again with --fresh"
        )
    return " and ".join(f"{key}={b.get(key)} (before: {a.get(key)})" for key in grown)


def _at_least(new: int | None, old: int | None) -> bool:
    """Whether a limit is at least as high as before; None is no limit."""
    return new is None or (old is not None and new >= old)


def _flat(data: dict[str, Any], where: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in data.items():
        flat.update(_flat(value, f"{where}{key}.") if isinstance(value, dict) else {f"{where}{key}": value})
    return flat
