"""Bounds beside the field: every number of every recipe, command and corpus has them; NaN and infinity never pass."""

import dataclasses
import importlib
import math
import pkgutil
import re
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

import signcl
from signcl.data.bounds import Bounds, bounded, bounds_of, check_bounds, numbers_without_bounds
from signcl.systems import system_class, system_names
from signcl.training.recipe import Recipe, recipe_from_dict, recipe_to_dict

SETTINGS = re.compile(r"(Recipe|Config|Settings|Limits|Annotation|Decode)$")


def settings_of_the_package() -> list[type]:
    """Every dataclass by whose name somebody sets something."""
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
