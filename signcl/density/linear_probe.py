"""How much a linear classifier can tell about the gloss on held-out clips, in bits."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from signcl.density.retrieval import group_bootstrap
from signcl.density.rows import checked_rows, numbered

__all__ = ["LinearProbe", "linear_probe"]

FOLDS = 5
DIMS = 64  # principal directions kept, the same for wide and narrow features
MOST = 5000  # rows used, a random subset of more: a classifier of many glosses would take minutes


@dataclass(frozen=True)
class LinearProbe:
    """Result of a logistic regression on held-out clips."""

    bits: float
    """Entropy of the glosses minus the classifier's cross-entropy, bits per sign; 0 or below means it knows nothing."""
    entropy: float
    """Entropy of the glosses, in bits: the upper bound of `bits`."""
    accuracy: float
    """Share of held-out signs that are classified correctly, 0..1."""
    signs: int
    glosses: int
    bits_interval: tuple[float, float]
    """95 % bootstrap over clips, or over `groups`; the classifiers stay fixed."""
    accuracy_interval: tuple[float, float]


def linear_probe(
    features: np.ndarray | torch.Tensor,
    glosses: Sequence[str] | Sequence[int] | np.ndarray | torch.Tensor,
    clips: Sequence[object] | np.ndarray | torch.Tensor,
    *,
    groups: Sequence[object] | np.ndarray | torch.Tensor | None = None,
    samples: int = 1000,
    seed: int = 0,
) -> LinearProbe:
    """Measures what a linear classifier can tell about the gloss, on held-out clips.

    Multinomial logistic regression (scikit-learn, L2, C = 1) with five-fold cross-validation; a clip is never split
    between folds. Rows are standardized and projected on their 64 largest principal directions, fitted on the training
    folds only. Glosses in fewer than two clips are left out, because the training folds would never contain them.

    Args:
        features: one row per sign instance. [N, D]
        glosses: gloss of each row, as a number or as text. [N]
        clips: clip of each row. [N]
        groups: what the intervals draw, such as the signer of each row; default the clips. [N]
        samples: number of resamples.
        seed: seed of the folds, of the resamples, and of the subset if there are more than 5,000 rows.

    Raises:
        ValueError: shapes that do not match, rows that are all equal, fewer than two glosses in two clips.
    """
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows, labels = checked_rows(features, glosses)
    clip = numbered(clips, len(rows), "clip")
    group = clip if groups is None else numbered(groups, len(rows), "group")
    if not np.ptp(rows, axis=0).any():
        raise ValueError(f"a linear probe needs rows that differ, got {len(rows)} equal rows.")
    draw = np.random.default_rng(seed)
    if len(rows) > MOST:
        kept = np.sort(draw.permutation(len(rows))[:MOST])
        rows, labels, clip, group = rows[kept], labels[kept], clip[kept], group[kept]
    in_clips = {gloss: len(np.unique(clip[labels == gloss])) for gloss in np.unique(labels)}
    known = np.isin(labels, [gloss for gloss, count in in_clips.items() if count > 1])
    rows, labels, clip, group = rows[known], labels[known], clip[known], group[known]
    ids, numbers = np.unique(labels, return_inverse=True)
    if len(ids) < 2:
        raise ValueError(f"a linear probe needs 2 glosses in 2 clips each, got {len(ids)}.")
    folds = GroupKFold(min(FOLDS, len(np.unique(clip))), shuffle=True, random_state=seed)
    share = np.bincount(numbers) / len(numbers)
    found = np.zeros(len(rows))
    right = np.zeros(len(rows), dtype=bool)
    for train, held in folds.split(rows, numbers, clip):
        dims = min(DIMS, rows.shape[1], len(train) - 1)
        classifier = make_pipeline(StandardScaler(), PCA(dims, random_state=seed), LogisticRegression(max_iter=1000))
        if len(np.unique(numbers[train])) < 2:
            found[held] = -np.log2(share[numbers[held]])
            continue
        with warnings.catch_warnings():  # many glosses of few rows are usual here
            warnings.filterwarnings("ignore", message="The number of unique classes")
            classifier.fit(rows[train], numbers[train])
        told = np.zeros((len(held), len(ids)))
        told[:, classifier.classes_] = classifier.predict_proba(rows[held])
        right[held] = told.argmax(axis=1) == numbers[held]
        # A gloss that is not in the training folds has probability 0, so mix in 1 % of the gloss frequencies.
        told = 0.99 * told + 0.01 * share
        found[held] = -np.log2(told[np.arange(len(held)), numbers[held]])
    entropy = float(-(share * np.log2(share)).sum())
    drawn = group_bootstrap(np.stack([entropy - found, right], axis=1), group, samples, seed)
    ends = [(float(low), float(high)) for low, high in np.quantile(drawn, [0.025, 0.975], axis=0).T]
    return LinearProbe(
        bits=entropy - float(found.mean()),
        entropy=entropy,
        accuracy=float(right.mean()),
        signs=len(rows),
        glosses=len(ids),
        bits_interval=ends[0],
        accuracy_interval=ends[1],
    )
