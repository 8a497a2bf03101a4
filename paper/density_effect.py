"""Does lower density improve translation? Runs and analyses the experiment of `paper/preregistered.md`.

    python -m paper.density_effect --minutes 60       # run for an hour; repeat the command to continue
    python -m paper.density_effect --from-results     # write tables, picture and page from the committed numbers
    python -m paper.density_effect --preset gpu --minutes 8

Each finished run is one row of `runs.csv`, and its test predictions are kept, so every interval can be recomputed in
seconds. Not a table of the paper.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paper.effect_page import write_effect_page
from paper.jobs import Fit, Place, folder_of, run_all
from paper.raw_results import read_rows, references_of, rows_of, write_rows
from paper.settings import JOBS, SEEDS, add_only_missing, corpus_id, jobs_at_a_time, make_synthetic, usable_device
from signcl.cli.number_options import real
from signcl.data.corpora import load_samples
from signcl.data.corpus_stats import split_stats

__all__ = ["ARMS", "PRESETS", "STARTS", "Arm", "EffectPreset", "accepted", "main", "planned"]

HERE = Path(__file__).resolve().parent
LOOKS = {"size": 48, "density": 1.0, "sign_frames": 13, "transition_frames": 1}
LOOKS |= {"looseness": 0.7, "jitter": 0.5, "noise": 3.0, "unseen_signers": 0}
CORPUS = LOOKS | {"clips": 1200, "dev_share": 0.05, "test_share": 0.5, "clauses": 2.05, "signs": 24, "variation": 0.0}
CORPUS |= {"signers": 2, "seed": 30}
"""The corpus `synthetic-long`: 540 clips to train, 60 dev, 600 test; two clauses; every sign has a twin; no unseen
signer. `paper/pilots.md` describes how its difficulty was chosen, without SignCL."""
OTHER_SIGNS = LOOKS | {"clips": 800, "signs": 96, "signers": 8, "seed": 1030}
"""The corpus that pretrains the encoder of the start "signs": another lexicon and other signers."""
STARTS = ("random", "signs")


@dataclass(frozen=True)
class Arm:
    """One set of loss terms, used with either start."""

    weights: dict[str, float] = field(default_factory=dict)
    """Weights of the loss terms besides translation."""
    signcl: dict[str, Any] = field(default_factory=dict)
    """`loss.signcl` values."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Other values of the section `loss`, such as `word_signcl.stop_length`."""

    @property
    def has_margin(self) -> bool:
        """Whether a term reads the margins of `loss.signcl`."""
        return not self.weights.keys().isdisjoint(("signcl", "word_signcl"))

    def changes(self, margin: float) -> tuple[str, ...]:
        """The recipe overrides of this arm. `margin` is the mean distance between signs in the baseline."""
        terms = ", ".join(f"{name}: {weight}" for name, weight in {"translation": 1.0, **self.weights}.items())
        values = {"distance_margin": margin, **self.signcl} if self.has_margin else {}
        values = {f"signcl.{key}": value for key, value in values.items()} | self.settings
        return (f"loss.weights={{{terms}}}", *(f"loss.{key}={value}" for key, value in values.items()))


ARMS = {
    "none": Arm(),
    "pull": Arm({"signcl": 0.03}, {"part": "pull"}),
    "push": Arm({"signcl": 0.03}, {"part": "push"}),
    "both": Arm({"signcl": 0.03}),
    "paper": Arm({"signcl": 0.01}, {"distance_margin": 64.0}),
    "slow + SIGReg": Arm({"slow": 0.3, "sigreg": 3.0}),
}
"""The core: SignCL and its two halves at weight .03 with the baseline's mean distance as margin, SignCL with the
paper's settings, and a challenger that keeps the pull and replaces the push."""
CHALLENGERS = {
    "slow + invariance + SIGReg": Arm({"slow": 0.3, "invariance": 0.3, "sigreg": 3.0}),
    "word-aware SignCL": Arm({"word_signcl": 0.03}),
    "word contrast": Arm({"word_contrast": 0.1}),
}
"""Trained after the core with fresh seeds, together with the arms none, both and slow + SIGReg; `paper.challengers`
trains them on the number signs."""
ALL_WORDS = {
    "word-aware SignCL, all words": Arm({"word_signcl": 0.03}, settings={"word_signcl.stop_length": 0}),
    "word contrast, all words": Arm({"word_contrast": 0.1}, settings={"word_contrast.stop_length": 0}),
}
"""Trained after the challengers, with their seeds: in those, the two losses dropped short words (man, buy, two)."""
BESIDE_CHALLENGERS = ("none", "both", "slow + SIGReg")


@dataclass(frozen=True)
class EffectPreset:
    """Sizes of a block of the design."""

    title: str
    corpus: dict[str, Any]
    encoder: dict[str, Any]
    values: tuple[str, ...]
    """Recipe overrides of every run."""
    margins: dict[str, float]
    """m by start: mean distance between signs in a pilot run without SignCL, rounded."""
    pixels: int
    """Height and width of the model input."""
    device: str = "cpu"


MODEL = ("model.width=128", "model.ffn=256", "model.conv_width=128", "train.select=", "decode.dev_beams=1")
PRESETS = {
    "cpu": EffectPreset(
        "32 px, small CNN, 540 clips, 1,350 steps",
        CORPUS,
        OTHER_SIGNS,
        (*MODEL, "train.epochs=10", "train.batch_size=4", "train.lr=0.001", "train.warmup_steps=100",
         "train.evaluate_every=10"),
        {"random": 10.0, "signs": 33.0},
        pixels=32,
    ),
    "gpu": EffectPreset(
        "96 px, small CNN, 3000 clips",
        CORPUS | {"size": 96, "clips": 4200, "dev_share": 0.04, "test_share": 0.25},
        OTHER_SIGNS | {"size": 96},
        (*MODEL, "train.max_steps=2000", "train.epochs=3", "train.batch_size=8",
         "train.precision=bf16-mixed", "train.workers=2", "train.warmup_steps=100"),
        {"random": 20.0, "signs": 20.0},
        pixels=96,
        device="cuda",
    ),
}  # fmt: skip


def places(options: argparse.Namespace, *, make: bool = True) -> tuple[Place, Fit, Place]:
    """The place of the runs, the training run of the encoder for the start "signs", and its place."""
    preset = PRESETS[options.preset]
    out = options.out / ("density_effect" if options.preset == "cpu" else f"density_effect-{options.preset}")
    if make:
        make_synthetic(out / "corpus", **preset.corpus)
        make_synthetic(out / "encoder" / "corpus", **preset.encoder)
    device = options.device or preset.device
    jobs = jobs_at_a_time(options.jobs, device)

    def of(folder: Path) -> Place:
        root = folder / "corpus"
        return Place(folder, root, corpus_id(root) if root.is_dir() else "", device, jobs)

    encoder = Fit("synthetic/isolated.yaml", (f"input.size={preset.pixels}",))
    return of(out), encoder, of(out / "encoder")


def planned(options: argparse.Namespace) -> dict[tuple[str, str], Fit]:
    """(start, arm) -> the run, without its seed."""
    preset = PRESETS[options.preset]
    _, encoder, where = places(options, make=False)
    weights = {"random": "", "signs": f"pretrained:{folder_of(encoder, where)}"}
    arms = ARMS
    if options.all_words:
        arms = ALL_WORDS
    elif options.challengers:
        arms = CHALLENGERS | {name: ARMS[name] for name in BESIDE_CHALLENGERS}
    return {
        (start, name): Fit(
            "synthetic/finetune-signcl.yaml",
            ("model.init_from=", f"model.visual_weights={weights[start]}", f"input.size={preset.pixels}",
             *preset.values, "loss.signcl.words_per_gloss=2.3", *arm.changes(preset.margins[start])),
        )
        for start in STARTS
        for name, arm in arms.items()
    }  # fmt: skip


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
    """Trains missing runs until the time is over; writes the rows of finished runs after each seed."""
    until = None if options.minutes is None else time.monotonic() + 60 * options.minutes
    usable_device(options.preset, options.device or PRESETS[options.preset].device)
    place, encoder, where = places(options)
    wrong = [name for name, (_, _, holds) in accepted(place.root).items() if not holds]
    if wrong:
        raise SystemExit(f"the corpus at {place.root} does not meet the design's criteria: {', '.join(wrong)}")
    first = 100 if options.challengers or options.all_words else 0
    rows, answers, references = read_rows(results)
    for seed in range(first, first + options.seeds):
        wanted = {key: job.seeded(seed) for key, job in planned(options).items()}
        if options.only_missing:
            wanted = {
                (start, arm): job
                for (start, arm), job in wanted.items()
                if rows.get((start, arm, seed), {}).get("run") != folder_of(job, place).name
            }
        if not wanted:
            continue
        run_all([encoder], where)
        found = run_all(wanted.values(), place, until=until)
        for (start, arm), job in wanted.items():
            if job in found:
                row, told = rows_of(found[job], place, {"start": start, "arm": arm, "seed": seed})
                rows[start, arm, seed] = row
                answers[start, arm, seed] = told
                references = references_of(found[job])
        write_rows(results, rows, answers, references)
        if len(found) < len(wanted):
            print(f"{options.minutes:g} min are over; repeat the command to continue", file=sys.stderr)
            return


def main(words: list[str] | None = None) -> int:
    """Trains, analyses and writes; returns 2 after a user's mistake."""
    parser = argparse.ArgumentParser(prog="python -m paper.density_effect", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--preset", choices=tuple(PRESETS), default="cpu")
    parser.add_argument("--seeds", type=SEEDS, default=8)
    parser.add_argument("--minutes", type=real(low=0, high=1e6), help="start no new run after this many minutes")
    block = parser.add_mutually_exclusive_group()
    block.add_argument("--challengers", action="store_true", help="run the second block, with fresh seeds")
    block.add_argument("--all-words", action="store_true", help="run its word losses again, with short words too")
    parser.add_argument("--jobs", type=JOBS, help="parallel runs, one thread each; default: 2 on a CPU, 1 on a GPU")
    parser.add_argument("--device", help="default: the device of the preset")
    parser.add_argument("--out", type=Path, default=Path("runs/paper"), help="folder for runs")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="folder for numbers")
    parser.add_argument("--from-results", action="store_true", help="train nothing; write tables and page from numbers")
    add_only_missing(parser)
    parser.add_argument("--stats", action="store_true", help="check the corpus against the criteria; train nothing")
    options = parser.parse_args(words)
    results = options.results / ("density_effect" if options.preset == "cpu" else f"density_effect-{options.preset}")
    try:
        if options.stats:
            for name, (value, wanted, holds) in accepted(places(options)[0].root).items():
                shown = f"{value:.1f}" if value > 1 else f"{100 * value:.1f} %"
                print(f"{name}: {shown} ({wanted}){'' if holds else '  NOT ACCEPTED'}")
            return 0
        if not options.from_results:
            train(options, results)
        page = HERE / "density_effect.md" if options.results.resolve() == HERE / "results" else results / "README.md"
        write_effect_page(results, page, PRESETS[options.preset].title)
    except (SystemExit, RuntimeError, ValueError, OSError) as error:
        print(f"python -m paper.density_effect: {error}", file=sys.stderr)
        return 2
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
