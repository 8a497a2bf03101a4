"""Writes two pages: `paper/README.md`, the handwritten `HEAD.md` and counts of verdicts, and `paper/claims.md`.

Every number of the claims was made by a command: each row is a claim from the `.json` of a table.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from paper.effect_page import TABLES
from paper.extractors import KINDS, title
from paper.table2 import SYSTEMS
from signcl.data.files import write_text

__all__ = ["ORDER", "TOPICS", "read_tables", "topic_of", "write_page"]

ORDER = (
    *TABLES.values(),
    "density_effect-gpu",
    "table8",
    "table2",
    "table1",
    "imu",
    "challengers",
    "challengers-all-words",
    "best",
    "all_systems",
    "contrast",
    "findings",
    "surface",
    "trust",
    "table6",
    "table7",
    "figure7",
    "table10",
    "figure3",
    "figure2",
    "figure5",
    "figure6",
    "table9",
)
"""Tables in order of importance; others follow by name."""
NEEDED = ("name", "title", "command", "claims", "made")


def read_tables(results: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Every table in a folder of results, with its file.

    Raises:
        ValueError: a `.json` that is not a table of these scripts.
    """
    found = []
    for path in sorted(results.glob("*/*.json")):
        try:
            table = json.loads(path.read_text(encoding="utf-8"))
            missing = [key for key in NEEDED if key not in table]
        except (json.JSONDecodeError, UnicodeDecodeError, TypeError):
            missing = list(NEEDED)
        if missing:
            raise ValueError(f"{path}: a table has {', '.join(NEEDED)}, this lacks {', '.join(missing)}; delete it")
        found.append((path, table))
    weight = {name: number for number, name in enumerate(ORDER)}
    return sorted(
        found, key=lambda item: (weight.get(item[1]["name"], len(ORDER)), item[1]["name"], item[0].parent.name)
    )


def write_page(results: Path, page: Path, head: Path) -> tuple[str, str]:
    """Writes the page of all results, and `claims.md` beside it; returns their texts."""
    tables = read_tables(results)
    rows, verdicts = _claims(tables)
    counts = _counts(rows, verdicts) if any(rows.values()) else ["Nothing has been run yet: `make paper`."]
    summary = "\n".join([head.read_text(encoding="utf-8").rstrip(), "", "## Claims", "", *counts, ""])
    every = [
        "# Every claim, table and figure",
        "",
        f"`python -m paper` writes this page. [The evidence]({page.name})",
        "",
    ]
    claims = "\n".join([*every, *_topics(rows), *_tables(tables, page), *_not_run(tables), ""])
    write_text(page, summary)
    write_text(page.with_name("claims.md"), claims)
    return summary, claims


def topic_of(name: str, text: str) -> str:
    """The topic (one of `TOPICS`) of a table's claim."""
    of_tables = {
        (*TABLES.values(), "density_effect-gpu"): TOPICS[0],
        (
            "challengers",
            "challengers-all-words",
            "findings",
            "best",
            "contrast",
        ): "What else might help: options of this package",
        ("trust",): "Does the score come from the video?",
        ("table6", "table7", "figure7"): "Margins and weight of SignCL",
        ("table9", "figure6"): "The aligner and the counts",
        ("table10", "figure3"): "Denser features: recognised and translated worse?",
    }
    for names, topic in of_tables.items():
        if name in names:
            return topic
    if " the baseline " in text:
        return "Against the systems that Tables 2 and 3 quote"
    if "SignCL" in text:
        return "Does SignCL lower density?" if "SDR" in text else "Does SignCL translate or recognise better?"
    of_vlp = text.startswith(("VLP raises", "VLP lowers"))
    return "What VLP brings" if of_vlp else "Denser features: recognised and translated worse?"


TOPICS = (
    "Do SignCL and losses in its place translate better? (design fixed before the runs)",
    "Does SignCL translate or recognise better?",
    "Does SignCL lower density?",
    "Denser features: recognised and translated worse?",
    "What VLP brings",
    "Against the systems that Tables 2 and 3 quote",
    "What else might help: options of this package",
    "Margins and weight of SignCL",
    "Does the score come from the video?",
    "The aligner and the counts",
)
"""Topics of the claims, in the order of the page."""
ABOUT_SIGNCL = (
    "These runs were unlikely to show a gain: the clips have few useful negative pairs, and there are few seeds ([the "
    "numbers](../docs/findings-tables.md)). A row with *not seen* is no evidence against SignCL."
)
PREREGISTERED = (
    "Eight seeds, a corpus that was accepted by its label statistics alone, and p-values corrected by Holm: "
    "[density_effect.md](density_effect.md) has the arms, every contrast and the pictures."
)
NOTES = {TOPICS[0]: PREREGISTERED, TOPICS[1]: ABOUT_SIGNCL}
"""Notes printed above the claims of a topic."""
VERDICTS = ("supported", "not seen", "contradicted", "within seed noise")


Rows = dict[str, list[str]]


def _claims(tables: list[tuple[Path, dict[str, Any]]]) -> tuple[Rows, dict[str, Counter[str]]]:
    """Rows of claims, and numbers of verdicts, of each topic."""
    rows: Rows = {topic: [] for topic in TOPICS}
    verdicts: dict[str, Counter[str]] = {topic: Counter() for topic in TOPICS}
    for path, table in tables:
        if table["made"].get("seeds") == 1:
            continue  # one seed gives no interval over seeds, so its numbers are shown only in its table
        for claim in table["claims"]:
            if claim.get("repeats"):
                continue  # the other table lists this claim, on the same runs
            topic = topic_of(table["name"], claim["text"])
            verdicts[topic][claim["verdict"]] += 1
            cells = (claim["text"], _corpus(path, table), f"`{table['command']}`", claim["theirs"], claim["ours"])
            rows[topic].append("| " + " | ".join(map(_cell, cells)) + f" | **{_cell(claim['verdict'])}** |")
    return rows, verdicts


def _counts(rows: Rows, verdicts: dict[str, Counter[str]]) -> list[str]:
    lines = [f"{sum(map(len, rows.values()))} in all, each with its interval in [claims.md](claims.md).", ""]
    lines += [f"| about | claims | {' | '.join(VERDICTS)} |", "|---|" + "---|" * (1 + len(VERDICTS))]
    for topic in filter(rows.get, TOPICS):
        counts = (str(verdicts[topic][verdict] or "–") for verdict in VERDICTS)
        lines.append(f"| {topic} | {len(rows[topic])} | {' | '.join(counts)} |")
    return lines


def _topics(rows: Rows) -> list[str]:
    lines: list[str] = []
    for topic in filter(rows.get, TOPICS):
        lines += [f"## {topic}", "", *([NOTES[topic], ""] if topic in NOTES else [])]
        lines += ["| claim | on | command | paper | here (95 % interval) | verdict |", "|---|---|---|---|---|---|"]
        lines += [*rows[topic], ""]
    return lines


def _tables(tables: list[tuple[Path, dict[str, Any]]], page: Path) -> list[str]:
    if not tables:
        return []
    lines = ["## Tables and figures", "", "| | on | files | made |", "|---|---|---|---|"]
    for path, table in tables:
        beside = [(suffix, path.with_suffix(f".{suffix}")) for suffix in ("md", "csv", "tex", "png")]
        files = " ".join(f"[{suffix}]({_link(file, page)})" for suffix, file in beside if file.is_file())
        made = ", ".join(f"{key} {value}" for key, value in table["made"].items() if key != "corpus")
        lines.append(f"| {_cell(table['title'])} | {_corpus(path, table)} | {files} | {_cell(made)} |")
    return lines


def _corpus(path: Path, table: dict[str, Any]) -> str:
    return str(table["made"].get("corpus", path.parent.name))


ROWS = {
    "table1": ("extractors", {kind: title(kind, "synthetic") for kind in KINDS if not kind.startswith("gfslt")}),
    "figure2": ("extractors", {kind: title(kind, "synthetic") for kind in ("srp", "smkd", "i3d", "vlp", "vlp-signcl")}),
    "table2": ("systems", SYSTEMS),
}
"""Scripts whose rows can be made separately: the option that selects them, and the name and title of each row."""


def _not_run(tables: list[tuple[Path, dict[str, Any]]]) -> list[str]:
    """Lists rows missing in the tables of the synthetic corpus, with their commands; empty if there are no tables."""
    lines = []
    for script, (option, rows) in ROWS.items():
        made = [
            row[0]
            for path, table in tables
            if path.parent.name == "synthetic" and table["name"].split("-")[0] == script
            for row in table.get("rows", ())
        ]
        lines += [
            f"| {name} | {script} | not run | `python -m paper.{script} --corpus synthetic --{option} {row}` |"
            for row, name in rows.items()
            if made and name not in made
        ]
    if not lines:
        return []
    return ["", "## Not run", "", "| row | of | here | command |", "|---|---|---|---|", *lines]


def _link(file: Path, page: Path) -> str:
    return Path(os.path.relpath(file, page.parent)).as_posix()


def _cell(text: str) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")
