"""Long recordings read one window at a time: a video, a folder of images, features, or poses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from signcl.data.array_files import npy_head
from signcl.data.batch import Sample, Segment
from signcl.data.features import count_feature_frames, is_feature_file, part_reader
from signcl.data.joining import rate_of_features
from signcl.data.loading import load_raw, select
from signcl.data.sections import InputRecipe
from signcl.data.segments import read_clip, read_rows
from signcl.data.video import clip_rate, count_clip_frames, frames_at
from signcl.data.video.timing import other_rate

__all__ = ["Film", "open_film"]


@dataclass(frozen=True)
class Film:
    """A recording at the frame rate of a run."""

    path: Path
    num_frames: int
    fps: float
    """Frames per second of the result of `read`."""
    recipe: InputRecipe = field(repr=False)
    features: np.ndarray | None = field(default=None, repr=False)
    """The complete file, for poses and packed features: an hour of 178 points is 250 MB. [T, D]"""
    in_parts: bool = False
    """A plain array of features, of which only the part asked for is read."""
    points: Callable[[range], np.ndarray] | None = field(default=None, repr=False)
    """Reads a part of a file of key points as if it were a clip of its own."""
    places: np.ndarray | None = field(default=None, repr=False)
    """Index in the file of each frame, if a video is resampled. [T]"""
    note: str = ""
    """How it was converted."""

    def read(self, start: int, stop: int) -> np.ndarray:
        """Frames in a model's input format: uint8 RGB [T, H, W, 3], or float32 [T, D].

        Raises:
            ValueError, OSError: this part cannot be decoded.
        """
        if self.features is not None:
            return self.features[start:stop]
        if self.in_parts:
            rows = Segment(start, stop, "frames", row=str(self.path))
            return read_rows(Sample(self.path.stem, "", features=self.path, segment=rows))
        first, last, inside = start, stop, None
        if self.places is not None:
            wanted = self.places[start:stop]
            first, last = int(wanted[0]), int(wanted[-1]) + 1
            inside = wanted - first
        part = Sample(self.path.name, "", clip=self.path, segment=Segment(first, last, "frames", row=str(self.path)))
        size = self.recipe.size and (self.recipe.size, self.recipe.size)
        frames = read_clip(part, indices=inside, size=size, damaged=self.recipe.damaged)
        return select(frames, self.recipe)

    def read_sentence(self, start: int, stop: int) -> np.ndarray:
        """`read` for a translator: key points are normalised over this part alone, as they are in a clip."""
        return self.read(start, stop) if self.points is None else self.points(range(start, stop))


def open_film(path: Path, recipe: InputRecipe, wanted: float | None, given: float | None = None) -> Film:
    """Open a recording for a run.

    Args:
        recipe: how the run reads frames; its stride and maximum length are ignored.
        wanted: frames per second in training; None: unknown, so keep the file's rate.
        given: frames per second of a file that does not contain it (features, images).

    Raises:
        FileNotFoundError: no such file.
        ValueError: it cannot be read, its rate is unknown and not given, or it has features at a rate other than in
            training.
    """
    if not path.exists():
        raise FileNotFoundError(f"no recording at {path}")
    recipe = replace(recipe, stride=1, max_frames=None, fps=None)
    if is_feature_file(path):
        fps = given or rate_of_features(Sample(path.stem, "", features=path))
        if fps is None:
            trained = "" if wanted is None else f" (the run was trained at {wanted:g})"
            raise ValueError(f"{path}: features do not contain their frame rate; give --fps{trained}")
        if wanted is not None and other_rate(fps, wanted):
            raise ValueError(
                f"{path}: has {fps:g} frames per second, but the run's features had {wanted:g}; extract them "
                f"from the video at that rate"
            )
        if _is_plain(path):
            return Film(path, count_feature_frames(path), fps, recipe, in_parts=True)
        rows = load_raw(Sample(path.stem, "", features=path), recipe)
        points = part_reader(path, path.stem, recipe.pose)
        return Film(path, len(rows), fps, recipe, features=rows, points=points)
    own = None if path.is_dir() else clip_rate(path)
    if own is None:
        fps = given or wanted
        if fps is None:
            raise ValueError(f"{path}: does not contain its frame rate; give --fps")
        return Film(path, count_clip_frames(path), fps, recipe)
    if wanted is not None and other_rate(own, wanted):
        places = frames_at(path, wanted)
        if places is not None:
            note = f"{path.name}: {own:.4g} frames per second, resampled to {wanted:g}, the rate of training"
            return Film(path, len(places), wanted, recipe, places=places, note=note)
    return Film(path, count_clip_frames(path), own, recipe)


def _is_plain(path: Path) -> bool:
    """Whether a file is one array of features [T, D], of which a part can be read alone."""
    if path.suffix.lower() != ".npy" or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            shape, by_columns, dtype = npy_head(file)
    except ValueError:  # reading it says what is wrong
        return False
    return len(shape) == 2 and shape[0] > 0 and not by_columns and dtype.kind in "fiub"
