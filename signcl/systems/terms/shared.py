"""The loss terms of the systems here, as `Term`s; the formulas are in `signcl.losses`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from signcl.data.batch import Batch, frame_mask
from signcl.data.bounds import bounded
from signcl.losses import (
    Selection,
    SignCL,
    anchors_with_negative,
    clip_loss,
    ctc_loss,
    ctc_too_long,
    distillation_loss,
    label_smoothed_cross_entropy,
    pseudo_gloss_log_probs,
    pseudo_gloss_loss,
    sentence_similarity_loss,
    token_clip_loss,
    token_similarity,
)
from signcl.metrics import f1_score, mean_average_precision
from signcl.metrics.titles import Score
from signcl.systems.targets.pseudo_glosses import PseudoGlosses
from signcl.systems.targets.sentences import SentenceVectors
from signcl.systems.terms import LossRecipe, Measure, SignCLRecipe, Term, TermContext
from signcl.systems.terms.frame_terms import contrast_of

__all__ = [
    "auxiliary",
    "classification",
    "clip",
    "distillation",
    "frame_contrast",
    "masked_text",
    "pseudo_gloss",
    "recognition",
    "sentence_similarity",
    "signcl_of",
    "token_clip",
    "translation",
]


def signcl_of(recipe: SignCLRecipe) -> SignCL:
    """The public `SignCL` module with a recipe's values, as used in training."""
    return SignCL(
        variant=recipe.variant,
        distance_margin=recipe.distance_margin,
        negatives=recipe.negatives,
        words_per_gloss=recipe.words_per_gloss,
        floor=recipe.frame_margin_floor,
        distance_margin_mode=recipe.distance_margin_mode,
        same_sign=recipe.same_sign,
        part=recipe.part,
        frame_margin_rule=recipe.frame_margin_rule,
    )


def _frame_contrast(out: Any, batch: Batch, context: TermContext, same_word: Tensor | None = None) -> Tensor:
    """SignCL on `out.contrast` if the system has it, else on `out.features`.

    Negatives are sampled with torch's generator. `same_word`: see `signcl_loss`. [B, T, T]
    """
    tokens = None if batch.tokens is None else batch.tokens.shape[1]
    if context.loss.signcl.frame_margin_rule == "released" and tokens is None:
        raise ValueError("loss.signcl.frame_margin_rule=released needs the sentence of each clip")
    features, lengths = contrast_of(out)
    contrast = signcl_of(context.loss.signcl)
    padded_frames = -(-batch.max_length // 4) * 4 + 16  # includes the edge copies of the released loader
    if context.noted is not None and contrast.part != "pull":
        margin = contrast.frame_margin(lengths, batch.num_words, padded_frames, tokens)
        far, anchors = anchors_with_negative(lengths, features.shape[1], margin, contrast.variant)
        context.note(frames=anchors, frames_with_negative=far)
    return contrast(
        features,
        lengths,
        batch.num_words,
        padded_frames=padded_frames,
        padded_tokens=tokens,
        same_word=same_word,
    )


def _translation(out: Any, batch: Batch, context: TermContext) -> Tensor:
    """Cross-entropy of the sentence, mean over tokens."""
    assert batch.tokens is not None
    return label_smoothed_cross_entropy(out.logits, batch.tokens, context.pad_id, context.loss.label_smoothing)


def _recognition(out: Any, batch: Batch, context: TermContext) -> Tensor:
    """CTC of the glosses, mean over clips; with `loss.ctc_reduction=gloss` each clip's loss is per gloss.

    `loss.ctc_too_long` decides whether clips with too few steps are left out or stop the run.
    """
    return _ctc(out.log_probs, out.step_lengths, batch, context.loss, "recognition")


def _auxiliary(out: Any, batch: Batch, context: TermContext) -> Tensor:
    """CTC on the convolution's steps, so that they represent the glosses without the LSTM. Source: VAC."""
    return _ctc(out.conv_log_probs, out.step_lengths, batch, context.loss, "auxiliary")


def _ctc(log_probs: Tensor | None, step_lengths: Tensor, batch: Batch, loss: LossRecipe, term: str) -> Tensor:
    if log_probs is None or batch.glosses is None or batch.gloss_lengths is None:
        raise ValueError(f"loss.weights.{term} needs a model with a gloss head and a corpus with glosses")
    too_long: Literal["error", "skip"] = "skip" if loss.ctc_too_long == "skip" else "error"
    return ctc_loss(
        log_probs,
        batch.glosses,
        step_lengths,
        batch.gloss_lengths,
        reduction=loss.ctc_reduction,
        too_long=too_long,
    )


def _distillation(out: Any, batch: Batch, context: TermContext) -> Tensor:
    """Distillation from the gloss scores after the LSTM to those after the convolution. Source: VAC, visual
    alignment."""
    return distillation_loss(
        out.conv_log_probs, out.log_probs, out.step_lengths, temperature=context.loss.distillation_temperature
    )


def _classification(out: Any, batch: Batch, context: TermContext) -> Tensor:
    """Cross-entropy of the one gloss of each clip, mean over the clips whose gloss is in the training vocabulary."""
    if batch.glosses is None:
        raise ValueError("loss.weights.classification needs a corpus with the gloss of each clip")
    target = batch.glosses[:, 0] - 2  # the scores omit the classes blank and unknown
    sums = nn.functional.cross_entropy(
        out.logits.float(),
        target.clamp(min=-1),
        ignore_index=-1,
        label_smoothing=context.loss.label_smoothing,
        reduction="sum",
    )
    return sums / (target >= 0).sum().clamp(min=1)


def _clip(out: Any, batch: Batch, context: TermContext) -> Tensor:
    """Contrastive loss of clips and sentences, over all ranks. Source: GFSLT-VLP; paper section 4.2."""
    video, text, ids, gather = out.video_embedding, out.text_embedding, batch.sentence_ids, context.gather
    assert ids is not None
    if gather is not None:
        video, text, ids = gather(video), gather(text), gather(ids)
    different = ids if context.loss.mask_duplicates else None
    return clip_loss(video, text, out.logit_scale, sentence_ids=different, target=context.loss.clip_target)


@dataclass(frozen=True)
class TokenContrast:
    """`loss.token_clip` in a recipe: the negatives of the contrastive loss of steps and words."""

    negatives: Literal["all", "curriculum"] = "all"
    """all: every other sentence and clip of the batch, as in CiCo. curriculum: a subset selected by similarity, from
    easy ones at the start of training to hard ones at the end, after SCL-SLT. Dev is always scored with all."""
    share: float = bounded(0.5, above=0, high=1)
    """curriculum: share of the negatives that are used."""
    spread: float = bounded(0.5, above=0, high=1)
    """curriculum: share of the used negatives that are taken from the full range of similarity. Keep it above 0: with
    only hard negatives SCL-SLT fell from 26.00 to 12.41 BLEU-4."""
    skip: float = bounded(0.1, low=0, below=1)
    """curriculum: share of the negatives, the most similar ones, that are never selected as hard."""

    def __post_init__(self) -> None:
        default = TokenContrast.__dataclass_fields__
        moved = [name for name in ("share", "spread", "skip") if getattr(self, name) != default[name].default]
        if self.negatives == "all" and moved:
            raise ValueError(
                f"loss.token_clip.{moved[0]}: belongs to loss.token_clip.negatives=curriculum, which is all"
            )


def _token_clip(out: Any, batch: Batch, context: TermContext) -> Tensor:
    """Contrastive loss of steps and words (CiCo's aggregation), over all ranks."""
    assert batch.sentence_ids is not None
    assert batch.token_lengths is not None
    loss, gather = context.loss, context.gather
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
        selection=_selection(context),
    )


def _selection(context: TermContext) -> Selection | None:
    own = context.settings
    if context.progress is None or own is None or own.negatives == "all":
        return None
    return Selection(context.progress, own.share, own.spread, own.skip)


def _masked_text(out: Any, batch: Batch, context: TermContext) -> Tensor:
    """Cross-entropy of the sentence given its masked form (VLP version 2)."""
    if out.masked_logits is None or batch.tokens is None:
        raise ValueError("loss.weights.masked_text needs model.masked_text=true (VLP version 2)")
    return label_smoothed_cross_entropy(out.masked_logits, batch.tokens, context.pad_id, context.loss.label_smoothing)


def _pseudo_gloss(out: Any, batch: Batch, context: TermContext) -> Tensor:
    """Cross-entropy of finding the sentence's pseudo-glosses anywhere in the clip; the published term is ten times
    this."""
    targets = batch.targets["pseudo_gloss"]
    return pseudo_gloss_loss(out.similarity, out.step_lengths, targets, out.class_temperature, out.time_temperature)


def _sentence_similarity(out: Any, batch: Batch, context: TermContext) -> Tensor:
    """Squared error between clip and sentence similarities, with clips as mean encoder states; includes pairs across
    ranks."""
    sentences = batch.targets.get("sentence_similarity")
    if sentences is None:
        raise ValueError(
            "loss.weights.sentence_similarity needs batch.targets['sentence_similarity'], see signcl.systems.targets"
        )
    real = frame_mask(out.step_lengths, out.steps.shape[1])[:, :, None]
    clips = out.steps.float().masked_fill(~real, 0.0).sum(dim=1) / out.step_lengths[:, None]
    if context.gather is not None:
        clips, sentences = context.gather(clips), context.gather(sentences)
    return sentence_similarity_loss(clips, sentences)


# -- numbers of items in the means -----------------------------------------------------------------------------------


def _count_tokens(batch: Batch, context: TermContext) -> Tensor | float:
    """Tokens without padding."""
    return 0.0 if batch.tokens is None else (batch.tokens != context.pad_id).sum()


def _count_alignable(batch: Batch, context: TermContext) -> Tensor | float:
    """Clips with enough steps for their glosses; CTC's mean leaves out the others."""
    if batch.glosses is None or batch.gloss_lengths is None:
        return 0.0
    steps = batch.lengths if context.step_lengths is None else context.step_lengths(batch.lengths)
    return (~ctc_too_long(batch.glosses, steps, batch.gloss_lengths)).sum()


def _count_known(batch: Batch, context: TermContext) -> Tensor | float:
    """Clips whose gloss is in the training vocabulary."""
    return 0.0 if batch.glosses is None else (batch.glosses[:, 0] >= 2).sum()


# -- dev measures of terms -------------------------------------------------------------------------------------------


def _embeddings(out: Any, batch: Batch) -> tuple[Tensor, ...]:
    assert batch.sentence_ids is not None
    return out.video_embedding.float().cpu(), out.text_embedding.float().cpu(), batch.sentence_ids.cpu()


def _retrieval(rows: list[tuple[Tensor, ...]], loss: LossRecipe) -> dict[str, float]:
    """Percentage of clips whose own sentence is the nearest of all dev sentences."""
    video, text, ids = (torch.cat(column) for column in zip(*rows))
    similarity = nn.functional.normalize(video, dim=-1) @ nn.functional.normalize(text, dim=-1).T
    return {"retrieval": 100 * float((ids[similarity.argmax(dim=1)] == ids).double().mean())}


def _tokens(out: Any, batch: Batch) -> tuple[Tensor, ...]:
    assert batch.sentence_ids is not None
    assert batch.token_lengths is not None
    steps, tokens = out.step_embeddings.half().cpu(), out.token_embeddings.half().cpu()  # kept for the entire split
    return steps, out.step_lengths.cpu(), tokens, batch.token_lengths.cpu(), batch.sentence_ids.cpu()


def _token_retrieval(rows: list[tuple[Tensor, ...]], loss: LossRecipe) -> dict[str, float]:
    """Percentage of clips whose own sentence is the nearest, with the similarity of steps and words."""
    steps, step_lengths, words, word_lengths, numbers = (joined(column) for column in zip(*rows))
    by_steps, by_words = token_similarity(
        steps.float(), step_lengths, words.float(), word_lengths, temperature=loss.token_temperature
    )
    found = numbers[(by_steps + by_words).argmax(dim=1)]
    return {"token_retrieval": 100 * float((found == numbers).double().mean())}


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Concatenate batches, padding the second dimension with 0 to the longest."""
    if parts[0].dim() == 1:
        return torch.cat(list(parts))
    longest = max(part.shape[1] for part in parts)
    return torch.cat([nn.functional.pad(part, (0, 0, 0, longest - part.shape[1])) for part in parts])


def _tags(out: Any, batch: Batch) -> tuple[Tensor, ...]:
    found, _ = pseudo_gloss_log_probs(out.similarity, out.step_lengths, out.class_temperature, out.time_temperature)
    return found.exp().cpu(), batch.targets["pseudo_gloss"].cpu()


def _tag_scores(rows: list[tuple[Tensor, ...]], loss: LossRecipe) -> dict[str, float]:
    """How well the sentences' pseudo-glosses are found, percent."""
    found, true = (torch.cat(column) for column in zip(*rows))
    return {"pseudo_gloss_map": mean_average_precision(found, true), "pseudo_gloss_f1": f1_score(found, true)}


OWN_SENTENCE = "dev, % own sentence nearest"

frame_contrast = Term(_frame_contrast, "SignCL loss", "frame contrast, unweighted")
translation = Term(_translation, "Translation loss", "cross-entropy per token", counts=_count_tokens)
recognition = Term(
    _recognition, "Recognition loss", "CTC, mean over clips", needs=("glosses",), counts=_count_alignable
)
auxiliary = Term(
    _auxiliary, "Auxiliary CTC loss", "CTC after the convolution", needs=("glosses",), counts=_count_alignable
)
distillation = Term(_distillation, "Distillation loss", "between the two heads")
classification = Term(
    _classification,
    "Classification loss",
    "cross-entropy per clip",
    needs=("glosses", "one_gloss"),
    counts=_count_known,
)
clip = Term(
    _clip,
    "CLIP loss",
    "clip–sentence contrast",
    measure=Measure(_embeddings, _retrieval, {"retrieval": Score("Retrieval", OWN_SENTENCE)}),
)
token_clip = Term(
    _token_clip,
    "Token contrast loss",
    "InfoNCE of steps and words",
    settings=TokenContrast,
    measure=Measure(_tokens, _token_retrieval, {"token_retrieval": Score("Retrieval by tokens", OWN_SENTENCE)}),
)
masked_text = Term(
    _masked_text,
    "Masked-text loss",
    "cross-entropy per token",
    needs=("masked_tokens",),
    reaches_frames=False,
    counts=_count_tokens,
)
pseudo_gloss = Term(
    _pseudo_gloss,
    "Pseudo-gloss loss",
    "cross-entropy per word and clip",
    targets=PseudoGlosses,
    measure=Measure(
        _tags,
        _tag_scores,
        {
            "pseudo_gloss_map": Score("Pseudo-gloss mAP", "dev, % mean average precision"),
            "pseudo_gloss_f1": Score("Pseudo-gloss F1", "dev, %, at probability 0.5"),
        },
    ),
)
sentence_similarity = Term(
    _sentence_similarity,
    "Sentence-similarity loss",
    "squared error of cosines",
    targets=SentenceVectors,
)
