"""Compiles, recomputes or shards the repeated layers of a network one by one.

The networks of this package consist mostly of a few kinds of layers, each repeated many times. A layer is the unit that
is compiled once for all its copies, recomputed in the backward pass, or gathered by FSDP. The state of a sharded model
is also gathered here, so that a run folder has the same format however it was trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

__all__ = [
    "compile_layers",
    "local_optimizer_state",
    "recompute_layers",
    "repeated_layers",
    "shard_model",
    "unsharded",
    "whole_tensors",
]

BACKEND = "inductor"
"""Backend of torch.compile."""
VARIANTS = 64
"""Maximum compiled variants of one kind of layer, which differ by sizes, position and what needs a gradient."""
NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)


def repeated_layers(model: nn.Module) -> list[nn.Module]:
    """The outermost layers that are in a list of layers of one class and are called as a unit.

    A list is an `nn.ModuleList` or `nn.Sequential` of one or more modules of one class that has children. Modules
    without their own forward, which only hold others, are excluded.
    """
    found: list[nn.Module] = []
    inside: set[int] = set()
    for module in model.modules():
        if id(module) in inside or not isinstance(module, nn.ModuleList | nn.Sequential):
            continue
        layers = list(module)
        whole = layers and len({type(layer) for layer in layers}) == 1 and _is_layer(layers[0])
        if whole and not any(id(layer) in inside for layer in layers):
            found += layers
            inside |= {id(part) for layer in layers for part in layer.modules()}
    return found


def _is_layer(module: nn.Module) -> bool:
    """Whether it has its own forward and contains modules."""
    container = isinstance(module, nn.ModuleList | nn.Sequential)
    called = type(module).forward is not nn.Module.forward
    return called and not container and any(True for _ in module.children())


def compile_layers(model: nn.Module, mode: str | None, device_type: str) -> int:
    """Compile every repeated layer, once per kind. Returns the number of layers.

    Only training runs compiled code, since scoring and beam search have different shapes at every step. Batch sizes are
    symbolic, so a new batch needs no recompilation. On a CPU, layers with batch norm (ResNet, whose blocks all differ
    in size) are not compiled: their convolutions come from a library, and compiling them takes minutes.

    Args:
        mode: mode of torch.compile; reduce-overhead replays CUDA graphs, one per set of shapes.
    """
    import torch._dynamo.config as dynamo  # slow import

    dynamo.recompile_limit = max(dynamo.recompile_limit, VARIANTS)
    layers = [part for part in repeated_layers(model) if device_type != "cpu" or not _has_norm_statistics(part)]
    for layer in layers:
        plain = layer.forward
        compiled = torch.compile(plain, backend=BACKEND, dynamic=True, mode=mode)
        layer.forward = _while_training(plain, compiled)
    return len(layers)


def _while_training(plain: Callable[..., Any], compiled: Callable[..., Any]) -> Callable[..., Any]:
    def forward(*args: Any, **kwargs: Any) -> Any:
        return (compiled if torch.is_grad_enabled() else plain)(*args, **kwargs)

    return forward


def recompute_layers(model: nn.Module) -> int:
    """Use activation checkpointing in the repeated layers. Returns their number.

    Layers with batch norm are excluded, since they would count a batch twice (`model.chunk` handles frame encoders).
    """
    layers = [part for part in repeated_layers(model) if not _has_norm_statistics(part)]
    for layer in layers:
        layer.forward = _recomputed(layer.forward)
    return len(layers)


def _recomputed(plain: Callable[..., Any]) -> Callable[..., Any]:
    def forward(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return plain(*args, **kwargs)
        return checkpoint(plain, *args, use_reentrant=False, **kwargs)

    return forward


def _has_norm_statistics(layer: nn.Module) -> bool:
    return any(isinstance(part, NORMS) for part in layer.modules())


# -- sharded over ranks ----------------------------------------------------------------------------------------------


def shard_model(model: nn.Module, mesh: Any) -> nn.Module:
    """Shard all weights over ranks with FSDP2: repeated layers one by one, then the rest."""
    from torch.distributed.fsdp import fully_shard

    for layer in repeated_layers(model):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


@contextmanager
def unsharded(model: nn.Module) -> Iterator[None]:
    """Context with unsharded weights on every rank, for scoring, where ranks have different numbers of batches and
    words."""
    from torch.distributed.fsdp import FSDPModule

    parts = [part for part in model.modules() if isinstance(part, FSDPModule)]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.reshard()
            part.set_reshard_after_forward(part is not parts[0], recurse=False)  # except the outermost


def whole_tensors(state: Any) -> Any:
    """A state with all sharded tensors gathered on the CPU. All ranks must call it in the same order."""
    from torch.distributed.tensor import DTensor

    if isinstance(state, DTensor):
        return state.full_tensor().cpu()
    if isinstance(state, dict):
        return {key: whole_tensors(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(whole_tensors(value) for value in state)
    return state


def local_optimizer_state(optimizer: Any, state: dict[str, Any]) -> dict[str, Any]:
    """Shard an optimizer's full state like its weights, without communication.

    Args:
        optimizer: optimizer of this rank's weights.
        state: full `Optimizer.state_dict`, from any number of ranks.
    """
    from torch.distributed.tensor import DTensor, distribute_tensor

    if "parts" in state:
        pairs = zip(optimizer.optimizers, state["parts"], strict=True)
        return {"parts": [local_optimizer_state(one, part) for one, part in pairs]}
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    numbers = [number for group in state["param_groups"] for number in group["params"]]

    def as_weight(weight: Tensor, value: Any) -> Any:
        if not isinstance(weight, DTensor) or not isinstance(value, Tensor) or value.shape != weight.shape:
            return value
        return distribute_tensor(value.to(weight.device), weight.device_mesh, weight.placements, src_data_rank=None)

    kept = {
        number: {key: as_weight(weight, value) for key, value in state["state"][number].items()}
        for number, weight in zip(numbers, weights, strict=True)
        if number in state["state"]
    }
    # how a step is computed depends on this machine, not on the state
    groups = [
        {**group, "fused": own.get("fused"), "foreach": own.get("foreach")}
        for group, own in zip(state["param_groups"], optimizer.param_groups, strict=True)
    ]
    return {"state": kept, "param_groups": groups}
