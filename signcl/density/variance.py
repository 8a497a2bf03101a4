"""Shares of the feature variance due to signer, clip and gloss, and the number of directions in use.

Features can separate the glosses and still have a high Sign Density Ratio, if most of their variance is due to signers
or noise. These shares reveal it.
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
    """Shares of the total variance, 0..1; all four add up to 1."""

    signer: float | None
    """Between the means of signers; None if signers are unknown."""
    clip: float | None
    """Between the means of clips of the same signer (or of all clips, if signers are unknown); None if no clip has two
    glosses: clip and gloss cannot be told apart then, and `gloss` has both."""
    gloss: float
    """Explained by the gloss within clips, or within signers if `clip` is None."""
    rest: float
    """What is left."""
    by_chance: dict[str, float]
    """Expected shares of random rows: degrees of freedom divided by their total."""


def variance_shares(
    features: np.ndarray | torch.Tensor,
    glosses: Sequence[str] | Sequence[int] | np.ndarray | torch.Tensor,
    clips: Sequence[object] | np.ndarray | torch.Tensor,
    signers: Sequence[object] | np.ndarray | torch.Tensor | None = None,
) -> VarianceShares:
    """Splits the sum of squares into shares due to signer, clip within signer, and gloss, in this order.

    total = sum_s n_s |m_s - m|^2 + sum_c n_c |m_c - m_s(c)|^2 + |P_G r|^2 + rest, with r the rows minus the mean of
    their clip, and P_G the projection on the gloss indicators within clips. If no clip has two glosses, the second term
    is left out, and r are the rows minus the mean of their signer.

    Args:
        features: one row per sign instance. [N, D]
        glosses: gloss of each row, as a number or as text. [N]
        clips: clip of each row; a clip has one signer. [N]
        signers: signer of each row, if known. [N]

    Raises:
        ValueError: shapes that do not match, all rows equal, a clip with two signers.
    """
    rows, labels = checked_rows(features, glosses)
    clip = numbered(clips, len(rows), "clip")
    signer = np.zeros(len(rows), dtype=np.int64) if signers is None else numbered(signers, len(rows), "signer")
    if len(np.unique(np.stack([clip, signer]), axis=1).T) > len(np.unique(clip)):
        raise ValueError("variance shares need one signer per clip, got a clip with two.")
    centred = rows - rows.mean(axis=0)
    total = float((centred**2).sum())
    if total == 0:
        raise ValueError("variance shares need rows that differ, got rows that are all equal.")
    number = np.unique(labels, return_inverse=True)[1]
    apart = any(len(np.unique(number[clip == c])) > 1 for c in np.unique(clip))
    part = clip if apart else signer  # within what the gloss is looked at
    of_signer = group_means(centred, signer)[signer]
    of_part = group_means(centred, part)[part]
    member = np.eye(int(number.max()) + 1)[number]
    member -= group_means(member, part)[part]
    # The gloss indicators within clips are dependent; directions with near-zero size are rounding error.
    sizes, directions = np.linalg.eigh(member.T @ member)
    used = sizes > 1e-10 * max(float(sizes.max()), 1.0)
    onto = directions[:, used].T @ (member.T @ (centred - of_part))
    by_signer, by_clip = float((of_signer**2).sum()) / total, float(((of_part - of_signer) ** 2).sum()) / total
    by_gloss = float((onto**2 / sizes[used, None]).sum()) / total
    freedom = len(rows) - 1
    kinds, parts = int(signer.max()) + 1, int(part.max()) + 1
    chance = {"clip": (parts - kinds) / freedom} if apart else {}
    chance["gloss"] = int(used.sum()) / freedom
    if signers is not None:
        chance = {"signer": (kinds - 1) / freedom, **chance}
    rest = max(0.0, 1 - by_signer - by_clip - by_gloss)
    return VarianceShares(None if signers is None else by_signer, by_clip if apart else None, by_gloss, rest, chance)


def rank_me(features: np.ndarray | torch.Tensor) -> float:
    """Effective number of directions: exp of the entropy of the normalized singular values. 1..min(N, D)

    Rows are not centred, as published. All zeros give 0.

    Args:
        features: one row per sign instance, or any other rows. [N, D]

    Source: RankMe (Garrido et al. 2023), Eq. 3.
    """
    rows, _ = checked_rows(features, np.zeros(len(features), dtype=np.int64))
    sizes = np.linalg.svd(rows, compute_uv=False)
    if not sizes.any():
        return 0.0
    share = sizes / sizes.sum() + 1e-7  # as published
    return float(np.exp(-(share * np.log(share)).sum()))
