"""A causal language model that reads signs: adapters let every layer attend to a clip's steps, gates start closed.

There are two forms. `inside`, as released, is for XGLM: each layer's attention also attends to the steps, with its own
linear maps. `hook` is for any decoder-only transformers model whose layers are one list and take the states as first
argument (GPT-2, OPT, Llama, Mistral, Qwen, ...): a hook before each layer adds the output of its adapter. Published
tensors keep their names in both. Words, search and LoRA are those of `lm.TextDecoder`. This file reads no files and
computes no loss.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from signcl.data.batch import frame_mask
from signcl.data.bounds import bounded
from signcl.systems.parts.lm import LMSizes, TextDecoder
from signcl.systems.parts.lora import decoder_layers
from signcl.systems.parts.signs_in_attention import SignAttention
from signcl.systems.parts.transformer import sinusoids

__all__ = ["AdaptedLM", "AdapterConfig", "SignAdapter"]


@dataclass(frozen=True)
class AdapterConfig(LMSizes):
    """A causal language model with adapters through which its layers attend to the steps."""

    architecture: Literal["gpt2", "xglm", "llama"] = "xglm"
    """Architecture of a randomly initialised model, with the sizes below, `model.dropout` and `model.max_positions`:"""
    train: Literal["auto", "adapters", "all"] = "adapters"
    """adapters: freeze the language model except for adapters and LoRA. all: train it too. auto: adapters for a
    published model; all, without LoRA, for a randomly initialised one."""
    adapters: Literal["inside", "hook"] = "inside"
    """How layers attend to the steps. inside, as released: within their own attention, for XGLM. hook: with a separate
    narrow attention before each layer, for any model."""
    adapter_width: int = bounded(256, low=1, high=65_536)
    """With hook: width of the gated attention to the steps."""
    adapter_heads: int = bounded(8, low=1, high=1024)
    gate: float = bounded(0.0, low=-100, high=100)
    """Initial value of the gates: with inside one per head, clamped to 0..1; with hook one per layer, through tanh. At
    0, as published, the clip has no influence before the first step."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.adapter_width % self.adapter_heads:
            raise ValueError(
                f"model.lm.adapter_heads must divide adapter_width, got {self.adapter_heads} and {self.adapter_width}"
            )
        if self.adapters == "inside" and self.four_bit:
            raise ValueError("model.lm.four_bit needs model.lm.adapters=hook: inside replaces the attention layers")
        if self.adapters == "inside" and not self.name and self.architecture != "xglm":
            raise ValueError(
                f"model.lm.architecture={self.architecture} needs model.lm.adapters=hook: inside is only for xglm"
            )
        if self.adapters == "inside" and (self.adapter_width, self.adapter_heads) != (256, 8):
            raise ValueError(
                "model.lm: adapter_width and adapter_heads belong to adapters=hook; inside has the heads of the "
                "language model"
            )


class SignAdapter(nn.Module):
    """Adapter of one layer in the form `hook`: narrow attention to the steps, times the tanh of a learned gate.

    states + tanh(gate) * out(attention(query(norm(states)), key(steps), value(steps)))

    With model width W and adapter width a: 2 W + (W a + a) + 2 (a^2 + a) + (a W + W) + 1 parameters.

    Args:
        width: width of the language model.
        adapter_width: width of the steps and of the attention.
        heads: must divide adapter_width.
        gate: initial value of the gate. At 0, as published, the layer is initially unchanged, and in the first step
            only the gates have a gradient.
    """

    def __init__(self, width: int, adapter_width: int, heads: int, gate: float = 0.0) -> None:
        super().__init__()
        if adapter_width % heads:
            raise ValueError(f"model.lm.adapter_heads must divide adapter_width, got {heads} and {adapter_width}.")
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, adapter_width)
        self.key, self.value = nn.Linear(adapter_width, adapter_width), nn.Linear(adapter_width, adapter_width)
        self.out = nn.Linear(adapter_width, width)
        self.gate = nn.Parameter(torch.full((1,), gate))
        self.memory: tuple[Tensor, Tensor, Tensor] | None = None

    def remember(self, steps: Tensor, mask: Tensor) -> None:
        """Keep the keys and values of the clips until `forget`. [B, S, adapter_width], [B, S]"""
        self.memory = (self._split(self.key(steps)), self._split(self.value(steps)), mask[:, None, None, :])

    def forget(self) -> None:
        """Drop the keys and values."""
        self.memory = None

    def forward(self, states: Tensor) -> Tensor:
        """R is B or, in beam search, B * beams, with the beams of a clip adjacent. [R, L, width] -> [R, L, width]"""
        if self.memory is None:
            return states
        keys, values, mask = self.memory
        rows, length, width = states.shape
        # treat the beams of a clip as extra queries to the same keys, so that keys are not copied
        queries = self.query(self.norm(states)).reshape(keys.shape[0], -1, self.query.out_features)
        seen = F.scaled_dot_product_attention(self._split(queries), keys, values, attn_mask=mask)
        found = self.out(seen.transpose(1, 2).flatten(2)).reshape(rows, length, width)
        return states + (torch.tanh(self.gate) * found).to(states.dtype)

    def before_layer(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """Forward pre-hook: adds the adapter's output to the layer's input states."""
        if args:
            return (self(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": self(kwargs["hidden_states"])}

    def _split(self, rows: Tensor) -> Tensor:
        return rows.unflatten(2, (self.heads, -1)).transpose(1, 2)


class AdaptedLM(TextDecoder):
    """A causal language model with LoRA in its attention, in which each layer attends to the steps of a clip.

    `inside`: steps with sine positions -> linear to the model's width W -> `SignAttention` in every layer;
    step_width * W + W parameters for the linear map. `hook`: steps -> linear and layer norm -> a `SignAdapter` before
    every layer. The model's input is the start token and the sentence, as in its pretraining.

    Args:
        lm: a causal language model of transformers; modified in place.
        step_width: width of the steps.
        words: the tokenizer, or `Marks`.
        config: kind of adapters and what to train. LoRA: with inside see `SignAttention`, with hook `add_lora`.

    Raises:
        ValueError: an encoder-decoder, a model whose layers or attention cannot be found, or a model other than XGLM
            with inside.
    """

    def __init__(self, lm: nn.Module, step_width: int, words: Any, config: AdapterConfig) -> None:
        self.inside = config.adapters == "inside"
        sizes: Any = lm.config
        if sizes.is_encoder_decoder:
            raise ValueError(
                f"model.lm.name={config.name}: adapters need a causal model such as XGLM or GPT-2, got the "
                f"encoder-decoder {sizes.model_type}"
            )
        if self.inside and sizes.model_type != "xglm":
            raise ValueError(
                f"model.lm.adapters=inside needs an XGLM, as published, got {sizes.model_type}; set it to hook, "
                f"which any decoder-only model takes"
            )
        layers = decoder_layers(lm)
        super().__init__(lm, words, config)
        self.project: nn.Module
        width = sizes.get_text_config(decoder=True).hidden_size
        if self.inside:
            self.project = nn.Linear(step_width, width)
            for layer in layers:
                layer.self_attn = SignAttention(
                    layer.self_attn,
                    layer.self_attn_layer_norm,
                    gate=config.gate,
                    rank=config.rank,
                    alpha=config.lora_alpha,
                    dropout=config.lora_dropout,
                )
            return
        inner = config.adapter_width
        self.project = nn.Sequential(nn.Linear(step_width, inner), nn.LayerNorm(inner))
        self.adapters = nn.ModuleList(SignAdapter(width, inner, config.adapter_heads, config.gate) for _ in layers)
        for layer, adapter in zip(layers, self.adapters):
            layer.register_forward_pre_hook(adapter.before_layer, with_kwargs=True)

    def _lora(self, config: LMSizes) -> None:
        if not self.inside:
            super()._lora(config)

    def readers(self) -> Sequence[Any]:
        """The modules that attend to the steps, one per layer: `SignAttention` or `SignAdapter`."""
        return [layer.self_attn for layer in decoder_layers(self.lm)] if self.inside else list(self.adapters)

    def inputs(
        self, steps: Tensor, step_lengths: Tensor, prompts: Sequence[str] | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """The model's input before a sentence: the start token. [B, 1, width]"""
        start = torch.full((steps.shape[0], 1), self.start_id, device=steps.device)
        return self.embed(start), None

    def forward(
        self, tokens: Tensor, steps: Tensor, step_lengths: Tensor, prompts: Sequence[str] | None = None
    ) -> Tensor:
        """Token scores at each position of `tokens`, given the clip and the tokens before it. [B, U],
        [B, S, step_width], [B] -> [B, U, V]
        """
        with self._looking_at(steps, step_lengths):
            return super().forward(tokens, steps, step_lengths, prompts)

    def exported_word(self, tokens: Tensor, steps: Tensor, step_lengths: Tensor) -> Tensor:
        """Log-probabilities of the next token after `tokens`, which begin with the start token. [B, U], ... ->
        [B, V]"""
        with self._looking_at(steps, step_lengths):
            return self._next_word(tokens, *self.inputs(steps, step_lengths))

    @torch.no_grad()
    def generate(
        self,
        steps: Tensor,
        step_lengths: Tensor,
        *,
        num_beams: int,
        length_penalty: float,
        max_new_tokens: int,
        prompts: Sequence[str] | None = None,
        most: int = 1,
    ) -> Tensor:
        """Generate sentences; the keys and values of the steps are computed once. [B, U] long, padded with pad_id"""
        with self._looking_at(steps, step_lengths):
            return super().generate(
                steps,
                step_lengths,
                num_beams=num_beams,
                length_penalty=length_penalty,
                max_new_tokens=max_new_tokens,
                prompts=prompts,
                most=most,
            )

    @contextlib.contextmanager
    def _looking_at(self, steps: Tensor, step_lengths: Tensor) -> Iterator[None]:
        """Context in which every layer attends to these steps."""
        if self.inside:
            steps = steps + sinusoids(steps.shape[1], steps.shape[2], device=steps.device).to(steps.dtype)
        projected, mask = self.project(steps), frame_mask(step_lengths, steps.shape[1])
        try:
            for reader in self.readers():
                reader.remember(projected, mask)
            yield
        finally:
            for reader in self.readers():
                reader.forget()
