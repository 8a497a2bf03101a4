"""I3D: windows of clips, TensorFlow's padding, published weights."""

import pytest
import torch
from systems import CASES, batch_of, built, losses, recipe_of, write_corpus
from torch.nn import functional as F

from signcl.data.batch import Batch, pack_positions
from signcl.systems.encoders import I3D, build_visual, initialise_visual, load_i3d_weights
from signcl.systems.terms import weighted_sum
from signcl.training.recipe import recipe_from_dict

TINY = {"window": 4, "stride": 2, "width_factor": 1 / 16}


def clips_of(lengths, size=20, seed=0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return Batch(
        names=[f"c{i}" for i in range(len(lengths))],
        texts=[""] * len(lengths),
        inputs=torch.randint(0, 256, (sum(lengths), size, size, 3), dtype=torch.uint8, generator=generator),
        positions=pack_positions(lengths),
        lengths=torch.tensor(lengths),
        max_length=max(lengths),
        num_words=torch.ones(len(lengths)),
    )


def shaken(model: I3D, seed=0) -> I3D:
    torch.manual_seed(seed)
    for part in model.modules():
        if isinstance(part, torch.nn.BatchNorm3d):
            part.running_mean.uniform_(-0.2, 0.2)
            part.running_var.uniform_(0.5, 2)
            part.weight.data.uniform_(0.5, 1.5)
            part.bias.data.uniform_(-0.2, 0.2)
    return model.eval()


def by_hand(state, clip):
    """Inception-I3D straight from the names of its weights; every "same" padding written out with zeros.

    clip: [1, 3, t, h, w] in -1..1. Source: the layout of the published network, not our tables.
    """

    def same(x, kernel, stride):
        pads = []
        for size, k, s in reversed(list(zip(x.shape[2:], kernel, stride))):
            out = -(-size // s)
            total = max((out - 1) * s + k - size, 0)
            pads += [total // 2, total - total // 2]
        return F.pad(x, pads)

    def unit(name, x, stride=1):
        weight = state[f"{name}.conv3d.weight"]
        x = F.conv3d(same(x, weight.shape[2:], (stride,) * 3), weight, stride=stride)
        norm = [state[f"{name}.bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return torch.relu(F.batch_norm(x, *norm, eps=0.001))

    def pool(x, kernel, stride):
        return F.max_pool3d(same(x, kernel, stride), kernel, stride)

    def mixed(name, x):
        parts = [unit(f"{name}.b0", x), unit(f"{name}.b1b", unit(f"{name}.b1a", x))]
        parts += [unit(f"{name}.b2b", unit(f"{name}.b2a", x)), unit(f"{name}.b3b", pool(x, (3, 3, 3), (1, 1, 1)))]
        return torch.cat(parts, 1)

    x = pool(unit("Conv3d_1a_7x7", clip, 2), (1, 3, 3), (1, 2, 2))
    x = pool(unit("Conv3d_2c_3x3", unit("Conv3d_2b_1x1", x)), (1, 3, 3), (1, 2, 2))
    x = pool(mixed("Mixed_3c", mixed("Mixed_3b", x)), (3, 3, 3), (2, 2, 2))
    for letter in "bcdef":
        x = mixed(f"Mixed_4{letter}", x)
    x = pool(x, (2, 2, 2), (2, 2, 2))
    return mixed("Mixed_5c", mixed("Mixed_5b", x)).mean(dim=(2, 3, 4))


def test_the_published_size_and_names():
    with torch.device("meta"):
        model = I3D()
    # By formula: a unit has c_in c_out k^3 weights and 2 c_out of batch norm.
    mixed = [(192, 64, 96, 128, 16, 32, 32), (256, 128, 128, 192, 32, 96, 64), (480, 192, 96, 208, 16, 48, 64),
             (512, 160, 112, 224, 24, 64, 64), (512, 128, 128, 256, 24, 64, 64), (512, 112, 144, 288, 32, 64, 64),
             (528, 256, 160, 320, 32, 128, 128), (832, 256, 160, 320, 32, 128, 128),
             (832, 384, 192, 384, 48, 128, 128)]  # fmt: skip
    units = [(3, 64, 7), (64, 64, 1), (64, 192, 3)]
    for before, b0, b1a, b1b, b2a, b2b, b3b in mixed:
        units += [(before, b0, 1), (before, b1a, 1), (b1a, b1b, 3), (before, b2a, 1), (b2a, b2b, 3), (before, b3b, 1)]
    formula = sum(a * b * k**3 + 2 * b for a, b, k in units)
    assert sum(p.numel() for p in model.parameters()) == formula == 12_287_264  # published: 12.29 M
    assert model.dim == 1024
    state = model.state_dict()
    assert state["Conv3d_1a_7x7.conv3d.weight"].shape == (64, 3, 7, 7, 7)
    assert state["Mixed_3b.b0.conv3d.weight"].shape == (64, 192, 1, 1, 1)
    assert state["Mixed_5c.b2b.conv3d.weight"].shape == (128, 48, 3, 3, 3)
    assert state["Mixed_5c.b3b.bn.running_var"].shape == (128,)
    assert len(state) == 57 * 6
    norms = {(m.eps, m.momentum) for m in model.modules() if isinstance(m, torch.nn.BatchNorm3d)}
    assert norms == {(0.001, 0.01)}


@pytest.mark.parametrize(("window", "size"), [(8, 32), (5, 45), (16, 20), (1, 33)])
def test_a_window_is_what_the_published_layout_gives(window, size):
    model = shaken(I3D(window=window, width_factor=1 / 8))
    pixels = clips_of([window], size).inputs
    clip = pixels.permute(3, 0, 1, 2)[None].float() / 255 * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(model(pixels[None]), by_hand(model.state_dict(), clip), atol=1e-4, rtol=1e-4)
        turned = I3D(window=window, width_factor=1 / 8, channels="bgr").eval()
        turned.load_state_dict(model.state_dict())
        expected = by_hand(model.state_dict(), clip.flip(1))
        torch.testing.assert_close(turned(pixels[None]), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("window", "stride"), [(4, 2), (8, 2), (3, 5), (6, 1)])
def test_windows_of_clips_are_those_of_a_plain_loop(window, stride):
    lengths = [1, window - 1 or 1, window, window + 1, window + 2 * stride, 17]
    batch = clips_of(lengths)
    model = shaken(I3D(window=window, stride=stride, width_factor=1 / 16))
    with torch.no_grad():
        rows, counts = model.encode_clips(batch)
    assert torch.equal(counts, model.feature_lengths(batch.lengths))
    start = 0
    for row, (count, length) in enumerate(zip(counts.tolist(), lengths)):
        frames = batch.inputs[start : start + length]
        start += length
        longer = torch.cat([frames, frames[-1:].expand(max(0, window - length), -1, -1, -1)])
        firsts = list(range(0, len(longer) - window + 1, stride))
        assert count == len(firsts) == model.num_windows(length)
        for number, first in enumerate(firsts):
            with torch.no_grad():
                alone = model(longer[first : first + window][None])[0]
            torch.testing.assert_close(rows[row, number], alone, atol=1e-4, rtol=1e-4)
        assert not rows[row, count:].any()


def test_a_clip_alone_gives_what_it_gives_in_a_batch():
    model = shaken(I3D(**TINY))
    lengths = [3, 11, 20]
    together, starts = clips_of(lengths), [0, 3, 14]
    with torch.no_grad():
        rows, counts = model.encode_clips(together)
        for i, (length, start) in enumerate(zip(lengths, starts)):
            single = clips_of([length])
            single.inputs = together.inputs[start : start + length]
            alone, count = model.encode_clips(single)
            assert count[0] == counts[i]
            torch.testing.assert_close(rows[i, : counts[i]], alone[0], atol=1e-4, rtol=0)


def test_chunks_change_neither_values_nor_gradients_and_count_once():
    batch = clips_of([9, 4, 13])
    results = []
    for chunk in (None, 10):  # 10 frames: two windows of 4
        torch.manual_seed(0)
        model = I3D(**TINY, chunk=chunk)
        for part in model.modules():
            if isinstance(part, torch.nn.BatchNorm3d):
                part.eval()  # a chunk's batch norm sees its own statistics, so compare without them
        rows, _ = model.encode_clips(batch)
        rows.square().sum().backward()
        results.append((rows, *[p.grad for p in model.parameters()]))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    torch.manual_seed(0)
    counted = I3D(**TINY, chunk=8)
    counted.encode_clips(batch)[0].sum().backward()
    parts = -(-(3 + 1 + 5) // 2)  # chunks of two windows
    assert counted.Conv3d_1a_7x7.bn.num_batches_tracked == parts


def test_gradients_of_bf16_on_a_cpu_are_whole():
    # torch's conv3d left parts of a bfloat16 weight gradient unset: whatever lay in that memory before
    model = I3D(**TINY)
    for _ in range(6):
        waste = [torch.full((50_000,), torch.nan) for _ in range(20)]
        del waste
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            rows, _ = model.encode_clips(clips_of([9, 13], 24))
        rows.float().square().sum().backward()
        assert all(p.grad.isfinite().all() for p in model.parameters())


def test_one_window_of_few_pixels_trains():
    rows, _ = I3D(**TINY).encode_clips(clips_of([3]))  # the last map is a single place, which has no variance
    rows.sum().backward()
    assert rows.isfinite().all()


def test_the_clock_of_windows():
    model = I3D(window=8, stride=2, width_factor=1 / 16)
    assert (model.stride, model.first_centre) == (2, 4.0)  # frames 0..7, the middle of [0, 8)


def published(prefix="", classes=2000, seed=1):
    """A made-up checkpoint with the published names, as torch saves it."""
    torch.manual_seed(seed)
    state = {prefix + k: torch.rand_like(v) if v.is_floating_point() else v for k, v in I3D().state_dict().items()}
    head = {"logits.conv3d.weight": torch.zeros(classes, 1024, 1, 1, 1), "logits.conv3d.bias": torch.zeros(classes)}
    return state | {prefix + name: value for name, value in head.items()}


@pytest.fixture(scope="module")
def checkpoint_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("i3d") / "wlasl.pt"
    torch.save(published(), path)
    return path


def test_a_published_checkpoint_loads_by_name_and_every_tensor_is_accounted_for(checkpoint_file):
    model, state = I3D(), torch.load(checkpoint_file, weights_only=True)
    report = load_i3d_weights(model, state)
    assert len(report.loaded) == 57 * 6
    assert report.dropped == ("logits.conv3d.weight", "logits.conv3d.bias")
    assert set(report.loaded) | set(report.dropped) == set(state)
    assert "342 I3D tensors loaded" in str(report)
    assert "classifier of 2000 classes dropped" in str(report)
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name]), name
    said = initialise_visual(I3D(), f"pretrained:{checkpoint_file}")
    assert "classifier of 2000 classes dropped" in said


def test_weights_under_a_prefix_and_without_counters_load_too():
    old = {k: v for k, v in published("module.", 400).items() if not k.endswith("num_batches_tracked")}
    report = load_i3d_weights(I3D(), {"model": old | {"text.weight": torch.zeros(2)}})
    assert (report.prefix, report.classes, len(report.kept), report.outside) == ("module.", 400, 57, ("text.weight",))


def test_wrong_checkpoints_are_refused_in_a_line_and_change_nothing():
    model, good = I3D(), published()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    stem = "Conv3d_1a_7x7.conv3d.weight"
    for state, message in (
        ({"fc.weight": torch.zeros(2)}, r"exactly one I3D .* it has none; its first keys are fc.weight"),
        (good | {"b." + k: v for k, v in good.items()}, r"it has 2 \('', 'b.'\)"),
        ({k: v for k, v in good.items() if k != "Mixed_4d.b0.bn.weight"}, "missing Mixed_4d.b0.bn.weight"),
        (good | {"Mixed_4d.b9.bn.weight": torch.zeros(1)}, "unknown Mixed_4d.b9.bn.weight"),
        (good | {stem: torch.zeros(64, 2, 7, 7, 7)}, "reads optical flow, but an rgb network is needed"),
        (good | {stem: torch.zeros(8, 3, 7, 7, 7)}, "published ones have width_factor 1"),
    ):
        with pytest.raises(ValueError, match=message):
            load_i3d_weights(model, state)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"visual": "i3d", "i3d": {"window": 0}}, "model.i3d.window: needs a number from 1 to 10000, got 0"),
        ({"visual": "i3d", "i3d": {"channels": "gbr"}}, "model.i3d.channels: needs one of rgb, bgr, got 'gbr'"),
        ({"visual": "small_cnn", "i3d": {"window": 16}}, "belong to model.visual=i3d, and model.visual is small_cnn"),
    ],
)
def test_values_that_cannot_be_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        recipe_from_dict({"model": change})


def test_features_in_place_of_pixels_are_refused():
    with pytest.raises(ValueError, match="i3d needs video frames, but this corpus has features of size 36"):
        build_visual("i3d", feature_dim=36)
    batch = clips_of([9])
    batch.inputs = torch.zeros(9, 36)
    with pytest.raises(ValueError, match=r"I3D needs RGB frames \[N, H, W, 3\], got float32 \[9, 36\]"):
        I3D(**TINY).encode_clips(batch)


@pytest.mark.slow
def test_four_clips_are_learned_by_heart_end_to_end_from_frames(tmp_path):
    corpora = {True: write_corpus(tmp_path / "corpus", pixels=True), False: tmp_path}
    case = next(c for c in CASES if str(c) == "slt-i3d")
    recipe = recipe_of(case, corpora, tmp_path / "run")
    recipe.loss.weights = {"translation": 1.0, "signcl": 0.01}
    recipe.loss.label_smoothing = 0.0
    model, material = built(recipe)
    batch = batch_of(material, recipe, [0, 1, 2, 3])
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(80):
        optimizer.zero_grad()
        terms = losses(model, batch, recipe)
        weighted_sum(terms, recipe.loss.weights).backward()
        optimizer.step()
        if terms["translation"] < 0.01:
            break
    model.eval()
    with torch.no_grad():
        terms = losses(model, batch, recipe)
    assert terms["translation"] < 0.1
    assert model.answer(batch, recipe.decode) == batch.texts
