"""Feature space on paper: maps in two dimensions (`maps`) and the figures of the paper (`figures`)."""

from signcl.projection.figures import density_figure, density_panels, impact_figure
from signcl.projection.maps import Projection, tsne, umap

__all__ = ["Projection", "density_figure", "density_panels", "impact_figure", "tsne", "umap"]
