"""Writes a density result as text, CSV per gloss, Markdown and LaTeX, all from the same list of tables."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from signcl.data.files import atomic_write, write_json, write_text
from signcl.data.text_tables import table
from signcl.density.verdicts import HARD

__all__ = [
    "Table",
    "density_text",
    "label_free_text",
    "latex",
    "markdown",
    "result_tables",
    "write_csv",
    "write_result",
]


class Table(NamedTuple):
    """A table with a title."""

    title: str
    header: list[str]
    rows: list[list[str]]


def density_text(found: dict[str, Any]) -> str:
    """The text that `signcl density` prints."""
    return "\n\n".join([_head(found), *(f"{t.title}\n{table(t.rows, t.header)}" for t in result_tables(found))])


def label_free_text(found: dict[str, Any]) -> str:
    """The text that `signcl density --label-free` prints."""
    shares = {key: found[key] for key in ("signer_share", "clip_share") if found[key] is not None}
    rows = [
        [key.replace("_", " "), f"{100 * value:.1f} %"]
        for key, value in found.items()
        if isinstance(value, float) and key not in shares
    ]
    told = ", ".join(f"between {key.split('_')[0]}s {100 * value:.0f} %" for key, value in shares.items())
    text = table(rows, [f"{found['segments']} segments of {found['clips']} clips", "higher is denser"])
    text += f"\nShare of the variance {told}."
    if not found["trusted"]:
        text += (
            "\nDo not trust these estimates: clips differ more than their signs do (camera, light, signer), which "
            "makes the signs look clearer than they are."
        )
    return (
        text + "\nA diagnostic: none of these is the SDR; docs/density.md shows how well each follows it. Compare "
        "only within one corpus."
    )


def result_tables(found: dict[str, Any]) -> list[Table]:
    """All tables of a result."""
    tables = []
    if len(found["frames"]) > 1:
        rows = [
            [
                part["frame"],
                f"{part['sdr']:.2f}",
                "{:.2f} to {:.2f}".format(*part["interval"]),
                "-" if part["shuffled"] is None else f"{part['shuffled']:.2f}",
                f"{part['intra']:.4g}",
                f"{part['inter']:.4g}",
            ]
            for part in found["frames"]
        ]
        tables.append(Table("Best frame", ["frame", "SDR %", "95 %", "shuffled", "within", "between"], rows))
    rows = [
        [cell for r in (d, s) for cell in (str(r["gloss"]), str(r["count"]), f"{100 * r['sdr']:.1f}")]
        for d, s in zip(found["densest"], found["sparsest"])
    ]
    tables.append(Table("Glosses", ["densest", "signs", "SDR %", "sparsest", "signs", "SDR %"], rows))
    tables += _retrieval_tables(found)
    if "signers" in found:
        tables += _signer_tables(found["signers"])
    if "variance" in found:
        tables.append(_spent_table(found))
    if "measures" in found:
        rows = [[m["measure"], f"{m['value']:.4g}", m["better"]] for m in found["measures"]["values"]]
        rows += [["not measured", "-", found["measures"]["why"]]] if "why" in found["measures"] else []
        tables.append(Table("Other measures", ["measure", "value", "better"], rows))
    if "against" in found:
        tables += _against(found["against"])
    if "versus" in found:
        v = found["versus"]
        row = [f"{v['a']:.2f}", f"{v['b']:.2f}", f"{v['difference']:+.2f}", f"{v['low']:+.2f} to {v['high']:+.2f}"]
        row += [f"{v['p_value']:.3g}", f"{100 * v['glosses_lower']:.0f} %"]
        header = ["SDR % of A", "of B", "B - A", f"95 % over {v['over']}", "p", "glosses lower in B"]
        tables.append(Table("A versus B, same sign instances", header, [row]))
        if "a" in v.get("retrieval", {}):
            r = v["retrieval"]
            row = [f"{r['a']:.2f}", f"{r['b']:.2f}", f"{r['difference']:+.2f}", f"{r['low']:+.2f} to {r['high']:+.2f}"]
            header = ["mAP % of A", "of B", "B - A", f"95 % over {r['over']}"]
            tables.append(Table("Retrieval, A versus B", header, [row]))
    return tables


def _retrieval_tables(found: dict[str, Any]) -> list[Table]:
    if "retrieval" not in found:
        return []
    rows = []
    for kind, part in found["retrieval"].items():
        if "why" in part:
            rows.append([f"other {kind}", f"not measured: {part['why']}", *[""] * 5])
            continue
        shuffled = f"{part['shuffled_map']:.1f}, {part['shuffled_one_nn']:.1f}" if "shuffled_map" in part else "-"
        rows.append([
            f"other {kind}",
            f"{part['map']:.1f} ({part['map_interval'][0]:.1f} to {part['map_interval'][1]:.1f})",
            f"{part['one_nn']:.1f} ({part['one_nn_interval'][0]:.1f} to {part['one_nn_interval'][1]:.1f})",
            ", ".join(f"{part['recall'][k]:.1f}" for k in ("5", "10")),
            shuffled,
            _with_ends(f"{part['hubness']:.2f}", part["hubness_interval"], 2),
            f"{part['queries']} ({part['without_match']} without)",
        ])  # fmt: skip
    header = ["same sign among", "mAP %", "nearest %", "among 5, 10 %", "shuffled mAP, nearest", "hubness", "signs"]
    over = next(iter(found["retrieval"].values()))["over"]
    tables = [Table(f"Retrieval: higher is better; 95 % over {over}", header, rows)]
    near = found["nearest"]
    pairs = ", ".join(f"{p['gloss']}–{p['nearest']} {p['auc']:.2f}" for p in near["pairs"])
    digits = {"ratio": 1, "auc": 3, "d_prime": 2}
    ends = {name: [f"{end:.{n}f}" for end in near[f"{name}_interval"]] for name, n in digits.items()}
    parts = [f"{near[name]:.{n}f} ({' to '.join(ends[name])})" for name, n in digits.items()]
    rows = [["measured", *parts, f"{near['hard']} of {near['glosses']}"]]
    if "shuffled_auc" in near:
        chance = [f"{near['shuffled_ratio']:.1f}", f"{near['shuffled_auc']:.3f}", f"{near['shuffled_d_prime']:.2f}"]
        rows.append(["shuffled", *chance, str(near["shuffled_hard"])])
    header = ["", "ratio %, lower is better", "AUC", "d'", f"AUC below {HARD}"]
    title = f"Each gloss against its nearest one; 95 % over glosses; hardest pairs, AUC: {pairs}"
    return [*tables, Table(title, header, rows)]


def _with_ends(value: str, ends: Sequence[float] | None, digits: int) -> str:
    """A value, with its interval if there is one."""
    return value if ends is None else f"{value} ({ends[0]:.{digits}f} to {ends[1]:.{digits}f})"


def _signer_tables(found: dict[str, Any]) -> list[Table]:
    def shown(value: float | None) -> str:
        return "-" if value is None else f"{value:.2f}"

    def interval(name: str) -> str:
        ends = found.get(f"{name}_interval")
        return "-" if ends is None else f"{ends[0]:.2f} to {ends[1]:.2f}"

    rows = [["within a signer, mean", "", "", shown(found["within"]), interval("within")]]
    rows.append(["across signers", "", str(found["glosses_across"]), shown(found["across"]), interval("across")])
    rows += [[r["signer"], str(r["signs"]), str(r["glosses"]), shown(r["sdr"]), ""] for r in found["each"]]
    return [Table("By signer", ["signer", "signs", "glosses", "SDR %", "95 % over signers"], rows)]


def _spent_table(found: dict[str, Any]) -> Table:
    shares, probe = found["variance"], found["probe"]
    chance = shares["by_chance"]
    ends = shares["interval"]
    rows = [
        [f"variance: {name}", _with_ends(f"{shares[name]:.1f} %", ends[name], 1), f"{chance[name]:.1f} % by chance"]
        for name in ("signer", "clip", "gloss")
        if shares[name] is not None
    ]
    if shares["clip"] is None:
        rows.append(["variance: clip", "-", "no clip has two glosses: gloss and clip cannot be told apart"])
    rows.append(["variance: rest", _with_ends(f"{shares['rest']:.1f} %", ends["rest"], 1), ""])
    rank = _with_ends(f"{found['rank_me']:.1f}", found["rank_me_interval"], 1)
    rows.append(["directions in use (RankMe)", rank, ""])
    if "why" in probe:
        rows.append(["linear probe", "-", probe["why"]])
    else:
        text = f"of {probe['entropy']:.2f}; {100 * probe['accuracy']:.1f} % of {probe['signs']} held-out signs correct"
        low, high = probe["bits_interval"]
        rows.append(["linear probe, bits per sign", f"{probe['bits']:.2f} ({low:.2f} to {high:.2f})", text])
    return Table(f"What the features encode; 95 % over {found['over']}", ["", "value", ""], rows)


def _head(found: dict[str, Any]) -> str:
    made = found["made"]
    low, high = found["interval"]
    shuffled = "" if found["shuffled"] is None else f"; shuffled labels {found['shuffled']:.2f}"
    split = f" of split {found['split']}" if found.get("split") else ""
    parts = [f"{key}: {made[key]}" for key in ("frame", "tap", "distance", "inter", "cap", "weight") if made.get(key)]
    return "\n".join(
        [
            f"SDR {found['sdr']:.2f} %   (95 % over {made['interval']} {low:.2f} to {high:.2f}{shuffled})",
            f"mean distance within a gloss {_size(found['intra'])}, to other glosses {_size(found['inter'])}; "
            f"feature norm {_size(found['feature_norm'])}",
            f"{found['instances']} signs of {found['glosses']} glosses{split} "
            f"({found['glosses_left_out']} glosses with fewer than {made['min_count']} signs left out)",
            ", ".join(parts),
            *([_overlap(found)] if found.get("overlapping") else []),
            *(f"Note: {note}" for note in (*found.get("notes", []), *found.get("versus", {}).get("notes", []))),
        ]
    )


def _size(value: float) -> str:
    """A distance in the features' unit, which may be of any size."""
    return f"{value:.3f}" if 1e-2 <= value < 1e7 or value == 0 else f"{value:.4g}"


def _overlap(found: dict[str, Any]) -> str:
    line = f"{found['overlapping']} signs overlap another in time"
    if found.get("repeated"):
        line += (
            f"; {found['repeated']} have the gloss and frames of an earlier one, which lowers the SDR: listed twice?"
        )
    return line


def _against(found: dict[str, Any]) -> list[Table]:
    def cells(part: dict[str, Any] | None) -> list[str]:
        if part is None or "why" in part:
            return ["-", "-"]
        return [f"{c['value']:+.2f} [{c['low']:+.2f}, {c['high']:+.2f}] p {c['p_value']:.1g}"
                for c in (part["pearson"], part["spearman"])]  # fmt: skip

    rows = [[c["quantity"], *cells(c["plain"]), *cells(c.get("partial"))] for c in found["correlations"]]
    header = ["with accuracy", "Pearson", "Spearman", "Pearson, log frequency fixed", "Spearman, log frequency fixed"]
    title = f"Density and recognition: {found['glosses']} glosses; accuracy: {found['source']}; "
    tables = [Table(title + f"frequency: {found['frequency']}", header, rows)]
    rows = [
        [str(i + 1), str(b["glosses"]), f"{100 * b['low']:.1f} to {100 * b['high']:.1f}", f"{100 * b['sdr']:.1f}",
         f"{b['accuracy']:.4g}", f"{b['error']:.3g}"]
        for i, b in enumerate(found["bins"])
    ]  # fmt: skip
    header = ["bin", "glosses", "SDR % from", "mean SDR %", "mean accuracy", "standard error"]
    return [*tables, Table("Bins by SDR, the most crowded last", header, rows)]


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Writes one row per gloss; cells without a value are empty."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})


def write_result(stem: Path, found: dict[str, Any], rows: Sequence[dict[str, Any]]) -> None:
    """Writes STEM.json (everything), STEM.csv (per gloss), STEM.md and STEM.tex (the tables)."""
    head = _head(found)
    tables = result_tables(found)
    write_csv(stem.with_name(stem.name + ".csv"), rows)
    lines = head.replace("\n", "  \n")
    write_text(stem.with_name(stem.name + ".md"), "\n\n".join([lines, *map(markdown, tables)]) + "\n")
    comment = "\n".join(f"% {line}" for line in head.splitlines())
    write_text(stem.with_name(stem.name + ".tex"), "\n\n".join([comment, *map(latex, tables)]) + "\n")
    write_json(stem.with_name(stem.name + ".json"), found)


def markdown(shown: Table) -> str:
    """A table in Markdown."""

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    rule = line(["---", *["---:"] * (len(shown.header) - 1)])
    return "\n".join([f"**{shown.title}**", "", line(shown.header), rule, *map(line, shown.rows)])


LATEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}"}
LATEX |= {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}


def latex(shown: Table) -> str:
    """A table in LaTeX; needs the package booktabs."""

    def line(cells: list[str]) -> str:
        return " & ".join("".join(LATEX.get(letter, letter) for letter in cell) for cell in cells) + r" \\"

    return "\n".join(
        [
            f"% {shown.title}",
            rf"\begin{{tabular}}{{l{'r' * (len(shown.header) - 1)}}}",
            r"\toprule",
            line(shown.header),
            r"\midrule",
            *map(line, shown.rows),
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )
