"""Pre-extracted features: the package's own store, and readers of .npy, .npz and the field's pickles.

A store is a folder of safetensors shards, each one flat tensor [rows, D], and `index.json` that says in which shard,
from which row and how long each clip is. So lengths are known without touching the data, one clip is one slice of a
memory map, nothing is unpickled, and a shard is the unit to copy.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from signcl.pickles import load_pickle

__all__ = ["ArrayFeatures", "FeatureStore", "Features", "open_features", "read_features", "stored_names", "write_store"]

INDEX = "index.json"
PARTIAL = "index.partial.json"  # the index of a store that is still being written
FORMAT = "signcl features 1"
KEY = "features"  # the one tensor of a shard
DTYPES = ("float16", "float32")
FEATURE_KEYS = ("sign", "features", "feature", "keypoint")  # where the field's pickles keep a clip's features


class Features(Protocol):
    """What every source of features offers: names, sizes, and one clip at a time."""

    names: list[str]
    dim: int
    lengths: dict[str, int]
    """Frames of each clip."""

    def __getitem__(self, name: str) -> np.ndarray:
        """Features of one clip. [T, D] float32"""
        ...


class FeatureStore:
    """A finished store, read clip by clip: `store["clip 7"]` is [T, D] float32.

    Cheap to open (the index only), cheap to send to a worker process, which opens its own memory maps.

    Raises:
        ValueError: not a store, an unfinished one, or a shard missing or shorter than the index says.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        index = _read_index(self.folder / INDEX)
        self.dim: int = index["dim"]
        self.dtype: str = index["dtype"]
        self.meta: dict[str, Any] = index["meta"]
        """What the writer recorded: checkpoint, layer, frame rate and the like."""
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
                raise ValueError(f"{self.folder}: the store's shard {shard} is missing; copy the folder again")

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __getitem__(self, name: str) -> np.ndarray:
        """Features of one clip. [T, D] float32"""
        if name not in self._entries:
            raise ValueError(f"{self.folder}: the store has no features of {name!r} (it has {len(self)} clips)")
        shard, start, length = self._entries[name]
        rows = self._slice(shard)[start : start + length]
        if rows.shape != (length, self.dim):
            raise ValueError(
                f"{self.folder / self._shards[shard]}: needs [{length}, {self.dim}] for {name!r}, has "
                f"{list(rows.shape)}; the shard is not the one the index was written for, copy the folder again"
            )
        return cast("np.ndarray", rows.astype(np.float32))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}

    def _slice(self, shard: int) -> Any:
        if self._process != os.getpid():  # a forked worker does not share the parent's maps
            self._open, self._process = {}, os.getpid()
        if shard not in self._open:
            from safetensors import SafetensorError, safe_open

            path = self.folder / self._shards[shard]
            try:
                self._open[shard] = safe_open(path, framework="np").get_slice(KEY)  # type: ignore[no-untyped-call]
            except (SafetensorError, OSError) as error:
                raise ValueError(f"{path}: not a readable shard ({error}); copy the folder again") from None
        return self._open[shard]


class ArrayFeatures:
    """Features held in memory (.npy, .npz, a pickle), behind the same names as a store.

    Raises:
        ValueError: nothing in it, a clip that is not [T, D] of finite numbers, or clips of different D.
    """

    def __init__(self, arrays: Mapping[str, Any], where: str) -> None:
        self.where = where
        self._arrays: dict[str, np.ndarray] = {}
        for name, array in arrays.items():
            array = _checked(array, name, where, next((a.shape[1] for a in self._arrays.values()), None))
            self._arrays[name] = array.astype(np.float32, copy=False)
        if not self._arrays:
            raise ValueError(f"{where}: holds no features; at least one clip [T, D] is needed")
        self.names = list(self._arrays)
        self.dim: int = self._arrays[self.names[0]].shape[1]
        self.lengths = {name: len(array) for name, array in self._arrays.items()}

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self._arrays

    def __getitem__(self, name: str) -> np.ndarray:
        """Features of one clip. [T, D] float32"""
        if name not in self._arrays:
            raise ValueError(f"{self.where}: has no features of {name!r}; it has {_some(self.names)}")
        return self._arrays[name]


def open_features(path: Path | str) -> Features:
    """A source of features, whatever it is: a store folder, .npy, .npz, or a pickle of the field.

    A pickle is a list of records with `name` and `sign` (neccam/slt), a dict of such records, or a dict of arrays; it
    is read by `signcl.pickles.load_pickle`, which runs nothing. A single .npy has the file's stem as its name.

    Raises:
        FileNotFoundError: nothing at `path`.
        ValueError: it holds something else than features.
    """
    path = Path(path)
    if path.is_dir():
        return FeatureStore(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; a feature store, .npy, .npz or pickle is needed")
    if path.suffix.lower() in (".npy", ".npz"):
        return ArrayFeatures(_load_arrays(path), str(path))
    return ArrayFeatures(_from_pickle(load_pickle(path), path), str(path))


def read_features(path: Path | str | np.ndarray, name: str | None = None) -> np.ndarray:
    """Features of one clip, from where `Sample.features` points.

    Args:
        path: a store, .npy, .npz or pickle; or the array itself.
        name: which clip; may be left out where there is only one. In an .npz with a single array it is not used.

    Returns:
        [T, D] float32

    Raises:
        FileNotFoundError: nothing at `path`.
        ValueError: no such clip, or features that are not [T, D] of finite numbers with T >= 1.
    """
    if isinstance(path, np.ndarray):
        return _checked(path, name or "array", "features").astype(np.float32, copy=False)
    path = Path(path)
    if path.suffix.lower() in (".npy", ".npz") and not path.is_dir():
        # One clip, one file: loaded afresh, since remembering them would hold the whole corpus in memory.
        source: Features = open_features(path)
    else:
        source = _remembered(str(path.absolute()), _age(path))
    if len(source.names) == 1 and (name is None or path.suffix.lower() in (".npy", ".npz")):
        return source[source.names[0]]
    if name is None:
        raise ValueError(f"{path}: holds {len(source.names)} clips, say which; it has {_some(source.names)}")
    return source[name]


def write_store(
    folder: Path | str,
    items: Iterable[tuple[str, Any]],
    *,
    shard_samples: int = 500,
    meta: Mapping[str, Any] | None = None,
    dtype: str = "float16",
) -> FeatureStore:
    """Write features clip by clip; interrupted, the same call goes on after the last whole shard.

    A name that an interrupted run has stored is passed over. To spare the work behind it, leave out
    `stored_names(folder)`, or give a function in place of the array: it is called only when the clip is needed.

    Args:
        folder: made where it is missing; must not hold a finished store.
        items: (name, features [T, D]) or (name, function without arguments that returns them); numpy or torch.
        shard_samples: clips in a shard; at most that many are lost on interruption.
        meta: anything JSON to keep with the store; must be the same when going on.
        dtype: `float16` (half the size, largest value 65504) or `float32`.

    Returns:
        The finished store, opened.

    Raises:
        ValueError: a finished store is there already or the unfinished one is of another kind; a name given twice;
            features that are not [T, D] with T >= 1 and the D of the others, hold NaN or infinity, or overflow float16.
    """
    folder = Path(folder)
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    if shard_samples < 1:
        raise ValueError(f"shard_samples must be at least 1, got {shard_samples}")
    if (folder / INDEX).exists():
        raise ValueError(f"{folder}: holds a finished feature store; give another folder or delete this one")
    folder.mkdir(parents=True, exist_ok=True)
    index: dict[str, Any] = {"format": FORMAT, "dim": None, "dtype": dtype, "meta": dict(meta or {})}
    index |= {"shards": [], "entries": []}
    if (folder / PARTIAL).exists():
        earlier = _read_index(folder / PARTIAL)
        for key in ("dtype", "meta"):
            if earlier[key] != json.loads(json.dumps(index[key])):
                raise ValueError(
                    f"{folder}: holds an unfinished store with {key} {earlier[key]!r}, got {index[key]!r}; "
                    "go on with the same settings, give another folder or delete this one"
                )
        index = earlier
    before = {entry[0] for entry in index["entries"]}
    given: set[str] = set()
    waiting: list[tuple[str, np.ndarray]] = []
    for name, features in items:
        if name in given:
            raise ValueError(f"{folder}: the name {name!r} comes twice; names in a feature store must be unique")
        given.add(name)
        if name in before:
            continue
        array = _checked(features() if callable(features) else features, name, str(folder), index["dim"])
        index["dim"] = array.shape[1]
        waiting.append((name, _converted(array, name, dtype)))
        if len(waiting) == shard_samples:
            _write_shard(folder, index, waiting)
            waiting = []
    if waiting:
        _write_shard(folder, index, waiting)
    if not index["entries"]:
        raise ValueError(f"{folder}: nothing to write; a feature store needs at least one clip")
    _write_atomic(folder / INDEX, json.dumps(index, ensure_ascii=False).encode())
    (folder / PARTIAL).unlink()
    return FeatureStore(folder)


def stored_names(folder: Path | str) -> set[str]:
    """Names that a finished or interrupted `write_store` has already in the folder."""
    for name in (INDEX, PARTIAL):
        if (Path(folder) / name).is_file():
            return {entry[0] for entry in _read_index(Path(folder) / name)["entries"]}
    return set()


def _write_shard(folder: Path, index: dict[str, Any], clips: list[tuple[str, np.ndarray]]) -> None:
    """One shard and the partial index that knows it; a crash between the two leaves a shard that is written again."""
    from safetensors.numpy import save

    shard = f"shard-{len(index['shards']):05d}.safetensors"
    _write_atomic(folder / shard, save({KEY: np.concatenate([array for _, array in clips])}))
    start = 0
    for name, array in clips:
        index["entries"].append([name, len(index["shards"]), start, len(array)])
        start += len(array)
    index["shards"].append(shard)
    _write_atomic(folder / PARTIAL, json.dumps(index, ensure_ascii=False).encode())


def _write_atomic(path: Path, data: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp's 0600 would keep colleagues out
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _read_index(path: Path) -> dict[str, Any]:
    if not path.is_file():
        unfinished = path.parent / PARTIAL
        why = "is unfinished: run the command that writes it again" if unfinished.is_file() else f"has no {INDEX}"
        raise ValueError(f"{path.parent}: needs a finished feature store, this folder {why}")
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: not readable as JSON ({error}); copy the folder again") from None
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise ValueError(f"{path}: is not the index of a feature store (needs format {FORMAT!r})")
    return index


def _checked(features: Any, name: str, where: str, dim: int | None = None) -> np.ndarray:
    """The clip as a numpy array [T, D] of finite numbers, or a complaint that names it."""
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
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        frame = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
        raise ValueError(
            f"{where}: features of {name!r} hold NaN or infinity, first in frame {frame}; extract it again"
        )
    return array


def _converted(array: np.ndarray, name: str, dtype: str) -> np.ndarray:
    limit = float(np.finfo(dtype).max)
    largest = float(np.abs(array.astype(np.float64)).max())
    if largest > limit:
        raise ValueError(
            f"features of {name!r} reach {largest:g}, {dtype} ends at {limit:g}; use dtype='float32' or scale"
        )
    return array.astype(dtype)


def _load_arrays(path: Path) -> dict[str, Any]:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {path.stem: loaded}
        with loaded:
            return {key: loaded[key] for key in loaded.files}
    except Exception as error:  # zipfile, zlib, EOF and header errors alike mean a broken file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: not a readable {path.suffix} of numbers ({reason}); write it again") from None


def _from_pickle(loaded: Any, path: Path) -> dict[str, Any]:
    """Name -> array, from a list of records, a dict of records, or a dict of arrays."""
    if isinstance(loaded, Mapping):
        records = [(str(name), record) for name, record in loaded.items()]
    elif isinstance(loaded, list | tuple) and all(
        isinstance(record, Mapping) and "name" in record for record in loaded
    ):
        records = [(str(record["name"]), record) for record in loaded]
    else:
        raise ValueError(f"{path}: needs a list of records with 'name', or a dict by name, got {type(loaded).__name__}")
    arrays: dict[str, Any] = {}
    for name, record in records:
        if isinstance(record, Mapping):
            key = next((key for key in FEATURE_KEYS if key in record), None)
            if key is None:
                raise ValueError(f"{path}: {name!r} has no features (keys {sorted(map(str, record))}; needs 'sign')")
            record = record[key]
        if name in arrays:
            raise ValueError(f"{path}: the name {name!r} comes twice; names must be unique")
        arrays[name] = record
    return arrays


@lru_cache(maxsize=16)
def _remembered(path: str, _age: int) -> Features:
    return open_features(path)


def _age(path: Path) -> int:
    """Changes when the file or the store's index is written again, so that a stale one is not remembered."""
    try:
        return os.stat(path / INDEX if path.is_dir() else path).st_mtime_ns
    except FileNotFoundError:
        return 0


def _some(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
