"""4-bit linear layers (bitsandbytes NF4) for frozen language models, with an eighth of the memory of float32.

A run folder stores unpacked values, so that it loads without bitsandbytes; packing them again gives the same bits. Only
this file imports bitsandbytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["FourBitLinear", "hold_in_four_bits"]

BLOCK = 64  # values per scale; the default of QLoRA


class FourBitLinear(nn.Linear):
    """A frozen linear layer whose weight is packed when it is loaded; its bias is not packed.

    The weight buffer has half a byte per value and one scale per 64 values. The backward pass unpacks the weight again,
    so training never keeps it unpacked.

    Args:
        linear: the layer to replace.
    """

    def __init__(self, linear: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.packed: Tensor | None
        self.absmax: Tensor | None
        self.register_buffer("packed", None, persistent=False)
        self.register_buffer("absmax", None, persistent=False)

    @property
    def packed_parameters(self) -> int:
        """Number of packed values, which `parameters()` does not list."""
        return 0 if self.packed is None else self.in_features * self.out_features

    def pack(self, weight: Tensor) -> None:
        """Pack and store this weight. [out, in]"""
        import bitsandbytes.functional as bits

        packed, state = bits.quantize_4bit(weight.detach().float().contiguous(), blocksize=BLOCK, quant_type="nf4")
        self.packed, self.absmax = packed, state.absmax
        self.weight = None  # type: ignore[assignment]

    def unpacked(self) -> Tensor:
        """The unpacked weight. [out, in] float32"""
        import bitsandbytes.functional as bits

        assert self.packed is not None
        return bits.dequantize_4bit(self.packed, self._state(torch.float32))

    def _state(self, dtype: torch.dtype) -> Any:
        import bitsandbytes.functional as bits

        assert self.absmax is not None
        code = bits.get_4bit_type("nf4", device=self.absmax.device, blocksize=BLOCK)
        return bits.QuantState(
            absmax=self.absmax,
            shape=torch.Size((self.out_features, self.in_features)),
            code=code,
            blocksize=BLOCK,
            quant_type="nf4",
            dtype=dtype,
        )

    def forward(self, input: Tensor) -> Tensor:
        """[..., in] -> [..., out]"""
        if self.packed is None:
            return super().forward(input)
        import bitsandbytes as bnb

        kind = input.device.type
        if torch.is_autocast_enabled(kind):
            input = input.to(torch.get_autocast_dtype(kind))
        bias = None if self.bias is None else self.bias.to(input.dtype)
        found: Tensor = bnb.matmul_4bit(input, self.packed.t(), quant_state=self._state(input.dtype), bias=bias)
        return found

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.packed is not None:
            destination[f"{prefix}weight"] = self.unpacked()

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        name = f"{prefix}weight"
        given = state_dict.get(name)
        if given is None or given.shape != (self.out_features, self.in_features):
            super()._load_from_state_dict(state_dict, prefix, *args)
            return
        device = self.weight.device if self.packed is None else self.packed.device
        self.pack(given.to(device))
        rest = {key: value for key, value in state_dict.items() if key.startswith(prefix) and key != name}
        super()._load_from_state_dict(rest, prefix, *args)


def hold_in_four_bits(network: nn.Module, leave: Sequence[nn.Module | None] = ()) -> None:
    """Replace every linear layer of a network by a `FourBitLinear`, which packs its weight when it is loaded.

    A layer whose number of inputs is not a multiple of 64 stays as it is: on a CPU, bitsandbytes 0.50 unpacks such
    weights wrongly. Published models have multiples of 64.

    Args:
        leave: layers to keep, such as the output layer, which is often tied to the word embeddings.

    Raises:
        ValueError: bitsandbytes is not installed.
    """
    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        raise ValueError(
            "model.lm.four_bit needs the package bitsandbytes: pip install 'signcl[four-bit]', or set "
            "model.lm.four_bit=false"
        ) from None
    kept = {id(part) for part in leave}
    for parent in list(network.modules()):
        for name, part in list(parent.named_children()):
            if type(part) is nn.Linear and id(part) not in kept and part.in_features % BLOCK == 0:
                setattr(parent, name, FourBitLinear(part))
