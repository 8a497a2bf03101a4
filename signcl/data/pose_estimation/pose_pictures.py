"""Draws skeletons over frames, to check key points by eye."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from signcl.data.batch import Sample
from signcl.data.files import write_bytes
from signcl.data.pose_files import read_points
from signcl.data.pose_layouts import PoseLayout
from signcl.data.segments import read_clip_into
from signcl.data.video import Frames, contact_sheet, resize_frames

__all__ = ["draw_clip", "draw_points"]

SHOWN, COLUMNS, WIDTH = 12, 4, 360
COLOURS = {"body": (40, 200, 40), "face": (230, 230, 90), "left_hand": (255, 90, 60), "right_hand": (70, 130, 255)}
"""RGB. Filled points are pink and have thinner bones."""
FILLED_COLOUR = (255, 60, 255)


def draw_clip(sample: Sample, file: Path, out: Path, fps: float | None = None) -> Path:
    """Writes a PNG with evenly spaced frames of a clip, their key points and frame numbers.

    Args:
        sample: the clip.
        file: its key points.
        out: path of the PNG.
        fps: frame rate at which the clip was read; None for its own.

    Returns:
        The path of the PNG.
    """
    import cv2

    raw = (read_points(file) or {})[file.stem]
    layout, numbers, scores = raw.placed()
    chosen: list[np.ndarray] = []

    def choose(count: int) -> np.ndarray:
        chosen.append(np.unique(np.linspace(0, count - 1, min(SHOWN, count)).round().astype(int)))
        return chosen[-1]

    def allocate(count: int, height: int, width: int) -> tuple[Frames, int, int]:
        return np.empty((count, height, width, 3), np.uint8), 0, 0

    frames = read_clip_into(sample, choose, allocate, only=None, every=False, size=None, fps=fps, damaged="read")
    pictures = []
    for frame, t in zip(frames, chosen[-1].tolist()):
        scale = WIDTH / frame.shape[1]
        picture = resize_frames(frame[None], (round(frame.shape[0] * scale), WIDTH))[0].copy()
        if t < len(numbers):
            draw_points(picture, numbers[t, 0, :, :2] * scale, scores[t, 0], layout)
        for colour, thick in (((0, 0, 0), 3), ((255, 255, 255), 1)):
            cv2.putText(picture, str(t), (6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, thick, cv2.LINE_AA)
        pictures.append(picture)
    sheet = contact_sheet(pictures, COLUMNS)
    done, encoded = cv2.imencode(".png", sheet[..., ::-1])
    if not done:
        raise ValueError(f"{out}: the picture cannot be encoded")
    write_bytes(out, encoded.tobytes())
    return out


def draw_points(picture: Any, points: np.ndarray, seen: np.ndarray, layout: PoseLayout) -> None:
    """Draws the key points of one frame into a picture.

    Args:
        picture: changed in place. [H, W, 3] uint8 RGB
        points: x and y in pixels of the picture. [K, 2]
        seen: confidence, 0 if not found. [K]
        layout: layout of the points.
    """
    import cv2

    for part in layout.parts:
        first, last = layout.ranges()[part.name]
        colour, here, sure = COLOURS[part.name], points[first:last], seen[first:last]
        guessed = part.name != "body" and bool(((sure > 0) & (sure < 1)).any())  # filled: see `FILLED`
        colour = FILLED_COLOUR if guessed else colour
        for a, b in part.edges:
            if sure[a] > 0 and sure[b] > 0:
                ends = [(round(float(here[n, 0])), round(float(here[n, 1]))) for n in (a, b)]
                cv2.line(picture, ends[0], ends[1], colour, 1 if guessed else 2, cv2.LINE_AA)
        for n in np.flatnonzero(sure > 0).tolist():
            where = (round(float(here[n, 0])), round(float(here[n, 1])))
            cv2.circle(picture, where, 1 if part.name == "face" else 2, colour, -1, cv2.LINE_AA)
