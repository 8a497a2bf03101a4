"""Training augmentation of frames, drawn once per clip, so that signing stays smooth from frame to frame.

Everything runs on the device of the frames, in one sampling pass over the batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Augment", "augment", "centre_crop"]


@dataclass(frozen=True)
class Augment:
    """How far each kind of change may go; each is applied to a clip with `probability`, on its own.

    Source: released GFSLT (rotation of 30 degrees, translation of 10 pixels, probability 0.5; its resizing is undone
    by the next resize, so `scale` is 0 there; no flip, no colour).
    """

    probability: float = 0.5
    """0 leaves frames as they are, but for the crop."""
    rotate: float = 30.0
    """Degrees to either side."""
    scale: float = 0.2
    """Relative size to either side: 0.2 draws a factor from 0.8 to 1.2."""
    translate: float = 0.05
    """Share of the frame's side, to either side."""
    brightness: float = 0.0
    """A factor from 1 - brightness to 1 + brightness."""
    contrast: float = 0.0
    """A factor from 1 - contrast to 1 + contrast on the distance from the clip's mean."""
    flip: bool = False
    """Mirrors the clip. Off by default: mirroring swaps the dominant hand."""


def augment(
    inputs: Tensor,
    clip_index: Tensor,
    num_clips: int,
    generator: torch.Generator | None = None,
    settings: Augment = Augment(),
    crop: int | None = None,
) -> Tensor:
    """Turn, scale, shift, crop and recolour frames, every frame of a clip alike.

    Args:
        inputs: uint8 RGB. [N, H, W, 3]
        clip_index: clip of each frame, 0..num_clips-1. [N] long
        num_clips: B.
        generator: of any device; equal generators give equal frames. None draws from torch's own.
        settings: kinds and sizes.
        crop: side in pixels of the square cut out at a random place; None keeps the size.

    Returns:
        uint8 RGB; pixels from beyond the edge repeat the edge. [N, H, W, 3] or [N, crop, crop, 3]

    Raises:
        ValueError: inputs that are no uint8 frames, or a crop larger than the frame.
    """
    height, width = _frame_size(inputs, crop)
    device = inputs.device if generator is None else generator.device
    draws = torch.rand(num_clips, 16, generator=generator, device=device).to(inputs.device)
    out_height, out_width = (height, width) if crop is None else (crop, crop)
    top = (draws[:, 0] * (height - out_height + 1)).long()  # [B]
    left = (draws[:, 1] * (width - out_width + 1)).long()
    if settings.probability == 0:
        return inputs if crop is None else _window(inputs, top[clip_index], left[clip_index], crop)

    on = (draws[:, 2:8] < settings.probability).float()  # [B, 6]
    signed = (draws[:, 8:14] * 2 - 1) * on  # 0 where not applied
    angle = signed[:, 0] * math.radians(settings.rotate)
    size = 1 + signed[:, 1] * settings.scale
    mirror = 1 - 2 * on[:, 5] if settings.flip else torch.ones_like(size)
    # the second coordinate of the shift shares its gate: a clip is shifted or not
    shift_x = signed[:, 2] * settings.translate * width
    shift_y = (draws[:, 14] * 2 - 1) * on[:, 2] * settings.translate * height

    # From a pixel of the output, relative to its centre, to one of the input: p_in = turn (p_out + place) + shift.
    cos, sin = angle.cos() / size, angle.sin() / size
    turn = torch.stack([torch.stack([cos * mirror, -sin], -1), torch.stack([sin * mirror, cos], -1)], -2)  # [B, 2, 2]
    place = torch.stack([left + (out_width - width) / 2, top + (out_height - height) / 2], -1)  # [B, 2]
    offset = (turn @ place[:, :, None])[:, :, 0] + torch.stack([shift_x, shift_y], -1)
    halves_in = inputs.new_tensor([width / 2, height / 2], dtype=torch.float32)  # grid_sample counts in half sides
    halves_out = inputs.new_tensor([out_width / 2, out_height / 2], dtype=torch.float32)
    theta = torch.cat([turn * halves_out / halves_in[:, None], (offset / halves_in)[:, :, None]], dim=2)  # [B, 2, 3]

    grid = F.affine_grid(theta, [num_clips, 3, out_height, out_width], align_corners=False)[clip_index]
    images = inputs.permute(0, 3, 1, 2).float()
    images = F.grid_sample(images, grid, padding_mode="border", align_corners=False)  # [N, 3, h, w]
    if settings.brightness or settings.contrast:
        images = _recolour(images, clip_index, signed[:, 3] * settings.brightness, signed[:, 4] * settings.contrast)
    return images.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def centre_crop(inputs: Tensor, crop: int) -> Tensor:
    """The square of `crop` pixels in the middle: what evaluation sees where training crops at random.

    Args:
        inputs: [N, H, W, 3].

    Returns:
        A view. [N, crop, crop, 3]
    """
    height, width = _frame_size(inputs, crop)
    top, left = (height - crop) // 2, (width - crop) // 2
    return inputs[:, top : top + crop, left : left + crop]


def _recolour(images: Tensor, clip_index: Tensor, brightness: Tensor, contrast: Tensor) -> Tensor:
    """Contrast about the clip's own mean, then brightness. `brightness`, `contrast` are changes of the factor [B]."""
    clips = len(brightness)
    frames = torch.zeros(clips, device=images.device).index_add_(0, clip_index, torch.ones_like(images[:, 0, 0, 0]))
    sums = torch.zeros(clips, device=images.device).index_add_(0, clip_index, images.mean(dim=(1, 2, 3)))
    mean = sums / frames.clamp(min=1)  # [B]
    factor = (1 + contrast) * (1 + brightness)
    constant = -mean * contrast * (1 + brightness)
    return images * factor[clip_index].view(-1, 1, 1, 1) + constant[clip_index].view(-1, 1, 1, 1)


def _window(inputs: Tensor, top: Tensor, left: Tensor, crop: int) -> Tensor:
    """A square of each frame, exact. top, left [N] -> [N, crop, crop, 3]"""
    side = torch.arange(crop, device=inputs.device)
    rows, columns = top[:, None] + side, left[:, None] + side  # [N, crop]
    frame = torch.arange(len(inputs), device=inputs.device)
    return inputs[frame[:, None, None], rows[:, :, None], columns[:, None, :]]


def _frame_size(inputs: Tensor, crop: int | None) -> tuple[int, int]:
    if inputs.ndim != 4 or inputs.shape[-1] != 3 or inputs.dtype != torch.uint8:
        raise ValueError(
            f"augmentation needs uint8 frames [N, H, W, 3], got {inputs.dtype} {list(inputs.shape)}; "
            "set input.augment.probability to 0 and no input.crop for features."
        )
    height, width = inputs.shape[1:3]
    if crop is not None and not 1 <= crop <= min(height, width):
        raise ValueError(f"input.crop must lie in 1..{min(height, width)} for frames of {height}x{width}, got {crop}.")
    return height, width
