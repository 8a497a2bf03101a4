"""Renders a performance of a signer to frames. Painted from back to front: wall, hair, torso, head, face, arms, hands;
then light, sensor noise and rounding to bytes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from signcl.data.corpora.synthetic.body import Performance, perform, slice_frames
from signcl.data.corpora.synthetic.hands import matrices, skeleton
from signcl.data.corpora.synthetic.plan import ClipPlan, CorpusPlan
from signcl.data.corpora.synthetic.render import Canvas
from signcl.data.corpora.synthetic.settings import Dice
from signcl.data.corpora.synthetic.signers import Signer

__all__ = ["Camera", "Figure", "draw_clip"]

Array = NDArray[np.float64]
CHUNK = 64  # frames painted at a time, to limit memory
HEIGHT_OF_SHOULDERS = 0.495  # from the top of the picture, as a fraction of its height
UPPER_ARM, FOREARM = 0.215, 0.205
FINGER_RADII = np.array([0.165, 0.150, 0.135, 0.115])  # root to tip, in palm lengths
PALM_RADII = np.array([[0.25, 0.20], [0.25, 0.20], [0.25, 0.20], [0.25, 0.20]])
THUMB_RADII = np.array([0.20, 0.165, 0.135])


def draw_clip(plan: CorpusPlan, clip: ClipPlan) -> NDArray[np.uint8]:
    """Draws the frames of one clip, before video encoding. They do not depend on clips drawn earlier.

    Returns:
        [T, size, size, 3] uint8 RGB
    """
    settings, signer = plan.settings, plan.signers[clip.signer]
    dice = Dice(settings.seed, "picture", clip.split, clip.name)
    performance = perform(clip, plan.lexicon, signer, settings.looseness, dice)
    camera = Camera(settings.size, clip.num_frames, settings.jitter, dice)
    light = np.array([dice.uniform(0.90, 1.08) * dice.uniform(0.97, 1.03) for _ in range(3)], np.float32)
    light *= dice.uniform(0.92, 1.06)
    wall = _wall(signer, settings.size)
    generator = np.random.Generator(np.random.PCG64(dice.bits()))
    frames = np.empty((clip.num_frames, settings.size, settings.size, 3), np.uint8)
    for start in range(0, clip.num_frames, CHUNK):
        stop = min(start + CHUNK, clip.num_frames)
        view = camera.slice_frames(start, stop)
        canvas = Canvas(view.shifted(wall))
        Figure(slice_frames(performance, start, stop), signer, view, canvas).paint()
        frames[start:stop] = _exposed(canvas.frames, light, settings.noise, generator)
    return frames


class Camera:
    """Maps world coordinates to pixels; zoom and aim differ slightly between clips, and the camera shakes."""

    def __init__(self, size: int, count: int, jitter: float, dice: Dice) -> None:
        zoom = 1 + jitter * dice.uniform(-0.03, 0.03)
        aim = np.array([dice.uniform(-0.012, 0.012), dice.uniform(-0.010, 0.010)]) * jitter
        times = np.arange(count)[:, None]
        shake = np.zeros((count, 2))
        for speed in (0.21, 0.53, 1.31):
            phase = np.array([dice.uniform(0, 2 * np.pi), dice.uniform(0, 2 * np.pi)])
            shake += np.sin(speed * times + phase)
        self.size = size
        self.scale = zoom * size
        self.origin = size * (np.array([0.5, HEIGHT_OF_SHOULDERS]) + aim + 0.0016 * jitter * shake)  # [T, 2]
        self.drift = self.origin - size * np.array([0.5, HEIGHT_OF_SHOULDERS])

    def slice_frames(self, start: int, stop: int) -> Camera:
        part = object.__new__(Camera)
        part.size, part.scale = self.size, self.scale
        part.origin, part.drift = self.origin[start:stop], self.drift[start:stop]
        return part

    def pixels(self, world: Array) -> Array:
        """[T, ..., 2 or 3] -> [T, ..., 2]"""
        shape = (len(self.origin),) + (1,) * (world.ndim - 2) + (2,)
        result: Array = self.origin.reshape(shape) + world[..., :2] * [self.scale, -self.scale]
        return result

    def shifted(self, wall: NDArray[np.float32]) -> NDArray[np.float32]:
        """The wall behind the signer, shifted by the camera drift with sub-pixel accuracy. [T, size, size, 3]"""
        margin = (wall.shape[0] - self.size) // 2
        start = np.clip(margin - self.drift, 0, 2 * margin - 1.001)
        whole = np.floor(start).astype(int)
        part = (start - whole).astype(np.float32)
        frames = np.empty((len(start), self.size, self.size, 3), np.float32)
        for t, ((left, top), (right_share, low_share)) in enumerate(zip(whole, part, strict=True)):
            block = wall[top : top + self.size + 1, left : left + self.size + 1]
            rows = block[:-1] + low_share * (block[1:] - block[:-1])
            frames[t] = rows[:, :-1] + right_share * (rows[:, 1:] - rows[:, :-1])
        return frames


class Figure:
    """The signer, painted part by part."""

    def __init__(self, performance: Performance, signer: Signer, camera: Camera, canvas: Canvas | None) -> None:
        self.signer, self.camera = signer, camera
        self.canvas: Canvas = canvas  # type: ignore[assignment]  # None: nothing is painted
        self.moves = performance
        self.unit = camera.scale * signer.size  # pixels in one world length
        self.body = performance.sway * [1.0, 0.6] + np.array(signer.place)  # [T, 2]
        self.skin, self.hair, self.cloth = (np.array(c, float) for c in (signer.skin, signer.hair, signer.cloth))
        yaw, nod = performance.head[:, 0], performance.head[:, 1]
        self.head = np.stack([0.010 * yaw, 0.215 + 0.006 * nod], axis=1)  # centre of the head [T, 2]
        self.yaw = yaw

    def paint(self) -> None:
        self._hair_behind()
        self._torso()
        self._head()
        self._face()
        arms = [self.arm(side) for side in (0, 1)]
        for shoulder, elbow, _ in arms:
            self._limb(shoulder, elbow, (0.050, 0.040), self.cloth)
        for side in (1, 0):
            _, elbow, wrist = arms[side]
            self._limb(elbow, wrist, (0.038, 0.027), self.cloth if self.signer.long_sleeves else self.skin)
            self._hand(side, wrist)

    # -- helpers: world to pixels ---------------------------------------------------------------------------------

    def placed(self, points: Array) -> Array:
        """Body coordinates to pixels. [T, ..., 2 or 3] -> [T, ..., 2]"""
        shape = (len(self.body),) + (1,) * (points.ndim - 2) + (2,)
        return self.camera.pixels(points[..., :2] * self.signer.size + self.body.reshape(shape))

    def _fixed(self, *points: tuple[float, float]) -> Array:
        """Points that move with the body only. [T, P, 2] body coordinates"""
        return np.repeat(np.array(points)[None], len(self.body), axis=0)

    def on_head(self, x: float, y: float, turns: float = 0.0) -> Array:
        """A point of the head; `turns` is its sideways shift when the head turns. [T, 2] body coordinates"""
        shift = np.stack([x + turns * self.yaw, np.full(len(self.yaw), y)], axis=1)
        point: Array = self.head + shift
        return point

    def _oval(self, centre: Array, radii: tuple[float, float] | Array, colour: Array, rim: float = 0.0) -> None:
        self.canvas.ellipse(self.placed(centre), np.asarray(radii) * self.unit, colour, rim)

    def _limb(self, start: Array, end: Array, radii: tuple[float, float], colour: Array) -> None:
        ends = self.placed(np.stack([start, end], axis=1)[:, None])
        self.canvas.capsules(ends, np.array([radii]) * self.unit, colour, 0.38)

    # -- parts ----------------------------------------------------------------------------------------------------

    def _hair_behind(self) -> None:
        width, height = self.signer.head
        if self.signer.haircut == "long":
            for side in (-1, 1):
                ends = np.stack([self.on_head(side * width * 0.75, 0.02), self.on_head(side * width * 0.95, -0.20)], 1)
                self.canvas.capsules(self.placed(ends[:, None]), np.array([[0.045, 0.035]]) * self.unit, self.hair, 0.3)
        elif self.signer.haircut == "bun":
            self._oval(self.on_head(0.0, height * 1.12), (0.045, 0.042), self.hair, 0.35)
        elif self.signer.haircut == "bob":
            self._oval(self.on_head(0.0, -0.01), (width * 1.32, height * 1.06), self.hair, 0.3)
        elif self.signer.haircut == "curls":
            for x, y in ((-0.9, 0.55), (0.9, 0.55), (-1.05, 0.1), (1.05, 0.1), (-0.5, 0.98), (0.5, 0.98), (0.0, 1.1)):
                self._oval(self.on_head(x * width, y * height), (0.040, 0.040), self.hair, 0.4)

    def _torso(self) -> None:
        reach = self.signer.shoulder
        points = self._fixed((-reach, -0.035), (reach, -0.035), (-reach * 0.80, -0.62), (reach * 0.80, -0.62))
        points = self.placed(points)
        left, right, low_left, low_right = (points[:, number] for number in range(4))
        middle_top, middle_low = (left + right) / 2, (low_left + low_right) / 2
        ends = np.stack([np.stack([left, right], 1), np.stack([left, low_left], 1), np.stack([right, low_right], 1),
                         np.stack([middle_top, middle_low], 1)], 1)  # fmt: skip
        radii = np.array([[0.052, 0.052], [0.052, 0.10], [0.052, 0.10], [reach * 0.8, reach * 0.85]]) * self.unit
        # The last capsule fills the middle of the torso; its top must not rise above the shoulders.
        ends[:, 3, 0, 1] += radii[3, 0] - 0.052 * self.unit
        self.canvas.capsules(ends, radii, self.cloth, 0.16)
        self._oval(self._fixed((0.0, 0.012))[:, 0], (0.072, 0.036), self.cloth * 0.72)
        neck = np.stack([self.head + np.array([0, -0.06]), self._fixed((0.0, 0.012))[:, 0]], axis=1)[:, None]
        self.canvas.capsules(self.placed(neck), np.array([[0.046, 0.052]]) * self.unit, self.skin * 0.84, 0.2)

    def _head(self) -> None:
        width, height = self.signer.head
        for side in (-1, 1):
            self._oval(self.on_head(side * width, -0.005, -0.006), (0.018, 0.030), self.skin * 0.86, 0.2)
        if self.signer.haircut != "bald":
            self._oval(self.on_head(0.0, 0.018), (width * 1.10, height * 1.06), self.hair, 0.3)
        low = 0.0 if self.signer.haircut == "bald" else -0.012
        self._oval(self.on_head(0.0, low, 0.004), (width, height + low), self.skin, 0.22)
        if self.signer.beard:
            self._oval(self.on_head(0.0, -height * 0.66, 0.014), (width * 0.70, height * 0.40), self.hair, 0.2)

    def _face(self) -> None:
        width, height = self.signer.head
        raised = self.moves.brows[:, 0]
        dark = self.skin * 0.55
        feature = 0.030  # how far facial features shift when the head turns
        for side in (-1, 1):
            x = side * width * 0.43
            eye = self.on_head(x, height * 0.12, feature)
            opening = np.clip(self.moves.eyes[:, 0] * (1 + 0.25 * raised), 0.08, 1.4)
            size = np.stack([np.full(len(opening), 0.0215), 0.0130 * opening], axis=1)
            self._oval(eye, size, np.array([246.0, 244, 240]))
            iris = np.minimum(size, 0.0120)
            self._oval(eye, iris, np.array([40.0, 30, 28]))
            lift = np.where(raised > 0, 0.030, 0.014) * raised
            frown = np.maximum(-raised, 0) * 0.018
            inner = self.on_head(x - side * 0.026, height * 0.42, feature) + np.stack([0 * lift, lift - frown], 1)
            outer = self.on_head(x + side * 0.030, height * 0.40, feature) + np.stack([0 * lift, lift + frown / 2], 1)
            brow = self.placed(np.stack([inner, outer], axis=1)[:, None])
            self.canvas.capsules(brow, np.array([[0.0088, 0.0062]]) * self.unit, np.minimum(self.hair, dark), 0.0)
            if self.signer.glasses:
                self._ring(eye, 0.034)
        nose = np.stack([self.on_head(0.0, height * 0.10, feature * 1.2), self.on_head(0.0, -0.026, feature * 1.4)], 1)
        self.canvas.capsules(self.placed(nose[:, None]), np.array([[0.006, 0.0125]]) * self.unit, self.skin * 0.88, 0.1)
        wide, opening, lip, teeth = self.moves.mouth.T
        mouth = self.on_head(0.0, -height * 0.53, feature)
        lips = 0.45 * self.skin + 0.55 * np.array([150.0, 44, 52])
        self._oval(mouth, np.stack([wide + lip * 0.8, opening + lip], axis=1), lips)
        inside = np.stack([wide * 0.96, np.maximum(opening, 0.0022)], axis=1)
        bright = np.array([58.0, 16, 22]) + teeth[:, None] * np.array([184.0, 222, 212])
        self._oval(mouth, inside, bright)

    def _ring(self, centre: Array, radius: float) -> None:
        """One rim of the glasses: eight short strokes around the eye."""
        angles = np.linspace(0, 2 * np.pi, 9)
        points = centre[:, None] + radius * np.stack([np.cos(angles), 0.85 * np.sin(angles)], axis=1)
        ends = self.placed(np.stack([points[:, :-1], points[:, 1:]], axis=2))
        self.canvas.capsules(ends, np.full((8, 2), 0.0035 * self.unit), np.array([38.0, 36, 40]), 0.0)

    def mirror(self, side: int) -> float:
        """-1 for the left hand, whose own coordinates are mirrored in x; 1 for the right hand."""
        return -1.0 if (side == 1) != self.signer.left_handed else 1.0

    def arm(self, side: int) -> tuple[Array, Array, Array]:
        """Shoulder, elbow and wrist in body coordinates. [T, 3] each"""
        length = self.signer.hand
        wrist = self.moves.centres[side] - 0.62 * length * matrices(self.moves.turns[side])[:, :, 1]
        shoulder = np.array([-self.signer.shoulder, -0.035, 0.0])
        # Two-bone arm: the elbow is on a circle around the line from shoulder to wrist, pointing outwards and down.
        line = wrist - shoulder
        distance = np.linalg.norm(line, axis=1, keepdims=True)
        towards = line / np.maximum(distance, 1e-6)
        reach = np.clip(distance, abs(UPPER_ARM - FOREARM) + 1e-3, UPPER_ARM + FOREARM - 1e-3)
        along = (UPPER_ARM**2 - FOREARM**2 + reach**2) / (2 * reach)
        off = np.sqrt(np.maximum(UPPER_ARM**2 - along**2, 0))
        pole = np.array([-0.55, -1.0, -0.25])
        pole = pole - towards * (towards @ pole)[:, None]
        elbow = shoulder + along * towards + off * pole / np.linalg.norm(pole, axis=1, keepdims=True)
        flip = np.array([self.mirror(side), 1.0, 1.0])
        return np.broadcast_to(shoulder * flip, wrist.shape), elbow * flip, wrist * flip

    def _hand(self, side: int, wrist: Array) -> None:
        """Paints palm, fingers and thumb, the farthest first in every frame."""
        length = self.signer.hand
        parts = skeleton(self.moves.shapes[side], self.moves.turns[side])  # [T, 6, 4, 2, 3]
        facing = matrices(self.moves.turns[side])[:, 2, 2]  # 1 where the palm faces the camera
        parts[..., 0] *= self.mirror(side)
        ends = self.placed(wrist[:, None, None, None] + length * parts)
        radii = np.empty((6, 4, 2))
        radii[0] = PALM_RADII
        radii[1:5, :3] = np.stack([FINGER_RADII[:3], FINGER_RADII[1:]], axis=1)
        radii[5, :2] = np.stack([THUMB_RADII[:2], THUMB_RADII[1:]], axis=1)
        radii[5, 2] = radii[5, 1]
        radii[1:, 3] = radii[1:, 2]
        radii *= length * self.unit
        depth = parts[..., 2].mean(axis=(2, 3))  # [T, 6]
        depth[:, 0] -= 0.02
        order = np.argsort(depth, axis=1, kind="stable")
        # The palm side of a hand is lighter than its back, especially with dark skin.
        inside = np.array([255.0, 214, 190])
        tint = (0.38 * np.clip(facing, 0, 1))[:, None]
        colour = self.skin * (1 - tint) + (0.45 * self.skin + 0.55 * inside) * tint
        rows = np.arange(len(order))
        near = depth[rows[:, None], order]
        for place in range(6):
            chosen = order[:, place]
            # Parts closer to the camera are lighter, parts farther away are darker.
            relief = np.clip(1.0 + 0.16 * (near[:, place] - depth.mean(axis=1)), 0.86, 1.10)
            shade = relief[:, None] * np.where(chosen == 0, 0.93, 1.03)[:, None]
            self.canvas.capsules(ends[rows, chosen], radii[chosen], np.clip(colour * shade, 0, 255), 0.42)


def _wall(signer: Signer, size: int) -> NDArray[np.float32]:
    """The background, with a margin for the camera drift. [size + 2 * margin, size + 2 * margin, 3]"""
    margin = max(4, size // 10)
    whole = size + 2 * margin
    ramp = np.linspace(1.06, 0.90, whole, dtype=np.float32)[:, None, None]
    wall = np.ones((1, whole, whole, 3), np.float32) * np.array(signer.wall, np.float32) * ramp
    canvas, colour = Canvas(wall), np.array(signer.wall, float)

    def bar(x0: float, y0: float, x1: float, y1: float, radius: float, paint: Array) -> None:
        ends = (np.array([[[[x0, y0], [x1, y1]]]]) * size) + margin
        canvas.capsules(ends, np.array([[radius, radius]]) * size, paint, 0.0)

    if signer.backdrop == "panel":
        bar(0.0, 1.1, 1.0, 1.1, 0.42, colour * 0.82)
    elif signer.backdrop == "window":
        for x in (0.06, 0.17):
            bar(x, 0.08, x, 0.42, 0.045, np.minimum(colour * 1.28 + 12, 255))
    elif signer.backdrop == "shelf":
        bar(0.72, 0.30, 1.1, 0.30, 0.012, colour * 0.6)
        for number, x in enumerate((0.78, 0.82, 0.87, 0.92, 0.96)):
            tone = np.array([[170, 70, 60], [70, 100, 150], [200, 180, 120], [80, 130, 90], [120, 90, 130]], float)
            bar(x, 0.20 - 0.02 * (number % 2), x, 0.275, 0.016, tone[number])
    behind: NDArray[np.float32] = canvas.frames[0]
    return behind


def _exposed(
    frames: NDArray[np.float32], light: NDArray[np.float32], noise: float, generator: np.random.Generator
) -> NDArray[np.uint8]:
    """Applies light, sensor noise and rounding. Noise is cut at random from one sheet, which is faster than drawing."""
    frames *= light
    if noise:
        per_frame = frames[0].size
        sheet = noise * generator.standard_normal(3 * per_frame, dtype=np.float32)
        for frame, start in zip(frames, generator.integers(0, 2 * per_frame, len(frames)), strict=True):
            frame += sheet[start : start + per_frame].reshape(frame.shape)
    frames += 0.5
    result: NDArray[np.uint8] = np.clip(frames, 0, 255).astype(np.uint8)
    return result
