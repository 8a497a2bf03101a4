"""Frame encoders, augmentation and published weights."""

import pytest
import torch
from torch.nn import functional as F

from signcl.data.sections import AugmentRecipe
from signcl.systems.encoders import (
    FeatureMLP,
    Identity,
    ResNet,
    SmallCNN,
    augment,
    build_visual,
    load_resnet_weights,
)


def frames(count: int, height: int = 32, width: int | None = None, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, height, width or height, 3), dtype=torch.uint8, generator=generator)


@pytest.fixture(scope="module")
def torchvision_weights() -> dict[str, torch.Tensor]:
    """A made-up ResNet-18 checkpoint with torchvision's names, its classifier included."""
    generator = torch.Generator().manual_seed(1)
    state = {"conv1.weight": torch.randn(64, 3, 7, 7, generator=generator) * 0.1}

    def norm(name: str, channels: int) -> None:
        state[f"{name}.weight"] = torch.rand(channels, generator=generator) + 0.5
        state[f"{name}.bias"] = torch.randn(channels, generator=generator) * 0.1
        state[f"{name}.running_mean"] = torch.randn(channels, generator=generator) * 0.1
        state[f"{name}.running_var"] = torch.rand(channels, generator=generator) + 0.5
        state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    norm("bn1", 64)
    before = 64
    for stage, channels in enumerate((64, 128, 256, 512), 1):
        for block in range(2):
            name = f"layer{stage}.{block}"
            state[f"{name}.conv1.weight"] = torch.randn(channels, before, 3, 3, generator=generator) * 0.03
            norm(f"{name}.bn1", channels)
            state[f"{name}.conv2.weight"] = torch.randn(channels, channels, 3, 3, generator=generator) * 0.03
            norm(f"{name}.bn2", channels)
            if before != channels:
                state[f"{name}.downsample.0.weight"] = torch.randn(channels, before, 1, 1, generator=generator) * 0.1
                norm(f"{name}.downsample.1", channels)
            before = channels
    return state | {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}


def resnet_by_hand(state: dict[str, torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """ResNet as torchvision defines it, straight from the names of its weights."""

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        parts = [state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *parts)

    x = torch.relu(norm("bn1", F.conv2d(images, state["conv1.weight"], stride=2, padding=3)))
    x = F.max_pool2d(x, 3, stride=2, padding=1)
    for stage in range(1, 5):
        for block in range(sum(key.startswith(f"layer{stage}.") and key.endswith("conv1.weight") for key in state)):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            deep = f"{name}.conv3.weight" in state
            if deep:
                y = F.conv2d(x, state[f"{name}.conv1.weight"])
                y = F.conv2d(torch.relu(norm(f"{name}.bn1", y)), state[f"{name}.conv2.weight"], None, stride, 1)
                y = F.conv2d(torch.relu(norm(f"{name}.bn2", y)), state[f"{name}.conv3.weight"])
            else:
                y = F.conv2d(x, state[f"{name}.conv1.weight"], stride=stride, padding=1)
                y = F.conv2d(torch.relu(norm(f"{name}.bn1", y)), state[f"{name}.conv2.weight"], padding=1)
            if f"{name}.downsample.0.weight" in state:
                x = norm(f"{name}.downsample.1", F.conv2d(x, state[f"{name}.downsample.0.weight"], stride=stride))
            x = torch.relu(norm(f"{name}.bn{3 if deep else 2}", y) + x)
    return x.mean(dim=(2, 3))


def test_published_sizes():
    with torch.device("meta"):
        made = {depth: build_visual(f"resnet{depth}") for depth in (18, 34, 50, 101)}
    sizes = {depth: sum(p.numel() for p in encoder.parameters()) for depth, encoder in made.items()}
    # torchvision's 11,689,512, 21,797,672, 25,557,032 and 44,549,160 less the classifier
    assert sizes == {18: 11_176_512, 34: 21_284_672, 50: 23_508_032, 101: 42_500_160}
    assert [encoder.dim for encoder in made.values()] == [512, 512, 2048, 2048]
    assert sum(p.numel() for p in SmallCNN().parameters()) == 178_800
    assert sum(p.numel() for p in FeatureMLP(36).parameters()) == 21_832


def test_torchvision_weights_give_torchvisions_features(torchvision_weights):
    encoder = ResNet(18).eval()
    report = load_resnet_weights(encoder, torchvision_weights)
    assert report.source == "torchvision"
    assert report.dropped == ("fc.weight", "fc.bias")
    assert (len(report.loaded), report.outside, report.kept) == (120, (), ())
    pixels = frames(2, 64)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    images = ((pixels.float() / 255 - mean) / std).permute(0, 3, 1, 2)
    with torch.no_grad():
        features = encoder(pixels)
    torch.testing.assert_close(features, resnet_by_hand(torchvision_weights, images), rtol=1e-3, atol=1e-3)


def bottleneck_weights() -> dict[str, torch.Tensor]:
    """A made-up ResNet-50 checkpoint with torchvision's names and shapes."""
    generator = torch.Generator().manual_seed(2)
    state = {}

    def layer(conv: str, norm: str, size: tuple[int, int, int]) -> None:
        out, into, kernel = size
        state[f"{conv}.weight"] = torch.randn(out, into, kernel, kernel, generator=generator) / (into**0.5 * kernel)
        for part in ("weight", "running_var"):
            state[f"{norm}.{part}"] = torch.rand(out, generator=generator) + 0.5
        for part in ("bias", "running_mean"):
            state[f"{norm}.{part}"] = torch.randn(out, generator=generator) * 0.1
        state[f"{norm}.num_batches_tracked"] = torch.tensor(7)

    layer("conv1", "bn1", (64, 3, 7))
    before = 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        inner = 64 * 2**stage
        for block in range(blocks):
            name = f"layer{stage + 1}.{block}"
            layer(f"{name}.conv1", f"{name}.bn1", (inner, before, 1))
            layer(f"{name}.conv2", f"{name}.bn2", (inner, inner, 3))
            layer(f"{name}.conv3", f"{name}.bn3", (4 * inner, inner, 1))
            if block == 0:
                layer(f"{name}.downsample.0", f"{name}.downsample.1", (4 * inner, before, 1))
            before = 4 * inner
    return state | {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}


def test_a_resnet50_of_torchvision_gives_torchvisions_features():
    state, encoder = bottleneck_weights(), ResNet(50).eval()
    report = load_resnet_weights(encoder, state)
    assert (report.source, len(report.loaded), report.outside, report.kept) == ("torchvision", 318, (), ())
    pixels = frames(2, 64)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    images = ((pixels.float() / 255 - mean) / std).permute(0, 3, 1, 2)
    with torch.no_grad():
        features = encoder(pixels)
    assert features.shape == (2, 2048)
    torch.testing.assert_close(features, resnet_by_hand(state, images), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match=r"resnet34 and the checkpoint differ.*set model.visual to the depth"):
        load_resnet_weights(ResNet(34), state)


@pytest.mark.parametrize("prefix", ["module.", "backbone.conv_2d.resnet.", "model_images.model.conv_2d.resnet."])
def test_weights_inside_a_larger_checkpoint_are_found(torchvision_weights, prefix):
    old = {k: v for k, v in torchvision_weights.items() if not k.endswith("num_batches_tracked")}
    state = {prefix + key: value for key, value in old.items()} | {"mbart.lm_head.weight": torch.zeros(3, 4)}
    encoder = ResNet(18)
    report = load_resnet_weights(encoder, {"model": state, "epoch": 3})
    assert report.prefix == prefix
    assert report.outside == ("mbart.lm_head.weight",)
    assert (len(report.loaded), len(report.kept), len(report.dropped)) == (100, 20, 2)
    loaded = encoder.resnet.encoder.stages[3].layers[1].layer[0].convolution.weight
    torch.testing.assert_close(loaded, torchvision_weights["layer4.1.conv1.weight"])
    assert "100 ResNet tensors loaded (torchvision names" in str(report)


def test_transformers_names_load_too():
    source, target = ResNet(18), ResNet(18)
    state = {f"resnet.{key}": value for key, value in source.resnet.state_dict().items()}
    report = load_resnet_weights(target, state | {"classifier.1.weight": torch.zeros(2, 512)})
    assert (report.source, report.prefix, report.dropped) == ("transformers", "resnet.", ("classifier.1.weight",))
    pixels = frames(1)
    torch.testing.assert_close(source.eval()(pixels), target.eval()(pixels))


def test_weights_that_do_not_fit_are_refused_and_change_nothing(torchvision_weights):
    encoder = ResNet(18)
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    with pytest.raises(ValueError, match=r"unknown layer3.2.conv1.weight; set model.visual"):
        load_resnet_weights(encoder, torchvision_weights | {"layer3.2.conv1.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"missing layer2.0.bn1.weight"):
        load_resnet_weights(encoder, {k: v for k, v in torchvision_weights.items() if k != "layer2.0.bn1.weight"})
    with pytest.raises(ValueError, match=r"layer4.1.conv1.weight needs shape \[512, 512, 3, 3\].*\[512, 2\]"):
        load_resnet_weights(encoder, torchvision_weights | {"layer4.1.conv1.weight": torch.zeros(512, 2)})
    with pytest.raises(ValueError, match=r"exactly one ResNet .* it has none; its first keys are lm_head.weight"):
        load_resnet_weights(encoder, {"lm_head.weight": torch.zeros(2)})
    with pytest.raises(ValueError, match=r"it has none; its first keys are no tensors at all"):
        load_resnet_weights(encoder, {})
    twice = {f"{side}.{key}": value for side in ("a", "b") for key, value in torchvision_weights.items()}
    with pytest.raises(ValueError, match=r"it has 2 \('a.', 'b.'\)"):
        load_resnet_weights(encoder, twice)
    for key, value in encoder.state_dict().items():
        assert torch.equal(value, before[key])


@pytest.mark.parametrize("size", [48, 64, 96])
def test_small_cnn_takes_frames_one_by_one(size):
    encoder = SmallCNN(24)  # in training mode: a frame's vector must not depend on the batch
    pixels = frames(3, size, size - 8)
    features = encoder(pixels)
    assert features.shape == (3, 24)
    torch.testing.assert_close(features[1:2], encoder(pixels[1:2]), rtol=1e-4, atol=1e-5)


def test_bytes_and_floats_are_the_same_picture():
    encoder, pixels = SmallCNN(8), frames(2)
    torch.testing.assert_close(encoder(pixels), encoder(pixels.float() / 255))


def test_chunks_change_neither_values_nor_gradients():
    pixels = frames(7)
    torch.manual_seed(0)
    whole = SmallCNN(8)
    chunked = SmallCNN(8, chunk=3)
    chunked.load_state_dict(whole.state_dict())
    results = []
    for encoder in (whole, chunked):
        features = encoder(pixels)
        features.square().sum().backward()
        results.append((features, *[p.grad for p in encoder.parameters()]))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_recomputed_chunks_move_the_running_statistics_once():
    pixels = frames(4)
    torch.manual_seed(0)
    plain, chunked = ResNet(18), ResNet(18, chunk=2)
    chunked.load_state_dict(plain.state_dict())
    by_hand = torch.cat([plain(pixels[:2]), plain(pixels[2:])])
    features = chunked(pixels)
    features.sum().backward()
    torch.testing.assert_close(features, by_hand, rtol=1e-4, atol=1e-4)
    for (name, one), other in zip(plain.named_buffers(), chunked.buffers(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4, msg=name)
    chunked.eval()
    whole = chunked.chunk
    chunked.chunk = None
    one = chunked(pixels)
    chunked.chunk = whole
    torch.testing.assert_close(chunked(pixels), one, rtol=1e-4, atol=1e-4)


def test_feature_mlp_takes_sensor_units():
    torch.manual_seed(0)
    encoder = FeatureMLP(5, 16)
    rows = torch.randn(30, 5) * torch.tensor([1e4, 1.0, 1.0, 20.0, 1.0]) + 100
    features = encoder(rows)
    assert features.shape == (30, 16)
    rescaled = FeatureMLP(5, 16)
    rescaled.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(rescaled(rows * 10), features, rtol=1e-2, atol=1e-2)
    assert encoder(rows[:1]).isfinite().all()  # a clip of one frame


def test_the_door_names_what_is_needed():
    with pytest.raises(ValueError, match=r"Identity needs float features \[N, 36\], got float32 \[4, 35\]"):
        Identity(36)(torch.zeros(4, 35))
    with pytest.raises(ValueError, match=r"FeatureMLP needs float features \[N, 36\], got uint8 \[4, 8, 8, 3\]"):
        FeatureMLP(36)(frames(4, 8))
    with pytest.raises(ValueError, match=r"SmallCNN needs RGB frames .* got float32 \[4, 36\]"):
        SmallCNN()(torch.zeros(4, 36))
    with pytest.raises(ValueError, match="got 'resnet_18'; did you mean resnet18"):
        build_visual("resnet_18")
    with pytest.raises(ValueError, match="identity needs a corpus of features"):
        build_visual("identity")
    with pytest.raises(ValueError, match="small_cnn needs video frames, but this corpus has features of size 36"):
        build_visual("small_cnn", feature_dim=36)
    with pytest.raises(ValueError, match="depth 18 or 34 or 50 or 101, got 152"):
        ResNet(152)
    with pytest.raises(ValueError, match="at least 1 frame, got 0"):
        SmallCNN(chunk=0)
    assert build_visual("feature_mlp", feature_dim=36, dim=64).dim == 64
    assert build_visual("identity", feature_dim=36).dim == 36
    assert build_visual("small_cnn", dim=32).dim == 32


def test_every_frame_of_a_clip_is_changed_alike_and_clips_differ():
    picture = frames(1, 24, 20)
    inputs = picture.expand(6, -1, -1, -1)
    clip_index = torch.tensor([0, 0, 0, 1, 1, 2])
    settings = AugmentRecipe(probability=1, brightness=0.2, contrast=0.2, flip=True)
    results = [augment(inputs, clip_index, 3, torch.Generator().manual_seed(5), settings) for _ in range(2)]
    out = results[0]
    assert (out.shape, out.dtype) == (inputs.shape, torch.uint8)
    assert torch.equal(out, results[1])  # by the generator alone
    assert torch.equal(out[0], out[1]) and torch.equal(out[0], out[2]) and torch.equal(out[3], out[4])  # noqa: PT018
    assert not torch.equal(out[0], out[3])
    assert not torch.equal(out[0], picture[0])


def test_each_kind_by_hand():
    pixels, clip_index = frames(2, 16, 12), torch.tensor([0, 1])

    def changed(probability: float = 1.0, **kinds: float) -> torch.Tensor:
        off = {"rotate": 0.0, "scale": 0.0, "translate": 0.0}
        generator = torch.Generator().manual_seed(3)
        return augment(pixels, clip_index, 2, generator, AugmentRecipe(probability, **(off | kinds)))

    assert torch.equal(changed(), pixels)  # every kind at zero
    assert changed(probability=0.0, rotate=30.0) is pixels
    assert torch.equal(changed(flip=True), pixels.flip(2))
    brighter = changed(brightness=0.5).float().mean(dim=(1, 2, 3)) / pixels.float().mean(dim=(1, 2, 3))
    assert ((brighter - 1).abs() > 0.01).all()
    assert ((brighter - 1).abs() < 0.5).all()


def test_a_turned_frame_keeps_its_centre_and_its_area():
    frame = torch.zeros(1, 40, 60, 3, dtype=torch.uint8)
    frame[0, 15:25, 20:40] = 200  # 10 x 20 pixels in the middle of a frame that is not square
    for seed in range(4):
        settings = AugmentRecipe(1.0, rotate=90, scale=0, translate=0)
        out = augment(frame, torch.tensor([0]), 1, torch.Generator().manual_seed(seed), settings).float()
        assert abs(out[..., 0].sum().item() / (200 * 200) - 1) < 0.03
        rows = (out[0, :, :, 0].sum(1) * torch.arange(40)).sum() / out[0, :, :, 0].sum()
        assert abs(rows.item() - 19.5) < 0.1


def test_a_shift_moves_the_picture_by_no_more_than_its_share_of_the_side():
    pixels = torch.zeros(1, 40, 60, 3, dtype=torch.uint8)
    pixels[0, 20, 30] = 255
    settings = AugmentRecipe(1.0, rotate=0, scale=0, translate=0.1)  # at most 6 columns and 4 rows
    for seed in range(8):
        out = augment(pixels, torch.tensor([0]), 1, torch.Generator().manual_seed(seed), settings)[0, :, :, 0].float()
        row, column = divmod(int(out.argmax()), 60)
        assert abs(row - 20) <= 4
        assert abs(column - 30) <= 6


def test_features_cannot_be_augmented():
    with pytest.raises(ValueError, match=r"uint8 frames .* got torch.float32 \[4, 36\]"):
        augment(torch.zeros(4, 36), torch.zeros(4).long(), 1)
