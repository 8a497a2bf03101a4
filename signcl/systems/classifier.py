"""The classifier of isolated signs: a clip of one sign to its gloss, the way the published I3D was trained (WLASL).

Frame encoder, mean over time, one linear layer. It is there for its frame encoder, which then starts other systems
(`model.visual_weights: pretrained:RUN`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from signcl.data.batch import Batch, frame_mask
from signcl.data.bounds import bounded
from signcl.systems.base import Sizes, System, SystemConfig, register
from signcl.systems.parts.frames import feature_lengths, feature_size, frame_features
from signcl.systems.terms.shared import classification

__all__ = ["Classifier", "ClassifierOutput"]


@dataclass(frozen=True)
class ClassifierOutput:
    """A batch of clips of one sign each."""

    features: Tensor
    """Frame features, zero at padding. [B, T, D]"""
    lengths: Tensor
    """[B]"""
    steps: Tensor
    """One step a clip: the mean of its frame features. [B, 1, D]"""
    step_lengths: Tensor
    """Ones. [B]"""
    logits: Tensor
    """Scores of the glosses of the vocabulary: class g there is column g - 2, since a clip of one sign is neither blank
    nor unknown. [B, C - 2]"""


@register
class Classifier(System):
    """Clips of one sign in, gloss scores out. D (C - 2) + C - 2 parameters beside the frame encoder's.

    Source: I3D's classifier, the mean over time of a convolution of size 1 (equal to ours, since both are linear).
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(SystemConfig):
        """`model` of a classifier."""

        name: str = "classifier"
        dropout: float = bounded(0.1, low=0, below=1)
        """Of the mean; 0.5 in the published I3D."""

    title: ClassVar = (
        "one sign a clip to its gloss: how I3D was trained on isolated signs (WLASL), for any frame encoder"
    )
    label: ClassVar = "Classifier of signs"
    needs: ClassVar = "frames (or features) of single signs, or spans to cut them out by, and glosses"
    stage: ClassVar = "recognise"
    terms: ClassVar = {"classification": classification}
    required_terms: ClassVar = ("classification",)
    answers: ClassVar = "classes"

    config: Config

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(feature_size(self.visual), sizes.classes() - 2)

    def step_lengths(self, lengths: Tensor) -> Tensor:
        """One step a clip. [B] -> [B]"""
        return feature_lengths(self.visual, lengths).clamp(max=1)

    def forward(self, batch: Batch) -> ClassifierOutput:
        """Clips to the scores of their glosses."""
        features, lengths = frame_features(self.visual, batch)
        real = frame_mask(lengths, features.shape[1])[:, :, None]
        mean = (features * real).sum(dim=1, keepdim=True) / lengths[:, None, None]  # [B, 1, D]
        logits = self.head(self.dropout(mean[:, 0]))
        return ClassifierOutput(features, lengths, mean, self.step_lengths(batch.lengths), logits)
