"""Augmented batches: those of training, and a second view for losses that want features to stay the same."""

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

NOISE = 0.1  # of each number's deviation over the batch, where the input is no pixels
USUAL = AugmentRecipe(probability=0.5)  # where a recipe augments nothing


def augmented(batch: Batch, settings: AugmentRecipe) -> Batch:
    """A batch of frames with its pixels augmented, every frame of a clip alike."""
    return replace(batch, inputs=augment(batch.inputs, batch.clip_of_row, len(batch), None, settings))


def second_view(batch: Batch, settings: AugmentRecipe) -> Batch:
    """The same clips, augmented once more: pixels as `input.augment` says, other numbers with Gaussian noise."""
    if batch.inputs.ndim == 4:
        return augmented(batch, settings)
    spread = batch.inputs.float().std(dim=0, correction=0)
    noise = torch.randn_like(batch.inputs, dtype=spread.dtype) * spread * NOISE
    return replace(batch, inputs=batch.inputs + noise.to(batch.inputs.dtype))


def views_of(model: Any, settings: AugmentRecipe) -> Callable[[Batch], Tensor]:
    """A function from a batch to the model's features in a second view. [B, T, D]"""
    drawn = settings if settings.probability > 0 else USUAL

    def view(batch: Batch) -> Tensor:
        features: Tensor = model.features(second_view(batch, drawn))
        return features

    return view
