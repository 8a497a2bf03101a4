"""Figure 7: sweep of SignCL's weight, from 0.1 to 1000 times the weight of the recipe.

    python -m paper.figure7 --corpus synthetic --seeds 3

The paper sweeps lambda over 0.001, 0.01, 0.1, 1 and 10, which is 0.1 to 1000 times its best value 0.01. Other frame
encoders give features of another scale, so here the same factors are applied to the weight in the corpus's recipe. The
arms are those of `paper.sweep`; the dashed line of the figure is the arm without SignCL.
"""

from __future__ import annotations

import argparse
import statistics

from paper.jobs import Fit, Place, arms
from paper.measured import results, seconds
from paper.output import Claim, Table
from paper.pictures import lines_picture
from paper.script import command_of, run_script
from paper.settings import CORPORA, describe
from paper.statistics import cell, effect, noise, seed_interval, values_of, verdict
from paper.sweep import CORPORA_OF_SWEEPS, arm, length_note, recipe_values, sweep_of

__all__ = ["main", "planned", "table"]

SCALES = (0.1, 1.0, 10.0, 100.0, 1000.0)
NONE, DEFAULT = "0", "1"


def planned(options: argparse.Namespace, place: Place) -> dict[str, Fit]:
    """One arm without SignCL and one per weight, named by its factor."""
    weight = recipe_values(options)[2]
    swept = {f"{scale:g}": arm(options, f"loss.weights.signcl={weight * scale:.10g}") for scale in SCALES}
    return {NONE: arm(options, signcl=False)} | swept


def table(options: argparse.Namespace, place: Place) -> Table:
    """Trains missing runs and builds the table."""
    found = results(arms(planned(options, place), options.seeds), place)
    weight = recipe_values(options)[2]
    rows, over_none = [], {}
    for name, of_seeds in found.items():
        over_none[name] = effect("bleu4", of_seeds, found[NONE])
        over_default = effect("bleu4", of_seeds, found[DEFAULT])
        rows.append([
            "without" if name == NONE else f"x {name}", "–" if name == NONE else f"{weight * float(name):g}",
            cell("sdr", of_seeds), cell("bleu4", of_seeds),
            "–" if name == NONE else str(over_none[name]), "–" if name == DEFAULT else str(over_default),
            "–" if name == NONE else f"{0.01 * float(name):g}",
        ])  # fmt: skip
    largest = f"{SCALES[-1]:g}"
    hurt = effect("bleu4", found[largest], found[DEFAULT])
    small = noise([values_of("bleu4", found[f"{scale:g}"]) for scale in SCALES[:3]])
    repeats = "table1" if sweep_of(options).system == "features-nslt" else ""  # its NSLT on VLP, the same runs
    claims = [
        Claim("SignCL at its usual weight beats no SignCL", "above the dashed line (no number printed)",
              str(over_none[DEFAULT]), verdict(over_none[DEFAULT]), repeats),
        Claim("a thousand times the usual weight hurts translation", "below (no number printed)", str(hurt),
              verdict(hurt, -1)),
        Claim("between a tenth and ten times, the weight matters little", "no spread printed", str(small),
              small.verdict),
    ]  # fmt: skip
    folder = options.results / options.corpus
    _picture(folder / "figure7.png", found)
    return Table(
        "figure7",
        f"Figure 7: the weight of SignCL, on the {CORPORA[options.corpus].title}",
        command_of("figure7", options),
        ["of the recipe's weight", "weight", "SDR %", "BLEU-4", "over none", "over the recipe's", "paper lambda"],
        rows,
        [
            length_note(options),
            "Ours: mean ± standard deviation over seeds, test split; differences: 95 % over seeds and sentences. The "
            "paper prints only a curve, with one run per weight.",
        ],
        claims,
        describe(options, place, **{"training seconds of the arms": round(sum(map(seconds, found.values())))}),
    )  # fmt: skip


def _picture(path, found) -> None:  # type: ignore[no-untyped-def]
    points, densities = [], []
    for scale in SCALES:
        of_seeds = found[f"{scale:g}"]
        points.append(_point(scale, values_of("bleu4", of_seeds)))
        if all(r.density is not None for r in of_seeds):
            densities.append(_point(scale, values_of("sdr", of_seeds)))
    panels = {"BLEU-4": {"with SignCL": points}}
    level = {"BLEU-4": (statistics.mean(values_of("bleu4", found[NONE])), "without")}
    if densities:
        panels["SDR %"] = {"with SignCL": densities}
        level["SDR %"] = (statistics.mean(values_of("sdr", found[NONE])), "without")
    ticks = [(scale, f"x {scale:g}") for scale in SCALES]
    lines_picture(path, panels, "weight of SignCL over the recipe's", ticks=ticks, level=level)


def _point(place: float, values: list[float]) -> tuple[float, float, float]:
    """(place, mean, half width of its interval over seeds); the half width is 0 with one seed."""
    found = seed_interval(values)
    half = found.high - found.difference
    return place, found.difference, half if len(values) > 1 else 0.0


def main(words: list[str] | None = None) -> None:
    """Makes the figure."""
    run_script("figure7", __doc__, table, CORPORA_OF_SWEEPS, words)


if __name__ == "__main__":
    main()
