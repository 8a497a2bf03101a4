"""How much memory a run needs on each device: weights, gradients, optimizer state, and what the backward pass keeps.

The first three are counted. The last is found by a forward pass over tensors without data (torch's fake tensors), so it
costs neither memory nor arithmetic; buffers of libraries, of the loader and of communication come on top.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from signcl.data.batch import Batch
from signcl.training.recipe import PartRecipe, TrainRecipe

__all__ = ["Memory", "activation_bytes", "memory_of", "state_tensors"]

GB = 1e9


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


def activation_bytes(objective: nn.Module, batch: Batch, autocast: Any) -> int | None:
    """Bytes that the forward pass over a batch keeps for the backward pass; None where it reads values on the host.

    Weights are not counted; a tensor that several operations keep is counted once.

    Args:
        objective: batch -> terms, in training mode.
        batch: the shapes of the largest batch.
        autocast: context of the run's precision.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    weights = {id(p) for p in objective.parameters()}
    kept: dict[int, Tensor] = {}
    storages: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if id(tensor) not in weights and not isinstance(tensor, nn.Parameter):
            storage = tensor.untyped_storage()
            key = storage._cdata
            kept[id(tensor)] = tensor  # so that no address is used twice
            storages[key] = storage.nbytes()
        return tensor

    try:
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            fake = batch._map(mode.from_tensor)
            weights |= {id(mode.from_tensor(p)) for p in objective.parameters()}
            statistics = {id(mode.from_tensor(b).untyped_storage()) for b in objective.buffers()}
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), autocast:
                objective(fake)
        del statistics
    except Exception:  # an estimate never stops a run: some networks read values, which such tensors do not have
        return None
    return sum(storages.values())
