"""Gives the scripts of this folder the results of runs: computed and stored, or read back from committed numbers.

`results` trains missing runs, writes scores and answers into the store of the corpus (`paper.store`), and returns the
stored values. `measured` does the same for measurements on weights, features or clips. With `--from-results` both only
read.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from paper.jobs import Extract, Files, Fit, Place, Result, before, code_of, folder_of, recipe_of, run_all
from paper.raw_results import rows_of
from paper.store import DENSITY, FOUND, SCORES, Answers, Missing, Row, plain

__all__ = [
    "Missing",
    "key_of",
    "measured",
    "measured_of_corpus",
    "measured_of_start",
    "results",
    "seconds",
    "stored_row",
]


def results(arms_of: Mapping[str, Sequence[Fit]], place: Place) -> dict[str, list[Result]]:
    """The results of arms by name, one per seed.

    Raises:
        Missing: with `--from-results`, runs that are not among the committed numbers.
    """
    wanted = list(dict.fromkeys(job for of_seeds in arms_of.values() for job in of_seeds))
    if place.store is None:
        found = run_all(wanted, place)
    else:
        keys = {job: key_of(job, place) for job in wanted}
        if place.store.reading:
            lost = {key for key in keys.values() if key not in place.store}
            if lost:
                raise Missing(f"{len(lost)} of {len({*keys.values()})} runs are not in {place.store.folder}")
        else:
            _record(wanted, place)
        found = {job: _recorded(key, place) for job, key in keys.items()}
    return {name: [found[job] for job in of_seeds] for name, of_seeds in arms_of.items()}


def measured(name: str, result: Result, place: Place, make: Callable[[], Any], **arguments: Any) -> Any:
    """A measurement on a run: computed and stored, or read back.

    Args:
        name: name of the measurement; with `arguments` it identifies the value.
        make: computes the value; may return numbers, strings, lists, dictionaries and arrays (read back as lists).
        arguments: what the value depends on besides the run.

    Raises:
        Missing: with `--from-results`, a value that is not among the committed numbers.
    """
    _make_here(result.folder.name, place)
    return _kept(name, result.key, result.folder.name, place, make, arguments)


def measured_of_start(name: str, job: Fit, place: Place, make: Callable[[], Any], **arguments: Any) -> Any:
    """A measurement on the run that `job` starts from; `results` has trained it together with `job`."""
    assert job.start is not None
    if place.store is None:
        return plain(make())
    row = stored_row(job.start, place)
    _make_here(row["run"], place)
    return _kept(name, row["job"], row["run"], place, make, arguments)


def stored_row(job: Fit, place: Place) -> Row:
    """The stored row of a run.

    Raises:
        Missing: no such run.
    """
    assert place.store is not None
    return place.store.row(key_of(job, place))


def measured_of_corpus(name: str, place: Place, make: Callable[[], Any], **arguments: Any) -> Any:
    """A measurement on the corpus, such as margins of its clips or its minimal pairs."""
    return _kept(name, f"corpus {place.name}", place.corpus_id, place, make, arguments)


def _kept(name: str, whose: str, of: str, place: Place, make: Callable[[], Any], arguments: dict[str, Any]) -> Any:
    if place.store is None:
        return plain(make())
    if place.store.reading:
        return place.store.value(whose, name, arguments)
    return place.store.keep(whose, of, name, arguments, make())


def seconds(found: Sequence[Result]) -> float:
    """Total training time of runs, seconds."""
    return sum(result.card["seconds"] for result in found)


# -- how a run is identified ------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=4096)
def key_of(job: Fit, place: Place) -> str:
    """The job name of a run in the results: recipe name, content hash, seed.

    The content is the recipe without default values, the name of the corpus, and what the run starts from. It does not
    include code or file paths, so a new recipe key or a change of code keeps committed numbers valid.
    """
    seed = recipe_of(job, place).train.seed
    content = json.dumps([_content(job, place, seed), place.name], sort_keys=True)
    return f"{Path(job.recipe).stem}-{hashlib.sha1(content.encode()).hexdigest()[:10]}-seed{seed}"


def _content(job: Fit, place: Place, seed: int) -> dict[str, Any]:
    """The content of a run without its seed; a run that it starts from names its seed only if it differs."""
    recipe = recipe_of(job, place)
    told: dict[str, Any] = _told(recipe)
    told.pop("out", None)
    told.pop("logger", None)
    for section, key in (("corpus", "root"), ("train", "device"), ("train", "seed"), ("model", "init_from")):
        told.setdefault(section, {}).pop(key, None)  # depends on the machine, or is added below
    if recipe.train.seed != seed:
        told["seed"] = recipe.train.seed
    for run, key in ((place.encoder, place.encoder_key), (place.i3d, place.i3d_key)):
        if run and told["model"].get("visual_weights") == f"pretrained:{run}":
            told["model"]["visual_weights"] = key
    if job.start is not None:
        told["model"]["init_from"] = _content(job.start, place, seed)
    if isinstance(job.features, Files):
        told["corpus"]["features"] = job.features.pattern
    elif job.features is not None:
        told["corpus"]["features"] = [job.features.tap, _content(job.features.run, place, seed)]
    return told


def _told(section: Any) -> dict[str, Any]:
    """The non-default values of a recipe section, and its `name` if it has one."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(section):
        value: Any = getattr(section, field.name)
        default: Any = field.default
        if dataclasses.is_dataclass(value):
            value, default = _told(value), {}
        elif field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if isinstance(value, dict):  # settings of loss terms by name
            value = {key: _told(own) if dataclasses.is_dataclass(own) else own for key, own in value.items()}
        if value != default or field.name == "name":
            found[field.name] = value
    return found


# -- from a run to its row, and from its row to a result --------------------------------------------------------------


def _record(wanted: Sequence[Fit], place: Place) -> None:
    """Makes missing runs; stores them and those that they start from. After an interruption, stores what is done."""
    assert place.store is not None
    bare = dataclasses.replace(place, spans=None)  # density with the corpus's spans; that of `spans` is stored apart
    todo = [job for job in wanted if not (place.store.only_missing and committed(job, place))]
    for job in every_run(job for job in wanted if job not in todo):
        place.store.elsewhere[folder_of(job, place).name] = job, bare
    if len(todo) < len(wanted):
        print(f"{len(wanted) - len(todo)} of {len(wanted)} runs are in {place.store.folder} already", file=sys.stderr)
    every = every_run(todo)
    try:
        run_all(todo, bare)
    finally:
        done = [job for job in every if all(_is_here(folder_of(part, place)) for part in every_run([job]))]
        for job, result in run_all(done, bare).items():
            place.store.record(*_row(job, result, place))


def every_run(jobs: Iterable[Fit]) -> list[Fit]:
    """Runs and all runs that they start from or whose features they read, dependencies first."""
    found: dict[Fit, None] = {}

    def collect(job: Fit | Extract) -> None:
        for part in before(job):
            collect(part)
        if isinstance(job, Fit):
            found[job] = None

    for job in jobs:
        collect(job)
    return list(found)


def committed(job: Fit, place: Place) -> bool:
    """Whether the numbers of a run and of its dependencies were made elsewhere by the same recipe, corpus and code.

    False if the run is on this machine. While the corpus is not drawn (`--plan`), its content is not compared.
    """
    store = place.store
    if store is None or _is_here(folder_of(job, place)):
        return False
    for part in every_run([job]):
        key = key_of(part, place)
        if key not in store:
            return False
        row = store.row(key)
        same = row["run"] == folder_of(part, place).name
        if not (same if place.corpus_id else row["code"] == code_of(recipe_of(part, place))):
            return False
    return True


def _is_here(folder: Path) -> bool:
    return (folder / "result.json").is_file()


def _make_here(run: str, place: Place) -> None:
    """Makes the runs of a script on this machine, if a measurement needs `run` and only its numbers were committed."""
    if place.store is None or run not in place.store.elsewhere or _is_here(place.out / run):
        return
    jobs = [job for job, where in place.store.elsewhere.values() if where.out == place.out]
    print(f"a measurement needs the runs themselves, not only their numbers: {len(jobs)} runs", file=sys.stderr)
    run_all(jobs, dataclasses.replace(place, spans=None))


def _row(job: Fit, result: Result, place: Place) -> tuple[Row, Answers]:
    """The row of a run in `runs.csv`, and its answers."""
    from signcl.evaluation.scoring import read_predictions

    recipe = recipe_of(job, place)
    scores = json.loads((result.folder / "scores.json").read_text(encoding="utf-8"))
    row: Row = {"job": key_of(job, place), "recipe": job.recipe, "corpus": place.name, "seed": recipe.train.seed}
    row["changes"] = shlex.join(change for change in job.changes if not change.startswith("train.seed="))
    row["start"] = key_of(job.start, place) if job.start else ""
    row["features"] = _named(job.features, place)
    for split, before_name in (("test", ""), ("dev", "dev_")):
        row |= {f"{before_name}{name}": scores.get(split, {}).get(name) for name in SCORES}
    density = result.density or {}
    row |= {"sdr_shuffled": density.get("shuffled"), "intra": density.get("intra"), "signs": density.get("measured")}
    row["sdr_low"], row["sdr_high"] = density.get("interval") or (None, None)
    nearest = density.get("nearest", {})
    row |= {"nearest_ratio": nearest.get("ratio"), "d_prime": nearest.get("d_prime")}
    raw, _ = rows_of(result, place, {}, answers=False)
    row |= {name: raw[name] for name in ("sdr", "inter", "norm", "map", "one_nn", "hubness", "auc", "with_negative")}
    row |= {"clips": result.card["clips"]["train"], "parameters": result.card["parameters"]}
    row |= {"steps": result.card["steps"], "seconds": float(result.card["seconds"]), "run": result.folder.name}
    row["reader"], row["tokenize"] = result.scored_as()
    row |= {"content": place.corpus_id, "code": code_of(recipe)}
    file = result.folder / "predictions.test.tsv"
    told = zip(*read_predictions(file), strict=True) if file.is_file() else ()
    return row, {name: (reference, hypothesis) for name, reference, hypothesis in told}


def _named(features: Extract | Files | None, place: Place) -> str:
    if features is None:
        return ""
    if isinstance(features, Files):
        return features.pattern
    return f"{features.tap} of {key_of(features.run, place) if features.trained else features.run.recipe}"


def _recorded(key: str, place: Place) -> Result:
    """The result of a run, read from its row."""
    assert place.store is not None
    row = place.store.row(key)
    folder = place.out / row["run"]
    found = Result(
        folder,
        {name: row[name] for name in SCORES if row[name] is not None},
        None if row["sdr"] is None else {name: row[name] for name in (*DENSITY, *FOUND)},
        {name: row[name] for name in ("parameters", "steps", "seconds")} | {"clips": {"train": row["clips"]}},
        key,
        row,
        place.store.answers(key),
    )
    if place.spans is None:
        return found
    spans = place.spans

    def of_spans() -> float:
        from paper.jobs import density_of_spans

        sdr: float = density_of_spans(folder, spans.replace("{split}", "test"), place.device)["sdr"]
        return sdr

    return dataclasses.replace(found, density={"sdr": measured("sdr of spans", found, place, of_spans, spans=spans)})
