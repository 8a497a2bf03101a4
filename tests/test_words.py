"""Word-aware SignCL and the contrast of words over clips: plain loops, padding, gradients; and what they remember."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import layer_norm

from paper.word_shares import compare
from signcl.data.batch import Span
from signcl.losses import SignCL, signcl_loss, word_contrast_loss, word_shares
from signcl.systems import system_class
from signcl.systems.parts.word_memory import WordMemory
from signcl.testing import tiny_recipe
from signcl.training import fit, run_folder
from signcl.training.runs import load_run

LENGTHS = torch.tensor([14, 9, 1])
OWN = torch.tensor([[1.0, 1, 0, 1, 0], [0, 1, 1, 0, 0], [0, 0, 0, 0, 1]])
"""Words of each clip; the first two share word 1, nobody shares the third's."""


@pytest.fixture
def clips():
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(3, 14, 6, generator=draw, dtype=torch.float64)
    words = torch.randn(5, 6, generator=draw, dtype=torch.float64)
    return features, words, word_shares(features, LENGTHS, OWN, words, temperature=0.5)


def padded(features):
    """More padding, and NaN on it."""
    wide = torch.full((3, 20, 6), math.nan, dtype=features.dtype)
    for b, length in enumerate(LENGTHS.tolist()):
        wide[b, :length] = features[b, :length]
    return wide


def test_shares_are_a_plain_softmax_over_the_clips_own_words(clips):
    features, words, shares = clips
    for b, length in enumerate(LENGTHS.tolist()):
        for t in range(14):
            z = layer_norm(features[b, t], (6,))
            near = {w: float(z @ words[w]) / float(z.norm() * words[w].norm()) for w in range(5) if OWN[b, w]}
            total = sum(math.exp(cosine / 0.5) for cosine in near.values())
            for w in range(5):
                plain = math.exp(near[w] / 0.5) / total if w in near and t < length else 0.0
                assert float(shares[b, t, w]) == pytest.approx(plain, rel=1e-9)
    wide = word_shares(padded(features), LENGTHS, OWN, words, temperature=0.5)
    torch.testing.assert_close(wide[:, :14], shares)
    assert not wide[:, 14:].any()
    assert not word_shares(features, LENGTHS, torch.zeros(3, 5), words).any(), "no known word, no share"
    alike = word_shares(features, LENGTHS, OWN, torch.zeros(5, 6))
    torch.testing.assert_close(alike[0, 0], torch.tensor([1, 1, 0, 1, 0], dtype=torch.float64) / 3)


def plain_signcl(features, same_word, gap, m):
    """Eq. 5 pair by pair, a far pair counted 1 - same_word."""
    clips = []
    for b, length in enumerate(LENGTHS.tolist()):
        anchors = []
        for t in range(length):
            near = [(features[b, t] - features[b, i]).norm() for i in (t - 1, t + 1) if 0 <= i < length]
            far = [
                (1 - same_word[b, t, j]) * (m - (features[b, t] - features[b, j]).norm()).clamp(min=0)
                for j in range(length)
                if abs(j - t) > gap
            ]
            anchors.append(sum(sum(part) / len(part) for part in (near, far) if part) + 0 * features[b, t].sum())
        clips.append(sum(anchors) / length)
    return sum(clips) / len(clips)


@pytest.mark.parametrize("how", ["all", "listed"])
def test_word_aware_signcl_is_a_plain_loop_with_its_gradient(clips, how):
    features, _, shares = clips
    same_word = shares @ shares.mT
    listed = None
    if how == "listed":  # every legal partner by name gives the same as all pairs
        listed = torch.tensor([[[j if abs(j - t) > 4 else -1 for j in range(14)] for t in range(14)]] * 3)
    values, gradients = [], []
    for plain in (False, True):
        x = features.clone().requires_grad_()
        value = (
            plain_signcl(x, same_word, 4, 3.0)
            if plain
            else signcl_loss(x, LENGTHS, 2, distance_margin=3.0, negatives=listed, same_word=same_word)
        )
        value.backward()
        values.append(value.detach())
        gradients.append(x.grad)
    torch.testing.assert_close(values[0], values[1])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_word_aware_signcl_at_its_ends(clips):
    features, _, shares = clips
    same_word = shares @ shares.mT

    def value(x, same, **options):
        return float(signcl_loss(x, LENGTHS, 2, distance_margin=3.0, same_word=same, **options))

    plain = float(signcl_loss(features, LENGTHS, 2, distance_margin=3.0))
    pull = float(signcl_loss(features, LENGTHS, 2, distance_margin=3.0, part="pull"))
    assert value(features, torch.zeros(3, 14, 14)) == pytest.approx(plain)
    assert value(features, torch.ones(3, 14, 14)) == pytest.approx(pull), "one word alone is never pushed apart"
    between = value(features, same_word)
    assert pull < between < plain
    wide = torch.nn.functional.pad(same_word, (0, 6, 0, 6), value=math.nan)
    assert value(padded(features), wide) == pytest.approx(between), "padding changes nothing"
    twice = signcl_loss(features.repeat(2, 1, 1), LENGTHS.repeat(2), 2, distance_margin=3.0,
                        same_word=same_word.repeat(2, 1, 1))  # fmt: skip
    assert float(twice) == pytest.approx(between)
    words = torch.tensor([4, 3, 1])
    module = SignCL(distance_margin=3.0, floor=2, words_per_gloss=0.1)(features, LENGTHS, words, same_word=same_word)
    assert float(module) == pytest.approx(between)


def plain_contrast(features, shares, temperature):
    """Pair by pair over frames of different clips."""
    frames = [(b, t) for b, length in enumerate(LENGTHS.tolist()) for t in range(length)]
    z = layer_norm(features, (6,))
    total = weight = 0
    for b, t in frames:
        others = [(c, u) for c, u in frames if c != b]
        near = [z[b, t] @ z[c, u] / z[b, t].norm() / z[c, u].norm() / temperature for c, u in others]
        below = torch.stack(near).logsumexp(0)
        for (c, u), cosine in zip(others, near):
            q = float(shares[b, t] @ shares[c, u])
            total, weight = total - q * (cosine - below), weight + q
    return total / weight


def test_the_word_contrast_is_a_plain_loop_with_its_gradient(clips):
    features, _, shares = clips
    gradients = []
    for name, loss in (
        ("plain", lambda x: plain_contrast(x, shares, 0.1)),
        ("ours", lambda x: word_contrast_loss(x, LENGTHS, shares, frames=None)),
        ("padded", lambda x: word_contrast_loss(
            torch.cat([x, torch.full((3, 6, 6), math.nan, dtype=x.dtype)], dim=1), LENGTHS,
            torch.cat([shares, torch.full((3, 6, 5), math.nan, dtype=x.dtype)], dim=1), frames=None)),
    ):  # fmt: skip
        x = features.clone().requires_grad_()
        value = loss(x)
        value.backward()
        gradients.append((name, value.detach(), x.grad))
    for name, value, gradient in gradients[1:]:
        torch.testing.assert_close(value, gradients[0][1], msg=name)
        torch.testing.assert_close(gradient, gradients[0][2], msg=name)


@pytest.mark.parametrize("case", ["one clip", "no shared word", "no word", "constant", "one frame each", "huge"])
def test_impossible_batches_give_numbers(case):
    features, lengths = torch.randn(2, 5, 4), torch.tensor([5, 3])
    own = torch.tensor([[1.0, 0], [0, 1]]) if case == "no shared word" else torch.ones(2, 2)
    if case == "one clip":
        features, lengths, own = features[:1], lengths[:1], own[:1]
    own = own * (case != "no word")
    features = torch.ones_like(features) if case == "constant" else features * (1e18 if case == "huge" else 1)
    lengths = torch.ones_like(lengths) if case == "one frame each" else lengths
    features.requires_grad_()
    shares = word_shares(features, lengths, own, torch.randn(2, 4))
    contrast = word_contrast_loss(features, lengths, shares)
    frames = signcl_loss(features, lengths, 1, same_word=shares @ shares.mT)
    (contrast + frames).backward()
    contrast = contrast.detach()
    assert contrast.isfinite()
    assert features.grad.isfinite().all()
    if case in ("one clip", "no shared word", "no word"):
        assert float(contrast) == 0


def test_wrong_input_is_named():
    x, lengths, shares = torch.ones(2, 3, 4), torch.tensor([3, 3]), torch.ones(2, 3, 2)
    with pytest.raises(ValueError, match=r"same_word \[2, 3, 3\], got \[2, 3, 2\]"):
        signcl_loss(x, lengths, 1, same_word=shares)
    with pytest.raises(ValueError, match="same_word for variant paper only"):
        signcl_loss(x, lengths, 1, same_word=torch.ones(2, 3, 3), variant="released")
    with pytest.raises(ValueError, match=r"own \[B, V\] and words \[V, D\], got \[2, 3, 4\], \[2, 2\] and \[3, 4\]"):
        word_shares(x, lengths, torch.ones(2, 2), torch.ones(3, 4))
    with pytest.raises(ValueError, match="temperature above 0, got 0"):
        word_shares(x, lengths, torch.ones(2, 2), torch.ones(2, 4), temperature=0)
    with pytest.raises(ValueError, match=r"shares \[B, T, V\] for features \[2, 3, 4\], got \[2, 4, 2\]"):
        word_contrast_loss(x, lengths, torch.ones(2, 4, 2))
    with pytest.raises(ValueError, match=r"above 0 and at least 1 frame, got 0\.1 and 0"):
        word_contrast_loss(x, lengths, shares, frames=0)


# -- the memory -------------------------------------------------------------------------------------------------------


def test_the_memory_finds_which_frames_show_which_word():
    """Clips of 4 signs of 12, each with a vector of its own: after 40 steps 9 of 10 frames are given to their word."""
    draw = torch.Generator().manual_seed(0)
    signs, memory = torch.randn(12, 24, generator=draw), WordMemory(24, 12)
    right = []
    for _ in range(40):
        words = torch.stack([torch.randperm(12, generator=draw)[:4] for _ in range(4)])
        truth = words.repeat_interleave(6, dim=1)  # six frames each
        frames = signs[truth] + 0.5 * torch.randn(4, 24, 24, generator=draw) + 3  # 3: all frames have it
        own = torch.zeros(4, 12).scatter(1, words, 1.0)
        shares = memory.shares(frames, torch.full((4,), 24), own, 0.05)
        memory.learn(frames, torch.full((4,), 24), shares, 0.05)
        right.append(float((shares.argmax(dim=2) == truth).double().mean()))
    assert right[0] < 0.5
    assert sum(right[-5:]) / 5 > 0.9


def test_the_memory_is_a_running_mean_by_hand():
    # z of (3, 1) is (1, -1), of (1, 3) is (-1, 1), up to layer norm's epsilon.
    memory, lengths, own = WordMemory(2, 2), torch.tensor([2]), torch.tensor([[1.0, 0.0]])
    for features in ([[3.0, 1.0], [3.0, 1.0]], [[1.0, 3.0], [3.0, 1.0]], [[1.0, 3.0], [1.0, 3.0]]):
        x = torch.tensor([features])
        memory.learn(x, lengths, memory.shares(x, lengths, own, 0.05), rate=0.4)
    # means of the steps: 1, 0, -1; paces 1, 1/2, 0.4: 1, 0.5, -0.1
    expected = torch.tensor([[-0.1, 0.1], [0.0, 0.0], [-0.1, 0.1]])
    torch.testing.assert_close(memory.means, expected, atol=1e-4, rtol=1e-4)
    assert memory.steps.tolist() == [3, 0, 3]
    kept = memory.means.clone()
    bad = torch.tensor([[[math.nan, 1.0], [1.0, 3.0]]])
    memory.learn(bad, lengths, torch.ones(1, 2, 2), rate=0.4)
    assert torch.equal(memory.means, kept)
    longer = torch.full((1, 5, 2), math.nan)
    longer[:, :2] = x
    other = WordMemory(2, 2)
    other.learn(longer, lengths, other.shares(longer, lengths, own, 0.05), rate=0.4)
    assert other.means.isfinite().all()


def test_ranks_learn_as_one_batch():
    features, lengths, own = torch.randn(4, 6, 3), torch.tensor([6, 4, 5, 2]), torch.ones(4, 2)
    whole, half = WordMemory(3, 2), WordMemory(3, 2)
    whole.learn(features, lengths, whole.shares(features, lengths, own, 0.05), 0.05)
    sums = []
    for part in (slice(0, 2), slice(2, 4)):
        other = WordMemory(3, 2)
        shares = other.shares(features[part], lengths[part], own[part], 0.05)
        other.learn(features[part], lengths[part], shares, 0.05, lambda s: (sums.append(s), s)[1])
    shares = half.shares(features[:2], lengths[:2], own[:2], 0.05)
    half.learn(features[:2], lengths[:2], shares, 0.05, lambda s: torch.cat(sums))
    torch.testing.assert_close(half.means, whole.means)


def test_shares_are_compared_with_the_spans():
    # frames 0 to 1 show A, 4 to 5 B and 8 to 9 A again; word 0 is A's, word 1 nobody's; B has no word in the sentence
    spans = [Span("A", 0, 2), Span("B", 4, 6), Span("A", 8, 10)]
    shares = torch.tensor(
        [[1.0, 0.0, 0.0]] * 2 + [[0.5, 0.5, 0.0]] * 2 + [[0.75, 0.25, 0.0]] * 2 + [[0.0, 1.0, 0.0]] * 4
    )
    told = compare(shares, spans, 1.0, {"A": {0}, "B": {2}})
    assert {name: len(values) for name, values in told.items()} == {
        "named": 6, "found": 4, "chance": 4, "same": 8, "other": 16,
    }  # fmt: skip
    assert told["named"].mean() == pytest.approx(4 / 6)
    assert told["found"].mean() == 0.5, "frames 0 and 1 of A are found, 8 and 9 are not"
    assert told["chance"].mean() == 0.5, "the clip has two words"
    assert told["same"].mean() == 0, "frames 0, 1 and 8, 9 have other words"
    assert told["other"].mean() == pytest.approx((0.75 + 0.25) / 2)


# -- in a run ---------------------------------------------------------------------------------------------------------

WORDS = {"min_count": 1, "max_share": 1.0}
LOSS = {
    "weights": {"translation": 1.0, "word_signcl": 0.03, "word_contrast": 0.1},
    "word_signcl": WORDS,
    "word_contrast": WORDS | {"frames": 64},
}


def short(folder, out, steps, **changes):
    """A few steps of a small Transformer on the tiny corpus."""
    train = {"max_steps": steps, "epochs": 4, "batch_size": 4, "schedule": "constant", "warmup_steps": 0}
    recipe = tiny_recipe(system_class("slt"), folder, {"loss": LOSS, **changes})
    return replace(recipe, out=str(folder / out), train=replace(recipe.train, **train))


def test_a_run_keeps_its_memory_and_goes_on_with_it(tmp_path):
    whole = fit(short(tmp_path, "whole", 4), progress=False)
    for steps in (2, 4):
        parts = fit(short(tmp_path, "parts", steps), progress=False)
    tensors, others = (run_folder.load_state(run)["model"] for run in (whole, parts))
    assert float(tensors["term_memory.word_contrast.steps"].max()) == 4
    assert tensors.keys() == others.keys()
    assert all(torch.equal(tensor, others[name]) for name, tensor in tensors.items())
    kept = load_run(whole).model.state_dict()
    assert kept["term_memory.word_signcl.means"].abs().sum() > 0, "it is kept with the weights"
    # another run starts from its weights, and learns its own words
    other = short(tmp_path, "other", 1, model={"init_from": str(tmp_path / "whole")})
    said = run_folder.read_card(fit(other, progress=False))["initialised"]
    assert "every tensor transferred" in said[0]
    assert float(load_run(tmp_path / "other").model.state_dict()["term_memory.word_signcl.steps"].max()) == 1
    alone = {"weights": {"translation": 1.0}}
    plain = short(tmp_path, "plain", 1, model={"init_from": str(tmp_path / "whole")}, loss=alone)
    assert not hasattr(load_run(fit(plain, progress=False)).model, "term_memory")


def test_dropped_short_words_are_told_and_can_be_kept(tmp_path, capsys):
    """A small vocabulary consists of short words: on the synthetic corpus man, buy and two were dropped in silence."""
    words = WORDS | {"stop_share": 0.0}
    fit(short(tmp_path, "a", 1, loss=LOSS | {"word_signcl": words | {"stop_length": 5}}), progress=False)
    told = [line for line in capsys.readouterr().err.splitlines() if "function words" in line]
    assert len(told) == 1
    assert "loss.word_signcl: uses" in told[0]
    assert told[0].endswith("if they are signed, set loss.word_signcl.stop_length=0")
    dropped = load_run(tmp_path / "a").targets.makers["word_signcl"].words.vocabulary
    fit(short(tmp_path, "b", 1, loss=LOSS | {"word_signcl": words | {"stop_length": 0}}), progress=False)
    assert "function words" not in capsys.readouterr().err
    every = load_run(tmp_path / "b").targets.makers["word_signcl"].words.vocabulary
    assert {word for word in every if len(word) > 5} == set(dropped) < set(every)


def test_the_released_variant_and_a_vocabulary_of_nothing_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"word_signcl: needs .*variant=paper, got released"):
        fit(short(tmp_path, "a", 1, loss=LOSS | {"signcl": {"variant": "released"}}), progress=False)
    rare = LOSS | {"word_signcl": {"min_count": 1000}}
    with pytest.raises(ValueError, match="word_signcl: no word of the 8 training sentences is left; raise"):
        fit(short(tmp_path, "b", 1, loss=rare), progress=False)
