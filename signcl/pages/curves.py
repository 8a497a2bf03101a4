"""Training curves: one small SVG panel per loss term and dev score, with the runs overlaid.

Losses and dev scores come from metrics.jsonl. Training values are from single batches, drawn faint; dev values
are from the whole split, drawn with dots. `page.js` shows the numbers under the pointer; the panels work without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from signcl.metrics.titles import Score
from signcl.pages.markup import Html, code, data, html, joined, key
from signcl.pages.page_words import Words
from signcl.pages.report_runs import RunFiles
from signcl.systems.terms import score_shown, shown_scores

__all__ = ["Axis", "Series", "curves_section", "nice_axis", "thinned"]

LAST = {"lr": Score("Learning rate"), "gradient_norm": Score("Gradient norm", "before clipping")}
NOT_DRAWN = {"kind", "step", "epoch"}
MOST_POINTS = 200  # a curve that is 300 pixels wide cannot show more
WIDTH, HEIGHT = 330, 190
LEFT, RIGHT, TOP, BOTTOM = 42, 10, 8, 22
LOG_FROM = 40.0  # largest over smallest value of a positive curve from which it gets a log scale


@dataclass(frozen=True)
class Series:
    """One curve of one run."""

    run: int
    kind: str
    """train or dev"""
    steps: list[float]
    epochs: list[float]
    values: list[float]


@dataclass(frozen=True)
class Axis:
    """An axis; `place` maps a value to 0..1."""

    low: float
    high: float
    ticks: list[float]
    log: bool = False

    def place(self, value: float) -> float:
        low, high, value = (math.log10(x) if self.log else x for x in (self.low, self.high, value))
        return (value - low) / (high - low)


def nice_axis(low: float, high: float, *, from_zero: bool = False, log: bool = False, count: int = 4) -> Axis:
    """An axis from a round number below `low` to one above `high`, with ticks at round numbers."""
    if log:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        last = max(last, first + 1)
        ticks = [10.0**i for i in range(first, last + 1, max(1, (last - first) // count))]
        return Axis(10.0**first, 10.0**last, ticks, log=True)
    if from_zero:
        low = min(low, 0.0)
    if high - low < 1e-12 * max(abs(high), 1.0):
        high = low + (abs(low) or 1.0)
    rough = (high - low) / count
    scale = 10.0 ** math.floor(math.log10(rough))
    step = next(f for f in (1, 2, 2.5, 5, 10) if f * scale >= rough * 0.999) * scale
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return Axis(first * step, last * step, [i * step for i in range(first, last + 1)])


def thinned(
    steps: list[float], epochs: list[float], values: list[float]
) -> tuple[list[float], list[float], list[float]]:
    """Reduce a curve to at most MOST_POINTS points, the means of equal parts."""
    if len(values) <= MOST_POINTS:
        return steps, epochs, values
    parts = np.array_split(np.arange(len(values)), MOST_POINTS)

    def mean(row: list[float]) -> list[float]:
        return [float(np.mean([row[i] for i in part])) for part in parts]

    return mean(steps), [epochs[int(part[-1])] for part in parts], mean(values)


def curves_section(runs: list[RunFiles], say: Words) -> Html:
    """The section, with its legend and hover data."""
    found: dict[str, list[Series]] = {}
    shortened = False
    for number, run in enumerate(runs):
        for name in {n for line in run.log for n in line} - NOT_DRAWN:
            for kind in ("train", "dev"):
                rows = [
                    (float(line["step"]), float(line.get("epoch", 0)), float(line[name]))
                    for line in run.log
                    if line["kind"] == kind and isinstance(line.get(name), int | float) and math.isfinite(line[name])
                ]
                if rows:
                    steps, epochs, values = (list(column) for column in zip(*rows))
                    shortened |= len(values) > MOST_POINTS
                    found.setdefault(name, []).append(Series(number, kind, *thinned(steps, epochs, values)))
    if not found:
        return html('<p class="gap">{}</p>', say("curves.none", command=code("signcl fit")))
    shown = shown_scores([run.recipe.system for run in runs]) | LAST
    order = [*shown, *sorted(found.keys() - shown.keys())]
    names = sorted(found, key=lambda n: (n in LAST, not score_shown(n, shown).loss, order.index(n)))
    high = max(s.steps[-1] for series in found.values() for s in series)
    across = nice_axis(0, high, count=5)
    across = Axis(0, high or 1.0, [tick for tick in across.ticks if tick <= high])  # no empty space on the right
    panels: list[Html] = []
    hover: dict[str, dict[str, object]] = {}
    for name in names:
        panel, hover[name] = _panel(name, score_shown(name, shown), found[name], across, runs, say)
        panels.append(panel)
    notes = [say("curves.about")]
    if shortened:
        notes.append(say("curves.thinned", most=MOST_POINTS))
    if len({tuple(sorted(run.recipe.loss.weights.items())) for run in runs}) > 1:
        notes.append(say("curves.weights_differ"))
    notes.append(say("curves.ring"))
    legend = joined(key(number, run.label) for number, run in enumerate(runs))
    numbers = data("curves", {"panels": hover, "runs": [run.label for run in runs]})
    return html(
        '<p class="legend">{}</p><p class="note">{}</p><div class="panels">{}</div>{}',
        legend,
        joined(notes, " "),
        joined(panels),
        numbers,
    )


def _panel(
    name: str, shown: Score, series: list[Series], across: Axis, runs: list[RunFiles], say: Words
) -> tuple[Html, dict[str, object]]:
    values = [value for s in series for value in s.values]
    is_score = all(s.kind == "dev" for s in series)
    log = min(values) > 0 and max(values) > LOG_FROM * min(values) and not is_score and name != "lr"
    up = nice_axis(min(values), max(values), from_zero=is_score or name in LAST, log=log)

    def x(step: float) -> float:
        return LEFT + across.place(step) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - up.place(value) * (HEIGHT - TOP - BOTTOM)

    parts = [_grid(across, up, x, y, say)]
    for s in sorted(series, key=lambda s: s.kind == "dev"):  # dev on top
        points = [(x(step), y(value)) for step, value in zip(s.steps, s.values)]
        path = "M" + "L".join(f"{px:.1f} {py:.1f}" for px, py in points)
        parts.append(html('<path class="{} r{}" d="{}"/>', s.kind, s.run, path))
        if (s.kind == "dev" and len(points) <= 40) or len(points) == 1:
            dot = '<circle class="r{}" cx="{:.1f}" cy="{:.1f}" r="2.6"/>'
            parts += [html(dot, s.run, px, py) for px, py in points]
        if s.kind == "dev" and (kept := _kept(name, s, runs[s.run])) is not None:
            parts.append(html('<circle class="kept r{}" cx="{:.1f}" cy="{:.1f}" r="5.5"/>', s.run, *points[kept]))
    title, explained = say.title(name, shown), say.explained(name, shown)
    ends = [s for s in series if s.kind == "dev"] or series
    last = ", ".join(f"{runs[s.run].label} {_short(s.values[-1], say)}" for s in ends)
    kind = "dev" if ends[0].kind == "dev" else "value"
    what = say(f"curves.label_{kind}", title=title, steps=across.high, last=last)
    head = joined(html('<span class="r{}">{}</span>', s.run, _short(s.values[-1], say)) for s in ends)
    scale = say.plain("curves.log") if log else ""
    under = ", ".join(part for part in (explained, scale) if part)
    numbers = {
        "x": [across.low, across.high],
        "y": [up.low, up.high],
        "log": up.log,
        "box": [LEFT, TOP, WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM],
        "series": [
            {
                "run": s.run,
                "kind": s.kind,
                "steps": [round(v) for v in s.steps],
                "epochs": [round(v) for v in s.epochs],
                "values": [float(f"{v:.5g}") for v in s.values],
            }
            for s in series
        ],
    }
    drawn = html(
        '<figure class="panel" data-panel="{}"><figcaption><b>{}</b> <small>{}</small><span class="ends">{}</span>'
        '</figcaption><svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg></figure>',
        name,
        title,
        under,
        head,
        WIDTH,
        HEIGHT,
        what,
        joined(parts),
    )
    return drawn, numbers


def _grid(across: Axis, up: Axis, x: Callable[[float], float], y: Callable[[float], float], say: Words) -> Html:
    line = '<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>'
    number = '<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>'
    parts = []
    for tick in up.ticks:
        parts.append(html(line, LEFT, WIDTH - RIGHT, y(tick), y(tick)))
        parts.append(html(number, LEFT - 6, y(tick) + 3.5, "end", say.localized(_tick(tick))))
    for tick in across.ticks:
        anchor = "end" if x(tick) > WIDTH - RIGHT - 8 else "middle"
        parts.append(html(number, x(tick), HEIGHT - 6, anchor, say.localized(_tick(tick))))
    return joined(parts)


def _kept(name: str, series: Series, run: RunFiles) -> int | None:
    """Index of the dev point with the kept weights, if this panel shows the score that selects them."""
    select = run.recipe.select
    if select.lstrip("-") != name or len(series.values) >= MOST_POINTS:
        return None
    return int(np.argmin(series.values) if select.startswith("-") else np.argmax(series.values))


def _tick(value: float) -> str:
    size = abs(value)
    if size >= 10_000:
        return f"{value / 1000:g}k"
    return "0" if size < 1e-15 else f"{value:.3g}" if size < 1000 else f"{value:.0f}"


def _short(value: float, say: Words) -> str:
    size = abs(value)
    if 0 < size < 0.001:
        return say.localized(f"{value:.1e}").replace("-", "−")
    return say.decimals(value, 3 if 0 < size < 1 else 2)
