"""One corpus, one file; each has `samples(root, split, **options) -> list[Sample]`.

`CORPORA` names them; `load_samples` finds the reader, checks the options and answers with one clear line where
something is wrong. docs/adding-a-corpus.md says how to add one, docs/data.md what each expects.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from signcl.data.batch import Sample

__all__ = ["CORPORA", "SPLITS", "load_samples", "reader"]

SPLITS = ("train", "dev", "test")

CORPORA: dict[str, str | Callable[..., list[Sample]]] = {
    "folder": "signcl.data.corpora.folder",
    "synthetic": "signcl.data.corpora.synthetic",
    "imu_numbers": "signcl.data.corpora.imu_numbers",
    "phoenix14t": "signcl.data.corpora.phoenix14t",
    "csl_daily": "signcl.data.corpora.csl_daily",
    "how2sign": "signcl.data.corpora.how2sign",
    "dgs_sentences": "signcl.data.corpora.dgs_sentences",
}
"""Name -> module with a function `samples`, or such a function itself. Add your own: `CORPORA["mine"] = my_samples`."""


def reader(name: str) -> Callable[..., list[Sample]]:
    """The function `samples(root, split, **options)` of a corpus.

    Raises:
        ValueError: no corpus of that name; names the known ones.
    """
    if name not in CORPORA:
        near = difflib.get_close_matches(name, CORPORA, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"corpus.name must be one of {', '.join(CORPORA)}, got {name!r}{hint}")
    target = CORPORA[name]
    if isinstance(target, str):
        samples: Callable[..., list[Sample]] = importlib.import_module(target).samples
        return samples
    return target


def load_samples(name: str, root: Path | str, split: str, **options: Any) -> list[Sample]:
    """The sentences of one split of a corpus, without opening a clip.

    Args:
        name: a key of `CORPORA`.
        root: the folder of the corpus.
        split: `train`, `dev` or `test`.
        options: what that corpus's `samples` takes beside, see docs/data.md.

    Raises:
        ValueError: unknown corpus or option, no such folder, or what the reader finds wrong.
    """
    samples = reader(name)
    accepted = [key for key, p in inspect.signature(samples).parameters.items() if p.kind is p.KEYWORD_ONLY]
    for key in options:
        if key not in accepted:
            public = [key for key in accepted if key != "on_error"]
            takes = f"takes the options {', '.join(public)}" if public else "takes no options"
            near = difflib.get_close_matches(key, public, n=1)
            raise ValueError(f"corpus {name} {takes}, got {key!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    root = Path(root)
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise ValueError(
            f"corpus.root {root} {what}; give the folder of the corpus {name} (docs/data.md says how to get it)"
        )
    return samples(root, split, **options)
