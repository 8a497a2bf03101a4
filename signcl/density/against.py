"""Density against recognition: are crowded glosses recognised less often?

Accuracies come from a recogniser's predictions or from any table with one number per gloss.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from signcl.data.annotation.table_files import read_table
from signcl.data.whole_numbers import whole_number
from signcl.density import correlate, density_bins
from signcl.metrics import gloss_accuracy

__all__ = ["GlossTable", "against", "read_scores"]

QUANTITIES = ("inter", "intra", "sdr", "fisher", "silhouette", "neighbour_purity")


@dataclass(frozen=True)
class GlossTable:
    """One number per gloss."""

    scores: dict[str, float]
    """Accuracy in percent, or the scores of the table."""
    frequency: dict[str, int]
    """How often each gloss occurs; empty if the table has no frequencies."""
    source: str
    """Origin of the scores, for people."""


def read_scores(path: str | Path) -> GlossTable:
    """Reads gloss accuracies from `predictions.<split>.tsv` of a recogniser, or from a table with one score per gloss.

    Predictions (columns name, reference, hypothesis) give `signcl.metrics.gloss_accuracy` in percent. A table has the
    columns `gloss` and `score` (or `accuracy`), and optionally `frequency`; .tsv, .csv or .gz of these.

    Raises:
        ValueError: no such file, other columns, no rows, an invalid number, a duplicate gloss.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(
            f"--against needs predictions.<split>.tsv of a recogniser (`signcl evaluate RUN`) or a table with the "
            f"columns gloss and score; there is no file at {path}"
        )
    quoted = path.name.removesuffix(".gz").lower().endswith(".csv")
    rows = list(read_table(path, (), delimiter="," if quoted else "\t", quoted=quoted))
    if not rows:
        raise ValueError(f"{path}: has no rows; needs a header and one row per sentence or gloss")
    columns = rows[0].cells.keys()
    if {"reference", "hypothesis"} <= columns:
        found = gloss_accuracy([r.cells["hypothesis"] for r in rows], [r.cells["reference"] for r in rows])
        return GlossTable(
            {gloss: 100 * score.accuracy for gloss, score in found.items()},
            {},
            f"{path.name}: share of the gloss's {sum(s.occurrences for s in found.values())} occurrences in the "
            "references that the edit alignment matches, percent",
        )
    column = next((name for name in ("score", "accuracy") if name in columns), None)
    if column is None or "gloss" not in columns:
        raise ValueError(
            f"{path}: needs the columns name, reference, hypothesis, or gloss and score; found {', '.join(columns)}"
        )
    scores: dict[str, float] = {}
    frequency: dict[str, int] = {}
    for row in rows:
        gloss = row.cells["gloss"]
        if gloss in scores:
            raise row.error(f"the gloss {gloss!r} occurs twice; one row per gloss is needed")
        try:
            scores[gloss] = float(row.cells[column])
        except ValueError:
            scores[gloss] = math.nan
        if not math.isfinite(scores[gloss]):
            raise row.error(f"needs numbers, got {column} {row.cells[column]!r} for {gloss!r}")
        if "frequency" in columns:
            count = whole_number(row.cells["frequency"])
            if count is None:
                raise row.error(f"needs whole numbers, got frequency {row.cells['frequency']!r} for {gloss!r}")
            frequency[gloss] = count
    return GlossTable(scores, frequency, f"{path.name}: column {column}")


def against(
    rows: Sequence[dict[str, Any]], table: GlossTable, *, bins: int = 9, samples: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Bins and correlations over glosses that have both a ratio and a score; adds `accuracy` to their rows.

    Args:
        rows: one per gloss with count, intra, inter, sdr and further measures.
        table: scores by gloss.
        bins: number of gloss groups, by ratio.
        samples, seed: bootstrap samples and seed of the intervals.

    Raises:
        ValueError: fewer than four glosses in common (partial correlations that control for frequency need four).
    """
    both = [row for row in rows if row["gloss"] in table.scores]
    if len(both) < 4:
        held, theirs = [row["gloss"] for row in rows], list(table.scores)
        raise ValueError(
            f"--against needs at least 4 glosses that have a ratio and a score, got {len(both)}; ratios of "
            f"{', '.join(held[:5])}, scores of {', '.join(theirs[:5])}: are they spelled the same?"
        )
    for row in both:
        row["accuracy"] = table.scores[row["gloss"]]
    accuracy = np.array([row["accuracy"] for row in both])
    known = all(row["gloss"] in table.frequency for row in both)
    frequency = [table.frequency[row["gloss"]] if known else row["count"] for row in both]
    control = np.log(np.maximum(frequency, 1))
    named: list[tuple[str, Any]] = [(q, [row.get(q) for row in both]) for q in QUANTITIES]
    named.append(("log frequency", control))
    correlations = []
    for quantity, values in named:
        if any(value is None for value in values):
            continue
        entry: dict[str, Any] = {"quantity": quantity}
        for kind, fixed in (("plain", []), ("partial", [control])):
            if kind == "partial" and quantity == "log frequency":
                continue
            try:
                entry[kind] = asdict(correlate(values, accuracy, fixed, samples=samples, seed=seed))
            except ValueError as error:  # equal for all glosses: nothing to correlate; the table shows the reason
                entry[kind] = {"why": str(error)}
        correlations.append(entry)
    return {
        "glosses": len(both),
        "without_score": len(rows) - len(both),
        "source": table.source,
        "frequency": "from the table" if known else "instances of the gloss among these features",
        "correlations": correlations,
        "bins": [asdict(b) for b in density_bins([row["sdr"] for row in both], accuracy, min(bins, len(both)))],
    }
