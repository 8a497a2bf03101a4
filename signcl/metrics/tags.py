"""Scores of tags, several of which are true of one clip: how pseudo-gloss pretraining is judged."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["f1_score", "mean_average_precision"]


def mean_average_precision(probabilities: Tensor, truth: Tensor) -> float:
    """How well clips are ranked by each tag: the mean over tags of average precision. 0-100, higher is better.

    AP of a tag is the mean, over the clips that have it, of the precision among all clips ranked no lower; equal
    probabilities are ranked together. Tags that no clip has are left out; NaN where no tag is left.

    Args:
        probabilities: [N, P].
        truth: 1 where the clip has the tag. [N, P]
    """
    kept = truth.sum(dim=0) > 0
    if not kept.any():
        return float("nan")
    scores, true = probabilities[:, kept].double(), truth[:, kept].double()
    order = scores.argsort(dim=0, descending=True, stable=True)
    scores, true = scores.gather(0, order), true.gather(0, order)
    rank = torch.arange(1, len(scores) + 1, dtype=torch.float64)[:, None]
    precision = true.cumsum(dim=0) / rank
    # within a run of equal scores the precision is that at the run's end
    last = torch.ones_like(true, dtype=torch.bool)
    last[:-1] = scores[1:] != scores[:-1]
    place = torch.where(last, torch.arange(len(scores))[:, None], len(scores)).flip(0).cummin(dim=0).values.flip(0)
    average = (precision.gather(0, place) * true).sum(dim=0) / true.sum(dim=0)
    return 100 * float(average.mean())


def f1_score(probabilities: Tensor, truth: Tensor, threshold: float = 0.5) -> float:
    """Right tags among those given and those true, over all clips and tags together. 0-100, higher is better.

    2 TP / (2 TP + FP + FN); 0 where nothing is true and nothing given.

    Args:
        probabilities: [N, P].
        truth: [N, P].
        threshold: a tag of at least this probability is given.
    """
    given, true = probabilities >= threshold, truth > 0.5
    both = int((given & true).sum())
    total = int(given.sum()) + int(true.sum())
    return 200 * both / total if total else 0.0
