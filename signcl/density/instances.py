"""One vector per annotated sign: the input of every analysis in the density lab."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from signcl.data.batch import Span
from signcl.density.forced_align import peak_frames
from signcl.density.spans import pool_spans, span_steps

__all__ = ["FRAMES", "Frame", "Instances", "Place", "known_signers", "on_peaks", "pick_rows"]

Frame = Literal["centre", "peak", "mean", "medoid"]
FRAMES: tuple[Frame, ...] = ("centre", "peak", "mean", "medoid")
Place = tuple[str, int, int]
"""Clip, first frame, one past the last frame."""


@dataclass(frozen=True)
class Instances:
    """Sign instances under one choice of frame."""

    features: Tensor | np.ndarray
    """May be a memory map. [N, D]"""
    glosses: list[str]
    """[N]"""
    where: list[Place]
    """[N]"""
    frame: str
    """How the vector of a sign was chosen; "row" if the features had one row per sign, "people" if people chose its
    frame."""
    signers: list[str] | None = None
    """Signer of each instance; None if unknown. [N]"""

    @property
    def clips(self) -> list[str]:
        """The clip of each sign; with one row per sign, each is a separate clip. [N]"""
        return [f"{clip} {start}" if self.frame == "row" else clip for clip, start, _ in self.where]

    @property
    def frames(self) -> np.ndarray:
        """Frames of each sign. [N]"""
        return np.array([stop - start for _, start, stop in self.where])

    def overlapping(self) -> int:
        """Number of signs that begin before another sign of their clip ends, e.g. with two hands or annotators."""
        reached: dict[str, int] = {}
        count = 0
        for clip, start, stop in sorted(self.where):
            count += start < reached.get(clip, 0)
            reached[clip] = max(stop, reached.get(clip, 0))
        return count

    def repeated(self) -> int:
        """Number of signs with the gloss and place of an earlier one; they have distance 0, which lowers the ratio."""
        return len(self.where) - len(set(zip(self.where, self.glosses)))

    def numbers(self) -> tuple[list[str], np.ndarray]:
        """The glosses in alphabetical order, and the index of each instance's gloss among them. [K], [N]"""
        names, numbers = np.unique(np.array(self.glosses, dtype=object).astype(str), return_inverse=True)
        return [str(name) for name in names], numbers.astype(np.int64)


def known_signers(signers: Sequence[str | None]) -> list[str] | None:
    """The signers of all instances; None if any is unknown."""
    known = [signer for signer in signers if signer]
    return known if known and len(known) == len(signers) else None


def on_peaks(spans: Sequence[Span]) -> list[Span] | None:
    """The frame `peak` of each span as a one-frame span; None if any span has no peak."""
    peaks = [Span(span.token, span.peak, span.peak + 1) for span in spans if span.peak is not None]
    return peaks if len(peaks) == len(spans) else None


def pick_rows(
    features: Tensor,
    spans: Sequence[Span],
    frame: Frame,
    *,
    stride: float = 1.0,
    first_centre: float | None = None,
    log_probs: Tensor | None = None,
    classes: Mapping[str, int] | None = None,
) -> Tensor:
    """One row per span: `pool_spans`, or for "peak" the row on which a recogniser is surest of the gloss.

    Peaks come from `log_probs` if given, else from the spans.

    Args:
        features: features of one clip. [T, D]
        spans: frames of each sign.
        frame: how to choose the row.
        stride, first_centre: position of the rows in frames, see `signcl.density.span_steps`.
        log_probs: log-probabilities of a recogniser for the same rows, for "peak". [T, C]
        classes: class of each gloss, for "peak".

    Raises:
        ValueError: as `pool_spans`; "peak" without log-probabilities for the same rows and without peaks in the spans;
            glosses without a class.
    """
    if frame != "peak":
        return pool_spans(features, spans, frame, stride=stride, first_centre=first_centre)
    if log_probs is None and classes is None and (peaks := on_peaks(spans)) is not None:
        return pool_spans(features, peaks, "centre", stride=stride, first_centre=first_centre)
    if log_probs is None or classes is None:
        raise ValueError(
            "--frame peak needs the log-probabilities of a recogniser: --log-probs FILE and --classes FILE, a run that "
            "recognises glosses, or --spans with the frame of every sign in the column `peak`"
        )
    if len(log_probs) != len(features):
        raise ValueError(
            f"--frame peak needs one row of log-probabilities per row of the features, got {len(log_probs)} rows for "
            f"{len(features)}"
        )
    strange = sorted({str(span.token) for span in spans} - set(classes))
    if strange:
        raise ValueError(
            f"--frame peak needs a class for every gloss; {len(strange)} have none, such as {', '.join(strange[:5])}"
        )
    places = span_steps(len(features), spans, stride=stride, first_centre=first_centre)
    inside = [Span(classes[str(span.token)], *place) for span, place in zip(spans, places)]
    return features[torch.tensor(peak_frames(log_probs, inside), dtype=torch.long)]
