"""Tracks the signer through a clip that shows several people.

Estimators number people per frame, so number 0 may be a different person in the next frame. Here, people are matched
between frames by the distance of their body points.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

__all__ = ["follow_signer", "frame_ranges"]

NEAR = 0.75  # maximum movement of a body between frames, in shoulder widths; two people are further apart
NEARER = 0.25  # added for every frame in which it was lost,
FARTHEST = 2.0  # up to this
SAME = 0.2  # shoulder widths: two closer detections are the same person found twice
MOST_TRACKS = 20
LITTLE = 0.05  # tracks below this share of the signer's prominence are detector noise


def follow_signer(points: np.ndarray, seen: np.ndarray, body: int) -> tuple[np.ndarray, list[str]]:
    """Finds the signer among the people in each frame.

    Each person becomes a track: from the frame where they are most prominent (size times mean confidence), forwards and
    backwards to the nearest body in the next frame. The signer is the track with the largest total prominence. If it is
    lost, a track that never overlaps with it continues it, with a note.

    Args:
        points: x and y of the layout's points; the body first, whose first two points are the shoulders. [T, P, K, 2]
        seen: their confidences, 0 if not found. [T, P, K]
        body: number of body points.

    Returns:
        Index of the signer among the people in each frame, -1 if not found [T]; and notes on doubtful frames.
    """
    alive: np.ndarray = np.any(seen > 0, axis=2)
    points = np.where(seen[..., None] > 0, points, np.nan)
    size = _sizes(points)
    prominence = np.where(alive, seen.clip(0, 1).mean(axis=2) * np.nan_to_num(size), 0.0)
    if (alive.sum(axis=1) <= 1).all():  # one person, whose number may change
        chosen = np.where(alive.any(axis=1), alive.argmax(axis=1), -1)
        return chosen, _jumps(chosen, points, size, body)
    free = alive.copy()
    tracks: list[np.ndarray] = []
    doubtful: list[list[int]] = []
    weight: list[float] = []
    while len(tracks) < MOST_TRACKS and prominence[free].sum() > LITTLE * max([0.0, *weight]):
        track, near = _track(points[:, :, :body], size, prominence, free)
        tracks.append(track)
        doubtful.append(near)
        there = np.flatnonzero(track >= 0)
        free[there, track[there]] = False
        weight.append(float(prominence[there, track[there]].sum()))
    order = sorted(range(len(tracks)), key=lambda n: -weight[n])
    signer, notes = tracks[order[0]].copy(), []
    if doubtful[order[0]]:
        notes.append(f"two people are equally near in {frame_ranges(doubtful[order[0]])}; check who is tracked there")
    rivals = [n for n in order[1:] if weight[n] > 0.8 * weight[order[0]] and ((tracks[n] >= 0) & (signer >= 0)).any()]
    if rivals:
        both = np.flatnonzero((tracks[rivals[0]] >= 0) & (signer >= 0)).tolist()
        notes.append(
            f"two people are about equally large and clear in {frame_ranges(both)}; the larger, clearer one is used"
        )
    for n in order[1:]:
        others = tracks[n] >= 0
        if weight[n] > LITTLE * weight[order[0]] and not (others & (tracks[order[0]] >= 0)).any():
            new = others & (signer < 0)
            if new.any():
                notes.append(
                    f"the signer is lost and continued elsewhere in {frame_ranges(np.flatnonzero(new).tolist())}"
                )
                signer[new] = tracks[n][new]
    lost = np.flatnonzero((signer < 0) & alive.any(axis=1)).tolist()
    if lost:
        notes.append(f"the signer is lost among other people in {frame_ranges(lost)}; those rows have no points")
    return signer, notes


def frame_ranges(frames: Sequence[int], most: int = 4) -> str:
    """Frames as text: `frames 3-7, 12`."""
    runs: list[list[int]] = []
    for frame in sorted(frames):
        if runs and frame == runs[-1][1] + 1:
            runs[-1][1] = frame
        else:
            runs.append([frame, frame])
    shown = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs[:most])
    more = f" and {len(runs) - most} more ranges" if len(runs) > most else ""
    return f"frame{'s' if len(frames) > 1 else ''} {shown}{more}"


def _sizes(points: np.ndarray) -> np.ndarray:
    """Size of each person: the shoulder width, or 0.3 of the extent if that is more. [T, P]"""
    shoulders = np.linalg.norm(points[:, :, 0] - points[:, :, 1], axis=2)
    low = np.where(np.isnan(points), np.inf, points).min(axis=2)
    high = np.where(np.isnan(points), -np.inf, points).max(axis=2)
    extent = np.where(np.isfinite(low).all(axis=2), np.linalg.norm(np.maximum(high - low, 0), axis=2), 0.0)
    return np.fmax(shoulders, 0.3 * extent)


def _apart(here: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Mean distance of the body points that both have; inf if they share none. [P, K, 2], [K, 2] -> [P]"""
    distances = np.linalg.norm(here - there, axis=2)  # [P, K], nan if either is not found
    shared = (~np.isnan(distances)).sum(axis=1)
    return np.where(shared > 0, np.nansum(distances, axis=1) / np.maximum(shared, 1), np.inf)


def _track(
    body: np.ndarray, size: np.ndarray, prominence: np.ndarray, free: np.ndarray
) -> tuple[np.ndarray, list[int]]:
    """Tracks one person both ways from the most prominent frame; also returns frames where another one is as near."""
    frames = len(free)
    start, person = np.unravel_index(np.where(free, prominence, -1.0).argmax(), free.shape)
    track = np.full(frames, -1)
    track[start] = person
    doubtful: list[int] = []
    for way in (range(int(start) + 1, frames), range(int(start) - 1, -1, -1)):
        last, known, width = int(start), body[start, person], float(size[start, person])
        for t in way:
            candidates = np.flatnonzero(free[t])
            if not len(candidates):
                continue
            distances = _apart(body[t, candidates], known) / max(width, 1e-9)
            best = int(distances.argmin())
            reach = min(FARTHEST, NEAR + NEARER * (abs(t - last) - 1))
            if not distances[best] <= reach:
                continue
            for n in np.flatnonzero(distances <= min(reach, 1.3 * distances[best] + 0.1)).tolist():
                twin = _apart(body[t, candidates[n]][None], body[t, candidates[best]])[0] / max(width, 1e-9)
                if n != best and twin > SAME:
                    doubtful.append(t)
                    break
            track[t] = candidates[best]
            # Points that are not found keep their last position.
            now = body[t, candidates[best]]
            known = np.where(np.isnan(now), known, now)
            last, width = t, float(size[t, candidates[best]]) or width
    return track, doubtful


def _jumps(chosen: np.ndarray, points: np.ndarray, size: np.ndarray, body: int) -> list[str]:
    """Notes frames whose only person is far from the only person of the previous frame."""
    there = np.flatnonzero(chosen >= 0)
    far = []
    for before, after in pairwise(there.tolist()):
        known = points[before, chosen[before], :body]
        width = float(size[before, chosen[before]])
        gap = after - before
        distance = float(_apart(points[after, chosen[after], :body][None], known)[0])
        if width > 0 and np.isfinite(distance) and distance / width > min(FARTHEST, NEAR + NEARER * (gap - 1)):
            far.append(after)
    return [f"the person has moved far in {frame_ranges(far)}; another person, or a cut"] if far else []
