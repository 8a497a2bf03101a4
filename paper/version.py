"""Which code a run was made by: a number that changes where what it does changes."""

from __future__ import annotations

import ast
import hashlib
from functools import lru_cache
from pathlib import Path

__all__ = ["code_version", "without_words"]

NOT_TRAINING = (
    "cli",
    "report",
    "web",
    "tables.py",
    "demo.py",
    "catalogue.py",
    "projection.py",
    "audit.py",
    "alignment.py",
    "comparison.py",
    "probes",
    "metrics/bootstrap.py",
)
"""Parts of the package that no number of a run depends on."""


@lru_cache
def code_version() -> str:
    """A number of the code that training, scoring and density run through; comments and docstrings do not count."""
    package = Path(__import__("signcl").__file__).parent
    digest = hashlib.sha1()
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package)
        if name.parts[0] not in NOT_TRAINING and name.as_posix() not in NOT_TRAINING:
            digest.update(f"{name.as_posix()}\0{without_words(path.read_text(encoding='utf-8'))}".encode())
    return digest.hexdigest()[:8]


def without_words(source: str) -> str:
    """What a module does: its syntax tree without docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):  # a string that stands alone is a docstring, of a module, a class or a field
            node.body = [  # type: ignore[attr-defined]
                part
                for part in body
                if not (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant) and part.value.value != ...)
            ]
    return ast.dump(tree)
