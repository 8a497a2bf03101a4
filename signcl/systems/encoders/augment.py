"""Training augmentation of frames, sampled once per clip, so that motion stays smooth from frame to frame.

Everything runs on the device of the frames, with one grid_sample over the batch.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from signcl.data.sections import AugmentRecipe

__all__ = ["augment"]


def augment(
    inputs: Tensor,
    clip_index: Tensor,
    num_clips: int,
    generator: torch.Generator | None = None,
    settings: AugmentRecipe | None = None,
) -> Tensor:
    """Rotate, scale, shift and recolour frames, with the same parameters for all frames of a clip.

    Args:
        inputs: uint8 RGB. [N, H, W, 3]
        clip_index: clip of each frame, 0..num_clips-1. [N] long
        num_clips: B.
        generator: on any device; equal generators give equal frames. None: torch's default generator.
        settings: kinds and strengths; None: the recipe's defaults, with the released probability of 0.5.

    Returns:
        uint8 RGB; edge pixels are repeated beyond the edge. [N, H, W, 3]

    Raises:
        ValueError: inputs are not uint8 frames.
    """
    if inputs.ndim != 4 or inputs.shape[-1] != 3 or inputs.dtype != torch.uint8:
        raise ValueError(
            f"augmentation needs uint8 frames [N, H, W, 3], got {inputs.dtype} {list(inputs.shape)}; "
            "set input.augment.probability to 0 for features."
        )
    settings = settings or AugmentRecipe(probability=0.5)
    if settings.probability == 0:
        return inputs
    height, width = inputs.shape[1:3]
    device = inputs.device if generator is None else generator.device
    draws = torch.rand(num_clips, 13, generator=generator, device=device).to(inputs.device)
    on = (draws[:, :6] < settings.probability).float()  # [B, 6] rotate, scale, translate, brightness, contrast, flip
    signed = (draws[:, 6:11] * 2 - 1) * on[:, :5]  # 0 where not applied
    angle = signed[:, 0] * math.radians(settings.rotate)
    size = 1 + signed[:, 1] * settings.scale
    mirror = 1 - 2 * on[:, 5] if settings.flip else torch.ones_like(size)
    shift = (draws[:, 11:13] * 2 - 1) * on[:, 2:3] * settings.translate * 2  # grid_sample counts in half sides

    # Map output positions to input positions, relative to the centre: rotate in pixels, then convert to half sides.
    cos, sin = angle.cos() / size, angle.sin() / size
    turn = torch.stack([torch.stack([cos * mirror, -sin], -1), torch.stack([sin * mirror, cos], -1)], -2)  # [B, 2, 2]
    halves = torch.tensor([width / 2, height / 2], device=inputs.device)
    theta = torch.cat([turn * halves / halves[:, None], shift[:, :, None]], dim=2)  # [B, 2, 3]

    grid = F.affine_grid(theta, [num_clips, 3, height, width], align_corners=False)[clip_index]
    images = inputs.permute(0, 3, 1, 2).float()
    images = F.grid_sample(images, grid, padding_mode="border", align_corners=False)  # [N, 3, H, W]
    if settings.brightness or settings.contrast:
        images = _recolour(images, clip_index, signed[:, 3] * settings.brightness, signed[:, 4] * settings.contrast)
    return images.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _recolour(images: Tensor, clip_index: Tensor, brightness: Tensor, contrast: Tensor) -> Tensor:
    """Scale the contrast around the clip's mean, then the brightness, by 1 + `contrast` and 1 + `brightness` [B]."""
    clips = len(brightness)
    frames = torch.zeros(clips, device=images.device).index_add_(0, clip_index, torch.ones_like(images[:, 0, 0, 0]))
    sums = torch.zeros(clips, device=images.device).index_add_(0, clip_index, images.mean(dim=(1, 2, 3)))
    mean = sums / frames.clamp(min=1)  # [B]
    factor = (1 + contrast) * (1 + brightness)
    constant = -mean * contrast * (1 + brightness)
    return images * factor[clip_index].view(-1, 1, 1, 1) + constant[clip_index].view(-1, 1, 1, 1)
