"""One picture of a clip: frames spread over the clip, with sentences below them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from signcl.data.files import atomic_write
from signcl.data.video import contact_sheet, resize_frames

__all__ = ["clip_picture"]

FRAMES, COLUMNS, SIDE, LINE = 10, 5, 160, 26


def clip_picture(frames: NDArray[np.uint8], lines: Mapping[str, str], path: Path) -> Path:
    """Write a PNG of frames in rows, with a line of text below for each entry.

    Args:
        frames: the clip, RGB. [T, H, W, 3]
        lines: text by its label, such as {"translated": "you sleep ."}.
        path: the .png.
    """
    chosen = np.linspace(0, len(frames) - 1, min(FRAMES, len(frames))).round().astype(int)
    sheet = contact_sheet(resize_frames(frames[chosen], SIDE, "pad"), min(COLUMNS, len(chosen)))
    picture = Image.new("RGB", (sheet.shape[1], sheet.shape[0] + LINE * len(lines) + 10), "white")
    picture.paste(Image.fromarray(sheet))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(16)
    for number, (label, text) in enumerate(lines.items()):
        draw.text((8, sheet.shape[0] + 6 + LINE * number), f"{label}: {text}", fill="black", font=font)
    with atomic_write(path) as temporary:
        picture.save(temporary, format="PNG")
    return path
