"""Scores by trained models in local folders: BERTScore and BLEURT. Nothing is downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

__all__ = ["bertscore", "bleurt"]

BATCH = 64  # sentences encoded at a time


def _folder(path: str | Path, name: str) -> Path:
    folder = Path(path)
    if not (folder / "config.json").is_file() and not (folder / "bleurt_config.json").is_file():
        raise ValueError(f"--{name} needs a local folder with the model's config.json, but {folder} has none")
    return folder


@torch.no_grad()
def bertscore(
    hypotheses: Sequence[str], references: Sequence[str], model: str | Path, *, layer: int | None = None
) -> dict[str, Any]:
    """BERTScore F of a corpus in percent, without idf weights and without rescaling. Higher is better.

    With x and y the unit vectors of the tokens of reference and hypothesis (the mean excludes the first and last
    special token): R = mean over x of max over y of x.y, P the same with x and y swapped, F = 2 P R / (P + R); mean
    over sentences.

    Args:
        hypotheses: one sentence each; an empty one scores 0.
        references: one per hypothesis.
        model: a folder that transformers can load, with its tokenizer.
        layer: hidden layer, counted from 1; None: the last. Published scores use a selected layer (17 for
            roberta-large).

    Raises:
        ValueError: no such folder, a model that cannot be loaded, or a layer that does not exist.

    Source: Zhang et al. 2020, Eq. 1.
    """
    folder = _folder(model, "bertscore")
    from transformers import AutoModel, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        network = AutoModel.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False).eval()
    except (OSError, ValueError, KeyError) as error:
        said = " ".join(str(error).split())[:200]
        raise ValueError(f"--bertscore: the model in {folder} cannot be loaded: {said}") from None
    layers = int(network.config.num_hidden_layers)
    if layer is not None and not 1 <= layer <= layers:
        raise ValueError(f"--bertscore-layer must be 1 to {layers} for the model in {folder}, got {layer}")

    def encoded(lines: Sequence[str]) -> list[Tensor]:
        found: list[Tensor] = []
        for start in range(0, len(lines), BATCH):
            batch = tokenizer(
                list(lines[start : start + BATCH]), return_tensors="pt", padding=True, truncation=True, max_length=512,
                return_special_tokens_mask=True,
            )  # fmt: skip
            special = batch.pop("special_tokens_mask").bool()
            states = network(**batch, output_hidden_states=True).hidden_states[layer or layers]
            kept = batch["attention_mask"].bool() & ~special
            found += [torch.nn.functional.normalize(one[mask].float(), dim=-1) for one, mask in zip(states, kept)]
        return found

    values = []
    for ours, theirs in zip(encoded(hypotheses), encoded(references)):
        if not len(ours) or not len(theirs):
            values.append(0.0)
            continue
        near = theirs @ ours.T  # [reference, hypothesis]
        recall, precision = near.max(dim=1).values.mean(), near.max(dim=0).values.mean()
        values.append(float(2 * precision * recall / (precision + recall)))
    named = f"bertscore|model:{folder.name}|layer:{layer or layers}|idf:no|rescaled:no"
    return {"bertscore": 100 * sum(values) / len(values), "bertscore_signature": named}


def bleurt(hypotheses: Sequence[str], references: Sequence[str], model: str | Path) -> dict[str, Any]:
    """Mean BLEURT times 100, with the package `bleurt_pytorch` or Google's `bleurt`. Higher is better.

    Raises:
        ValueError: no such folder, or neither package is installed.

    Source: Sellam et al. 2020.
    """
    folder = _folder(model, "bleurt")
    if (folder / "bleurt_config.json").is_file():  # a checkpoint of Google's package
        try:
            from bleurt.score import BleurtScorer
        except ImportError:
            raise ValueError(
                f"--bleurt: {folder} is a checkpoint of the package bleurt, which is not installed; install it, or "
                f"give a "
                f"folder of bleurt_pytorch"
            ) from None
        values = BleurtScorer(str(folder)).score(references=list(references), candidates=list(hypotheses))
    else:
        try:
            from bleurt_pytorch import BleurtForSequenceClassification, BleurtTokenizer
        except ImportError:
            raise ValueError(
                "--bleurt needs the package bleurt_pytorch (from the project of that name), which is not installed"
            ) from None
        network = BleurtForSequenceClassification.from_pretrained(str(folder)).eval()
        tokenizer = BleurtTokenizer.from_pretrained(str(folder))
        values = []
        with torch.no_grad():
            for start in range(0, len(references), BATCH):
                rows = slice(start, start + BATCH)
                batch = tokenizer(
                    list(references[rows]), list(hypotheses[rows]), padding="longest", truncation=True, max_length=512,
                    return_tensors="pt",
                )  # fmt: skip
                values += network(**batch).logits.flatten().tolist()
    return {"bleurt": 100 * sum(values) / len(values), "bleurt_signature": f"bleurt|model:{folder.name}|mean:sentence"}
