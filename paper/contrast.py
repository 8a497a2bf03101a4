"""Which contrastive loss pretrains best? One vector per clip, CiCo's token similarity, and two later extensions.

    python -m paper.contrast --corpus synthetic --seeds 5

Four pretrainings of VLP, each followed by the same finetuning of GFSLT without SignCL, with the same corpus, frame
encoder, steps, batch size and parameters. The design was fixed before any of its runs:

- arms: `clip` with masked text (GFSLT-VLP); `token_clip` with masked text (CiCo's aggregation); `token_clip` with a
  light translation instead of masked text (as in C2RL); `token_clip` with masked text and negatives chosen from easy to
  hard (as in SCL-SLT: half of the negatives are used, half of them of any hardness; the most similar tenth is never
  chosen as hard);
- no value was tuned: weights are 1, shares are the defaults, lengths are those of the shipped recipes;
- measure: BLEU-4 on test after finetuning, with the weights selected on dev. Questions, over the same seeds: does CiCo
  gain over `clip`; does the C2RL arm gain over CiCo; does the SCL-SLT arm gain over CiCo. Retrieval, ROUGE-L, exact
  match and SDR are reported too;
- seeds from 200 on, which no other script in this folder uses.

Finished runs are kept; repeat the command after an interruption. `contrast-runs.csv` next to the table has the numbers
of these runs.
"""

from __future__ import annotations

import argparse
import csv
import io
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from paper.jobs import Fit, Place, Result, arms, folder_of
from paper.measured import measured_of_start, results, seconds
from paper.output import Claim, Table, effects_picture
from paper.raw_results import rows_of
from paper.script import command_of, run_script
from paper.settings import CORPORA, describe
from paper.statistics import cell, effect, mean_and_spread, verdict
from signcl.data.files import write_text
from signcl.training.record import read_record
from signcl.training.run_folder import read_card

__all__ = ["ASKED", "FIRST_SEED", "PRETRAINING", "main", "planned", "table"]

CLIP, CICO, C2RL, SCL = (
    "clip (GFSLT-VLP)",
    "token_clip (CiCo)",
    "token_clip + translation (C2RL)",
    "curriculum (SCL-SLT)",
)
PRETRAINING = {
    CLIP: "synthetic/pretrain.yaml",
    CICO: "synthetic/vlp-token.yaml",
    C2RL: "synthetic/vlp-c2rl.yaml",
    SCL: "synthetic/vlp-curriculum.yaml",
}
"""The arms and their pretraining recipes."""
ASKED = ((CICO, CLIP), (C2RL, CICO), (SCL, CICO))
FIRST_SEED = 200
COLUMNS = (
    *("arm", "seed", "bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "exact_match", "sdr", "retrieval"),
    *("pretraining_seconds", "seconds", "run"),
)


def planned(options: argparse.Namespace, place: Place) -> dict[str, Fit]:
    """The runs of the arms, without seeds."""
    finetune, changes = CORPORA[options.corpus].recipes["gfslt"], tuple(options.changes)
    return {name: Fit(finetune, changes, Fit(recipe, changes)) for name, recipe in PRETRAINING.items()}


def table(options: argparse.Namespace, place: Place) -> Table:
    """Trains missing runs and builds the table."""
    jobs = arms(planned(options, place), options.seeds, FIRST_SEED)
    found = results(jobs, place)
    before = {name: [_pretrained(job, place) for job in of_seeds] for name, of_seeds in jobs.items()}
    gains = {f"{one} over {other}": effect("bleu4", found[one], found[other]) for one, other in ASKED}
    raw = [
        {**_numbers(run, place), "arm": name, "seed": FIRST_SEED + i, **before[name][i]}
        for name, of_seeds in found.items()
        for i, run in enumerate(of_seeds)
    ]
    folder = options.results / options.corpus
    write_text(folder / "contrast-runs.csv", _csv(raw))
    effects_picture(folder / "contrast.png", list(gains), list(gains.values()), "BLEU-4 on test")
    rows = [
        [
            name,
            mean_and_spread([run["retrieval"] for run in before[name]]),
            *(cell(metric, of_seeds) for metric in ("bleu4", "rouge_l", "exact_match", "sdr")),
            f"{statistics.mean(run['pretraining_seconds'] for run in before[name]):.0f}",
        ]
        for name, of_seeds in found.items()
    ]
    claims = [
        Claim(f"{one} raises BLEU-4 over {other}", "–", str(gain), verdict(gain))
        for (one, other), gain in zip(ASKED, gains.values())
    ]
    return Table(
        "contrast",
        f"Which contrast of clips and sentences pretrains best, on the {CORPORA[options.corpus].title}",
        command_of("contrast", options),
        ["pretraining", "retrieval % dev", "BLEU-4 test", "ROUGE-L test", "exact match % test", "SDR % test",
         "seconds of pretraining"],
        rows,
        [
            f"Seeds {FIRST_SEED} to {FIRST_SEED + options.seeds - 1} in pretraining and finetuning. Mean ± standard "
            "deviation over seeds; differences: 95 % over seeds and sentences. Retrieval: by each arm's own contrast, "
            "at the end of pretraining. The arms were fixed before these runs (the head of paper/contrast.py).",
        ],
        claims,
        describe(options, place, **{"training seconds of the arms": round(sum(map(seconds, found.values())))}),
    )  # fmt: skip


def _numbers(run: Result, place: Place) -> Mapping[str, Any]:
    """All scores of a run, keyed by `COLUMNS`."""
    return run.row if run.row is not None else rows_of(run, place, {}, answers=False)[0]


def _pretrained(job: Fit, place: Place) -> dict[str, float]:
    """Retrieval on dev after a run's pretraining (percent of clips that find their own sentence), and its seconds."""
    assert job.start is not None
    folder = folder_of(job.start, place)

    def make() -> dict[str, float]:
        dev = [row for row in read_record(folder) if row["kind"] == "dev"][-1]
        retrieval = dev["token_retrieval"] if "token_retrieval" in dev else dev["retrieval"]
        return {"retrieval": retrieval, "pretraining_seconds": read_card(folder)["seconds"]}

    found: dict[str, float] = measured_of_start("pretraining", job, place, make)
    return found


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def main(words: list[str] | None = None) -> None:
    """Makes the table."""
    run_script("contrast", __doc__, table, ("synthetic",), words, seeds=5)


if __name__ == "__main__":
    main()
