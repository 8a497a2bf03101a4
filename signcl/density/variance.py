"""What the features spend their variance on: signer, clip or gloss; and how many directions they use.

A feature space can know the glosses and still have a high Sign Density Ratio, where most of its variance says who signs
or is noise. These shares say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from signcl.density.rows import checked_rows, group_means, numbered

__all__ = ["VarianceShares", "rank_me", "variance_shares"]


@dataclass(frozen=True)
class VarianceShares:
    """Shares of the summed variance, 0..1; they add up to 1 with `rest`."""

    signer: float | None
    """Between the signers' means; None where signers are not known."""
    clip: float
    """Between the means of clips of one signer (or of all clips, where signers are not known)."""
    gloss: float
    """Of what is left within clips, what the gloss says."""
    rest: float
    """Within clips and glosses."""
    by_chance: dict[str, float]
    """The shares that rows without any structure would give: degrees of freedom over all."""


def variance_shares(
    features: np.ndarray | torch.Tensor,
    glosses: Sequence[int] | np.ndarray | torch.Tensor,
    clips: Sequence[object] | np.ndarray,
    signers: Sequence[object] | np.ndarray | None = None,
) -> VarianceShares:
    """A plain three-way decomposition of the sum of squares, in the order signer, clip within signer, gloss.

    total = sum_s n_s |m_s - m|^2 + sum_c n_c |m_c - m_s(c)|^2 + |P_G r|^2 + rest, with r the rows less the mean of
    their clip, and P_G the projection on what the glosses can say within clips.

    Args:
        features: one row per sign instance. [N, D]
        glosses: gloss number of each row. [N]
        clips: of each row; a clip has one signer. [N]
        signers: of each row, where known. [N]

    Raises:
        ValueError: shapes that do not fit, rows that are all equal, a clip of two signers.
    """
    rows, labels = checked_rows(features, glosses)
    clip = numbered(clips, len(rows), "clip")
    signer = np.zeros(len(rows), dtype=np.int64) if signers is None else numbered(signers, len(rows), "signer")
    if len(np.unique(np.stack([clip, signer]), axis=1).T) > len(np.unique(clip)):
        raise ValueError("variance shares need one signer per clip, got a clip of two.")
    centred = rows - rows.mean(axis=0)
    total = float((centred**2).sum())
    if total == 0:
        raise ValueError("variance shares need rows that differ, got rows that are all equal.")
    of_signer = group_means(centred, signer)[signer]
    of_clip = group_means(centred, clip)[clip]
    within = centred - of_clip
    _, number = np.unique(labels, return_inverse=True)
    member = np.eye(int(number.max()) + 1)[number]
    member -= group_means(member, clip)[clip]
    # An orthonormal basis of what the glosses say within clips; directions without weight are rounding.
    left, sizes, _ = np.linalg.svd(member, full_matrices=False)
    basis = left[:, sizes > 1e-9 * max(float(sizes.max(initial=0)), 1.0)]
    by_signer, by_clip = float((of_signer**2).sum()) / total, float(((of_clip - of_signer) ** 2).sum()) / total
    by_gloss = float(((basis.T @ within) ** 2).sum()) / total
    freedom = len(rows) - 1
    kinds, all_clips = int(signer.max()) + 1, int(clip.max()) + 1
    chance = {"clip": (all_clips - kinds) / freedom, "gloss": basis.shape[1] / freedom}
    if signers is not None:
        chance = {"signer": (kinds - 1) / freedom, **chance}
    rest = max(0.0, 1 - by_signer - by_clip - by_gloss)
    return VarianceShares(None if signers is None else by_signer, by_clip, by_gloss, rest, chance)


def rank_me(features: np.ndarray | torch.Tensor) -> float:
    """How many directions the rows use: exp of the entropy of their singular values' shares. 1..min(N, D)

    Rows are taken as they are, not centred, as published. All zeros give 0.

    Source: RankMe (Garrido et al. 2023), Eq. 3.
    """
    rows, _ = checked_rows(features, np.zeros(len(features), dtype=np.int64))
    sizes = np.linalg.svd(rows, compute_uv=False)
    if not sizes.any():
        return 0.0
    share = sizes / sizes.sum() + 1e-7  # as published
    return float(np.exp(-(share * np.log(share)).sum()))
