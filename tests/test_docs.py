"""Texts hold to the code: every import in them works, every file of the package that they name is there."""

import dataclasses
import importlib
import re
import typing
from pathlib import Path

import pytest

import signcl
from signcl.systems import system_class, system_names
from signcl.training.recipe import Recipe

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "paper").glob("*.md"),
                *(ROOT / "benchmarks").glob("*.md")])  # fmt: skip
EACH = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@EACH
def test_every_import_of_a_page_works(page):
    for module, names in re.findall(r"from (signcl[\w.]*) import ([\w, ]+)", page.read_text(encoding="utf-8")):
        for name in names.split(","):
            name = name.split(" as ")[0].strip()
            found = importlib.import_module(module)
            if not hasattr(found, name):
                importlib.import_module(f"{module}.{name}")


@EACH
def test_every_module_and_file_that_a_page_names_is_there(page):
    text = page.read_text(encoding="utf-8")
    for path in re.findall(r"`((?:signcl|tests|paper|benchmarks|docs|recipes)/[\w/.-]+\.(?:py|md|yaml|json))", text):
        assert "NAME" in path or (ROOT / path).exists(), path
    for dotted in re.findall(r"`(signcl\.[a-z0-9_.]+[a-z0-9_])", text):
        assert resolves(dotted), dotted


def keys_of(kind: type, prefix: str) -> set[str]:
    """Dotted names of a dataclass's fields and of those inside them."""
    found, hints = set(), typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        found.add(prefix + field.name)
        for inner in (hints[field.name], *typing.get_args(hints[field.name])):
            if dataclasses.is_dataclass(inner):
                found |= keys_of(inner, f"{prefix}{field.name}.")
    return found


KEYS = keys_of(Recipe, "").union(*(keys_of(system_class(name).Config, "model.") for name in system_names()))
SECTIONS = "|".join([field.name for field in dataclasses.fields(Recipe)] + system_names())
NO_KEY = ("loss.weights.", "corpus.options.", "loss.norm", "train.tsv", "model.safetensors")
"""Terms and options have any name; the loss of docs/adding-a-loss.md has a section; two are files."""


@EACH
def test_every_recipe_key_that_a_page_names_is_one(page):
    text = page.read_text(encoding="utf-8")
    named = re.findall(rf"`(?:--)?((?:{SECTIONS})\.[a-z][a-z_.0-9]*[a-z0-9])", text)
    assert [key for key in named if key not in KEYS and not key.startswith(NO_KEY)] == []


def resolves(dotted: str) -> bool:
    """Whether a dotted name is a module of the package, or something in one."""
    parts = dotted.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:cut]))
        except ImportError:
            continue
        for part in parts[cut:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


def test_the_example_of_the_readme_runs():
    import torch

    frame_contrast = signcl.SignCL(distance_margin=20.0)
    features, lengths = torch.randn(2, 60, 8, requires_grad=True), torch.tensor([60, 45])
    frame_contrast(features, lengths, torch.tensor([5, 4])).backward()
    assert features.grad.abs().sum() > 0
