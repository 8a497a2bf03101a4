"""A small distance-field rasteriser: paints soft-edged capsules and ellipses on many frames at once.

The distance of a pixel centre to the edge of a shape gives its coverage (full from half a pixel inside). Its depth
inside the shape gives the shading. Only a window around the shape is computed. The position of the window differs
from frame to frame but its size does not, so one array operation handles many frames.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

__all__ = ["Canvas"]

Array = NDArray[np.float32]
Distance = Callable[[slice, Array, Array], Array]
"""Slice of frames, pixel x [t, 1, w], pixel y [t, h, 1] -> distance to the edge, negative inside. [t, h, w]"""
BLOCK = 60_000  # pixels processed at a time; larger blocks do not fit into the CPU cache


class Canvas:
    """Frames to paint on. Coordinates are pixels: x right, y down, (0.5, 0.5) is the centre of the first pixel."""

    def __init__(self, frames: Array) -> None:
        """Paints on `frames` in place. [T, H, W, 3] float32, 0..255"""
        self.frames = frames

    def capsules(
        self, ends: NDArray[np.float64], radii: NDArray[np.float64], colour: NDArray[np.float64], rim: float = 0.35
    ) -> None:
        """Paints the union of K tapered capsules in one colour.

        Args:
            ends: both ends of each capsule. [T, K, 2, 2] (x, y)
            radii: radii at both ends. [T, K, 2], or [K, 2] for all frames
            colour: [3], or [T, 3]
            rim: how much darker the edge is than the centre, 0..1.
        """
        points = ends.astype(np.float32)
        widths = np.broadcast_to(radii, points.shape[:-1]).astype(np.float32)
        low = (points - widths[..., None]).min(axis=(1, 2)) - 1.0
        high = (points + widths[..., None]).max(axis=(1, 2)) + 1.0

        def distance(some: slice, x: Array, y: Array) -> Array:
            result: Array | None = None
            for k in range(points.shape[1]):
                a, b, r = points[some, k, 0], points[some, k, 1], widths[some, k]
                along = b - a
                inverse = 1.0 / np.maximum((along * along).sum(axis=-1), 1e-6)
                ax, ay = x - a[:, 0, None, None], y - a[:, 1, None, None]
                scaled = (along * inverse[:, None])[..., None, None]
                share = ax * scaled[:, 0] + ay * scaled[:, 1]
                np.clip(share, 0.0, 1.0, out=share)
                dx = share * -along[:, 0, None, None]
                dx += ax
                dy = share * -along[:, 1, None, None]
                dy += ay
                dx *= dx
                dy *= dy
                dx += dy
                np.sqrt(dx, out=dx)
                share *= (r[:, 1] - r[:, 0])[:, None, None]
                share += r[:, 0, None, None]
                dx -= share
                result = dx if result is None else np.minimum(result, dx, out=result)
            assert result is not None
            return result

        self._paint(low, high, distance, widths.max(axis=(1, 2)), colour, rim)

    def ellipse(
        self,
        centre: NDArray[np.float64],
        radii: NDArray[np.float64],
        colour: NDArray[np.float64],
        rim: float = 0.0,
    ) -> None:
        """Paints an axis-aligned ellipse.

        Args:
            centre: [T, 2] (x, y)
            radii: half width and half height, [T, 2] or [2].
            colour: [3], or [T, 3]
            rim: how much darker the edge is than the centre, 0..1.
        """
        middle = centre.astype(np.float32)
        axes = np.maximum(np.broadcast_to(radii, centre.shape), 0.05).astype(np.float32)

        def distance(some: slice, x: Array, y: Array) -> Array:
            rx, ry = axes[some, 0, None, None], axes[some, 1, None, None]
            ux, uy = (x - middle[some, 0, None, None]) / rx, (y - middle[some, 1, None, None]) / ry
            # First-order distance: the implicit function divided by the norm of its gradient.
            level = np.sqrt(ux * ux + uy * uy)
            slope = np.sqrt((ux / rx) ** 2 + (uy / ry) ** 2)
            result: Array = level * (level - 1.0) / np.maximum(slope, 1e-6)
            return np.where(level < 1e-3, -np.minimum(rx, ry), result)

        self._paint(middle - axes - 1.0, middle + axes + 1.0, distance, axes.min(axis=1), colour, rim)

    def _paint(
        self, low: Array, high: Array, distance: Distance, depth: Array, colour: NDArray[np.float64], rim: float
    ) -> None:
        """Blends a shape, given by its distance function, into the windows that contain it."""
        count, height, width = self.frames.shape[:3]
        inside = (high > 0).all(axis=1) & (low[:, 0] < width) & (low[:, 1] < height)
        if not inside.any():
            return
        span = np.ceil(high - low).max(axis=0).astype(int) + 1
        wide, tall = min(int(span[0]), width), min(int(span[1]), height)
        left = np.clip(np.floor(low[:, 0]), 0, width - wide).astype(np.int64)
        top = np.clip(np.floor(low[:, 1]), 0, height - tall).astype(np.int64)
        windows = sliding_window_view(self.frames, (tall, wide), axis=(1, 2), writeable=True)  # [T, ., ., 3, h, w]
        colours = np.broadcast_to(colour, (count, 3)).astype(np.float32)
        step = max(1, BLOCK // (tall * wide))
        for start in range(0, count, step):
            some = slice(start, min(start + step, count))
            rows = np.arange(some.start, some.stop)
            x = (left[some, None, None] + np.arange(wide) + 0.5).astype(np.float32)  # [t, 1, w]
            y = (top[some, None, None] + np.arange(tall)[:, None] + 0.5).astype(np.float32)  # [t, h, 1]
            away = distance(some, x, y)
            cover = 0.5 - away
            np.clip(cover, 0.0, 1.0, out=cover)
            pixels = windows[rows, top[some], left[some]]  # [t, 3, h, w], a copy
            if rim:
                away *= -1.0 / np.maximum(depth[some], 1e-3)[:, None, None]
                np.clip(away, 0.0, 1.0, out=away)
                shade = 1.0 - away
                shade *= shade
                shade *= -rim
                shade += 1.0
                pixels += cover[:, None] * (colours[some, :, None, None] * shade[:, None] - pixels)
            else:
                pixels += cover[:, None] * (colours[some, :, None, None] - pixels)
            windows[rows, top[some], left[some]] = pixels
