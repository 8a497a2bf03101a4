"""The page of `signcl score --html`: one file with the scores, comparisons and conventions of text files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from signcl.data.files import write_text
from signcl.data.installed import version_of
from signcl.evaluation.sentence_files import Sentences, align, read_sentences
from signcl.evaluation.text_scores import score_sentences
from signcl.metrics.titles import SCORES
from signcl.pages.markup import Html, code, decimals, document, gap, html, joined, table
from signcl.pages.report_runs import RunFiles, command

__all__ = ["files_section", "score_page", "write_score_page"]

SHOWN = ("bleu1", "bleu2", "bleu3", "bleu4", "chrf", "chrf++", "rouge_l", "wer", "exact_match", "bertscore", "bleurt")


def write_score_page(found: dict[str, Any], path: Path) -> Path:
    """Write the page for a result of `score_files` and return its path."""
    if path.is_dir():
        raise ValueError(f"--html {path}: needs a file name, got a folder")
    write_text(path, score_page(found))
    return path


def _title(metric: str) -> str:
    return SCORES[metric].title if metric in SCORES else {"bertscore": "BERTScore F", "bleurt": "BLEURT"}[metric]


def files_section(run: RunFiles, files: list[Path]) -> Html:
    """A section of the report: files of sentences, scored against the references of a run and next to that run."""
    if not run.predictions:
        return gap(
            f"{run.label} has no answers on the {run.split} split to compare these files with.",
            command("evaluate", run),
        )
    glosses = run.recipe.system.answers != "sentences"
    sides = [read_sentences(path, "gloss hypothesis" if glosses else "hypothesis") for path in files]
    true = Sentences(
        run.folder / f"predictions.{run.split}.tsv",
        "the references of a run",
        [reference for reference, _ in run.predictions.values()],
        list(run.predictions),
    )
    _, said, references, notes = align(sides, true)
    systems = {run.label: [answer for _, answer in run.predictions.values()]}
    systems |= {str(path): sentences for path, sentences in zip(files, said)}
    found = score_sentences(
        systems,
        references,
        tokenize=None if glosses else run.recipe.bleu_tokenize,
        glosses=glosses,
        preset="phoenix14t" if glosses and run.recipe.corpus.name == "phoenix14t" else None,
    )
    found["pairs"] = [pair for pair in found["pairs"] if pair["of_a"] == run.label]
    notes = [f"{side.path}: {side.how}" for side in sides] + notes
    return _scores(found) + _list(notes)


def _list(lines: Iterable[object]) -> Html:
    return html("<ul>{}</ul>", joined(html("<li>{}</li>", line) for line in lines))


def _scores(found: dict[str, Any]) -> Html:
    """The table of scores, how they were computed, and the comparisons."""
    systems, convention = found["systems"], found["convention"]
    names = [metric for metric in SHOWN if any(metric in one["scores"] for one in systems)]
    rows = []
    for metric in names:
        row: list[object] = [_title(metric)]
        for one in systems:
            span = one["scores"].get("intervals", {}).get(metric)
            below = html("<small>{}–{}</small>", decimals(span[0]), decimals(span[1])) if span else Html()
            row.append(html("{}{}", decimals(one["scores"].get(metric), 3 if metric == "exact_match" else 2), below))
        rows.append(row)
    parts = [table([one["name"] for one in systems], rows, caption="Scores of each file", name="Score")]
    note = '<p class="note">Small numbers: 95 % bootstrap intervals over sentences. WER: lower is better.</p>'
    parts.append(html(note))
    said = f"Tokenizer {convention['tokenize']}"
    said += ", chosen by the script of the references" if convention["tokenize_asked"] == "auto" else ""
    said += f"; both sides normalized by {', '.join(convention['normalization'])}."
    said += f" Preset {convention['preset']}: {convention['stated']}." if convention["preset"] else ""
    signatures = systems[0]["scores"]["signatures"].items()
    parts.append(html("<p>{}</p>{}", said, _list(html("{}: {}", name, code(value)) for name, value in signatures)))
    if found["pairs"]:
        cells = [
            [
                f"{pair['of_b']} minus {pair['of_a']}",
                _title(pair["metric"]),
                decimals(pair["difference"], sign=True),
                f"{decimals(pair['low'], sign=True)} to {decimals(pair['high'], sign=True)}",
                decimals(pair["p_value"], 3),
            ]
            for pair in found["pairs"]
        ]
        head = ["Score", "Difference", "95 % interval", "p"]
        parts.append(html("<h3>Paired bootstrap</h3>") + table(head, cells, caption="Paired bootstrap", name="Pair"))
        parts.append(html('<p class="note">p: {}</p>', found["p_value"]))
    return joined(parts)


def score_page(found: dict[str, Any]) -> str:
    """The page as HTML."""
    systems = found["systems"]
    title = "Scores of " + ", ".join(one["name"] for one in systems)
    parts = [_scores(found)]
    for one in systems:
        parts.append(html("<h2>{}</h2>", one["name"]))
        if "overlap" in one:
            overlap = one["overlap"]
            parts.append(
                html(
                    "<p>{} % of the references occur among {} training sentences; {} % of the hypotheses are copied "
                    "from there.</p>",
                    decimals(overlap["references_seen"]),
                    overlap["training_sentences"],
                    decimals(overlap["hypotheses_copied"]),
                )
            )
        if one["findings"]:
            parts.append(html("<h3>What differs</h3>{}", _list(one["findings"])))
        if one["conventions"]:
            cells = [
                [
                    row["convention"],
                    *(decimals(row[metric]) for metric in ("bleu1", "bleu4")),
                    decimals(row["difference"], sign=True),
                    decimals(row["rouge_l"]),
                    decimals(row["exact_match"], 3),
                ]
                for row in one["conventions"]
            ]
            head = ["BLEU-1", "BLEU-4", "less scored", "ROUGE-L", "Exact match"]
            parts.append(
                html("<h3>Conventions</h3>") + table(head, cells, caption="Conventions", name="Applied to both sides")
            )
    if "other_references" in found:
        other = found["other_references"]
        items = [
            f"{name}: BLEU-4 {scores['bleu4']:.2f} there, {scores['bleu4_of_these']:.2f} on the references"
            for name, scores in other["scores"].items()
        ]
        lines = _list([*items, *other["findings"]])
        parts.append(html("<h2>Other references: {}</h2>{}", code(other.get("path", "")), lines))
    read = [f"{one['path']}: {one['how']}" for one in (*systems, found["references"])] if "path" in systems[0] else []
    parts.append(html("<h2>Files</h2>{}", _list([*read, *found.get("notes", [])])))
    return document(
        title,
        "signcl score",
        html(
            """<header class="top"><p class="kind">signcl score</p><h1>{}</h1></header>
<main><section>{}</section></main>
<footer>Made by signcl {}.</footer>""",
            title,
            joined(parts),
            version_of("signcl"),
        ),
    )
