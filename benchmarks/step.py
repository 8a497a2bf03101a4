"""Seconds per training step of any recipe, by number of threads; OMP_WAIT_POLICY sets how OpenMP threads wait.

    python benchmarks/step.py recipes/imu_numbers/finetune-signcl.yaml --threads 1 --corpus.root=DIR
    python benchmarks/step.py recipes/imu_numbers/finetune-signcl.yaml --against --corpus.root=DIR   # and compiled
    OMP_WAIT_POLICY=PASSIVE python benchmarks/step.py recipes/imu_numbers/finetune-signcl.yaml --threads 2 ...

Each time comes with the number of operators of a step (torch's profiler; about the number of launches on a GPU). Leaves
no files.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from signcl import load_recipe
from signcl.data.loading import clip_loader
from signcl.training.loop import Loop


def main() -> None:
    """Print the median time of ten steps after two warm-up steps; with --against also compiled, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--against", action="store_true", help="compare with train.compile=true")
    options, overrides = parser.parse_known_args()
    torch.set_num_threads(options.threads)
    found = []
    for compiled in (False, True) if options.against else (False,):
        more = ["--train.compile=true"] if compiled else []
        seconds, operators, frames = measure(options.recipe, [*overrides, *more])
        found.append((seconds, operators))
        print(
            f"{'compiled, ' if compiled else ''}{options.threads} threads: {seconds:.3f} s per step, {operators} "
            f"operators ({frames:.0f} frames on average)"
        )
    if options.against:
        (before, many), (after, few) = found
        print(f"compiled / eager: time {after / before:.2f}, operators {few / many:.2f}")


def measure(name: str, overrides: list[str]) -> tuple[float, int, float]:
    """Median seconds of a step, number of operators of the last step, and mean frames per batch."""
    with tempfile.TemporaryDirectory() as folder:
        recipe = load_recipe(name, [*overrides, f"--out={folder}/run"])
        loop = Loop(recipe, Path(recipe.out), None, progress=False)
        loop.lead = False  # nothing is written
        loaded = clip_loader(loop.material.train, loop._plan(0)[:12])
        batches = [one.batch.to(loop.fabric.device) for one in loaded if one.batch is not None]
        seconds = []
        for batch in batches:
            started = time.perf_counter()
            loop._train_step([batch])
            seconds.append(time.perf_counter() - started)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            loop._train_step([batches[-1]])
    frames = statistics.mean(int(batch.lengths.sum()) for batch in batches)
    return statistics.median(seconds[2:]), computing(profile.events()), frames


def computing(events: Any) -> int:
    """Count operators and compiled kernels that call no other one, without views: about the launches on a GPU."""
    views = (
        "view",
        "reshape",
        "expand",
        "permute",
        "transpose",
        "as_strided",
        "detach",
        "slice",
        "select",
        "alias",
        "t",
    )
    names = [event.name for event in events if not any(child.name.startswith("aten::") for child in event.cpu_children)]
    leaves = [name for name in names if name.startswith(("aten::", "cpp_fused", "triton_"))]
    return sum(name.removeprefix("aten::").rstrip("_") not in (*views, "empty", "empty_strided") for name in leaves)


if __name__ == "__main__":
    main()
