"""The feature store of this package: written atomically and resumably, read one clip at a time.

A store is a folder of safetensors shards, each with one tensor [rows, D], and `index.json`, which gives the shard, the
first row and the length of each clip. So lengths are known without reading the data, a clip is one slice of a memory
map, nothing is unpickled, and shards can be copied one by one.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from signcl.data.files import write_bytes
from signcl.data.json_files import check_shape, parse_json, read_json

__all__ = ["INDEX", "FeatureStore", "checked", "finished_store", "stored_names", "unfinished_meta", "write_store"]

INDEX = "index.json"
PARTIAL = "index.partial.json"  # the index of a store that is still being written
FORMAT = "signcl features 1"
KEY = "features"  # the one tensor of a shard
DTYPES = ("float16", "float32")
SHARD_DTYPES = {"float16": "F16", "float32": "F32"}
MOST_DIM = 1_000_000
MOST_HEADER = 100_000_000  # bytes, the limit of safetensors
HEAD = {"dtype": str, "shape": [int], "data_offsets": (int, int)}


class FeatureStore:
    """A finished feature store, read clip by clip: `store["clip 7"]` is [T, D] float32.

    Opening reads only the index. A store is also cheap to send to a worker process, which opens its own memory maps.

    Raises:
        ValueError: not a store, an unfinished one, or a shard that is missing or shorter than in the index.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        index = _read_index(self.folder / INDEX)
        self.dim: int = index["dim"]
        self.dtype: str = index["dtype"]
        self.meta: dict[str, Any] = index["meta"]
        """Metadata recorded by the writer. `signcl extract` records `run`, `tap`, `split`, `commit`, `recipe`,
        `weights`, and the times of the rows: `stride`, `first_centre`, `offset`, `thinned` (see `clock`)."""
        self._shards: list[str] = index["shards"]
        self._entries: dict[str, tuple[int, int, int]] = {
            name: (shard, start, length) for name, shard, start, length in index["entries"]
        }
        self.names = list(self._entries)
        self.lengths = {name: length for name, (_, _, length) in self._entries.items()}
        self._open: dict[int, Any] = {}
        self._process = os.getpid()
        for shard in self._shards:
            if not (self.folder / shard).is_file():
                raise ValueError(f"{self.folder}: the shard {shard} of the store is missing; copy the folder again")

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __getitem__(self, name: str) -> np.ndarray:
        """Features of one clip. [T, D] float32"""
        if name not in self._entries:
            raise ValueError(f"{self.folder}: the store has no features of {name!r} (it has {len(self)} clips)")
        shard, start, length = self._entries[name]
        rows = self._slice(shard)
        self._check_shard(shard, rows.get_shape(), rows.get_dtype(), name)
        found = cast("np.ndarray", rows[start : start + length].astype(np.float32))
        return _finite(found, name, str(self.folder / self._shards[shard]))

    def _check_shard(self, shard: int, shape: Any, dtype: Any, name: str) -> None:
        """Raises an error if a shard does not match the index."""
        _, start, length = self._entries[name]
        fits = isinstance(shape, list) and len(shape) == 2 and shape[1] == self.dim and start + length <= shape[0]
        if not fits or dtype != SHARD_DTYPES[self.dtype]:
            raise ValueError(
                f"{self.folder / self._shards[shard]}: needs {self.dtype} rows {start} to {start + length} of size "
                f"{self.dim} for {name!r}, has {str(dtype)[:20]} {str(shape)[:40]}; the shard does not match the "
                "index, copy the folder again"
            )

    def mapped(self, name: str) -> np.ndarray:
        """Memory map of the stored rows of a clip, for clips larger than memory. [T, D]"""
        if name not in self._entries:
            raise ValueError(f"{self.folder}: the store has no features of {name!r} (it has {len(self)} clips)")
        shard, start, length = self._entries[name]
        path = self.folder / self._shards[shard]
        with path.open("rb") as file:  # safetensors: size of the header, header, numbers
            size = int.from_bytes(file.read(8), "little")
            try:
                head = parse_json(file.read(min(size, MOST_HEADER)))[KEY]
                check_shape(head, HEAD)
            except (ValueError, KeyError, TypeError):
                raise ValueError(f"{path}: not a readable shard; copy the folder again") from None
        self._check_shard(shard, head["shape"], head["dtype"], name)
        offset = 8 + size + head["data_offsets"][0]
        width = np.dtype(self.dtype).itemsize * self.dim
        if offset < 8 + size or path.stat().st_size < offset + (start + length) * width:
            raise ValueError(f"{path}: shorter than in the index for {name!r}; copy the folder again")
        return np.memmap(path, dtype=self.dtype, mode="r", offset=offset + start * width, shape=(length, self.dim))

    def clock(self, name: str) -> tuple[float, float]:
        """Positions of the rows of a clip in frames: (stride between rows, centre of the first row).

        Frame t of the clip lasts from t to t + 1. The values come from `meta["stride"]` and `meta["first_centre"]`
        (default 1 and 0.5: one row per frame). In a clip that was thinned, rows are further apart:
        `meta["thinned"]` gives name -> (frames of the clip, frames used), `meta["offset"]` the first frame used.
        """
        stride, first = float(self.meta.get("stride", 1.0)), float(self.meta.get("first_centre", 0.5))
        frames, used = self.meta.get("thinned", {}).get(name, (1, 1))
        factor = (frames - 1) / (used - 1) if used > 1 else 1.0
        start = float(self.meta.get("offset", 0)) + 0.5  # the centre of the first frame used
        return stride * factor, (first - start) * factor + start

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}

    def _slice(self, shard: int) -> Any:
        if self._process != os.getpid():  # a forked worker must not use the parent's maps
            self._open, self._process = {}, os.getpid()
        if shard not in self._open:
            from safetensors import SafetensorError, safe_open

            path = self.folder / self._shards[shard]
            try:
                self._open[shard] = safe_open(path, framework="np").get_slice(KEY)  # type: ignore[no-untyped-call]
            except (SafetensorError, OSError) as error:
                raise ValueError(f"{path}: not a readable shard ({error}); copy the folder again") from None
        return self._open[shard]


def write_store(
    folder: Path | str,
    items: Iterable[tuple[str, Any]],
    *,
    shard_samples: int = 500,
    meta: Mapping[str, Any] | None = None,
    dtype: str = "float16",
) -> FeatureStore:
    """Writes features clip by clip; after an interruption, repeat the call to resume after the last complete shard.

    Clips that an interrupted run has already stored are skipped. To avoid computing them, leave out
    `stored_names(folder)`, or give a function instead of the array, which is called only if the clip is needed.

    Args:
        folder: created if missing; must not contain a finished store.
        items: (name, features [T, D]) or (name, function without arguments that returns them); numpy or torch.
        shard_samples: clips per shard; at most this many are lost on interruption.
        meta: JSON data to keep with the store; must be the same when resuming.
        dtype: `float16` (half the size, largest value 65504) or `float32`.

    Returns:
        The finished store, opened.

    Raises:
        ValueError: the folder has a finished store, or an unfinished one with other settings; a duplicate name;
            features that are not [T, D] with T >= 1 and the same D, contain NaN or infinity, or overflow float16.
    """
    folder = Path(folder)
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    if shard_samples < 1:
        raise ValueError(f"shard_samples must be at least 1, got {shard_samples}")
    if (folder / INDEX).exists():
        raise ValueError(f"{folder}: contains a finished feature store; give another folder or delete this one")
    folder.mkdir(parents=True, exist_ok=True)
    index: dict[str, Any] = {"format": FORMAT, "dim": None, "dtype": dtype, "meta": dict(meta or {})}
    index |= {"shards": [], "entries": []}
    if (folder / PARTIAL).exists():
        earlier = _read_index(folder / PARTIAL)
        before, now = ({"dtype": part["dtype"], **part["meta"]} for part in (earlier, parse_json(json.dumps(index))))
        _refuse_others(folder, "an unfinished store", before, now)
        index = earlier
    stored = {entry[0] for entry in index["entries"]}
    given: set[str] = set()
    waiting: list[tuple[str, np.ndarray]] = []
    for name, features in items:
        if name in given:
            raise ValueError(f"{folder}: the name {name!r} occurs twice; names in a feature store must be unique")
        given.add(name)
        if name in stored:
            continue
        array = checked(features() if callable(features) else features, name, str(folder), index["dim"])
        index["dim"] = array.shape[1]
        waiting.append((name, _converted(array, name, dtype)))
        if len(waiting) == shard_samples:
            _write_shard(folder, index, waiting)
            waiting = []
    if waiting:
        _write_shard(folder, index, waiting)
    if not index["entries"]:
        raise ValueError(f"{folder}: nothing to write; a feature store needs at least one clip")
    write_bytes(folder / INDEX, json.dumps(index, ensure_ascii=False).encode())
    (folder / PARTIAL).unlink(missing_ok=True)
    return FeatureStore(folder)


def finished_store(folder: Path | str, meta: Mapping[str, Any], dtype: str) -> FeatureStore | None:
    """The finished store in a folder, or None. Lets a repeated command skip finished work.

    Args:
        meta: metadata that a writer with these settings would record, as far as it is known before the first clip.

    Raises:
        ValueError: the store was written with other settings.
    """
    folder = Path(folder)
    if not (folder / INDEX).exists():
        return None
    store = FeatureStore(folder)
    (folder / PARTIAL).unlink(missing_ok=True)  # left by a writer that was killed at the end
    now = parse_json(json.dumps({"dtype": dtype, **meta}))
    _refuse_others(folder, "a finished store", {"dtype": store.dtype} | {k: store.meta.get(k) for k in meta}, now)
    return store


def _refuse_others(folder: Path, what: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for key in [*before, *now]:
        then, given, name = before.get(key), now.get(key), key
        while isinstance(then, dict) and isinstance(given, dict) and then != given:  # of many, the first that differs
            part = next(p for p in [*then, *given] if p not in then or p not in given or then[p] != given[p])
            then, given, name = then.get(part), given.get(part), f"{name}.{part}"
        if then != given:
            raise ValueError(
                f"{folder}: contains {what} with {name} {_short(then)}, got {_short(given)}; use the same settings, "
                f"give another folder or delete this one"
            )


def unfinished_meta(folder: Path | str) -> dict[str, Any]:
    """Metadata of an unfinished store; empty if there is none."""
    path = Path(folder) / PARTIAL
    found: dict[str, Any] = _read_index(path)["meta"] if path.is_file() else {}
    return found


def stored_names(folder: Path | str) -> set[str]:
    """Names of the clips that a finished or interrupted `write_store` has stored in the folder."""
    for name in (INDEX, PARTIAL):
        if (Path(folder) / name).is_file():
            return {entry[0] for entry in _read_index(Path(folder) / name)["entries"]}
    return set()


def _write_shard(folder: Path, index: dict[str, Any], clips: list[tuple[str, np.ndarray]]) -> None:
    """Writes a shard and then the partial index; after a crash between the two, the shard is written again."""
    from safetensors.numpy import save

    shard = f"shard-{len(index['shards']):05d}.safetensors"
    rows = np.concatenate([array for _, array in clips])
    write_bytes(folder / shard, save({KEY: np.ascontiguousarray(rows)}))  # safetensors writes the raw memory
    start = 0
    for name, array in clips:
        index["entries"].append([name, len(index["shards"]), start, len(array)])
        start += len(array)
    index["shards"].append(shard)
    write_bytes(folder / PARTIAL, json.dumps(index, ensure_ascii=False).encode())


def _read_index(path: Path) -> dict[str, Any]:
    if not path.is_file():
        unfinished = path.parent / PARTIAL
        why = "is unfinished: run the command that writes it again" if unfinished.is_file() else f"has no {INDEX}"
        raise ValueError(f"{path.parent}: needs a finished feature store, but this folder {why}")
    index: dict[str, Any] = read_json(path, SHAPE, "copy the folder again", _check_index)
    return index


SHAPE = {
    "format": str,
    "dim": int | None,
    "dtype": str,
    "shards": [str],
    "entries": [(str, int, int, int)],
    "meta": {"stride?": float, "first_centre?": float, "offset?": float, "thinned?": {str: (int, int)}},
}


def _check_index(index: dict[str, Any]) -> None:
    """Rejects an index that points outside its folder or to impossible rows."""
    if index["format"] != FORMAT:
        raise ValueError(f"it is not the index of a feature store, which has format {FORMAT!r}")
    if index["dtype"] not in DTYPES:
        raise ValueError(f"dtype: needs one of {', '.join(DTYPES)}, got {index['dtype'][:40]!r}")
    if index["dim"] is None and index["entries"]:
        raise ValueError("dim: needs the size of the features, got none")
    if index["dim"] is not None and not 1 <= index["dim"] <= MOST_DIM:
        raise ValueError(f"dim: needs 1 to {MOST_DIM:,}, got {index['dim']}")
    if index["meta"].get("stride", 1) <= 0:
        raise ValueError(f"meta.stride: needs a number above 0, got {index['meta']['stride']}")
    for shard in index["shards"]:
        if not re.fullmatch(r"[\w-][\w.-]*\.safetensors", shard):
            raise ValueError(f"shards: needs names of files in the same folder, got {shard[:60]!r}")
    names = set()
    for name, shard, start, length in index["entries"]:
        if name in names:
            raise ValueError(f"entries: the clip {name[:60]!r} occurs twice")
        names.add(name)
        if not 0 <= shard < len(index["shards"]) or start < 0 or length < 1:
            raise ValueError(
                f"entries: the clip {name[:60]!r} needs a shard below {len(index['shards'])}, a first row and at least "
                f"one row, got shard {shard}, row {start}, {length} rows"
            )


def checked(features: Any, name: str, where: str, dim: int | None = None) -> np.ndarray:
    """Checks the features of a clip and returns them as a numpy array [T, D] of finite numbers."""
    if hasattr(features, "detach"):  # a torch tensor; numpy has no bfloat16
        features = features.detach().cpu().float().numpy()
    try:
        array = np.asarray(features)
    except ValueError:
        raise ValueError(f"{where}: features of {name!r} are ragged; needs one row of D numbers per frame") from None
    if array.dtype.kind not in "fiub" or array.ndim != 2 or len(array) == 0 or array.shape[1] == 0:
        raise ValueError(
            f"{where}: features of {name!r} must be numbers [T, D] with at least one frame, "
            f"got {array.dtype} {list(array.shape)}"
        )
    if dim is not None and array.shape[1] != dim:
        raise ValueError(f"{where}: features of {name!r} have D = {array.shape[1]}, the others {dim}; all must agree")
    return _finite(array, name, where) if array.dtype.kind == "f" else array


def _finite(array: np.ndarray, name: str, where: str) -> np.ndarray:
    with np.errstate(over="ignore"):  # features are read as float32, in which larger numbers are infinity
        finite = np.isfinite(array if array.itemsize <= 4 else array.astype(np.float32)).all(axis=1)
    if not finite.all():
        frame = int(np.flatnonzero(~finite)[0])
        beyond = (
            "NaN or infinity" if not np.isfinite(array[frame]).all() else "numbers beyond 3.4e38, the float32 limit"
        )
        raise ValueError(f"{where}: features of {name!r} contain {beyond}, first in frame {frame}; extract it again")
    return array


def _converted(array: np.ndarray, name: str, dtype: str) -> np.ndarray:
    limit = float(np.finfo(dtype).max)
    largest = float(np.abs(array.astype(np.float64)).max())
    if largest > limit:
        raise ValueError(
            f"features of {name!r} reach {largest:g}, but {dtype} ends at {limit:g}; use dtype='float32' or scale"
        )
    return array.astype(dtype)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
