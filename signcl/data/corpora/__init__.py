"""Corpus readers: one file per corpus, each with `samples(root, split, **options) -> list[Sample]`.

`CORPORA` lists them; `load_samples` finds the reader, checks the options and reports errors in one line.
docs/adding-a-corpus.md explains how to add a corpus, docs/data.md what each reader expects.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signcl.data.json_files import read_json
from signcl.data.registry import Registry, did_you_mean

if TYPE_CHECKING:
    from signcl.data.batch import Sample

__all__ = ["CORPORA", "PACK", "SPLITS", "load_samples", "register_corpus"]

SPLITS = ("train", "dev", "test")

CALLBACKS = ("on_error", "on_missing")
"""Keyword arguments of a reader that are not recipe options: callbacks for broken rows and for rows without a clip."""

PACK = "pack.json"
"""The file that marks a folder as a pack of a corpus, written by `signcl corpus pack`."""

Reader = Callable[..., "list[Sample]"]
"""(root, split, **options) -> samples."""


def _accept_reader(name: str, samples: Any) -> Reader:
    """Checks that a function can be the reader of a corpus, with options that a recipe can set."""
    if not callable(samples) or isinstance(samples, type):
        raise ValueError(f"corpus {name}: needs a function (root, split, *, options), got {samples!r}")
    parameters = list(inspect.signature(samples).parameters.values())
    called = getattr(samples, "__name__", name)
    if len(parameters) < 2 or any(p.kind not in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters[:2]):
        got = ", ".join(map(str, parameters))
        raise ValueError(f"corpus {name}: the function must take (root, split, *, options), got {called}({got})")
    for option in parameters[2:]:
        if option.kind is not option.KEYWORD_ONLY:
            raise ValueError(
                f"corpus {name}: options of its reader must be keyword-only, got {str(option)!r} in {called}; write "
                f"{called}(root, split, *, lowercase=False)"
            )
        if option.default is option.empty:
            raise ValueError(f"corpus {name}: the option {option.name} of {called} needs a default")
    return samples


CORPORA: Registry[Reader] = Registry(
    "corpus",
    key="corpus.name",
    package="signcl.data.corpora",
    entry_points="signcl.corpora",
    of_module=lambda module: module.samples,
    accept=_accept_reader,
    hint=" (for any other data: folder, with a table; `signcl corpus doctor DIR` explains how)",
)
"""All corpora by name: files of this package with a function `samples`, installed entry points, functions registered
by plugins."""


def register_corpus(name: str) -> Callable[[Reader], Reader]:
    """Registers a function as a corpus: `@register_corpus("mine") def samples(root, split, *, option=1): ...`.

    Args:
        name: `corpus.name` of a recipe. The function's keyword arguments are its `corpus.options`.

    Raises:
        ValueError: the name is already used by another corpus, or options are not keyword-only.
    """

    def add(samples: Reader) -> Reader:
        CORPORA.add(name, _accept_reader(name, samples))
        return samples

    return add


def _where_from(name: str, samples: Reader) -> str:
    """The corpus and where to get it, for a message about a missing folder."""
    layout: Any = getattr(sys.modules.get(samples.__module__), "LAYOUT", None)
    if name == "folder":
        return f"your corpus: {layout.needs}"
    if layout is None:  # a reader from a plugin
        return f"the corpus {name}"
    return f"the corpus {name}, {layout.about}: {layout.published}"


def load_samples(name: str, root: Path | str, split: str, **options: Any) -> list[Sample]:
    """Loads the samples of one split of a corpus, without opening clips.

    Args:
        name: one of `CORPORA`.
        root: the folder of the corpus.
        split: `train`, `dev` or `test`.
        options: options of that corpus's `samples`, see docs/data.md.

    Raises:
        ValueError: an unknown corpus or option, no such folder, a pack that is unfinished or of another corpus, or an
            error of the reader.
    """
    samples = CORPORA[name]
    accepted = [key for key, p in inspect.signature(samples).parameters.items() if p.kind is p.KEYWORD_ONLY]
    for key in options:
        if key not in accepted:
            public = [key for key in accepted if key not in CALLBACKS]
            takes = f"takes the options {', '.join(public)}" if public else "takes no options"
            raise ValueError(f"corpus {name} {takes}, got {key!r}{did_you_mean(key, public)}")
    root = Path(root)
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise ValueError(f"corpus.root {root} {what}; give the folder of {_where_from(name, samples)}")
    try:
        if (root / PACK).is_file():
            _check_pack(name, root, split, options)
            samples, options = CORPORA["folder"], {key: value for key, value in options.items() if key == "on_error"}
        return samples(root, split, **options)
    except ValueError as error:
        if other := OTHER_NAMES.get(split.lower()):
            said = str(error).partition("; did you mean ")[0]
            raise ValueError(f"{said}; the split {split} is called {other} here") from None
        near = did_you_mean(split, SPLITS)
        if split not in SPLITS and near and repr(split) in str(error) and "did you mean" not in str(error):
            raise ValueError(f"{error}{near}") from None
        raise


OTHER_NAMES = {"val": "dev", "valid": "dev", "validation": "dev", "training": "train", "testing": "test"}
"""Other common names of the splits."""
PACK_SHAPE = {"finished": bool, "corpus": str, "options": dict, "splits": [str]}


def _check_pack(name: str, root: Path, split: str, options: dict[str, Any]) -> None:
    """Raises an error for a pack that is unfinished, of another corpus, or made with other options."""
    path = root / PACK
    pack = read_json(path, PACK_SHAPE, f"delete {root} and pack the corpus again")
    finished, corpus, packed = pack["finished"], pack["corpus"], pack["options"]
    if not finished:
        raise ValueError(f"{root}: an unfinished pack; run the same `signcl corpus pack` again to complete it")
    if name != corpus:
        raise ValueError(f"{root}: is a pack of corpus {corpus}, got corpus.name={name}; set corpus.name={corpus}")
    given = {key: value for key, value in options.items() if key not in CALLBACKS}
    if given != packed:
        raise ValueError(f"{root}: was packed with corpus.options {packed}, got {given}; use those, or pack it again")
    if split not in pack["splits"]:
        raise ValueError(f"{root}: the pack has the splits {', '.join(pack['splits'])}, got {split!r}; pack it too")
