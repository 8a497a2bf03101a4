"""Does lower density improve translation? Runs and analyses the experiment of `paper/preregistered.md`.

    python -m paper.density_effect --minutes 60       # run for an hour; repeat the command to continue
    python -m paper.density_effect --from-results     # write tables, picture and page from the committed numbers
    python -m paper.density_effect --longer           # a further block: --challengers, --all-words, --settings
    python -m paper.density_effect --preset gpu --minutes 8

Each finished run is one row of `runs.csv`, and its test predictions are kept, so every interval can be recomputed in
seconds. Not a table of the paper.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paper.effect_design import ARMS, BLOCKS, STARTS, Arm
from paper.effect_page import write_effect_pages
from paper.jobs import Fit, Place, folder_of, run_all
from paper.raw_results import read_rows, references_of, rows_of, write_rows
from paper.settings import JOBS, SEEDS, add_only_missing, corpus_id, jobs_at_a_time, make_synthetic, usable_device
from signcl.cli.number_options import real
from signcl.data.corpora import load_samples
from signcl.data.corpus_stats import split_stats
from signcl.data.files import write_json
from signcl.data.json_files import read_json

__all__ = ["PRESETS", "EffectPreset", "accepted", "main", "planned", "results_of"]

HERE = Path(__file__).resolve().parent
LOOKS = {"size": 48, "density": 1.0, "sign_frames": 13, "transition_frames": 1}
LOOKS |= {"looseness": 0.7, "jitter": 0.5, "noise": 3.0, "unseen_signers": 0}
CORPUS = LOOKS | {"clips": 1200, "dev_share": 0.05, "test_share": 0.5, "clauses": 2.05, "signs": 24, "variation": 0.0}
CORPUS |= {"signers": 2, "seed": 30}
"""The corpus `synthetic-long`: 540 clips to train, 60 dev, 600 test; two clauses; every sign has a twin; no unseen
signer. `paper/pilots.md` describes how its difficulty was chosen, without SignCL."""
OTHER_SIGNS = LOOKS | {"clips": 800, "signs": 96, "signers": 8, "seed": 1030}
"""The corpus that pretrains the encoder of the start "signs": another lexicon and other signers."""


@dataclass(frozen=True)
class Cell:
    """One size of the training set and of training. Each cell is analysed alone."""

    title: str
    epochs: int
    steps: int | None = None
    """Training ends after this many steps; None: after the epochs."""
    fraction: float = 1.0
    """Used share of the training clips."""

    def values(self, longer: float) -> tuple[str, ...]:
        """Recipe overrides of a run that is trained `longer` times as long."""
        epochs = round(self.epochs * longer)
        steps = () if self.steps is None else (f"train.max_steps={round(self.steps * longer)}",)
        share = () if self.fraction == 1 else (f"corpus.fraction={self.fraction}",)
        return (f"train.epochs={epochs}", f"train.evaluate_every={epochs}", *steps, *share)


@dataclass(frozen=True)
class EffectPreset:
    """Sizes of the design on one kind of machine."""

    title: str
    corpus: dict[str, Any]
    encoder: dict[str, Any]
    values: tuple[str, ...]
    """Recipe overrides of every run."""
    cells: dict[str, Cell]
    """Subfolder of the results -> cell."""
    pixels: int
    """Height and width of the model input."""
    margins: dict[str, float] = field(default_factory=dict)
    """m by start: mean distance between signs in a pilot run without SignCL, rounded; empty: measured in each cell."""
    device: str = "cpu"
    jobs: int | None = None
    """Parallel runs; None: as many as the device takes by default."""


MODEL = ("model.width=128", "model.ffn=256", "model.conv_width=128", "train.select=", "decode.dev_beams=1")
PRESETS = {
    "cpu": EffectPreset(
        "32 px, small CNN",
        CORPUS,
        OTHER_SIGNS,
        (*MODEL, "train.batch_size=4", "train.lr=0.001", "train.warmup_steps=100"),
        {"": Cell("540 clips, 1,350 steps", epochs=10)},
        pixels=32,
        margins={"random": 10.0, "signs": 33.0},
    ),
    "gpu": EffectPreset(
        "96 px, small CNN",
        # 3,000 clips to train, 200 dev, 1,000 test
        CORPUS | {"size": 96, "clips": 4200, "dev_share": 200 / 4200, "test_share": 1000 / 4200},
        OTHER_SIGNS | {"size": 96},
        (*MODEL, "train.batch_size=8", "train.precision=bf16-mixed", "train.workers=2", "train.warmup_steps=100"),
        {
            "300-clips-500-steps": Cell("300 clips, 500 steps", epochs=14, steps=500, fraction=0.1),
            "300-clips-2000-steps": Cell("300 clips, 2,000 steps", epochs=53, steps=2000, fraction=0.1),
            "3000-clips-500-steps": Cell("3,000 clips, 500 steps", epochs=2, steps=500),
            "3000-clips-2000-steps": Cell("3,000 clips, 2,000 steps", epochs=6, steps=2000),
        },
        pixels=96,
        device="cuda",
        jobs=5,  # of 16 cores, each run takes one and its loader two; one run alone leaves most of the card idle
    ),
}
PILOT_SEED = 1000
"""The seed of the runs that measure the margin, which no block uses."""


def places(options: argparse.Namespace, *, make: bool = True) -> tuple[Place, Fit, Place]:
    """The place of the runs, the training run of the encoder for the start "signs", and its place."""
    preset = PRESETS[options.preset]
    out = results_of(options.preset, options.out)
    if make:
        make_synthetic(out / "corpus", **preset.corpus)
        make_synthetic(out / "encoder" / "corpus", **preset.encoder)
    device = options.device or preset.device
    jobs = jobs_at_a_time(options.jobs or preset.jobs, device)

    def of(folder: Path) -> Place:
        root = folder / "corpus"
        return Place(folder, root, corpus_id(root) if root.is_dir() else "", device, jobs)

    encoder = Fit("synthetic/isolated.yaml", (f"input.size={preset.pixels}",))
    return of(out), encoder, of(out / "encoder")


def results_of(preset: str, results: Path) -> Path:
    """Where the numbers of a preset are in a folder of results."""
    return results / ("density_effect" if preset == "cpu" else f"density_effect-{preset}")


def planned(
    options: argparse.Namespace, cell: Cell | None = None, margins: Mapping[str, float] | None = None
) -> dict[tuple[str, str], Fit]:
    """(start, arm) -> the run, without its seed.

    Args:
        cell: default: the first of the preset.
        margins: m by start; default: those of the preset.
    """
    block, preset = BLOCKS[options.block], PRESETS[options.preset]
    cell, margins = cell or next(iter(preset.cells.values())), margins or preset.margins
    weights = _weights(options)
    return {
        (start, name): _run(preset, weights[start], ARMS[name], cell, margins[start])
        for start in block.starts
        for name in block.trained
    }


def _weights(options: argparse.Namespace) -> dict[str, str]:
    """The frame encoder's weights (`model.visual_weights`) of each start."""
    _, encoder, where = places(options, make=False)
    return {"random": "", "signs": f"pretrained:{folder_of(encoder, where)}"}


def _run(preset: EffectPreset, weights: str, arm: Arm, cell: Cell, margin: float) -> Fit:
    return Fit(
        "synthetic/finetune-signcl.yaml",
        ("model.init_from=", f"model.visual_weights={weights}", f"input.size={preset.pixels}", *preset.values,
         *cell.values(arm.longer), "loss.signcl.words_per_gloss=2.3", *arm.changes(margin)),
    )  # fmt: skip


def accepted(root: Path) -> dict[str, tuple[float, str, bool]]:
    """Label statistics of the training clips: name -> value, required range, whether it is met."""
    train = load_samples("synthetic", root, "train")
    stats = split_stats(train, train)
    frames, stuck = stats.frames_mean or 0.0, stats.frames_without_negative
    signs, rest = stats.signs_with_sign_negative, stats.rest_negatives
    if stuck is None or signs is None or rest is None or stats.transition_negatives is None:
        raise ValueError(f"the corpus at {root} has no spans, so its pairs cannot be judged")
    return {
        "frames a clip": (frames, "100 to 130", 100 <= frames <= 130),
        "frames without any negative": (stuck, "at most 10 %", stuck <= 0.10),
        "sign frames with a sign among their negatives": (signs, "at least 85 %", signs >= 0.85),
        "negative pairs with a transition frame": (stats.transition_negatives, "reported", True),
        "negative pairs with a rest frame, transitions shared": (rest, "at most 15 %", rest <= 0.15),
    }


def train(options: argparse.Namespace, results: Path) -> None:
    """Trains missing runs until the time is over; writes the rows of finished runs after each seed of each cell."""
    until = None if options.minutes is None else time.monotonic() + 60 * options.minutes
    preset, block = PRESETS[options.preset], BLOCKS[options.block]
    usable_device(options.preset, options.device or preset.device)
    place, encoder, where = places(options)
    wrong = [name for name, (_, _, holds) in accepted(place.root).items() if not holds]
    if wrong:
        raise SystemExit(f"the corpus at {place.root} does not meet the design's criteria: {', '.join(wrong)}")
    for seed in range(block.first_seed, block.first_seed + options.seeds):
        for name, cell in preset.cells.items():
            if not _train_seed(options, cell, seed, results / name, (place, encoder, where), until):
                print(f"{options.minutes:g} min are over; repeat the command to continue", file=sys.stderr)
                return


def _train_seed(
    options: argparse.Namespace,
    cell: Cell,
    seed: int,
    results: Path,
    places: tuple[Place, Fit, Place],
    until: float | None,
) -> bool:
    """Trains a seed's missing runs in a cell, and writes their rows; whether all of them are there."""
    place, encoder, where = places
    margins = _margins(options, cell, results, places, until)
    if margins is None:
        return False
    rows, answers, references = read_rows(results)
    wanted = {key: job.seeded(seed) for key, job in planned(options, cell, margins).items()}
    if options.only_missing:
        wanted = {
            (start, arm): job
            for (start, arm), job in wanted.items()
            if rows.get((start, arm, seed), {}).get("run") != folder_of(job, place).name
        }
    if not wanted:
        return True
    if any(start == "signs" for start, _ in wanted):
        run_all([encoder], where)
    found = run_all(wanted.values(), place, until=until)
    for (start, arm), job in wanted.items():
        if job in found:
            row, told = rows_of(found[job], place, {"start": start, "arm": arm, "seed": seed})
            rows[start, arm, seed] = row
            answers[start, arm, seed] = told
            references = references_of(found[job])
    write_rows(results, rows, answers, references)
    return len(found) == len(wanted)


def _margins(
    options: argparse.Namespace, cell: Cell, results: Path, places: tuple[Place, Fit, Place], until: float | None
) -> Mapping[str, float] | None:
    """m by start: that of the preset, or the mean distance between signs of a pilot run without SignCL in this cell.

    Measured margins are kept in `margins.json`: a pilot on another card would give others, and so other runs. None: the
    time is over.
    """
    preset, file = PRESETS[options.preset], results / "margins.json"
    if preset.margins:
        return preset.margins
    if file.is_file():
        found: dict[str, float] = read_json(file, dict.fromkeys(STARTS, float), "delete it and its runs.csv")
        return found
    place, encoder, where = places
    run_all([encoder], where)
    pilots = {
        start: _run(preset, weights, ARMS["none"], cell, 1.0).seeded(PILOT_SEED)
        for start, weights in _weights(options).items()
    }
    made = run_all(pilots.values(), place, until=until)
    if len(made) < len(pilots):
        return None
    found = {start: float(f"{(made[job].density or {})['inter']:.2g}") for start, job in pilots.items()}
    results.mkdir(parents=True, exist_ok=True)
    write_json(file, found)
    return found


def main(words: list[str] | None = None) -> int:
    """Trains, analyses and writes; returns 2 after a user's mistake."""
    parser = argparse.ArgumentParser(prog="python -m paper.density_effect", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--preset", choices=tuple(PRESETS), default="cpu")
    parser.add_argument("--seeds", type=SEEDS, default=8)
    parser.add_argument("--minutes", type=real(low=0, high=1e6), help="start no new run after this many minutes")
    group = parser.add_mutually_exclusive_group()
    for name, block in BLOCKS.items():
        if name != "core":
            told = f"{block.title[0].lower()}{block.title[1:]}"
            group.add_argument(f"--{name}", action="store_const", dest="block", const=name, default="core", help=told)
    parser.add_argument("--jobs", type=JOBS, help="parallel runs, one thread each; default: 2 on a CPU, 5 on a GPU")
    parser.add_argument("--device", help="default: the device of the preset")
    parser.add_argument("--out", type=Path, default=Path("runs/paper"), help="folder for runs")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="folder for numbers")
    parser.add_argument("--from-results", action="store_true", help="train nothing; write tables and page from numbers")
    add_only_missing(parser)
    parser.add_argument("--stats", action="store_true", help="check the corpus against the criteria; train nothing")
    options = parser.parse_args(words)
    results, preset = results_of(options.preset, options.results), PRESETS[options.preset]
    try:
        if options.stats:
            for name, (value, wanted, holds) in accepted(places(options)[0].root).items():
                shown = f"{value:.1f}" if value > 1 else f"{100 * value:.1f} %"
                print(f"{name}: {shown} ({wanted}){'' if holds else '  NOT ACCEPTED'}")
            return 0
        if not options.from_results:
            train(options, results)
        committed = options.preset == "cpu" and options.results.resolve() == HERE / "results"
        page = HERE / "density_effect.md" if committed else results / "README.md"
        titles = {name: f"{preset.title}, {cell.title}" for name, cell in preset.cells.items()}
        write_effect_pages(results, page, titles, "" if options.preset == "cpu" else f" --preset {options.preset}")
    except (SystemExit, RuntimeError, ValueError, OSError) as error:
        print(f"python -m paper.density_effect: {error}", file=sys.stderr)
        return 2
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
