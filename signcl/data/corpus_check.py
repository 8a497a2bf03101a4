"""Finds all problems of a corpus before training does. `corpus_stats` is in corpus_stats.py.

An error makes training, scores or density wrong. A warning is worth knowing, such as test sentences that occur in train
(as in PHOENIX-2014T and CSL-Daily).
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from signcl.data.batch import Sample
from signcl.data.corpora import CORPORA, SPLITS
from signcl.data.corpus_stats import CorpusStats, SplitStats, corpus_stats
from signcl.data.features import look_at_features, with_features
from signcl.data.pose_quality import PoseQuality, describe_poses, pose_quality
from signcl.data.poses import PoseReading
from signcl.data.progress import track
from signcl.data.segments import count_sample, read_clip, read_rows
from signcl.data.video import clip_rate, other_rate, probe, remarks
from signcl.data.video.shards import check_shard, in_shard

__all__ = ["CorpusStats", "Problem", "SplitStats", "check_corpus", "check_sample", "corpus_stats"]

SMALL = (16, 16)  # frames are decoded only to check that they exist; small frames save memory


@dataclass(frozen=True)
class Problem:
    """One problem of a corpus."""

    file: str
    """The clip, the feature file, or the table with its line."""
    what: str
    """What is wrong, in one line."""
    level: str = "error"
    """`error`, `warning` (may be intended) or `note` (for information)."""

    def __str__(self) -> str:
        return f"{self.file}: {'' if self.level == 'error' else f'{self.level}: '}{self.what}"


def check_corpus(
    root: Path | str,
    name: str = "folder",
    *,
    fast: bool = False,
    splits: Sequence[str] = SPLITS,
    options: Mapping[str, Any] | None = None,
    workers: int | None = None,
    features: str = "",
    pose: PoseReading | None = None,
) -> list[Problem]:
    """Checks every row and every clip of a corpus.

    For key points, a note per split gives the share of frames without body, hands and face and lists the worst clips;
    if most frames have no hand, it is a warning. If people may be mixed up, the frames are listed.

    Args:
        root: the corpus folder.
        name: a key of `CORPORA`.
        fast: only open clips and read their headers instead of decoding every frame; misses most truncated files.
        splits: splits to check; a missing one gives a warning.
        options: keyword arguments of that corpus's `samples`.
        workers: decoding threads; default one per core, at most 8.
        features: features to use instead of the clips, as `corpus.features` of a recipe; {split} is replaced.
        pose: how to read key points; None: by their number, all of them.

    Returns:
        All errors, warnings and notes, in the order of the tables, followed by problems between splits. The corpus is
        valid if there are no errors.

    Raises:
        ValueError: an unknown corpus, or no such folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder; give the folder of a corpus")
    problems: list[Problem] = []
    parts: dict[str, list[Sample]] = {}
    for split in splits:
        loaded, found = _load(name, root, split, dict(options or {}))
        problems += found
        if loaded and features:
            try:
                loaded = with_features(loaded, Path(features.replace("{split}", split)))
            except (OSError, ValueError) as error:
                where, _, what = str(error).partition(": ")
                problems.append(Problem(where, what) if what else Problem(features, where))
                continue
        if loaded:
            parts[split] = loaded
    if not parts:
        return [Problem(problem.file, problem.what) for problem in problems]
    measured: dict[str, PoseQuality] = {}
    layout_of_first: tuple[str, str] | None = None  # split and layout
    problems += _clips(parts, fast, workers, pose, measured)
    problems += _rates(parts, root)
    for split, samples in parts.items():
        clips = [measured[key] for sample in samples if (key := f"{split}/{sample.name}") in measured]
        problems += [Problem(f"{root}, {split}", what, level) for level, what in describe_poses(clips)]
        if clips:
            layout_of_first = layout_of_first or (split, clips[0].layout)
            if clips[0].layout != layout_of_first[1]:
                what = (
                    f"has key points of {clips[0].layout}, but {layout_of_first[0]} of {layout_of_first[1]}; extract "
                    "all splits the same way"
                )
                problems.append(Problem(f"{root}, {split}", what))
    problems += _leaks(parts, root, fast)
    return problems


def check_sample(
    sample: Sample,
    *,
    fast: bool = False,
    pose: PoseReading | None = None,
    measured: list[PoseQuality] | None = None,
) -> Iterator[Problem]:
    """Yields the problems of one clip and its annotation. See `check_corpus`.

    Args:
        measured: a list to which the quality of key points is added.
    """
    source = sample.clip if sample.clip is not None else sample.features
    file = f"{source if isinstance(source, Path) else 'features'} ({sample.name})"
    notes: list[str] = []
    try:
        if isinstance(sample.features, Path) and sample.clip is None and sample.segment is None and not fast:
            rows, points = look_at_features(sample.features, sample.name, pose)
            frames: int | None = len(rows)
            if points is not None:
                yield from (Problem(file, note, "warning") for note in points.notes)
                if measured is not None:
                    measured.append(pose_quality(points, sample.name))
        else:
            frames = _frames(sample, fast, notes.append)
            if sample.clip is not None:
                notes += remarks(sample.clip)
    except (OSError, ValueError) as error:
        where, _, what = str(error).partition(": ")
        if isinstance(error, OSError) and error.strerror:
            where, what = str(error.filename or file), error.strerror
        yield Problem(where if what else file, what or where)
        frames = None
    for note in notes:
        yield Problem(file, note.removeprefix(f"{source}: "), "warning")
    if frames is not None and frames < 2:
        yield Problem(file, f"has {frames} frame; a signed sentence needs at least 2")
    if frames is not None and sample.num_frames is not None and frames != sample.num_frames:
        yield Problem(file, f"has {frames} frames, the table says {sample.num_frames}", "warning")
    length = frames if frames is not None else sample.num_frames
    stop = 0
    for span in sample.spans:
        if span.start < stop:
            what = f"span {span.token}:{span.start}-{span.stop} begins before the previous one ends ({stop})"
            yield Problem(file, what, "warning")  # two hands or coarticulation; density counts such overlaps
        if length is not None and span.stop > length:
            yield Problem(file, f"span {span.token}:{span.start}-{span.stop} ends after the clip's {length} frames")
        stop = max(stop, span.stop)
    tokens = tuple(str(span.token) for span in sample.spans)
    if tokens and sample.gloss and tokens != sample.gloss:
        yield Problem(file, f"spans name the signs {' '.join(tokens)}, gloss says {' '.join(sample.gloss)}")


def _load(name: str, root: Path, split: str, options: dict[str, Any]) -> tuple[list[Sample], list[Problem]]:
    """Samples of a split, with broken rows as problems if the reader can continue after them."""
    samples = CORPORA[name]
    problems: list[Problem] = []

    def collect(error: ValueError, level: str = "error") -> None:
        where, _, what = str(error).partition(": ")
        problems.append(Problem(where, what, level) if what else Problem(str(root), where, level))

    if "on_error" in inspect.signature(samples).parameters:
        options["on_error"] = collect
    loaded: list[Sample] = []
    try:
        loaded = samples(root, split, **options)
    except (OSError, ValueError) as error:
        absent = not any(root.glob(f"{split}.tsv")) and any(root.glob("*.tsv"))
        collect(ValueError(str(error)), "warning" if absent else "error")
    if not loaded and not problems:
        problems.append(Problem(str(root), f"split {split} has no sentences"))
    return loaded, problems


def _frames(sample: Sample, fast: bool, note: Callable[[str], None]) -> int:
    """Number of frames that can be read; decodes all of them unless `fast`. Raises the errors of reading."""
    if sample.clip is not None:
        if in_shard(sample.clip) and not fast:
            check_shard(sample.clip)
        if fast:  # for a folder, `probe` opens an image too
            return probe(sample.clip).num_frames if sample.segment is None else count_sample(sample)
        return len(read_clip(sample, size=SMALL, note=note))
    if sample.features is None:
        raise ValueError("has neither a clip nor features")
    if fast and isinstance(sample.features, Path | tuple):
        return count_sample(sample)
    return len(read_rows(sample))


def _clips(
    parts: Mapping[str, list[Sample]],
    fast: bool,
    workers: int | None,
    pose: PoseReading | None,
    qualities: dict[str, PoseQuality],
) -> list[Problem]:
    """Checks each sample separately; adds the quality of key points to `qualities`, by SPLIT/NAME."""
    every = [(split, sample) for split, samples in parts.items() for sample in samples]
    problems: list[Problem] = []

    def look(entry: tuple[str, Sample]) -> list[Problem]:
        split, sample = entry
        measured: list[PoseQuality] = []
        found = list(check_sample(sample, fast=fast, pose=pose, measured=measured))
        qualities.update({f"{split}/{sample.name}": quality for quality in measured})
        return found

    pool = ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1))
    try:
        with track("check clips", total=len(every)) as bar:
            for found in pool.map(look, every):
                problems += found
                bar.advance()
    finally:
        pool.shutdown(cancel_futures=True)  # so that Ctrl-C does not wait for the rest of the corpus
    return problems


def _rates(parts: Mapping[str, list[Sample]], root: Path) -> list[Problem]:
    """Warns about videos with different frame rates, because a sign then has different numbers of frames."""
    rates: dict[float, list[str]] = defaultdict(list)
    for samples in parts.values():
        for sample in samples:
            if sample.clip is not None and sample.features is None:
                with contextlib.suppress(OSError, ValueError):
                    if rate := clip_rate(sample.clip):
                        rates[round(rate, 2)].append(sample.name)
    if not rates or not other_rate(min(rates), max(rates)):
        return []
    counts = ", ".join(f"{rate:g} ({len(names)} clips, e.g. {names[0]})" for rate, names in sorted(rates.items())[:8])
    common = max(rates, key=lambda rate: len(rates[rate]))
    what = f"clips have several rates (frames per second): {counts}; input.fps={common:g} resamples them to one rate"
    return [Problem(str(root), what, "warning")]


def _leaks(parts: Mapping[str, list[Sample]], root: Path, fast: bool) -> list[Problem]:
    """Finds clips in two splits (errors), clips twice in a split and test sentences in train (warnings)."""
    problems: list[Problem] = []
    first: dict[tuple[str, str], tuple[str, str]] = {}
    for split, samples in parts.items():
        for sample in samples:
            if (key := _identity(sample)) is None:
                continue
            where, who = first.setdefault(key, (split, sample.name))
            if where != split:
                problems.append(Problem(key[0], f"is in {where} ({who}) and in {split} ({sample.name}): data leak"))
            elif who != sample.name:
                problems.append(Problem(key[0], f"is the clip of both {who} and {sample.name} in {split}", "warning"))
    problems += _overlaps(parts)
    if not fast:
        problems += _copies(parts)
    train = {sample.signed: sample.name for sample in parts.get("train", ())}
    for split, samples in parts.items():
        seen = [sample for sample in samples if sample.signed in train]
        if split != "train" and seen:
            share = f"{len(seen)} of {len(samples)} sentences ({len(seen) / len(samples):.1%})"
            some = ", ".join(f"{sample.name} = {train[sample.signed]}" for sample in seen[:3])
            problems.append(Problem(f"{root}, {split}", f"{share} occur in train, e.g. {some}", "warning"))
    return problems


def _identity(sample: Sample) -> tuple[str, str] | None:
    """A key that is equal for two samples with the same frames; None for features in memory."""
    part = "" if sample.segment is None else str(sample.segment)
    if sample.clip is not None:
        return os.path.normpath(sample.clip), part
    if isinstance(sample.features, Path):
        holds_one = sample.features.suffix.lower() in (".npy", ".pose", ".json")
        name = "" if holds_one else sample.whole or sample.name
        return os.path.normpath(sample.features), f"{name}{part}"
    return None


def _overlaps(parts: Mapping[str, list[Sample]]) -> Iterator[Problem]:
    """Finds segments of one file that overlap across splits: a data leak, like one clip in two splits."""
    lying: dict[tuple[str, str], list[tuple[float, float, str, str]]] = defaultdict(list)
    for split, samples in parts.items():
        for sample in samples:
            source = sample.clip or sample.features
            if sample.segment is not None and isinstance(source, Path):
                key = os.path.normpath(source), sample.segment.unit + (sample.whole if sample.features else "")
                lying[key].append((sample.segment.start, sample.segment.stop, split, sample.name))
    for split, samples in parts.items():  # a row without a segment covers all of its file
        for sample in samples:
            source = sample.clip or sample.features
            if sample.segment is None and isinstance(source, Path):
                for unit in ("seconds", "frames"):
                    key = os.path.normpath(source), unit + (sample.whole if sample.features else "")
                    if key in lying:
                        lying[key].append((0.0, math.inf, split, sample.name))
    for (file, _), segments in lying.items():
        latest: dict[str, tuple[float, float, str]] = {}  # for each split, the segment that ends last
        for start, stop, split, name in sorted(segments):
            for other, (begin, end, who) in latest.items():
                # Identical segments are already reported by `_leaks`.
                if other != split and min(stop, end) - start > 0 and (begin, end) != (start, stop):
                    what = f"{start:g}-{stop:g} of {split} ({name}) overlaps {begin:g}-{end:g} of {other} ({who})"
                    yield Problem(file, f"the segment {what}: data leak")
            if split not in latest or stop > latest[split][1]:
                latest[split] = (start, stop, name)


def _copies(parts: Mapping[str, list[Sample]]) -> Iterator[Problem]:
    """Finds identical files with different names in two splits. Only files of equal size are read."""
    sizes: dict[int, dict[str, str]] = defaultdict(dict)
    for split, samples in parts.items():
        for sample in samples:
            path = sample.clip if sample.clip is not None else sample.features
            if isinstance(path, Path) and path.is_file():
                sizes[path.stat().st_size].setdefault(os.path.normpath(path), split)
    for files in sizes.values():
        if len(set(files.values())) < 2:
            continue
        first: dict[bytes, str] = {}
        for name, split in files.items():
            with open(name, "rb") as file:
                original = first.setdefault(hashlib.file_digest(file, "sha256").digest(), name)
            if files[original] != split:
                yield Problem(name, f"is a copy of {original}: {files[original]} and {split} share a clip")
