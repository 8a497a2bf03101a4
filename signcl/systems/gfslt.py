"""GFSLT: gloss-free translation from frames to a sentence, the network of the finetuning stage (paper Table 5).

Frame encoder, temporal convolution, a linear "sign embedding", and an mBART-shaped encoder and decoder with its own
word head. Takes plain numbers, reads no file, computes no loss.

At the published sizes (ResNet-18, width 1024, 3+3 layers of 8 heads and 4096, trimmed vocabulary of 2454) it has the
115,412,544 parameters of the official finetuning log:

    11,176,512  ResNet-18 without its classifier
     7,870,464  temporal convolution: 2,622,464 + 5,243,904, and two batch norms of 2,048
     1,051,648  sign embedding: linear 1,049,600 and batch norm 2,048
    37,788,672  3 encoder layers of 12,596,224
    50,390,016  3 decoder layers of 16,796,672
     2,109,440  positions (1024 + 2 rows) and two layer norms, once for the encoder and once for the decoder
     2,512,896  one word table, shared by encoder and decoder
     2,512,896  word head, untied, without bias
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, MBartConfig, MBartForConditionalGeneration
from transformers.activations import ACT2FN
from transformers.modeling_outputs import BaseModelOutput

from signcl.data.batch import Batch, frame_mask
from signcl.systems.parts.frames import (
    Tapped,
    feature_lengths,
    feature_size,
    frame_features,
    no_such_tap,
    tap_of_frames,
)
from signcl.systems.parts.layers import MaskedBatchNorm1d, TemporalConv

__all__ = ["GFSLT", "GFSLTEncoding", "GFSLTOutput", "SignEmbedding"]


@dataclass(frozen=True)
class GFSLTEncoding:
    """A batch of clips after the encoder."""

    features: Tensor
    """Frame features, where SignCL and density look: for ResNet the mean over its last map. [B, T, D]"""
    lengths: Tensor
    """[B]"""
    steps: Tensor
    """Encoder states, one per step of about four frames. [B, S, width]"""
    step_lengths: Tensor
    """[B]"""


@dataclass(frozen=True)
class GFSLTOutput(GFSLTEncoding):
    """A batch of clips and the decoder's opinion on their sentences."""

    logits: Tensor
    """Scores of `batch.tokens`, position by position, given the tokens before. [B, U, V]"""


class SignEmbedding(nn.Module):
    """Linear, batch norm over real steps, ReLU: from the convolution's steps to the encoder's inputs."""

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


def adapter_of(kind: str, dim_in: int, width: int) -> nn.Module:
    """What stands in the place of the sign embedding, without batch statistics; takes and gives the same shapes."""
    if kind == "linear":
        return StepMap(nn.Linear(dim_in, width))
    if kind == "mlp":
        return StepMap(nn.Linear(dim_in, width), nn.GELU(), nn.Linear(width, width))
    raise ValueError(f"model.adapter: needs sign_emb, linear or mlp, got {kind!r}")


class StepMap(nn.Sequential):
    """Layers that treat each step alone, so that lengths do not matter to them."""

    def forward(self, steps: Tensor, step_lengths: Tensor) -> Tensor:  # type: ignore[override]
        """[B, S, dim_in], [B] -> [B, S, width]"""
        mapped: Tensor = super().forward(steps)
        return mapped


class TiedHead(nn.Module):
    """Word scores from the word table itself; owns no parameter, so a state dict names the table once."""

    def __init__(self, words: nn.Embedding) -> None:
        super().__init__()
        object.__setattr__(self, "words", words)

    def forward(self, states: Tensor) -> Tensor:
        """[B, U, width] -> [B, U, V]"""
        words: Any = self.words
        return nn.functional.linear(states, words.weight)


class GFSLT(nn.Module):
    """Clips in, sentences out.

    Words are embedded with the factor sqrt(width) and steps with the factor 1, as in the released model (its language
    model has `scale_embedding` on, which transformers applies to word ids only).

    Args:
        visual: frame encoder with attribute `dim`.
        vocab_size: text tokens V.
        pad_id: token id of padding.
        start_id: what the decoder reads first (mBART: the language code).
        end_id: token that ends a sentence.
        width: of encoder, decoder and embeddings.
        conv_width: of the temporal convolution.
        encoder_layers: of the Transformer encoder over steps.
        decoder_layers: of the text decoder.
        heads: attention heads; must divide width.
        decoder_heads: of the decoder where they differ (16 in the released LLMD configuration).
        ffn: hidden size of the feed-forward layers.
        dropout: on embeddings and layer outputs.
        attention_dropout: on attention weights.
        activation: of the feed-forward layers (relu; gelu in LLMD).
        tie_embeddings: the word head uses the word table. The released model has its own head.
        max_positions: longest input in steps and longest output in tokens.
        as_released: padding seen by the batch norms, as in the released code.
        sync_norm: batch norm statistics of `conv` and `sign_emb` summed over ranks.
        adapter: the module `sign_emb`: sign_emb (linear, batch norm, ReLU), linear, or mlp (linear, GELU, linear).

    Source: paper Table 5 and section 4.1; released GFSLT-VLP.
    """

    TAPS = ("features", "conv", "steps")

    def __init__(
        self,
        visual: nn.Module,
        *,
        vocab_size: int,
        pad_id: int,
        start_id: int,
        end_id: int,
        width: int = 1024,
        conv_width: int = 1024,
        encoder_layers: int = 3,
        decoder_layers: int = 3,
        heads: int = 8,
        decoder_heads: int | None = None,
        ffn: int = 4096,
        dropout: float = 0.1,
        attention_dropout: float = 0.0,
        activation: str = "relu",
        tie_embeddings: bool = False,
        max_positions: int = 1024,
        as_released: bool = False,
        sync_norm: bool = False,
        adapter: str = "sign_emb",
    ) -> None:
        super().__init__()
        self.pad_id, self.start_id, self.end_id, self.max_positions = pad_id, start_id, end_id, max_positions
        self.visual = visual
        self.conv = TemporalConv(feature_size(visual), conv_width, as_released=as_released, sync=sync_norm)
        self.sign_emb = (
            SignEmbedding(conv_width, width, as_released=as_released, sync=sync_norm)
            if adapter == "sign_emb"
            else adapter_of(adapter, conv_width, width)
        )
        config = mbart_config(
            vocab_size=vocab_size,
            pad_id=pad_id,
            width=width,
            encoder_layers=encoder_layers,
            decoder_layers=decoder_layers,
            heads=heads,
            decoder_heads=decoder_heads,
            ffn=ffn,
            dropout=dropout,
            attention_dropout=attention_dropout,
            activation=activation,
            max_positions=max_positions,
        )
        self.mbart = MBartForConditionalGeneration(config)
        self.mbart.model.encoder._modules["embed_tokens"] = None  # it reads steps, never words
        share_words(self.mbart.model.decoder, self.mbart.model.shared)
        bias = self.mbart.final_logits_bias  # zeros that nothing trains: no weight, so no checkpoint carries them
        del self.mbart.final_logits_bias
        self.mbart.register_buffer("final_logits_bias", bias.detach(), persistent=False)
        if tie_embeddings:
            self.mbart.lm_head = TiedHead(self.mbart.model.shared)

    def features(self, batch: Batch) -> Tensor:
        """Frame features, zero at padding: the tap of SignCL. [B, T, D]"""
        return frame_features(self.visual, batch)[0]

    def step_lengths(self, lengths: Tensor) -> Tensor:
        """Steps that clips of so many frames give. [B] -> [B]"""
        return self.conv.step_lengths(feature_lengths(self.visual, lengths))

    def tapped(self, batch: Batch, tap: str = "features") -> Tapped:
        """States at a tap of `TAPS`: frame features, steps after the convolution, or encoder states.

        Raises:
            ValueError: no such tap.
        """
        features, lengths = frame_features(self.visual, batch)
        if tap == "features":
            return tap_of_frames(self.visual, features, lengths)
        if tap not in self.TAPS:
            raise no_such_tap(tap, self.TAPS)
        frames = tap_of_frames(self.visual, features, lengths)
        if tap == "conv":
            steps, step_lengths = self.conv(features, lengths)
        else:
            encoding = self._encode(features, lengths)
            steps, step_lengths = encoding.steps, encoding.step_lengths
        stride, centre = self.conv.geometry(frames.stride, frames.first_centre)
        return Tapped(steps, step_lengths, stride, centre)

    def encode(self, batch: Batch) -> GFSLTEncoding:
        """Clips to encoder states.

        Raises:
            ValueError: a clip with more steps than the model has positions.
        """
        return self._encode(*frame_features(self.visual, batch))

    def _encode(self, features: Tensor, lengths: Tensor) -> GFSLTEncoding:
        check_steps(self.conv, features.shape[1], self.max_positions)
        steps, step_lengths = self.conv(features, lengths)
        embedded = self.sign_emb(steps, step_lengths)
        mask = frame_mask(step_lengths, steps.shape[1])
        states = self.mbart.model.encoder(inputs_embeds=embedded, attention_mask=mask).last_hidden_state
        return GFSLTEncoding(features, lengths, states, step_lengths)

    def forward(self, batch: Batch) -> GFSLTOutput:
        """Clips and their sentences to token scores (teacher forcing).

        Raises:
            ValueError: a batch without tokens, or a clip or sentence that is too long.
        """
        if batch.tokens is None:
            raise ValueError("GFSLT needs batch.tokens to score a sentence; to translate use `generate`.")
        if batch.tokens.shape[1] > self.max_positions:
            raise ValueError(
                f"a sentence of {batch.tokens.shape[1]} tokens needs model.max_positions of at least that, "
                f"got {self.max_positions}; lower text.max_tokens or raise it."
            )
        encoding = self.encode(batch)
        mask = frame_mask(encoding.step_lengths, encoding.steps.shape[1])
        decoded = self.mbart(
            encoder_outputs=BaseModelOutput(last_hidden_state=encoding.steps),
            attention_mask=mask,
            decoder_input_ids=shift_right(batch.tokens, self.start_id),  # padding stands right: causality hides it
            use_cache=False,
        )
        return GFSLTOutput(**vars(encoding), logits=decoded.logits)

    @torch.no_grad()
    def generate(
        self, batch: Batch, *, num_beams: int = 4, length_penalty: float = 1.0, max_new_tokens: int = 150
    ) -> Tensor:
        """Translate; put the model in eval mode first.

        Args:
            batch: clips; its tokens are not read.
            num_beams: 1 is greedy.
            length_penalty: a hypothesis is scored by its log-probability over length ** length_penalty, so values
                above 0 favour longer sentences (transformers' rule; not ((5 + len) / 6) ** alpha).
            max_new_tokens: longest sentence.

        Returns:
            Token ids without the start token, ending with end_id where the model ended, then pad_id. [B, U] long
        """
        if num_beams < 1 or not 1 <= max_new_tokens < self.max_positions:
            raise ValueError(
                f"generate needs num_beams >= 1 and max_new_tokens in 1..{self.max_positions - 1} "
                f"(model.max_positions - 1), got {num_beams} and {max_new_tokens}."
            )
        encoding = self.encode(batch)
        # Everything is said here: transformers ignores such settings in a model's config, or has its own defaults
        # (mBART's forces token 2 at the end).
        settings = GenerationConfig(
            num_beams=num_beams,
            length_penalty=length_penalty if num_beams > 1 else None,
            early_stopping=False,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            use_cache=True,
            pad_token_id=self.pad_id,
            bos_token_id=self.start_id,
            eos_token_id=self.end_id,
            decoder_start_token_id=self.start_id,
            forced_bos_token_id=None,
            forced_eos_token_id=None,
        )
        mbart: Any = self.mbart
        ids: Tensor = mbart.generate(
            encoder_outputs=BaseModelOutput(last_hidden_state=encoding.steps),
            attention_mask=frame_mask(encoding.step_lengths, encoding.steps.shape[1]).long(),
            generation_config=settings,
        )
        return ids[:, 1:]


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
    """transformers' description of an mBART of these sizes.

    Raises:
        ValueError: heads that do not divide width, an unknown activation, or a pad id outside the vocabulary.
    """
    for name, count in (("heads", heads), ("decoder_heads", decoder_heads or heads)):
        if width % count:
            raise ValueError(f"model.{name} must divide model.width, got {count} and {width}.")
    if activation not in ACT2FN:
        raise ValueError(f"model.activation must be relu, gelu, silu or another of transformers', got {activation!r}.")
    if not 0 <= pad_id < vocab_size:
        raise ValueError(f"pad_id must lie in the vocabulary of {vocab_size}, got {pad_id}.")
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
        tie_word_embeddings=False,  # tables are shared by `share_words`, so that a state dict has each tensor once
        pad_token_id=pad_id,
        bos_token_id=None,
        eos_token_id=None,
        forced_eos_token_id=None,
    )


def share_words(decoder: nn.Module, words: nn.Embedding) -> None:
    """Let an mBART decoder look words up in `words`, without owning it."""
    del decoder.embed_tokens
    object.__setattr__(decoder, "embed_tokens", words)  # past nn.Module's register, so parameters are named once


def shift_right(tokens: Tensor, start_id: int) -> Tensor:
    """What the decoder reads to predict `tokens`: the start token, then all but the last. [B, U] -> [B, U]"""
    return torch.cat([tokens.new_full((len(tokens), 1), start_id), tokens[:, :-1]], dim=1)


def check_steps(conv: TemporalConv, num_frames: int, max_positions: int) -> None:
    """Refuse a clip that has more steps than the encoder has positions."""
    steps = conv.num_steps(num_frames)
    if steps > max_positions:
        raise ValueError(
            f"a clip of {num_frames} frames gives {steps} steps, but model.max_positions is {max_positions}; "
            "lower input.max_frames or raise model.max_positions."
        )
