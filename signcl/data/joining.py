"""Joins clips of a corpus to recordings of many sentences with pauses, which gives exact ground truth for segmentation.

A pause shows the signer at rest: the frames of a clip before its first sign or after its last one, played forwards and
backwards, so that noise, camera and hands continue. The first half comes from the clip before, the second from the clip
after.

    OUT/SPLIT.tsv               name  path  num_frames  text  gloss  spans        the corpus format `folder`
    OUT/SPLIT.sentences.tsv     name  text  start  stop                           frames, stop exclusive
    OUT/SPLIT/NAME.mp4|.npy     the recordings: videos, or features for a corpus of features or poses
    OUT/SPLIT/NAME.srt          the sentences as subtitles
    OUT/joined.json             settings, frames per second

A sentence lasts from the start of its first sign to the end of its last; without spans, it is the full clip.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from signcl.data.annotation.subtitles import write_subtitles
from signcl.data.batch import Sample, Span
from signcl.data.bounds import bounded, check_bounds
from signcl.data.files import write_bytes, write_json, write_text
from signcl.data.json_files import read_json
from signcl.data.loading import load_raw
from signcl.data.progress import track
from signcl.data.sections import InputRecipe
from signcl.data.segments import count_sample, pose_rate
from signcl.data.video import clip_rate, write_video
from signcl.data.video.timing import other_rate

__all__ = ["JoinSettings", "Joined", "join_split", "rate_of_features"]

ABOUT = "joined.json"
RATES_LOOKED_AT = 20
EDGE_FRAMES = 4  # maximum number of frames at rest that a pause repeats


@dataclass(frozen=True)
class JoinSettings:
    """How clips are joined to recordings."""

    seconds: float = bounded(30.0, above=0, high=36_000)
    """Length of a recording: it ends after the clip that reaches it."""
    pause_min: float = bounded(0.2, low=0, high=60)
    """Shortest pause between two sentences, seconds."""
    pause_max: float = bounded(2.0, low=0, high=60)
    """Longest pause, seconds."""
    seed: int = bounded(0, low=0, high=2**32 - 1)
    """Seed for the order of clips and the lengths of pauses."""

    def __post_init__(self) -> None:
        check_bounds(self, "join: ")
        if self.pause_min > self.pause_max:
            raise ValueError(f"join: pause_min {self.pause_min:g} must not be above pause_max {self.pause_max:g}")


@dataclass(frozen=True)
class Joined:
    """Result of `join_split`."""

    split: str
    recordings: int
    sentences: int
    seconds: float


@dataclass(frozen=True)
class _Part:
    """A clip in a recording, with its pauses."""

    sample: Sample
    before: int
    """Frames of pause before the clip, made from its frames at rest."""
    after: int


def join_split(
    samples: Sequence[Sample],
    out: Path,
    split: str,
    settings: JoinSettings,
    *,
    reading: InputRecipe | None = None,
    film: float | None = None,
    fps: float | None = None,
    progress: bool = True,
) -> Joined:
    """Joins the clips of a split to recordings; each clip occurs once, in random order.

    Args:
        samples: all videos, or all features.
        split: name of the tables; must not exist in `out`.
        reading: how key points become features; None: as in a recipe without `input`.
        film: make one recording of this many minutes instead; clips are repeated if there are too few.
        fps: frame rate of features without one; None: 25.

    Raises:
        ValueError: clips with several frame rates, both videos and features, or a split that already exists.
    """
    if not samples:
        raise ValueError(f"join: split {split} has no clips")
    table = out / f"{split}.tsv"
    if table.exists():
        raise ValueError(f"{table} already exists; give another folder with -o, or delete it")
    if len({sample.features is None for sample in samples}) > 1:
        raise ValueError("join: some clips are videos and some are features; join only one kind")
    reading = reading or InputRecipe()
    rate = _rate(samples, fps)
    random = np.random.default_rng([settings.seed, *split.encode()])
    plan = _plan(samples, settings, rate, film, random)
    rows, sentences = ["\t".join(("name", "path", "num_frames", "text", "gloss", "spans"))], []
    count, total, suffix = 0, 0, ".npy" if samples[0].features is not None else ".mp4"
    with track(f"joining {split}", total=sum(map(len, plan)), show=progress) as bar:
        for number, parts in enumerate(plan):
            name = f"{split}-{number:04d}" if film is None else split
            path = f"{split}/{name}{suffix}"
            signs: list[Span] = []
            said: list[Span] = []
            pieces = (bar.each(piece) for piece in _pieces(parts, reading, signs, said))
            if suffix == ".npy":
                whole = np.concatenate(list(pieces))
                memory = io.BytesIO()
                np.save(memory, whole.astype(np.float32))
                write_bytes(out / path, memory.getvalue())
                length = len(whole)
            else:
                counted = _Counted(frame for piece in pieces for frame in piece)
                write_video(out / path, counted, rate, crf=20, preset="veryfast")
                length = counted.count
            spans = " ".join(f"{span.token}:{span.start}-{span.stop}" for span in signs)
            text, gloss = " ".join(str(span.token) for span in said), " ".join(str(span.token) for span in signs)
            rows.append("\t".join((name, path, str(length), text, gloss, spans)))
            sentences += [f"{name}\t{span.token}\t{span.start}\t{span.stop}" for span in said]
            write_subtitles(out, {name: said}, fps=rate, file=out / split / f"{name}.srt")
            count, total = count + len(said), total + length
    write_text(out / f"{split}.sentences.tsv", "\n".join(["name\ttext\tstart\tstop", *sentences]) + "\n")
    write_json(out / ABOUT, {"fps": rate, "settings": asdict(settings)})
    write_text(table, "\n".join(rows) + "\n")
    return Joined(split, len(plan), count, total / rate)


class _Counted:
    """An iterable that counts its items."""

    def __init__(self, items: Iterator[np.ndarray]) -> None:
        self.items, self.count = items, 0

    def __iter__(self) -> Iterator[np.ndarray]:
        for item in self.items:
            self.count += 1
            yield item


def rate_of_features(sample: Sample) -> float | None:
    """Frames per second of a sample of features, if its file or the folder of its recordings gives it."""
    path = sample.features
    if not isinstance(path, Path):
        return None
    if path.suffix.lower() == ".pose":
        return pose_rate(path)
    for folder in (path.parent, path.parent.parent):
        if (folder / ABOUT).is_file():
            try:
                return float(read_json(folder / ABOUT, {"fps": float}, "")["fps"])
            except ValueError:
                return None
    return None


def _rate(samples: Sequence[Sample], fps: float | None) -> float:
    """Frames per second of the clips, from a sample of clips spread over the split."""
    some = samples[:: max(1, len(samples) // RATES_LOOKED_AT)]
    found = (rate_of_features(s) if s.clip is None else clip_rate(s.clip) for s in some)
    rates = sorted({rate for rate in found if rate})
    if rates and other_rate(rates[0], rates[-1]):
        raise ValueError(
            f"join: the clips have several rates, {rates[0]:g} to {rates[-1]:g} frames per second; convert them to one"
        )
    return fps or (rates[0] if rates else 25.0)


def _plan(
    samples: Sequence[Sample], settings: JoinSettings, rate: float, film: float | None, random: np.random.Generator
) -> list[list[_Part]]:
    """Chooses the clips of each recording, their order and pauses. Lengths come from the corpus."""
    goal = round((settings.seconds if film is None else film * 60) * rate)
    low, high = (round(value * rate) for value in (settings.pause_min, settings.pause_max))
    recordings: list[list[_Part]] = []
    parts: list[_Part] = []
    length = 0
    order: list[int] = []
    while True:
        if not order:
            if film is None and (recordings or parts):
                break
            order = random.permutation(len(samples)).tolist()
        sample = samples[order.pop()]
        pause = int(random.integers(low, high + 1))
        parts.append(_Part(sample, pause // 2, pause - pause // 2))
        length += pause + _length(sample)
        if length >= goal:
            recordings.append(parts)
            parts, length = [], 0
            if film is not None:
                return recordings
    return recordings + ([parts] if parts else [])


def _length(sample: Sample) -> int:
    return sample.num_frames if sample.num_frames is not None else count_sample(sample)


def _pieces(parts: Sequence[_Part], reading: InputRecipe, signs: list[Span], said: list[Span]) -> Iterator[np.ndarray]:
    """Yields the frames of a recording, one clip with its pauses at a time; adds the truth to `signs` and `said`."""
    at = 0
    for part in parts:
        frames, sample = load_raw(part.sample, reading), part.sample
        spans = [s for s in sample.spans if s.start < len(frames)]
        first = spans[0].start if spans else 0
        last = min(spans[-1].stop, len(frames)) if spans else len(frames)
        lead = _to_and_fro(np.arange(min(max(first, 1), EDGE_FRAMES)), part.before)
        rest = min(max(len(frames) - last, 1), EDGE_FRAMES)
        tail = _to_and_fro(np.arange(len(frames) - 1, len(frames) - 1 - rest, -1), part.after)
        rows = np.concatenate([lead[::-1], np.arange(len(frames)), tail]).astype(np.int64)
        at += part.before
        signs += [Span(span.token, at + span.start, at + min(span.stop, len(frames))) for span in spans]
        said.append(Span(sample.signed, at + first, at + last))
        at += len(frames) + part.after
        yield frames[rows]


def _to_and_fro(rows: np.ndarray, count: int) -> np.ndarray:
    """Takes `count` rows back and forth, from the first to the last, back, and so on; the first is next to the clip."""
    once = np.concatenate([rows, rows[-2:0:-1]]) if len(rows) > 1 else rows
    return np.resize(once, count)
