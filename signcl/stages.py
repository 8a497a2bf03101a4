"""The stages of training: (model outputs, batch) -> named, unweighted loss terms; and how each stage is scored.

One line (`weighted_sum`) adds the terms, Eq. 6, so that no term can be logged and yet not trained: the released
pretraining builds `total_loss` with SignCL in it and then back-propagates the contrast alone (docs/paper-vs-code.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from signcl.batch import Batch
from signcl.decode import ctc_greedy, ctc_prefix_beam
from signcl.losses import (
    clip_loss,
    ctc_loss,
    estimate_frame_margin,
    label_smoothed_cross_entropy,
    released_frame_margin,
    signcl_loss,
    weighted_sum,
)
from signcl.recipe import LossRecipe, Recipe, SignCLRecipe
from signcl.text import GlossVocabulary, Tokenizer

__all__ = [
    "STAGES",
    "decode_glosses",
    "finetune",
    "frame_margin",
    "pretrain",
    "recognise",
    "Scored",
    "score",
    "signcl_term",
    "summarise",
    "weighted_sum",
]

Gather = Callable[[Tensor], Tensor]
"""Rows of all ranks, with gradient."""


def frame_margin(batch: Batch, recipe: SignCLRecipe) -> Tensor:
    """The frame margin of each clip, by the recipe's rule. [B]

    `per_clip` is the paper's max(floor, frames / words * 2.3). `released` is one number for the batch from padded
    sizes, g = min(2 * max(10, int((T // U + 1) * 2.3)), int((T - 30) / 2)), with T the padded frames including the
    16 or more edge copies and U the padded tokens; the code passes g as it is, where Eq. 4 would double the margin.
    """
    if recipe.frame_margin_rule == "per_clip":
        return estimate_frame_margin(
            batch.lengths, batch.num_words, words_per_gloss=recipe.words_per_gloss, floor=recipe.frame_margin_floor
        )
    if batch.tokens is None:
        raise ValueError("loss.signcl.frame_margin_rule=released needs the sentence of each clip")
    frames = -(-batch.max_length // 4) * 4 + 16
    gap = max(0, released_frame_margin(frames, batch.tokens.shape[1]))
    doubling = 1 if recipe.variant == "released" else 2  # `released` takes the gap itself, `paper` doubles
    return torch.full_like(batch.num_words, gap / doubling)


def signcl_term(features: Tensor, batch: Batch, recipe: SignCLRecipe) -> Tensor:
    """SignCL on frame features by the recipe; sampling draws from torch's generator. Scalar."""
    return signcl_loss(
        features,
        batch.lengths,
        frame_margin(batch, recipe),
        variant=recipe.variant,
        distance_margin=recipe.distance_margin,
        negatives=recipe.negatives,
    )


def pretrain(
    out: Any, batch: Batch, loss: LossRecipe, *, pad_id: int, gather: Gather | None = None
) -> dict[str, Tensor]:
    """Terms of visual-language pretraining: clip, masked_text, signcl, as far as the recipe weighs them.

    Args:
        out: what the model made of the batch; a `signcl.models.vlp.VLPOutput` or anything with its fields.
        gather: collects rows over ranks with gradient, so that the contrast sees every clip of the step.

    Source: GFSLT-VLP; paper section 4.2.
    """
    terms = {}
    if "clip" in loss.weights:
        video, text, ids = out.video_embedding, out.text_embedding, batch.sentence_ids
        assert ids is not None
        if gather is not None:
            video, text, ids = gather(video), gather(text), gather(ids)
        terms["clip"] = clip_loss(
            video, text, out.logit_scale, sentence_ids=ids if loss.mask_duplicates else None, target=loss.clip_target
        )
    if "masked_text" in loss.weights:
        if out.masked_logits is None or batch.tokens is None:
            raise ValueError("loss.weights.masked_text needs model.masked_text=true (VLP version 2)")
        terms["masked_text"] = label_smoothed_cross_entropy(
            out.masked_logits, batch.tokens, pad_id, loss.label_smoothing
        )
    if "signcl" in loss.weights:
        terms["signcl"] = signcl_term(out.features, batch, loss.signcl)
    return terms


def recognition_term(out: Any, batch: Batch, loss: LossRecipe) -> Tensor:
    """CTC of the glosses, mean over clips; clips with too few steps are left out, or stop by `loss.ctc_too_long`."""
    if out.log_probs is None or batch.glosses is None or batch.gloss_lengths is None:
        raise ValueError("loss.weights.recognition needs a model with a gloss head and a corpus with glosses")
    return ctc_loss(
        out.log_probs,
        batch.glosses,
        out.step_lengths,
        batch.gloss_lengths,
        too_long="skip" if loss.ctc_too_long == "skip" else "error",
    )


def recognise(
    out: Any, batch: Batch, loss: LossRecipe, *, pad_id: int, gather: Gather | None = None
) -> dict[str, Tensor]:
    """Terms of recognition: recognition, signcl, as far as the recipe weighs them.

    Args:
        out: a `signcl.models.recogniser.RecogniserOutput` or anything with its fields.
        pad_id, gather: not used.

    Source: the recognition probe of paper Tables 1, 11 and 12.
    """
    terms = {}
    if "recognition" in loss.weights:
        terms["recognition"] = recognition_term(out, batch, loss)
    if "signcl" in loss.weights:
        terms["signcl"] = signcl_term(out.features, batch, loss.signcl)
    return terms


def finetune(
    out: Any, batch: Batch, loss: LossRecipe, *, pad_id: int, gather: Gather | None = None
) -> dict[str, Tensor]:
    """Terms of translation: translation, recognition (Joint-SLT), signcl, as far as the recipe weighs them.

    Args:
        out: what the model made of the batch; a `signcl.models.gfslt.GFSLTOutput` or anything with its fields.
        gather: not used; every term is per clip.

    Source: paper section 4.2.
    """
    assert batch.tokens is not None
    terms = {}
    if "translation" in loss.weights:
        terms["translation"] = label_smoothed_cross_entropy(out.logits, batch.tokens, pad_id, loss.label_smoothing)
    return terms | recognise(out, batch, loss, pad_id=pad_id)


STAGES = {"recognise": recognise, "pretrain": pretrain, "finetune": finetune}


@dataclass
class Scored:
    """One rank's share of a dev scoring; `summarise` joins the shares."""

    sums: dict[str, float]
    """Each term and `loss`, summed over clips."""
    clips: int
    hypotheses: dict[str, str]
    """Name -> sentence, in finetuning."""
    embeddings: list[tuple[Tensor, Tensor, Tensor]]
    """Video and text vectors and sentence numbers of each batch, on the CPU, in pretraining."""
    recognised: dict[str, str] = field(default_factory=dict)
    """Name -> glosses, where the recipe weighs recognition."""


@torch.no_grad()
def score(
    model: nn.Module,
    batches: Iterable[Batch],
    recipe: Recipe,
    tokenizer: Tokenizer,
    glosses: GlossVocabulary | None = None,
) -> Scored:
    """Run a stage over dev batches, without training."""
    model.eval()
    stage = STAGES[recipe.stage]
    sums: dict[str, Tensor] = {}
    scored = Scored({}, 0, {}, [])
    for batch in batches:
        out = model(batch)
        terms = stage(out, batch, recipe.loss, pad_id=tokenizer.pad_id)
        terms["loss"] = weighted_sum(terms, recipe.loss.weights)
        for name, value in terms.items():
            sums[name] = sums.get(name, 0) + value.cpu().double() * len(batch)  # mps has no float64
        scored.clips += len(batch)
        if recipe.stage == "pretrain":
            assert batch.sentence_ids is not None
            video, text = out.video_embedding.float().cpu(), out.text_embedding.float().cpu()
            scored.embeddings.append((video, text, batch.sentence_ids.cpu()))
        if recipe.stage == "finetune":
            scored.hypotheses.update(decode(model, batch, tokenizer, recipe, beams=recipe.decode.dev_beams))
        if glosses is not None:
            scored.recognised.update(decode_glosses(model, batch, glosses, beams=recipe.decode.dev_beams))
    scored.sums = {name: float(value) for name, value in sums.items()}
    return scored


def summarise(parts: list[Scored]) -> dict[str, float]:
    """Scores of a dev split from the shares of all ranks: means over clips, not over ranks.

    Returns:
        `loss` and each term; in pretraining also `retrieval`, the percentage of clips whose own sentence is nearest
        among all dev sentences.

    Raises:
        ValueError: no clip was scored.
    """
    clips = sum(part.clips for part in parts)
    if not clips:
        raise ValueError("no clip of the dev split can be read; run `signcl corpus check` on the corpus")
    names = next(part.sums for part in parts if part.clips)
    scores = {name: sum(part.sums.get(name, 0.0) for part in parts) / clips for name in names}
    rows = [row for part in parts for row in part.embeddings]
    if rows:
        video, text, ids = (torch.cat(column) for column in zip(*rows))
        similarity = nn.functional.normalize(video, dim=-1) @ nn.functional.normalize(text, dim=-1).T
        scores["retrieval"] = 100 * float((ids[similarity.argmax(dim=1)] == ids).double().mean())
    return scores


@torch.no_grad()
def decode(
    model: nn.Module, batch: Batch, tokenizer: Tokenizer, recipe: Recipe, *, beams: int | None = None
) -> dict[str, str]:
    """Sentences of a batch by beam search: name -> sentence."""
    ids = model.generate(  # type: ignore[operator]
        batch,
        num_beams=recipe.decode.beams if beams is None else beams,
        length_penalty=recipe.decode.length_penalty,
        max_new_tokens=recipe.decode.max_new_tokens,
    )
    return {name: tokenizer.decode(row) for name, row in zip(batch.names, ids.tolist())}


@torch.no_grad()
def decode_glosses(model: nn.Module, batch: Batch, glosses: GlossVocabulary, *, beams: int) -> dict[str, str]:
    """Glosses of a batch by CTC prefix search, or by the best class of each step with one beam: name -> glosses."""
    log_probs, step_lengths = model.recognise(batch)  # type: ignore[operator]
    if beams == 1:
        paths = ctc_greedy(log_probs, step_lengths)
    else:
        paths = [found[0] for found in ctc_prefix_beam(log_probs, step_lengths, beams=beams)]
    return {name: " ".join(glosses.decode(path.classes)) for name, path in zip(batch.names, paths)}
