"""The loss of pseudo-gloss pretraining: predict which words of the sentence are signed somewhere in the clip."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from signcl.data.batch import frame_mask
from signcl.losses.lengths import clip_lengths
from signcl.losses.precision import full_precision
from signcl.losses.sentence import _Capped

__all__ = ["pseudo_gloss_log_probs", "pseudo_gloss_loss"]

COLDEST, HOTTEST = 0.01, 1.0  # bounds of a temperature


def pseudo_gloss_log_probs(
    similarity: Tensor, step_lengths: Tensor, class_temperature: Tensor, time_temperature: Tensor
) -> tuple[Tensor, Tensor]:
    """Log-probability that each pseudo-gloss is signed in the clip, and that it is not.

        p(g) = sum_s softmax over time(cosine / time_temperature)_{s, g}
                     * softmax over classes(cosine / class_temperature)_{s, g}

    with a null class of cosine 0 among the classes. p is a weighted mean of class probabilities, and 1 - p is the same
    mean of their complements, so both logarithms are log-sum-exps and 1 - p is never computed by subtraction. Float32.

    Args:
        similarity: cosines. [B, S, P]
        step_lengths: real steps; 0 counts as 1 step that resembles nothing. [B]
        class_temperature, time_temperature: scalar tensors, or tensors of one number; clamped to 0.01..1. A value
            outside still gets the gradient that brings it back (released code: no gradient).

    Returns:
        ln p and ln (1 - p). [B, P] each

    Source: Sign2GPT (ICLR 2024). The released code clamps p to 1e-8..1 - 1e-8, so the loss of a word is at most 18.4.
    """
    if similarity.dim() != 3 or 0 in similarity.shape:
        raise ValueError(
            f"pseudo_gloss_loss needs similarity [B, S, P] with B, S and P of at least 1, got {list(similarity.shape)}."
        )
    steps = similarity.shape[1]
    step_lengths = clip_lengths(step_lengths, similarity, "pseudo_gloss_loss", name="step_lengths")
    with full_precision(similarity.device):
        dtype = torch.promote_types(similarity.dtype, torch.float32)
        seen = frame_mask(step_lengths, steps)[:, :, None]
        cosines = similarity.to(dtype).masked_fill(~seen, 0)  # values on padding, even NaN, have no effect. [B, S, P]
        logits = cosines / _held(class_temperature.to(dtype))
        classes = F.pad(logits, (0, 1))  # the null class is last; [B, S, P + 1]
        total = classes.logsumexp(dim=2, keepdim=True)
        in_class = logits - total
        # ln(1 - softmax) is exact enough below 1/2; the one class that may be above it takes the sum of all others.
        top = F.one_hot(classes.argmax(dim=2), classes.shape[2]).bool()
        rest = classes.masked_fill(top, -torch.inf).logsumexp(dim=2, keepdim=True) - total
        is_top = top[:, :, :-1]
        other = torch.where(is_top, rest, torch.log(-torch.expm1(in_class.masked_fill(is_top, -1.0))))
        real = frame_mask(step_lengths.clamp(min=1), steps)[:, :, None]
        in_time = (cosines / _held(time_temperature.to(dtype))).masked_fill(~real, -torch.inf).log_softmax(dim=1)
        return (in_time + in_class).logsumexp(dim=1), (in_time + other).logsumexp(dim=1)


def _held(temperature: Tensor) -> Tensor:
    """The temperature clamped to its bounds; outside, it still gets the gradient that brings it back."""
    warm: Tensor = -_Capped.apply(-temperature, -COLDEST)  # type: ignore[no-untyped-call]
    held: Tensor = _Capped.apply(warm, HOTTEST)  # type: ignore[no-untyped-call]
    return held


def pseudo_gloss_loss(
    similarity: Tensor, step_lengths: Tensor, targets: Tensor, class_temperature: Tensor, time_temperature: Tensor
) -> Tensor:
    """How badly the words of the sentence are found in the clip: 0 is perfect.

    -mean over clips and pseudo-glosses of y ln p + (1 - y) ln (1 - p), with p from `pseudo_gloss_log_probs`.

    Args:
        similarity: cosines between steps and pseudo-glosses. [B, S, P]
        step_lengths: real steps. [B]
        targets: 1 if the sentence has the pseudo-gloss, else 0. [B, P]
        class_temperature, time_temperature: see `pseudo_gloss_log_probs`.

    Returns:
        Scalar. The published term is 10 times this: give it weight 10.

    Raises:
        ValueError: shapes that do not match, or no pseudo-glosses.

    Source: Sign2GPT (ICLR 2024).
    """
    if targets.shape != (similarity.shape[0], similarity.shape[-1]) or not targets.numel():
        raise ValueError(
            f"pseudo_gloss_loss needs targets [B, P] that fit similarity {list(similarity.shape)}, P >= 1, got "
            f"{list(targets.shape)}."
        )
    found, absent = pseudo_gloss_log_probs(similarity, step_lengths, class_temperature, time_temperature)
    with full_precision(similarity.device):
        return -torch.where(targets > 0.5, found, absent).mean()
