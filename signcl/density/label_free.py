"""Density without glosses: segments replace signs, clusters replace glosses, and frames are compared within a clip.

These are diagnostics, not a replacement for the Sign Density Ratio. docs/density.md shows how well they follow it where
both can be measured. If clips or signers differ more than their signs do, the estimates look too good; the result then
has `trusted` = False.
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

UNTRUSTED = 0.3  # above this share of variance between clips, do not trust the estimates


@dataclass(frozen=True)
class LabelFree:
    """Estimates of density without glosses. All are ratios; higher is denser, as for the SDR."""

    segment_ratio: float
    """Mean distance of two frames of the same segment over that of two frames of different segments, within a clip."""
    neighbour_ratio: float
    """Distance of a segment to the nearest segment of another clip, over its mean distance to all of them."""
    cluster_ratio: float
    """SDR of the segments with clusters as glosses. It is always low, because clusters are made from the features;
    `cluster_null` shows how low."""
    cluster_null: float
    """`cluster_ratio` of Gaussian rows with the same covariance, which contain no signs."""
    cluster_excess: float
    """cluster_ratio / cluster_null."""
    step_ratio: float
    """Mean distance of neighbouring frames over that of any two frames of a clip: how smooth the features are."""
    clip_share: float
    """Share of the variance of segments that is between clips, corrected for chance, 0..1; if signers are known, after
    subtracting each signer's mean."""
    signer_share: float | None
    """Share of the variance between signers, before subtracting their means; None if signers are unknown."""
    trusted: bool
    """False if more than `UNTRUSTED` of the variance is between clips: the estimates then reflect cameras, light and
    people."""
    clips: int
    segments: int
    settings: dict[str, int | float | str]
    """frames_per_sign, clusters, frame, seed."""


def segment_clip(features: np.ndarray, segments: int) -> list[int]:
    """Cuts a clip into `segments` runs of similar frames and returns their edges, from 0 to T.

    Ward clustering in time: adjacent segments whose union adds the least squared deviation are merged until `segments`
    are left.

    Args:
        features: features of one clip. [T, D]
        segments: number of segments, 1..T.
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
    """Estimates how crowded features are, without glosses.

    Args:
        clips: features of each clip; clips shorter than two segments become one segment. [T, D] each
        frames_per_sign: rows per segment on average; 15 is PHOENIX at full rate (divide by the stride of the rows).
        clusters: number of clusters; default a fifth of the segments, so a "gloss" has five instances on average.
        frame: which vector of a segment to use.
        most: maximum number of segments to cluster and compare; more are subsampled.
        seed: seed of the subsample, the clusters and the Gaussian rows.
        signers: signer of each clip, if known. Each signer's mean is then subtracted first, because a constant offset
            per signer would make any features look clear.

    Raises:
        ValueError: fewer than two clips, clips of different sizes or with non-finite values, fewer than four segments,
            all rows equal, frames_per_sign below 1.
    """
    if not frames_per_sign >= 1 or len(clips) < 2:
        raise ValueError(
            f"label_free_density needs at least 2 clips and frames_per_sign of at least 1, got {len(clips)} clips and "
            f"{frames_per_sign}."
        )
    if signers is not None and len(signers) != len(clips):
        raise ValueError(f"label_free_density needs one signer per clip, got {len(signers)} for {len(clips)} clips.")
    size = clips[0].shape[-1]
    rows: list[np.ndarray] = []
    owner: list[int] = []
    within = step = 0.0
    parted = 0
    for number, given in enumerate(clips):
        clip = as_array(given, np.float32)
        if clip.ndim != 2 or clip.shape[1] != size or not len(clip) or not np.isfinite(clip).all():
            raise ValueError(
                f"label_free_density needs finite features [T, {size}] for every clip, but clip {number} (from 0) "
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
            f"label_free_density needs at least 4 segments and a clip with several segments, got {found} segments of "
            f"{len(clips)} clips; lower frames_per_sign (now {frames_per_sign:g})."
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
    """Share of the variance that is between groups, corrected for the share expected by chance (epsilon squared)."""
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
        raise ValueError(f"clusters must be 2 to the number of segments minus 1 ({len(points) - 1}), got {clusters}.")
    labels = KMeans(clusters, n_init=1, random_state=seed).fit_predict(points)
    return sign_density_ratio(torch.from_numpy(points), torch.from_numpy(labels).long()).mean


def _gaussian(points: np.ndarray, seed: int) -> np.ndarray:
    """Gaussian rows with mean 0 and the covariance of the points."""
    centred = points - points.mean(axis=0)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    drawn = np.random.default_rng(seed).normal(size=(len(points), len(sizes)))
    return (drawn * (sizes / len(points) ** 0.5) @ axes).astype(points.dtype)


def _nearest(points: np.ndarray, clip_of: np.ndarray) -> float:
    """Mean over rows of (distance to the nearest row of another clip) / (mean distance to the rows of other clips)."""
    wide, total = torch.from_numpy(points).double(), 0.0
    for start in range(0, len(points), 1024):
        apart = torch.cdist(wide[start : start + 1024], wide).numpy()
        other = clip_of[start : start + 1024, None] != clip_of
        nearest = np.where(other, apart, np.inf).min(axis=1)
        mean = (apart * other).sum(axis=1) / other.sum(axis=1)
        total += float((nearest / np.maximum(mean, 1e-300)).sum())
    return total / len(points)
