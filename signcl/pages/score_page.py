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
from signcl.pages.languages import LANGUAGES
from signcl.pages.markup import Html, code, document, html, joined, table
from signcl.pages.page_words import ENGLISH, Words
from signcl.pages.report_runs import RunFiles, command

__all__ = ["files_section", "score_page", "write_score_page"]

SHOWN = ("bleu1", "bleu2", "bleu3", "bleu4", "chrf", "chrf++", "rouge_l", "wer", "exact_match", "bertscore", "bleurt")


def write_score_page(found: dict[str, Any], path: Path, language: str = LANGUAGES[0]) -> Path:
    """Write the page for a result of `score_files` and return its path."""
    if path.is_dir():
        raise ValueError(f"--html {path}: needs a file name, got a folder")
    write_text(path, score_page(found, Words(language)))
    return path


def _title(metric: str, say: Words) -> str:
    return (
        say.title(metric, SCORES[metric])
        if metric in SCORES
        else {"bertscore": "BERTScore F", "bleurt": "BLEURT"}[metric]
    )


def files_section(run: RunFiles, files: list[Path], say: Words) -> Html:
    """A section of the report: files of sentences, scored against the references of a run and next to that run."""
    if not run.predictions:
        return say.gap(say("files.no_answers", run=run.label, split=run.split), command("evaluate", run))
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
    return _scores(found, say) + _list(map(say.english, notes))


def _list(lines: Iterable[object]) -> Html:
    return html("<ul>{}</ul>", joined(html("<li>{}</li>", line) for line in lines))


def _scores(found: dict[str, Any], say: Words) -> Html:
    """The table of scores, how they were computed, and the comparisons."""
    systems, convention = found["systems"], found["convention"]
    names = [metric for metric in SHOWN if any(metric in one["scores"] for one in systems)]
    rows = []
    for metric in names:
        row: list[object] = [_title(metric, say)]
        for one in systems:
            span = one["scores"].get("intervals", {}).get(metric)
            below = html("<small>{}–{}</small>", say.decimals(span[0]), say.decimals(span[1])) if span else Html()
            value = one["scores"].get(metric)
            row.append(html("{}{}", say.decimals(value, 3 if metric == "exact_match" else 2), below))
        rows.append(row)
    parts = [table([one["name"] for one in systems], rows, caption=say.plain("files.caption"), name=say("score"))]
    parts.append(html('<p class="note">{}</p>', say("files.small")))
    chosen = "auto" if convention["tokenize_asked"] == "auto" else "given"
    steps = ", ".join(convention["normalization"])
    said = [say(f"files.tokenizer_{chosen}", name=convention["tokenize"], steps=steps)]
    if convention["preset"]:
        said.append(say("files.preset", name=convention["preset"], stated=say.english(convention["stated"])))
    signatures = systems[0]["scores"]["signatures"].items()
    parts.append(
        html("<p>{}</p>{}", joined(said, " "), _list(html("{}: {}", name, code(value)) for name, value in signatures))
    )
    if found["pairs"]:
        cells = [
            [
                say("files.minus", b=pair["of_b"], a=pair["of_a"]),
                _title(pair["metric"], say),
                say.decimals(pair["difference"], sign=True),
                say("to", low=say.decimals(pair["low"], sign=True), high=say.decimals(pair["high"], sign=True)),
                say.decimals(pair["p_value"], 3),
            ]
            for pair in found["pairs"]
        ]
        head = [say("score"), say("files.difference"), say("interval"), "p"]
        parts.append(html("<h3>{}</h3>", say("files.paired")))
        parts.append(table(head, cells, caption=say.plain("files.paired"), name=say("files.pair")))
        parts.append(html('<p class="note">p: {}</p>', say.english(found["p_value"])))
    return joined(parts)


def score_page(found: dict[str, Any], say: Words = ENGLISH) -> str:
    """The page as HTML."""
    systems = found["systems"]
    title = say.plain("files.title", names=", ".join(one["name"] for one in systems))
    parts = [_scores(found, say)]
    for one in systems:
        parts.append(html("<h2>{}</h2>", one["name"]))
        if "overlap" in one:
            overlap = one["overlap"]
            parts.append(
                html(
                    "<p>{}</p>",
                    say(
                        "files.overlap",
                        seen=say.decimals(overlap["references_seen"]),
                        sentences=overlap["training_sentences"],
                        copied=say.decimals(overlap["hypotheses_copied"]),
                    ),
                )
            )
        if one["findings"]:
            parts.append(html("<h3>{}</h3>{}", say("files.differs"), _list(map(say.english, one["findings"]))))
        if one["conventions"]:
            cells = [
                [
                    say.english(row["convention"]),
                    *(say.decimals(row[metric]) for metric in ("bleu1", "bleu4")),
                    say.decimals(row["difference"], sign=True),
                    say.decimals(row["rouge_l"]),
                    say.decimals(row["exact_match"], 3),
                ]
                for row in one["conventions"]
            ]
            head = ["BLEU-1", "BLEU-4", say("files.less"), "ROUGE-L", _title("exact_match", say)]
            parts.append(html("<h3>{}</h3>", say("files.conventions")))
            parts.append(table(head, cells, caption=say.plain("files.conventions"), name=say("files.both_sides")))
    if "other_references" in found:
        other = found["other_references"]
        items = [
            say("files.there", name=name, there=float(scores["bleu4"]), here=float(scores["bleu4_of_these"]))
            for name, scores in other["scores"].items()
        ]
        lines = _list([*items, *map(say.english, other["findings"])])
        parts.append(html("<h2>{}</h2>{}", say("files.other", path=code(other.get("path", ""))), lines))
    read = [f"{one['path']}: {one['how']}" for one in (*systems, found["references"])] if "path" in systems[0] else []
    parts.append(html("<h2>{}</h2>{}", say("files.files"), _list(map(say.english, [*read, *found.get("notes", [])]))))
    return document(
        title,
        "signcl score",
        html(
            """<header class="top"><p class="kind">signcl score</p><h1>{}</h1></header>
<main><section>{}</section></main>
<footer>{}</footer>""",
            title,
            joined(parts),
            say("made", version=version_of("signcl")),
        ),
        language=say.language,
    )
