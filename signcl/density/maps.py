"""Feature space in two dimensions: t-SNE and UMAP coordinates with every setting fixed and returned.

A map shows neighbourhoods, not distances, and moves with perplexity and seed: quote `density.sign_density_ratio` for
numbers, and print the settings beside the picture.
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
