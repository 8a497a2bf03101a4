"""Writes a table as CSV for machines, Markdown for pages and LaTeX for manuscripts, and draws pictures of effects."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from signcl.data.files import write_text

__all__ = ["NO_SPANS", "Claim", "Table", "effects_picture"]

NO_SPANS = (
    "The corpus has no spans, so density is not measured on it and nothing is claimed of SDR: name a table with "
    "--spans (`signcl spans`, `signcl align`)."
)
"""A note for tables with density columns."""


@dataclass(frozen=True)
class Claim:
    """One claim of the paper, and what was measured here."""

    text: str
    theirs: str
    ours: str
    verdict: str
    """supported | not seen | contradicted | within seed noise."""
    repeats: str = ""
    """The table that makes the same claim on the same runs; the claim is not counted twice."""


@dataclass
class Table:
    """One reproduced table or figure of the paper."""

    name: str
    """Stem of its files, e.g. `table8`."""
    title: str
    command: str
    header: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    made: dict[str, Any] = field(default_factory=dict)
    """Corpus, seeds, code version, training seconds."""

    def markdown(self) -> str:
        """The table as Markdown, for a page."""
        lines = [f"## {self.title}", "", f"`{self.command}`", ""]
        lines += ["| " + " | ".join(self.header) + " |", "|" + "---|" * len(self.header)]
        lines += ["| " + " | ".join(row) + " |" for row in self.rows]
        if self.claims:
            lines += ["", "| claim | paper | here | verdict |", "|---|---|---|---|"]
            lines += [f"| {c.text} | {c.theirs} | {c.ours} | **{c.verdict}** |" for c in self.claims]
        lines += ["", *self.notes] if self.notes else []
        made = ", ".join(f"{key} {value}" for key, value in self.made.items())
        return "\n".join([*lines, "", f"Made: {made}.", ""])

    def latex(self) -> str:
        """The table as LaTeX (booktabs), for a manuscript."""
        body = [" & ".join(_escape(cell) for cell in row) + r" \\" for row in self.rows]
        columns = "l" + "r" * (len(self.header) - 1)
        head = " & ".join(_escape(cell) for cell in self.header) + r" \\"
        caption = _escape(f"{self.title}. {self.command}")
        return "\n".join([
            r"\begin{table}", r"\centering", rf"\begin{{tabular}}{{{columns}}}", r"\toprule", head, r"\midrule", *body,
            r"\bottomrule", r"\end{tabular}", rf"\caption{{{caption}}}", r"\end{table}", "",
        ])  # fmt: skip

    def csv(self) -> str:
        """The table as CSV, for machines."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([self.header, *self.rows])
        return text.getvalue()

    def write(self, folder: Path) -> None:
        """Writes all formats, and `.json` for the page of claims."""
        for suffix, text in ((".md", self.markdown()), (".tex", self.latex()), (".csv", self.csv())):
            write_text(folder / f"{self.name}{suffix}", text)
        write_text(folder / f"{self.name}.json", json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")


def _escape(text: str) -> str:
    plain = text.replace("\\", r"\textbackslash ")
    for mark in "&%$#_{}":
        plain = plain.replace(mark, "\\" + mark)
    return plain.replace("±", r"$\pm$").replace("λ", r"$\lambda$").replace("×", r"$\times$")


def effects_picture(path: Path, labels: Sequence[str], effects: Sequence[Any], axis: str) -> None:
    """Draws effects with their intervals, one per line, and a line at zero."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from signcl.data.files import atomic_write

    figure, axes = plt.subplots(figsize=(6.4, 0.5 * len(labels) + 1.2), layout="constrained")
    for place, found in enumerate(effects):
        low, high = (bound if math.isfinite(bound) else found.difference for bound in (found.low, found.high))
        axes.plot([low, high], [place, place], color="#0072B2", linewidth=2)
        axes.plot(found.difference, place, "o", color="#0072B2")
    axes.axvline(0, color="#777777", linewidth=1, linestyle="--")
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.set_xlabel(axis)
    axes.spines[["top", "right"]].set_visible(False)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], dpi=160, metadata={"Software": None})
    plt.close(figure)
