"""Labels SignCL's pairs by the spans of a corpus: sign against sign, or sign against transition.

The loss does not know signs: it pulls neighbouring frames together and pushes frames apart that are more than twice the
frame margin away. With known spans, this module counts how often a sign is pushed away from another sign. Paper section
4.1, Eq. 4-5; the loss is `signcl.losses.signcl_loss`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from signcl.data.batch import Sample, Span

__all__ = ["PairLabels", "corpus_pairs", "count_pairs"]

WHOLE = 1e-3  # frames; a gap less than this below a whole number counts as that number, as in `signcl.losses.signcl`


@dataclass(frozen=True)
class PairLabels:
    """Counts over clips with spans; can be added. A pair is counted from both of its frames."""

    frames: int = 0
    sign_frames: int = 0
    """Frames that belong to a sign."""
    without_negative: int = 0
    """Frames without another frame more than the gap away."""
    sign_frames_with_sign: int = 0
    """Sign frames with a frame of a sign among their negatives."""
    negatives: int = 0
    """Negative pairs."""
    transition_negatives: int = 0
    """Negative pairs with a frame outside all signs."""
    same_gloss_negatives: int = 0
    """Negative pairs of two frames with the same gloss: the loss pushes a sign away from itself."""
    rest_negatives: int = 0
    """Negative pairs with a frame before the first or after the last sign. Equals `transition_negatives` if transitions
    are divided between the signs, as in forced alignments."""

    def __add__(self, other: PairLabels) -> PairLabels:
        return PairLabels(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))

    @property
    def sign_share(self) -> float:
        """Share of frames that belong to a sign, 0..1."""
        return self.sign_frames / max(1, self.frames)

    @property
    def stuck_share(self) -> float:
        """Share of frames without negatives, 0..1: only the pull affects them."""
        return self.without_negative / max(1, self.frames)

    @property
    def sign_to_sign_share(self) -> float:
        """Share of sign frames with a frame of a sign among their negatives, 0..1."""
        return self.sign_frames_with_sign / max(1, self.sign_frames)

    @property
    def transition_share(self) -> float:
        """Share of negative pairs with a frame outside all signs, 0..1."""
        return self.transition_negatives / max(1, self.negatives)

    @property
    def rest_share(self) -> float:
        """Share of negative pairs with a frame before the first or after the last sign, 0..1."""
        return self.rest_negatives / max(1, self.negatives)

    @property
    def same_gloss_share(self) -> float:
        """Share of negative pairs with the same gloss, 0..1."""
        return self.same_gloss_negatives / max(1, self.negatives)


def count_pairs(spans: Sequence[Span], num_frames: int, frame_margin: float) -> PairLabels:
    """Counts the pairs of one clip. Two frames are a negative pair if |i - j| > 2 * frame_margin.

    Args:
        spans: the signs; frames outside them are transitions or rest. Signs may overlap.
        num_frames: T of the clip.
        frame_margin: frames, from `estimate_frame_margin`.
    """
    glosses = sorted({str(span.token) for span in spans})
    member = np.zeros((len(glosses), num_frames), dtype=np.float32)  # float, for a fast product
    for span in spans:
        member[glosses.index(str(span.token)), max(0, span.start) : span.stop] = 1
    sign = member.sum(axis=0) > 0
    frame = np.arange(num_frames)
    far = np.abs(frame[:, None] - frame) > 2 * frame_margin + WHOLE  # the negatives. [T, T]
    between_signs = far & sign[:, None] & sign
    signing = np.cumsum(sign) * np.cumsum(sign[::-1])[::-1] > 0  # from the first sign to the last
    during = far & signing[:, None] & signing
    same_gloss = far & (member.T @ member > 0)
    return PairLabels(
        frames=num_frames,
        sign_frames=int(sign.sum()),
        without_negative=int((~far.any(axis=1)).sum()),
        sign_frames_with_sign=int(between_signs.any(axis=1).sum()),
        negatives=int(far.sum()),
        transition_negatives=int(far.sum() - between_signs.sum()),
        same_gloss_negatives=int(same_gloss.sum()),
        rest_negatives=int(far.sum() - during.sum()),
    )


def corpus_pairs(clips: Iterable[tuple[Sample, int, float]]) -> PairLabels | None:
    """Counts over all clips with spans, given as (sample, frames, frame margin). None if no clip has spans."""
    labelled = [count_pairs(sample.spans, frames, margin) for sample, frames, margin in clips if sample.spans]
    return sum(labelled, PairLabels()) if labelled else None
