"""Forced alignment against drawn answers, exhaustive search and torch's CTC loss; what is impossible is named."""

import itertools
import math
from itertools import groupby

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from signcl.data.batch import Span
from signcl.density import span_steps
from signcl.density.forced_align import alignment_quality, forced_align, forced_align_batch, frame_spans, peak_frames


def drawn(path: list[int], classes: int = 6, sure: float = 0.9) -> torch.Tensor:
    """Log-probabilities that have the path as their answer. [T, C]"""
    said = torch.full((len(path), classes), (1 - sure) / (classes - 1))
    said[torch.arange(len(path)), torch.tensor(path)] = sure
    return said.log()


def random_log_probs(frames: int, classes: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(frames, classes, generator=generator, dtype=torch.float64)).log_softmax(dim=-1)


def collapsed(path: tuple[int, ...], blank: int) -> list[int]:
    return [token for token, _ in groupby(path) if token != blank]


def spans_of(path: tuple[int, ...], blank: int) -> list[tuple[int, int, int]]:
    spans, start = [], 0
    for token, run in groupby(path):
        stop = start + len(list(run))
        if token != blank:
            spans.append((token, start, stop))
        start = stop
    return spans


def searched(log_probs: torch.Tensor, tokens: list[int], blank: int) -> tuple[float, tuple[int, ...]]:
    """Best score and path among all of them."""
    frames, classes = log_probs.shape
    rows = log_probs.tolist()
    paths = [p for p in itertools.product(range(classes), repeat=frames) if collapsed(p, blank) == tokens]
    return max((math.fsum(rows[t][k] for t, k in enumerate(path)), path) for path in paths)


def triples(spans: list[Span]) -> list[tuple[int, int, int]]:
    return [(int(span.token), span.start, span.stop) for span in spans]


def test_an_answer_worked_by_hand():
    # Frames say: blank, 2, 2, blank, 1. Score of gloss 2: mean of two log 0.9.
    spans = forced_align(drawn([0, 2, 2, 0, 1], classes=3), [2, 1])
    assert triples(spans) == [(2, 1, 3), (1, 4, 5)]
    assert [span.score for span in spans] == pytest.approx([math.log(0.9)] * 2, rel=1e-6)


def test_glosses_may_follow_one_another_without_a_blank_unless_they_are_equal():
    assert triples(forced_align(drawn([1, 1, 2, 2], classes=3), [1, 2])) == [(1, 0, 2), (2, 2, 4)]
    # No frame says blank, yet one must: the middle of three.
    assert triples(forced_align(drawn([1, 1, 1], classes=3), [1, 1])) == [(1, 0, 1), (1, 2, 3)]


def test_the_true_glosses_win_over_what_the_frames_say():
    spans = forced_align(drawn([0, 3, 3, 0, 2], classes=4), [1, 2])
    assert [span.token for span in spans] == [1, 2]
    assert triples(spans)[1] == (2, 4, 5)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 6)), min_size=1, max_size=12), st.integers(0, 5))
def test_the_drawn_path_comes_back(runs, blank):
    path = tuple(itertools.chain.from_iterable([token] * count for token, count in runs))
    spans = forced_align(drawn(list(path)), collapsed(path, blank), blank)
    assert triples(spans) == spans_of(path, blank)


@pytest.mark.parametrize("blank", [0, 2])
@pytest.mark.parametrize("tokens", [[1], [1, 1], [1, 3], [3, 1, 3], [1, 1, 3]])
def test_exhaustive_search_finds_the_same_path_and_score(tokens, blank):
    for seed in range(6):
        frames = len(tokens) + 2 + seed % 2
        log_probs = random_log_probs(frames, 4, seed)
        best, path = searched(log_probs, tokens, blank)
        spans = forced_align(log_probs, tokens, blank)
        assert triples(spans) == spans_of(path, blank)
        of_spans = math.fsum(span.score * (span.stop - span.start) for span in spans)
        of_blanks = math.fsum(float(log_probs[t, blank]) for t, token in enumerate(path) if token == blank)
        assert of_spans + of_blanks == pytest.approx(best, abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_torchs_ctc_loss_at_temperature_zero_agrees(seed):
    # log sum over paths of exp(beta * score), over beta, tends to the best score; its gradient to the best path.
    log_probs = random_log_probs(60, 12, seed)
    tokens = torch.randint(1, 12, (15,), generator=torch.Generator().manual_seed(seed))
    tokens[4] = tokens[3]
    beta = 2000.0
    cold = (beta * log_probs)[:, None].requires_grad_()
    loss = F.ctc_loss(cold, tokens[None], torch.tensor([60]), torch.tensor([15]), reduction="sum")
    loss.backward()
    occupied = cold.grad[:, 0] - cold.detach()[:, 0].exp()  # torch adds exp(log_probs) to minus the occupation
    path = (-occupied).argmax(dim=1)
    spans = forced_align(log_probs, tokens)
    assert triples(spans) == spans_of(tuple(path.tolist()), 0)
    total = log_probs[torch.arange(60), path].sum()
    assert -loss.item() / beta == pytest.approx(float(total), abs=0.05)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.sampled_from(["label", "nearest"]))
def test_a_batch_is_its_clips_whatever_stands_on_padding(seed, fill):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(9, 20, (4,), generator=generator).tolist()
    counts = [0, *torch.randint(1, 5, (3,), generator=generator).tolist()]
    tokens = [torch.randint(1, 6, (count,), generator=generator).tolist() for count in counts]
    clips = [random_log_probs(length, 6, seed + length) for length in lengths]
    padded = torch.full((4, 23, 6), float("nan"), dtype=torch.float64)
    for row, clip in zip(padded, clips):
        row[: len(clip)] = clip
    together = forced_align_batch(padded, lengths, tokens, fill=fill)
    assert together == [forced_align(clip, row, fill=fill) for clip, row in zip(clips, tokens)]
    for length, row, spans in zip(lengths, tokens, together):
        assert [span.token for span in spans] == row
        assert all(a.stop <= b.start for a, b in itertools.pairwise(spans))
        assert all(0 <= span.start < span.stop <= length for span in spans)


def test_nearest_gives_every_blank_to_the_nearest_sign():
    log_probs = drawn([0, 0, 1, 0, 0, 0, 2, 0, 0, 3, 0], classes=4)
    spans = forced_align(log_probs, [1, 2, 3], fill="nearest")
    # Between 1 (frame 2) and 2 (frame 6) lie 3, 4, 5: the middle one goes to the earlier sign.
    assert triples(spans) == [(1, 0, 5), (2, 5, 8), (3, 8, 11)]
    assert [s.score for s in spans] == [s.score for s in forced_align(log_probs, [1, 2, 3])]


def test_exactly_enough_frames_and_no_glosses():
    assert triples(forced_align(random_log_probs(3, 4), [1, 1])) == [(1, 0, 1), (1, 2, 3)]
    assert forced_align(random_log_probs(3, 4), []) == []
    assert forced_align(torch.zeros(0, 4), []) == []
    assert forced_align_batch(torch.zeros(0, 5, 4), [], []) == []


def test_half_precision_is_summed_in_double():
    log_probs = random_log_probs(200, 8).half()
    assert forced_align(log_probs, [3, 1, 4]) == forced_align(log_probs.double(), [3, 1, 4])


@pytest.mark.parametrize(
    ("log_probs", "tokens", "options", "match"),
    [
        (torch.zeros(3), [1], {}, r"one clip \[T, C\]"),
        (random_log_probs(2, 4), [1, 1], {}, r"has 2 frames, but its 2 glosses need at least 3 \(1 equal"),
        (random_log_probs(2, 4), [1, 2, 3], {}, "need at least 3"),
        (random_log_probs(5, 4), [1, 4], {}, r"classes 0\.\.3 other than blank 0, got \[4\]"),
        (random_log_probs(5, 4), [0, 1], {}, r"other than blank 0, got \[0\]"),
        (random_log_probs(5, 4), [1], {"blank": 7}, r"blank to be one of the classes 0\.\.3, got 7"),
        (random_log_probs(5, 4), [1], {"fill": "all"}, "fill 'label' or 'nearest', got 'all'"),
        (torch.full((5, 4), 3.0), [1], {}, "at most 0, got values up to 3; apply log_softmax"),
        (torch.full((5, 4), float("nan")), [1], {}, "at most 0, got NaN"),
        (torch.zeros(5, 4, dtype=torch.long), [1], {}, "floating log-probabilities"),
        (F.pad(torch.full((5, 1), -1.0), (0, 3), value=-math.inf), [1], {}, "every path .* has probability 0"),
    ],
)
def test_the_impossible_is_named(log_probs, tokens, options, match):
    with pytest.raises(ValueError, match=match):
        forced_align(log_probs, tokens, **options)


def test_counts_of_a_batch_must_fit():
    log_probs = random_log_probs(5, 4)[None]
    with pytest.raises(ValueError, match="1 clips, 2 lengths and 1 sequences"):
        forced_align_batch(log_probs, [5, 5], [[1]])
    with pytest.raises(ValueError, match=r"length of 0\.\.5, got 6"):
        forced_align_batch(log_probs, [6], [[1]])
    with pytest.raises(ValueError, match="clip 1 of the batch has 1 frames"):
        forced_align_batch(log_probs.expand(2, -1, -1), [5, 1], [[1], [1, 2]])


def test_the_peak_is_the_earliest_most_probable_frame_of_the_gloss():
    log_probs = torch.tensor([[0.1, 0.9], [0.5, 0.5], [0.2, 0.8], [0.2, 0.8]]).log()
    assert peak_frames(log_probs, [Span(1, 1, 4), Span(0, 0, 2), Span(1, 0, 4)]) == [2, 1, 0]
    assert peak_frames(log_probs, []) == []
    with pytest.raises(ValueError, match="needs class numbers"):
        peak_frames(log_probs, [Span("HELLO", 0, 1)])
    with pytest.raises(ValueError, match="0 <= start < stop <= 4"):
        peak_frames(log_probs, [Span(1, 3, 5)])
    with pytest.raises(ValueError, match=r"one clip \[T, C\]"):
        peak_frames(log_probs[0], [])


def test_steps_become_frames():
    # Steps of 4 frames that tile the clip: step 1 is frames 4..7.
    assert frame_spans([Span(1, 1, 2, -0.5)], 10, stride=4) == [Span(1, 4, 8, -0.5)]
    assert frame_spans([Span(1, 1, 3)], 10, stride=4) == [Span(1, 4, 10)]
    # Unpadded K5-P2-K5-P2: the first step looks at frame 8 and stands for 6..9.
    assert frame_spans([Span(1, 0, 1)], 40, stride=4, first_centre=8) == [Span(1, 6, 10)]
    with pytest.raises(ValueError, match="no frame of a clip of 4"):
        frame_spans([Span(1, 1, 2)], 4, stride=4)
    with pytest.raises(ValueError, match="positive stride, got 0"):
        frame_spans([], 4, stride=0)


@given(st.integers(1, 9), st.integers(0, 20), st.integers(1, 9), st.sampled_from([None, 0.0, 8.0]))
def test_frames_of_steps_lead_back_to_the_steps(stride, start, count, first):
    spans = [Span(1, start + 4, start + 4 + count)]
    frames = frame_spans(spans, 10_000, stride=stride, first_centre=first)
    assert span_steps(1000, frames, stride=stride, first_centre=first) == [(start + 4, start + 4 + count)]


def test_quality_worked_by_hand():
    # Starts off by 1 and 0, stops by 0 and 4. True frames 2..5 and 6..9: aligned 3..5 and 6..9 of them, so 7 of 8.
    # Of 14 frames frame 2 and frames 10..13 are wrong.
    truth, found = [[Span(1, 2, 6), Span(1, 6, 10)]], [[Span(1, 3, 6), Span(1, 6, 14)]]
    quality = alignment_quality(found, truth, [14])
    assert (quality.boundary_error, quality.boundary_median, quality.within) == (5 / 4, 0.5, 0.75)
    assert (quality.sign_accuracy, quality.frame_accuracy, quality.signs) == (7 / 8, 9 / 14, 2)
    same = alignment_quality(truth, truth, [14])
    assert (same.boundary_error, same.within, same.sign_accuracy, same.frame_accuracy) == (0, 1, 1, 1)


def test_quality_names_what_does_not_fit():
    spans = [[Span(1, 0, 2)]]
    with pytest.raises(ValueError, match=r"glosses \[1\] were aligned, truth has \[2\]"):
        alignment_quality(spans, [[Span(2, 0, 2)]], [5])
    with pytest.raises(ValueError, match="got 1, 1 and 2"):
        alignment_quality(spans, spans, [5, 5])
    with pytest.raises(ValueError, match="1:0-2 of 1 frames"):
        alignment_quality(spans, spans, [1])
    with pytest.raises(ValueError, match="at least one true sign"):
        alignment_quality([[]], [[]], [5])
