"""Feature space on paper: t-SNE coordinates with every setting fixed and returned, and a figure coloured by gloss.

A map shows neighbourhoods, not distances, and moves with perplexity and seed: quote `density.sign_density_ratio` for
numbers, and print the settings beside the picture. Like Figures 3 and 5 of the paper.
"""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

__all__ = ["Projection", "density_figure", "tsne", "umap"]

# Okabe and Ito's colours, told apart by colour-blind readers; markers change too, so that grey print still works.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "^", "s", "D", "v", "P", "X")
OTHERS = "#C8C8C8"
FORMATS = ("png", "svg", "pdf")
Engine = Literal["auto", "scikit-learn", "openTSNE"]
MANY = 3000  # rows from which on openTSNE is worth another map than the small sets have


@dataclass(frozen=True)
class Projection:
    """Where each row lands on the map."""

    coordinates: np.ndarray
    """[N, 2] float32"""
    settings: dict[str, Any]
    """method, perplexity, pca and its share of variance, seed, rows, version; `note` where one had to give way."""


def tsne(
    features: Tensor | np.ndarray,
    *,
    perplexity: float = 30.0,
    seed: int = 0,
    pca: int | None = 50,
    engine: Engine = "scikit-learn",
) -> Projection:
    """A t-SNE map: rows that are near in feature space stay near.

    Args:
        features: one row per sign instance. [N, D]
        perplexity: about how many neighbours count; lowered to (N - 1) / 3 for few rows, which `settings` notes.
        seed: of the map; the same seed gives the same map on the same machine.
        pca: principal components that enter; None, or a number not below D, leaves the features as they are.
        engine: scikit-learn; openTSNE, several times faster from some thousand rows on (extra `maps`); or auto:
            openTSNE above 3000 rows where it is installed. `settings` names it, for their maps differ.

    Returns:
        Coordinates and the settings that made them.

    Raises:
        ValueError: fewer than 3 rows, NaN or infinity, all rows equal; or an engine that is not installed.

    Source: van der Maaten and Hinton 2008. The paper gives no settings for its Figures 3 and 5.
    """
    rows, settings = _prepared(features, "tsne", seed, pca)
    if not perplexity > 0:
        raise ValueError(f"tsne needs perplexity > 0, got {perplexity}.")
    settings = {"method": "t-SNE", "perplexity": perplexity, **settings}
    most = (len(rows) - 1) / 3
    if perplexity > most:
        settings["perplexity"] = max(most, 1.0)
        settings["note"] = f"perplexity lowered from {perplexity:g}: {len(rows)} rows allow at most (N - 1) / 3"
    installed = importlib.util.find_spec("openTSNE") is not None
    if engine == "openTSNE" and not installed:
        raise ValueError("engine openTSNE is not installed: pip install 'signcl[maps]', or take scikit-learn.")
    if engine == "openTSNE" or (engine == "auto" and installed and len(rows) > MANY):
        return _open_tsne(rows, settings)
    import sklearn
    from sklearn.manifold import TSNE

    method = TSNE(perplexity=settings["perplexity"], init="pca", learning_rate="auto", random_state=seed)
    coordinates = method.fit_transform(rows.astype(np.float32))
    settings["iterations"] = int(method.n_iter_) + 1
    settings["version"] = f"scikit-learn {sklearn.__version__}"
    return Projection(np.ascontiguousarray(coordinates, dtype=np.float32), settings)


def umap(
    features: Tensor | np.ndarray,
    *,
    neighbours: int = 15,
    min_dist: float = 0.1,
    seed: int = 0,
    pca: int | None = 50,
) -> Projection:
    """A UMAP map, where the package umap-learn is installed; not printed in the paper.

    Args:
        features: one row per sign instance. [N, D]
        neighbours: how many rows around each count; at most N - 1.
        min_dist: how tightly the map packs rows.
        seed: of the map.
        pca: as in `tsne`.

    Raises:
        ValueError: umap-learn is not installed, or features as `tsne` refuses them.

    Source: McInnes, Healy and Melville 2018.
    """
    if importlib.util.find_spec("umap") is None:
        raise ValueError("umap needs the package umap-learn, which is not installed: pip install umap-learn; or tsne.")
    rows, settings = _prepared(features, "umap", seed, pca)
    from umap import UMAP, __version__

    settings = {"method": "UMAP", "neighbours": min(neighbours, len(rows) - 1), "min_dist": min_dist, **settings}
    method = UMAP(n_neighbors=settings["neighbours"], min_dist=min_dist, random_state=seed, n_jobs=1)
    coordinates = method.fit_transform(rows.astype(np.float32))
    settings["version"] = f"umap-learn {__version__}"
    return Projection(np.ascontiguousarray(coordinates, dtype=np.float32), settings)


def _prepared(
    features: Tensor | np.ndarray, name: str, seed: int, pca: int | None
) -> tuple[np.ndarray, dict[str, Any]]:
    """The rows that enter a map: checked, centred, scaled, reduced; and what was done to them."""
    from sklearn.decomposition import PCA

    rows = np.asarray(features.detach().cpu().float() if hasattr(features, "detach") else features, dtype=np.float64)
    if rows.ndim != 2 or len(rows) < 3 or not rows.shape[1]:
        raise ValueError(f"{name} needs features [N, D] with at least 3 rows, got shape {rows.shape}.")
    if not np.isfinite(rows).all():
        broken = int((~np.isfinite(rows)).any(axis=1).sum())
        raise ValueError(
            f"{name} needs finite features, got NaN or infinity in {broken} of {len(rows)} rows; drop them."
        )
    if pca is not None and pca < 1:
        raise ValueError(f"{name} needs pca >= 1 or None, got {pca}.")
    if (rows == rows[0]).all():
        raise ValueError(f"{name} needs rows that differ, got {len(rows)} equal rows; check what made these features.")
    rows = rows - rows.mean(axis=0)
    rows /= np.abs(rows).max()  # the map does not depend on the scale; float32 does
    settings: dict[str, Any] = {"seed": seed, "rows": len(rows)}
    settings["pca"] = None if pca is None or pca >= rows.shape[1] else min(pca, len(rows))
    if settings["pca"]:
        reduce = PCA(settings["pca"], svd_solver="full" if len(rows) <= 500 else "covariance_eigh")
        rows = reduce.fit_transform(rows)
        settings["pca_variance"] = round(float(reduce.explained_variance_ratio_.sum()), 4)
    if rows.shape[1] == 1:
        rows = np.concatenate([rows, np.zeros_like(rows)], axis=1)  # the map starts from two components
    return rows, settings


def _open_tsne(rows: np.ndarray, settings: dict[str, Any]) -> Projection:
    import openTSNE

    method = openTSNE.TSNE(perplexity=settings["perplexity"], initialization="pca", random_state=settings["seed"])
    coordinates = np.asarray(method.fit(rows))
    settings["iterations"] = method.early_exaggeration_iter + method.n_iter
    settings["version"] = f"openTSNE {openTSNE.__version__}"
    return Projection(np.ascontiguousarray(coordinates, dtype=np.float32), settings)


def density_figure(
    projection: Projection,
    labels: Sequence[str | int],
    highlight: Sequence[str | int] | None = None,
    path: str | Path | None = None,
    *,
    title: str | None = None,
    format: str | None = None,
) -> Figure:
    """The map as a figure: chosen glosses in colour, each with its own marker, all others grey.

    Args:
        projection: where the rows are.
        labels: gloss of each row. [N]
        highlight: glosses to colour; default the seven most frequent. Markers change when the seven colours run out.
        path: also save there, as .png, .svg or .pdf.
        title: above the map.
        format: of the file, where its name does not say.

    Returns:
        The figure (matplotlib's, free of pyplot), for further changes.

    Raises:
        ValueError: labels that do not fit the map, a gloss that does not occur, or another file format.
    """
    from matplotlib.figure import Figure

    points = projection.coordinates
    if len(labels) != len(points):
        raise ValueError(
            f"density_figure needs one label per point, got {len(labels)} labels for {len(points)} points."
        )
    kind = format or (Path(path).suffix.lstrip(".").lower() if path is not None else "png")
    if kind not in FORMATS:
        raise ValueError(f"density_figure writes png, svg or pdf, got {str(path)!r}; name the file so.")
    counts = Counter(labels)
    chosen = [gloss for gloss, _ in counts.most_common(len(COLOURS))] if highlight is None else list(highlight)
    missing = [gloss for gloss in chosen if gloss not in counts]
    if missing or len(chosen) > len(COLOURS) * len(MARKERS):
        raise ValueError(
            f"density_figure can highlight up to {len(COLOURS) * len(MARKERS)} glosses that occur, got {len(chosen)}, "
            f"of which unknown: {missing[:5]}."
        )
    figure = Figure(figsize=(7.2, 5.0), dpi=150, layout="constrained")
    axes = figure.subplots()
    size = float(np.clip(9000 / max(len(points), 1), 4, 42))  # square points; small where there are many
    names = np.array([str(label) for label in labels], dtype=object)
    rest = ~np.isin(names, [str(gloss) for gloss in chosen])
    if rest.any():
        kinds = len(set(names[rest]))
        shown = f"others ({kinds} gloss{'es' if kinds > 1 else ''}, {int(rest.sum())})"
        axes.scatter(points[rest, 0], points[rest, 1], s=size * 0.6, c=OTHERS, linewidths=0, label=shown, zorder=1)
    for number, gloss in enumerate(chosen):
        own = points[names == str(gloss)]
        colour = COLOURS[number % len(COLOURS)]
        # The first seven differ in both; later rounds repeat the colour with another marker.
        marker = MARKERS[(number + number // len(COLOURS)) % len(MARKERS)]
        axes.scatter(
            own[:, 0],
            own[:, 1],
            s=size * 2,
            c=colour,
            marker=marker,
            linewidths=0.2,
            edgecolors="white",
            label=f"{gloss} ({len(own)})",
            zorder=2,
        )
    axes.set(xticks=[], yticks=[])
    axes.set_aspect("equal", adjustable="datalim")
    for side in axes.spines.values():
        side.set(color="#888888", linewidth=0.6)
    family = _fonts()
    if title:
        axes.set_title(title, fontsize=11, family=family)
    axes.set_xlabel(_caption(projection.settings), fontsize=7, color="#555555")
    legend = axes.legend(
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        frameon=False,
        prop={"size": 8, "family": family},
        handletextpad=0.3,
    )
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_sizes([30])  # type: ignore[attr-defined]
    if path is not None:
        dated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}  # the same map gives the same file
        figure.savefig(path, format=kind, metadata=dated.get(kind))
    return figure


def _caption(settings: dict[str, Any]) -> str:
    parts = [str(settings.get("method", "map")), f"{settings['rows']} rows" if "rows" in settings else ""]
    parts += [f"{name} {settings[name]:g}" for name in ("perplexity", "pca", "seed") if settings.get(name) is not None]
    return ", ".join(part for part in parts if part).replace("pca", "PCA")


def _fonts() -> list[str]:
    """Families for gloss names: the default first, then whatever is installed that knows Chinese, Arabic or Hangul."""
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
