"""Persian Sign Language numbers from a sensor glove: real continuous signing, small enough for a CPU.

A frame is a vector of 36 accelerometer and gyroscope readings at 60 Hz. A sequence is a number signed with two or three
signs (`1000 100 10`); its text is the number in words. Signs and their frames are annotated, so density can be measured
on true spans. 779 sequences of 454 numbers with 32 signs, mean 85.4 frames; with the default split

    train  560 sequences of 327 numbers        dev  65 of 36        test  154 of 91

The split is by number: every dev and test number is an unseen combination of signs that all occur in train (a part of
it may occur in another number: 121 contains 21).

Source: ayoubprz/IMU-based-ContinuesSignLanguageDataset, CC BY 4.0; docs/data.md lists files, counts and defects.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from signcl.data.array_files import load_arrays
from signcl.data.batch import Sample, Span
from signcl.data.corpora._layout import Layout

__all__ = ["Isolated", "isolated", "normalization", "samples"]

FILES = {  # signals, labels, boundaries
    "two": ("two_sign.npz", "labels__01_two-digit_Labels.npy", "frame_level_annotations__01_twoDigsStartEnds.npy"),
    "three": (
        "three_sign.npz",
        "labels__02_three-digit_Labels.npy",
        "frame_level_annotations__02_threeDigsStartEnds.npy",
    ),
}
DEV, TEST = 65, 154  # sequences; 154 as in the feasibility study, for comparison
SPLITS = ("train", "dev", "test")


class Sequence(NamedTuple):
    """One recording as in the files."""

    name: str
    signs: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    frames: np.ndarray
    """Raw readings. [T, 36] int16"""


class Isolated(NamedTuple):
    """Single signs, for density analyses. They have 42 dimensions, not 36 as the continuous part."""

    features: list[np.ndarray]
    """Raw readings of each take. [80, 42] int16"""
    labels: np.ndarray
    """The number signed. [3680] int"""
    takes: np.ndarray
    """1..80, most likely the person (80 people signed each number once; not stated explicitly). [3680] int"""


LAYOUT = Layout(
    files=("two_sign.npz", "three_sign.npz"),
    about="Persian Sign Language numbers from a sensor glove",
    published="https://github.com/ayoubprz/IMU-based-ContinuesSignLanguageDataset (CC BY 4.0)",
    needs="two_sign.npz, three_sign.npz and their labels and boundaries (docs/data.md)",
)


def samples(
    root: Path,
    split: str,
    *,
    text: str = "words",
    fraction: float = 1.0,
    seed: int = 0,
    split_seed: int = 0,
    normalize: bool = True,
) -> list[Sample]:
    """Reads the sequences of one split, with features in memory.

    Args:
        root: the folder with the files.
        split: `train`, `dev` or `test`.
        text: `words` (`one hundred and twenty one`, without hyphens, so that numbers share words) or `digits`
            (`1 2 1`).
        fraction: share of the training sequences to keep, in (0, 1], for learning curves. With the same seed, smaller
            shares are subsets of larger ones. Dev and test are never reduced.
        seed: seed of the share.
        split_seed: seed of the split; the counts above are for 0.
        normalize: standardize each of the 36 dimensions, with mean and deviation over the frames of the training
            sequences in use; give dev and test the same `fraction` and `seed` as train. Networks need this, because
            readings are int16 over the full range.

    Raises:
        ValueError: an unknown split or option value, a missing file, or not the files described in docs/data.md.
    """
    if split not in SPLITS:
        raise ValueError(f"imu_numbers: split must be one of {', '.join(SPLITS)}, got {split!r}")
    if text not in ("words", "digits"):
        raise ValueError(f"imu_numbers: text must be words or digits, got {text!r}")
    parts = _split(_sequences(str(root)), split_seed)
    train = _part(parts["train"], fraction, seed)
    mean, deviation = _statistics(train) if normalize else (np.float32(0.0), np.float32(1.0))
    return [
        Sample(
            name=sequence.name,
            text=_words(sum(sequence.signs)) if text == "words" else " ".join(str(sum(sequence.signs))),
            features=((sequence.frames - mean) / deviation).astype(np.float32),
            gloss=tuple(str(sign) for sign in sequence.signs),
            num_frames=len(sequence.frames),
            spans=tuple(
                Span(str(sign), start, stop) for sign, (start, stop) in zip(sequence.signs, sequence.spans, strict=True)
            ),
        )
        for sequence in (train if split == "train" else parts[split])
    ]


def normalization(
    root: Path, *, fraction: float = 1.0, seed: int = 0, split_seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation that `samples` uses, to bring a new recording to the same scale. [36], [36] float32"""
    return _statistics(_part(_split(_sequences(str(root)), split_seed)["train"], fraction, seed))


def isolated(root: Path) -> Isolated:
    """3,680 single signs: 46 numbers x 80 takes of 80 frames.

    Raises:
        ValueError: the file is missing or has different content.
    """
    with _load(Path(root) / "isolated.npz") as loaded:
        x, y, take = loaded["x"], loaded["y"], loaded["take"]
    if x.ndim != 4 or not len(x) == len(y) == len(take):
        raise ValueError(f"{root}/isolated.npz: needs x [N, frames, modules, values], y [N], take [N], got x {x.shape}")
    return Isolated(list(x.reshape(len(x), x.shape[1], -1)), y.astype(int), take.astype(int))


@lru_cache(maxsize=4)
def _sequences(root: str) -> tuple[Sequence, ...]:
    """All sequences of both files, without trailing padding."""
    result = []
    for kind, names in FILES.items():
        signals, labels, bounds = (_load(Path(root) / name) for name in names)
        with signals:
            x = signals["x"]
        if x.ndim != 4 or not len(x) == len(labels) == len(bounds):
            raise ValueError(
                f"{root}: {', '.join(names)} must have the same number of sequences, got {len(x)}, {len(labels)}, "
                f"{len(bounds)}; get the three files from the same source"
            )
        frames = x.transpose(0, 2, 1, 3).reshape(
            len(x), x.shape[2], -1
        )  # [N, T, 36]; the axis of length 115/145 is time
        for number, (sequence, signs, bound) in enumerate(zip(frames, labels, bounds, strict=True)):
            real = np.flatnonzero(sequence.any(axis=1))
            name = f"{kind}-{number:03d}"
            length = int(real[-1]) + 1 if len(real) else 0
            spans = _spans(kind, [int(frame) for frame in bound], length)
            if not spans or any(start >= stop for start, stop in spans) or any(a[1] > b[0] for a, b in pairwise(spans)):
                raise ValueError(f"{root}: sequence {name} has {length} frames and the boundaries {bound.tolist()}")
            result.append(Sequence(name, tuple(int(sign) for sign in signs), spans, sequence[:length]))
    return tuple(result)


def _spans(kind: str, bound: list[int], length: int) -> tuple[tuple[int, int], ...]:
    """Start and stop (exclusive) of each sign.

    Two signs: end of the first and start of the second. Three signs: start and end of each; an end of 145, the padded
    length, means "until the end" (254 of 275), which shows that starts count from 0 and ends are exclusive.
    """
    if kind == "two":
        return (0, bound[0]), (bound[1], length)
    return tuple((start, min(stop, length)) for start, stop in zip(bound[::2], bound[1::2], strict=True))


def _split(sequences: tuple[Sequence, ...], seed: int) -> dict[str, list[Sequence]]:
    """Assigns numbers to test, dev and train, with the same shares of two-sign and three-sign numbers.

    A number goes to test or dev only if each of its signs still has at least two training numbers.
    """
    numbers: dict[tuple[int, ...], list[Sequence]] = {}
    for sequence in sequences:
        numbers.setdefault(sequence.signs, []).append(sequence)
    order = [sorted(numbers)[i] for i in np.random.default_rng(seed).permutation(len(numbers))]
    left = Counter(sign for signs in numbers for sign in signs)  # training numbers with the sign
    place = dict.fromkeys(numbers, "train")
    for size in sorted({len(signs) for signs in numbers}):
        ours = [signs for signs in order if len(signs) == size]
        total = sum(len(numbers[signs]) for signs in ours)
        for split, all_wanted in (("test", TEST), ("dev", DEV)):
            wanted = round(all_wanted * total / len(sequences))
            for signs in ours:
                fits = len(numbers[signs]) <= wanted and all(left[sign] > 2 for sign in signs)
                if place[signs] == "train" and fits:
                    place[signs] = split
                    wanted -= len(numbers[signs])
                    left.subtract(signs)
    parts: dict[str, list[Sequence]] = {split: [] for split in SPLITS}
    for sequence in sequences:
        parts[place[sequence.signs]].append(sequence)
    seen = {sign for sequence in parts["train"] for sign in sequence.signs}
    assert all(set(sequence.signs) <= seen for sequence in (*parts["dev"], *parts["test"]))
    return parts


def _part(train: list[Sequence], fraction: float, seed: int) -> list[Sequence]:
    if not 0 < fraction <= 1:
        raise ValueError(f"imu_numbers: fraction must be in (0, 1], got {fraction}")
    keep = np.random.default_rng(seed).permutation(len(train))[: max(1, round(fraction * len(train)))]
    return [train[i] for i in sorted(keep)]


def _statistics(train: list[Sequence]) -> tuple[np.ndarray, np.ndarray]:
    frames = np.concatenate([sequence.frames for sequence in train]).astype(np.float64)
    return frames.mean(axis=0).astype(np.float32), np.maximum(frames.std(axis=0), 1.0).astype(np.float32)


def _words(number: int) -> str:
    from num2words import num2words

    return str(num2words(number)).replace(",", "").replace("-", " ")


def _load(path: Path) -> Any:
    if not path.is_file():
        raise ValueError(
            f"{path.parent}: the corpus imu_numbers needs the file {path.name}; docs/data.md says where to get it"
        )
    try:
        return load_arrays(path)
    except Exception as error:
        raise ValueError(f"{path}: not readable ({str(error).splitlines()[0]}); copy or download it again") from None
