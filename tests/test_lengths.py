"""Lengths and numbers of words: lists and arrays work; masks and swapped arguments give a one-line error."""

import numpy as np
import pytest
import torch

from signcl import SignCL, sign_density_ratio
from signcl.losses import (
    ctc_loss,
    distillation_loss,
    estimate_frame_margin,
    pseudo_gloss_loss,
    sign_infonce,
    signcl_loss,
    slow_loss,
    token_similarity,
)

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
        (50, WORDS, "got the number 50"),
        (LENGTHS[:, None], WORDS, r"got \[2, 1\]; give squeeze\(1\)"),
        (LENGTHS / 50, WORDS, r"lengths must be counts, got 0\.8; multiply shares of T by T"),
        (torch.tensor([50, -1]), WORDS, "lengths must be at least 0, got -1"),
        (LENGTHS, [5, -4], "num_words must be at least 0, got -4"),
        (LENGTHS, torch.tensor([[5, 3, 2], [7, 1, 1]]), r"num_words .*got a table \[2, 3\]"),
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


def test_swapped_arguments_of_a_padded_batch():
    with pytest.raises(ValueError, match="look swapped for features of 96 frames"):
        LOSS(torch.randn(2, 96, 8), WORDS, LENGTHS)
    with pytest.raises(ValueError, match=r"num_frames \(up to 5\) and num_words \(up to 50\) look swapped"):
        estimate_frame_margin(WORDS, LENGTHS)
    with pytest.raises(ValueError, match=r"one number of frames and of words per clip, got \[2, 50\]"):
        estimate_frame_margin(MASK, WORDS)
    assert estimate_frame_margin([9, 6], [12, 10]).tolist() == [10, 10]  # fewer steps than words, after pooling


def test_features_are_a_float_tensor_with_the_batch_first():
    for features in (FEATURES.numpy(), FEATURES.tolist()):
        with pytest.raises(ValueError, match=r"SignCL needs features as a torch tensor \[B, T, D\], got"):
            LOSS(features, LENGTHS, WORDS)
    with pytest.raises(ValueError, match="the batch is the first dimension of features"):
        LOSS(FEATURES.transpose(0, 1), LENGTHS, WORDS)
    for margin in (-1, "20", float("nan")):
        with pytest.raises(ValueError, match="distance_margin of at least 0"):
            SignCL(distance_margin=margin)


LOG_PROBS = torch.zeros(2, 9, 5).log_softmax(2)
TAKE_LENGTHS = {
    "ctc_loss": lambda lengths: ctc_loss(LOG_PROBS, torch.tensor([[1, 2], [3, 0]]), lengths, [2, 1]),
    "distillation_loss": lambda lengths: distillation_loss(LOG_PROBS, LOG_PROBS, lengths),
    "pseudo_gloss_loss": lambda lengths: pseudo_gloss_loss(
        LOG_PROBS * 0, lengths, torch.ones(2, 5), torch.tensor(0.1), torch.tensor(0.1)
    ),
    "token_similarity": lambda lengths: token_similarity(LOG_PROBS, lengths, LOG_PROBS, lengths)[0].sum(),
    "sign_infonce": lambda lengths: sign_infonce(LOG_PROBS + torch.arange(5), lengths, 1.0),
}


@pytest.mark.parametrize("loss", TAKE_LENGTHS.values(), ids=TAKE_LENGTHS)
def test_every_loss_takes_lists_and_refuses_masks(loss):
    assert loss([9, 8]) == loss(torch.tensor([9, 8]))
    with pytest.raises(ValueError, match=r"lengths must be one number per clip, \[2\], got a mask \[2, 9\]"):
        loss(torch.ones(2, 9, dtype=torch.bool))


def test_density_takes_lists():
    assert sign_density_ratio([[0.0], [1.0], [10.0], [11.0]], [0, 0, 1, 1]).mean == pytest.approx(0.1)
    with pytest.raises(ValueError, match=r"got shapes \(4,\) and \(4, 1\)"):
        sign_density_ratio([0, 0, 1, 1], torch.tensor([[0.0], [1.0], [10.0], [11.0]]))
