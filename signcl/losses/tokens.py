"""Token-level video-text contrast: compares every step of a clip with every token of a sentence.

`clip_loss` compares one vector per clip with one per sentence. Here the similarity of a clip and a sentence is computed
from how well each step matches its best words. Not in the paper; docs/systems/beyond.md lists published results.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from signcl.data.batch import frame_mask
from signcl.losses.lengths import clip_lengths
from signcl.losses.precision import full_precision
from signcl.losses.sentence import both_ways, capped_scale, unit_rows

__all__ = ["TOKEN_TEMPERATURE", "Selection", "selected_negatives", "token_clip_loss", "token_similarity"]

TOKEN_TEMPERATURE = 0.07  # of the softmax over words or steps, as in CiCo
ROUNDING = 1e-4  # makes 0.1 of 30 negatives 3, in float32 too
BLOCK = 1 << 24  # similarities in memory at a time: 64 MB of float32, plus a few tensors of that size


def token_similarity(
    video: Tensor,
    video_lengths: Tensor,
    text: Tensor,
    text_lengths: Tensor,
    *,
    temperature: float = TOKEN_TEMPERATURE,
    block: int = BLOCK,
) -> tuple[Tensor, Tensor]:
    """Similarity of each clip to each sentence, computed from steps and tokens; higher is more similar, -1..1.

    With s_ku = cos(step k of the clip, token u of the sentence):

        by steps: mean_k sum_u softmax_u(s_ku / temperature) s_ku    each step with its best words
        by words: mean_u sum_k softmax_k(s_ku / temperature) s_ku    each word with its best steps

    Only real steps and tokens count; values on padding, even NaN, have no effect. All similarities together are
    [B, S, B', U] numbers. If that is more than `block`, the clips are processed in chunks that are recomputed in the
    backward pass: only the inputs are stored, and memory stays at about 6 * `block` numbers.

    Args:
        video: [B, S, E]
        video_lengths: steps of each clip; 0 counts as 1. [B]
        text: [B', U, E]
        text_lengths: tokens of each sentence; 0 counts as 1. [B']
        temperature: near 0, each step uses only its nearest word; near infinity, all words equally.
        block: largest number of similarities in memory at a time.

    Returns:
        Similarities by steps and by words, each [B, B'].

    Raises:
        ValueError: shapes that do not match, a temperature that is not positive.

    Source: CiCo (sign language retrieval by cross-lingual contrast), with temperature 0.07.
    """
    fits = video.dim() == text.dim() == 3 and video.shape[2] == text.shape[2] and len(video) and len(text)
    if not fits:
        raise ValueError(
            f"token_similarity needs steps [B, S, E] and tokens [B', U, E], got {list(video.shape)} and "
            f"{list(text.shape)}."
        )
    video_lengths = clip_lengths(video_lengths, video, "token_similarity", name="video_lengths")
    text_lengths = clip_lengths(text_lengths, text, "token_similarity", name="text_lengths")
    if not temperature > 0:
        raise ValueError(f"token_similarity needs a temperature above 0, got {temperature}; CiCo uses 0.07.")
    with full_precision(video.device):
        dtype = torch.promote_types(torch.promote_types(video.dtype, text.dtype), torch.float32)
        steps = frame_mask(video_lengths.clamp(min=1), video.shape[1])
        words = frame_mask(text_lengths.clamp(min=1), text.shape[1])
        video = unit_rows(torch.where(steps[..., None], video.to(dtype), 0))
        text = unit_rows(torch.where(words[..., None], text.to(dtype), 0))
        clips = max(1, block // (video.shape[1] * text.shape[0] * text.shape[1]))
        if clips >= len(video):
            return _aggregated(video, steps, text, words, temperature)
        parts = [
            checkpoint(_aggregated, part, mask, text, words, temperature, use_reentrant=False, preserve_rng_state=False)
            for part, mask in zip(torch.split(video, clips), torch.split(steps, clips))
        ]
        by_steps, by_words = zip(*parts)
        return torch.cat(by_steps), torch.cat(by_words)


def _aggregated(video: Tensor, steps: Tensor, text: Tensor, words: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Both similarities of some clips with all sentences; expects unit rows, zero on padding. [b, B'] each"""
    table = (video.flatten(0, 1) @ text.flatten(0, 1).T).view(*video.shape[:2], *text.shape[:2])
    sharp = table / temperature  # [b, S, B', U]
    step_mask = steps[:, :, None, None]
    over_words = sharp.masked_fill(~words, -torch.inf).softmax(dim=3)
    of_step = (over_words * table).sum(dim=3) * steps[..., None]  # [b, S, B']
    over_steps = sharp.masked_fill(~step_mask, -torch.inf).softmax(dim=1)
    of_word = (over_steps * table).sum(dim=1) * words  # [b, B', U]
    return of_step.sum(dim=1) / steps.sum(dim=1)[:, None], of_word.sum(dim=2) / words.sum(dim=1)


@dataclass(frozen=True)
class Selection:
    """Which negatives of a batch a contrast uses, and how that changes during training; see `selected_negatives`."""

    progress: float
    """Fraction of training that is done, 0 to 1."""
    share: float = 0.5
    """Share of a clip's negatives that are used, above 0 to 1."""
    spread: float = 0.5
    """Share of the used negatives that come from the full range of similarity, above 0 to 1: never only hard ones."""
    skip: float = 0.1
    """Share of the most similar negatives that the moving window never reaches, 0 to below 1: they may mean the same as
    the clip's own sentence."""


def selected_negatives(similarity: Tensor, allowed: Tensor, selection: Selection) -> Tensor:
    """Selects the negatives of each row: a window that moves from easy to hard, plus some of every difficulty.

    The n allowed negatives of a row are sorted, the least similar first. k = ceil(share n) of them are used:

    - r = ceil(spread k) of every difficulty: evenly spaced over those outside the window;
    - h = k - r in the window of ranks s to s + h - 1, with s = round(progress (m - h)) and m = n - floor(skip n), at
      least h: at progress 0 the easiest, at progress 1 the hardest that are not skipped.

    The selection is not random: all ranks of a process group, and resumed runs, select the same negatives.

    Args:
        similarity: of each clip with each sentence, or of each sentence with each clip. [B, B']
        allowed: True for pairs that are negatives. [B, B'] bool
        selection: how many negatives, and how hard.

    Returns:
        True for selected negatives. [B, B'] bool

    Raises:
        ValueError: shapes that do not match, or a share out of bounds.

    Source: adapted from the pair selection of SCL-SLT (Lai et al. 2026). SCL-SLT scores pairs by their similarity at
    reference checkpoints and builds batches from them; here pairs are selected within the batch, by current similarity.
    """
    if similarity.dim() != 2 or similarity.shape != allowed.shape:
        raise ValueError(
            f"selected_negatives needs similarity and allowed of the same shape [B, B'], got {list(similarity.shape)} "
            f"and {list(allowed.shape)}."
        )
    s = selection
    if not (0 <= s.progress <= 1 and 0 < s.share <= 1 and 0 < s.spread <= 1 and 0 <= s.skip < 1):
        raise ValueError(
            f"selected_negatives needs progress in 0..1, share and spread above 0 to 1, skip in 0 to below 1, got {s}."
        )
    order = similarity.masked_fill(~allowed, torch.inf).argsort(dim=1, stable=True)
    rank = order.argsort(dim=1)  # of each negative: 0 is the least similar, pairs that are not allowed come last
    count = allowed.sum(dim=1, keepdim=True)  # n [B, 1]
    kept = (s.share * count - ROUNDING).ceil().long()
    spread = (s.spread * kept - ROUNDING).ceil().long()
    window = kept - spread
    reach = torch.maximum(count - (s.skip * count + ROUNDING).floor().long(), window)
    first = (s.progress * (reach - window)).round().long()
    hard = (rank >= first) & (rank < first + window)
    outside = torch.where(rank < first, rank, rank - window)  # rank among those outside the window
    others = (count - window).clamp(min=1)
    even = ((outside + 1) * spread // others) > (outside * spread // others)  # `spread` of `others`, evenly
    return allowed & (hard | even)


def token_clip_loss(
    video: Tensor,
    video_lengths: Tensor,
    text: Tensor,
    text_lengths: Tensor,
    logit_scale: Tensor,
    *,
    sentence_ids: Tensor | None = None,
    temperature: float = TOKEN_TEMPERATURE,
    target: Literal["one_hot", "released"] = "one_hot",
    max_scale: float = 100.0,
    block: int = BLOCK,
    selection: Selection | None = None,
) -> Tensor:
    """How badly clips and sentences find each other by steps and tokens, both ways; ln(B) is chance, 0 perfect.

    `clip_loss` with the similarities of `token_similarity`: by steps from clip to sentence, by words from sentence to
    clip.

    Args:
        video: steps of each clip, any length. [B, S, E]
        video_lengths: [B]
        text: tokens of each sentence, any length. [B, U, E]
        text_lengths: [B]
        logit_scale, sentence_ids, target, max_scale: as in `clip_loss`.
        temperature, block: as in `token_similarity`.
        selection: which negatives are used, chosen per direction by its similarities; None: all.

    Returns:
        Scalar.

    Raises:
        ValueError: shapes that do not match, unequal numbers of clips and sentences, an unknown target.
    """
    if len(video) != len(text):
        raise ValueError(f"token_clip_loss needs one sentence per clip, got {len(video)} clips and {len(text)}.")
    by_steps, by_words = token_similarity(
        video, video_lengths, text, text_lengths, temperature=temperature, block=block
    )
    with full_precision(video.device):
        scale = capped_scale(logit_scale, by_steps.dtype, max_scale)
        select = None if selection is None else lambda rows, allowed: selected_negatives(rows, allowed, selection)
        return both_ways(scale * by_steps, (scale * by_words).T, sentence_ids, target, select)
