"""Search algorithms: glosses from CTC log-probabilities (best path, prefix beam), sentences from a step function
(beam).

They are independent of models. GFSLT translates with transformers' `generate`; the beam search here has the length
penalty of the Sign Language Transformers, ((5 + length) / 6) ** alpha, which transformers does not offer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "Found",
    "GlossPath",
    "beam_search",
    "beam_search_alphas",
    "beam_search_released",
    "ctc_greedy",
    "ctc_prefix_beam",
    "length_divisor",
]

Step = Callable[[Tensor, Tensor | None], Tensor]
"""(last token of each row [R], index of the row it continues [R], or None at the start) -> log-probabilities [R, V]."""


@dataclass(frozen=True)
class GlossPath:
    """A recognised gloss sequence."""

    classes: tuple[int, ...]
    """Gloss classes without blanks; two equal adjacent classes are two signs."""
    score: float
    """Log-probability of the sequence (prefix search) or of the best alignment (best path)."""


@dataclass(frozen=True)
class Found:
    """The sentences found by a search."""

    ids: Tensor
    """Token ids without the start token, up to the end token if the sentence ended, then padding. [B, U]"""
    log_probs: Tensor
    """log p of each sentence: the sum over its tokens including the end token, not divided by its length. [B]"""

    # With `most` above 1 there are `most` rows for each clip, best first; a row without a sentence has log p -inf.


def ctc_greedy(log_probs: Tensor, step_lengths: Tensor, *, blank: int = 0) -> list[GlossPath]:
    """The best class of each step, with repetitions merged and blanks removed: fast, but not always the best sequence.

    A gloss signed twice is kept twice if there is a blank in between: a _ a gives a a, a a gives a.

    Args:
        log_probs: log-softmax over classes; padding is never read. [B, S, C]
        step_lengths: steps of each clip without padding. [B]

    Returns:
        One path per clip.
    """
    check_ctc(log_probs, step_lengths)
    best, classes = (part.cpu() for part in log_probs.max(dim=2))
    paths = []
    for scores, row, length in zip(best, classes, step_lengths.tolist()):
        merged = torch.unique_consecutive(row[:length]).tolist()
        paths.append(GlossPath(tuple(c for c in merged if c != blank), float(scores[:length].sum())))
    return paths


def ctc_prefix_beam(
    log_probs: Tensor, step_lengths: Tensor, *, beams: int = 10, blank: int = 0
) -> list[list[GlossPath]]:
    """The most probable gloss sequences, summed over alignments; exact if no prefix is pruned.

    p(sequence) = sum over alignments of prod_t p(class of step t). Each step keeps the `beams` best prefixes. The
    probabilities that a prefix ends in a blank and in its last gloss are kept separately, since the same gloss can only
    follow a blank. This preserves real repetitions.

    Args:
        log_probs: log-softmax over classes. [B, S, C]
        step_lengths: steps of each clip without padding. [B]
        beams: number of prefixes to keep.

    Returns:
        For each clip at most `beams` paths, best first.

    Raises:
        ValueError: fewer than one beam, or shapes or lengths that do not fit.

    Source: Graves 2006 (sequence), Hannun 2014 (search). neccam/slt searches with TensorFlow and then merges equal
    adjacent glosses, so it can never recognise a gloss signed twice.
    """
    check_ctc(log_probs, step_lengths)
    if beams < 1:
        raise ValueError(f"ctc_prefix_beam needs at least 1 beam, got {beams}.")
    rows = log_probs.detach().double().cpu().numpy()
    return [_prefix_beam(row[:length], beams, blank) for row, length in zip(rows, step_lengths.tolist())]


def _prefix_beam(log_probs: np.ndarray, beams: int, blank: int) -> list[GlossPath]:
    """One clip. [S, C]"""
    prefixes: list[tuple[int, ...]] = [()]
    in_blank, in_gloss = np.zeros(1), np.full(1, -np.inf)  # log p(prefix, last step blank / its last gloss)
    classes = log_probs.shape[1]
    for step in log_probs:
        last = np.array([prefix[-1] if prefix else -1 for prefix in prefixes])
        some = last >= 0
        total = np.logaddexp(in_blank, in_gloss)
        stay_blank = total + step[blank]
        stay_gloss = np.where(some, in_gloss + step[last], -np.inf)
        longer = total[:, None] + step[None, :]  # [K, C]
        longer[some, last[some]] = (in_blank + step[last])[some]  # a repeated gloss needs a blank in between
        longer[:, blank] = -np.inf
        place = {prefix: k for k, prefix in enumerate(prefixes)}
        for k, prefix in enumerate(prefixes):  # a prefix can also be an extension of another prefix in the beam
            parent = place.get(prefix[:-1]) if prefix else None
            if parent is not None:
                stay_gloss[k] = np.logaddexp(stay_gloss[k], longer[parent, prefix[-1]])
                longer[parent, prefix[-1]] = -np.inf
        scores = np.concatenate([np.logaddexp(stay_blank, stay_gloss), longer.ravel()])
        keep = min(beams, len(scores))
        best = np.argpartition(-scores, keep - 1)[:keep]
        best = best[scores[best] > -np.inf]
        best = best[np.argsort(-scores[best], kind="stable")]
        old = len(prefixes)
        following = [
            prefixes[i] if i < old else (*prefixes[(i - old) // classes], int((i - old) % classes)) for i in best
        ]
        stays = best < old
        index = np.minimum(best, old - 1)
        in_blank = np.where(stays, stay_blank[index], -np.inf)
        in_gloss = np.where(stays, stay_gloss[index], scores[best])
        prefixes = following
    totals = np.logaddexp(in_blank, in_gloss)
    return [GlossPath(prefixes[k], float(totals[k])) for k in np.argsort(-totals, kind="stable")]


def check_ctc(log_probs: Tensor, step_lengths: Tensor) -> None:
    """Raise ValueError for inputs that a CTC search cannot read."""
    if log_probs.dim() != 3 or step_lengths.shape != log_probs.shape[:1]:
        raise ValueError(
            f"CTC search needs log_probs [B, S, C] and step_lengths [B], got {list(log_probs.shape)} and "
            f"{list(step_lengths.shape)}."
        )
    if len(step_lengths) and not 0 <= int(step_lengths.min()) <= int(step_lengths.max()) <= log_probs.shape[1]:
        raise ValueError(f"CTC search needs step_lengths in 0..{log_probs.shape[1]}, got {step_lengths.tolist()}.")


def length_divisor(length: int, alpha: float) -> float:
    """Divisor of a hypothesis's log-probability: ((5 + length) / 6) ** alpha; 1 if alpha is negative."""
    return 1.0 if alpha < 0 else ((5 + length) / 6) ** alpha


@torch.no_grad()
def beam_search(
    step: Step,
    *,
    batch_size: int,
    start_id: int,
    end_id: int,
    pad_id: int,
    beams: int = 4,
    alpha: float = 1.0,
    max_new_tokens: int = 60,
    most: int = 1,
    device: torch.device | str = "cpu",
) -> Found:
    """The best sentence of each clip: log p(sentence) / ((5 + length) / 6) ** alpha; one beam is greedy.

    Each step keeps the `beams` best continuations of a clip; a hypothesis that ends leaves the beam and is stored. A
    clip is done when no active hypothesis is left or can beat its best finished one. At `max_new_tokens` active
    hypotheses count as finished. `length` counts tokens including the end token. Exact if no continuation is pruned.

    Args:
        step: the decoder. Gets the last token of every row and, from the second call on, the index of the earlier row
            that each row continues, so that it can reorder its state. Rows are clips x beams.
        batch_size: clips B.
        start_id: first input token of the decoder.
        end_id: end token.
        pad_id: padding after the end; never generated.
        beams: hypotheses to keep per clip.
        alpha: above 0 favours longer sentences, 0 compares sums, negative disables the penalty, as published.
        max_new_tokens: maximum length of a sentence in tokens.
        most: sentences per clip. The first is the same for every number; the others are the best of those that ended
            until the first was certain and there were enough of them.

    Returns:
        The sentences and their log-probabilities, without the length penalty.

    Raises:
        ValueError: `beams` or `max_new_tokens` is below 1.

    Source: neccam/slt, search.py. Released code: uses `.div` on token indices, which breaks the beams from torch 1.5
    on.
    """
    (found,) = beam_search_alphas(
        step,
        batch_size=batch_size,
        start_id=start_id,
        end_id=end_id,
        pad_id=pad_id,
        beams=beams,
        alphas=[alpha],
        max_new_tokens=max_new_tokens,
        most=most,
        device=device,
    )
    return found


class _Best:
    """The best finished sentences of each clip, one list for each length penalty."""

    def __init__(self, penalties: int, clips: int, most: int, longest: int, pad_id: int, device: Any) -> None:
        self.most = most
        self.scores = torch.full((penalties, clips, most), -torch.inf, device=device)  # divided by the penalty
        self.sums = torch.full((penalties, clips, most), -torch.inf, device=device)  # log p, undivided
        self.ids = torch.full((penalties, clips, most, longest), pad_id, dtype=torch.long, device=device)

    def add(self, scores: Tensor, sums: Tensor, words: Tensor) -> None:
        """Take in sentences that have just ended; those found earlier stay in front of equal ones.

        Args:
            scores: -inf where a beam has not ended. [A, B, K]
            sums: [B, K]
            words: longer than all sentences taken in before. [B, K, length]
        """
        if self.most == 1:  # the usual case, without sorting
            scores, which = scores.max(dim=2, keepdim=True)  # [A, B, 1]
        else:
            which = torch.arange(scores.shape[2], device=scores.device).expand_as(scores)
        every = torch.cat([self.scores, scores], dim=2)
        order = every.sort(dim=2, descending=True, stable=True).indices[:, :, : self.most]
        count, length = len(scores), words.shape[2]
        sums = sums.expand(count, -1, -1).gather(2, which)
        fresh = words.expand(count, -1, -1, -1).gather(2, which[..., None].expand(-1, -1, -1, length))
        new = order >= self.most
        old_row, new_row = order.clamp(max=self.most - 1), (order - self.most).clamp(min=0)
        ids = self.ids.gather(2, old_row[..., None].expand(-1, -1, -1, self.ids.shape[3]))
        taken = fresh.gather(2, new_row[..., None].expand(-1, -1, -1, length))
        ids[..., :length] = torch.where(new[..., None], taken, ids[..., :length])
        self.scores, self.ids = every.gather(2, order), ids
        self.sums = torch.cat([self.sums, sums], dim=2).gather(2, order)

    def found(self, pad_id: int) -> list[Found]:
        """The sentences of each penalty, clip by clip, cut to the longest. [B * most, U]"""
        rows = [ids.flatten(0, 1) for ids in self.ids]
        return [Found(ids[:, : _last_column(ids != pad_id)], sums.flatten()) for ids, sums in zip(rows, self.sums)]


@torch.no_grad()
def beam_search_alphas(
    step: Step,
    *,
    batch_size: int,
    start_id: int,
    end_id: int,
    pad_id: int,
    beams: int,
    alphas: Sequence[float],
    max_new_tokens: int,
    most: int = 1,
    device: torch.device | str = "cpu",
) -> list[Found]:
    """`beam_search` for several values of alpha at the cost of one.

    Alpha affects only the choice between finished hypotheses, not which ones stay active. So each alpha keeps its own
    best, and the search continues until none can improve.

    Returns:
        The result of `beam_search` for each alpha.
    """
    if beams < 1 or max_new_tokens < 1:
        raise ValueError(f"beam_search needs beams >= 1 and max_new_tokens >= 1, got {beams} and {max_new_tokens}.")
    if not 1 <= most <= beams:
        raise ValueError(f"beam_search finds 1 to {beams} sentences per clip with {beams} beams, got most={most}.")
    words = torch.full((batch_size, beams, 0), pad_id, dtype=torch.long, device=device)
    alive = torch.full((batch_size, beams), -torch.inf, device=device)
    alive[:, 0] = 0.0  # the rows of a clip start identical: continue only one of them
    best = _Best(len(alphas), batch_size, most, max_new_tokens, pad_id, device)
    divisors = [[length_divisor(length, alpha) for alpha in alphas] for length in range(1, max_new_tokens + 1)]
    divisor = torch.tensor(divisors, device=device)[:, :, None]  # [max_new_tokens, A, 1]
    last = torch.full((batch_size * beams,), start_id, dtype=torch.long, device=device)
    first_row = torch.arange(batch_size, device=device)[:, None] * beams  # [B, 1]
    rows = None
    for length in range(1, max_new_tokens + 1):
        log_probs = step(last, rows).float().view(batch_size, beams, -1)
        log_probs[:, :, pad_id] = -torch.inf
        scores = (alive[:, :, None] + log_probs).flatten(1)  # [B, K * V]
        size = log_probs.shape[2]
        kept = min(beams, scores.shape[1])
        alive, chosen = scores.topk(kept, dim=1)
        if kept < beams:  # vocabulary smaller than the beam
            alive = torch.nn.functional.pad(alive, (0, beams - kept), value=-torch.inf)
            chosen = torch.nn.functional.pad(chosen, (0, beams - kept))
        origin = torch.div(chosen, size, rounding_mode="floor")  # [B, K]
        tokens = chosen % size
        words = torch.cat([words.gather(1, origin[:, :, None].expand(-1, -1, words.shape[2])), tokens[:, :, None]], 2)
        ended = (tokens == end_id) | (length == max_new_tokens)
        done = alive.masked_fill(~ended, -torch.inf)
        best.add(done / divisor[length - 1][:, :, None], done, words)  # [A, B, K]
        alive = alive.masked_fill(ended, -torch.inf)
        # upper bound: log-probabilities only decrease, and the longest sentence has the largest divisor
        hope = alive.max(dim=1).values  # [B]
        enough = torch.isfinite(best.scores[:, :, -1]) | torch.isinf(hope)
        if bool(((hope / divisor[-1] <= best.scores[:, :, 0]) & enough).all()):
            break
        last, rows = tokens.flatten(), (first_row + origin).flatten()
    return best.found(pad_id)


@torch.no_grad()
def beam_search_released(
    step: Step,
    *,
    batch_size: int,
    start_id: int,
    end_id: int,
    pad_id: int,
    beams: int,
    alphas: Sequence[float],
    max_new_tokens: int,
    most: int = 1,
    device: torch.device | str = "cpu",
) -> list[Found]:
    """The search of neccam/slt, for comparison with its numbers; arguments and result as in `beam_search_alphas`.

    It differs from ours in three ways. A hypothesis that ends stays in the beam and is continued. A clip is done as
    soon as its most likely hypothesis ends; all others then count, finished or not. Padding can be generated.
    """
    words = torch.full((batch_size, beams, 0), pad_id, dtype=torch.long, device=device)
    alive = torch.full((batch_size, beams), -torch.inf, device=device)
    alive[:, 0] = 0.0
    ends = torch.zeros((batch_size, beams), dtype=torch.long, device=device)
    at_end = torch.zeros((batch_size, beams), device=device)  # log p up to the first end token
    done = torch.zeros(batch_size, dtype=torch.bool, device=device)
    best = _Best(len(alphas), batch_size, most, max_new_tokens, pad_id, device)
    last = torch.full((batch_size * beams,), start_id, dtype=torch.long, device=device)
    first_row = torch.arange(batch_size, device=device)[:, None] * beams  # [B, 1]
    rows = None
    for length in range(1, max_new_tokens + 1):
        log_probs = step(last, rows).float().view(batch_size, beams, -1)
        alive, chosen = (alive[:, :, None] + log_probs).flatten(1).topk(beams, dim=1)  # [B, K]
        origin, tokens = chosen // log_probs.shape[2], chosen % log_probs.shape[2]
        words = torch.cat([words.gather(1, origin[:, :, None].expand(-1, -1, words.shape[2])), tokens[:, :, None]], 2)
        first = (tokens == end_id) & (ends.gather(1, origin) == 0)
        ends = ends.gather(1, origin) + (tokens == end_id)
        at_end = torch.where(first, alive, at_end.gather(1, origin))
        complete = (tokens[:, 0] == end_id) | (length == max_new_tokens)  # [B]
        counts = ((tokens == end_id) | complete[:, None]) & (ends < 2) & ~done[:, None]
        divisor = torch.tensor([length_divisor(length, alpha) for alpha in alphas], device=device)[:, None, None]
        whole = torch.where(ends > 0, at_end, alive)  # cut after the end
        after = (words == end_id).cumsum(dim=2) - (words == end_id).long() > 0
        best.add(alive.masked_fill(~counts, -torch.inf) / divisor, whole, words.masked_fill(after, pad_id))
        done |= complete
        if bool(done.all()):
            break
        last, rows = tokens.flatten(), (first_row + origin).flatten()
    return best.found(pad_id)


def _last_column(kept: Tensor) -> int:
    """Number of columns up to the last non-empty one."""
    columns = kept.any(dim=0).nonzero()
    return int(columns[-1]) + 1 if len(columns) else 0
