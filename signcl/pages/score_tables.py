"""Score tables of the report: the key numbers, differences between runs with their intervals, and all scores.

Scores are read from scores.json and never computed again. Only the paired intervals between two runs are computed here,
from the sentences and glosses that both have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from signcl.density.verdicts import measured_alike
from signcl.evaluation.health import FINDINGS, Finding, equal_outputs
from signcl.metrics import paired_bootstrap
from signcl.metrics.titles import SCORES, Score
from signcl.metrics.written_forms import normalize, tokenize_as
from signcl.pages.markup import Cell, Html, code, duration, html, joined, key, table, text
from signcl.pages.page_words import Words
from signcl.pages.report_runs import RunFiles, command, training_seconds
from signcl.systems.terms import score_shown, shown_scores

__all__ = ["Difference", "differences", "headline", "health_box", "key_numbers", "scores_section"]

RESAMPLES = 1000
PAIRED = ("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "chrf", "exact_match", "wer")
COUNTS = (
    "reference_tokens",
    "hypothesis_tokens",
    "distinct_hypotheses",
    "empty_hypotheses",
    "empty_references",
)
MADE = (
    "clips",
    "beams",
    "length_penalty",
    "seconds",
    "device",
    "seed",
    "trained_with_commit",
    "scored_with_commit",
)
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
    count: int
    """How many glosses (SDR) or sentences were resampled."""

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
    return Difference(other, "sdr", first, second, float(low), float(high), len(pairs))


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
        found.append(Difference(other, metric, result.b, result.a, result.low, result.high, len(common)))
    return found


def headline(runs: list[RunFiles], found: list[Difference], say: Words) -> Html:
    """One sentence per run after the first that says what the numbers show, within their intervals."""
    sentences, claims = [], False
    for other in range(1, len(runs)):
        both = {0: runs[0], other: runs[other]}
        if empty := [key(number, run.label) for number, run in both.items() if any(f.empty for f in run.health)]:
            verb = "one" if len(empty) == 1 else "two"
            sentences.append(html("<p>{}</p>", say(f"lead.empty_{verb}", runs=joined(empty, f" {say('and')} "))))
            continue
        if _same_answers(runs[0], runs[other]):
            pair = {"other": key(other, runs[other].label), "first": key(0, runs[0].label)}
            sentences.append(html("<p>{}</p>", say("lead.identical", **pair)))
            continue
        own = [d for d in found if d.other == other and d.metric in ("sdr", "bleu4", "rouge_l")]
        parts = [
            html("<b>{}</b> ({})", say(f"lead.{'lower' if d.b < d.a else 'higher'}", **_by(d, say)), _span(d, say))
            for d in own
            if d.seen
        ]
        unseen = [f"{_name(d, say)} ({_signed(d.b - d.a, say)}; {_span(d, say)})" for d in own if not d.seen]
        if unseen:
            parts.append(say("lead.not_seen", scores=", ".join(unseen)))
        if parts:
            claims = True
            pair = {"other": key(other, runs[other].label), "first": key(0, runs[0].label)}
            sentences.append(html("<p>{}.</p>", say("against", **pair, what=joined(parts, "; "))))
    if not sentences:
        return Html()
    note = html('<p class="note">{}</p>', say("lead.brackets")) if claims else Html()
    return html('<div class="lead">{}{}</div>', joined(sentences), note)


def _name(d: Difference, say: Words) -> str:
    return say.title(d.metric, SCORES[d.metric])


def _by(d: Difference, say: Words) -> dict[str, str]:
    return {"score": _name(d, say), "by": say.decimals(abs(d.b - d.a))}


def _same_answers(a: RunFiles, b: RunFiles) -> bool:
    ours, theirs = ([answer for _, answer in (run.predictions or {}).values()] for run in (a, b))
    return equal_outputs(ours, theirs)


def health_box(runs: list[RunFiles], say: Words) -> Html:
    """Warnings about the scores of each run; empty if there are none."""
    rows = [
        html("<li>{} {}.</li>", key(number, run.label), _finding(finding, say))
        for number, run in enumerate(runs)
        for finding in run.health
    ]
    if not rows:
        return Html()
    empty = any(finding.empty for run in runs for finding in run.health)
    return html(
        '<aside class="health" aria-label="{}"><h2>{}</h2><ul>{}</ul></aside>',
        say("health.label"),
        say("health.empty") if empty else say("health.before"),
        joined(rows),
    )


def _finding(finding: Finding, say: Words) -> str:
    return say.defined(f"finding.{finding.template}", FINDINGS[finding.template], finding.values)


def _shown(runs: list[RunFiles]) -> dict[str, Score]:
    """Scores that tables show, in order, without SDR, which is shown separately."""
    shown = shown_scores([run.recipe.system for run in runs])
    return {name: score for name, score in shown.items() if name != "sdr"}


def _span(d: Difference, say: Words) -> str:
    return say.plain("to", low=_signed(d.low, say), high=_signed(d.high, say))


def key_numbers(runs: list[RunFiles], found: list[Difference], say: Words) -> Html:
    """The small table at the top, with a row per run and a column per number."""
    shown = _shown(runs)
    names = [n for n in shown if any(_value(run.scores, n) is not None for run in runs)]
    if all(run.recipe.system.answers not in ("glosses", "classes") for run in runs):  # for sentences no key number
        names = [n for n in names if n != "wer"]
    if any(run.recipe.system.answers == "sentences" for run in runs):
        names = [n for n in names if not shown[n].loss]
    header = ["SDR %", *(say.title(n, shown[n]) for n in names), say("report.training"), say("card.row_parameters")]
    comparable = len(runs) == 2 and not any(finding.empty for run in runs for finding in run.health)
    better = {(d.metric, d.other if d.better else 0) for d in found if d.seen and comparable}
    rows = []
    for number, run in enumerate(runs):
        cells = [_sdr_cell(run, ("sdr", number) in better, say)]
        for name in names:
            span = _interval(run.scores, name)
            below = span and f"{say.decimals(span[0])}–{say.decimals(span[1])}"
            cells.append(_number(_value(run.scores, name), below, (name, number) in better, say))
        own, before = training_seconds(run)
        seconds = html("{}<small>{}</small>", duration(own + before), say("keys.before", time=duration(before)))
        seconds = seconds if before else html("{}", duration(own))
        rows.append([key(number, run.label), *cells, seconds, say.decimals(run.card.get("parameters"), 0)])
    notes = [say("keys.small")]
    if better:
        notes.append(say("keys.bold"))
    if any(training_seconds(run)[1] for run in runs):
        notes.append(say("keys.training"))
    if names and all(shown[n].loss for n in names):
        notes.append(say("keys.losses"))
    else:
        notes += [say("keys.sdr"), *([say("keys.wer")] if "wer" in names else []), say("keys.others")]
    first = say("home.split", split=runs[0].split)
    whole = table(header, rows, caption=say.plain("keys.caption"), kind="keys", name=first)
    return whole + html('<p class="note">{}</p>', joined(notes, " "))


def scores_section(runs: list[RunFiles], found: list[Difference], say: Words) -> Html:
    """All scores, also of unseen sentences alone, with conventions and paired differences."""
    parts = [
        say.gap(say("scores.none", run=run.label, split=run.split), command("evaluate", run))
        for run in runs
        if run.scores is None
    ]
    scored = [(number, run, run.scores) for number, run in enumerate(runs) if run.scores is not None]
    if not scored:
        return joined(parts)
    columns: list[tuple[Cell, dict[str, Any]]] = []
    for number, run, scores in scored:
        columns.append((key(number, run.label), scores))
        if "unseen" in scores:
            unseen = html("{}<small>{}</small>", key(number, run.label), say("scores.unseen"))
            columns.append((unseen, scores["unseen"]))
    shown = _shown(runs)
    names = [n for n in shown if any(_value(scores, n) is not None for _, scores in columns)]
    rows = [
        [say.title(n, shown[n]), *(say.decimals(_value(scores, n), _places(shown[n])) for _, scores in columns)]
        for n in names
    ]
    heads = [head for head, _ in columns]
    whole = table(heads, rows, caption=say.plain("scores.caption"), kind="narrow", name=say("score"))
    beside = '<div class="beside"><div><h3>{}</h3>{}</div>{}</div>'
    parts.append(html(beside, say("scores.all"), whole, _differences_table(runs, found, say)))
    parts.append(_conventions([(number, run, scores) for number, run, scores in scored], say))
    return joined(parts)


def _differences_table(runs: list[RunFiles], found: list[Difference], say: Words) -> Html:
    if not found:
        return Html()
    rows = [
        [
            "SDR %" if d.metric == "sdr" else _name(d, say),
            *([key(d.other, runs[d.other].label)] if len(runs) > 2 else []),
            html("<b>{}</b>", _signed(d.b - d.a, say)),
            _span(d, say),
            say(f"differences.over_{'glosses' if d.metric == 'sdr' else 'sentences'}", count=d.count),
            _verdict(d, say),
        ]
        for d in found
    ]
    header = [
        *([say("differences.run")] if len(runs) > 2 else []),
        say("differences.difference"),
        say("interval"),
        say("differences.over"),
        "",
    ]
    whole = table(header, rows, caption=say.plain("differences.caption"), kind="narrow", name=say("score"))
    note = say("differences.about", run=runs[0].label, resamples=RESAMPLES)
    return html('<div><h3>{}</h3>{}<p class="note">{}</p></div>', say("differences.head"), whole, note)


def _verdict(d: Difference, say: Words) -> Cell:
    if not d.seen:
        return html('<span class="same">{}</span>', say("differences.not_seen"))
    word = "better" if d.better else "worse"
    return html('<span class="{}">{}</span>', word, say(f"differences.{word}"))


def _conventions(scored: list[tuple[int, RunFiles, dict[str, Any]]], say: Words) -> Html:
    """How the scores were computed: signatures, counts, search, seed and commits, one row each."""
    rows: dict[str, list[Cell | str]] = {}
    shown = _shown([run for _, run, _ in scored])

    def put(name: str, number: int, cell: object) -> None:
        rows.setdefault(str(name), ["–"] * len(scored))[number] = cell if isinstance(cell, Html) else str(cell)

    for column, (_, run, scores) in enumerate(scored):
        for name, signature in (scores.get("signatures") or {}).items():
            title = say.title(name, score_shown(name, shown))
            put(say.plain("how.signature", score=title), column, code(signature))
        for name, score in shown.items():
            if span := _interval(scores, name):
                ends = say.plain("to", low=say.decimals(span[0]), high=say.decimals(span[1]))
                put(say.plain("how.interval", score=say.title(name, score)), column, ends)
        if resamples := (scores.get("intervals") or {}).get("samples"):
            put(say("how.resamples"), column, resamples)
        if split := scores.get("wer_split"):
            kinds = (f"{say.decimals(value)} {_kind(name, say)}" for name, value in split.items())
            put(say("how.wer_split"), column, ", ".join(kinds))
        for name, value in (scores.get("counts") or {}).items():
            if name in COUNTS:
                put(say(f"how.{name}"), column, say.decimals(value, 0))
        if dots := scores.get("final_dot"):
            ours, theirs = (say.decimals(dots[side], 1) for side in ("hypotheses", "references"))
            warning = Html() if dots["agree"] else html("<small>{}</small>", say("how.dots_differ"))
            put(say("how.dots"), column, say("how.dots_of", ours=ours, theirs=theirs) + warning)
        if seen := scores.get("seen_in_training"):
            put(say("how.seen"), column, f"{seen['sentences']} ({say.decimals(seen['percent'], 1)} %)")
        if trip := scores.get("vocabulary_round_trip"):
            put(say("how.round_trip"), column, trip["changed_references"])
        for name in MADE:
            if name in UNSEARCHED.get(run.recipe.system.answers, ()):
                continue
            if (value := scores.get("made", {}).get(name)) not in (None, ""):
                put(say(f"how.{name}"), column, code(_commit(value)) if "commit" in name else _written(value, say))
        if skipped := scores.get("made", {}).get("skipped"):
            first = say.english("; ".join(f"{name}: {reason}" for name, reason in list(skipped.items())[:5]))
            put(say("how.skipped"), column, html("{}<small>{}</small>", len(skipped), first))
    cells = [[name, *values] for name, values in rows.items()]
    header = [key(number, run.label) for number, run, _ in scored]
    conventions = table(header, cells, caption=say.plain("how.caption"), kind="words", name=say("how.head"))
    return html("<details><summary>{}</summary>{}</details>", say("how.summary"), conventions)


def _kind(name: str, say: Words) -> Html:
    """A kind of word error, in words."""
    return say(f"how.{name}") if name in ("substitutions", "deletions", "insertions") else text(name)


def _commit(value: object) -> str:
    return str(value)[:10] + ("+changes" if "+" in str(value) else "")


def _written(value: object, say: Words) -> object:
    return say.localized(f"{value}") if isinstance(value, float) else value


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


def _number(value: float | None, below: str | None, best: bool, say: Words) -> Cell:
    shown = say.decimals(value)
    number = html("<b>{}</b>" if best else "{}", shown)
    return number + html("<small>{}</small>", below) if below else number


def _sdr_cell(run: RunFiles, best: bool, say: Words) -> Cell:
    if run.density is None:
        return html("–")
    low, high = run.density["interval"]
    return _number(run.density["sdr"], f"{say.decimals(low)}–{say.decimals(high)}", best, say)


def _signed(value: float, say: Words) -> str:
    return say.decimals(value, sign=True)
