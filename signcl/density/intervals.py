"""Confidence intervals of the ratio by bootstrap over glosses, instances, both or signers; comparison of two models.

Instances are resampled by Bayesian bootstrap (Rubin 1981): each gets a random exponential weight, scaled to a mean of 1
within its gloss, and the weighted ratio is computed again. Drawing rows with replacement would pair a row with its own
copy, at distance 0, and glosses of two rows would lose their ratio in half of the draws.

If signers are resampled, two instances of one signer have the square of that signer's weight, so on average they count
twice as much as in the data, and every replicate leans towards the ratio within a signer. The replicates show how far
the ratio varies, not around what value: the interval is their spread around the measured ratio.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

import numpy as np
import torch
from torch import Tensor

from signcl.density.ratio import Density, Distance, Inter, check_options, measure, sign_density_ratio
from signcl.density.rows import numbered, sort_rows

__all__ = ["Over", "SdrComparison", "SdrInterval", "compare_ratios", "ratio_interval", "sdr_interval"]

Over = Literal["glosses", "instances", "both", "signers"]


class _Options(TypedDict):
    distance: Distance
    inter: Inter
    min_count: int
    others: bool
    cap: int | None
    seed: int


@dataclass(frozen=True)
class SdrInterval:
    """A mean ratio with its bootstrap interval."""

    mean: float
    low: float
    high: float
    level: float
    """Coverage, such as 0.95."""
    samples: int
    seed: int
    over: str = "glosses"
    """What was resampled: glosses, instances (within glosses), both, or signers."""


@dataclass(frozen=True)
class SdrComparison:
    """Two feature sets on the same instances; all ratios are fractions (the paper prints them times 100)."""

    difference: float
    """Mean ratio of `b` minus that of `a`: negative if b is less crowded."""
    low: float
    high: float
    p_value: float
    """Two-sided p-value of the difference; at least 2 / (samples + 1)."""
    a: float
    b: float
    glosses_lower: float
    """Share of the glosses that are less crowded with b."""
    level: float
    samples: int
    seed: int
    over: str


def sdr_interval(density: Density, *, samples: int = 1000, seed: int = 0, level: float = 0.95) -> SdrInterval:
    """Interval of the mean ratio for other glosses of the same kind: percentile bootstrap over glosses.

    Glosses are drawn with their ratios; distances are not computed again. The interval thus leaves out the variation
    from the choice of rows within a gloss; `ratio_interval` includes it.

    Args:
        density: the measured density.
        samples: number of resamples.
        seed: seed of the resampling.
        level: coverage of the interval.

    Raises:
        ValueError: no samples, or a level outside 0..1.
    """
    _check(samples, level)
    ratios = density.sdr.cpu().numpy()
    generator = np.random.default_rng(seed)
    means = np.array([ratios[generator.integers(len(ratios), size=len(ratios))].mean() for _ in range(samples)])
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return SdrInterval(density.mean, float(low), float(high), level, samples, seed)


def ratio_interval(
    features: Tensor | np.ndarray,
    glosses: Tensor | np.ndarray | Sequence[str] | Sequence[int],
    *,
    over: Over = "instances",
    samples: int = 200,
    seed: int = 0,
    level: float = 0.95,
    distance: Distance = "euclidean",
    inter: Inter = "gloss",
    min_count: int = 2,
    others: bool = True,
    cap: int | None = None,
    weights: Tensor | np.ndarray | None = None,
    signers: Sequence[object] | np.ndarray | Tensor | None = None,
    block: int | None = None,
    device: torch.device | str | None = None,
) -> SdrInterval:
    """Interval of the mean ratio for other instances of the same glosses ("instances") or of other glosses ("both").

    Distances are computed once for all resamples. This costs about 1 + samples / D times the work of the ratio and
    12 bytes per row and resample. A gloss of two rows has only one distance, so its ratio varies only through its
    neighbours: with rare glosses, the interval is too narrow.

    Args:
        features, glosses, distance, inter, min_count, others, cap, weights, block, device: as in `sign_density_ratio`.
        over: what to resample: "instances" within their glosses, "glosses", "both", or "signers". With "signers", all
            instances of a signer get the same weight, so the interval covers other people. Use it if there are several
            signers: over instances, the interval is then too narrow. With two or three signers, no interval is sure.
        signers: signer of each row, for over="signers". [N]
        samples: number of resamples.
        seed: seed of the resampling and of `cap`.
        level: coverage of the percentile interval.

    Raises:
        ValueError: as `sign_density_ratio`; no samples, or a level outside 0..1.
    """
    _check(samples, level, over)
    options: _Options = {
        "distance": distance,
        "inter": inter,
        "min_count": min_count,
        "others": others,
        "cap": cap,
        "seed": seed,
    }
    if over == "glosses":
        plain = sign_density_ratio(features, glosses, weights=weights, block=block, device=device, **options)
        return sdr_interval(plain, samples=samples, seed=seed, level=level)
    groups = _groups(over, signers, len(features))
    ratios = _replicates(features, glosses, weights, samples, options, block, device, groups)
    means = _mean_over_glosses(ratios[:, 1:], over, seed)
    means = _around(means, float(ratios[:, 0].mean()), over)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return SdrInterval(float(ratios[:, 0].mean()), float(low), float(high), level, samples, seed, over)


def compare_ratios(
    a: Tensor | np.ndarray,
    b: Tensor | np.ndarray,
    glosses: Tensor | np.ndarray | Sequence[str] | Sequence[int],
    *,
    over: Over = "both",
    samples: int = 200,
    seed: int = 0,
    level: float = 0.95,
    distance: Distance = "euclidean",
    inter: Inter = "gloss",
    min_count: int = 2,
    others: bool = True,
    cap: int | None = None,
    weights: Tensor | np.ndarray | None = None,
    signers: Sequence[object] | np.ndarray | Tensor | None = None,
    block: int | None = None,
    device: torch.device | str | None = None,
) -> SdrComparison:
    """Compares the ratios of features `a` and `b` on the same sign instances, with the same resamples.

    Args:
        a: features of the instances from one model. [N, D]
        b: features from another model, of any size. [N, D']
        glosses: gloss of each row, as a number or as text, the same for both. [N]
        over, samples, seed, level, distance, inter, min_count, others, cap, weights, signers, block, device: as in
            `ratio_interval`.

    Returns:
        The difference of the mean ratios, b - a, with a paired interval: below 0, `b` is clearer.

    Raises:
        ValueError: as `ratio_interval`; matrices with different numbers of rows.
    """
    _check(samples, level, over)
    if len(a) != len(b):
        raise ValueError(
            f"compare_ratios needs two feature sets of the same instances, got {len(a)} and {len(b)} rows."
        )
    options: _Options = {
        "distance": distance,
        "inter": inter,
        "min_count": min_count,
        "others": others,
        "cap": cap,
        "seed": seed,
    }
    drawn = 0 if over == "glosses" else samples
    groups = _groups(over, signers, len(a))
    one, two = (_replicates(x, glosses, weights, drawn, options, block, device, groups) for x in (a, b))
    ratios = (two - one)[:, 1:] if drawn else (two - one).expand(-1, samples)
    differences = _around(_mean_over_glosses(ratios, over, seed), float((two - one)[:, 0].mean()), over)
    low, high = np.quantile(differences, [(1 - level) / 2, (1 + level) / 2])
    beyond = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    return SdrComparison(
        difference=float((two - one)[:, 0].mean()),
        low=float(low),
        high=float(high),
        p_value=min(1.0, 2 * (1 + beyond) / (samples + 1)),
        a=float(one[:, 0].mean()),
        b=float(two[:, 0].mean()),
        glosses_lower=float((two[:, 0] < one[:, 0]).double().mean()),
        level=level,
        samples=samples,
        seed=seed,
        over=over,
    )


def _check(samples: int, level: float, over: str = "glosses") -> None:
    if samples < 1 or not 0 < level < 1 or over not in ("glosses", "instances", "both", "signers"):
        raise ValueError(
            f"an interval needs samples >= 1, a level between 0 and 1, and over 'glosses', 'instances', 'both' or "
            f"'signers', got {samples}, {level} and {over!r}."
        )


def _groups(over: str, signers: Sequence[object] | np.ndarray | Tensor | None, rows: int) -> np.ndarray | None:
    """Signer number of each row if signers are resampled, else None."""
    if over != "signers":
        return None
    if signers is None:
        raise ValueError("an interval over signers needs the signer of each row; give `signers`.")
    numbers = numbered(signers, None, "signer")
    known = len(np.unique(numbers))
    if len(numbers) != rows or known < 2:
        raise ValueError(
            f"an interval over signers needs a signer for each of {rows} rows and at least 2 signers, got "
            f"{len(numbers)} rows of {known} signers."
        )
    return numbers


def _replicates(
    features: Tensor | np.ndarray,
    glosses: Tensor | np.ndarray | Sequence[str] | Sequence[int],
    weights: Tensor | np.ndarray | None,
    samples: int,
    options: _Options,
    block: int | None,
    device: torch.device | str | None = None,
    groups: np.ndarray | None = None,
) -> Tensor:
    """The ratio of each gloss unweighted (column 0) and with `samples` random weightings of its rows. [K, R + 1]

    If there are groups, rows of the same group get the same weight.
    """
    check_options(options["distance"], options["inter"], options["min_count"])
    rows = len(glosses)
    generator = torch.Generator().manual_seed(options["seed"])
    units = rows if groups is None else int(groups.max()) + 1
    drawn = torch.empty(units, samples + 1, dtype=torch.float64).exponential_(generator=generator).clamp_(min=1e-9)
    drawn = drawn if groups is None else drawn[torch.from_numpy(groups)]
    drawn[:, 0] = 1
    if weights is not None:
        drawn *= torch.as_tensor(weights).cpu().double()[:, None]
    data = sort_rows(
        features,
        glosses,
        options["min_count"],
        options["others"],
        cap=options["cap"],
        seed=options["seed"],
        weights=drawn,
        device=device,
    )
    assert data.weights is not None
    mass = data.weights.new_zeros(len(data.counts), samples + 1).index_add_(0, data.labels, data.weights)
    scaled = data.weights * (mass[:, :1] / mass)[data.labels]  # the total weight of each gloss stays the same
    intra, inter = measure(data._replace(weights=scaled), options["distance"], options["inter"], block=block)
    return (intra / inter).cpu()


def _around(replicates: np.ndarray, measured: float, over: str) -> np.ndarray:
    """Replicates over signers, moved so that their mean is the measured value; others unchanged. [R]"""
    return replicates - replicates.mean() + measured if over == "signers" else replicates


def _mean_over_glosses(ratios: Tensor, over: str, seed: int) -> np.ndarray:
    """Mean over the glosses of each replicate, or over resampled glosses. [K, R] -> [R]"""
    values = ratios.numpy()
    if over in ("instances", "signers"):
        return values.mean(axis=0)
    draws = np.random.default_rng(seed).integers(len(values), size=values.shape)
    return np.take_along_axis(values, draws, axis=0).mean(axis=0)
