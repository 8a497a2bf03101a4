"""Density without glosses: segments instead of signs, clusters instead of glosses, and how a clip resembles itself.

None of these is the Sign Density Ratio, and none can replace it: a diagnostic. How well they follow it, where both can
be measured, stands in docs/density.md. Where clips or signers differ by more than their signs do, the estimates take
that for clearness; the result then says that they cannot be trusted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from signcl.data.batch import Span
from signcl.density.ratio import sign_density_ratio
from signcl.density.rows import as_array, group_means, numbered
from signcl.density.spans import Choice, pool_spans

__all__ = ["LabelFree", "label_free_density", "segment_clip"]

UNTRUSTED = 0.3  # share of the variance between clips above which the estimates are not to be trusted


@dataclass(frozen=True)
class LabelFree:
    """What can be said about crowding without glosses; as ratios, higher is denser, like the SDR."""

    segment_ratio: float
    """Mean distance of two frames of one segment over that of two frames of different segments, within a clip."""
    neighbour_ratio: float
    """Distance of a segment to the nearest segment of another clip, over its mean distance to all of them."""
    cluster_ratio: float
    """SDR of the segments with their clusters as glosses. Clusters are made from the features, so it is low by itself;
    `cluster_null` says how low."""
    cluster_null: float
    """The same on Gaussian rows of the same covariance, which hold no signs."""
    cluster_excess: float
    """cluster_ratio / cluster_null."""
    step_ratio: float
    """Mean distance of neighbouring frames over that of any two frames of a clip: how smooth the features are."""
    clip_share: float
    """Share of the variance of segments that is between clips, less what chance would give, 0..1; where signers are
    known, after each signer's mean was taken out."""
    signer_share: float | None
    """The share between signers, before it was taken out; None where signers are not known."""
    trusted: bool
    """False where more than `UNTRUSTED` of the variance is between clips: the estimates then speak of cameras, light
    and people."""
    clips: int
    segments: int
    settings: dict[str, int | float | str]
    """frames_per_sign, clusters, frame, seed."""


def segment_clip(features: np.ndarray, segments: int) -> list[int]:
    """Cut a clip at its change points: the edges of `segments` runs of alike frames, first 0 and last T.

    Ward's clustering of neighbours in time: the two adjoining segments whose union adds the least squared deviation are
    joined until so many are left.

    Args:
        features: of one clip. [T, D]
        segments: how many, 1..T.
    """
    frames = len(features)
    if features.ndim != 2 or not 1 <= segments <= frames:
        raise ValueError(f"segment_clip needs features [T, D] and 1 to T segments, got {features.shape}, {segments}.")
    if segments == 1:
        return [0, frames]
    from scipy.sparse import diags
    from sklearn.cluster import AgglomerativeClustering

    chain = diags([np.ones(frames - 1), np.ones(frames - 1)], [-1, 1], format="csr")
    found = AgglomerativeClustering(segments, connectivity=chain, linkage="ward").fit_predict(features)
    return [0, *(np.flatnonzero(np.diff(found)) + 1).tolist(), frames]


def label_free_density(
    clips: Sequence[np.ndarray],
    *,
    frames_per_sign: float = 15.0,
    clusters: int | None = None,
    frame: Choice = "centre",
    most: int = 5000,
    seed: int = 0,
    signers: Sequence[str] | None = None,
) -> LabelFree:
    """How crowded features seem to be, without knowing a gloss.

    Args:
        clips: features of each clip; those shorter than two segments have one. [T, D] each
        frames_per_sign: rows per segment on average; 15 is PHOENIX at full rate (divide by the stride of the rows).
        clusters: of the segments; default a fifth of them, so that a "gloss" has five instances on average.
        frame: which vector of a segment stands for it.
        most: segments that are clustered and compared; more are drawn down to so many.
        seed: of the draw, the clusters and the Gaussian rows.
        signers: of each clip, where known: each signer's mean is then taken out first, since a constant offset per
            signer would make any features look clear.

    Raises:
        ValueError: no two clips, clips that do not fit together or are not finite, fewer than four segments, rows that
            are all equal, frames_per_sign below 1.
    """
    if not frames_per_sign >= 1 or len(clips) < 2:
        raise ValueError(
            f"label_free_density needs at least 2 clips and frames_per_sign of at least 1, got {len(clips)} clips and "
            f"{frames_per_sign}."
        )
    if signers is not None and len(signers) != len(clips):
        raise ValueError(f"label_free_density needs a signer per clip, got {len(signers)} for {len(clips)} clips.")
    size = clips[0].shape[-1]
    rows: list[np.ndarray] = []
    owner: list[int] = []
    within = step = 0.0
    parted = 0
    for number, given in enumerate(clips):
        clip = as_array(given, np.float32)
        if clip.ndim != 2 or clip.shape[1] != size or not len(clip) or not np.isfinite(clip).all():
            raise ValueError(
                f"label_free_density needs finite features [T, {size}] of every clip, clip {number} (counted from 0) "
                f"has {list(clip.shape)}" + ("" if np.isfinite(clip).all() else " with NaN or infinity") + "."
            )
        edges = segment_clip(clip, max(1, round(len(clip) / frames_per_sign)))
        spans = [Span("", start, stop) for start, stop in pairwise(edges)]
        rows.append(pool_spans(torch.from_numpy(clip), spans, frame).numpy())
        owner += [number] * len(spans)
        if len(spans) > 1:
            wide = torch.from_numpy(clip).double()
            apart = torch.cdist(wide, wide).numpy()
            segment = np.repeat(np.arange(len(spans)), np.diff(edges))
            same = segment[:, None] == segment
            mean = float(apart[~same].mean())
            if mean > 0 and (same.sum() > len(clip)):
                within += float(apart[same].sum() / (same.sum() - len(clip))) / mean
                step += float(apart.diagonal(1).mean()) / float(apart.sum() / (len(clip) * (len(clip) - 1)))
                parted += 1
    points, clip_of = np.concatenate(rows), np.array(owner)
    found = len(points)
    if found < 4 or not parted:
        raise ValueError(
            f"label_free_density needs at least 4 segments and a clip of several, got {found} segments of {len(clips)} "
            f"clips; lower frames_per_sign (now {frames_per_sign:g})."
        )
    signer_share = None
    if signers is not None and len(set(signers)) > 1:
        people = numbered(signers)[clip_of]
        signer_share = _between(points, people)
        points = points - group_means(points, people)[people].astype(points.dtype)
    clip_share = _between(points, clip_of)
    if found > most:
        kept = np.sort(np.random.default_rng(seed).permutation(found)[:most])
        points, clip_of = points[kept], clip_of[kept]
    number = max(2, len(points) // 5) if clusters is None else clusters
    ratio, null = _clustered(points, number, seed), _clustered(_gaussian(points, seed), number, seed)
    return LabelFree(
        segment_ratio=within / parted,
        neighbour_ratio=_nearest(points, clip_of),
        cluster_ratio=ratio,
        cluster_null=null,
        cluster_excess=ratio / null,
        step_ratio=step / parted,
        clip_share=clip_share,
        signer_share=signer_share,
        trusted=clip_share <= UNTRUSTED,
        clips=len(clips),
        segments=found,
        settings={"frames_per_sign": frames_per_sign, "clusters": number, "frame": frame, "seed": seed, "most": most},
    )


def _between(rows: np.ndarray, group: np.ndarray) -> float:
    """Share of the variance between groups, less what groups of rows without structure would have (epsilon squared)."""
    centred = rows - rows.mean(axis=0)
    total = float((centred**2).sum())
    count, groups = len(rows), len(np.unique(group))
    if total == 0 or count <= groups:
        return 0.0
    rest = float(((centred - group_means(centred, group)[group]) ** 2).sum())
    return max(0.0, 1 - rest / total * (count - 1) / (count - groups))


def _clustered(points: np.ndarray, clusters: int, seed: int) -> float:
    """SDR with k-means clusters as glosses."""
    from sklearn.cluster import KMeans

    if not 2 <= clusters < len(points):
        raise ValueError(f"clusters must be 2 to the number of segments less 1 ({len(points) - 1}), got {clusters}.")
    labels = KMeans(clusters, n_init=1, random_state=seed).fit_predict(points)
    return sign_density_ratio(torch.from_numpy(points), torch.from_numpy(labels).long()).mean


def _gaussian(points: np.ndarray, seed: int) -> np.ndarray:
    """Rows without structure of the same mean and covariance."""
    centred = points - points.mean(axis=0)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    drawn = np.random.default_rng(seed).normal(size=(len(points), len(sizes)))
    return (drawn * (sizes / len(points) ** 0.5) @ axes).astype(points.dtype)


def _nearest(points: np.ndarray, clip_of: np.ndarray) -> float:
    """Mean over the rows of (nearest row of another clip) / (mean distance to the rows of other clips)."""
    wide, total = torch.from_numpy(points).double(), 0.0
    for start in range(0, len(points), 1024):
        apart = torch.cdist(wide[start : start + 1024], wide).numpy()
        other = clip_of[start : start + 1024, None] != clip_of
        nearest = np.where(other, apart, np.inf).min(axis=1)
        mean = (apart * other).sum(axis=1) / other.sum(axis=1)
        total += float((nearest / np.maximum(mean, 1e-300)).sum())
    return total / len(points)
