"""How a decoded picture is to be shown: turned and mirrored by the display matrix of its file.

Phones store the picture as the chip saw it and say how to turn it; front cameras say to mirror it, too.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from signcl.data.video.pictures import Frames

__all__ = ["Turn", "shown", "turn_of"]

Turn = tuple[bool, bool, bool]
"""Swap rows and columns, then mirror left to right, then mirror top to bottom."""

UPRIGHT: Turn = (False, False, False)


def turn_of(frame: Any) -> Turn:
    """The quarter turn and mirroring that a frame asks for; other angles go to the nearest.

    The matrix takes the stored place (x, y) to the shown one: x' = a x + c y, y' = b x + d y, with y downwards. Its
    first row is a, b and its second c, d, each a number of 16.16 bits.

    Source: ISO/IEC 14496-12 section 8.3.2 (track header); as ffmpeg's autorotate does it.
    """
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            a, b, _, c, d = struct.unpack("=5i", bytes(data)[:20])
            if abs(a) + abs(d) >= abs(b) + abs(c):
                return False, a < 0, d < 0
            return True, c < 0, b < 0
    return UPRIGHT


def shown(pixels: Frames, turn: Turn) -> Frames:
    """A picture turned. [H, W, 3] -> [H, W, 3] or [W, H, 3]"""
    if turn == UPRIGHT:
        return pixels
    swap, across, down = turn
    pixels = pixels.transpose(1, 0, 2) if swap else pixels
    return np.ascontiguousarray(pixels[:: -1 if down else 1, :: -1 if across else 1])
