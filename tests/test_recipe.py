"""Recipes: YAML to dataclasses, and clear messages for typos."""

import math
import re
from dataclasses import fields
from pathlib import Path

import pytest

from signcl.training.recipe import (
    Recipe,
    describe_keys,
    field_docs,
    load_recipe,
    recipe_from_dict,
    recipe_to_dict,
    save_recipe,
)

RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*/*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_every_recipe_loads_and_names_its_command(path):
    recipe = load_recipe(path)
    head = path.read_text().split("stage:")[0]
    assert f"signcl fit recipes/{path.parent.name}/{path.name}" in head, "the head of a recipe shows its command"
    assert "Ours" in head or path.parent.name == "synthetic"
    assert recipe.out.startswith("runs/")
    if recipe.stage == "pretrain":  # never by a sum with SignCL in it
        assert recipe.select in ("-clip", "-token_clip", "-masked_text", "-pseudo_gloss")
    if recipe.model.name != "segmenter":  # whose corpora are recordings that `signcl corpus join` made of these
        assert recipe.corpus.name == path.parent.name


def test_a_saved_recipe_is_the_same_recipe(tmp_path):
    recipe = recipe_from_dict(
        {"loss": {"weights": {"translation": 1, "signcl": 0.01}}, "train": {"betas": [0.9, 0.999]}}
    )
    save_recipe(recipe, tmp_path / "recipe.yaml")
    assert load_recipe(tmp_path / "recipe.yaml") == recipe
    assert recipe_from_dict(recipe_to_dict(recipe)) == recipe


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"loss": {"wieghts": {}}}, "unknown recipe key loss.wieghts; did you mean loss.weights?"),
        ({"trian": {}}, "unknown recipe key trian; did you mean train?"),
        ({"train": {"lr": "fast"}}, "train.lr: needs a number, got 'fast'"),
        ({"train": {"epochs": 2.5}}, "train.epochs: needs a whole number, got 2.5"),
        ({"train": {"epochs": 0}}, "train.epochs: needs a number from 1 to 1000000"),
        ({"train": {"compile": "False"}}, "train.compile: needs true or false, got 'False'"),
        ({"train": {"betas": [0.9]}}, "train.betas: needs 2 numbers"),
        ({"train": 3}, "train: a section of keys is needed"),
        ({"stage": "finetunning"}, "did you mean finetune?"),
        ({"loss": {"weights": {"signlc": 1.0}}}, "did you mean signcl?"),
        ({"model": {"heads": 3}}, "3 does not divide model.width 256"),
        ({"stage": "pretrain", "model": {"name": "gfslt"}}, "stage pretrain trains model.name=pgp or vlp, got gfslt"),
        ({"corpus": {"fraction": 0}}, "corpus.fraction: needs a number above 0 and at most 1"),
        ({"out": ""}, "out: needs a run folder such as runs/mine"),
        ({"train": {"seed": -1}}, "train.seed: needs a number from 0 to 4294967295, got -1"),
        ({"train": {"patience": 0}}, "train.patience: needs a number from 1 to 1000000, got 0"),
        ({"train": {"max_steps": 0}}, "train.max_steps: needs a number from 1 to 1000000000000, got 0"),
        ({"train": {"devices": 0}}, "train.devices: needs a number from 1 to 10000, got 0"),
        ({"train": {"workers": -1}}, "train.workers: needs a number from 0 to 1024, got -1"),
        ({"train": {"betas": [2, 3]}}, "train.betas: needs a number of at least 0 and below 1"),
        ({"train": {"optimizer": "sgd", "momentum": 0}}, "train.momentum: sgd with Nesterov momentum needs"),
        ({"train": {"select": "bleu"}}, "train.select=bleu: this stage scores bleu1, bleu2, bleu3, bleu4"),
        (
            {"loss": {"sections": {"a": 1}}},
            "unknown recipe key loss.sections; loss has clip_target, ctc",
        ),
        ({"train": {"min_lr": 0.5, "lr": 1e-3}}, "train.min_lr=0.5: cosine falls to it from train.lr=0.001"),
        ({"train": {"min_lr": 0.5, "schedule": "onecycle"}}, "train.min_lr=0.5: onecycle falls to it from train.lr"),
        ({"input": {"size": 200, "crop": 300}}, "input.crop=300: needs a square within input.size=200"),
        (
            {"train": {"lr_scale": {"visual": 0}}},
            "train.lr_scale.visual: needs a factor above 0, got 0.0; model.freeze=[visual] stops it",
        ),
        ({"loss": {"label_smoothing": 1}}, "loss.label_smoothing: needs a number of at least 0 and below 1, got 1.0"),
        ({"model": {"dropout": 2}}, "model.dropout: needs a number of at least 0 and below 1, got 2"),
        ({"loss": {"label_smoothing": 2}}, "loss.label_smoothing: needs a number of at least 0 and below 1, got 2"),
        (
            {"loss": {"weights": {"translation": math.nan}}},
            "loss.weights.translation: needs a number from 0 to 1000000000",
        ),
        ({"train": {"lr": 10**400}}, "train.lr: needs a number above 0 and at most 1000, got 10000000000000000000..."),
        ({"train": {"epochs": 10**5000}}, "train.epochs: needs a number from 1 to 1000000, got a number of"),
        ({"train": {"epochs": "9" * 400}}, "train.epochs: needs a whole number, got '9999999999999999999... (402"),
        ({"input": {"max_frames": 0}}, "input.max_frames: needs a number from 1 to 1000000, got 0"),
        ({"text": {"max_tokens": 1}}, "text.max_tokens: needs a number from 3 to 100000, got 1"),
    ],
)
def test_a_mistake_is_named_with_what_to_do(data, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        recipe_from_dict(data)


def test_overrides_and_scientific_numbers(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("train: {lr: 1e-3, epochs: 3}\n")
    recipe = load_recipe(path, ["--train.lr=5e-4", "--out=runs/x", "--loss.weights={translation: 1, signcl: 2e-2}"])
    assert (recipe.train.lr, recipe.train.epochs, recipe.out) == (5e-4, 3, "runs/x")
    assert recipe.loss.weights == {"translation": 1.0, "signcl": 0.02}
    with pytest.raises(ValueError, match=r"written --key.sub=value"):
        load_recipe(path, ["--train.lr"])
    with pytest.raises(ValueError, match=r"did you mean train\.epochs"):
        load_recipe(path, ["--train.epoch=3"])


def test_a_recipe_that_is_no_yaml_mapping(tmp_path):
    (tmp_path / "list.yaml").write_text("- a\n")
    (tmp_path / "broken.yaml").write_text("a: [1\n")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="mapping of keys"):
        load_recipe(tmp_path / "list.yaml")
    for name in ("broken", "binary"):
        with pytest.raises(ValueError, match="not a YAML recipe"):
            load_recipe(tmp_path / f"{name}.yaml")
    with pytest.raises(FileNotFoundError, match="no recipe at"):
        load_recipe(tmp_path / "absent.yaml")


def test_every_key_is_described():
    text = describe_keys()
    for f in fields(Recipe):
        assert f.name in text
    assert "loss.signcl.frame_margin_floor = 10.0" in text
    assert field_docs(Recipe)["out"] == "The run folder."


@pytest.mark.parametrize(
    ("model", "weights", "select"),
    [
        ("vlp", {"clip": 1, "masked_text": 1, "signcl": 0.1}, "-clip"),
        ("vlp", {"signcl": 0.1, "token_clip": 1, "masked_text": 1}, "-token_clip"),
        ("vlp", {"clip": 0, "token_clip": 1}, "-token_clip"),
        ("vlp", {"masked_text": 1, "signcl": 0.1}, "-masked_text"),
        ("vlp", {"signcl": 0.1}, "-loss"),  # nothing else is there
        ("vlp", {}, "-clip"),
        ("pgp", {"pseudo_gloss": 10, "signcl": 0.1}, "-pseudo_gloss"),
    ],
)
def test_pretraining_is_kept_by_the_term_that_pretrains_and_never_by_signcl(model, weights, select):
    recipe = recipe_from_dict({"stage": "pretrain", "model": {"name": model}, "loss": {"weights": weights}})
    assert recipe.select == select
    assert recipe.select.lstrip("-") in recipe.dev_scores


def test_the_keys_of_a_part_are_listed():
    keys = describe_keys(system="vlp")
    assert "train.parts.NAME.every = 1" in keys
    assert "-clip for vlp (-token_clip or" in keys
