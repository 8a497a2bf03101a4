"""Rotates and mirrors decoded frames as the display matrix of their file specifies.

Phones store frames in the orientation of the sensor and a rotation mark; front cameras also add a mirror mark.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from signcl.data.video.pictures import Frames

__all__ = ["Turn", "shown", "turn_of"]

Turn = tuple[bool, bool, bool]
"""Three steps, in this order: swap rows and columns, mirror left to right, mirror top to bottom."""

UPRIGHT: Turn = (False, False, False)


def turn_of(frame: Any) -> Turn:
    """The quarter turn and mirroring specified by a frame; other angles are rounded to the nearest quarter turn.

    The matrix maps a stored position (x, y) to the displayed one: x' = a x + c y, y' = b x + d y, with y pointing down.
    Its first row is a, b and its second c, d, each in 16.16 fixed point.

    Source: ISO/IEC 14496-12 section 8.3.2 (track header); same behaviour as ffmpeg's autorotate.
    """
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            a, b, _, c, d = struct.unpack("=5i", bytes(data)[:20])
            if abs(a) + abs(d) >= abs(b) + abs(c):
                return False, a < 0, d < 0
            return True, c < 0, b < 0
    return UPRIGHT


def shown(pixels: Frames, turn: Turn) -> Frames:
    """Rotates and mirrors a frame. [H, W, 3] -> [H, W, 3] or [W, H, 3]"""
    if turn == UPRIGHT:
        return pixels
    swap, across, down = turn
    pixels = pixels.transpose(1, 0, 2) if swap else pixels
    return np.ascontiguousarray(pixels[:: -1 if down else 1, :: -1 if across else 1])
