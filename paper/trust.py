"""Can the scores be trusted? Measures scores without the true video, overlap with training, and scoring conventions.

    python -m paper.trust --corpus synthetic --seeds 3
    python -m paper.trust --corpus imu_numbers --seeds 5

Applies `signcl evaluate RUN --probe overlap visual dot` to runs of other scripts: GFSLT-VLP without and with SignCL
(Table 8), or on the number signs GFSLT with all training sequences (`paper.imu`). Not a table of the paper, which has
no such check.
"""

from __future__ import annotations

import argparse
import json
import statistics
from typing import Any

from paper import imu, table8
from paper.jobs import Fit, Place, Result, arms
from paper.measured import measured, results
from paper.output import Claim, Table, effects_picture
from paper.script import command_of, run_script
from paper.settings import CORPORA, describe
from paper.statistics import mean_and_spread, seed_interval, verdict
from paper.version import part_version
from signcl.data.files import write_json

__all__ = ["main", "planned", "table"]

VIDEOS = ("intact", "shuffled", "zeros", "mean", "noise", "another")
ARMS = {"100": "GFSLT-VLP", "111": "GFSLT-VLP + SignCL in both"}


def planned(options: argparse.Namespace, place: Place) -> dict[str, Fit]:
    """The runs that are probed, without seeds."""
    if options.corpus == "imu_numbers":
        cells = imu.planned(options, place)
        return {f"GFSLT{' + SignCL' if signcl else ''}": cells["gfslt", 1.0, signcl] for signcl in (False, True)}
    found = table8.jobs(options.corpus, options.changes)
    return {title: found[arm] for arm, title in ARMS.items()}


def probes_of(result: Result, place: Place) -> dict[str, Any]:
    """The results of the probes of a run on test, as shown in the table."""

    def make() -> dict[str, Any]:
        probed = _asked(result, place.device)
        return {
            "seen": float(probed["overlap"]["groups"].get("seen", {"percent": 0.0})["percent"]),
            "copied": float(probed["overlap"]["copied"]["all"]),
            "bleu4": {row["video"]: float(row["bleu4"]) for row in probed["visual"]["rows"]},
            "conventions": _conventions(probed),
        }

    found: dict[str, Any] = measured("probes", result, place, make)
    return found


def _asked(result: Result, device: str) -> dict[str, Any]:
    """All results of the probes, cached in the run folder until the code of the probes changes."""
    from signcl.evaluation.probes import PROBES, probe

    kept = result.folder / f"probes.{part_version('signcl/evaluation/probes')}.json"
    if not kept.is_file():
        probe(result.folder, tuple(PROBES), device=device, bootstrap=0, progress=False)
        scores = json.loads((result.folder / "scores.json").read_text(encoding="utf-8"))
        write_json(kept, scores["test"]["probes"])
    return dict(json.loads(kept.read_text(encoding="utf-8")))


def table(options: argparse.Namespace, place: Place) -> Table:
    """Trains missing runs, probes them and builds the table."""
    found = results(arms(planned(options, place), options.seeds), place)
    probed = {name: [probes_of(result, place) for result in of_seeds] for name, of_seeds in found.items()}
    rows = []
    for name, of_seeds in probed.items():
        scores = {video: [one["bleu4"][video] for one in of_seeds] for video in VIDEOS}
        conventions = [max(one["conventions"]) - min(one["conventions"]) for one in of_seeds]
        rows.append([
            name, *(mean_and_spread(scores[video]) for video in VIDEOS),
            f"{statistics.mean(one['seen'] for one in of_seeds):.1f}",
            f"{statistics.mean(one['copied'] for one in of_seeds):.1f}",
            mean_and_spread(conventions),
        ])  # fmt: skip
    claims, effects = [], []
    for name, of_seeds in probed.items():
        for video, text in (("another", "another clip"), ("noise", "noise"), ("shuffled", "shuffled frames")):
            lost = seed_interval([one["bleu4"]["intact"] - one["bleu4"][video] for one in of_seeds])
            effects.append((f"{name}: intact − {video}", lost))
            claims.append(Claim(f"{name} needs the video: BLEU-4 over that with {text}", "–", str(lost), verdict(lost)))
    picture = options.results / options.corpus / "trust.png"
    effects_picture(picture, [n for n, _ in effects], [e for _, e in effects], "BLEU-4 lost without the true video")
    return Table(
        "trust",
        f"Can the scores be trusted? Probes on the {CORPORA[options.corpus].title}",
        command_of("trust", options),
        ["system", *(f"BLEU-4 {video}" for video in VIDEOS), "test sentences seen in training %",
         "answers that are a training sentence %", "spread of BLEU-4 over 12 conventions"],
        rows,
        [
            "BLEU-4 on test, mean ± standard deviation over seeds; differences: 95 % over seeds. shuffled: the clip's "
            "own frames in random order; zeros, mean, noise: no image, the same number of frames; another: the answer "
            "to another clip. The 12 conventions: full stop as written, always or never; tokenizer none or 13a (for "
            "Chinese: zh or char); case as written or lower.",
        ],
        claims,
        describe(options, place),
    )  # fmt: skip


def _conventions(probed: dict[str, Any]) -> list[float]:
    """BLEU-4 under every scoring convention that suits the language: words, or Chinese characters."""
    rows = probed["dot"]["rows"]
    own = next(row["tokenize"] for row in rows if row["scored"])
    alike = ("zh", "char") if own in ("zh", "char") else ("none", "13a")
    return [float(row["bleu4"]) for row in rows if row["tokenize"] in alike]


def main(words: list[str] | None = None) -> None:
    """Makes the table."""
    run_script("trust", __doc__, table, ("synthetic", "imu_numbers", "phoenix14t", "csl_daily"), words)


if __name__ == "__main__":
    main()
