"""The options of SignCL that are ours: a margin relative to the clip's distances, and signs made twice."""

import importlib.util
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from signcl.losses import SignCL, anchors_with_negative, estimate_frame_margin, frame_distances, signcl_loss
from signcl.training.recipe import recipe_from_dict

OPTIONS = [
    pytest.param({"distance_margin_mode": "relative", "distance_margin": 1.1}, id="relative"),
    pytest.param({"same_sign": 0.75, "distance_margin": 6.0}, id="same-sign"),
    pytest.param({"distance_margin_mode": "relative", "same_sign": 0.6}, id="both"),
]


def clips(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Walks, so that neighbours are nearer than far frames, as in signing."""
    steps = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return (steps.cumsum(dim=1) * 0.5).requires_grad_()


def by_loop(
    x: Tensor,
    lengths: Tensor,
    margins: list[float],
    distance_margin: float = 1.0,
    distance_margin_mode: str = "absolute",
    same_sign: float | None = None,
    listed: Tensor | None = None,
) -> Tensor:
    """Anchor by anchor, pair by pair; means by Python."""
    total = x.new_zeros(())
    for b, n in enumerate(lengths.tolist()):
        far = {
            t: [j for j in range(n) if abs(t - j) > 2 * margins[b]] if listed is None else
               [j for j in listed[b, t].tolist() if 0 <= j < n]
            for t in range(n)
        }  # fmt: skip
        every = [float(torch.dist(x[b, t], x[b, j]).detach()) for t in range(n) for j in far[t]]
        mean = sum(every) / max(1, len(every))
        m = distance_margin * (mean if distance_margin_mode == "relative" else 1)
        for t in range(n):
            near = [torch.dist(x[b, t], x[b, j]) for j in (t - 1, t + 1) if 0 <= j < n]
            pushes = []
            for j in far[t]:
                d = torch.dist(x[b, t], x[b, j])
                counted = 1.0
                if same_sign is not None:
                    counted = 1 / (1 + (same_sign * mean / float(d.detach())) ** 8) if d > 0 else 0.0
                pushes.append(counted * (m - d).clamp(min=0))
            for terms in (near, pushes):
                if terms:
                    total = total + torch.stack(terms).mean() / n
    return total / len(x)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("drawn", [False, True])
def test_value_and_gradient_are_those_of_a_plain_double_loop(options, drawn):
    x, lengths, margins = clips(3, 50, 5), torch.tensor([50, 9, 31]), [4.0, 1.0, 2.3]
    listed = None
    if drawn:
        listed = torch.randint(-1, 60, (3, 50, 4), generator=torch.Generator().manual_seed(1))
    ours = signcl_loss(x, lengths, torch.tensor(margins), negatives=listed, **options)
    loop = by_loop(x, lengths, margins, listed=listed, **options)
    torch.testing.assert_close(ours, loop)
    torch.testing.assert_close(torch.autograd.grad(ours, x)[0], torch.autograd.grad(loop, x)[0])


@pytest.mark.parametrize("options", OPTIONS)
def test_all_pairs_from_products_are_all_pairs_subtracted_one_by_one(options):
    x, lengths = clips(2, 120, 6), torch.tensor([120, 70])
    time = torch.arange(120)
    far = ((time[:, None] - time).abs() > 10) & (time < lengths[:, None, None])
    listed = signcl_loss(x, lengths, 5, negatives=torch.where(far, time, -1), **options)
    whole = signcl_loss(x, lengths, 5, **options)
    torch.testing.assert_close(whole, listed)
    torch.testing.assert_close(torch.autograd.grad(whole, x)[0], torch.autograd.grad(listed, x)[0])


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("negatives", [None, 3])
def test_nothing_waits_for_the_device_or_leaves_it(options, negatives):
    # The meta device holds no numbers to read back, and refuses to be mixed with tensors made on the CPU.
    x = torch.empty(2, 40, 8, device="meta", requires_grad=True)
    lengths, margin = torch.empty(2, device="meta", dtype=torch.long), torch.empty((), device="meta")
    signcl_loss(x, lengths, margin, negatives=negatives, **options).backward()
    assert x.grad.shape == x.shape


def test_switched_off_they_change_no_bit():
    x, lengths = clips(3, 150, 8, dtype=torch.float32), torch.tensor([150, 40, 90])
    for negatives in (None, (torch.arange(150)[:, None] + torch.tensor([20, 50, 71])) % 150):
        off = signcl_loss(x, lengths, 10, distance_margin=7.0, negatives=negatives)
        said = signcl_loss(
            x, lengths, 10, distance_margin=7.0, negatives=negatives, distance_margin_mode="absolute", same_sign=None
        )
        tiny = signcl_loss(x, lengths, 10, distance_margin=7.0, negatives=negatives, same_sign=1e-9)
        assert torch.equal(off, said)
        assert torch.equal(off, tiny)
        assert torch.equal(torch.autograd.grad(off, x)[0], torch.autograd.grad(tiny, x)[0])


@pytest.mark.parametrize("options", [OPTIONS[0], OPTIONS[2]])
@pytest.mark.parametrize("scale", [1e-3, 7.0, 1e4])
def test_a_relative_margin_follows_the_scale_of_the_features(options, scale):
    x, lengths = clips(2, 90, 6), torch.tensor([90, 61])
    large = (x.detach() * scale).requires_grad_()
    loss, scaled = signcl_loss(x, lengths, 8, **options), signcl_loss(large, lengths, 8, **options)
    torch.testing.assert_close(scaled, loss * scale)
    # d/d(cx) of c L(x) is dL/dx: not only the direction of the gradient stays, but its size
    torch.testing.assert_close(torch.autograd.grad(scaled, large)[0], torch.autograd.grad(loss, x)[0])
    absolute = [signcl_loss(v, lengths, 8, distance_margin=5.0) for v in (x, large)]
    assert not torch.isclose(absolute[1], absolute[0] * scale)


@pytest.mark.parametrize("options", OPTIONS)
def test_padding_company_and_doubling_change_nothing(options):
    x, lengths, margin = clips(3, 80, 4), torch.tensor([80, 31, 55]), torch.tensor([6.0, 3.0, 4.0])
    loss = signcl_loss(x, lengths, margin, **options)
    padded = torch.cat([x, torch.full((3, 17, 4), math.nan, dtype=x.dtype)], dim=1)
    torch.testing.assert_close(signcl_loss(padded, lengths, margin, **options), loss)
    twice = signcl_loss(torch.cat([x, x]), lengths.repeat(2), margin.repeat(2), **options)
    torch.testing.assert_close(twice, loss)
    alone = [signcl_loss(x[i : i + 1, :n], lengths[i : i + 1], margin[i : i + 1], **options)
             for i, n in enumerate(lengths.tolist())]  # fmt: skip
    torch.testing.assert_close(torch.stack(alone).mean(), loss)  # so ranks and accumulated batches agree too


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("frames", [1, 2, 5, 40])
def test_equal_frames_and_short_clips_give_numbers(options, frames):
    x = torch.zeros(2, frames, 3, requires_grad=True)
    loss = signcl_loss(x, torch.tensor([frames, 1]), 1, **options)
    (gradient,) = torch.autograd.grad(loss, x)
    assert torch.isfinite(loss)
    assert not gradient.any()


def test_a_half_counted_pair_by_hand():
    # Frames at 0, 1, 2, 3 on a line: every step is 1. Gap 2: the only negatives are (0, 3), their mean distance is 3.
    # same_sign = 1: counted half. m = 5: 1/4 of [anchors 0 and 3: 1 + 0.5 * 2 each; 1 and 2: 1 each] = 6 / 4.
    x = torch.arange(4.0)[None, :, None]
    loss = signcl_loss(x, torch.tensor([4]), 1, distance_margin=5.0, same_sign=1.0)
    torch.testing.assert_close(loss, torch.tensor(1.5))
    # m = 2 * 3 relative: 1/4 of [2 * (1 + 0.5 * 3) + 2] = 7 / 4.
    loss = signcl_loss(x, torch.tensor([4]), 1, distance_margin=2.0, distance_margin_mode="relative", same_sign=1.0)
    torch.testing.assert_close(loss, torch.tensor(1.75))
    found = frame_distances(x, torch.tensor([4]), 1, 5.0, same_sign=1.0)
    torch.testing.assert_close(found.same, torch.tensor(0.5))
    assert frame_distances(x, torch.tensor([4]), 1, 5.0).same == 0


def test_a_sign_made_twice_is_pushed_from_itself_less_and_other_signs_as_before():
    path = Path(__file__).parents[1] / "benchmarks" / "repeats.py"
    spec = importlib.util.spec_from_file_location("repeats", path)
    repeats = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(repeats)
    for seed in range(3):
        x = repeats.repeated_signs(seed)
        plain, aware = repeats.moved(x, None), repeats.moved(x, 0.75)
        assert plain[0] > 2  # the two A's are driven apart, or come together as the frames of one sign do
        assert aware[0] < 0.8
        assert aware[1] > 0.9 * plain[1]  # A and B part all the same


def test_torch_compile_takes_them_whole():
    x, lengths, margins = clips(2, 20, 8), torch.tensor([20, 15]), torch.tensor([2.0, 3.5])
    options = {"distance_margin_mode": "relative", "same_sign": 0.6}
    compiled = torch.compile(signcl_loss, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, lengths, margins, **options), signcl_loss(x, lengths, margins, **options))


def test_the_module_and_the_recipe_pass_them_on():
    x, lengths, words = clips(2, 90, 6), torch.tensor([90, 61]), torch.tensor([9, 7])
    module = SignCL(distance_margin_mode="relative", same_sign=2.0)
    assert module.distance_margin == 1.0
    expected = signcl_loss(
        x, lengths, estimate_frame_margin(lengths, words), distance_margin_mode="relative", same_sign=2.0
    )
    assert torch.equal(module(x, lengths, words), expected)
    assert "same_sign=2.0" in repr(module)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"same_sign": 0.0}, "same_sign above 0"),
        ({"distance_margin_mode": "own"}, "absolute or relative, got 'own'"),
        ({"variant": "released", "same_sign": 3.0}, "for variant paper only"),
        ({"variant": "released", "distance_margin_mode": "relative"}, "for variant paper only"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        signcl_loss(clips(1, 9, 2), torch.tensor([9]), 1, **options)
    with pytest.raises(ValueError, match=message):
        SignCL(**options)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"same_sign": -1.0}, "loss.signcl.same_sign: needs a number above 0"),
        ({"variant": "released", "same_sign": 3.0}, "need variant paper, got variant released"),
        ({"distance_margin_mode": "relativ"}, "did you mean relative"),
    ],
)
def test_a_recipe_with_impossible_options_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        recipe_from_dict({"loss": {"signcl": values}})


@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize("margin", [0.0, 2.0, 2.3, 6.5, 40.0])
def test_anchors_with_a_legal_negative_are_counted_as_a_plain_loop_does(variant, margin):
    lengths, padded = torch.tensor([14, 9, 1, 5]), 14
    margins = torch.full((4,), margin)
    far = anchors = 0
    for length in lengths.tolist():
        frames = range(length) if variant == "paper" else range(1, padded - 2)
        others = range(length) if variant == "paper" else range(2, padded - 2)
        gap = (2 if variant == "paper" else 1) * margin
        anchors += len(frames)
        far += sum(any(abs(t - j) > gap for j in others) for t in frames)
    found = anchors_with_negative(lengths, padded, margins if variant == "paper" else margin, variant)
    assert [int(n) for n in found] == [far, anchors]
    features = torch.randn(4, 14, 3)
    push = signcl_loss(features, lengths, margins, distance_margin=1e3, part="push") if variant == "paper" else None
    assert push is None or bool(push > 0) == (far > 0)
