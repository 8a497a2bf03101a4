"""Applies probes to run folders: selects the answers and saves the results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from signcl.data.batch import Batch, Sample
from signcl.data.progress import say
from signcl.evaluation.comparison import paired_predictions
from signcl.evaluation.probes.altered_video import ALTERED, alter, another_clip, measure_look
from signcl.evaluation.probes.changes import By, changed_sentences
from signcl.evaluation.probes.conventions import convention_table
from signcl.evaluation.probes.overlap import overlap_table
from signcl.evaluation.probes.probe_scores import against_intact, scored
from signcl.evaluation.scoring import evaluate, keep_scores, read_predictions
from signcl.inference.answers import answers, search_of
from signcl.metrics.written_forms import Tokenize, tokenize_as
from signcl.training import runs
from signcl.training.recipe import recipe_samples
from signcl.training.result_files import read_scores
from signcl.training.runs import Run, read_recipe

__all__ = ["PROBES", "changes", "probe"]

LOOKED_AT = 200  # clips from which the split's frame statistics are computed


@dataclass(frozen=True)
class _Answers:
    """A run's answers and the settings behind them."""

    run: Run
    split: str
    root: str | None
    names: list[str]
    references: list[str]
    hypotheses: list[str]
    made: dict[str, Any]
    bootstrap: int
    seed: int
    near: float
    device: str
    batch_size: int | None
    progress: bool

    @property
    def tokenize(self) -> Tokenize:
        """Tokenization of the run's own BLEU."""
        return tokenize_as(self.run.recipe.bleu_tokenize, self.references)


def probe(
    folder: str | Path,
    names: Sequence[str],
    split: str = "test",
    *,
    root: str | None = None,
    device: str = "auto",
    beams: int | None = None,
    length_penalty: float | None = None,
    batch_size: int | None = None,
    bootstrap: int = 1000,
    near: float = 0.75,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Probe a translation run's answers on a split; saves the results as `probes` in the split's entry in
    `scores.json`.

    The run is evaluated first if it has no answers of its current weights, or if beams or a length penalty are given.
    Altered videos are translated with the same beams and length penalty.

    Args:
        folder: a finetuned run.
        names: some of `PROBES`.
        root: the corpus folder, if not the recipe's.
        bootstrap: resamples for the intervals; 0: no intervals.
        near: minimum similarity of a near-duplicate (`overlap`).
        seed: seed of the altered videos and the resampling.

    Returns:
        The result of each probe, by name.

    Raises:
        ValueError: an unknown probe; a run that does not translate.
    """
    unknown = [name for name in names if name not in PROBES]
    if unknown or not names:
        raise ValueError(f"the probes are {', '.join(PROBES)}; got {', '.join(unknown) or 'none'}")
    run = runs.load_run(folder)
    if run.model.answers != "sentences":
        raise ValueError(f"{run.folder} is a {run.recipe.stage} run; only the scores of a finetune run are probed")
    if beams is not None or length_penalty is not None or not _is_fresh(run.folder, split):
        evaluate(
            folder,
            split,
            root=root,
            device=device,
            beams=beams,
            length_penalty=length_penalty,
            batch_size=batch_size,
            bootstrap=bootstrap,
            progress=progress,
        )
    else:
        say(f"probing the answers in {run.folder / f'predictions.{split}.tsv'}")
    entry = read_scores(run.folder)[split]
    told = read_predictions(run.folder / f"predictions.{split}.tsv")
    asked = _Answers(
        run, split, root, *told, entry["made"], bootstrap, seed, near, device, batch_size, progress
    )  # fmt: skip
    found = {name: PROBES[name](asked) for name in names}
    keep_scores(run.folder, split, entry | {"probes": entry.get("probes", {}) | found})
    return found


def _is_fresh(folder: Path, split: str) -> bool:
    """Whether answers of a split exist, are scored, and come from the current weights."""
    answered, scores = folder / f"predictions.{split}.tsv", folder / "scores.json"
    if not answered.is_file() or not scores.is_file():
        return False
    try:
        known = split in read_scores(folder)
    except ValueError:
        return False
    weights = folder / "model.safetensors"
    return known and (not weights.is_file() or answered.stat().st_mtime >= weights.stat().st_mtime)


def _overlap(asked: _Answers) -> dict[str, Any]:
    train = [sample.text for sample in recipe_samples(asked.run.recipe, "train", asked.root)]
    return overlap_table(
        asked.names,
        asked.hypotheses,
        asked.references,
        train,
        near=asked.near,
        tokenize=asked.tokenize,
        samples=asked.bootstrap,
        seed=asked.seed,
    )


def _dot(asked: _Answers) -> dict[str, Any]:
    return {"rows": convention_table(asked.hypotheses, asked.references, tokenize=asked.tokenize)}


def _visual(asked: _Answers) -> dict[str, Any]:
    run = asked.run
    by_name = {s.name: s for s in recipe_samples(run.recipe, asked.split, asked.root)}
    samples = [by_name[name] for name in asked.names]
    decode = search_of(run, asked.made["beams"], asked.made.get("length_penalty"))
    seen: list[torch.Tensor] = []

    def remember(batch: Batch) -> dict[str, str]:
        seen.append(batch.inputs.cpu())
        return {}

    every = max(1, len(samples) // LOOKED_AT)
    _pass(asked, samples[::every], remember, "looking at frames")
    look = measure_look(seen)
    seen.clear()

    def answer(batch: Batch) -> dict[str, dict[str, str]]:
        told = {kind: run.model.answer(alter(batch, kind, look, seed=asked.seed), decode) for kind in ALTERED}
        return {name: {kind: said[i] for kind, said in told.items()} for i, name in enumerate(batch.names)}

    altered = _pass(asked, samples, answer, "translating altered videos")
    gone = [name for name in asked.names if name not in altered]
    if gone:
        raise ValueError(f"{len(gone)} clips that were answered cannot be read now, first {gone[0]}; evaluate again")
    others = another_clip(asked.references, seed=asked.seed)
    answered = {kind: [altered[name][kind] for name in asked.names] for kind in ALTERED}
    answered["another"] = [asked.hypotheses[other] for other in others]
    options: dict[str, Any] = {"tokenize": asked.tokenize, "samples": asked.bootstrap, "seed": asked.seed}
    rows = [{"video": "intact", **scored(asked.hypotheses, asked.references, **options)}]
    rows += [
        {"video": kind, **against_intact(said, asked.hypotheses, asked.references, **options)}
        for kind, said in answered.items()
    ]
    return {
        "rows": rows,
        "videos": {**ALTERED, "another": "the video of another clip with a different sentence"},
        "seed": asked.seed,
        "beams": decode.beams,
        "length_penalty": decode.length_penalty,
    }


def _pass(asked: _Answers, samples: list[Sample], answer: Callable[[Batch], dict[str, Any]], what: str) -> Any:
    """The results of `answer` for every batch, by name."""
    options: dict[str, Any] = {
        "device": asked.device,
        "batch_size": asked.batch_size,
        "progress": asked.progress,
    }
    return answers(asked.run, samples, answer, what, **options)[0]


PROBES: dict[str, Callable[[_Answers], dict[str, Any]]] = {"overlap": _overlap, "visual": _visual, "dot": _dot}
"""Name -> function that probes the answers of a run."""


def changes(
    run_a: str | Path,
    run_b: str | Path,
    split: str = "test",
    *,
    by: By = "rouge_l",
    examples: int = 5,
    reference: str | Path | None = None,
) -> dict[str, Any]:
    """`changed_sentences` of two runs on the same split: the sentences on which B gained and lost most.

    Raises:
        ValueError, OSError: no answers, or none in common.
    """
    names, references, a, b = paired_predictions(run_a, run_b, split, reference)
    recipe = next((read_recipe(run) for run in (run_a, run_b) if Path(run).is_dir()), None)
    tokenize: Tokenize = "auto" if recipe is None else recipe.bleu_tokenize
    return changed_sentences(names, references, a, b, by=by, tokenize=tokenize, examples=examples)
