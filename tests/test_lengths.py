"""Lengths and numbers of words: lists and arrays work; masks and swapped arguments give a one-line error."""

import numpy as np
import pytest
import torch

from signcl import SignCL
from signcl.losses import signcl_loss, slow_loss

FEATURES = torch.randn(2, 50, 8, generator=torch.Generator().manual_seed(0))
LENGTHS, WORDS = torch.tensor([50, 40]), torch.tensor([5, 4])
LOSS = SignCL(distance_margin=5.0)


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor])
def test_lists_and_arrays_are_numbers_too(kind):
    lengths, words = kind([50, 40]), kind([5, 4])
    assert LOSS(FEATURES, lengths, words) == LOSS(FEATURES, LENGTHS, WORDS)
    assert slow_loss(FEATURES, lengths) == slow_loss(FEATURES, LENGTHS)
    margin = kind([12.0, 10.0])
    assert signcl_loss(FEATURES, lengths, margin) == signcl_loss(FEATURES, LENGTHS, torch.tensor([12.0, 10.0]))


MASK = torch.arange(50) < LENGTHS[:, None]


@pytest.mark.parametrize(
    ("lengths", "words", "said"),
    [
        (MASK, WORDS, r"lengths must be one number per clip, \[2\], got a mask \[2, 50\]; give .*mask\.sum\(1\)"),
        (MASK.int(), WORDS, r"got a mask \[2, 50\]; give sum\(1\)"),
        (None, WORDS, "lengths must be one number per clip, .*got None"),
        (LENGTHS, None, "num_words must be one number per clip, .*got None"),
        (LENGTHS, ["rain tomorrow", "sun"], "got text; signcl.count_words"),
        (LENGTHS, torch.tensor([5, 4, 3]), r"num_words must be one number per clip, \[2\], got \[3\]"),
        (WORDS, LENGTHS, r"lengths \(up to 5\) and num_words \(up to 50\) look swapped"),
        (torch.tensor([50, 60]), WORDS, "lengths up to 60 for features of 50 frames"),
        ({"a": 1}, WORDS, "lengths must be one number per clip, .*got dict"),
    ],
)
def test_a_mix_up_is_one_line(lengths, words, said):
    with pytest.raises(ValueError, match=said):
        LOSS(FEATURES, lengths, words)


def test_short_clips_of_long_sentences_are_no_mix_up():
    """After pooling a clip may have fewer steps than its sentence has words."""
    assert torch.isfinite(LOSS(FEATURES, torch.tensor([9, 6]), torch.tensor([12, 10])))
    assert torch.isfinite(LOSS(FEATURES, torch.tensor([50, 6]), torch.tensor([50, 10])))


def test_one_clip_without_a_batch_is_told_so():
    with pytest.raises(ValueError, match=r"one clip is features\[None\]"):
        LOSS(FEATURES[0], [50], [5])
