"""Exact key points of a synthetic clip: the 133 COCO-WholeBody points in every frame.

They are computed, not estimated, so only knees, ankles and feet are missing: those are outside the picture. Ears,
brows, eyes, nose, lips and jaw are where `scene` paints them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from signcl.data.corpora.synthetic.body import perform
from signcl.data.corpora.synthetic.hands import skeleton
from signcl.data.corpora.synthetic.plan import ClipPlan, CorpusPlan
from signcl.data.corpora.synthetic.scene import Camera, Figure
from signcl.data.corpora.synthetic.settings import Dice

__all__ = ["point_clip"]

Array = NDArray[np.float64]
POINTS = 133
LEFT, RIGHT = 91, 112  # first point of each hand
FACE = 23
FEATURE = 0.030  # as in `scene`: how far facial features shift when the head turns


def point_clip(plan: CorpusPlan, clip: ClipPlan) -> NDArray[np.float32]:
    """The key points of one clip, matching the frames that `draw_clip` draws.

    Returns:
        x and y in pixels, and a confidence: 1, or 0 for the points that are never visible. [T, 133, 3]
    """
    settings, signer = plan.settings, plan.signers[clip.signer]
    dice = Dice(settings.seed, "picture", clip.split, clip.name)  # same order of draws as in `draw_clip`
    performance = perform(clip, plan.lexicon, signer, settings.looseness, dice)
    figure = Figure(performance, signer, Camera(settings.size, clip.num_frames, settings.jitter, dice), None)
    points = np.zeros((clip.num_frames, POINTS, 3))

    def put(first: int, places: Array) -> None:
        """Stores `places`, [T, P, 2 or 3] in body coordinates, from index `first` on."""
        points[:, first : first + places.shape[1], :2] = figure.placed(places)
        points[:, first : first + places.shape[1], 2] = 1

    for side in (0, 1):
        left = (side == 1) != signer.left_handed  # the signer's left hand, on the right in the picture
        shoulder, elbow, wrist = figure.arm(side)
        for joint, place in ((5, shoulder), (7, elbow), (9, wrist)):
            put(joint if left else joint + 1, place[:, None])
        put(LEFT if left else RIGHT, _hand(figure, side, wrist))
    hips = signer.shoulder * 0.80
    still = np.repeat(np.array([[[hips, -0.62], [-hips, -0.62]]]), clip.num_frames, axis=0)
    put(11, still)
    face = _face(figure)
    put(FACE, face)
    width, _ = signer.head
    eyes = [face[:, first : first + 6].mean(axis=1) for first in (42, 36)]  # left, right
    ears = [figure.on_head(x * width, -0.005, -0.006) for x in (1, -1)]
    put(0, np.stack([face[:, 30], *eyes, *ears], axis=1))
    return points.astype(np.float32)


def _hand(figure: Figure, side: int, wrist: Array) -> Array:
    """Wrist, then four points each of thumb, index, middle, ring and little finger. [T, 21, 3]"""
    parts = skeleton(figure.moves.shapes[side], figure.moves.turns[side])  # [T, 6, 4, 2, 3]
    parts[..., 0] *= figure.mirror(side)
    places = wrist[:, None, None, None] + figure.signer.hand * parts
    root, middle, tip = places[:, 5, 0, 0], places[:, 5, 0, 1], places[:, 5, 1, 1]
    thumb = [root, middle, (middle + tip) / 2, tip]  # four points, although it is drawn with two segments
    fingers = [places[:, n, 0, 0] if k == 0 else places[:, n, k - 1, 1] for n in range(1, 5) for k in range(4)]
    return np.stack([wrist, *thumb, *fingers], axis=1)


def _face(figure: Figure) -> Array:
    """The 68 points of a face: jaw 17, brows 10, nose 9, eyes 12, lips 20. [T, 68, 2]"""
    width, height = figure.signer.head
    moves = figure.moves
    found = [figure.on_head(width * np.cos(a), height * np.sin(a), 0.004) for a in np.linspace(np.pi, 2 * np.pi, 17)]
    raised = moves.brows[:, 0]
    lift = np.where(raised > 0, 0.030, 0.014) * raised
    frown = np.maximum(-raised, 0) * 0.018
    for side in (-1, 1):  # the left of the picture first, which is the right brow, from its outer end inwards
        x = side * width * 0.43
        inner = figure.on_head(x - side * 0.026, height * 0.42, FEATURE) + np.stack([0 * lift, lift - frown], 1)
        outer = figure.on_head(x + side * 0.030, height * 0.40, FEATURE) + np.stack([0 * lift, lift + frown / 2], 1)
        start, end = (outer, inner) if side < 0 else (inner, outer)
        found += [start + share * (end - start) for share in np.linspace(0, 1, 5)]
    bridge = [figure.on_head(0.0, y, FEATURE * 1.3) for y in np.linspace(height * 0.10, -0.026, 4)]
    found += [*bridge, *(figure.on_head(x, -0.036, FEATURE * 1.3) for x in np.linspace(-0.012, 0.012, 5))]
    opening = np.clip(moves.eyes[:, 0] * (1 + 0.25 * raised), 0.08, 1.4)
    for side in (-1, 1):
        eye = figure.on_head(side * width * 0.43, height * 0.12, FEATURE)
        found += _oval(eye, np.full(len(opening), 0.0215), 0.0130 * opening, 6)
    wide, opened, lip, _ = moves.mouth.T
    mouth = figure.on_head(0.0, -height * 0.53, FEATURE)
    found += _oval(mouth, wide + 0.8 * lip, opened + lip, 12)
    found += _oval(mouth, wide * 0.96, np.maximum(opened, 0.0022), 8)
    return np.stack(found, axis=1)


def _oval(centre: Array, across: Array, up: Array, count: int) -> list[Array]:
    """Points around an ellipse, starting at the left and going over the top. [T, 2] each"""
    angles = np.pi - 2 * np.pi * np.arange(count) / count
    return [centre + np.stack([across * np.cos(a), up * np.sin(a)], axis=1) for a in angles]
