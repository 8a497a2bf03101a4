"""Searches: exact where everything can be tried, repetitions kept, padding unread."""

import itertools
import math

import numpy as np
import pytest
import torch

from signcl.systems.parts.search import (
    beam_search,
    beam_search_alphas,
    beam_search_released,
    ctc_greedy,
    ctc_prefix_beam,
    length_divisor,
)

BLANK, A, B = 0, 1, 2


def collapse(alignment):
    merged = [c for c, _ in itertools.groupby(alignment)]
    return tuple(c for c in merged if c != BLANK)


def every_sequence(log_probs):
    """log p of every gloss sequence, by walking through all alignments. [S, C] -> dict"""
    found: dict[tuple[int, ...], float] = {}
    for alignment in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        score = float(sum(log_probs[t, c] for t, c in enumerate(alignment)))
        key = collapse(alignment)
        found[key] = float(np.logaddexp(found.get(key, -np.inf), score))
    return found


@pytest.mark.parametrize("seed", range(5))
def test_prefix_search_with_room_is_exhaustive_search(seed):
    torch.manual_seed(seed)
    log_probs = (torch.randn(2, 5, 3) * 2).log_softmax(dim=2)
    found = ctc_prefix_beam(log_probs, torch.tensor([5, 3]), beams=200)
    for paths, rows in zip(found, (log_probs[0], log_probs[1, :3])):
        truth = every_sequence(rows.double().numpy())
        assert {path.classes for path in paths} == set(truth)
        assert all(path.score == pytest.approx(truth[path.classes], abs=1e-5) for path in paths)
        assert [path.score for path in paths] == sorted((p.score for p in paths), reverse=True)
        assert sum(math.exp(path.score) for path in paths) == pytest.approx(1.0, abs=1e-5)


def test_a_narrow_prefix_beam_still_finds_the_best_of_peaked_probabilities():
    torch.manual_seed(0)
    log_probs = (torch.randn(3, 6, 4) * 6).log_softmax(dim=2)
    for paths, rows in zip(ctc_prefix_beam(log_probs, torch.tensor([6, 6, 6]), beams=20), log_probs):
        truth = every_sequence(rows.double().numpy())
        assert paths[0].classes == max(truth, key=truth.__getitem__)
        assert len(paths) <= 20 < len(truth)


def test_the_sum_over_alignments_can_beat_the_best_alignment():
    # p(blank) = 0.6, p(a) = 0.4 twice: the best path is blank blank, 0.36; a has 0.4*0.4 + 2*0.4*0.6 = 0.64
    log_probs = torch.tensor([[[0.6, 0.4], [0.6, 0.4]]]).log()
    lengths = torch.tensor([2])
    assert ctc_greedy(log_probs, lengths)[0].classes == ()
    best = ctc_prefix_beam(log_probs, lengths, beams=4)[0][0]
    assert best.classes == (A,)
    assert math.exp(best.score) == pytest.approx(0.64)


def test_a_gloss_signed_twice_stays_twice():
    # neccam/slt merges equal neighbours of the search's result, so that a a can never come out
    def peaked(*classes):
        return (torch.nn.functional.one_hot(torch.tensor([classes]), 3) * 20.0).log_softmax(dim=2)

    for search in (ctc_greedy, lambda p, n: [paths[0] for paths in ctc_prefix_beam(p, n, beams=5)]):
        assert search(peaked(A, BLANK, A, B), torch.tensor([4]))[0].classes == (A, A, B)
        assert search(peaked(A, A, BLANK, B), torch.tensor([4]))[0].classes == (A, B)
        assert search(peaked(BLANK, BLANK), torch.tensor([2]))[0].classes == ()


def test_padding_is_not_read():
    torch.manual_seed(0)
    log_probs = torch.randn(1, 4, 5).log_softmax(dim=2)
    padded = torch.cat([log_probs, torch.full((1, 3, 5), float("nan"))], dim=1)
    lengths = torch.tensor([4])
    assert ctc_greedy(padded, lengths) == ctc_greedy(log_probs, lengths)
    assert ctc_prefix_beam(padded, lengths) == ctc_prefix_beam(log_probs, lengths)


def test_impossible_inputs_are_named():
    log_probs = torch.zeros(1, 2, 3)
    with pytest.raises(ValueError, match="at least 1 beam"):
        ctc_prefix_beam(log_probs, torch.tensor([2]), beams=0)
    with pytest.raises(ValueError, match=r"step_lengths in 0\.\.2, got \[3\]"):
        ctc_greedy(log_probs, torch.tensor([3]))
    with pytest.raises(ValueError, match=r"log_probs \[B, S, C\]"):
        ctc_greedy(log_probs[0], torch.tensor([2]))
    with pytest.raises(ValueError, match="beams >= 1"):
        beam_search(lambda last, rows: log_probs[0], batch_size=1, start_id=1, end_id=2, pad_id=0, beams=0)


PAD, START, END, VOCABULARY = 0, 1, 2, 5


class Chain:
    """A decoder whose next token depends on all before it, with a state per row that must be reordered."""

    def __init__(self, seed, clips, beams):
        self.random = np.random.default_rng(seed)
        self.table: dict[tuple[int, ...], torch.Tensor] = {}
        self.clips, self.beams, self.rows = clips, beams, []

    def next(self, clip, prefix):
        if (clip, *prefix) not in self.table:
            draw = np.random.default_rng((7, clip, *prefix)).normal(size=VOCABULARY) * 2
            draw[START] = -50.0
            self.table[(clip, *prefix)] = torch.tensor(draw).masked_fill(torch.arange(VOCABULARY) == PAD, -torch.inf)
        return self.table[(clip, *prefix)].log_softmax(dim=0)

    def __call__(self, last, rows):
        if rows is None:
            self.rows = [() for _ in last]
        else:
            self.rows = [(*self.rows[origin], token) for origin, token in zip(rows.tolist(), last.tolist())]
        return torch.stack([self.next(i // self.beams, prefix) for i, prefix in enumerate(self.rows)]).float()


def exhaustive(clip, alpha, most):
    chain, best = Chain(0, 1, 1), (-math.inf, ())
    prefixes = [((), 0.0)]
    for length in range(1, most + 1):
        grown = []
        for prefix, score in prefixes:
            for token in range(1, VOCABULARY):
                new = ((*prefix, token), score + float(chain.next(clip, prefix)[token]))
                if token == END or length == most:
                    best = max(best, (new[1] / length_divisor(length, alpha), new[0]))
                else:
                    grown.append(new)
        prefixes = grown
    return best[1]


@pytest.mark.parametrize("alpha", [-1.0, 0.0, 1.0, 3.0])
def test_beam_search_with_room_is_exhaustive_search(alpha):
    most, clips, beams = 4, 3, 300
    found = beam_search(
        Chain(0, clips, beams), batch_size=clips, start_id=START, end_id=END, pad_id=PAD, beams=beams, alpha=alpha,
        max_new_tokens=most,
    )  # fmt: skip
    for clip, (row, log_prob) in enumerate(zip(found.ids.tolist(), found.log_probs.tolist())):
        words = tuple(t for t in row if t != PAD)
        assert words == exhaustive(clip, alpha, most)
        chain = Chain(0, 1, 1)  # the penalty moves which sentence is best, never its probability
        assert log_prob == pytest.approx(sum(float(chain.next(clip, words[:i])[t]) for i, t in enumerate(words)))


@pytest.mark.parametrize("released", [False, True])
def test_several_sentences_of_one_search_are_in_order_and_the_first_stays_the_same(released):
    search = beam_search_released if released else beam_search_alphas
    clips, beams, alphas = 3, 4, [-1.0, 1.0]
    options = {"batch_size": clips, "start_id": START, "end_id": END, "pad_id": PAD, "beams": beams, "alphas": alphas}
    alone = search(Chain(0, clips, beams), max_new_tokens=6, **options)
    several = search(Chain(0, clips, beams), max_new_tokens=6, most=3, **options)
    for alpha, one, three in zip(alphas, alone, several):
        rows, sums = three.ids.tolist(), three.log_probs.view(clips, 3)
        assert torch.equal(sums[:, 0], one.log_probs)
        for clip in range(clips):
            said = [tuple(t for t in row if t != PAD) for row in rows[3 * clip : 3 * clip + 3]]
            assert said[0] == tuple(t for t in one.ids[clip].tolist() if t != PAD)
            assert released or len(set(said)) == 3
            for words, log_prob in zip(said, sums[clip].tolist()):
                chain = Chain(0, 1, 1)
                by_hand = sum(float(chain.next(clip, words[:i])[t]) for i, t in enumerate(words))
                assert log_prob == pytest.approx(by_hand, abs=1e-4)
            scores = [s / length_divisor(len(w), alpha) for w, s in zip(said, sums[clip].tolist())]
            assert released or scores == sorted(scores, reverse=True)
    if not released:
        # a vocabulary of one word besides the end: fewer sentences than asked for
        only = torch.tensor([[-torch.inf, -torch.inf, 0.0, -torch.inf, -torch.inf]])
        found = beam_search(lambda last, rows: only.repeat(len(last), 1), batch_size=1, start_id=START, end_id=END,
                            pad_id=PAD, beams=3, most=3)  # fmt: skip
        assert found.log_probs.tolist() == [0.0, -torch.inf, -torch.inf]
        with pytest.raises(ValueError, match="1 to 2 sentences per clip with 2 beams, got most=3"):
            beam_search(Chain(0, 1, 2), batch_size=1, start_id=START, end_id=END, pad_id=PAD, beams=2, most=3)


def test_one_beam_is_greedy_whatever_the_penalty():
    clips, most = 6, 7
    greedy = []
    for clip in range(clips):
        chain, prefix = Chain(0, 1, 1), ()
        while len(prefix) < most and (not prefix or prefix[-1] != END):
            prefix = (*prefix, int(chain.next(clip, prefix).argmax()))
        greedy.append(prefix)
    for alpha in (-1.0, 2.0):
        found = beam_search(
            Chain(0, clips, 1), batch_size=clips, start_id=START, end_id=END, pad_id=PAD, beams=1, alpha=alpha,
            max_new_tokens=most,
        )  # fmt: skip
        assert [tuple(t for t in row if t != PAD) for row in found.ids.tolist()] == greedy


def test_the_penalty_by_hand():
    assert length_divisor(1, 1.0) == 1.0
    assert length_divisor(7, 2.0) == 4.0
    assert length_divisor(7, -1.0) == 1.0
    # end at once: ln 0.5 = -0.69. Then "3 end": ln 0.45 = -0.80, which wins once divided by (7/6)^2 = 1.36: -0.59
    first = torch.tensor([0.0, 0.0, 0.5, 0.45, 0.05]).log()
    then = torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0]).log()

    def step(last, rows):
        return torch.stack([first if token == START else then for token in last.tolist()])

    options = {"batch_size": 1, "start_id": START, "end_id": END, "pad_id": PAD, "beams": 3, "max_new_tokens": 5}
    assert beam_search(step, alpha=-1.0, **options).ids.tolist() == [[END]]
    assert beam_search(step, alpha=2.0, **options).ids.tolist() == [[3, END]]


@pytest.mark.parametrize("beams", [1, 2, 4])
def test_one_search_serves_every_penalty(beams):
    clips, alphas = 5, [-1.0, 0.0, 1.0, 3.0, 5.0]
    options = {
        "batch_size": clips,
        "start_id": START,
        "end_id": END,
        "pad_id": PAD,
        "beams": beams,
        "max_new_tokens": 9,
    }
    together = beam_search_alphas(Chain(0, clips, beams), alphas=alphas, **options)
    for alpha, found in zip(alphas, together):
        alone = beam_search(Chain(0, clips, beams), alpha=alpha, **options)
        assert torch.equal(found.ids, alone.ids)
        assert torch.equal(found.log_probs, alone.log_probs)
    assert (beams == 1) == all(torch.equal(found.ids, together[0].ids) for found in together)
