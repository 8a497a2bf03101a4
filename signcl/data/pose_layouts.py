"""Layouts of key points: the points in a row of features, and the point orders of common estimators.

`LAYOUTS` are the inputs of models: named parts (body, face, hands), the same for every file of a kind. `POINT_ORDERS`
are arrays of estimators, recognised by their number of points or named by `input.pose_layout`; each lists the points
that make up its layout. docs/reading.md has the same table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = [
    "CROPPED_PARTS",
    "LAYOUTS",
    "POINT_ORDERS",
    "PointOrder",
    "PoseLayout",
    "PosePart",
    "known_orders",
    "layout_of",
    "order_of",
    "other_layout",
    "points_of",
]

HAND_EDGES = tuple((0 if joint == 0 else 4 * finger + joint, 4 * finger + joint + 1)
                   for finger in range(5) for joint in range(4))  # fmt: skip
"""The wrist is point 0; every finger has four points, from the palm outwards."""
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

BODY33 = (
    *("NOSE", "LEFT_EYE_INNER", "LEFT_EYE", "LEFT_EYE_OUTER", "RIGHT_EYE_INNER", "RIGHT_EYE", "RIGHT_EYE_OUTER"),
    *("LEFT_EAR", "RIGHT_EAR", "MOUTH_LEFT", "MOUTH_RIGHT"),
    *(
        f"{side}_{joint}"
        for joint in ("SHOULDER", "ELBOW", "WRIST", "PINKY", "INDEX", "THUMB")
        for side in ("LEFT", "RIGHT")
    ),
    *(f"{side}_{joint}" for joint in ("HIP", "KNEE", "ANKLE", "HEEL", "FOOT_INDEX") for side in ("LEFT", "RIGHT")),
)
"""MediaPipe's names of its 33 body points, in their order."""


CROPPED_PARTS = ("left_hand", "right_hand", "face")
"""Parts of which pictures can be cut out of frames."""


@dataclass(frozen=True)
class PosePart:
    """Points that belong together: the body, the face, a hand."""

    name: str
    component: str
    """Name of the part in the file."""
    points: tuple[str, ...]
    """Names of the points in the file; empty: identified by number."""
    count: int
    edges: tuple[tuple[int, int], ...] = ()
    """Bones, as pairs of points of this part."""
    root: int | None = 0
    """The point relative to which the shape of the part is computed; None: its mean."""


@dataclass(frozen=True)
class PoseLayout:
    """The points of a row of features, in order."""

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


def _mediapipe(name: str, face: bool = True, hands: bool = True) -> PoseLayout:
    body = tuple(f"{side}_{joint}" for joint in SIDES for side in ("LEFT", "RIGHT"))
    hand = ("WRIST", *FINGERS)
    parts = [PosePart("body", "POSE_LANDMARKS", body, len(body), BODY_EDGES, None)]
    if face:
        outlines = tuple(map(str, FACE_CONTOURS))
        parts.append(PosePart("face", "FACE_LANDMARKS", outlines, len(FACE_CONTOURS), (), None))
    if hands:
        parts.append(PosePart("left_hand", "LEFT_HAND_LANDMARKS", hand, len(hand), HAND_EDGES))
        parts.append(PosePart("right_hand", "RIGHT_HAND_LANDMARKS", hand, len(hand), HAND_EDGES))
    return PoseLayout(name, tuple(parts))


def _coco(name: str) -> PoseLayout:
    body = tuple(f"{side}_{joint.lower()}" for joint in SIDES for side in ("left", "right"))
    return PoseLayout(name, (
        PosePart("body", "coco_body", body, len(body), BODY_EDGES, None),
        PosePart("face", "coco_face", (), 68, (), None),
        PosePart("left_hand", "coco_left_hand", (), 21, HAND_EDGES),
        PosePart("right_hand", "coco_right_hand", (), 21, HAND_EDGES),
    ))  # fmt: skip


def _openpose(name: str) -> PoseLayout:
    body = tuple(f"{side}{joint.capitalize()}" for joint in SIDES for side in ("L", "R"))
    return PoseLayout(name, (
        PosePart("body", "pose_keypoints_2d", body, len(body), BODY_EDGES, None),
        PosePart("face", "face_keypoints_2d", (), 70, (), None),
        PosePart("left_hand", "hand_left_keypoints_2d", (), 21, HAND_EDGES),
        PosePart("right_hand", "hand_right_keypoints_2d", (), 21, HAND_EDGES),
    ))  # fmt: skip


def _uni_sign() -> PoseLayout:
    """The 69 points of COCO-WholeBody that Uni-Sign reads; arrays only, so its parts have no name in a file."""
    sides = tuple(f"{side}_{joint.lower()}" for joint in SIDES[:3] for side in ("left", "right"))
    body = (*sides, "nose", "left_ear", "right_ear")
    arms_and_head = ((0, 2), (2, 4), (1, 3), (3, 5), (6, 0), (6, 1), (6, 7), (6, 8))
    return PoseLayout("uni_sign", (
        PosePart("body", "", body, len(body), arms_and_head, None),
        PosePart("face", "", (), 18, (), 17),
        PosePart("left_hand", "", (), 21, HAND_EDGES),
        PosePart("right_hand", "", (), 21, HAND_EDGES),
    ))  # fmt: skip


LAYOUTS = {
    layout.name: layout
    for layout in (
        _mediapipe("mediapipe"),
        _openpose("openpose"),
        _coco("coco_wholebody"),
        _uni_sign(),
        _mediapipe("mediapipe_hands", face=False),
        _mediapipe("mediapipe_body", face=False, hands=False),
    )
}
"""178 points of MediaPipe Holistic, 120 of OpenPose, 118 of COCO-WholeBody and the 69 that Uni-Sign reads of it; of
MediaPipe, 50 without the face and 8 without face and hands. No two layouts have rows of the same size."""


@dataclass(frozen=True)
class PointOrder:
    """The order of points in an array [..., K, 2 to 4]."""

    name: str
    """The value of `input.pose_layout`."""
    points: int
    """K of the array."""
    layout: PoseLayout
    columns: tuple[int, ...]
    """Indices of the layout's points among the K points, in the order of the layout."""
    third: Literal["confidence", "depth"]
    """The number after x and y. A fourth number is a confidence after a depth."""
    what: str
    """Parts of the array in their order, for people."""
    by_count: bool = True
    """Whether `auto` chooses it for arrays of this many points; False: only by name."""


# The eight body points of every layout: left and right shoulder, elbow, wrist, hip.
MEDIAPIPE_BODY = (11, 12, 13, 14, 15, 16, 23, 24)
OPENPOSE_BODY25 = (5, 2, 6, 3, 7, 4, 12, 9)
OPENPOSE_BODY18 = (5, 2, 6, 3, 7, 4, 11, 8)
COCO_BODY = (5, 6, 7, 8, 9, 10, 11, 12)
# What Uni-Sign reads of COCO-WholeBody, in the order of its layout: arms, nose, ears; every second point of the jaw,
# the inner lips, the tip of the nose; both hands.
UNI_SIGN = (*(5, 6, 7, 8, 9, 10, 0, 3, 4), *range(23, 40, 2), *range(83, 91), 53, *range(91, 133))


def _run(first: int, count: int) -> tuple[int, ...]:
    return tuple(range(first, first + count))


def _after(first: int, columns: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(first + column for column in columns)


def _orders() -> tuple[PointOrder, ...]:
    full, hands, body = (LAYOUTS[name] for name in ("mediapipe", "mediapipe_hands", "mediapipe_body"))
    openpose, coco = LAYOUTS["openpose"], LAYOUTS["coco_wholebody"]
    face = FACE_CONTOURS
    return (
        PointOrder("coco_wholebody133", 133, coco, (*COCO_BODY, *_run(23, 68), *_run(91, 21), *_run(112, 21)),
                   "confidence", "body 17, feet 6, face 68, left hand 21, right hand 21"),
        PointOrder("uni_sign133", 133, LAYOUTS["uni_sign"], UNI_SIGN,
                   "confidence", "body 17, feet 6, face 68, left hand 21, right hand 21, as Uni-Sign's code reads them",
                   by_count=False),
        PointOrder("openpose137", 137, openpose, (*OPENPOSE_BODY25, *_run(25, 112)),
                   "confidence", "body 25, face 70, left hand 21, right hand 21"),
        PointOrder("openpose130", 130, openpose, (*OPENPOSE_BODY18, *_run(18, 112)),
                   "confidence", "body 18, face 70, left hand 21, right hand 21"),
        PointOrder("mediapipe543", 543, full,
                   (*MEDIAPIPE_BODY, *_after(33, face), *_run(501, 21), *_run(522, 21)),
                   "depth", "body 33, face 468, left hand 21, right hand 21"),
        PointOrder("mediapipe543_face_first", 543, full,
                   (*_after(489, MEDIAPIPE_BODY), *face, *_run(468, 21), *_run(522, 21)),
                   "depth", "face 468, left hand 21, body 33, right hand 21"),
        PointOrder("mediapipe553", 553, full,
                   (*MEDIAPIPE_BODY, *_after(33, face), *_run(511, 21), *_run(532, 21)),
                   "depth", "body 33, face 478, left hand 21, right hand 21"),
        PointOrder("mediapipe178", 178, full, _run(0, 178),
                   "depth", "body 8, face 128, left hand 21, right hand 21"),
        PointOrder("mediapipe75", 75, hands, (*MEDIAPIPE_BODY, *_run(33, 42)),
                   "depth", "body 33, left hand 21, right hand 21"),
        PointOrder("mediapipe33", 33, body, MEDIAPIPE_BODY, "depth", "body 33"),
    )  # fmt: skip


POINT_ORDERS = {order.name: order for order in _orders()}
"""By the value of `input.pose_layout`."""


def known_orders() -> str:
    """All known orders in one line, for messages."""
    return "; ".join(f"{order.name} ({order.what})" for order in POINT_ORDERS.values())


def order_of(points: int, name: str, where: str) -> PointOrder:
    """Finds the order of points in an array.

    Args:
        points: K of the array.
        name: a key of `POINT_ORDERS`, or `auto` to choose by K.
        where: the file, for messages.

    Raises:
        ValueError: a name that is unknown or has a different K; a K that no order has, or several.
    """
    if name != "auto":
        if name not in POINT_ORDERS:
            raise ValueError(f"input.pose_layout={name}: unknown; known are auto, {', '.join(POINT_ORDERS)}")
        order = POINT_ORDERS[name]
        if order.points != points:
            raise ValueError(
                f"{where}: input.pose_layout={name} needs {order.points} points ({order.what}), got {points}; set it "
                f"to auto or to the order in the file"
            )
        return order
    fitting = [order for order in POINT_ORDERS.values() if order.points == points and order.by_count]
    if not fitting:
        raise ValueError(
            f"{where}: {points} points are no known layout of key points; known are {known_orders()}; features other "
            f"than key points need [T, D]"
        )
    if len(fitting) > 1:
        names = " or ".join(f"{order.name} ({order.what})" for order in fitting)
        raise ValueError(
            f"{where}: arrays of {points} points can have {len(fitting)} orders; choose yours with "
            f"input.pose_layout={names}"
        )
    return fitting[0]


def layout_of(feature_dim: int) -> tuple[PoseLayout, int]:
    """The layout of rows of this size, and the numbers per point (x, y, then z and confidence if kept).

    Raises:
        ValueError: no layout has rows of this size.
    """
    for layout in LAYOUTS.values():
        if feature_dim % layout.points == 0 and 2 <= feature_dim // layout.points <= 4:
            return layout, feature_dim // layout.points
    known = ", ".join(f"{layout.points} points of {name}" for name, layout in LAYOUTS.items())
    raise ValueError(
        f"rows of key points have 2 to 4 numbers for each of {known}, got rows of {feature_dim}; for features other "
        f"than key points, use model.visual=feature_mlp"
    )


def points_of(feature_dim: int) -> str:
    """The name of the layout whose rows have this size; "" if they are not key points."""
    try:
        return layout_of(feature_dim)[0].name
    except ValueError:
        return ""


def other_layout(trained: int, came: int) -> str:
    """Explains why key points of one size do not fit a model trained on another; "" if they are not key points.

    Args:
        trained: numbers per row in training.
        came: numbers per row of the clip.
    """
    try:
        (needs, numbers), (has, other) = layout_of(trained), layout_of(came)
    except ValueError:
        return ""
    if needs is has:
        return (
            f"the model was trained on {needs.name} key points with {numbers} numbers per point, these have {other}; "
            f"read them with its input.pose_dims and input.pose_confidence"
        )
    counts = {part.name: part.count for part in has.parts}
    lacks = [part.name for part in needs.parts if part.name not in counts]
    differ = [
        f"{part.name} ({part.count} points, here {counts[part.name]})"
        for part in needs.parts
        if part.name in counts and counts[part.name] != part.count
    ]
    why = f"missing {', '.join(lacks)}" if lacks else f"its {', '.join(differ)} differ" if differ else ""
    more = sorted(set(counts) - {part.name for part in needs.parts})
    why = why or f"the model does not use {', '.join(more)}"
    return (
        f"the model was trained on {needs.name} key points ({_parts(needs)}), these are {has.name} ({_parts(has)}): "
        f"{why}; extract the same kind of key points as in training"
    )


def _parts(layout: PoseLayout) -> str:
    return ", ".join(f"{part.name} {part.count}" for part in layout.parts)
