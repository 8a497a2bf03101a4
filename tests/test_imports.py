"""The import rule: modules import only from rings to their left, and the door opens fast."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "signcl"
RINGS = [
    {"batch", "recipe", "progress", "files"},
    {
        "text",
        "vectors",
        "video",
        "pickles",
        "features",
        "pose",
        "layers",
        "lora",
        "pretrained_text",
        "losses",
        "decode",
        "metrics",
        "align",
        "density",
        "projection",
        "annotation",
    },
    {"corpora", "visual", "targets"},
    {"models", "data", "planning"},
    {"checkpoint", "tables"},
    {"build", "lab"},
    {"terms"},
    {"stages"},
    {
        "train",
        "grid",
        "evaluation",
        "comparison",
        "probes",
        "extraction",
        "translation",
        "analysis",
        "audit",
        "alignment",
        "report",
        "catalogue",
        "vocabulary",
    },
    {"demo", "cli", "web", "__main__"},
]
WITHIN = {
    "evaluation": 0,
    "train": 1,
    "grid": 1,
    "translation": 1,
    "extraction": 1,
    "analysis": 2,
    "report": 3,
}  # the order inside the last but one
LOADED = {"checkpoint": {"build"}}  # imported inside a function: a run folder is read by building its model


def ring(module: str) -> int:
    for number, names in enumerate(RINGS):
        if module in names:
            return number
    raise AssertionError(f"signcl/{module}* has no place in the rings of tests/test_imports.py; give it one")


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        if isinstance(node, ast.ImportFrom) and node.module == "signcl":
            names = [f"signcl.{alias.name}" for alias in node.names]
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("signcl.")}
    return found


FILES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py" and "recipes" not in p.parts)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_come_from_the_left(path):
    here = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for other in imports(path) - {here} - LOADED.get(here, set()):
        own, theirs = ring(here), ring(other)
        legal = theirs < own or (theirs == own and WITHIN.get(other, 0) < WITHIN.get(here, 9)) or own == theirs == 0
        assert legal or (own == theirs and own != ring("train")), f"{path.name} imports signcl.{other}, from its right"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_file_is_longer_than_400_lines_and_each_says_what_it_holds(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 430, "past 400 lines a module becomes a folder of the same name"
    assert ast.get_docstring(ast.parse(text)), "a file opens with what it holds"


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_the_door_and_the_help_load_no_heavy_library():
    heavy = ["torch", "transformers", "numpy", "sklearn", "matplotlib", "cv2", "av", "sacrebleu", "lightning_fabric"]
    code = "import signcl, signcl.cli, sys; signcl.cli._parser([]); print([m for m in sys.modules if '.' not in m])"
    loaded = ast.literal_eval(run(code))
    assert not set(heavy) & set(loaded)


def test_the_public_names_are_there():
    code = "import signcl; [getattr(signcl, name) for name in signcl.__all__]; print(len(signcl.__all__))"
    assert int(run(code)) > 10


def test_torchvision_is_not_installed():
    # The one on PyPI is linked to CUDA: with CPU torch, having it breaks transformers and lightning on import.
    import importlib.util

    assert importlib.util.find_spec("torchvision") is None, "uninstall torchvision; signcl does without it"
