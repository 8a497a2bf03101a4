"""SignCL, the frame contrast of the paper: frame margins, the loss in its two variants, and a module for other models.

Neighbouring frames are pulled together. Frames more than a gap apart are taken to show different signs and are pushed
apart. Paper section 4.1, Eq. 4-5. docs/paper-vs-code.md lists where paper and released code differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from signcl.losses.lengths import clip_lengths, float_features, one_per_clip, refuse_swapped
from signcl.losses.precision import full_precision

Variant = Literal["paper", "released"]
MarginMode = Literal["absolute", "relative"]
Part = Literal["both", "pull", "push"]
DISTANCE_MARGINS = {"paper": 64.0, "released": 32.0}  # m of Eq. 5, after SMKD's inter-gloss distance; M of the code
ZIPF = 2.3  # spoken words per gloss, paper section 4.1
WHOLE = 1e-3  # frames: a gap less than this below a whole number counts as that number, so 2 * 10 * 2.3 is always 46
TINY = 1e-18  # divisor for equal frames; smaller than any distance whose square is a float32


def estimate_frame_margin(
    num_frames: Tensor | int, num_words: Tensor | int, words_per_gloss: float = ZIPF, floor: float = 10
) -> Tensor:
    """Estimated duration of a sign in frames: max(floor, frames / words * words_per_gloss). [B] float32, not rounded

    Args:
        num_frames: frames of each clip, without padding. [B]
        num_words: spoken words of each sentence (`signcl.data.text.count_words`; for Chinese 2.3 * characters / 2.18,
            where 2.18 is the characters per gloss of CSL-Daily). Zero counts as one, which leaves no negatives. [B]
        words_per_gloss: 2.3 in the paper; PHOENIX-2014T has 1.8, or 1.9 with the final full stop.
        floor: smallest margin, in frames; negatives are more than twice the margin away.

    Raises:
        ValueError: shapes that do not match, such as a mask, or `num_frames` and `num_words` that look swapped: every
            sentence has more than five words per frame.

    Source: paper section 4.1. Released code: `released_frame_margin`.
    """
    words = torch.as_tensor(num_words)
    frames = torch.as_tensor(num_frames, device=words.device)
    if max(frames.dim(), words.dim()) > 1 or torch.bool in (frames.dtype, words.dtype):
        raise ValueError(
            f"estimate_frame_margin needs one number of frames and of words per clip, got {list(frames.shape)} and "
            f"{list(words.shape)}; a mask has mask.sum(1) real frames."
        )
    wordy = words > 5 * frames
    on_host = wordy.device.type == "cpu" and not torch.compiler.is_compiling()
    if on_host and wordy.numel() and all(wordy.view(-1).tolist()):
        raise ValueError(
            f"num_frames (up to {float(frames.max()):g}) and num_words (up to {float(words.max()):g}) look swapped; "
            f"the order is frames, words."
        )
    margin = frames.to(torch.float32) / words.to(torch.float32).clamp(min=1) * words_per_gloss
    return margin.clamp(min=floor)


def released_frame_margin(padded_frames: int, padded_tokens: int) -> int:
    """The gap that the released trainers use for a whole batch, already doubled; for `variant="released"` only.

        g = min(2 max(10, int((T // U + 1) 2.3)), int((T - 30) / 2))

    If g is below 0 (T < 30), every frame is a negative of every other and of itself.

    Args:
        padded_frames: T, the frames of the longest clip, with its edge copies (16 or more).
        padded_tokens: U, the tokens of the longest sentence, with its end marks.

    Returns:
        The gap in frames.

    Source: released code, train_*_SignCL.py.
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
    part: Part = "both",
    same_word: Tensor | None = None,
) -> Tensor:
    """The SignCL loss: pulls neighbouring frames together and pushes far frames apart; lower is better. Scalar

    `variant="paper"`, with d the Euclidean distance and m = 64:

        1/B sum_b 1/N_b sum_t [ mean_{|i-t| = 1} d(t, i)
                                + mean_{|j-t| > 2 frame_margin} max(0, m - d(t, j)) ]

    Only frames below `lengths` count. A frame without a legal negative adds only the first half; a clip of one frame
    adds exactly 0.

    `variant="released"`, with d the city-block distance and M = 32:

        1/(B (T-4)) sum_{t = 1..T-3} mean_b [ mean_{|i-t| = 1} softplus(d(t, i) - M)
                        + mean_{j in 2..T-3, |j-t| > frame_margin} softplus(M - d(t, j)) ]

    As in the released code, it divides by the batch size twice and ignores `lengths`. That code gives NaN if a frame
    has no negative or T = 4; here such a frame adds only the first half, and T <= 4 gives exactly 0.

    Computed in float32 (float64 for float64), under autocast too. Never NaN for finite features: equal frames get
    gradient 0, and values on padding, even NaN, have no effect. Differentiable once.

    Args:
        features: one vector per frame. [B, T, D]
        lengths: frames without padding. [B]
        frame_margin: frames, per clip or one for all. [B] or number
        variant: "paper", or "released" for "as released" recipes.
        distance_margin: m or M, feature units; None = 64 (paper), 32 (released). With "relative" a factor; None = 1.
        negatives: None uses every legal pair.
            A number k draws k per anchor without replacement, or fewer if fewer are legal ("released" with one margin
            for all draws them once for the whole batch, as the released code does).
            A tensor lists frame numbers per anchor, -1 = none; `frame_margin` is then ignored. The anchors are all T
            frames (paper) or frames 1..T-3 (released: A = T-3). [A, k] or [B, A, k]
        generator: for drawing negatives; None = torch's default.
        distance_margin_mode: (paper) "relative": m = distance_margin * r, with r the mean distance of the clip's
            negative pairs, constant for the gradient. Features c times as large then give c times the loss.
        same_sign: (paper) weights a negative at distance d by 1 / (1 + (same_sign * r / d)^8), constant for the
            gradient. A sign that occurs twice in a clip is then hardly pushed away from itself. 0.75 lies between the
            paper's values within a sign (SDR 0.62 to 0.69) and between signs (1). None = weight 1.
        part: (paper) "pull" or "push" computes only that half of the formula, for ablations.
        same_word: (paper) how much two frames show the same word, 0 to 1, constant for the gradient: a negative has
            weight 1 - same_word. With a_t the word shares of frame t (`word_shares`) it is a_t^T a_j. None = weight 1.
            [B, T, T]

    Returns:
        Scalar, in feature units; unweighted (the paper's weight is 0.01).

    Raises:
        ValueError: shapes that do not match, impossible options, lengths beyond T or below 0.

    Source: paper Eq. 4-5; released code (docs/paper-vs-code.md). The last four options: ours (docs/systems/beyond.md).
    """
    options = _options(variant, distance_margin, distance_margin_mode, same_sign, part)
    lengths, gap = check(features, lengths, frame_margin, negatives, doubled=options.paper)
    same_word = None if same_word is None else _same_word(same_word, features, options)
    with full_precision(features.device):
        x = (features if features.dtype == torch.float64 else features.float()).contiguous()
        if x.shape[1] < (2 if options.paper else 5):
            return x[:, :0].sum()  # zero, and connected to the features
        listed = None if negatives is None else listed_negatives(negatives, x, lengths, gap, options.paper, generator)
        return _contrast(x, lengths, gap, listed, options, same_word)


def _same_word(same_word: Tensor, features: Tensor, options: Options) -> Tensor:
    """Validates `same_word` and detaches it from the gradient. [B, T, T]"""
    clips, padded = features.shape[:2]
    if not options.paper:
        raise ValueError("SignCL supports same_word for variant paper only.")
    if same_word.shape != (clips, padded, padded):
        raise ValueError(f"SignCL needs same_word [{clips}, {padded}, {padded}], got {list(same_word.shape)}.")
    return same_word.detach().to(features)


def anchors_with_negative(
    lengths: Tensor, padded: int, frame_margin: Tensor | float, variant: Variant = "paper"
) -> tuple[Tensor, Tensor]:
    """Number of anchors in a batch that have a legal negative, and number of anchors; does not wait for the device.

    If no anchor has a legal negative, the push of `signcl_loss` is 0 for any features.

    Args:
        lengths, frame_margin, variant: as in `signcl_loss`.
        padded: T of the features.

    Returns:
        Two scalar integer tensors, on the device of `lengths`.
    """
    paper = variant == "paper"
    margin = torch.as_tensor(frame_margin, dtype=torch.float32, device=lengths.device)
    gap = (margin.view(-1, 1) * (2 if paper else 1) + WHOLE).expand(len(lengths), 1)
    time = torch.arange(padded, device=lengths.device)[slice(None) if paper else slice(1, -2)].expand(len(lengths), -1)
    first, last = (0, lengths[:, None] - 1) if paper else (2, padded - 3)
    anchor = time <= last if paper else torch.ones_like(time, dtype=torch.bool)
    far = anchor & (((time - first).abs() > gap) | ((last - time).abs() > gap))
    return far.sum(), anchor.sum()


class Options(NamedTuple):
    """The validated options of `signcl_loss`."""

    paper: bool
    margin: float
    relative: bool
    same_sign: float | None
    pull: bool = True
    push: bool = True

    @property
    def by_mean(self) -> bool:
        """Whether the loss needs mean distances, see `scaled`."""
        return self.relative or self.same_sign is not None


def _options(
    variant: Variant, margin: float | None, mode: MarginMode, same_sign: float | None, part: Part = "both"
) -> Options:
    if variant not in DISTANCE_MARGINS:
        raise ValueError(f"SignCL needs variant paper or released, got {variant!r}.")
    if mode not in ("absolute", "relative"):
        raise ValueError(f"SignCL needs distance_margin_mode absolute or relative, got {mode!r}.")
    if same_sign is not None and not 0 < same_sign < math.inf:
        raise ValueError(f"SignCL needs same_sign above 0, such as 0.75, or None to switch it off, got {same_sign}.")
    if part not in ("both", "pull", "push"):
        raise ValueError(f"SignCL needs part both, pull or push, got {part!r}.")
    if variant == "released" and (mode == "relative" or same_sign is not None or part != "both"):
        raise ValueError("SignCL supports distance_margin_mode=relative, same_sign and part for variant paper only.")
    if margin is None:
        margin = 1.0 if mode == "relative" else DISTANCE_MARGINS[variant]
    elif isinstance(margin, str | bool) or not 0 <= float(margin) < math.inf:
        raise ValueError(f"SignCL needs a distance_margin of at least 0, in units of your features, got {margin!r}.")
    return Options(variant == "paper", float(margin), mode == "relative", same_sign, part != "push", part != "pull")


def check(
    features: Tensor,
    lengths: Tensor,
    frame_margin: Tensor | Sequence[float] | float,
    negatives: int | Tensor | None,
    *,
    doubled: bool,
) -> tuple[Tensor, Tensor]:
    """Validates the arguments and returns the lengths [B] and the gap in frames [B, 1] or [1, 1].

    The gap is the margin, or twice the margin if `doubled`, not rounded.
    """
    float_features(features, "frame contrast")
    clips, padded, _ = features.shape
    lengths = clip_lengths(lengths, features, "frame contrast")
    if not isinstance(negatives, Tensor) and negatives is not None and negatives < 1:
        raise ValueError(f"frame contrast needs at least 1 negative per anchor, got {negatives}; None uses them all.")
    if not isinstance(frame_margin, Tensor | int | float):  # a list or an array
        frame_margin = one_per_clip(frame_margin, clips, "frame_margin", features.device, whole=False)
    factor, least = (2, 0) if doubled else (1, -padded)
    if not isinstance(frame_margin, Tensor):
        bounded = float(max(least, min(padded, frame_margin * factor + WHOLE)))
        return lengths, torch.full((1, 1), bounded, device=features.device)
    if frame_margin.dim() > 1 or frame_margin.numel() not in (1, clips):
        shape = list(frame_margin.shape)
        raise ValueError(f"frame contrast needs one frame_margin, or one per clip [{clips}], got {shape}.")
    gaps = torch.rsub(frame_margin.detach().float(), WHOLE, alpha=-factor)  # WHOLE + factor * margin, in one launch
    return lengths, gaps.clamp_(least, padded).to(features.device).view(-1, 1)


class _WithGradient(torch.autograd.Function):
    """A scalar whose gradient was computed with it: autograd stores [B, T, D] and recomputes nothing."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        if torch.is_grad_enabled():  # autograd would treat `gradient` as a constant: wrong second derivatives
            raise RuntimeError("signcl_loss can be differentiated once only; call backward without create_graph=True.")
        return ctx.saved_tensors[0] * upstream, None, None


def _contrast(
    x: Tensor, lengths: Tensor, gap: Tensor, listed: Tensor | None, options: Options, same_word: Tensor | None
) -> Tensor:
    clips, padded, _ = x.shape
    wanted = x.requires_grad and torch.is_grad_enabled()
    with torch.no_grad():
        # Weights implement every mean of the formula. `anchor` is the weight of an anchor's mean over its partners.
        # `neighbour` is the weight of a pair (t, t+1): half of each anchor's weight, or all of it if that anchor has no
        # other neighbour.
        time = torch.arange(padded + 1, dtype=x.dtype, device=x.device)
        if options.paper:
            left = lengths[:, None] - time  # frames from this one to the end; 0 or less is padding. [B, T + 1]
            real = left > 0
            anchor = real / (left[:, :1].clamp(1, padded) * clips)  # 1 / (B N), 0 on padding. [B, T + 1]
            neighbour = torch.lerp(anchor[:, 1:-1], anchor[:, 2:], -0.5)  # 1.5 times as much at the end of the clip
            neighbour[:, 0].add_(anchor[:, 1], alpha=0.5)  # and at its start
            anchor, left, first = anchor[:, :-1], left[:, :-1], 0
            # Subtracting the first frame keeps precision in the products. The mask is applied to the bits, because
            # NaN * 0 is NaN; on a CPU this is six times as fast as torch.where.
            bits = torch.int64 if x.dtype == torch.float64 else torch.int32
            clean = (x - x[:, :1]).view(bits).bitwise_and_(-real[:, :-1, None].to(bits)).view(x.dtype)
        else:
            anchor = x.new_full((1, 1), 1 / (clips * clips * (padded - 4)))  # as released: batch size counts twice
            neighbour = anchor.repeat(1, padded - 1)
            neighbour[:, :: padded - 3].mul_(0.5)  # anchors are frames 1..T-3: (0, 1) and (T-3, T-2) belong to one,
            neighbour[:, -1] = 0  # (T-2, T-1) to none
            clean, first = x, 1
        apart = options.paper and options.push and listed is None  # `_push_all` computes its own gradient
        push, gradient = None, torch.zeros_like(clean) if wanted and not apart else None
        if listed is not None and options.push:
            stop = lengths[:, None, None] if options.paper else padded
            legal = (listed >= 0) & (listed < stop) & (anchor > 0)[..., None]
            push = _push_listed(clean, first, listed, legal.to(x.dtype), anchor, options, gradient, same_word)
        elif apart:
            push, gradient = _push_all(clean, anchor, left, gap, options, wanted, same_word)
        # The pull uses differences: neighbours may be so close that distances from products are mostly rounding error.
        neighbour = neighbour if options.pull else torch.zeros_like(neighbour)
        value, slope, steps = _pairs(clean[:, 1:] - clean[:, :-1], neighbour, options.margin, options.paper, True)
        value = value if push is None else value.add_(push, alpha=1.0 if listed is not None else 0.5)
        if gradient is not None and options.pull:
            gradient[:, 1:].addcmul_(steps, slope)
            gradient[:, :-1].addcmul_(steps, slope, value=-1)
    if gradient is not None:
        value = _WithGradient.apply(x, value, gradient)  # type: ignore[no-untyped-call]
    if options.paper or listed is not None:
        return value
    # City-block distances are summed over D in chunks: the gradient of torch.cdist allocates [B, T, T, D] on CUDA.
    legal = ((time[1:-3, None] - time[2:-3]).abs() > gap[..., None]).to(x.dtype)  # [1 or B, A, candidates]
    weight = legal * (anchor / legal.sum(dim=2).clamp(min=1))[..., None]
    parts = x.chunk(1 + x.numel() * padded // 2**26, dim=2)
    distance = torch.stack([torch.cdist(part[:, 1:-2], part[:, 2:-2], p=1.0) for part in parts]).sum(dim=0)
    return value + (F.softplus(options.margin - distance) * weight).sum()


def _push_all(
    x: Tensor, anchor: Tensor, left: Tensor, gap: Tensor, options: Options, wanted: bool, same_word: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Twice the push of all legal pairs (counted from i and j) and, if wanted, its gradient; two matrix products."""
    # A legal pair is two real frames more than the gap apart. NaN compares false, so padding is in no pair.
    place = F.threshold(left, 0, math.nan)
    far = (place[:, :, None] - place[:, None]).abs_().gt_(gap[:, :, None])  # 1 = legal, 0 = not. [B, T, T]
    share = anchor / far.sum(dim=2)  # weight of each partner in its anchor's mean; not finite without partners. [B, T]
    # Squared distances |a|^2 + |b|^2 - 2ab. The squares come from the same product, so TF32 rounds all terms equally.
    product = torch.bmm(x, x.mT)
    squares = product.diagonal(dim1=1, dim2=2)
    squared = (squares[:, :, None] + squares[:, None]).sub_(product, alpha=2)
    del product, squares  # faster on a CPU: the next tensors reuse their memory
    inverse = F.threshold(squared, 0, math.inf).rsqrt_()  # 1 / d; 0 for equal frames, which have no direction
    m, counted = scaled(squared * inverse, far, options) if options.by_mean else (options.margin, None)
    short = far.mul_(m).addcmul_(squared, inverse, value=-1)  # m - d; -d for illegal pairs, never above 0
    weight = share[:, :, None] + share[:, None]  # of the pair, summed over both anchors
    weight = weight if counted is None else weight.mul_(counted)
    weight = weight if same_word is None else weight.mul_(1 - same_word)
    # The gradient of relu: the weight where `short` is above 0, else 0. One kernel launch; torch.where needs three.
    active: Tensor = torch.ops.aten.threshold_backward(weight, short, 0)
    value = torch.dot(active.view(-1), short.view(-1))
    if not wanted:
        return value, None
    # With W_ij = active_ij / d_ij the gradient is sum_j W_ij (x_j - x_i): row sums on the diagonal, then one product.
    active.mul_(inverse)
    active.diagonal(dim1=1, dim2=2).sub_(active.sum(dim=2))
    return value, torch.bmm(active, x)


def _push_listed(
    x: Tensor, first: int, listed: Tensor, legal: Tensor, anchor: Tensor, options: Options, gradient: Tensor | None,
    same_word: Tensor | None,
) -> Tensor:  # fmt: skip
    """The push of listed pairs [B, A, k] for anchors first, first + 1, ...; adds its gradient to `gradient`."""
    clips, padded, size = x.shape
    own = slice(first, first + listed.shape[1])
    starts = torch.arange(0, clips * padded, padded, device=x.device)[:, None, None]
    rows = (listed.clamp(0, padded - 1) + starts).permute(2, 0, 1).flatten(1).contiguous()  # [k, B * A]
    weight = legal * (anchor / -legal.sum(dim=2).clamp(min=1))[..., None]  # negative: pushes apart

    def differences(row: Tensor) -> Tensor:  # [B, A, 1, D]: one negative per anchor at a time, to save memory
        return x.view(-1, size).index_select(0, row).view(clips, -1, size).sub_(x[:, own])[:, :, None]

    m: Tensor | float = options.margin
    if options.by_mean:
        distance = torch.cat([torch.linalg.vector_norm(differences(row), dim=-1) for row in rows], dim=2)
        m, counted = scaled(distance, legal, options)
        weight = weight if counted is None else weight * counted
    if same_word is not None:
        weight = weight * (1 - same_word.gather(2, listed.clamp(0, padded - 1)))
    total = x.new_zeros(())
    for row, share in zip(rows, weight.permute(2, 0, 1).contiguous()):
        value, slope, steps = _pairs(differences(row), share[..., None], m, options.paper, False)
        total.sub_(value)
        if gradient is not None:
            push = steps.mul_(slope)[:, :, 0]
            gradient[:, own].sub_(push)
            gradient.view(-1, size).index_add_(0, row, push.view(-1, size))
    return total


def _pairs(steps: Tensor, weight: Tensor, m: Tensor | float, paper: bool, pull: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Sum of weight * term over pairs with differences `steps` [.., D], its slope along them and their directions."""
    if paper:
        distance = torch.linalg.vector_norm(steps, dim=-1)
        term = distance if pull else (m - distance).clamp_(min=0)
        slope = (weight if pull else torch.ops.aten.threshold_backward(weight, term, 0)) / distance.clamp(min=TINY)
    else:
        distance = steps.abs().sum(dim=-1)
        beyond = distance - m if pull else m - distance
        term, slope, steps = F.softplus(beyond), weight * beyond.sigmoid(), steps.sign_()
    return torch.dot(weight.expand_as(term).reshape(-1), term.view(-1)), slope[..., None], steps


def scaled(distance: Tensor, legal: Tensor, options: Options) -> tuple[Tensor | float, Tensor | None]:
    """m and the weight of each pair (None: 1), from the mean distance of each clip's legal pairs. [B, .., ..]"""
    mean = (distance * legal).sum(dim=(1, 2), keepdim=True) / legal.sum(dim=(1, 2), keepdim=True).clamp(min=1)
    m = options.margin * mean if options.relative else options.margin
    if options.same_sign is None:
        return m, None
    near = options.same_sign * mean / distance.clamp(min=1e-30)
    return m, near.pow_(8).add_(1).reciprocal_()  # a logistic function of ln d; infinity correctly gives 0


def listed_negatives(
    negatives: int | Tensor, x: Tensor, lengths: Tensor, gap: Tensor, whole: bool, generator: torch.Generator | None
) -> Tensor:
    """The listed or drawn negatives of each anchor. [B, A, k]

    Drawn ones: with `whole`, for anchors 0..T-1 from all frames of the clip; else for anchors 1..T-3 from 2..T-3.
    """
    clips, padded = x.shape[:2]
    anchor = torch.arange(padded, device=x.device)[slice(None) if whole else slice(1, -2)]
    if not isinstance(negatives, Tensor):
        last = lengths[:, None] - 1 if whole else torch.full_like(gap, padded - 3, dtype=torch.long)
        negatives = draw_negatives(anchor, 0 if whole else 2, last, gap, min(negatives, padded), generator)
    if negatives.is_floating_point() or negatives.dim() not in (2, 3) or negatives.shape[-2] != len(anchor):
        shapes = f"[{len(anchor)}, k] or [{clips}, {len(anchor)}, k], got {negatives.dtype} {list(negatives.shape)}"
        raise ValueError(f"frame contrast needs listed negatives as whole numbers {shapes}.")
    return negatives.expand(clips, -1, -1)


def draw_negatives(
    anchor: Tensor, first: int, last: Tensor, gap: Tensor, count: int, generator: torch.Generator | None
) -> Tensor:
    """Draws `count` distinct frames j in first..last with |i-j| > gap for every anchor i; each set is equally likely.

    Robert Floyd's algorithm: only drawn frames are touched, so the cost does not grow with the clip.
    Anchors [A]; last, gap [B, 1] or [1, 1]. A gap below 0 allows the anchor itself. Returns [B, A, count], filled with
    -1 if fewer are legal.
    """
    stop, gap = last + 1, gap.floor().long()
    left = (torch.minimum(anchor - gap, stop) - first).clamp_(min=0)  # candidates before the anchor
    right_start = torch.maximum(anchor + gap + 1, left + first)
    total = left + (stop - right_start).clamp_(min=0)
    tops = total[..., None] + torch.arange(-count, 0, device=anchor.device)  # below 0: fewer than `count` are legal
    uniform = torch.rand(tops.shape, generator=generator, device=(generator or anchor).device).to(anchor.device)
    drawn = torch.minimum((uniform * (tops + 1)).long(), tops)
    for slot in range(1, count):  # a number drawn before is replaced by the largest, which cannot have been drawn yet
        top, pick = tops[..., slot], drawn[..., slot]
        pick.copy_(torch.where((drawn[..., :slot] == pick[..., None]).any(dim=2), top, pick))
    frames = torch.where(drawn < left[..., None], drawn + first, drawn + (right_start - left)[..., None])
    return torch.where(tops >= 0, frames, -1)


class SignCL(nn.Module):
    """`signcl_loss` as a module that computes the frame margins, for any model with one vector per frame.

    The arguments are those of `signcl_loss` and `estimate_frame_margin`. `distance_margin` is in units of your
    features; `frame_distances` shows typical values. `frame_margin_rule` selects how margins are computed:

    - "per_clip": as in the paper.
    - "released": `released_frame_margin`, one gap for the batch (at least 0 for the paper variant).
    - None: the rule of the variant.

    See docs/losses.md.
    """

    __call__: Callable[..., Tensor]  # torch's own returns Any

    def __init__(
        self, *, variant: Variant = "paper", distance_margin: float | None = None, negatives: int | None = None,
        words_per_gloss: float = ZIPF, floor: float = 10, distance_margin_mode: MarginMode = "absolute",
        same_sign: float | None = None, frame_margin_rule: Literal["per_clip", "released"] | None = None,
        part: Part = "both",
    ) -> None:  # fmt: skip
        super().__init__()
        if frame_margin_rule not in ("per_clip", "released", None):
            raise ValueError(f"SignCL needs frame_margin_rule per_clip, released or None, got {frame_margin_rule!r}.")
        self.distance_margin = _options(variant, distance_margin, distance_margin_mode, same_sign, part).margin
        self.variant, self.negatives, self.frame_margin_rule = variant, negatives, frame_margin_rule
        self.words_per_gloss, self.floor = words_per_gloss, floor
        self.distance_margin_mode, self.same_sign, self.part = distance_margin_mode, same_sign, part

    def forward(
        self, features: Tensor, lengths: Tensor, num_words: Tensor, generator: torch.Generator | None = None, *,
        padded_frames: int | None = None, padded_tokens: int | None = None, same_word: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """The unweighted loss of a batch; the paper adds 0.01 times it. Scalar

        Args:
            features: one vector per frame. After temporal pooling by 4, margins are in steps: set floor=2.5. [B, T, D]
            num_words: spoken words of each sentence. [B]
            padded_frames: T of `released_frame_margin`; None = frames of `features`.
            padded_tokens: U of `released_frame_margin`; None = the largest of `num_words`, which waits for the device.
            same_word: as in `signcl_loss`. [B, T, T]
        """
        float_features(features, "SignCL")
        clips, padded, _ = features.shape
        lengths = one_per_clip(lengths, clips, "lengths", features.device, padded=padded)
        num_words = one_per_clip(num_words, clips, "num_words", features.device, whole=False)
        refuse_swapped(lengths, num_words, padded)
        margin = self.frame_margin(lengths, num_words, padded_frames or features.shape[1], padded_tokens)
        names = ("variant", "distance_margin", "negatives", "distance_margin_mode", "same_sign", "part")
        options: dict[str, Any] = {name: getattr(self, name) for name in names}
        return signcl_loss(features, lengths, margin, generator=generator, same_word=same_word, **options)

    def frame_margin(self, lengths: Tensor, num_words: Tensor, frames: int, tokens: int | None) -> Tensor | float:
        """The `frame_margin` for `signcl_loss` by this module's rule; arguments as in `forward`. [B] or one for all"""
        if (self.frame_margin_rule or self.variant) in ("paper", "per_clip"):
            return estimate_frame_margin(lengths, num_words, self.words_per_gloss, self.floor)
        gap = released_frame_margin(frames, max(1, int(num_words.max())) if tokens is None else tokens)
        # One number, so the released variant draws negatives once per batch; `signcl_loss` doubles the paper's margin.
        return gap if self.variant == "released" else max(0, gap) / 2

    def extra_repr(self) -> str:
        return ", ".join(f"{k}={value}" for k, value in vars(self).items() if k[0] != "_" and k != "training")
