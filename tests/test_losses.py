"""The losses: by hand, by plain double loops, and every way in which batch, dtype or a short clip could break them."""

import importlib.util
import math
import random
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from signcl.losses import (
    SignCL,
    clip_loss,
    ctc_loss,
    ctc_too_long,
    estimate_frame_margin,
    frame_distances,
    label_smoothed_cross_entropy,
    released_frame_margin,
    sign_infonce,
    signcl_loss,
    weighted_sum,
)
from signcl.losses.signcl import draw_negatives

FRAME_LOSSES = [
    pytest.param(lambda *a, **k: signcl_loss(*a, distance_margin=4.0, **k), id="signcl"),
    pytest.param(lambda *a, **k: signcl_loss(*a, distance_margin=4.0, negatives=30, **k), id="signcl-drawn"),
    pytest.param(lambda *a, **k: sign_infonce(*a, **k), id="infonce"),
    pytest.param(lambda *a, **k: sign_infonce(*a, negatives=30, normalize=False, **k), id="infonce-drawn"),
]  # the clips below have at most 30 negatives, so drawing 30 gives the same value by another code path
RELEASED_LOSSES = [
    pytest.param(lambda *a, **k: signcl_loss(*a, variant="released", distance_margin=4.0, **k), id="signcl"),
    pytest.param(
        lambda *a, **k: signcl_loss(*a, variant="released", distance_margin=4.0, negatives=30, **k), id="signcl-drawn"
    ),
    pytest.param(lambda *a, **k: sign_infonce(*a, variant="released", normalize=False, **k), id="infonce"),
]


def clips(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype).requires_grad_()


def value_and_gradient(loss: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    (gradient,) = torch.autograd.grad(loss, features)
    return loss.detach(), gradient


def paper_by_loop(x: Tensor, lengths: Tensor, margins: list[float], m: float, listed: Tensor | None = None) -> Tensor:
    """Eq. 5 word by word: every anchor, every partner."""
    total = x.new_zeros(())
    for b, n in enumerate(lengths.tolist()):
        for t in range(n):
            near = [torch.dist(x[b, t], x[b, j]) for j in range(n) if abs(t - j) == 1]
            partners = range(n) if listed is None else [j for j in listed[b, t].tolist() if 0 <= j < n]
            far = [j for j in partners if listed is not None or abs(t - j) > 2 * margins[b]]
            for terms in (near, [(m - torch.dist(x[b, t], x[b, j])).clamp(min=0) for j in far]):
                if terms:
                    total = total + torch.stack(terms).mean() / n
    return total / len(x)


def released_by_loop(x: Tensor, gap: int, m: float, listed: Tensor | None = None) -> Tensor:
    """The released arithmetic with `mean` over batch and samples, then / (B * (T - 4)); empty sets left out."""
    clips_, frames, _ = x.shape
    total = x.new_zeros(())
    for i in range(1, frames - 2):
        if listed is None:
            far = [j for j in range(2, frames - 2) if j < i - gap or j > i + gap]
        else:
            far = [j for j in listed[i - 1].tolist() if j >= 0]
        total = total + F.softplus((x[:, [i]] - x[:, [i - 1, i + 1]]).abs().sum(-1) - m).mean()
        if far:
            total = total + F.softplus(m - (x[:, [i]] - x[:, far]).abs().sum(-1)).mean()
    return total / (clips_ * (frames - 4))


# --- margins -----------------------------------------------------------------------------------------------------


def test_frame_margin_is_the_papers_formula():
    # 100 frames, 10 words: 100 / 10 * 2.3 = 23.  30 frames, 10 words: 6.9, below the floor of 10.
    torch.testing.assert_close(
        estimate_frame_margin(torch.tensor([100, 30]), torch.tensor([10, 10])), torch.tensor([23.0, 10.0])
    )
    assert estimate_frame_margin(100, 10, words_per_gloss=1.0, floor=5).item() == 10.0


def test_frame_margin_of_no_words_leaves_no_negatives():
    margin = estimate_frame_margin(torch.tensor([50]), torch.tensor([0]))
    assert margin.item() >= 50


@pytest.mark.parametrize(("frames", "words", "twice"), [(110, 23, 22), (250, 23, 50), (100, 10, 46)])
def test_a_frame_at_exactly_twice_the_margin_is_no_negative(frames, words, twice):
    # 2 * 110 / 23 * 2.3 = 22 in decimals and 21.99999 in float32: frame 22 must not count, frame 23 must.
    margin = estimate_frame_margin(torch.tensor([frames]), torch.tensor([words]))
    for last, pushed in ((twice, False), (twice + 1, True)):
        x = torch.zeros(1, last + 1, 2)
        assert (signcl_loss(x, torch.tensor([last + 1]), margin) > 0) == pushed


def test_a_margin_below_zero_counts_as_zero():
    x, lengths = clips(1, 9, 3), torch.tensor([9])
    for below in (-3, torch.tensor([-0.4])):
        torch.testing.assert_close(signcl_loss(x, lengths, below), signcl_loss(x, lengths, 0))


def test_released_margin_with_its_clamp():
    # 116 frames, 21 tokens: (116 // 21 + 1) * 2.3 = 13.8 -> 13 -> 26; clamp (116 - 30) / 2 = 43.
    assert released_frame_margin(116, 21) == 26
    # 40 frames: 20 would be the floor, the clamp says 5.  20 frames: int(-5) = -5.
    assert released_frame_margin(40, 21) == 5
    assert released_frame_margin(20, 21) == -5


# --- SignCL, paper variant ---------------------------------------------------------------------------------------


def test_four_frames_on_a_line_paper():
    # Frames at 0, 1, 3, 7; margin 1, so negatives lie 3 apart: (0, 3) only, d = 7, m = 10, hinge 3.
    # Positives: 1, (1+2)/2, (2+4)/2, 4. Loss = (1 + 1.5 + 3 + 4 + 3 + 3) / 4.
    x = torch.tensor([[[0.0], [1.0], [3.0], [7.0]]])
    loss = signcl_loss(x, torch.tensor([4]), 1, distance_margin=10.0)
    torch.testing.assert_close(loss, torch.tensor(15.5 / 4))


def test_the_default_margin_is_64_and_32():
    x = torch.zeros(1, 9, 2)
    lengths = torch.tensor([9])
    # All frames equal: d = 0, so the hinge is m; 7 of 9 anchors have a frame more than 3 away ... all but frame 4 with
    # margin 2 (4 apart at most), so 8/9 * 64.
    torch.testing.assert_close(signcl_loss(x, lengths, 2), torch.tensor(64 * 8 / 9))
    # Released: softplus(-32) is 0, softplus(32) is 32; anchors 1..6, candidates 2..6 and gap 2; all but none have one:
    # 1: 4 5 6, 2: 5 6, 3: 6, 4: none (2 is 2 away), 5: 2, 6: 2 3 -> 5 anchors of 32 / (9 - 4).
    torch.testing.assert_close(signcl_loss(x, lengths, 2, variant="released"), torch.tensor(32.0 * 5 / 5))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("m", [3.0, 64.0])
def test_paper_agrees_with_a_double_loop(dtype, m):
    x = clips(3, 23, 5, dtype=dtype)
    lengths, margins = torch.tensor([23, 15, 1]), torch.tensor([2.6, 4.0, 1.0])
    found = value_and_gradient(signcl_loss(x, lengths, margins, distance_margin=m), x)
    expected = value_and_gradient(paper_by_loop(x, lengths, margins.tolist(), m), x)
    torch.testing.assert_close(found, expected)


def test_paper_agrees_with_plain_dense_tensors_on_long_clips():
    x = clips(2, 230, 3, dtype=torch.float64)
    lengths, margins = torch.tensor([230, 150]), torch.tensor([11.0, 17.5])
    found = value_and_gradient(signcl_loss(x, lengths, margins, distance_margin=2.0), x)
    torch.testing.assert_close(found, value_and_gradient(_paper_dense(x, lengths, margins, 2.0), x))


def _paper_dense(x: Tensor, lengths: Tensor, margins: Tensor, m: float) -> Tensor:
    """The same with plain dense tensors, quick enough for long clips."""
    total = x.new_zeros(())
    for clip, n, margin in zip(x, lengths.tolist(), margins.tolist()):
        frames = clip[:n]
        apart = (torch.arange(n)[:, None] - torch.arange(n)).abs()
        distance = (frames[:, None] - frames).square().sum(-1).clamp(min=1e-30).sqrt()
        near, far = (apart == 1).to(x), (apart > 2 * margin).to(x)
        total = total + ((distance * near).sum(1) / near.sum(1)).mean()
        total = total + (((m - distance).clamp(min=0) * far).sum(1) / far.sum(1).clamp(min=1)).mean()
    return total / len(x)


def test_paper_with_listed_negatives_agrees_with_a_loop():
    x = clips(2, 12, 4, dtype=torch.float64)
    lengths = torch.tensor([12, 7])
    listed = torch.randint(-1, 12, (2, 12, 3), generator=torch.Generator().manual_seed(1))
    found = signcl_loss(x, lengths, 1, distance_margin=3.0, negatives=listed)
    torch.testing.assert_close(
        value_and_gradient(found, x), value_and_gradient(paper_by_loop(x, lengths, [1.0, 1.0], 3.0, listed), x)
    )


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 12), min_size=1, max_size=3),
    extra=st.integers(0, 3),
    margin=st.floats(0, 4),
    m=st.floats(0.5, 6),
    seed=st.integers(0, 99),
)
def test_paper_agrees_with_a_double_loop_on_any_shape(lengths, extra, margin, m, seed):
    x = clips(len(lengths), max(lengths) + extra, 3, seed=seed, dtype=torch.float64)
    if x.shape[1] == 0:
        x = clips(len(lengths), 1, 3, dtype=torch.float64)
    counts = torch.tensor(lengths)
    margin = round(margin, 2)
    found, gradient = value_and_gradient(signcl_loss(x, counts, margin, distance_margin=m), x)
    expected = paper_by_loop(x, counts, [margin] * len(lengths), m)
    torch.testing.assert_close(found, expected.detach())
    if expected.requires_grad:
        torch.testing.assert_close(gradient, torch.autograd.grad(expected, x)[0])
    else:
        assert not gradient.any()


def test_offset_of_all_features_loses_no_precision():
    # ReLU features share a large mean; |a|^2 + |b|^2 - 2ab of raw features would lose 7 digits here.
    x = clips(1, 60, 16).detach()
    expected = signcl_loss(x.double(), torch.tensor([60]), 5, distance_margin=8.0)
    shifted = signcl_loss((x.double() + 1000).float(), torch.tensor([60]), 5, distance_margin=8.0)
    torch.testing.assert_close(shifted.double(), expected, rtol=1e-4, atol=0)


# --- SignCL, released variant ------------------------------------------------------------------------------------


def test_six_frames_on_a_line_released():
    # Frames at 0 1 2 3 4 5, M = 0, gap 1: anchors 1, 2, 3; all positive distances 1: softplus(1) each.
    # Candidates 2, 3: anchor 1 -> 3 (d 2), anchor 2 -> none, anchor 3 -> none. softplus(-2). T - 4 = 2, B = 1.
    x = torch.arange(6.0)[None, :, None]
    loss = signcl_loss(x, torch.tensor([6]), 1, variant="released", distance_margin=0.0)
    expected = (3 * math.log1p(math.e) + math.log1p(math.exp(-2))) / 2
    torch.testing.assert_close(loss, torch.tensor(expected))


@pytest.mark.parametrize("gap", [3, 0, -5])
def test_released_agrees_with_a_loop_over_all_candidates(gap):
    x = clips(2, 14, 4, dtype=torch.float64)
    found = signcl_loss(x, torch.tensor([14, 9]), gap, variant="released", distance_margin=4.0)
    torch.testing.assert_close(value_and_gradient(found, x), value_and_gradient(released_by_loop(x, gap, 4.0), x))
    torch.testing.assert_close(found, released_by_loop(x, gap, 4.0), rtol=1e-12, atol=0)


def test_released_agrees_with_a_loop_over_the_same_draws():
    # As the released code: Python's random, four negatives, the same for every clip of the batch.
    x = clips(3, 30, 6, dtype=torch.float64)
    source = random.Random(0)
    far = [[j for j in range(2, 28) if abs(i - j) > 6] for i in range(1, 28)]
    listed = torch.tensor([source.sample(choices, 4) for choices in far])
    found = signcl_loss(x, torch.tensor([30, 30, 30]), 6, variant="released", negatives=listed)
    torch.testing.assert_close(
        value_and_gradient(found, x), value_and_gradient(released_by_loop(x, 6, 32.0, listed), x)
    )
    torch.testing.assert_close(found, released_by_loop(x, 6, 32.0, listed), rtol=1e-12, atol=0)


def test_released_divides_by_the_batch_twice():
    x = clips(1, 20, 4)
    one = signcl_loss(x, torch.tensor([20]), 4, variant="released")
    four = signcl_loss(x.repeat(4, 1, 1), torch.tensor([20] * 4), 4, variant="released")
    torch.testing.assert_close(four, one / 4)


def test_released_ignores_lengths_and_lets_padding_in():
    x = clips(2, 20, 4)
    full = signcl_loss(x, torch.tensor([20, 20]), 4, variant="released")
    torch.testing.assert_close(signcl_loss(x, torch.tensor([20, 6]), 4, variant="released"), full)


# --- what holds for every frame contrast -------------------------------------------------------------------------


@pytest.mark.parametrize("loss", FRAME_LOSSES)
def test_padding_more_changes_nothing(loss):
    x = clips(2, 15, 4, dtype=torch.float64)
    lengths, margins = torch.tensor([15, 9]), torch.tensor([1.0, 2.0])
    expected = value_and_gradient(loss(x, lengths, margins), x)
    for filler in (0.0, 7.0, float("nan"), float("inf")):
        padded = torch.cat([x.detach(), torch.full((2, 4, 4), filler, dtype=x.dtype)], dim=1)
        padded[1, 9:15] = filler
        padded.requires_grad_()
        value, gradient = value_and_gradient(loss(padded, lengths, margins), padded)
        torch.testing.assert_close((value, gradient[:, :15]), expected)
        assert not gradient[:, 15:].any()
        assert not gradient[1, 9:].any()


@pytest.mark.parametrize("loss", FRAME_LOSSES)
def test_each_clip_twice_is_the_same_loss(loss):
    x = clips(2, 15, 4, dtype=torch.float64)
    lengths, margins = torch.tensor([15, 9]), torch.tensor([1.0, 2.0])
    once = loss(x, lengths, margins)
    twice = loss(x.repeat(2, 1, 1), lengths.repeat(2), margins.repeat(2))
    torch.testing.assert_close(twice, once)
    torch.testing.assert_close(
        (loss(x[:1], lengths[:1], margins[:1]) + loss(x[1:], lengths[1:], margins[1:])) / 2, once
    )


@pytest.mark.parametrize("loss", FRAME_LOSSES)
@pytest.mark.parametrize("frames", [1, 2, 3])
def test_the_shortest_clips_are_finite(loss, frames):
    x = clips(2, frames, 4)
    value, gradient = value_and_gradient(loss(x, torch.tensor([frames, 1]), 10), x)
    assert value.isfinite()
    assert gradient.isfinite().all()
    assert not gradient[1].any()
    if frames == 1:
        assert value == 0


def test_a_clip_of_one_frame_adds_exactly_zero_but_counts():
    x = clips(2, 8, 4)
    alone = signcl_loss(x[:1], torch.tensor([8]), 1, distance_margin=3.0)
    torch.testing.assert_close(signcl_loss(x, torch.tensor([8, 1]), 1, distance_margin=3.0), alone / 2)


def test_clips_without_negatives_keep_their_positive_half():
    x = clips(1, 8, 4)
    torch.testing.assert_close(signcl_loss(x, torch.tensor([8]), 10), paper_by_loop(x, torch.tensor([8]), [10.0], 64.0))
    assert sign_infonce(x, torch.tensor([8]), 10) == 0


@pytest.mark.parametrize("loss", RELEASED_LOSSES)
@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 6])
def test_released_forms_are_finite_where_the_code_gives_nan(loss, frames):
    # T = 4 divides by zero, and gap 10 leaves no candidates at all.
    x = clips(2, frames, 4)
    value, gradient = value_and_gradient(loss(x, torch.tensor([frames, 1]), 10), x)
    assert value.isfinite()
    assert gradient.isfinite().all()
    if frames <= 4:
        assert value == 0


@pytest.mark.parametrize("loss", [*FRAME_LOSSES, *RELEASED_LOSSES])
@pytest.mark.parametrize("filler", [0.0, 1.0, 1e4])
def test_identical_frames_have_a_finite_gradient(loss, filler):
    x = torch.full((2, 16, 4), filler, requires_grad=True)
    value, gradient = value_and_gradient(loss(x, torch.tensor([16, 12]), 2), x)
    assert value.isfinite()
    assert gradient.isfinite().all()
    if "signcl" in str(loss.__code__.co_names):
        assert not gradient.any()


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_held_frames_among_others_get_no_wild_gradient(scale):
    # A still signer: half the frames equal, half not. No single pair may pull harder than its weight.
    x = (clips(1, 80, 32).detach() * scale).index_copy(1, torch.arange(20, 60), torch.ones(1, 40, 32) * scale)
    x.requires_grad_()
    lengths = torch.tensor([80])
    found = value_and_gradient(signcl_loss(x, lengths, 3, distance_margin=9 * scale), x)
    exact = x.detach().double().requires_grad_()
    expected = value_and_gradient(_paper_dense(exact, lengths, torch.tensor([3.0]), 9 * scale), exact)
    torch.testing.assert_close(found[0].double(), expected[0], rtol=1e-4, atol=0)
    torch.testing.assert_close(found[1].double(), expected[1], rtol=0, atol=1e-3 / 80)


def test_non_finite_features_are_not_hidden():
    x = clips(1, 10, 4).detach()
    x[0, 3, 1] = torch.nan
    for loss in (signcl_loss, sign_infonce):
        assert loss(x, torch.tensor([10]), 1).isnan()


@pytest.mark.parametrize("loss", [*FRAME_LOSSES, *RELEASED_LOSSES])
def test_gradients_are_exact(loss):
    x = clips(2, 11, 3, dtype=torch.float64)
    lengths = torch.tensor([11, 7])
    assert torch.autograd.gradcheck(lambda features: loss(features, lengths, 1), x)


@pytest.mark.parametrize("loss", [*FRAME_LOSSES, *RELEASED_LOSSES])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_features_are_measured_in_float32(loss, dtype):
    # 16-bit features of size 300: their squares overflow fp16 and lose all digits of a distance in bf16.
    x = (clips(2, 30, 64).detach() + 300).to(dtype)
    lengths = torch.tensor([30, 20])
    expected = loss(x.float(), lengths, 3)
    half = x.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, gradient = value_and_gradient(loss(half, lengths, 3), half)
    assert value.dtype == torch.float32
    assert gradient.dtype == dtype
    assert gradient.isfinite().all()
    torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("loss", [*FRAME_LOSSES, *RELEASED_LOSSES])
def test_no_gradient_wanted_same_value(loss):
    x = clips(2, 20, 4)
    with torch.no_grad():
        value = loss(x, torch.tensor([20, 11]), 2)
    assert not value.requires_grad
    torch.testing.assert_close(value, loss(x, torch.tensor([20, 11]), 2).detach())


@pytest.mark.parametrize("loss", [*FRAME_LOSSES, *RELEASED_LOSSES])
def test_nothing_waits_for_the_device(loss):
    # The meta device holds no numbers: `.item()`, boolean indexing, `nonzero` fail on it where they would stall CUDA.
    x = torch.empty(2, 40, 8, device="meta", requires_grad=True)
    loss(x, torch.empty(2, device="meta", dtype=torch.long), torch.empty((), device="meta")).backward()
    assert x.grad is not None
    assert x.grad.shape == x.shape


def test_all_pairs_from_products_agree_with_all_pairs_subtracted_one_by_one():
    # Listed negatives are subtracted, all pairs come from matrix products: list them all, and both must agree.
    x = clips(2, 40, 6)
    lengths, margins = torch.tensor([40, 31]), torch.tensor([4.0, 6.5])
    time = torch.arange(40)
    far = (time[:, None] - time).abs() > 2 * margins[:, None, None]
    listed = torch.where(far & (time < lengths[:, None, None]), time, -1)
    expected = value_and_gradient(signcl_loss(x, lengths, 0, distance_margin=4.0, negatives=listed), x)
    torch.testing.assert_close(value_and_gradient(signcl_loss(x, lengths, margins, distance_margin=4.0), x), expected)


class Largest(TorchDispatchMode):
    """Remembers the size of the largest tensor that an operator made."""

    size = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        sizes = [part.numel() for part in pytree.tree_leaves(made) if isinstance(part, Tensor)]
        self.size = max([self.size, *sizes])
        return made


@pytest.mark.parametrize("loss", [*FRAME_LOSSES, *RELEASED_LOSSES])
def test_no_tensor_holds_the_differences_of_all_pairs(loss):
    # B T^2 distances are fine, B T^2 D differences are not.
    x = clips(3, 40, 50)
    with Largest() as largest:
        loss(x, torch.tensor([40, 31, 12]), 2).backward()
    assert largest.size == 3 * 40 * 50


@pytest.mark.parametrize(("options", "most"), [({}, 44), ({"variant": "released"}, 62), ({"negatives": 4}, 138)])
def test_signcl_needs_few_launches(options, most):
    # docs/losses.md says how many. Every one costs a GPU's host about 10 microseconds, at any size of batch.
    spec = importlib.util.spec_from_file_location("loss", Path(__file__).parents[1] / "benchmarks" / "loss.py")
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    lengths, margins = torch.tensor([40, 31]), torch.tensor([4.0, 6.5])
    for features in (clips(2, 40, 6), clips(2, 90, 6)):
        assert benchmark.launches(lambda x: signcl_loss(x, lengths, margins, **options), features) <= most


@pytest.mark.parametrize("loss", [*FRAME_LOSSES, *RELEASED_LOSSES])
def test_the_layout_in_memory_does_not_matter(loss):
    # Encoders hand out features of time-first recurrent layers, of channels-first convolutions, and slices.
    x, lengths = clips(3, 20, 6).detach(), torch.tensor([20, 11, 20])
    plain = x.clone().requires_grad_()
    expected = value_and_gradient(loss(plain, lengths, 2), plain)
    wide = torch.zeros(3, 25, 9)
    wide[:, 3:23, 2:8] = x
    for turned in (x.transpose(0, 1).contiguous().transpose(0, 1), x.mT.contiguous().mT, wide[:, 3:23, 2:8]):
        turned = turned.detach().requires_grad_()
        torch.testing.assert_close(value_and_gradient(loss(turned, lengths, 2), turned), expected)


def test_a_second_derivative_is_refused_not_wrong():
    x = clips(1, 12, 3)
    with pytest.raises(RuntimeError, match="differentiated once only"):
        torch.autograd.grad(signcl_loss(x, torch.tensor([12]), 1), x, create_graph=True)


def test_the_loss_can_be_taken_backward_twice():
    x = clips(1, 12, 3)
    loss = signcl_loss(x, torch.tensor([12]), 1)
    first = torch.autograd.grad(2 * loss, x, retain_graph=True)[0]
    torch.testing.assert_close(torch.autograd.grad(loss, x)[0], first / 2)


# --- drawing negatives -------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    frames=st.integers(1, 14),
    first=st.integers(0, 2),
    gap=st.integers(-4, 6),
    count=st.integers(1, 16),
    seed=st.integers(0, 9),
)
def test_drawn_negatives_are_legal_and_different(frames, first, gap, count, seed):
    last = frames - 1 - first
    drawn = draw_negatives(
        torch.arange(frames),
        first,
        torch.tensor([[last]]),
        torch.tensor([[gap]]),
        count,
        torch.Generator().manual_seed(seed),
    )[0]
    for i, row in enumerate(drawn.tolist()):
        legal = {j for j in range(first, last + 1) if j < i - gap or j > i + gap}
        found = [j for j in row if j >= 0]
        assert set(found) <= legal
        assert len(found) == len(set(found)) == min(count, len(legal))


def test_every_legal_negative_is_equally_likely():
    anchors = torch.full((4000,), 5)
    drawn = draw_negatives(anchors, 0, torch.tensor([[11]]), torch.tensor([[2]]), 3, torch.Generator().manual_seed(0))
    counts = torch.bincount(drawn.flatten(), minlength=12)
    assert counts[3:8].sum() == 0
    # 7 legal frames, 12,000 draws: 1714 each, standard deviation about 31.
    assert (counts[[0, 1, 2, 8, 9, 10, 11]] - 12000 / 7).abs().max() < 160


def test_a_generator_makes_drawing_repeatable():
    x = clips(2, 60, 4)
    lengths = torch.tensor([60, 50])

    def run(seed):
        generator = torch.Generator().manual_seed(seed)
        return signcl_loss(x, lengths, 4, distance_margin=3.0, negatives=2, generator=generator).item()

    assert run(0) == run(0)
    assert run(0) != run(1)


def test_an_endless_margin_leaves_no_negatives():
    x, lengths = clips(1, 9, 3), torch.tensor([9])
    near = signcl_loss(x, lengths, 100)
    torch.testing.assert_close(signcl_loss(x, lengths, math.inf), near)
    torch.testing.assert_close(signcl_loss(x, lengths, torch.tensor(math.inf)), near)


def test_few_drawn_negatives_are_right_on_average():
    x = clips(1, 40, 4).detach()
    lengths = torch.tensor([40])
    generator = torch.Generator().manual_seed(0)
    every = signcl_loss(x, lengths, 5, distance_margin=4.0)
    drawn = [signcl_loss(x, lengths, 5, distance_margin=4.0, negatives=1, generator=generator) for _ in range(200)]
    assert (torch.stack(drawn).mean() - every).abs() < 0.02


def test_released_draws_once_for_the_whole_batch():
    x = clips(1, 40, 4).repeat(3, 1, 1)
    losses = [
        signcl_loss(
            x[:n],
            torch.tensor([40] * n),
            8,
            variant="released",
            negatives=2,
            generator=torch.Generator().manual_seed(3),
        )
        for n in (1, 3)
    ]
    torch.testing.assert_close(losses[1] * 3, losses[0])


# --- the module --------------------------------------------------------------------------------------------------


def test_the_module_is_the_function_with_its_margins():
    x, lengths, words = clips(2, 50, 4), torch.tensor([50, 44]), torch.tensor([8, 3])
    margins = estimate_frame_margin(lengths, words)
    torch.testing.assert_close(SignCL()(x, lengths, words), signcl_loss(x, lengths, margins))
    released = SignCL(variant="released")(x, lengths, words)
    torch.testing.assert_close(released, signcl_loss(x, lengths, released_frame_margin(50, 8), variant="released"))
    assert "distance_margin=64.0" in repr(SignCL())


def test_the_module_takes_the_released_margin_of_a_padded_batch():
    # T = 116, U = 21: g = 26; paper doubles what it is given, 13. U = 8 words without tokens: 2 * 34, clamped to 43.
    x, lengths, words = clips(2, 50, 4), torch.tensor([50, 44]), torch.tensor([8.0, 3.0])
    padded = {"padded_frames": 116, "padded_tokens": 21}
    for variant, gap in (("released", 26), ("paper", 13)):
        module = SignCL(variant=variant, frame_margin_rule="released")
        expected = signcl_loss(x, lengths, gap, variant=variant)
        torch.testing.assert_close(module(x, lengths, words, **padded), expected)
        assert module.frame_margin(lengths, words, 116, None) == 43 / (26 / gap)
    # 20 frames: the released gap is -5, each frame a negative of itself; the paper's form stops at 0.
    x, lengths = clips(2, 20, 4), torch.tensor([20, 20])
    for variant, rule, gap in (("released", None, -5), ("released", "released", -5), ("paper", "released", 0)):
        module = SignCL(variant=variant, frame_margin_rule=rule)
        torch.testing.assert_close(module(x, lengths, words), signcl_loss(x, lengths, gap, variant=variant))
    per_clip = SignCL(variant="released", frame_margin_rule="per_clip")(x, lengths, words)
    margins = estimate_frame_margin(lengths, words)
    torch.testing.assert_close(per_clip, signcl_loss(x, lengths, margins, variant="released"))
    with pytest.raises(ValueError, match="frame_margin_rule per_clip, released or None, got 'paper'"):
        SignCL(frame_margin_rule="paper")


def test_a_few_steps_part_the_signs():
    # Four signs of 12 frames: after training neighbours lie nearer than far frames, which have reached the margin.
    torch.manual_seed(0)
    x = torch.randn(4, 1, 8).repeat_interleave(12, dim=0).view(1, 48, 8) * 0.1 + torch.randn(1, 48, 8) * 0.3
    encoder, loss, lengths = nn.Linear(8, 8), SignCL(distance_margin=5.0, floor=6), torch.tensor([48])
    optimizer = torch.optim.Adam(encoder.parameters(), lr=0.05)
    before = frame_distances(encoder(x), lengths, 6, 5.0)
    for _ in range(60):
        optimizer.zero_grad()
        loss(encoder(x), lengths, torch.tensor([20])).backward()
        optimizer.step()
    after = frame_distances(encoder(x), lengths, 6, 5.0)
    assert after.far / after.neighbour > before.far / before.neighbour
    assert after.active < before.active


@pytest.mark.parametrize(
    ("options", "backend"),
    [
        ({}, "aot_eager"),
        ({"negatives": torch.arange(40).view(20, 2) % 20}, "eager"),
        ({"variant": "released"}, "eager"),
    ],
)
@pytest.mark.slow
def test_torch_compile_gives_the_same(options, backend):
    # One backend traces the backward as well; for the others it is shown that nothing breaks the graph.
    x = clips(2, 20, 8)
    lengths, margins = torch.tensor([20, 15]), torch.tensor([2.0, 3.5])
    compiled = torch.compile(signcl_loss, backend=backend, fullgraph=True)
    torch.testing.assert_close(
        value_and_gradient(compiled(x, lengths, margins, distance_margin=4.0, **options), x),
        value_and_gradient(signcl_loss(x, lengths, margins, distance_margin=4.0, **options), x),
    )


def test_frame_distances_by_hand():
    # Frames at 0, 1, 3, 7, margin 1: neighbours 1, 2, 4; the far pair 7, both ways.
    x = torch.tensor([[[0.0], [1.0], [3.0], [7.0]], [[9.0]] * 4])
    found = frame_distances(x, torch.tensor([4, 1]), 1, distance_margin=6.0)
    assert found.neighbour.item() == pytest.approx(7 / 3)
    assert found.far.item() == 7
    assert found.active.item() == 0
    assert found.norm.item() == pytest.approx((11 / 4 + 9) / 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variant": "papr"}, "variant"),
        ({"negatives": 0}, "at least 1 negative"),
        ({"negatives": torch.zeros(3, 2)}, "listed negatives as whole numbers"),
        ({"negatives": torch.zeros(3, 2, dtype=torch.long)}, r"\[10, k\]"),
        ({"features": torch.zeros(10, 4)}, r"\[B, T, D\]"),
        ({"features": torch.zeros(0, 10, 4)}, "B >= 1"),
        ({"features": torch.zeros(2, 10, 4, dtype=torch.long)}, "float features"),
        ({"lengths": torch.tensor([10])}, "lengths must be one number per clip"),
        ({"lengths": torch.tensor([10, 11])}, "lengths up to 11 for features of 10"),
        ({"frame_margin": torch.zeros(3)}, "one frame_margin, or one per clip"),
    ],
)
def test_what_cannot_be_meant_is_refused(change, message):
    arguments = {"features": torch.zeros(2, 10, 4), "lengths": torch.tensor([10, 10]), "frame_margin": 2, **change}
    with pytest.raises(ValueError, match=message):
        signcl_loss(**arguments)
    if "variant" in change:
        with pytest.raises(ValueError, match=message):
            SignCL(**change)


# --- SignInfoNCE -------------------------------------------------------------------------------------------------


def test_infonce_agrees_with_a_double_loop():
    x = clips(2, 12, 4, dtype=torch.float64)
    lengths, total = torch.tensor([12, 8]), torch.zeros((), dtype=torch.float64)
    unit = F.normalize(x, dim=-1)
    for b, n in enumerate(lengths.tolist()):
        for t in range(n):
            positives = [j for j in (t - 1, t + 1) if 0 <= j < n]
            far = [(unit[b, t] @ unit[b, j] / 0.1).exp() for j in range(n) if abs(t - j) > 4]
            for i in positives:
                ratio = sum(far) / (unit[b, t] @ unit[b, i] / 0.1).exp()
                total = total + torch.log(1 + ratio) / len(positives) / n / 2
    torch.testing.assert_close(value_and_gradient(sign_infonce(x, lengths, 2), x), value_and_gradient(total, x))


def test_infonce_released_agrees_with_a_loop():
    x = clips(2, 14, 4, dtype=torch.float64)
    total = torch.zeros((), dtype=torch.float64)
    for i in range(1, 12):
        far = [j for j in range(2, 12) if abs(i - j) > 3]
        logits = torch.einsum("bd,bkd->bk", x[:, i], x[:, [i - 1, i + 1, *far]]) / 0.1
        total = total - logits.log_softmax(dim=1)[:, :2].sum()
    found = sign_infonce(x, torch.tensor([14, 14]), 3, variant="released", normalize=False)
    torch.testing.assert_close(value_and_gradient(found, x), value_and_gradient(total / (2 * 10), x))


def test_infonce_does_not_overflow_on_large_features():
    x = (clips(1, 30, 16).detach() * 1e3).requires_grad_()
    value, gradient = value_and_gradient(sign_infonce(x, torch.tensor([30]), 3, normalize=False), x)
    assert value.isfinite()
    assert gradient.isfinite().all()


def test_infonce_refuses_what_cannot_be_meant():
    x, lengths = torch.zeros(1, 10, 4), torch.tensor([10])
    with pytest.raises(ValueError, match="positive temperature"):
        sign_infonce(x, lengths, 1, temperature=0.0)
    with pytest.raises(ValueError, match="variant fixed or released"):
        sign_infonce(x, lengths, 1, variant="paper")


# --- video-text contrast -----------------------------------------------------------------------------------------

SCALE = torch.tensor(math.log(1 / 0.07))


def test_clip_loss_is_the_mean_cross_entropy_of_both_directions():
    video, text = clips(5, 8), clips(5, 8, seed=1)
    logits = F.normalize(video, dim=-1) @ F.normalize(text, dim=-1).T / 0.07
    own = torch.arange(5)
    expected = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    torch.testing.assert_close(clip_loss(video, text, SCALE), expected)


def test_clip_loss_as_released():
    # KLDivLoss(log_softmax(logits), softmax(10 I)), elementwise mean, times B, mean of both directions.
    video, text = clips(5, 8), clips(5, 8, seed=1)
    logits = F.normalize(video, dim=-1) @ F.normalize(text, dim=-1).T / 0.07
    wanted = (10 * torch.eye(5)).softmax(dim=1)
    both = [F.kl_div(side.log_softmax(1), wanted, reduction="none").mean() * 5 for side in (logits, logits.T)]
    expected = sum(both) / 2
    torch.testing.assert_close(clip_loss(video, text, SCALE, target="released"), expected)


@pytest.mark.parametrize("target", ["one_hot", "released"])
def test_a_batch_of_one_is_exactly_zero(target):
    video, text = clips(1, 8), clips(1, 8, seed=1)
    loss = clip_loss(video, text, SCALE, target=target)
    loss.backward()
    assert loss == 0
    assert not video.grad.any()
    assert not text.grad.any()


@pytest.mark.parametrize("target", ["one_hot", "released"])
def test_twins_are_no_negatives(target):
    # Clips 0 and 2 show the same sentence: the loss is that without the entries (0, 2) and (2, 0).
    video, text = clips(3, 8), clips(3, 8, seed=1)
    loss = clip_loss(video, text, SCALE, sentence_ids=torch.tensor([4, 7, 4]), target=target)
    logits = (F.normalize(video, dim=-1) @ F.normalize(text, dim=-1).T / 0.07).double()
    soft = 0.0 if target == "one_hot" else math.exp(-10)
    total = 0.0
    for side in (logits, logits.T):
        for i, columns in enumerate(([0, 1], [0, 1, 2], [1, 2])):
            wanted = torch.tensor([1.0 if j == i else soft for j in columns], dtype=torch.float64)
            wanted = wanted / wanted.sum()
            total = total + F.kl_div(side[i, columns].log_softmax(0), wanted, reduction="sum") / 3 / 2
    torch.testing.assert_close(loss.double(), total, rtol=1e-5, atol=1e-7)
    loss.backward()
    assert video.grad.isfinite().all()


def test_all_twins_is_zero():
    loss = clip_loss(clips(3, 8), clips(3, 8, seed=1), SCALE, sentence_ids=torch.zeros(3, dtype=torch.long))
    assert loss == 0


def test_logit_scale_is_held_but_can_come_down():
    video, text = clips(4, 8), clips(4, 8, seed=1)
    high = torch.tensor(9.0, requires_grad=True)
    loss = clip_loss(video, text, high)
    torch.testing.assert_close(loss, clip_loss(video, text, torch.tensor(math.log(100))))
    loss.backward()
    assert high.grad > 0  # random pairs: a smaller factor is better, and the step is let through
    high.grad = None
    clip_loss(video, video, high, max_scale=2.0).backward()
    assert high.grad == 0  # perfect pairs: a larger factor would be better, and is not


@pytest.mark.parametrize("target", ["one_hot", "released"])
def test_clip_loss_gradients_are_exact_and_zero_rows_harmless(target):
    video, text = clips(3, 5, dtype=torch.float64), clips(3, 5, seed=1, dtype=torch.float64)
    scale = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    ids = torch.tensor([0, 1, 0])
    assert torch.autograd.gradcheck(lambda *a: clip_loss(*a, sentence_ids=ids, target=target), (video, text, scale))
    zero = torch.zeros(3, 5, requires_grad=True)
    clip_loss(zero, text.float(), SCALE, target=target).backward()
    assert zero.grad.isfinite().all()


def test_clip_loss_is_float32_under_autocast():
    video, text = clips(4, 8), clips(4, 8, seed=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = clip_loss(video.bfloat16(), text.bfloat16(), SCALE)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, clip_loss(video.bfloat16().float(), text.bfloat16().float(), SCALE))


def test_clip_loss_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="same shape"):
        clip_loss(torch.zeros(2, 4), torch.zeros(3, 4), SCALE)
    with pytest.raises(ValueError, match="B >= 1"):
        clip_loss(torch.zeros(0, 4), torch.zeros(0, 4), SCALE)
    with pytest.raises(ValueError, match="target"):
        clip_loss(torch.zeros(2, 4), torch.zeros(2, 4), SCALE, target="onehot")
    with pytest.raises(ValueError, match="one sentence id"):
        clip_loss(torch.zeros(2, 4), torch.zeros(2, 4), SCALE, sentence_ids=torch.zeros(3))


# --- CTC ---------------------------------------------------------------------------------------------------------


def test_ctc_by_hand():
    # Two steps, glosses [1]; paths 11, 01, 10 with p(0) = 0.5, p(1) = 0.5: 3 * 0.25.
    log_probs = torch.full((1, 2, 2), math.log(0.5))
    loss = ctc_loss(log_probs, torch.tensor([[1]]), torch.tensor([2]), torch.tensor([1]))
    torch.testing.assert_close(loss, torch.tensor(-math.log(0.75)))


def test_ctc_ignores_padding_and_the_size_of_the_batch():
    log_probs = clips(2, 9, 5).log_softmax(-1)
    targets, steps, glosses = torch.tensor([[1, 1, 3], [4, 0, 0]]), torch.tensor([9, 5]), torch.tensor([3, 1])
    loss = ctc_loss(log_probs, targets, steps, glosses)
    wider = F.pad(log_probs, (0, 0, 0, 4), value=torch.nan)
    torch.testing.assert_close(ctc_loss(wider, F.pad(targets, (0, 2), value=-7), steps, glosses), loss)
    twice = ctc_loss(log_probs.repeat(2, 1, 1), targets.repeat(2, 1), steps.repeat(2), glosses.repeat(2))
    torch.testing.assert_close(twice, loss)


def test_ctc_names_the_clips_that_are_too_short():
    # Row 1: 2 equal glosses need 3 steps (a blank between); row 2: 3 glosses in 2 steps.
    targets = torch.tensor([[1, 2, 0], [2, 2, 0], [1, 2, 3]])
    steps, glosses = torch.tensor([2, 2, 2]), torch.tensor([2, 2, 3])
    assert ctc_too_long(targets, steps, glosses).tolist() == [False, True, True]
    x = clips(3, 2, 5)
    with pytest.raises(ValueError, match=r"rows \[1, 2\] have \[2, 2\] steps for \[2, 3\] glosses"):
        ctc_loss(x.log_softmax(-1), targets, steps, glosses)
    skipped = ctc_loss(x.log_softmax(-1), targets, steps, glosses, too_long="skip")
    alone = ctc_loss(x.log_softmax(-1)[:1], targets[:1], steps[:1], glosses[:1])
    torch.testing.assert_close(skipped, alone)
    value, gradient = value_and_gradient(
        ctc_loss(x.log_softmax(-1)[1:], targets[1:], steps[1:], glosses[1:], too_long="skip"), x
    )
    assert value == 0
    assert not gradient.any()


def test_ctc_refuses_blanks_and_unknown_classes_in_targets():
    log_probs = torch.zeros(1, 4, 3).log_softmax(-1)
    for wrong in (0, 3):
        with pytest.raises(ValueError, match=r"gloss classes 1\.\.2"):
            ctc_loss(log_probs, torch.tensor([[1, wrong]]), torch.tensor([4]), torch.tensor([2]))
    with pytest.raises(ValueError, match="step_lengths up to 5"):
        ctc_loss(log_probs, torch.tensor([[1]]), torch.tensor([5]), torch.tensor([1]))
    with pytest.raises(ValueError, match="too_long"):
        ctc_loss(log_probs, torch.tensor([[1]]), torch.tensor([4]), torch.tensor([1]), too_long="drop")
    with pytest.raises(ValueError, match="reduction clip or gloss, got 'mean'"):
        ctc_loss(log_probs, torch.tensor([[1]]), torch.tensor([4]), torch.tensor([1]), reduction="mean")


def test_ctc_per_gloss_divides_each_clip_by_its_glosses():
    # Two clips of 1 and 3 glosses with losses a and b: (a + b / 3) / 2; clips that are too short do not count in it.
    log_probs = torch.randn(3, 6, 5).log_softmax(-1)
    targets, steps, glosses = (
        torch.tensor([[1, 0, 0], [1, 2, 3], [4, 4, 4]]),
        torch.tensor([6, 6, 2]),
        torch.tensor([1, 3, 3]),
    )
    a, b = (ctc_loss(log_probs[i : i + 1], targets[i : i + 1], steps[i : i + 1], glosses[i : i + 1]) for i in (0, 1))
    loss = ctc_loss(log_probs, targets, steps, glosses, reduction="gloss", too_long="skip")
    torch.testing.assert_close(loss, (a + b / 3) / 2)
    none = ctc_loss(log_probs[:1], targets[:1], steps[:1], torch.tensor([0]), reduction="gloss")  # counts as one
    torch.testing.assert_close(none, ctc_loss(log_probs[:1], targets[:1], steps[:1], torch.tensor([0])))


# --- cross-entropy and the sum -----------------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_is_torchs(smoothing):
    logits, tokens = clips(3, 6, 11), torch.randint(1, 11, (3, 6), generator=torch.Generator().manual_seed(0))
    tokens[1, 4:] = tokens[2, 1:] = 0
    expected = F.cross_entropy(logits.flatten(0, 1), tokens.flatten(), ignore_index=0, label_smoothing=smoothing)
    found = label_smoothed_cross_entropy(logits, tokens, 0, smoothing)
    torch.testing.assert_close(value_and_gradient(found, logits), value_and_gradient(expected, logits))
    padded = label_smoothed_cross_entropy(F.pad(logits, (0, 0, 0, 3), value=5.0), F.pad(tokens, (0, 3)), 0, smoothing)
    torch.testing.assert_close(padded, found)
    twice = label_smoothed_cross_entropy(logits.repeat(2, 1, 1), tokens.repeat(2, 1), 0, smoothing)
    torch.testing.assert_close(twice, found)


def test_smoothed_cross_entropy_by_hand():
    # p = (0.5, 0.25, 0.25), token 0, smoothing 0.3: 0.7 ln 2 + 0.1 (ln 2 + 2 ln 4) = 0.7 ln 2 + 0.5 ln 2.
    logits = torch.tensor([[[0.5, 0.25, 0.25]]]).log()
    loss = label_smoothed_cross_entropy(logits, torch.tensor([[0]]), 2, 0.3)
    torch.testing.assert_close(loss, torch.tensor(1.2 * math.log(2)))


def test_cross_entropy_of_nothing_but_padding_is_zero():
    logits = clips(2, 3, 5)
    value, gradient = value_and_gradient(
        label_smoothed_cross_entropy(logits, torch.zeros(2, 3, dtype=torch.long), 0, 0.2), logits
    )
    assert value == 0
    assert not gradient.any()
    with pytest.raises(ValueError, match=r"logits \[B, U, V\]"):
        label_smoothed_cross_entropy(logits, torch.zeros(2, 4, dtype=torch.long), 0)


def test_every_weighted_term_reaches_the_encoder():
    encoder = nn.Linear(6, 4)
    features = encoder(clips(2, 30, 6))
    lengths = torch.tensor([30, 25])
    terms = {
        "signcl": signcl_loss(features, lengths, 3),
        "clip": clip_loss(features.mean(1), clips(2, 4, seed=1), SCALE),
        "ctc": ctc_loss(features.log_softmax(-1), torch.tensor([[1], [2]]), lengths, torch.tensor([1, 1])),
        "translation": label_smoothed_cross_entropy(features, torch.ones(2, 30, dtype=torch.long), 0, 0.1),
    }
    alone = {name: torch.autograd.grad(term, encoder.weight, retain_graph=True)[0] for name, term in terms.items()}
    assert all(gradient.abs().max() > 0 for gradient in alone.values())
    weights = {"signcl": 0.01, "clip": 1.0, "ctc": 5.0, "translation": 2.0}
    total = torch.autograd.grad(weighted_sum(terms, weights), encoder.weight)[0]
    torch.testing.assert_close(total, sum(weights[name] * gradient for name, gradient in alone.items()))


def test_a_term_without_a_weight_is_refused():
    with pytest.raises(ValueError, match=r"names \['a'\], but this stage computes \['a', 'b'\]"):
        weighted_sum({"a": torch.ones(()), "b": torch.ones(())}, {"a": 1.0})
    with pytest.raises(ValueError, match="computes"):
        weighted_sum({}, {})


def test_the_code_in_docs_losses_runs(capsys):
    code = re.findall(
        r"```python\n(.*?)```", (Path(__file__).parents[1] / "docs" / "losses.md").read_text("utf-8"), re.S
    )
    frames = torch.randn(2, 60, 6)
    names = {"encoder": nn.Linear(6, 4), "frames": frames, "translation_loss": torch.zeros(())}
    names |= {"lengths": torch.tensor([60, 50]), "num_words": torch.tensor([9, 8])}
    for block in code:
        exec(block, names)
    assert names["encoder"].weight.grad.abs().max() > 0
    assert "nearer than m 100%" in capsys.readouterr().out
