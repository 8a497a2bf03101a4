"""From a recipe to a model: the system at its sizes, and the published or earlier weights that start it."""

from signcl.build.systems import build_model
from signcl.build.tensors import read_tensors
from signcl.build.weights import initialise

__all__ = ["build_model", "initialise", "read_tensors"]
