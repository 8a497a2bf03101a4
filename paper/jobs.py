"""Describes runs and their dependencies as values. `run_all` makes missing runs in the order of their dependencies.

A run is identified by the content of its recipe, of the runs it starts from, of its corpus, and of the training code
(`code_version`). If one of them changes, it is a different run in a different folder. Finished runs are not repeated;
stopped runs resume from their last state.
"""

from __future__ import annotations

import functools
import hashlib
import json
import multiprocessing
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paper.version import EVERY_RUN, code_version

if TYPE_CHECKING:
    from paper.store import Answers, Row, Store

__all__ = [
    "Extract",
    "Files",
    "Fit",
    "Place",
    "Result",
    "arms",
    "before",
    "code_of",
    "density_of_spans",
    "folder_of",
    "missing",
    "recipe_of",
    "run_all",
]


@dataclass(frozen=True)
class Fit:
    """One training run and its scores."""

    recipe: str
    """A shipped recipe such as `synthetic/finetune.yaml`."""
    changes: tuple[str, ...] = ()
    """Recipe overrides, `key.sub=value`."""
    start: Fit | None = None
    """The run whose weights start this one (`model.init_from`)."""
    features: Extract | Files | None = None
    """Features that replace the clips (`corpus.features`)."""

    def seeded(self, seed: int) -> Fit:
        """The same run, and the runs that it depends on, with another seed."""
        return Fit(
            self.recipe,
            (*(c for c in self.changes if not c.startswith("train.seed=")), f"train.seed={seed}"),
            self.start and self.start.seeded(seed),
            self.features and self.features.seeded(seed),
        )


@dataclass(frozen=True)
class Extract:
    """Features of all splits at a tap of a run."""

    run: Fit
    tap: str = "features"
    trained: bool = True
    """False: use the recipe's frame encoder with its `model.visual_weights`, without training."""

    def seeded(self, seed: int) -> Extract:
        """The same features from the run with another seed; an encoder that is not trained has no seed."""
        return Extract(self.run.seeded(seed), self.tap) if self.trained else self


@dataclass(frozen=True)
class Files:
    """Published features, as files in the corpus folder."""

    pattern: str
    """File name, with `{split}`."""

    def seeded(self, seed: int) -> Files:
        """The same files; they do not depend on a seed."""
        return self

    def missing(self, root: Path) -> list[Path]:
        """The files that are missing in the corpus folder."""
        files = [root / self.pattern.replace("{split}", split) for split in SPLITS]
        return [file for file in files if not file.exists()]


@dataclass(frozen=True)
class Place:
    """Where runs are stored and what they are trained on."""

    out: Path
    root: Path
    """The corpus folder."""
    corpus_id: str
    """A hash that changes with the corpus."""
    device: str = "cpu"
    jobs: int = 2
    """Number of parallel runs, one thread each."""
    clips: tuple[str, ...] = ()
    """Recipe overrides for every run that reads clips, such as a preset's size; not for runs on extracted features."""
    encoder: Path | None = None
    """Run whose frame encoder initialises every run that reads clips and starts from no other run, like ImageNet
    weights in the paper. Its folder name contains its content hash. None: as the recipes say."""
    spans: str | None = None
    """A table of the frames of each sign, for density if the corpus has no spans; `{split}` is replaced."""
    i3d: Path | None = None
    """Run on isolated signs of another lexicon whose I3D gives the I3D features. Its folder name contains its content
    hash. None: the weights named in the recipe of the features."""
    corpus: str = ""
    """Name of the corpus in the results; empty: the name of the folder of runs."""
    encoder_key: str = ""
    """Job name of `encoder` as given by `paper.measured.key_of`; `i3d_key` is that of `i3d`."""
    i3d_key: str = ""
    store: Store | None = field(default=None, compare=False)
    """The numbers that scripts write and read (`paper.measured`); None: read the folders of runs."""

    @property
    def name(self) -> str:
        """Name of the corpus in the results."""
        return self.corpus or self.out.name

    @property
    def reading(self) -> bool:
        """Whether all values are read from committed numbers and nothing is trained."""
        return self.store is not None and self.store.reading


@dataclass(frozen=True)
class Result:
    """The scores and measurements of a finished run."""

    folder: Path
    scores: dict[str, Any]
    """The entry of `scores.json` for the test split."""
    density: dict[str, Any] | None
    """Density on the test split, if the corpus has spans."""
    card: dict[str, Any]
    key: str = ""
    """Job name in the results; `row` and `told` are its row and answers there. If set, the folder may be missing."""
    row: Row | None = None
    told: Answers = field(default_factory=dict)

    def answers(self) -> tuple[list[str], list[str]]:
        """Hypotheses and references of the test split, in the order of names."""
        from signcl.evaluation.scoring import read_predictions

        if self.row is not None:
            pairs = [self.told[name] for name in sorted(self.told)]
            return [hypothesis for _, hypothesis in pairs], [reference for reference, _ in pairs]
        names, references, hypotheses = read_predictions(self.folder / "predictions.test.tsv")
        order = sorted(range(len(names)), key=names.__getitem__)
        return [hypotheses[i] for i in order], [references[i] for i in order]

    def scored_as(self) -> tuple[str, str]:
        """The name of the corpus reader, and the BLEU tokenizer."""
        from signcl.training.recipe import load_recipe

        if self.row is not None:
            return self.row["reader"], self.row["tokenize"]
        recipe = load_recipe(self.folder / "recipe.yaml")
        return recipe.corpus.name, recipe.bleu_tokenize

    def on_dev(self, metric: str) -> float:
        """A score on dev."""
        if self.row is not None:
            found: float = self.row[f"dev_{metric}"]
            return found
        return float(json.loads((self.folder / "scores.json").read_text(encoding="utf-8"))["dev"][metric])


def recipe_of(job: Fit, place: Place) -> Any:
    """The complete recipe of a run, except its output folder."""
    from signcl.training.recipe import recipe_path

    changes, path = _values_of(job, place), recipe_path(job.recipe)
    recipe = _loaded(path, path.stat().st_mtime_ns, *changes)
    if recipe.train.devices == 1:
        return recipe
    # one device per run: accumulation gives the batch size of several, since scripts start runs without a launcher
    alone = [f"train.accumulate={recipe.train.accumulate * recipe.train.devices}", "train.devices=1"]
    return _loaded(path, path.stat().st_mtime_ns, *changes, *alone, "train.nodes=1", "train.strategy=auto")


@functools.lru_cache(maxsize=4096)
def _loaded(path: Path, written: int, *changes: str) -> Any:
    """A recipe with overrides, cached per state of its file: a plan needs the same recipes hundreds of times."""
    from signcl.training.recipe import load_recipe

    return load_recipe(path, changes)


def _values_of(job: Fit, place: Place) -> list[str]:
    """The recipe overrides of a run: its place, what it starts from, and its own changes."""
    preset = place.clips if job.features is None else ()
    encoder = [f"model.visual_weights=pretrained:{place.encoder}"] if place.encoder and _from_pixels(job) else []
    own = _applicable(job.recipe, job.changes)
    changes = [f"corpus.root={place.root}", f"train.device={place.device}", *preset, *encoder, *own]
    if job.start is not None:
        changes.append(f"model.init_from={_lies(job.start, place)}")
    if job.features is not None:
        files = isinstance(job.features, Files)
        where = place.root / job.features.pattern if files else _lies(job.features, place) / "{split}"
        changes.append(f"corpus.features={where}")
    return changes


def _lies(job: Fit | Extract, place: Place) -> Path:
    """The folder of a run that another needs; a placeholder when only committed numbers are read."""
    return place.out / "nowhere" if place.reading else folder_of(job, place)


@functools.lru_cache
def _model_keys(recipe: str) -> tuple[frozenset[str], frozenset[str]]:
    """The `model` keys of a recipe's system, and the `model` keys of all systems."""
    from signcl.systems import system_class, system_names
    from signcl.training.recipe import load_recipe, recipe_path

    every = (system_class(name).Config.__dataclass_fields__ for name in system_names())
    return frozenset(type(load_recipe(recipe_path(recipe)).model).__dataclass_fields__), frozenset().union(*every)


def _applicable(recipe: str, changes: Sequence[str]) -> list[str]:
    """Drops overrides of `model` keys that this run's system does not have but another system has."""
    own, every = _model_keys(recipe)
    keys = [re.match(r"(?:--)?model\.(\w+)", change) for change in changes]
    return [change for change, key in zip(changes, keys) if not key or key[1] in own or key[1] not in every]


def _from_pixels(job: Fit) -> bool:
    """Whether a run reads clips and starts from no other run."""
    return job.features is None and job.start is None


def folder_of(job: Fit | Extract, place: Place) -> Path:
    """Folder of a run or its features: a readable name and a content hash."""
    if isinstance(job, Extract):
        return folder_of(job.run, place) / f"features-{job.tap}"
    from signcl.training.recipe import recipe_to_dict

    whole = recipe_of(job, place)
    recipe = recipe_to_dict(whole)
    seed = recipe["train"]["seed"]
    recipe.pop("out")
    recipe.pop("logger")  # loggers do not change results
    recipe["model"]["init_from"] = job.start and folder_of(job.start, place).name
    recipe["corpus"]["features"] = job.features and _name_of(job.features, place)
    for run in (place.encoder, place.i3d):
        if run and recipe["model"]["visual_weights"] == f"pretrained:{run}":
            recipe["model"]["visual_weights"] = run.name
    recipe["corpus"].pop("root")
    recipe["train"].pop("device")
    content = json.dumps([recipe, place.corpus_id, code_of(whole)], sort_keys=True)
    stem = Path(job.recipe).stem
    return place.out / f"{stem}-{hashlib.sha1(content.encode()).hexdigest()[:10]}-seed{seed}"


def code_of(recipe: Any) -> str:
    """Hash of the code that a run uses; another hash means another run."""
    from signcl.data.corpora import CORPORA

    corpus = CORPORA[recipe.corpus.name]
    reader = getattr(corpus, "__module__", None) or corpus.__name__
    return code_version(recipe.system.__module__, reader, terms=tuple(sorted(map(_written_as, recipe.terms.values()))))


def _written_as(term: Any) -> str:
    """Location of a loss term, `module:name`, with its name in that module."""
    module = term.function.__module__
    names = vars(sys.modules[module])
    return f"{module}:{next((n for n, own in names.items() if own is term), term.function.__name__)}"


def _name_of(features: Extract | Files, place: Place) -> str:
    """An identifier of features that does not depend on their folder."""
    if isinstance(features, Files):
        return features.pattern
    return folder_of(features, place).parent.name + features.tap


def before(job: Fit | Extract) -> list[Fit | Extract]:
    """Direct dependencies of a job: the run that it starts from and the features that it reads."""
    if isinstance(job, Extract):
        return [job.run] if job.trained else []
    return [part for part in (job.start, job.features) if part is not None and not isinstance(part, Files)]


def run_all(jobs: Iterable[Fit], place: Place, *, until: float | None = None) -> dict[Fit, Result]:
    """Trains, scores and measures all jobs and their dependencies; returns the results by job.

    Args:
        until: start no run after this value of `time.monotonic()`; unfinished jobs then have no result.

    Raises:
        RuntimeError: a run failed; runs that do not depend on it are finished first.
    """
    wanted = list(dict.fromkeys(jobs))
    everything = _everything(wanted, place)
    todo = {folder: job for folder, job in everything.items() if not _done(job, folder)}
    if todo:
        print(f"{len(everything) - len(todo)} of {len(everything)} runs are done; {len(todo)} to make", file=sys.stderr)
        with _alone(place.out):
            _make(todo, place, until)
    done = wanted if until is None else [job for job in wanted if _done(job, folder_of(job, place))]
    return {job: _result(folder_of(job, place), place) for job in done}


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Locks a folder of runs for one command; the lock ends with the process."""
    import fcntl

    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RuntimeError(
                f"another command is making runs in {out}; wait for it, or name another folder with --out"
            ) from None
        yield


def missing(jobs: Iterable[Fit], place: Place) -> dict[Path, Fit | Extract]:
    """The jobs that `run_all` would make, dependencies first."""
    return {folder: job for folder, job in _everything(jobs, place).items() if not _done(job, folder)}


def _everything(jobs: Iterable[Fit], place: Place) -> dict[Path, Fit | Extract]:
    """Jobs and their dependencies, dependencies first; jobs with the same run are merged."""
    found: dict[Path, Fit | Extract] = {}

    def collect(job: Fit | Extract) -> None:
        for part in before(job):
            collect(part)
        found.setdefault(folder_of(job, place), job)

    for job in dict.fromkeys(jobs):
        collect(job)
    return found


def _done(job: Fit | Extract, folder: Path) -> bool:
    if isinstance(job, Extract):
        return all((folder / split / "index.json").is_file() for split in SPLITS)
    return (folder / "result.json").is_file()


SPLITS = ("train", "dev", "test")


def _make(todo: dict[Path, Fit | Extract], place: Place, until: float | None = None) -> None:
    """Makes jobs in worker processes, each as soon as its dependencies are finished."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    needs = {folder: {folder_of(part, place) for part in before(job)} for folder, job in todo.items()}
    waiting = list(todo)
    running: dict[Future[None], Path] = {}
    failed: dict[Path, str] = {}
    started, total = time.perf_counter(), len(todo)
    with _InThisProcess() if place.jobs == 1 else _processes(place.jobs) as pool:
        while waiting or running:
            blocked = {*waiting, *running.values(), *failed}
            for folder in [folder for folder in waiting if not needs[folder] & blocked]:
                if len(running) >= place.jobs or (until is not None and time.monotonic() > until):
                    break
                waiting.remove(folder)
                running[pool.submit(_work, todo[folder], folder, place)] = folder
            if not running:  # the rest depends on a failed run, or the time is over
                break
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                folder = running.pop(future)
                _note(future, folder, failed)
                left = len(waiting) + len(running)
                spent = time.perf_counter() - started
                print(
                    f"[{total - left}/{total}] {folder.name}  {spent / 60:.1f} min, about "
                    f"{spent / max(1, total - left) * left / 60:.0f} to go",
                    file=sys.stderr,
                    flush=True,
                )
    if failed:
        folder, reason = next(iter(failed.items()))
        raise RuntimeError(f"{len(failed)} runs failed, the first {folder}: {reason}")


PRELOADED = (
    *("paper.jobs", *EVERY_RUN, "signcl.systems.gfslt", "signcl.systems.slt", "signcl.systems.vlp"),
    *("lightning_fabric", "sacrebleu", "scipy.stats", "torch.utils.tensorboard"),
    "transformers.models.mbart.modeling_mbart",
)
"""Modules that the fork server imports before it starts processes."""


class _InThisProcess(Executor):
    """Runs jobs one by one in this process, which imports everything only once."""

    def submit(self, fn: Callable[..., None], /, *args: Any, **kwargs: Any) -> Future[None]:  # type: ignore[override]
        """Runs the function immediately."""
        future: Future[None] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def _processes(count: int) -> ProcessPoolExecutor:
    """A pool of independent processes.

    If available, a fork server with preloaded imports starts them, so runs start quickly. The server never uses a
    device, so its children may use any.
    """
    if "forkserver" in multiprocessing.get_all_start_methods():
        multiprocessing.set_forkserver_preload(list(PRELOADED))
        context: Any = multiprocessing.get_context("forkserver")
    else:
        context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(count, mp_context=context, initializer=_end_with_parent)


def _end_with_parent() -> None:
    """Ends this worker if its parent is killed: the next call repeats the run, and a folder must have one writer."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _note(future: Future[None], folder: Path, failed: dict[Path, str]) -> None:
    try:
        future.result()
        (folder / "error.txt").unlink(missing_ok=True)
    except Exception as error:
        failed[folder] = f"{type(error).__name__}: {error}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "error.txt").write_text("".join(traceback.format_exception(error)))


def _work(job: Fit | Extract, folder: Path, place: Place) -> None:
    """Makes one job in this process; output goes to its log only."""
    if folder_of(job, place) != folder:  # this process has read code and recipes later than its parent
        raise RuntimeError(
            "the code or a recipe has changed since this command began; start it again, finished runs are kept"
        )
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        _logged(job, folder, place)
    finally:
        torch.set_num_threads(threads)


def _logged(job: Fit | Extract, folder: Path, place: Place) -> None:
    import contextlib

    with (folder / "log.txt").open("a") as log, contextlib.redirect_stderr(log), contextlib.redirect_stdout(log):
        if isinstance(job, Extract):
            _extract(job, folder, place)
        else:
            _fit(job, folder, place)


def _extract(job: Extract, folder: Path, place: Place) -> None:
    from signcl.inference.extraction import extract
    from signcl.training.recipe import recipe_path

    source, values = folder_of(job.run, place), []
    if not job.trained:  # extract from the recipe's frame encoder, without a run
        source, values = recipe_path(job.run.recipe), _values_of(job.run, place)
    for split in SPLITS:
        if not (folder / split / "index.json").is_file():
            extract(source, folder / split, split, tap=job.tap, overrides=values, device=place.device, progress=False)


def _fit(job: Fit, folder: Path, place: Place) -> None:
    import dataclasses

    from signcl.data.files import write_json
    from signcl.evaluation.scoring import evaluate
    from signcl.inference.run_density import run_density
    from signcl.training import fit
    from signcl.training.runs import load_run

    recipe = dataclasses.replace(recipe_of(job, place), out=str(folder))
    fit(recipe, progress=False)
    run = load_run(folder)
    for split in ("dev", "test"):
        scores = evaluate(run, split, bootstrap=0, progress=False)
    try:
        density = run_density(run, "test", picture=False, progress=False)
    except ValueError as error:
        if "no spans" not in str(error):
            raise
        density = None
    write_json(folder / "result.json", {"scores": scores, "density": density, "card": run.card})


def _result(folder: Path, place: Place) -> Result:
    found = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    density = found["density"]
    if place.spans is not None:  # replaces the spans of the corpus
        density = density_of_spans(folder, place.spans.replace("{split}", "test"), place.device)
    return Result(folder, found["scores"], density, found["card"])


def density_of_spans(folder: Path, spans: str, device: str) -> dict[str, Any]:
    """Density on test with the spans of a table, cached per content of the table."""
    from signcl.data.files import write_json
    from signcl.inference.run_density import run_density

    kept = folder / f"density-{hashlib.sha1(Path(spans).read_bytes()).hexdigest()[:10]}.json"
    if not kept.is_file():
        write_json(kept, run_density(folder, "test", spans=spans, device=device, picture=False, progress=False))
    found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
    return found


def arms(jobs: dict[str, Fit], seeds: int, first: int = 0) -> dict[str, list[Fit]]:
    """Each arm once per seed, with seeds from `first` on."""
    return {name: [job.seeded(seed) for seed in range(first, first + seeds)] for name, job in jobs.items()}
