"""Measures every gloss in a kind of features: its density, and the accuracy of a recogniser on these features.

This needs the frames of each sign. They come from `--spans TABLE` (`signcl spans`, `signcl align`), or else from the
corpus itself, or else from an aligner that is trained as in the paper: on train and test merged (Table 9).
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paper.extractors import aligner
from paper.jobs import Place, Result, run_all
from paper.measured import measured
from paper.output import Table
from paper.script import Rows, command_of, run_script
from paper.version import part_version
from signcl.data.batch import Sample
from signcl.density.instances import Instances
from signcl.training.recipe import Recipe

if TYPE_CHECKING:
    from signcl.density.maps import Projection

__all__ = [
    "GlossValues",
    "align",
    "alignment",
    "annotated",
    "gloss_values",
    "instances_of",
    "map_of",
    "mean_values",
    "run_analysis",
]

SPLITS = ("dev", "test")
"""Splits whose glosses are measured, merged because a single split has few instances of most glosses."""


@dataclass(frozen=True)
class GlossValues:
    """Measurements of each gloss; all arrays have the order of `glosses`."""

    glosses: list[str]
    counts: np.ndarray
    """Number of instances. [K]"""
    frequency: np.ndarray
    """Number of occurrences in the training split. [K]"""
    inter: np.ndarray
    """Mean distance to the other glosses, relative to the mean over all glosses. [K]"""
    intra: np.ndarray
    """Mean distance within the gloss, in the same units. [K]"""
    sdr: np.ndarray
    """Sign Density Ratio, `intra` / `inter`; lower is clearer. [K]"""
    map: np.ndarray
    """Mean average precision of retrieving the gloss in other clips, 0..1; nan if it occurs in one clip only. [K]"""
    accuracy: np.ndarray
    """Share of the gloss's occurrences that are recognised, 0..1. [K]"""


def align(result: Result, split: str, device: str = "cpu") -> dict[str, Any]:
    """The report of `signcl align` for a run and split, and its table; cached until the alignment code changes."""
    from signcl.inference.alignment import align_run
    from signcl.training.runs import load_run

    table = table_of(result, split)
    report = table.with_suffix(".json")
    if table.is_file() and report.is_file():
        found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
        return found
    leaked = split == "test" and load_run(result.folder).recipe.corpus.transductive
    return align_run(result.folder, split, table, device=device, transductive=leaked, progress=False)


def alignment(result: Result, split: str, place: Place) -> dict[str, Any]:
    """Quality of an alignment for Table 9: `wer`, number of `left_out` clips, and `against_truth` if spans exist."""

    def make() -> dict[str, Any]:
        report = align(result, split, place.device)
        truth = {"against_truth": report["against_truth"]} if "against_truth" in report else {}
        return {"wer": report["wer"], "left_out": len(report["left_out"]), **truth}

    found: dict[str, Any] = measured("alignment", result, place, make, split=split)
    return found


def table_of(result: Result, split: str) -> Path:
    """Path of the span table that `align` writes."""
    code = part_version("signcl/inference/alignment.py", "signcl/density/forced_align.py")
    return result.folder / f"aligned.{split}.{code}.tsv"


def annotated(recipe: Recipe, split: str, options: argparse.Namespace, place: Place) -> list[Sample]:
    """The samples of a split with spans of their signs; samples without spans are omitted."""
    from signcl.data.annotation.span_table import attach_spans
    from signcl.training.recipe import recipe_samples

    samples = recipe_samples(recipe, split)
    if options.spans is not None:
        samples = attach_spans(samples, options.spans.replace("{split}", split))
    elif not any(s.spans for s in samples):
        job = aligner(options.corpus, options.changes).seeded(0)
        result = run_all([job], place)[job]
        align(result, split, place.device)
        samples = attach_spans(samples, table_of(result, split))
    return [s for s in samples if s.spans]


def instances_of(
    result: Result, options: argparse.Namespace, place: Place, *, tap: str, splits: Sequence[str] = SPLITS
) -> Instances:
    """One feature vector per sign of the splits, at a tap of a run."""
    from signcl.inference.run_density import sign_instances
    from signcl.training.runs import load_run

    run = load_run(result.folder)
    samples = [s for split in splits for s in annotated(run.recipe, split, options, place)]
    return sign_instances(run, samples, [options.frame], tap=tap, device=place.device, progress=False)[0]


def map_of(
    result: Result,
    options: argparse.Namespace,
    place: Place,
    tap: str,
    splits: Sequence[str] = SPLITS,
    perplexity: float = 30.0,
) -> Projection:
    """A t-SNE map of the signs of the splits, in the order of `instances_of`."""
    from signcl.density.maps import Projection, tsne

    def make() -> dict[str, Any]:
        instances = instances_of(result, options, place, tap=tap, splits=splits)
        found = tsne(np.asarray(instances.features), perplexity=perplexity, seed=0)
        return {"coordinates": found.coordinates, "settings": found.settings}

    told = {"frame": options.frame, "spans": options.spans, "splits": list(splits), "perplexity": perplexity}
    found = measured("map", result, place, make, tap=tap, **told)
    return Projection(np.array(found["coordinates"], dtype=np.float32), found["settings"])


def gloss_values(result: Result, options: argparse.Namespace, place: Place) -> GlossValues:
    """By gloss: density and retrieval of the features that a recogniser was trained on, and its accuracy.

    Accuracy is `signcl.metrics.gloss_accuracy`; glosses that do not occur in the references are omitted.
    """
    found = measured(
        "glosses", result, place, lambda: _by_gloss(result, options, place), frame=options.frame, spans=options.spans
    )
    glosses = found["glosses"]
    return GlossValues(glosses, *(np.array(found[f.name], dtype=float) for f in fields(GlossValues)[1:]))


def _by_gloss(result: Result, options: argparse.Namespace, place: Place) -> dict[str, list[Any]]:
    """The fields of `GlossValues`, as lists."""
    from signcl.density import retrieval, sign_density_ratio, to_rows
    from signcl.evaluation.scoring import read_predictions
    from signcl.metrics import gloss_accuracy
    from signcl.training.recipe import recipe_samples
    from signcl.training.runs import load_run

    instances = instances_of(result, options, place, tap="visual")
    names, numbers = instances.numbers()
    rows: list[dict[str, Any]] = [dict(r) for r in to_rows(sign_density_ratio(instances.features, numbers), names)]
    again = retrieval(instances.features, numbers, instances.clips)
    found_again = {names[number]: float(value) for number, value in zip(again.gloss_ids, again.by_gloss)}
    references: list[str] = []
    hypotheses: list[str] = []
    for split in SPLITS:
        _, theirs, ours = read_predictions(result.folder / f"predictions.{split}.tsv")
        references += theirs
        hypotheses += ours
    scores = gloss_accuracy(hypotheses, references)
    frequency = Counter(g for s in recipe_samples(load_run(result.folder).recipe, "train") for g in s.gloss)
    rows = sorted((row for row in rows if row["gloss"] in scores), key=lambda row: str(row["gloss"]))
    if len(rows) < 2:
        raise ValueError(f"{result.folder}: needs at least 2 glosses with 2 instances in dev and test, got {len(rows)}")
    unit = float(np.mean([row["inter"] for row in rows]))
    return {
        "glosses": [row["gloss"] for row in rows],
        "counts": [row["count"] for row in rows],
        "frequency": [frequency[row["gloss"]] for row in rows],
        "inter": [row["inter"] / unit for row in rows],
        "intra": [row["intra"] / unit for row in rows],
        "sdr": [row["sdr"] for row in rows],
        "map": [found_again.get(row["gloss"], math.nan) for row in rows],
        "accuracy": [float(scores[row["gloss"]].accuracy) for row in rows],
    }


def mean_values(seeds: Sequence[GlossValues]) -> GlossValues:
    """The mean over seeds, gloss by gloss; all seeds have the same instances."""
    first = seeds[0]
    if any(one.glosses != first.glosses for one in seeds):
        raise ValueError("the seeds of a kind of features must have the same glosses")
    return GlossValues(
        first.glosses,
        first.counts,
        first.frequency,
        *(
            np.mean([getattr(one, name) for one in seeds], axis=0)
            for name in ("inter", "intra", "sdr", "map", "accuracy")
        ),
    )


def run_analysis(
    name: str,
    about: str,
    corpora: Sequence[str],
    words: Sequence[str] | None,
    table: Callable[[argparse.Namespace, Place, str], Table],
    more: Callable[[argparse.ArgumentParser], None] | None = None,
    rows: tuple[str, Rows] | None = None,
) -> Table:
    """`run_script` for a table that measures signs, with an option for the frame that represents a sign.

    Args:
        about: the docstring of the script.
        table: builds the table from the options, the place of runs, and the command as text.
        more: adds further options of the script.
        rows: see `run_script`.
    """

    def own(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--frame", choices=("centre", "mean", "medoid"), default="centre", help="frame of a sign")
        if more is not None:
            more(parser)

    def with_command(options: argparse.Namespace, place: Place) -> Table:
        return table(options, place, command_of(name, options))

    return run_script(name, about, with_command, corpora, words, more=own, rows=rows)
