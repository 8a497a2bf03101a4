"""Does a lower density translate better, and what does? The design of `paper/preregistered.md`, run and analysed.

    python -m paper.density_effect --minutes 60       # go on for an hour; the same command goes on from there
    python -m paper.density_effect --from-results     # tables, picture and page again from the committed numbers
    python -m paper.density_effect --preset gpu --minutes 8

Each finished run is one row of `runs.csv` and its test predictions are kept, so that every interval can be computed
again in seconds. Not a table of the paper.
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
from paper.settings import JOBS, SEEDS, corpus_id, jobs_at_a_time, make_synthetic, usable_device
from signcl.cli.number_options import real
from signcl.data.corpora import load_samples
from signcl.data.corpus_stats import split_stats

__all__ = ["ARMS", "PRESETS", "STARTS", "Arm", "EffectPreset", "accepted", "main", "planned"]

HERE = Path(__file__).resolve().parent
LOOKS = {"size": 48, "density": 1.0, "sign_frames": 13, "transition_frames": 1}
LOOKS |= {"looseness": 0.7, "jitter": 0.5, "noise": 3.0, "unseen_signers": 0}
CORPUS = LOOKS | {"clips": 1200, "dev_share": 0.05, "test_share": 0.5, "clauses": 2.05, "signs": 24, "variation": 0.0}
CORPUS |= {"signers": 2, "seed": 30}
"""`synthetic-long`: 540 clips to train, 60 dev, 600 test; two clauses; every sign has a twin; no unseen signer.

How its difficulty was chosen, without SignCL: `paper/pilots.md`."""
OTHER_SIGNS = LOOKS | {"clips": 800, "signs": 96, "signers": 8, "seed": 1030}
"""Another lexicon, other signers: what the start "signs" has seen."""
STARTS = ("random", "signs")


@dataclass(frozen=True)
class Arm:
    """One way to train, in either start."""

    weights: dict[str, float] = field(default_factory=dict)
    """Of terms beside translation."""
    signcl: dict[str, Any] = field(default_factory=dict)
    """`loss.signcl` values."""

    def changes(self, margin: float) -> tuple[str, ...]:
        """As recipe values. `margin` is the baseline's mean distance between signs."""
        terms = ", ".join(f"{name}: {weight}" for name, weight in {"translation": 1.0, **self.weights}.items())
        values = {"distance_margin": margin, **self.signcl} if "signcl" in self.weights else {}
        return (f"loss.weights={{{terms}}}", *(f"loss.signcl.{key}={value}" for key, value in values.items()))


ARMS = {
    "none": Arm(),
    "pull": Arm({"signcl": 0.03}, {"part": "pull"}),
    "push": Arm({"signcl": 0.03}, {"part": "push"}),
    "both": Arm({"signcl": 0.03}),
    "paper": Arm({"signcl": 0.01}, {"distance_margin": 64.0}),
    "slow + SIGReg": Arm({"slow": 0.3, "sigreg": 3.0}),
}
"""The core: halves of SignCL at weight .03 with the margin of the baseline, SignCL as the paper sets it, and the
challenger that keeps the pull and replaces the push."""
CHALLENGERS = {"slow + invariance + SIGReg": Arm({"slow": 0.3, "invariance": 0.3, "sigreg": 3.0})}
"""Trained after the core, with seeds of their own beside none, both and slow + SIGReg."""
BESIDE_CHALLENGERS = ("none", "both", "slow + SIGReg")


@dataclass(frozen=True)
class EffectPreset:
    """Sizes of a block of the design."""

    title: str
    corpus: dict[str, Any]
    encoder: dict[str, Any]
    values: tuple[str, ...]
    """Recipe values of every run."""
    margins: dict[str, float]
    """m by start: the mean distance between signs of a run without SignCL, from a pilot, rounded."""
    pixels: int
    """Height and width that the model reads."""
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
    """Where the runs go, the training of the encoder for the start "signs", and where that goes."""
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
    """(start, arm) -> the run, but for its seed."""
    preset = PRESETS[options.preset]
    _, encoder, where = places(options, make=False)
    weights = {"random": "", "signs": f"pretrained:{folder_of(encoder, where)}"}
    arms = CHALLENGERS | {name: ARMS[name] for name in BESIDE_CHALLENGERS} if options.challengers else ARMS
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
    """Label statistics of the training clips: name -> value, what is asked, whether it holds."""
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
    """Make what is missing until the time is over; rows of what is finished are written after each block of a seed."""
    until = None if options.minutes is None else time.monotonic() + 60 * options.minutes
    usable_device(options.preset, options.device or PRESETS[options.preset].device)
    place, encoder, where = places(options)
    wrong = [name for name, (_, _, holds) in accepted(place.root).items() if not holds]
    if wrong:
        raise SystemExit(f"the corpus at {place.root} is not what the design asks for: {', '.join(wrong)}")
    run_all([encoder], where)
    first = 100 if options.challengers else 0
    rows, answers, references = read_rows(results)
    for seed in range(first, first + options.seeds):
        wanted = {key: job.seeded(seed) for key, job in planned(options).items()}
        found = run_all(wanted.values(), place, until=until)
        for (start, arm), job in wanted.items():
            if job in found:
                row, told = rows_of(found[job], place, {"start": start, "arm": arm, "seed": seed})
                rows[start, arm, seed] = row
                answers[start, arm, seed] = told
                references = references_of(found[job])
        write_rows(results, rows, answers, references)
        if len(found) < len(wanted):
            print(f"{options.minutes:g} min are over; the same command goes on", file=sys.stderr)
            return


def main(words: list[str] | None = None) -> int:
    """Train, analyse, write; 2 where a person's mistake stops it."""
    parser = argparse.ArgumentParser(prog="python -m paper.density_effect", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--preset", choices=tuple(PRESETS), default="cpu")
    parser.add_argument("--seeds", type=SEEDS, default=8)
    parser.add_argument("--minutes", type=real(low=0, high=1e6), help="begin no further run after so many minutes")
    parser.add_argument("--challengers", action="store_true", help="the second block, with fresh seeds")
    parser.add_argument("--jobs", type=JOBS, help="runs at a time, one thread each: 2 on a CPU, 1 on a GPU")
    parser.add_argument("--device", help="default: that of the preset")
    parser.add_argument("--out", type=Path, default=Path("runs/paper"), help="where the runs go")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="where the numbers go")
    parser.add_argument("--from-results", action="store_true", help="train nothing: tables and page from the numbers")
    parser.add_argument("--stats", action="store_true", help="say whether the corpus is accepted, train nothing")
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
