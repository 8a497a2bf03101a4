"""Ten sample translations, chosen by a rule: a filmstrip of the clip, the reference, and the hypothesis of every run.

Words that differ from the reference are marked, by an alignment with the fewest edits.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from signcl.data.batch import Sample, Span
from signcl.data.loading import load_raw, thin
from signcl.data.segments import count_sample, read_clip
from signcl.data.text import characters
from signcl.data.video import contact_sheet
from signcl.metrics import chrf
from signcl.metrics.written_forms import tokenize_as, unit_for
from signcl.pages.markup import Html, code, embedded, html, joined, key, text
from signcl.pages.page_words import ENGLISH, Words
from signcl.pages.report_runs import RunFiles, command
from signcl.training.recipe import recipe_samples

__all__ = ["choose", "heat_strip", "marked", "film_strip", "translations_section"]

SHOWN = 10
FRAMES = 8
FRAME_WIDTH = 136  # pixels of the stored picture, so that 8 fill the page; 10 strips take about half a megabyte
QUALITY = 78
HEAT_ROWS, HEAT_COLUMNS = 64, 400


def translations_section(runs: list[RunFiles], say: Words) -> Html:
    """The section for the runs that translate; a pretraining run has none."""
    translating = [(number, run) for number, run in enumerate(runs) if run.recipe.system.answers == "sentences"]
    if not translating:
        recognise = all(run.recipe.system.answers in ("glosses", "classes") for run in runs)
        kind = "recogniser" if recognise else "pretraining"
        return html('<p class="gap">{}</p>', say(f"samples.{kind}", command=code("signcl fit")))
    parts = [
        say.gap(say("samples.none", run=run.label, split=run.split), command("evaluate", run))
        for _, run in translating
        if not run.predictions
    ]
    ready = [(number, run, run.predictions) for number, run in translating if run.predictions]
    if not ready:
        return joined(parts)
    _, first, predictions = ready[0]
    names, qualities, ranks = choose(predictions)
    tokenize = tokenize_as(first.recipe.bleu_tokenize, [reference for reference, _ in predictions.values()])
    by_character = unit_for(tokenize) == "character"
    samples, problem = _samples(first)
    if problem:
        parts.append(html('<p class="gap">{}</p>', say("samples.no_pictures", why=say.english(problem))))
    cards = []
    for name, quality, rank in zip(names, qualities, ranks):
        lines = []
        for number, run, found in ready:
            if name not in found:
                lines.append((number, run, html('<span class="same">{}</span>', say("samples.missing"))))
                continue
            reference, hypothesis = found[name]
            lines.append((number, run, marked(reference, hypothesis, by_character=by_character, say=say)))
        cards.append(
            _card(name, quality, rank, len(predictions), predictions[name][0], lines, samples.get(name), first, say)
        )
    rule = say("samples.rule", all=len(predictions), split=first.split, run=first.label, part=len(names))
    word = say("samples.this_word")
    marks = say("samples.marks", wrong=html("<mark>{}</mark>", word), missing=html("<del>{}</del>", word))
    notes = html('<p class="note">{}</p><p class="note">{}</p>', rule, marks)
    return joined([*parts, notes, *cards])


def choose(predictions: dict[str, tuple[str, str]], count: int = SHOWN) -> tuple[list[str], list[float], list[int]]:
    """Evenly spaced sentences between the worst and the best by sentence-level chrF.

    Returns:
        Names, their chrF, and their ranks from 1 (worst), all from worst to best.
    """
    names = list(predictions)
    quality = [float(chrf([predictions[name][1]], [predictions[name][0]])) for name in names]
    order = np.argsort(quality, kind="stable")
    ranks = np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int))
    picks = order[ranks]
    return [names[i] for i in picks], [quality[i] for i in picks], [int(rank) + 1 for rank in ranks]


def marked(reference: str, hypothesis: str, *, by_character: bool = False, say: Words = ENGLISH) -> Html:
    """A hypothesis as HTML, with its differences from the reference marked; words are compared as written."""
    from rapidfuzz.distance import Levenshtein

    theirs, ours = (characters(s) if by_character else s.split() for s in (reference, hypothesis))
    if theirs == ours:
        return html('{} <span class="better" title="{}">✓</span>', hypothesis, say("samples.equal"))
    between = "" if by_character else " "
    pieces: list[Html] = []
    steps = [(o.tag, theirs[o.src_start : o.src_end], ours[o.dest_start : o.dest_end])
             for o in Levenshtein.opcodes(theirs, ours)]  # fmt: skip
    for wrong, group in groupby(steps, key=lambda step: step[0] in ("insert", "replace")):
        run = list(group)
        if wrong:  # added words next to replaced words make one mark
            old, new = (between.join(word for step in run for word in step[side]) for side in (1, 2))
            title = say("samples.instead", words=old) if old else say("samples.not_in_reference")
            pieces.append(html('<mark title="{}">{}</mark>', title, new))
            continue
        for tag, old_words, new_words in run:
            missing = html('<del title="{}">{}</del>', say("samples.left_out"), between.join(old_words))
            pieces.append(missing if tag == "delete" else text(between.join(new_words)))
    return joined(pieces, between) or html('<span class="same">{}</span>', say("samples.empty"))


def film_strip(frames: Sequence[NDArray[np.uint8]]) -> bytes:
    """Frames in one row as a JPEG; small frames are enlarged here, since browsers do it less smoothly."""
    import cv2

    height, width = frames[0].shape[:2]
    size = (FRAME_WIDTH, max(1, round(height * FRAME_WIDTH / width)))
    method = cv2.INTER_AREA if width > FRAME_WIDTH else cv2.INTER_CUBIC
    frames = [np.asarray(cv2.resize(frame, size, interpolation=method), np.uint8) for frame in frames]
    sheet = contact_sheet(frames, columns=len(frames), gap=0)
    return _encoded(".jpg", sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])


def heat_strip(features: NDArray[np.float32]) -> tuple[bytes, int, int]:
    """Features over time as a picture: a row per dimension, scaled to its own range, and time from left to right.

    Args:
        features: [T, D]

    Returns:
        PNG, number of dimensions drawn, number of all dimensions.
    """
    import cv2

    dims = features.shape[1]
    rows = features[:, np.unique(np.linspace(0, dims - 1, min(dims, HEAT_ROWS)).round().astype(int))].T.astype(
        np.float64
    )
    low, high = np.percentile(rows, [2, 98], axis=1, keepdims=True)
    shades = np.clip((rows - low) / np.maximum(high - low, 1e-9), 0, 1)
    columns = min(shades.shape[1], HEAT_COLUMNS)
    shades = np.stack([part.mean(axis=1) for part in np.array_split(shades, columns, axis=1)], axis=1)
    picture = np.asarray(cv2.applyColorMap((255 * shades).astype(np.uint8), cv2.COLORMAP_VIRIDIS), np.uint8)
    return _encoded(".png", picture, []), rows.shape[0], dims


def _encoded(suffix: str, picture: NDArray[np.uint8], options: list[int]) -> bytes:
    import cv2

    done, buffer = cv2.imencode(suffix, np.ascontiguousarray(picture), options)
    assert done
    return bytes(buffer)


def _samples(run: RunFiles) -> tuple[dict[str, Sample], str]:
    """The split's samples by name, or why they cannot be read; the page is also made without the corpus."""
    try:
        found = recipe_samples(run.recipe, run.split)
    except (ValueError, OSError) as error:
        return {}, str(error)
    return {sample.name: sample for sample in found}, ""


def _card(
    name: str,
    quality: float,
    rank: int,
    total: int,
    reference: str,
    lines: list[tuple[int, RunFiles, Html]],
    sample: Sample | None,
    run: RunFiles,
    say: Words,
) -> Html:
    rows = [html("<dt>{}</dt><dd>{}</dd>", say("reference"), reference)]
    rows += [html("<dt>{}</dt><dd>{}</dd>", key(number, run.label), shown) for number, run, shown in lines]
    facts = [say("samples.rank", part=rank, all=total), f"chrF {say.decimals(quality, 1)}"]
    if sample and sample.signer:
        facts.append(say("samples.signer", name=sample.signer))
    return html(
        '<article class="sample"><header><h3>{}</h3><span>{}</span></header>{}<dl>{}</dl></article>',
        name,
        joined(facts, " · "),
        _pictures(sample, run, say),
        joined(rows),
    )


def _pictures(sample: Sample | None, run: RunFiles, say: Words) -> Html:
    """The strip of a sample with its signs below, or why it has no strip."""
    if sample is None:
        return Html()
    try:
        if sample.features is not None:
            features = load_raw(sample, run.recipe.input)
            picture, drawn, dims = heat_strip(features)
            what = say("samples.heat", frames=len(features), part=drawn, all=dims)
            title = say("samples.features", name=sample.name)
            return _strip("heat", embedded(picture, "png"), title, what, sample, len(features), say)
        frames, numbers, total = _frames(sample)
    except (ValueError, OSError) as error:
        return html('<p class="gap">{}</p>', say("samples.no_picture", why=say.english(error)))
    seen = len(thin(total, run.recipe.input, None))
    counts = {"numbers": ", ".join(map(str, numbers)), "all": total}
    what = say("samples.frames", **counts) if seen >= total else say("samples.frames_thinned", **counts, seen=seen)
    title = say("samples.strip", name=sample.name)
    return _strip("film", embedded(film_strip(frames), "jpeg"), title, what, sample, total, say)


def _strip(kind: str, source: str, title: Html, what: Html, sample: Sample, total: int, say: Words) -> Html:
    """A picture, the annotated signs as a time line below it, and a line that describes it."""
    picture = html('<img class="{}" src="{}" alt="{}: {}">', kind, source, title, what)
    return picture + _signs(sample.spans, total, say) + html('<p class="under">{}</p>', what)


def _frames(sample: Sample) -> tuple[list[NDArray[np.uint8]], list[int], int]:
    """The middle frames of FRAMES equal parts, so that the strip is a time line."""
    if sample.clip is None:
        raise ValueError(f"{sample.name} has neither a clip nor features")
    total = count_sample(sample)
    count = min(FRAMES, total)
    numbers = [(2 * i + 1) * total // (2 * count) for i in range(count)]
    return list(read_clip(sample, indices=numbers)), numbers, total


def _signs(spans: Sequence[Span], total: int, say: Words) -> Html:
    """The annotated signs as a time line below the strip."""
    if not spans:
        return Html()
    boxes = joined(
        html(
            '<span style="left:{:.2f}%;width:{:.2f}%" title="{token}: {frames}">{token}</span>',
            100 * s.start / total,
            100 * (s.stop - s.start) / total,
            token=text(s.token),
            frames=say("frames", first=s.start, last=s.stop - 1),
        )
        for s in spans
    )
    order = joined((str(s.token) for s in spans), ", ")
    return html('<div class="signs" role="img" aria-label="{}">{}</div>', say("samples.signs", glosses=order), boxes)
