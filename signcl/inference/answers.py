"""The answers of a run for clips: sentences, glosses, or the one gloss of a clip."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch

from signcl.data.batch import Batch, Sample
from signcl.inference.clips import batches_of
from signcl.systems import Decode
from signcl.systems.parts.written import Answer
from signcl.training.devices import memory_advice
from signcl.training.runs import Run

__all__ = ["answers", "classify", "predict", "predict_scored", "recognise", "search_of"]


def search_of(
    run: Run, beams: int | None = None, length_penalty: float | None = None, *, glosses: bool = False
) -> Decode:
    """The recipe's search settings with the given values replaced; does not modify the recipe.

    Raises:
        ValueError: beams or a length penalty outside the bounds of `Decode`.
    """
    decode, name = run.recipe.decode, "gloss_beams" if glosses else "beams"
    changes: dict[str, Any] = {} if beams is None else {name: beams}
    if length_penalty is not None:
        changes["length_penalty"] = length_penalty
    return dataclasses.replace(decode, **changes)


def predict(
    run: Run,
    samples: Sequence[Sample],
    *,
    device: str = "auto",
    batch_size: int | None = None,
    beams: int | None = None,
    length_penalty: float | None = None,
    progress: bool = True,
) -> tuple[dict[str, str], dict[str, str]]:
    """Translate samples with a run that answers sentences.

    Returns:
        Sentences by name, in the order of `samples`; and the clips that could not be read, with reasons.
    """
    how: dict[str, Any] = {"device": device, "batch_size": batch_size, "progress": progress}
    return _translated(run, samples, run.model.answer, beams, length_penalty, **how)


def predict_scored(
    run: Run,
    samples: Sequence[Sample],
    *,
    device: str = "auto",
    batch_size: int | None = None,
    beams: int | None = None,
    length_penalty: float | None = None,
    progress: bool = True,
) -> tuple[dict[str, Answer], dict[str, str]]:
    """`predict`, with the log-probability of each sentence and the mean features of its clip."""
    how: dict[str, Any] = {"device": device, "batch_size": batch_size, "progress": progress}
    return _translated(run, samples, run.model.answer_scored, beams, length_penalty, **how)


def _translated(
    run: Run,
    samples: Sequence[Sample],
    ask: Callable[[Batch, Decode], list[Any]],
    beams: int | None,
    length_penalty: float | None,
    **how: Any,
) -> tuple[dict[str, Any], dict[str, str]]:
    """The results of `ask` for each clip, for a run that answers sentences."""
    if run.model.answers != "sentences":
        raise ValueError(f"{run.folder} is a {run.recipe.stage} run; only a finetune run translates")
    decode = search_of(run, beams, length_penalty)
    return answers(run, samples, lambda batch: dict(zip(batch.names, ask(batch, decode))), "translating", **how)


def recognise(
    run: Run,
    samples: Sequence[Sample],
    *,
    device: str = "auto",
    batch_size: int | None = None,
    beams: int | None = None,
    progress: bool = True,
) -> tuple[dict[str, str], dict[str, str]]:
    """Recognise the glosses of samples with a run trained with the term `recognition`.

    Args:
        beams: prefixes of the CTC search; None: the recipe's `decode.gloss_beams`.

    Returns:
        Glosses by name, in the order of `samples`; and the clips that could not be read, with reasons.
    """
    if not run.model.recognises:
        raise ValueError(f"{run.folder} recognises no gloss sequences; train with loss.weights.recognition")
    decode = search_of(run, beams, glosses=True)
    return answers(
        run,
        samples,
        lambda batch: dict(zip(batch.names, run.model.glosses_of(batch, decode))),
        "recognising",
        device=device,
        batch_size=batch_size,
        progress=progress,
    )


def classify(
    run: Run, samples: Sequence[Sample], *, device: str = "auto", batch_size: int | None = None, progress: bool = True
) -> tuple[dict[str, list[str]], dict[str, str]]:
    """The most likely glosses of one-sign clips, best first; and the clips that could not be read."""

    def ranked(batch: Batch) -> dict[str, list[str]]:
        return dict(zip(batch.names, run.model.ranked(run.model(batch))))

    return answers(run, samples, ranked, "classifying", device=device, batch_size=batch_size, progress=progress)


def answers(
    run: Run,
    samples: Sequence[Sample],
    answer: Callable[[Batch], dict[str, Any]],
    what: str,
    *,
    device: str,
    batch_size: int | None,
    progress: bool,
) -> tuple[dict[str, Any], dict[str, str]]:
    """The results of `answer` by name, in the order of `samples`; and the clips that could not be read."""
    found: dict[str, Any] = {}
    broken: dict[str, str] = {}
    for batch in batches_of(
        run.model,
        run.recipe,
        samples,
        dim=run.feature_dim,
        poses=run.poses,
        broken=broken,
        what=what,
        device=device,
        batch_size=batch_size,
        tokenizer=run.tokenizer,
        progress=progress,
    ):
        out_of_memory = memory_advice(run.recipe, batch, what, batch_size=batch_size)
        with out_of_memory, torch.no_grad():  # not around the loop, where it would also disable gradients in a caller
            found.update(answer(batch))
    return {s.name: found[s.name] for s in samples if s.name in found}, broken
