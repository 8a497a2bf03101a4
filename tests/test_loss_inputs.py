"""What every loss over frames owes its caller: padding without effect, lengths that are possible, finite gradients."""

import pytest
import torch

from signcl.losses import (
    distillation_loss,
    invariance_loss,
    pseudo_gloss_loss,
    sign_infonce,
    signcl_loss,
    sigreg_loss,
    slow_loss,
    token_clip_loss,
    word_contrast_loss,
)

WARM = torch.tensor(0.1)


def words(x):
    return torch.tensor([[1.0, 0.5], [0.0, 1.0], [1.0, 0.0]]).to(x)[:, None].expand(-1, x.shape[1], -1)


LOSSES = {
    "signcl": lambda x, n: signcl_loss(x, n, 1.5, distance_margin=5.0),
    "infonce": lambda x, n: sign_infonce(x, n, 1.5),
    "slow": slow_loss,
    "invariance": lambda x, n: invariance_loss(x, torch.arange(x.shape[2]).to(x).expand_as(x), n),
    "sigreg": lambda x, n: sigreg_loss(x, n, frames=None, generator=torch.Generator().manual_seed(1)),
    "word contrast": lambda x, n: word_contrast_loss(x, n, words(x), frames=None),
    "distillation": lambda x, n: distillation_loss(x, torch.arange(x.shape[2]).to(x).expand_as(x), n, temperature=2.0),
    "pseudo-gloss": lambda x, n: pseudo_gloss_loss(x, n, torch.eye(3, x.shape[2]), WARM, WARM),
    "tokens": lambda x, n: token_clip_loss(x, n, torch.ones(3, 1, x.shape[2]).to(x), [1, 1, 1], torch.tensor(1.0)),
}
each_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())


@pytest.fixture
def frames():
    return torch.randn(3, 12, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def graded(loss, x, lengths):
    x = x.clone().requires_grad_()
    value = loss(x, lengths)
    value.backward()
    assert value.isfinite()
    assert x.grad.isfinite().all()
    return value.detach(), x.grad


@each_loss
def test_padding_even_nan_has_no_effect_on_value_and_gradient(loss, frames):
    lengths = [12, 7, 1]
    value, gradient = graded(loss, frames, lengths)
    padded = torch.full((3, 15, 5), torch.nan, dtype=torch.float64)
    for clip, length in enumerate(lengths):
        padded[clip, :length] = frames[clip, :length]
    again, more = graded(loss, padded, torch.tensor(lengths))
    torch.testing.assert_close(again, value)
    for clip, length in enumerate(lengths):
        torch.testing.assert_close(more[clip, :length], gradient[clip, :length])
        assert not more[clip, length:].any()


@each_loss
def test_clips_without_frames_are_finite(loss, frames):
    graded(loss, frames, [12, 0, 1])
    graded(loss, frames, [0, 0, 0])


@each_loss
def test_frames_of_equal_numbers_get_gradients_of_the_usual_size(loss, frames):
    # A dead layer gives zeros: normalized, they have no direction. Dividing by 1e-12 gave gradients of 1e13.
    frames[0, :3] = 0
    assert graded(loss, frames, [12, 7, 1])[1].abs().max() < 1000


@each_loss
def test_impossible_lengths_are_refused(loss, frames):
    with pytest.raises(ValueError, match="got lengths up to 13 for features of 12 frames"):
        loss(frames, [13, 7, 1])
    with pytest.raises(ValueError, match="must be at least 0, got -2"):
        loss(frames, torch.tensor([12, -2, 1]))
    with pytest.raises(ValueError, match=r"one number per clip, \[3\]"):
        loss(frames, [12, 7])


def test_a_batch_without_frames_is_not_spread():
    assert sigreg_loss(torch.zeros(2, 4, 3), [0, 0], frames=4) == 0
