"""Multi-label scores (a clip can have several tags), used to evaluate pseudo-gloss pretraining."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["f1_score", "mean_average_precision"]


def mean_average_precision(probabilities: Tensor, truth: Tensor) -> float:
    """Mean over tags of the average precision with which clips are ranked. 0-100, higher is better.

    AP of a tag is the mean, over the clips that have it, of the precision among all clips ranked no lower; equal
    probabilities share a rank. Tags that no clip has are left out; NaN if no tag is left.

    Args:
        probabilities: probability of each tag. [N, P]
        truth: 1 if the clip has the tag. [N, P]
    """
    kept = truth.sum(dim=0) > 0
    if not kept.any():
        return float("nan")
    scores, true = probabilities[:, kept].double(), truth[:, kept].double()
    order = scores.argsort(dim=0, descending=True, stable=True)
    scores, true = scores.gather(0, order), true.gather(0, order)
    rank = torch.arange(1, len(scores) + 1, dtype=torch.float64)[:, None]
    precision = true.cumsum(dim=0) / rank
    # Within a run of equal scores, the precision is that at the end of the run.
    last = torch.ones_like(true, dtype=torch.bool)
    last[:-1] = scores[1:] != scores[:-1]
    place = torch.where(last, torch.arange(len(scores))[:, None], len(scores)).flip(0).cummin(dim=0).values.flip(0)
    average = (precision.gather(0, place) * true).sum(dim=0) / true.sum(dim=0)
    return 100 * float(average.mean())


def f1_score(probabilities: Tensor, truth: Tensor, threshold: float = 0.5) -> float:
    """Micro F1 over all clips and tags. 0-100, higher is better.

    2 TP / (2 TP + FP + FN); 0 if no tag is true and none is predicted.

    Args:
        probabilities: probability of each tag. [N, P]
        truth: 1 if the clip has the tag. [N, P]
        threshold: tags with at least this probability are predicted.
    """
    given, true = probabilities >= threshold, truth > 0.5
    both = int((given & true).sum())
    total = int(given.sum()) + int(true.sum())
    return 200 * both / total if total else 0.0
