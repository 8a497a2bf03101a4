"""Operations on frame arrays: choosing frames, resizing them, arranging them in a contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Fit", "Frames", "Indices", "contact_sheet", "resize_frame", "resize_frames", "sample_indices"]

Frames = NDArray[np.uint8]
Indices = NDArray[np.int64]
Fit = Literal["stretch", "crop", "pad"]


def sample_indices(num_frames: int, max_frames: int | None, generator: np.random.Generator | None = None) -> Indices:
    """Chooses at most `max_frames` frames of a clip.

    Without a generator the choice is deterministic: the middle frames of `max_frames` equal intervals. With a
    generator it is a random subset in temporal order. A clip that is short enough keeps every frame.

    Args:
        num_frames: T, frames of the clip.
        max_frames: maximum number of frames; None keeps all.
        generator: for training only.

    Returns:
        Frame indices, ascending, without repeats. [min(T, max_frames)] int64

    Raises:
        ValueError: max_frames below 1.

    Source: released code of GFSLT, sheet section 3: the random subset. Released code: also on dev and test, so
        its scores differ from run to run; here evaluation is deterministic.
    """
    if max_frames is None or num_frames <= max_frames:
        return np.arange(num_frames)
    if max_frames < 1:
        raise ValueError(f"max_frames must be at least 1, got {max_frames}; leave it out to keep every frame")
    if generator is not None:
        return np.sort(generator.choice(num_frames, size=max_frames, replace=False))
    return (2 * np.arange(max_frames) + 1) * num_frames // (2 * max_frames)


def resize_frames(frames: Frames, size: int | tuple[int, int], fit: Fit = "stretch") -> Frames:
    """Resizes frames; averages over pixel areas when shrinking, interpolates bilinearly when enlarging.

    Args:
        frames: [T, H, W, 3] uint8
        size: (height, width), or one number for a square.
        fit: "stretch" scales height and width independently, which keeps the full frame but distorts shapes (GFSLT
            does this to 210 x 260 pixels); "crop" keeps the aspect ratio and cuts equally from both ends of the longer
            side; "pad" keeps the aspect ratio and fills with black.

    Returns:
        [T, height, width, 3] uint8; the input itself if it already has this size.

    Raises:
        ValueError: a size below 1 or an unknown `fit`.
    """
    height, width = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
    if min(height, width) < 1 or fit not in ("stretch", "crop", "pad"):
        raise ValueError(f"need a size of at least 1 pixel and fit stretch, crop or pad; got size={size}, fit={fit!r}")
    if frames.shape[1:3] == (height, width):
        return frames
    return np.stack([resize_frame(frame, (height, width), fit) for frame in frames])


def contact_sheet(frames: Frames | Sequence[Frames], columns: int, *, gap: int = 2, background: int = 255) -> Frames:
    """Arranges frames in rows, left to right and top to bottom, as one image (a filmstrip if there is one row).

    Args:
        frames: frames of equal size. [T, H, W, 3] uint8
        columns: frames per row.
        gap: pixels between frames.
        background: grey value of gaps and empty cells.

    Returns:
        One image. [rows * (H + gap) - gap, columns * (W + gap) - gap, 3] uint8

    Raises:
        ValueError: no frames or fewer than one column.
    """
    if len(frames) == 0 or columns < 1:
        raise ValueError(f"a contact sheet needs at least 1 frame and 1 column, got {len(frames)} and {columns}")
    height, width = frames[0].shape[:2]
    rows = -(-len(frames) // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), background, np.uint8)
    for number, frame in enumerate(frames):
        top, left = (number // columns) * (height + gap), (number % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = frame
    return sheet


def resize_frame(frame: Frames, size: tuple[int, int], fit: Fit = "stretch", out: Frames | None = None) -> Frames:
    """Resizes one frame; see `resize_frames`.

    Args:
        out: contiguous array of that size to write to; None allocates one.

    Returns:
        [height, width, 3] uint8; `out` if it was given.
    """
    import cv2

    height, width = size
    if min(height, width) < 1 or fit not in ("stretch", "crop", "pad"):
        raise ValueError(f"need a size of at least 1 pixel and fit stretch, crop or pad; got size={size}, fit={fit!r}")
    old_height, old_width = frame.shape[:2]
    new_height, new_width = height, width
    if fit != "stretch":
        scales = (height / old_height, width / old_width)
        scale = max(scales) if fit == "crop" else min(scales)
        new_height, new_width = max(1, round(old_height * scale)), max(1, round(old_width * scale))
    shrinks = new_height * new_width < old_height * old_width
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    if fit == "stretch":
        return np.asarray(cv2.resize(frame, (width, height), dst=out, interpolation=method), np.uint8)
    image = np.asarray(cv2.resize(frame, (new_width, new_height), interpolation=method), np.uint8)
    out = np.empty((height, width, 3), np.uint8) if out is None else out
    if fit == "crop":
        top, left = (new_height - height) // 2, (new_width - width) // 2
        out[:] = image[top : top + height, left : left + width]
    else:
        out[:] = 0
        top, left = (height - new_height) // 2, (width - new_width) // 2
        out[top : top + new_height, left : left + new_width] = image
    return out
