"""Audits SignCL's sampling rule: how often a positive shows the same sign, and a negative a different one.

SignCL does not know the signs. It assumes that neighbouring frames show the same sign and that frames beyond a margin
show different ones. If a corpus has spans, both assumptions can be checked. `audit_pairs` counts all legal pairs of
labelled clips exactly; `run_audit` does so for several rules, strides and Zipf factors. Paper section 4.1; the rules
are in `signcl.losses`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch

from signcl.data.batch import Sample
from signcl.data.corpus_stats import frame_counts
from signcl.data.progress import say
from signcl.data.text import count_words
from signcl.losses import estimate_frame_margin, released_frame_margin

__all__ = ["RULES", "Rule", "SamplingAudit", "audit_pairs", "frame_labels", "run_audit"]

Rule = Literal["paper", "released", "fixed"]
RULES: tuple[Rule, ...] = ("paper", "released", "fixed")
FRONT, BACK = 8, 8  # edge copies of the released loader, added after padding the end to a multiple of 4
PIECES_PER_WORD = 1.53  # PHOENIX-2014T: 21.3 pieces of the released tokenizer for 13.96 words
MARKS = 2  # end of sentence and language code count as tokens in the released margin


@dataclass(frozen=True)
class SamplingAudit:
    """Counts over all legal pairs of a rule.

    A pair counts once for each of its frames that is an anchor. Shares are over pairs whose frames both show a sign,
    and None without such pairs.
    """

    anchors: int
    """Frames that the loss uses as anchors."""
    labelled: int
    """Anchors that show a sign."""
    positives: int
    """Legal positive pairs."""
    positives_labelled: int
    """Positives with a sign on both frames."""
    positives_same: int
    """Positives whose frames show the same gloss, as the rule assumes."""
    negatives: int
    """Legal negative pairs."""
    negatives_labelled: int
    """Negatives with a sign on both frames."""
    negatives_same: int
    """Negatives whose frames show the same gloss, so they are wrongly pushed apart."""
    clips: int
    clips_without_negative: int
    """Clips in which no anchor has a legal negative: the push has no effect there."""
    anchors_without_negative: int

    @property
    def positive_share(self) -> float | None:
        """Share of labelled positives that show the same gloss, 0..1. Higher is better."""
        return self.positives_same / self.positives_labelled if self.positives_labelled else None

    @property
    def negative_share(self) -> float | None:
        """Share of labelled negatives that show the same gloss, 0..1. Lower is better."""
        return self.negatives_same / self.negatives_labelled if self.negatives_labelled else None


def audit_pairs(
    labels: np.ndarray,
    lengths: np.ndarray,
    gaps: np.ndarray,
    *,
    anchors: tuple[int, int] = (0, 0),
    candidates: tuple[int, int] = (0, 0),
) -> SamplingAudit:
    """Counts the pairs of every clip: positives |i-j| = 1, negatives |i-j| > gap.

    Exact, in O(N log N) for N frames in total: the candidates of the anchor's gloss on either side are a range of a
    sorted array, so pairs are never enumerated.

    Args:
        labels: gloss number of each frame, -1 = no sign, clips concatenated. [N]
        lengths: frames of each clip. [B]
        gaps: a negative must be more than this many frames away (twice the paper's margin). If below 0, a frame is a
            negative of itself, as in the released code. [B]
        anchors: number of frames at the start and at the end of a clip that are not anchors.
        candidates: number of frames at the start and at the end of a clip that are not negatives.

    Raises:
        ValueError: lengths that do not add up to the labels, or not one gap per clip.

    Source: paper Eq. 4-5 and section 4.1.
    """
    labels, lengths = np.asarray(labels, dtype=np.int64), np.asarray(lengths, dtype=np.int64)
    gaps = np.asarray(gaps, dtype=np.float64)
    if labels.ndim != 1 or lengths.sum() != len(labels) or gaps.shape != lengths.shape:
        raise ValueError(
            f"audit_pairs needs labels [N], lengths [B] that add up to N, and gaps [B]; got {labels.shape}, lengths of "
            f"{int(lengths.sum())} frames in {len(lengths)} clips, gaps {gaps.shape}."
        )
    clip = np.repeat(np.arange(len(lengths)), lengths)
    size = lengths[clip]
    time = np.arange(len(labels)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    anchor = (time >= anchors[0]) & (time < size - anchors[1])
    signed = labels >= 0
    reach = np.maximum(np.floor(gaps), -1).astype(np.int64)[clip] + 1  # |i - j| >= reach

    near = time[1:] > 0  # frame n + 1 continues the clip of frame n
    ends = anchor[:-1].astype(np.int64) + anchor[1:]
    both = near & signed[:-1] & signed[1:]
    same = both & (labels[:-1] == labels[1:])

    first, stop = np.full_like(size, candidates[0]), size - candidates[1]  # candidates are first <= j < stop
    before = np.minimum(time - reach + 1, stop)  # negatives j of an anchor: first <= j < before, after <= j < stop
    after = np.maximum(time + np.maximum(reach, 1), first)
    legal = np.maximum(before - first, 0) + np.maximum(stop - after, 0)
    legal[~anchor] = 0

    # Positions sorted by (clip, label, time): those of a label within a time range are contiguous.
    width = int(lengths.max(initial=0)) + 1
    kinds = int(labels.max(initial=0)) + 1

    def within(chosen: np.ndarray, key: np.ndarray) -> int:
        """Number of pairs of a chosen anchor and a candidate with the anchor's key."""
        base = key * width
        order = np.sort((base + time)[signed])
        base = base[chosen]

        def count(start: np.ndarray, end: np.ndarray) -> int:
            start, end = np.clip(start[chosen], 0, width - 1), np.clip(end[chosen], 0, width - 1)
            found = np.searchsorted(order, base + end) - np.searchsorted(order, base + start)
            return int(np.maximum(found, 0).sum())

        return count(first, before) + count(after, stop)

    chosen = anchor & signed
    has = anchor & (legal > 0)
    return SamplingAudit(
        anchors=int(anchor.sum()),
        labelled=int(chosen.sum()),
        positives=int(ends[near].sum()),
        positives_labelled=int(ends[both].sum()),
        positives_same=int(ends[same].sum()),
        negatives=int(legal.sum()),
        negatives_labelled=within(chosen, clip),
        negatives_same=within(chosen, clip * kinds + np.maximum(labels, 0)),
        clips=len(lengths),
        clips_without_negative=int((np.bincount(clip[has], minlength=len(lengths)) == 0).sum()),
        anchors_without_negative=int((anchor & (legal == 0)).sum()),
    )


def frame_labels(samples: Sequence[Sample], lengths: Sequence[int]) -> tuple[list[np.ndarray], list[str]]:
    """Gloss number of every frame of every clip, -1 without a span, and the gloss names; later spans win overlaps.

    Raises:
        ValueError: spans beyond their clips; the first five are listed.
    """
    names = sorted({str(span.token) for sample in samples for span in sample.spans})
    number = {name: place for place, name in enumerate(names)}
    labels, beyond = [], []
    for sample, length in zip(samples, lengths, strict=True):
        row = np.full(length, -1, dtype=np.int64)
        for span in sample.spans:
            if not 0 <= span.start < span.stop <= length:
                beyond.append(f"{sample.name} {span.token}:{span.start}-{span.stop} of {length} frames")
            row[max(span.start, 0) : span.stop] = number[str(span.token)]
        labels.append(row)
    if beyond:
        more = f" and {len(beyond) - 5} more" if len(beyond) > 5 else ""
        raise ValueError(f"{len(beyond)} spans do not fit their clips: {'; '.join(beyond[:5])}{more}; fix the spans.")
    return labels, names


def run_audit(
    samples: Sequence[Sample],
    *,
    rules: Sequence[str] = RULES,
    strides: Sequence[int] = (1, 2, 4),
    zipf: Sequence[float] = (2.3,),
    floor: float = 10.0,
    pieces_per_word: float = PIECES_PER_WORD,
) -> list[dict[str, Any]]:
    """Audits a corpus under every combination of rule, stride and Zipf factor.

    - paper: gap 2 * max(floor, frames / words * zipf); every frame of the clip is an anchor and a candidate.
    - released: clips with edge copies, labelled like the frame they copy; gap of `released_frame_margin` with its
      clamp, as for a batch of one clip; anchors 1..T-3, candidates 2..T-3; built-in Zipf factor and floor.
    - fixed: gap 2 * floor.

    With stride s, only every s-th frame is kept; margins and floor then count kept frames.

    Args:
        samples: clips with spans. Clips without spans or without a known number of frames are left out and counted.
        rules: from `RULES`.
        strides: keep every s-th frame.
        zipf: spoken words per gloss.
        floor: smallest margin of "paper", margin of "fixed", in kept frames.
        pieces_per_word: tokens per word for "released"; two marks are added per sentence.

    Returns:
        One row per combination: `SamplingAudit` as a dict with both shares, rule, stride, zipf, floor (None if the rule
        has its own), mean_gap, left_out.

    Raises:
        ValueError: an unknown rule, a stride below 1, a zipf or floor that is not positive, no spans.
    """
    wrong = [rule for rule in rules if rule not in RULES]
    if wrong or not rules:
        raise ValueError(f"rules must be from {', '.join(RULES)}, got {', '.join(wrong) or 'none'}")
    if not strides or min(strides) < 1:
        raise ValueError(f"strides must be whole numbers of at least 1, got {list(strides)}")
    if not zipf or min(zipf) <= 0 or floor < 0 or pieces_per_word <= 0:
        raise ValueError(f"zipf and pieces_per_word must be positive, floor 0 or more; got {zipf}, {floor}")
    spanned = [sample for sample in samples if sample.spans]
    if not spanned:
        raise ValueError(
            f"the audit needs the frames of each sign, but none of {len(samples)} clips has spans; give a corpus with "
            f"spans, a table of spans with --spans, or --phoenix-alignments"
        )
    if all(span.stop - span.start == 1 for sample in spanned for span in sample.spans):
        raise ValueError(
            "the audit needs the frames of each sign, but every span is one frame long, like best frames chosen by "
            "people; give the spans from which they were chosen"
        )
    counted = [(sample, count) for sample, count in zip(spanned, frame_counts(spanned), strict=True) if count]
    labels, _ = frame_labels([sample for sample, _ in counted], [count for _, count in counted])
    overlapping = sum(
        span.start < max((other.stop for other in sample.spans[:place]), default=0)
        for sample, _ in counted
        for place, span in enumerate(sample.spans)
    )
    if overlapping:
        say(f"{overlapping} signs begin before another ends; a frame in both counts for the later one")
    words = np.array([count_words(sample.text) for sample, _ in counted])
    rows: list[dict[str, Any]] = []
    for stride in strides:
        kept = [row[::stride] for row in labels]
        for rule in rules:
            for factor in zipf if rule == "paper" else zipf[:1]:
                audit, gaps = _audit_rule(kept, words, rule, factor, floor, pieces_per_word)
                rows.append(
                    {
                        "rule": rule,
                        "stride": stride,
                        "zipf": factor if rule == "paper" else None,
                        "floor": None if rule == "released" else floor,
                        "mean_gap": float(gaps.mean()),
                        **asdict(audit),
                        "positive_share": audit.positive_share,
                        "negative_share": audit.negative_share,
                        "left_out": len(samples) - len(counted),
                    }
                )
    return rows


def _audit_rule(
    labels: list[np.ndarray], words: np.ndarray, rule: str, zipf: float, floor: float, pieces_per_word: float
) -> tuple[SamplingAudit, np.ndarray]:
    """The audit of clips after striding, and the gap of each clip."""
    if rule == "released":
        labels = [np.pad(row, (FRONT, -len(row) % 4 + BACK), mode="edge") for row in labels]
    lengths = np.array([len(row) for row in labels])
    if rule == "released":
        tokens = np.rint(words * pieces_per_word).astype(int) + MARKS
        gaps = np.array([released_frame_margin(int(t), int(u)) for t, u in zip(lengths, tokens)], dtype=np.float64)
        return audit_pairs(np.concatenate(labels), lengths, gaps, anchors=(1, 2), candidates=(2, 2)), gaps
    if rule == "paper":
        margin = estimate_frame_margin(torch.from_numpy(lengths), torch.from_numpy(words), zipf, floor)
        gaps = (2 * margin).double().numpy()
    else:
        gaps = np.full(len(lengths), 2.0 * floor)
    return audit_pairs(np.concatenate(labels), lengths, gaps), gaps
