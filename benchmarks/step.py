"""Seconds of a training step of any recipe, by number of threads; how OpenMP's threads wait is set from outside.

    python benchmarks/step.py recipes/imu_numbers/finetune-signcl.yaml --threads 1 --corpus.root=DIR
    OMP_WAIT_POLICY=PASSIVE python benchmarks/step.py recipes/imu_numbers/finetune-signcl.yaml --threads 2 ...

Nothing is kept: the run folder is temporary.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from signcl import load_recipe
from signcl.data.loading import clip_loader
from signcl.training.loop import Loop


def main() -> None:
    """Time ten steps after two for warming up, and print their median."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--threads", type=int, default=1)
    options, overrides = parser.parse_known_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        recipe = load_recipe(options.recipe, [*overrides, f"--out={folder}/run"])
        loop = Loop(recipe, Path(recipe.out), None, progress=False)
        loop.lead = False  # nothing is written
        loaded = clip_loader(loop.material.train, loop._plan(0)[:12])
        batches = [one.batch.to(loop.fabric.device) for one in loaded if one.batch is not None]
        seconds = []
        for batch in batches:
            started = time.perf_counter()
            loop._train_step([batch])
            seconds.append(time.perf_counter() - started)
    frames = statistics.mean(int(batch.lengths.sum()) for batch in batches)
    print(f"{options.threads} threads: {statistics.median(seconds[2:]):.3f} s a step ({frames:.0f} frames on average)")


if __name__ == "__main__":
    main()
