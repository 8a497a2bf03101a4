"""Frames have times, not only numbers: a clip of one rate, or of none, brought to another rate by them.

Phones record 30 or 60 frames a second and vary it with the light; PHOENIX-2014T has 25. Whoever counts frames there
counts different lengths of time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from signcl.data.video.pictures import Indices

__all__ = ["Times", "clip_length", "frame_times", "other_rate", "resample"]

Times = NDArray[np.float64]

SAME_RATE = 0.02
"""Rates nearer than this share are one rate: 29.97 and 30, 25 and 24.9."""


def other_rate(one: float | None, other: float | None) -> bool:
    """Whether two rates are known and differ by more than 2 %: 25 and 30 do, 29.97 and 30 do not."""
    return one is not None and other is not None and abs(one - other) > SAME_RATE * max(one, other)


def frame_times(stamps: list[int | None], unit: float, rate: float | None) -> Times:
    """Times of the frames of a clip, from zero, rising; evenly by the rate where a stamp is missing.

    Args:
        stamps: of each frame in the order in which they are shown.
        unit: seconds of a stamp's step.
        rate: of the clip, where it says one.

    Returns:
        Seconds. [T]
    """
    if any(stamp is None for stamp in stamps):
        return np.arange(len(stamps)) / (rate or 25.0)
    times = np.sort(np.array(stamps, dtype=np.float64)) * unit  # AVI gives times in the order of decoding
    return times - times[0] if len(times) else times


def resample(times: Times, length: float, fps: float) -> Indices:
    """Which frame of a clip stands for each frame at another rate.

    Output frame k is the frame that is on the screen at k / fps seconds. A frame counts from a little before its time:
    half the distance to the frame before, and at most half of 1 / fps. So every frame of an even clip goes to the
    nearest place, times that jitter do no harm, and a picture that stands for a second is not left early.

    Args:
        times: seconds from the first frame, rising. [T]
        length: seconds from the first frame to the end of the last.
        fps: frames per second wanted.

    Returns:
        Frame numbers, rising, with repeats where the clip is slower. [round(length * fps)], at least one
    """
    if not len(times):
        return np.zeros(0, np.int64)
    count = max(1, round(length * fps))
    gaps = np.diff(times, prepend=times[0])
    begins = times - np.minimum(gaps / 2, 0.5 / fps) - 1e-6  # a tie goes to the later frame whatever the rounding
    chosen = np.searchsorted(begins, np.arange(count) / fps, side="right") - 1
    return chosen.clip(0, len(times) - 1).astype(np.int64)


def clip_length(times: Times, last: float) -> float:
    """Seconds of a clip: up to the end of its last frame.

    Args:
        times: seconds from the first frame. [T]
        last: how long the last frame stands; 0 where the file does not say, then as long as the frames on average.
    """
    if len(times) == 0:
        return 0.0
    mean = float(times[-1]) / (len(times) - 1) if len(times) > 1 else 0.04
    return float(times[-1]) + (last if last > 0 else mean)
