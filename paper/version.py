"""Which code a run or a table was made by: a number that changes where what it does changes."""

from __future__ import annotations

import ast
import hashlib
import sys
from functools import lru_cache
from pathlib import Path

__all__ = ["code_version", "part_version", "without_words"]

NOT_TRAINING = (
    "cli",
    "pages",
    "testing.py",
    "training/catalogue.py",
    "density/figures.py",
    "density/audit.py",
    "inference/alignment.py",
    "evaluation/comparison.py",
    "evaluation/probes",
    "metrics/bootstrap.py",
)
"""Parts of the package that no number of a run depends on; what is made by them later names them by `part_version`."""


@lru_cache
def code_version() -> str:
    """A number of the code that training, scoring and density run through; comments and docstrings do not count."""
    package = Path(__import__("signcl").__file__).parent
    digest = hashlib.sha1()
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package)
        if not any(name.is_relative_to(part) for part in NOT_TRAINING):
            digest.update(f"{name.as_posix()}\0{without_words(path.read_text(encoding='utf-8'))}".encode())
    return digest.hexdigest()[:8]


@lru_cache
def part_version(*names: str) -> str:
    """A number of some modules of the package or of `paper`, or of all modules of a folder."""
    root, digest = Path(__file__).parents[1], hashlib.sha1()
    for name in names:
        path = root / name
        if not path.exists():
            raise FileNotFoundError(path)
        for module in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(without_words(module.read_text(encoding="utf-8")).encode())
    return digest.hexdigest()[:8]


def without_words(source: str) -> str:
    """What a module does: its syntax tree without docstrings, written alike by every Python from 3.11 on."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):  # a string that stands alone is a docstring, of a module, a class or a field
            node.body = [  # type: ignore[attr-defined]
                part
                for part in body
                if not (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant) and part.value.value != ...)
            ]
    written = ast.dump(tree, **({"show_empty": True} if sys.version_info >= (3, 13) else {}))
    return written.replace(", type_params=[]", "")
