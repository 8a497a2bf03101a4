"""Results as text; `--json` prints the same numbers for programs."""

from __future__ import annotations

from typing import Any

from signcl.data.text_tables import table
from signcl.metrics.titles import SCORES

__all__ = [
    "alignment_table",
    "audit_table",
    "changes_table",
    "comparison_table",
    "health_lines",
    "probes_table",
    "recipes_table",
    "scores_table",
    "systems_table",
]


SHOWN = ("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "chrf", "exact_match")


def scores_table(scores: dict[str, Any]) -> str:
    """Format what `signcl evaluate` prints."""
    if "bleu4" not in scores:
        made = scores["made"]
        found = {k: v for k, v in (scores | scores.get("wer_split", {})).items() if isinstance(v, float)}
        return table([[k, f"{v:.4f}"] for k, v in found.items()], [f"{made['split']} ({made['clips']} clips)", ""])
    lines = [grid_table(scores["grid"]), ""] if "grid" in scores else []
    columns = [("all", scores)] + ([("unseen sentences", scores["unseen"])] if "unseen" in scores else [])
    rows = [[SCORES[key].title, *(f"{part[key]:.2f}" for _, part in columns)] for key in SHOWN if key in scores]
    made = scores["made"]
    lines.append(table(rows, [f"{made['split']} ({made['clips']} sentences)", *(name for name, _ in columns)]))
    if intervals := scores.get("intervals"):
        low, high = intervals["bleu4"]
        lines.append(f"BLEU-4 95 % bootstrap interval: {low:.2f} to {high:.2f}")
    if recognition := scores.get("recognition"):
        split = ", ".join(f"{kind} {value:.2f}" for kind, value in recognition["wer_split"].items())
        lines.append(f"gloss WER: {recognition['wer']:.2f} ({split})")
    if seen := scores.get("seen_in_training"):  # missing if an imported run has no training split
        lines.append(f"sentences that also occur in training: {seen['sentences']} ({seen['percent']:.1f} %)")
    lines += _confidence_lines(scores.get("confidence", {}))
    if made["skipped"]:
        lines.append(f"clips that could not be read and are not scored: {len(made['skipped'])}")
    lines.append(f"BLEU: {scores['signatures']['bleu']}")
    return "\n".join([*lines, *health_lines(scores.get("health", []))])


def health_lines(found: list[dict[str, Any]]) -> list[str]:
    """Format the warnings about scores, after a blank line."""
    if not found:
        return []
    empty = "these numbers show no learning:" if any(row["empty"] for row in found) else "before you use these numbers:"
    return ["", empty, *(f"  - {row['text']}" for row in found)]


def _confidence_lines(found: dict[str, Any]) -> list[str]:
    """Format how well the confidence predicts which answers are good."""
    if not found:
        return []
    area, lines = found["risk_coverage"], []
    if "ece" in found:
        made = found["calibration"]
        where = f"{made['kind']}, {made['clips']} clips of {made['split']}{', cross-fitted' * made['cross_fitted']}"
        lines.append(
            f"confidence ({where}): expected calibration error {found['ece']:.3f}; mean confidence "
            f"{found['mean_confidence']:.2f}, mean {found['quality']} {found['mean_quality']:.2f}"
        )
        lines += [made["note"]] if "note" in made else []
    else:
        lines.append(f"confidence: {found['why_not']}")
    lines.append(
        f"area under risk-coverage: {area['area']:.3f} (order by chance {area['by_chance']:.3f}, best "
        f"{area['best']:.3f}; lower is better)"
    )
    if outside := found.get("out_of_domain"):
        lines.append(f"clips unlike the training clips: {outside['clips']}")
    return lines


def grid_table(grid: dict[str, Any]) -> str:
    """Format BLEU-4 by beams and length penalty, with the chosen pair in brackets."""
    best = grid["best"]

    def cell(width: int, alpha: float, value: float) -> str:
        chosen = (width, alpha) == (best["beams"], best["length_penalty"])
        return f"[{value:.2f}]" if chosen else f"{value:.2f} "

    rows = [
        [str(width), *(cell(width, alpha, value) for alpha, value in zip(grid["length_penalties"], row))]
        for width, row in zip(grid["beams"], grid["bleu4"])
    ]
    head = [f"{grid['split']} BLEU-4: beams", *(f"alpha {alpha:g} " for alpha in grid["length_penalties"])]
    return table(rows, head) + "\nties go to the fewest beams, then to the first alpha"


def comparison_table(rows: list[dict[str, Any]]) -> str:
    """Format what `signcl compare` prints."""
    cells = [
        [
            r["metric"],
            *(f"{r[k]:.2f}" for k in ("a", "b")),
            f"{r['difference']:+.2f}",
            _interval(r),
            f"{r['p_value']:.3f}",
        ]
        for r in rows
    ]
    verdict = "if the interval contains 0, no difference is found"
    if all(r.get("outputs_identical") for r in rows):
        verdict = "outputs identical: A and B gave the same answer to every clip, so there is nothing to compare"
    return table(cells, ["metric", "A", "B", "B - A", "95 % interval", "p"]) + f"\n({verdict})"


def changes_table(found: dict[str, Any]) -> str:
    """Format what `signcl compare --examples` adds."""
    counts = found["counts"]
    lines = [
        f"by {found['by']}: B better on {counts['b_better']}, A better on {counts['a_better']}, equal on "
        f"{counts['equal']} of {found['sentences']} sentences (the same answer {counts['same_answer']} times); "
        f"sign test p = {found['p_value']:.3f}"
    ]
    for key, head in (("b_better", "B gained most"), ("a_better", "B lost most")):
        lines += ["", f"{head}:" if found[key] else f"{head}: nowhere"]
        for row in found[key]:
            lines += [f"  {row['name']}  {row['a_score']:.1f} -> {row['b_score']:.1f} ({row['difference']:+.1f})"]
            lines += [f"    {label:<9} {row[of]}" for label, of in (("reference", "reference"), ("A", "a"), ("B", "b"))]
    return "\n".join(lines)


def probes_table(found: dict[str, Any]) -> str:
    """Format what `signcl evaluate --probe` prints."""
    drawn = {"overlap": _overlap_text, "visual": _visual_text, "dot": _dot_text}
    return "\n\n".join(drawn[name](result) for name, result in found.items())


def _with_interval(row: dict[str, Any], metric: str) -> str:
    low_high = row["intervals"].get(metric)
    return f"{row[metric]:.2f}" + (f" ({low_high[0]:.2f} to {low_high[1]:.2f})" if low_high else "")


def _overlap_text(found: dict[str, Any]) -> str:
    said = {"seen": "in training word for word", "near": f"nearly (similarity {found['near']:g})", "new": "new"}
    cells = [
        [said[kind], f"{g['sentences']} ({g['percent']:.1f} %)", *(_with_interval(g, m) for m in ("bleu4", "rouge_l"))]
        for kind, g in found["groups"].items()
    ]
    copied = found["copied"]
    lines = [table(cells, ["sentences of the split", "number", "BLEU-4 (95 %)", "ROUGE-L (95 %)"])]
    line = f"answers that are a training sentence word for word: {copied['all']:.1f} %"
    lines.append(
        line + (f"; where the reference is new: {copied['of_new']:.1f} %" if copied["of_new"] is not None else "")
    )
    for row in found["near_duplicates"][:3]:
        lines.append(f"  {row['name']} ({row['similarity']:.2f}): {row['reference']} | training: {row['training']}")
    return "\n".join(lines)


def _visual_text(found: dict[str, Any]) -> str:
    cells = []
    for row in found["rows"]:
        line = [row["video"], _with_interval(row, "bleu4"), f"{row['rouge_l']:.2f}"]
        for metric in ("bleu4", "rouge_l"):
            if "difference" not in row:
                line.append("")
                continue
            gap = row["difference"][metric]
            line.append(f"{gap['value']:+.2f}" + (f" ({_interval(gap)})" if "low" in gap else ""))
        left = row.get("remaining", {}).get("bleu4")
        cells.append([*line, "" if left is None else f"{left:.0f} %", str(row["distinct_hypotheses"])])
    header = ["video", "BLEU-4 (95 %)", "ROUGE-L", "BLEU-4 less intact", "ROUGE-L less intact", "left", "answers"]
    note = "left: share of the intact BLEU-4; answers: number of distinct answers"
    return table(cells, header) + f"\n({note}; seed {found['seed']})"


def _dot_text(found: dict[str, Any]) -> str:
    cells = [
        [
            ("* " if row["scored"] else "  ") + row["dot"],
            row["tokenize"],
            row["case"],
            *(f"{row[f'bleu{order}']:.2f}" for order in (1, 2, 3, 4)),
        ]
        for row in found["rows"]
    ]
    header = ["  final full stop", "tokenizer", "case", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4"]
    return table(cells, header) + "\n(* as `signcl evaluate` scores this run)"


def _interval(row: dict[str, Any]) -> str:
    return f"{row['low']:+.2f} to {row['high']:+.2f}"


def audit_table(rows: list[dict[str, Any]]) -> str:
    """Format what `signcl audit` prints."""

    def share(part: float | None, whole: float = 1) -> str:
        return "-" if part is None or not whole else f"{100 * part / whole:.2f}"

    cells = [
        [
            r["rule"],
            str(r["stride"]),
            *("-" if r[key] is None else f"{r[key]:g}" for key in ("zipf", "floor")),
            f"{r['mean_gap']:.1f}",
            share(r["positive_share"]),
            share(r["negative_share"]),
            share(r["clips_without_negative"], r["clips"]),
            share(r["anchors_without_negative"], r["anchors"]),
            share(r["labelled"], r["anchors"]),
            f"{r['negatives']:,}",
        ]
        for r in rows
    ]
    header = ["rule", "stride", "zipf", "floor", "mean gap", "pos. same %", "neg. same %"]
    header += ["clips without neg. %", "anchors without neg. %", "anchors with sign %", "negative pairs"]
    lines = [table(cells, header), "same: share of one gloss among the pairs whose two frames both show a sign"]
    lines.append(f"{rows[0]['clips']} clips; left out without spans or frames: {rows[0]['left_out']}")
    return "\n".join(lines)


def systems_table(rows: list[dict[str, Any]]) -> str:
    """Format what `signcl systems` prints."""

    def size(row: dict[str, Any], label: str) -> str:
        found = row["sizes"].get(label)
        if found is None:
            return "-"
        if found["parameters"] is None:
            return "needs its weights"
        trained = "" if found["trained"] == found["parameters"] else f" ({found['trained']:,} trained)"
        return f"{found['parameters']:,}{trained}"

    cells = [[r["system"], r["stage"], size(r, "small"), size(r, "paper"), str(len(r["recipes"]))] for r in rows]
    header = ["system", "stage", "parameters, CPU recipe", "parameters, paper's", "recipes"]
    lines = [table(cells, header), ""]
    lines += [f"{r['system']}: {r['what']}" + (f". Needs {r['needs']}" if r["needs"] else "") for r in rows]
    return "\n".join(lines)


def recipes_table(rows: list[dict[str, Any]]) -> str:
    """Format what `signcl recipes` prints."""
    wide, short = max(len(r["name"]) for r in rows), max(len(r["system"]) for r in rows)
    lines = [f"{r['name']:{wide}}  {r['system']:{short}}  {r['what']}".rstrip() for r in rows]
    return "\n".join([*lines, "", "`signcl fit NAME` trains one, `signcl recipes show NAME` prints it."])


def alignment_table(found: dict[str, Any]) -> str:
    """Format what `signcl align` prints."""
    lines = [
        f"{found['signs']} signs of {found['clips']} clips, {found['mean_frames']:.1f} frames on average; "
        f"left out: {len(found['left_out'])}",
        f"word error rate of the recogniser on these clips: {found['wer']:.2f}",
    ]
    if found["made"]["transductive"]:
        lines.append("transductive: the recogniser was trained on these clips, so this is no held-out word error rate")
    if truth := found.get("against_truth"):
        lines.append(
            f"against the corpus's own spans: boundaries {truth['boundary_error']:.2f} frames off on average "
            f"(median {truth['boundary_median']:.1f}), {100 * truth['within']:.1f} % within {truth['tolerance']}; "
            f"correct frames: {100 * truth['sign_accuracy']:.1f} % within signs, "
            f"{100 * truth['frame_accuracy']:.1f} % of all"
        )
    return "\n".join(lines)
