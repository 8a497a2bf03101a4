"""What can be named in a recipe: files of this package, installed entry points, and what plugins have registered.

A name is looked up when it is used. Files of the package and installed entry points are found by themselves. A plugin
is code, so it is imported only where the user has named it: `load_plugins`.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

__all__ = ["Registry", "did_you_mean", "load_plugins", "loaded_plugins", "plugin_digest"]

Thing = TypeVar("Thing")


class Registry(Generic[Thing]):
    """Things by name.

    Args:
        what: for messages: system, corpus, loss term.
        key: the recipe key that names one, for messages.
        package: a package whose modules are things of the same name, each registered by importing its module.
        not_entries: modules of that package that are none.
        entry_points: the group in which installed packages announce theirs.
        of_module: makes a thing of a module of the package; None: the module registers it.
    """

    def __init__(
        self,
        what: str,
        *,
        key: str,
        entry_points: str,
        package: str = "",
        not_entries: Sequence[str] = (),
        of_module: Callable[[Any], Thing] | None = None,
    ) -> None:
        self.what, self.key, self.group = what, key, entry_points
        self._package, self._not_entries, self._of_module = package, tuple(not_entries), of_module
        self._things: dict[str, Thing] = {}

    def add(self, name: str, thing: Thing) -> None:
        """Register a thing.

        Raises:
            ValueError: the name is taken by another one.
        """
        known = self._things.get(name)
        if known is not None and not _same(known, thing):
            raise ValueError(f"there is a {self.what} {name!r} already ({_source(known)}); give yours another name")
        if known is None and name in self._own() and not _of_package(thing, self._package):
            raise ValueError(f"signcl has a {self.what} {name!r} of its own; give yours another name")
        self._things[name] = thing

    @contextmanager
    def standing_in(self, name: str, thing: Thing) -> Iterator[None]:
        """Let a thing have a name for a while, whoever else has it: for checks of things that are not registered."""
        before = self._things.get(name)
        self._things[name] = thing
        try:
            yield
        finally:
            if before is None:
                del self._things[name]
            else:
                self._things[name] = before

    def names(self) -> list[str]:
        """Every name: the package's in alphabetical order, then those from outside."""
        own = self._own()
        return [*own, *sorted({*self._installed(), *self._things} - set(own))]

    def __contains__(self, name: object) -> bool:
        return name in self._things or name in self._own() or name in self._installed()

    def __getitem__(self, name: str) -> Thing:
        if name not in self._things:
            if name in self._own():
                module = importlib.import_module(f"{self._package}.{name}")
                if self._of_module is not None:
                    self._things.setdefault(name, self._of_module(module))
            elif (entry := self._installed().get(name)) is not None:
                self._from_entry(name, entry)
        if name not in self._things:
            raise ValueError(
                f"{self.key}: needs one of {', '.join(self.names())}, got {name!r}{did_you_mean(name, self.names())}"
            )
        return self._things[name]

    def get(self, name: str) -> Thing | None:
        """The thing of a name, None where there is none."""
        return self[name] if name in self else None  # noqa: SIM401 (this is `get`)

    def _from_entry(self, name: str, entry: EntryPoint) -> None:
        try:
            thing = entry.load()
        except Exception as error:  # somebody else's package: whatever it raises, the user needs its name
            raise ValueError(
                f"the {self.what} {name!r} of the installed package {entry.dist.name if entry.dist else entry.value} "
                f"cannot be loaded: {type(error).__name__}: {error}"
            ) from error
        if name not in self._things:  # a module that registers, or the thing itself
            self._things[name] = thing

    def _own(self) -> list[str]:
        """Names of the package's own, from the names of its files: nothing is imported."""
        if not self._package:
            return []
        spec = importlib.util.find_spec(self._package)
        places = [] if spec is None else list(spec.submodule_search_locations or [])
        return sorted(
            module.name
            for module in pkgutil.iter_modules(places)
            if module.name not in self._not_entries and not module.name.startswith("_")
        )

    def _installed(self) -> dict[str, EntryPoint]:
        return {entry.name: entry for entry in entry_points(group=self.group)}


def _same(a: Any, b: Any) -> bool:
    """Whether two things are one: the same file may be imported under two names."""
    a, b = _written(a), _written(b)
    return a is b or (_source(a) == _source(b) and getattr(a, "__qualname__", a) == getattr(b, "__qualname__", b))


def _written(thing: Any) -> Any:
    """What somebody wrote: of a loss term, its function."""
    return getattr(thing, "written_as", thing)


def _source(thing: Any) -> str:
    thing = _written(thing)
    module = sys.modules.get(getattr(thing, "__module__", ""), None)
    return str(getattr(module, "__file__", getattr(thing, "__module__", "?")))


def _of_package(thing: Any, package: str) -> bool:
    return str(getattr(thing, "__module__", getattr(thing, "__name__", ""))).startswith(package)


def did_you_mean(word: str, known: Iterable[str], where: str = "") -> str:
    """The end of an error message: the known word that was probably meant, or nothing."""
    match = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {where}{match[0]}?" if match else ""


_LOADED: dict[str, str] = {}
"""Plugins that were imported, as they were named -> digest of the file, "" for a module of a package."""


def load_plugins(plugins: Sequence[str]) -> None:
    """Import files (`my_system.py`) or modules (`package.module`) that register systems, corpora or terms.

    This runs their code: call it for plugins that the user has named, never for names found in a file of a stranger.

    Raises:
        ValueError: no such file or module, or one that fails while it is imported.
    """
    for plugin in plugins:
        if plugin in _LOADED:
            continue
        try:
            if plugin.endswith(".py"):
                _import_file(Path(plugin))
            else:
                importlib.import_module(plugin)
        except ValueError:
            raise
        except ModuleNotFoundError as error:
            if error.name != plugin.partition(".")[0] and not plugin.startswith(f"{error.name}."):
                raise ValueError(f"the plugin {plugin} needs the module {error.name}, which is not installed") from None
            raise ValueError(
                f"no plugin {plugin}: a file ends in .py, and no module of that name is installed"
            ) from None
        except Exception as error:  # the user's own code: the line is worth more than our traceback
            raise ValueError(f"the plugin {plugin} fails: {type(error).__name__}: {error}{_at(error)}") from error
        _LOADED[plugin] = plugin_digest(plugin)


def loaded_plugins() -> dict[str, str]:
    """Plugins imported so far: as they were named -> digest of the file."""
    return dict(_LOADED)


def plugin_digest(plugin: str) -> str:
    """A number that changes when the file of a plugin does; "" where it is a module, or not there."""
    path = Path(plugin)
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if plugin.endswith(".py") and path.is_file() else ""


def _import_file(path: Path) -> None:
    if not path.is_file():
        raise ValueError(f"no plugin at {path}: a Python file is needed that registers a system, corpus or term")
    name = f"signcl_plugin_{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: dataclasses and pickles look their module up by name
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def _at(error: Exception) -> str:
    """File and line of the innermost frame of an error."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f" ({trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno})"
