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
from signcl.evaluation.probes.changes import SAID, By, sentence_scores
from signcl.metrics.titles import SCORES
from signcl.metrics.written_forms import tokenize_as, unit_for
from signcl.pages.markup import Html, attributes, decimals, document, embedded, html, joined, key, table
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
    progress: bool = True,
) -> Path:
    """Write the page and return its path.

    Args:
        run_a, run_b, split, reference: see `signcl.evaluation.comparison.compare`.
        scores: the return value of that function.
        by: the sentence score to sort by.
        clips: largest number of clips in the page; the first sentences get them.

    Raises:
        ValueError: `path` is a folder, or `paired_predictions` raises it.
    """
    if path.is_dir():
        raise ValueError(f"--html {path}: needs a file name, got a folder")
    names, references, a, b = paired_predictions(run_a, run_b, split, reference)
    tokenize = tokenize_as("auto", references)
    one, other = (sentence_scores(side, references, by, tokenize=tokenize) for side in (a, b))
    by_character = unit_for(tokenize) == "character"
    order = sorted(range(len(names)), key=lambda i: (-abs(other[i] - one[i]), a[i] == b[i], names[i]))
    differing = [i for i in order if a[i] != b[i]][:SHOWN]
    samples, problem = _samples((run_a, run_b), split)
    label_a, label_b = labels([Path(run_a), Path(run_b)])
    cards = []
    with track("reading clips", total=min(clips, len(differing)), show=progress) as bar:
        for place, i in enumerate(differing):
            player = Html()
            if place < clips:
                player = _player(samples.get(names[i]))
                bar.advance()
            sides = [
                (number, label, marked(references[i], said, by_character=by_character), float(score[i]))
                for number, label, said, score in ((0, label_a, a[i], one), (1, label_b, b[i], other))
            ]
            cards.append(_card(place + 1, names[i], references[i], sides, player))
    counts = (
        f"{len(names)} sentences: {label_b} is better on {int((other > one).sum())}, {label_a} on "
        f"{int((other < one).sum())}; equal answers: {sum(x == y for x, y in zip(a, b))}."
    )
    title = f"{label_a} and {label_b}"
    body = html(
        """<header class="top"><p class="kind">signcl compare</p><h1>{}</h1><p>{}</p></header>
<main><section aria-labelledby="scores-h"><h2 id="scores-h">Scores</h2>{}</section>
<section aria-labelledby="sentences-h"><h2 id="sentences-h">Sentences that differ</h2>{}{}{}</section></main>
<footer>Made by signcl {}.</footer>""",
        title,
        counts,
        _scores(scores, label_a, label_b),
        _explained(by, len(differing), len(names) - sum(x == y for x, y in zip(a, b)), problem),
        SORTS if differing else html('<p class="gap">Both give the same answer for every clip.</p>'),
        html('<div id="cards">{}</div>', joined(cards)),
        version_of("signcl"),
    )
    write_text(path, document(title, "signcl compare", body, script="compare.js", styles=["compare.css"]))
    return path


SORTS = html(
    '<p class="pick"><label for="sort">Order</label> <select id="sort">'
    '<option value="both">largest difference first</option><option value="b">those where the second is better</option>'
    '<option value="a">those where the first is better</option></select></p>'
)


def _scores(scores: Sequence[dict[str, Any]], label_a: str, label_b: str) -> Html:
    rows = [
        [
            SCORES[row["metric"]].title,
            decimals(row["a"]),
            decimals(row["b"]),
            html("<b>{}</b>", decimals(row["difference"], sign=True)),
            f"{decimals(row['low'], sign=True)} to {decimals(row['high'], sign=True)}",
            decimals(row["p_value"], 3),
        ]
        for row in scores
    ]
    head = [key(0, label_a), key(1, label_b), "difference", "95 % interval", "p"]
    whole = table(head, rows, caption="Scores of both and their difference", kind="narrow", name="Score")
    note = "Paired bootstrap over sentences; if an interval contains 0, no difference is seen."
    return whole + html('<p class="note">{}</p>', note)


def _explained(by: By, shown: int, differing: int, problem: str) -> Html:
    lines = [
        f"Sorted by the difference of the {SAID[by]}. Marked words of a translation are not in the reference at that "
        "position; words that are struck out are missing from the translation."
    ]
    if shown < differing:
        lines.append(f"Shown are the {shown} that differ most, of {differing}.")
    if problem:
        lines.append(f"No clips: {problem}.")
    return joined(html('<p class="note">{}</p>', line) for line in lines)


def _card(rank: int, name: str, reference: str, sides: Sequence[tuple[int, str, Html, float]], player: Html) -> Html:
    difference = sides[1][3] - sides[0][3]
    lines = joined(
        html('<dt>{} <span class="of">{}</span></dt><dd>{}</dd>', key(number, label), decimals(score, 1), said)
        for number, label, said, score in sides
    )
    return html(
        '<article class="sample" data-difference="{:.6f}"><header><h3>{}. {}</h3><span class="{}">{}</span></header>'
        '<div class="pair">{}<dl><dt>Reference</dt><dd>{}</dd>{}</dl></div></article>',
        difference,
        rank,
        name,
        "better" if difference > 0 else "worse" if difference < 0 else "same",
        decimals(difference, 1, sign=True),
        player,
        reference,
        lines,
    )


def _samples(runs: Sequence[str | Path], split: str) -> tuple[dict[str, Sample], str]:
    """Clips by name, from the first run folder whose corpus can be read; otherwise why there are none."""
    problem = "neither is a run folder, so the clips are unknown"
    for run in runs:
        if not (Path(run) / "recipe.yaml").is_file():
            continue
        try:
            return {sample.name: sample for sample in recipe_samples(read_recipe(run), split)}, ""
        except (ValueError, OSError) as error:
            problem = f"the corpus of {Path(run).name} cannot be read ({error})"
    return {}, problem


def _player(sample: Sample | None) -> Html:
    """A player: a window that moves over a sheet of frames. Features are shown as one picture."""
    if sample is None:
        return Html()
    try:
        if sample.features is not None:
            strip = clip_strip(load_raw(sample, InputRecipe()))
            return html(
                '<figure class="clip"><img src="{}" alt="Features of {} over time"></figure>', strip, sample.name
            )
        total = count_sample(sample)
        picked = np.unique(np.linspace(0, total - 1, min(total, FRAMES)).round().astype(int))
        picture, height, width = sheet(read_clip(sample, indices=picked), SIDE, COLUMNS)
    except (ValueError, OSError) as error:
        return html('<figure class="clip"><p class="gap">This clip cannot be read: {}</p></figure>', error)
    columns = min(COLUMNS, len(picked))
    place = attributes(data_count=len(picked), data_columns=columns, data_rows=-(-len(picked) // columns))
    return html(
        '<figure class="clip"{}><div class="window" style="aspect-ratio:{}/{}"><img src="{}" alt="{}" '
        'style="width:{}%"></div><button type="button" class="chip" aria-label="Play {}">Play</button></figure>',
        place,
        width,
        height,
        embedded(picture, "jpeg"),
        f"Frames of {sample.name}",
        100 * columns,
        sample.name,
    )
