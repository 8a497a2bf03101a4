"""Frozen modules, modules with their own learning rate, and messages of loader workers."""

import json
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from fresh_process import run_script
from test_train import KILLED, corpus, recipe, weights

from signcl import evaluate
from signcl.training import fit, loop, read_record, run_folder, runs
from signcl.training.optimizer import parameter_groups
from signcl.training.recipe import recipe_from_dict, recipe_to_dict, save_recipe

__all__ = ["corpus"]  # the fixture of test_train
TRANSLATION = {"translation": 1.0}


def changed(r, *, weights=TRANSLATION, **sections):
    """A recipe with further values; SignCL is off unless asked for."""
    data = recipe_to_dict(r)
    data["loss"]["weights"] = dict(weights)
    for section, values in sections.items():
        data[section] |= values
    return recipe_from_dict(data)


def fresh(r):
    return loop.Loop(r, Path(r.out), None, progress=False)


def test_frozen_modules_stand_still_with_their_statistics_and_have_no_optimizer_state(corpus, tmp_path):
    r = recipe(corpus, tmp_path / "run", max_steps=4)
    made = fresh(changed(r, model={"freeze": ["visual", "conv"], "dropout": 0.3}))
    before = {name: value.clone() for name, value in made.model.state_dict().items()}
    seen = []
    made.model.conv.register_forward_pre_hook(
        lambda *_: seen.append((made.model.conv.norm1.training, made.model.visual.training, made.model.mbart.training))
    )
    made.run()
    assert (False, False, True) in seen, "frozen modules are in evaluation mode while the others train"
    assert not any(conv or visual for conv, visual, _ in seen)
    after = made.model.state_dict()
    frozen = [name for name in before if name.startswith(("visual.", "conv."))]
    assert any("running_mean" in name for name in frozen)
    assert all(torch.equal(before[name], after[name]) for name in frozen)
    assert not torch.equal(before["sign_emb.norm.running_mean"], after["sign_emb.norm.running_mean"])
    moved = [name for name, p in made.model.named_parameters() if not torch.equal(before[name], p)]
    assert {name.split(".")[0] for name in moved} == {"sign_emb", "mbart"}
    trained = {id(p) for p in made.model.parameters() if p.requires_grad}
    assert {id(p) for p in made.optimizer.state} <= trained
    assert len(made.optimizer.state_dict()["state"]) == len(trained)


def test_each_group_has_its_own_rate(corpus, tmp_path):
    scale = {"mbart": 0.01, "mbart.lm_head": 0.5}
    made = fresh(
        changed(recipe(corpus, tmp_path / "run", max_steps=1), train={"lr_scale": scale, "schedule": "constant"})
    )
    names = {id(p): name for name, p in made.model.named_parameters()}
    made.run()
    rates = {names[id(p)]: group["lr"] for group in made.optimizer.param_groups for p in group["params"]}
    assert len(rates) == len(names)
    for name, rate in rates.items():
        factor = 0.5 if name.startswith("mbart.lm_head") else 0.01 if name.startswith("mbart.") else 1.0
        assert rate == pytest.approx(made.recipe.train.lr * factor), name
    for group in made.optimizer.param_groups:
        assert group["weight_decay"] in (0.0, 0.01)
        assert all((p.ndim > 1) == (group["weight_decay"] > 0) for p in group["params"])


def test_a_small_rate_moves_a_module_by_that_factor(corpus, tmp_path):
    # The first step of sgd with momentum is the gradient times 1 + momentum: the same gradient, a tenth of the way.
    steps = {}
    for factor in (1.0, 0.1):
        r = recipe(corpus, tmp_path / str(factor), optimizer="sgd", max_steps=1, weight_decay=0.0, clip_norm=None)
        made = fresh(changed(r, train={"lr_scale": {"mbart": factor}}))
        before = {name: p.detach().clone() for name, p in made.model.named_parameters()}
        made.run()
        steps[factor] = {name: p.detach() - before[name] for name, p in made.model.named_parameters()}
    for name, whole in steps[1.0].items():
        expected = whole * 0.1 if name.startswith("mbart.") else whole
        torch.testing.assert_close(steps[0.1][name], expected, rtol=1e-2, atol=2e-7)


def test_no_group_is_made_where_nothing_is_asked_for(corpus, tmp_path):
    made = fresh(changed(recipe(corpus, tmp_path / "run")))
    groups = parameter_groups(made.model, made.recipe.train)
    assert [(g["scale"], g["weight_decay"]) for g in groups] == [(1.0, 0.01), (1.0, 0.0)]


@pytest.mark.parametrize(
    ("model", "train", "message"),
    [
        ({"freeze": ["visaul"]}, {}, r"model.freeze: this model has visual, conv, sign_emb, .* mean visual\?"),
        ({"freeze": ["visual", "conv", "sign_emb", "mbart"]}, {}, "leaves nothing to train"),
        ({}, {"lr_scale": {"decoder": 0.1}}, "train.lr_scale: this model has visual, conv, sign_emb, mbart"),
        ({"freeze": ["conv"]}, {"lr_scale": {"conv": 0.1}}, "train.lr_scale.conv: none of its weights is trained"),
        ({}, {"lr_scale": {"conv": 0.0}}, r"conv: needs a factor above 0, got 0.0; model.freeze=\[conv\] stops it"),
    ],
)  # fmt: skip
def test_a_module_that_is_not_there_is_named(corpus, tmp_path, model, train, message):
    with pytest.raises(ValueError, match=message):
        fresh(changed(recipe(corpus, tmp_path / "run"), model=model, train=train))


def test_killed_and_resumed_with_frozen_parts_and_rates_equals_unbroken(corpus, tmp_path):
    options = {"model": {"freeze": ["visual", "conv.norm1"]}, "train": {"lr_scale": {"mbart": 0.1, "conv": 2.0}}}
    whole = changed(recipe(corpus, tmp_path / "whole", epochs=2), **options)
    fit(whole, progress=False)
    broken = changed(recipe(corpus, tmp_path / "broken", epochs=2), **options)
    save_recipe(broken, tmp_path / "recipe.yaml")
    assert run_script(KILLED, tmp_path / "recipe.yaml", 9) == -signal.SIGKILL
    assert 6 < run_folder.load_state(Path(broken.out))["step"] < 9
    fit(broken, progress=False)
    a, b = weights(Path(whole.out)), weights(Path(broken.out))
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert read_record(Path(whole.out)) == read_record(Path(broken.out))


@pytest.mark.parametrize("workers", [0, 2])
def test_sentences_that_were_cut_are_counted_whatever_loads_them(corpus, tmp_path, workers, capsys):
    r = changed(recipe(corpus, tmp_path / "run", epochs=1, workers=workers), text={"max_tokens": 3})
    folder = fit(r, progress=False)
    long = sum(len(line.split("\t")[2].split()) > 2 for line in (corpus / "train.tsv").read_text().splitlines()[1:])
    assert long > 0
    assert json.loads((folder / "card.json").read_text())["cut_sentences"] == long
    assert f"{long} training sentences were cut to text.max_tokens=3" in capsys.readouterr().err


@pytest.mark.parametrize("workers", [0, 2])
def test_frames_of_two_sizes_are_one_line_whatever_loads_them(tmp_path, workers):
    root = tmp_path / "corpus"
    for split in ("train", "dev"):
        lines = ["name\tpath\ttext"]
        for i, side in enumerate((24, 32)):
            (root / f"{split}{i}").mkdir(parents=True)
            for frame in range(6):
                picture = np.full((24, side, 3), 40 * i, np.uint8)
                assert cv2.imwrite(str(root / f"{split}{i}/{frame}.png"), picture)
            lines.append(f"{split}{i}\t{split}{i}\teins zwei")
        (root / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    r = recipe(root, tmp_path / "run", epochs=1, workers=workers, model={"visual": "small_cnn"})
    with pytest.raises(
        ValueError, match=r"^the clips of a batch differ in frame size, 24x24 and 32x24 \(train\d, train\d"
    ):
        fit(r, progress=False)
    sized = changed(r, input={"size": 24}, train={"max_steps": 1})
    folder = fit(changed(sized, corpus={"root": str(root)}), fresh=True, progress=False)
    saved = recipe_to_dict(runs.load_run(folder).recipe)
    saved["input"]["size"] = None
    save_recipe(recipe_from_dict(saved), folder / "recipe.yaml")
    with pytest.raises(ValueError, match=r"set input.size in the recipe"):
        evaluate(folder, "dev", progress=False)
