"""Learning curve on real continuous signing: Persian number signs, GFSLT-style, with and without SignCL.

    python benchmarks/imu_numbers.py --root ../shared/data/imu-number-signs [--seeds 3] [--jobs 2]

Every run is `recipes/imu_numbers/finetune[-signcl].yaml` with another share of the training sequences and another
seed, all with the same number of steps; test numbers are unseen combinations of seen signs. Runs that are finished are
not repeated. Prints a Markdown table; intervals are 95 % t-intervals over seeds, differences are paired by seed.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

FRACTIONS = (0.05, 0.1, 0.25, 0.5, 1.0)
ARMS = {"without": "finetune.yaml", "with": "finetune-signcl.yaml"}
STEPS = 600
RECIPES = Path(__file__).parents[1] / "recipes" / "imu_numbers"
T95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # two-sided quantiles of Student's t, by number of values


def run(folder: Path, root: str, arm: str, fraction: float, seed: int) -> dict[str, float]:
    """Train, score and measure one run in its own process, on one thread."""
    result = folder / "result.json"
    if not result.exists():
        code = (
            "import sys, json, torch; torch.set_num_threads(1)\n"
            "from signcl import fit, load_recipe, evaluate\n"
            "from signcl.analysis import run_density\n"
            "recipe = load_recipe(sys.argv[1], sys.argv[3:])\n"
            "run = fit(recipe, progress=False)\n"
            "scores = evaluate(run, 'test', bootstrap=0, progress=False)\n"
            "density = run_density(run, 'test', picture=False, progress=False)\n"
            "card = json.load(open(f'{run}/card.json'))\n"
            "found = {k: scores[k] for k in ('exact_match', 'bleu4', 'rouge_l')}\n"
            "found |= {'sdr': density['sdr'], 'seconds': card['seconds'], 'clips': card['clips']['train']}\n"
            "json.dump(found, open(sys.argv[2], 'w'))\n"
        )
        changes = [f"corpus.root={root}", f"corpus.fraction={fraction}", f"train.seed={seed}", f"out={folder}"]
        changes += [f"train.max_steps={STEPS}", "train.epochs=1000", "train.evaluate_every=1000"]
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "log.txt").open("w") as log:
            subprocess.run(
                [sys.executable, "-c", code, str(RECIPES / ARMS[arm]), str(result), *changes],
                check=True,
                stdout=log,
                stderr=log,
            )
    found: dict[str, float] = json.loads(result.read_text())
    print(f"{fraction:5.0%} {arm:8} seed {seed}: {found}", file=sys.stderr, flush=True)
    return found


def interval(values: list[float]) -> str:
    """Mean and half-width of its 95 % interval over seeds."""
    half = T95[len(values)] * statistics.stdev(values) / math.sqrt(len(values))
    return f"{statistics.mean(values):.1f} ± {half:.1f}"


def main() -> None:
    """Run everything that is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True)
    parser.add_argument("--out", default="runs/imu_numbers/curve", type=Path)
    parser.add_argument("--seeds", default=3, type=int, choices=sorted(T95))
    parser.add_argument("--jobs", default=2, type=int, help="runs at a time, one thread each")
    options = parser.parse_args()
    keys = [(f, a, s) for s in range(options.seeds) for f in FRACTIONS for a in ARMS]
    with ThreadPoolExecutor(options.jobs) as pool:
        places = {key: options.out / f"{key[0]}-{key[1]}-{key[2]}" for key in keys}
        found = dict(zip(keys, pool.map(lambda key: run(places[key], options.root, *reversed_key(key)), keys)))
    longest = max(r["seconds"] for r in found.values())
    print(f"{STEPS} steps each, {options.seeds} seeds, {longest:.0f} s the longest run\n")
    print("| training sequences | SignCL | exact match % | BLEU-4 | SDR % | gain in exact match | in BLEU-4 | in SDR |")
    print("|---|---|---|---|---|---|---|---|")
    seeds = range(options.seeds)
    for fraction in FRACTIONS:
        for arm in ARMS:
            rows = [found[fraction, arm, s] for s in seeds]
            cells = [interval([r[k] for r in rows]) for k in ("exact_match", "bleu4", "sdr")]
            gains = ["", "", ""]
            if arm == "with":
                gains = [
                    interval([found[fraction, "with", s][k] - found[fraction, "without", s][k] for s in seeds])
                    for k in ("exact_match", "bleu4", "sdr")
                ]
            clips = f"{rows[0]['clips']:.0f} ({fraction:.0%})"
            print(f"| {clips} | {arm} | " + " | ".join(cells + gains) + " |")


def reversed_key(key: tuple[float, str, int]) -> tuple[str, float, int]:
    """(fraction, arm, seed) in the order that `run` takes them."""
    return key[1], key[0], key[2]


if __name__ == "__main__":
    main()
