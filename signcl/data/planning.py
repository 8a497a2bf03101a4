"""Plans batches: length buckets, limits, ranks. Pure functions, so resumed runs and other numbers of workers get the
same batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

__all__ = ["draw_by_group", "plan_batches"]


def draw_by_group(groups: Sequence[str], temperature: float, *, seed: int = 0, epoch: int = 0) -> list[int]:
    """Draws the clips of one epoch so that small groups get more than their share: a pure function.

    The share of a group of n clips in the epoch is proportional to n ** (1 / T), rounded to whole clips. Each clip of a
    group occurs equally often; the remainder is drawn at random without replacement.

    Args:
        groups: group of each clip, e.g. its language.
        temperature: T, at least 1.

    Returns:
        Clip numbers in ascending order with repeats, as many as there are clips.

    Source: sampling in multilingual pretraining as in mT5 (2021), section 3.1, with alpha = 1 / T.
    """
    counts = Counter(groups)
    names = sorted(counts)
    shares = np.array([counts[name] for name in names], float) ** (1 / temperature)
    exact = len(groups) * shares / shares.sum()
    wanted = np.floor(exact).astype(int)
    missing = len(groups) - int(wanted.sum())  # the largest remainders are rounded up
    wanted[np.argsort(wanted - exact, kind="stable")[:missing]] += 1
    random, drawn = np.random.default_rng((seed, epoch, 1)), []
    for name, count in zip(names, wanted.tolist()):
        own = np.array([i for i, group in enumerate(groups) if group == name])
        times, rest = divmod(count, len(own))
        drawn += [*np.tile(own, times).tolist(), *random.choice(own, size=rest, replace=False).tolist()]
    return sorted(drawn)


def plan_batches(
    lengths: Sequence[int],
    *,
    batch_size: int,
    batch_frames: int | None = None,
    bucket: bool = True,
    shuffle: bool = True,
    seed: int = 0,
    epoch: int = 0,
    rank: int = 0,
    ranks: int = 1,
    drop_single: bool = False,
    drawn: Sequence[int] | None = None,
) -> list[list[int]]:
    """Plans the batches of one epoch for one rank: a pure function of its arguments.

    Clips are shuffled, sorted by length within pools of 50 batches if `bucket` is on, and cut into batches of at most
    `batch_size` clips and `batch_frames` frames; then the batches are shuffled. In training, every rank gets the same
    number of batches (some are repeated); in evaluation, no clip is repeated.

    Args:
        lengths: frames of each clip.
        drop_single: join batches of one clip in pairs, and a last one with the batch nearest in length, because a
            contrastive loss needs two clips. A joined batch may exceed the limits.
        drawn: clips to use, with repeats; None: each once.
    """
    if batch_size < 1:
        raise ValueError(f"a batch needs at least 1 clip, got batch_size={batch_size}")
    order = np.arange(len(lengths)) if drawn is None else np.array(drawn, dtype=int)
    random = np.random.default_rng((seed, epoch))
    if shuffle:
        random.shuffle(order)
    if bucket:
        pool = max(1, len(order)) if not shuffle else batch_size * 50
        order = np.concatenate([
            chunk[np.argsort([lengths[i] for i in chunk], kind="stable")]
            for chunk in np.split(order, range(pool, len(order), pool))
        ])  # fmt: skip
    batches: list[list[int]] = []
    frames = 0
    for index in order.tolist():
        full = batches and len(batches[-1]) >= batch_size
        if not batches or full or (batch_frames is not None and frames + lengths[index] > batch_frames):
            batches.append([])
            frames = 0
        batches[-1].append(index)
        frames += lengths[index]
    if drop_single:
        batches = _joined(batches, lengths)
    if shuffle:
        random.shuffle(batches)
        if len(batches) % ranks:
            batches += [batches[i % len(batches)] for i in range(ranks - len(batches) % ranks)]
    return batches[rank::ranks]


def _joined(batches: list[list[int]], lengths: Sequence[int]) -> list[list[int]]:
    """Joins batches of one clip in pairs of similar length, and a last one with the batch nearest in length."""
    singles = sorted((b for b in batches if len(b) == 1), key=lambda b: lengths[b[0]])
    joined = [b for b in batches if len(b) > 1]
    joined += [first + second for first, second in zip(singles[::2], singles[1::2])]
    if len(singles) % 2 and joined:
        lone = singles[-1]
        min(joined, key=lambda b: abs(lengths[b[-1]] - lengths[lone[0]])).extend(lone)
    return joined or batches
