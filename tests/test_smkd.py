"""SMKD and cnn_ctc: both heads, the distillation between them, epochs of terms, rescaled clips, published weights."""

import gzip
import json
import math
import pickle
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from systems import Case, batch_of, built, having, losses, make, recipe_of
from torch import nn

from signcl import evaluate, fit, load_recipe
from signcl.cli import main
from signcl.data.batch import Sample
from signcl.data.features import write_store
from signcl.data.loading import ClipDataset, collate, thin
from signcl.data.text import GlossVocabulary
from signcl.inference.run_density import extract_features
from signcl.losses import distillation_loss
from signcl.systems.cnn_ctc import CNNCTC
from signcl.systems.encoders import build_visual
from signcl.systems.smkd import SMKD, UnitLinear
from signcl.systems.terms import weighted_sum
from signcl.training import run_folder, runs
from signcl.training.optimizer import Adaptation, learning_rate, term_weights
from signcl.training.prepare import prepare
from signcl.training.recipe import AugmentRecipe, InputRecipe, TrainRecipe, recipe_from_dict, recipe_samples
from signcl.training.runs import build_model, initialise

RECIPES = Path(__file__).parents[1] / "recipes"
BOTH = pytest.mark.parametrize("name", ["smkd", "cnn_ctc"])


def clips_of(*lengths, dim=4):
    generator = np.random.default_rng(0)
    arrays = [generator.normal(size=(n, dim)).astype(np.float32) for n in lengths]
    return collate([Sample(f"c{i}", "a b") for i in range(len(lengths))], arrays)


def smkd(dim=4, seed=0, **changes) -> SMKD:
    torch.manual_seed(seed)
    sizes = {"num_glosses": 7, "width": 16, "conv_width": 16, "dropout": 0.0, **changes}
    return make(SMKD, build_visual("identity", feature_dim=dim), **sizes)


# --- the models


def test_the_parameter_counts_of_the_docstrings():
    def count(model):
        return sum(p.numel() for p in model.parameters())

    d, w, c = 512, 1024, 1087
    conv = (5 * d * w + w) + 2 * w + (5 * w * w + w) + 2 * w
    lstm = 2 * 2 * (2 * w * (w + w // 2) + 4 * w)
    with torch.device("meta"):
        visual = build_visual("identity", feature_dim=d)
        shared = make(SMKD, visual, num_glosses=c)
        vac = make(SMKD, visual, num_glosses=c, share_classifier=False, weight_norm=False)
        local = make(CNNCTC, visual, num_glosses=c)
    assert count(shared) == conv + lstm + w * c == 21_582_848
    assert count(vac) == conv + lstm + 2 * (w * c + c)
    assert count(local) == (5 * d * w + w) + 2 * w + (w * c + c) == 3_738_687


def test_a_quarter_as_many_steps_and_two_distributions_over_them():
    out = smkd()(clips_of(9, 20, 1))
    assert out.step_lengths.tolist() == [3, 5, 1]
    assert out.log_probs.shape == out.conv_log_probs.shape == (3, 5, 7)
    for log_probs in (out.log_probs, out.conv_log_probs):
        torch.testing.assert_close(log_probs.exp().sum(dim=2), torch.ones(3, 5))
    assert out.features.shape == (3, 20, 4)


def test_the_rows_of_the_normalized_classifier_have_length_one():
    torch.manual_seed(0)
    layer, states = UnitLinear(4, 3), torch.randn(2, 5, 4)
    for b in range(2):
        for s in range(5):
            for c in range(3):
                row = layer.weight[c] / layer.weight[c].square().sum().sqrt()
                torch.testing.assert_close(layer(states)[b, s, c], (row * states[b, s]).sum())
    with torch.no_grad():
        before = layer(states)
        layer.weight.mul_(3.0)
        torch.testing.assert_close(layer(states), before)


def test_a_shared_classifier_learns_from_both_heads_and_two_do_not():
    batch = clips_of(9, 20)
    for share in (True, False):
        model = smkd(share_classifier=share)
        model(batch).conv_log_probs[:, :, 1].sum().backward()
        assert (model.classifier.weight.grad is not None) == share
    with pytest.raises(ValueError, match=r"needs model.conv_width = model.width, got 8 and 16"):
        smkd(conv_width=8)


def test_taps_have_their_clocks():
    model, batch = smkd(), clips_of(9, 20)
    assert torch.equal(model.tapped(batch, "features").rows, model.features(batch))
    assert torch.equal(model.tapped(batch, "frames").rows, model.features(batch))
    assert torch.equal(model.tapped(batch, "steps").rows, model(batch).steps)
    conv = model.tapped(batch, "conv")
    assert (conv.rows.shape, conv.stride, conv.first_centre) == ((2, 5, 16), 4.0, 2.0)  # frames -6 to 9: middle at 2
    for system in (model, make(CNNCTC, build_visual("identity", feature_dim=4), num_glosses=3, conv_width=8)):
        with pytest.raises(ValueError, match="tap=layer1: this system has features, frames"):
            system.tapped(batch, "layer1")


@pytest.mark.parametrize("window", [1, 5])
def test_a_local_feature_sees_its_window_and_no_more(window):
    torch.manual_seed(0)
    model = make(CNNCTC, build_visual("identity", feature_dim=4), num_glosses=3, conv_width=64, window=window).eval()
    batch = clips_of(12, 20)
    before = model(batch)
    assert before.step_lengths.tolist() == [12, 20]
    batch.inputs[12 + 8] += 5.0  # frame 8 of the second clip
    moved = (model(batch).steps - before.steps).abs().sum(dim=2) > 1e-6
    half = window // 2
    assert moved.nonzero().tolist() == [[1, t] for t in range(8 - half, 9 + half)]
    with pytest.raises(ValueError, match="odd number from 1 to 9999, got 4"):
        make(CNNCTC, build_visual("identity", feature_dim=4), num_glosses=3, window=4)


# --- the distillation


def test_distillation_by_hand():
    # Two classes beside the blank, t = 1: p = (1/2, 1/2), q = (1/4, 3/4); KL = 1/2 ln 2 + 1/2 ln(2/3).
    teacher = torch.tensor([[[9.0, 0.0, 0.0]]])
    student = torch.tensor([[[-4.0, 0.0, math.log(3)]]])
    wanted = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    found = distillation_loss(student, teacher, torch.tensor([1]), temperature=1.0)
    assert float(found) == pytest.approx(wanted)


def test_distillation_agrees_with_plain_loops_and_padding_changes_nothing():
    torch.manual_seed(0)
    student, teacher, lengths = 3 * torch.randn(3, 6, 5), 3 * torch.randn(3, 6, 5), [6, 2, 4]
    total = 0.0
    for b, length in enumerate(lengths):
        clip = 0.0
        for s in range(length):
            p = [math.exp(float(v) / 8) for v in teacher[b, s, 1:]]
            q = [math.exp(float(v) / 8) for v in student[b, s, 1:]]
            p, q = [v / sum(p) for v in p], [v / sum(q) for v in q]
            clip += sum(a * math.log(a / b_) for a, b_ in zip(p, q, strict=True))
        total += 64 * clip / length / 3
    found = distillation_loss(student, teacher, torch.tensor(lengths))
    assert float(found) == pytest.approx(total, rel=1e-4)
    longer = [nn.functional.pad(x, (0, 0, 0, 3), value=float("nan")) for x in (student, teacher)]
    torch.testing.assert_close(distillation_loss(*longer, torch.tensor(lengths)), found)
    twice = [torch.cat([x, x]) for x in (student, teacher)]
    torch.testing.assert_close(distillation_loss(*twice, torch.tensor(lengths * 2)), found)
    assert float(distillation_loss(teacher.log_softmax(dim=2), teacher, torch.tensor(lengths))) == pytest.approx(
        0, abs=1e-5
    )


def test_distillation_without_padding_is_torchs_divergence_over_steps():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 6, 5), torch.randn(2, 6, 5)
    said = (student[:, :, 1:] / 8).log_softmax(dim=2).flatten(0, 1)
    theirs = nn.KLDivLoss(reduction="batchmean")(said, (teacher[:, :, 1:] / 8).softmax(dim=2).flatten(0, 1)) * 64
    torch.testing.assert_close(distillation_loss(student, teacher, torch.tensor([6, 6])), theirs)


def test_distillation_teaches_the_student_alone_and_not_the_blank():
    student, teacher = (torch.randn(2, 4, 5).requires_grad_() for _ in range(2))
    distillation_loss(student, teacher, torch.tensor([4, 2])).backward()
    assert teacher.grad is None
    assert not student.grad[:, :, 0].any()
    assert student.grad[0, :, 1:].any()
    assert not student.grad[1, 2:].any()


def test_distillation_of_what_cannot_be_is_refused():
    scores = torch.zeros(2, 4, 5)
    with pytest.raises(ValueError, match=r"same shape \[B, S, C\]"):
        distillation_loss(scores, scores[:, :3], torch.tensor([4, 4]))
    with pytest.raises(ValueError, match="a class besides the blank"):
        distillation_loss(scores[:, :, :1], scores[:, :, :1], torch.tensor([4, 4]))
    with pytest.raises(ValueError, match="temperature above 0, got 5 classes and temperature 0"):
        distillation_loss(scores, scores, torch.tensor([4, 4]), temperature=0.0)


# --- training


@BOTH
@pytest.mark.slow
def test_four_clips_are_learned_by_heart_and_a_loaded_run_says_the_same(name, corpora, tmp_path):
    header, *rows = (corpora[False] / "train.tsv").read_text().splitlines()
    four = tmp_path / "four"
    four.mkdir()
    for path in corpora[False].glob("*.npy"):
        (four / path.name).write_bytes(path.read_bytes())
    (four / "dev.tsv").write_text("\n".join([header, *rows[:4]]) + "\n")
    copies = [f"copy{n}-{row}" for n in range(10) for row in rows[:4]]  # few epochs: each writes a resumable state
    (four / "train.tsv").write_text("\n".join([header, *copies]) + "\n")
    wide = having(name, {"width": 96, "conv_width": 96})  # unit rows: logits reach as far as the states are long
    train = {"epochs": 17, "lr": 5e-3, "schedule": "cosine", "evaluate_every": 17}
    soft = {
        "smkd": {"recognition": 1.0, "auxiliary": 1.0, "distillation": 0.1}
    }  # at full weight it holds both heads back
    recipe = recipe_of(Case(name, wide, soft.get(name, {})), {False: four}, tmp_path / "run", **train)
    del recipe.loss.weights["signcl"]
    folder = fit(recipe, progress=False)
    run = runs.load_run(folder)
    data = ClipDataset(prepare(recipe).dev.samples, None, run.recipe.reading, training=False, glosses=run.glosses)
    batch = data[[0, 1, 2, 3]].batch
    with torch.no_grad():
        terms = losses(run.model, batch, run.recipe)
    assert float(weighted_sum(terms, run.recipe.loss.weights)) < 0.1, terms
    assert torch.equal(runs.load_run(folder).model.recognise(batch)[0], run.model.recognise(batch)[0])
    assert evaluate(folder, "dev", bootstrap=0, progress=False)["wer"] == 0


def test_a_term_outside_its_epochs_weighs_nothing_and_still_has_gradients(corpora, tmp_path):
    recipe = recipe_of(Case("smkd", {"share_classifier": False}), corpora, tmp_path / "run")
    recipe.loss.weights["distillation"] = 10.0
    recipe.loss.schedule = {"distillation": (2, 4), "auxiliary": (3, None)}
    weights = [term_weights(recipe, epoch, Adaptation()) for epoch in range(5)]
    assert [w["distillation"] for w in weights] == [0, 0, 10, 10, 0]
    assert [w["auxiliary"] for w in weights] == [0, 0, 0, 1, 1]
    assert all(w["recognition"] == w["signcl"] == 1 for w in weights)
    model, material = built(recipe)
    batch = batch_of(material, recipe, [0, 1, 2, 3])
    terms = losses(model, batch, recipe)
    weighted_sum(terms, weights[0]).backward()
    assert all(p.grad is not None for p in model.parameters())  # a rank without one would let the others wait
    assert not model.conv_classifier.weight.grad.any()
    assert model.classifier.weight.grad.any()


def test_a_run_with_epochs_of_terms_logs_all_terms_and_starts_each_on_time(corpora, tmp_path):
    schedule = {"auxiliary": [0, 1], "distillation": [1, None]}
    recipe = recipe_of(Case("smkd", loss={"schedule": schedule}), corpora, tmp_path / "run", epochs=2, evaluate_every=9)
    recipe.loss.weights = {"recognition": 1.0, "auxiliary": 1.0, "distillation": 10.0}
    kept = load_recipe(fit(recipe, progress=False) / "recipe.yaml")
    assert kept.loss.schedule == {"auxiliary": (0, 1), "distillation": (1, None)}
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    first = next(line for line in lines if line["kind"] == "train")
    assert first["loss"] == pytest.approx(first["recognition"] + first["auxiliary"])
    assert first["distillation"] > 0


def test_the_rate_falls_by_steps():
    train = TrainRecipe(lr=1e-4, schedule="steps")
    rates = [learning_rate(step, 40, train) for step in (0, 19, 20, 34, 35, 39)]
    assert rates == pytest.approx([1e-4, 1e-4, 2e-5, 2e-5, 4e-6, 4e-6])


def test_training_clips_are_rescaled_by_seed_epoch_and_clip_alone():
    recipe = InputRecipe(augment=AugmentRecipe(temporal_rescale=0.2))
    lengths = []
    for seed in range(200):
        kept = thin(100, recipe, np.random.default_rng(seed))
        assert kept.tolist() == sorted(kept.tolist())
        assert kept.tolist() == thin(100, recipe, np.random.default_rng(seed)).tolist()
        assert len(set(kept.tolist())) == len(kept) or len(kept) > 100
        lengths.append(len(kept))
    assert min(lengths) in range(80, 84)
    assert max(lengths) in range(117, 121)
    assert abs(np.mean(lengths) - 100) < 2
    assert thin(100, recipe, None).tolist() == list(range(100))  # dev and test see every frame
    assert len(thin(1, recipe, np.random.default_rng(0))) == 1
    short = InputRecipe(max_frames=50, augment=AugmentRecipe(temporal_rescale=0.2))
    assert len(thin(100, short, np.random.default_rng(0))) == 50


def test_a_rescaled_clip_changes_with_the_epoch_and_not_with_its_batch():
    samples = [Sample(f"c{i}", "a", features=np.arange(60, dtype=np.float32)[:, None]) for i in range(3)]
    recipe = recipe_from_dict({"input": {"augment": {"temporal_rescale": 0.3}}})
    data = ClipDataset(samples, None, recipe.reading, training=True)
    together, alone = data[[0, 1, 2]].batch, data[[2]].batch
    assert torch.equal(together.inputs[-len(alone.inputs) :], alone.inputs)
    assert len(set(together.lengths.tolist())) > 1
    data.epoch = 1
    assert data[[0, 1, 2]].batch.lengths.tolist() != together.lengths.tolist()
    assert ClipDataset(samples, None, recipe.reading, training=False)[[0]].batch.lengths.tolist() == [60]


# --- what cannot be


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"model": {"name": "smkd", "conv_width": 64}},
            "share_classifier needs model.conv_width = model.width, got 64",
        ),
        ({"model": {"name": "smkd", "width": 25}}, "model.width: smkd needs an even number"),
        (
            {"model": {"name": "smkd", "encoder_layers": 0}},
            "model.encoder_layers: needs a number from 1 to 1000",
        ),
        (
            {"model": {"name": "smkd", "pixels": "symmetric"}},
            "symmetric is for a ResNet, got model.visual=small",
        ),
        (
            {"model": {"name": "cnn_ctc", "window": 4}},
            "model.window: needs an odd number from 1 to 9999, got 4",
        ),
        ({"model": {"name": "cnn_ctc"}, "loss": {"weights": {"recognition": 1, "auxiliary": 1}}}, "smkd has auxiliary"),
        ({"model": {"name": "smkd"}, "loss": {"weights": {"auxiliary": 1}}}, "needs a weight for recognition"),
        (
            {"model": {"name": "smkd"}, "loss": {"schedule": {"signcl": [0, 2]}}},
            "loss.schedule.signcl: loss.weights has",
        ),
        ({"model": {"name": "smkd"}, "loss": {"schedule": {"auxiliary": [3, 3]}}}, "needs [first epoch, first epoch"),
        ({"model": {"name": "smkd"}, "loss": {"schedule": {"auxiliary": 3}}}, "needs 2 numbers in brackets"),
        (
            {"model": {"name": "smkd"}, "loss": {"distillation_temperature": 0}},
            "distillation_temperature: needs a number",
        ),
        ({"model": {"name": "smkd"}, "train": {"step_shares": [0.9, 0.2]}}, "train.step_shares: needs two shares"),
        (
            {"model": {"name": "smkd"}, "input": {"augment": {"temporal_rescale": 1}}},
            "temporal_rescale: needs a number of at least 0",
        ),
    ],
)
def test_a_recipe_that_cannot_be_is_refused_with_what_to_do(change, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        recipe_from_dict({"stage": "recognise", **change})


@BOTH
def test_clips_too_short_for_their_glosses_are_named_and_skipped_or_stop(name, corpora, tmp_path, capsys):
    root = tmp_path / "short"
    root.mkdir()
    for path in corpora[False].iterdir():
        (root / path.name).write_bytes(path.read_bytes())
    np.save(root / "train3.npy", np.ones((3, 12), np.float32))  # 3 frames, 1 step
    table = [line.split("\t")[:4] for line in (root / "train.tsv").read_text().splitlines()]
    table[4][3] = "REGEN REGEN REGEN"
    (root / "train.tsv").write_text("\n".join("\t".join(row) for row in table) + "\n")
    folder = fit(recipe_of(Case(name), {False: root}, tmp_path / "skip", epochs=1), progress=False)
    assert "1 clips have too few frames for their glosses and were left out of CTC: train3" in capsys.readouterr().err
    assert run_folder.read_card(folder)["too_short_for_ctc"] == ["train3"]
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        assert all(math.isfinite(v) for v in json.loads(line).values() if isinstance(v, float))
    with pytest.raises(ValueError, match="clip train3 has fewer steps than its glosses need"):
        fit(recipe_of(Case(name, loss={"ctc_too_long": "stop"}), {False: root}, tmp_path / "stop"), progress=False)


@BOTH
def test_a_gloss_that_training_never_saw_is_counted_and_an_error(name, corpora, tmp_path, capsys):
    root = tmp_path / "strange"
    root.mkdir()
    for path in corpora[False].iterdir():
        (root / path.name).write_bytes(path.read_bytes())
    for split in ("dev", "test"):
        table = [line.split("\t")[:4] for line in (root / f"{split}.tsv").read_text().splitlines()]
        table[1][3] = "SCHNEE REGEN"
        (root / f"{split}.tsv").write_text("\n".join("\t".join(row) for row in table) + "\n")
    folder = fit(recipe_of(Case(name), {False: root}, tmp_path / "run", epochs=1), progress=False)
    assert "glosses of the dev split are not in training: class 1, <unk>, an error each" in capsys.readouterr().err
    assert evaluate(folder, "test", bootstrap=0, progress=False)["unknown_glosses"]["count"] == 1


def test_no_beams_is_an_error_and_not_the_recipes(corpora, tmp_path, capsys):
    folder = str(fit(recipe_of(Case("cnn_ctc"), corpora, tmp_path / "run", max_steps=1), progress=False))
    for beams in ("0", "-3"):
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main(["evaluate", folder, "--split=test", f"--beams={beams}", "--device=cpu"])
        assert left.value.code == 2
        (said,) = capsys.readouterr().err.strip().splitlines()
        assert said.startswith(f"signcl: argument --beams: needs a whole number from 1 to 1000, got {beams}; ")
    assert main(["evaluate", folder, "--split=test", "--beams=1", "--device=cpu", "--bootstrap=0"]) == 0
    assert json.loads((tmp_path / "run" / "scores.json").read_text())["test"]["made"]["beams"] == 1


# --- published weights and features


def published(width=16, classes=9, seed=3, kernels=(5, 5)) -> dict:
    """A checkpoint with the keys and shapes of VAC_CSLR, trained on several GPUs, as its `save_model` writes it."""
    from transformers import ResNetConfig, ResNetModel

    from signcl.systems.encoders.published_weights import _torchvision_name

    torch.manual_seed(seed)
    config = ResNetConfig(depths=[2, 2, 2, 2], hidden_sizes=[64, 128, 256, 512], layer_type="basic")
    resnet = {_torchvision_name(key): value for key, value in ResNetModel(config).state_dict().items()}
    layers = []
    for kernel in kernels:
        layers += [nn.Conv1d(width if layers else 512, width, kernel), nn.BatchNorm1d(width), nn.ReLU()]
        layers += [nn.MaxPool1d(2)]
    conv = nn.Sequential(*layers)
    rnn = nn.LSTM(width, width // 2, num_layers=2, bidirectional=True)
    state = {f"conv2d.module.{key}": value for key, value in resnet.items()}
    state |= {f"conv1d.temporal_conv.{key}": value for key, value in conv.state_dict().items()}
    state |= {f"temporal_model.rnn.{key}": value for key, value in rnn.state_dict().items()}
    state |= {name: torch.randn(width, classes) for name in ("classifier.weight", "conv1d.fc.weight")}
    state |= {"conv1d.temporal_conv.1.running_mean": torch.rand(width)}
    return {
        "epoch": 39,
        "model_state_dict": state,
        "optimizer_state_dict": {"state": {0: {"step": 1, "exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 1e-4}]},
        "scheduler_state_dict": {"last_epoch": 39},
        "rng_state": {
            "numpy": ("MT19937", np.arange(624, dtype=np.uint32), 624, 0, 0.0),
            "python": random.getstate(),
            "torch": torch.get_rng_state(),
        },
    }


def published_recipe(path, **changes):
    model = {"name": "smkd", "visual": "resnet18", "width": 16, "conv_width": 16, **changes}
    model |= {"weights": f"pretrained:{path}", "pixels": "symmetric"}
    return recipe_from_dict({"stage": "recognise", "model": model})


def test_a_published_checkpoint_gives_the_states_of_its_own_network(tmp_path):
    data = published()
    torch.save(data, tmp_path / "smkd.pt")
    recipe = published_recipe(tmp_path / "smkd.pt")
    model = build_model(recipe, None, None, GlossVocabulary(list("ABCDE"))).eval()
    (said,) = initialise(model, recipe)
    assert "120 ResNet tensors loaded" in said
    assert "30 tensors of convolution and LSTM loaded" in said
    assert said.endswith("left behind, since its glosses have other numbers: classifier.weight, conv1d.fc.weight")
    assert len(data["model_state_dict"]) == 120 + 30 + 2  # every tensor is accounted for

    frames = torch.randint(0, 256, (10, 64, 64, 3), dtype=torch.uint8)
    batch = collate([Sample("a", "x")], [frames.numpy()])
    with torch.no_grad():
        found = model(batch)
        rows = model.visual._encode(frames.permute(0, 3, 1, 2).float() / 127.5 - 1)
        torch.testing.assert_close(found.features[0], rows, atol=1e-4, rtol=1e-4)
        state = data["model_state_dict"]
        hidden = torch.cat([rows[:1].expand(6, -1), rows, rows[-1:].expand(8, -1)]).T[None]  # 10 frames: 12 + 12
        for conv, norm in (("0", "1"), ("4", "5")):
            of = {k.split(".")[-2] + "." + k.split(".")[-1]: v for k, v in state.items() if "temporal_conv" in k}
            hidden = nn.functional.conv1d(hidden, of[f"{conv}.weight"], of[f"{conv}.bias"])
            statistics = (of[f"{norm}.running_mean"], of[f"{norm}.running_var"])
            hidden = nn.functional.batch_norm(hidden, *statistics, of[f"{norm}.weight"], of[f"{norm}.bias"])
            hidden = nn.functional.max_pool1d(torch.relu(hidden), 2)
        rnn = nn.LSTM(16, 8, num_layers=2, bidirectional=True)
        prefix = "temporal_model.rnn."
        rnn.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
        torch.testing.assert_close(found.steps[0], rnn(hidden[0].T[:, None])[0][:, 0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("kind", "kernels", "other"), [("k5p2", (5,), "k5p2k5p2"), ("k3", (3,), "k5p2")])
def test_checkpoints_of_other_convolutions_load_into_their_own_kind(tmp_path, kind, kernels, other):
    data = published(kernels=kernels)
    torch.save(data, tmp_path / "vac.pt")
    recipe = published_recipe(tmp_path / "vac.pt", conv=kind)
    model = build_model(recipe, None, None, GlossVocabulary(list("ABCDE"))).eval()
    (said,) = initialise(model, recipe)
    assert "23 tensors of convolution and LSTM loaded" in said  # 7 of one convolution and its norm, 16 of the LSTM
    theirs = data["model_state_dict"]["conv1d.temporal_conv.0.weight"]
    assert torch.equal(model.conv.conv1.weight, theirs)
    recipe = published_recipe(tmp_path / "vac.pt", conv=other)
    with pytest.raises(ValueError, match=rf"model\.conv={other}: the convolution of model\.weights is {kind}; set"):
        initialise(build_model(recipe, None, None, GlossVocabulary(list("ABCDE"))), recipe)


def test_a_checkpoint_that_does_not_fit_is_refused_and_changes_nothing(tmp_path):
    data = published()
    torch.save(data, tmp_path / "smkd.pt")
    recipe = published_recipe(tmp_path / "smkd.pt", encoder_layers=1)
    with pytest.raises(ValueError, match=r"with 1 LSTM layers: 0 tensors missing, 8 unknown \(first temporal_model"):
        initialise(build_model(recipe, None, None, GlossVocabulary(list("ABCDE"))), recipe)
    recipe = published_recipe(tmp_path / "smkd.pt", width=32, conv_width=32)
    model = build_model(recipe, None, None, GlossVocabulary(list("ABCDE")))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"has shape \[16, 512, 5\], this model needs \[32, 512, 5\]; set model.width"):
        initialise(model, recipe)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    del data["model_state_dict"]["temporal_model.rnn.bias_hh_l1"]
    torch.save(data, tmp_path / "less.pt")
    recipe = published_recipe(tmp_path / "less.pt")
    with pytest.raises(ValueError, match=r"1 tensors missing \(first temporal_model.rnn.bias_hh_l1\), 0 unknown"):
        initialise(build_model(recipe, None, None, GlossVocabulary(list("ABCDE"))), recipe)


def write_pami0(root: Path, split: str, clips: int) -> Path:
    """Features as neccam/slt gives them away: a gzip pickle of records, tensors of 1024 numbers a frame."""
    generator = torch.Generator().manual_seed(clips)
    records = [
        {
            "name": f"{split}/01April_2010_Thursday_heute-{i}",
            "signer": "Signer04",
            "gloss": ["JETZT WETTER MORGEN", "REGEN WIND"][i % 2],
            "text": ["und nun die wettervorhersage für morgen .", "regen und wind ."][i % 2],
            "sign": torch.randn(12 + i, 1024, generator=generator),
        }
        for i in range(clips)
    ]
    with gzip.open(root / f"phoenix14t.pami0.{split}", "wb") as file:
        pickle.dump(records, file)
    return root


@pytest.mark.parametrize("way", ["labels", "features"])
def test_nslt_trains_on_the_released_srp_features(way, tmp_path):
    for split, clips in (("train", 4), ("dev", 2), ("test", 2)):
        write_pami0(tmp_path, split, clips)
        table = tmp_path / f"release/annotations/manual/PHOENIX-2014-T.{split}.corpus.csv"
        table.parent.mkdir(parents=True, exist_ok=True)
        rows = [f"01April_2010_Thursday_heute-{i}|x|-1|-1|Signer04|REGEN WIND|regen und wind" for i in range(clips)]
        table.write_text("\n".join(["name|video|start|end|speaker|orth|translation", *rows]) + "\n", encoding="utf-8")
    where = {
        "labels": [f"--corpus.root={tmp_path}", "--corpus.options={labels: slt}", "--corpus.features="],
        "features": [f"--corpus.root={tmp_path}/release", f"--corpus.features={tmp_path}/phoenix14t.pami0.{{split}}"],
    }[way]
    small = ["--model.width=32", "--model.heads=2", "--model.ffn=32", "--train.max_steps=1", "--train.device=cpu"]
    assert main(["fit", str(RECIPES / "phoenix14t/nslt.yaml"), f"--out={tmp_path}/run", *where, *small]) == 0
    assert run_folder.read_card(tmp_path / "run")["feature_dim"] == 1024
    assert main(["evaluate", str(tmp_path / "run"), "--device=cpu", "--bootstrap=0"]) == 0
    lines = (tmp_path / "run/predictions.test.tsv").read_text(encoding="utf-8").splitlines()
    assert lines[1].startswith("01April_2010_Thursday_heute-0\t")
    assert lines[1].split("\t")[1].endswith(" .") == (way == "labels")  # the text is that of the labels


@pytest.mark.parametrize(("name", "tap", "rows"), [("cnn_ctc", "steps", 1), ("smkd", "conv", 4), ("smkd", "frames", 1)])
def test_features_of_a_run_become_the_input_of_a_translation_run(name, tap, rows, corpora, tmp_path):
    run = runs.load_run(fit(recipe_of(Case(name), corpora, tmp_path / "run", max_steps=1), progress=False))
    frames = {}
    for split in ("train", "dev"):
        samples = recipe_samples(run.recipe, split)
        seen = extract_features(run, samples, tap=tap, device="cpu", progress=False)
        store = write_store(tmp_path / "store" / split, ((sample.name, clip.rows) for sample, clip in seen))
        frames |= {s.name: len(np.load(s.features)) for s in samples}
        assert store.lengths == {s.name: -(-frames[s.name] // rows) for s in samples}
    recipe = recipe_of(Case("slt"), corpora, tmp_path / "slt", max_steps=1)
    recipe.corpus.features = f"{tmp_path}/store/{{split}}"
    fit(recipe, progress=False)
    assert run_folder.read_card(tmp_path / "slt")["feature_dim"] == store.dim


def test_a_corpus_whose_clips_are_all_too_short_stops_and_says_so(corpora, tmp_path):
    r = recipe_of(Case("smkd"), corpora, tmp_path / "run")
    r.input.max_frames = 1
    with pytest.raises(ValueError, match="every training clip has fewer steps than its glosses need for CTC"):
        fit(r, progress=False)


def test_recognisers_are_compared_by_their_word_error_rate(corpora, tmp_path, capsys):
    folder = fit(recipe_of(Case("smkd"), corpora, tmp_path / "run", max_steps=2), progress=False)
    wer = evaluate(folder, "dev", progress=False)["wer"]
    capsys.readouterr()
    assert main(["compare", str(folder), str(folder), "--split", "dev", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["metric"], row["a"], row["difference"]) == ("wer", pytest.approx(wer), 0)
    pretrained = fit(recipe_of(Case("vlp"), corpora, tmp_path / "vlp", max_steps=2), progress=False)
    assert main(["compare", str(folder), str(pretrained), "--split", "dev"]) == 2
    assert "is a pretrain run, which has no answers to compare" in capsys.readouterr().err


def test_a_report_of_a_recogniser_shows_its_word_error_rate_at_the_top(corpora, tmp_path):
    from signcl.pages.report import report

    folder = fit(recipe_of(Case("smkd"), corpora, tmp_path / "run", max_steps=2), progress=False)
    evaluate(folder, "dev", progress=False)
    page = Path(report([folder], split="dev")).read_text()
    assert "<th" in page
    top = page[page.index("Key numbers of each run") : page.index("Training")]
    assert "WER" in top
    for name in ("Auxiliary CTC loss", "Distillation loss"):
        assert name in page
    assert "Length penalty" not in page
