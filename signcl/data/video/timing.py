"""Resamples clips to another frame rate, using the time of each frame.

Phones record 30 or 60 frames per second and vary the rate with the light; PHOENIX-2014T has 25. The same number of
frames is therefore a different length of time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from signcl.data.video.pictures import Indices

__all__ = ["Times", "clip_length", "frame_times", "other_rate", "resample"]

Times = NDArray[np.float64]

SAME_RATE = 0.02
"""Rates with a relative difference of at most this count as equal: 29.97 and 30, 25 and 24.9."""


def other_rate(one: float | None, other: float | None) -> bool:
    """Whether two rates are known and differ by more than 2 %: 25 and 30 do, 29.97 and 30 do not."""
    return one is not None and other is not None and abs(one - other) > SAME_RATE * max(one, other)


def frame_times(stamps: list[int | None], unit: float, rate: float | None) -> Times:
    """Times of the frames of a clip, ascending from zero; evenly spaced at `rate` if a timestamp is missing.

    Args:
        stamps: timestamp of each frame, in display order.
        unit: seconds per timestamp tick.
        rate: frames per second of the clip, if known; 25 otherwise.

    Returns:
        Seconds. [T]
    """
    if any(stamp is None for stamp in stamps):
        return np.arange(len(stamps)) / (rate or 25.0)
    times = np.sort(np.array(stamps, dtype=np.float64)) * unit  # AVI gives times in decoding order
    return times - times[0] if len(times) else times


def resample(times: Times, length: float, fps: float) -> Indices:
    """The clip's frame to use for each frame at another rate.

    Output frame k is the frame that is on the screen at k / fps seconds. A frame counts from a little before its time:
    half the distance to the previous frame, and at most half of 1 / fps. This picks the nearest frame if frames are
    evenly spaced, tolerates jitter, and does not cut short a frame that stays on the screen for a second.

    Args:
        times: seconds from the first frame, ascending. [T]
        length: seconds from the first frame to the end of the last.
        fps: frames per second of the output.

    Returns:
        Frame indices, ascending, with repeats if the clip is slower. [round(length * fps)], at least one
    """
    if not len(times):
        return np.zeros(0, np.int64)
    count = max(1, round(length * fps))
    gaps = np.diff(times, prepend=times[0])
    begins = times - np.minimum(gaps / 2, 0.5 / fps) - 1e-6  # a tie goes to the later frame whatever the rounding
    chosen = np.searchsorted(begins, np.arange(count) / fps, side="right") - 1
    return chosen.clip(0, len(times) - 1).astype(np.int64)


def clip_length(times: Times, last: float) -> float:
    """Length of a clip in seconds, up to the end of its last frame.

    Args:
        times: seconds from the first frame. [T]
        last: duration of the last frame, seconds; 0 if unknown, which uses the mean duration of the frames.
    """
    if len(times) == 0:
        return 0.0
    mean = float(times[-1]) / (len(times) - 1) if len(times) > 1 else 0.04
    return float(times[-1]) + (last if last > 0 else mean)
