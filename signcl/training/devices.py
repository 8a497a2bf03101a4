"""Checks device and precision of a run before anything is loaded, and gives advice if memory runs out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from signcl.data.batch import Batch
from signcl.data.installed import version_of
from signcl.training.recipe import Recipe, TrainRecipe

__all__ = ["check_device", "memory_advice"]


def check_device(train: TrainRecipe) -> str:
    """The device selected by `train.device`: cpu, cuda or mps.

    Raises:
        ValueError: a missing device, too many devices, or a precision that the device does not support.
    """
    here = torch.cuda.is_available()
    device = train.device.replace("auto", "cuda" if here else "cpu")
    if device == "cuda" and not here:
        raise ValueError(
            f"train.device=cuda needs a CUDA GPU, but torch {version_of('torch')} finds none here; use "
            f"--train.device=cpu, or a build of torch for this machine's driver"
        )
    if device == "mps" and not torch.backends.mps.is_available():
        raise ValueError("train.device=mps needs an Apple GPU, but torch finds none here; use --train.device=cpu")
    number = torch.cuda.device_count() if device == "cuda" else 1
    if device != "cpu" and train.devices > number:
        raise ValueError(
            f"train.devices={train.devices} needs as many GPUs on this machine, but there are {number}; use "
            f"--train.devices={number} and --train.accumulate={train.accumulate * -(-train.devices // number)} for "
            f"steps of about as many clips"
        )
    if device == "cpu" and train.precision == "16-mixed":
        raise ValueError("train.precision=16-mixed needs a GPU, but this is a CPU; use bf16-mixed or 32-true")
    if device == "cuda" and train.precision == "bf16-mixed" and not _has_bfloat16():
        raise ValueError(
            f"train.precision=bf16-mixed needs a GPU of compute capability 8.0 or above, and "
            f"{torch.cuda.get_device_name()} has {'.'.join(map(str, torch.cuda.get_device_capability()))}; take "
            f"--train.precision=16-mixed or 32-true"
        )
    return device


def _has_bfloat16() -> bool:
    return torch.cuda.is_bf16_supported(including_emulation=False)


@contextlib.contextmanager
def memory_advice(
    recipe: Recipe, batch: Batch | None, what: str, *, training: bool = False, batch_size: int | None = None
) -> Iterator[None]:
    """Context that turns a GPU out-of-memory error into one line: the batch, and the keys that reduce memory.

    Args:
        recipe: recipe of the run, for the current values of its keys.
        batch: the batch being computed, if known.
        what: the step, e.g. "training, step 12".
        training: whether gradients were computed; otherwise training keys are not suggested.
        batch_size: clips per batch, if not the recipe's.

    Raises:
        ValueError: instead of `torch.OutOfMemoryError`.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ValueError(_advice(recipe, batch, what, training, batch_size, error)) from None


def _advice(
    recipe: Recipe, batch: Batch | None, what: str, training: bool, batch_size: int | None, error: Exception
) -> str:
    train = recipe.train
    came = ""
    if batch is not None:
        size = "x".join(map(str, batch.inputs.shape[1:3])) + " px" if batch.inputs.ndim == 4 else "features"
        came = f" with {len(batch)} clips, {len(batch.inputs)} frames ({size}), the longest {batch.max_length}"
    clips = train.batch_size if batch_size is None else batch_size
    smaller = max(1, clips // 2)
    ways = []
    if clips > 1 and not training:
        ways.append(f"a batch size of {smaller} (--batch-size of signcl evaluate and extract, now {clips})")
    elif clips > 1:
        ways.append(
            f"train.batch_size={smaller} (now {clips}) with train.accumulate={train.accumulate * 2} (now "
            f"{train.accumulate}), for as many clips a step"
        )
    if training and batch is not None:
        limit = "no limit" if train.batch_frames is None else train.batch_frames
        ways.append(f"train.batch_frames={max(1, len(batch.inputs) // 2)} (now {limit}), if the longest clip fits it")
    if batch is not None and batch.inputs.ndim == 4:
        chunk = recipe.model.chunk
        if chunk is None or chunk > 16:
            now = "all at once" if chunk is None else chunk
            ways.append(
                f"model.chunk={max(16, (chunk or len(batch.inputs)) // 4)} (frames encoded at a time, now {now})"
            )
    if training and train.precision == "32-true":
        ways.append("train.precision=bf16-mixed (now 32-true)")
    first = ". ".join(" ".join(str(error).split()).split(". ")[:2]).rstrip(".")
    return f"out of memory in {what}{came}: {first}; try {', or '.join(ways) or 'a smaller model or a larger GPU'}"
