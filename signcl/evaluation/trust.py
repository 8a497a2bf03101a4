"""Evaluates a run's confidence in its answers: `trust_scores` of a split, and a table of verdicts."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from signcl.data.batch import Sample
from signcl.data.files import atomic_write
from signcl.inference.confidence import Judge, Verdict, quality_of, raw_score
from signcl.metrics.calibration import calibration_error, cross_fitted, reliability, risk_coverage_area
from signcl.systems import Decode
from signcl.systems.parts.written import Answer

__all__ = ["trust_scores", "write_verdicts"]


def trust_scores(
    samples: Sequence[Sample], answers: Mapping[str, Answer], judge: Judge | None, decode: Decode, split: str
) -> dict[str, Any]:
    """Calibration error, risk-coverage area and out-of-domain clips of a split; empty without probabilities.

    On the calibration split, confidence is cross-fitted: each clip's confidence comes from a curve fitted without it.

    Returns:
        `risk_coverage`, with the values for a random order and the best order; `ece`, `bins` and `calibration` if the
        run is calibrated, else `why_not`; `out_of_domain` if it has a reference.
    """
    raw = [raw_score(answers[s.name]) for s in samples]
    if not samples or any(score is None for score in raw):
        return {}
    scores = np.array(raw, dtype=float)
    good = quality_of([answers[s.name].text for s in samples], [s.text for s in samples])
    found: dict[str, Any] = {
        "quality": "sentence chrF / 100",
        "mean_quality": float(good.mean()),
        "risk_coverage": {
            "area": risk_coverage_area(scores, good),
            "by_chance": float(1 - good.mean()),
            "best": risk_coverage_area(good, good),
        },
    }
    if judge is None:
        found["why_not"] = "not calibrated yet: `signcl evaluate RUN --split dev` calibrates it"
        return found
    if judge.calibration is None:
        found["why_not"] = judge.why_not
    else:
        own = judge.made["split"] == split
        confidence = cross_fitted(scores, good) if own else judge.calibration(scores)
        if confidence is None:
            found["why_not"] = f"{split} has too few or too similar answers for cross-fitting"
        else:
            found["ece"] = calibration_error(confidence, good)
            found["mean_confidence"] = float(confidence.mean())
            found["bins"] = [asdict(part) for part in reliability(confidence, good)]
        found["calibration"] = {
            "kind": judge.calibration.kind,
            **{key: judge.made[key] for key in ("split", "clips", "search")},
            "cross_fitted": own,
            **({"note": note} if (note := judge.unlike(decode)) else {}),
        }
    if judge.vectors is not None:
        unlike = [s.name for s in samples if judge(answers[s.name]).out_of_domain]
        found["out_of_domain"] = {"clips": len(unlike), "first": unlike[:5], "limit_from": judge.made["limit_from"]}
    return found


def write_verdicts(path: Path, verdicts: Mapping[str, Verdict]) -> None:
    """Write a table of verdicts by clip; empty cells are unknown."""
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE, quotechar=None)
        table.writerow(["name", "probability", "confidence", "distance", "out_of_domain", "nearest"])
        for name, verdict in verdicts.items():
            numbers = (verdict.probability, verdict.confidence, verdict.distance)
            cells = ["" if value is None else f"{value:.4f}" for value in numbers]
            outside = "" if verdict.out_of_domain is None else str(verdict.out_of_domain).lower()
            table.writerow([name, *cells, outside, " ".join(verdict.nearest.split())])
