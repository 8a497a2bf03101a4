"""Bounds beside the field: every number of every recipe, command and corpus has them; NaN and infinity never pass."""

import argparse
import dataclasses
import importlib
import math
import pkgutil
import re
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import signcl
from signcl.cli import main, make_parser
from signcl.cli.number_options import Number
from signcl.data.bounds import Bounds, bounded, bounds_of, check_bounds, numbers_without_bounds
from signcl.systems import SYSTEMS, Decode, System, register, system_class, system_names
from signcl.training.recipe import Recipe, TrainRecipe, load_recipe, recipe_from_dict, recipe_to_dict

SETTINGS = re.compile(r"(Recipe|Config|Settings|Limits|Annotation|Decode)$")


def settings_of_the_package() -> list[type]:
    """Every dataclass whose fields a user can set."""
    found = set()
    for module in pkgutil.walk_packages(signcl.__path__, "signcl."):
        if module.name.endswith("__main__"):
            continue
        for name, kind in vars(importlib.import_module(module.name)).items():
            own = isinstance(kind, type) and kind.__module__.startswith("signcl")
            if own and dataclasses.is_dataclass(kind) and SETTINGS.search(name):
                found.add(kind)
    return sorted(found | {system_class(name).Config for name in system_names()}, key=lambda kind: kind.__qualname__)


@pytest.mark.parametrize("kind", settings_of_the_package(), ids=lambda kind: kind.__qualname__)
def test_every_number_has_bounds(kind):
    assert numbers_without_bounds(kind) == []


def test_the_walk_finds_what_there_is():
    names = {kind.__qualname__ for kind in settings_of_the_package()}
    assert {"Recipe", "TrainRecipe", "GFSLT.Config", "SyntheticSettings", "Settings", "Limits", "LMConfig"} <= names

    @dataclass
    class Bare:
        width: int = 3
        shares: tuple[float, float] = (0.1, 0.2)
        table: dict[str, float] = field(default_factory=dict)
        flag: bool = True
        name: str = ""
        fine: float = bounded(1.0, low=0, high=1)

    assert numbers_without_bounds(Bare) == ["width", "shares", "table"]


@pytest.mark.parametrize(
    ("key", "value", "bounds"),
    [
        ("train.plateau_factor", 50, "a number above 0 and at most 1"),
        ("train.plateau_patience", -5, "a number from 0 to 1000000"),
        ("loss.signcl.decay", -3, "a number above 0 and at most 1"),
        ("loss.signcl.decay_patience", -1, "a number from 0 to 1000000"),
        ("loss.signcl.start_epoch", -2, "a number from 0 to 1000000"),
        ("loss.signcl.frame_margin_floor", -5, "a number from 0 to 1000000"),
        ("input.cache_gb", -1, "a number from 0 to 100000"),
        ("input.augment.scale", -3, "a number of at least 0 and below 1"),
        ("train.min_lr", 5, "a number from 0 to 1"),
        ("decode.max_new_tokens", 1_000_000_000, "a number from 1 to 10000"),
        ("decode.length_penalty", math.inf, "a number from -100 to 100"),
    ],
)
def test_what_was_accepted_before_is_answered_with_its_bounds(key, value, bounds):
    nested: dict = {}
    node, (*parents, last) = nested, key.split(".")
    for parent in parents:
        node = node.setdefault(parent, {})
    node[last] = value
    shown = float(value) if isinstance(value, int) and "patience" not in key and "epoch" not in key else value
    with pytest.raises(ValueError, match=re.escape(f"{key}: needs {bounds}, got ")) as caught:
        recipe_from_dict(nested)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith((str(value), str(shown)))


def numbers_of(kind: type, where: str = "") -> list[tuple[str, dataclasses.Field, type]]:
    """Every number of a recipe with its field."""
    found = []
    default = Recipe() if kind is Recipe else kind()
    for item in dataclasses.fields(kind):
        value = getattr(default, item.name)
        if dataclasses.is_dataclass(value):
            found += numbers_of(type(value), f"{where}{item.name}.")
        elif bounds_of(item) is not None:
            found.append((where + item.name, item, type(value)))
    return found


@pytest.mark.parametrize(("key", "item", "kind"), numbers_of(Recipe), ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e30, -1e30])
def test_no_number_of_a_recipe_may_be_nan_infinite_or_absurd(key, item, kind, value):
    data = recipe_to_dict(Recipe())
    node = data
    *parents, last = key.split(".")
    for parent in parents:
        node = node[parent]
    node[last] = {"translation": value} if kind is dict else [value] * len(node[last]) if kind is tuple else value
    if last == "schedule":
        node[last] = {"translation": [value, None]}
    with pytest.raises(ValueError, match=re.escape(key)) as caught:
        recipe_from_dict(data)
    assert "\n" not in str(caught.value)


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_bounds_hold_exactly_what_they_say(value):
    closed, open_ = Bounds(low=0, high=1), Bounds(above=0, below=1)
    assert closed.hold(value) == (not math.isnan(value) and 0 <= value <= 1)
    assert open_.hold(value) == (not math.isnan(value) and 0 < value < 1)
    assert Bounds(low=-5, high=5, odd=True).hold(value) == (value in (-5, -3, -1, 1, 3, 5))


def test_what_a_message_says():
    assert str(Bounds(low=1, high=8)) == "a number from 1 to 8"
    assert str(Bounds(above=0, high=1)) == "a number above 0 and at most 1"
    assert str(Bounds(low=0, below=1)) == "a number of at least 0 and below 1"
    assert str(Bounds(low=1, high=9, odd=True)) == "an odd number from 1 to 9"

    @dataclass
    class Inner:
        table: dict[str, float] = bounded({}, low=0, high=1)

    @dataclass
    class Outer:
        inner: Inner = field(default_factory=Inner)
        maybe: int | None = bounded(None, low=1, high=2)

    check_bounds(Outer())
    with pytest.raises(ValueError, match=r"^x\.inner\.table\.a: needs a number from 0 to 1, got 2$"):
        check_bounds(Outer(Inner({"a": 2})), "x.")
    with pytest.raises(ValueError, match=r"^maybe: needs a number from 1 to 2, got 3$"):
        check_bounds(Outer(maybe=3))
    with pytest.raises(AssertionError, match="one lower end"):
        bounded(1, high=2)


@dataclass
class Inside:
    width: int = 3
    depth: int = bounded(3, low=1, high=9)


@dataclass
class Outside:
    maybe: Inside | None = None
    several: list[Inside] = field(default_factory=list)
    named: dict[str, Inside | None] = field(default_factory=dict)
    again: "Outside | None" = None
    word: str = ""


def test_dataclasses_in_unions_lists_and_dicts_are_looked_into():
    assert numbers_without_bounds(Outside) == ["maybe.width", "several.width", "named.width"]
    check_bounds(Outside(Inside(), [Inside()], {"a": None}, Outside()))
    for wrong, name in (
        (Outside(Inside(depth=0)), "maybe.depth"),
        (Outside(several=[Inside(), Inside(depth=0)]), "several.1.depth"),
        (Outside(named={"a": Inside(depth=0)}), "named.a.depth"),
        (Outside(again=Outside(Inside(depth=0))), "again.maybe.depth"),
    ):
        with pytest.raises(ValueError, match=rf"^{re.escape(name)}: needs a number from 1 to 9, got 0$"):
            check_bounds(wrong)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lr": "0.1"}, "train.lr: needs a number above 0 and at most 1000, got '0.1'"),
        ({"lr": np.float32(-5)}, "train.lr: needs a number above 0 and at most 1000, got -5.0"),
        ({"lr": np.float64("nan")}, "train.lr: needs a number above 0 and at most 1000, got nan"),
        ({"lr": None}, "train.lr: needs a number above 0 and at most 1000, got None"),
        ({"lr": 10**400}, "train.lr: needs a number above 0 and at most 1000, got 1000"),
        ({"epochs": True}, "train.epochs: needs a whole number from 1 to 1000000, got True"),
        ({"epochs": 2.5}, "train.epochs: needs a whole number from 1 to 1000000, got 2.5"),
        ({"epochs": np.int64(0)}, "train.epochs: needs a number from 1 to 1000000, got 0"),
        ({"epochs": -(10**5000)}, "train.epochs: needs a number from 1 to 1000000, got a number of thousands of"),
        ({"patience": 2.5}, "train.patience: needs a whole number from 1 to 1000000, got 2.5"),
        ({"betas": 0.9}, "train.betas: needs a list of numbers, got 0.9"),
        ({"betas": (0.9,)}, "train.betas: needs 2 numbers, got (0.9,)"),
        ({"lr_scale": 0.9}, "train.lr_scale: needs numbers by name, got 0.9"),
        ({"betas": (0.9, "x")}, "train.betas: needs a number of at least 0 and below 1, got 'x'"),
        ({"lr_scale": {"visual": "x"}}, "train.lr_scale.visual: needs a number above 0 and at most 1000000, got 'x'"),
        ({"clip_norm": True}, "train.clip_norm: needs a number above 0 and at most 1000000000, got True"),
    ],
)
def test_a_recipe_made_in_python_holds_numbers_of_the_right_kind(values, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}") as caught:
        Recipe(train=TrainRecipe(**values))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 150


def test_numbers_of_numpy_are_numbers():
    train = TrainRecipe(lr=np.float32(0.1), epochs=np.int64(3), betas=[0.8, 0.9], clip_norm=None, min_lr=0)
    assert Recipe(train=train).train.epochs == 3


@pytest.mark.parametrize("value", ["1" + 400 * "0", "1" + 5000 * "0", "-1" + 400 * "0", "2020-13-45"])
@pytest.mark.parametrize("key", ["train.epochs", "train.lr", "train.lr_scale.visual", "loss.weights.translation"])
def test_a_huge_number_of_a_recipe_is_one_line(key, value, tmp_path):
    (tmp_path / "recipe.yaml").write_text("stage: finetune\n")
    with pytest.raises(ValueError, match=f"{key}: needs a ") as caught:
        load_recipe(tmp_path / "recipe.yaml", [f"--{key}={value}"])
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)
    section, *inner = key.split(".")
    (tmp_path / "recipe.yaml").write_text(f"{section}: {''.join(f'{{{k}: ' for k in inner)}{value}{'}' * len(inner)}\n")
    with pytest.raises(ValueError, match=f"{key}: needs a |is not a YAML recipe: "):
        load_recipe(tmp_path / "recipe.yaml")


@pytest.mark.parametrize("kind", settings_of_the_package(), ids=lambda kind: kind.__qualname__)
def test_nothing_is_left_out_altogether(kind):
    """A dropout of 1 lets nothing through, a label smoothing of 1 leaves no label."""
    shares = [f for f in dataclasses.fields(kind) if re.search("dropout|drop_path|label_smoothing", f.name)]
    assert [f.name for f in shares if bounds_of(f).hold(1)] == []


@pytest.mark.parametrize(
    "values", [{"beams": 0}, {"beams": 10**8}, {"length_penalty": math.nan}, {"dev_beams": 2.5}, {"gloss_beams": None}]
)
def test_a_search_has_bounds_of_its_own(values):
    for make in (lambda: Decode(**values), lambda: dataclasses.replace(Decode(), **values)):
        with pytest.raises(ValueError, match=f"^decode.{next(iter(values))}: needs a "):
            make()


def test_a_system_with_a_number_without_bounds_is_not_registered():
    class Careless(System):
        @dataclass(frozen=True, kw_only=True)
        class Config(System.Config):
            name: str = "careless"
            nobounds: float = 0.5
            inner: Inside = field(default_factory=Inside)

    with pytest.raises(ValueError, match=r"Careless\.Config: nobounds, inner\.width .*nobounds: .*bounded\(") as caught:
        register(Careless)
    assert "\n" not in str(caught.value)
    assert "careless" not in SYSTEMS.names()


def options_of(parser: argparse.ArgumentParser) -> list[tuple[str, argparse.Action]]:
    found = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                found += options_of(command)
        else:
            found.append((f"{parser.prog} {'/'.join(action.option_strings) or action.dest}", action))
    return found


def test_every_number_of_the_command_line_has_bounds():
    options = options_of(make_parser(["corpus", "make"]))
    numeric = {name for name, action in options if isinstance(action.type, Number)}
    assert {"signcl evaluate --beams", "signcl serve --port", "signcl corpus make --size"} <= numeric
    for name, action in options:
        default = action.default[0] if isinstance(action.default, list) and action.default else action.default
        number = isinstance(default, int | float) and not isinstance(default, bool)
        assert name in numeric or (action.type is None and not number), f"{name}: use signcl.cli.number_options"
        for value in default if isinstance(default, list) else [default]:
            assert name not in numeric or value is None or action.type.bounds.hold(value), name


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("evaluate RUN --length-penalty nan", "--length-penalty: needs a number from -100 to 100, got nan"),
        ("evaluate RUN --beams 100000000", "--beams: needs a whole number from 1 to 1000, got 100000000"),
        ("evaluate RUN --batch-size 0", "--batch-size: needs a whole number from 1 to 1000000, got 0"),
        ("evaluate RUN --bootstrap -1", "--bootstrap: needs a whole number from 0 to 10000000, got -1"),
        ("evaluate RUN --near inf", "--near: needs a number above 0 and at most 1, got inf"),
        ("translate RUN CLIP --beams 2.5", "--beams: needs a whole number from 1 to 1000, got '2.5'"),
        ("translate RUN CLIP --beams " + "9" * 5000, "--beams: needs a whole number from 1 to 1000, got '9999"),
        ("align RUN -o x.tsv --tolerance -5", "--tolerance: needs a whole number from 0 to 1000000, got -5"),
        ("align --log-probs x -o x.tsv --stride nan", "--stride: needs a number above 0 and at most 1000000, got nan"),
        ("extract RUN -o x --workers -1", "--workers: needs a whole number from 0 to 1024, got -1"),
        ("serve RUN --port 70000", "--port: needs a whole number from 0 to 65535, got 70000"),
        ("explore RUN --seed -1", "--seed: needs a whole number from 0 to 4294967295, got -1"),
        ("corpus make x --noise nan", "--noise: needs a number from 0 to 60, got nan"),
    ],
)
def test_a_number_of_the_command_line_out_of_bounds_is_one_line(words, message, capsys):
    with pytest.raises(SystemExit) as left:
        main(words.split())
    said = capsys.readouterr().err
    assert left.value.code == 2
    assert said.startswith(f"signcl: argument {message}")
    assert said.count("\n") == 1
    assert len(said) < 200
