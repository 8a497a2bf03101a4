"""Tags O, B and I for the segmenter: which frames of a recording belong to a sign or a sentence.

    O  outside (0)      B  the first frame of a span (1)      I  inside it (2)

The B of the second span separates two adjacent spans.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from signcl.data.batch import Sample, Span
from signcl.data.files import write_json
from signcl.data.joining import rate_of_features
from signcl.data.json_files import read_json

__all__ = ["BEGIN", "INSIDE", "OUTSIDE", "UNKNOWN", "FrameTags", "SentenceTags", "SignTags", "tags_of"]

OUTSIDE, BEGIN, INSIDE = 0, 1, 2
UNKNOWN = -100  # frames of a recording without known spans, and padding


def tags_of(spans: Sequence[Span], num_frames: int) -> Tensor:
    """One tag per frame. If spans overlap, the later one wins. [T] long"""
    tags = torch.full((num_frames,), OUTSIDE, dtype=torch.long)
    for span in spans:
        tags[span.start : span.stop] = INSIDE
        if span.start < num_frames:
            tags[span.start] = BEGIN
    return tags


class FrameTags:
    """Tags of recordings, as targets of a loss term, and the frame rate of the training features."""

    KIND = ""

    def __init__(self, fps: float | None = None) -> None:
        self.fps = fps

    @staticmethod
    def spans(sample: Sample) -> tuple[Span, ...]:
        """The spans to tag."""
        raise NotImplementedError

    @classmethod
    def build(
        cls,
        config: Any,
        samples: Sequence[Sample],
        texts_of: Callable[[str], list[str]],
        folder: Path,
        settings: Any = None,
    ) -> FrameTags:
        """Build from the training recordings, at least one of which must have spans.

        Raises:
            ValueError: no recording has spans.
        """
        if not any(cls.spans(sample) for sample in samples):
            raise ValueError(
                f"loss.weights.{cls.KIND}_tags: no training clip knows the frames of its {cls.KIND}s; `signcl corpus "
                f"join` makes recordings that do"
            )
        rates = sorted({rate for sample in samples[:20] if (rate := rate_of_features(sample))})
        return cls(rates[0] if len(rates) == 1 else None)

    def __call__(self, samples: Sequence[Sample]) -> Tensor:
        """Tags; UNKNOWN at padding and in recordings without spans. [B, T] long"""
        rows = []
        for sample in samples:
            spans = self.spans(sample)
            length = sample.num_frames or max((span.stop for span in spans), default=1)
            rows.append(tags_of(spans, length) if spans else torch.full((1,), UNKNOWN))
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=UNKNOWN)

    def save(self, folder: Path) -> None:
        """Save to a run folder."""
        write_json(folder / f"{self.KIND}_tags.json", {"fps": self.fps})

    @classmethod
    def load(cls, config: Any, folder: Path) -> FrameTags:
        """Load from a run folder."""
        said = read_json(folder / f"{cls.KIND}_tags.json", {"fps": float | int | None}, "copy the run folder again")
        return cls(said["fps"])


class SignTags(FrameTags):
    """Tags of signs."""

    KIND = "sign"

    @staticmethod
    def spans(sample: Sample) -> tuple[Span, ...]:
        """The spans of its signs."""
        return sample.spans


class SentenceTags(FrameTags):
    """Tags of sentences."""

    KIND = "sentence"

    @staticmethod
    def spans(sample: Sample) -> tuple[Span, ...]:
        """The spans of its sentences; for a clip of one sentence, from its first to its last sign."""
        if sample.sentences or not sample.spans:
            return sample.sentences
        first, last = min(s.start for s in sample.spans), max(s.stop for s in sample.spans)
        return (Span(sample.signed, first, last),)
