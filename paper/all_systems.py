"""All systems that translate, each with its own small recipe: quality against training time.

    python -m paper.all_systems --corpus imu_numbers --seeds 3
    python -m paper.all_systems --corpus synthetic --seeds 3

Every system is trained as its CPU recipe says, with its pretraining and without SignCL. Recipes differ in length,
parameters and optimizer, as their papers do, so a row shows what a user gets for how many seconds, not which idea is
better. Seconds include pretraining, on one core; two runs at a time. Uni-Sign reads key points on the synthetic corpus;
all other systems read frames there. Everything reads sensor rows on the number signs. Not a table of the paper.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from paper.jobs import Files, Fit, Place, Result, arms
from paper.measured import results, stored_row
from paper.output import Table
from paper.pictures import scatter_picture
from paper.script import command_of, run_script
from paper.settings import CORPORA, PRESETS, describe, make_synthetic
from paper.statistics import cell
from paper.table2 import SYSTEMS, systems, without_signcl

__all__ = ["TITLES", "main", "planned", "table"]

TITLES = {name: SYSTEMS[name] for name in ("gfslt", "gfslt-vlp", "nslt2018", "gaslt", "sign2gpt")} | {
    "nslt": "NSLT (transformer)",
    "spamo": "SpaMo",
    "uni-sign": "Uni-Sign",
    "joint-slt": "Joint-SLT, with glosses",
}
"""Name of a row -> its title. Joint-SLT is the reference that reads glosses in training."""
STARTS = {"imu_numbers": {"sign2gpt": "pgp"}, "synthetic": {"spamo": "spamo-warmup"}}
"""Corpus -> system -> the recipe of its pretraining, beyond the starts of `paper.table2`."""
POSES = Files("poses/{split}")
WHERE_FROM = (
    " Systems that read frames start from one frame encoder, trained on isolated signs of another lexicon; Uni-Sign "
    "reads the exact key points and starts from random weights."
)
METRICS = ("bleu4", "rouge_l", "exact_match", "sdr")


def planned(options: argparse.Namespace, place: Place) -> dict[str, Fit]:
    """The run of every row, without its seed."""
    corpus, changes = options.corpus, tuple(options.changes)
    found = systems(corpus, changes, place) if corpus == "synthetic" else {}
    for name in TITLES:
        if name in found or (corpus != "synthetic" and name == "gfslt-vlp"):
            continue
        recipe = f"{corpus}/{'finetune' if name == 'gfslt' else name}.yaml"
        start = STARTS[corpus].get(name)
        before = Fit(f"{corpus}/{start}.yaml", changes) if start else None
        reads = POSES if name == "uni-sign" and corpus == "synthetic" else None
        found[name] = Fit(recipe, (*without_signcl(recipe), *changes), before, reads)
    return {name: found[name] for name in TITLES if name in found}


def table(options: argparse.Namespace, place: Place) -> Table:
    """Trains missing runs and builds the table."""
    if options.corpus == "synthetic" and options.root is None and not place.reading:
        make_synthetic(place.root, poses=True, **PRESETS[options.preset].corpus)
    jobs = arms(planned(options, place), options.seeds)
    found = results(jobs, place)
    spent = {name: [_seconds(run, job, place) for run, job in zip(found[name], jobs[name])] for name in found}
    order = sorted(found, key=lambda name: -_mean("bleu4", found[name]))
    _picture(options.results / options.corpus / "all_systems.png", found, spent)
    return Table(
        "all_systems",
        f"All systems on the {CORPORA[options.corpus].title}: quality against training time",
        command_of("all_systems", options),
        ["system", "parameters", "seconds to train", "BLEU-4", "ROUGE-L", "exact match %", "SDR %"],
        [
            [
                TITLES[name],
                f"{found[name][0].card['parameters'] / 1e6:.2f} M",
                f"{statistics.mean(spent[name]):.0f}",
                *(cell(metric, found[name]) for metric in METRICS),
            ]
            for name in order
        ],
        [
            "Mean ± standard deviation over seeds, on test. Each system is trained with its own CPU recipe, without "
            "SignCL; recipes differ in length and size, so the rows do not compare ideas at equal cost. Seconds are of "
            "one core, with two runs at a time, and include pretraining."
            + (WHERE_FROM if options.corpus == "synthetic" else ""),
        ],
        made=describe(options, place, **{"training seconds of the arms": round(sum(map(sum, spent.values())))}),
    )


def _mean(metric: str, runs: Sequence[Result]) -> float:
    return statistics.mean(run.scores[metric] for run in runs)


def _seconds(run: Result, job: Fit, place: Place) -> float:
    """Seconds of a run and of its pretraining."""
    own = float(run.card["seconds"])
    return own if job.start is None else own + float(stored_row(job.start, place)["seconds"])


def _picture(path: Path, found: Mapping[str, Sequence[Result]], spent: Mapping[str, Sequence[float]]) -> None:
    points = {
        TITLES[name]: [(second, run.scores["bleu4"]) for second, run in zip(spent[name], runs)]
        for name, runs in found.items()
    }
    scatter_picture(path, points, "seconds to train on one core (logarithmic)", "BLEU-4 on test")


def main(words: list[str] | None = None) -> None:
    """Makes the table and draws the picture."""
    run_script("all_systems", __doc__, table, ("imu_numbers", "synthetic"), words, seeds=3)


if __name__ == "__main__":
    main()
