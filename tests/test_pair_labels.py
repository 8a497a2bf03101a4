"""What SignCL's pairs are: by hand, by a plain double loop, and as `signcl corpus stats` prints them."""

import numpy as np
import pytest

from signcl.data.batch import Sample, Span
from signcl.data.corpus_stats import split_stats
from signcl.data.pair_labels import PairLabels, count_pairs


def test_a_clip_by_hand():
    # Frames 0..5: A A . B B .  and a gap of 2: the negatives are pairs 3 and more apart, 03 04 05 14 15 25, twice.
    found = count_pairs([Span("A", 0, 2), Span("B", 3, 5)], 6, 1.0)
    assert (found.frames, found.sign_frames, found.without_negative, found.negatives) == (6, 4, 0, 12)
    assert found.transition_negatives == 6  # 05 15 25
    assert found.rest_negatives == 6  # all of frame 5, after the last sign
    assert found.sign_frames_with_sign == 4
    assert found.same_gloss_negatives == 0
    assert count_pairs([Span("A", 0, 2), Span("A", 3, 5)], 6, 1.0).same_gloss_negatives == 6  # 03 04 14


@pytest.mark.parametrize("margin", [0.0, 1.5, 2.3, 4.0, 30.0])
def test_a_double_loop_agrees(margin):
    draw = np.random.default_rng(0)
    starts = np.sort(draw.integers(0, 36, size=6))
    spans = [Span("ABC"[i % 3], int(s), int(s) + int(draw.integers(1, 6))) for i, s in enumerate(starts)]
    glosses = [{span.token for span in spans if span.start <= t < span.stop} for t in range(40)]
    first, last = min(s.start for s in spans), max(s.stop for s in spans)
    expected = PairLabels(frames=40, sign_frames=sum(map(bool, glosses)))
    for t in range(40):
        far = [j for j in range(40) if abs(t - j) > 2 * margin]
        expected += PairLabels(
            without_negative=not far,
            sign_frames_with_sign=bool(glosses[t] and any(glosses[j] for j in far)),
            negatives=len(far),
            transition_negatives=sum(not (glosses[t] and glosses[j]) for j in far),
            same_gloss_negatives=sum(bool(glosses[t] & glosses[j]) for j in far),
            rest_negatives=sum(not (first <= t < last and first <= j < last) for j in far),
        )
    assert count_pairs(spans, 40, margin) == expected


def test_stats_have_the_shares_and_take_the_rule():
    spans = (Span("A", 0, 20), Span("B", 20, 40), Span("C", 44, 60))
    samples = [Sample("a", "one two three four five six", gloss=("A", "B", "C"), num_frames=60, spans=spans)]
    wide, near = split_stats(samples, samples), split_stats(samples, samples, 0.5, 5)
    assert wide.sign_frames_share == pytest.approx(56 / 60)
    assert wide.frames_without_negative == pytest.approx(34 / 60)  # margin 23: frames 0-12 and 47-59 have a partner
    assert near.frames_without_negative == 0
    assert near.signs_with_sign_negative == 1
    assert split_stats([Sample("a", "x", num_frames=9)], []).transition_negatives is None
