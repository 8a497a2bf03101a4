"""Defines what `python -m paper` runs and in which order, and estimates how long it takes."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from paper.jobs import Extract, Fit, Place, missing
from paper.measured import committed
from paper.settings import core_seconds, encoder_job, has_corpus, i3d_job, place_of
from paper.store import Store

__all__ = ["STEPS", "Estimate", "Step", "estimate", "estimate_runs", "plans", "reason_not_to_run", "with_encoders"]


@dataclass(frozen=True)
class Step:
    """A script on a corpus."""

    script: str
    corpus: str
    seeds: int = 3
    data: str = ""
    """Folder that it needs in the folder of real data."""
    trains: bool = True

    @property
    def title(self) -> str:
        """Name of the step in messages."""
        return f"{self.script} on {self.corpus}"


STEPS = (
    Step("figure6", "phoenix14t", data="phoenix14t-alignments", trains=False),
    Step("figure6", "csl_daily", data="annotations", trains=False),
    Step("table8", "synthetic"),
    Step("table2", "synthetic"),
    Step("imu", "imu_numbers", seeds=5, data="imu-number-signs"),
    Step("challengers", "imu_numbers", seeds=8, data="imu-number-signs"),
    Step("table1", "synthetic"),
    Step("table6", "synthetic"),
    Step("table7", "synthetic"),
    Step("figure7", "synthetic"),
    Step("figure3", "synthetic"),
    Step("table10", "synthetic"),
    Step("table10", "imu_numbers", seeds=2, data="imu-number-signs"),
    Step("figure3", "imu_numbers", seeds=2, data="imu-number-signs"),
    Step("table9", "synthetic"),
    Step("figure2", "synthetic"),
    Step("figure5", "synthetic"),
    Step("trust", "synthetic"),
    Step("trust", "imu_numbers", seeds=5, data="imu-number-signs"),
    Step("findings", "imu_numbers", seeds=5, data="imu-number-signs"),
    Step("surface", "synthetic"),
    Step("findings", "synthetic"),
    Step("best", "synthetic", seeds=5),
    Step("all_systems", "imu_numbers", data="imu-number-signs"),
    Step("all_systems", "synthetic"),
    Step("contrast", "synthetic", seeds=5),
)
"""All steps in order of importance, so that an interrupted command has made the most important tables."""


def reason_not_to_run(step: Step, data: Path) -> str:
    """Why a step cannot run on this machine; empty if it can."""
    if importlib.util.find_spec(f"paper.{step.script}") is None:
        return f"there is no paper/{step.script}.py"
    if step.data and not (data / step.data).is_dir():
        return f"needs {data / step.data}; name the folder of real data with --data"
    if not step.data and not has_corpus(step.corpus):
        return f"the corpus {step.corpus} was not found"
    return ""


def plans(step: Step) -> bool:
    """Whether a script lists its runs; a script without a list uses the runs of others."""
    return hasattr(importlib.import_module(f"paper.{step.script}"), "planned")


def runs_of(step: Step, options: argparse.Namespace) -> dict[Place, list[Fit]]:
    """Every run of a script, by place; the corpora need not exist yet."""
    module = importlib.import_module(f"paper.{step.script}")
    places: Callable[..., dict[object, Place]] | None = getattr(module, "places", None)
    where = list(places(options, make=False).values()) if places else [place_of(options, make=False)]
    wanted: Iterable[Fit] = module.planned(options, where[0]).values()
    first = getattr(module, "FIRST_SEED", 0)
    seeded = [job.seeded(first + seed) for job in wanted for seed in range(options.seeds)]
    return with_encoders(dict.fromkeys(where, seeded), options)


def with_encoders(wanted: dict[Place, list[Fit]], options: argparse.Namespace) -> dict[Place, list[Fit]]:
    """Adds to runs (by place) the runs whose frame encoder they start from or whose features they read."""
    found = dict(wanted)
    if any(place.encoder for place in wanted):
        job, place = encoder_job(options, make=False)
        found[place] = [job]
    read = [job.features for jobs in wanted.values() for job in jobs]
    if any(place.i3d for place in wanted) and any(isinstance(f, Extract) and not f.trained for f in read):
        job, place = i3d_job(options)
        found[place] = [*found.get(place, ()), job]
    return found


@dataclass
class Estimate:
    """Number and duration of missing runs."""

    runs: int
    minutes: float
    """With as many cores as parallel jobs."""
    unknown: int
    """Number of runs of unknown duration; not included in the minutes."""

    def __str__(self) -> str:
        more = f" and {self.unknown} runs of unknown length" if self.unknown else ""
        return f"{self.runs} runs to make, about {self.minutes:.0f} min{more}"


def estimate(step: Step, options: argparse.Namespace, counted: set[Path]) -> Estimate:
    """Estimates the missing runs of a script, without those in `counted`; adds the new ones to `counted`."""
    if not step.trains:
        return Estimate(0, 0.0, 0)
    if options.only_missing:
        options.store = Store(options.results / options.corpus, only_missing=True)
    return estimate_runs(runs_of(step, options), counted)


def estimate_runs(wanted: dict[Place, list[Fit]], counted: set[Path]) -> Estimate:
    """Estimates missing runs, given by place; see `estimate`."""
    total, runs, unknown = 0.0, 0, 0
    for place, jobs in wanted.items():
        only_missing = place.store is not None and place.store.only_missing
        todo = [job for job in jobs if not (only_missing and committed(job, place))]
        for folder, job in missing(todo, place).items():
            if folder in counted:
                continue
            counted.add(folder)
            seconds = core_seconds(job, place)
            runs += 1
            unknown += seconds is None
            total += seconds or 0.0
    return Estimate(runs, total / 60 / max(place.jobs for place in wanted), unknown)
