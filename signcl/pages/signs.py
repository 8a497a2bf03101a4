"""The frames of a sign as pictures: sheets to choose a frame from, small strips for the explorer, curves for features.

A sheet holds every frame of a span, and a few around it, in rows of `COLUMNS`. The page cuts single frames out of it,
so that each sign needs one request. Features have no pictures: their readings are drawn as curves.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from signcl.data.batch import Sample
from signcl.data.loading import load_raw
from signcl.data.sections import InputRecipe
from signcl.data.segments import count_sample, read_clip
from signcl.data.video import contact_sheet, resize_frames

__all__ = ["clip_strip", "num_frames", "sheet", "span_view", "strips"]

CONTEXT = 4  # frames before and after a span, so that its borders can be judged
SIDE = 240  # pixels of a frame's longer side on a sheet
COLUMNS = 12
MOST_FRAMES = 240  # per sheet; a longer span is an alignment error
STRIP_FRAMES, STRIP_SIDE = 5, 64
MOST_CURVES = 48

Frames = NDArray[np.uint8]


def num_frames(sample: Sample) -> int:
    """Number of frames of a clip, from its corpus or its header.

    Raises:
        ValueError, OSError: the clip cannot be read.
    """
    if sample.num_frames is not None:
        return sample.num_frames
    if sample.features is not None:
        return len(load_raw(sample, InputRecipe()))
    _clip(sample)
    return count_sample(sample)


def span_view(sample: Sample, start: int, stop: int, *, context: int = CONTEXT) -> dict[str, Any]:
    """Data to show a span: `kind` is pictures (a sheet) or curves (readings), with the frame numbers.

    Args:
        sample: the clip.
        start: first frame of the span.
        stop: the frame after its last frame.
        context: frames to show before and after it.

    Raises:
        ValueError, OSError: the clip cannot be read, or the span is beyond its end or too long.
    """
    total = num_frames(sample)
    if stop > total:
        raise ValueError(f"the span {start}-{stop} is beyond the clip {sample.name}, which has {total} frames")
    if stop - start > MOST_FRAMES - 2 * CONTEXT:
        raise ValueError(f"the span {start}-{stop} of {sample.name} is too long to be one sign ({stop - start} frames)")
    first, last = max(0, start - context), min(total, stop + context)
    view: dict[str, Any] = {"first": first, "count": last - first, "start": start, "stop": stop, "total": total}
    if sample.features is not None:
        return {**view, "kind": "curves", **_curves(load_raw(sample, InputRecipe()), first, last)}
    _clip(sample)
    frames = read_clip(sample, indices=range(first, last))
    picture, height, width = sheet(frames)
    return {
        **view,
        "kind": "pictures",
        "columns": min(COLUMNS, last - first),
        "height": height,
        "width": width,
        "sheet": _data_uri(picture, "jpeg"),
    }


def sheet(frames: Frames, side: int = SIDE, columns: int = COLUMNS) -> tuple[bytes, int, int]:
    """Put frames in rows into one JPEG; large frames are reduced.

    Returns:
        The JPEG, height and width of one frame on it.
    """
    small = _reduced(frames, side)
    return _jpeg(contact_sheet(small, min(columns, len(small)), gap=0), 86), *small.shape[1:3]


def strips(
    wanted: Iterable[tuple[Sample, int, int]], *, count: int = STRIP_FRAMES
) -> Iterator[tuple[tuple[str, int, int], str]]:
    """Small filmstrips of many spans as data URIs. A clip is opened once if its spans are consecutive.

    Args:
        wanted: (clip, start, stop) of each span.
        count: frames per strip.

    Yields:
        ((clip name, start, stop), data URI); spans that cannot be read are left out.
    """
    for _, group in groupby(wanted, key=lambda item: item[0].name):
        spans = list(group)
        sample = spans[0][0]
        try:
            yield from _strips_of_clip(sample, [(start, stop) for _, start, stop in spans], count)
        except (ValueError, OSError):
            continue


def _strips_of_clip(
    sample: Sample, spans: list[tuple[int, int]], count: int
) -> Iterator[tuple[tuple[str, int, int], str]]:
    if sample.features is not None:
        rows = load_raw(sample, InputRecipe())
        for start, stop in spans:
            if start < min(stop, len(rows)):
                yield (sample.name, start, stop), _data_uri(_heat(rows, start, stop), "png")
        return
    picks = {span: _spread(*span, count) for span in spans}
    numbers = sorted({number for chosen in picks.values() for number in chosen})
    _clip(sample)
    frames = dict(zip(numbers, _reduced(read_clip(sample, indices=numbers), STRIP_SIDE)))
    for (start, stop), chosen in picks.items():
        joined = np.concatenate([frames[number] for number in chosen], axis=1)
        yield (sample.name, start, stop), _data_uri(_jpeg(joined, 72), "jpeg")


def clip_strip(raw: NDArray[Any], count: int = 8) -> str:
    """A strip of a complete clip in memory, frames or features, as a data URI."""
    if raw.ndim == 2:
        return _data_uri(_heat(raw, 0, len(raw)), "png")
    frames = _reduced(raw[_spread(0, len(raw), count)], 120)
    return _data_uri(_jpeg(np.concatenate(list(frames), axis=1), 78), "jpeg")


def _clip(sample: Sample) -> Path:
    if sample.clip is None:
        raise ValueError(f"{sample.name} has neither a clip nor features, so there is nothing to show")
    return sample.clip


def _spread(start: int, stop: int, count: int) -> list[int]:
    """The middle frames of `count` equal parts."""
    count = min(count, stop - start)
    return [start + (2 * i + 1) * (stop - start) // (2 * count) for i in range(count)]


def _curves(rows: NDArray[np.float32], first: int, last: int) -> dict[str, Any]:
    """Readings of some frames, each dimension scaled to its own range in the clip, and how fast they change."""
    dims = np.unique(np.linspace(0, rows.shape[1] - 1, min(rows.shape[1], MOST_CURVES)).round().astype(int))
    low, high = np.percentile(rows, [1, 99], axis=0)
    scaled = np.clip((rows - low) / np.maximum(high - low, 1e-9), 0, 1)
    speed = np.abs(np.diff(scaled, axis=0, prepend=scaled[:1])).mean(axis=1)
    speed = np.clip(speed / max(float(speed.max()), 1e-9), 0, 1)
    return {
        "curves": np.round(scaled[first:last, dims].T, 3).tolist(),
        "speed": np.round(speed[first:last], 3).tolist(),
        "dims": int(rows.shape[1]),
    }


def _heat(rows: NDArray[np.float32], start: int, stop: int) -> bytes:
    """Features of a span as a small picture: time from left to right, up to 24 dimensions, scaled over the clip."""
    import cv2

    dims = np.unique(np.linspace(0, rows.shape[1] - 1, min(rows.shape[1], 24)).round().astype(int))
    low, high = np.percentile(rows[:, dims], [2, 98], axis=0)
    shades = np.clip((rows[start:stop, dims] - low) / np.maximum(high - low, 1e-9), 0, 1).T
    picture = np.asarray(cv2.applyColorMap((255 * shades).astype(np.uint8), cv2.COLORMAP_VIRIDIS), np.uint8)
    size = (5 * STRIP_SIDE, STRIP_SIDE)
    return _encoded(".png", np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_NEAREST), np.uint8), [])


def _reduced(frames: Frames, side: int) -> Frames:
    """Reduce frames to at most `side` pixels on the longer side, keeping their shape."""
    height, width = frames.shape[1:3]
    scale = side / max(height, width)
    if scale >= 1:
        return frames
    return resize_frames(frames, (max(1, round(height * scale)), max(1, round(width * scale))))


def _jpeg(picture: Frames, quality: int) -> bytes:
    import cv2

    return _encoded(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])


def _encoded(suffix: str, picture: NDArray[np.uint8], options: list[int]) -> bytes:
    import cv2

    done, buffer = cv2.imencode(suffix, np.ascontiguousarray(picture), options)
    assert done
    return bytes(buffer)


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
