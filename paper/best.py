"""Does the winner of `paper.findings` win again? Compares `best.yaml` with plain and without SignCL on fresh seeds.

    python -m paper.best --corpus synthetic --seeds 5

The lead of the arm that is best on dev is partly due to chance. So three arms are trained again, including pretraining,
with seeds that were not used for selection (from `FIRST_SEED` on): the winner, SignCL as in the paper, no SignCL.
Only the synthetic corpus has a winner that stood out on dev. Not a table of the paper; `docs/findings.md` reports the
result.
"""

from __future__ import annotations

import argparse

from paper import findings
from paper.jobs import Fit, Place, arms
from paper.measured import results, seconds
from paper.output import Claim, Table, effects_picture
from paper.script import command_of, run_script
from paper.settings import CORPORA, describe
from paper.statistics import cell, effect, verdict

__all__ = ["FIRST_SEED", "WINNER", "main", "planned", "table"]

FIRST_SEED = 100
"""First of the fresh seeds; those used in `paper.findings` begin at 0."""
WINNER = findings.TOKENS
"""The arm of `paper.findings` that was best on dev; it is `recipes/synthetic/best.yaml`."""
METRICS = ("bleu4", "rouge_l", "exact_match", "sdr")


def planned(options: argparse.Namespace, place: Place) -> dict[str, Fit]:
    """The runs of the three arms, without seeds."""
    all_arms = findings.planned(options, place)
    return {name: all_arms[name] for name in (WINNER, findings.PAPER, findings.PLAIN)}


def table(options: argparse.Namespace, place: Place) -> Table:
    """Trains missing runs and builds the table."""
    found = results(arms(planned(options, place), options.seeds, FIRST_SEED), place)
    gains = {name: effect("bleu4", found[WINNER], found[name]) for name in (findings.PAPER, findings.PLAIN)}
    rows = [
        [name, *(cell(metric, of_seeds) for metric in METRICS), str(gains.get(name, "–"))]
        for name, of_seeds in found.items()
    ]
    claims = [
        Claim(f"{WINNER} raises BLEU-4 over: {name} (fresh seeds)", "–", str(gain), verdict(gain))
        for name, gain in gains.items()
    ]
    picture = options.results / options.corpus / "best.png"
    effects_picture(
        picture, [f"over {name}" for name in gains], list(gains.values()), f"BLEU-4 on test gained by {WINNER}"
    )
    return Table(
        "best",
        f"The winner again, with fresh seeds, on the {CORPORA[options.corpus].title}",
        command_of("best", options),
        ["arm", "BLEU-4 test", "ROUGE-L test", "exact match % test", "SDR % test", "the winner gains in BLEU-4"],
        rows,
        [
            f"Seeds {FIRST_SEED} to {FIRST_SEED + options.seeds - 1} in pretraining and finetuning; the arms, the test "
            "sentences and the frame encoder are those of findings. Mean ± standard deviation over seeds; differences: "
            "95 % over seeds and sentences.",
        ],
        claims,
        describe(options, place, **{"training seconds of the arms": round(sum(map(seconds, found.values())))}),
    )  # fmt: skip


def main(words: list[str] | None = None) -> None:
    """Makes the table."""
    run_script("best", __doc__, table, ("synthetic",), words, seeds=5)


if __name__ == "__main__":
    main()
