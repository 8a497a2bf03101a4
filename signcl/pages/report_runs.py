"""The data of the report: the files of a run folder, read once and checked.

A folder that is not a run is an error. A run that has not been scored or measured yet is fine: that part stays None,
and the page names the command that makes it.
"""

from __future__ import annotations

import csv
import shlex
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from signcl.evaluation.health import Finding, health
from signcl.evaluation.scoring import read_predictions
from signcl.training.hub import hub_label
from signcl.training.recipe import Recipe
from signcl.training.record import read_record
from signcl.training.result_files import read_density, read_points, read_scores
from signcl.training.run_folder import read_card
from signcl.training.runs import read_recipe

__all__ = ["GlossRow", "RunFiles", "command", "labels", "read_run", "training_seconds"]


@dataclass(frozen=True)
class GlossRow:
    """One line of `density.<split>.csv`; distances in feature units, `sdr` a ratio."""

    gloss: str
    count: int
    intra: float
    inter: float
    sdr: float


@dataclass(frozen=True)
class RunFiles:
    """A run as its folder describes it, without its weights."""

    folder: Path
    label: str
    """Name on the page: the folder's name, with more of its path if two runs share it."""
    split: str
    recipe: Recipe
    card: dict[str, Any]
    log: list[dict[str, Any]]
    """Lines of metrics.jsonl."""
    scores: dict[str, Any] | None
    """The split's entry of scores.json."""
    density: dict[str, Any] | None
    """density.<split>.json"""
    glosses: list[GlossRow] | None
    """density.<split>.csv"""
    points: list[dict[str, Any]] | None
    """density.<split>.points.json"""
    predictions: dict[str, tuple[str, str]] | None
    """Name -> (reference, hypothesis), in the order of the split."""
    health: list[Finding] = field(default_factory=list)
    """Warnings about its scores."""


def labels(folders: list[Path]) -> list[str]:
    """The shortest path ends that distinguish the runs, e.g. `finetune` and `finetune-signcl`."""
    full = [(hub_label(folder),) if hub_label(folder) else folder.resolve().parts for folder in folders]
    again, times = Counter(full).most_common(1)[0]
    if times > 1:
        raise ValueError(f"report needs different runs, got {Path(*again)} {times} times; name every run once")
    for depth in range(1, max(map(len, full)) + 1):
        found = ["/".join(parts[-depth:]) for parts in full]
        if len(set(found)) == len(found):
            break
    return found


def command(verb: str, run: RunFiles) -> str:
    """The command that makes a missing part of a run."""
    split = "" if run.split == "test" else f" --split {shlex.quote(run.split)}"
    return f"signcl {verb} {shlex.quote(str(run.folder))}{split}"


def read_run(folder: Path, split: str, label: str) -> RunFiles:
    """Read a run folder.

    Raises:
        FileNotFoundError: there is no such folder, or `signcl fit` did not make it.
        ValueError: a file in it is damaged.
    """
    recipe, card, scores, density = (
        read_recipe(folder),
        read_card(folder),
        read_scores(folder),
        read_density(folder, split),
    )
    file = folder / f"predictions.{split}.tsv"
    predictions = _predictions(file) if file.is_file() else None
    pairs = list((predictions or {}).values())
    return RunFiles(
        folder=folder,
        label=label,
        split=split,
        recipe=recipe,
        card=card,
        log=[line for line in read_record(folder) if isinstance(line, dict) and {"kind", "step"} <= line.keys()],
        scores=scores.get(split),
        density=density,
        glosses=_gloss_rows(folder / f"density.{split}.csv"),
        points=read_points(folder, split),
        predictions=predictions,
        health=health(
            card,
            scores.get(split),
            dev=scores.get("dev") if split != "dev" else None,
            density=density,
            answers=[answer for _, answer in pairs],
            references=[reference for reference, _ in pairs],
        ),
    )


def training_seconds(run: RunFiles) -> tuple[float, float]:
    """Training seconds of the run, and of the runs that its weights come from, if their folders exist."""
    own, before = float(run.card.get("seconds", 0.0)), 0.0
    recipe, seen = run.recipe, {run.folder.resolve()}
    while recipe.model.init_from and (source := Path(recipe.model.init_from)).resolve() not in seen:
        seen.add(source.resolve())
        try:
            before += float(read_card(source).get("seconds", 0.0))
            recipe = read_recipe(source)
        except (OSError, ValueError):
            break
    return own, before


def _gloss_rows(path: Path) -> list[GlossRow] | None:
    if not path.is_file():
        return None
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [
                GlossRow(r["gloss"], int(r["count"]), float(r["intra"]), float(r["inter"]), float(r["sdr"]))
                for r in csv.DictReader(file)
            ]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} needs the columns gloss, count, intra, inter, sdr ({type(error).__name__}: {error}); "
            f"make it again with `signcl density {path.parent}`"
        ) from None


def _predictions(path: Path) -> dict[str, tuple[str, str]]:
    return {name: (reference, hypothesis) for name, reference, hypothesis in zip(*read_predictions(path))}
