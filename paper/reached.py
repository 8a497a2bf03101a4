"""Finds the code that a run uses: full modules, but only those loss definitions that its weighted terms need.

`signcl.losses` and `signcl.systems.terms` contain all terms, while a run weights two or three. These modules are
followed name by name, so that a new or changed term does not invalidate the runs of other terms.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["reached"]

BY_NAME = ("signcl.losses", "signcl.systems.terms.")
"""Prefixes of modules that are followed name by name; `signcl.systems.terms` itself, which sums terms, is excluded."""


@dataclass(frozen=True)
class _Definition:
    """A function, class or value at the top level of a module."""

    content: str
    names: frozenset[str]
    """Every name that it uses."""
    imports: tuple[str, ...]
    """Names that it imports in its body."""
    is_term: bool
    """Whether it is a loss term, which is used only by runs that weight it."""


@dataclass(frozen=True)
class _Module:
    own: dict[str, _Definition]
    imports: dict[str, str]
    """Name in this module -> dotted name of its origin."""
    rest: str
    """Other statements executed on import."""


def reached(
    root: Path, modules: Sequence[str], terms: Sequence[str], read: Callable[[Path], tuple[str, tuple[str, ...]]]
) -> tuple[list[Path], dict[str, str]]:
    """The files that are used completely, and the used definitions of losses with a hash of their content.

    Args:
        root: the folder that contains the package.
        modules: dotted names of modules that every such run uses.
        terms: `module:name` of the terms that the recipe weights.
        read: gives a file's behaviour (as a hash) and its imports.
    """
    package = modules[0].partition(".")[0]
    files: dict[Path, None] = {}
    found: dict[str, str] = {}
    waiting: list[tuple[str, str]] = [("", module) for module in modules]
    waiting += [("term", term.replace(":", ".")) for term in terms]
    seen: set[tuple[str, str]] = set()
    while waiting:
        kind, name = item = waiting.pop()
        if item in seen or name.partition(".")[0] != package:
            continue
        seen.add(item)
        above, _, last = name.rpartition(".")
        if path := _file(root, name):  # a module
            if _by_name(name):
                if kind == "use":  # used as a module, so all of its definitions count
                    waiting += [("use", f"{name}.{own}") for own in _parsed(path.read_text(encoding="utf-8")).own]
                continue
            files[path] = None
            waiting += [("", above)] if above else []
            waiting += [("", imported) for imported in read(path)[1]]
        elif _by_name(above) and (path := _file(root, above)):  # a name in a module of the losses
            module = _parsed(path.read_text(encoding="utf-8"))
            if last in module.imports:
                waiting.append((kind, module.imports[last]))
            elif last in module.own and (kind or not module.own[last].is_term):
                own = module.own[last]
                found[name], found[above] = _number(own.content), _number(module.rest)
                waiting += [("use", f"{above}.{used}") for used in own.names if used in {*module.own, *module.imports}]
                waiting += [("use", imported) for imported in own.imports]
        elif kind == "use":  # a name in a module that is used completely
            waiting.append(("", above))
    return sorted(files), found


def _by_name(module: str) -> bool:
    return module.startswith(BY_NAME)


def _file(root: Path, module: str) -> Path | None:
    stem = root.joinpath(*module.split("."))
    for path in (stem.with_suffix(".py"), stem / "__init__.py"):
        if path.is_file():
            return path
    return None


def _number(text: str) -> str:
    return hashlib.sha1(text.encode()).hexdigest()


@cache
def _parsed(source: str) -> _Module:
    from paper.version import without_docstrings, written

    tree = ast.parse(source)
    for _ in without_docstrings(tree):
        pass
    own: dict[str, _Definition] = {}
    imports: dict[str, str] = {}
    rest = []
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports |= dict(_imported(node))
        elif names := [name for name in _defined(node) if name != "__all__"]:
            used = frozenset(n.id for n in ast.walk(node) if isinstance(n, ast.Name))
            inside = [n for n in ast.walk(node) if isinstance(n, ast.Import | ast.ImportFrom)]
            deeper = tuple(there for one in inside for _, there in _imported(one))
            for name in names:
                own[name] = _Definition(written(node), used, deeper, _is_term(node))
        elif not (isinstance(node, ast.Assign) or getattr(getattr(node, "test", None), "id", "") == "TYPE_CHECKING"):
            rest.append(written(node))
    return _Module(own, imports, "\n".join(rest))


def _imported(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, str]]:
    for alias in node.names:
        if isinstance(node, ast.Import):
            yield alias.asname or alias.name.partition(".")[0], alias.name
        elif node.module:
            yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _defined(node: ast.stmt) -> list[str]:
    """The names that a statement defines."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)]


def _is_term(node: ast.stmt) -> bool:
    calls = node.decorator_list if isinstance(node, ast.FunctionDef) else [getattr(node, "value", None)]
    names = {getattr(call.func, "id", "") for call in calls if isinstance(call, ast.Call)}
    return bool(names & {"Term", "register_term"})
