"""Shared by GFSLT and VLP: encoding clips as steps, mBART configurations, shared embeddings, and size checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from signcl.data.batch import Batch, frame_mask, pack_positions
from signcl.systems.parts.frames import frame_features
from signcl.systems.parts.layers import EDGES, PAD_VALUE, MaskedBatchNorm1d, TemporalConv

if TYPE_CHECKING:
    from transformers import MBartConfig

__all__ = [
    "FramesAndSteps",
    "SignEmbedding",
    "TiedHead",
    "attention_mask",
    "causal_mask",
    "check_contrast_moves",
    "check_language_model_keys",
    "check_positions",
    "check_steps",
    "decoder_sizes",
    "frames_and_steps",
    "mbart_config",
    "share_words",
    "shift_right",
    "untold_words",
]


class SignEmbedding(nn.Module):
    """Linear, batch norm over real steps, ReLU: maps the convolution's steps to the encoder's inputs."""

    def __init__(self, dim_in: int, width: int, *, as_released: bool = False, sync: bool = False) -> None:
        super().__init__()
        self.as_released = as_released
        self.linear = nn.Linear(dim_in, width)
        self.norm = MaskedBatchNorm1d(width, sync=sync)
        nn.init.xavier_uniform_(self.linear.weight, gain=nn.init.calculate_gain("relu"))

    def forward(self, steps: Tensor, step_lengths: Tensor) -> Tensor:
        """[B, S, dim_in], [B] -> [B, S, width]"""
        mask = None if self.as_released else frame_mask(step_lengths, steps.shape[1])
        return torch.relu(self.norm(self.linear(steps).transpose(1, 2), mask)).transpose(1, 2)


class TiedHead(nn.Module):
    """Output layer tied to the word embeddings; it owns no parameter, so a state dict has the embeddings once."""

    def __init__(self, words: nn.Embedding) -> None:
        super().__init__()
        object.__setattr__(self, "words", words)

    def forward(self, states: Tensor) -> Tensor:
        """[B, U, width] -> [B, U, V]"""
        words: Any = self.words
        return nn.functional.linear(states, words.weight)


def check_language_model_keys(config: Any, keys: Sequence[str]) -> None:
    """Raise ValueError if parts should come from a language model but none is named."""
    for key in keys:
        if getattr(config, key) == "language_model" and not config.language_model:
            raise ValueError(f"model.{key}=language_model needs model.language_model=pretrained:FOLDER_OR_HUB_ID")


def check_positions(recipe: Any) -> None:
    """Raise ValueError if answers may exceed the model's positions, before training starts."""
    longest, positions = recipe.decode.max_new_tokens, recipe.model.max_positions
    if longest >= positions:
        raise ValueError(
            f"decode.max_new_tokens: needs a number from 1 to {positions - 1} (model.max_positions - 1), got {longest}"
        )


def check_contrast_moves(recipe: Any) -> None:
    """Raise ValueError if SignCL has a weight but the frame encoder, which is all that it trains, is frozen."""
    if "visual" in recipe.model.freeze and recipe.loss.weights.get("signcl", 0) > 0:
        raise ValueError("loss.weights.signcl: model.freeze freezes the frame encoder, which is all that it trains")


def decoder_sizes(config: Any) -> list[tuple[str, Any, str]]:
    """Sizes of a text decoder taken from a language model, for `check_language_model`."""
    return [
        ("decoder_layers", config.decoder_layers, "decoder_layers"),
        ("decoder_heads", config.decoder_heads or config.heads, "decoder_attention_heads"),
        ("ffn", config.ffn, "decoder_ffn_dim"),
        ("activation", config.activation, "decoder_activation"),
    ]


def untold_words(found: Any) -> str:
    """The note for a language model that has no tokenizer."""
    return "" if found.tokenizer else "; it has no tokenizer, so its rows are assumed to be this run's words"


def mbart_config(
    *,
    vocab_size: int,
    pad_id: int,
    width: int,
    encoder_layers: int,
    decoder_layers: int,
    heads: int,
    ffn: int,
    dropout: float,
    attention_dropout: float,
    activation: str,
    max_positions: int,
    decoder_heads: int | None = None,
) -> MBartConfig:
    """The transformers configuration of an mBART of these sizes.

    Raises:
        ValueError: heads that do not divide width, an unknown activation, or a pad id outside the vocabulary.
    """
    from transformers import MBartConfig
    from transformers.activations import ACT2FN

    for name, count in (("heads", heads), ("decoder_heads", decoder_heads or heads)):
        if width % count:
            raise ValueError(f"model.{name} must divide model.width, got {count} and {width}.")
    if activation not in ACT2FN:
        raise ValueError(f"model.activation must be relu, gelu, silu or another of transformers', got {activation!r}.")
    if not 0 <= pad_id < vocab_size:
        raise ValueError(f"pad_id must be in the vocabulary of {vocab_size}, got {pad_id}.")
    return MBartConfig(
        vocab_size=vocab_size,
        d_model=width,
        encoder_layers=encoder_layers,
        decoder_layers=decoder_layers,
        encoder_attention_heads=heads,
        decoder_attention_heads=decoder_heads or heads,
        encoder_ffn_dim=ffn,
        decoder_ffn_dim=ffn,
        dropout=dropout,
        attention_dropout=attention_dropout,
        activation_dropout=0.0,
        activation_function=activation,
        scale_embedding=True,
        max_position_embeddings=max_positions,
        tie_word_embeddings=False,  # `share_words` shares embeddings, so that a state dict has each tensor once
        pad_token_id=pad_id,
        bos_token_id=None,
        eos_token_id=None,
        forced_eos_token_id=None,
    )


def share_words(decoder: nn.Module, words: nn.Embedding) -> None:
    """Make an mBART decoder use the embeddings `words` without owning them."""
    del decoder.embed_tokens
    object.__setattr__(decoder, "embed_tokens", words)  # bypasses nn.Module's registration, so parameters have one name


def shift_right(tokens: Tensor, start_id: int) -> Tensor:
    """The decoder's input to predict `tokens`: the start token, then all except the last. [B, U] -> [B, U]"""
    return torch.cat([tokens.new_full((tokens.shape[0], 1), start_id), tokens[:, :-1]], dim=1)


def attention_mask(lengths: Tensor, size: int, queries: int) -> Tensor:
    """Mask with which each query attends to real positions. [B] -> [B, 1, queries, size]

    It is 4D because transformers would synchronise with the device in every step to check whether a 2D mask hides
    anything.
    """
    return frame_mask(lengths, size)[:, None, None, :].expand(-1, 1, queries, -1)


def causal_mask(tokens: Tensor) -> Tensor:
    """Mask with which each word attends to itself and the words before; 4D as `attention_mask`. [B, U] ->
    [B, 1, U, U]"""
    words = tokens.shape[1]
    return torch.ones(words, words, dtype=torch.bool, device=tokens.device).tril().expand(tokens.shape[0], 1, -1, -1)


def with_edge_copies(batch: Batch) -> Batch:
    """The clips with copies of their first and last images, as made by the released loader."""
    left, copies = EDGES["replicate"]
    lengths = [-(-length // 4) * 4 + copies for length in batch.host_lengths]
    rows, start = [], 0
    for length, longer in zip(batch.host_lengths, lengths):
        rows.append((torch.arange(longer) - left).clamp(0, length - 1) + start)
        start += length
    device = batch.inputs.device
    return replace(
        batch,
        inputs=batch.inputs[torch.cat(rows).to(device, non_blocking=True)],
        positions=pack_positions(lengths).to(device, non_blocking=True),
        lengths=torch.tensor(lengths).to(batch.lengths),
        max_length=max(lengths),
        host_lengths=tuple(lengths),
    )


@dataclass(frozen=True)
class FramesAndSteps:
    """A batch of clips after the temporal convolution."""

    features: Tensor
    """Frame features, zero at padding. [B, T, D]"""
    lengths: Tensor
    """[B]"""
    steps: Tensor
    """[B, S, width]"""
    step_lengths: Tensor
    """[B]"""
    contrast: tuple[Tensor, Tensor] | None = None
    """With form=as_released, rows and lengths for SignCL: features with copies of edge frames and 1 at padding.
    [B, L, D], [B]"""


def frames_and_steps(visual: nn.Module, conv: TemporalConv, batch: Batch, max_steps: int) -> FramesAndSteps:
    """Encode clips with the frame encoder and the temporal convolution.

    With form=as_released, images are copied in training, so that batch norms of the frame encoder count the copies too.
    In evaluation features are copied instead, which is equivalent and free.

    Raises:
        ValueError: a clip with more steps than the encoder has positions.
    """
    if not conv.as_released:
        features, lengths = frame_features(visual, batch)
        check_steps(conv, features.shape[1], max_steps)
        return FramesAndSteps(features, lengths, *conv(features, lengths))
    if visual.training and not hasattr(visual, "encode_clips"):  # copies would shift I3D's windows
        check_steps(conv, batch.max_length, max_steps)
        frames, real = frame_features(visual, with_edge_copies(batch))
        left = EDGES["replicate"][0]
        features, lengths = frames[:, left : left + batch.max_length], batch.lengths
        features = features * frame_mask(lengths, batch.max_length)[:, :, None]
        frames = frames.masked_fill(~frame_mask(real, frames.shape[1])[:, :, None], PAD_VALUE)
    else:
        features, lengths = frame_features(visual, batch)
        check_steps(conv, features.shape[1], max_steps)
        frames, real = conv.lengthen(features, lengths)
    steps, step_lengths = conv(frames, real, lengthened=True)
    return FramesAndSteps(features, lengths, steps, step_lengths, contrast=(frames, real))


def check_steps(conv: TemporalConv, num_frames: int, max_positions: int) -> None:
    """Raise ValueError for a clip with more steps than the encoder's positions."""
    steps = conv.num_steps(num_frames)
    if steps > max_positions:
        raise ValueError(
            f"a clip of {num_frames} frames gives {steps} steps, but model.max_positions is {max_positions}; "
            "lower input.max_frames or raise model.max_positions."
        )
