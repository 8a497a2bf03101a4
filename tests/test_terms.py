"""Loss terms from plugins: their forms, settings and targets; each mistake is one line before training."""

import dataclasses
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
import yaml

from signcl import System, load_plugins, register, register_term
from signcl.cli import main
from signcl.data import registry
from signcl.data.bounds import bounded
from signcl.metrics.titles import Score
from signcl.systems import SYSTEMS, TermContext, system_class, system_names
from signcl.systems.targets import build_targets
from signcl.systems.terms import OWNED, TERMS, LossRecipe, Measure, Term, compute_terms
from signcl.systems.terms.shared import translation
from signcl.testing import tiny_recipe
from signcl.training import fit
from signcl.training.recipe import describe_keys, load_recipe, recipe_from_dict, recipe_to_dict, save_recipe
from signcl.training.runs import load_run


@pytest.fixture(autouse=True)
def forgotten():
    """What a test registers is forgotten after it."""
    for name in SYSTEMS.names():
        system_class(name)  # imported once: a later import would not register again
    kept = [(r, dict(r._things)) for r in (SYSTEMS, TERMS)]
    loaded = dict(registry._LOADED)
    yield
    for known, things in kept:
        known._things.clear()
        known._things.update(things)
    registry._LOADED.clear()
    registry._LOADED.update(loaded)


@dataclass
class NormSettings:
    """`loss.norm` in a recipe."""

    target: float = bounded(10.0, above=0, high=1e6)
    """Length of a feature vector that is wanted."""


def zero(outputs, batch):
    return torch.zeros(())


def settings_of(outputs, batch, context):
    return context.settings


def weighed(name: str, **loss) -> dict:
    return {"loss": {"weights": {"translation": 1.0, name: 0.1}, **loss}}


# -- targets -----------------------------------------------------------------------------------------------------------

PLUGIN = """
from pathlib import Path
import torch
from dataclasses import dataclass
from signcl import register_term
from signcl.data.bounds import bounded

Path("imported").open("a").write("x")


@dataclass
class LengthSettings:
    scale: float = bounded(2.0, above=0, high=10)


class Lengths:
    def __init__(self, scale):
        self.scale = scale

    @classmethod
    def build(cls, config, samples, texts_of, folder, settings=None):
        return cls(settings.scale)

    def __call__(self, samples):
        return torch.tensor([self.scale * len(s.text.split()) for s in samples])

    def save(self, folder):
        (folder / "lengths.txt").write_text(str(self.scale))

    @classmethod
    def load(cls, config, folder):
        return cls(float((folder / "lengths.txt").read_text()))


@register_term("lengths", settings=LengthSettings, targets=TARGETS)
def lengths(outputs, batch):
    return outputs.features.mean() * batch.targets["lengths"].mean()
"""


@pytest.mark.parametrize("targets", ["Lengths", "lambda: Lengths"])
def test_a_plugin_that_is_a_file_gives_its_targets_class_and_is_imported_once(targets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("my_lengths.py").write_text(PLUGIN.replace("TARGETS", targets))
    load_plugins(["my_lengths.py"])
    loss = {"weights": {"translation": 1.0, "lengths": 0.01}, "lengths": {"scale": 3.0}}
    recipe = tiny_recipe(system_class("gfslt"), tmp_path, {"loss": loss, "train": {"epochs": 1, "evaluate_every": 1}})
    run = fit(recipe, progress=False)
    assert (run / "lengths.txt").read_text() == "3.0"
    assert load_run(run).targets.makers["lengths"].scale == 3.0
    assert Path("imported").read_text() == "x"


def test_targets_as_text_or_of_another_kind_are_refused():
    with pytest.raises(ValueError, match=r"targets of a loss term: the class itself .* got 'my_loss:Lengths'"):
        register_term("lengths", targets="my_loss:Lengths")(zero)
    with pytest.raises(ValueError, match="targets of the loss term lengths: needs a class with build"):
        build_targets({"lengths": Term(zero, targets=lambda: None)}, None, [], lambda split: [], Path())


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("loss", "cannot be named loss, which is a key of metrics.jsonl"),
        ("lr", "cannot be named lr, which is a key of metrics.jsonl"),
        ("mask_rate", "cannot be named mask_rate, which is a key of the recipe's loss section"),
        ("wer", "cannot be named wer, which is a score"),
        ("translation", "translation is already a loss term of systems in signcl"),
        ("my-loss", "needs a name of letters, digits and _ that starts with a letter, got 'my-loss'"),
        ("", "needs a name of letters"),
    ],
)
def test_a_name_that_means_something_else_is_refused(name, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        register_term(name)
    assert name not in TERMS


def test_the_list_of_terms_that_systems_own_is_complete():
    assert {term for name in system_names() for term in system_class(name).terms} == set(OWNED)


def test_a_system_from_outside_may_own_a_translation_but_no_loss():
    class Mine(System):
        class Config(System.Config):
            name: str = "mine_of_terms"

        Config = dataclass(frozen=True, kw_only=True)(Config)
        terms: ClassVar = {"translation": zero}

    assert register(Mine) is Mine

    class Other(Mine):
        terms: ClassVar = {"loss": zero}

    with pytest.raises(ValueError, match="cannot be named loss"):
        register(Other)


def test_a_score_of_a_term_does_not_overwrite_a_loss():
    measure = Measure(lambda outputs, batch: (), lambda rows, loss: {}, {"translation": Score("Mine")})
    register_term("smooth", measure=measure)(zero)
    with pytest.raises(ValueError, match="the term smooth has a dev score translation, which is also"):
        recipe_from_dict(weighed("smooth"))


# -- functions ---------------------------------------------------------------------------------------------------------


def test_a_parameter_with_a_default_is_not_given_the_context():
    def scaled(outputs, batch, scale=2.0):
        return torch.tensor(scale)

    def both(outputs, batch, context, scale=2.0):
        return torch.tensor(scale) if isinstance(context, TermContext) else None

    def optional(outputs, batch, context=None):
        return torch.tensor(2.0) if isinstance(context, TermContext) else None

    terms = {"a": Term(scaled), "b": Term(both), "c": Term(optional)}
    values = compute_terms(None, None, terms, TermContext(LossRecipe()))
    assert values == {"a": 2.0, "b": 2.0, "c": 2.0}


@pytest.mark.parametrize(
    "function",
    [
        lambda outputs: outputs,
        lambda outputs, batch, context, scale: outputs,
        lambda outputs, batch, *, scale: outputs,
        lambda *arguments: arguments,
        LossRecipe,
        translation,
        3,
    ],
)
def test_a_function_of_other_arguments_is_refused_when_it_is_registered(function):
    with pytest.raises(ValueError, match=r"needs a function \(outputs, batch\) or \(outputs, batch, context\)"):
        register_term("odd")(function)
    assert "odd" not in TERMS


def test_a_typo_in_needs_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"got 'gloss'; did you mean glosses\?"):
        Term(zero, needs=("gloss",))
    with pytest.raises(ValueError, match=r'a tuple such as \("glosses",\) is needed, got .glosses.'):
        Term(zero, needs="glosses")
    with pytest.raises(ValueError, match="one_gloss needs glosses too"):
        Term(zero, needs=("one_gloss",))


def test_a_cell_of_a_notebook_may_run_again_but_another_function_may_not_take_the_name():
    def cell(value):
        @register_term("smooth")
        def smooth(outputs, batch):
            return value

        return smooth

    cell(1)
    second = cell(2)
    assert TERMS["smooth"].function is second
    with pytest.raises(ValueError, match=r"there is already a loss term 'smooth' \(.*test_terms\.py\)"):
        register_term("smooth")(zero)


# -- settings ----------------------------------------------------------------------------------------------------------


def test_a_weighed_term_has_its_settings_whether_or_not_a_recipe_names_them(tmp_path):
    register_term("norm", settings=NormSettings)(settings_of)
    recipe = recipe_from_dict(weighed("norm"))
    assert recipe.loss.sections == {"norm": NormSettings(10.0)}
    save_recipe(recipe, tmp_path / "recipe.yaml")
    assert yaml.safe_load((tmp_path / "recipe.yaml").read_text())["loss"]["norm"] == {"target": 10.0}
    assert load_recipe(tmp_path / "recipe.yaml") == recipe
    bare = TermContext(LossRecipe(weights={"norm": 1.0}))  # a loss section made by hand
    assert compute_terms(None, None, {"norm": TERMS["norm"]}, bare) == {"norm": NormSettings(10.0)}
    assert "norm" not in recipe_to_dict(recipe_from_dict({}))["loss"]


def test_the_settings_of_terms_are_among_the_keys(tmp_path, monkeypatch, capsys):
    register_term("norm", settings=NormSettings)(settings_of)
    line = r"loss\.norm\.target = 10\.0 +Length of a feature vector that is wanted\. \[above 0 to 1000000\]"
    assert re.search(line, describe_keys())
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(textwrap.dedent(PLUGIN.replace("TARGETS", "Lengths")))
    Path("recipe.yaml").write_text("plugins: [mine.py]\nmodel: {name: slt}\n")
    main(["fit", "recipe.yaml", "--keys", "--plugins", "mine.py"])  # a list of keys imports nothing by itself
    assert "loss.lengths.scale = 2.0" in capsys.readouterr().out


def test_a_typo_in_the_name_of_a_section_is_answered_with_the_nearest():
    register_term("norm", settings=NormSettings)(settings_of)
    with pytest.raises(ValueError, match=r"unknown recipe key loss\.norn; did you mean loss\.norm\?"):
        recipe_from_dict(weighed("norm", norn={"target": 8.0}))
    with pytest.raises(ValueError, match=r"loss\.label_smothing; did you mean loss\.label_smoothing"):
        recipe_from_dict(weighed("norm", label_smothing=0.1))
    with pytest.raises(ValueError, match=r"unknown recipe key loss\.sections"):
        recipe_from_dict(weighed("norm", sections={"norm": {"target": 8.0}}))


def test_settings_of_another_kind_are_refused():
    class Plain:
        target = 1.0

    Bare = dataclasses.make_dataclass("Bare", [("kind", str)])
    Loose = dataclasses.make_dataclass("Loose", [("target", float, 1.0)])
    for settings, message in (
        (Plain, "a dataclass is needed, got .*Plain"),
        (Bare, "every field of Bare needs a default, kind has none"),
        (Loose, "every number of Loose needs bounds, target has none"),
    ):
        with pytest.raises(ValueError, match=f"settings of a loss term: {message}"):
            Term(zero, settings=settings)
    register_term("norm", settings=NormSettings)(settings_of)
    recipe = recipe_from_dict(weighed("norm"))
    with pytest.raises(ValueError, match=r"loss\.norm: needs the settings class of the term norm, got \{"):
        dataclasses.replace(recipe, loss=dataclasses.replace(recipe.loss, sections={"norm": {"target": 1.0}}))


# -- glosses -----------------------------------------------------------------------------------------------------------


def test_a_gloss_system_whose_term_does_not_ask_for_glosses_says_what_to_write(tmp_path):
    class Silent(system_class("cnn_ctc")):
        @dataclass(frozen=True, kw_only=True)
        class Config(system_class("cnn_ctc").Config):
            name: str = "silent"

        terms: ClassVar = {"recognition": zero}

    register(Silent)
    recipe = tiny_recipe(Silent, tmp_path, {"loss": {"weights": {"recognition": 1.0}}})
    with pytest.raises(ValueError, match=r'list the term as Term\(f, needs=\("glosses",\)\)'):
        fit(recipe, progress=False)


def test_settings_that_have_no_file_are_listed_without_help():
    Typed = dataclasses.make_dataclass("Typed", [("target", float, bounded(1.0, low=0, high=2))])
    register_term("typed", settings=Typed)(zero)
    assert "loss.typed.target = 1.0           [0 to 2]" in describe_keys()
