"""What a run was trained on and what its files must contain: fingerprints and checksums in `manifest.json`.

A run that goes on with other data is refused, and so is a file that has changed since it was written.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from signcl.data.batch import Sample
from signcl.data.files import atomic_write, write_json
from signcl.data.json_files import read_json
from signcl.data.video.shards import find_entry, in_shard

__all__ = [
    "BESIDE_WEIGHTS",
    "MANIFEST",
    "changed_data",
    "checked_write",
    "data_fingerprints",
    "known_checksum",
    "note_files",
    "save_fingerprints",
    "verify",
]

MANIFEST = "manifest.json"
BESIDE_WEIGHTS = (
    *("tokenizer.json", "sentencepiece.bpe.model", "glosses.json", "architecture.json"),
    *("pseudo_glosses.json", "sentence_similarity.json", "sentence_vectors.json"),
)
"""Files of a run that its weights mean nothing without; `recipe.yaml` is not one, because people may edit it."""


def data_fingerprints(train: Iterable[Sample], dev: Iterable[Sample], glosses: Iterable[str] | None) -> dict[str, str]:
    """What a training depends on in its corpus, by name.

    Names and sentences in full; files by their size, so that a copied corpus is the same corpus.

    Args:
        glosses: the classes of a run that trains on glosses, in their order; its clips then count with their glosses.
    """
    splits = {"train": list(train), "dev": list(dev)}
    size = lru_cache(maxsize=None)(_size)  # thousands of samples may name one feature store
    found = {}
    for name, samples in splits.items():
        found[name] = _digest(
            (
                *(s.name, s.text, s.cut, s.gloss if glosses is not None else ()),
                s.segment and (str(s.segment), s.segment.fps),
            )
            for s in samples
        )
        found[f"{name} files"] = _digest((s.name, _content(s.clip, size), _content(s.features, size)) for s in samples)
    if glosses is not None:
        found["glosses"] = _digest(glosses)
    return found


def changed_data(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """The names of what differs, of what both know."""
    return [name for name in now if name in before and before[name] != now[name]]


def _digest(rows: Iterable[Any]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, default=str, ensure_ascii=False).encode())
        digest.update(b"\n")
    return digest.hexdigest()[:16]


def _content(source: Any, size: Callable[[Path], Any]) -> Any:
    """What stands for the content that a sample is read from: sizes of files, shapes of arrays."""
    if source is None:
        return None
    if isinstance(source, tuple):
        return [_content(part, size) for part in source]
    if isinstance(source, np.ndarray):
        return list(source.shape)
    return size(source)


def _size(source: Path) -> Any:
    """The bytes of a file, the number of pictures in a folder, the checksum of a store's index or a packed clip."""
    try:
        if in_shard(source):
            return find_entry(source).crc
        if source.is_dir():
            index = source / "index.json"  # of a feature store, which names every clip and its rows
            return hashlib.sha256(index.read_bytes()).hexdigest() if index.is_file() else len(os.listdir(source))
        return source.stat().st_size
    except (OSError, ValueError):  # not there or damaged, which the reader of clips says
        return None


def save_fingerprints(folder: Path, fingerprints: dict[str, str], plugins: dict[str, str]) -> None:
    """Note what a run is trained on."""
    said = _read(folder)
    said["trained_on"] = fingerprints | {f"plugin {name}": digest for name, digest in plugins.items()}
    write_json(folder / MANIFEST, said)


@contextlib.contextmanager
def checked_write(path: Path) -> Iterator[Path]:
    """`atomic_write` of a run's file whose checksum goes into the manifest.

    Between the two replacements both checksums count, so that a kill in between leaves a run that can be read.
    """
    folder, name = path.parent, path.name
    with atomic_write(path) as temporary:
        yield temporary
        new = _checksum(temporary)
        old = _read(folder)["files"].get(name, []) if path.is_file() else []
        _note(folder, {name: [*old, new] if new not in old else old})
    _note(folder, {name: [new]})


def note_files(folder: Path, names: Iterable[str] = BESIDE_WEIGHTS) -> None:
    """Take files that are there as they are."""
    _note(folder, {name: [_checksum(folder / name)] for name in names if (folder / name).is_file()})


def known_checksum(folder: Path, name: str) -> str | None:
    """The checksum of a file as it was written last; None of a run without a manifest, of an earlier version."""
    said: list[str] = _read(folder)["files"].get(name, [])
    return said[-1] if said else None


def verify(folder: Path, names: Iterable[str]) -> None:
    """Refuse files that are not what was written; a run without a manifest, of an earlier version, passes.

    Raises:
        ValueError: names the first file that has changed.
    """
    known = _read(folder)["files"]
    for name in names:
        path = folder / name
        if name in known and path.is_file() and _checksum(path) not in known[name]:
            raise ValueError(
                f"{path} is not what this run wrote: its checksum differs from the one in {MANIFEST}. Copy the run "
                f"folder again or train again; if you changed the file on purpose, delete {folder / MANIFEST}"
            )


def _read(folder: Path) -> dict[str, Any]:
    """The manifest of a run, empty where there is none."""
    path = folder / MANIFEST
    said: dict[str, Any] = {}
    if path.is_file():
        said = read_json(path, {"files": {str: [str]}}, "copy the run folder again, or delete this file")
    return {"version": 1, "trained_on": {}, "files": {}} | said


def _note(folder: Path, checksums: dict[str, list[str]]) -> None:
    said = _read(folder)
    said["files"] |= checksums
    write_json(folder / MANIFEST, said)


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
