"""YAML from untrusted sources: read as people mean it, and refused before it costs time or memory."""

import re
import time

import pytest
import yaml

from signcl.data.safe_yaml import parse_yaml
from signcl.training.recipe import load_recipe, recipe_path


@pytest.mark.parametrize(("text", "value"), [
    ("010", "010"),  # YAML 1.1: 8
    ("1:30", "1:30"),  # YAML 1.1: 90
    ("no", "no"),  # YAML 1.1: false, and the code of Norwegian
    ("1_000", "1_000"),
    ("0x1F", "0x1F"),
    ("2024-01-01", "2024-01-01"),
    ("1e-3", 0.001),  # YAML 1.1: text
    ("-3", -3),
    ("+3", 3),
    (".5", 0.5),
    ("5.", 5.0),
    ("1.5E+3", 1500.0),
    ("true", True),
    ("~", None),
    ("", None),
    ("'010'", "010"),
    (".inf", float("inf")),
    ("-.INF", float("-inf")),
    ("[1, 2.5, {a: b}]", [1, 2.5, {"a": "b"}]),
])  # fmt: skip
def test_scalars_are_what_people_mean(text, value):
    found = parse_yaml(text)
    assert found == value
    assert type(found) is type(value)


BOMB = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi"))


@pytest.mark.parametrize(("text", "said"), [
    (BOMB, r"line 1: anchors \(&\) and aliases \(\*\) are not supported"),
    ("[" * 5000, "at most 20 levels"),
    ("{a: " * 5000, "at most 20 levels"),
    ("a: " + "9" * 60_000, "a number of 60,000 digits is too long"),
    ("a: -0." + "9" * 60_000, "a number of 60,003 digits is too long"),
    ("train:\n  lr: 1\n  epochs: 2\n  lr: 3\n", r"line 4: the key 'lr' occurs twice \(first in line 2\)"),
    ("a: {b: 1, b: 2}", "the key 'b' occurs twice"),
    ("!!python/object/apply:os.system [true]", r"tags \(!\) are not supported"),
    ("a: !!binary aGk=", r"tags \(!\) are not supported"),
    ("? [1, 2]\n: 3", "a key must be a word, got a sequence"),
    ("--- a\n--- b\n", "needs a single document"),
    ("a: [1, 2", "while parsing"),
    ("x, " * 400_000, "at most 1,000,000 characters"),
    ("[" + "x," * 200_000 + "]", "at most 100,000 values"),
])  # fmt: skip
def test_what_costs_or_misleads_is_refused_at_once(text, said):
    started = time.perf_counter()
    with pytest.raises(ValueError, match=said):
        parse_yaml(text)
    assert time.perf_counter() - started < 2


def test_the_shipped_recipes_read_as_with_pyyaml():
    for path in sorted(recipe_path("synthetic/finetune.yaml").parents[1].glob("*/*.yaml")):
        text = path.read_text(encoding="utf-8")
        theirs = yaml.safe_load(re.sub(r"\b(\d)e-(\d)\b", r"\1.0e-\2", text))  # text for PyYAML otherwise
        assert parse_yaml(text) == theirs, path


def test_a_recipe_with_a_key_twice_is_refused(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe_path("synthetic/finetune.yaml").read_text(encoding="utf-8") + "stage: pretrain\n")
    with pytest.raises(ValueError, match=r"recipe.yaml is not a YAML recipe: line \d+: the key 'stage' occurs twice"):
        load_recipe(path)


def test_numbers_of_another_base_are_no_numbers():
    path = recipe_path("synthetic/finetune.yaml")
    for value in ("010", "1:30", "0x10", "1_0"):
        with pytest.raises(ValueError, match=rf"train.epochs: needs a whole number, got '{value}'"):
            load_recipe(path, [f"train.epochs={value}"])
