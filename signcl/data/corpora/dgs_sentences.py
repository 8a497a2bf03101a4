"""32 sentences of continuous German Sign Language as poses, with German, English and timed glosses.

The sample data set of the project fluent-pose-synthesis (content: Public DGS Corpus), in its original layout:

    ROOT/SPLIT_N_original.pose, SPLIT_N_metadata.json     SPLIT train or test, N 1..16

Far too small for learning; use it to try poses with the package, and density on real signing.

The poses are not the original recordings: each sign was cut out by its annotated times, and the pieces were joined by
three linearly interpolated frames. The annotated times are therefore not frames of the pose. The joins show where each
sign begins and ends, because all points move in a straight line there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from signcl.data.annotation.table_files import OnError, has_words, stop
from signcl.data.batch import Sample, Span
from signcl.data.corpora._layout import Layout
from signcl.data.json_files import read_json
from signcl.data.poses import read_pose
from signcl.data.progress import say

__all__ = ["joined_signs", "samples"]

JOIN = 3  # interpolated frames between two signs
STRAIGHT = 1e-4  # shoulder widths: smaller second differences are rounding errors of a straight line
LANGUAGES = ("german", "english")

LAYOUT = Layout(
    files=("train_*_metadata.json", "test_*_metadata.json"),
    about="32 sentences of German Sign Language as poses",
    published="https://github.com/sign-language-processing/fluent-pose-synthesis (its sample data)",
    needs="SPLIT_N_metadata.json and SPLIT_N_original.pose",
)


def samples(
    root: Path,
    split: str,
    *,
    language: str = "german",
    dev: str = "test",
    spans: bool = True,
    on_error: OnError = stop,
) -> list[Sample]:
    """Reads the sentences of one split; sentences without a text in that language are left out and reported.

    Args:
        root: the folder of the files.
        split: `train` (16 sentences), `test` (16) or `dev`, which the data set does not have.
        language: german or english.
        dev: which split to use as dev; `train` to watch a model overfit.
        spans: read each pose to find the frames of its signs (needs pose-format).
        on_error: called with each broken file; by default the first one is raised.

    Raises:
        ValueError: no such files, broken metadata, an unknown language, or a pose that cannot be read.
    """
    if language not in LANGUAGES:
        raise ValueError(f"corpus.options.language: needs one of {', '.join(LANGUAGES)}, got {language!r}")
    if dev not in ("train", "test"):
        raise ValueError(f"corpus.options.dev: needs train or test, got {dev!r}")
    if split not in ("train", "dev", "test"):
        raise ValueError(f"{root}: dgs_sentences has the splits train, test and dev, got {split!r}")
    source = dev if split == "dev" else split
    files = sorted(root.glob(f"{source}_*_metadata.json"), key=lambda path: (len(path.name), path.name))
    if not files:
        raise ValueError(f"{root}: split {split} needs files {source}_N_metadata.json, found none")
    found, silent, unjoined = [], [], []
    for file in files:
        name = file.name.removesuffix("_metadata.json")
        try:
            sentence = _sentence(file)
            text = str(sentence[language]).strip()
            if not has_words(text):
                silent.append(name)
                continue
            pose = file.with_name(f"{name}_original.pose")
            if not pose.is_file():
                raise ValueError(f"{file}: its pose {pose.name} is missing")
            gloss = tuple(map(str, sentence["glosses"]["gloss"]))
            frames, pieces = _pieces(pose) if spans else (None, [])
            if spans and len(pieces) != len(gloss):
                unjoined.append(name)
                pieces = []
            signs = tuple(Span(g, start, end) for g, (start, end) in zip(gloss, pieces))
            found.append(Sample(name, text, features=pose, gloss=gloss, num_frames=frames, spans=signs))
        except ValueError as error:
            on_error(error)
    if silent:
        say(f"{root}: {len(silent)} sentences of {split} have no {language} text and are left out: {', '.join(silent)}")
    if unjoined:
        say(f"{root}: {len(unjoined)} sentences of {split} get no spans, because their joins are unclear: {unjoined}")
    return found


def joined_signs(points: np.ndarray) -> list[tuple[int, int]]:
    """Finds (start, stop) of each sign in a pose whose signs are joined by linear interpolation.

    Args:
        points: key points, zero if not found. [T, D]
    """
    straight = np.zeros(len(points), dtype=bool)
    straight[1:-1] = np.abs(points[2:] - 2 * points[1:-1] + points[:-2]).max(axis=1) < STRAIGHT
    edges = np.flatnonzero(np.diff(np.concatenate([[0], straight.astype(np.int8), [0]])))
    joins: list[tuple[int, int]] = []
    for start, end in edges.reshape(-1, 2).tolist():
        if end - start < JOIN:
            continue
        if end - start >= 2 * JOIN:  # a very short sign between two joins, because two frames are always straight
            joins += [(start, start + JOIN), (end - JOIN, end)]
        elif start == 1:  # the second frame of a first sign with two frames
            joins.append((end - JOIN, end))
        else:
            joins.append((start, start + JOIN))
    starts = [0, *(end for _, end in joins)]
    stops = [*(start for start, _ in joins), len(points)]
    return [(start, end) for start, end in zip(starts, stops) if end > start]


def _pieces(pose: Path) -> tuple[int, list[tuple[int, int]]]:
    points = read_pose(pose)
    return len(points), joined_signs(points)


def _sentence(file: Path) -> dict[str, Any]:
    """Reads the sentence of a metadata file."""
    shape = {"sentence": {**dict.fromkeys(LANGUAGES, str), "glosses": {"gloss": [str]}}}
    needed = "it needs sentence.german, .english and .glosses.gloss"
    return dict(read_json(file, shape, needed, _check_glosses)["sentence"])


def _check_glosses(found: dict[str, Any]) -> None:
    if not found["sentence"]["glosses"]["gloss"]:
        raise ValueError("sentence.glosses.gloss: needs at least one gloss, got none")
