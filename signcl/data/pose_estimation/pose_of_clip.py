"""Estimates the key points of one clip, measures their quality, fills short gaps, and writes .pose files."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from signcl.data.batch import Sample
from signcl.data.files import atomic_write
from signcl.data.pose_estimation.pose_estimator import Extractor, PoseProcess, start_holistic
from signcl.data.pose_files import RawPoints
from signcl.data.pose_layouts import BODY33, FINGERS, LAYOUTS, POINT_ORDERS
from signcl.data.pose_quality import PoseQuality, pose_quality
from signcl.data.poses import PoseReading, filled, signer_points
from signcl.data.segments import read_clip_into
from signcl.data.video import Damaged, Frames, clip_rate

__all__ = ["FILL", "Estimated", "Estimator", "estimate", "finish", "pose_bytes", "write_pose"]

FILL = 5
"""Longest gap that is filled, in frames: 0.2 s at 25 fps, about as long as motion blur hides a hand."""
FILLED = 0.5
"""Confidence of a filled point, relative to the lower one of its two neighbours in time. Detected points of hands and
face have confidence 1, so `input.pose_min_confidence: 0.5` removes filled points again."""
IN_MEMORY = 2**30  # bytes; the frames of longer clips go into a temporary file
PARTS = {"body": (0, 33), "face": (33, 501), "left_hand": (501, 522), "right_hand": (522, 543)}
SOME_RATE = 25.0  # a .pose file needs a frame rate, which folders of images do not have

# Bones of MediaPipe's body, for programs that draw .pose files.
BODY_LIMBS = (
    *((0, 1), (1, 2), (2, 3), (3, 7), (0, 4), (4, 5), (5, 6), (6, 8), (9, 10), (11, 12), (11, 13), (13, 15), (15, 17)),
    *((15, 19), (15, 21), (17, 19), (12, 14), (14, 16), (16, 18), (16, 20), (16, 22), (18, 20), (11, 23), (12, 24)),
    *((23, 24), (23, 25), (24, 26), (25, 27), (26, 28), (27, 29), (28, 30), (29, 31), (30, 32), (27, 31), (28, 32)),
)


@dataclass(frozen=True)
class Estimated:
    """The estimated key points of a clip."""

    points: np.ndarray
    """x, y and depth in pixels, confidence (0: not found). [T, 543, 4] float32"""
    quality: PoseQuality
    """Quality before gaps were filled."""
    filled: dict[str, int]
    """Part -> number of frames in which it was filled."""
    notes: tuple[str, ...]
    """Notes: frames where the tracked person may change, and problems of the clip."""
    height: int
    width: int

    def raw(self, where: str) -> RawPoints:
        """The points in the form in which a file is read."""
        order = POINT_ORDERS["mediapipe543"]
        numbers, scores = self.points[:, None, :, :3], self.points[:, None, :, 3]
        return RawPoints(where, numbers, scores, order.layout, order.columns)


def estimate(
    process: PoseProcess,
    sample: Sample,
    *,
    fill: int = FILL,
    fps: float | None = None,
    damaged: Damaged = "few",
    frames: Frames | None = None,
) -> Estimated:
    """Estimates the key points of a clip.

    Args:
        process: the process that estimates.
        sample: a sample with a clip.
        fill: gaps of at most this many frames are filled.
        fps: frame rate to which a video is resampled first; None uses every frame.
        damaged: handling of damaged videos, as in `read_frames`.
        frames: the frames, if they have been read already. [T, H, W, 3] uint8 RGB

    Raises:
        ValueError, OSError: the clip cannot be read, no person is found, or the process fails.
    """
    notes: list[str] = []
    with contextlib.ExitStack() as stack:
        if frames is None:
            frames = _read(sample, fps, damaged, notes.append, stack)
        points = process.points(frames)
        height, width = frames.shape[1:3]
        del frames
    return finish(points, str(sample.clip or sample.name), sample.name, fill, height, width, notes)


def finish(
    points: np.ndarray, where: str, name: str, fill: int, height: int, width: int, notes: Sequence[str] = ()
) -> Estimated:
    """Post-processing for any estimator: measures the quality of the points and fills short gaps.

    Args:
        points: x, y and depth in pixels, confidence. [T, 543, 4] float32
        where: the clip, for messages.
        name: the clip, for the report.
        fill: gaps of at most this many frames are filled.
        height, width: size of the frames in pixels.
        notes: existing notes on the clip.

    Raises:
        ValueError: no person is found.
    """
    if not points[:, slice(*PARTS["body"]), 3].any():
        raise ValueError(f"{where}: no person was found in any of its {len(points)} frames")
    clip = signer_points(Estimated(points, _NOTHING, {}, (), height, width).raw(where), PoseReading())
    points, again = _fill(points, fill)
    return Estimated(points, pose_quality(clip, name), again, (*notes, *clip.notes), height, width)


_NOTHING = PoseQuality("", "", 0, {}, False, False)


class Estimator:
    """Estimates key points of single clips as in training. The process starts when it is first needed.

    Args:
        extractor: the extractor used in training; None accepts any.
        python: see `start_holistic`.
    """

    def __init__(self, extractor: Extractor | None = None, python: str | Path | None = None) -> None:
        self.extractor, self.python = extractor, python
        self._process: PoseProcess | None = None

    def __call__(
        self,
        sample: Sample,
        *,
        fps: float | None = None,
        damaged: Damaged = "few",
        frames: Frames | None = None,
    ) -> Estimated:
        """See `estimate`.

        Raises:
            ValueError: the installed extractor is not the one used in training.
        """
        process = self.start()
        fill = FILL if self.extractor is None else self.extractor.fill
        try:
            return estimate(process, sample, fill=fill, fps=fps, damaged=damaged, frames=frames)
        except ValueError:
            if not process.alive():
                self.close()  # the next clip starts a new process
            raise

    def start(self) -> PoseProcess:
        """Returns the process, and starts it if necessary."""
        if self._process is None:
            process = start_holistic(self.python)
            wanted = self.extractor
            other = wanted and Extractor(
                process.extractor.estimator, process.extractor.version, process.extractor.settings, wanted.fill
            ).differs(wanted)
            if other:
                process.close()
                raise ValueError(
                    f"the run was trained on key points of {wanted}, but this environment has another extractor "
                    f"({other}); give the Python of an environment with {wanted} with --pose-python, or extract the "
                    f"training poses again and retrain"
                )
            self._process = process
        return self._process

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.close()
            self._process = None


def _read(
    sample: Sample,
    fps: float | None,
    damaged: Damaged,
    note: Callable[[str], None],
    stack: contextlib.ExitStack,
) -> Frames:
    """Reads all frames of a clip; those of a long clip go to disk."""

    def allocate(count: int, height: int, width: int) -> tuple[Frames, int, int]:
        shape = (count, height, width, 3)
        if count * height * width * 3 <= IN_MEMORY:
            return np.empty(shape, np.uint8), 0, 0
        file = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  (the stack closes it)
        return np.memmap(file, np.uint8, "w+", shape=shape), 0, 0

    only = None if sample.cut is None else range(*sample.cut)
    return read_clip_into(
        sample, np.arange, allocate, only=only, every=True, size=None, fps=fps, damaged=damaged, note=note
    )


def _fill(points: np.ndarray, longest: int) -> tuple[np.ndarray, dict[str, int]]:
    """Fills short gaps with lower confidence; returns the points and the number of filled frames per part."""
    if longest == 0:
        return points, {}
    places, seen = filled(points[..., :3], points[..., 3], longest)
    for part, wrist in (("left_hand", 15), ("right_hand", 16)):
        # Hands are lost when they move fast, but the body still has the wrist: interpolate relative to it.
        hand = slice(*PARTS[part])
        seen_from = places[:, wrist, None]  # [T, 1, 3], wrist of the filled body
        shapes, _ = filled(points[:, hand, :3] - seen_from, points[:, hand, 3], longest)
        followed = (seen[:, hand] > 0) & (seen[:, wrist, None] > 0)
        places[:, hand] = np.where(followed[..., None], shapes + seen_from, places[:, hand])
    new = (points[..., 3] == 0) & (seen > 0)
    places = np.where(new[..., None], places, points[..., :3])
    seen = np.where(new, FILLED * seen, seen)
    counts = {part: int(new[:, first:last].any(axis=1).sum()) for part, (first, last) in PARTS.items()}
    return np.concatenate([places, seen[..., None]], axis=2).astype(np.float32), {k: n for k, n in counts.items() if n}


def write_pose(path: Path, found: Estimated, fps: float | None) -> None:
    """Writes a .pose file with the 543 points of MediaPipe Holistic, under their usual names.

    Args:
        path: the file.
        found: the key points.
        fps: frame rate; None writes 25.

    Raises:
        ValueError: pose-format is not installed.
    """
    content = pose_bytes(found.points, found.height, found.width, fps or SOME_RATE)
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def pose_bytes(points: np.ndarray, height: int, width: int, fps: float) -> bytes:
    """The content of a .pose file with one person.

    Args:
        points: x, y and depth in pixels, confidence (0: not found). [T, 543, 4] float32
        height, width: size of the frames in pixels.
        fps: frame rate.

    Raises:
        ValueError: pose-format is not installed.
    """
    try:
        from pose_format import Pose
        from pose_format.numpy.pose_body import NumPyPoseBody
        from pose_format.pose_header import PoseHeader, PoseHeaderComponent, PoseHeaderDimensions
    except ImportError:
        raise ValueError(
            "writing .pose files needs the package pose-format; install it with pip install 'signcl[pose]'"
        ) from None
    hand = next(part for part in LAYOUTS["mediapipe"].parts if part.name == "left_hand")
    parts = (
        ("POSE_LANDMARKS", list(BODY33), BODY_LIMBS, (255, 0, 0)),
        ("FACE_LANDMARKS", [str(number) for number in range(468)], (), (128, 0, 0)),
        ("LEFT_HAND_LANDMARKS", ["WRIST", *FINGERS], hand.edges, (0, 128, 0)),
        ("RIGHT_HAND_LANDMARKS", ["WRIST", *FINGERS], hand.edges, (0, 0, 255)),
    )
    components = [PoseHeaderComponent(name, names, list(limbs), [c], "XYZC") for name, names, limbs, c in parts]
    points = points[:, None]  # one person
    unseen = np.repeat(points[..., 3:] == 0, 3, axis=3)
    body = NumPyPoseBody(fps, np.ma.masked_array(points[..., :3], unseen), points[..., 3])
    file = io.BytesIO()
    Pose(PoseHeader(0.2, PoseHeaderDimensions(width, height, 0), components), body).write(file)
    return file.getvalue()


def rate_of(sample: Sample, fps: float | None) -> float | None:
    """Frames per second of the key points of a clip; None if the clip has no frame rate."""
    own = None
    if sample.clip is not None:
        own = clip_rate(sample.clip)
    return None if own is None else fps or own
