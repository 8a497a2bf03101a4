"""Scores of segments in time: boundaries, overlap, and alignment of two subtitle files.

Pure functions of numbers and strings. A segment is (start, stop), in frames or seconds, stop exclusive; each recording
has one list of segments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["F1", "aligned_in_time", "boundary_f1", "mean_iou", "segment_f1"]

Segments = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class F1:
    """Precision, recall and F1 in percent."""

    precision: float
    recall: float
    f1: float

    @classmethod
    def of(cls, right: int, found: int, true: int) -> F1:
        """F1 from counts; if there is nothing to find and nothing was found, all scores are 100."""
        if not found and not true:
            return cls(100.0, 100.0, 100.0)
        precision, recall = 100 * right / max(found, 1), 100 * right / max(true, 1)
        both = precision + recall
        return cls(precision, recall, 2 * precision * recall / both if both else 0.0)


def boundary_f1(found: Sequence[Segments], true: Sequence[Segments], *, tolerance: float) -> F1:
    """F1 of segment boundaries over all recordings. Higher is better.

    A start (stop) is right if it is within `tolerance` of a true start (stop); each true boundary matches once.

    Args:
        found, true: the segments of each recording.
        tolerance: in the unit of the segments; a distance of exactly `tolerance` is right.

    Raises:
        ValueError: different numbers of recordings, a tolerance below 0.
    """
    _check(found, true)
    if tolerance < 0:
        raise ValueError(f"tolerance: needs at least 0, got {tolerance}")
    right = total_found = total_true = 0
    for ours, theirs in zip(found, true):
        for side in (0, 1):
            a, b = sorted(s[side] for s in ours), sorted(s[side] for s in theirs)
            right += _met(a, b, tolerance)
            total_found, total_true = total_found + len(a), total_true + len(b)
    return F1.of(right, total_found, total_true)


def segment_f1(found: Sequence[Segments], true: Sequence[Segments], *, overlap: float = 0.5) -> F1:
    """F1 of segments over all recordings. Higher is better.

    A segment is right if its intersection over union with a true one is at least `overlap`. Segments are matched one to
    one, with the maximum number of matches.

    Raises:
        ValueError: different numbers of recordings, an overlap that is not above 0 and at most 1.
    """
    _check(found, true)
    if not 0 < overlap <= 1:
        raise ValueError(f"overlap: needs a number above 0 and at most 1, got {overlap}")
    from scipy.optimize import linear_sum_assignment  # half a second, and every process lists the systems

    right = 0
    for ours, theirs in zip(found, true):
        if ours and theirs:
            enough = _ious(ours, theirs) >= overlap - 1e-9
            rows, columns = linear_sum_assignment(-enough.astype(float))
            right += int(enough[rows, columns].sum())
    return F1.of(right, sum(map(len, found)), sum(map(len, true)))


def mean_iou(found: Sequence[Segments], true: Sequence[Segments]) -> float:
    """Intersection over union of the segmented time, over all recordings; percent, higher is better.

    It ignores boundaries between adjacent segments; `segment_f1` does not.

    Raises:
        ValueError: different numbers of recordings.
    """
    _check(found, true)
    both = either = 0.0
    for ours, theirs in zip(found, true):
        a, b = _union(ours), _union(theirs)
        shared = sum(max(0.0, min(p[1], q[1]) - max(p[0], q[0])) for p in a for q in b)
        both += shared
        either += sum(stop - start for start, stop in (*a, *b)) - shared
    return 100 * both / either if either else 100.0


def aligned_in_time(
    found: Sequence[tuple[float, float, str]], true: Sequence[tuple[float, float, str]]
) -> list[tuple[str, str]]:
    """Aligns the sentences of two subtitle files: one (hypothesis, reference) pair per true cue.

    A found cue is assigned to the true cue with which it shares most time, or else to the nearest one, so superfluous
    text counts against the score. Several cues assigned to the same true cue are joined by spaces, in order of time. A
    true cue without any gets an empty hypothesis.

    Raises:
        ValueError: no true cues.
    """
    if not true:
        raise ValueError("subtitles are scored against reference cues, but the references have none")
    ordered = sorted(true)
    given: list[list[str]] = [[] for _ in ordered]
    for start, stop, text in sorted(found):
        shared = [min(stop, t[1]) - max(start, t[0]) for t in ordered]  # below 0: the gap between them
        given[int(np.argmax(shared))].append(text)
    return [(" ".join(words), text) for words, (_, _, text) in zip(given, ordered)]


def _met(a: Sequence[float], b: Sequence[float], tolerance: float) -> int:
    """Maximum number of pairs of sorted points at most `tolerance` apart, each point used once."""
    i = j = count = 0
    while i < len(a) and j < len(b):
        if abs(a[i] - b[j]) <= tolerance + 1e-9:
            count, i, j = count + 1, i + 1, j + 1
        elif a[i] < b[j]:
            i += 1
        else:
            j += 1
    return count


def _ious(a: Segments, b: Segments) -> np.ndarray:
    one, other = np.array(a, dtype=float), np.array(b, dtype=float)
    shared = np.minimum(one[:, None, 1], other[None, :, 1]) - np.maximum(one[:, None, 0], other[None, :, 0])
    shared = shared.clip(min=0)
    either = (one[:, 1] - one[:, 0])[:, None] + (other[:, 1] - other[:, 0])[None, :] - shared
    found: np.ndarray = shared / either
    return found


def _union(segments: Segments) -> list[tuple[float, float]]:
    merged: list[tuple[float, float]] = []
    for start, stop in sorted(segments):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], stop))
        else:
            merged.append((start, stop))
    return merged


def _check(found: Sequence[Segments], true: Sequence[Segments]) -> None:
    if len(found) != len(true):
        raise ValueError(f"needs segments for the same recordings, got {len(found)} and {len(true)} recordings")
    for segments in (*found, *true):
        for start, stop in segments:
            if not start < stop:
                raise ValueError(f"a segment needs start < stop, got {start} and {stop}")
