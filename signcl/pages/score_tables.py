"""Score tables of the report: the key numbers, differences between runs with their intervals, and all scores.

Scores are read from scores.json and never computed again. Only the paired intervals between two runs are computed here,
from the sentences and glosses that both have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from signcl.density.verdicts import measured_alike
from signcl.evaluation.health import equal_outputs
from signcl.metrics import paired_bootstrap
from signcl.metrics.titles import SCORES, Score
from signcl.metrics.written_forms import normalize, tokenize_as
from signcl.pages.markup import Cell, Html, code, decimals, duration, gap, html, joined, key, table
from signcl.pages.report_runs import RunFiles, command, training_seconds
from signcl.systems.terms import score_shown, shown_scores

__all__ = ["Difference", "differences", "headline", "health_box", "key_numbers", "scores_section"]

RESAMPLES = 1000
PAIRED = ("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "chrf", "exact_match", "wer")
COUNTS = {
    "reference_tokens": "Reference tokens",
    "hypothesis_tokens": "Translated tokens",
    "distinct_hypotheses": "Distinct translations",
    "empty_hypotheses": "Empty translations",
    "empty_references": "Empty references",
}
MADE = {
    "clips": "Sentences scored",
    "beams": "Beams",
    "length_penalty": "Length penalty",
    "seconds": "Seconds to translate",
    "device": "Device",
    "seed": "Training seed",
    "trained_with_commit": "Trained with commit",
    "scored_with_commit": "Scored with commit",
}


UNSEARCHED = {
    "nothing": ("beams", "length_penalty"),
    "classes": ("beams", "length_penalty"),
    "glosses": ("length_penalty",),
}
"""Search settings that do not apply to a kind of answer."""


@dataclass(frozen=True)
class Difference:
    """The difference of run `other` minus run 0, with the 95 % interval of a paired bootstrap."""

    other: int
    metric: str
    a: float
    b: float
    low: float
    high: float
    over: str
    """What was resampled, e.g. `60 sentences`."""

    @property
    def title(self) -> str:
        """Title of the metric."""
        return SCORES[self.metric].title

    @property
    def seen(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0

    @property
    def better(self) -> bool:
        """Whether the other run's value is better."""
        return (self.b < self.a) == SCORES[self.metric].lower_is_better


def differences(runs: list[RunFiles]) -> list[Difference]:
    """Compare every later run with the first: SDR over common glosses, other scores over common sentences."""
    found = []
    for other in range(1, len(runs)):
        if (density := _density_difference(runs[0], runs[other], other)) is not None:
            found.append(density)
        found += _score_differences(runs[0], runs[other], other)
    return found


def same_measure(a: RunFiles, b: RunFiles) -> bool:
    """Whether two densities were measured in the same way and can be compared."""
    if a.density is None or b.density is None:
        return False
    return measured_alike(a.density, b.density)


def _density_difference(a: RunFiles, b: RunFiles, other: int) -> Difference | None:
    if not a.glosses or not b.glosses or not same_measure(a, b):
        return None
    theirs = {row.gloss: row.sdr for row in b.glosses}
    pairs = 100 * np.array([(row.sdr, theirs[row.gloss]) for row in a.glosses if row.gloss in theirs])
    if len(pairs) < 2:
        return None
    picks = np.random.default_rng(0).integers(len(pairs), size=(RESAMPLES, len(pairs)))
    low, high = np.percentile((pairs[:, 1] - pairs[:, 0])[picks].mean(axis=1), [2.5, 97.5])
    first, second = (float(value) for value in pairs.mean(axis=0))
    return Difference(other, "sdr", first, second, float(low), float(high), f"{len(pairs)} glosses")


def _score_differences(a: RunFiles, b: RunFiles, other: int) -> list[Difference]:
    """Differences over the sentences that both have translated, with the same reference."""
    theirs, ours = a.predictions or {}, b.predictions or {}
    common = [name for name in theirs if name in ours and ours[name][0] == theirs[name][0]]
    if not common:
        return []
    references = normalize([theirs[name][0] for name in common])
    found = []
    translates = a.recipe.system.answers == "sentences"
    tokenize = tokenize_as(a.recipe.bleu_tokenize, references) if translates else "none"  # glosses are words
    for metric in PAIRED if translates else ("wer", "exact_match"):
        result = paired_bootstrap(
            metric,
            normalize([ours[name][1] for name in common]),  # what it calls a: the difference is a - b
            normalize([theirs[name][1] for name in common]),
            references,
            RESAMPLES,
            tokenize=tokenize,
        )
        over = f"{len(common)} sentences"
        found.append(Difference(other, metric, result.b, result.a, result.low, result.high, over))
    return found


def headline(runs: list[RunFiles], found: list[Difference]) -> Html:
    """One sentence per run after the first that says what the numbers show, within their intervals."""
    sentences, claims = [], False
    for other in range(1, len(runs)):
        both = {0: runs[0], other: runs[other]}
        if empty := [key(number, run.label) for number, run in both.items() if any(f.empty for f in run.health)]:
            verb = "shows" if len(empty) == 1 else "show"
            sentences.append(html("<p>No comparison: {} {} no learning (see below).</p>", joined(empty, " and "), verb))
            continue
        if _same_answers(runs[0], runs[other]):
            pair = key(other, runs[other].label), key(0, runs[0].label)
            sentences.append(html("<p>{} and {}: outputs identical.</p>", *pair))
            continue
        own = [d for d in found if d.other == other and d.metric in ("sdr", "bleu4", "rouge_l")]
        parts = [
            html(
                "<b>{} {} {}</b> ({})", d.title, decimals(abs(d.b - d.a)), "lower" if d.b < d.a else "higher", _span(d)
            )
            for d in own
            if d.seen
        ]
        unseen = [f"{d.title} ({_signed(d.b - d.a)}; {_span(d)})" for d in own if not d.seen]
        if unseen:
            parts.append(html("no difference seen in {}", ", ".join(unseen)))
        if parts:
            claims = True
            pair = key(other, runs[other].label), key(0, runs[0].label)
            sentences.append(html("<p>{} against {}: {}.</p>", *pair, joined(parts, "; ")))
    if not sentences:
        return Html()
    brackets = (
        "In brackets: 95 % intervals of a paired bootstrap over test sentences or glosses. They do not include "
        "differences between seeds: each run was trained once."
    )
    note = html('<p class="note">{}</p>', brackets) if claims else Html()
    return html('<div class="lead">{}{}</div>', joined(sentences), note)


def _same_answers(a: RunFiles, b: RunFiles) -> bool:
    ours, theirs = ([answer for _, answer in (run.predictions or {}).values()] for run in (a, b))
    return equal_outputs(ours, theirs)


def health_box(runs: list[RunFiles]) -> Html:
    """Warnings about the scores of each run; empty if there are none."""
    rows = [
        html("<li>{} {}.</li>", key(number, run.label), finding.text)
        for number, run in enumerate(runs)
        for finding in run.health
    ]
    if not rows:
        return Html()
    empty = any(finding.empty for run in runs for finding in run.health)
    heading = "These numbers show no learning" if empty else "Before you use these numbers"
    return html(
        '<aside class="health" aria-label="Health of the runs"><h2>{}</h2><ul>{}</ul></aside>', heading, joined(rows)
    )


def _shown(runs: list[RunFiles]) -> dict[str, Score]:
    """Scores that tables show, in order, without SDR, which is shown separately."""
    shown = shown_scores([run.recipe.system for run in runs])
    return {name: score for name, score in shown.items() if name != "sdr"}


def _span(d: Difference) -> str:
    return f"{_signed(d.low)} to {_signed(d.high)}"


def key_numbers(runs: list[RunFiles], found: list[Difference]) -> Html:
    """The small table at the top, with a row per run and a column per number."""
    shown = _shown(runs)
    names = [n for n in shown if any(_value(run.scores, n) is not None for run in runs)]
    if all(run.recipe.system.answers not in ("glosses", "classes") for run in runs):  # for sentences no key number
        names = [n for n in names if n != "wer"]
    if any(run.recipe.system.answers == "sentences" for run in runs):
        names = [n for n in names if not shown[n].loss]
    header = ["SDR %", *(shown[n].title for n in names), "Training", "Parameters"]
    comparable = len(runs) == 2 and not any(finding.empty for run in runs for finding in run.health)
    better = {(d.metric, d.other if d.better else 0) for d in found if d.seen and comparable}
    rows = []
    for number, run in enumerate(runs):
        cells = [_sdr_cell(run, ("sdr", number) in better)]
        for name in names:
            span = _interval(run.scores, name)
            below = span and f"{decimals(span[0])}–{decimals(span[1])}"
            cells.append(_number(_value(run.scores, name), below, (name, number) in better))
        own, before = training_seconds(run)
        seconds = html("{}<small>{} before</small>", duration(own + before), duration(before))
        seconds = seconds if before else html("{}", duration(own))
        rows.append([key(number, run.label), *cells, seconds, decimals(run.card.get("parameters"), 0)])
    note = "Small numbers: 95 % bootstrap intervals, over glosses (SDR) and over sentences."
    if better:
        note += " Bold: better, with an interval of the paired difference that excludes 0."
    if any(training_seconds(run)[1] for run in runs):
        note += " Training includes the runs that the weights were started from (“before”)."
    lower = "SDR (Sign Density Ratio): lower is better, the signs are less crowded. "
    lower += "WER: lower is better. " if "wer" in names else ""
    lower += "The other scores: higher is better."
    only_losses = names and all(shown[n].loss for n in names)
    whole = table(header, rows, caption="Key numbers of each run", kind="keys", name=f"{runs[0].split} split")
    return whole + html('<p class="note">{} {}</p>', note, "Losses: lower is better." if only_losses else lower)


def scores_section(runs: list[RunFiles], found: list[Difference]) -> Html:
    """All scores, also of unseen sentences alone, with conventions and paired differences."""
    parts = [gap(f"{run.label} has no scores on the {run.split} split.", command("evaluate", run))
             for run in runs if run.scores is None]  # fmt: skip
    scored = [(number, run, run.scores) for number, run in enumerate(runs) if run.scores is not None]
    if not scored:
        return joined(parts)
    columns: list[tuple[Cell, dict[str, Any]]] = []
    for number, run, scores in scored:
        columns.append((key(number, run.label), scores))
        if "unseen" in scores:
            unseen = html("{}<small>unseen sentences</small>", key(number, run.label))
            columns.append((unseen, scores["unseen"]))
    shown = _shown(runs)
    names = [n for n in shown if any(_value(scores, n) is not None for _, scores in columns)]
    rows = [[shown[n].title, *(decimals(_value(scores, n), _places(shown[n])) for _, scores in columns)] for n in names]
    whole = table([head for head, _ in columns], rows, caption="Scores of each run", kind="narrow", name="Score")
    beside = '<div class="beside"><div><h3>All scores</h3>{}</div>{}</div>'
    parts.append(html(beside, whole, _differences_table(runs, found)))
    parts.append(_conventions([(number, run, scores) for number, run, scores in scored]))
    return joined(parts)


def _differences_table(runs: list[RunFiles], found: list[Difference]) -> Html:
    if not found:
        return Html()
    rows = [
        [
            "SDR %" if d.metric == "sdr" else d.title,
            *([key(d.other, runs[d.other].label)] if len(runs) > 2 else []),
            html("<b>{}</b>", _signed(d.b - d.a)),
            _span(d),
            d.over,
            _verdict(d),
        ]
        for d in found
    ]
    header = [
        *(["run"] if len(runs) > 2 else []),
        "difference",
        "95 % interval",
        "paired over",
        "",
    ]
    whole = table(header, rows, caption="Paired differences", kind="narrow", name="Score")
    note = (
        f"The other run minus {runs[0].label}. Paired bootstrap, {RESAMPLES} resamples; if an interval contains 0, no "
        "difference is seen. Each interval is at 95 %, not corrected for the number of intervals. One training run "
        "each: differences between seeds are not included."
    )
    return html('<div><h3>Differences, paired</h3>{}<p class="note">{}</p></div>', whole, note)


def _verdict(d: Difference) -> Cell:
    if not d.seen:
        return html('<span class="same">no difference seen</span>')
    word = "better" if d.better else "worse"
    return html('<span class="{word}">{word}</span>', word=word)


def _conventions(scored: list[tuple[int, RunFiles, dict[str, Any]]]) -> Html:
    """How the scores were computed: signatures, counts, search, seed and commits, one row each."""
    rows: dict[str, list[Cell | str]] = {}
    shown = _shown([run for _, run, _ in scored])

    def put(name: str, number: int, cell: object) -> None:
        rows.setdefault(name, ["–"] * len(scored))[number] = cell if isinstance(cell, Html) else str(cell)

    for column, (_, run, scores) in enumerate(scored):
        for name, signature in (scores.get("signatures") or {}).items():
            put(f"{score_shown(name, shown).title} signature", column, code(signature))
        for name, score in shown.items():
            if span := _interval(scores, name):
                put(f"{score.title}, 95 % interval", column, f"{decimals(span[0])} to {decimals(span[1])}")
        if resamples := (scores.get("intervals") or {}).get("samples"):
            put("Resamples of the intervals", column, resamples)
        if split := scores.get("wer_split"):
            put("WER split", column, ", ".join(f"{decimals(value)} {name}" for name, value in split.items()))
        for name, value in (scores.get("counts") or {}).items():
            if name in COUNTS:
                put(COUNTS[name], column, decimals(value, 0))
        if dots := scores.get("final_dot"):
            ours, theirs = (f"{decimals(dots[side], 1)} %" for side in ("hypotheses", "references"))
            lines = f"{ours} of translations, {theirs} of references"
            warning = Html() if dots["agree"] else html("<small>these should agree</small>")
            put("Lines ending in “ .”", column, html("{}{}", lines, warning))
        if seen := scores.get("seen_in_training"):
            put("Sentences also in training", column, f"{seen['sentences']} ({decimals(seen['percent'], 1)} %)")
        if trip := scores.get("vocabulary_round_trip"):
            put("References the tokenizer cannot write", column, trip["changed_references"])
        for name, label in MADE.items():
            if name in UNSEARCHED.get(run.recipe.system.answers, ()):
                continue
            if (value := scores.get("made", {}).get(name)) not in (None, ""):
                short = str(value)[:10] + ("+changes" if "+" in str(value) else "") if "commit" in name else value
                put(label, column, code(short) if "commit" in name else short)
        if skipped := scores.get("made", {}).get("skipped"):
            first = "; ".join(f"{name}: {reason}" for name, reason in list(skipped.items())[:5])
            put("Clips skipped", column, html("{}<small>{}</small>", len(skipped), first))
    cells = [[name, *values] for name, values in rows.items()]
    header = [key(number, run.label) for number, run, _ in scored]
    conventions = table(
        header, cells, caption="How the scores were computed", kind="words", name="How they were computed"
    )
    return html("<details><summary>Signatures and conventions</summary>{}</details>", conventions)


def _value(scores: dict[str, Any] | None, name: str) -> float | None:
    value = (scores or {}).get(name)
    if isinstance(value, dict):  # a score with parts, such as WER with its split
        value = value.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _interval(scores: dict[str, Any] | None, name: str) -> tuple[float, float] | None:
    """The 95 % interval of a score over sentences."""
    scores = scores or {}
    if isinstance(pair := (scores.get("intervals") or {}).get(name), list):
        return pair[0], pair[1]
    return None


def _places(score: Score) -> int:
    return 3 if score.loss else 2


def _number(value: float | None, below: str | None, best: bool) -> Cell:
    shown = decimals(value)
    number = html("<b>{}</b>" if best else "{}", shown)
    return number + html("<small>{}</small>", below) if below else number


def _sdr_cell(run: RunFiles, best: bool) -> Cell:
    if run.density is None:
        return html("–")
    low, high = run.density["interval"]
    return _number(run.density["sdr"], f"{decimals(low)}–{decimals(high)}", best)


def _signed(value: float) -> str:
    return decimals(value, sign=True)
