"""Losses that make frame features slow, robust and evenly spread, without negative pairs.

They replace SignCL's push. With `slow_loss` and `invariance_loss` alone, all features could collapse into one point;
`sigreg_loss` prevents that by keeping them spread like a Gaussian. Whether they help translation is not measured yet.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from signcl.data.batch import frame_mask
from signcl.losses.lengths import clip_lengths, float_features
from signcl.losses.precision import full_precision

__all__ = ["invariance_loss", "normalized_frames", "sigreg_loss", "slow_loss"]

KNOTS, WIDEST = 17, 5.0  # points at which the characteristic functions are compared, and the farthest


def normalized_frames(features: Tensor) -> Tensor:
    """Layer-normalizes each frame: mean 0 and variance 1 over its D numbers. The input of the losses of this module.

    Args:
        features: one vector per frame. [B, T, D]

    Returns:
        z, in float32, or float64 for float64. [B, T, D]
    """
    wide = features if features.dtype == torch.float64 else features.float()
    return F.layer_norm(wide, wide.shape[-1:])


def slow_loss(features: Tensor, lengths: Tensor) -> Tensor:
    """How far each frame is from the next one: lower is smoother. Scalar

        mean over clips of mean_t |z_t - z_{t+1}|^2 / D

    with z the layer-normalized frames (`normalized_frames`). A clip of one frame adds 0.

    Args:
        features: one vector per frame. [B, T, D]
        lengths: frames without padding. [B]

    Raises:
        ValueError: shapes that do not match, or lengths beyond T.

    Source: slow feature analysis (Wiskott and Sejnowski 2002); this form is ours.
    """
    lengths = check_frames(features, lengths, "slow_loss")
    with full_precision(features.device):
        z = normalized_frames(clean_frames(features, lengths))
        apart = (z[:, 1:] - z[:, :-1]).square().mean(dim=2)  # [B, T - 1]
        real = frame_mask(lengths - 1, apart.shape[1])  # a pair belongs to the clip if its later frame does
        return ((apart * real).sum(dim=1) / (lengths - 1).clamp(min=1)).mean()


def invariance_loss(features: Tensor, other: Tensor, lengths: Tensor) -> Tensor:
    """How far a frame is from the same frame under another augmentation: lower is more robust. Scalar

        mean over clips of mean_t |z_t - z'_t|^2 / D

    with z and z' the layer-normalized frames of two views.

    Args:
        features: one vector per frame. [B, T, D]
        other: features of the same frames in another view. [B, T, D]
        lengths: frames without padding. [B]

    Raises:
        ValueError: shapes that do not match, or lengths beyond T.

    Source: as in VICReg (Bardes et al. 2022), per frame.
    """
    lengths = check_frames(features, lengths, "invariance_loss")
    if other.shape != features.shape:
        raise ValueError(
            f"invariance_loss needs two views of the same shape, got {list(features.shape)} and {list(other.shape)}."
        )
    with full_precision(features.device):
        z, views = (normalized_frames(clean_frames(x, lengths)) for x in (features, other))
        apart = (z - views).square().mean(dim=2) * frame_mask(lengths, z.shape[1])
        return (apart.sum(dim=1) / lengths.clamp(min=1)).mean()


def sigreg_loss(
    features: Tensor,
    lengths: Tensor,
    *,
    directions: int = 64,
    frames: int | None = 512,
    generator: torch.Generator | None = None,
) -> Tensor:
    """How far the frames of a batch are from an isotropic Gaussian: lower is more evenly spread. Scalar

        mean over random unit directions a of  int |phi(u) - exp(-u^2 / 2)|^2 exp(-u^2 / 2) du

    with phi the empirical characteristic function of a^T z over the frames, by the trapezoidal rule on 17 points of
    [-5, 5].

    The batch is treated as one sample, so the loss depends on which clips are in it, as a contrastive loss does. If
    there are more than `frames` frames, that many are drawn with replacement. Exactly 0 if no clip has a frame.

    Args:
        features: one vector per frame, layer-normalized here. [B, T, D]
        lengths: frames without padding. [B]
        directions: number of random directions, drawn anew in each call.
        frames: largest number of frames used; None uses all.
        generator: for directions and drawn frames; None is torch's default.

    Raises:
        ValueError: shapes that do not match, lengths beyond T, no direction or no frame.

    Source: SIGReg of LeJEPA (arXiv 2511.08544), on frames.
    """
    lengths = check_frames(features, lengths, "sigreg_loss")
    if directions < 1 or (frames is not None and frames < 1):
        raise ValueError(f"sigreg_loss needs at least 1 direction and frame, got {directions} and {frames}.")
    place = features.device
    drawn_on = place if generator is None else generator.device
    with full_precision(place):
        z = normalized_frames(clean_frames(features, lengths)).flatten(0, 1)  # [B * T, D]
        real = frame_mask(lengths, features.shape[1]).flatten().to(z.dtype)
        any_frame = real.amax()
        if frames is not None and len(z) > frames:
            z, real = z[drawn_frames(real, frames, generator)], z.new_ones(frames)
        axes = torch.randn(z.shape[1], directions, generator=generator, device=drawn_on).to(z)
        seen = z @ F.normalize(axes, dim=0)  # [N, directions]
        knots = torch.linspace(-WIDEST, WIDEST, KNOTS, dtype=z.dtype, device=place)
        angle = seen[:, :, None] * knots  # [N, directions, knots]
        weight = (real / real.sum().clamp(min=1))[:, None, None]
        cosine, sine = (angle.cos() * weight).sum(dim=0), (angle.sin() * weight).sum(dim=0)
        gaussian = torch.exp(-knots.square() / 2)
        off = ((cosine - gaussian).square() + sine.square()) * gaussian
        return torch.trapezoid(off, knots, dim=1).mean() * any_frame


def drawn_frames(real: Tensor, count: int, generator: torch.Generator | None = None) -> Tensor:
    """Indices of real frames, drawn with replacement. [count] long

    Args:
        real: 1 for a real frame, 0 for padding. [N] float
    """
    drawn_on = real.device if generator is None else generator.device
    # The r-th real frame is where the running count of real frames passes r. This never waits for the device.
    running = real.cumsum(0)
    rank = torch.rand(count, generator=generator, device=drawn_on).to(real.device) * running[-1]
    return torch.searchsorted(running, rank.to(running.dtype), right=True).clamp(max=len(real) - 1)


def check_frames(features: Tensor, lengths: Tensor, name: str) -> Tensor:
    """Validates the features and returns the lengths as a tensor. [B]"""
    float_features(features, name)
    return clip_lengths(lengths, features, name)


def clean_frames(features: Tensor, lengths: Tensor) -> Tensor:
    """The frames with padding set to zero, so that its values, even NaN, have no effect."""
    return features.masked_fill(~frame_mask(lengths, features.shape[1])[..., None], 0)
