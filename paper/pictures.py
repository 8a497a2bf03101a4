"""Draws line plots with error bars, and heat maps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["Line", "heat_map", "lines_picture", "scatter_picture"]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
Line = Sequence[tuple[float, float, float]]
"""(x, y, half width of the error bar) of each point."""


def _axes(columns: int, size: tuple[float, float]) -> tuple[Any, Any, Any]:
    """Creates a figure; returns pyplot, the figure, and a list of its axes."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, columns, figsize=size, layout="constrained", squeeze=False)
    return plt, figure, list(axes[0])


def _save(plt: Any, figure: Any, path: Path) -> None:
    from signcl.data.files import atomic_write

    with atomic_write(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], dpi=160, metadata={"Software": None})
    plt.close(figure)


def lines_picture(
    path: Path,
    panels: Mapping[str, Mapping[str, Line]],
    axis: str,
    *,
    ticks: Sequence[tuple[float, str]] = (),
    level: Mapping[str, tuple[float, str]] | None = None,
) -> None:
    """Draws lines with error bars over a logarithmic x axis, with panels side by side.

    Args:
        panels: label of the y axis -> name of a line -> its points.
        axis: label of the x axis.
        ticks: (x, text) of each tick.
        level: panel -> y and name of a dashed horizontal line.
    """
    plt, figure, axes = _axes(len(panels), (4.6 * len(panels), 3.4))
    for one, (label, lines) in zip(axes, panels.items()):
        for (name, points), colour in zip(lines.items(), COLOURS):
            places, values, halves = zip(*points)
            one.errorbar(places, values, yerr=halves, color=colour, marker="o", markersize=4, capsize=3, label=name)
        if level and label in level:
            height, name = level[label]
            one.axhline(height, color="#777777", linestyle="--", linewidth=1.2, label=name)
        one.set_xscale("log")
        if ticks:
            one.set_xticks([place for place, _ in ticks], [text for _, text in ticks])
            one.minorticks_off()
        one.set_xlabel(axis)
        one.set_ylabel(label)
        one.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False, fontsize="small")
    _save(plt, figure, path)


def scatter_picture(path: Path, points: Mapping[str, Sequence[tuple[float, float]]], x: str, y: str) -> None:
    """Draws named groups of points over a logarithmic x axis: a dot per point, and the name at the mean of its group.

    Args:
        points: name -> (x, y) of each of its points.
        x: label of the x axis; its values are above 0.
        y: label of the y axis.
    """
    plt, figure, (axes,) = _axes(1, (6.4, 4.2))
    from matplotlib.ticker import LogLocator, StrMethodFormatter  # after _axes has chosen the backend

    middles = {}
    for number, (name, of_name) in enumerate(points.items()):
        colour, marker = COLOURS[number % len(COLOURS)], "os"[number // len(COLOURS) % 2]
        places, values = zip(*of_name)
        middles[name] = math.exp(sum(map(math.log, places)) / len(places)), sum(values) / len(values)
        axes.plot(places, values, marker, color=colour, markersize=4, alpha=0.5, markeredgewidth=0)
        axes.plot(*middles[name], marker, color=colour, markersize=8, markeredgecolor="black")
    axes.set_xscale("log")
    every = [place for of_name in points.values() for place, _ in of_name]
    subs = (1, 2, 5) if max(every) > 10 * min(every) else (1, 1.5, 2, 3, 4, 5, 7)
    axes.xaxis.set_major_locator(LogLocator(subs=subs))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.minorticks_off()
    axes.margins(x=0.2)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    figure.canvas.draw()  # names are placed in pixels, which the limits and the layout decide
    _write_names(axes, middles)
    _save(plt, figure, path)


SIDES = ((7, 5, "left"), (7, -11, "left"), (-7, 5, "right"), (-7, -11, "right"), (0, 8, "center"), (0, -15, "center"))
"""Where a name can stand at its point: shift in typographic points, and alignment."""


def _write_names(axes: Any, places: Mapping[str, tuple[float, float]]) -> None:
    """Writes each name beside its place, on the side where it covers the fewest others; a place counts as two names."""
    from matplotlib.transforms import Bbox

    radius = 5 * axes.figure.dpi / 72
    dots = [
        Bbox.from_bounds(x - radius, y - radius, 2 * radius, 2 * radius)
        for x, y in axes.transData.transform(list(places.values()))
    ]
    tried = {
        name: [
            axes.annotate(
                *(name, place), xytext=(dx, dy), textcoords="offset points", fontsize="small", horizontalalignment=side
            )
            for dx, dy, side in SIDES
        ]
        for name, place in places.items()
    }
    boxes = {name: [text.get_window_extent() for text in texts] for name, texts in tried.items()}
    chosen = dict.fromkeys(places, 0)
    for name in [*places] * 3:  # a name moves again when others have moved
        taken = dots * 2 + [boxes[other][side] for other, side in chosen.items() if other != name]
        costs = [
            (box.x0 < axes.bbox.x0 or box.x1 > axes.figure.bbox.x1) + sum(box.overlaps(other) for other in taken)
            for box in boxes[name]
        ]
        chosen[name] = costs.index(min(costs))
    for name, texts in tried.items():
        for side, text in enumerate(texts):
            text.set_visible(side == chosen[name])


def heat_map(
    path: Path,
    values: Sequence[Sequence[float]],
    marked: Sequence[Sequence[bool]],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    labels: tuple[str, str, str],
    least: float = 0.0,
) -> None:
    """Draws a heat map centred at zero with the number in each cell; `marked` cells are bold and have a star.

    Args:
        labels: labels of the y axis, the x axis, and the colour bar.
        least: minimum value for full colour, so that noise stays pale.
    """
    plt, figure, (axes,) = _axes(1, (1.3 * len(columns) + 2.2, 0.8 * len(rows) + 1.4))
    bound = max(least, *(abs(value) for row in values for value in row)) or 1.0
    shown = axes.imshow(values, cmap="RdBu", vmin=-bound, vmax=bound, aspect="auto")
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            colour = "white" if abs(value) > 0.6 * bound else "black"
            star, weight = ("*", "bold") if marked[i][j] else ("", "normal")
            axes.text(j, i, f"{value:+.2f}{star}", ha="center", va="center", color=colour, fontweight=weight)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_ylabel(labels[0])
    axes.set_xlabel(labels[1])
    figure.colorbar(shown, ax=axes, label=labels[2])
    _save(plt, figure, path)
