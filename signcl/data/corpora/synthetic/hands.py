"""Geometry of handshapes and orientations: joint angles, and the 3D skeleton of a hand.

A hand is modelled as a right hand in its own axes: x to the thumb side, y along the fingers, z out of the palm.
Lengths are in units of the palm length. World axes: x points right in the picture, y up, z towards the camera. A left
hand is the same hand mirrored in x.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["HAND_PARAMETERS", "handshape", "matrices", "multiply", "orientation", "skeleton", "turn"]

Array = NDArray[np.float64]

# Per finger (index, middle, ring, little): base on the palm (x, y), length, fan angle when spread.
BASE = np.array([[0.42, 0.98], [0.13, 1.04], [-0.16, 1.0], [-0.42, 0.88]])
LENGTH = np.array([1.12, 1.24, 1.14, 0.92])
FAN = np.radians([16.0, 3.0, -11.0, -26.0])
JOINTS = np.array([0.44, 0.32, 0.24])  # segment lengths, as fractions of the finger length
THUMB_ROOT = np.array([0.36, 0.22, 0.06])

# Bend of a finger: straight, curled, or half curled (degrees at its three joints).
STRAIGHT, CURLED, HALF = (4, 6, 4), (82, 100, 62), (22, 58, 42)
# Middle joint and tip of the thumb, in hand axes.
THUMBS = {
    "out": ((0.80, 0.44, 0.10), (1.20, 0.62, 0.12)),
    "far": ((0.86, 0.36, 0.10), (1.40, 0.46, 0.12)),
    "along": ((0.58, 0.56, 0.16), (0.56, 0.92, 0.22)),
    "across": ((0.46, 0.56, 0.42), (-0.02, 0.68, 0.52)),
    "ring": ((0.66, 0.62, 0.34), (0.60, 1.02, 0.62)),
    "claw": ((0.80, 0.48, 0.30), (0.98, 0.78, 0.56)),
}
# Bends of the four fingers, their spread (1 = the fan angles above), the thumb.
SHAPES: dict[str, tuple[tuple[tuple[int, int, int], ...], tuple[float, ...], str]] = {
    "fist": ((CURLED,) * 4, (0.0, 0.0, 0.0, 0.0), "across"),
    "flat": ((STRAIGHT,) * 4, (0.12, 0.12, 0.12, 0.12), "along"),
    "index": ((STRAIGHT, CURLED, CURLED, CURLED), (0.0, 0.0, 0.0, 0.0), "across"),
    "vee": ((STRAIGHT, STRAIGHT, CURLED, CURLED), (1.2, -3.0, 0.0, 0.0), "across"),
    "three": ((STRAIGHT, STRAIGHT, STRAIGHT, CURLED), (1.3, 0.5, 1.4, 0.0), "across"),
    "spread": ((STRAIGHT,) * 4, (1.3, 1.3, 1.3, 1.3), "out"),
    "claw": ((HALF,) * 4, (1.1, 1.1, 1.1, 1.1), "claw"),
    "ring": (((46, 62, 30), STRAIGHT, STRAIGHT, STRAIGHT), (0.4, 1.5, 1.4, 1.4), "ring"),
    "ell": ((STRAIGHT, CURLED, CURLED, CURLED), (0.0, 0.0, 0.0, 0.0), "out"),
    "horns": ((STRAIGHT, CURLED, CURLED, STRAIGHT), (0.6, 0.0, 0.0, 0.8), "across"),
    "little": ((CURLED, CURLED, CURLED, STRAIGHT), (0.0, 0.0, 0.0, 0.7), "across"),
    "thumb": ((CURLED,) * 4, (0.0, 0.0, 0.0, 0.0), "far"),
    "rest": (((20, 30, 20), (26, 34, 22), (30, 36, 24), (32, 38, 26)), (0.3, 0.3, 0.3, 0.3), "along"),
}
HAND_PARAMETERS = 4 * 3 + 4 + 6

# Orientation: the directions of fingers and palm, for the right hand.
DIRECTIONS = {
    "out": ((0.10, 1.0, 0.10), (0.0, 0.0, 1.0)),
    "back": ((0.15, 1.0, 0.15), (0.0, 0.0, -1.0)),
    "edge": ((0.0, 1.0, 0.20), (1.0, 0.0, 0.50)),
    "in": ((1.0, 0.12, 0.10), (0.0, 0.0, -1.0)),
    "down": ((0.80, -0.10, 0.60), (0.0, -1.0, -0.55)),
    "point": ((0.12, -1.0, 0.10), (0.0, 0.0, -1.0)),
    "rest": ((0.35, -0.9, 0.25), (0.55, 0.0, -0.8)),
    "base": ((0.9, 0.05, 0.35), (0.0, 0.75, 0.65)),
}


def handshape(name: str) -> Array:
    """A handshape as a vector that can be interpolated linearly. [HAND_PARAMETERS]

    Twelve joint angles and four fan angles in radians, then the middle joint and tip of the thumb.
    """
    bends, spread, thumb = SHAPES[name]
    return np.concatenate([np.radians(bends).ravel(), np.array(spread) * FAN, np.ravel(THUMBS[thumb])])


def orientation(name: str) -> Array:
    """The unit quaternion (w, x, y, z) that rotates hand axes to world axes. [4]"""
    fingers, palm = (np.array(vector, dtype=float) for vector in DIRECTIONS[name])
    fingers /= np.linalg.norm(fingers)
    palm -= fingers * (palm @ fingers)
    palm /= np.linalg.norm(palm)
    return _quaternion(np.stack([np.cross(fingers, palm), fingers, palm], axis=1))


def turn(axis: Array, angle: Array) -> Array:
    """Quaternions of rotations about an axis. [T] angles in radians -> [T, 4]"""
    half = np.asarray(angle)[..., None] / 2
    return np.concatenate([np.cos(half), np.sin(half) * axis], axis=-1)


def multiply(a: Array, b: Array) -> Array:
    """Quaternion product: rotates by b first, then by a. [..., 4]"""
    aw, av, bw, bv = a[..., :1], a[..., 1:], b[..., :1], b[..., 1:]
    scalar = aw * bw - (av * bv).sum(axis=-1, keepdims=True)
    return np.concatenate([scalar, aw * bv + bw * av + np.cross(av, bv)], axis=-1)


def matrices(quaternions: Array) -> Array:
    """Rotation matrices of quaternions of any length. [T, 4] -> [T, 3, 3]"""
    w, x, y, z = (quaternions / np.linalg.norm(quaternions, axis=-1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), -1, 0)


def skeleton(shape: Array, turned: Array) -> Array:
    """Positions of the parts of a hand, relative to its wrist.

    Args:
        shape: handshape vectors. [T, HAND_PARAMETERS]
        turned: orientation quaternions. [T, 4]

    Returns:
        Both ends of each segment of six parts (palm, index, middle, ring, little, thumb), in world axes and units of
        the palm length. The palm has four segments. A finger has three, and the last one is repeated. [T, 6, 4, 2, 3]
    """
    count = len(shape)
    bends = np.cumsum(shape[:, :12].reshape(count, 4, 3), axis=-1)
    fans = shape[:, 12:16]
    parts = np.zeros((count, 6, 4, 2, 3))
    steps = np.empty((count, 4, 3, 3))  # [T, finger, joint, (x, y, z)]
    reach = np.cos(bends)
    steps[..., 0] = reach * np.sin(fans)[..., None]
    steps[..., 1] = reach * np.cos(fans)[..., None]
    steps[..., 2] = np.sin(bends)
    steps *= (LENGTH[:, None] * JOINTS)[None, :, :, None]
    roots = np.concatenate([BASE, np.zeros((4, 1))], axis=1)
    joints = roots[None, :, None, :] + np.concatenate([np.zeros((count, 4, 1, 3)), np.cumsum(steps, axis=2)], axis=2)
    parts[:, 1:5, :3, 0], parts[:, 1:5, :3, 1] = joints[:, :, :3], joints[:, :, 1:]
    parts[:, 0, :, 0] = (roots * [0.55, 0.12, 1.0])[None]
    parts[:, 0, :, 1] = (roots * [0.92, 0.92, 1.0])[None]
    thumb = np.stack([np.broadcast_to(THUMB_ROOT, (count, 3)), shape[:, 16:19], shape[:, 19:22]], axis=1)
    parts[:, 5, :2, 0], parts[:, 5, :2, 1] = thumb[:, :2], thumb[:, 1:]
    parts[:, 5, 2] = parts[:, 5, 1]
    parts[:, 1:, 3] = parts[:, 1:, 2]
    result: Array = np.einsum("tij,tpsej->tpsei", matrices(turned), parts)
    return result


def _quaternion(matrix: Array) -> Array:
    """The quaternion of a rotation matrix: an eigenvector (Bar-Itzhack), which needs no special cases. [4]"""
    m = matrix
    symmetric = np.array(
        [
            [m[0, 0] + m[1, 1] + m[2, 2], m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]],
            [m[2, 1] - m[1, 2], m[0, 0] - m[1, 1] - m[2, 2], m[0, 1] + m[1, 0], m[0, 2] + m[2, 0]],
            [m[0, 2] - m[2, 0], m[0, 1] + m[1, 0], m[1, 1] - m[0, 0] - m[2, 2], m[1, 2] + m[2, 1]],
            [m[1, 0] - m[0, 1], m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], m[2, 2] - m[0, 0] - m[1, 1]],
        ]
    )
    vector = np.linalg.eigh(symmetric)[1][:, -1]
    result: Array = vector * np.sign(vector[np.abs(vector).argmax()])  # both signs are the same rotation
    return result
