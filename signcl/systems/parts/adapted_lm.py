"""A causal language model that reads signs: adapters let every layer look at the steps of a clip, gates start closed.

Two forms. `inside` is the released one: the attention of each layer reads the steps with its own maps, for XGLM. `hook`
works with any decoder-only model of transformers whose layers stand in one list and take their states first (GPT-2,
OPT, Llama, Mistral, Qwen, ...): a hook before each layer adds what its adapter has seen. In both every published tensor
keeps its name. Takes a model, reads no file, computes no loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from signcl.data.batch import frame_mask
from signcl.systems.parts.lora import add_lora
from signcl.systems.parts.signs_in_attention import SignAttention
from signcl.systems.parts.transformer import sinusoids

__all__ = ["AdaptedLM", "SignAdapter", "attention_maps", "decoder_layers"]

ATTENTION = ("attn", "attention")
MAPS = (
    *("q_proj", "k_proj", "v_proj", "o_proj", "out_proj"),  # XGLM, OPT, Llama, Mistral, Qwen, Gemma
    *("c_attn", "c_proj"),  # GPT-2: q, k, v in one
    *("query_key_value", "dense", "Wqkv", "qkv_proj"),  # GPT-NeoX, Bloom, Falcon, MPT, Phi-3
)


class SignAdapter(nn.Module):
    """One layer's look at the steps in the form `hook`: attention in a narrow width, times the tanh of a learned gate.

    states + tanh(gate) * out(attention(query(norm(states)), key(steps), value(steps)))

    With model width W and adapter width a: 2 W + (W a + a) + 2 (a^2 + a) + (a W + W) + 1 parameters.

    Args:
        width: of the language model.
        adapter_width: of the steps given to it, and of the attention.
        heads: must divide adapter_width.
        gate: what the gate starts at. At 0, as published, a fresh layer is the layer as it was, and the first step's
            gradient reaches the gates alone.
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
        """Keep nothing."""
        self.memory = None

    def forward(self, states: Tensor) -> Tensor:
        """Rows of R = B or, in beam search, B * beams, those of a clip together. [R, L, width] -> the same"""
        if self.memory is None:
            return states
        keys, values, mask = self.memory
        rows, length, width = states.shape
        # the beams of a clip are further queries to the same keys, so that keys are never copied
        queries = self.query(self.norm(states)).reshape(keys.shape[0], -1, self.query.out_features)
        seen = F.scaled_dot_product_attention(self._split(queries), keys, values, attn_mask=mask)
        found = self.out(seen.transpose(1, 2).flatten(2)).reshape(rows, length, width)
        return states + (torch.tanh(self.gate) * found).to(states.dtype)

    def before_layer(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """The hook: a layer is given states that have seen the clip."""
        if args:
            return (self(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": self(kwargs["hidden_states"])}

    def _split(self, rows: Tensor) -> Tensor:
        return rows.unflatten(2, (self.heads, -1)).transpose(1, 2)


class AdaptedLM(nn.Module):
    """A causal language model with LoRA in its attention, each of whose layers looks at the steps of a clip.

    `inside`: steps with sine positions -> linear to the model's width W -> `SignAttention` in every layer;
    step_width * W + W parameters for the linear map. `hook`: steps -> linear and layer norm -> a `SignAdapter` before
    every layer.

    Args:
        lm: a causal language model of transformers; changed in place.
        step_width: of the steps.
        pad_id: marks padding in tokens; may lie beyond the model's vocabulary, as GPT-2 has no such token.
        start_id: what the model reads first.
        end_id: token that ends a sentence.
        adapters: inside (XGLM) or hook (any model).
        adapter_width, adapter_heads: of hook, see `SignAdapter`.
        gate: what the gates start at.
        lora_rank, lora_alpha, lora_dropout: of inside see `SignAttention`, of hook `add_lora`; rank 0 leaves LoRA out.
        train_all: the language model itself is trained too, for one that starts at random.

    Raises:
        ValueError: a model in which layers or attention cannot be found, or no XGLM for inside.
    """

    def __init__(
        self,
        lm: nn.Module,
        step_width: int,
        *,
        pad_id: int,
        start_id: int,
        end_id: int,
        adapters: Literal["inside", "hook"] = "inside",
        adapter_width: int = 256,
        adapter_heads: int = 8,
        gate: float = 0.0,
        lora_rank: int = 4,
        lora_alpha: float = 4.0,
        lora_dropout: float = 0.1,
        train_all: bool = False,
    ) -> None:
        super().__init__()
        self.pad_id, self.start_id, self.end_id = pad_id, start_id, end_id
        config: Any = lm.config
        self.config = config
        text: Any = config.get_text_config(decoder=True)
        self.max_positions: int = getattr(text, "max_position_embeddings", None) or 2**31
        layers: list[Any] = decoder_layers(lm)
        lm.requires_grad_(train_all)
        self.inside = adapters == "inside"
        self.lm: Any = lm
        self.project: nn.Module
        if self.inside:
            if config.model_type != "xglm":
                raise ValueError(
                    f"model.lm.adapters=inside needs an XGLM, as published, got {config.model_type}; set it to hook, "
                    f"which any decoder-only model takes"
                )
            self.project = nn.Linear(step_width, text.hidden_size)
            for layer in layers:
                layer.self_attn = SignAttention(
                    layer.self_attn,
                    layer.self_attn_layer_norm,
                    gate=gate,
                    rank=lora_rank,
                    alpha=lora_alpha,
                    dropout=lora_dropout,
                )
            return
        maps = attention_maps(lm) if lora_rank else []
        add_lora(lm, maps, rank=lora_rank, alpha=lora_alpha, dropout=lora_dropout, key="model.lm")
        if train_all:
            lm.requires_grad_(True)
        self.project = nn.Sequential(nn.Linear(step_width, adapter_width), nn.LayerNorm(adapter_width))
        self.adapters = nn.ModuleList(SignAdapter(text.hidden_size, adapter_width, adapter_heads, gate) for _ in layers)
        for layer, adapter in zip(layers, self.adapters):
            layer.register_forward_pre_hook(adapter.before_layer, with_kwargs=True)  # type: ignore[arg-type]

    def readers(self) -> Sequence[Any]:
        """What looks at the steps, one for each layer: `SignAttention` or `SignAdapter`."""
        return [layer.self_attn for layer in decoder_layers(self.lm)] if self.inside else list(self.adapters)  # type: ignore[union-attr]

    def described(self) -> dict[str, Any]:
        """The language model's configuration, for the run folder."""
        described: dict[str, Any] = self.config.to_dict()
        return described

    def forward(self, tokens: Tensor, steps: Tensor, step_lengths: Tensor) -> Tensor:
        """Scores of `tokens`, position by position, given the clip and the tokens before.

        Padding stands right, so causality hides it. [B, U], [B, S, step_width], [B] -> [B, U, V]
        """
        self._check_length(tokens.shape[1])
        start = tokens.new_full((len(tokens), 1), self.start_id)
        read = torch.cat([start, tokens[:, :-1]], dim=1)
        read = read.masked_fill(read == self.pad_id, self.end_id)  # any token that the model has
        return self.scores(read, steps, step_lengths)

    def scores(self, read: Tensor, steps: Tensor, step_lengths: Tensor) -> Tensor:
        """Scores of what follows each token read, the start token first. [B, U], ... -> [B, U, V]"""
        self._remember(steps, step_lengths)
        try:
            logits: Tensor = self.lm(input_ids=read, use_cache=False).logits
        finally:
            self._forget()
        return logits

    @torch.no_grad()
    def generate(
        self, steps: Tensor, step_lengths: Tensor, *, num_beams: int, length_penalty: float, max_new_tokens: int
    ) -> Tensor:
        """Write sentences; the keys and values of the steps are computed once. [B, U] long, padded with pad_id"""
        if num_beams < 1 or max_new_tokens < 1:
            raise ValueError(
                f"generate needs num_beams and max_new_tokens of at least 1, got {num_beams} and {max_new_tokens}."
            )
        from transformers import GenerationConfig

        self._check_length(max_new_tokens)
        settings = GenerationConfig(
            num_beams=num_beams,
            length_penalty=length_penalty if num_beams > 1 else None,
            early_stopping=False,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            use_cache=True,
            pad_token_id=self.end_id,  # a finished row goes on with a token that the model has
            bos_token_id=self.start_id,
            eos_token_id=self.end_id,
            forced_bos_token_id=None,
            forced_eos_token_id=None,
        )
        start = torch.full((len(steps), 1), self.start_id, device=steps.device)
        self._remember(steps, step_lengths)
        try:
            ids: Tensor = self.lm.generate(
                input_ids=start, attention_mask=torch.ones_like(start), generation_config=settings
            )
        finally:
            self._forget()
        ids = ids[:, 1:]
        ends = ids == self.end_id
        return ids.masked_fill((ends.cumsum(dim=1) - ends.long()) > 0, self.pad_id)

    def _check_length(self, tokens: int) -> None:
        if tokens > self.max_positions:
            raise ValueError(
                f"a sentence of {tokens} tokens is longer than the {self.max_positions} positions of the language "
                f"model; lower text.max_tokens or decode.max_new_tokens."
            )

    def _remember(self, steps: Tensor, step_lengths: Tensor) -> None:
        if self.inside:
            steps = steps + sinusoids(steps.shape[1], steps.shape[2], device=steps.device).to(steps.dtype)
        projected, mask = self.project(steps), frame_mask(step_lengths, steps.shape[1])
        for reader in self.readers():
            reader.remember(projected, mask)

    def _forget(self) -> None:
        for reader in self.readers():
            reader.forget()


def decoder_layers(lm: nn.Module) -> list[Any]:
    """The layers of a causal language model, in order: the one list of modules as long as its configuration says.

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
    """Names of the linear maps of attention (query, key, value, output) in every layer of a language model.

    Raises:
        ValueError: none is found.
    """
    inside = {id(part) for layer in decoder_layers(lm) for part in layer.modules()}
    found = []
    for name, part in lm.named_modules():
        *path, leaf = name.split(".")
        linear = isinstance(part, nn.Linear) or type(part).__name__ == "Conv1D"  # GPT-2's transposed linear
        if id(part) in inside and linear and leaf in MAPS and any(word in p for p in path[-2:] for word in ATTENTION):
            found.append(name)
    if not found:
        raise ValueError(
            f"model.lm.lora_rank: no attention maps named {', '.join(MAPS)} in {type(lm).__name__}; set it to 0."
        )
    return found
