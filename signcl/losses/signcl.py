"""SignCL, the frame contrast of the paper: margins, the loss in its two variants, and the module for other models.

Neighbouring frames are pulled together; frames more than a gap apart, hence of other signs, are pushed away from each
other. Paper section 4.1, Eq. 4-5. Where paper and released code differ: docs/paper-vs-code.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from signcl.data.batch import frame_mask
from signcl.losses import contrast

Variant = Literal["paper", "released"]
MarginMode = Literal["absolute", "relative"]
DISTANCE_MARGINS = {"paper": 64.0, "released": 32.0}  # m of Eq. 5, after SMKD's inter-gloss distance; M of the code
ZIPF = 2.3  # spoken words per gloss, paper section 4.1


def estimate_frame_margin(
    num_frames: Tensor | int, num_words: Tensor | int, words_per_gloss: float = ZIPF, floor: float = 10
) -> Tensor:
    """About how many frames a sign of each clip lasts; negatives lie more than twice as far away.

    margin = max(floor, frames / words * words_per_gloss), in frames and fractions of them, as the paper prints it:
    whether |i-j| > 2 * margin is decided by `signcl_loss`.

    Args:
        num_frames: frames of each clip, without padding. [B]
        num_words: spoken words of each sentence (`signcl.data.text.count_words`). For Chinese, 2.3 * characters / 2.18:
            CSL-Daily writes 2.18 characters per gloss, so that the margin is frames per gloss there too. No words
            count as one, and then no negatives are left. [B]
        words_per_gloss: 2.3 in the paper; PHOENIX-2014T has 1.9.
        floor: smallest margin, frames.

    Returns:
        Margins. [B] float32 (scalar for two plain numbers)

    Source: paper section 4.1. Released code: `released_frame_margin`.
    """
    words = torch.as_tensor(num_words)
    frames = torch.as_tensor(num_frames, device=words.device)
    margin = frames.to(torch.float32) / words.to(torch.float32).clamp(min=1) * words_per_gloss
    return margin.clamp(min=floor)


def released_frame_margin(padded_frames: int, padded_tokens: int) -> int:
    """The one gap that the released trainers pass for a whole batch; use it with `variant="released"` only.

    g = min(2 * max(10, int((T // U + 1) * 2.3)), int((T - 30) / 2)). It is doubled already; below 30 frames it is
    negative, and then every frame is a negative of every other and of itself.

    Args:
        padded_frames: T, frames of the longest clip including the edge copies (16 or more). frames
        padded_tokens: U, tokens of the longest sentence including end marks.

    Source: released code, train_*_SignCL.py; paper: `estimate_frame_margin`.
    """
    return min(max(10, int((padded_frames // padded_tokens + 1) * 2.3)) * 2, int((padded_frames - 30) / 2))


def signcl_loss(
    features: Tensor,
    lengths: Tensor,
    frame_margin: Tensor | float,
    *,
    variant: Variant = "paper",
    distance_margin: float | None = None,
    negatives: int | Tensor | None = None,
    generator: torch.Generator | None = None,
    distance_margin_mode: MarginMode = "absolute",
    same_sign: float | None = None,
) -> Tensor:
    """How badly neighbouring frames lie apart and far frames together: lower means clearer signs.

    paper:    1/B sum_b 1/N_b sum_t [ mean_{|i-t|=1} d(t,i) + mean_{|j-t|>2*frame_margin} max(0, m - d(t,j)) ], with
              d Euclidean and m = 64. Only frames below `lengths` take part; a frame without any legal negative adds
              its first half only, a clip of one frame exactly 0.
    released: 1/(B(T-4)) sum_{t=1}^{T-3} mean_b [ mean_{|i-t|=1} softplus(d(t,i) - M)
              + mean_{j in 2..T-3, |j-t|>frame_margin} softplus(M - d(t,j)) ], with d city-block and M = 32: divided by
              the batch twice, `lengths` ignored, as released. The code gives NaN where a frame has no negative and
              for T = 4; here such a frame adds its first half, and T <= 4 gives exactly 0.

    Computed in float32 (float64 for float64), under autocast too. Never NaN for finite features: equal frames have
    gradient 0, and what stands on padding, even NaN, changes nothing. Differentiable once.

    Args:
        features: one vector per frame. [B, T, D]
        lengths: frames without padding. [B]
        frame_margin: frames, of each clip or of all. [B] or number
        variant: "paper", or "released" for "as released" recipes.
        distance_margin: m or M, feature units; None = 64 (paper), 32 (released). With "relative" a factor; None = 1.
        negatives: None uses every legal pair; k draws k per anchor without replacement, fewer where fewer are legal
            ("released" with one margin for all draws them once for the whole batch, as the code does); a tensor
            lists them, frame numbers per anchor, -1 = none, and then `frame_margin` is not asked. The anchors are
            all T frames (paper) or frames 1..T-3 (released: A = T-3). [A, k] or [B, A, k]
        generator: for drawing; None = torch's own.
        distance_margin_mode: "relative" (paper variant) takes m = distance_margin * mean distance of the clip's own
            negatives, a constant to the gradient: features c times as large give c times the loss.
        same_sign: (paper variant) a negative at distance d counts 1 / (1 + (same_sign * r / d)^8), a constant to the
            gradient, with r the mean distance of the clip's own negatives: a sign made twice in a clip is hardly
            pushed away from itself. 0.75 lies between what the paper finds within a sign (SDR 0.62 to 0.69) and
            between signs (1). None counts all.

    Returns:
        Scalar.

    Raises:
        ValueError: shapes that do not fit, unknown variant, fewer than one negative, lengths beyond T.

    Source: paper Eq. 4-5; `distance_margin_mode` and `same_sign` are ours (docs/systems/beyond.md).
    Released code: other distance, other halves, one margin, no mask; docs/paper-vs-code.md.
    """
    if variant not in DISTANCE_MARGINS:
        raise ValueError(f"signcl_loss needs variant paper or released, got {variant!r}.")
    _check_options(variant, distance_margin_mode, same_sign)
    margin = default_distance_margin(variant, distance_margin_mode) if distance_margin is None else distance_margin
    gap, least_gap = contrast.check(features, lengths, frame_margin, negatives, 2 if variant == "paper" else 1)
    with contrast.full_precision(features.device):
        x = features if features.dtype == torch.float64 else features.float()
        if x.shape[1] < (2 if variant == "paper" else 5):
            return x[:, :0].sum()  # zero, and connected to the features
        if variant == "paper":
            relative = distance_margin_mode == "relative"
            gap, least_gap = gap.clamp(min=0), max(0, least_gap)
            return _paper(x, lengths, gap, least_gap, float(margin), negatives, generator, relative, same_sign)
        return _released(x, gap, float(margin), negatives, generator)


def default_distance_margin(variant: Variant, mode: MarginMode = "absolute") -> float:
    """m or M where none is given: 64 and 32 feature units; relative to the mean distance of the negatives, 1."""
    return 1.0 if mode == "relative" else DISTANCE_MARGINS[variant]


def _check_options(variant: Variant, mode: MarginMode, same_sign: float | None) -> None:
    if mode not in ("absolute", "relative"):
        raise ValueError(f"signcl_loss needs distance_margin_mode absolute or relative, got {mode!r}.")
    if same_sign is not None and not 0 < same_sign < math.inf:
        raise ValueError(f"signcl_loss needs same_sign above 0, such as 0.75, or None to count all, got {same_sign}.")
    if variant == "released" and (mode == "relative" or same_sign is not None):
        raise ValueError(
            "signcl_loss has distance_margin_mode=relative and same_sign for variant paper only; variant released is "
            "kept as released."
        )


def _paper(
    x: Tensor,
    lengths: Tensor,
    gap: Tensor,
    least_gap: int,
    margin: float,
    negatives: int | Tensor | None,
    generator: torch.Generator | None,
    relative: bool,
    same_sign: float | None,
) -> Tensor:
    def near(distance: Tensor) -> tuple[Tensor, Tensor | float]:
        return distance, 1.0

    def far(distance: Tensor) -> tuple[Tensor, Tensor | float]:
        hinge = (m - distance).clamp(min=0)
        if same is None:
            return hinge, hinge.sign().neg_()
        counted = contrast.different_signs(1 / distance.clamp(min=1e-30), same)
        return hinge * counted, hinge.sign().neg_().mul_(counted)

    m: Tensor | float = margin
    same: Tensor | None = None
    padded = x.shape[1]
    lengths = lengths.clamp(0, padded)
    at = contrast.places(lengths, padded, x.dtype)
    anchors = contrast.every_frame(at, lengths)
    wanted = x.requires_grad and torch.is_grad_enabled()
    with torch.no_grad():
        clean = contrast.without_padding(x, at.mask)
        value, gradient = contrast.pull_neighbours(clean, anchors.neighbour, 2, near, wanted)
        if negatives is None:
            clean.sub_(clean[:, :1].clone())
            if relative or same_sign is not None:
                scale = contrast.mean_far(clean, at, gap, least_gap)[:, None, None]
                m = margin * scale if relative else margin
                same = None if same_sign is None else same_sign * scale
            value = value + contrast.push_all(clean, at, anchors, gap, least_gap, m, gradient, same)
        else:
            last = lengths[:, None] - 1
            if not isinstance(negatives, Tensor):
                time = torch.arange(padded, device=x.device)
                negatives = contrast.draw_negatives(time, 0, last, gap.long(), min(negatives, padded), generator)
            listed = contrast.per_clip(negatives, x.shape[0], padded)
            legal = (listed >= 0) & (listed <= last[..., None]) & at.mask[..., None]
            if relative or same_sign is not None:
                scale = contrast.mean_listed(clean, listed, legal)[:, None]
                m = margin * scale if relative else margin
                same = None if same_sign is None else same_sign * scale
            value = value + contrast.push_listed(clean, anchors, listed, legal, 2, far, gradient)
    return contrast.with_gradient(x, value, gradient)


def _released(
    x: Tensor, gap: Tensor, margin: float, negatives: int | Tensor | None, generator: torch.Generator | None
) -> Tensor:
    def near(distance: Tensor) -> tuple[Tensor, Tensor | float]:
        beyond = distance - margin
        return F.softplus(beyond), beyond.sigmoid()

    def far(distance: Tensor) -> tuple[Tensor, Tensor | float]:
        short = margin - distance
        return F.softplus(short), short.sigmoid().neg_()

    clips, padded, _ = x.shape
    anchors = contrast.released_frames(clips, padded, x.device, x.dtype)
    time = torch.arange(padded, device=x.device)
    wanted = x.requires_grad and torch.is_grad_enabled()
    with torch.no_grad():
        clean = x.contiguous()
        value, gradient = contrast.pull_neighbours(clean, anchors.neighbour, 1, near, wanted)
        if negatives is not None:
            if not isinstance(negatives, Tensor):
                last = torch.full_like(gap, padded - 3, dtype=torch.long)
                count = min(negatives, padded)
                negatives = contrast.draw_negatives(time[1:-2], 2, last, gap.long(), count, generator)
            listed = contrast.per_clip(negatives, clips, padded - 3)
            legal = (listed >= 0) & (listed < padded)
            value = value + contrast.push_listed(clean, anchors, listed, legal, 1, far, gradient)
    value = contrast.with_gradient(x, value, gradient)
    if negatives is not None:
        return value
    legal = (time[1:-2, None] - time[2:-2]).abs() > gap[..., None]  # [1 or B, A, candidates]
    weight = legal * (anchors.weight / legal.sum(dim=2).clamp(min=1))[..., None]
    return value + (F.softplus(margin - torch.cdist(x[:, 1:-2], x[:, 2:-2], p=1.0)) * weight).sum()


class SignCL(nn.Module):
    """`signcl_loss` with its margins, for any model that has one vector per frame; see docs/losses.md.

    Args:
        variant: "paper", or "released": then the gap is the released trainers' own, one per batch, from the padded
            frames and the largest `num_words`, and `words_per_gloss` and `floor` are not used.
        distance_margin: m, in units of your features; None = 64 (paper), 32 (released). `frame_distances` tells what
            is large for them.
        negatives: per anchor; None = every legal one.
        words_per_gloss: paper section 4.1.
        floor: smallest frame margin, frames.
        distance_margin_mode: "relative": m is distance_margin (None = 1) times the mean distance of a clip's negatives,
            so that it need not be found anew for every encoder.
        same_sign: 0.75, say: negatives that look like the same sign push less, see `signcl_loss`.
    """

    def __init__(
        self,
        *,
        variant: Variant = "paper",
        distance_margin: float | None = None,
        negatives: int | None = None,
        words_per_gloss: float = ZIPF,
        floor: float = 10,
        distance_margin_mode: MarginMode = "absolute",
        same_sign: float | None = None,
        frame_margin_rule: str | None = None,
    ) -> None:
        super().__init__()
        self.frame_margin_rule = frame_margin_rule
        if variant not in DISTANCE_MARGINS:
            raise ValueError(f"SignCL needs variant paper or released, got {variant!r}.")
        _check_options(variant, distance_margin_mode, same_sign)
        self.variant: Variant = variant
        self.distance_margin_mode: MarginMode = distance_margin_mode
        self.same_sign = same_sign
        default = default_distance_margin(variant, distance_margin_mode)
        self.distance_margin = default if distance_margin is None else distance_margin
        self.negatives = negatives
        self.words_per_gloss = words_per_gloss
        self.floor = floor

    def forward(
        self,
        features: Tensor,
        lengths: Tensor,
        num_words: Tensor,
        generator: torch.Generator | None = None,
        *,
        padded_frames: int | None = None,
        padded_tokens: int | None = None,
    ) -> Tensor:
        """The unweighted loss of a batch; the paper adds 0.01 times it.

        Args:
            features: one vector per frame. After temporal pooling by 4 margins count steps: give floor=2.5. [B, T, D]
            lengths: [B]
            num_words: spoken words of each sentence. [B]
            generator: for drawing negatives.
        """
        frame_margin: Tensor | float
        if (self.frame_margin_rule or self.variant) == "released":
            frame_margin = max(
                0,
                released_frame_margin(
                    padded_frames or features.shape[1], padded_tokens or max(1, int(num_words.max()))
                ),
            ) / (1 if self.variant == "released" else 2)
        else:
            frame_margin = estimate_frame_margin(lengths, num_words, self.words_per_gloss, self.floor)
        return signcl_loss(
            features,
            lengths,
            frame_margin,
            variant=self.variant,
            distance_margin=self.distance_margin,
            negatives=self.negatives,
            generator=generator,
            distance_margin_mode=self.distance_margin_mode,
            same_sign=self.same_sign,
        )

    def extra_repr(self) -> str:
        return (
            f"variant={self.variant}, distance_margin={self.distance_margin}, negatives={self.negatives}, "
            f"words_per_gloss={self.words_per_gloss}, floor={self.floor}, "
            f"distance_margin_mode={self.distance_margin_mode}, same_sign={self.same_sign}"
        )


@dataclass(frozen=True)
class FrameDistances:
    """How far apart frames are, for choosing a distance margin and for logging. Means over clips that have any."""

    neighbour: Tensor
    """Mean distance of neighbouring frames."""
    far: Tensor
    """Mean distance of legal negative pairs."""
    active: Tensor
    """Share of the legal negative pairs that are nearer than the distance margin, 0..1."""
    norm: Tensor
    """Mean length of a feature vector."""
    same: Tensor
    """Share of the push that `same_sign` takes away from the legal negative pairs, 0..1; 0 without it."""


@torch.no_grad()
def frame_distances(
    features: Tensor,
    lengths: Tensor,
    frame_margin: Tensor | float,
    distance_margin: float = 64.0,
    same_sign: float | None = None,
) -> FrameDistances:
    """What `signcl_loss` (paper variant) sees: with `active` at 0 nothing is pushed, at 1 nothing has reached m.

    Args:
        features: [B, T, D]
        lengths: [B]
        frame_margin: frames. [B] or number
        distance_margin: m, feature units.
        same_sign: as in `signcl_loss`.

    Returns:
        Five scalars, 0 where no clip has such a pair.
    """
    gap, _ = contrast.check(features, lengths, frame_margin, None, 2)
    with contrast.full_precision(features.device):
        x = features if features.dtype == torch.float64 else features.float()
        mask = frame_mask(lengths, x.shape[1])
        x = contrast.without_padding(x, mask)
        time = torch.arange(x.shape[1], device=x.device)
        both = mask[:, :, None] & mask[:, None, :]
        far = both & ((time[:, None] - time).abs() > gap.clamp(min=0)[..., None])
        distance = torch.cdist(x, x)
        steps = torch.linalg.vector_norm(x[:, 1:] - x[:, :-1], dim=-1)
        same = torch.zeros_like(distance)
        if same_sign is not None:
            scale = (distance * far).sum(dim=(1, 2), keepdim=True) / far.sum(dim=(1, 2), keepdim=True).clamp(min=1)
            same = 1 - contrast.different_signs(1 / distance.clamp(min=1e-30), same_sign * scale)
        return FrameDistances(
            neighbour=_mean_of(steps, mask[:, 1:]),
            far=_mean_of(distance, far),
            active=_mean_of((distance < distance_margin).to(x.dtype), far),
            norm=_mean_of(torch.linalg.vector_norm(x, dim=-1), mask),
            same=_mean_of(same, far),
        )


def _mean_of(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of the chosen values of each clip, then over the clips that have any."""
    values, chosen = values.flatten(1), chosen.flatten(1)
    counts = chosen.sum(dim=1)
    each = (values * chosen).sum(dim=1) / counts.clamp(min=1)
    return each.sum() / counts.sign().sum().clamp(min=1)
