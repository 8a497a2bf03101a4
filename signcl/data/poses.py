"""Poses: .pose files (pose-format) as features, one row of normalised key points a frame.

Which points, in which order, is a `PoseLayout`: files of MediaPipe Holistic, whole (543, 553, 576 points and more) or
reduced (178), all give the same 178 points; files of OpenPose give 120. A point that was not found is zero. The package
pose-format is needed to read a file (`pip install 'signcl[pose]'`), not to train on what was read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["LAYOUTS", "PoseLayout", "PosePart", "layout_of", "read_pose"]

HAND_EDGES = tuple((0 if joint == 0 else 4 * finger + joint, 4 * finger + joint + 1)
                   for finger in range(5) for joint in range(4))  # fmt: skip
"""The wrist is point 0; every finger has four more, from the palm outwards."""
BODY_EDGES = ((0, 1), (0, 2), (2, 4), (1, 3), (3, 5), (0, 6), (1, 7), (6, 7))
FACE_CONTOURS = (
    0, 7, 10, 13, 14, 17, 21, 33, 37, 39, 40, 46, 52, 53, 54, 55, 58, 61, 63, 65, 66, 67, 70, 78, 80, 81, 82, 84, 87,
    88, 91, 93, 95, 103, 105, 107, 109, 127, 132, 133, 136, 144, 145, 146, 148, 149, 150, 152, 153, 154, 155, 157,
    158, 159, 160, 161, 162, 163, 172, 173, 176, 178, 181, 185, 191, 234, 246, 249, 251, 263, 267, 269, 270, 276, 282,
    283, 284, 285, 288, 291, 293, 295, 296, 297, 300, 308, 310, 311, 312, 314, 317, 318, 321, 323, 324, 332, 334, 336,
    338, 356, 361, 362, 365, 373, 374, 375, 377, 378, 379, 380, 381, 382, 384, 385, 386, 387, 388, 389, 390, 397, 398,
    400, 402, 405, 409, 415, 454, 466,
)  # fmt: skip
"""The points of MediaPipe's face mesh that outline face, brows, eyes and lips."""
SIDES = ("SHOULDER", "ELBOW", "WRIST", "HIP")
FINGERS = [f"THUMB_{joint}" for joint in ("CMC", "MCP", "IP", "TIP")]
FINGERS += [
    f"{finger}_{joint}"
    for finger in ("INDEX_FINGER", "MIDDLE_FINGER", "RING_FINGER", "PINKY")
    for joint in ("MCP", "PIP", "DIP", "TIP")
]


@dataclass(frozen=True)
class PosePart:
    """Points that belong together: the body, the face, a hand."""

    name: str
    component: str
    """What the file calls it."""
    points: tuple[str, ...]
    """What the file calls its points; none: takes them by number."""
    count: int
    edges: tuple[tuple[int, int], ...] = ()
    """Bones, as pairs of points of this part."""
    root: int | None = 0
    """The point that the part is seen from, for its shape; None: its mean."""


@dataclass(frozen=True)
class PoseLayout:
    """Points in the order of the features."""

    name: str
    parts: tuple[PosePart, ...]
    """The first is the body, whose first two points are the shoulders."""

    @property
    def points(self) -> int:
        """K"""
        return sum(part.count for part in self.parts)

    def ranges(self) -> dict[str, tuple[int, int]]:
        """First point of each part, and one past its last."""
        found, start = {}, 0
        for part in self.parts:
            found[part.name] = (start, start + part.count)
            start += part.count
        return found


def _mediapipe() -> PoseLayout:
    body = tuple(f"{side}_{joint}" for joint in SIDES for side in ("LEFT", "RIGHT"))
    hand = ("WRIST", *FINGERS)
    return PoseLayout("mediapipe", (
        PosePart("body", "POSE_LANDMARKS", body, len(body), BODY_EDGES, None),
        PosePart("face", "FACE_LANDMARKS", tuple(map(str, FACE_CONTOURS)), len(FACE_CONTOURS), (), None),
        PosePart("left_hand", "LEFT_HAND_LANDMARKS", hand, len(hand), HAND_EDGES),
        PosePart("right_hand", "RIGHT_HAND_LANDMARKS", hand, len(hand), HAND_EDGES),
    ))  # fmt: skip


def _openpose() -> PoseLayout:
    body = tuple(f"{side}{joint.capitalize()}" for joint in SIDES for side in ("L", "R"))
    return PoseLayout("openpose", (
        PosePart("body", "pose_keypoints_2d", body, len(body), BODY_EDGES, None),
        PosePart("face", "face_keypoints_2d", (), 70, (), None),
        PosePart("left_hand", "hand_left_keypoints_2d", (), 21, HAND_EDGES),
        PosePart("right_hand", "hand_right_keypoints_2d", (), 21, HAND_EDGES),
    ))  # fmt: skip


LAYOUTS = {layout.name: layout for layout in (_mediapipe(), _openpose())}
"""178 points of MediaPipe Holistic, 120 of OpenPose."""


def layout_of(feature_dim: int) -> tuple[PoseLayout, int]:
    """The layout behind a row of so many numbers, and numbers per point (x, y, then z and confidence where kept).

    Raises:
        ValueError: no layout has such rows.
    """
    for layout in LAYOUTS.values():
        if feature_dim % layout.points == 0 and 2 <= feature_dim // layout.points <= 4:
            return layout, feature_dim // layout.points
    known = ", ".join(f"{layout.points} points of {name}" for name, layout in LAYOUTS.items())
    raise ValueError(
        f"rows of key points have 2 to 4 numbers for each of {known}, got rows of {feature_dim}; features that are no "
        f"key points go with model.visual=feature_mlp"
    )


def read_pose(path: Path | str, *, dims: int = 2, confidence: bool = False) -> np.ndarray:
    """Key points of a .pose file as features.

    Centred between the shoulders and scaled so that they are 1 apart, both in the mean over the clip, so that neither
    the place of the signer in the picture nor the size of the picture matters; what the torso does within a clip stays.
    A point with confidence 0 is all zeros. Of several people the one with the highest mean confidence is taken.

    Args:
        path: the file.
        dims: 2 for x and y, 3 with the depth that MediaPipe estimates (unsteady).
        confidence: keep each point's confidence as one more number, so that "not found" differs from "at the centre".

    Returns:
        Rows of K points, each with its numbers side by side. [T, K * (dims + confidence)] float32

    Raises:
        ValueError: pose-format is not installed; no readable .pose file; points of neither layout; no depth in it; no
            frame with both shoulders.
        FileNotFoundError: nothing at `path`.
    """
    if dims not in (2, 3):
        raise ValueError(f"input.pose_dims: key points have 2 or 3 dimensions, got {dims}")
    pose = _opened(Path(path))
    chosen = _chosen(pose.header.components, path)
    data, seen = pose.body.data, np.asarray(pose.body.confidence, dtype=np.float32)  # [T, people, points, ...]
    if data.shape[0] == 0 or data.shape[1] == 0:
        raise ValueError(f"{path}: holds no frame with a person")
    if data.shape[3] < dims:
        raise ValueError(f"{path}: has {data.shape[3]} dimensions a point, got input.pose_dims={dims}; set it to 2")
    person = int(seen[:, :, chosen].mean(axis=(0, 2)).argmax())
    points = np.asarray(np.ma.getdata(data)[:, person, chosen, :dims], dtype=np.float32)  # [T, K, dims]
    seen = seen[:, person, chosen]  # [T, K]
    seen = np.where(np.isfinite(points).all(axis=2), seen, 0)
    both = (seen[:, :2] > 0).all(axis=1)
    if not both.any():
        raise ValueError(f"{path}: no frame shows both shoulders, by which key points are normalised")
    shoulders = points[both, :2]
    apart = float(np.linalg.norm(shoulders[:, 0, :2] - shoulders[:, 1, :2], axis=1).mean())
    if not apart > 0:
        raise ValueError(f"{path}: both shoulders stand on one point, so that key points cannot be normalised")
    rows = np.where(seen[..., None] > 0, (points - shoulders.mean(axis=(0, 1))) / apart, 0)
    if confidence:
        rows = np.concatenate([rows, seen[..., None]], axis=2)
    return np.ascontiguousarray(rows.reshape(len(rows), -1), dtype=np.float32)


def _opened(path: Path) -> Any:
    """The file as pose-format has it, or one clear line."""
    try:
        from pose_format import Pose
    except ImportError:
        raise ValueError(
            f"{path}: reading .pose files needs the package pose-format; install it with pip install 'signcl[pose]'"
        ) from None
    content = path.read_bytes()
    try:
        return Pose.read(content)
    except Exception as error:  # struct, value, memory and index errors alike mean a broken file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: not a readable .pose file ({reason}); copy or convert it again") from None


def _chosen(components: Any, path: Path | str) -> list[int]:
    """The points of a file that make up its layout, in order."""
    starts, start = {}, 0
    for component in components:
        starts[component.name] = (start, component)
        start += len(component.points)
    for layout in LAYOUTS.values():
        if layout.parts[0].component not in starts:
            continue
        chosen: list[int] = []
        for part in layout.parts:
            first, component = starts.get(part.component, (0, None))
            here = {} if component is None else {name: first + n for n, name in enumerate(component.points)}
            names = part.points or tuple(here)[: part.count]
            missing = [name for name in names if name not in here]
            if missing or len(names) < part.count:
                some = f", missing {', '.join(missing[:3])}" if here else ""
                raise ValueError(
                    f"{path}: needs {part.count} points of {part.component}, found {len(here)}{some}; write the file "
                    f"with face and both hands"
                )
            chosen += [here[name] for name in names]
        return chosen
    known = " or ".join(layout.parts[0].component for layout in LAYOUTS.values())
    raise ValueError(f"{path}: needs key points with {known}, found {', '.join(starts) or 'none'}")
