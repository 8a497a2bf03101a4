"""The motion of a signed sentence: turns the plan of a clip into positions of hands, face and body in every frame.

World axes: x points right in the picture, y up, z towards the camera. The origin is between the shoulders, and lengths
are fractions of the picture height. Each hand has its own coordinates, in which it is a right hand and its side of the
body has negative x. Mirror-image signs therefore have equal numbers; `scene.py` mirrors the left hand.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from signcl.data.corpora.synthetic.grammar import Token
from signcl.data.corpora.synthetic.hands import handshape, multiply, orientation, turn
from signcl.data.corpora.synthetic.lexicon import Sign
from signcl.data.corpora.synthetic.plan import ClipPlan
from signcl.data.corpora.synthetic.settings import Dice
from signcl.data.corpora.synthetic.signers import Signer

__all__ = ["Performance", "perform"]

Array = NDArray[np.float64]

LOCATIONS = {
    "forehead": (-0.075, 0.250, 0.15),
    "temple": (-0.175, 0.165, 0.10),
    "chin": (-0.080, 0.060, 0.16),
    "shoulder": (0.115, 0.00, 0.14),
    "chest": (-0.045, -0.10, 0.15),
    "neutral": (-0.125, -0.21, 0.25),
    "side": (-0.285, 0.00, 0.12),
    "waist": (-0.10, -0.36, 0.15),
    "rest": (-0.13, -0.46, 0.10),
}
# Half width, opening, lip thickness, teeth.
MOUTHS = {
    "closed": (0.034, 0.000, 0.0075, 0.0),
    "open": (0.030, 0.034, 0.0075, 0.0),
    "round": (0.012, 0.013, 0.0150, 0.0),
    "wide": (0.052, 0.013, 0.0065, 1.0),
}
BROWS = {"neutral": 0.0, "raised": 1.0, "lowered": -1.0}
LENGTHWISE, SIDEWAYS = np.array([0.0, 1.0, 0.0]), np.array([1.0, 0.0, 0.0])


@dataclass
class Performance:
    """Positions of everything that moves. Hand 0 is the dominant hand."""

    centres: Array
    """Centres of the palms. [2, T, 3]"""
    turns: Array
    """Orientations as quaternions, of any non-zero length. [2, T, 4]"""
    shapes: Array
    """Handshapes. [2, T, HAND_PARAMETERS]"""
    mouth: Array
    """Half width, opening, lip thickness, teeth. [T, 4]"""
    brows: Array
    """1 raised, -1 lowered. [T, 1]"""
    head: Array
    """Sideways turn (-1..1) and nod. [T, 2]"""
    eyes: Array
    """Opening of the eyes. [T, 1]"""
    sway: Array
    """Shift of the whole body. [T, 2]"""


@dataclass
class _Hand:
    """One hand during one sign."""

    centre: Array
    turned: Array
    shape: Array


def perform(clip: ClipPlan, lexicon: list[Sign], signer: Signer, looseness: float, dice: Dice) -> Performance:
    """Computes the motion of a signed sentence.

    Within a span the hands make the movement of the sign. Between spans they take the shortest path from the end of
    one sign to the start of the next (coarticulation). The other hand sinks to rest if a sign does not need it.
    """
    times = np.arange(clip.num_frames)
    known: list[NDArray[np.int64]] = []
    hands: list[tuple[_Hand, _Hand]] = []
    places = [np.array(LOCATIONS[lexicon[token.sign].location]) for token in clip.sentence.tokens]
    for position, (token, span) in enumerate(zip(clip.sentence.tokens, clip.spans, strict=True)):
        around = [places[other] for other in (position - 1, position + 1) if 0 <= other < len(places)]
        drawn_to = np.mean([place - places[position] for place in around], axis=0) if around else np.zeros(3)
        known.append(np.arange(*span))
        hands.append(_make_sign(lexicon[token.sign], token, span[1] - span[0], signer, looseness, drawn_to, dice))
    before, after = _resting(dice), _resting(dice)
    still = clip.spans[0][0] // 3 + 1
    frames = np.concatenate([[0, still - 1], *known, [clip.num_frames - 1]])
    parts = {}
    for name in ("centre", "turned", "shape"):
        tracks = []
        for side in (0, 1):
            start, end = getattr(before[side], name), getattr(after[side], name)
            values = np.concatenate([start, start, *(getattr(pair[side], name) for pair in hands), end])
            if name == "turned":
                values = _same_hemisphere(values)
            tracks.append(_smooth(_fill(times, frames, values)))
        parts[name] = np.stack(tracks)
    tremor = _wander(dice, len(times), 6, 0.0022 * looseness).reshape(len(times), 2, 3).transpose(1, 0, 2)
    return Performance(
        centres=parts["centre"] + tremor,
        turns=parts["turned"],
        shapes=parts["shape"],
        mouth=_mouth(clip, lexicon, signer),
        brows=_brows(clip, signer),
        head=_head(clip, signer, dice, looseness),
        eyes=_eyes(clip.num_frames, dice),
        sway=_wander(dice, len(times), 2, 0.006),
    )


def slice_frames(performance: Performance, start: int, stop: int) -> Performance:
    """Returns the frames `start` to `stop - 1` of a performance."""
    cut = {}
    for item in fields(Performance):
        values = getattr(performance, item.name)
        cut[item.name] = values[:, start:stop] if item.name in ("centres", "turns", "shapes") else values[start:stop]
    return Performance(**cut)


def _make_sign(
    sign: Sign, token: Token, count: int, signer: Signer, looseness: float, drawn_to: Array, dice: Dice
) -> tuple[_Hand, _Hand]:
    """Both hands during the frames of one sign."""
    centre = (
        np.array(LOCATIONS[sign.location]) + np.array([0, signer.height, 0]) + 0.12 * min(looseness, 1.0) * drawn_to
    )
    centre = centre + looseness * np.array([dice.uniform(-0.016, 0.016) for _ in range(3)])
    if sign.hands == "both":
        centre[0] = min(centre[0], -0.105)
    elif sign.hands == "base":
        centre += [0.06, 0.035, 0.0]
    wobble = np.array([dice.uniform(-1, 1) for _ in range(3)])
    turned = multiply(turn(wobble / np.linalg.norm(wobble), looseness * np.radians(dice.uniform(0, 11))),
                      orientation(sign.orientation))  # fmt: skip
    lax = min(0.5, signer.lax + looseness * dice.uniform(0.0, 0.1))
    shape = (1 - lax) * handshape(sign.handshape) + lax * handshape("rest")
    repeats = 3 if token.plural else sign.repeats
    reach = signer.reach * (1 + looseness * dice.uniform(-0.15, 0.15))
    offset, twist, nod, wiggle = _movement(sign.movement, count, repeats, reach)
    if token.plural:
        offset[:, 0] -= 0.05 * (np.floor(3 * (np.arange(count) + 0.5) / count) - 1)
    moved = multiply(turned, multiply(turn(LENGTHWISE, twist), turn(SIDEWAYS, nod)))
    shapes = np.repeat(shape[None], count, axis=0)
    shapes[:, :12] += wiggle
    main = _Hand(centre + offset, moved, shapes)
    if sign.hands == "both":
        late = looseness * np.array([dice.uniform(-0.01, 0.01) for _ in range(3)])
        return main, _Hand(main.centre + late, main.turned, main.shape)
    if sign.hands == "base":
        below = np.array([-centre[0] - 0.03, centre[1] - 0.085, centre[2] - 0.05])
        return main, _still("base", "flat", below, count)
    other = np.array(LOCATIONS["rest"]) + np.array([0, 0.02, 0])
    return main, _still("rest", "rest", other, count)


def _movement(name: str, count: int, repeats: int, reach: float) -> tuple[Array, Array, Array, Array]:
    """What a movement adds to a hand: shift [count, 3], twist and nod in radians [count], finger bends [count, 12]."""
    cycles = repeats * (np.arange(count) + 0.5) / count
    within = cycles % 1.0
    # Before a straight movement is repeated, the hand returns in the last third of the cycle.
    back = 0.0 if repeats == 1 else 0.34
    along = np.where(within < 1 - back, within / (1 - back), (1 - within) / max(back, 0.01))
    path = _ease(np.clip(along, 0, 1)) - 0.5
    round_ = 2 * np.pi * cycles
    zero, shift, wiggle = np.zeros(count), np.zeros((count, 3)), np.zeros((count, 12))
    twist, nod = zero, zero
    if name in ("up", "down"):
        shift[:, 1] = 0.17 * reach * path * (1 if name == "up" else -1)
    elif name in ("in", "out"):
        shift[:, 0] = 0.16 * reach * path * (1 if name == "in" else -1)
    elif name == "circle":
        shift[:, 0], shift[:, 1] = -0.065 * reach * np.sin(round_), 0.065 * reach * np.cos(round_)
    elif name == "arc":
        shift[:, 0], shift[:, 1] = -0.16 * reach * path, 0.10 * reach * (0.7 - 4 * path**2)
    elif name == "zigzag":
        shift[:, 0] = -0.15 * reach * path
        shift[:, 1] = 0.05 * reach * np.sin(3 * np.pi * (within if repeats == 1 else along))
    elif name == "twist":
        twist = np.radians(75) * min(reach, 1.1) * np.sin(round_)
    elif name == "nod":
        nod = np.radians(55) * min(reach, 1.1) * np.sin(round_)
    elif name == "wiggle":
        beat = 2 * np.pi * (1 + repeats) * (np.arange(count) + 0.5) / count
        bend = np.radians(64) * (0.5 + 0.5 * np.sin(beat[:, None] + np.arange(4) * 1.9))
        wiggle = np.repeat(bend, 3, axis=1) * np.tile([1.0, 0.5, 0.3], 4)
    else:
        raise AssertionError(name)
    return shift, twist, nod, wiggle


def _still(turned: str, shape: str, centre: Array, count: int) -> _Hand:
    def repeat(value: Array) -> Array:
        return np.repeat(value[None], count, axis=0)

    return _Hand(repeat(centre), repeat(orientation(turned)), repeat(handshape(shape)))


def _resting(dice: Dice) -> tuple[_Hand, _Hand]:
    """Both hands at rest, for one frame."""
    hands = []
    for _ in range(2):
        shift = np.array([dice.uniform(-0.01, 0.01), dice.uniform(-0.012, 0.012), 0.0])
        hands.append(_still("rest", "rest", np.array(LOCATIONS["rest"]) + shift, 1))
    return hands[0], hands[1]


def _fill(times: NDArray[np.int64], frames: NDArray[np.int64], values: Array) -> Array:
    """Interpolates values at `frames` to all `times`, with easing in and out. [T, ...]"""
    right = np.clip(np.searchsorted(frames, times, side="left"), 1, len(frames) - 1)
    left = right - 1
    gap = np.maximum(frames[right] - frames[left], 1)
    share = np.clip((times - frames[left]) / gap, 0, 1)
    weight = np.where(gap > 1, _ease(share), share)[:, None]
    result: Array = values[left] * (1 - weight) + values[right] * weight
    return result


def _same_hemisphere(quaternions: Array) -> Array:
    """Flips signs so that neighbours in time are close to each other: q and -q are the same rotation."""
    steps = np.sign((quaternions[1:] * quaternions[:-1]).sum(axis=-1))
    signs = np.cumprod(np.concatenate([[1.0], np.where(steps == 0, 1.0, steps)]))
    return quaternions * signs[:, None]


def _smooth(track: Array) -> Array:
    """Smooths a track over time with the weights 1/4, 1/2, 1/4."""
    padded = np.concatenate([track[:1], track, track[-1:]])
    result: Array = 0.25 * padded[:-2] + 0.5 * padded[1:-1] + 0.25 * padded[2:]
    return result


def _ease(share: Array) -> Array:
    result: Array = share * share * (3 - 2 * share)
    return result


def _wander(dice: Dice, count: int, channels: int, size: float) -> Array:
    """Slow random motion: three sines of random speed and phase per channel. [count, channels]"""
    times = np.arange(count)[:, None]
    track = np.zeros((count, channels))
    for _ in range(3):
        speed = np.array([dice.uniform(0.05, 0.45) for _ in range(channels)])
        phase = np.array([dice.uniform(0, 2 * np.pi) for _ in range(channels)])
        track += np.sin(speed * times + phase)
    return size * track / 3


def _mouth(clip: ClipPlan, lexicon: list[Sign], signer: Signer) -> Array:
    track = np.tile(np.array(MOUTHS["closed"]), (clip.num_frames, 1))
    for token, (start, stop) in zip(clip.sentence.tokens, clip.spans, strict=True):
        track[start:stop] = MOUTHS[lexicon[token.sign].mouth]
    track[:, 1] *= signer.face
    return _smooth(track)


def _brows(clip: ClipPlan, signer: Signer) -> Array:
    track = np.zeros((clip.num_frames, 1))
    for clause in clip.sentence.clauses:
        start, stop = clip.spans[clause.first][0] - 2, clip.spans[clause.last][1] + 1
        track[start:stop] = BROWS[clause.brows] * signer.face
    return _smooth(_smooth(track))


def _head(clip: ClipPlan, signer: Signer, dice: Dice, looseness: float) -> Array:
    track = _wander(dice, clip.num_frames, 2, 0.12 * looseness)
    for clause in clip.sentence.clauses:
        if clause.shake is None:
            continue
        start, stop = clip.spans[clause.shake][0] - 2, clip.spans[clause.last][1]
        swing = np.sin(2 * np.pi * np.arange(stop - start) / (8 * 100 / signer.speed))
        track[start:stop, 0] += signer.face * swing
    return track


def _eyes(count: int, dice: Dice) -> Array:
    """Opening of the eyes: 1, with a blink about every two seconds. [count, 1]"""
    track = np.ones((count, 1))
    frame = dice.below(50)
    while frame < count:
        track[frame : frame + 2] = 0.1
        frame += 25 + dice.below(50)
    return _smooth(track)
