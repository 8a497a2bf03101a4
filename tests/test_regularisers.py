"""Slow, invariance and SIGReg: by hand, plain loops, padding, batch size, gradients; and as terms of every system."""

import itertools
import math

import pytest
import torch

from signcl.losses import invariance_loss, normalized_frames, signcl_loss, sigreg_loss, slow_loss
from signcl.losses.regularisers import KNOTS, WIDEST


@pytest.fixture
def clips():
    torch.manual_seed(0)
    return torch.randn(3, 7, 8), torch.tensor([7, 4, 1])


def test_a_step_by_hand():
    # (1, -1) and (-1, 1) are normalized already: each number moves by 2, so the mean square is 4.
    features = torch.tensor([[[1.0, -1.0], [-1.0, 1.0], [-1.0, 1.0]]])
    assert float(slow_loss(features, torch.tensor([3]))) == pytest.approx((4 + 0) / 2, rel=1e-4)
    assert float(slow_loss(features, torch.tensor([2]))) == pytest.approx(4, rel=1e-4)
    assert float(slow_loss(features, torch.tensor([1]))) == 0
    assert float(invariance_loss(features, -features, torch.tensor([3]))) == pytest.approx(4, rel=1e-4)


def test_plain_loops_agree(clips):
    features, lengths = clips
    other = torch.randn_like(features)
    z, views = normalized_frames(features), normalized_frames(other)
    steps, same = [], []
    for b, length in enumerate(lengths.tolist()):
        pairs = [float((z[b, t] - z[b, t + 1]).square().mean()) for t in range(length - 1)]
        steps.append(sum(pairs) / len(pairs) if pairs else 0.0)
        same.append(sum(float((z[b, t] - views[b, t]).square().mean()) for t in range(length)) / length)
    assert float(slow_loss(features, lengths)) == pytest.approx(sum(steps) / 3, rel=1e-5)
    assert float(invariance_loss(features, other, lengths)) == pytest.approx(sum(same) / 3, rel=1e-5)


def test_sigreg_is_its_integral(clips):
    features, lengths = clips
    found = sigreg_loss(features.double(), lengths, directions=5, generator=torch.Generator().manual_seed(1))
    rows = normalized_frames(features.double())
    rows = torch.cat([rows[b, :length] for b, length in enumerate(lengths.tolist())])
    axes = torch.randn(8, 5, generator=torch.Generator().manual_seed(1)).double()
    total = 0.0
    for axis in axes.T:
        seen = (rows @ (axis / axis.norm())).tolist()
        knots = [-WIDEST + 2 * WIDEST * k / (KNOTS - 1) for k in range(KNOTS)]
        values = []
        for u in knots:
            real = sum(math.cos(u * s) for s in seen) / len(seen) - math.exp(-u * u / 2)
            imaginary = sum(math.sin(u * s) for s in seen) / len(seen)
            values.append((real**2 + imaginary**2) * math.exp(-u * u / 2))
        total += sum((a + b) / 2 for a, b in itertools.pairwise(values)) * (knots[1] - knots[0])
    assert float(found) == pytest.approx(total / 5, rel=1e-6)


def test_sigreg_is_low_for_a_gaussian_cloud_and_high_for_a_collapsed_one():
    torch.manual_seed(0)
    lengths = torch.full((8,), 200)
    cloud = torch.randn(8, 200, 32)
    collapsed = torch.randn(32) + 0.01 * cloud
    line = torch.randn(8, 200, 1) * torch.randn(32)
    gaussian, one_point, one_line = (float(sigreg_loss(x, lengths, directions=256)) for x in (cloud, collapsed, line))
    assert gaussian < 0.1 * one_line
    assert gaussian < 0.1 * one_point


@pytest.mark.parametrize("loss", ["slow", "invariance", "sigreg"])
def test_padding_even_nan_changes_nothing_and_gradients_stay_finite(clips, loss):
    features, lengths = clips
    other = features.flip(0)

    def value(x, y):
        if loss == "slow":
            return slow_loss(x, lengths)
        if loss == "invariance":
            return invariance_loss(x, y, lengths)
        return sigreg_loss(x, lengths, frames=None, generator=torch.Generator().manual_seed(0))

    padded, padded_other = (torch.cat([x, torch.full((3, 5, 8), math.nan)], dim=1) for x in (features, other))
    for b, length in enumerate(lengths.tolist()):
        padded[b, length:] = padded_other[b, length:] = math.nan
    assert float(value(padded, padded_other)) == pytest.approx(float(value(features, other)), rel=1e-5)
    padded.requires_grad_()
    value(padded, padded_other).backward()
    assert padded.grad.isfinite().all()
    assert padded.grad[0].abs().sum() > 0
    assert value(torch.ones(3, 7, 8), torch.ones(3, 7, 8)).isfinite()


def test_a_batch_that_holds_each_clip_twice_gives_the_same(clips):
    features, lengths = clips
    twice, both = features.repeat(2, 1, 1), lengths.repeat(2)
    assert float(slow_loss(twice, both)) == pytest.approx(float(slow_loss(features, lengths)), rel=1e-6)
    draws = [sigreg_loss(x, n, frames=None, generator=torch.Generator().manual_seed(0))
             for x, n in ((features, lengths), (twice, both))]  # fmt: skip
    assert float(draws[0]) == pytest.approx(float(draws[1]), rel=1e-5)


def test_drawn_frames_are_real_ones():
    features = torch.full((2, 600, 4), math.nan)
    features[0, :3], features[1, :500] = torch.randn(3, 4), torch.randn(500, 4)
    assert sigreg_loss(features, torch.tensor([3, 500]), frames=64).isfinite()


def test_wrong_input_is_named():
    with pytest.raises(ValueError, match=r"slow_loss needs float features \[B, T, D\]"):
        slow_loss(torch.ones(3, 4), torch.tensor([3]))
    with pytest.raises(ValueError, match=r"lengths must be one number per clip, \[2\], got \[1\]"):
        sigreg_loss(torch.ones(2, 3, 4), torch.tensor([3]))
    with pytest.raises(ValueError, match="two views of the same shape"):
        invariance_loss(torch.ones(2, 3, 4), torch.ones(2, 3, 5), torch.tensor([3, 3]))
    with pytest.raises(ValueError, match="at least 1 direction and frame, got 0 and 512"):
        sigreg_loss(torch.ones(2, 3, 4), torch.tensor([3, 3]), directions=0)


@pytest.mark.parametrize("negatives", [None, 3])
@pytest.mark.parametrize("same_sign", [None, 0.75])
def test_pull_and_push_are_the_two_halves_of_signcl(negatives, same_sign):
    torch.manual_seed(0)
    features, lengths = 5 * torch.randn(2, 40, 6), torch.tensor([40, 27])
    values, gradients = {}, {}
    for part in ("both", "pull", "push"):
        x = features.clone().requires_grad_()
        value = signcl_loss(x, lengths, 4.0, distance_margin=20, negatives=negatives, same_sign=same_sign, part=part,
                            generator=torch.Generator().manual_seed(0))  # fmt: skip
        value.backward()
        values[part], gradients[part] = value.detach(), x.grad
    assert values["pull"] > 0 < values["push"]
    torch.testing.assert_close(values["pull"] + values["push"], values["both"])
    torch.testing.assert_close(gradients["pull"] + gradients["push"], gradients["both"], atol=1e-6, rtol=1e-4)


def test_the_released_variant_has_no_halves():
    with pytest.raises(ValueError, match="part for variant paper only"):
        signcl_loss(torch.ones(1, 9, 2), torch.tensor([9]), 1, variant="released", part="pull")
