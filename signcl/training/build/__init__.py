"""From a recipe to a model: the system at its sizes, and the published or earlier weights that start it."""

from signcl.training.build.building import build_frame_encoder, build_model
from signcl.training.build.frame_encoder import initialise_visual
from signcl.training.build.starting_weights import initialise
from signcl.training.build.tensors import read_tensors

__all__ = ["build_frame_encoder", "build_model", "initialise", "initialise_visual", "read_tensors"]
