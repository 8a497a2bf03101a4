"""Checks how complete the key points of a split are, for `signcl corpus check`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from signcl.data.poses import PoseClip

__all__ = ["PoseQuality", "describe_poses", "pose_quality"]

WORST = 3  # number of clips to name
SHOULDERS, WRISTS = (0, 1), (4, 5)  # indices of body points, left and right, the same in every layout
BARE = 0.5  # warn if more than this share of frames has no hands


@dataclass(frozen=True)
class PoseQuality:
    """Number of frames of one clip without each part (less than half of its points found)."""

    name: str
    layout: str
    frames: int
    lacks: dict[str, int]
    """Frames without each part; `hands` counts frames with neither hand, if the layout has hands."""
    small: bool
    """Coordinates are not in pixels."""
    always_rated: bool
    """Every point has a confidence above 0 in every frame, so points that were not found are not marked."""
    astray: str = ""
    """What is wrong with the positions of the hands, as caused by a wrong order of points."""


def pose_quality(clip: PoseClip, name: str) -> PoseQuality:
    """Counts the frames of a clip without body, face or hands."""
    lacks = clip.lacks()
    counts = {part: int(frames.sum()) for part, frames in lacks.items()}
    if "left_hand" in lacks:
        counts["hands"] = int((lacks["left_hand"] & lacks["right_hand"]).sum())
    rated = bool((clip.seen > 0).all() and np.ptp(clip.seen) > 0)
    return PoseQuality(name, clip.layout.name, len(clip.seen), counts, clip.small, rated, _astray(clip))


def _astray(clip: PoseClip) -> str:
    """The problem if the roots of the hands are far from the wrists, or nearer to the opposite wrists; else ""."""
    ranges = clip.layout.ranges()
    if "left_hand" not in ranges:
        return ""
    left, right = (ranges[part][0] for part in ("left_hand", "right_hand"))
    shoulders = _median_apart(clip, *SHOULDERS)
    own = max(_median_apart(clip, left, WRISTS[0]), _median_apart(clip, right, WRISTS[1])) / shoulders
    other = max(_median_apart(clip, left, WRISTS[1]), _median_apart(clip, right, WRISTS[0])) / shoulders
    if own > 0.3 and other < 0.5 * own:  # nan (a hand that is never found) compares false
        return "left and right hand are swapped"
    return "hands are not where the wrists are" if own > 1.0 else ""


def _median_apart(clip: PoseClip, a: int, b: int) -> float:
    """Median distance of two points over the frames that have both; nan without such frames."""
    both = (clip.seen[:, a] > 0) & (clip.seen[:, b] > 0)
    if not both.any():
        return float("nan")
    return float(np.median(np.linalg.norm(clip.points[both, a, :2] - clip.points[both, b, :2], axis=1))) or float("nan")


def describe_poses(clips: Sequence[PoseQuality]) -> Iterator[tuple[str, str]]:
    """Yields messages about the key points of a split: level (`error`, `warning`, `note`) and text."""
    if not clips:
        return
    layouts = Counter(clip.layout for clip in clips)
    if len(layouts) > 1:
        first = {clip.layout: clip.name for clip in reversed(clips)}
        kinds = ", ".join(f"{count} of {layout} (such as {first[layout]})" for layout, count in layouts.most_common())
        yield "error", f"key points of several layouts, {kinds}; a model reads one, so extract all clips the same way"
    small = [clip.name for clip in clips if clip.small]
    if 0 < len(small) < len(clips):
        yield (
            "warning",
            f"{len(small)} of {len(clips)} clips have coordinates that are not in pixels (such as {small[0]}), the "
            f"others have pixels; coordinates relative to a non-square picture are distorted (input.pose_aspect)",
        )
    for what in sorted({clip.astray for clip in clips} - {""}):
        names = [clip.name for clip in clips if clip.astray == what]
        yield (
            "warning",
            f"{what} in {len(names)} of {len(clips)} clips (such as {names[0]}); does the order of the points match "
            f"input.pose_layout (docs/reading.md)?",
        )
    total = sum(clip.frames for clip in clips)
    parts = [part for part in ("body", "left_hand", "right_hand", "hands", "face") if part in clips[0].lacks]
    shares = {part: sum(clip.lacks.get(part, clip.frames) for clip in clips) / total for part in parts}
    words = {"left_hand": "left hand", "right_hand": "right hand", "hands": "either hand"}
    told = ", ".join(f"{words.get(part, part)} {share:.1%}" for part, share in shares.items())
    line = f"{len(clips)} clips of key points ({', '.join(layouts)}), {total} frames; frames without {told}"
    if "hands" not in parts:
        line += "; the layout has no hands"
    by = "hands" if "hands" in parts else "body"
    worst = sorted(clips, key=lambda clip: -clip.lacks.get(by, clip.frames) / clip.frames)[:WORST]
    shown = [f"{c.name} {c.lacks.get(by, c.frames) / c.frames:.0%}" for c in worst if c.lacks.get(by, c.frames)]
    if shown:
        line += f"; most without {words.get(by, by)}: {', '.join(shown)}"
    if all(clip.always_rated for clip in clips):
        line += (
            "; the estimator rates every point, found or not: set --pose-min-confidence (Uni-Sign: 0.3) here, and "
            "input.pose_min_confidence in the recipe"
        )
    yield "warning" if shares.get("hands", 1.0) > BARE else "note", line
