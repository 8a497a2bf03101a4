"""`evaluate`: translate or recognise a split with a trained run and score it against the raw references.

Scores are corpus-level, computed once on all sentences. `scores.json` stores the scores of each split with everything
that affects them: metric signatures, tokenization, final dots, number of sentences, beams, seed, commit.
"""

from __future__ import annotations

import csv
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from signcl.data.annotation.plain_text import read_plain
from signcl.data.batch import Sample
from signcl.data.files import atomic_write, write_json
from signcl.data.progress import say
from signcl.data.registry import did_you_mean
from signcl.evaluation.health import Finding, health
from signcl.evaluation.trust import trust_scores, write_verdicts
from signcl.inference.answers import classify, predict_scored, recognise, search_of
from signcl.inference.clips import batches_of, none_read, pick_device, say_skipped
from signcl.inference.confidence import Judge, calibrate, load_judge, raw_score
from signcl.metrics import score_all, score_classes, score_glosses
from signcl.metrics.written_forms import same_text, unit_for
from signcl.systems import Decode
from signcl.systems.parts.written import Answer
from signcl.training import run_folder
from signcl.training.dev_scores import score_batches, summarise
from signcl.training.recipe import recipe_samples
from signcl.training.result_files import read_density, read_scores
from signcl.training.runs import Run, load_run

__all__ = ["evaluate", "keep_scores", "read_predictions", "run_health"]


def evaluate(
    folder: str | Path | Run,
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
    """Score a run on a split; writes `predictions.<split>.tsv` and the split's entry in `scores.json`.

    Args:
        folder: a run folder, `demo:NAME`, `org/name` on the hub, or a loaded run (`load_run`) to score several splits.
        split: train, dev or test. A run scored on dev also learns its confidence (docs/confidence.md).
        root: the corpus folder, if not the recipe's.
        device: auto | cpu | cuda.
        beams, length_penalty: of the search; None: the recipe's.
        batch_size: clips at a time; None: the recipe's. It changes speed and memory, not the scores.
        bootstrap: resamples for the 95 % intervals; 0: no intervals.
        progress: show progress bars on stderr.

    Returns:
        The split's entry in `scores.json`: all metrics with signatures, `unseen` (the metrics on sentences that do not
        occur in training), and the settings. A pretraining run is scored by its losses and retrieval, a recogniser by
        its WER, a classifier by its accuracy. A Joint-SLT run has sentence scores and its WER under `recognition`, with
        glosses in `glosses.<split>.tsv`.

    Raises:
        FileNotFoundError, ValueError: no such run, an unusable corpus, clips without a sentence to score against.
    """
    run = load_run(folder)
    samples = recipe_samples(run.recipe, split, root)
    started = time.perf_counter()
    how: dict[str, Any] = {"device": device, "batch_size": batch_size, "progress": progress}
    file = run.folder / f"predictions.{split}.tsv"
    kind = run.model.answers
    decode = search_of(run, beams, length_penalty, glosses=kind == "glosses")
    if kind == "nothing":
        scores, broken = _score_losses(run, samples, split, **how)
    elif kind == "classes":
        scores, broken = _score_classes(run, samples, split, file, bootstrap, **how)
    elif kind == "glosses":
        scores, broken = _score_glosses(run, samples, split, file, bootstrap, beams, **how)
    else:
        if silent := [s.name for s in samples if not s.text]:
            raise ValueError(
                f"split {split}: {len(silent)} of {len(samples)} clips have no text, first {silent[0]}; translations "
                f"are scored against sentences"
            )
        said, broken = predict_scored(run, samples, beams=beams, length_penalty=length_penalty, **how)
        found = {name: answer.text for name, answer in said.items()}
        kept = _kept(samples, found, broken, split)
        _write_table(file, [(s.name, s.text, found[s.name]) for s in kept])
        scores = _score_sentences(run, kept, found, bootstrap, root)
        scores["confidence"] = _trust(run, kept, said, decode, split, root, **how)
        if run.model.recognises:
            scores["recognition"], _ = _score_glosses(
                run, kept, split, run.folder / f"glosses.{split}.tsv", bootstrap, None, **how
            )
    say_skipped(broken)
    if run.recipe.corpus.transductive and split == "test":
        say("this run was trained on the test split (corpus.transductive): these are not held-out scores")
    scores["made"] = {
        "split": split,
        "trained_on_this_split": split == "train" or (split == "test" and run.recipe.corpus.transductive),
        "clips": sum(s.name not in broken for s in samples),
        "skipped": broken,
        "seconds": round(time.perf_counter() - started, 2),
        **_searched(kind, decode),
        "seed": run.recipe.train.seed,
        "trained_with_commit": run.card.get("commit", ""),
        "scored_with_commit": run_folder.git_commit(),
        "device": str(pick_device(device)),
    }
    answers, references = read_predictions(file)[2:0:-1] if kind != "nothing" else ((), ())
    scores["health"] = [
        asdict(finding)
        for finding in health(
            run.card,
            scores,
            dev=_scores_of_dev(run.folder) if split != "dev" else None,
            answers=answers,
            references=references,
        )
    ]
    keep_scores(run.folder, split, scores)
    return scores


def run_health(folder: str | Path, split: str = "test") -> list[Finding]:
    """Reasons for caution about the scores of a run folder; see `signcl.evaluation.health`.

    Uses its predictions, the scores of this split and of dev, density and card, as far as they exist.
    """
    folder = Path(folder)
    everything, file = read_scores(folder), folder / f"predictions.{split}.tsv"
    answers, references = read_predictions(file)[2:0:-1] if file.is_file() else ((), ())
    return health(
        run_folder.read_card(folder) if (folder / "card.json").is_file() else {},
        everything.get(split),
        dev=everything.get("dev") if split != "dev" else None,
        density=read_density(folder, split),
        answers=answers,
        references=references,
    )


def _scores_of_dev(folder: Path) -> dict[str, Any] | None:
    """The entry of dev; None if there is none or the file is damaged, which `keep_scores` reports."""
    try:
        return read_scores(folder).get("dev")
    except ValueError:
        return None


def _trust(
    run: Run,
    samples: list[Sample],
    answers: dict[str, Answer],
    decode: Decode,
    split: str,
    root: str | None,
    **how: Any,
) -> dict[str, Any]:
    """Scores of the answers' confidence, which is first calibrated on dev. Writes `confidence.<split>.tsv`."""
    if any(raw_score(answer) is None for answer in answers.values()):
        return {}
    judge = calibrate(run, samples, answers, decode, root=root, **how) if split == "dev" else load_judge(run.folder)
    judged = judge or Judge({"search": {}}, None)
    write_verdicts(run.folder / f"confidence.{split}.tsv", {s.name: judged(answers[s.name]) for s in samples})
    return trust_scores(samples, answers, judge, decode, split)


def _searched(kind: str, decode: Decode) -> dict[str, float]:
    """Beams and length penalty, if this kind of answers uses them."""
    if kind == "glosses":
        return {"beams": decode.gloss_beams}
    if kind != "sentences":
        return {}
    return {"beams": decode.beams, "length_penalty": decode.length_penalty}


def _kept(samples: list[Sample], found: dict[str, Any], broken: dict[str, str], split: str) -> list[Sample]:
    """The samples with an answer.

    Raises:
        ValueError: no sample has an answer.
    """
    kept = [s for s in samples if s.name in found]
    if not kept:
        raise none_read(broken, f"split {split}")
    return kept


def keep_scores(folder: Path, split: str, scores: dict[str, Any]) -> None:
    """Save a split's entry in `scores.json`."""
    path = folder / "scores.json"
    try:
        everything = read_scores(folder)
    except ValueError as error:
        say(f"{error}; it is rewritten with only split {split}")
        everything = {}
    everything[split] = scores
    write_json(path, everything)


def _score_sentences(
    run: Run, samples: list[Sample], found: dict[str, str], resamples: int, root: str | None
) -> dict[str, Any]:
    hypotheses, references = [found[s.name] for s in samples], [s.text for s in samples]
    scores: dict[str, Any] = score_all(hypotheses, references, tokenize=run.recipe.bleu_tokenize, samples=resamples)
    tokenize = scores["tokenize"]  # use the choice of `auto` for all references also for subsets
    if scores["warning"]:
        say(f"bleu_tokenize: {scores['warning']}")
    try:
        train = recipe_samples(run.recipe, "train", root)
    except (ValueError, OSError) as error:
        if "imported" not in run.card:  # a run trained by signcl must have its training split
            raise
        say(f"sentences seen in training are not counted: {error}")
        train = []
    unit = unit_for(tokenize)
    seen = {same_text(s.text, unit) for s in train}
    unseen = [i for i, reference in enumerate(references) if same_text(reference, unit) not in seen]
    if train:
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
        "note": "references that the tokenizer cannot write; scores still use the raw references",
    }
    return scores


def _score_glosses(
    run: Run, samples: list[Sample], split: str, file: Path, resamples: int, beams: int | None, **how: Any
) -> tuple[dict[str, Any], dict[str, str]]:
    """WER against the annotation, and the clips that could not be read; writes the glosses to `file`."""
    bare = [s.name for s in samples if not s.gloss]
    if bare:
        raise ValueError(
            f"WER needs the glosses of every clip; {len(bare)} of {len(samples)} have none, first {bare[0]}"
        )
    found, broken = recognise(run, samples, beams=beams, **how)
    kept = _kept(samples, found, broken, split)
    true = {s.name: " ".join(s.gloss) for s in kept}
    _write_table(file, [(name, true[name], found[name]) for name in found])
    phoenix = run.recipe.corpus.name == "phoenix14t"
    scores = score_glosses(list(found.values()), list(true.values()), phoenix=phoenix, samples=resamples)
    scores["unknown_glosses"] = _unknown(run, kept)
    scores["gloss_beams"] = search_of(run, beams, glosses=True).gloss_beams
    return scores, broken


def _score_classes(
    run: Run, samples: list[Sample], split: str, file: Path, resamples: int, **how: Any
) -> tuple[dict[str, Any], dict[str, str]]:
    """Accuracy against the annotation, and the clips that could not be read; writes the best gloss to `file`."""
    strange = [s.name for s in samples if len(s.gloss) != 1]
    if strange:
        raise ValueError(
            f"accuracy needs one gloss per clip; {len(strange)} of {len(samples)} have none or several, first "
            f"{strange[0]}"
        )
    found, broken = classify(run, samples, **how)
    kept = _kept(samples, found, broken, split)
    _write_table(file, [(s.name, s.gloss[0], found[s.name][0]) for s in kept])
    scores = score_classes([found[s.name] for s in kept], [s.gloss[0] for s in kept], samples=resamples)
    scores["unknown_glosses"] = _unknown(run, kept)
    return scores, broken


def _unknown(run: Run, samples: list[Sample]) -> dict[str, Any]:
    """Glosses of the annotation that are not among the run's classes."""
    assert run.glosses is not None
    count = [c for s in samples for c in run.glosses.encode(s.gloss)].count(1)
    return {"count": count, "note": "glosses that are not in training; each counts as an error"}


def _score_losses(
    run: Run, samples: list[Sample], split: str, *, device: str, batch_size: int | None, progress: bool
) -> tuple[dict[str, Any], dict[str, str]]:
    """Losses and measures of a run without answers, and the clips that could not be read."""
    broken: dict[str, str] = {}
    batches = batches_of(
        run.model,
        run.recipe,
        samples,
        dim=run.feature_dim,
        poses=run.poses,
        broken=broken,
        what="scoring",
        device=device,
        batch_size=batch_size,
        tokenizer=run.tokenizer,
        glosses=run.glosses,
        targets=run.targets,
        progress=progress,
    )
    scored = score_batches(run.model, batches, run.recipe, answers=False)
    if not scored.clips:
        raise none_read(broken, f"split {split}")
    return dict(summarise([scored], run.recipe)), broken


def _squeeze(text: str) -> str:
    return "".join(text.lower().split())


def _write_table(path: Path, rows: list[tuple[str, str, str]]) -> None:
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE, quotechar=None)
        table.writerow(["name", "reference", "hypothesis"])
        for name, reference, hypothesis in rows:
            table.writerow([name, _squeeze_line(reference), _squeeze_line(hypothesis)])


def _squeeze_line(text: str) -> str:
    return " ".join(text.split())


def read_predictions(path: str | Path) -> tuple[list[str], list[str], list[str]]:
    """Reads the answers of a scored run.

    Args:
        path: a `predictions.<split>.tsv`, as `evaluate` writes it.

    Returns:
        Names, references and hypotheses, in the order of the split.

    Raises:
        FileNotFoundError, ValueError: no such file (the message names the command that makes it), or not its columns.
    """
    path = Path(path)
    if not path.is_file():
        split = path.name.removeprefix("predictions.").removesuffix(".tsv")
        scored = sorted(other.name.split(".")[1] for other in path.parent.glob("predictions.*.tsv"))
        known = f"; scored splits are {', '.join(scored)}" if scored else ""
        near = did_you_mean(split, scored)
        raise FileNotFoundError(
            f"no predictions at {path}{known}{near or f'; `signcl evaluate {path.parent} --split {split}` makes them'}"
        )
    header, *rows = (line.split("\t") for line in read_plain(path).rstrip("\n").split("\n"))
    if header != ["name", "reference", "hypothesis"] or any(len(row) != 3 for row in rows):
        raise ValueError(f"{path}: needs three tab-separated columns name, reference, hypothesis in every line")
    return [r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows]
