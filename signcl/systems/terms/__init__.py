"""The loss terms by name: (model outputs, batch) -> one unweighted scalar each.

A recipe's `loss.weights` chooses among them; which system computes which stands in `signcl.training.recipe.SYSTEMS`.
One line (`weighted_sum`) adds them, Eq. 6, so that no term can be logged and yet not trained: the released
pretraining builds `total_loss` with SignCL in it and then back-propagates the contrast alone (docs/paper-vs-code.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from signcl.data.batch import Batch, frame_mask
from signcl.losses import (
    clip_loss,
    ctc_loss,
    distillation_loss,
    estimate_frame_margin,
    label_smoothed_cross_entropy,
    pseudo_gloss_loss,
    released_frame_margin,
    sentence_similarity_loss,
    signcl_loss,
    token_clip_loss,
    weighted_sum,
)
from signcl.training.recipe import LossRecipe, SignCLRecipe

__all__ = ["TERMS", "Gather", "compute_terms", "frame_margin", "signcl_term", "weighted_sum"]

Gather = Callable[[Tensor], Tensor]
"""Rows of all ranks, with gradient."""
Term = Callable[[Any, Batch, LossRecipe, int, Gather | None], Tensor]
"""(outputs of the model, batch, the recipe's loss section, pad id, gather or None) -> scalar."""


def frame_margin(batch: Batch, recipe: SignCLRecipe, lengths: Tensor | None = None) -> Tensor:
    """The frame margin of each clip, by the recipe's rule. [B]

    `per_clip` is the paper's max(floor, frames / words * 2.3). `released` is one number for the batch from padded
    sizes, g = min(2 * max(10, int((T // U + 1) * 2.3)), int((T - 30) / 2)), with T the padded frames including the
    16 or more edge copies and U the padded tokens; the code passes g as it is, where Eq. 4 would double the margin.
    """
    lengths = batch.lengths if lengths is None else lengths
    if recipe.frame_margin_rule == "per_clip":
        return estimate_frame_margin(
            lengths, batch.num_words, words_per_gloss=recipe.words_per_gloss, floor=recipe.frame_margin_floor
        )
    if batch.tokens is None:
        raise ValueError("loss.signcl.frame_margin_rule=released needs the sentence of each clip")
    frames = -(-batch.max_length // 4) * 4 + 16
    gap = max(0, released_frame_margin(frames, batch.tokens.shape[1]))
    doubling = 1 if recipe.variant == "released" else 2  # `released` takes the gap itself, `paper` doubles
    return torch.full_like(batch.num_words, gap / doubling)


def signcl_term(features: Tensor, lengths: Tensor, batch: Batch, recipe: SignCLRecipe) -> Tensor:
    """SignCL on frame features by the recipe; sampling draws from torch's generator. Scalar.

    Args:
        features: [B, T, D].
        lengths: rows of each clip: its frames, or its windows where the frame encoder reads windows of frames. [B]
    """
    return signcl_loss(
        features,
        lengths,
        frame_margin(batch, recipe, lengths),
        variant=recipe.variant,
        distance_margin=recipe.distance_margin,
        negatives=recipe.negatives,
        distance_margin_mode=recipe.distance_margin_mode,
        same_sign=recipe.same_sign,
    )


def _signcl(out: Any, batch: Batch, loss: LossRecipe, pad_id: int, gather: Gather | None) -> Tensor:
    """The frame contrast on `out.features`, where the system lets SignCL look."""
    return signcl_term(out.features, out.lengths, batch, loss.signcl)


def _translation(out: Any, batch: Batch, loss: LossRecipe, pad_id: int, gather: Gather | None) -> Tensor:
    """Cross-entropy of the sentence, mean over tokens."""
    assert batch.tokens is not None
    return label_smoothed_cross_entropy(out.logits, batch.tokens, pad_id, loss.label_smoothing)


def _recognition(out: Any, batch: Batch, loss: LossRecipe, pad_id: int, gather: Gather | None) -> Tensor:
    """CTC of the glosses, mean over clips; clips with too few steps are left out, or stop by `loss.ctc_too_long`."""
    return _ctc(out.log_probs, out.step_lengths, batch, loss, "recognition")


def _auxiliary(out: Any, batch: Batch, loss: LossRecipe, pad_id: int, gather: Gather | None) -> Tensor:
    """The same CTC on the convolution's steps, so that these carry the glosses by themselves. Source: VAC."""
    return _ctc(out.conv_log_probs, out.step_lengths, batch, loss, "auxiliary")


def _ctc(log_probs: Tensor | None, step_lengths: Tensor, batch: Batch, loss: LossRecipe, term: str) -> Tensor:
    if log_probs is None or batch.glosses is None or batch.gloss_lengths is None:
        raise ValueError(f"loss.weights.{term} needs a model with a gloss head and a corpus with glosses")
    too_long: Literal["error", "skip"] = "skip" if loss.ctc_too_long == "skip" else "error"
    return ctc_loss(log_probs, batch.glosses, step_lengths, batch.gloss_lengths, too_long=too_long)


def _distillation(out: Any, batch: Batch, loss: LossRecipe, pad_id: int, gather: Gather | None) -> Tensor:
    """The glosses after the LSTM teach those after the convolution. Source: VAC, visual alignment."""
    return distillation_loss(
        out.conv_log_probs, out.log_probs, out.step_lengths, temperature=loss.distillation_temperature
    )


def _classification(out: Any, batch: Batch, loss: LossRecipe, pad_id: int, gather: Gather | None) -> Tensor:
    """Cross-entropy of the one gloss of each clip, mean over the clips whose gloss training has seen."""
    if batch.glosses is None:
        raise ValueError("loss.weights.classification needs a corpus with the gloss of each clip")
    target = batch.glosses[:, 0] - 2  # the scores have no blank and no unknown gloss
    sums = nn.functional.cross_entropy(
        out.logits.float(), target.clamp(min=-1), ignore_index=-1, label_smoothing=loss.label_smoothing, reduction="sum"
    )
    return sums / (target >= 0).sum().clamp(min=1)


def _clip(out: Any, batch: Batch, loss: LossRecipe, pad_id: int, gather: Gather | None) -> Tensor:
    """The contrast of clips and sentences; rows of all ranks take part. Source: GFSLT-VLP; paper section 4.2."""
    video, text, ids = out.video_embedding, out.text_embedding, batch.sentence_ids
    assert ids is not None
    if gather is not None:
        video, text, ids = gather(video), gather(text), gather(ids)
    return clip_loss(
        video, text, out.logit_scale, sentence_ids=ids if loss.mask_duplicates else None, target=loss.clip_target
    )


def _token_clip(out: Any, batch: Batch, loss: LossRecipe, pad_id: int, gather: Gather | None) -> Tensor:
    """The contrast of steps and words (CiCo's aggregation); steps and words of all ranks take part."""
    assert batch.sentence_ids is not None
    assert batch.token_lengths is not None
    parts = [out.step_embeddings, out.step_lengths, out.token_embeddings, batch.token_lengths, batch.sentence_ids]
    steps, step_lengths, tokens, token_lengths, ids = parts if gather is None else map(gather, parts)
    return token_clip_loss(
        steps,
        step_lengths,
        tokens,
        token_lengths,
        out.token_logit_scale,
        sentence_ids=ids if loss.mask_duplicates else None,
        temperature=loss.token_temperature,
        target=loss.clip_target,
    )


def _masked_text(out: Any, batch: Batch, loss: LossRecipe, pad_id: int, gather: Gather | None) -> Tensor:
    """Cross-entropy of the whole sentence from its masked form (VLP version 2)."""
    if out.masked_logits is None or batch.tokens is None:
        raise ValueError("loss.weights.masked_text needs model.masked_text=true (VLP version 2)")
    return label_smoothed_cross_entropy(out.masked_logits, batch.tokens, pad_id, loss.label_smoothing)


def _pseudo_gloss(out: Any, batch: Batch, loss: LossRecipe, pad_id: int, gather: Gather | None) -> Tensor:
    """The sentence's pseudo-glosses found somewhere in the clip; the published term is ten times this."""
    return pseudo_gloss_loss(out.similarity, out.step_lengths, batch.targets["pseudo_gloss"], out.log_temperature)


def _sentence_similarity(out: Any, batch: Batch, loss: LossRecipe, pad_id: int, gather: Gather | None) -> Tensor:
    """Clips as alike as their sentences: means of the encoder's states over real steps; pairs across ranks count."""
    sentences = batch.targets.get("sentence_similarity")
    if sentences is None:
        raise ValueError(
            "loss.weights.sentence_similarity needs batch.targets['sentence_similarity'], see signcl.systems.targets"
        )
    real = frame_mask(out.step_lengths, out.steps.shape[1])[:, :, None]
    clips = out.steps.float().masked_fill(~real, 0.0).sum(dim=1) / out.step_lengths[:, None]
    if gather is not None:
        clips, sentences = gather(clips), gather(sentences)
    return sentence_similarity_loss(clips, sentences)


TERMS: dict[str, Term] = {
    "auxiliary": _auxiliary,
    "classification": _classification,
    "clip": _clip,
    "distillation": _distillation,
    "masked_text": _masked_text,
    "pseudo_gloss": _pseudo_gloss,
    "recognition": _recognition,
    "sentence_similarity": _sentence_similarity,
    "signcl": _signcl,
    "token_clip": _token_clip,
    "translation": _translation,
}


def compute_terms(
    out: Any, batch: Batch, loss: LossRecipe, *, pad_id: int, gather: Gather | None = None
) -> dict[str, Tensor]:
    """The terms that a recipe weighs, unweighted, by name.

    Args:
        out: what the model made of the batch: an output dataclass of `signcl.systems`, or anything with its fields.
        pad_id: of the tokenizer.
        gather: collects rows over ranks with gradient, so that a contrast sees every clip of the step.
    """
    return {name: TERMS[name](out, batch, loss, pad_id, gather) for name in loss.weights}
