"""Low-rank adapters (LoRA) in chosen linear maps of a frozen network, through peft, which only this file imports."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from torch import nn

__all__ = ["add_lora", "without_lora_names"]


def add_lora(network: nn.Module, names: Sequence[str], *, rank: int, alpha: float, dropout: float, key: str) -> None:
    """Freeze a network and put a trainable product of two thin matrices beside each named linear map.

    out = W x + (alpha / rank) B A dropout(x), with A [rank, in] drawn and B [out, rank] zero at first, so that nothing
    changes before the first step. rank * (in + out) parameters each. A fused map (GPT-2's q, k and v in one) has one A.

    Args:
        network: changed in place; all its own parameters stop being trained.
        names: of the linear maps within it.
        rank: 0 adds nothing and only freezes.
        key: recipe section that a message names.

    Raises:
        ValueError: peft is not installed.
    """
    network.requires_grad_(False)
    if rank == 0:
        return
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise ValueError(
            f"{key}.lora_rank={rank} needs the package peft: pip install 'signcl[lora]', or set {key}.lora_rank=0"
        ) from None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set to False")  # peft then sets it itself
        config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=list(names), bias="none")  # type: ignore[arg-type]
        inject_adapter_in_model(config, network)
    network.requires_grad_(False)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(".lora_" in name)


def without_lora_names(names: Sequence[str]) -> dict[str, str]:
    """The published name of each tensor of a network with adapters -> its name here; adapters are left out."""
    return {name.replace(".base_layer.", "."): name for name in names if ".lora_" not in name}
