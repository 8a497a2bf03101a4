"""The documentation matches the code: every import works, every named file exists, and every command is valid."""

import dataclasses
import functools
import importlib
import re
import shlex
import typing
from pathlib import Path

import pytest

import signcl
from signcl.cli import main, make_parser
from signcl.cli.parsing import joined_overrides
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
"""Not recipe keys of the package: names of terms and options, the section of docs/adding-a-loss.md, and two files."""


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


def test_every_public_name_stands_in_the_reference():
    pages = {page.stem: page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "reference").glob("*.md")}
    named = set(re.findall(r"`(\w+)`", pages["index"]))
    directives = set(re.findall(r"^::: (signcl[\w.]*)", "\n".join(pages.values()), re.M))
    assert set(signcl.__all__) <= named
    for name, module in signcl.NAMES.items():
        found = getattr(signcl, name)
        assert directives & {module, f"{module}.{name}", f"{found.__module__}.{name}"}, name
    assert [name for name in directives if not resolves(name)] == []
    for module in ("signcl.losses", "signcl.density", "signcl.metrics", "signcl.data.batch"):
        public = [f"{module}.{name}" for name in importlib.import_module(module).__all__]
        assert [name for name in public if name not in directives] == [], "give each a line in docs/reference"


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def commands_of(text: str) -> list[list[str]]:
    """Words of each command in the blocks of a page; a command with a backslash at its end goes on in the next line."""
    blocks = re.findall(r"^ *```(\w*)\n(.*?)^ *```", text, flags=re.DOTALL | re.M)
    lines = "\n".join(block for kind, block in blocks if kind in ("", "sh", "text")).replace("\\\n", " ").splitlines()
    parts = [part for line in lines for part in re.split(r" ; |; | && ", line)]
    words = [
        shlex.split(part.partition(" > ")[0], comments=True) for part in parts if re.match(r" *(signcl|rm) ", part)
    ]
    return [
        said for said in words if not any(re.search(r"[\[\]|…]|\.\.\.", word) for word in said)
    ]  # `A [B ...]`: a form


@functools.cache
def parser_for(*words: str):
    """Cached parsers; `corpus` adds the options of some verbs only if they are on the command line."""
    return make_parser(words)


@EACH
def test_every_command_of_a_page_is_understood(page, capsys):
    for words in commands_of(page.read_text(encoding="utf-8")):
        if words[0] != "signcl":
            continue
        said = words[1:]
        try:
            options, rest = parser_for(*said[:2] if said[0] == "corpus" else ()).parse_known_args(said)
        except SystemExit as stopped:
            if stopped.code:  # 0: --version, --help
                pytest.fail(f"{words}: {capsys.readouterr().err}")
            continue
        keys = [word[2:].partition("=")[0] for word in joined_overrides(rest)]
        known = KEYS | {name for name in keys if name.startswith(NO_KEY)}
        assert set(keys) <= known, f"{words}: {sorted(set(keys) - known)}"
        assert not keys or getattr(options, "takes_overrides", False), words
        assert [word for word in said if word.startswith("recipes/") and not (ROOT / word).exists()] == []


LESS = {
    **{"--clips=400": "--clips=40", "--sign-frames=13": "--sign-frames=6", "epochs: 12": "epochs: 1"},
    **{"beams: 4, max_new_tokens: 40": "beams: 1, max_new_tokens: 8", "width: 128": "width: 16", "ffn: 256": "ffn: 16"},
}
"""The tutorial in seconds: fewer and shorter clips, a smaller model."""


def test_every_command_of_the_tutorial_runs(tmp_path, monkeypatch, capsys):
    text = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    for usual, less in LESS.items():
        assert usual in text
        text = text.replace(usual, less)
    monkeypatch.chdir(tmp_path)
    Path("my.yaml").write_text(re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)[0], encoding="utf-8")
    commands, done = commands_of(text), []
    for words in commands:
        if words[0] == "rm":
            [Path(name).unlink() for name in words[1:]]
            continue
        assert main(words[1:]) == 0, f"{words}: {capsys.readouterr().err}"
        done.append(words[1])
    assert "seed 0" in Path("report.html").read_text(encoding="utf-8")
    assert set(done) == {"corpus", "fit", "evaluate", "compare", "density", "translate", "report"}
