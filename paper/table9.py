"""Table 9: the aligner's word error rate, and the error of its boundaries if the corpus has true spans.

    python -m paper.table9 --corpus synthetic --seeds 3

The aligner is a recogniser on SMKD features, trained on train only, and on train and test merged ("transductive") as in
the paper. Its spans are forced alignments to the annotated glosses; blank frames are given to the nearest sign.
"""

from __future__ import annotations

import argparse
from typing import Any

from paper.extractors import aligner
from paper.glosses import alignment, run_analysis
from paper.jobs import Fit, Place, arms
from paper.measured import results, seconds
from paper.output import Claim, Table, effects_picture
from paper.settings import CORPORA, describe
from paper.statistics import Effect, mean_and_spread, seed_interval, verdict

__all__ = ["main", "planned", "table"]

SPLITS = ("train", "test", "dev")
DEV, TEST, OWN = ("train + test", "dev"), ("train + test", "test"), ("train", "test")
"""(training splits, evaluation split): the merged aligner on dev and on test, the plain one on test."""
THEIRS = {
    "phoenix14t": {"train": 8.68, "test": 8.03, "dev": 25.28},
    "csl_daily": {"train": 9.23, "test": 8.39, "dev": 29.32},
}
TRUTH = (
    ("boundary_error", "boundary error (frames)", 1.0),
    ("within", "within 2 frames (%)", 100.0),
    ("sign_accuracy", "sign frames right (%)", 100.0),
)


def planned(options: argparse.Namespace, place: Place) -> dict[str, Fit]:
    """The runs of every arm, without seeds."""
    return {
        kind: aligner(options.corpus, options.changes, transductive=kind == "train + test")
        for kind in ("train", "train + test")
    }


def table(options: argparse.Namespace, place: Place, command: str) -> Table:
    """Trains missing aligners, aligns every split and builds the table."""
    found = results(arms(planned(options, place), options.seeds), place)
    reports = {
        (kind, split): [alignment(result, split, place) for result in of_seeds]
        for kind, of_seeds in found.items()
        for split in SPLITS
    }
    theirs = THEIRS.get(options.corpus, THEIRS["phoenix14t"])
    rows = []
    for (kind, split), of_seeds in reports.items():
        cells = [_measured(of_seeds, key, scale) for key, _, scale in TRUTH]
        paper = f"{theirs[split]:.2f}" if kind == "train + test" else "–"
        left = sum(report["left_out"] for report in of_seeds) / len(of_seeds)
        rows.append([kind, split, mean_and_spread([r["wer"] for r in of_seeds]), paper, *cells, f"{left:.1f}"])
    picture = options.results / options.corpus / "table9.png"
    gaps = {
        "trained on train + test:\ndev less test": _gap(reports, DEV, TEST),
        "on test:\ntrain + test less train": _gap(reports, TEST, OWN),
    }
    effects_picture(picture, list(gaps), list(gaps.values()), "difference in the aligner's WER (%)")
    return Table(
        "table9",
        f"Table 9: the aligner on the {CORPORA[options.corpus].title}",
        command,
        ["trained on", "split", "WER %", "paper WER %", *(label for _, label, _ in TRUTH), "clips left out"],
        rows,
        [
            "Mean ± standard deviation over seeds. The paper's aligner was trained on train and test, on the paper's "
            "own corpora. Boundaries are compared with the corpus's own spans, at both ends of every sign. Blank "
            "frames are given to the nearest sign, so transitions between signs count as errors. A clip is left out if "
            "one of its glosses never occurs in training, or if it is too short for its glosses.",
        ],
        _claims(reports, theirs),
        describe(
            options, place, **{"training seconds": round(seconds([r for of_seeds in found.values() for r in of_seeds]))}
        ),
    )


def _measured(reports: list[dict[str, Any]], key: str, scale: float) -> str:
    values = [scale * r["against_truth"][key] for r in reports if "against_truth" in r]
    return mean_and_spread(values) if values else "–"


def _gap(
    reports: dict[tuple[str, str], list[dict[str, Any]]],
    one: tuple[str, str],
    other: tuple[str, str],
    key: str = "wer",
) -> Effect:
    values = [
        (a if key == "wer" else a["against_truth"])[key] - (b if key == "wer" else b["against_truth"])[key]
        for a, b in zip(reports[one], reports[other], strict=True)
    ]
    return seed_interval(values)


def _claims(reports: dict[tuple[str, str], list[dict[str, Any]]], theirs: dict[str, float]) -> list[Claim]:
    leak, own = _gap(reports, DEV, TEST), _gap(reports, TEST, OWN)
    claims = [
        Claim(
            "trained on train and test, the aligner makes fewer errors on test than on dev (WER dev − test)",
            f"{theirs['dev'] - theirs['test']:+.2f}",
            str(leak),
            verdict(leak),
        ),
        Claim("training on test lowers its WER on test (trained on both − on train)", "–", str(own), verdict(own, -1)),
    ]
    if all("against_truth" in r for kind in ("train", "train + test") for r in reports[kind, "test"]):
        edges = _gap(reports, TEST, OWN, "boundary_error")
        text = "training on test lowers its boundary error (frames, trained on both − on train)"
        claims.append(Claim(text, "–", str(edges), verdict(edges, -1)))
    return claims


def main(words: list[str] | None = None) -> None:
    """Makes the table."""
    run_analysis("table9", __doc__ or "", ("synthetic", "imu_numbers", "phoenix14t", "csl_daily"), words, table)


if __name__ == "__main__":
    main()
