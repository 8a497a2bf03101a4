"""The key points of one clip: decoded, estimated, short gaps filled, measured; and the .pose file of them."""

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
"""Frames of a gap that is filled: 0.2 s at 25 frames a second, about as long as a hand is lost to motion blur."""
FILLED = 0.5
"""A filled point has this share of the lower confidence of the two around: points of hands and face that were seen
have 1, so that `input.pose_min_confidence: 0.5` takes filled ones out again."""
IN_MEMORY = 2**30  # bytes; the frames of a longer clip lie in a temporary file
PARTS = {"body": (0, 33), "face": (33, 501), "left_hand": (501, 522), "right_hand": (522, 543)}
SOME_RATE = 25.0  # of a .pose file must be said; folders of images have none

# Bones of MediaPipe's body, for programs that draw .pose files.
BODY_LIMBS = (
    *((0, 1), (1, 2), (2, 3), (3, 7), (0, 4), (4, 5), (5, 6), (6, 8), (9, 10), (11, 12), (11, 13), (13, 15), (15, 17)),
    *((15, 19), (15, 21), (17, 19), (12, 14), (14, 16), (16, 18), (16, 20), (16, 22), (18, 20), (11, 23), (12, 24)),
    *((23, 24), (23, 25), (24, 26), (25, 27), (26, 28), (27, 29), (28, 30), (29, 31), (30, 32), (27, 31), (28, 32)),
)


@dataclass(frozen=True)
class Estimated:
    """The key points of a clip."""

    points: np.ndarray
    """x, y and depth in pixels, confidence (0: not found). [T, 543, 4] float32"""
    quality: PoseQuality
    """Of what was estimated, before gaps were filled."""
    filled: dict[str, int]
    """Frames in which a part was filled in."""
    notes: tuple[str, ...]
    """Where the person may be another one, and what was wrong with the clip."""
    height: int
    width: int

    def raw(self, where: str) -> RawPoints:
        """As a file of them would be read."""
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
    """The key points of a clip.

    Args:
        process: estimates them.
        sample: with a clip.
        fill: gaps of at most so many frames are filled.
        fps: rate that a video is brought to first.
        damaged: as of `read_frames`.
        frames: of the clip, where they were read before. [T, H, W, 3] uint8 RGB

    Raises:
        ValueError, OSError: the clip cannot be read, nobody is in it, or the process fails.
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
    """What follows the estimating, whoever estimated: the points are measured, and short gaps filled.

    Args:
        points: x, y and depth in pixels, confidence. [T, 543, 4] float32
        where: the clip, for messages.
        name: the clip, for the report.
        fill: gaps of at most so many frames are filled.
        notes: what is to be said of the clip already.

    Raises:
        ValueError: nobody is in it.
    """
    if not points[:, slice(*PARTS["body"]), 3].any():
        raise ValueError(f"{where}: no person was found in any of its {len(points)} frames")
    clip = signer_points(Estimated(points, _NOTHING, {}, (), height, width).raw(where), PoseReading())
    points, again = _fill(points, fill)
    return Estimated(points, pose_quality(clip, name), again, (*notes, *clip.notes), height, width)


_NOTHING = PoseQuality("", "", 0, {}, False, False)


class Estimator:
    """The key points of single clips, as those of a training were made; the process starts when it is first needed.

    Args:
        extractor: of the training; None takes what there is.
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
            ValueError: what is installed is another extractor than that of the training.
        """
        process = self.start()
        fill = FILL if self.extractor is None else self.extractor.fill
        try:
            return estimate(process, sample, fill=fill, fps=fps, damaged=damaged, frames=frames)
        except ValueError:
            if not process.alive():
                self.close()  # the next clip gets another process
            raise

    def start(self) -> PoseProcess:
        """The process, started where it does not run."""
        if self._process is None:
            process = start_holistic(self.python)
            wanted = self.extractor
            other = wanted and Extractor(
                process.extractor.estimator, process.extractor.version, process.extractor.settings, wanted.fill
            ).differs(wanted)
            if other:
                process.close()
                raise ValueError(
                    f"the run was trained on key points of {wanted}, and this environment has another extractor "
                    f"({other}); give the Python of one that has {wanted} with --pose-python, or extract the training "
                    f"poses again and train on those"
                )
            self._process = process
        return self._process

    def close(self) -> None:
        """End the process."""
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
    """All frames of a clip, those of a long one on disk."""

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
    """Short gaps filled, with a confidence that says so; frames of each part that were."""
    if longest == 0:
        return points, {}
    places, seen = filled(points[..., :3], points[..., 3], longest)
    for part, wrist in (("left_hand", 15), ("right_hand", 16)):
        # A lost hand is a fast one. The body keeps its wrist, so the shape is interpolated as seen from there.
        hand = slice(*PARTS[part])
        seen_from = places[:, wrist, None]  # [T, 1, 3], of the filled body
        shapes, _ = filled(points[:, hand, :3] - seen_from, points[:, hand, 3], longest)
        followed = (seen[:, hand] > 0) & (seen[:, wrist, None] > 0)
        places[:, hand] = np.where(followed[..., None], shapes + seen_from, places[:, hand])
    new = (points[..., 3] == 0) & (seen > 0)
    places = np.where(new[..., None], places, points[..., :3])
    seen = np.where(new, FILLED * seen, seen)
    counts = {part: int(new[:, first:last].any(axis=1).sum()) for part, (first, last) in PARTS.items()}
    return np.concatenate([places, seen[..., None]], axis=2).astype(np.float32), {k: n for k, n in counts.items() if n}


def write_pose(path: Path, found: Estimated, fps: float | None) -> None:
    """Write a .pose file: 543 points of MediaPipe Holistic under the names that the field gives them.

    Raises:
        ValueError: pose-format is not installed.
    """
    content = pose_bytes(found.points, found.height, found.width, fps or SOME_RATE)
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def pose_bytes(points: np.ndarray, height: int, width: int, fps: float) -> bytes:
    """The content of a .pose file of one person.

    Args:
        points: x, y and depth in pixels, confidence (0: not found). [T, 543, 4] float32

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
    """Frames a second of a clip's key points; None where the clip has no times."""
    own = None
    if sample.clip is not None:
        own = clip_rate(sample.clip)
    return None if own is None else fps or own
