"""Computes code versions of runs and tables: hashes that change if the behaviour of the code changes."""

from __future__ import annotations

import ast
import hashlib
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from pathlib import Path

from paper.reached import reached

__all__ = [
    "EVERY_RUN",
    "code_version",
    "imported_files",
    "part_version",
    "without_docstrings",
    "without_words",
    "written",
]

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
"""Parts of the package that do not affect the numbers of a run; later results made with them use `part_version`."""


EVERY_RUN = (
    "signcl.training.fitting",
    "signcl.evaluation.scoring",
    "signcl.inference.run_density",
    "signcl.inference.extraction",
)
"""Modules that every run uses, together with their imports."""


def code_version(
    system: str | None = None,
    corpus: str | None = None,
    package: Path | None = None,
    terms: tuple[str, ...] | None = None,
) -> str:
    """Hash of the code that a run uses: data, its corpus, its system, losses, training, scoring, density.

    Comments and docstrings do not count. Code that the run does not use does not count either: pages, other systems,
    loss terms without a weight.

    Args:
        system: the module of the run's system; None takes the full package except `NOT_TRAINING`.
        corpus: the module of its corpus.
        terms: `module:name` of its weighted loss terms; None: all losses.
        package: the folder of the code; None: the imported package, cached per process.
    """
    if package is None:
        return _own_version(system, corpus, terms)
    roots, definitions = [*EVERY_RUN, *filter(None, (system, corpus))], dict[str, str]()
    if system is None:
        files = sorted(package.rglob("*.py"))
    elif terms is None:
        files = imported_files(package.parent, roots)
    else:
        files, definitions = reached(package.parent, roots, terms, _read)
    digest = hashlib.sha1()
    for path in files:
        name = path.relative_to(package)
        if not any(name.is_relative_to(part) for part in NOT_TRAINING):
            digest.update(f"{name.as_posix()}\0{_read(path)[0]}".encode())
    for own in sorted(definitions):
        digest.update(f"{own}\0{definitions[own]}".encode())
    return digest.hexdigest()[:8]


@lru_cache
def _own_version(system: str | None, corpus: str | None, terms: tuple[str, ...] | None) -> str:
    return code_version(system, corpus, Path(__import__("signcl").__file__).parent, terms)


def _read(path: Path) -> tuple[str, tuple[str, ...]]:
    """Hash of a module's behaviour, and the names of modules that it may import."""
    return _parsed(path.read_text(encoding="utf-8"))


@cache
def _parsed(source: str) -> tuple[str, tuple[str, ...]]:
    """`_read` for source text, cached per process."""
    tree = ast.parse(source)
    types = {id(n) for node in ast.walk(tree) if _for_types(node) for n in ast.walk(node)}
    imports: list[str] = []
    for node in without_docstrings(tree):
        if id(node) in types:  # imported only by type checkers
            continue
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imports += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            imports += [alias.name for alias in node.names]
    return hashlib.sha1(written(tree).encode()).hexdigest(), tuple(imports)


def _for_types(node: ast.AST) -> bool:
    """Whether a node is `if TYPE_CHECKING:` without an else."""
    return isinstance(node, ast.If) and not node.orelse and getattr(node.test, "id", "") == "TYPE_CHECKING"


def imported_files(root: Path, modules: Sequence[str]) -> list[Path]:
    """The files of modules and of everything they import from their package, directly or indirectly.

    Args:
        root: the folder that contains the package.
        modules: dotted names.
    """
    found: dict[Path, None] = {}
    waiting = list(modules)
    package = modules[0].partition(".")[0]
    seen = set()
    while waiting:
        module = waiting.pop()
        if module in seen or module.partition(".")[0] != package:
            continue
        seen.add(module)
        if "." in module:
            waiting.append(module.rpartition(".")[0])  # a package's own file runs first
        stem = root.joinpath(*module.split("."))
        path = stem.with_suffix(".py") if stem.with_suffix(".py").is_file() else stem / "__init__.py"
        if not path.is_file():  # a name in a module, not a module
            continue
        found[path] = None
        waiting += _read(path)[1]
    return sorted(found)


@lru_cache
def part_version(*names: str) -> str:
    """Hash of modules of the package or of `paper`; a folder stands for all modules in it."""
    root, digest = Path(__file__).parents[1], hashlib.sha1()
    for name in names:
        path = root / name
        if not path.exists():
            raise FileNotFoundError(path)
        for module in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(without_words(module.read_text(encoding="utf-8")).encode())
    return digest.hexdigest()[:8]


def without_words(source: str) -> str:
    """The syntax tree of a module without docstrings, as text that is the same in every Python from 3.11 on."""
    tree = ast.parse(source)
    deque(without_docstrings(tree), maxlen=0)
    return written(tree)


def without_docstrings(tree: ast.AST) -> Iterator[ast.AST]:
    """Yields every node of a tree and removes its docstrings first."""
    waiting = deque([tree])
    while waiting:
        node = waiting.popleft()
        body = getattr(node, "body", None)
        if isinstance(body, list):  # an expression that is only a constant is a docstring of a module, class or field
            node.body = [  # type: ignore[attr-defined]
                part
                for part in body
                if not (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant) and part.value.value != ...)
            ]
        waiting.extend(ast.iter_child_nodes(node))
        yield node


def written(tree: ast.AST) -> str:
    """A tree as text that is the same in every Python from 3.11 on."""
    written = ast.dump(tree, **({"show_empty": True} if sys.version_info >= (3, 13) else {}))
    return written.replace(", type_params=[]", "")
