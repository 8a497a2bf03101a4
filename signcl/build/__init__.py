"""From a recipe to a model: the system at its sizes, and the published or earlier weights that start it."""

from signcl.build.systems import build_model
from signcl.build.weights import initialise, initialise_visual, read_tensors

__all__ = ["build_model", "initialise", "initialise_visual", "read_tensors"]
