"""From a recipe to a model: the system at its sizes, and the published or earlier weights that start it."""

from signcl.build.systems import build_frame_encoder, build_model
from signcl.build.tensors import read_tensors
from signcl.build.visual import initialise_visual
from signcl.build.weights import initialise

__all__ = ["build_frame_encoder", "build_model", "initialise", "initialise_visual", "read_tensors"]
