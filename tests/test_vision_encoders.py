"""Published vision models as frame encoders (`signcl extract --encoder`): pictures, windows, scales, stores."""

import json

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from signcl.cli import main
from signcl.data.features import FeatureStore, read_features
from signcl.systems.encoders import VisionReading, open_vision
from signcl.testing import write_tiny_corpus

VIT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "image_size": 28,
       "patch_size": 14}  # fmt: skip
TEXT = {"vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
SQUARE, SHORT = {"height": 28, "width": 28}, {"shortest_edge": 28}
KINDS = {
    "clip": (transformers.CLIPConfig, {"text_config": TEXT, "vision_config": VIT}, "CLIPImageProcessor",
             {"size": SHORT, "crop_size": SQUARE}),
    "siglip": (transformers.SiglipConfig, {"text_config": TEXT, "vision_config": VIT}, "SiglipImageProcessor",
               {"size": SQUARE}),
    "dinov2": (transformers.Dinov2Config, VIT | {"mlp_ratio": 2}, "BitImageProcessor",
               {"size": {"shortest_edge": 32}, "crop_size": SQUARE}),
    "dinov3": (transformers.DINOv3ViTConfig, VIT | {"num_register_tokens": 2}, "ViTImageProcessor", {"size": SQUARE}),
    "vit": (transformers.ViTConfig, VIT, "ViTImageProcessor", {"size": SQUARE}),
    "videomae": (transformers.VideoMAEConfig, VIT | {"num_frames": 4, "tubelet_size": 2}, "VideoMAEImageProcessor",
                 {"size": SHORT, "crop_size": SQUARE}),
}  # fmt: skip


@pytest.fixture(scope="session")
def vision(tmp_path_factory):
    """A folder of every kind as transformers saves it, made when it is asked for."""
    root, made = tmp_path_factory.mktemp("vision"), {}

    def folder(kind):
        if kind not in made:
            made[kind] = root / kind
            config, sizes, processor, settings = KINDS[kind]
            torch.manual_seed(3)
            transformers.AutoModel.from_config(config(**sizes)).save_pretrained(made[kind])
            getattr(transformers, processor)(**settings).save_pretrained(made[kind])
        return made[kind]

    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_tiny_corpus(tmp_path_factory.mktemp("vision-corpus") / "pictures", pixels=True)


def some_frames(count=3, height=40, width=36):
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("kind", KINDS)
def test_a_frame_is_prepared_and_seen_as_by_the_model_itself(kind, vision):
    folder, frames = vision(kind), some_frames(4)
    encoder = open_vision(str(folder))
    pictures = [Image.fromarray(frame) for frame in frames.numpy()]
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    values = processor(pictures, return_tensors="pt")["pixel_values"]
    ours = encoder.prepare(frames)
    # within a grey value of Pillow's resizing, whose filters are rounded to integers
    step = 1.01 / 255 / min(encoder.prepare.std)
    torch.testing.assert_close(ours, values.flatten(0, 1) if kind == "videomae" else values, atol=step, rtol=0)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    model = getattr(model, "vision_model", model)
    with torch.no_grad():
        if kind == "videomae":
            states = model(pixel_values=ours[None]).last_hidden_state.mean(dim=1)
            torch.testing.assert_close(encoder(frames[None]), states)
            return
        out = model(pixel_values=ours)
    expected = out.last_hidden_state[:, 0] if kind == "vit" else out.pooler_output
    torch.testing.assert_close(encoder(frames), expected)
    assert encoder.dim == 16
    assert not any(p.requires_grad for p in encoder.parameters())


def test_two_scales_are_the_frame_and_the_mean_of_its_quarters(vision):
    frames = some_frames(2, 56, 56)
    encoder = open_vision(str(vision("clip")), VisionReading(scales=(1, 2), chunk=1))
    once = open_vision(str(vision("clip")))
    found = encoder(frames)
    assert found.shape == (2, 32)
    torch.testing.assert_close(found[:, :16], once(frames))
    quarters = [frames[:, y : y + 28, x : x + 28] for y in (0, 28) for x in (0, 28)]  # at twice 28 nothing is resized
    torch.testing.assert_close(found[:, 16:], torch.stack([once(q) for q in quarters]).mean(dim=0))


def test_registers_and_class_token_are_no_patches(vision):
    frames = some_frames()
    mean = open_vision(str(vision("dinov3")), VisionReading(pool="mean"))
    states = mean.model(pixel_values=mean.prepare(frames)).last_hidden_state
    torch.testing.assert_close(mean(frames), states[:, 3:].mean(dim=1))
    with pytest.raises(
        ValueError, match="pool=cls needs a model with a class token, but a siglip_vision_model has none"
    ):
        open_vision(str(vision("siglip")), VisionReading(pool="cls"))


def test_every_frame_of_a_long_clip_has_its_row(vision, tmp_path):
    for number in range(305):
        (tmp_path / "corpus" / "long").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (number % 256, 0, 0)).save(tmp_path / "corpus" / "long" / f"{number:03}.png")
    (tmp_path / "corpus" / "dev.tsv").write_text("name\tpath\ttext\nlong\tlong\thallo\n")
    root = ["--corpus", "folder", "--root", str(tmp_path / "corpus"), "--split", "dev", "--device", "cpu"]
    assert main(["extract", "--encoder", str(vision("vit")), *root, "-o", str(tmp_path / "store")]) == 0
    assert FeatureStore(tmp_path / "store").lengths == {"long": 305}


def test_stores_of_two_encoders_stand_side_by_side(vision, pictures, tmp_path, capsys):
    root = ["--corpus", "folder", "--root", str(pictures), "--split", "dev", "--device", "cpu", "--batch-size", "2"]
    assert main(["extract", "--encoder", str(vision("clip")), *root, "-o", str(tmp_path / "clip")]) == 0
    video = ["--encoder", str(vision("videomae")), "--stride", "3", *root, "-o", str(tmp_path / "mae"), "--json"]
    assert main(["extract", *video]) == 0
    told = json.loads(capsys.readouterr().out.split("\n", 1)[1])
    assert told["meta"]["encoder"] | {"source": ""} == {
        "source": "", "model": "videomae", "size": [28, 28], "scales": [1], "pool": "auto", "half": False, "window": 4,
        "window_stride": 3,
    }  # fmt: skip
    one, other = FeatureStore(tmp_path / "clip"), FeatureStore(tmp_path / "mae")
    assert one.meta["weights"] != other.meta["weights"]
    assert other.clock("dev0") == (3.0, 2.0)
    frames = one.lengths["dev0"]
    assert other.lengths["dev0"] == (frames - 4) // 3 + 1
    both = read_features((tmp_path / "clip", tmp_path / "mae"), "dev0")
    assert both.shape == (frames, 32)
    np.testing.assert_array_equal(both[:, :16], one["dev0"])
    np.testing.assert_array_equal(both[5, 16:], other["dev0"][1])  # frame 5 (middle 5.5): the window of middle 5

    encoder = open_vision(str(vision("videomae")), VisionReading(stride=3))
    pixels = torch.from_numpy(
        np.stack([np.asarray(Image.open(p).convert("RGB")) for p in sorted((pictures / "dev0").iterdir())])
    )
    expected = encoder(torch.stack([pixels[0:4], pixels[3:7]]))
    np.testing.assert_allclose(other["dev0"][:2], expected, atol=2e-3)


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["--encoder", "{clip}", "--window", "4"], "reads single frames; windows are only for video models"),
        (["--encoder", "{videomae}", "--window", "5"], "--window=5: {videomae} reads 4 frames at a time"),
        (["--encoder", "{empty}"], "--encoder: no folder {empty} with a config.json, and no such hub id"),
        (["--encoder", "{bare}"], "has no preprocessor_config.json"),
        (["--encoder", "{text}"], "a gpt2 does not read pictures; needs e.g."),
        (["--window", "4"], "need --encoder"),
        ([], "extract needs a run folder or a recipe, or --encoder with --corpus and --root"),
    ],
)
def test_wrong_encoders_are_answered_in_one_line(words, answer, vision, pictures, tmp_path, capsys):
    empty, bare, text = (tmp_path / name for name in ("empty", "bare", "text"))
    empty.mkdir()
    transformers.AutoModel.from_config(transformers.ViTConfig(**VIT)).save_pretrained(bare)
    tiny = transformers.GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=5, n_positions=4)
    transformers.AutoModel.from_config(tiny).save_pretrained(text)
    places = {"clip": vision("clip"), "videomae": vision("videomae"), "empty": empty, "bare": bare, "text": text}
    words = [word.format(**places) for word in words]
    corpus = ["--corpus", "folder", "--root", str(pictures)] if "--encoder" in words else []
    capsys.readouterr()
    assert main(["extract", *words, *corpus, "-o", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert answer.format(**places) in error[-1]
    assert len([line for line in error if line.startswith("signcl:")]) == 1
