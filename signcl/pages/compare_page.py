"""The page of `signcl compare --html`: sentences of two systems side by side, with their clips.

The page is one self-contained file. A clip is a sheet of at most `FRAMES` frames that a small script plays.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from signcl.data.batch import Sample
from signcl.data.files import write_text
from signcl.data.installed import version_of
from signcl.data.loading import load_raw
from signcl.data.progress import track
from signcl.data.sections import InputRecipe
from signcl.data.segments import count_sample, read_clip
from signcl.evaluation.comparison import paired_predictions
from signcl.evaluation.probes.changes import By, sentence_scores
from signcl.metrics.titles import SCORES
from signcl.metrics.written_forms import tokenize_as, unit_for
from signcl.pages.languages import LANGUAGES
from signcl.pages.markup import Html, attributes, document, embedded, html, joined, key, table
from signcl.pages.page_words import Words
from signcl.pages.report_runs import labels
from signcl.pages.signs import clip_strip, sheet
from signcl.pages.translations import marked
from signcl.training.recipe import recipe_samples
from signcl.training.runs import read_recipe

__all__ = ["write_compare_page"]

FRAMES, SIDE, COLUMNS = 40, 128, 8
"""Per clip: most frames, pixels of the longer side, frames per row of the sheet. About 60 kB per clip."""
SHOWN = 300
"""Most sentences on the page, those that differ most; the others are only counted."""


def write_compare_page(
    run_a: str | Path,
    run_b: str | Path,
    path: Path,
    scores: Sequence[dict[str, Any]],
    *,
    split: str = "test",
    reference: str | Path | None = None,
    by: By = "rouge_l",
    clips: int = 40,
    language: str = LANGUAGES[0],
    progress: bool = True,
) -> Path:
    """Write the page and return its path.

    Args:
        run_a, run_b, split, reference: see `signcl.evaluation.comparison.compare`.
        scores: the return value of that function.
        by: the sentence score to sort by.
        clips: largest number of clips in the page; the first sentences get them.
        language: of the page, en or de.

    Raises:
        ValueError: `path` is a folder, or `paired_predictions` raises it.
    """
    say = Words(language)
    if path.is_dir():
        raise ValueError(f"--html {path}: needs a file name, got a folder")
    names, references, a, b = paired_predictions(run_a, run_b, split, reference)
    tokenize = tokenize_as("auto", references)
    one, other = (sentence_scores(side, references, by, tokenize=tokenize) for side in (a, b))
    by_character = unit_for(tokenize) == "character"
    order = sorted(range(len(names)), key=lambda i: (-abs(other[i] - one[i]), a[i] == b[i], names[i]))
    differing = [i for i in order if a[i] != b[i]][:SHOWN]
    samples, problem = _samples((run_a, run_b), split, say)
    label_a, label_b = labels([Path(run_a), Path(run_b)])
    cards = []
    with track("reading clips", total=min(clips, len(differing)), show=progress) as bar:
        for place, i in enumerate(differing):
            player = Html()
            if place < clips:
                player = _player(samples.get(names[i]), say)
                bar.advance()
            sides = [
                (number, label, marked(references[i], said, by_character=by_character, say=say), float(score[i]))
                for number, label, said, score in ((0, label_a, a[i], one), (1, label_b, b[i], other))
            ]
            cards.append(_card(place + 1, names[i], references[i], sides, player, say))
    counts = say(
        "compare.counts",
        all=len(names),
        b=label_b,
        a=label_a,
        better=int((other > one).sum()),
        worse=int((other < one).sum()),
        equal=sum(x == y for x, y in zip(a, b)),
    )
    title = f"{label_a} {say('and')} {label_b}"
    body = html(
        """<header class="top"><p class="kind">signcl compare</p><h1>{}</h1><p>{}</p></header>
<main><section aria-labelledby="scores-h"><h2 id="scores-h">{}</h2>{}</section>
<section aria-labelledby="sentences-h"><h2 id="sentences-h">{}</h2>{}{}{}</section></main>
<footer>{}</footer>{}""",
        title,
        counts,
        say("report.scores"),
        _scores(scores, label_a, label_b, say),
        say("compare.differ"),
        _explained(by, len(differing), len(names) - sum(x == y for x, y in zip(a, b)), problem, say),
        _sorts(say) if differing else html('<p class="gap">{}</p>', say("compare.all_equal")),
        html('<div id="cards">{}</div>', joined(cards)),
        say("made", version=version_of("signcl")),
        say.table("compare.js_"),
    )
    scripts = ["words.js", "compare.js"]
    write_text(path, document(title, "signcl compare", body, scripts, ["compare.css"], language))
    return path


def _sorts(say: Words) -> Html:
    options = joined(
        html('<option value="{}">{}</option>', value, say(f"compare.order_{value}")) for value in ("both", "b", "a")
    )
    return html(
        '<p class="pick"><label for="sort">{}</label> <select id="sort">{}</select></p>', say("compare.order"), options
    )


def _scores(scores: Sequence[dict[str, Any]], label_a: str, label_b: str, say: Words) -> Html:
    rows = [
        [
            say.title(row["metric"], SCORES[row["metric"]]),
            say.decimals(row["a"]),
            say.decimals(row["b"]),
            html("<b>{}</b>", say.decimals(row["difference"], sign=True)),
            say("to", low=say.decimals(row["low"], sign=True), high=say.decimals(row["high"], sign=True)),
            say.decimals(row["p_value"], 3),
        ]
        for row in scores
    ]
    head = [key(0, label_a), key(1, label_b), say("differences.difference"), say("interval"), "p"]
    whole = table(head, rows, caption=say.plain("compare.scores"), kind="narrow", name=say("score"))
    return whole + html('<p class="note">{}</p>', say("compare.bootstrap"))


def _explained(by: By, shown: int, differing: int, problem: Html | None, say: Words) -> Html:
    lines = [say("compare.sorted", score=say(f"compare.by_{by}"))]
    if shown < differing:
        lines.append(say("compare.shown", part=shown, all=differing))
    if problem is not None:
        lines.append(say("compare.no_clips", why=problem))
    return joined(html('<p class="note">{}</p>', line) for line in lines)


def _card(
    rank: int, name: str, reference: str, sides: Sequence[tuple[int, str, Html, float]], player: Html, say: Words
) -> Html:
    difference = sides[1][3] - sides[0][3]
    lines = joined(
        html('<dt>{} <span class="of">{}</span></dt><dd>{}</dd>', key(number, label), say.decimals(score, 1), said)
        for number, label, said, score in sides
    )
    return html(
        '<article class="sample" data-difference="{:.6f}"><header><h3>{}. {}</h3><span class="{}">{}</span></header>'
        '<div class="pair">{}<dl><dt>{}</dt><dd>{}</dd>{}</dl></div></article>',
        difference,
        rank,
        name,
        "better" if difference > 0 else "worse" if difference < 0 else "same",
        say.decimals(difference, 1, sign=True),
        player,
        say("reference"),
        reference,
        lines,
    )


def _samples(runs: Sequence[str | Path], split: str, say: Words) -> tuple[dict[str, Sample], Html | None]:
    """Clips by name, from the first run folder whose corpus can be read; otherwise why there are none."""
    problem = say("compare.no_run")
    for run in runs:
        if not (Path(run) / "recipe.yaml").is_file():
            continue
        try:
            return {sample.name: sample for sample in recipe_samples(read_recipe(run), split)}, None
        except (ValueError, OSError) as error:
            problem = say("compare.no_corpus", run=Path(run).name, why=say.english(error))
    return {}, problem


def _player(sample: Sample | None, say: Words) -> Html:
    """A player: a window that moves over a sheet of frames. Features are shown as one picture."""
    if sample is None:
        return Html()
    try:
        if sample.features is not None:
            strip = clip_strip(load_raw(sample, InputRecipe()))
            return html(
                '<figure class="clip"><img src="{}" alt="{}"></figure>',
                strip,
                say("compare.features", name=sample.name),
            )
        total = count_sample(sample)
        picked = np.unique(np.linspace(0, total - 1, min(total, FRAMES)).round().astype(int))
        picture, height, width = sheet(read_clip(sample, indices=picked), SIDE, COLUMNS)
    except (ValueError, OSError) as error:
        return html(
            '<figure class="clip"><p class="gap">{}</p></figure>', say("compare.no_clip", why=say.english(error))
        )
    columns = min(COLUMNS, len(picked))
    place = attributes(data_count=len(picked), data_columns=columns, data_rows=-(-len(picked) // columns))
    return html(
        '<figure class="clip"{}><div class="window" style="aspect-ratio:{}/{}"><img src="{}" alt="{}" '
        'style="width:{}%"></div>'
        '<button type="button" class="chip" data-name="{}" aria-label="{}">{}</button></figure>',
        place,
        width,
        height,
        embedded(picture, "jpeg"),
        say("translate.strip", name=sample.name),
        100 * columns,
        sample.name,
        say("compare.js_play_name", name=sample.name),
        say("compare.js_play"),
    )
