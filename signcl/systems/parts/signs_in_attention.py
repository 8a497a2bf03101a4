"""The attention of an XGLM layer that reads signs: with LoRA, and with gated attention to the steps of a clip.

This is the released form of Sign2GPT. It replaces transformers' XGLMAttention and keeps its layers under their names,
so that published weights still fit. Other language models read signs with `adapted_lm.SignAdapter`.

Source: Sign2GPT (ICLR 2024); equal to the released code (tests/references/sign2gpt.safetensors).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from signcl.systems.parts.lora import LowRank

__all__ = ["SignAttention", "open_gate"]

SPREAD = 0.2  # standard deviation of LoRA's random low-rank matrices, as released


class _Between(torch.autograd.Function):
    """Straight-through clamp to 0..1: the gradient is that of the unclamped value."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return value.clamp(min=0.0, max=1.0)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        return upstream


def open_gate(gate: Tensor) -> Tensor:
    """Clamp a gate to 0..1 with a straight-through gradient, so that a gate at 0 can open."""
    held: Tensor = _Between.apply(gate)  # type: ignore[no-untyped-call]
    return held


class SignAttention(nn.Module):
    """Self-attention over words plus gated attention to the clip's steps with the same linear layers, added per head.

        out((softmax(q k') v) + gate * softmax(q_s k_s') v_s),    q, k, v of the words x, with LoRA
        q_s = query(x) + lora_sign_q(x),   k_s, v_s = key, value(norm(steps)) + lora_sign_k, v(norm(steps))

    norm is the layer norm before this attention. With width W, rank r and H heads: 14 r W + H trained parameters (7
    LoRA products and one gate per head), 114,704 at W = 2048, r = 4, H = 16.

    Args:
        attention: transformers' XGLMAttention, whose linear layers are reused.
        norm: the layer norm before it; not owned.
        gate: initial value of the gates. At 0, as published, the layer is initially unchanged.
        rank: rank of LoRA; 0: no LoRA, so the clip is read with the pretrained layers only.
        alpha: LoRA is scaled by alpha / rank, except for the output layer, where the released code has no scale and no
            dropout.
        dropout: dropout on LoRA's input.
    """

    lora_q: nn.Module | None
    lora_k: nn.Module | None
    lora_v: nn.Module | None
    lora_out: nn.Module | None
    lora_sign_q: nn.Module | None
    lora_sign_k: nn.Module | None
    lora_sign_v: nn.Module | None

    def __init__(
        self, attention: Any, norm: nn.Module, *, gate: float, rank: int, alpha: float, dropout: float
    ) -> None:
        super().__init__()
        self.heads, self.attention_dropout = attention.num_heads, attention.dropout
        self.layer_idx: int = attention.layer_idx
        self.q_proj, self.k_proj, self.v_proj = attention.q_proj, attention.k_proj, attention.v_proj
        self.out_proj = attention.out_proj
        self._norm = (norm,)  # in a tuple: the layer owns it, and registering it here too would give it two names
        self.sign_gate = nn.Parameter(torch.full((self.heads,), gate))
        width = self.out_proj.out_features
        words = {"alpha": alpha, "dropout": dropout, "spread": SPREAD}
        kinds: dict[str, dict[str, Any]] = {
            **{"lora_q": words, "lora_k": words, "lora_v": words, "lora_sign_q": words},
            "lora_out": {**words, "alpha": None, "dropout": 0.0},
            **{name: {**words, "spread": None} for name in ("lora_sign_k", "lora_sign_v")},
        }
        for name, kind in kinds.items():
            self.add_module(name, LowRank(width, width, rank, **kind) if rank else None)
        self.memory: tuple[Tensor, Tensor, Tensor] | None = None

    def remember(self, steps: Tensor, mask: Tensor) -> None:
        """Keep the keys and values of the clips until `forget`. [B, S, W], [B, S]"""
        normed = self._norm[0](steps)
        keys = self._mapped(normed, self.k_proj, self.lora_sign_k)
        values = self._mapped(normed, self.v_proj, self.lora_sign_v)
        self.memory = (keys, values, mask[:, None, None, :])

    def forget(self) -> None:
        """Drop the keys and values."""
        self.memory = None

    def forward(
        self,
        hidden_states: Tensor,
        past_key_values: Any = None,
        attention_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, None]:
        """Called by a transformers layer; returns None instead of attention weights.

        Args:
            hidden_states: R is B or, in beam search, B * beams, with the beams of a clip adjacent. [R, L, W]
            past_key_values: transformers' key-value cache.
            attention_mask: True or 0 where a word may attend. [R, 1, L, all words so far]
        """
        query = self._mapped(hidden_states, self.q_proj, self.lora_q)
        keys = self._mapped(hidden_states, self.k_proj, self.lora_k)
        values = self._mapped(hidden_states, self.v_proj, self.lora_v)
        if past_key_values is not None:
            keys, values = past_key_values.update(keys, values, self.layer_idx)
        drop = self.attention_dropout if self.training else 0.0
        causal = attention_mask is None and bool(query.shape[2] > 1)
        seen = F.scaled_dot_product_attention(
            query, keys, values, attn_mask=attention_mask, dropout_p=drop, is_causal=causal
        )
        if self.memory is not None:
            looking = self._mapped(hidden_states, self.q_proj, self.lora_sign_q)
            seen = seen + open_gate(self.sign_gate)[:, None, None].to(seen.dtype) * self._signs(looking, drop)
        seen = seen.transpose(1, 2).flatten(2)
        out = self.out_proj(seen)
        return (out if self.lora_out is None else out + self.lora_out(seen)), None

    def _signs(self, looking: Tensor, drop: float) -> Tensor:
        """Attention of words to the steps of their clip. [R, heads, L, d] -> [R, heads, L, d]"""
        assert self.memory is not None
        keys, values, mask = self.memory
        rows, heads, length, size = looking.shape
        # treat the beams of a clip as extra queries to the same keys, so that keys are not copied
        beams = looking.unflatten(0, (keys.shape[0], -1)).transpose(1, 2).flatten(2, 3)  # [B, heads, beams * L, d]
        seen = F.scaled_dot_product_attention(beams, keys, values, attn_mask=mask, dropout_p=drop)
        return seen.unflatten(2, (-1, length)).transpose(1, 2).reshape(rows, heads, length, size)

    def _mapped(self, rows: Tensor, of: nn.Module, change: nn.Module | None) -> Tensor:
        """Apply a linear layer and its LoRA and split into heads. [R, L, W] -> [R, heads, L, d]"""
        mapped: Tensor = of(rows) if change is None else of(rows) + change(rows)
        return mapped.unflatten(2, (self.heads, -1)).transpose(1, 2)
