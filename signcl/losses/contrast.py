"""The arithmetic under `signcl_loss`: which frames pull and push, and a loss found together with its gradient.

Distances over all legal pairs come from matrix products (|a|^2 + |b|^2 - 2ab), strip by strip, and so does the
gradient: there is no [B, T, T, D] tensor and none of the [B, T, T] either on a CPU. Neighbours and listed negatives
are subtracted directly. Nothing here waits for the device: no `.item()`, no boolean indexing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from signcl.data.batch import frame_mask

STRIP_ROWS = 96  # anchors per matrix product on a CPU: a strip's distances stay in cache, and little is computed twice
WHOLE = 1e-3  # frames: a gap this near below a whole number is that number, so that 2 * 10 * 2.3 is 46 everywhere
SAME = 2e-6  # of |a|^2 + |b|^2, centred: squared distances below it are float32 rounding, not distance

Term = Callable[[Tensor], tuple[Tensor, Tensor | float]]
"""Distance -> (value, slope) of one half of the loss."""


class _WithGradient(torch.autograd.Function):
    """A scalar whose gradient was found along with it: autograd stores [B, T, D] and recomputes nothing."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        if torch.is_grad_enabled():  # `gradient` would pass for a constant, and second derivatives would be wrong
            raise RuntimeError("signcl_loss can be differentiated once only; call backward without create_graph=True.")
        (gradient,) = ctx.saved_tensors
        return gradient * upstream, None, None


def with_gradient(features: Tensor, value: Tensor, gradient: Tensor | None) -> Tensor:
    """`value`, connected to `features` by its gradient where there is one."""
    if gradient is None:
        return value
    connected: Tensor = _WithGradient.apply(features, value, gradient)  # type: ignore[no-untyped-call]
    return connected


def check(
    features: Tensor, lengths: Tensor, frame_margin: Tensor | float, negatives: int | Tensor | None, factor: int
) -> tuple[Tensor, int]:
    """Refuses what cannot be meant; returns the gap, the whole frames that a negative must lie beyond.

    Returns:
        floor(factor * frame_margin) [B, 1] or [1, 1], and a lower bound of it known without waiting for the device.
    """
    if features.dim() != 3 or not features.is_floating_point() or features.shape[0] == 0:
        raise ValueError(
            f"frame contrast needs float features [B, T, D] with B >= 1, got {features.dtype} "
            f"{list(features.shape)}; one clip is features[None]."
        )
    clips, padded, _ = features.shape
    if lengths.shape != (clips,):
        raise ValueError(f"frame contrast needs one length per clip, [{clips}], got {list(lengths.shape)}.")
    if not isinstance(negatives, Tensor) and negatives is not None and negatives < 1:
        raise ValueError(f"frame contrast needs at least 1 negative per anchor, got {negatives}; None uses them all.")
    on_host = not torch.compiler.is_compiling()
    if on_host and lengths.device.type == "cpu" and int(lengths.max()) > padded:
        raise ValueError(f"frame contrast got lengths up to {int(lengths.max())} for features of {padded} frames.")
    if not isinstance(frame_margin, Tensor):
        gap = math.floor(max(-padded, min(padded, frame_margin * factor + WHOLE)))
        return torch.full((1, 1), float(gap), device=features.device), gap
    if frame_margin.dim() > 1 or frame_margin.numel() not in (1, clips):
        raise ValueError(
            f"frame contrast needs one frame_margin, or one per clip [{clips}], got {list(frame_margin.shape)}."
        )
    gaps = (frame_margin.float() * factor + WHOLE).floor_().clamp_(-padded, padded)
    least_gap = int(gaps.min()) if on_host and gaps.device.type == "cpu" else -padded
    return gaps.to(features.device).view(-1, 1), least_gap


def per_clip(negatives: Tensor, clips: int, anchors: int) -> Tensor:
    """Listed negatives as [B, A, k], whether given per clip or once for all."""
    if negatives.is_floating_point() or negatives.dim() not in (2, 3) or negatives.shape[-2] != anchors:
        raise ValueError(
            f"frame contrast needs listed negatives as whole numbers [{anchors}, k] or [{clips}, {anchors}, k], "
            f"got {negatives.dtype} {list(negatives.shape)}."
        )
    return negatives.expand(clips, -1, -1)


def full_precision(device: torch.device) -> AbstractContextManager[None]:
    """Switches autocast off: distances in half precision are mostly rounding."""
    if torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def without_padding(features: Tensor, mask: Tensor) -> Tensor:
    """A copy with zeros on padding, whatever stood there: infinities and NaN too, which times zero stay NaN. [B, T, D]

    The mask is laid over the bits: on a CPU six times as fast as `torch.where` or `masked_fill`.
    """
    bits = {4: torch.int32, 8: torch.int64}[features.element_size()]
    return features.contiguous().view(bits).bitwise_and(-mask[..., None].to(bits)).view(features.dtype)


def unit_rows(x: Tensor) -> Tensor:
    """Rows of length 1; a row of zeros stays zero and passes no gradient. [..., D]"""
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / torch.where(norm > 1e-12, norm, torch.inf)


@dataclass(frozen=True)
class Anchors:
    """How much each pair of a batch weighs. Weights hold every normalisation, so that terms are only summed."""

    first: int
    """Frame of the first anchor."""
    weight: Tensor
    """Of each anchor's mean over its positives, and over its negatives; 0 = no anchor. [B, A] or [1, 1]"""
    neighbour: Tensor
    """Of the pair (t, t+1), from both of its anchors. [B, T-1] or [1, T-1]"""


@dataclass(frozen=True)
class Places:
    """Where each frame stands in its clip, as numbers of the features' type."""

    time: Tensor
    """Frames before it. [T]"""
    after: Tensor
    """Frames of its clip after it, negative on padding. [B, T]"""
    mask: Tensor
    """True = real. [B, T]"""


def places(lengths: Tensor, padded: int, dtype: torch.dtype) -> Places:
    """Time counted from either end of each clip."""
    time = torch.arange(padded, device=lengths.device, dtype=dtype)
    return Places(time, (lengths[:, None] - 1) - time, frame_mask(lengths, padded))


def every_frame(at: Places, lengths: Tensor) -> Anchors:
    """Each valid frame is an anchor; 1/N per clip, mean over clips (Eq. 5)."""
    weight = at.mask / (lengths[:, None].clamp(min=1) * len(lengths)).to(at.time.dtype)
    positives = at.time.clamp(max=1) + at.after.clamp(0, 1)  # 1 at the ends of a clip, 2 between
    each = weight / positives.clamp_(min=1)
    return Anchors(0, weight, (each[:, 1:] + each[:, :-1]) * at.mask[:, 1:])


def released_frames(clips: int, padded: int, device: torch.device, dtype: torch.dtype) -> Anchors:
    """Anchors 1..T-3, each a mean over the batch, divided by B * (T - 4) once more, as released. Needs T > 4."""
    each = 1 / (clips * clips * (padded - 4))
    neighbour = torch.full((1, padded - 1), each, device=device, dtype=dtype)
    neighbour[:, :: padded - 3] = each / 2  # (0, 1) and (T-3, T-2) belong to one anchor,
    neighbour[:, -1] = 0  # (T-2, T-1) to none
    return Anchors(1, torch.full((1, 1), each, device=device, dtype=dtype), neighbour)


def pull_neighbours(x: Tensor, weight: Tensor, order: int, term: Term, wanted: bool) -> tuple[Tensor, Tensor | None]:
    """Sum of weight * term(d(x_t, x_t+1)) and, if wanted, its gradient: 0 in direction where two frames are equal.

    Args:
        x: [B, T, D]; T >= 1
        weight: [B, T-1] or [1, T-1]
        order: 2 Euclidean, 1 city block.
    """
    steps = x[:, 1:] - x[:, :-1]
    direction, distance = _direction(steps, order)
    value, slope = term(distance)
    total = (value * weight).sum()
    if not wanted:
        return total, None
    direction(slope * weight)
    gradient = F.pad(steps, (0, 0, 1, 0))  # of the later frame of each pair
    gradient[:, :-1].sub_(steps)
    return total, gradient


def _direction(difference: Tensor, order: int) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """The distance, and a function that turns `difference` in place into coefficient * d(distance)/d(difference)."""
    if order == 1:
        return lambda coefficient: difference.sign_().mul_(coefficient[..., None]), difference.abs().sum(dim=-1)
    distance = torch.linalg.vector_norm(difference, dim=-1)
    inverse = distance.sign() / distance.clamp(min=1e-30)
    return lambda coefficient: difference.mul_((coefficient * inverse)[..., None]), distance


@dataclass(frozen=True)
class Strip:
    """Some anchors against the frames after them: on a CPU a strip of anchors, elsewhere all at once."""

    rows: slice
    columns: slice
    distance: Tensor
    """[B, rows, columns]"""
    inverse: Tensor
    """1 / distance, always finite: no smaller distance than rounding leaves. [B, rows, columns]"""
    pairs: Tensor
    """1 where the column lies beyond the row's reach, else 0. [B, rows, columns]"""


def strips(x: Tensor, at: Places, gap: Tensor, least_gap: int) -> Iterator[Strip]:
    """Distances of all legal pairs i < j, strip by strip; tensors are the caller's to change.

    Args:
        x: zero on padding, with the clips' first frames at the origin: near it little is lost to rounding. [B, T, D]
        gap: whole frames, at least 0. [B, 1]
        least_gap: no clip's gap is smaller; where it is known without asking the device, fewer pairs are computed.
    """
    padded, dtype = x.shape[1], x.dtype
    reach = at.time + gap
    partner = at.time * at.mask  # padding stands at frame 0, beyond nobody's reach
    squares = torch.linalg.vector_norm(x, dim=-1).square_()
    same = SAME * torch.finfo(dtype).eps / torch.finfo(torch.float32).eps
    stripped, stop = in_strips(x), padded - max(0, least_gap) - 1
    for start in range(0, stop, STRIP_ROWS) if stripped else range(1):
        rows, columns = slice(padded), slice(padded)
        if stripped:
            rows, columns = slice(start, min(start + STRIP_ROWS, stop)), slice(padded - stop + start, padded)
        product = torch.bmm(x[:, rows], x[:, columns].transpose(1, 2))
        if not stripped:  # from the product itself: TF32 rounds all three terms alike, and equal frames stay equal
            squares = product.diagonal(dim1=1, dim2=2)
        scale = squares[:, rows, None] + squares[:, None, columns]
        squared = torch.sub(scale, product, alpha=2)
        inverse = torch.maximum(squared, scale.mul_(same).add_(1e-30)).rsqrt_()  # the safe root: 1/d, always finite
        pairs = (partner[:, None, columns] - reach[:, rows, None]).clamp_(0, 1)  # 1 where j lies beyond i + gap
        yield Strip(rows, columns, squared.mul_(inverse), inverse, pairs)


def push_all(
    x: Tensor,
    at: Places,
    anchors: Anchors,
    gap: Tensor,
    least_gap: int,
    margin: Tensor | float,
    gradient: Tensor | None,
    same_sign: Tensor | None = None,
) -> Tensor:
    """Sum over all pairs |i-j| > gap of weight * max(0, margin - |x_i - x_j|); adds its gradient to `gradient`.

    With W_ij = weight_ij / d_ij on pairs nearer than the margin, the gradient is W x - rowsum(W) x: two more products.

    Args:
        x: zero on padding, with the clips' first frames at the origin. [B, T, D]
        gap, least_gap: as in `strips`.
        margin: one for all, or of each clip. [B, 1, 1]
        same_sign: distance at which a pair counts half, of each clip (`different_signs`); None counts all. [B, 1, 1]
    """
    legal = (at.time - gap).clamp_(min=0) + (at.after - gap).clamp_(min=0)
    weight = anchors.weight / legal.clamp_(min=1)  # of one pair, seen from its anchor; anchors without any never occur
    rowsum = torch.zeros(x.shape[:2], dtype=x.dtype, device=x.device)
    total = x.new_zeros(())
    for strip in strips(x, at, gap, least_gap):
        rows, columns, inverse, pairs = strip.rows, strip.columns, strip.inverse, strip.pairs
        own, others = x[:, rows], x[:, columns]
        pairs.mul_(weight[:, rows, None] + weight[:, None, columns])
        if same_sign is not None:
            pairs.mul_(different_signs(inverse, same_sign))
        hinge = torch.rsub(strip.distance, margin).clamp_(min=0)
        total = total + torch.dot(hinge.view(-1), pairs.view(-1))
        if gradient is not None:
            push = inverse.mul_(pairs).mul_(hinge.sign_())
            gradient[:, rows].baddbmm_(push, others)
            gradient[:, columns].baddbmm_(push.transpose(1, 2), own)
            rowsum[:, rows].add_(push.sum(dim=2))
            rowsum[:, columns].add_(push.sum(dim=1))
    if gradient is not None:
        gradient.addcmul_(x, rowsum[..., None], value=-1)
    return total


def different_signs(inverse: Tensor, same_sign: Tensor) -> Tensor:
    """How surely a pair shows two signs: 1 / (1 + (same_sign / d)^8), a logistic of ln d. Half at `same_sign`.

    Args:
        inverse: 1 / d. [B, ...]
        same_sign: distance, 0 counts every pair fully. [B, 1] or [B, 1, 1]
    """
    return (inverse * same_sign).pow_(8).add_(1).reciprocal_()  # an overflow to infinity gives 0, as it should


def mean_far(x: Tensor, at: Places, gap: Tensor, least_gap: int) -> Tensor:
    """The mean distance of the legal pairs |i-j| > gap of each clip, 0 without any. Arguments as in `strips`. [B]"""
    total = x.new_zeros(len(x))
    for strip in strips(x, at, gap, least_gap):
        total = total + strip.distance.mul_(strip.pairs).sum(dim=(1, 2))
    legal = (at.after - gap).clamp(min=0).mul_(at.mask).sum(dim=1)
    return total / legal.clamp_(min=1)


def mean_listed(x: Tensor, negatives: Tensor, legal: Tensor) -> Tensor:
    """The mean distance of the listed pairs of each clip, 0 without any. [B]

    Args:
        x: zero on padding. [B, T, D]
        negatives: frame numbers. [B, T, k]
        legal: entries that count. [B, T, k]
    """
    total = x.new_zeros(len(x))
    clips = torch.arange(len(x), device=x.device)[:, None]
    for partner, real in zip(negatives.unbind(dim=2), legal.unbind(dim=2)):
        distance = torch.linalg.vector_norm(x[clips, torch.where(real, partner, 0)] - x, dim=-1)
        total = total + (distance * real).sum(dim=1)
    return total / legal.sum(dim=(1, 2)).clamp(min=1)


def in_strips(x: Tensor) -> bool:
    """On a CPU only legal pairs i < j are computed, strip by strip; elsewhere one square product is quicker."""
    return x.device.type == "cpu"


def push_listed(
    x: Tensor, anchors: Anchors, negatives: Tensor, legal: Tensor, order: int, term: Term, gradient: Tensor | None
) -> Tensor:
    """Sum over listed pairs of weight * term(d), the weight shared by an anchor's legal ones; adds to `gradient`.

    Args:
        x: zero on padding. [B, T, D]
        negatives: frame numbers. [B, A, k]
        legal: entries that count; the others may hold any number. [B, A, k]
    """
    clips, padded, size = x.shape
    own = x[:, anchors.first : anchors.first + negatives.shape[1]]
    weights = (legal * (anchors.weight / legal.sum(dim=2).clamp_(min=1))[..., None]).unbind(dim=2)
    offset = torch.arange(0, clips * padded, padded, device=x.device)[:, None, None]
    rows = (torch.where(legal, negatives, 0) + offset).view(-1, negatives.shape[2]).t().contiguous().unbind()
    table, values = x.view(-1, size), []
    if gradient is not None:
        own_gradient = gradient[:, anchors.first : anchors.first + negatives.shape[1]]
        table_gradient = gradient.view(-1, size)
    for row, weight in zip(rows, weights, strict=True):  # one negative of every anchor at a time: 2 MB, not 2 MB * k
        difference = table.index_select(0, row).view(own.shape).sub_(own)
        direction, distance = _direction(difference, order)
        value, slope = term(distance)
        values.append(value * weight)
        if gradient is not None:
            direction(slope * weight)
            own_gradient.sub_(difference)
            table_gradient.index_add_(0, row, difference.view(-1, size))
    return torch.stack(values).sum()


def draw_negatives(
    anchor: Tensor, first: int, last: Tensor, gap: Tensor, count: int, generator: torch.Generator | None
) -> Tensor:
    """`count` different frames j of first..last with |i-j| > gap for every anchor i, each set equally likely.

    Robert Floyd's sampling: no frame is looked at that is not drawn, so the cost does not grow with the clip.

    Args:
        anchor: frame of each anchor. [A]
        last: last candidate of each clip. [B, 1]
        gap: [B, 1] or [1, 1]; below 0 every candidate is legal, the anchor too (released code, clips under 30 frames).

    Returns:
        Frames, -1 where fewer are legal. [B, A, count]
    """
    stop = last + 1
    left = (torch.minimum(anchor - gap, stop) - first).clamp_(min=0)  # candidates before the anchor
    right_start = torch.maximum(anchor + gap + 1, left + first)
    total = left + (stop - right_start).clamp_(min=0)
    tops = total[..., None] + torch.arange(
        -count, 0, device=anchor.device
    )  # below 0 where fewer than `count` are legal
    device = anchor.device if generator is None else generator.device
    uniform = torch.rand(tops.shape, generator=generator, device=device).to(anchor.device)
    drawn = torch.minimum((uniform * (tops + 1)).long(), tops)
    for slot in range(1, count):  # a number that was drawn before is replaced by the largest, which cannot have been
        top, pick = tops[..., slot], drawn[..., slot]
        pick.copy_(torch.where((drawn[..., :slot] == pick[..., None]).any(dim=2), top, pick))
    frames = torch.where(drawn < left[..., None], drawn + first, drawn + (right_start - left)[..., None])
    return torch.where(tops >= 0, frames, -1)
