"""Tiny untrained runs, to export."""

import numpy as np
import torch

from signcl.systems import system_class
from signcl.testing import tiny_recipe, write_tiny_corpus
from signcl.training import run_folder
from signcl.training.prepare import prepare
from signcl.training.runs import build_model, initialise

CHANGES = {
    "sign2gpt": {"model": {"lm": {"width": 32, "gate": 0.5}, "layer_scale": 0.1}},
    "spamo": {"model": {"lm": {"architecture": "llama"}}},
}
"""Recipe keys of systems whose defaults would leave something out: closed gates, padding on the left."""


def save_run(place, name, changes=None, seed=1):
    """A run folder as `fit` writes it; a published language model keeps its weights."""
    recipe = tiny_recipe(system_class(name), place.parent, changes or {})
    material = prepare(recipe)
    torch.manual_seed(seed)
    model = build_model(recipe, material.tokenizer, material.feature_dim, material.glosses, material.targets)
    initialise(model, recipe)
    run_folder.save_run_start(place, recipe, material.tokenizer, material.glosses, material.targets)
    run_folder.save_card(place, {"feature_dim": material.feature_dim})
    run_folder.save_weights(place, model)
    return place


def write_pose_corpus(root, dim=236):
    """The corpus of `save_run` with key points: rows of `dim` numbers, 236 for COCO-WholeBody."""
    if not root.exists():
        write_tiny_corpus(root)
        wide = np.random.default_rng(0).normal(size=(12, dim)).astype(np.float32)
        for path in root.rglob("*.npy"):
            np.save(path, np.load(path).astype(np.float32) @ wide)
    return root
