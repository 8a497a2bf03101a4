"""Table 7: sweep of the words per gloss in the frame margin: 1, the corpus's true value, 2.3, 3 and 4.

    python -m paper.table7 --corpus synthetic --seeds 3

The arms differ only in `loss.signcl.words_per_gloss`; `paper.sweep` defines the training. All arms are compared with
the paper's 2.3. "GT" is the corpus's true number of spoken words per gloss (its words over its glosses).
"""

from __future__ import annotations

import argparse
import statistics

from paper.jobs import Fit, Place, arms
from paper.measured import results, seconds
from paper.output import Claim, Table, effects_picture
from paper.script import command_of, run_script
from paper.settings import CORPORA, describe
from paper.statistics import verdict
from paper.sweep import CORPORA_OF_SWEEPS, arm, arm_rows, factor_of, length_note, margins_of, recipe_values

__all__ = ["main", "planned", "table"]

FACTORS = ("1", "GT", "2.3", "3", "4")
THEIRS = {"1": 17.45, "GT": 17.89, "2.3": 17.63, "3": 17.29, "4": 16.26}
"""The paper's BLEU-4 on PHOENIX-2014T after 80 epochs."""
DEFAULT = "2.3"


def factors(options: argparse.Namespace, place: Place) -> dict[str, float]:
    """The value of every arm; "GT" is counted on the training clips."""
    return {name: factor_of(options, place) if name == "GT" else float(name) for name in FACTORS}


def planned(options: argparse.Namespace, place: Place) -> dict[str, Fit]:
    """One arm per factor."""
    there = place.reading or (place.root / "train.tsv").is_file() or options.corpus != "synthetic"
    value = factors(options, place) if there else dict.fromkeys(FACTORS, 2.3)
    return {name: arm(options, f"loss.signcl.words_per_gloss={value[name]}") for name in FACTORS}


def table(options: argparse.Namespace, place: Place) -> Table:
    """Trains missing runs and builds the table."""
    found = results(arms(planned(options, place), options.seeds), place)
    _, floor, weight = recipe_values(options)
    value = factors(options, place)
    facts = {name: margins_of(options, place, value[name], floor).cells() for name in FACTORS}
    rows, effects, spread = arm_rows(found, DEFAULT, THEIRS, facts)
    seen = dict(effects)
    picture = options.results / options.corpus / "table7.png"
    effects_picture(picture, [f"factor {name}" for name in seen], list(seen.values()), "BLEU-4 over factor 2.3")
    theirs = statistics.stdev(THEIRS.values())
    claims = [
        Claim("SignCL is not sensitive to the factor (ours; the paper says so of the floor)", f"spread {theirs:.2f}",
              str(spread), spread.verdict),
        Claim("the corpus's own factor is better than 2.3", f"{THEIRS['GT'] - THEIRS['2.3']:+.2f}", str(seen["GT"]),
              verdict(seen["GT"])),
        Claim("a factor of 4 is worse than 2.3", f"{THEIRS['4'] - THEIRS['2.3']:+.2f}", str(seen["4"]),
              verdict(seen["4"], -1)),
    ]  # fmt: skip
    return Table(
        "table7",
        f"Table 7: words per gloss, on the {CORPORA[options.corpus].title}",
        command_of("table7", options),
        ["factor", "mean margin", "clips without negative %", "SDR %", "BLEU-4", "over 2.3", "paper BLEU-4",
         "paper over 2.3"],
        rows,
        [
            f"{length_note(options)} GT here {value['GT']:g} (paper: 2.1). Floor {floor:g} frames, weight {weight:g}.",
            "Ours: mean ± standard deviation over seeds, test split; differences: 95 % over seeds and sentences. A "
            "clip that is shorter than two margins has no negatives: SignCL only pulls its frames together. This "
            "happens in short clips when the factor is large.",
        ],
        claims,
        describe(options, place, **{"training seconds of the arms": round(sum(map(seconds, found.values())))}),
    )  # fmt: skip


def main(words: list[str] | None = None) -> None:
    """Makes the table."""
    run_script("table7", __doc__, table, CORPORA_OF_SWEEPS, words)


if __name__ == "__main__":
    main()
