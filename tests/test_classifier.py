"""Isolated signs: cut out of their clips, learned, scored, and their frame encoder handed on."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from systems import make, terms_on
from torch.nn import functional as F

from signcl import evaluate, fit
from signcl.cli import main
from signcl.data.annotation.isolated import isolated
from signcl.data.batch import Sample, Span
from signcl.data.loading import ClipDataset, collate, load_raw, thin
from signcl.data.video.writing import write_video
from signcl.metrics import score_classes
from signcl.pages.report import report
from signcl.systems.classifier import Classifier
from signcl.systems.encoders import build_visual
from signcl.training import run_folder, runs
from signcl.training.prepare import prepare
from signcl.training.recipe import InputRecipe, recipe_from_dict, recipe_samples
from signcl.training.runs import build_model, initialise

SIGNS = ["HAUS", "REGEN", "SONNE", "WIND", "NORD", "BERG", "SEE"]


def write_corpus(root: Path, counts: dict[str, int]) -> Path:
    """Sentences of three signs; a sign is a direction in feature space, held for 5 to 8 frames."""
    random = np.random.default_rng(0)
    directions = random.normal(size=(len(SIGNS), 6)) * 3
    root.mkdir(parents=True)
    for split, count in counts.items():
        lines = ["name\tpath\ttext\tgloss\tspans"]
        for i in range(count):
            chosen, rows, spans = random.permutation(len(SIGNS))[:3], [], []
            for c in chosen:
                start = sum(map(len, rows))
                rows.append(np.repeat(directions[[c]], random.integers(5, 9), axis=0))
                spans.append(f"{SIGNS[c]}:{start}-{start + len(rows[-1])}")
            frames = np.concatenate(rows)
            np.save(root / f"{split}{i}.npy", (frames + random.normal(size=frames.shape) * 0.3).astype(np.float32))
            gloss = " ".join(SIGNS[c] for c in chosen)
            lines.append(f"{split}{i}\t{split}{i}.npy\t{gloss.lower()}\t{gloss}\t{' '.join(spans)}")
        (root / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("isolated") / "corpus", {"train": 24, "dev": 5, "test": 5})


def recipe(corpus, out, *, corpus_keys=None, **train):
    return recipe_from_dict({
        "stage": "recognise",
        "out": str(out),
        "corpus": {"name": "folder", "root": str(corpus), "isolated": True, **(corpus_keys or {})},
        "model": {"name": "classifier", "visual": "feature_mlp", "visual_dim": 16, "dropout": 0.0},
        "loss": {"label_smoothing": 0.0},
        "train": {"epochs": 10, "batch_size": 8, "device": "cpu", "lr": 2e-2, "optimizer": "adam", "weight_decay": 0.0,
                  "schedule": "cosine", "evaluate_every": 5, **train},
    })  # fmt: skip


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory) -> Path:
    return fit(recipe(corpus, tmp_path_factory.mktemp("runs") / "run"), progress=False)


def test_every_span_becomes_a_clip_of_its_own_frames(corpus, tmp_path):
    r = recipe(corpus, tmp_path / "run")
    r.corpus.isolated = False
    whole = recipe_samples(r, "train")
    r.corpus.isolated = True
    parts = recipe_samples(r, "train")
    assert len(parts) == 3 * len(whole)
    assert len({s.name for s in parts}) == len(parts)
    assert parts[4].name == "train1#1"
    for i, part in enumerate(parts):
        source, span = whole[i // 3], whole[i // 3].spans[i % 3]
        assert part.gloss == (span.token,)
        assert part.text == span.token
        rows = load_raw(part, r.input)
        assert len(rows) == part.num_frames == span.stop - span.start
        assert np.array_equal(rows, load_raw(source, r.input)[span.start : span.stop])


def test_only_the_frames_of_the_span_are_read_from_a_video(tmp_path):
    frames = np.arange(20, dtype=np.uint8)[:, None, None, None] * np.ones((1, 32, 32, 3), np.uint8) * 12
    write_video(tmp_path / "a.mp4", frames, fps=25)
    sample = Sample("a", "x", clip=tmp_path / "a.mp4", spans=(Span("A", 3, 7), Span("B", 15, 20)))
    first, second = isolated([sample], "here")
    assert load_raw(first, InputRecipe()).shape == (4, 32, 32, 3)
    assert abs(load_raw(second, InputRecipe()).mean(axis=(1, 2, 3)) - np.arange(15, 20) * 12).max() < 6
    beyond = Sample("a", "x", clip=tmp_path / "a.mp4", spans=(Span("B", 15, 29),))
    with pytest.raises(ValueError, match=r"need frame numbers in 0\.\.19"):
        load_raw(isolated([beyond], "here")[0], InputRecipe())


def test_clips_without_spans_are_counted_or_refused(capsys):
    bare, one = Sample("a", "x"), Sample("b", "x", features=np.ones((4, 2)), spans=(Span("A", 0, 4),))
    assert [s.name for s in isolated([bare, one], "split train")] == ["b#0"]
    assert "1 of 2 clips of split train have no spans and are left out" in capsys.readouterr().err
    with pytest.raises(ValueError, match="split dev has no spans; `signcl align` makes some"):
        isolated([bare], "split dev")


def test_a_window_of_frames_is_in_a_row_and_the_middle_one_outside_training():
    r = InputRecipe(max_frames=4, thinning="window", stride=2)
    assert thin(21, r, None).tolist() == [6, 8, 10, 12]  # kept 0, 2, ... 20: 7 to spare, 3 of them before
    drawn = {tuple(thin(21, r, np.random.default_rng(seed)).tolist()) for seed in range(60)}
    assert len(drawn) == 8
    assert all(np.diff(row).tolist() == [2, 2, 2] for row in drawn)
    assert thin(7, r, None).tolist() == [0, 2, 4, 6]


def test_the_term_is_cross_entropy_and_an_unseen_gloss_is_left_out():
    torch.manual_seed(0)
    model = make(Classifier, build_visual("identity", feature_dim=3), num_glosses=6, dropout=0.0)
    arrays = [np.random.default_rng(i).normal(size=(n, 3)).astype(np.float32) for i, n in enumerate((4, 9, 2))]
    batch = collate([Sample(f"c{i}", "x") for i in range(3)], arrays)
    batch.glosses, batch.gloss_lengths = torch.tensor([[5], [1], [2]]), torch.ones(3, dtype=torch.long)
    out = model(batch)
    means = torch.stack([torch.from_numpy(a.mean(axis=0)) for a in arrays])
    torch.testing.assert_close(out.steps[:, 0], means)
    logits = means @ model.head.weight.T + model.head.bias
    torch.testing.assert_close(out.logits, logits)
    recipe = recipe_from_dict({"stage": "recognise", "model": {"name": "classifier"}, "loss": {"label_smoothing": 0.0}})
    expected = F.cross_entropy(logits[[0, 2]], torch.tensor([3, 0]))  # classes 5 and 2 without blank and unknown
    torch.testing.assert_close(terms_on(out, batch, recipe)["classification"], expected)
    batch.glosses[:] = 1
    assert terms_on(model(batch), batch, recipe)["classification"] == 0
    assert sum(p.numel() for p in model.parameters()) == 3 * 4 + 4


def test_accuracy_by_hand():
    ranked = [["A", "B"], ["B", "A"], ["A", "B"], ["C", "A"]]
    # A: first, second, first (2 of 3); B: never within two... the last clip's true gloss is B, its answers C and A
    found = score_classes(ranked, ["A", "A", "A", "B"], samples=200)
    assert (found["top1"], found["top5"]) == (50.0, 75.0)
    assert found["top1_per_gloss"] == pytest.approx(100 * (2 / 3 + 0) / 2)
    low, high = found["intervals"]["top1"]
    assert low <= 50 <= high
    with pytest.raises(ValueError, match="one answer per reference, at least one, got 0 and 0"):
        score_classes([], [])


def test_isolated_signs_are_learned_scored_and_reported(run, capsys):
    card = run_folder.read_card(run)
    assert card["best"] == 100.0  # top1 of dev chooses the weights
    scores = evaluate(run, "test", bootstrap=50, progress=False)
    assert scores["top1"] == scores["top5"] == 100.0
    assert scores["counts"]["clips"] == 15
    lines = (run / "predictions.test.tsv").read_text().splitlines()
    assert lines[0] == "name\treference\thypothesis"
    assert all(line.split("\t")[1] == line.split("\t")[2] for line in lines[1:])
    assert json.loads((run / "scores.json").read_text())["test"]["top1"] == 100.0
    assert main(["evaluate", str(run), "--split", "dev"]) == 0
    assert "top1" in capsys.readouterr().out
    assert Path(report([run])).is_file()
    assert main(["translate", str(run), "clip.npy"]) == 2
    assert "is a recognise run; `translate` needs a finetune run" in capsys.readouterr().err


def test_the_frame_encoder_starts_another_system(run, corpus, tmp_path):
    data = {
        "stage": "finetune",
        "corpus": {"name": "folder", "root": str(corpus)},
        "model": {"name": "slt", "visual": "feature_mlp", "visual_dim": 16, "visual_weights": f"pretrained:{run}",
                  "width": 16, "heads": 2, "ffn": 16},
    }  # fmt: skip
    r = recipe_from_dict(data)
    material = prepare(r)
    model = build_model(r, material.tokenizer, material.feature_dim)
    said = initialise(model, r)
    theirs = runs.load_run(run).model.visual.state_dict()
    assert f"every one of {len(theirs)} tensors (feature_mlp)" in said[0]
    assert all(torch.equal(value, theirs[name]) for name, value in model.visual.state_dict().items())
    data["model"]["visual_dim"] = 24
    other = recipe_from_dict(data)
    with pytest.raises(
        ValueError, match=r"frame encoder of that run \(feature_mlp\) is not this one; 8 tensors differ"
    ):
        initialise(build_model(other, material.tokenizer, material.feature_dim), other)


def test_a_loaded_run_says_the_same(run, corpus, tmp_path):
    loaded = runs.load_run(run)
    data = ClipDataset(recipe_samples(loaded.recipe, "test"), None, loaded.recipe.reading, training=False)
    batch = data[[0, 1, 2]].batch
    with torch.no_grad():
        assert torch.equal(loaded.model(batch).logits, runs.load_run(run).model(batch).logits)


def test_clips_of_several_signs_and_other_terms_are_refused(corpus, tmp_path):
    with pytest.raises(ValueError, match=r"needs one gloss a clip, but 24 of the 24 training clips have more, first"):
        fit(recipe(corpus, tmp_path / "a", corpus_keys={"isolated": False}), progress=False)
    with pytest.raises(
        ValueError,
        match=r"classifier computes classification, invariance, .*, word_signcl; cnn_ctc",
    ):
        recipe_from_dict({"stage": "recognise", "model": {"name": "classifier"}, "loss": {"weights": {"signcl": 1}}})
    with pytest.raises(ValueError, match="this stage scores classification, loss, top1, top1_per_gloss, top5"):
        recipe_from_dict({"stage": "recognise", "model": {"name": "classifier"}, "train": {"select": "-wer"}})
    with pytest.raises(ValueError, match=r"train\.eps: needs a number above 0"):
        recipe_from_dict({"train": {"eps": 0}})


def test_the_epsilon_of_a_recipe_reaches_the_optimizer():
    from signcl.training.optimizer import make_optimizer

    train = recipe_from_dict({"train": {"optimizer": "adam", "eps": 1e-3}}).train
    optimizer = make_optimizer(torch.nn.Linear(2, 2), train)
    assert {group["eps"] for group in optimizer.param_groups} == {1e-3}
    assert math.isclose(recipe_from_dict({}).train.eps, 1e-8)


def test_the_isolated_numbers_of_the_sensor_glove(real_data):
    root = real_data / "imu-number-signs"
    if not root.is_dir():
        pytest.skip(f"no corpus at {root}")
    r = recipe_from_dict({"corpus": {"name": "imu_numbers", "root": str(root), "isolated": True}})
    samples = recipe_samples(r, "train")
    assert all(len(s.gloss) == 1 for s in samples)
    assert len({s.gloss for s in samples}) == 32
    assert load_raw(samples[5], r.input).shape == (samples[5].num_frames, 36)


def test_density_of_a_classifier_takes_each_clip_as_a_sign(corpus, tmp_path, capsys):
    folder = fit(recipe(corpus, tmp_path / "run", max_steps=2), progress=False)
    assert main(["density", str(folder), "--split", "train", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["instances"] == 72
    assert evaluate(folder, "dev", progress=False)
    assert main(["compare", str(folder), str(folder), "--split", "dev", "--json"]) == 0
    assert [row["metric"] for row in json.loads(capsys.readouterr().out)] == ["exact_match"]
