"""SpaMo: two sources one after the other, the contrast of the warm-up, published counts, feature streams."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from systems import batch_of, built, losses

from signcl import fit, load_recipe
from signcl.data.batch import Batch, frame_mask
from signcl.data.corpora import load_samples
from signcl.data.features import write_store
from signcl.systems.encoders import FeatureStreams, StreamsConfig, build_visual
from signcl.systems.spamo import SpaMo
from signcl.testing import tiny_recipe
from signcl.training import catalogue, run_folder
from signcl.training.optimizer import count_parameters
from signcl.training.prepare import prepare
from signcl.training.recipe import shipped_recipes
from signcl.training.runs import initialise

LM = {"layers": 1, "width": 32, "heads": 2, "ffn": 48}
TIME = {"visual": "feature_streams", "streams": {"sizes": [8, 4]}, "join": "time", "window": 4, "window_stride": 3}


def small(folder, weights=None, *, train=None, **model):
    changes = {"model": {"lm": LM, **model}, "train": train or {}}
    if weights:
        changes["loss"] = {"weights": weights}
    return tiny_recipe(SpaMo, folder, changes)


def test_rows_of_the_second_source_follow_those_of_the_first(tmp_path):
    recipe = small(tmp_path, **TIME)
    model, material = built(recipe)
    batch = batch_of(material, recipe, [0, 1, 2])
    features, lengths = torch.arange(3 * 20 * 32.0).view(3, 20, 32), torch.tensor([20, 3, 9])
    rows, row_lengths = model._one_after_the_other(features, lengths)
    for row, frames in enumerate(lengths.tolist()):
        windows = (max(frames, 4) - 4) // 3 + 1
        middles = [min(3 * k + 2, frames - 1) for k in range(windows)]
        expected = torch.cat([features[row, :frames, :16], features[row, middles, 16:]])
        assert row_lengths[row] == frames + windows
        assert torch.equal(rows[row, : frames + windows], expected)
    assert torch.equal(model(batch).step_lengths, model.step_lengths(batch.lengths))


def test_the_warm_up_is_the_contrast_of_means_and_runs_no_language_model(tmp_path):
    recipe = small(tmp_path, {"clip": 1.0}, **TIME)
    model, material = built(recipe)
    batch: Batch = batch_of(material, recipe, [0, 1, 2, 3])
    model.eval()
    model.decoder.lm.forward = None  # nobody asks it
    out = model(batch)
    assert out.logits is None
    words = model.decoder.lm.get_input_embeddings()
    video = torch.stack([out.steps[i, :n].mean(dim=0) for i, n in enumerate(out.step_lengths.tolist())])
    text = torch.stack([words(batch.tokens[i, :n]).mean(dim=0) for i, n in enumerate(batch.token_lengths.tolist())])
    video, text = (torch.nn.functional.normalize(rows, dim=1) for rows in (video, text))
    logits, target = video @ text.T * torch.tensor(2.6592).exp(), torch.arange(4)
    expected = sum(torch.nn.functional.cross_entropy(part, target) for part in (logits, logits.T)) / 2
    torch.testing.assert_close(losses(model, batch, recipe)["clip"], expected)
    assert not out.steps[~frame_mask(out.step_lengths, out.steps.shape[1])].any()


def test_the_counts_at_the_published_size():
    model = catalogue._empty(load_recipe(shipped_recipes() / "phoenix14t/spamo-warmup.yaml"))
    assert count_parameters(model) == (2_849_757_184 + 23_472_129, 23_472_129)  # Flan-T5-XL as published
    parts = {key: count_parameters(part)[1] for key, part in model.named_children()}
    assert parts == {"visual": 2_360_832, "conv": 5_902_848, "decoder": 9_437_184, "mlp": 5_771_264}


def test_gates_weigh_the_sources_number_by_number():
    torch.manual_seed(0)
    streams = FeatureStreams([3, 2], 4, fusion="gated", norm=True)
    rows = torch.randn(5, 5)
    one = streams.maps[0](torch.nn.functional.layer_norm(rows[:, :3], (3,)))
    other = streams.maps[1](torch.nn.functional.layer_norm(rows[:, 3:], (2,)))
    first, second = streams.gate(torch.cat([one, other], dim=1)).chunk(2, dim=1)
    share = torch.sigmoid(first - second)  # a softmax over two
    torch.testing.assert_close(streams(rows), share * one + (1 - share) * other)
    assert streams.dim == 4
    apart = FeatureStreams([3, 2], 4)
    torch.testing.assert_close(apart(rows), torch.cat([apart.maps[0](rows[:, :3]), apart.maps[1](rows[:, 3:])], dim=1))
    assert sum(p.numel() for p in streams.parameters()) == (3 + 1) * 4 + (2 + 1) * 4 + 8 * (8 + 1) + 2 * (3 + 2)


def test_what_does_not_fit_is_said(tmp_path):
    with pytest.raises(ValueError, match=r"model.streams.sizes: \[8, 5\] are 13 numbers, and a row .* has 12"):
        build_visual("feature_streams", feature_dim=12, streams=StreamsConfig(sizes=[8, 5]))
    with pytest.raises(ValueError, match=r"model.join=time needs visual=feature_streams with two"):
        small(tmp_path, join="time")
    with pytest.raises(ValueError, match=r"model.streams: these values belong to model.visual=feature_streams"):
        small(tmp_path, streams={"sizes": [8, 4]})
    with pytest.raises(ValueError, match=r"text.tokenizer: .* its own tokenizer; needs pretrained:x, got 'word'"):
        tiny_recipe(SpaMo, tmp_path, {"model": {"lm": {"name": "pretrained:x"}}})


def test_sizes_in_another_order_than_the_sources_are_refused(tmp_path):
    small(tmp_path)  # writes the corpus: rows of 12 numbers
    for split in ("train", "dev"):
        for source, part in (("a", slice(0, 8)), ("b", slice(8, 12))):
            samples = load_samples("folder", tmp_path / "features", split)
            write_store(tmp_path / source / split, [(s.name, np.load(s.features)[:, part]) for s in samples])
    corpus = {"features": [f"{tmp_path}/a/{{split}}", f"{tmp_path}/b/{{split}}"]}

    def recipe(sizes):
        streams = {"visual": "feature_streams", "streams": {"sizes": sizes}, "lm": LM}
        return tiny_recipe(SpaMo, tmp_path, {"corpus": corpus, "model": streams})

    with pytest.raises(ValueError, match=r"model.streams.sizes: .* in their order, \[8, 4\], got \[4, 8\]"):
        prepare(recipe([4, 8]))
    assert prepare(recipe([8, 4])).feature_dim == prepare(recipe([3, 5, 4])).feature_dim == 12  # finer is possible


def test_translation_goes_on_from_the_warm_up_and_back(tmp_path):
    train = {"max_steps": 1, "epochs": 1, "batch_size": 4}
    warm = fit(replace(small(tmp_path, {"clip": 1.0}, train=train), out=str(tmp_path / "warm")), progress=False)
    recipe = small(tmp_path, {"translation": 1.0}, train=train, init_from=str(warm))
    model, material = built(recipe)
    (said,) = initialise(model, recipe, material.tokenizer)
    assert said.endswith("every tensor transferred; left behind: logit_scale")
    before = run_folder.read_weights(warm)
    own = model.state_dict()
    assert all(torch.equal(own[name], value) for name, value in before.items() if name != "logit_scale")
    assert "logit_scale" not in own

    plain = fit(
        replace(small(tmp_path, {"translation": 1.0}, train=train), out=str(tmp_path / "plain")), progress=False
    )
    recipe = small(tmp_path, {"translation": 1.0, "clip": 0.1}, init_from=str(plain))
    model, material = built(recipe)
    (said,) = initialise(model, recipe, material.tokenizer)
    assert said.endswith("start fresh: logit_scale")
    assert model.logit_scale.item() == pytest.approx(2.6592)

    other = replace(recipe, text=replace(recipe.text, tokenizer="character"))  # other words: tables of another size
    model, material = built(other)
    with pytest.raises(ValueError, match=r"its tokenizer has .*loaded alone, such as model.init_parts=\[visual\]"):
        initialise(model, other, material.tokenizer)
    other = replace(other, model=replace(other.model, init_parts=["visual"]))
    (said,) = initialise(built(other)[0], other, material.tokenizer)
    assert "transferred" in said
