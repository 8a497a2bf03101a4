"""Finds the frames of each sign: CTC forced alignment to a known gloss sequence, peak frames, alignment quality.

Pure functions of tensors on any device. Glosses are class numbers here; `blank` is the class "no sign". A recogniser
often has steps of several frames; `frame_spans` converts spans of steps to spans of frames. Paper section A.3 and
Table 9 (its aligner follows XmDA). docs/alignment.md explains the numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from signcl.data.batch import Span

__all__ = [
    "AlignmentQuality",
    "Fill",
    "alignment_quality",
    "forced_align",
    "forced_align_batch",
    "frame_spans",
    "peak_frames",
]

Fill = Literal["label", "nearest"]
NEVER = -math.inf


def forced_align(
    log_probs: Tensor, tokens: Sequence[int] | Tensor, blank: int = 0, *, fill: Fill = "label"
) -> list[Span]:
    """Finds the frames of each gloss on the most probable CTC path with exactly these glosses in this order.

    path = argmax sum_t log_probs[t, path_t] over paths of glosses and blanks that collapse to `tokens`; two equal
    neighbours have a blank between them. Ties are always broken the same way, whatever the batch.

    Args:
        log_probs: log-probabilities of one clip (after `log_softmax`), frames or steps. [T, C]
        tokens: gloss classes in order, without blanks. [G]
        blank: class of "no sign".
        fill: "label" gives a sign only the frames that the path labels with it; CTC models are peaky, so these can be
            few. "nearest" also gives every blank frame to the nearest sign (ties: the earlier one), so the spans tile
            the clip, including the rest before the first and after the last sign.

    Returns:
        One span per gloss, in order. `token` is its class; `score` is the mean log-probability of the gloss over the
        frames that the path labels with it (also for "nearest"). No glosses give no spans.

    Raises:
        ValueError: log_probs not [T, C], with NaN or above 0; a class outside 0..C-1 or blank among the glosses; fewer
            frames than glosses plus blanks between equal neighbours; no path with a probability above 0.

    Source: paper section A.3 (CTC classifier as aligner); Graves et al. 2006 for the states.
    """
    if log_probs.ndim != 2:
        raise ValueError(f"forced_align needs the log-probabilities of one clip [T, C], got {tuple(log_probs.shape)}.")
    return forced_align_batch(log_probs[None], [len(log_probs)], [tokens], blank, fill=fill)[0]


@torch.no_grad()
def forced_align_batch(
    log_probs: Tensor,
    lengths: Sequence[int] | Tensor,
    tokens: Sequence[Sequence[int] | Tensor],
    blank: int = 0,
    *,
    fill: Fill = "label",
) -> list[list[Span]]:
    """`forced_align` for many clips at once: one loop over time, vectorised over states and clips.

    Args:
        log_probs: padded log-probabilities; values on padding, even NaN, have no effect. [B, T, C]
        lengths: frames of each clip. [B]
        tokens: gloss classes of each clip.
        blank: class of "no sign".
        fill: see `forced_align`.

    Returns:
        The spans of each clip, the same as from `forced_align`.

    Raises:
        ValueError: as `forced_align`, with the index of the clip in the batch; counts that do not match.
    """
    frames, glosses = _check(log_probs, lengths, tokens, blank, fill)
    if not glosses or max(map(len, glosses)) == 0:
        return [[] for _ in glosses]
    device = log_probs.device
    states = torch.full((len(glosses), 2 * max(map(len, glosses)) + 1), blank, dtype=torch.long)
    for clip, row in enumerate(glosses):
        states[clip, 1 : 2 * len(row) : 2] = torch.tensor(row, dtype=torch.long)
    states = states.to(device)  # [B, L]: blank, first gloss, blank, second gloss, ..., blank
    length = torch.tensor(frames, device=device)
    last = torch.tensor([2 * len(row) for row in glosses], device=device)
    path = _viterbi(log_probs, length, states, last, blank, [2 * len(row) for row in glosses])  # [B, T]
    spans = []
    for clip, (row, steps) in enumerate(zip(glosses, path.cpu())):
        steps = steps[: frames[clip]]
        number = torch.div(steps, 2, rounding_mode="floor")[steps % 2 == 1]  # gloss of each frame that has one
        count = torch.bincount(number, minlength=len(row))
        start = torch.searchsorted(steps.contiguous(), torch.arange(len(row)) * 2 + 1)
        said = log_probs[clip, : frames[clip]].double().cpu()
        found = []
        for token, first, size in zip(row, start.tolist(), count.tolist()):
            found.append(Span(token, first, first + size, float(said[first : first + size, token].mean())))
        spans.append(_tile(found, frames[clip]) if fill == "nearest" else found)
    return spans


def _viterbi(log_probs: Tensor, length: Tensor, states: Tensor, last: Tensor, blank: int, ends: list[int]) -> Tensor:
    """State of each frame on the best path; padding frames repeat the last state. [B, T] long"""
    clips, padded, _ = log_probs.shape
    emit = log_probs.double().gather(2, states[:, None, :].expand(-1, padded, -1))  # [B, T, L]
    skip = torch.zeros_like(states, dtype=torch.bool)  # a gloss may follow a different one without a blank
    skip[:, 2:] = (states[:, 2:] != blank) & (states[:, 2:] != states[:, :-2])
    score = emit.new_full(states.shape, NEVER)
    score[:, :2] = emit[:, 0, :2]
    back = torch.zeros(clips, padded, states.shape[1], dtype=torch.int8, device=emit.device)  # states advanced
    for t in range(1, padded):
        one = torch.nn.functional.pad(score, (1, 0), value=NEVER)[:, :-1]
        two = torch.nn.functional.pad(score, (2, 0), value=NEVER)[:, :-2].masked_fill(~skip, NEVER)
        step = (one > score).to(torch.int8)
        best = torch.maximum(score, one)
        step = step.masked_fill(two > best, 2)
        running = (t < length)[:, None]
        score = torch.where(running, torch.maximum(best, two) + emit[:, t], score)
        back[:, t] = step * running
    row = torch.arange(clips, device=emit.device)
    end, before = score[row, last], score[row, (last - 1).clamp(min=0)]
    state = torch.where((last > 0) & (before >= end), last - 1, last)
    dead = torch.isneginf(score[row, state]) & (last > 0)
    if dead.any():
        clip = int(dead.nonzero()[0])
        raise ValueError(
            f"clip {clip} of the batch: every path through its {ends[clip] // 2} glosses has probability 0, because "
            f"log_probs has -inf where a gloss is needed; give a model's log_softmax, which has no -inf."
        )
    path = torch.empty(clips, padded, dtype=torch.long, device=emit.device)
    for t in range(padded - 1, -1, -1):
        path[:, t] = state
        state = state - back[row, t, state].long()
    return path


def _check(
    log_probs: Tensor, lengths: Sequence[int] | Tensor, tokens: Sequence[Sequence[int] | Tensor], blank: int, fill: str
) -> tuple[list[int], list[list[int]]]:
    if fill not in ("label", "nearest"):
        raise ValueError(f"forced_align needs fill 'label' or 'nearest', got {fill!r}.")
    if log_probs.ndim != 3 or not log_probs.is_floating_point():
        raise ValueError(
            f"forced_align needs floating log-probabilities [B, T, C], got {log_probs.dtype} {tuple(log_probs.shape)}."
        )
    clips, padded, classes = log_probs.shape
    frames = [int(length) for length in lengths]
    glosses = [[int(token) for token in row] for row in tokens]
    if not len(frames) == len(glosses) == clips:
        raise ValueError(
            f"forced_align needs one length and one gloss sequence per clip, got {clips} clips, {len(frames)} lengths "
            f"and {len(glosses)} sequences."
        )
    if not 0 <= blank < classes:
        raise ValueError(f"forced_align needs blank to be one of the classes 0..{classes - 1}, got {blank}.")
    for clip, (length, row) in enumerate(zip(frames, glosses)):
        if not 0 <= length <= padded:
            raise ValueError(f"clip {clip} of the batch needs a length of 0..{padded}, got {length}.")
        wrong = [token for token in row if not 0 <= token < classes or token == blank]
        if wrong:
            raise ValueError(
                f"clip {clip} of the batch: glosses must be classes 0..{classes - 1} other than blank {blank}, got "
                f"{wrong[:5]}; do glosses and log_probs use the same vocabulary?"
            )
        repeats = sum(a == b for a, b in pairwise(row))
        if row and length < len(row) + repeats:
            raise ValueError(
                f"clip {clip} of the batch has {length} frames, but its {len(row)} glosses need at least "
                f"{len(row) + repeats} ({repeats} equal neighbours need a blank between them); leave the clip out, or "
                f"align before temporal pooling."
            )
        said = log_probs[clip, :length]
        if said.numel() and not bool((said <= 1e-3).all()):  # NaN is not <= anything
            kind = "NaN" if bool(said.isnan().any()) else f"values up to {float(said.max()):.3g}"
            raise ValueError(
                f"clip {clip} of the batch: log-probabilities are at most 0, got {kind}; apply log_softmax to logits."
            )
    return frames, glosses


def _tile(spans: list[Span], num_frames: int) -> list[Span]:
    """Gives every frame to its nearest span (ties: the earlier one)."""
    edges = [0, *((a.stop + b.start + 1) // 2 for a, b in pairwise(spans)), num_frames]
    return [Span(span.token, *edge, span.score) for span, edge in zip(spans, pairwise(edges))]


def peak_frames(log_probs: Tensor, spans: Sequence[Span]) -> list[int]:
    """The frame of each span on which its gloss is most probable, the first of equals.

    An alternative to the centre, mean and medoid of `signcl.density.pool_spans` for choosing one vector per sign:
    `features[peak_frames(log_probs, spans)]` has one row per sign.

    Args:
        log_probs: log-probabilities of the clip, in the unit of the spans (frames or steps). [T, C]
        spans: with class numbers as tokens, as returned by `forced_align`.

    Raises:
        ValueError: log_probs not [T, C], a token that is not a class, a span that is empty or beyond the clip.

    Source: paper section A.3 (best frame by volunteers); the rule is ours.
    """
    if log_probs.ndim != 2:
        raise ValueError(f"peak_frames needs the log-probabilities of one clip [T, C], got {tuple(log_probs.shape)}.")
    frames, classes = log_probs.shape
    peaks = []
    for span in spans:
        if not isinstance(span.token, int) or not 0 <= span.token < classes:
            raise ValueError(
                f"peak_frames needs class numbers 0..{classes - 1} as tokens, got {span.token!r}; map glosses to the "
                f"recogniser's classes first."
            )
        if not 0 <= span.start < span.stop <= frames:
            raise ValueError(
                f"span {span.token}:{span.start}-{span.stop} needs 0 <= start < stop <= {frames}, the rows of "
                f"log_probs; if the span is in frames and log_probs in steps, convert one of them."
            )
        inside = log_probs[span.start : span.stop, span.token]
        peaks.append(span.start + int((inside == inside.max()).nonzero()[0]))
    return peaks


def frame_spans(
    spans: Sequence[Span], num_frames: int, *, stride: float, first_centre: float | None = None
) -> list[Span]:
    """Converts spans of recogniser steps to spans of frames; the inverse of `signcl.density.span_steps`.

    Step s is centred at first_centre + s * stride and covers half a stride on both sides. It gets the frames whose
    middle is in this range (at an edge: the earlier step), so `span_steps` returns the same steps.

    Args:
        spans: in steps, stop exclusive.
        num_frames: frames of the clip; spans are cut at its end.
        stride: frames per step.
        first_centre: centre of the first step, in frames; default stride / 2 (steps tile the clip).

    Raises:
        ValueError: a stride that is not positive, or a span without a frame in the clip.
    """
    if not stride > 0:
        raise ValueError(f"frame_spans needs a positive stride, got {stride}.")
    left = (stride / 2 if first_centre is None else first_centre) - stride / 2
    moved = []
    for span in spans:
        start, stop = (math.floor(left + edge * stride - 0.5) + 1 for edge in (span.start, span.stop))
        start, stop = max(start, 0), min(stop, num_frames)
        if start >= stop:
            raise ValueError(
                f"span {span.token}:{span.start}-{span.stop} in steps of {stride:g} frames has no frame of a clip of "
                f"{num_frames}; do both belong to the same clip?"
            )
        moved.append(Span(span.token, start, stop, span.score))
    return moved


@dataclass(frozen=True)
class AlignmentQuality:
    """How close aligned spans are to the true ones."""

    boundary_error: float
    """Mean distance of a start or stop from the true one, frames. Lower is better."""
    boundary_median: float
    """Median of these distances, frames."""
    within: float
    """Share of starts and stops at most `tolerance` frames off, 0..1. Higher is better."""
    tolerance: int
    sign_accuracy: float
    """Share of the frames of true spans that are in the aligned span of the same sign, 0..1. Higher is better."""
    frame_accuracy: float
    """Share of all frames with the right sign, or correctly without one, 0..1. Higher is better."""
    signs: int


def alignment_quality(
    found: Sequence[Sequence[Span]], truth: Sequence[Sequence[Span]], lengths: Sequence[int], *, tolerance: int = 2
) -> AlignmentQuality:
    """Compares aligned spans with the true ones, sign by sign.

    Args:
        found: aligned spans of each clip, with the same glosses in the same order as the true ones.
        truth: true spans of each clip.
        lengths: frames of each clip.
        tolerance: frames, for `within`.

    Raises:
        ValueError: counts that do not match, glosses that differ from the true ones, no signs, spans beyond their clip.
    """
    if not len(found) == len(truth) == len(lengths):
        raise ValueError(
            f"alignment_quality needs found, truth and lengths of the same clips, got {len(found)}, {len(truth)} and "
            f"{len(lengths)}."
        )
    errors: list[int] = []
    signed = hit = right = 0
    for clip, (ours, theirs, length) in enumerate(zip(found, truth, lengths)):
        if [span.token for span in ours] != [span.token for span in theirs]:
            raise ValueError(
                f"clip {clip}: glosses {[span.token for span in ours][:5]} were aligned, truth has "
                f"{[span.token for span in theirs][:5]}; compare forced alignments of the same glosses."
            )
        places = []
        for spans in (ours, theirs):
            place = torch.full((length,), -1)  # number of the sign on each frame, -1 = none
            for number, span in enumerate(spans):
                if not 0 <= span.start < span.stop <= length:
                    raise ValueError(f"clip {clip}: span {span.token}:{span.start}-{span.stop} of {length} frames.")
                place[span.start : span.stop] = number
            places.append(place)
        same, real = places[0] == places[1], places[1] >= 0
        signed, hit, right = signed + int(real.sum()), hit + int((same & real).sum()), right + int(same.sum())
        errors += [abs(a.start - b.start) for a, b in zip(ours, theirs)]
        errors += [abs(a.stop - b.stop) for a, b in zip(ours, theirs)]
    if not errors:
        raise ValueError("alignment_quality needs at least one true sign, got none.")
    off = torch.tensor(errors, dtype=torch.float64)
    return AlignmentQuality(
        boundary_error=float(off.mean()),
        boundary_median=float(off.quantile(0.5)),
        within=float((off <= tolerance).double().mean()),
        tolerance=tolerance,
        sign_accuracy=hit / signed,
        frame_accuracy=right / sum(lengths),
        signs=len(errors) // 2,
    )
