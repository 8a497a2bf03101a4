"""The report's density sections: SDR of every gloss as bars, and t-SNE maps coloured by gloss, runs side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from signcl.density.verdicts import NOTES, Note, compared_note, run_notes
from signcl.pages.markup import Html, data, html, joined, key, table
from signcl.pages.page_words import Words
from signcl.pages.report_runs import RunFiles, command
from signcl.pages.score_tables import same_measure

__all__ = ["bars", "density_section", "map_section", "note_text"]

MOST_BARS = 60
COLOURED = 7
MOST_POINTS = 5000
SIDE, EDGE = 400, 12


def density_section(runs: list[RunFiles], say: Words) -> Html:
    """Summary table and bars."""
    parts = [
        say.gap(say("density.not_measured", run=run.label, split=run.split), command("density", run))
        for run in runs
        if run.density is None or run.glosses is None
    ]
    measured = [(number, run) for number, run in enumerate(runs) if run.density is not None and run.glosses]
    if not measured:
        return joined(parts)
    parts.append(_summary(measured, say))
    if any(not same_measure(measured[0][1], run) for _, run in measured):
        parts.append(html('<p class="gap">{}</p>', say("density.not_alike")))
    parts += [html('<p class="gap">{}.</p>', line) for line in _disagreements(measured, say)]
    parts.append(bars(measured, say))
    return joined(parts)


def _disagreements(measured: list[tuple[int, RunFiles]], say: Words) -> list[str]:
    """What SDR alone does not show: the notes of each run, and where a later run's retrieval disagrees with its SDR."""
    first = measured[0][1].density or {}
    lines = []
    for number, run in measured:
        found = run.density or {}
        lines += [f"{run.label}: {note_text(note, say)}" for note in run_notes(found)]
        if number and same_measure(measured[0][1], run) and (note := compared_note(first, found)):
            pair = {"other": run.label, "first": measured[0][1].label}
            lines.append(say.plain("against", **pair, what=note_text(note, say)))
    return lines


def note_text(note: Note, say: Words) -> str:
    """A note on a density in the language of the page."""
    return say.defined(f"note.{note.name}", NOTES[note.name], note.values)


def _retrieved(found: dict[str, Any], key: str, say: Words) -> str:
    part = found.get("retrieval", {}).get("clips", {})
    if key not in part:
        return "–"
    low, high = part[f"{key}_interval"]
    return f"{say.decimals(part[key])} ({_to(low, high, say)})"


def _to(low: float, high: float, say: Words) -> str:
    return say.plain("to", low=say.decimals(low), high=say.decimals(high))


def _summary(measured: list[tuple[int, RunFiles]], say: Words) -> Html:
    found: list[dict[str, Any]] = [run.density or {} for _, run in measured]
    wanted = (
        ("sdr", lambda d: html("<b>{}</b>", say.decimals(d["sdr"]))),
        ("interval", lambda d: _to(d["interval"][0], d["interval"][1], say)),
        ("shuffled", lambda d: say.decimals(d["shuffled"])),
        ("map", lambda d: _retrieved(d, "map", say)),
        ("one_nn", lambda d: _retrieved(d, "one_nn", say)),
        ("auc", lambda d: say.decimals(d.get("nearest", {}).get("auc"), 3)),
        ("intra", lambda d: say.decimals(d["intra"], 3)),
        ("inter", lambda d: say.decimals(d["inter"], 3)),
        ("norm", lambda d: say.decimals(d["feature_norm"], 3)),
        ("signs", lambda d: f"{d['instances']}, {d['glosses']}"),
        ("left_out", lambda d: d["glosses_left_out"]),
        ("vector", lambda d: f"{d['made']['frame']}, {d['made']['tap']}"),
        ("distance", lambda d: f"{d['made']['distance']}, {d['made'].get('inter', 'gloss')}"),
    )
    rows = [[say(f"density.row_{name}"), *(cell(d) for d in found)] for name, cell in wanted]
    header = [key(number, run.label) for number, run in measured]
    whole = table(header, rows, caption=say.plain("density.caption"), kind="narrow", name=say("report.density"))
    return html('<div class="beside">{}<p class="note">{}</p></div>', whole, say("density.explained"))


def bars(measured: list[tuple[int, RunFiles]], say: Words) -> Html:
    """One line per gloss, sorted by the first run, most crowded first; with several runs, one bar per run."""
    first = measured[0][1]
    values = [{row.gloss: row for row in run.glosses or []} for _, run in measured]
    order = sorted({g for rows in values for g in rows}, key=lambda g: (-values[0][g].sdr if g in values[0] else 1, g))
    scale = max(row.sdr for rows in values for row in rows.values()) or 1.0
    cut = len(order) > MOST_BARS
    half = MOST_BARS // 2
    shown = [order[:half], order[-half:]] if cut else [order]
    headings = [say("density.most", count=half), say("density.least", count=half)] if cut else [Html()]
    lists = []
    for heading, glosses in zip(headings, shown):
        lines = []
        for gloss in glosses:
            count = next(rows[gloss].count for rows in values if gloss in rows)
            rods, numbers = Html(), Html()
            for (number, _), rows in zip(measured, values):
                share = 100 * rows[gloss].sdr / scale if gloss in rows else 0.0
                value = say.decimals(100 * rows[gloss].sdr if gloss in rows else None, 1)
                rods += html('<i class="r{}" style="width:{:.1f}%"></i>', number, share)
                numbers += html('<span class="r{}">{}</span>', number, value)
            line = (
                '<li><span class="g">{} <small>{}</small></span><span class="b">{}</span><span class="v">{}</span></li>'
            )
            lines.append(html(line, gloss, count, rods, numbers))
        lists += [html("<h4>{}</h4>", heading)] if heading else []
        lists.append(html('<ul class="bars">{}</ul>', joined(lines)))
    note = say("density.bars", run=first.label, full=say.decimals(100 * scale, 1))
    if len(measured) == 2:
        better = sum(values[1][g].sdr < values[0][g].sdr for g in order if g in values[0] and g in values[1])
        both = sum(g in values[0] and g in values[1] for g in order)
        note += html(" {}", say("density.lower", run=measured[1][1].label, part=better, all=both))
    lists += [_profile(measured, say), _all_glosses(measured, values, order, say)] if cut else []
    return html('<h3>{}</h3><p class="note">{}</p>{}', say("density.each"), note, joined(lists))


def _profile(measured: list[tuple[int, RunFiles]], say: Words) -> Html:
    """All glosses as one falling curve per run, each run in its own order."""
    high = max(row.sdr for _, run in measured for row in run.glosses or [])
    parts = []
    for number, run in measured:
        column = sorted((row.sdr for row in run.glosses or []), reverse=True)
        picks = np.unique(np.linspace(0, len(column) - 1, 300).round().astype(int))
        points = [(700 * i / max(len(column) - 1, 1), 118 - 110 * column[i] / high) for i in picks]
        line = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        parts.append(html('<path class="dev r{}" d="M{}"/>', number, line))
    return html(
        '<figure class="profile"><svg viewBox="0 0 700 124" role="img" '
        'aria-label="{}"><line class="grid" x1="0" x2="700" y1="118" y2="118"/>{}</svg>'
        "<figcaption>{}</figcaption></figure>",
        say("density.profile_label"),
        joined(parts),
        say("density.profile", high=100 * high),
    )


def _all_glosses(
    measured: list[tuple[int, RunFiles]], values: Sequence[dict[str, Any]], order: list[str], say: Words
) -> Html:
    rows = [[g, *(say.decimals(100 * rows[g].sdr if g in rows else None, 1) for rows in values)] for g in order]
    header = [key(number, run.label) for number, run in measured]
    whole = table(header, rows, caption=say.plain("density.every"), kind="narrow", name=say("gloss"))
    return html("<details><summary>{}</summary>{}</details>", say("density.all", count=len(order)), whole)


def map_section(runs: list[RunFiles], say: Words) -> Html:
    """t-SNE maps side by side: the most frequent glosses in colour, the others grey."""
    parts = [say.gap(say("map.none", run=run.label), command("density", run)) for run in runs if not run.points]
    mapped = [(number, run, run.points) for number, run in enumerate(runs) if run.points]
    if not mapped:
        return joined(parts)
    common = [gloss for gloss, _ in Counter(p["gloss"] for p in mapped[0][2]).most_common(COLOURED)]
    glosses = sorted({p["gloss"] for _, _, points in mapped for p in points})
    clips = sorted({p["clip"] for _, _, points in mapped for p in points})
    gloss_ids, clip_ids = ({name: i for i, name in enumerate(names)} for names in (glosses, clips))
    figures: list[Html] = []
    maps: list[dict[str, Any]] = []
    left_out = 0
    for number, run, points in mapped:
        if len(points) > MOST_POINTS:
            left_out = max(left_out, len(points))
            points = [points[i] for i in np.linspace(0, len(points) - 1, MOST_POINTS).astype(int)]
        places = _places(points)
        figures.append(_map(number, run, points, places, common, len(maps), say))
        maps.append(
            {
                "xy": [round(float(v), 1) for place in places for v in place],
                "gloss": [gloss_ids[p["gloss"]] for p in points],
                "clip": [clip_ids[p["clip"]] for p in points],
                "frames": [f"{p['start']}–{p['stop'] - 1}" for p in points],
                "sdr": {r.gloss: round(100 * r.sdr, 1) for r in run.glosses or []},
            }
        )
    chips = joined(
        html('<button type="button" class="chip m{}" data-gloss="{}"><i></i>{}</button>', i, gloss_ids[gloss], gloss)
        for i, gloss in enumerate(common)
    )
    settings = [run.density["tsne"] for _, run, _ in mapped if run.density and run.density.get("tsne")]
    how = "; ".join(
        f"{k.replace('_', ' ')} {say.localized(f'{v:.4g}') if isinstance(v, float) else v}"
        for k, v in (settings[0] if settings else {}).items()
    )
    note = say("map.about", coloured=len(common))
    if left_out:
        note += html(" {}", say("map.drawn", part=MOST_POINTS, all=left_out))
    drawn = html(
        '<p class="note">{}</p><p class="legend chips">{}<span class="chip m-"><i></i>{}</span></p>'
        '<div class="maps n{}">{}</div>',
        note,
        chips,
        say("others", count=len(glosses) - len(common)),
        len(mapped),
        joined(figures),
    )
    made = html('<p class="note">{}</p>', say("map.made", how=how)) if how else Html()
    return joined([*parts, drawn, made, data("maps", {"glosses": glosses, "clips": clips, "maps": maps})])


def _places(points: list[dict[str, Any]]) -> np.ndarray:
    """Points in units of the picture, with one scale for both directions. [N, 2]"""
    found = np.array([(p["x"], p["y"]) for p in points], dtype=float)
    low, high = found.min(axis=0), found.max(axis=0)
    scale = (SIDE - 2 * EDGE) / max(float((high - low).max()), 1e-9)
    placed = SIDE / 2 + (found - (low + high) / 2) * scale
    placed[:, 1] = SIDE - placed[:, 1]
    return placed


def _map(
    number: int,
    run: RunFiles,
    points: list[dict[str, Any]],
    places: np.ndarray,
    common: list[str],
    index: int,
    say: Words,
) -> Html:
    """Draw one map. A dot is a line of length 0 with round ends, so thousands of dots make one short path."""
    groups: dict[str, list[str]] = {}
    for point, (x, y) in zip(points, places):
        group = f"m{common.index(point['gloss'])}" if point["gloss"] in common else "m-"
        groups.setdefault(group, []).append(f"M{x:.1f} {y:.1f}h0")
    drawn = joined(html('<path class="{}" d="{}"/>', group, "".join(groups[group])) for group in sorted(groups))
    label = say("map.label", count=len(points), run=run.label, glosses=", ".join(common))
    sdr = html("<small>SDR {} %</small>", say.decimals(run.density["sdr"])) if run.density else Html()
    return html(
        '<figure class="map" data-map="{index}"><figcaption>{run}{sdr}</figcaption>'
        '<svg viewBox="0 0 {side} {side}" role="img" aria-label="{label}">{drawn}'
        '<path class="lit"/><circle class="at" r="7"/></svg></figure>',
        index=index,
        run=key(number, run.label),
        sdr=sdr,
        side=SIDE,
        label=label,
        drawn=drawn,
    )
