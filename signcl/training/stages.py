"""How a stage is scored on dev, and how a model's answers become sentences and glosses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from signcl.data.batch import Batch
from signcl.data.text import GlossVocabulary, Tokenizer
from signcl.losses import TOKEN_TEMPERATURE, pseudo_gloss_log_probs, token_similarity
from signcl.metrics import f1_score, mean_average_precision
from signcl.systems.parts.search import ctc_greedy, ctc_prefix_beam
from signcl.systems.terms import compute_terms, weighted_sum
from signcl.training.recipe import Recipe

__all__ = ["Scored", "decode", "decode_glosses", "rank_glosses", "score", "search_width", "summarise"]


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
    ranked: dict[str, list[str]] = field(default_factory=dict)
    """Name -> the likeliest glosses, where the recipe weighs classification."""
    tokens: list[tuple[Tensor, Tensor, Tensor, Tensor, Tensor]] = field(default_factory=list)
    """Steps, their lengths, tokens, their lengths and sentence numbers of each batch, where it weighs token_clip."""
    temperature: float = TOKEN_TEMPERATURE
    """Of the contrast of tokens."""
    tags: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    """Probability and truth of each pseudo-gloss in each batch, on the CPU, where the recipe weighs pseudo_gloss."""


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
    sums: dict[str, Tensor] = {}
    scored = Scored({}, 0, {}, [], temperature=recipe.loss.token_temperature)
    for batch in batches:
        out = model(batch)
        terms = compute_terms(out, batch, recipe.loss, pad_id=tokenizer.pad_id)
        terms["loss"] = weighted_sum(terms, recipe.loss.weights)
        for name, value in terms.items():
            sums[name] = sums.get(name, 0) + value.cpu().double() * len(batch)  # mps has no float64
        scored.clips += len(batch)
        if "clip" in recipe.loss.weights:
            assert batch.sentence_ids is not None
            video, text = out.video_embedding.float().cpu(), out.text_embedding.float().cpu()
            scored.embeddings.append((video, text, batch.sentence_ids.cpu()))
        if "token_clip" in recipe.loss.weights:
            assert batch.sentence_ids is not None
            assert batch.token_lengths is not None
            steps, tokens = (
                out.step_embeddings.half().cpu(),
                out.token_embeddings.half().cpu(),
            )  # kept for a whole split
            lengths = out.step_lengths.cpu(), batch.token_lengths.cpu()
            scored.tokens.append((steps, lengths[0], tokens, lengths[1], batch.sentence_ids.cpu()))
        if "pseudo_gloss" in recipe.loss.weights:
            found, _ = pseudo_gloss_log_probs(out.similarity, out.step_lengths, out.log_temperature)
            scored.tags.append((found.exp().cpu(), batch.targets["pseudo_gloss"].cpu()))
        if recipe.stage == "finetune":
            scored.hypotheses.update(decode(model, batch, tokenizer, recipe, beams=recipe.decode.dev_beams))
        if glosses is not None and "classification" in recipe.loss.weights:
            scored.ranked.update(rank_glosses(out.logits, batch, glosses))
        elif glosses is not None:
            scored.recognised.update(decode_glosses(model, batch, glosses, beams=recipe.decode.dev_beams))
    scored.sums = {name: float(value) for name, value in sums.items()}
    return scored


@torch.no_grad()
def summarise(parts: list[Scored]) -> dict[str, float]:
    """Scores of a dev split from the shares of all ranks: means over clips, not over ranks.

    Returns:
        `loss` and each term; in pretraining also `retrieval`, the percentage of clips whose own sentence is nearest
        among all dev sentences, and `token_retrieval`, the same by steps and words; or `pseudo_gloss_map` and
        `pseudo_gloss_f1`, how well the sentence's pseudo-glosses are found, in percent.

    Raises:
        ValueError: no clip was scored.
    """
    clips = sum(part.clips for part in parts)
    if not clips:
        raise ValueError("no clip of the dev split can be used; run `signcl corpus check` on the corpus")
    names = next(part.sums for part in parts if part.clips)
    scores = {name: sum(part.sums.get(name, 0.0) for part in parts) / clips for name in names}
    rows = [row for part in parts for row in part.embeddings]
    if rows:
        video, text, ids = (torch.cat(column) for column in zip(*rows))
        similarity = nn.functional.normalize(video, dim=-1) @ nn.functional.normalize(text, dim=-1).T
        scores["retrieval"] = 100 * float((ids[similarity.argmax(dim=1)] == ids).double().mean())
    tokens = [row for part in parts for row in part.tokens]
    if tokens:
        steps, step_lengths, words, word_lengths, numbers = (joined(column) for column in zip(*tokens))
        by_steps, by_words = token_similarity(
            steps.float(), step_lengths, words.float(), word_lengths, temperature=parts[0].temperature
        )
        found = numbers[(by_steps + by_words).argmax(dim=1)]
        scores["token_retrieval"] = 100 * float((found == numbers).double().mean())
    tags = [tag for part in parts for tag in part.tags]
    if tags:
        found, true = (torch.cat(column) for column in zip(*tags))
        scores |= {"pseudo_gloss_map": mean_average_precision(found, true), "pseudo_gloss_f1": f1_score(found, true)}
    return scores


def search_width(beams: int | None, default: int) -> int:
    """Beams of a search: those asked for, or the recipe's where none are.

    Raises:
        ValueError: fewer than one.
    """
    if beams is not None and beams < 1:
        raise ValueError(f"beams: needs at least 1 (greedy), got {beams}; leave it out for the recipe's {default}")
    return default if beams is None else beams


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Batches one after the other; their second dimension is padded with 0 to the longest."""
    if parts[0].dim() == 1:
        return torch.cat(list(parts))
    longest = max(part.shape[1] for part in parts)
    return torch.cat([nn.functional.pad(part, (0, 0, 0, longest - part.shape[1])) for part in parts])


@torch.no_grad()
def decode(
    model: nn.Module, batch: Batch, tokenizer: Tokenizer, recipe: Recipe, *, beams: int | None = None
) -> dict[str, str]:
    """Sentences of a batch by beam search: name -> sentence."""
    ids = model.generate(  # type: ignore[operator]
        batch,
        num_beams=search_width(beams, recipe.decode.beams),
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


def rank_glosses(logits: Tensor, batch: Batch, glosses: GlossVocabulary, *, most: int = 5) -> dict[str, list[str]]:
    """The likeliest glosses of each clip, the best first: name -> glosses.

    Args:
        logits: of a classifier, without blank and unknown. [B, C - 2]
        most: how many, at most.
    """
    found = logits.float().topk(min(most, logits.shape[1]), dim=1).indices + 2
    return {name: glosses.decode(row) for name, row in zip(batch.names, found.tolist())}
