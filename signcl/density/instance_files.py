"""Reads features and their annotation from files: sequences with spans, clips of one sign each, or one row per sign."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from signcl.data.annotation import phoenix_states
from signcl.data.annotation.plain_text import read_plain
from signcl.data.annotation.span_table import is_choices, read_spans
from signcl.data.annotation.table_files import read_table
from signcl.data.array_files import load_arrays
from signcl.data.batch import Sample, Span
from signcl.data.bounds import bounded, check_bounds
from signcl.data.corpora import load_samples
from signcl.data.features import INDEX, Features, FeatureStore, open_features
from signcl.data.pickles import read_npy
from signcl.data.progress import say
from signcl.data.segments import read_rows
from signcl.density.instances import Frame, Instances, Place, known_signers, pick_rows
from signcl.density.spans import clip_frames

__all__ = ["Annotation", "corpus_clips", "load_clips", "load_instances", "signers_of_clips"]

SPLITS = "train, dev or test, or several separated by commas"
ROW_IDLE = ("stride", "first_centre", "log_probs", "classes", "partial")  # without effect if a row is a sign


@dataclass(frozen=True)
class Annotation:
    """Where to find the glosses of the features; exactly one of the first four fields is set."""

    spans: str | None = None
    """A table of spans: name, gloss, start, stop."""
    glosses: str | None = None
    """One gloss per row or per clip: .txt, .tsv, .csv, .npy, or the name of an array in the .npz of the features."""
    phoenix_alignments: str | None = None
    """The folder with the HMM states of PHOENIX-2014T."""
    corpus: str | None = None
    """The features' path is a corpus folder of this kind, whose samples have features and spans."""
    split: str = "test"
    """Split of `phoenix_alignments` and `corpus`; several separated by commas."""
    key: str | None = None
    """The array of an .npz that holds the features."""
    stride: float | None = bounded(None, above=0, high=1e6)
    """Frames per row of the features; None uses the value recorded in a store (`FeatureStore.clock`), else 1."""
    first_centre: float | None = bounded(None, low=-1e9, high=1e9)
    """Centre of the first row, in frames; None uses the recorded value if `stride` does, else stride / 2."""
    log_probs: str | None = None
    """Log-probabilities of a recogniser for each clip, for frame "peak"."""
    classes: str | None = None
    """Classes of the recogniser: one gloss per line, the first is class 0 (blank)."""
    signers: str | None = None
    """A table of signers with the columns name (of the clip) and signer; if a row is a sign, a .txt with one signer per
    row."""
    partial: bool = False
    """Leave out annotated clips without features instead of raising an error."""

    def __post_init__(self) -> None:
        check_bounds(self, "--")
        given = [n for n in ("spans", "glosses", "phoenix_alignments", "corpus") if getattr(self, n) is not None]
        if len(given) != 1:
            flags = [f"--{name.replace('_', '-')}" for name in given]
            raise ValueError(
                "features need exactly one source of glosses: --spans TSV, --glosses LABELS, --phoenix-alignments DIR "
                f"or --corpus KIND; got {' and '.join(flags) or 'none of them'}"
            )


def load_instances(path: str | Path, annotation: Annotation, frames: Sequence[Frame] = ("centre",)) -> list[Instances]:
    """Loads the sign instances of a feature file, once for each choice of frame.

    Args:
        path: .npy, .npz, pickle or feature store; with `annotation.corpus`, a corpus folder.
        annotation: where to find the glosses.
        frames: how to choose the vector of a sign from its span; if a row is a sign, only the default.

    Raises:
        ValueError, OSError: a missing or broken file; names, rows or spans that do not match (the first five listed).
    """
    if is_choices(annotation.spans):
        frames = ("centre",)  # spans are one frame long: the frame that people chose
    rows = _rows(Path(path), annotation)
    if rows is not None:
        _check_row_options(Path(path), annotation, frames)
        return [rows if annotation.signers is None else replace(rows, signers=_signers_of_rows(annotation, rows))]
    known = None if annotation.signers is None else _signers_of_clips(Path(annotation.signers))
    log_probs = None if annotation.log_probs is None else open_features(annotation.log_probs)
    classes = None if annotation.classes is None else _classes(Path(annotation.classes))
    picked: dict[Frame, list[torch.Tensor]] = {frame: [] for frame in frames}
    glosses: list[str] = []
    where: list[Place] = []
    signers: list[str | None] = []
    store = FeatureStore(path) if (Path(path) / INDEX).is_file() else None
    for name, features, spans, signer in _clips(Path(path), annotation):
        said = None if log_probs is None else torch.from_numpy(log_probs[name])
        rows_of_clip, clock = torch.from_numpy(features), _clock(annotation, store, name)
        for frame in frames:
            try:
                row = pick_rows(rows_of_clip, spans, frame, **clock, log_probs=said, classes=classes)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
            picked[frame].append(row)
        glosses += [str(span.token) for span in spans]
        where += [(name, span.start, span.stop) for span in spans]
        signers += [signer if known is None else _signer_of(name, known, str(annotation.signers))] * len(spans)
    people = known_signers(signers)
    if is_choices(annotation.spans):
        return [Instances(torch.cat(picked["centre"]), glosses, where, "people", people)]
    return [Instances(torch.cat(picked[frame]), glosses, where, frame, people) for frame in frames]


def _check_row_options(path: Path, annotation: Annotation, frames: Sequence[Frame]) -> None:
    given = {f"--{name.replace('_', '-')}": getattr(annotation, name) for name in ROW_IDLE}
    idle = [flag for flag, value in given.items() if value not in (None, False)]
    idle += [f"--frame {' '.join(frames)}"] if tuple(frames) != ("centre",) else []
    if idle:
        raise ValueError(f"{', '.join(idle)}: has no effect, because each row of {path} is one sign; leave it out")


def signers_of_clips(path: str | Path, names: Sequence[str]) -> list[str]:
    """The signer of each named clip, from a table with the columns name and signer.

    Raises:
        ValueError, OSError: no such table, a clip without a row, or with two signers.
    """
    known = _signers_of_clips(Path(path))
    return [_signer_of(name, known, str(path)) for name in names]


def _signer_of(name: str, known: Mapping[str, str], path: str) -> str:
    if name not in known:
        raise ValueError(f"{path}: has no row for the clip {name}; it has rows for {_some(known)}")
    return known[name]


def _signers_of_clips(path: Path) -> dict[str, str]:
    quoted = path.suffix.lower() == ".csv"
    found: dict[str, str] = {}
    for row in read_table(path, ("name", "signer"), delimiter="," if quoted else "\t", quoted=quoted):
        name, signer = row.cells["name"], row.cells["signer"]
        if found.setdefault(name, signer) != signer:
            raise row.error(
                f"the clip {name!r} has the signers {found[name]!r} and {signer!r}; one row per clip is needed"
            )
    return found


def _signers_of_rows(annotation: Annotation, rows: Instances) -> list[str]:
    path = Path(str(annotation.signers))
    if not path.is_file():
        raise FileNotFoundError(f"no signers at {path}; needs a .txt with one signer per row")
    lines = [line.strip() for line in read_plain(path).splitlines()]
    if len(lines) != len(rows.glosses) or not all(lines):
        raise ValueError(f"{path}: needs one signer for each of {len(rows.glosses)} rows, got {len(lines)} lines")
    return lines


def load_clips(path: str | Path, key: str | None = None) -> Iterator[tuple[str, np.ndarray]]:
    """Yields every clip of a feature file, for measures without glosses. (name, [T, D])"""
    if key is not None:
        array = _array(Path(path), key)
        if array.ndim < 3:
            raise ValueError(f"{path}: array {key!r} has no clips; needs [N, T, ...], got {list(array.shape)}")
        yield from ((str(i), clip.reshape(len(clip), -1)) for i, clip in enumerate(array))
        return
    source = open_features(path)
    yield from ((name, source[name]) for name in source.names)


# -- sequences ---------------------------------------------------------------------------------------------------------


def _clips(path: Path, annotation: Annotation) -> Iterator[tuple[str, np.ndarray, Sequence[Span], str | None]]:
    """Yields (name, features [T, D], spans, signer if known) for every annotated clip."""
    if annotation.corpus is not None:
        yield from _corpus_clips(path, annotation)
        return
    if annotation.glosses is not None:
        yield from _sign_clips(path, annotation)
        return
    source = open_features(path)
    lengths: dict[str, int | None] = {
        n: clip_frames(rows, **_clock(annotation, source, n)) for n, rows in source.lengths.items()
    }
    people: Mapping[str, str | None] = {}
    if annotation.spans is not None:
        names = list(read_spans(annotation.spans)) if annotation.partial else None  # partial: any clip name is allowed
        spans: Mapping[str, Sequence[Span]] = read_spans(annotation.spans, lengths=lengths, names=names)
        file = annotation.spans
    else:
        file = str(annotation.phoenix_alignments)
        samples = [s for split in _splits(annotation.split) for s in phoenix_states.samples(file, split, merge=True)]
        spans = {s.name: s.spans for s in samples if s.spans}
        people = {s.name: s.signer or None for s in samples}
        _check_lengths(file, samples, lengths)
    shared = [name for name in source.names if name in spans]
    if not shared:
        raise ValueError(
            f"{path} and {file} have no clip in common: features of {_some(source.names)}; annotation of {_some(spans)}"
        )
    if len(shared) < len(source.names) or (annotation.partial and len(shared) < len(spans)):
        say(f"{len(shared)} clips have both; features of {len(source.names)}, annotation of {len(spans)}")
    yield from ((name, source[name], spans[name], people.get(name)) for name in shared)


def _check_lengths(file: str, samples: Sequence[Sample], lengths: Mapping[str, int | None]) -> None:
    wrong = [
        f"{s.name} ({s.num_frames} frames, features for {limit})"
        for s in samples
        if (limit := lengths.get(s.name)) is not None and s.num_frames is not None and s.num_frames > limit
    ]
    if wrong:
        raise ValueError(
            f"{file}: {len(wrong)} clips are longer than their features: {'; '.join(wrong[:5])}; give --stride if a "
            "row covers several frames"
        )


def corpus_clips(path: str | Path, kind: str, split: str) -> Iterator[tuple[str, np.ndarray, str | None]]:
    """Every clip of a corpus that has features: name, features [T, D], signer if known."""
    for sample, rows in _of_corpus(Path(path), kind, _splits(split)):
        yield sample.name, rows, sample.signer or None


def _of_corpus(path: Path, kind: str, splits: Sequence[str]) -> Iterator[tuple[Sample, np.ndarray]]:
    for split in splits:
        for sample in load_samples(kind, path, split):
            if sample.features is None:
                raise ValueError(
                    f"{path}: {sample.name} is a video, but density needs features: train a model and "
                    "give the run, or extract features"
                )
            yield sample, read_rows(sample)


def _corpus_clips(path: Path, annotation: Annotation) -> Iterator[tuple[str, np.ndarray, Sequence[Span], str | None]]:
    found = False
    for sample, rows in _of_corpus(path, str(annotation.corpus), _splits(annotation.split)):
        if sample.spans:
            found = True
            yield sample.name, rows, sample.spans, sample.signer or None
    if not found:
        raise ValueError(f"{path}: no clip of split {annotation.split} has spans; give them with --spans TSV")


def _sign_clips(path: Path, annotation: Annotation) -> Iterator[tuple[str, np.ndarray, Sequence[Span], str | None]]:
    """Yields clips of a single sign each: by name from a store or pickle, or by index from an array [N, T, ...]."""
    labels, names = _labels(annotation, path)
    if names is None:
        array = _array(path, annotation.key)
        for i, (clip, gloss) in enumerate(zip(array.reshape(*array.shape[:2], -1), labels)):
            _finite(clip, f"{path}: clip {i}")
            whole = Span(gloss, 0, clip_frames(len(clip), **_clock(annotation)))
            yield str(i), clip.astype(np.float32), (whole,), None
        return
    source = open_features(path)
    missing = [name for name in names if name not in source.lengths]
    if missing and not annotation.partial:
        raise ValueError(
            f"{annotation.glosses}: {len(missing)} names have no features in {path}: {', '.join(missing[:5])}; it has "
            f"{_some(source.names)}; --partial leaves them out"
        )
    for name, gloss in zip(names, labels):
        if name in source.lengths:
            rows = source[name]
            whole = Span(gloss, 0, clip_frames(len(rows), **_clock(annotation, source, name)))
            yield name, rows, (whole,), None


def _clock(annotation: Annotation, source: Features | None = None, name: str = "") -> dict[str, Any]:
    if annotation.stride is None and annotation.first_centre is None and isinstance(source, FeatureStore):
        stride, first = source.clock(name)
        return {"stride": stride, "first_centre": first}
    return {"stride": 1.0 if annotation.stride is None else annotation.stride, "first_centre": annotation.first_centre}


# -- one row per sign --------------------------------------------------------------------------------------------------


def _rows(path: Path, annotation: Annotation) -> Instances | None:
    """The instances of a file with one row per sign; None if the file has sequences."""
    if annotation.glosses is None:
        return None
    labels, names = _labels(annotation, path)
    if names is not None:
        return None
    features = _array(path, annotation.key)
    if len(features) != len(labels):
        raise ValueError(
            f"--glosses needs one gloss per row: {annotation.glosses} has {len(labels)}, the features of {path} have "
            f"{len(features)} (shape {list(features.shape)})"
        )
    if features.ndim > 2:
        return None
    return Instances(features, labels, [("row", i, i + 1) for i in range(len(labels))], "row")


def _array(path: Path, key: str | None) -> np.ndarray:
    """The single array of a feature file, memory-mapped if possible. [N, D] or [N, T, ...]"""
    if path.is_dir():
        store = FeatureStore(path)
        if len(store.names) == 1:
            return store.mapped(store.names[0])
        return np.concatenate([store[name] for name in store.names])
    if not path.exists():
        raise FileNotFoundError(f"no features at {path}; needs a .npy, .npz, pickle or feature store")
    if path.suffix.lower() == ".npy":
        try:
            array = load_arrays(path, mapped=True)
        except (ValueError, EOFError, OSError) as error:
            raise ValueError(f"{path}: not a readable .npy of numbers ({str(error).splitlines()[0]})") from None
    elif path.suffix.lower() == ".npz":
        with _npz(path) as loaded:
            several = [name for name in loaded.files if loaded[name].ndim >= 2]
            if key is None and len(several) != 1:
                raise ValueError(f"{path}: has the arrays {_some(loaded.files)}; name the features with --key")
            if key is not None and key not in loaded.files:
                raise ValueError(f"{path}: has no array {key!r}; it has {_some(loaded.files)}")
            array = loaded[key or several[0]]
    else:
        source = open_features(path)
        array = np.concatenate([source[name] for name in source.names])
    if array.dtype.kind not in "fiu" or array.ndim < 2 or 0 in array.shape:
        raise ValueError(f"{path}: needs numbers [N, D], one row per sign, got {array.dtype} {list(array.shape)}")
    return array


def _labels(annotation: Annotation, features: Path) -> tuple[list[str], list[str] | None]:
    """The glosses, and the clips they belong to if the file names them."""
    given = str(annotation.glosses)
    path = Path(given)
    names: list[str] | None = None
    if not path.is_file() and features.suffix.lower() == ".npz" and features.is_file():
        with _npz(features) as loaded:
            if given not in loaded.files:
                raise ValueError(
                    f"--glosses {given}: no such file, and {features} has no such array; it has {_some(loaded.files)}"
                )
            labels = _text(loaded[given], f"{features}: array {given!r}")
    elif not path.is_file():
        raise FileNotFoundError(f"no glosses at {path}; needs a .txt, .tsv, .csv or .npy with one gloss per row")
    elif path.suffix.lower() == ".npy":
        labels = _text(read_npy(path), str(path))
    elif path.suffix.lower() in (".tsv", ".csv"):
        quoted = path.suffix.lower() == ".csv"
        rows = list(read_table(path, ("gloss",), delimiter="," if quoted else "\t", quoted=quoted))
        labels = [row.cells["gloss"] for row in rows]
        if rows and "name" in rows[0].cells:
            names = [row.cells["name"] for row in rows]
    else:
        labels = [line.strip() for line in read_plain(path).splitlines()]
    if not labels:
        raise ValueError(f"{path}: is empty; needs one gloss per row of the features")
    empty = [i for i, label in enumerate(labels) if not label]
    if empty:
        raise ValueError(f"{path}: {len(empty)} rows have no gloss, first row {empty[0]} (counted from 0)")
    if names is not None and len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise ValueError(f"{path}: the name {twice!r} occurs twice; give one sign per clip, or use --spans")
    return labels, names


def _text(array: np.ndarray, where: str) -> list[str]:
    if array.ndim != 1 or array.dtype.kind not in "iuU":
        raise ValueError(f"{where}: needs one whole number or text per row [N], got {array.dtype} {list(array.shape)}")
    return [str(value) for value in array.tolist()]


def _classes(path: Path) -> dict[str, int]:
    if not path.is_file():
        raise FileNotFoundError(f"no classes at {path}; needs a text file with one gloss per line, blank first")
    return {line.strip(): i for i, line in enumerate(read_plain(path).splitlines()) if line.strip()}


def _npz(path: Path) -> Any:
    try:
        return load_arrays(path)
    except Exception as error:  # zipfile, zlib, EOF and header errors all mean a broken file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: not a readable .npz of numbers ({reason}); write it again") from None


def _finite(rows: np.ndarray, where: str) -> None:
    if rows.dtype.kind == "f" and not np.isfinite(rows).all():
        raise ValueError(f"{where} contains NaN or infinity; extract it again, or leave it out")


def _splits(given: str) -> list[str]:
    splits = [split.strip() for split in given.split(",") if split.strip()]
    if not splits:
        raise ValueError(f"--split must be {SPLITS}, got {given!r}")
    return splits


def _some(names: Any, most: int = 5) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
