"""Raw results of runs, committed: one row per run and its answers on test. All other numbers are computed from them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paper.jobs import Place, Result
from paper.store import packed, unpacked
from signcl.data.files import write_bytes, write_text

__all__ = ["COLUMNS", "Answers", "Key", "Rows", "read_rows", "references_of", "rows_of", "write_rows"]

Key = tuple[str, str, int]
"""(start, arm, seed)"""
Rows = dict[Key, dict[str, Any]]
Answers = dict[Key, dict[str, str]]
SCORES = ("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "chrf", "exact_match")
COLUMNS = (
    "start",
    "arm",
    "seed",
    *SCORES,
    "sdr",
    "inter",
    "map",
    "one_nn",
    "auc",
    "hubness",
    "norm",
    "with_negative",
    "seconds",
    "steps",
    "run",
)
"""Scores are on test. sdr, map and one_nn are percent; inter and norm are in feature units. with_negative is the
percentage of SignCL's anchors in training that had a legal negative, empty without a push. run identifies recipe and
code."""


def rows_of(
    result: Result, place: Place, key: Mapping[str, Any], *, answers: bool = True
) -> tuple[dict[str, Any], dict[str, str]]:
    """The row of one run, and its answers by clip name (empty if `answers` is false)."""
    from signcl.evaluation.scoring import read_predictions

    density = result.density or {}
    clips = density.get("retrieval", {}).get("clips", {})
    row: dict[str, Any] = {**key, **{name: result.scores.get(name) for name in SCORES}}
    row |= {
        "sdr": density.get("sdr"),
        "inter": density.get("inter"),
        "map": clips.get("map"),
        "one_nn": clips.get("one_nn"),
        "auc": density.get("nearest", {}).get("auc"),
        "hubness": clips.get("hubness"),
        "norm": density.get("feature_norm"),
        "with_negative": _with_negative(result.card),
        "seconds": result.card["seconds"],
        "steps": result.card["steps"],
        "run": result.folder.name,
    }
    if not answers:
        return row, {}
    names, _, hypotheses = read_predictions(result.folder / "predictions.test.tsv")
    return row, dict(zip(names, hypotheses, strict=True))


def _with_negative(card: Mapping[str, Any]) -> float | None:
    """Percent of a run's anchors in training that had a legal negative; None without a push or if not recorded."""
    counts = [noted for noted in card.get("noted", {}).values() if "frames_with_negative" in noted]
    if not counts:
        return None
    return 100 * sum(n["frames_with_negative"] for n in counts) / max(1, sum(n["frames"] for n in counts))


def references_of(result: Result) -> dict[str, str]:
    """The reference of each test clip, by name."""
    from signcl.evaluation.scoring import read_predictions

    names, references, _ = read_predictions(result.folder / "predictions.test.tsv")
    return dict(zip(names, references, strict=True))


def write_rows(folder: Path, rows: Rows, answers: Answers, references: Mapping[str, str]) -> None:
    """Writes `runs.csv` and `predictions.tsv.gz` (one row per clip, one column per run), reproducible byte for byte."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for key in sorted(rows):
        writer.writerow({name: _shown(rows[key].get(name)) for name in COLUMNS})
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "runs.csv", text.getvalue())
    keys = sorted(answers)
    lines = ["\t".join(["name", "reference", *("|".join(map(str, key)) for key in keys)])]
    lines += [
        "\t".join([name, references[name], *(answers[key].get(name, "") for key in keys)])
        for name in sorted(references)
    ]
    write_bytes(folder / "predictions.tsv.gz", packed("\n".join(lines) + "\n"))


def read_rows(folder: Path) -> tuple[Rows, Answers, dict[str, str]]:
    """Reads rows, answers and references; all are empty if there are no files."""
    rows: Rows = {}
    if (folder / "runs.csv").is_file():
        with (folder / "runs.csv").open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                key = (row["start"], row["arm"], int(row["seed"]))
                rows[key] = {name: _read(name, value) for name, value in row.items()}
    answers: Answers = {}
    references: dict[str, str] = {}
    if (folder / "predictions.tsv.gz").is_file():
        lines = unpacked(folder / "predictions.tsv.gz").splitlines()
        heads = [head.split("|") for head in lines[0].split("\t")[2:]]
        keys: list[Key] = [(start, arm, int(seed)) for start, arm, seed in heads]
        answers = {key: {} for key in keys}
        for line in lines[1:]:
            name, references[name], *told = line.split("\t")
            for key, sentence in zip(keys, told, strict=True):
                answers[key][name] = sentence
    return rows, answers, references


TEXT = ("start", "arm", "run")


def _shown(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else "" if value is None else value


def _read(name: str, value: str) -> Any:
    if name in TEXT:
        return value
    if not value:
        return None
    return int(value) if name in ("seed", "steps") else float(value)
