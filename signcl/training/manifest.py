"""Fingerprints of a run's training data and checksums of its files, in `manifest.json`.

Resuming a run with changed data is an error, and so is reading a file that was changed after it was written.
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
"""Files of a run without which its weights are useless; `recipe.yaml` is not checked because users may edit it."""


def data_fingerprints(train: Iterable[Sample], dev: Iterable[Sample], glosses: Iterable[str] | None) -> dict[str, str]:
    """Fingerprints of the corpus data that training depends on, by name.

    They cover names and sentences in full, and files by their size, so that a copied corpus counts as the same.

    Args:
        glosses: gloss classes in order, for a run that trains on glosses; the glosses of its clips are then included.
    """
    splits = {"train": list(train), "dev": list(dev)}
    size = lru_cache(maxsize=None)(_size)  # thousands of samples may use one feature store
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
    """Names of the fingerprints that differ, among those present in both."""
    return [name for name in now if name in before and before[name] != now[name]]


def _digest(rows: Iterable[Any]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, default=str, ensure_ascii=False).encode())
        digest.update(b"\n")
    return digest.hexdigest()[:16]


def _content(source: Any, size: Callable[[Path], Any]) -> Any:
    """A summary of the content that a sample is read from: sizes of files, shapes of arrays."""
    if source is None:
        return None
    if isinstance(source, tuple):
        return [_content(part, size) for part in source]
    if isinstance(source, np.ndarray):
        return list(source.shape)
    return size(source)


def _size(source: Path) -> Any:
    """Size of a file, number of pictures in a folder, or checksum of a store's index or a packed clip."""
    try:
        if in_shard(source):
            return find_entry(source).crc
        if source.is_dir():
            index = source / "index.json"  # index of a feature store, with every clip and its rows
            return hashlib.sha256(index.read_bytes()).hexdigest() if index.is_file() else len(os.listdir(source))
        return source.stat().st_size
    except (OSError, ValueError):  # missing or damaged; reported when the clip is read
        return None


def save_fingerprints(folder: Path, fingerprints: dict[str, str], plugins: dict[str, str]) -> None:
    """Save the fingerprints of a run's training data and plugins."""
    said = _read(folder)
    said["trained_on"] = fingerprints | {f"plugin {name}": digest for name, digest in plugins.items()}
    write_json(folder / MANIFEST, said)


@contextlib.contextmanager
def checked_write(path: Path) -> Iterator[Path]:
    """Context for `atomic_write` of a run's file that also records its checksum in the manifest.

    Between the two writes both checksums are valid, so that a kill in between leaves a readable run.
    """
    folder, name = path.parent, path.name
    with atomic_write(path) as temporary:
        yield temporary
        new = _checksum(temporary)
        old = _read(folder)["files"].get(name, []) if path.is_file() else []
        _note(folder, {name: [*old, new] if new not in old else old})
    _note(folder, {name: [new]})


def note_files(folder: Path, names: Iterable[str] = BESIDE_WEIGHTS) -> None:
    """Record the checksums of existing files."""
    _note(folder, {name: [_checksum(folder / name)] for name in names if (folder / name).is_file()})


def known_checksum(folder: Path, name: str) -> str | None:
    """The last recorded checksum of a file; None for a run of an earlier version without a manifest."""
    said: list[str] = _read(folder)["files"].get(name, [])
    return said[-1] if said else None


def verify(folder: Path, names: Iterable[str]) -> None:
    """Check that files are unchanged; a run of an earlier version without a manifest passes.

    Raises:
        ValueError: a file has changed; names the first.
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
    """The manifest of a run; empty if there is none."""
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
