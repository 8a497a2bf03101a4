"""Estimates the time and memory of training from a few steps: `signcl fit RECIPE --dry-run`."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

from signcl.data.progress import spelt
from signcl.training.loggers import check_loggers
from signcl.training.loop import Loop
from signcl.training.optimizer import count_parameters
from signcl.training.recipe import Recipe
from signcl.training.record import Record

__all__ = ["rehearse"]


def rehearse(recipe: Recipe, *, steps: int = 4) -> dict[str, Any]:
    """Read the corpus, build the model and run a few training steps, without writing anything.

    Args:
        recipe: the recipe to try, always on one device.
        steps: training steps to time, spread over an epoch, after one warm-up step.

    Returns:
        System, stage, clips, parameters, steps, the longest batch, memory and time.

    Raises:
        ValueError, OSError: anything that would stop training at its start.
    """
    check_loggers(recipe.logger)
    devices = recipe.train.devices * recipe.train.nodes
    alone = dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, devices=1, nodes=1, strategy="auto"))
    loop = Loop(alone, Path(recipe.out), None, progress=False)
    data = loop.material
    parameters, trained = count_parameters(loop.model)
    memory = loop.memory(parameters, estimate=True)
    lengths = data.train_lengths
    longest = max(loop.plan(0), key=lambda batch: max(lengths[i] for i in batch) * len(batch))
    with tempfile.TemporaryDirectory() as kept:
        loop.record = Record(Path(kept), 0)
        try:
            seconds = loop.timed_steps(steps)
        finally:
            loop.record.close()
            loop.loader.close()
    total = loop.total * seconds
    scorings = max(1, recipe.train.epochs // recipe.train.evaluate_every)
    several = f"; with one of the {devices} devices" if devices > 1 else ""
    return {
        "system": recipe.model.name,
        "stage": recipe.stage,
        "out": recipe.out,
        "clips": len(data.train),
        "dev_clips": len(data.dev),
        "frames": f"{sum(lengths) / max(1, len(lengths)):.0f} frames on average, at most {max(lengths)}",
        "parameters": parameters,
        "trained": trained,
        "steps": loop.total,
        "epochs": recipe.train.epochs,
        "device": str(loop.fabric.device),
        "numbers": loop.numbers(),
        "longest_batch": {"clips": len(longest), "frames": max(lengths[i] for i in longest)},
        "memory": str(memory),
        "memory_bytes": memory.total,
        "seconds_per_step": seconds,
        "time": f"{spelt(total)} of training steps ({seconds:.3g} s each, {steps} tried{several}), and "
        f"{scorings} scorings of dev",
    }
