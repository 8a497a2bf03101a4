"""Augmented batches for training, and second views for losses that make features invariant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from signcl.data.batch import Batch
from signcl.data.sections import AugmentRecipe
from signcl.systems.encoders import augment

__all__ = ["augmented", "second_view", "views_of"]

NOISE = 0.1  # share of each element's standard deviation over the batch, for inputs other than pixels
USUAL = AugmentRecipe(probability=0.5)  # used if a recipe has no augmentation


def augmented(batch: Batch, settings: AugmentRecipe) -> Batch:
    """Augment the pixels of a batch, with the same parameters for all frames of a clip."""
    return replace(batch, inputs=augment(batch.inputs, batch.clip_of_row, len(batch), None, settings))


def second_view(batch: Batch, settings: AugmentRecipe) -> Batch:
    """A second augmentation of the same clips: pixels as in `input.augment`, other inputs with Gaussian noise."""
    if batch.inputs.ndim == 4:
        return augmented(batch, settings)
    spread = batch.inputs.float().std(dim=0, correction=0)
    noise = torch.randn_like(batch.inputs, dtype=spread.dtype) * spread * NOISE
    return replace(batch, inputs=batch.inputs + noise.to(batch.inputs.dtype))


def views_of(model: Any, settings: AugmentRecipe) -> Callable[[Batch], Tensor]:
    """A function that returns the model's features for a second view of a batch. [B, T, D]"""
    drawn = settings if settings.probability > 0 else USUAL

    def view(batch: Batch) -> Tensor:
        features: Tensor = model.features(second_view(batch, drawn))
        return features

    return view
