"""The classifier of isolated signs: a clip of one sign to its gloss, the way the published I3D was trained (WLASL).

Frame encoder, mean over time, one linear layer. It is there for its frame encoder, which then starts other systems
(`model.visual_weights: pretrained:RUN`). Takes plain numbers, reads no file, computes no loss.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from signcl.data.batch import Batch, frame_mask
from signcl.systems.parts.frames import (
    Tapped,
    feature_lengths,
    feature_size,
    frame_features,
    no_such_tap,
    tap_of_frames,
)

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


class Classifier(nn.Module):
    """Clips of one sign in, gloss scores out. D (C - 2) + C - 2 parameters beside the frame encoder's.

    Args:
        visual: frame encoder with attribute `dim`.
        num_glosses: gloss classes C, blank and unknown included.
        dropout: of the mean; 0.5 in the published I3D.

    Source: I3D's classifier, the mean over time of a convolution of size 1 (equal to ours, since both are linear).
    """

    TAPS = ("features",)

    def __init__(self, visual: nn.Module, *, num_glosses: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.visual = visual
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(feature_size(visual), num_glosses - 2)

    def step_lengths(self, lengths: Tensor) -> Tensor:
        """One step a clip. [B] -> [B]"""
        return feature_lengths(self.visual, lengths).clamp(max=1)

    def features(self, batch: Batch) -> Tensor:
        """Frame features, zero at padding. [B, T, D]"""
        return frame_features(self.visual, batch)[0]

    def tapped(self, batch: Batch, tap: str = "features") -> Tapped:
        """Frame features, the one tap.

        Raises:
            ValueError: another tap.
        """
        if tap not in self.TAPS:
            raise no_such_tap(tap, self.TAPS)
        return tap_of_frames(self.visual, *frame_features(self.visual, batch))

    def forward(self, batch: Batch) -> ClassifierOutput:
        """Clips to the scores of their glosses."""
        features, lengths = frame_features(self.visual, batch)
        real = frame_mask(lengths, features.shape[1])[:, :, None]
        mean = (features * real).sum(dim=1, keepdim=True) / lengths[:, None, None]  # [B, 1, D]
        logits = self.head(self.dropout(mean[:, 0]))
        return ClassifierOutput(features, lengths, mean, self.step_lengths(batch.lengths), logits)
