"""A long recording, read a window at a time: a video, a folder of images, features, or poses."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from signcl.data.batch import Sample, Segment
from signcl.data.features import is_feature_file
from signcl.data.joining import rate_of_features
from signcl.data.loading import load_raw, select
from signcl.data.sections import InputRecipe
from signcl.data.segments import read_clip
from signcl.data.video import clip_rate, count_clip_frames, frames_at
from signcl.data.video.timing import other_rate

__all__ = ["Film", "open_film"]


@dataclass(frozen=True)
class Film:
    """A recording at the rate that a run wants."""

    path: Path
    num_frames: int
    fps: float
    """Frames a second, of what `read` gives."""
    recipe: InputRecipe = field(repr=False)
    features: np.ndarray | None = field(default=None, repr=False)
    """The whole file, of features and poses: an hour of 178 points is 250 MB. [T, D]"""
    places: np.ndarray | None = field(default=None, repr=False)
    """Frame of the file for each frame, where a video is brought to another rate. [T]"""
    note: str = ""
    """What was done to it."""

    def read(self, start: int, stop: int) -> np.ndarray:
        """Frames as a model gets them: uint8 RGB [T, H, W, 3], or float32 [T, D].

        Raises:
            ValueError, OSError: the part cannot be decoded.
        """
        if self.features is not None:
            return self.features[start:stop]
        first, last, inside = start, stop, None
        if self.places is not None:
            wanted = self.places[start:stop]
            first, last = int(wanted[0]), int(wanted[-1]) + 1
            inside = wanted - first
        part = Sample(self.path.name, "", clip=self.path, segment=Segment(first, last, "frames", row=str(self.path)))
        size = self.recipe.size and (self.recipe.size, self.recipe.size)
        frames = read_clip(part, indices=inside, size=size, damaged=self.recipe.damaged)
        return select(frames, self.recipe)


def open_film(path: Path, recipe: InputRecipe, wanted: float | None, given: float | None = None) -> Film:
    """A recording for a run.

    Args:
        recipe: how the run reads frames; all of them are read, whatever its stride and longest clip.
        wanted: frames a second of its training; None: not known, and the file's own rate is taken.
        given: frames a second of a file that does not say it (features, images).

    Raises:
        FileNotFoundError: no such file.
        ValueError: it cannot be read, says no rate and none is given, or has features at another rate than training.
    """
    if not path.exists():
        raise FileNotFoundError(f"no recording at {path}")
    recipe = replace(recipe, stride=1, max_frames=None, fps=None)
    if is_feature_file(path):
        rows = load_raw(Sample(path.stem, "", features=path), recipe)
        fps = given or rate_of_features(Sample(path.stem, "", features=path))
        if fps is None:
            trained = "" if wanted is None else f" (the run was trained at {wanted:g})"
            raise ValueError(f"{path}: features do not say their frames a second; give --fps{trained}")
        if wanted is not None and other_rate(fps, wanted):
            raise ValueError(
                f"{path}: has {fps:g} frames a second, and the run was trained on features at {wanted:g}; extract them "
                f"from the video at that rate"
            )
        return Film(path, len(rows), fps, recipe, features=rows)
    own = None if path.is_dir() else clip_rate(path)
    if own is None:
        fps = given or wanted
        if fps is None:
            raise ValueError(f"{path}: does not say its frames a second; give --fps")
        return Film(path, count_clip_frames(path), fps, recipe)
    if wanted is not None and other_rate(own, wanted):
        places = frames_at(path, wanted)
        if places is not None:
            note = f"{path.name}: {own:.4g} frames a second, the run was trained at {wanted:g}; brought to that"
            return Film(path, len(places), wanted, recipe, places=places, note=note)
    return Film(path, count_clip_frames(path), own, recipe)
