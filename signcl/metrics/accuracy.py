"""Accuracy of an isolated-sign classifier: how often the true gloss is ranked first, or among the first five."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["score_classes", "top_k"]


def top_k(ranked: Sequence[Sequence[str]], references: Sequence[str], k: int) -> np.ndarray:
    """Whether the true gloss of each clip is among the k most probable ones. [N] bool

    Args:
        ranked: glosses of each clip, most probable first.
        references: the true gloss of each clip.

    Raises:
        ValueError: no clips, or lists of different lengths.
    """
    if not references or len(ranked) != len(references):
        raise ValueError(
            f"accuracy needs one answer per reference, at least one, got {len(ranked)} and {len(references)}"
        )
    return np.array([true in found[:k] for found, true in zip(ranked, references)])


def score_classes(
    ranked: Sequence[Sequence[str]], references: Sequence[str], *, samples: int = 0, seed: int = 0
) -> dict[str, Any]:
    """Accuracies in percent, for scores.json. Higher is better.

    Args:
        ranked: at least five glosses of each clip (or all, if there are fewer), most probable first.
        references: the true gloss of each clip.
        samples: resamples for the 95 % intervals over clips; 0 leaves the intervals out.
        seed: seed of the resampling.

    Returns:
        top1, top5; top1_per_gloss, the mean over glosses with equal weights ("average per class" of WLASL); `counts`;
        and `intervals` if requested.
    """
    hits = {f"top{k}": top_k(ranked, references, k) for k in (1, 5)}
    of_gloss: dict[str, list[bool]] = defaultdict(list)
    for hit, true in zip(hits["top1"].tolist(), references):
        of_gloss[true].append(hit)
    scores: dict[str, Any] = {name: 100 * float(found.mean()) for name, found in hits.items()}
    scores["top1_per_gloss"] = 100 * float(np.mean([np.mean(found) for found in of_gloss.values()]))
    scores["counts"] = {"clips": len(references), "glosses": len(of_gloss)}
    if samples:
        random = np.random.default_rng(seed)
        drawn = random.integers(len(references), size=(samples, len(references)))
        scores["intervals"] = {"level": 0.95, "samples": samples, "seed": seed}
        for name, found in hits.items():
            low, high = np.percentile(100 * found[drawn].mean(axis=1), [2.5, 97.5])
            scores["intervals"][name] = [float(low), float(high)]
    return scores
