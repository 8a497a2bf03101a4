"""`evaluate`: translate or recognise a split with a trained run and score it against the raw references.

Scores are corpus-level, computed once on all sentences. `scores.json` keeps, for each split, the numbers with the
conventions that move them: metric signatures, tokenization, final dots, number of sentences, beam, seed, commit.
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from signcl.data.batch import Batch, Sample
from signcl.data.files import atomic_write, write_json
from signcl.data.loading import ClipDataset, check_size, clip_loader, count_frames, plan_batches, recipe_samples
from signcl.data.progress import say, track
from signcl.metrics import score_all, score_classes, score_glosses
from signcl.training import run_folder
from signcl.training.run_folder import Run
from signcl.training.stages import decode, decode_glosses, rank_glosses, score, search_width, summarise

__all__ = ["answers", "evaluate", "keep_scores", "predict", "read_predictions", "recognise"]


def predict(
    run: Run,
    samples: list[Sample],
    *,
    device: str = "auto",
    batch_size: int | None = None,
    beams: int | None = None,
    length_penalty: float | None = None,
    progress: bool = True,
) -> tuple[dict[str, str], dict[str, str]]:
    """Translate samples with a finetuned run.

    Returns:
        Sentences by name, in the order of `samples`; and the clips that could not be read, with the reason.
    """
    if run.recipe.stage != "finetune":
        raise ValueError(f"{run.folder} is a {run.recipe.stage} run; only a finetune run translates")
    beams = search_width(beams, run.recipe.decode.beams)
    if length_penalty is not None:
        run.recipe.decode.length_penalty = length_penalty

    def answer(batch: Batch) -> dict[str, str]:
        return decode(run.model, batch, run.tokenizer, run.recipe, beams=beams)

    return answers(run, samples, answer, "translating", device=device, batch_size=batch_size, progress=progress)


def recognise(
    run: Run,
    samples: list[Sample],
    *,
    device: str = "auto",
    batch_size: int | None = None,
    beams: int | None = None,
    progress: bool = True,
) -> tuple[dict[str, str], dict[str, str]]:
    """Recognise the glosses of samples with a run that weighs `recognition`.

    Args:
        beams: prefixes of the CTC search; None takes the recipe's `decode.gloss_beams`.

    Returns:
        Glosses by name, in the order of `samples`; and the clips that could not be read, with the reason.
    """
    if run.glosses is None or "recognition" not in run.recipe.loss.weights:
        raise ValueError(f"{run.folder} recognises no gloss sequences; train with loss.weights.recognition")
    glosses, width = run.glosses, search_width(beams, run.recipe.decode.gloss_beams)

    def answer(batch: Batch) -> dict[str, str]:
        return decode_glosses(run.model, batch, glosses, beams=width)

    return answers(run, samples, answer, "recognising", device=device, batch_size=batch_size, progress=progress)


def answers(
    run: Run,
    samples: list[Sample],
    answer: Callable[[Batch], dict[str, Any]],
    what: str,
    *,
    device: str,
    batch_size: int | None,
    progress: bool,
) -> tuple[dict[str, Any], dict[str, str]]:
    """What `answer` makes of every batch, by name in the order of `samples`; and the clips that could not be read."""
    place = pick_device(device)
    run.model.to(place).eval()
    data, plan = _planned(run, samples, batch_size)
    data.targets = None  # for losses alone, and the encoder that makes them may not be here
    found: dict[str, Any] = {}
    broken: dict[str, str] = {}
    with track(what, total=len(plan), show=progress) as bar:
        for loaded in clip_loader(data, plan):
            broken.update(loaded.checked().broken)
            if loaded.batch is not None:
                found.update(answer(loaded.batch.to(place)))
            bar.advance()
    return {s.name: found[s.name] for s in samples if s.name in found}, broken


def _planned(run: Run, samples: list[Sample], batch_size: int | None) -> tuple[ClipDataset, list[list[int]]]:
    """The clips as the run reads them, and their batches within the limits of its training."""
    check_size(samples, run.recipe.input, run.card.get("feature_dim"))
    plan = plan_batches(
        count_frames(samples, run.recipe.input),
        batch_size=run.recipe.train.batch_size if batch_size is None else batch_size,
        batch_frames=run.recipe.train.batch_frames,
        shuffle=False,
    )
    made: dict[str, Any] = {"dim": run.card.get("feature_dim"), "targets": run.targets}
    return ClipDataset(samples, run.tokenizer, run.recipe, training=False, **made), plan


def pick_device(device: str) -> torch.device:
    """`auto` is the GPU where there is one."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device={device}: cannot be used here ({str(error).splitlines()[0]}); try cpu") from None


def evaluate(
    folder: str | Path,
    split: str = "test",
    *,
    root: str | None = None,
    device: str = "auto",
    beams: int | None = None,
    length_penalty: float | None = None,
    batch_size: int | None = None,
    bootstrap: int = 1000,
    progress: bool = True,
) -> dict[str, Any]:
    """Score a run on a split; writes `predictions.<split>.tsv` and the split's entry of `scores.json`.

    Args:
        root: the corpus folder where it is not the one of the recipe.
        bootstrap: resamples for the 95 % intervals; 0 leaves them out.

    Returns:
        The split's entry of `scores.json`: all metrics with signatures, `unseen` (the same on sentences that do not
        occur in training), and how they were made. A pretraining run is scored by its losses and retrieval, a
        recogniser by its WER, a classifier by its accuracy; a Joint-SLT run has both, its WER under `recognition`, its
        glosses in `glosses.<split>.tsv`.
    """
    run = run_folder.load_run(folder)
    samples = recipe_samples(run.recipe, split, root)
    started = time.perf_counter()
    broken: dict[str, str] = {}
    if run.recipe.stage == "pretrain":
        scores = _score_pretraining(run, samples, device, batch_size, broken)
        samples = [s for s in samples if s.name not in broken]
    elif "classification" in run.recipe.loss.weights:
        file = run.folder / f"predictions.{split}.tsv"
        scores, broken = _score_classification(run, samples, file, bootstrap, device, batch_size, progress)
        samples = [s for s in samples if s.name not in broken]
    elif run.recipe.stage == "recognise":
        file = run.folder / f"predictions.{split}.tsv"
        scores, broken = _score_recognition(run, samples, file, bootstrap, device, batch_size, beams, progress)
        samples = [s for s in samples if s.name not in broken]
    else:
        found, broken = predict(
            run,
            samples,
            device=device,
            beams=beams,
            length_penalty=length_penalty,
            batch_size=batch_size,
            progress=progress,
        )
        samples = [s for s in samples if s.name in found]
        if not samples:
            first = next(iter(broken.items()), ("", "no clips"))
            raise ValueError(f"no clip of split {split} could be read; the first: {first[0]}: {first[1]}")
        _write_predictions(run.folder / f"predictions.{split}.tsv", samples, found)
        scores = _score_sentences(run, samples, found, bootstrap, root)
        if run.glosses is not None:
            file = run.folder / f"glosses.{split}.tsv"
            scores["recognition"], _ = _score_recognition(
                run, samples, file, bootstrap, device, batch_size, None, progress
            )
    for name, reason in list(broken.items())[:5]:
        say(f"skipped {name}: {reason}")
    if run.recipe.corpus.transductive and split == "test":
        say("this run was trained on the test split (corpus.transductive): these are no test scores")
    scores["made"] = {
        "split": split,
        "trained_on_this_split": split == "train" or (split == "test" and run.recipe.corpus.transductive),
        "clips": len(samples),
        "skipped": broken,
        "seconds": round(time.perf_counter() - started, 2),
        "beams": search_width(beams, _beams(run)),
        "length_penalty": run.recipe.decode.length_penalty,
        "seed": run.recipe.train.seed,
        "trained_with_commit": run.card.get("commit", ""),
        "scored_with_commit": run_folder.git_commit(),
        "device": str(pick_device(device)),
    }
    keep_scores(run.folder, split, scores)
    return scores


def keep_scores(folder: Path, split: str, scores: dict[str, Any]) -> None:
    """Put a split's entry into `scores.json`."""
    path = folder / "scores.json"
    try:
        everything = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except json.JSONDecodeError:
        say(f"{path} was damaged; it is written anew with split {split} alone")
        everything = {}
    everything[split] = scores
    write_json(path, everything)


def _score_sentences(
    run: Run, samples: list[Sample], found: dict[str, str], resamples: int, root: str | None
) -> dict[str, Any]:
    tokenize = run.recipe.bleu_tokenize
    hypotheses, references = [found[s.name] for s in samples], [s.text for s in samples]
    scores: dict[str, Any] = score_all(hypotheses, references, tokenize=tokenize, samples=resamples)
    train = recipe_samples(run.recipe, "train", root)
    seen = {" ".join(s.text.split()) for s in train}
    unseen = [i for i, reference in enumerate(references) if " ".join(reference.split()) not in seen]
    scores["seen_in_training"] = {
        "sentences": len(references) - len(unseen),
        "percent": 100 * (1 - len(unseen) / len(references)),
    }
    if 0 < len(unseen) < len(references):
        scores["unseen"] = score_all(
            [hypotheses[i] for i in unseen], [references[i] for i in unseen], tokenize=tokenize, samples=resamples
        )
    scores["vocabulary_round_trip"] = {
        "changed_references": sum(
            _squeeze(run.tokenizer.decode(run.tokenizer.encode(r))) != _squeeze(r) for r in references
        ),
        "note": "references that the tokenizer cannot write; scores use the raw references all the same",
    }
    return scores


def _beams(run: Run) -> int:
    decode = run.recipe.decode
    if "classification" in run.recipe.loss.weights:
        return 1
    return decode.gloss_beams if run.recipe.stage == "recognise" else decode.beams


def _score_recognition(
    run: Run,
    samples: list[Sample],
    file: Path,
    resamples: int,
    device: str,
    batch_size: int | None,
    beams: int | None,
    progress: bool,
) -> tuple[dict[str, Any], dict[str, str]]:
    """WER against the annotation, glosses written to `file`; and the clips that could not be read."""
    bare = [s.name for s in samples if not s.gloss]
    if bare:
        raise ValueError(
            f"WER needs the glosses of every clip; {len(bare)} of {len(samples)} have none, first {bare[0]}"
        )
    found, broken = recognise(run, samples, device=device, batch_size=batch_size, beams=beams, progress=progress)
    kept = [s for s in samples if s.name in found]
    if not kept:
        first = next(iter(broken.items()), ("", "no clips"))
        raise ValueError(f"no clip could be read; the first: {first[0]}: {first[1]}")
    true = {s.name: " ".join(s.gloss) for s in kept}
    _write_table(file, [(name, true[name], found[name]) for name in found])
    phoenix = run.recipe.corpus.name == "phoenix14t"
    scores = score_glosses(list(found.values()), list(true.values()), phoenix=phoenix, samples=resamples)
    assert run.glosses is not None
    unknown = [c for s in kept for c in run.glosses.encode(s.gloss)].count(1)
    scores["unknown_glosses"] = {"count": unknown, "note": "glosses that training never saw; each counts as an error"}
    scores["gloss_beams"] = search_width(beams, run.recipe.decode.gloss_beams)
    return scores, broken


def _score_classification(
    run: Run, samples: list[Sample], file: Path, resamples: int, device: str, batch_size: int | None, progress: bool
) -> tuple[dict[str, Any], dict[str, str]]:
    """Accuracy against the annotation, the likeliest gloss written to `file`; and the clips that could not be read."""
    assert run.glosses is not None
    strange = [s.name for s in samples if len(s.gloss) != 1]
    if strange:
        raise ValueError(
            f"accuracy needs one gloss a clip; {len(strange)} of {len(samples)} have none or several, first "
            f"{strange[0]}"
        )
    glosses = run.glosses

    @torch.no_grad()
    def answer(batch: Batch) -> dict[str, Any]:
        return rank_glosses(run.model(batch).logits, batch, glosses)

    found, broken = answers(
        run, samples, answer, "classifying", device=device, batch_size=batch_size, progress=progress
    )
    kept = [s for s in samples if s.name in found]
    if not kept:
        first = next(iter(broken.items()), ("", "no clips"))
        raise ValueError(f"no clip could be read; the first: {first[0]}: {first[1]}")
    _write_table(file, [(s.name, s.gloss[0], found[s.name][0]) for s in kept])
    scores = score_classes([found[s.name] for s in kept], [s.gloss[0] for s in kept], samples=resamples)
    unknown = sum(glosses.encode(s.gloss) == [1] for s in kept)
    scores["unknown_glosses"] = {"count": unknown, "note": "glosses that training never saw; each counts as an error"}
    return scores, broken


def _squeeze(text: str) -> str:
    return "".join(text.lower().split())


def _score_pretraining(
    run: Run, samples: list[Sample], device: str, batch_size: int | None, broken: dict[str, str]
) -> dict[str, Any]:
    """Losses and retrieval; clips that cannot be read are added to `broken`."""
    place = pick_device(device)

    def batches() -> Iterator[Batch]:
        for loaded in clip_loader(*_planned(run, samples, batch_size)):
            broken.update(loaded.checked().broken)
            if loaded.batch is not None:
                yield loaded.batch.to(place)

    return dict(summarise([score(run.model.to(place), batches(), run.recipe, run.tokenizer)]))


def _write_predictions(path: Path, samples: list[Sample], found: dict[str, str]) -> None:
    _write_table(path, [(s.name, s.text, found[s.name]) for s in samples])


def _write_table(path: Path, rows: list[tuple[str, str, str]]) -> None:
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE, quotechar=None)
        table.writerow(["name", "reference", "hypothesis"])
        for name, reference, hypothesis in rows:
            table.writerow([name, _squeeze_line(reference), _squeeze_line(hypothesis)])


def _squeeze_line(text: str) -> str:
    return " ".join(text.split())


def read_predictions(path: str | Path) -> tuple[list[str], list[str], list[str]]:
    """Names, references and hypotheses of a `predictions.<split>.tsv`."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no predictions at {path}; run `signcl evaluate {path.parent}` first")
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    rows = [line.split("\t") for line in lines]
    if any(len(row) != 3 for row in rows):
        raise ValueError(f"{path}: needs three tab-separated columns name, reference, hypothesis in every line")
    return [r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows]
