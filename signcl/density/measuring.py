"""Everything the lab says about a set of sign instances, as one dictionary: what `--json` prints, the tables show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from signcl.data.bounds import bounded, check_bounds
from signcl.data.progress import say
from signcl.density import (
    BETTER,
    Density,
    capped_rows,
    compare_ratios,
    other_measures,
    ratio_interval,
    sdr_interval,
    shuffle_baseline,
    sign_density_ratio,
    to_rows,
)
from signcl.density.against import GlossTable, against
from signcl.density.instances import Instances
from signcl.density.intervals import Over
from signcl.density.ratio import Distance, Inter

__all__ = ["Settings", "measure_instances"]

MANY = 20_000  # rows beyond which measures of N x N work are taken on a capped part


@dataclass(frozen=True)
class Settings:
    """How to measure; every field moves the result and is written into it."""

    distance: Distance = "euclidean"
    inter: Inter = "gloss"
    min_count: int = bounded(2, low=2, high=10**9)
    """Fewest instances of a gloss that is measured."""
    cap: int | None = bounded(None, low=2, high=10**9)
    """Most instances of a gloss, drawn with `seed`."""
    weight: str = "even"
    """`even`, or `frames`: an instance counts as often as its sign has frames."""
    interval: Over = "glosses"
    """What the interval resamples."""
    samples: int = bounded(1000, low=1, high=10**7)
    """Resamples of intervals over glosses; a fifth of them where instances are resampled."""
    seed: int = bounded(0, low=0, high=2**63 - 1)
    measures: bool = False
    """Also the measures beside the ratio."""
    baseline: bool = True
    """Also the ratio under shuffled glosses, which costs as much again."""
    distributed: bool = False
    """Share the pairs among the processes of `torch.distributed`."""

    def __post_init__(self) -> None:
        check_bounds(self, "density: ")


def measure_instances(
    choices: Sequence[Instances],
    settings: Settings,
    *,
    scores: GlossTable | None = None,
    bins: int = 9,
    versus: Instances | None = None,
    rank: int = 0,
    device: torch.device | str | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Ratio with interval and baseline under every choice of frame; the rest under the first choice.

    Args:
        choices: the same instances under several choices of frame.
        settings: how.
        scores: an accuracy for each gloss, to correlate with density.
        bins: groups of glosses by ratio.
        versus: the same instances in another feature space, to compare with.
        device: where pairs of rows are measured; None: where the rows are.
        rank: number of this process; only rank 0 does what is not shared, the others return nothing.

    Returns:
        The result, and one row per gloss, most crowded first.

    Raises:
        ValueError: as `sign_density_ratio`; `versus` with other instances.
    """
    if settings.weight not in ("even", "frames"):
        raise ValueError(f"--weight must be even or frames, got {settings.weight!r}")
    found = [_one(instances, settings, rank, device) for instances in choices]
    if rank:
        return {}, []
    first, (density, summary) = choices[0], found[0]
    names, numbers = first.numbers()
    rows: list[dict[str, Any]] = [dict(row) for row in to_rows(density, names)]
    counts = np.bincount(numbers)
    result = {
        **{key: value for key, value in summary.items() if key != "frame"},
        "feature_norm": _norm(first),
        "glosses": len(rows),
        "glosses_left_out": int((counts < settings.min_count).sum()),
        "instances": len(first.glosses),
        "measured": density.settings["rows"],
        "densest": rows[:5],
        "sparsest": rows[:-6:-1],
        "frames": [summary for _, summary in found],
        "made": {"frame": first.frame, **asdict(settings)},
    }
    place = {row["gloss"]: row for row in rows}
    if settings.measures:
        result["measures"] = _measures(first, settings, place)
    if scores is not None:
        result["against"] = against(rows, scores, bins=bins, samples=settings.samples, seed=settings.seed)
    if versus is not None:
        result["versus"] = _versus(first, versus, settings, device)
    return result, rows


def _one(
    instances: Instances, settings: Settings, rank: int, device: torch.device | str | None
) -> tuple[Density, dict[str, Any]]:
    """One choice of frame."""
    _, numbers = instances.numbers()
    options: dict[str, Any] = {
        "distance": settings.distance,
        "inter": settings.inter,
        "min_count": settings.min_count,
        "cap": settings.cap,
        "seed": settings.seed,
        "weights": _weights(instances, settings),
        "device": device,
    }
    density = sign_density_ratio(instances.features, numbers, distributed=settings.distributed, **options)
    summary: dict[str, Any] = {"frame": instances.frame, "sdr": 100 * density.mean}
    shuffled = None
    if settings.baseline:
        shuffled = shuffle_baseline(instances.features, numbers, distributed=settings.distributed, **options).mean
    if rank == 0:
        interval = _interval(density, instances, numbers, settings, options)
        summary["interval"] = [100 * interval.low, 100 * interval.high]
        summary["shuffled"] = None if shuffled is None else 100 * shuffled
        summary["intra"], summary["inter"] = float(density.intra.mean()), float(density.inter.mean())
    return density, summary


def _interval(
    density: Density, instances: Instances, numbers: np.ndarray, settings: Settings, options: dict[str, Any]
) -> Any:
    if settings.interval == "glosses":
        return sdr_interval(density, samples=settings.samples, seed=settings.seed)
    draws = max(settings.samples // 5, 1)
    return ratio_interval(instances.features, numbers, over=settings.interval, samples=draws, **options)


def _weights(instances: Instances, settings: Settings) -> np.ndarray | None:
    return instances.frames if settings.weight == "frames" else None


def _norm(instances: Instances) -> float:
    """Mean length of a row, read piece by piece."""
    total = 0.0
    for start in range(0, len(instances.features), 4096):
        rows = np.asarray(instances.features[start : start + 4096], dtype=np.float64)
        total += float(np.linalg.norm(rows, axis=1).sum())
    return total / len(instances.features)


def _measures(instances: Instances, settings: Settings, place: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The measures beside the ratio; those per gloss go into its row of the table."""
    names, numbers = instances.numbers()
    features = np.asarray(instances.features)
    cap = settings.cap
    if cap is None and len(numbers) > MANY:
        cap = max(2, MANY // len(names))
        say(f"the other measures are taken on at most {cap} of {len(numbers)} instances per gloss")
    if cap is not None:
        kept = capped_rows(numbers, cap, seed=settings.seed).numpy()
        features, numbers = features[kept], numbers[kept]
    found = other_measures(features, numbers, min_count=settings.min_count)
    if found.settings["zero_rows"]:
        say(f"no alignment and uniformity: {found.settings['zero_rows']} rows are all zeros and have no direction")
    for measure, values in found.by_gloss.items():
        for number, value in zip(found.gloss_ids, values):
            if names[number] in place:
                place[names[number]][measure] = float(value)
    shown = [{"measure": name, "value": value, "better": BETTER[name]} for name, value in found.values.items()]
    return {"values": shown, "settings": found.settings | {"cap": cap}}


def _versus(one: Instances, other: Instances, settings: Settings, device: torch.device | str | None) -> dict[str, Any]:
    if one.where != other.where or one.glosses != other.glosses:
        mine, theirs = set(zip(one.where, one.glosses)), set(zip(other.where, other.glosses))
        strange = sorted(mine ^ theirs)
        listed = "; ".join(f"{gloss} in {clip} {start}-{stop}" for (clip, start, stop), gloss in strange[:5])
        raise ValueError(
            f"--versus needs the same sign instances in both feature sets; {len(strange)} are in one of them only"
            + (f": {listed}" if strange else ", or they come in another order")
        )
    _, numbers = one.numbers()
    over: Over = "both" if settings.interval == "glosses" else settings.interval
    compared = compare_ratios(
        one.features,
        other.features,
        numbers,
        over=over,
        samples=max(settings.samples // 5, 1),
        distance=settings.distance,
        inter=settings.inter,
        min_count=settings.min_count,
        cap=settings.cap,
        seed=settings.seed,
        weights=_weights(one, settings),
        device=device,
    )
    percent = {key: 100 * getattr(compared, key) for key in ("difference", "low", "high", "a", "b")}
    return {**asdict(compared), **percent}
