"""Measures a set of sign instances and returns one dictionary, which `--json` prints and the tables show."""

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
    confusable_glosses,
    hubness_interval,
    jackknife_interval,
    linear_probe,
    other_measures,
    rank_me,
    ratio_interval,
    retrieval,
    retrieval_interval,
    sdr_interval,
    shuffle_baseline,
    shuffled_confusable,
    shuffled_retrieval,
    sign_density_ratio,
    to_rows,
    variance_shares,
)
from signcl.density.against import GlossTable, against
from signcl.density.by_signer import balanced_weights, signer_ratios
from signcl.density.instances import Instances
from signcl.density.intervals import Over
from signcl.density.ratio import Distance, Inter
from signcl.density.retrieval import group_bootstrap
from signcl.density.verdicts import FOUND, HARD, disagreement, notes_on

__all__ = ["Settings", "measure_instances"]

SHARES = ("signer", "clip", "gloss", "rest")
MANY = 20_000  # above this number of rows, measures with N x N work use at most so many


@dataclass(frozen=True)
class Settings:
    """How to measure; every field affects the result and is recorded in it."""

    distance: Distance = "euclidean"
    inter: Inter = "gloss"
    min_count: int = bounded(2, low=2, high=10**9)
    """Minimum number of instances of a gloss to be measured."""
    cap: int | None = bounded(None, low=2, high=10**9)
    """Maximum number of instances per gloss, drawn with `seed`."""
    weight: str = "even"
    """Weights of instances. `even`: all equal; `frames`: proportional to the frames of the sign; `signers`: equal total
    for every signer of a gloss."""
    interval: Over = "glosses"
    """What the interval resamples."""
    samples: int = bounded(1000, low=1, high=10**7)
    """Resamples of intervals over glosses; a fifth of this if instances are resampled."""
    seed: int = bounded(0, low=0, high=2**63 - 1)
    by: str = ""
    """`signer`: also compute the ratio within and across signers, and of each signer."""
    retrieval: bool = True
    """Also compute retrieval in other clips, and how well each gloss is told from its nearest one."""
    measures: bool = False
    """Also compute shares of variance, a linear probe and the other measures."""
    baseline: bool = True
    """Also compute the ratio with shuffled glosses, which doubles the cost."""
    distributed: bool = False
    """Divide the pairs among the processes of `torch.distributed`."""

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
    """Computes ratio, interval and baseline for every choice of frame, and the other measures for the first choice.

    Args:
        choices: the same instances with several choices of frame.
        settings: how to measure.
        scores: an accuracy for each gloss, to correlate with density.
        bins: number of gloss groups, by ratio.
        versus: the same instances in another feature space, to compare with.
        device: device for pairs of rows; None: the device of the rows.
        rank: number of this process; only rank 0 computes what is not shared and returns a result.

    Returns:
        The result, and one row per gloss, most crowded first. Ranks other than 0 return both empty.

    Raises:
        ValueError: as `sign_density_ratio`; `versus` with different instances.
    """
    if settings.weight not in ("even", "frames", "signers"):
        raise ValueError(f"--weight must be even, frames or signers, got {settings.weight!r}")
    if settings.weight == "frames" and choices[0].frame == "row":
        raise ValueError("--weight frames: has no effect, because each row of the features is one sign; leave it out")
    if settings.by not in ("", "signer"):
        raise ValueError(f"--by must be signer, got {settings.by!r}")
    _check_signers(choices[0], settings)
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
        "overlapping": first.overlapping(),
        "repeated": first.repeated(),
        "measured": density.settings["rows"],
        "densest": rows[:5],
        "sparsest": rows[:-6:-1],
        "frames": [summary for _, summary in found],
        "made": {"frame": first.frame, **asdict(settings)},
    }
    place = {row["gloss"]: row for row in rows}
    if settings.retrieval:
        result |= _found_again(first, settings, device, place)
    if settings.by:
        result["signers"] = _by_signer(first, settings, device)
    if settings.measures:
        result |= _spent(first, settings)
        result["measures"] = _measures(first, settings, place)
    if scores is not None:
        result["against"] = against(rows, scores, bins=bins, samples=settings.samples, seed=settings.seed)
    if versus is not None:
        result["versus"] = _versus(first, versus, settings, device)
        if settings.retrieval:
            v, both = result["versus"], _difference(first, versus, settings, device)
            line = None if "why" in both else disagreement((v["a"], v["b"]), (both["a"], both["b"]))
            result["versus"] |= {"retrieval": both, "notes": [line] if line else []}
    result["notes"] = notes_on(result)
    return result, rows


def _check_signers(instances: Instances, settings: Settings) -> None:
    """Raises an error if the settings need signers but fewer than two are known."""
    asked = [
        flag
        for flag, given in (
            ("--by signer", settings.by),
            ("--interval signers", settings.interval == "signers"),
            ("--weight signers", settings.weight == "signers"),
        )
        if given
    ]
    known = sorted(set(instances.signers or []))
    if asked and len(known) < 2:
        has = f"all signs are by {known[0]}" if known else "no signer is known"
        raise ValueError(
            f"{asked[0]} needs at least 2 signers, but {has}; a corpus names them in its table (column signer); for "
            "features give --signers TSV with the columns name and signer"
        )


def _capped(instances: Instances, settings: Settings, what: str) -> np.ndarray:
    """Indices of the rows for measures with N x N work: all rows, or at most `cap` per gloss."""
    names, numbers = instances.numbers()
    cap = settings.cap
    if cap is None and len(numbers) > MANY:
        cap = max(2, MANY // len(names))
        say(f"{what} uses at most {cap} instances per gloss (there are {len(numbers)} instances)")
    if cap is None:
        return np.arange(len(numbers))
    kept: np.ndarray = capped_rows(numbers, cap, seed=settings.seed).numpy()
    return kept


def _several_signers(instances: Instances, kept: np.ndarray) -> np.ndarray | None:
    """The signer of each kept row, or None if signers are unknown or there is only one. [N]"""
    if instances.signers is None:
        return None
    signers = np.array(instances.signers, dtype=object)[kept]
    return signers if len(set(signers)) > 1 else None


def _found_again(
    instances: Instances, settings: Settings, device: torch.device | str | None, place: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """Retrieval in other clips and from other signers, and each gloss against its nearest one."""
    names, numbers = instances.numbers()
    kept = _capped(instances, settings, "retrieval")
    features, labels = np.asarray(instances.features)[kept], numbers[kept]
    clips = np.array(instances.clips, dtype=object)[kept]
    signers = _several_signers(instances, kept)
    drawn = clips if signers is None else signers
    found: dict[str, Any] = {"retrieval": {}}
    for kind, others in (("clips", None), ("signers", signers)):
        if kind == "clips" or others is not None:
            part = _retrieved(features, labels, clips, others, drawn, settings, device)
            found["retrieval"][kind] = part | _drawn(signers)
    for number, value, first in found["retrieval"]["clips"].pop("by_gloss", []):
        if names[number] in place:
            place[names[number]] |= {"map": value, "one_nn": first}
    distance = settings.distance
    nearest = confusable_glosses(features, labels, distance=distance, device=device)
    for number, other, ratio, auc, d_prime in zip(
        nearest.gloss_ids.tolist(), nearest.nearest.tolist(), nearest.ratio, nearest.auc, nearest.d_prime, strict=True
    ):
        row = place.get(names[number])
        if row is not None:
            row |= {
                "nearest": names[other],
                "nearest_ratio": float(ratio),
                "auc": float(auc),
                "d_prime": float(d_prime),
            }
    hard = nearest.auc < HARD
    known = {number: place[name] for number, name in enumerate(names) if name in place}
    lost = [_lost(known.get(number, {})) for number in nearest.gloss_ids.tolist()]
    drawn_glosses = group_bootstrap(
        np.stack([100 * nearest.ratio, nearest.auc, nearest.d_prime], axis=1),
        np.arange(len(nearest.auc)),
        settings.samples,
        settings.seed,
    )
    ends = np.quantile(drawn_glosses, [0.025, 0.975], axis=0).T.tolist()
    of_number = {int(number): of for number, of in zip(nearest.gloss_ids, lost)}
    found["nearest"] = {
        "ratio": 100 * float(nearest.ratio.mean()),
        "auc": float(nearest.auc.mean()),
        "d_prime": float(nearest.d_prime.mean()),
        **{f"{name}_interval": end for name, end in zip(("ratio", "auc", "d_prime"), ends)},
        "glosses": len(nearest.auc),
        "hard": int(hard.sum()),
        "lost": int((hard & lost).sum()),
        "pairs": [
            {"gloss": names[one], "nearest": names[other], "auc": auc, "lost": of_number[one]}
            for one, other, auc in nearest.pairs[:5]
        ],
    }
    if settings.baseline:
        shuffled = shuffled_confusable(features, labels, seed=settings.seed, distance=distance, device=device)
        found["nearest"] |= {
            "shuffled_ratio": 100 * float(shuffled.ratio.mean()),
            "shuffled_auc": float(shuffled.auc.mean()),
            "shuffled_d_prime": float(shuffled.d_prime.mean()),
            "shuffled_hard": int((shuffled.auc < HARD).sum()),
        }
    return found


def _lost(row: dict[str, Any]) -> bool:
    """Whether instances of a gloss are mostly not nearest to each other, as far as retrieval says."""
    return not row.get("one_nn", 0.0) > FOUND


def _drawn(signers: np.ndarray | None) -> dict[str, str]:
    return {"over": "clips" if signers is None else "signers"}


def _retrieved(
    features: np.ndarray,
    labels: np.ndarray,
    clips: np.ndarray,
    signers: np.ndarray | None,
    drawn: np.ndarray,
    settings: Settings,
    device: torch.device | str | None,
) -> dict[str, Any]:
    """Retrieval in other clips, or of other `signers`; intervals over the groups of `drawn`."""
    distance = "cosine" if settings.distance == "cosine" else "euclidean"
    options: dict[str, Any] = {"signers": signers, "distance": distance, "device": device}
    try:
        found = retrieval(features, labels, clips, **options)
    except ValueError as error:  # one clip per gloss: nothing to retrieve; the result has the reason
        return {"why": str(error)}
    interval = retrieval_interval(found, drawn, samples=settings.samples, seed=settings.seed)
    result = {
        "map": 100 * found.map,
        "map_interval": [100 * end for end in interval.map],
        "one_nn": 100 * found.one_nn,
        "one_nn_interval": [100 * end for end in interval.one_nn],
        "recall": {str(k): 100 * value for k, value in found.recall.items()},
        "recall_interval": {str(k): [100 * end for end in ends] for k, ends in interval.recall.items()},
        "hubness": found.hubness,
        "hubness_interval": _known(hubness_interval(found, drawn, seed=settings.seed)),
        "queries": found.queries,
        "without_match": found.without_match,
        "by_gloss": list(
            zip(found.gloss_ids.tolist(), found.by_gloss.tolist(), found.found_by_gloss.tolist(), strict=True)
        ),
    }
    if settings.baseline:
        shuffled = shuffled_retrieval(features, labels, clips, seed=settings.seed, **options)
        result |= {"shuffled_map": 100 * shuffled.map, "shuffled_one_nn": 100 * shuffled.one_nn}
    if signers is not None:
        result.pop("by_gloss")
    return result


def _difference(
    one: Instances, other: Instances, settings: Settings, device: torch.device | str | None
) -> dict[str, Any]:
    """Retrieval with both feature sets, and the difference with an interval over signers, or clips if unknown."""
    _, numbers = one.numbers()
    kept = _capped(one, settings, "retrieval")
    clips = np.array(one.clips, dtype=object)[kept]
    distance = "cosine" if settings.distance == "cosine" else "euclidean"
    try:
        a, b = (
            retrieval(np.asarray(x.features)[kept], numbers[kept], clips, distance=distance, device=device)
            for x in (one, other)
        )
    except ValueError as error:
        return {"why": str(error)}
    gains = (b.average_precision - a.average_precision)[:, None]
    signers = _several_signers(one, kept)
    group = (clips if signers is None else signers)[a.asked].astype(str)
    drawn = group_bootstrap(gains, group, settings.samples, settings.seed)
    low, high = np.quantile(drawn, [0.025, 0.975])
    percent = {"a": a.map, "b": b.map, "difference": b.map - a.map, "low": float(low), "high": float(high)}
    return {key: 100 * value for key, value in percent.items()} | _drawn(signers)


def _by_signer(instances: Instances, settings: Settings, device: torch.device | str | None) -> dict[str, Any]:
    _, numbers = instances.numbers()
    found = signer_ratios(
        np.asarray(instances.features), numbers, instances.signers or [], distance=settings.distance, device=device
    )
    rows = [
        {
            "signer": name,
            "signs": int(count),
            "glosses": int(glosses),
            "sdr": None if np.isnan(sdr) else 100 * float(sdr),
        }
        for name, count, glosses, sdr in zip(found.signers, found.rows, found.glosses, found.sdr, strict=True)
    ]
    return {
        "within": None if found.within is None else 100 * found.within,
        "across": None if found.across is None else 100 * found.across,
        "within_interval": _percent(found.within_interval),
        "across_interval": _percent(found.across_interval),
        "glosses_across": found.glosses_across,
        "each": rows,
    }


def _known(ends: Sequence[float]) -> list[float] | None:
    """An interval, or None if it does not exist."""
    return None if np.isnan(ends).any() else list(ends)


def _percent(ends: tuple[float, float] | None) -> list[float] | None:
    return None if ends is None else [100 * end for end in ends]


def _spent(instances: Instances, settings: Settings) -> dict[str, Any]:
    """Shares of variance, rank and a linear probe."""
    _, numbers = instances.numbers()
    kept = _capped(instances, settings, "share of variance")
    features, labels = np.asarray(instances.features)[kept], numbers[kept]
    clips = np.array(instances.clips, dtype=object)[kept]
    signers = _several_signers(instances, kept)
    shares = variance_shares(features, labels, clips, signers)
    variance = {name: getattr(shares, name) for name in SHARES}
    result: dict[str, Any] = {
        "variance": {name: None if value is None else 100 * value for name, value in variance.items()},
        "rank_me": rank_me(features),
    }

    def measure(kept: np.ndarray) -> np.ndarray:
        part = variance_shares(features[kept], labels[kept], clips[kept], None if signers is None else signers[kept])
        values = [getattr(part, name) for name in SHARES]
        return np.array([*(np.nan if value is None else 100 * value for value in values), rank_me(features[kept])])

    groups = clips if signers is None else signers
    ends = [_known(both) for both in jackknife_interval(measure, groups, seed=settings.seed).tolist()]
    result["variance"]["interval"] = dict(zip(SHARES, ends))
    result["rank_me_interval"] = ends[-1]
    result |= _drawn(signers)
    result["variance"]["by_chance"] = {name: 100 * value for name, value in shares.by_chance.items()}
    try:
        probe = linear_probe(features, labels, clips, groups=signers, samples=settings.samples, seed=settings.seed)
        result["probe"] = asdict(probe) | _drawn(signers)
    except ValueError as error:
        result["probe"] = {"why": str(error)}
    return result


def _one(
    instances: Instances, settings: Settings, rank: int, device: torch.device | str | None
) -> tuple[Density, dict[str, Any]]:
    """The ratio for one choice of frame, with its summary."""
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
    signers = instances.signers
    return ratio_interval(
        instances.features, numbers, over=settings.interval, samples=draws, signers=signers, **options
    )


def _weights(instances: Instances, settings: Settings) -> np.ndarray | None:
    if settings.weight == "signers":
        return balanced_weights(instances.glosses, instances.signers or [])
    return instances.frames if settings.weight == "frames" else None


def _norm(instances: Instances) -> float:
    """Mean length of a row, read in chunks."""
    total = 0.0
    for start in range(0, len(instances.features), 4096):
        rows = np.asarray(instances.features[start : start + 4096], dtype=np.float64)
        unit = float(np.abs(rows).max()) or 1.0  # squares of large numbers overflow
        total += float(np.linalg.norm(rows / unit, axis=1).sum()) * unit
    return total / len(instances.features)


def _measures(instances: Instances, settings: Settings, place: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Computes the other measures; values per gloss are added to the rows of the table."""
    names, numbers = instances.numbers()
    features = np.asarray(instances.features)
    kept = _capped(instances, settings, "each other measure")
    features, numbers = features[kept], numbers[kept]
    try:
        found = other_measures(features, numbers, min_count=settings.min_count)
    except ValueError as error:  # the ratio and the other tables do not need them
        return {"values": [], "why": str(error)}
    if found.settings["zero_rows"]:
        say(f"no alignment and uniformity: {found.settings['zero_rows']} rows are all zeros and have no direction")
    for measure, values in found.by_gloss.items():
        for number, value in zip(found.gloss_ids, values):
            if names[number] in place:
                place[names[number]][measure] = float(value)
    shown = [{"measure": name, "value": value, "better": BETTER[name]} for name, value in found.values.items()]
    return {"values": shown, "settings": found.settings | {"instances": len(kept)}}


def _versus(one: Instances, other: Instances, settings: Settings, device: torch.device | str | None) -> dict[str, Any]:
    if one.where != other.where or one.glosses != other.glosses:
        mine, theirs = set(zip(one.where, one.glosses)), set(zip(other.where, other.glosses))
        strange = sorted(mine ^ theirs)
        listed = "; ".join(f"{gloss} in {clip} {start}-{stop}" for (clip, start, stop), gloss in strange[:5])
        raise ValueError(
            f"--versus needs the same sign instances in both feature sets; {len(strange)} are in only one of them"
            + (f": {listed}" if strange else ", but their order differs")
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
        signers=one.signers,
        device=device,
    )
    percent = {key: 100 * getattr(compared, key) for key in ("difference", "low", "high", "a", "b")}
    return {**asdict(compared), **percent}
