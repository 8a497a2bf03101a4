"""Tiny runs and corpora for the tests of paper/, and made-up results of runs."""

import argparse
import random
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from systems import write_corpus

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from paper import settings  # noqa: E402
from paper.jobs import Fit, Place, recipe_of  # noqa: E402
from paper.measured import key_of  # noqa: E402
from paper.store import Store  # noqa: E402

SIZES = ("model.width=16", "model.heads=2", "model.ffn=16", "model.encoder_layers=1", "train.warmup_steps=0")
TINY = (*SIZES, "corpus.name=folder", "train.max_steps=2", "train.epochs=1", "decode.max_new_tokens=6")
WORDS = ["am", "montag", "regen", "und", "wind", "aus", "norden", "heute", "nacht", "sonne"]


def options_of(tmp_path: Path, corpus: str, *words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    settings.add_arguments(parser)
    shared = [
        "--corpus",
        corpus,
        "--jobs",
        "1",
        "--out",
        str(tmp_path / "runs"),
        "--results",
        str(tmp_path / "results"),
    ]
    return parser.parse_args([*shared, *words])


def place_of_features(root: Path) -> Place:
    """A place with a corpus of features and spans."""
    return Place(root / "runs", write_corpus(root / "corpus", pixels=False), "one", jobs=1)


def writing(options: argparse.Namespace, **knobs: Any) -> Place:
    """A place whose measurements are stored; makes no corpus or run."""
    return replace(reading(options, **knobs), corpus_id="made up", store=Store(options.results / options.corpus))


def reading(options: argparse.Namespace, **knobs: Any) -> Place:
    """The place of a script called with --from-results: without corpus and runs."""
    options.store = Store(options.results / options.corpus, reading=True)
    return settings.place_of(options, **knobs)


def made_up(
    options: argparse.Namespace,
    jobs: Iterable[Fit],
    *,
    first: int = 0,
    measured: tuple[str, Mapping[str, Any], Any] | None = None,
    knobs: Mapping[str, Any] | None = None,
    **columns: Any,
) -> Place:
    """Stores made-up results of these runs for every seed; returns the place that reads them.

    Args:
        options: parsed arguments of the script.
        jobs: the runs.
        first: the first seed.
        measured: name, arguments and value of a measurement that every run has.
        knobs: settings of the synthetic corpus.
        columns: columns with the same value in every row.
    """
    place = writing(options, **knobs or {})
    store = place.store
    assert store is not None
    draw = random.Random(0)
    references = {f"test-{i}": " ".join(draw.sample(WORDS, 5)) for i in range(12)}
    every = dict.fromkeys(job.seeded(seed) for job in jobs for seed in range(first, first + options.seeds))
    for job in dict.fromkeys([*every, *(job.start for job in every if job.start)]):
        own = random.Random(key_of(job, place))
        row = {name: round(own.uniform(5, 60), 3) for name in settings_columns()}
        row |= {"job": key_of(job, place), "run": f"run of {key_of(job, place)}", "recipe": job.recipe}
        row |= {"seed": recipe_of(job, place).train.seed, "clips": 8, "parameters": 1000, "steps": 2, "signs": 11}
        row |= {"changes": "", "start": "", "features": "", "corpus": place.name, "reader": "folder"}
        row |= {"tokenize": "none", "content": "made up", "code": "c0de", **columns}
        told = {
            name: (text, " ".join(word if own.random() < 0.7 else "x" for word in text.split()))
            for name, text in references.items()
        }
        store.record(row, told)
        if measured is not None:
            store.keep(row["job"], row["run"], *measured)
    store.keep(f"corpus {place.name}", "made up", "content", {}, "made up")
    store.write()
    return reading(options, **knobs or {})


def settings_columns() -> list[str]:
    """The columns with floating-point numbers."""
    from paper.store import COLUMNS, WHOLE
    from paper.store import WORDS as TEXTS

    return [name for name in COLUMNS if name not in WHOLE and name not in TEXTS]
