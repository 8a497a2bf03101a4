"""SignInfoNCE: the frame contrast as a softmax over similarities instead of a hinge on distances.

Not in the paper; the released code defines it but never uses it. Same positives and negatives as `signcl_loss`.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from signcl.data.batch import frame_mask
from signcl.losses.precision import full_precision
from signcl.losses.sentence import unit_rows
from signcl.losses.signcl import check, listed_negatives

NOTHING = -1e30  # log of an empty sum; minus infinity would turn gradients into NaN


def sign_infonce(
    features: Tensor,
    lengths: Tensor,
    frame_margin: Tensor | float,
    *,
    variant: Literal["fixed", "released"] = "fixed",
    temperature: float = 0.1,
    negatives: int | Tensor | None = None,
    normalize: bool = True,
    generator: torch.Generator | None = None,
) -> Tensor:
    """How hard it is to tell a frame's neighbours from far frames by similarity; lower is better.

    With the similarity s_ij = x_i . x_j / temperature:

    `variant="fixed"`, with n the frames beyond 2 frame_margin:

        1/B sum_b 1/N_b sum_t mean_{|i-t| = 1} log(1 + sum_n exp(s_tn - s_ti))

    Only frames below `lengths` count. A frame without negatives adds exactly 0.

    `variant="released"`, with the softmax over both neighbours and the negatives (2..T-3, beyond frame_margin):

        1/(B (T-4)) sum_{t = 1..T-3} sum_b sum_{i = t-1, t+1} -log softmax(s_ti)

    `lengths` is ignored. The released code uses normalize=False and negatives=40. T <= 4 gives exactly 0.

    Computed by log-sum-exp in float32: large products do not overflow as they do in the released code.

    Args:
        features: [B, T, D]
        lengths: [B]
        frame_margin: frames. [B] or number
        variant: "fixed" or "released", see above.
        temperature: 0.1 in the released code.
        negatives: None = all, k = draw k, tensor = listed; as in `signcl_loss`.
        normalize: cosine similarity; an all-zero frame then has similarity 0 and gradient 0.
        generator: for drawing negatives.

    Returns:
        Scalar.

    Raises:
        ValueError: as `signcl_loss`; a temperature that is not positive.

    Source: released code, signcl.py (SignInfoNCE).
    """
    if variant not in ("fixed", "released"):
        raise ValueError(f"sign_infonce needs variant fixed or released, got {variant!r}.")
    if temperature <= 0:
        raise ValueError(f"sign_infonce needs a positive temperature, got {temperature}; the released one is 0.1.")
    fixed = variant == "fixed"
    lengths, gap = check(features, lengths, frame_margin, negatives, doubled=fixed)
    with full_precision(features.device):
        x = features if features.dtype == torch.float64 else features.float()
        clips, padded, _ = x.shape
        if padded < (2 if fixed else 5):
            return x[:, :0].sum()
        lengths = lengths.clamp(0, padded) if fixed else torch.full_like(lengths, padded)
        mask = frame_mask(lengths, padded)
        x = torch.where(mask[..., None], x, 0)
        if normalize:
            x = unit_rows(x)
        neighbour = (x[:, 1:] * x[:, :-1]).sum(dim=-1) / temperature  # [B, T-1]
        if fixed:
            others = _far_similarity(x, lengths, gap, temperature, negatives, generator, 0, padded)
            pair = mask[:, 1:]  # (t, t+1) both real; counted from t and from t+1
            loss = F.softplus(F.pad(others[:, :-1] - neighbour, (0, 1))) * F.pad(pair, (0, 1))
            loss = loss + F.softplus(F.pad(others[:, 1:] - neighbour, (1, 0))) * F.pad(pair, (1, 0))
            positives = F.pad(pair, (0, 1)).long() + F.pad(pair, (1, 0)).long()
            loss = (loss / positives.clamp(min=1)).sum(dim=1) / lengths.clamp(min=1)
            return loss.mean()
        others = _far_similarity(x, lengths, gap, temperature, negatives, generator, 1, padded - 2)
        before, after = neighbour[:, :-2], neighbour[:, 1:-1]  # of anchors 1..T-3
        everything = torch.logaddexp(torch.logaddexp(before, after), others)
        return (2 * everything - before - after).sum() / (clips * (padded - 4))


def _far_similarity(
    x: Tensor,
    lengths: Tensor,
    gap: Tensor,
    temperature: float,
    negatives: int | Tensor | None,
    generator: torch.Generator | None,
    first: int,
    stop: int,
) -> Tensor:
    """Log of the sum of exp(similarity) over each anchor's negatives, `NOTHING` if it has none. [B, A]"""
    padded = x.shape[1]
    edge = 2 * first  # the released candidates leave out two frames at either end
    time = torch.arange(padded, device=x.device)
    anchor, last = time[first:stop], lengths[:, None] - 1 - edge
    similarity = torch.bmm(x[:, first:stop], x.transpose(1, 2)) / temperature  # [B, A, T]
    if negatives is None:
        legal = (anchor[:, None] - time).abs() > gap[..., None]
        legal = legal & (time >= edge) & (time <= last[..., None])
    else:
        listed = listed_negatives(negatives, x, lengths, gap, not first, generator)
        legal = (listed >= 0) & (listed < lengths[:, None, None])
        similarity = similarity.gather(2, torch.where(legal, listed, 0))
    return similarity.masked_fill(~legal, NOTHING).logsumexp(dim=2).clamp(min=NOTHING)
