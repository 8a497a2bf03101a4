"""The import rule: modules import only from rings to their left, and `import signcl` is fast."""

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import signcl

PACKAGE = Path(__file__).parents[1] / "signcl"
RINGS = ["data", "losses", "metrics", "density", "systems", "training", "inference", "evaluation", "testing", "pages",
         "cli", "__main__"]  # fmt: skip


FILES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py" and "recipes" not in p.parts)


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.Module]:
    """The text of each file, by its path in the package."""
    return {p.relative_to(PACKAGE).as_posix(): ast.parse(p.read_text(encoding="utf-8")) for p in FILES}


def statements(node: ast.AST) -> Iterator[ast.stmt]:
    """All statements in a file, a class or a function. Only they import, and there are ten expressions to each."""
    for name in ("body", "orelse", "finalbody", "handlers", "cases"):
        for inner in getattr(node, name, ()):
            if isinstance(inner, ast.stmt):
                yield inner
            yield from statements(inner)


def imports(tree: ast.Module) -> set[str]:
    found = set()
    for node in statements(tree):
        names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        if isinstance(node, ast.ImportFrom) and node.module == "signcl":
            names = [f"signcl.{alias.name}" for alias in node.names]
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("signcl.")}
    return found


def test_imports_come_from_the_left(trees):
    wrong = []
    for place, tree in trees.items():
        here = place.split("/")[0].removesuffix(".py")
        rights = [other for other in imports(tree) - {here} if RINGS.index(other) >= RINGS.index(here)]
        wrong += [f"{place} imports signcl.{other}, from its right" for other in rights]
    assert len(trees) > 200
    assert wrong == []


def test_type_checkers_see_every_public_name():
    """The names of `signcl` load on first use, so a type checker knows them by imports that never run."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.asname: node.module for node in block.body for alias in node.names}  # "as": re-exported
    assert seen == signcl.NAMES


def test_the_top_has_few_rooms():
    entries = {p.name for p in PACKAGE.iterdir()} - {"__pycache__", "recipes"}
    assert len(entries) <= 14, sorted(entries)


def test_own_modules_are_imported_at_the_top(trees):
    """A verb of the command line loads what it needs when it runs, so that `--help` stays fast; nobody else does."""
    inner = [
        f"{place} line {node.lineno}: {node.module}"
        for place, tree in trees.items()
        if not place.startswith("cli/")
        for function in statements(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in statements(function)
        if isinstance(node, ast.ImportFrom)
        and (node.module or "").startswith("signcl")
        and node.module != "signcl.pages.app"  # it needs the extra `serve`
    ]
    assert inner == []


def test_each_file_says_what_it_holds(trees):
    silent = [place for place, tree in trees.items() if not ast.get_docstring(tree)]
    assert silent == [], "a file opens with what it holds"


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_the_door_and_the_help_load_no_heavy_library():
    heavy = ["torch", "transformers", "numpy", "sklearn", "matplotlib", "cv2", "av", "sacrebleu", "lightning_fabric"]
    code = "import signcl, signcl.cli, sys; signcl.cli.make_parser([]); print([m for m in sys.modules if '.' not in m])"
    loaded = ast.literal_eval(run(code))
    assert not set(heavy) & set(loaded)


def test_the_public_names_are_there():
    code = "import signcl; [getattr(signcl, name) for name in signcl.__all__]; print(len(signcl.__all__))"
    assert int(run(code)) > 10


def test_torchvision_is_not_installed():
    # The one on PyPI is linked to CUDA: with CPU torch, having it breaks transformers and lightning on import.
    import importlib.util

    assert importlib.util.find_spec("torchvision") is None, "uninstall torchvision; signcl does without it"


def test_a_file_name_stands_once_in_the_package():
    names = Counter(path.name for path in FILES if path.name != "__init__.py")
    assert [name for name, count in names.items() if count > 1] == []
