"""`signcl import`: converts an official checkpoint to a run folder that every command accepts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from signcl.data.pose_estimation import PoseKind
from signcl.data.pose_layouts import POINT_ORDERS
from signcl.data.registry import did_you_mean
from signcl.data.text import Tokenizer, VocabularyTokenizer, build_tokenizer
from signcl.systems import SYSTEMS, System, system_class
from signcl.systems.parts.official import Checkpoint, Published, read_checkpoint
from signcl.training import run_folder
from signcl.training.optimizer import count_parameters
from signcl.training.recipe import Recipe, find_recipe, recipe_from_dict
from signcl.training.recipe.recipe_files import put, read_yaml, section_of
from signcl.training.runs import build_model

__all__ = ["Imported", "checkpoint_kinds", "import_checkpoint"]

COUNTERS = r".*num_batches_tracked"
"""Batch counters, which old files lack and nothing reads."""


@dataclass(frozen=True)
class Imported:
    """A run folder made from an official checkpoint, and what happened to every tensor."""

    folder: Path
    kind: str
    """Kind of checkpoint."""
    system: str
    file: str
    mapped: Mapping[str, str]
    """Our name -> theirs."""
    left: Mapping[str, str]
    """Their name -> why it is not used."""
    fresh: Mapping[str, str]
    """Our name -> why the checkpoint has no value for it."""
    assumed: Mapping[str, Any]
    """Recipe values that the file does not contain, taken as published."""
    parameters: int

    def __str__(self) -> str:
        width = max(len(name) for name in [*self.mapped.values(), *self.left, *self.fresh])
        lines = [f"{theirs:<{width}}  ->  {ours}" for ours, theirs in self.mapped.items()]
        lines += [f"{theirs:<{width}}  left behind: {why}" for theirs, why in self.left.items()]
        lines += [f"{ours:<{width}}  fresh: {why}" for ours, why in self.fresh.items()]
        lines.append(
            f"{self.folder}: {self.system}, {self.parameters:,} parameters; {len(self.mapped)} tensors mapped, "
            f"{len(self.left)} left behind, {len(self.fresh)} fresh"
        )
        if self.assumed:
            told = ", ".join(f"--model.{key}={value}" for key, value in self.assumed.items())
            lines.append(f"not in the file, taken as published: {told}")
        return "\n".join(lines)


def checkpoint_kinds() -> dict[str, type[System]]:
    """Kinds of official checkpoints -> the system that reads them."""
    return {system.checkpoint: system for _, system in SYSTEMS.loadable() if system.checkpoint}


def import_checkpoint(
    kind: str,
    file: str | Path,
    out: str | Path = "",
    *,
    recipe: str | Path | None = None,
    overrides: Sequence[str] = (),
    beside: Mapping[str, str | Path] | None = None,
) -> Imported:
    """Convert an official checkpoint to a run folder.

    Args:
        kind: one of `checkpoint_kinds`.
        file: the checkpoint, read as data without executing code.
        out: the new run folder. Empty: runs/imported/KIND-FILE.
        recipe: a recipe file for values that a checkpoint does not contain: corpus, text, training.
        overrides: `key.sub=value`, as in `signcl fit`.
        beside: files that belong to the checkpoint, by kind: `words`, `glosses`, `config`, `pieces`.

    Raises:
        FileNotFoundError: a missing file.
        ValueError: the checkpoint is of another kind (which is named), damaged, incomplete or contains code; a
            vocabulary does not fit; or the folder already holds a run.
    """
    kinds, file = checkpoint_kinds(), Path(file)
    if kind not in kinds:
        raise ValueError(
            f"{kind!r} is not a kind of checkpoint; known are {', '.join(kinds)}{did_you_mean(kind, kinds)}"
        )
    folder = Path(out or f"runs/imported/{kind}-{file.stem}")
    if (folder / "recipe.yaml").exists():
        raise ValueError(f"{folder} holds a run already; choose another folder with --out")
    given = read_checkpoint(file, {what: Path(path) for what, path in (beside or {}).items()})
    _check_kind(given, kind, kinds)
    try:
        found = kinds[kind].published(given)
    except KeyError as error:
        raise ValueError(f"{file} lacks {error.args[0]}, which every checkpoint of kind {kind} has") from None
    whole = _recipe(found, kinds[kind], folder, recipe, overrides)
    for key, message in found.asks.items():
        if not _value(whole, key):
            raise ValueError(f"{file}: {message}")
    tokenizer = found.tokenizer or _tokenizer(whole, file)
    model = build_model(
        whole, tokenizer, found.feature_dim, found.glosses, found.targets, dict(found.described) or None
    )
    fresh = _load(model, found, file)
    run_folder.save_run_start(folder, whole, tokenizer, found.glosses, found.targets)
    run_folder.save_weights(folder, model)
    given_values = {override.lstrip("-").partition("=")[0].removeprefix("model.") for override in overrides}
    done = Imported(
        folder=folder,
        kind=kind,
        system=whole.model.name,
        file=str(file),
        mapped=found.taken.names,
        left=found.taken.left,
        fresh=fresh,
        assumed={key: value for key, value in found.assumed.items() if key not in given_values},
        parameters=count_parameters(model)[0],
    )
    run_folder.save_card(folder, _card(done, whole, given, found))
    return done


def _check_kind(given: Checkpoint, kind: str, kinds: Mapping[str, type[System]]) -> None:
    """Raise ValueError for a checkpoint of another kind; names that kind if it is known."""
    # GASLT has all marks of neccam/slt and more, so choose the kind with the most marks
    fitting = {other: len(system.checkpoint_marks) for other, system in kinds.items() if _fits(given, system)}
    if fitting:
        best = max(fitting, key=lambda other: (fitting[other], other == kind))
        if best == kind:
            return
        raise ValueError(f"{given.file} is a checkpoint of kind {best}, not {kind}: signcl import {best} ...")
    lacking = [mark for mark in kinds[kind].checkpoint_marks if not _has(given, mark)]
    raise ValueError(
        f"{given.file} is not a checkpoint of kind {kind}, nor of any other known kind ({', '.join(kinds)}): it has no "
        f"{lacking[0]}; its first tensors are {', '.join(list(given.tensors)[:3])}"
    )


def _fits(given: Checkpoint, system: type[System]) -> bool:
    return all(_has(given, mark) for mark in system.checkpoint_marks)


def _has(given: Checkpoint, mark: str) -> bool:
    return any(name.endswith(mark) for name in given.tensors)


def _recipe(
    found: Published, system: type[System], folder: Path, base: str | Path | None, overrides: Sequence[str]
) -> Recipe:
    """The recipe of the run: the base file, then values from the checkpoint, then the user's overrides."""
    data: dict[str, Any] = {} if base is None else read_yaml(find_recipe(base))
    name = found.system or str(system.Config().name)
    data |= {"stage": system_class(name).stage, "out": str(folder)}
    data["model"] = {"name": name, **found.assumed, **found.model}
    for key, value in found.recipe.items():
        section, last = section_of(data, key, "the imported recipe")
        section[last] = value
    for override in overrides:
        put(data, override, "the imported recipe")
    try:
        return recipe_from_dict(data)
    except ValueError as error:
        raise ValueError(f"the imported recipe: {error}") from None


def _value(recipe: Recipe, key: str) -> Any:
    """The value of a dotted key."""
    found: Any = recipe
    for part in key.split("."):
        found = getattr(found, part)
    return found


def _tokenizer(recipe: Recipe, file: Path) -> Tokenizer:
    """The published tokenizer that the recipe names, for checkpoints without one."""
    text = recipe.text
    if recipe.system.answers in ("glosses", "classes"):  # it never writes a sentence
        return VocabularyTokenizer([])
    if not text.tokenizer.startswith("pretrained:"):
        raise ValueError(
            f"{file} does not hold its tokenizer; name the folder that it was trained with: "
            f"--text.tokenizer=pretrained:FOLDER (GFSLT-VLP: pretrain_models/MBart_trimmed, Uni-Sign: mt5-base)"
        )
    return build_tokenizer(text.tokenizer, [], lowercase=text.lowercase, language=text.language)


def _load(model: nn.Module, found: Published, file: Path) -> dict[str, str]:
    """Load the model, all or nothing; returns the tensors that stay random, with reasons."""
    own, new = model.state_dict(), found.taken.tensors
    names = found.taken.names
    wrong = [
        f"{names[name]} has shape {list(value.shape)}"
        + (f", {name} of this model {list(own[name].shape)}" if name in own else f", and this model has no {name}")
        for name, value in new.items()
        if name not in own or own[name].shape != value.shape
    ]
    if wrong:
        raise ValueError(f"{file}: {len(wrong)} of {len(new)} tensors do not fit, first {wrong[0]}{_advice(wrong[0])}")
    places = {_place(own[name]) for name in new}
    reasons = {COUNTERS: "a batch counter, missing from the file", **found.fresh}
    fresh: dict[str, str] = {}
    missing = []
    for name in own:
        if name in new or _place(own[name]) in places:  # a shared tensor has several names
            continue
        reason = next((why for pattern, why in reasons.items() if re.fullmatch(pattern, name)), None)
        if reason is None:
            missing.append(name)
        else:
            fresh[name] = reason
    if missing:
        raise ValueError(
            f"{file} lacks {len(missing)} of the {len(own)} tensors of this model, first {', '.join(missing[:3])}"
        )
    model.load_state_dict({**own, **{name: value.to(own[name].dtype) for name, value in new.items()}})
    return fresh


def _place(tensor: Tensor) -> tuple[int, torch.Size]:
    return tensor.data_ptr(), tensor.shape


def _advice(wrong: str) -> str:
    if any(part in wrong for part in ("shared.weight", "lm_head", "embed_tokens", "words.weight")):
        return "; the first number is the vocabulary size: name the tokenizer that the checkpoint was trained with"
    return ""


def _card(done: Imported, recipe: Recipe, given: Checkpoint, found: Published) -> dict[str, Any]:
    told = asdict(done) | {"folder": str(done.folder), "sha256": _digest(given.file)}
    plain = {key: value for key, value in given.values.items() if isinstance(value, int | float | str)}
    order = None if found.feature_dim is None else POINT_ORDERS.get(recipe.input.pose_layout)
    # the file does not say what estimated its key points
    poses = None if order is None else PoseKind(order.layout.name, extractor=None, fps=None).described()
    return {
        "stage": recipe.stage,
        "versions": run_folder.versions(),
        "parameters": done.parameters,
        "feature_dim": found.feature_dim,
        "poses": poses,
        "initialised": [f"official checkpoint {given.file} ({done.kind})"],
        "imported": {**told, "told": plain, "commit": run_folder.git_commit()},
    }


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
