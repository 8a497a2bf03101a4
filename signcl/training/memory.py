"""How much memory a run needs on each device: weights, gradients, optimizer state, and what the backward pass keeps.

The first three are counted. The last is found by a forward pass over tensors without data (torch's meta tensors), so it
costs neither memory nor arithmetic; buffers of libraries, of the loader and of communication come on top.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from signcl.data.batch import Batch
from signcl.training.recipe import PartRecipe, TrainRecipe

__all__ = ["Memory", "activation_bytes", "built_if_it_fits", "memory_of", "state_tensors"]

GB = 1e9
Built = TypeVar("Built", bound=nn.Module)


@dataclass(frozen=True)
class Memory:
    """What a run needs on one device, in bytes."""

    weights: int
    gradients: int
    optimizer: int
    activations: int | None
    """Of the largest batch; None: not known."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.gradients + self.optimizer + (self.activations or 0)

    def __str__(self) -> str:
        parts = [("weights", self.weights), ("gradients", self.gradients), ("optimizer state", self.optimizer)]
        if self.activations is not None:
            parts.append(("activations of the largest batch, estimated", self.activations))
        more = " and activations" if self.activations is None else ""
        listed = ", ".join(f"{name} {_shown(size)}" for name, size in parts)
        return f"needs about {_shown(self.total)}{more} on each device: {listed}"


def _shown(size: int) -> str:
    return f"{size / GB:.3g} GB" if size >= GB / 10 else f"{size / 1e6:.3g} MB"


def machine_bytes() -> int:
    """Memory of this machine."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):  # not told, as on Windows
        return 1 << 50


class _TooLarge(Exception):
    pass


class _Left(threading.local):
    """Bytes of parameters that this thread may still make, while it builds a model."""

    bytes: int | None = None


LEFT = _Left()


@cache
def _count_parameters() -> None:
    """Have torch count each parameter against `LEFT`, in every thread, from now on.

    It is asked at each parameter, before that is filled. Asked at each operation, building a small model would take
    half as long again.
    """

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if LEFT.bytes is not None and parameter is not None:
            LEFT.bytes -= parameter.numel() * parameter.element_size()
            if LEFT.bytes < 0:
                raise _TooLarge

    register_module_parameter_registration_hook(count)


@contextlib.contextmanager
def _parameters_below(limit: int) -> Iterator[None]:
    """Stops at the parameter that brings those made in the block above a limit, in bytes.

    Raises:
        _TooLarge: above it, or where memory for one parameter alone cannot be had.
    """
    _count_parameters()
    before, LEFT.bytes = LEFT.bytes, limit
    try:
        yield
    except RuntimeError as error:
        if "you tried to allocate" in str(error):  # torch has no class of its own for this on a CPU
            raise _TooLarge from None
        raise
    finally:
        LEFT.bytes = before


UNASKED = 1 << 30
"""Bytes of weights up to which a model is built without counting them first."""


def built_if_it_fits(build: Callable[[], Built]) -> Built:
    """`build()`, a model, unless its weights would not fit into this machine's memory; then nothing is allocated.

    Raises:
        ValueError: says how many parameters it would have.
    """
    try:
        with _parameters_below(UNASKED):
            return build()
    except _TooLarge:
        pass
    with torch.device("meta"):  # tensors without data
        model = build()
    parameters = sum(p.numel() for p in model.parameters())
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    if size > (limit := machine_bytes()):
        raise ValueError(
            f"this model would have {parameters:.3g} parameters, {_shown(size)}, and this machine has {_shown(limit)}; "
            "lower its sizes, such as model.width and the numbers of layers"
        )
    return build()


def state_tensors(settings: TrainRecipe | PartRecipe) -> int:
    """Tensors of the size of a weight that an optimizer keeps for it: two of adam and adamw, the momentum of sgd."""
    if settings.optimizer == "sgd":
        return int(settings.momentum > 0)
    return 2


def memory_of(
    optimizer: Any, model: nn.Module, train: TrainRecipe, *, ranks: int = 1, activations: int | None = None
) -> Memory:
    """Weights, gradients and optimizer state of a model on one device, counted from its tensors.

    Args:
        optimizer: of the run; its groups say which part of `train.parts` a weight belongs to.
        ranks: processes. With train.strategy=fsdp each holds its share of weights, gradients and optimizer state.
        activations: see `activation_bytes`.
    """
    shared = ranks if train.strategy == "fsdp" else 1
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    buffers = sum(b.numel() * b.element_size() for b in model.buffers())
    gradients = state = 0
    for group in optimizer.param_groups:
        size = sum(p.numel() * p.element_size() for p in group["params"])
        gradients += size
        state += size * state_tensors(train.parts.get(group.get("part", ""), train))
    return Memory(weights // shared + buffers, gradients // shared, state // shared, activations)


def activation_bytes(objective: nn.Module, batch: Batch, dtype: torch.dtype | None = None) -> int | None:
    """Bytes that the forward pass over a batch keeps for the backward pass; None where it reads values on the host.

    Weights are not counted; memory that several operations keep is counted once. Counted in float32, with attention
    that keeps its weights: mixed precision and attention in blocks keep less, so it is an upper bound.

    Args:
        objective: batch -> terms, in training mode; it is not changed.
        batch: of the shapes of the largest.
    """
    kept: dict[int, Tensor] = {}  # tensors too: a storage that is gone would lend its number to another

    def keep(tensor: Tensor) -> Tensor:
        kept.setdefault(tensor.untyped_storage()._cdata, tensor)
        return tensor

    state = dict([*objective.named_parameters(), *objective.named_buffers()])
    shapes = {
        name: torch.empty_like(tensor, device="meta").requires_grad_(tensor.requires_grad)
        for name, tensor in state.items()
    }
    own = {tensor.untyped_storage()._cdata for tensor in shapes.values()}
    try:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            torch.func.functional_call(objective, shapes, (batch.to("meta"),))
    except (NotImplementedError, RuntimeError, TypeError, ValueError):
        return None  # an estimate never stops a run: some networks read values, which these tensors do not have
    return sum(tensor.untyped_storage().nbytes() for number, tensor in kept.items() if number not in own)
