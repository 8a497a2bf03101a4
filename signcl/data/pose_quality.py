"""How much of a signer the key points of a split show, for `signcl corpus check`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from signcl.data.poses import PoseClip

__all__ = ["PoseQuality", "describe_poses", "pose_quality"]

WORST = 3  # clips that are named
BARE = 0.5  # a split with fewer hands than this is warned about


@dataclass(frozen=True)
class PoseQuality:
    """Frames of one clip that lack a part (less than half of its points found)."""

    name: str
    layout: str
    frames: int
    lacks: dict[str, int]
    """Frames without each part, and without either hand under `hands`, where the layout has hands."""
    small: bool
    """Coordinates are no pixels."""
    always_rated: bool
    """Every point has a confidence above 0 in every frame: the estimator does not say what it did not find."""


def pose_quality(clip: PoseClip, name: str) -> PoseQuality:
    """Count the frames of a clip that lack body, face, hands."""
    lacks = clip.lacks()
    counts = {part: int(frames.sum()) for part, frames in lacks.items()}
    if "left_hand" in lacks:
        counts["hands"] = int((lacks["left_hand"] & lacks["right_hand"]).sum())
    rated = bool((clip.seen > 0).all() and np.ptp(clip.seen) > 0)
    return PoseQuality(name, clip.layout.name, len(clip.seen), counts, clip.small, rated)


def describe_poses(clips: Sequence[PoseQuality]) -> Iterator[tuple[str, str]]:
    """What is to say about the key points of a split: level (`error`, `warning`, `note`) and line."""
    if not clips:
        return
    layouts = Counter(clip.layout for clip in clips)
    if len(layouts) > 1:
        first = {clip.layout: clip.name for clip in reversed(clips)}
        kinds = ", ".join(f"{count} of {layout} (such as {first[layout]})" for layout, count in layouts.most_common())
        yield "error", f"key points of several layouts, {kinds}; a model reads one, so extract all clips alike"
    small = [clip.name for clip in clips if clip.small]
    if 0 < len(small) < len(clips):
        yield (
            "warning",
            f"{len(small)} of {len(clips)} clips have coordinates that are no pixels (such as {small[0]}), the others "
            f"have pixels; shares of a picture that is not square are squeezed (input.pose_aspect)",
        )
    total = sum(clip.frames for clip in clips)
    parts = [part for part in ("body", "left_hand", "right_hand", "hands", "face") if part in clips[0].lacks]
    shares = {part: sum(clip.lacks.get(part, clip.frames) for clip in clips) / total for part in parts}
    names = {"left_hand": "left hand", "right_hand": "right hand", "hands": "either hand"}
    told = ", ".join(f"{names.get(part, part)} {share:.1%}" for part, share in shares.items())
    line = f"{len(clips)} clips of key points ({', '.join(layouts)}), {total} frames; frames without {told}"
    if "hands" not in parts:
        line += "; the layout has no hands"
    by = "hands" if "hands" in parts else "body"
    worst = sorted(clips, key=lambda clip: -clip.lacks.get(by, clip.frames) / clip.frames)[:WORST]
    shown = [f"{c.name} {c.lacks.get(by, c.frames) / c.frames:.0%}" for c in worst if c.lacks.get(by, c.frames)]
    if shown:
        line += f"; most without {names.get(by, by)}: {', '.join(shown)}"
    if all(clip.always_rated for clip in clips):
        line += (
            "; the estimator rates every point, found or not: say --pose-min-confidence (Uni-Sign: 0.3) here, and "
            "input.pose_min_confidence in the recipe"
        )
    yield "warning" if shares.get("hands", 1.0) > BARE else "note", line
