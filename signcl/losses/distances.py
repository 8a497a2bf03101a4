"""How far apart the frames of a batch are: what SignCL's distance margin means for these features."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from signcl.data.batch import frame_mask
from signcl.losses.precision import full_precision
from signcl.losses.signcl import Options, check, scaled


@dataclass(frozen=True)
class FrameDistances:
    """Distances between frames, to choose a distance margin and to log. Means over clips that have such pairs."""

    neighbour: Tensor
    """Mean distance of neighbouring frames."""
    far: Tensor
    """Mean distance of legal negative pairs."""
    active: Tensor
    """Share of the legal negative pairs that are closer than the distance margin, 0..1."""
    norm: Tensor
    """Mean length of a feature vector."""
    same: Tensor
    """Share of the push on legal negative pairs that `same_sign` removes, 0..1; 0 without it."""


@torch.no_grad()
def frame_distances(
    features: Tensor,
    lengths: Tensor,
    frame_margin: Tensor | float,
    distance_margin: float = 64.0,
    same_sign: float | None = None,
) -> FrameDistances:
    """Measures the frame distances that `signcl_loss` (paper variant) works on.

    If `active` is 0, the loss pushes no pair; if it is 1, no pair has reached the margin m.

    Args:
        features: [B, T, D]
        lengths: [B]
        frame_margin: frames. [B] or number
        distance_margin: m, feature units.
        same_sign: as in `signcl_loss`.

    Returns:
        Five scalars, each 0 if no clip has such a pair.
    """
    lengths, gap = check(features, lengths, frame_margin, None, doubled=True)
    with full_precision(features.device):
        x = features if features.dtype == torch.float64 else features.float()
        mask = frame_mask(lengths, x.shape[1])
        x = torch.where(mask[..., None], x, 0)
        time = torch.arange(x.shape[1], device=x.device)
        both = mask[:, :, None] & mask[:, None, :]
        far = both & ((time[:, None] - time).abs() > gap[..., None])
        distance = torch.cdist(x, x)
        steps = torch.linalg.vector_norm(x[:, 1:] - x[:, :-1], dim=-1)
        same = torch.zeros_like(distance)
        if same_sign is not None:
            counted = scaled(distance, far, Options(True, distance_margin, False, same_sign))[1]
            same = same if counted is None else 1 - counted
        return FrameDistances(
            neighbour=_mean_of(steps, mask[:, 1:]),
            far=_mean_of(distance, far),
            active=_mean_of((distance < distance_margin).to(x.dtype), far),
            norm=_mean_of(torch.linalg.vector_norm(x, dim=-1), mask),
            same=_mean_of(same, far),
        )


def _mean_of(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of the chosen values per clip, then over the clips that have any."""
    values, chosen = values.flatten(1), chosen.flatten(1)
    counts = chosen.sum(dim=1)
    each = (values * chosen).sum(dim=1) / counts.clamp(min=1)
    return each.sum() / counts.sign().sum().clamp(min=1)
