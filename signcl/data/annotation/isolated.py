"""Isolated signs from continuous signing: makes every span a separate clip (`corpus.isolated`)."""

from __future__ import annotations

from collections.abc import Sequence

from signcl.data.batch import Sample, Span
from signcl.data.progress import say

__all__ = ["isolated"]


def isolated(samples: Sequence[Sample], where: str) -> list[Sample]:
    """Makes every span of every clip a sample, named CLIP#NUMBER, with the gloss of the span as gloss and text.

    Args:
        where: description of the samples, for messages.

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
            f"corpus.isolated cuts the spans of signs out of their clips, but {where} has no spans; `signcl align` "
            f"makes some; remove corpus.isolated if every clip already is one sign"
        )
    if bare := sum(not sample.spans for sample in samples):
        say(f"corpus.isolated: {bare} of {len(samples)} clips of {where} have no spans and are left out")
    return parts
