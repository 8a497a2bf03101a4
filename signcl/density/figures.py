"""Figures for papers: maps coloured by gloss (Figures 2 and 5 of the paper) and accuracy against density (Figure 3).

Uses matplotlib without pyplot; writes PNG, SVG or PDF by file extension. The same input gives the same file. The
colours are those of Okabe and Ito, which colour-blind readers can tell apart; markers differ too, for grey print.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from signcl.data.files import atomic_write
from signcl.density.maps import Projection

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Binned", "density_figure", "density_panels", "impact_figure"]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "^", "s", "D", "v", "P", "X")
OTHERS = "#C8C8C8"
FORMATS = ("png", "svg", "pdf")


class Binned(Protocol):
    """A group of glosses for `impact_figure`, as returned by `signcl.density.density_bins`."""

    @property
    def sdr(self) -> float:
        """Mean ratio."""

    @property
    def accuracy(self) -> float:
        """Share of the signs of these glosses that were recognised."""

    @property
    def error(self) -> float:
        """Standard error of the accuracy, or nan."""


def density_figure(
    projection: Projection,
    labels: Sequence[str | int],
    highlight: Sequence[str | int] | None = None,
    path: str | Path | None = None,
    *,
    title: str | None = None,
    format: str | None = None,
) -> Figure:
    """Draws a map: chosen glosses in colour, each with its own marker, all others grey.

    Args:
        projection: positions of the rows.
        labels: gloss of each row. [N]
        highlight: glosses to colour; default the seven most frequent. After seven, colours repeat with other markers.
        path: also save there, as .png, .svg or .pdf.
        title: above the map.
        format: file format, if the extension does not say.

    Returns:
        A matplotlib figure (without pyplot), for further changes.

    Raises:
        ValueError: labels that do not match the map, a gloss that does not occur, or another file format.
    """
    from matplotlib.figure import Figure

    if len(labels) != len(projection.coordinates):
        raise ValueError(
            f"density_figure needs one label per point, got {len(labels)} labels for "
            f"{len(projection.coordinates)} points."
        )
    kind = _kind("density_figure", path, format)
    chosen = _chosen("density_figure", labels, highlight)
    figure = Figure(figsize=(7.2, 5.0), dpi=150, layout="constrained")
    axes = figure.subplots()
    _draw(axes, projection, labels, chosen)
    family = _fonts()
    if title:
        axes.set_title(title, fontsize=11, family=family)
    axes.set_xlabel(_caption(projection.settings), fontsize=7, color="#555555")
    _legend(axes, *axes.get_legend_handles_labels(), loc="center left", bbox_to_anchor=(1.01, 0.5), family=family)
    _save(figure, path, kind)
    return figure


def density_panels(
    projections: Sequence[Projection],
    labels: Sequence[Sequence[str | int]],
    titles: Sequence[str],
    highlight: Sequence[str | int] | None = None,
    path: str | Path | None = None,
    *,
    sdr: Sequence[float | None] | None = None,
    columns: int = 5,
    format: str | None = None,
) -> Figure:
    """Draws several maps side by side with one legend, each with its SDR below.

    Used for kinds of features (Figure 2), or without and with SignCL (Figure 5). A gloss has the same colour and marker
    in all maps.

    Args:
        projections: the maps; made with the same method and options, otherwise they cannot be compared.
        labels: gloss of each row, for each map.
        titles: title of each map; lettered (a), (b), ...
        highlight: glosses to colour; default the seven most frequent over all maps.
        path: also save there, as .png, .svg or .pdf.
        sdr: Sign Density Ratio of each map, a ratio; printed in percent.
        columns: maximum number of maps per row.
        format: file format, if the extension does not say.

    Raises:
        ValueError: lengths that differ, no map, a gloss that does not occur, or another file format.
    """
    from matplotlib.figure import Figure

    sizes = (len(projections), len(labels), len(titles), len(projections) if sdr is None else len(sdr))
    if len(set(sizes)) > 1 or not projections:
        raise ValueError(
            f"density_panels needs labels, a title and a ratio per map, got {sizes} (maps, labels, titles, ratios)."
        )
    for projection, own in zip(projections, labels):
        if len(own) != len(projection.coordinates):
            raise ValueError(
                f"density_panels needs one label per point, got {len(own)} for {len(projection.coordinates)} points."
            )
    kind = _kind("density_panels", path, format)
    chosen = _chosen("density_panels", [label for own in labels for label in own], highlight)
    columns = min(columns, len(projections))
    rows = -(-len(projections) // columns)
    figure = Figure(figsize=(2.3 * columns, 2.55 * rows + 0.5), dpi=150, layout="constrained")
    places = figure.subplots(rows, columns, squeeze=False).flatten()
    family = _fonts()
    legend: dict[str, Any] = {}
    for number, (axes, projection, own, title) in enumerate(zip(places, projections, labels, titles)):
        _draw(
            axes,
            projection,
            own,
            [gloss for gloss in chosen if gloss in set(own)],
            order=chosen,
            counted=False,
            scale=0.35,
        )
        axes.set_title(f"({chr(97 + number)}) {title}", fontsize=9, family=family)
        ratio = None if sdr is None else sdr[number]
        axes.set_xlabel("" if ratio is None else f"SDR = {100 * ratio:.2f} %", fontsize=8)
        legend.update({name: handle for handle, name in zip(*axes.get_legend_handles_labels())})
    for axes in places[len(projections) :]:
        axes.set_axis_off()
    shared = {name: value for name, value in projections[0].settings.items() if name != "rows"}
    order = [str(gloss) for gloss in chosen if str(gloss) in legend] + [name for name in legend if name == "others"]
    _legend(
        figure,
        [legend[name] for name in order],
        order,
        loc="outside lower center",
        ncols=min(len(order), max(3, round(1.7 * columns))),
        family=family,
        title=_caption(shared),
    )
    _save(figure, path, kind)
    return figure


def impact_figure(
    bins: Mapping[str, Sequence[Binned]],
    translation: Mapping[str, Mapping[str, float]] | None = None,
    path: str | Path | None = None,
    *,
    unit: str = "BLEU-4",
    format: str | None = None,
) -> Figure:
    """Draws the effect of density, like Figure 3 of the paper: (a) accuracy against density for gloss bins; (b) scores.

    A line connects the bins of one kind of features from the lowest to the highest density.

    Args:
        bins: the bins of each kind of features, from `signcl.density.density_bins`; bars are standard errors.
        translation: the score of each system for each kind of features; without it, only (a) is drawn.
        path: also save there, as .png, .svg or .pdf.
        unit: unit of the scores in (b).
        format: file format, if the extension does not say.

    Raises:
        ValueError: nothing to draw, more kinds than colours, a missing system for a kind, another file format.
    """
    from matplotlib.figure import Figure

    if not bins or any(not own for own in bins.values()) or len(bins) > len(COLOURS):
        raise ValueError(f"impact_figure needs bins for 1 to {len(COLOURS)} kinds of features, got {len(bins)}.")
    kind = _kind("impact_figure", path, format)
    systems = list(dict.fromkeys(name for scores in (translation or {}).values() for name in scores))
    missing = [(of, name) for of, scores in (translation or {}).items() for name in systems if name not in scores]
    if missing or len(systems) > len(COLOURS):
        raise ValueError(
            f"impact_figure needs a score of every system for every kind of features, missing: {missing[:5]}."
        )
    figure = Figure(figsize=(7.2 if translation else 3.9, 3.0), dpi=150, layout="constrained")
    panels = figure.subplots(1, 2 if translation else 1, squeeze=False)[0]
    family = _fonts()
    for number, (name, own) in enumerate(bins.items()):
        own = sorted(own, key=lambda one: one.sdr)  # the line runs from the clearest bin to the densest
        errors = [0.0 if np.isnan(one.error) else 100 * one.error for one in own]
        x, y = [100 * one.sdr for one in own], [100 * one.accuracy for one in own]
        panels[0].errorbar(
            x, y, yerr=errors, color=COLOURS[number], marker=MARKERS[number], markersize=4, linewidth=1.1,
            elinewidth=0.7, capsize=1.5, label=name,
        )  # fmt: skip
    panels[0].set_xlabel("Sign Density Ratio of the bin (%)", fontsize=8)
    panels[0].set_ylabel("recognition accuracy (%)", fontsize=8)
    if translation:
        width = 0.8 / len(systems)
        for number, system in enumerate(systems):
            places = np.arange(len(translation)) + (number - (len(systems) - 1) / 2) * width
            heights = [scores[system] for scores in translation.values()]
            bars = panels[1].bar(
                places, heights, width * 0.92, color=COLOURS[number], label=system,
                hatch=("", "///", "...", "xxx", "ooo", "+++", "***")[number], edgecolor="white", linewidth=0,
            )  # fmt: skip
            panels[1].bar_label(bars, fmt="%.1f", fontsize=6.5, padding=1)
        panels[1].set_xticks(range(len(translation)), list(translation), family=family)
        panels[1].set_ylabel(unit, fontsize=8)
        panels[1].margins(y=0.3)  # room for the legend above the bars
    for letter, axes in zip("ab", panels):
        axes.tick_params(labelsize=7)
        axes.grid(axis="y", color="#E4E4E4", linewidth=0.6)
        axes.set_axisbelow(True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        if len(panels) > 1:
            axes.set_title(f"({letter})", fontsize=9, loc="left")
        axes.legend(frameon=False, prop={"size": 7, "family": family})
    _save(figure, path, kind)
    return figure


def _draw(
    axes: Axes,
    projection: Projection,
    labels: Sequence[str | int],
    chosen: Sequence[str | int],
    *,
    order: Sequence[str | int] | None = None,
    counted: bool = True,
    scale: float = 1.0,
) -> None:
    """Draws the points of one map; `order` fixes the colours if the map shows only some of the chosen glosses."""
    points = projection.coordinates
    size = scale * float(np.clip(9000 / max(len(points), 1), 4, 42))  # square points; smaller if there are many
    names = np.array([str(label) for label in labels], dtype=object)
    rest = ~np.isin(names, [str(gloss) for gloss in chosen])
    if rest.any():
        kinds = len(set(names[rest]))
        shown = f"others ({kinds} gloss{'es' if kinds > 1 else ''}, {int(rest.sum())})" if counted else "others"
        axes.scatter(points[rest, 0], points[rest, 1], s=size * 0.6, c=OTHERS, linewidths=0, label=shown, zorder=1)
    for gloss in chosen:
        number = list(order or chosen).index(gloss)
        own = points[names == str(gloss)]
        colour = COLOURS[number % len(COLOURS)]
        # The first seven differ in colour and marker; later ones repeat the colours with other markers.
        marker = MARKERS[(number + number // len(COLOURS)) % len(MARKERS)]
        axes.scatter(
            own[:, 0],
            own[:, 1],
            s=size * 2,
            c=colour,
            marker=marker,
            linewidths=0.2,
            edgecolors="white",
            label=f"{gloss} ({len(own)})" if counted else str(gloss),
            zorder=2,
        )
    axes.set(xticks=[], yticks=[])
    axes.set_aspect("equal", adjustable="datalim")
    for side in axes.spines.values():
        side.set(color="#888888", linewidth=0.6)


def _chosen(name: str, labels: Sequence[str | int], highlight: Sequence[str | int] | None) -> list[str | int]:
    counts = Counter(labels)
    chosen = [gloss for gloss, _ in counts.most_common(len(COLOURS))] if highlight is None else list(highlight)
    missing = [gloss for gloss in chosen if gloss not in counts]
    if missing or len(chosen) > len(COLOURS) * len(MARKERS):
        raise ValueError(
            f"{name} can highlight up to {len(COLOURS) * len(MARKERS)} glosses of the map, got {len(chosen)}; "
            f"unknown: {missing[:5]}."
        )
    return chosen


def _kind(name: str, path: str | Path | None, format: str | None) -> str:
    kind = format or (Path(path).suffix.lstrip(".").lower() if path is not None else "png")
    if kind not in FORMATS:
        raise ValueError(f"{name} writes png, svg or pdf, got {str(path)!r}; use one of these extensions.")
    return kind


def _legend(where: Any, handles: list[Any], names: list[str], *, family: list[str], **place: Any) -> None:
    legend = where.legend(
        handles, names, frameon=False, prop={"size": 8, "family": family}, handletextpad=0.3, title_fontsize=6, **place
    )
    legend.get_title().set_color("#555555")
    for handle in legend.legend_handles:
        handle.set_sizes([30])


def _save(figure: Figure, path: str | Path | None, kind: str) -> None:
    if path is not None:
        from matplotlib import rc_context

        # the same map gives the same file, on any day and by any version
        dated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}
        salted = rc_context({"svg.hashsalt": "signcl"})  # otherwise the ids in an SVG are random
        with salted, atomic_write(Path(path)) as temporary:
            figure.savefig(temporary, format=kind, metadata=dated.get(kind))


def _caption(settings: dict[str, Any]) -> str:
    parts = [str(settings.get("method", "map")), f"{settings['rows']} rows" if "rows" in settings else ""]
    parts += [f"{name} {settings[name]:g}" for name in ("perplexity", "pca", "seed") if settings.get(name) is not None]
    return ", ".join(part for part in parts if part).replace("pca", "PCA")


def _fonts() -> list[str]:
    """Font families for gloss names: the default, then installed fonts with Chinese, Arabic or Hangul."""
    from matplotlib import font_manager

    wanted = (
        "Noto Sans CJK",
        "Noto Sans SC",
        "WenQuanYi",
        "Source Han",
        "SimHei",
        "Microsoft YaHei",
        "PingFang",
        "Arial Unicode",
    )
    found = {font.name for font in font_manager.fontManager.ttflist}
    return ["DejaVu Sans", *sorted(name for name in found if name.startswith(wanted))]
