"""The report's density sections: SDR of every gloss as bars, and t-SNE maps coloured by gloss, runs side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from signcl.density.verdicts import compared_line
from signcl.pages.markup import Html, data, decimals, gap, html, joined, key, table
from signcl.pages.report_runs import RunFiles, command
from signcl.pages.score_tables import same_measure

__all__ = ["bars", "density_section", "map_section"]

MOST_BARS = 60
COLOURED = 7
MOST_POINTS = 5000
SIDE, EDGE = 400, 12


def density_section(runs: list[RunFiles]) -> Html:
    """Summary table and bars."""
    parts = [gap(f"{run.label}: not measured on the {run.split} split.", command("density", run))
             for run in runs if run.density is None or run.glosses is None]  # fmt: skip
    measured = [(number, run) for number, run in enumerate(runs) if run.density is not None and run.glosses]
    if not measured:
        return joined(parts)
    parts.append(_summary(measured))
    if any(not same_measure(measured[0][1], run) for _, run in measured):
        warning = '<p class="gap">The runs were measured differently (see the last rows): do not compare them.</p>'
        parts.append(html(warning))
    parts += [html('<p class="gap">{}.</p>', line) for line in _disagreements(measured)]
    parts.append(bars(measured))
    return joined(parts)


def _disagreements(measured: list[tuple[int, RunFiles]]) -> list[str]:
    """What SDR alone does not show: the notes of each run, and where a later run's retrieval disagrees with its SDR."""
    first = measured[0][1].density or {}
    lines = []
    for number, run in measured:
        found = run.density or {}
        lines += [f"{run.label}: {note}" for note in found.get("notes", [])]
        if number and same_measure(measured[0][1], run) and (line := compared_line(first, found)):
            lines.append(f"{run.label} against {measured[0][1].label}: {line}")
    return lines


def _retrieved(found: dict[str, Any], key: str) -> str:
    part = found.get("retrieval", {}).get("clips", {})
    if key not in part:
        return "–"
    low, high = part[f"{key}_interval"]
    return f"{decimals(part[key])} ({decimals(low)} to {decimals(high)})"


def _summary(measured: list[tuple[int, RunFiles]]) -> Html:
    found: list[dict[str, Any]] = [run.density or {} for _, run in measured]
    wanted = (
        ("SDR %", lambda d: html("<b>{}</b>", decimals(d["sdr"]))),
        ("95 % interval over glosses", lambda d: " to ".join(decimals(v) for v in d["interval"])),
        ("SDR % with shuffled labels", lambda d: decimals(d["shuffled"])),
        ("Retrieval in other clips, mAP %", lambda d: _retrieved(d, "map")),
        ("Same sign nearest in other clips, %", lambda d: _retrieved(d, "one_nn")),
        ("Told from the nearest gloss, AUC", lambda d: decimals(d.get("nearest", {}).get("auc"), 3)),
        ("Mean distance within a gloss", lambda d: decimals(d["intra"], 3)),
        ("Mean distance to other glosses", lambda d: decimals(d["inter"], 3)),
        ("Mean feature norm", lambda d: decimals(d["feature_norm"], 3)),
        ("Signs, glosses", lambda d: f"{d['instances']}, {d['glosses']}"),
        ("Glosses left out (too rare)", lambda d: d["glosses_left_out"]),
        ("Vector of a sign", lambda d: f"{d['made']['frame']}, {d['made']['tap']}"),
        ("Distance, mean over", lambda d: f"{d['made']['distance']}, {d['made'].get('inter', 'gloss')}"),
    )
    rows = [[name, *(cell(d) for d in found)] for name, cell in wanted]
    header = [key(number, run.label) for number, run in measured]
    whole = table(header, rows, caption="Density of each run", kind="narrow", name="Density")
    note = (
        "Sign Density Ratio (SDR): the SDR of a gloss is the mean distance between its own instances, divided by "
        "their mean distance to the instances of other glosses. Lower is better: instances of one gloss lie together, "
        "apart from the others. At 100 %, a sign is as near to any other sign as to its own gloss; shuffled labels "
        "show that level. Retrieval ranks the signs of other clips by distance and checks whether the same sign comes "
        "first: higher is better. It detects signs that coincide, which a mean over all other glosses does not."
    )
    return html('<div class="beside">{}<p class="note">{}</p></div>', whole, note)


def bars(measured: list[tuple[int, RunFiles]]) -> Html:
    """One line per gloss, sorted by the first run, most crowded first; with several runs, one bar per run."""
    first = measured[0][1]
    values = [{row.gloss: row for row in run.glosses or []} for _, run in measured]
    order = sorted({g for rows in values for g in rows}, key=lambda g: (-values[0][g].sdr if g in values[0] else 1, g))
    scale = max(row.sdr for rows in values for row in rows.values()) or 1.0
    cut = len(order) > MOST_BARS
    half = MOST_BARS // 2
    shown = [order[:half], order[-half:]] if cut else [order]
    headings = [f"The {half} most crowded", f"The {half} least crowded"] if cut else [""]
    lists = []
    for heading, glosses in zip(headings, shown):
        lines = []
        for gloss in glosses:
            count = next(rows[gloss].count for rows in values if gloss in rows)
            rods, numbers = Html(), Html()
            for (number, _), rows in zip(measured, values):
                share = 100 * rows[gloss].sdr / scale if gloss in rows else 0.0
                value = decimals(100 * rows[gloss].sdr if gloss in rows else None, 1)
                rods += html('<i class="r{}" style="width:{:.1f}%"></i>', number, share)
                numbers += html('<span class="r{}">{}</span>', number, value)
            line = (
                '<li><span class="g">{} <small>{}</small></span><span class="b">{}</span><span class="v">{}</span></li>'
            )
            lines.append(html(line, gloss, count, rods, numbers))
        lists += [html("<h4>{}</h4>", heading)] if heading else []
        lists.append(html('<ul class="bars">{}</ul>', joined(lines)))
    note = (
        f"SDR % of each gloss, sorted by {first.label}; small: number of instances. "
        f"A full bar is {decimals(100 * scale, 1)} %."
    )
    if len(measured) == 2:
        better = sum(values[1][g].sdr < values[0][g].sdr for g in order if g in values[0] and g in values[1])
        both = sum(g in values[0] and g in values[1] for g in order)
        note += f" Lower in {measured[1][1].label} for {better} of {both} glosses."
    lists += [_profile(measured), _all_glosses(measured, values, order)] if cut else []
    return html('<h3>Density of each gloss</h3><p class="note">{}</p>{}', note, joined(lists))


def _profile(measured: list[tuple[int, RunFiles]]) -> Html:
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
        'aria-label="SDR of all glosses, falling, one curve for each run">'
        '<line class="grid" x1="0" x2="700" y1="118" y2="118"/>{}</svg>'
        "<figcaption>All glosses from most to least crowded, each run in its own order; axis: 0 to {:.0f} %."
        "</figcaption></figure>",
        joined(parts),
        100 * high,
    )


def _all_glosses(measured: list[tuple[int, RunFiles]], values: Sequence[dict[str, Any]], order: list[str]) -> Html:
    rows = [[g, *(decimals(100 * rows[g].sdr if g in rows else None, 1) for rows in values)] for g in order]
    header = [key(number, run.label) for number, run in measured]
    whole = table(header, rows, caption="SDR of every gloss", kind="narrow", name="Gloss")
    return html("<details><summary>All {} glosses</summary>{}</details>", len(order), whole)


def map_section(runs: list[RunFiles]) -> Html:
    """t-SNE maps side by side: the most frequent glosses in colour, the others grey."""
    parts = [gap(f"{run.label} has no map.", command("density", run)) for run in runs if not run.points]
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
        figures.append(_map(number, run, points, places, common, len(maps)))
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
    how = "; ".join(f"{k.replace('_', ' ')} {v:.4g}" if isinstance(v, float) else f"{k.replace('_', ' ')} {v}"
                    for k, v in (settings[0] if settings else {}).items())  # fmt: skip
    note = (
        f"A dot is a sign in a clip. The {len(common)} most frequent glosses are coloured, the others grey. Point at a "
        "dot, or choose a name, to highlight its gloss in every map. In t-SNE, distances between groups mean little."
    )
    if left_out:
        note += f" {MOST_POINTS} of {left_out} dots are drawn."
    drawn = html(
        '<p class="note">{}</p><p class="legend chips">{}<span class="chip m-"><i></i>{} others</span></p>'
        '<div class="maps n{}">{}</div>',
        note,
        chips,
        len(glosses) - len(common),
        len(mapped),
        joined(figures),
    )
    made = html('<p class="note">Made by: {}</p>', how) if how else Html()
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
    number: int, run: RunFiles, points: list[dict[str, Any]], places: np.ndarray, common: list[str], index: int
) -> Html:
    """Draw one map. A dot is a line of length 0 with round ends, so thousands of dots make one short path."""
    groups: dict[str, list[str]] = {}
    for point, (x, y) in zip(points, places):
        group = f"m{common.index(point['gloss'])}" if point["gloss"] in common else "m-"
        groups.setdefault(group, []).append(f"M{x:.1f} {y:.1f}h0")
    drawn = joined(html('<path class="{}" d="{}"/>', group, "".join(groups[group])) for group in sorted(groups))
    label = f"t-SNE of {len(points)} signs of {run.label}; coloured: {', '.join(common)}"
    sdr = html("<small>SDR {} %</small>", decimals(run.density["sdr"])) if run.density else Html()
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
