"""Classifier of isolated signs: maps a clip of one sign to its gloss, as the published I3D was trained (WLASL).

Frame encoder, mean over time, one linear layer. Its purpose is to train the frame encoder, which then initialises other
systems (`model.visual_weights: pretrained:RUN`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import Tensor, nn

from signcl.data.annotation.plain_text import read_plain
from signcl.data.batch import Batch, frame_mask
from signcl.data.bounds import bounded
from signcl.data.text import GlossVocabulary
from signcl.systems.base import Sizes, System, SystemConfig, register
from signcl.systems.parts.frames import feature_lengths, feature_size, frame_features
from signcl.systems.parts.official import Checkpoint, Published, take
from signcl.systems.terms.shared import classification

__all__ = ["Classifier", "ClassifierOutput"]


@dataclass(frozen=True)
class ClassifierOutput:
    """Outputs for a batch of one-sign clips."""

    features: Tensor
    """Frame features, zero at padding. [B, T, D]"""
    lengths: Tensor
    """[B]"""
    steps: Tensor
    """One step per clip: the mean of its frame features. [B, 1, D]"""
    step_lengths: Tensor
    """Ones. [B]"""
    logits: Tensor
    """Scores of the glosses in the vocabulary: class g is column g - 2, since a clip of one sign is neither blank nor
    unknown. [B, C - 2]"""


@register
class Classifier(System):
    """Maps clips of one sign to gloss scores. Has D (C - 2) + C - 2 parameters besides the frame encoder's.

    Source: I3D's classifier, the mean over time of a convolution of size 1 (equal to ours, since both are linear).
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(SystemConfig):
        """`model` of a classifier."""

        name: str = "classifier"
        dropout: float = bounded(0.1, low=0, below=1)
        """Dropout on the mean; 0.5 in the published I3D."""

    title: ClassVar = (
        "classifies clips of one sign, as I3D was trained on isolated signs (WLASL), with any frame encoder"
    )
    label: ClassVar = "Classifier of signs"
    needs: ClassVar = "frames (or features) of single signs, or spans to cut them out, and glosses"
    stage: ClassVar = "recognise"
    terms: ClassVar = {"classification": classification}
    required_terms: ClassVar = ("classification",)
    answers: ClassVar = "classes"

    checkpoint: ClassVar = "i3d"
    checkpoint_marks: ClassVar = ("Conv3d_1a_7x7.conv3d.weight", "logits.conv3d.weight")

    config: Config

    @classmethod
    def published(cls, given: Checkpoint) -> Published:
        """An Inception-I3D with its classifier (WLASL), and its class list: one line `NUMBER TAB GLOSS` per class.

        The released code takes the maximum over time of the window scores; here the scores come from the mean over
        time. The two are equal for clips of one window, 9 to 16 frames.
        """
        names = list(given.tensors)
        prefix = next(name for name in names if name.endswith("logits.conv3d.bias")).removesuffix("logits.conv3d.bias")
        inner = {name.removeprefix(prefix): value for name, value in given.tensors.items() if name.startswith(prefix)}
        taken = take(
            inner,
            {r"logits\.conv3d\.(weight|bias)": r"head.\1", r"((?:Conv3d|Mixed)_.+)": r"visual.\1"},
            {},
            "an i3d checkpoint",
        )
        taken.tensors["head.weight"] = taken.tensors["head.weight"].flatten(1)  # a convolution of size 1
        rows = len(taken.tensors["head.bias"])
        return Published(
            taken,
            model={"visual": "i3d", "i3d": {"window": 64, "stride": 64, "channels": "bgr"}},
            assumed={"dropout": 0.5},
            recipe={"input.size": 256, "input.crop": 224, "input.max_frames": 64, "input.thinning": "window"},
            glosses=_classes(given.needs("glosses", "wlasl_class_list.txt"), rows),
        )

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(feature_size(self.visual), sizes.classes() - 2)

    def step_lengths(self, lengths: Tensor) -> Tensor:
        """One step per clip. [B] -> [B]"""
        return feature_lengths(self.visual, lengths).clamp(max=1)

    def forward(self, batch: Batch) -> ClassifierOutput:
        """Gloss scores of each clip."""
        features, lengths = frame_features(self.visual, batch)
        mean = self._mean(features, lengths)
        logits = self.head(self.dropout(mean[:, 0]))
        return ClassifierOutput(features, lengths, mean, self.step_lengths(batch.lengths), logits)

    def exported_states(self, features: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Log-probabilities of the glosses, without blank and unknown."""
        return {"log_probs": self.head(self._mean(features, lengths)[:, 0]).float().log_softmax(dim=1)}

    def _mean(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Mean over frames without padding. [B, 1, D]"""
        real = frame_mask(lengths, features.shape[1])[:, :, None]
        return (features * real).sum(dim=1, keepdim=True) / lengths[:, None, None]


def _classes(path: Path, rows: int) -> GlossVocabulary:
    """The first `rows` glosses of a class list, since a checkpoint for fewer glosses uses the first ones.

    Raises:
        ValueError: a malformed list, or one that is too short.
    """
    try:
        pairs = [line.split(maxsplit=1) for line in read_plain(path).splitlines() if line.strip()]
        numbered = {int(number): gloss.strip() for number, gloss in pairs}
    except ValueError:
        raise ValueError(f"{path}: needs one line per class, with its number and its gloss") from None
    if any(number not in numbered for number in range(rows)):
        raise ValueError(
            f"{path} has {len(numbered)} classes, but the classifier has {rows}: it belongs to another checkpoint"
        )
    return GlossVocabulary([numbered[number] for number in range(rows)])
