"""Estimates key points of videos for pose runs, with the extractor, filling, normalisation and frame rate of
training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from signcl.data.batch import Sample
from signcl.data.pose_estimation import (
    Estimated,
    Estimator,
    PoseKind,
    browser_differs,
    extract_poses,
    finish,
    start_holistic,
)
from signcl.data.pose_files import read_points
from signcl.data.pose_layouts import POINT_ORDERS
from signcl.data.poses import pose_rows
from signcl.data.progress import say
from signcl.data.video import Damaged, Frames
from signcl.training.recipe import InputRecipe

__all__ = ["PoseReader", "browser_rows", "with_estimated_poses"]

ALL_POINTS = POINT_ORDERS["mediapipe543"].points


@dataclass
class PoseReader:
    """Computes the input features of a pose run from videos, one at a time."""

    kind: PoseKind
    """Kind of key points in training."""
    estimator: Estimator

    @classmethod
    def of(cls, kind: PoseKind | None, python: str | None = None) -> PoseReader | None:
        """A reader for a run of this kind; None if it is not a pose run."""
        return None if kind is None else cls(kind, Estimator(kind.extractor, python))

    def check(self) -> None:
        """Check, before the first clip, that estimation is possible.

        Raises:
            ValueError, OSError: as in `rows`.
        """
        check_known(self.kind)
        self.estimator.start()

    def rows(
        self,
        sample: Sample,
        recipe: InputRecipe,
        note: Callable[[str], None],
        *,
        frames: Frames | None = None,
        damaged: Damaged | None = None,
    ) -> np.ndarray:
        """Features of a clip, equivalent to those read from .pose files in training.

        Args:
            sample: a sample with a clip.
            recipe: the run's `input` section, with the frame rate that videos are resampled to.
            note: called with one line per possible problem.
            frames: frames of the clip, if already read.

        Returns:
            [T, D] float32

        Raises:
            ValueError, OSError: the extractor of the training is unknown or not installed; the clip cannot be read or
                shows no person.
        """
        check_known(self.kind)
        how = damaged or recipe.damaged
        found = self.estimator(sample, fps=recipe.fps, damaged=how, frames=frames)
        return _rows(found, sample.name, recipe, note)


def browser_rows(path: Path, kind: PoseKind, recipe: InputRecipe, note: Callable[[str], None]) -> np.ndarray:
    """Features of a .pose file that a page made of a clip in the browser (`BROWSER_EXTRACTOR`).

    What follows the estimating is done here, as for a video: gaps are filled as in the training.

    Args:
        path: with 543 points of one person, gaps unfilled.
        kind: of the training.
        recipe, note: as of `PoseReader.rows`.

    Raises:
        ValueError: the training's extractor is not known, or its key points are not compatible with those of the
            browser; or the file is none of 543 points, or shows nobody.
    """
    check_known(kind)
    assert kind.extractor is not None
    other = browser_differs(kind.extractor)
    if other:
        raise ValueError(
            f"key points of the browser cannot stand in for those of the training ({other}); send the video, or key "
            f"points of the training's extractor"
        )
    raw = next(iter((read_points(path) or {}).values()), None)
    if raw is None or raw.scores is None or raw.numbers.shape[1:] != (1, ALL_POINTS, 3):
        raise ValueError(f"{path}: needs the {ALL_POINTS} points of one person, as the page makes them")
    points = np.concatenate([raw.numbers[:, 0], raw.scores[:, 0, :, None]], axis=2)
    return _rows(finish(points, str(path), path.stem, kind.extractor.fill, 0, 0), path.stem, recipe, note)


def _rows(found: Estimated, name: str, recipe: InputRecipe, note: Callable[[str], None]) -> np.ndarray:
    """Features of the key points of a clip, and what is to be said of them."""
    for line in found.notes:
        note(line)
    lacks, count = found.quality.lacks, len(found.points)
    if lacks.get("hands", 0) > count / 2:
        note(f"no hand was found in {lacks['hands']} of {count} frames")
    return pose_rows(found.raw(name), recipe.pose)


def check_known(kind: PoseKind) -> None:
    """Raise ValueError for a run that does not record the extractor of its key points."""
    if kind.extractor is None:
        raise ValueError(
            f"the run does not record the extractor of its {kind.layout} key points, so a video cannot be "
            f"converted; give key points of that extractor instead of the video, or train on key points of "
            f"`signcl pose`, which records it"
        )


def with_estimated_poses(
    samples: Sequence[Sample], kind: PoseKind, folder: str | Path, python: str | None = None, *, progress: bool = True
) -> tuple[list[Sample], dict[str, str]]:
    """Replace videos of samples by key points, estimated into a folder or already there.

    Returns:
        The samples with key points; and the others, with reasons.

    Raises:
        ValueError, OSError: as in `PoseReader.rows` and `extract_poses`.
    """
    check_known(kind)
    assert kind.extractor is not None
    videos = [sample for sample in samples if sample.clip is not None]
    say(f"estimating the key points of {len(videos)} clips into {folder}, as {kind.extractor} did for the training")
    checked = Estimator(kind.extractor, python)
    checked.start()  # raises for an extractor other than that of training, before anything is written
    checked.close()
    report = extract_poses(
        videos,
        folder,
        lambda: start_holistic(python),
        fill=kind.extractor.fill,
        fps=kind.fps,
        progress=progress,
    )
    made = {
        sample.name: replace(
            sample, features=Path(folder) / f"{sample.name}.pose", clip=None, num_frames=None, cut=None, segment=None
        )
        for sample in videos
        if sample.name not in report.broken
    }
    kept = [made.get(sample.name, sample) for sample in samples if sample.name not in report.broken]
    return kept, report.broken
