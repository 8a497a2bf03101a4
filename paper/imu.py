"""Learning curves on real continuous signing (Persian number signs): GFSLT-style and NSLT, without and with SignCL.

    python -m paper.imu --corpus imu_numbers --seeds 5

Runs use 5 to 100 % of the training sequences, the same number of steps (`paper.settings.Preset.imu_steps`) and the
weights of the last step. Test numbers are unseen combinations of seen signs, and none of their takes is used in
training; density is measured on them too. Differences have intervals over seeds and sentences. Not a table of the
paper: its corpora are licensed, while this one is real and free.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence

from paper.jobs import Fit, Place, Result, arms
from paper.measured import results, seconds
from paper.output import Claim, Table
from paper.pictures import Line, lines_picture
from paper.script import command_of, run_script
from paper.settings import CORPORA, PRESETS, describe, for_steps
from paper.statistics import cell, effect, seed_interval, values_of, verdict

__all__ = ["main", "planned", "table"]

FRACTIONS = (0.05, 0.1, 0.25, 0.5, 1.0)
SYSTEMS = {"gfslt": "GFSLT-style", "nslt": "NSLT"}
METRICS = ("exact_match", "bleu4", "sdr")
Cell = tuple[str, float, bool]
"""(system, share of the training sequences, with SignCL?)"""


def planned(options: argparse.Namespace, place: Place) -> dict[Cell, Fit]:
    """Every run, without its seed."""
    recipes, length = CORPORA["imu_numbers"].recipes, for_steps(PRESETS[options.preset].imu_steps)
    return {
        (system, fraction, signcl): Fit(
            recipes[f"{system}-signcl" if signcl else system],
            (*length, f"corpus.fraction={fraction}", *options.changes),
        )
        for system in SYSTEMS
        for fraction in FRACTIONS
        for signcl in (False, True)
    }


def table(options: argparse.Namespace, place: Place) -> Table:
    """Trains missing runs and builds the table."""
    wanted = planned(options, place)
    named = {"/".join(map(str, cell)): job for cell, job in wanted.items()}
    made = results(arms(named, options.seeds), place)
    found = {cell: made["/".join(map(str, cell))] for cell in wanted}
    rows, claims, seen = [], [], []
    for system, title in SYSTEMS.items():
        gains = []
        for fraction in FRACTIONS:
            plain, treated = found[system, fraction, False], found[system, fraction, True]
            gains.append(effect("bleu4", treated, plain))
            rows += [
                [title, _clips(plain, fraction), "no", *(cell(metric, plain) for metric in METRICS), "–", "–", "–"],
                [title, _clips(treated, fraction), "yes", *(cell(metric, treated) for metric in METRICS),
                 str(effect("exact_match", treated, plain)), str(gains[-1]), str(effect("sdr", treated, plain))],
            ]  # fmt: skip
        seen += [verdict(gain) for gain in gains]
        claims += _claims(title, found, system, options.seeds)
    folder = options.results / options.corpus
    _picture(folder / "imu.png", found)
    steps = PRESETS[options.preset].imu_steps
    return Table(
        "imu",
        f"Learning curves on the {CORPORA['imu_numbers'].title}",
        command_of("imu", options),
        ["system", "training sequences", "SignCL", "exact match %", "BLEU-4", "SDR %", "gain in exact match",
         "in BLEU-4", "in SDR"],
        rows,
        [
            f"{steps} steps a run, no pretraining, 154 test sequences of numbers that training never saw. Ours: mean ± "
            "standard deviation over seeds; gains: 95 % over seeds and sentences (takes of one number together), of "
            "SDR over seeds; means over sizes: Student over seeds. In BLEU-4 SignCL helps in "
            f"{seen.count('supported')} of {len(seen)} rows and hurts in {seen.count('contradicted')}; in "
            f"{seen.count('not seen')} no difference is seen. By chance, about one row in twenty would show one.",
        ],
        claims,
        describe(options, place, **{"training seconds of the arms": round(sum(map(seconds, found.values())))}),
    )  # fmt: skip


def _claims(title: str, found: dict[Cell, list[Result]], system: str, seeds: int) -> list[Claim]:
    """Claims about the mean over all sizes (paired by seed) and about the smallest size, which needs help most."""
    mean = {
        metric: seed_interval([
            statistics.mean(
                values_of(metric, found[system, f, True])[seed] - values_of(metric, found[system, f, False])[seed]
                for f in FRACTIONS
            )
            for seed in range(seeds)
        ])
        for metric in ("bleu4", "sdr")
    }  # fmt: skip
    few = effect("bleu4", found[system, FRACTIONS[0], True], found[system, FRACTIONS[0], False])
    return [
        Claim(f"SignCL lowers SDR on held-out takes, {title}, mean over sizes", "–", str(mean["sdr"]),
              verdict(mean["sdr"], -1)),
        Claim(f"SignCL raises BLEU-4 on real signing, {title}, mean over sizes", "–", str(mean["bleu4"]),
              verdict(mean["bleu4"])),
        Claim(f"SignCL raises BLEU-4 with {FRACTIONS[0]:.0%} of the sequences, {title}", "–", str(few), verdict(few)),
    ]  # fmt: skip


def _clips(found: Sequence[Result], fraction: float) -> str:
    return f"{found[0].card['clips']['train']} ({fraction:.0%})"


def _picture(path, found: dict[Cell, list[Result]]) -> None:  # type: ignore[no-untyped-def]
    panels: dict[str, dict[str, Line]] = {}
    for metric, label in (("exact_match", "exact match %"), ("sdr", "SDR %, held-out takes")):
        lines = panels.setdefault(label, {})
        for number, (system, title) in enumerate(SYSTEMS.items()):
            for signcl in (False, True):
                points = []
                for fraction in FRACTIONS:
                    values = values_of(metric, found[system, fraction, signcl])
                    seen = seed_interval(values)
                    half = seen.high - seen.difference if len(values) > 1 else 0.0
                    points.append((fraction * 1.03 ** (2 * number + signcl), seen.difference, half))
                lines[f"{title}{' + SignCL' if signcl else ''}"] = points
    ticks = [(fraction, f"{fraction:.0%}") for fraction in FRACTIONS]
    lines_picture(path, panels, "share of the training sequences", ticks=ticks)


def main(words: list[str] | None = None) -> None:
    """Makes the table and draws the curves."""
    run_script("imu", __doc__, table, ("imu_numbers",), words, seeds=5)


if __name__ == "__main__":
    main()
