"""Low-rank adapters (LoRA): our own module, and peft's in selected linear layers of any network.

Only this file imports peft.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn

from signcl.data.registry import did_you_mean

__all__ = ["LowRank", "add_lora", "attention_maps", "decoder_layers", "named_maps", "published_names"]

ADDED = (".lora_", ".sign_gate")
"""Name parts of the tensors that adapters add to a published network."""
ATTENTION = ("attn", "attention")
MAPS = (
    *("q_proj", "k_proj", "v_proj", "o_proj", "out_proj"),  # XGLM, OPT, Llama, Mistral, Qwen, Gemma, mBART, NLLB
    *("q", "k", "v", "o"),  # T5, mT5
    *("c_attn", "c_proj"),  # GPT-2: q, k, v in one
    *("query_key_value", "dense", "Wqkv", "qkv_proj"),  # GPT-NeoX, Bloom, Falcon, MPT, Phi-3
)


class LowRank(nn.Module):
    """A low-rank product (alpha / rank) up down dropout(x), to be added to the output of a linear layer.

    It has rank * (inputs + outputs) parameters. It has no effect before the first step, since `up` starts at 0.

    Args:
        inputs, outputs: sizes of the linear layer.
        rank: rank of the product.
        alpha: the product is scaled by alpha / rank; None: no scaling.
        dropout: dropout on x.
        spread: standard deviation of the random `down`. None: both matrices have torch's default initialisation, so it
            has an effect from the beginning.
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
    """Freeze a network and add a trainable low-rank product to each named linear layer.

    out = W x + (alpha / rank) B A dropout(x), with A [rank, in] random and B [out, rank] initially zero, so that
    nothing changes before the first step. rank * (in + out) parameters each. A fused layer (GPT-2's q, k and v in one)
    has one A.

    Args:
        network: modified in place; all its original parameters are frozen.
        names: names of the linear layers in it.
        rank: 0 only freezes.
        key: recipe section to name in messages.

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
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set to")  # peft sets it automatically
        warnings.filterwarnings("ignore", message="Model has `tie_word_embeddings=True`")  # only matters for merging
        config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=list(names), bias="none")  # type: ignore[arg-type]
        inject_adapter_in_model(config, network)
    network.requires_grad_(False)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(".lora_" in name)


def published_names(names: Sequence[str]) -> dict[str, str]:
    """Map the published name of each tensor to its name in a network with adapters; omits the adapters."""
    return {name.replace(".base_layer.", "."): name for name in names if not any(mark in name for mark in ADDED)}


def decoder_layers(lm: nn.Module) -> list[Any]:
    """The layers of a causal language model in order: the only list of modules with the configured length.

    Raises:
        ValueError: no such list.
    """
    config: Any = lm.config
    count = getattr(config.get_text_config(decoder=True), "num_hidden_layers", None)
    for part in lm.modules():
        if isinstance(part, nn.ModuleList) and len(part) == count:
            return list(part)
    raise ValueError(
        f"model.lm: no list of {count} layers in {type(lm).__name__}; a decoder-only model such as GPT-2, XGLM, OPT or "
        f"Llama is needed."
    )


def attention_maps(lm: nn.Module) -> list[str]:
    """Names of all attention layers' linear layers (query, key, value, output) in a language model.

    In an encoder-decoder this includes both halves and cross-attention.

    Raises:
        ValueError: none is found.
    """
    found = []
    for name in _linear_maps(lm):
        *path, leaf = name.split(".")
        if leaf in MAPS and any(word in p.lower() for p in path[-2:] for word in ATTENTION):
            found.append(name)
    if not found:
        raise ValueError(
            f"model.lm.lora_rank: no attention layers named {', '.join(MAPS)} in {type(lm).__name__}; set it to 0."
        )
    return found


def named_maps(network: nn.Module, chosen: Sequence[str], key: str) -> list[str]:
    """Names of the linear layers selected by name endings (`q_proj`) or patterns (`*.q`).

    Raises:
        ValueError: no linear layer matches; the closest name ending is suggested.
    """
    maps = _linear_maps(network)
    found: dict[str, None] = {}
    for choice in chosen:
        fitting = [n for n in maps if n == choice or n.endswith(f".{choice}") or fnmatchcase(n, choice)]
        if not fitting:
            ends = sorted({name.split(".")[-1] for name in maps})
            raise ValueError(
                f"{key}: no linear layer of {type(network).__name__} is named {choice}; its name endings are "
                f"{', '.join(ends)}{did_you_mean(choice, ends)}"
            )
        found |= dict.fromkeys(fitting)
    return list(found)


def _linear_maps(network: nn.Module) -> list[str]:
    """Names of the linear layers in a network, including GPT-2's transposed ones."""
    return [n for n, part in network.named_modules() if isinstance(part, nn.Linear) or type(part).__name__ == "Conv1D"]
