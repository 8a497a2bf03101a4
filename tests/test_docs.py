"""Texts hold to the code: every import in them works, every file of the package that they name is there."""

import importlib
import re
from pathlib import Path

import pytest

import signcl

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
    for dotted in re.findall(r"`(signcl\.[a-z_.]+[a-z_])", text):
        assert resolves(dotted), dotted


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
