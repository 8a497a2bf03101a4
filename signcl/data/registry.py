"""Registries of systems, corpora and loss terms: files of this package, installed entry points and plugins.

A name is looked up when it is used. Files of the package and installed entry points are found automatically. Plugins
run code, so they are imported only if the user names them: `load_plugins`.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import os
import pkgutil
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, Generic, TypeVar

from signcl.data.progress import say

__all__ = [
    "Registry",
    "did_you_mean",
    "digest_of_loaded",
    "is_outside_module",
    "load_plugins",
    "loaded_plugins",
    "nearest_word",
    "plugin_digest",
    "plugins_as_list",
    "with_loaded_plugins",
]

Thing = TypeVar("Thing")

OF_FILE = "signcl_plugin_"
"""Prefix of the module name of a plugin file; the file name and a digest of its path follow."""


class Registry(Generic[Thing]):
    """Entries by name, such as systems or corpora.

    Args:
        what: kind of entry for messages: system, corpus, loss term.
        key: the recipe key that names an entry, for messages.
        package: a package whose modules are entries of the same name, registered by importing them.
        not_entries: modules that are not entries.
        entry_points: the entry point group of installed packages.
        of_module: makes an entry from a module of the package; None: the module registers itself.
        accept: makes an entry from the object of an entry point; raises ValueError if it is invalid.
        hint: advice appended to the message about an unknown name.
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
        accept: Callable[[str, Any], Thing] | None = None,
        hint: str = "",
    ) -> None:
        self.what, self.key, self.group, self.hint = what, key, entry_points, hint
        self._package, self._not_entries, self._of_module = package, tuple(not_entries), of_module
        self.accept = accept
        self._things: dict[str, Thing] = {}
        self._left_out: set[str] = set()
        _REGISTRIES.add(self)

    def add(self, name: str, thing: Thing) -> None:
        """Registers an entry.

        Raises:
            ValueError: the name is already used by another entry.
        """
        known = self._things.get(name)
        if known is not None and not _same(known, thing):
            raise ValueError(f"there is already a {self.what} {name!r} ({_source(known)}); give yours another name")
        if known is None and name in self._own() and not _of_package(thing, self._package):
            raise ValueError(f"signcl already has a {self.what} {name!r}; give yours another name")
        self._things[name] = thing

    @contextmanager
    def standing_in(self, name: str, thing: Thing) -> Iterator[None]:
        """Temporarily registers an entry under a name that may be taken, to check entries that are not registered."""
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
        """All names: those of the package in alphabetical order, then external ones."""
        own = self._own()
        return [*own, *sorted({*self._installed(), *self._things} - set(own))]

    def loadable(self) -> list[tuple[str, Thing]]:
        """All names and entries, for listings; one that cannot be loaded is left out and reported on stderr."""
        found = []
        for name in self.names():
            try:
                found.append((name, self[name]))
            except ValueError as error:
                if name not in self._left_out:  # report it once
                    say(f"left out: {error}")
                self._left_out.add(name)
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._things or name in self._own() or name in self._installed()

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self.names())

    def __getitem__(self, name: str) -> Thing:
        if name not in self._things:
            if name in self._own():
                self._from_file(name)
            elif (entry := self._installed().get(name)) is not None:
                self._from_entry(name, entry)
        self.check_name(name)
        return self._things[name]

    def check_name(self, name: str) -> None:
        """Raises an error for an unknown name; imports nothing.

        Raises:
            ValueError: with the recipe key and all known names.
        """
        if name not in self:
            raise ValueError(
                f"{self.key}: needs one of {', '.join(self.names())}, got {name!r}{did_you_mean(name, self.names())}"
                f"{self.hint}"
            )

    def get(self, name: str) -> Thing | None:
        """Looks up a name; None if it is unknown."""
        return self[name] if name in self else None  # noqa: SIM401 (this is `get`)

    def _from_file(self, name: str) -> None:
        """Imports the file of the package with this name."""
        where = f"{self._package}.{name}"
        try:
            module = importlib.import_module(where)
        except Exception as error:  # e.g. a file that is still being developed
            raise ValueError(f"the {self.what} {name!r} cannot be loaded: {_cause(error, where)}") from error
        if self._of_module is not None and name not in self._things:
            try:
                self._things[name] = self._of_module(module)
            except AttributeError as error:
                raise ValueError(f"{name}.py defines no {self.what}: {error}") from None
        if name not in self._things:
            raise ValueError(f"{name}.py registers no {self.what} named {name}; give the file the registered name")

    def _from_entry(self, name: str, entry: EntryPoint) -> None:
        """Loads the entry point of an installed package: a module that registers the entry, or the entry."""
        start = f"the {self.what} {name!r} of the installed package {entry.dist.name if entry.dist else entry.value}"
        try:
            thing = entry.load()
        except Exception as error:  # a third-party package can raise anything; the user needs its name
            cause = _cause(error, entry.value.partition(":")[0].partition(".")[0])
            raise ValueError(f"{start} cannot be loaded: {cause}") from error
        if name in self._things:
            return
        if isinstance(thing, ModuleType):
            raise ValueError(f"{start} cannot be used: {entry.value} registers no {self.what} named {name}")
        try:
            self._things[name] = thing if self.accept is None else self.accept(name, thing)
        except ValueError as error:
            raise ValueError(f"{start} cannot be used: {error}") from None

    def _own(self) -> list[str]:
        """Names of the built-in entries, from file names; imports nothing."""
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
        return _announced(self.group, entry_points, _places_of_packages())


@lru_cache(maxsize=32)
def _announced(group: str, find: Callable[..., Iterable[EntryPoint]], places: object) -> dict[str, EntryPoint]:
    """The entry points of a group: read again only where something was installed, for reading takes 15 ms."""
    return {entry.name: entry for entry in find(group=group)}


def _places_of_packages() -> tuple[tuple[str, int], ...]:
    """Where packages are installed, and when each folder was last changed: installing or removing one changes it."""
    found = []
    for place in sys.path:
        try:
            found.append((place, os.stat(place or ".").st_mtime_ns))
        except OSError:  # the standard library as a zip file that is not there
            continue
    return tuple(found)


_REGISTRIES: weakref.WeakSet[Registry[Any]] = weakref.WeakSet()
"""All registries, for `is_outside_module`."""


def _same(a: Any, b: Any) -> bool:
    """Whether two entries are the same; one file may be imported under two names."""
    a, b = _written(a), _written(b)
    return a is b or (_source(a) == _source(b) and getattr(a, "__qualname__", a) == getattr(b, "__qualname__", b))


def _written(thing: Any) -> Any:
    """The object that the author wrote: for a loss term, its function."""
    return getattr(thing, "written_as", thing)


def _source(thing: Any) -> str:
    thing = _written(thing)
    module = sys.modules.get(getattr(thing, "__module__", ""), None)
    return str(getattr(module, "__file__", getattr(thing, "__module__", "?")))


def _of_package(thing: Any, package: str) -> bool:
    return str(getattr(thing, "__module__", getattr(thing, "__name__", ""))).startswith(package)


def did_you_mean(word: str, known: Iterable[str], where: str = "") -> str:
    """The end of an error message: a suggestion for a misspelled word, or ""."""
    match = nearest_word(word, known)
    return f"; did you mean {where}{match}?" if match else ""


def nearest_word(word: str, known: Iterable[str]) -> str:
    """The known word that a misspelled one most likely stands for, or "".

    Case, dashes and underscores do not count. A word that merely shares some letters is not suggested: it must begin
    alike, contain the other, or be very similar.
    """
    plain = {other: other.lower().lstrip("-").replace("-", "_") for other in known}
    wanted = word.lower().lstrip("-").replace("-", "_")
    scores = {other: difflib.SequenceMatcher(None, wanted, text).ratio() for other, text in plain.items()}

    def fits(other: str) -> bool:
        text, score = plain[other], scores[other]
        holds = min(len(wanted), len(text)) > 3 and (wanted in text or text in wanted)
        return score >= (0.4 if holds else 0.55 if text[:2] == wanted[:2] else 0.6 if text[:1] == wanted[:1] else 0.75)

    def rank(other: str) -> tuple[float, bool]:  # of equally similar words, the one that begins alike
        return round(scores[other], 2), plain[other][:1] == wanted[:1]

    return max(filter(fits, scores), key=rank, default="")


_LOADED: dict[str, str] = {}
"""Imported plugins: name as given -> digest of the file."""


def load_plugins(plugins: Sequence[str]) -> None:
    """Imports files (`my_system.py`) or modules (`package.module`) that register systems, corpora or terms.

    This runs their code: call it only for plugins that the user has named, never with names from untrusted files.

    Args:
        plugins: paths of `.py` files, relative to the current folder, or names of modules. Each is imported once.

    Raises:
        ValueError: not a list, no such file or module, or a plugin that fails on import.
    """
    for plugin in plugins_as_list(plugins):
        if plugin in _LOADED:
            continue
        try:
            with redirect_stdout(sys.stderr):  # stdout is for results
                if plugin.endswith(".py"):
                    _import_file(Path(plugin))
                else:
                    importlib.import_module(plugin)
        except ModuleNotFoundError as error:
            if error.name == plugin or (error.name and plugin.startswith(f"{error.name}.")):
                raise ValueError(
                    f"no plugin {plugin}: it does not end in .py, and no module of that name is installed"
                ) from None
            raise ValueError(
                f"the plugin {plugin} needs the module {error.name or error}, which is not installed"
            ) from None
        except Exception as error:  # user code: the failing line helps more than our traceback
            if isinstance(error, ValueError) and _raised_in_signcl(error):
                raise
            raise ValueError(f"the plugin {plugin} fails: {_cause(error, _module_name(plugin))}") from error
        _LOADED[plugin] = plugin_digest(plugin)


def plugins_as_list(plugins: Any) -> list[str]:
    """The value of `plugins` in a recipe or call as a list of names.

    Raises:
        ValueError: not a list of file or module names; says what to write.
    """
    if plugins is None:
        return []
    if isinstance(plugins, str | Path):
        raise ValueError(f"plugins: needs a list of files or modules, got {str(plugins)!r}; write plugins: [{plugins}]")
    if not isinstance(plugins, list | tuple) or not all(isinstance(p, str | Path) and str(p) for p in plugins):
        raise ValueError(
            f"plugins: needs a list of files or modules such as [my_system.py, package.module], got {plugins!r}"
        )
    return [str(plugin) for plugin in plugins]


def loaded_plugins() -> dict[str, str]:
    """Plugins imported so far: name as given -> digest of the file."""
    return dict(_LOADED)


def with_loaded_plugins(plugins: Sequence[str]) -> list[str]:
    """These plugins and all imported ones; a file with two paths is listed once."""
    found = list(plugins)
    for plugin in _LOADED:
        if not any(_same_file(plugin, other) for other in found):
            found.append(plugin)
    return found


def digest_of_loaded(plugin: str) -> str | None:
    """The digest of an imported plugin with this name or path, else with this file name; None if not imported.

    A run folder names `my_system.py`, but a later reader of the run may have the file elsewhere.
    """
    alike = [other for other in _LOADED if _same_file(plugin, other)]
    alike += [other for other in _LOADED if plugin.endswith(".py") and Path(other).name == Path(plugin).name]
    return _LOADED[alike[0]] if alike else None


def plugin_digest(plugin: str) -> str:
    """A digest of the file of a plugin; "" without a file."""
    file = plugin if plugin.endswith(".py") else getattr(sys.modules.get(plugin), "__file__", None)
    path = Path(file or "")
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else ""


def is_outside_module(module: str) -> bool:
    """Whether a module is a plugin, or it or its package has registered something."""
    tops = {plugin.partition(".")[0] for plugin in _LOADED if not plugin.endswith(".py")}
    for registry in _REGISTRIES:
        things = map(_written, registry._things.values())
        tops |= {str(getattr(thing, "__module__", "")).partition(".")[0] for thing in things}
    return module.startswith(OF_FILE) or module.partition(".")[0] in tops


def _same_file(a: str, b: str) -> bool:
    return a == b or (a.endswith(".py") and b.endswith(".py") and Path(a).resolve() == Path(b).resolve())


def _module_name(plugin: str) -> str:
    """The name of a plugin file in `sys.modules`, or the package of a module."""
    if not plugin.endswith(".py"):
        return plugin.partition(".")[0]
    path = Path(plugin)
    return f"{OF_FILE}{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"


def _import_file(path: Path) -> None:
    if not path.is_file():
        relative = "" if path.is_absolute() else f"; the path is relative to the current folder, {Path.cwd()}"
        raise ValueError(
            f"no plugin at {path}{relative}; give the path of a Python file that registers a system, corpus or term"
        )
    name = _module_name(str(path))
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs, because dataclasses and pickles look up their module by name
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def _cause(error: Exception, module: str) -> str:
    """An error as text, with the innermost line within a module or package that led to it."""
    kind = type(error).__name__
    if isinstance(error, SyntaxError) and error.filename:
        return f"{kind}: {error.msg} ({error.filename}, line {error.lineno})"
    place = ""
    for frame, line in _frames(error):
        name = _name_of(frame)
        if name == module or name.startswith(f"{module}."):
            place = f" ({frame.f_code.co_filename}, line {line})"
    return f"{kind}: {' '.join(str(error).split())}{place}"


def _raised_in_signcl(error: Exception) -> bool:
    frames = _frames(error)
    return bool(frames) and _name_of(frames[-1][0]).partition(".")[0] == "signcl"


def _name_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _frames(error: Exception) -> list[tuple[FrameType, int]]:
    """Stack frames of an error with their lines, innermost last."""
    frames, trace = [], error.__traceback__
    while trace is not None:
        frames.append((trace.tb_frame, trace.tb_lineno))
        trace = trace.tb_next
    return frames
