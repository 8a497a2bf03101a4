"""The text that `signcl score` prints."""

from __future__ import annotations

from typing import Any

from signcl.data.text_tables import table
from signcl.metrics.titles import SCORES

__all__ = ["score_text", "subtitles_text"]

SHOWN = ("bleu1", "bleu2", "bleu3", "bleu4", "chrf", "chrf++", "rouge_l", "wer", "exact_match", "bertscore", "bleurt")
TITLES = {"bertscore": "BERTScore F", "bleurt": "BLEURT"}


def _title(metric: str) -> str:
    return SCORES[metric].title if metric in SCORES else TITLES[metric]


def score_text(found: dict[str, Any]) -> str:
    """Format the result: how files were read, scores with intervals, comparisons, and why numbers may differ."""
    systems, convention = found["systems"], found["convention"]
    lines = [f"{one['path']}: {one['how']}" for one in (*systems, found["references"])]
    lines += found["notes"]
    lines.append(f"{found['references']['sentences']} sentences")
    lines += ["", _scores(systems), "", *_signatures(systems[0]["scores"], convention)]
    if found["pairs"]:
        lines += ["", _pairs(found)]
    for one in systems:
        if "overlap" in one:
            overlap = one["overlap"]
            wrong = f"{overlap['copied_and_wrong']:.2f} % copies and wrong"
            lines += [
                "",
                f"{one['name']}, overlap with {overlap['training_sentences']} training sentences: "
                f"{overlap['references_seen']:.2f} % of the references occur there, "
                f"{overlap['hypotheses_copied']:.2f} % of the hypotheses are copies ({wrong})",
            ]
    for one in systems:
        if one["conventions"]:
            lines += [
                "",
                f"{one['name']} under other conventions, applied to both sides:",
                _conventions(one["conventions"]),
            ]
        if one["findings"]:
            lines += ["", f"{one['name']}, what differs between hypotheses and references:"]
            lines += [f"- {finding}" for finding in one["findings"]]
    if "other_references" in found:
        lines += ["", *_other_references(found["other_references"])]
    return "\n".join(lines)


def subtitles_text(found: dict[str, Any]) -> str:
    """Format the scores of two subtitle files."""

    def row(name: str, part: dict[str, float]) -> list[str]:
        return [name, *(f"{part[key]:.2f}" for key in ("f1", "precision", "recall"))]

    cues, text = found["cues"], found["text"]
    rows = [
        row(f"boundaries within {found['tolerance']:g} s", found["boundaries"]),
        row("segments, IoU of at least 0.5", found["segments"]),
    ]
    lines = [
        f"{cues['found']} cues in {found['hypothesis']}, {cues['true']} in {found['reference']}; "
        f"{cues['unanswered']} reference cues have no matching cue",
        table(rows, ["", "F1", "precision", "recall"]),
        f"IoU of the time: {found['iou']:.2f}",
        "",
        table([[SCORES[m].title, f"{text[m]:.2f}"] for m in SHOWN if m in text and m in SCORES], ["in time", ""]),
        f"BLEU: {text['signatures']['bleu']}",
    ]
    return "\n".join(lines)


def _scores(systems: list[dict[str, Any]]) -> str:
    names = [metric for metric in SHOWN if any(metric in one["scores"] for one in systems)]
    rows = []
    for metric in names:
        row = [_title(metric) + (" (lower is better)" if metric == "wer" else "")]
        for one in systems:
            value, span = one["scores"].get(metric), one["scores"].get("intervals", {}).get(metric)
            places = 3 if metric == "exact_match" else 2
            told = "" if value is None else f"{value:.{places}f}"
            row.append(told + (f" ({span[0]:.2f} to {span[1]:.2f})" if span else ""))
        rows.append(row)
    spans = systems[0]["scores"].get("intervals")
    told = table(rows, ["score", *(one["name"] for one in systems)])
    if spans:
        drawn = f"{spans['samples']} resamples, seed {spans['seed']}"
        told += f"\n(in brackets: 95 % bootstrap intervals over sentences, {drawn})"
    return told


def _signatures(scores: dict[str, Any], convention: dict[str, Any]) -> list[str]:
    asked = convention["tokenize_asked"]
    why = " (auto: by the script of the references)" if asked == "auto" else ""
    steps = ", ".join(convention["normalization"])
    lines = [f"tokenizer: {convention['tokenize']}{why}; normalization of both sides: {steps}"]
    if convention["preset"]:
        lines.append(f"preset {convention['preset']}: {convention['stated']}")
    lines += [f"{name}: {signature}" for name, signature in scores["signatures"].items()]
    lines += [
        f"{name}: {scores[f'{name}_signature']}" for name in ("bertscore", "bleurt") if f"{name}_signature" in scores
    ]
    return lines


def _pairs(found: dict[str, Any]) -> str:
    rows = [
        [
            f"{one['of_b']} minus {one['of_a']}",
            _title(one["metric"]),
            f"{one['a']:.2f}",
            f"{one['b']:.2f}",
            f"{one['difference']:+.2f}",
            f"{one['low']:+.2f} to {one['high']:+.2f}",
            f"{one['p_value']:.3f}",
        ]
        for one in found["pairs"]
    ]
    told = table(rows, ["paired bootstrap (B minus A)", "score", "A", "B", "B - A", "95 % interval", "p"])
    return f"{told}\n(p: {found['p_value']})"


def _conventions(rows: list[dict[str, Any]]) -> str:
    cells = [
        [
            row["convention"],
            *(f"{row[metric]:.2f}" for metric in ("bleu1", "bleu4")),
            f"{row['difference']:+.2f}",
            f"{row['rouge_l']:.2f}",
            f"{row['exact_match']:.3f}",
            f"{row['changed'][0]} / {row['changed'][1]}",
        ]
        for row in rows
    ]
    return table(cells, ["convention", "BLEU-1", "BLEU-4", "less scored", "ROUGE-L", "Exact match", "changed H / R"])


def _other_references(found: dict[str, Any]) -> list[str]:
    lines = [
        f"{name}: BLEU-4 {scores['bleu4']:.2f} on {found['path']}, {scores['bleu4_of_these']:.2f} on the references"
        for name, scores in found["scores"].items()
    ]
    return [*lines, *(f"- {finding}" for finding in found["findings"])]
