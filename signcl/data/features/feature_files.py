"""One interface to features in any format: a store, .npy, .npz, published pickles, or key points."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from signcl.data.array_files import load_arrays, parsed
from signcl.data.batch import Sample, Span
from signcl.data.features.store import INDEX, FeatureStore, checked
from signcl.data.pickles import load_pickle
from signcl.data.pose_files import (
    KEY_POINT_SUFFIXES,
    RawPoints,
    find_points,
    is_key_points,
    is_openpose_folder,
    load_tensors,
    read_points,
)
from signcl.data.poses import PoseClip, PoseReading, pose_rows, signer_points

__all__ = [
    "FILE_SUFFIXES",
    "ArrayFeatures",
    "Features",
    "PoseFeatures",
    "count_feature_frames",
    "is_feature_file",
    "look_at_features",
    "open_features",
    "part_reader",
    "read_features",
    "side_by_side",
    "with_features",
]

FILE_SUFFIXES = (".npy", ".npz", ".pose")  # files of one clip (an .npz may have several), by suffix
PER_CLIP = (".npy", *KEY_POINT_SUFFIXES, ".npz")  # suffixes of NAME in a folder of one file per clip
FEATURE_KEYS = ("sign", "features", "feature", "keypoint")  # keys of a clip's features in published pickles


class Features(Protocol):
    """Interface of all sources of features: names, sizes, and one clip at a time."""

    names: list[str]
    lengths: dict[str, int]
    """Frames of each clip."""

    @property
    def dim(self) -> int:
        """Size of a row."""
        ...

    def __getitem__(self, name: str) -> np.ndarray:
        """Features of one clip. [T, D] float32"""
        ...


class ArrayFeatures:
    """Features in memory (.npy, .npz, a pickle), with the same interface as a store.

    Raises:
        ValueError: no clips, a clip that is not [T, D] of finite numbers, or clips of different D.
    """

    def __init__(self, arrays: Mapping[str, Any], where: str) -> None:
        self.where = where
        self._arrays: dict[str, np.ndarray] = {}
        for name, array in arrays.items():
            array = checked(array, name, where, next((a.shape[1] for a in self._arrays.values()), None))
            self._arrays[name] = array.astype(np.float32, copy=False)
        if not self._arrays:
            raise ValueError(f"{where}: contains no features; needs at least one clip [T, D]")
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


class PoseFeatures:
    """Key points of a file, with the same interface as other features; each clip is normalised when it is read.

    Args:
        raw: key points by name.
        where: the file.
        reading: how key points become features.
        alone: whether the file has a single clip, regardless of its name.
    """

    def __init__(self, raw: Mapping[str, RawPoints], where: str, reading: PoseReading, *, alone: bool) -> None:
        self.where, self.reading, self.alone = where, reading, alone
        self._raw = dict(raw)
        self.names = list(self._raw)
        self.lengths = {name: len(points) for name, points in self._raw.items()}

    @property
    def dim(self) -> int:
        """Size of a row."""
        return int(self[self.names[0]].shape[1])

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self._raw

    def __getitem__(self, name: str) -> np.ndarray:
        """Features of one clip. [T, D] float32"""
        return pose_rows(self._of(name), self.reading)

    def part(self, name: str, rows: range) -> np.ndarray:
        """Features of some frames of a clip: cut first, then normalised, as if the file had only this part."""
        whole = self._of(name)
        kept = slice(rows.start, rows.stop)
        scores = None if whole.scores is None else whole.scores[kept]
        return pose_rows(replace(whole, numbers=whole.numbers[kept], scores=scores), self.reading)

    def clip(self, name: str) -> PoseClip:
        """The signer's points of one clip before normalisation."""
        return signer_points(self._of(name), self.reading)

    def _of(self, name: str) -> RawPoints:
        if name not in self._raw:
            raise ValueError(f"{self.where}: has no key points of {name!r}; it has {_some(self.names)}")
        return self._raw[name]


def open_features(path: Path | str, pose: PoseReading | None = None) -> Features:
    """Opens a source of features: a store folder, .npy, .npz, a published pickle, or key points.

    A pickle is a list of records with `name` and `sign` (neccam/slt), a dict of such records, or a dict of arrays; it
    is read by `signcl.data.pickles.load_pickle`, which runs no code. neccam/slt names clips `train/NAME`; a split that
    precedes all names is removed, as in corpora. In a file of one clip, the stem is the clip name. Key points
    (`signcl.data.pose_files.read_points`) are normalised (`signcl.data.poses.pose_rows`).

    Args:
        path: a file, the folder of a store, or a folder of OpenPose frames.
        pose: how key points become features; None: x and y.

    Raises:
        FileNotFoundError: nothing at `path`.
        ValueError: the content is not features.
    """
    path, pose = Path(path), pose or PoseReading()
    if path.is_dir() and not is_openpose_folder(path):
        return FeatureStore(path)
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: no such file; a feature store, .npy, .npz, .pt, pickle, or key points (.pose, .json) is needed"
        )
    suffix = path.suffix.lower()
    if path.is_dir() or suffix in (".pose", ".json"):
        return PoseFeatures(read_points(path) or {}, str(path), pose, alone=True)
    if suffix in (".npy", ".npz"):
        points = read_points(path)
        if points is not None:
            return PoseFeatures(points, str(path), pose, alone=list(points) == [path.stem])
        return ArrayFeatures(_load_arrays(path), str(path))
    content = load_tensors(path) if suffix in (".pt", ".pth") else load_pickle(path)
    points = find_points(content, path)
    if points is not None:
        return PoseFeatures(_without_split(points), str(path), pose, alone=list(points) == [path.stem])
    if isinstance(content, np.ndarray) or hasattr(content, "detach"):
        content = {path.stem: content}
    return ArrayFeatures(_from_pickle(content, path), str(path))


def is_feature_file(path: Path) -> bool:
    """Whether a file (by its name) or a folder of OpenPose frames has features or key points."""
    return path.suffix.lower() in FILE_SUFFIXES or is_key_points(path)


def read_features(
    path: Path | str | np.ndarray | tuple[Path, ...], name: str | None = None, pose: PoseReading | None = None
) -> np.ndarray:
    """Reads the features of one clip from a value of `Sample.features`.

    Args:
        path: a store, .npy, .npz or pickle; or the array itself. Several sources are concatenated along D.
        name: name of the clip; optional if there is only one. Ignored for an .npz with a single array.
        pose: how key points become features; None: x and y.

    Returns:
        [T, D] float32

    Raises:
        FileNotFoundError: nothing at `path`.
        ValueError: no such clip, or features that are not [T, D] of finite numbers with T >= 1.
    """
    if isinstance(path, np.ndarray):
        return checked(path, name or "array", "features").astype(np.float32, copy=False)
    if isinstance(path, tuple):
        return side_by_side([read_features(part, name, pose) for part in path], path, name or "the clip")
    source = _source(Path(path), pose)
    return source[_which(source, Path(path), name)]


def read_part(path: Path | str, name: str | None, rows: range, pose: PoseReading | None = None) -> np.ndarray:
    """Some rows of `read_features`; key points are cut first and then normalised. [len(rows), D]

    Raises:
        FileNotFoundError, ValueError: as in `read_features`.
    """
    source = _source(Path(path), pose)
    which = _which(source, Path(path), name)
    return source.part(which, rows) if isinstance(source, PoseFeatures) else source[which][rows.start : rows.stop]


def part_reader(path: Path, name: str, pose: PoseReading | None = None) -> Callable[[range], np.ndarray] | None:
    """`read_part` of a file that stays open, for many parts of a long one; None if it holds no key points.

    Raises:
        FileNotFoundError, ValueError: as of `read_features`.
    """
    source = _source(path, pose)
    return partial(source.part, _which(source, path, name)) if isinstance(source, PoseFeatures) else None


def look_at_features(
    path: Path | str, name: str | None = None, pose: PoseReading | None = None
) -> tuple[np.ndarray, PoseClip | None]:
    """Features of one source as in `read_features`, and its key points before normalisation (None if it has none).

    Raises:
        FileNotFoundError, ValueError: as in `read_features`.
    """
    source = _source(Path(path), pose)
    which = _which(source, Path(path), name)
    return source[which], source.clip(which) if isinstance(source, PoseFeatures) else None


def side_by_side(parts: Sequence[np.ndarray], paths: Sequence[Path], name: str) -> np.ndarray:
    """Concatenates the features of one clip from several sources along D, aligned in time to the first source.

    Every source must have as many rows as the first, except a store with a different clock (`FeatureStore.clock`; in
    other sources one row is one frame). Each row of the first source is then joined to the row of that store whose
    centre is nearest in time.

    Args:
        parts: features from each source. [T, D] each
        paths: the sources.
        name: name of the clip.

    Returns:
        [T of the first, sum of D] float32

    Raises:
        ValueError: different numbers of rows, or clocks that give different clip lengths; names clip, sources, lengths.
    """
    rows = _matching_rows(paths, [len(part) for part in parts], name)
    return np.concatenate([part[index] for part, index in zip(parts, rows)], axis=1, dtype=np.float32)


def _matching_rows(paths: Sequence[Path], lengths: Sequence[int], name: str) -> list[np.ndarray]:
    """For each source, the row to join to each row of the first. See `side_by_side`."""
    clocks = [_clock(path, name) for path in paths]
    (stride, first), length = clocks[0], lengths[0]
    found = []
    for path, (other_stride, other_first), other in zip(paths, clocks, lengths):
        same = (other_stride, other_first) == (stride, first)
        if same:
            fits, how = other == length, f"{length} rows in {paths[0]} and {other} in {path}"
        else:
            # assumes as many frames after the centre of the last row as before the centre of the first
            frames, others = 2 * first + stride * (length - 1), 2 * other_first + other_stride * (other - 1)
            fits = abs(frames - others) < max(stride, other_stride)
            how = f"about {frames:g} frames by the clock of {paths[0]} and {others:g} by that of {path}"
        if not fits:
            raise ValueError(
                f"corpus.features: several sources need clips of equal length, but {name} has {how}; extract both from "
                f"the same frames"
            )
        middles = first + stride * np.arange(length)
        nearest = np.arange(length) if same else np.rint((middles - other_first) / other_stride).astype(int)
        found.append(nearest.clip(0, other - 1))
    return found


def _clock(path: Path, name: str) -> tuple[float, float]:
    """Frames from one row of a clip to the next, and the centre of its first row, in frames."""
    source = _source(path, None) if path.is_dir() else None
    return source.clock(name) if isinstance(source, FeatureStore) else (1.0, 0.5)


def with_features(samples: Sequence[Sample], *paths: Path) -> list[Sample]:
    """Replaces the clips of samples by features.

    A source is a store or pickle (features found by name), a folder of files such as NAME.npy, NAME.pose or NAME.pkl
    (`PER_CLIP`), or a folder of OpenPose folders NAME. Features from several sources are concatenated
    (`side_by_side`). If the first source is a store with rows further apart than frames (`FeatureStore.clock`), spans
    are converted to rows.

    Raises:
        FileNotFoundError: nothing at a path.
        ValueError: a store or pickle lacks clips; they are counted and named. Or clips differ in length between
            sources, if this is known without reading them.
    """
    if len(paths) == 1:
        return _with_features(samples, paths[0])
    each = [_with_features(samples, path) for path in paths]
    joined = []
    for several in zip(*each):
        sources = tuple(s.features for s in several if isinstance(s.features, Path))
        if not any(source.suffix.lower() in FILE_SUFFIXES for source in sources):
            name = several[0].name
            _matching_rows(sources, [count_feature_frames(source, name) for source in sources], name)
        joined.append(replace(several[0], features=sources))
    return joined


# Features found by the name of a sample cover only that sample, so a segment must not be cut from them again.
_BY_NAME: dict[str, Any] = {"clip": None, "num_frames": None, "segment": None, "whole": ""}


def _with_features(samples: Sequence[Sample], path: Path) -> list[Sample]:
    """Replaces the clips of samples by features from one source."""
    if path.is_dir() and not (path / INDEX).is_file():
        ending = _ending(samples, path)
        if ending is not None:
            return [replace(s, features=path / f"{s.name}{ending}", **_BY_NAME) for s in samples]
    source = open_features(path)
    held = set(source.names)
    missing = [s.name for s in samples if s.name not in held]
    if missing:
        raise ValueError(
            f"corpus.features={path} lacks {len(missing)} of {len(samples)} clips, first {', '.join(missing[:5])}; it "
            f"has {len(held)}, such as {', '.join(sorted(held)[:3])}"
        )
    spans = _spans_in_rows(samples, source) if isinstance(source, FeatureStore) else {}
    return [replace(s, features=path, spans=spans.get(s.name, s.spans), **_BY_NAME) for s in samples]


def _ending(samples: Sequence[Sample], folder: Path) -> str | None:
    """The suffix after a clip's name in a folder of one file or OpenPose folder ("") per clip; None if unknown."""
    for sample in samples[:100]:  # some files may be missing; reading reports them
        for suffix in PER_CLIP:
            if (folder / f"{sample.name}{suffix}").is_file():
                return suffix
        if is_openpose_folder(folder / sample.name):
            return ""
    return next((suffix for suffix in (".npy", ".pose") if next(folder.glob(f"*{suffix}"), None) is not None), None)


def _spans_in_rows(samples: Sequence[Sample], store: FeatureStore) -> dict[str, tuple[Span, ...]]:
    """Converts spans from frames to rows, for stores whose rows are not frames.

    A span gets the rows whose centres it contains, or the nearest row if there is none, so no span is empty.
    """
    found = {}
    for sample in samples:
        stride, first = store.clock(sample.name)
        if not sample.spans or (stride, first) == (1.0, 0.5):
            continue
        last, spans = store.lengths[sample.name] - 1, []
        for span in sample.spans:
            start, stop = (max(0, math.ceil((edge - first) / stride)) for edge in (span.start, span.stop))
            if start >= min(stop, last + 1):
                start = min(max(0, round(((span.start + span.stop) / 2 - first) / stride)), last)
                stop = start + 1
            spans.append(replace(span, start=start, stop=min(stop, last + 1)))
        found[sample.name] = tuple(spans)
    return found


def count_feature_frames(path: Path | str | np.ndarray | tuple[Path, ...], name: str | None = None) -> int:
    """Number of rows of one clip; a store or .npy is not read for this.

    With several sources, it is the number in the first. Arguments and errors as in `read_features`.
    """
    if isinstance(path, np.ndarray):
        return len(path)
    path = Path(path[0] if isinstance(path, tuple) else path)
    if path.suffix.lower() == ".npy" and path.is_file():
        try:
            shape = load_arrays(path, mapped=True).shape
        except (ValueError, EOFError, OSError):
            shape = ()
        if len(shape) == 2 and shape[0]:
            return int(shape[0])
    source = _source(path, None)
    which = _which(source, path, name)
    return source.lengths[which] if which in source.lengths else len(source[which])


def _source(path: Path, pose: PoseReading | None) -> Features:
    one = path.suffix.lower() in (*FILE_SUFFIXES, ".json", ".pt", ".pth") and not path.is_dir()
    if one or not path.exists() or is_openpose_folder(path):
        # A file of one clip is not cached: that would keep the full corpus in memory.
        return open_features(path, pose)
    return _remembered(str(path.absolute()), _age(path), pose)


def _which(source: Features, path: Path, name: str | None) -> str:
    """The clip's name in the source; in a file of a single clip it may differ from the name in the corpus."""
    alone = path.suffix.lower() in (*FILE_SUFFIXES, ".pt", ".pth") or (
        isinstance(source, PoseFeatures) and source.alone
    )
    if len(source.names) == 1 and (name is None or alone):
        return source.names[0]
    if name is None:
        raise ValueError(f"{path}: has {len(source.names)} clips, give the name of one; it has {_some(source.names)}")
    return name


def _load_arrays(path: Path) -> dict[str, Any]:
    try:
        loaded = load_arrays(path)
        if isinstance(loaded, np.ndarray):
            return {path.stem: loaded}
        with loaded:
            return {key: parsed(partial(loaded.__getitem__, key)) for key in loaded.files}
    except Exception as error:  # zipfile, zlib, EOF and header errors all mean a broken file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: not a readable {path.suffix} of numbers ({reason}); write it again") from None


def _from_pickle(loaded: Any, path: Path) -> dict[str, Any]:
    """Arrays by name, from a list of records, a dict of records, or a dict of arrays."""
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
            raise ValueError(f"{path}: the name {name!r} occurs twice; names must be unique")
        arrays[name] = record
    return _without_split(arrays)


def _without_split(clips: Mapping[str, Any]) -> dict[str, Any]:
    """Removes a split name that precedes all clip names."""
    for split in ("train/", "dev/", "test/"):
        if clips and all(name.startswith(split) for name in clips):
            return {name.removeprefix(split): clip for name, clip in clips.items()}
    return dict(clips)


@lru_cache(maxsize=16)
def _remembered(path: str, _age: int, pose: PoseReading | None) -> Features:
    return open_features(path, pose)


def _age(path: Path) -> int:
    """Modification time of the file or of the store's index: a cache key that prevents use of stale data."""
    try:
        return os.stat(path / INDEX if path.is_dir() else path).st_mtime_ns
    except FileNotFoundError:
        return 0


def _some(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
