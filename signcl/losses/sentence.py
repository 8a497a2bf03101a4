"""Sentence-level losses: video-text contrast, similarity transfer, CTC and label-smoothed cross-entropy.

`weighted_sum` adds the named terms to the training loss (Eq. 6).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from signcl.data.batch import frame_mask
from signcl.losses.lengths import one_per_clip
from signcl.losses.precision import full_precision


def unit_rows(x: Tensor) -> Tensor:
    """Rows scaled to length 1; an all-zero row stays zero and passes no gradient. [..., D]"""
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / torch.where(norm > 1e-12, norm, torch.inf)


class _Capped(torch.autograd.Function):
    """min(value, top), with a gradient that still lets a value above `top` come down."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, top: float) -> Tensor:
        ctx.save_for_backward(value > top)
        return value.clamp(max=top)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        (above,) = ctx.saved_tensors
        return upstream * ~(above & (upstream < 0)), None


def clip_loss(
    video: Tensor,
    text: Tensor,
    logit_scale: Tensor,
    *,
    sentence_ids: Tensor | None = None,
    target: Literal["one_hot", "released"] = "one_hot",
    max_scale: float = 100.0,
) -> Tensor:
    """How badly clips and sentences of a batch find each other, both ways; ln(B) is chance, 0 perfect.

        logits = exp(logit_scale) cos(video_i, text_j)

    The loss is the mean over both directions. With `target="one_hot"` it is the cross-entropy with the clip's own
    sentence. With `target="released"` it is the KL divergence (batch mean) from softmax(10 identity), which is nearly
    one-hot; 0 is reached only at that target.

    The loss depends on which clips share a batch. With several ranks, first gather the rows, with gradient.
    A batch of one gives exactly 0. Float32, under autocast too.

    Args:
        video: clip embeddings, any length. [B, E]
        text: sentence embeddings, any length. [B, E]
        logit_scale: natural logarithm of the factor, as learned by CLIP (starts at ln(1/0.07)). Scalar.
        sentence_ids: equal numbers for equal sentences: their clips are not negatives of each other. None: all other
            clips are negatives, as released. [B]
        target: "released" for "as released" recipes.
        max_scale: upper bound of the factor (CLIP: 100; released: no bound).

    Returns:
        Scalar.

    Raises:
        ValueError: shapes that do not match, an empty batch, an unknown target.

    Source: GFSLT-VLP, SLRCLIP. Released code: no bound, duplicates are negatives, negatives from one GPU only.
    """
    if video.dim() != 2 or video.shape != text.shape or not len(video):
        raise ValueError(
            f"clip_loss needs video and text embeddings of the same shape [B, E], B >= 1, got {list(video.shape)} and "
            f"{list(text.shape)}."
        )
    with full_precision(video.device):
        dtype = torch.promote_types(torch.promote_types(video.dtype, text.dtype), torch.float32)
        video, text = (unit_rows(rows.to(dtype)) for rows in (video, text))
        logits = capped_scale(logit_scale, dtype, max_scale) * (video @ text.T)  # [B, B]
        return both_ways(logits, logits.T, sentence_ids, target)


def capped_scale(logit_scale: Tensor, dtype: torch.dtype, top: float) -> Tensor:
    """exp(logit_scale), at most `top`, with a gradient that still lets it come down from there. Scalar"""
    scale: Tensor = _Capped.apply(logit_scale.to(dtype), math.log(top))  # type: ignore[no-untyped-call]
    return scale.exp()


def both_ways(
    of_clips: Tensor,
    of_sentences: Tensor,
    sentence_ids: Tensor | None,
    target: Literal["one_hot", "released"],
    select: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Tensor:
    """Mean of the contrast from clips to sentences and from sentences to clips; see `clip_loss`. Scalar

    Args:
        of_clips: row i: clip i against every sentence. [B, B]
        of_sentences: row j: sentence j against every clip. [B, B]
        select: (logits of one direction without gradient, mask of possible negatives) -> mask of the negatives to use,
            each [B, B]; None: all of them.
    """
    if target not in ("one_hot", "released"):
        raise ValueError(f"clip_loss needs target one_hot or released, got {target!r}.")
    clips = len(of_clips)
    if sentence_ids is not None and sentence_ids.shape != (clips,):
        raise ValueError(f"clip_loss needs one sentence id per clip, [{clips}], got {list(sentence_ids.shape)}.")
    own = torch.eye(clips, dtype=torch.bool, device=of_clips.device)
    twins = torch.zeros_like(own)
    if sentence_ids is not None:
        twins = (sentence_ids[:, None] == sentence_ids) & ~own
    sharp = 10.0 if target == "released" else torch.inf
    losses = []
    for direction in (of_clips, of_sentences):
        out = twins if select is None else ~(own | select(direction.detach(), ~(own | twins)))  # excluded
        wanted = torch.where(own, 1.0, torch.where(out, 0.0, math.exp(-sharp))).to(of_clips.dtype)
        wanted = wanted / wanted.sum(dim=1, keepdim=True)
        log_probs = direction.masked_fill(out, -torch.inf).log_softmax(dim=1).masked_fill(out, 0.0)
        losses.append((torch.xlogy(wanted, wanted) - wanted * log_probs).sum(dim=1).mean())
    return (losses[0] + losses[1]) / 2


def sentence_similarity_loss(clips: Tensor, sentences: Tensor) -> Tensor:
    """How much the similarities between clips differ from those between their sentences; 0 is perfect.

    Mean over the pairs i < j of the batch of (cos(clip_i, clip_j) - cos(sentence_i, sentence_j))^2.

    The loss depends on which clips share a batch. With several ranks, first gather the rows, with gradient. A batch of
    one has no pairs and gives exactly 0. An all-zero vector has cosine 0 with every other. Float32, under autocast too.

    Args:
        clips: one vector per clip, e.g. the mean of its encoder states. [B, D]
        sentences: one vector per sentence, of any size E; gets no gradient. [B, E]

    Returns:
        Scalar.

    Raises:
        ValueError: shapes that do not match, an empty batch.

    Source: Yin et al. 2023 (GASLT), section 3.3, Eq. 8-10.
    """
    if clips.dim() != 2 or sentences.dim() != 2 or len(clips) != len(sentences) or not len(clips):
        raise ValueError(
            f"sentence_similarity_loss needs a vector per clip [B, D] and per sentence [B, E], B >= 1, got "
            f"{list(clips.shape)} and {list(sentences.shape)}."
        )
    with full_precision(clips.device):
        dtype = torch.promote_types(clips.dtype, torch.float32)
        clips, sentences = unit_rows(clips.to(dtype)), unit_rows(sentences.detach().to(dtype))
        apart = (clips @ clips.T - sentences @ sentences.T).triu(diagonal=1)
        return apart.square().sum() / max(len(clips) * (len(clips) - 1) / 2, 1)


def ctc_too_long(targets: Tensor, step_lengths: Tensor, target_lengths: Tensor) -> Tensor:
    """Marks clips that are too short for their glosses.

    CTC needs one step per gloss and one more between equal neighbouring glosses.

    Args:
        targets: gloss classes, padded. [B, G]
        step_lengths: steps of each clip. [B]
        target_lengths: glosses of each clip. [B]

    Returns:
        True = no alignment exists. [B]
    """
    inside = frame_mask(target_lengths, targets.shape[1])
    repeats = ((targets[:, 1:] == targets[:, :-1]) & inside[:, 1:]).sum(dim=1)
    return target_lengths + repeats > step_lengths


def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    step_lengths: Tensor,
    target_lengths: Tensor,
    *,
    reduction: Literal["clip", "gloss"] = "clip",
    too_long: Literal["error", "skip"] = "error",
) -> Tensor:
    """Negative log-probability of the gloss sequence, summed over all its alignments; lower is better.

    - `reduction="clip"`: mean over clips of -ln p(glosses | clip), as in VAC.
    - `reduction="gloss"`: mean over clips of -ln p(glosses | clip) / G, with G the number of glosses of the clip (at
      least 1). This is torch's default, hence neccam/slt's. It is about G times smaller, and a clip weighs the same
      however many glosses it has.

    Class 0 is the blank. torch's `zero_infinity` is on: a clip whose probability underflows to 0 adds 0 instead of
    infinity. It would also silently drop clips that are too short for their glosses from training. Here they are an
    error, or with `too_long="skip"` left out of the mean. This check waits for the device. Float32.

    Args:
        log_probs: log-softmax over classes. [B, S, C]
        targets: gloss classes 1..C-1, padded with any value. [B, G]
        step_lengths: [B]
        target_lengths: [B]
        reduction: "gloss" divides the loss of a clip by its number of glosses, "clip" does not.
        too_long: what to do with clips that `ctc_too_long` marks.

    Returns:
        Scalar; 0 if every clip is skipped.

    Raises:
        ValueError: clips too short for their glosses (`too_long="error"`), a class out of range, an unknown option.

    Source: neccam/slt; VAC_CSLR.
    """
    if reduction not in ("clip", "gloss"):
        raise ValueError(f"ctc_loss needs reduction clip or gloss, got {reduction!r}.")
    if too_long not in ("error", "skip"):
        raise ValueError(f"ctc_loss needs too_long error or skip, got {too_long!r}.")
    if log_probs.dim() != 3:
        raise ValueError(f"ctc_loss needs log_probs [B, S, C], got {list(log_probs.shape)}.")
    clips, steps, classes = log_probs.shape
    step_lengths = one_per_clip(step_lengths, clips, "step_lengths", log_probs.device)
    target_lengths = one_per_clip(target_lengths, clips, "target_lengths", log_probs.device)
    inside = frame_mask(target_lengths, targets.shape[1])
    if bool((((targets < 1) | (targets >= classes)) & inside).any()):
        raise ValueError(
            f"ctc_loss needs gloss classes 1..{classes - 1} (0 is the blank), got {targets[inside].tolist()}."
        )
    if int(step_lengths.max()) > steps:
        raise ValueError(f"ctc_loss got step_lengths up to {int(step_lengths.max())} for log_probs of {steps} steps.")
    short = ctc_too_long(targets, step_lengths, target_lengths)
    if too_long == "error" and bool(short.any()):
        rows = short.nonzero().flatten().tolist()
        raise ValueError(
            f"ctc_loss needs one step per gloss (and one more between equal neighbours), but rows {rows} have "
            f"{step_lengths[short].tolist()} steps for {target_lengths[short].tolist()} glosses; drop these clips, "
            f"pool less, or pass too_long='skip'."
        )
    losses = F.ctc_loss(
        log_probs.to(torch.promote_types(log_probs.dtype, torch.float32)).transpose(0, 1),
        targets.masked_fill(~inside, 0),
        step_lengths,
        target_lengths,
        blank=0,
        reduction="none",
        zero_infinity=True,
    )
    if reduction == "gloss":
        losses = losses / target_lengths.clamp(min=1)
    return losses.masked_fill(short, 0.0).sum() / (~short).sum().clamp(min=1)


def label_smoothed_cross_entropy(logits: Tensor, tokens: Tensor, pad_id: int, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy with label smoothing, averaged over the valid tokens of the batch.

    (1 - smoothing) * -ln p(token) + smoothing * mean over the vocabulary of -ln p. Same as torch's cross-entropy, but
    0 instead of NaN if no token is valid. Float32.

    Args:
        logits: [B, U, V]
        tokens: padded with `pad_id`. [B, U]
        pad_id: the padding token, which is ignored.
        smoothing: 0..1; the released code trains with 0.2.

    Returns:
        Scalar.

    Raises:
        ValueError: the shapes of logits and tokens do not match.
    """
    if logits.shape[:-1] != tokens.shape:
        raise ValueError(
            f"label_smoothed_cross_entropy needs logits [B, U, V] for tokens [B, U], got {list(logits.shape)} and "
            f"{list(tokens.shape)}."
        )
    rows = logits.flatten(0, -2)
    total = F.cross_entropy(
        rows.to(torch.promote_types(rows.dtype, torch.float32)),
        tokens.flatten(),
        ignore_index=pad_id,
        label_smoothing=smoothing,
        reduction="sum",
    )
    return total / (tokens != pad_id).sum().clamp(min=1)


def weighted_sum(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """The training loss: the sum of the named terms times their weights.

    Args:
        terms: unweighted losses by name. Scalars
        weights: weight of each, with the same names; `loss.weights` of a recipe.

    Returns:
        Scalar.

    Raises:
        ValueError: a term without a weight or a weight without a term. No term can thus be logged but not trained.

    Source: paper Eq. 6.
    """
    if not terms or terms.keys() != weights.keys():
        raise ValueError(f"loss.weights names {sorted(weights)}, but this stage computes {sorted(terms)}")
    weighted = [weights[name] * value for name, value in terms.items()]
    return sum(weighted[1:], weighted[0])
