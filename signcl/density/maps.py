"""Maps of feature space: two-dimensional t-SNE and UMAP coordinates, returned with all their settings.

A map shows neighbourhoods, not distances, and changes with perplexity and seed. Quote `density.sign_density_ratio` for
numbers, and print the settings next to the picture.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from signcl.density.rows import as_array

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Engine", "Projection", "tsne", "umap"]

Engine = Literal["auto", "scikit-learn", "openTSNE"]
MANY = 3000  # with "auto", openTSNE is used above this number of rows


@dataclass(frozen=True)
class Projection:
    """Coordinates of each row on a map."""

    coordinates: np.ndarray
    """[N, 2] float32"""
    settings: dict[str, Any]
    """method, perplexity, pca and its share of variance, seed, rows, version; `note` if a setting was changed."""


def tsne(
    features: Tensor | np.ndarray,
    *,
    perplexity: float = 30.0,
    seed: int = 0,
    pca: int | None = 50,
    engine: Engine = "scikit-learn",
) -> Projection:
    """Computes a t-SNE map: rows that are near each other in feature space stay near each other.

    Args:
        features: one row per sign instance. [N, D]
        perplexity: about how many neighbours count; lowered to (N - 1) / 3 for few rows and noted in `settings`.
        seed: seed of the map; the same seed gives the same map on the same machine.
        pca: number of principal components to use; None, or a number not below D, uses the features unchanged.
        engine: "scikit-learn"; "openTSNE", several times faster for thousands of rows (extra `maps`); or "auto":
            openTSNE above 3000 rows if it is installed. The maps differ, so `settings` names the engine.

    Returns:
        Coordinates and settings.

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
        raise ValueError("engine openTSNE is not installed: pip install 'signcl[maps]', or use scikit-learn.")
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
    """Computes a UMAP map; needs the package umap-learn. Not used in the paper.

    Args:
        features: one row per sign instance. [N, D]
        neighbours: number of neighbours per row; at most N - 1.
        min_dist: how tightly the map packs rows.
        seed: seed of the map.
        pca: as in `tsne`.

    Raises:
        ValueError: umap-learn is not installed, or invalid features, as in `tsne`.

    Source: McInnes, Healy and Melville 2018.
    """
    if importlib.util.find_spec("umap") is None:
        raise ValueError("umap needs umap-learn, which is not installed: pip install umap-learn, or use tsne.")
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
    """The rows for a map, checked, centred, scaled and reduced, and the settings used."""
    from sklearn.decomposition import PCA

    rows = as_array(features, np.float64)
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
        raise ValueError(
            f"{name} needs rows that differ, got {len(rows)} equal rows; check where the features come from."
        )
    rows = rows - rows.mean(axis=0)
    rows /= np.abs(rows).max()  # the map does not depend on the scale, but float32 has a limited range
    settings: dict[str, Any] = {"seed": seed, "rows": len(rows)}
    settings["pca"] = None if pca is None or pca >= rows.shape[1] else min(pca, len(rows))
    if settings["pca"]:
        reduce = PCA(settings["pca"], svd_solver="full" if len(rows) <= 500 else "covariance_eigh")
        rows = reduce.fit_transform(rows)
        settings["pca_variance"] = round(float(reduce.explained_variance_ratio_.sum()), 4)
    if rows.shape[1] == 1:
        rows = np.concatenate([rows, np.zeros_like(rows)], axis=1)  # the map is initialised with two components
    return rows, settings


def _open_tsne(rows: np.ndarray, settings: dict[str, Any]) -> Projection:
    import openTSNE

    method = openTSNE.TSNE(perplexity=settings["perplexity"], initialization="pca", random_state=settings["seed"])
    coordinates = np.asarray(method.fit(rows))
    settings["iterations"] = method.early_exaggeration_iter + method.n_iter
    settings["version"] = f"openTSNE {openTSNE.__version__}"
    return Projection(np.ascontiguousarray(coordinates, dtype=np.float32), settings)
