"""What is done to the repeated layers of a network, one by one: compiling, recomputing, sharding over ranks.

A network of this package is mostly a few kinds of layers, each many times. A layer is compiled once and its code serves
its twins; a layer is what is recomputed in the backward pass; a layer is what FSDP gathers at a time. The state of a
sharded model is gathered here too, so that a run folder has one format whatever trained it.
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
"""Of torch.compile."""
VARIANTS = 64
"""Compiled forms of one kind of layer, at most: by its sizes, its place and what needs a gradient."""
NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)


def repeated_layers(model: nn.Module) -> list[nn.Module]:
    """The layers that stand in a row of layers of one class and are called whole, outermost ones only.

    A row is an `nn.ModuleList` or `nn.Sequential` of one or more modules of one class that has children. Layers that
    only hold modules, without a forward of their own, are left out.
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
    """Whether it is called itself and made of modules."""
    container = isinstance(module, nn.ModuleList | nn.Sequential)
    called = type(module).forward is not nn.Module.forward
    return called and not container and any(True for _ in module.children())


def compile_layers(model: nn.Module, mode: str | None, device_type: str) -> int:
    """Compile every repeated layer, once for all of its twins; how many layers that are.

    Only training runs compiled code: scoring and beams have other shapes at every step. Sizes of a batch are symbols
    in it, so that another batch is no other code. On a CPU, layers with batch norm (ResNet, whose blocks are all of
    another size) stay as they are: their convolutions are a library's, and compiling them takes minutes.

    Args:
        mode: of torch.compile; reduce-overhead replays CUDA graphs, one for each set of shapes.
    """
    import torch._dynamo.config as dynamo  # heavy

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
    """Let the repeated layers keep their inputs alone, and compute the rest again in the backward pass; how many.

    Layers with batch norm are left out: they would count a batch twice (`model.chunk` does it for frame encoders).
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
    """Give each rank an equal share of every weight, by FSDP2: repeated layers one by one, then all the rest."""
    from torch.distributed.fsdp import fully_shard

    for layer in repeated_layers(model):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


@contextmanager
def unsharded(model: nn.Module) -> Iterator[None]:
    """Hold the whole weights on every rank, for scoring, where ranks have other numbers of batches and of words."""
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
            part.set_reshard_after_forward(part is not parts[0], recurse=False)  # the outermost keeps its own


def whole_tensors(state: Any) -> Any:
    """A state with every sharded tensor whole and on the CPU. All ranks need to call it, in the same order."""
    from torch.distributed.tensor import DTensor

    if isinstance(state, DTensor):
        return state.full_tensor().cpu()
    if isinstance(state, dict):
        return {key: whole_tensors(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(whole_tensors(value) for value in state)
    return state


def local_optimizer_state(optimizer: Any, state: dict[str, Any]) -> dict[str, Any]:
    """An optimizer's whole state with each tensor sharded as its weight is; nothing is sent.

    Args:
        optimizer: over the weights of this rank.
        state: of `Optimizer.state_dict`, whole, from any number of ranks.
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
    # how a step is computed is of this machine, not of the state
    groups = [
        {**group, "fused": own.get("fused"), "foreach": own.get("foreach")}
        for group, own in zip(state["param_groups"], optimizer.param_groups, strict=True)
    ]
    return {"state": kept, "param_groups": groups}
