"""Scores of a split during training over all ranks: losses and measures of terms, BLEU etc., WER, accuracy."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from signcl.data.batch import Batch, Sample
from signcl.metrics import bleu, exact_match, rouge_l, score_classes, score_glosses
from signcl.metrics.written_forms import normalize, tokenize_as, unit_for
from signcl.systems import System
from signcl.systems.terms import compute_terms, term_counts
from signcl.training.optimizer import term_context
from signcl.training.recipe import Recipe

__all__ = ["Scored", "dev_scores", "score_batches", "scoring_limits", "summarise"]


@dataclass
class Scored:
    """One rank's share of the scoring; `dev_scores` combines the shares."""

    sums: dict[str, float] = field(default_factory=dict)
    """Value of each term times its number of items (`Term.counts`), summed over batches."""
    counts: dict[str, float] = field(default_factory=dict)
    """Number of items (tokens, clips ...) of each term, so that its mean does not depend on the batches."""
    clips: int = 0
    sentences: dict[str, str] = field(default_factory=dict)
    """Name -> sentence, for a system that answers sentences."""
    glosses: dict[str, str] = field(default_factory=dict)
    """Name -> glosses, for a system that recognises glosses."""
    classes: dict[str, list[str]] = field(default_factory=dict)
    """Name -> the most likely glosses, for a classifier."""
    measured: dict[str, list[tuple[Tensor, ...]]] = field(default_factory=dict)
    """Term -> values that its measure collected from each batch, on the CPU."""


SCORED_CLIPS = 4
"""Maximum size of a scoring batch in training batches, since a beam search holds each clip's states once per beam."""


def scoring_limits(plan: Sequence[Sequence[int]], lengths: Sequence[int], recipe: Recipe) -> tuple[int, int | None]:
    """Maximum clips and frames per batch for scoring dev.

    The frames are those of the largest training batch, which is known to fit in memory, so that many short clips are
    scored at once.

    In pretraining the limit is twice the clips of a training batch, since a contrastive loss depends on the batch.

    Args:
        plan: training batches of an epoch.
        lengths: frames per training clip.
    """
    train = recipe.train
    if recipe.stage == "pretrain":
        return train.batch_size * 2, train.batch_frames
    frames = max((sum(lengths[i] for i in batch) for batch in plan), default=None)
    return train.batch_size * SCORED_CLIPS, train.batch_frames or frames


@torch.no_grad()
def score_batches(
    model: System,
    batches: Iterable[Batch],
    recipe: Recipe,
    *,
    answers: bool = True,
    precision: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext,
) -> Scored:
    """Compute losses, measures and answers of a model, without training.

    Args:
        answers: also compute answers, with `decode.dev_beams`.
        precision: creates the context of a forward pass, such as `Fabric.autocast`; default: none.
    """
    model.eval()
    terms, decode = recipe.terms, recipe.decode.on_dev()
    context = term_context(model, recipe, getattr(model.tokenizer, "pad_id", 0))
    sums: dict[str, Tensor] = {}
    counts: dict[str, Tensor] = {}
    scored = Scored()
    for batch in batches:
        with precision():
            outputs = model(batch)
            values = compute_terms(outputs, batch, terms, context)
        for (name, value), count in zip(values.items(), term_counts(batch, terms, context).cpu().double()):
            sums[name] = sums.get(name, 0) + value.cpu().double() * count  # mps has no float64
            counts[name] = counts.get(name, 0) + count
        scored.clips += len(batch)
        for name, term in terms.items():
            if term.measure is not None:
                scored.measured.setdefault(name, []).append(term.measure.collect(outputs, batch))
        if not answers:
            continue
        with precision():
            if model.answers == "sentences":
                scored.sentences.update(zip(batch.names, model.answer(batch, decode)))
            if model.answers == "classes":
                scored.classes.update(zip(batch.names, model.ranked(outputs)))
            elif model.recognises:
                scored.glosses.update(zip(batch.names, model.glosses_of(batch, decode)))
    scored.sums = {name: float(value) for name, value in sums.items()}
    scored.counts = {name: float(value) for name, value in counts.items()}
    return scored


@torch.no_grad()
def summarise(parts: Sequence[Scored], recipe: Recipe) -> dict[str, float]:
    """Losses and measures of a split from the shares of all ranks.

    Each loss is the mean over its term's items, and `loss` is their weighted sum, so they do not depend on batches and
    ranks.

    Raises:
        ValueError: no clip was scored.
    """
    clips = sum(part.clips for part in parts)
    if not clips:
        raise ValueError("no clip of the dev split can be used; run `signcl corpus check` on the corpus")
    scores = {
        name: sum(part.sums.get(name, 0.0) for part in parts)
        / max(1.0, sum(part.counts.get(name, 0.0) for part in parts))
        for name in recipe.terms
    }
    scores["loss"] = sum(recipe.loss.weights[name] * value for name, value in scores.items())
    for name, term in recipe.terms.items():
        rows = [row for part in parts for row in part.measured.get(name, [])]
        if term.measure is not None and rows:
            scores |= term.measure.summarise(rows, recipe.loss)
    return scores


def dev_scores(parts: Sequence[Scored], samples: Sequence[Sample], recipe: Recipe) -> dict[str, float]:
    """Combine the scores of all ranks, counting each clip once.

    Args:
        parts: the share of each rank.
        samples: the dev split, for the references.
    """
    merged = summarise(parts, recipe)
    sentences = {name: sentence for part in parts for name, sentence in part.sentences.items()}
    if sentences:
        kept = [s for s in samples if s.name in sentences]
        found, texts = normalize([sentences[s.name] for s in kept]), normalize([s.text for s in kept])
        tokenize = tokenize_as(recipe.bleu_tokenize, texts)
        measured = bleu(found, texts, tokenize=tokenize)
        merged |= {f"bleu{n}": getattr(measured, f"bleu{n}") for n in (1, 2, 3, 4)}
        unit = unit_for(tokenize)
        merged |= {"rouge_l": rouge_l(found, texts, unit=unit), "exact_match": exact_match(found, texts, unit=unit)}
    glosses = {name: line for part in parts for name, line in part.glosses.items()}
    if glosses:
        kept = [s for s in samples if s.name in glosses]
        found, true = [glosses[s.name] for s in kept], [" ".join(s.gloss) for s in kept]
        rate = score_glosses(found, true, phoenix=recipe.corpus.name == "phoenix14t")["wer"]
        merged["wer" if recipe.system.answers == "glosses" else "gloss_wer"] = rate
    classes = {name: ranked for part in parts for name, ranked in part.classes.items()}
    if classes:
        kept = [s for s in samples if s.name in classes]
        accuracy = score_classes([classes[s.name] for s in kept], [s.gloss[0] for s in kept])
        merged |= {name: value for name, value in accuracy.items() if isinstance(value, float)}
    return merged
