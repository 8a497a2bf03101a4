"""Isolated signs out of continuous signing: every span of a clip as a clip of its own (`corpus.isolated`)."""

from __future__ import annotations

from collections.abc import Sequence

from signcl.data.batch import Sample, Span
from signcl.data.progress import say

__all__ = ["isolated"]


def isolated(samples: Sequence[Sample], where: str) -> list[Sample]:
    """Every span of every clip as a clip of its own: named CLIP#NUMBER, its gloss is its gloss and its text,
    and its span is all of it.

    Args:
        where: what they are, for the error.

    Raises:
        ValueError: no clip has spans.
    """
    parts = [
        Sample(
            name=f"{sample.name}#{number}",
            text=str(span.token),
            clip=sample.clip,
            features=sample.features,
            gloss=(str(span.token),),
            signer=sample.signer,
            num_frames=span.stop - span.start,
            spans=(Span(span.token, 0, span.stop - span.start),),
            cut=(span.start, span.stop),
            whole=sample.whole or sample.name,
            segment=sample.segment,
            language=sample.language,
        )
        for sample in samples
        for number, span in enumerate(sample.spans)
    ]
    if not parts:
        raise ValueError(
            f"corpus.isolated cuts the spans of the signs out of their clips, and {where} has no spans; `signcl align` "
            f"makes some; leave corpus.isolated out where every clip already is one sign"
        )
    if bare := sum(not sample.spans for sample in samples):
        say(f"corpus.isolated: {bare} of {len(samples)} clips of {where} have no spans and are left out")
    return parts
