"""Low-rank adapters (LoRA): a module of our own, and peft's in chosen linear maps of any network.

Only this file imports peft.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from torch import Tensor, nn

__all__ = ["LowRank", "add_lora", "published_names"]

ADDED = (".lora_", ".sign_gate")
"""In the name of every tensor that adapters add to a published network."""


class LowRank(nn.Module):
    """A product of two thin matrices: (alpha / rank) up down dropout(x), to be added to what a linear map gives.

    rank * (inputs + outputs) parameters. It adds nothing before the first step, since `up` starts at 0.

    Args:
        inputs, outputs: sizes of the linear map that it stands beside.
        rank: of the product.
        alpha: the product is scaled by alpha / rank; None leaves it as it is.
        dropout: on x.
        spread: standard deviation of the random `down`. None: both matrices start as torch starts a linear map, so
            that it adds something from the beginning.
    """

    def __init__(
        self, inputs: int, outputs: int, rank: int, *, alpha: float | None, dropout: float, spread: float | None
    ) -> None:
        super().__init__()
        self.scale = 1.0 if alpha is None else alpha / rank
        self.dropout = nn.Dropout(dropout)
        self.down, self.up = nn.Linear(inputs, rank, bias=False), nn.Linear(rank, outputs, bias=False)
        if spread is not None:
            nn.init.normal_(self.down.weight, std=spread)
            nn.init.zeros_(self.up.weight)

    def forward(self, rows: Tensor) -> Tensor:
        """[..., inputs] -> [..., outputs]"""
        product: Tensor = self.up(self.down(self.dropout(rows)))
        return product * self.scale


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


def published_names(names: Sequence[str]) -> dict[str, str]:
    """The published name of each tensor of a network with adapters -> its name here; adapters are left out."""
    return {name.replace(".base_layer.", "."): name for name in names if not any(mark in name for mark in ADDED)}
