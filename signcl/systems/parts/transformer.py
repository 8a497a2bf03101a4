"""The layers of the Sign Language Transformers in plain torch: embeddings, pre-norm attention, encoder, decoder.

Shared by `slt`, `gaslt` and `recogniser`. Lengths define padding; the published code's test `feature != 0` is not used.
The decoder caches what it has read, so that each generated token costs one step instead of the entire prefix.

Source: neccam/slt (Camgoz et al. 2020), paper Table 4.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from signcl.data.batch import frame_mask
from signcl.systems.parts.layers import MaskedBatchNorm1d

__all__ = ["Attention", "Decoder", "Encoder", "Memory", "NormedEmbedding", "feed_forward", "sinusoids"]

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU}


def sinusoids(length: int, width: int, *, start: int = 0, device: torch.device | None = None) -> Tensor:
    """Positions as alternating sines and cosines. [length, width]

    PE(t, 2i) = sin(t / 10000 ** (2i / width)), PE(t, 2i + 1) = cos of the same.
    """
    place = torch.arange(start, start + length, device=device, dtype=torch.float32)[:, None]
    rate = torch.exp(torch.arange(0, width, 2, device=device, dtype=torch.float32) * (-math.log(10000.0) / width))
    return torch.stack([torch.sin(place * rate), torch.cos(place * rate)], dim=2).flatten(1)[:, :width]


class NormedEmbedding(nn.Module):
    """Batch norm over real positions, then softsign, applied after the linear map of frames and the word embeddings.

    Args:
        width: channels.
        sync: share statistics over ranks.
        keep_padding: keep the released code's values at padding (normalized in evaluation, unchanged in training), for
            an attention that can read them; otherwise padding becomes zero.
    """

    def __init__(self, width: int, *, sync: bool = False, keep_padding: bool = False) -> None:
        super().__init__()
        self.keep_padding = keep_padding
        self.norm = MaskedBatchNorm1d(width, sync=sync)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """Values in (-1, 1), zero at padding. [B, L, width], [B, L] -> [B, L, width]"""
        normed, real = self.norm(values.transpose(1, 2), mask).transpose(1, 2), mask[:, :, None]
        if self.keep_padding:
            return F.softsign(torch.where(real, normed, values) if self.training else normed)
        return F.softsign(normed) * real


class Attention(nn.Module):
    """Multi-head attention with biases and dropout on its weights.

    Args:
        width: size of queries, keys and values.
        heads: must divide width.
        dropout: dropout on the attention weights, in training.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"model.heads must divide model.width, got {heads} and {width}.")
        self.heads, self.dropout = heads, dropout
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def split(self, states: Tensor) -> Tensor:
        """[B, L, width] -> [B, heads, L, width / heads]"""
        return states.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def keys_values(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of states. [B, L, width] -> twice [B, heads, L, width / heads]"""
        return self.split(self.key(states)), self.split(self.value(states))

    def forward(
        self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None, *, causal: bool = False
    ) -> Tensor:
        """Attend.

        Args:
            queries: [B, L, width].
            keys, values: from `keys_values`. [B, heads, M, width / heads]
            mask: True = may be attended to (as in `scaled_dot_product_attention`). [B, M]
            causal: each position attends only to itself and those before it.

        Returns:
            [B, L, width]
        """
        attended = F.scaled_dot_product_attention(
            self.split(self.query(queries)),
            keys,
            values,
            attn_mask=None if mask is None else mask[:, None, None, :],
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=causal,
        )
        out: Tensor = self.out(attended.transpose(1, 2).flatten(2))
        return out

    def among(self, states: Tensor, mask: Tensor) -> Tensor:
        """Self-attention within each clip. [B, S, width], [B, S] True = real -> [B, S, width]"""
        return self(states, *self.keys_values(states), mask)  # type: ignore[no-any-return]


def feed_forward(width: int, ffn: int, dropout: float, activation: str) -> nn.Sequential:
    """Layer norm, linear, activation, dropout, linear.

    Raises:
        ValueError: an unknown activation.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"model.activation: needs one of {', '.join(ACTIVATIONS)}, got {activation!r}.")
    return nn.Sequential(
        nn.LayerNorm(width, eps=1e-6),
        nn.Linear(width, ffn),
        ACTIVATIONS[activation](),
        nn.Dropout(dropout),
        nn.Linear(ffn, width),
    )


class EncoderLayer(nn.Module):
    """Layer norm and self-attention, then the feed-forward part, each with a residual connection."""

    def __init__(self, attention: Attention, width: int, ffn: int, dropout: float, activation: str) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.attention = attention
        self.forward_part = feed_forward(width, ffn, dropout, activation)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """[B, S, width], [B, S] -> [B, S, width]"""
        states = states + self.dropout(self.attention.among(self.norm(states), mask))
        return states + self.dropout(self.forward_part(states))


class Encoder(nn.Module):
    """Encodes frame features: linear, masked batch norm, softsign, positions, pre-norm layers, layer norm.

    Args:
        dim: size of a frame feature.
        width: size of the states.
        layers: number of encoder layers.
        heads, ffn, dropout, attention_dropout, activation: settings of each layer.
        tap: second output, for SignCL: `embedding` (the softsign output, before positions) or `layerK`, the output of
            layer K (counted from 1).
        sync_norm: share batch norm statistics over ranks.
        embedding_dropout: dropout of the embedding, if different from `dropout`.
        attention: factory of a layer's self-attention; None: attention to every frame of the clip.
        keep_padding: see `NormedEmbedding`.
    """

    def __init__(
        self,
        dim: int,
        *,
        width: int,
        layers: int,
        heads: int,
        ffn: int,
        dropout: float,
        attention_dropout: float,
        activation: str,
        tap: str = "embedding",
        sync_norm: bool = False,
        embedding_dropout: float | None = None,
        attention: Callable[[], Attention] | None = None,
        keep_padding: bool = False,
    ) -> None:
        super().__init__()
        attention = attention or (lambda: Attention(width, heads, attention_dropout))
        self.tap = _tap_number(tap, layers)
        self.dim, self.width = dim, width
        self.linear = nn.Linear(dim, width)
        self.embedding = NormedEmbedding(width, sync=sync_norm, keep_padding=keep_padding)
        self.dropout = nn.Dropout(dropout if embedding_dropout is None else embedding_dropout)
        self.layers = nn.ModuleList(EncoderLayer(attention(), width, ffn, dropout, activation) for _ in range(layers))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(
        self, features: Tensor, lengths: Tensor, *, only_tap: bool = False, tap: str | None = None
    ) -> tuple[Tensor, Tensor]:
        """Encode clips without shortening time.

        Args:
            features: padded frame features; padding is never read. [B, T, dim]
            lengths: frames without padding. [B]
            only_tap: stop at the tap; the returned states are then also the tap.
            tap: tap to use instead of the encoder's own.

        Returns:
            The tap and the states, both zero at padding. Twice [B, T, width]
        """
        mask = frame_mask(lengths, features.shape[1])
        at = self.tap if tap is None else _tap_number(tap, len(self.layers))
        states = self.embedding(self.linear(features), mask)
        tapped = states * mask[:, :, None] if self.embedding.keep_padding else states
        if not (only_tap and at == 0):
            states = self.dropout(states + sinusoids(states.shape[1], self.width, device=states.device).to(states))
            for number, layer in enumerate(self.layers, start=1):
                states = layer(states, mask)
                if number == at:
                    tapped = states * mask[:, :, None]
                    if only_tap:
                        return tapped, tapped
            states = self.norm(states) * mask[:, :, None]
        return tapped, states


def _tap_number(tap: str, layers: int) -> int:
    """0 for `embedding`, k for `layerk`."""
    taps = ["embedding", *(f"layer{k + 1}" for k in range(layers))]
    if tap not in taps:
        raise ValueError(f"model.signcl_tap: needs one of {', '.join(taps)}, got {tap!r}.")
    return taps.index(tap)


@dataclass
class Memory:
    """A decoder's cache: the keys and values of each layer for what it has read so far."""

    clips: list[tuple[Tensor, Tensor]]
    """Keys and values of the encoder's states, once per clip. [B, heads, S, width / heads]"""
    mask: Tensor
    """True = real step. [B, S]"""
    words: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    """Keys and values of the tokens read, per row. [R, heads, length, width / heads]"""
    length: int = 0


class DecoderLayer(nn.Module):
    """Causal self-attention, attention to the clip and feed-forward part, each after a layer norm."""

    def __init__(
        self, width: int, heads: int, ffn: int, dropout: float, attention_dropout: float, activation: str
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.attention = Attention(width, heads, attention_dropout)
        self.clip_norm = nn.LayerNorm(width, eps=1e-6)
        self.clip_attention = Attention(width, heads, attention_dropout)
        self.forward_part = feed_forward(width, ffn, dropout, activation)
        self.dropout = nn.Dropout(dropout)


class Decoder(nn.Module):
    """Decodes tokens given a clip: embeddings, masked batch norm, softsign, positions, layers, layer norm.

    Args:
        vocab_size: number of text tokens.
        pad_id: padding token.
        width, layers, heads, ffn, dropout, attention_dropout, activation, sync_norm, embedding_dropout: as in
            `Encoder`.
        word_dim: size of a word embedding, mapped to `width`; None: `width`, without a map.
    """

    def __init__(
        self,
        vocab_size: int,
        pad_id: int,
        *,
        width: int,
        layers: int,
        heads: int,
        ffn: int,
        dropout: float,
        attention_dropout: float,
        activation: str,
        sync_norm: bool = False,
        embedding_dropout: float | None = None,
        word_dim: int | None = None,
    ) -> None:
        super().__init__()
        self.width = width
        self.words = nn.Embedding(vocab_size, word_dim or width, padding_idx=pad_id)
        self.widen = nn.Identity() if word_dim in (None, width) else nn.Linear(word_dim or width, width)
        self.embedding = NormedEmbedding(width, sync=sync_norm)
        self.dropout = nn.Dropout(dropout if embedding_dropout is None else embedding_dropout)
        self.layers = nn.ModuleList(
            DecoderLayer(width, heads, ffn, dropout, attention_dropout, activation) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def remember(self, states: Tensor, step_lengths: Tensor) -> Memory:
        """Create the memory of a batch of clips, with their keys and values in every layer. [B, S, width], [B]"""
        clips = [layer.clip_attention.keys_values(states) for layer in self.layers]  # type: ignore[union-attr, operator]
        return Memory(clips, frame_mask(step_lengths, states.shape[1]))

    def forward(self, tokens: Tensor, real: Tensor, memory: Memory) -> Tensor:
        """Read further tokens after those in `memory`, and add them to it.

        Args:
            tokens: more than one per row only at the start; rows are clips, or clips x beams. [R, L]
            real: True = token, False = padding, on the right. [R, L]

        Returns:
            One state per token. [R, L, width]
        """
        rows, length = tokens.shape
        clips = memory.mask.shape[0]
        states = self.embedding(self.widen(self.words(tokens)), real)
        places = sinusoids(length, self.width, start=memory.length, device=tokens.device)
        states = self.dropout(states + places.to(states))
        for number, layer in enumerate(self.layers):
            normed = layer.norm(states)  # type: ignore[operator]
            keys, values = layer.attention.keys_values(normed)  # type: ignore[union-attr, operator]
            if memory.length:
                before = memory.words[number]
                keys, values = torch.cat([before[0], keys], dim=2), torch.cat([before[1], values], dim=2)
                memory.words[number] = (keys, values)
            else:
                memory.words.append((keys, values))
            attended = layer.attention(normed, keys, values, causal=bool(length > 1))  # type: ignore[operator]
            states = states + layer.dropout(attended)  # type: ignore[operator]
            # treat the beams of a clip as extra queries to the same keys, so that keys are not copied
            queries = layer.clip_norm(states).reshape(clips, -1, self.width)  # type: ignore[operator]
            seen = layer.clip_attention(queries, *memory.clips[number], memory.mask)  # type: ignore[operator]
            states = states + layer.dropout(seen.reshape(rows, length, self.width))  # type: ignore[operator]
            states = states + layer.dropout(layer.forward_part(states))  # type: ignore[operator]
        memory.length += length
        out: Tensor = self.norm(states)
        return out


def xavier(module: nn.Module) -> None:
    """Initialise matrices with Xavier uniform and biases with 0, as published; the padding embedding is 0."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    if isinstance(module, nn.Embedding):
        nn.init.xavier_uniform_(module.weight)
        if module.padding_idx is not None:
            with torch.no_grad():
                module.weight[module.padding_idx].zero_()
