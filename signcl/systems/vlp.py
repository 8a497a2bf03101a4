"""VLP: visual-language pretraining of GFSLT, the network of the pretraining stage.

A clip and its sentence become one vector each, to be brought together by a contrast (version 1, "V1"); version 2
adds a decoder that restores the sentence from its masked form. Takes plain numbers, reads no file, computes no loss.

At the published sizes everything but the text decoder has the 216,175,169 parameters of the official pretraining log:

     19,046,976  ResNet-18 without its classifier and temporal convolution
          1,024  the token that stands for the whole clip
     38,843,392  3 encoder layers, positions, two layer norms
      1,048,576  linear head of the clip's vector, without bias
    154,722,304  12 layers of text encoder with positions, two layer norms and word table (mbart-large, trimmed)
              1  logit scale
      2,512,896  a second word table. The released model has it inside the clip encoder, which never reads it; here it
                 is the text decoder's (GFSLT shares one table between both), so that V1, without decoder, lacks it.

The text decoder of V2, which the released script optimizes apart and so does not count, has 53,957,632 more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers.models.mbart.modeling_mbart import MBartDecoder, MBartEncoder

from signcl.data.batch import Batch, frame_mask
from signcl.systems.gfslt import (
    SignEmbedding,
    TiedHead,
    check_steps,
    mbart_config,
    share_words,
    shift_right,
)
from signcl.systems.parts.frames import (
    Tapped,
    feature_lengths,
    feature_size,
    frame_features,
    no_such_tap,
    tap_of_frames,
)
from signcl.systems.parts.layers import TemporalConv

__all__ = ["VLP", "VLPOutput"]


@dataclass(frozen=True)
class VLPOutput:
    """A batch of clips and sentences, embedded."""

    features: Tensor
    """Frame features, where SignCL and density look. [B, T, D]"""
    lengths: Tensor
    """[B]"""
    video_embedding: Tensor
    """One vector per clip, not normalized. [B, width]"""
    text_embedding: Tensor
    """One vector per sentence, not normalized. [B, width]"""
    logit_scale: Tensor | None
    """Logarithm of the factor on cosine similarities; the loss clamps it. None without `clip_contrast`. Scalar"""
    masked_logits: Tensor | None
    """Scores of `batch.tokens` given the masked sentence and the tokens before; None in V1. [B, U, V]"""
    step_lengths: Tensor
    """Steps of each clip. [B]"""
    step_embeddings: Tensor | None = None
    """One vector per step, with `token_contrast`. [B, S, width]"""
    token_embeddings: Tensor | None = None
    """One vector per token of `batch.tokens`, with `token_contrast`. [B, U, width]"""
    token_logit_scale: Tensor | None = None
    """As `logit_scale`, of the contrast of tokens. Scalar"""


class VLP(nn.Module):
    """Clips and sentences in, one vector of each out.

    Args:
        visual: frame encoder with attribute `dim`.
        vocab_size: text tokens V.
        pad_id: token id of padding.
        start_id: what the text decoder reads first.
        width: of every Transformer here; a clip's and a sentence's vector have this size.
        conv_width: of the temporal convolution. Without `sign_emb` it must equal width.
        encoder_layers: of the Transformer over steps, which finetuning takes over.
        heads: of that encoder and of the text decoder.
        ffn: of both.
        dropout: of both.
        attention_dropout: of both.
        activation: of both.
        text_layers: of the text encoder. Published: the 12 layers, 16 heads, 4096, gelu, dropout 0.3, attention
            dropout 0.1 of a trimmed mbart-large-cc25.
        text_heads: of the text encoder.
        text_ffn: of the text encoder.
        text_dropout: of the text encoder.
        text_attention_dropout: of the text encoder.
        text_activation: of the text encoder.
        masked_text: V2: add the text decoder, of `decoder_layers` layers.
        decoder_layers: of the text decoder, which finetuning takes over.
        decoder_heads: of the text decoder where they differ.
        tie_embeddings: the text decoder's word head uses its word table.
        masked_text_trains_encoder: the masked-text loss also reaches the text encoder. Off as in the released code,
            whose text encoder learns from the contrast alone.
        sign_emb: GFSLT's sign embedding already here, so that finetuning need not put an untrained layer between two
            trained ones. Off as published.
        clip_contrast: one vector a clip and a sentence is compared: a learned scale for it. Published: yes.
        token_contrast: every step and every token is: the linear head is applied to each step too, and a second scale.
        max_positions: longest input in steps (one is the clip's own token) and in tokens.
        as_released: padding seen by the batch norms, as in the released code.
        sync_norm: batch norm statistics summed over ranks.

    Source: GFSLT-VLP, which paper section 4.2 pretrains with SignCL. Released code: the masked-text loss has an
    optimizer of its own that steps every fifth batch; here it is a term with a weight. It cannot reach the frame
    encoder in either form: the decoder sees the masked sentence, not the clip.
    """

    TAPS = ("features", "conv", "steps")

    def __init__(
        self,
        visual: nn.Module,
        *,
        vocab_size: int,
        pad_id: int,
        start_id: int,
        width: int = 1024,
        conv_width: int = 1024,
        encoder_layers: int = 3,
        heads: int = 8,
        ffn: int = 4096,
        dropout: float = 0.1,
        attention_dropout: float = 0.0,
        activation: str = "relu",
        text_layers: int = 12,
        text_heads: int = 16,
        text_ffn: int = 4096,
        text_dropout: float = 0.3,
        text_attention_dropout: float = 0.1,
        text_activation: str = "gelu",
        masked_text: bool = True,
        decoder_layers: int = 3,
        decoder_heads: int | None = None,
        tie_embeddings: bool = False,
        masked_text_trains_encoder: bool = False,
        sign_emb: bool = False,
        clip_contrast: bool = True,
        token_contrast: bool = False,
        max_positions: int = 1024,
        as_released: bool = False,
        sync_norm: bool = False,
    ) -> None:
        super().__init__()
        if conv_width != width and not sign_emb:
            raise ValueError(
                f"vlp needs model.conv_width equal to model.width, because its encoder reads the convolution's steps, "
                f"got {conv_width} and {width}."
            )
        self.pad_id, self.start_id, self.max_positions = pad_id, start_id, max_positions
        self.masked_text_trains_encoder = masked_text_trains_encoder
        sizes = {"vocab_size": vocab_size, "pad_id": pad_id, "width": width, "max_positions": max_positions}
        config = mbart_config(
            **sizes,
            encoder_layers=encoder_layers,
            decoder_layers=decoder_layers,
            heads=heads,
            decoder_heads=decoder_heads,
            ffn=ffn,
            dropout=dropout,
            attention_dropout=attention_dropout,
            activation=activation,
        )
        text_config = mbart_config(
            **sizes,
            encoder_layers=text_layers,
            decoder_layers=0,
            heads=text_heads,
            ffn=text_ffn,
            dropout=text_dropout,
            attention_dropout=text_attention_dropout,
            activation=text_activation,
        )
        self.visual = visual
        self.conv = TemporalConv(feature_size(visual), conv_width, as_released=as_released, sync=sync_norm)
        self.sign_emb = SignEmbedding(conv_width, width, as_released=as_released, sync=sync_norm) if sign_emb else None
        self.cls_token = nn.Parameter(torch.randn(1, 1, width))
        self.encoder = MBartEncoder(config)
        self.encoder._modules["embed_tokens"] = None  # it reads steps, never words
        self.head = nn.Linear(width, width, bias=False)
        self.text_encoder = MBartEncoder(text_config)
        start = torch.tensor(math.log(1 / 0.07))
        self.logit_scale = nn.Parameter(start) if clip_contrast else None  # a weight that no term trains stalls DDP
        self.token_logit_scale = nn.Parameter(start.clone()) if token_contrast else None
        self.words: nn.Embedding | None = None
        self.decoder: MBartDecoder | None = None
        self.lm_head: nn.Module | None = None
        if masked_text:
            self.decoder = MBartDecoder(config)
            self.words = self.decoder.embed_tokens
            share_words(self.decoder, self.words)
            if tie_embeddings:
                self.lm_head = TiedHead(self.words)
            else:
                self.lm_head = nn.Linear(width, vocab_size, bias=False)
                nn.init.normal_(self.lm_head.weight, std=config.init_std)

    def features(self, batch: Batch) -> Tensor:
        """Frame features, zero at padding: the tap of SignCL. [B, T, D]"""
        return frame_features(self.visual, batch)[0]

    def step_lengths(self, lengths: Tensor) -> Tensor:
        """Steps that clips of so many frames give, without the clip's own token. [B] -> [B]"""
        return self.conv.step_lengths(feature_lengths(self.visual, lengths))

    def tapped(self, batch: Batch, tap: str = "features") -> Tapped:
        """States at a tap of `TAPS`: frame features, steps after the convolution, or encoder states of those steps.

        Raises:
            ValueError: no such tap.
        """
        features, lengths = frame_features(self.visual, batch)
        frames = tap_of_frames(self.visual, features, lengths)
        if tap == "features":
            return frames
        if tap not in self.TAPS:
            raise no_such_tap(tap, self.TAPS)
        if tap == "conv":
            steps, step_lengths = self.conv(features, lengths)
        else:
            states, step_lengths = self._states(features, lengths)
            steps = states[:, 1:]
        stride, centre = self.conv.geometry(frames.stride, frames.first_centre)
        return Tapped(steps, step_lengths, stride, centre)

    def _states(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Encoder states of the clip's own token and then its steps; the number of steps. [B, 1 + S, width], [B]"""
        steps, step_lengths = self.conv(features, lengths)
        if self.sign_emb is not None:
            steps = self.sign_emb(steps, step_lengths)
        cls = self.cls_token.to(steps.dtype).expand(len(steps), -1, -1)
        inputs = torch.cat([cls, steps], dim=1)
        mask = frame_mask(step_lengths + 1, inputs.shape[1])
        states: Tensor = self.encoder(inputs_embeds=inputs, attention_mask=mask).last_hidden_state
        return states, step_lengths

    def encode_text(self, tokens: Tensor, token_lengths: Tensor) -> Tensor:
        """States of the text encoder. [B, U], [B] -> [B, U, width]"""
        if tokens.shape[1] > self.max_positions:
            raise ValueError(
                f"a sentence of {tokens.shape[1]} tokens needs model.max_positions of at least that, "
                f"got {self.max_positions}; lower text.max_tokens or raise it."
            )
        mask = frame_mask(token_lengths, tokens.shape[1])
        states: Tensor = self.text_encoder(input_ids=tokens, attention_mask=mask).last_hidden_state
        return states

    @staticmethod
    def _last(states: Tensor, token_lengths: Tensor) -> Tensor:
        return states[torch.arange(len(states), device=states.device), token_lengths - 1]

    def forward(self, batch: Batch) -> VLPOutput:
        """Embed clips and sentences; in V2 also restore the masked sentences.

        Raises:
            ValueError: a batch without tokens, in V2 without masked tokens, or a clip or sentence that is too long.
        """
        if batch.tokens is None or batch.token_lengths is None:
            raise ValueError("VLP needs batch.tokens and batch.token_lengths: it compares clips with their sentences.")
        features, lengths = frame_features(self.visual, batch)
        check_steps(self.conv, features.shape[1], self.max_positions - 1)
        states, step_lengths = self._states(features, lengths)
        text_states = self.encode_text(batch.tokens, batch.token_lengths)
        by_token = self.token_logit_scale is not None
        return VLPOutput(
            features=features,
            lengths=lengths,
            video_embedding=self.head(states[:, 0]),
            text_embedding=self._last(text_states, batch.token_lengths),
            logit_scale=self.logit_scale,
            masked_logits=None if self.decoder is None else self._restore(batch, batch.tokens),
            step_lengths=step_lengths,
            step_embeddings=self.head(states[:, 1:]) if by_token else None,
            token_embeddings=text_states if by_token else None,
            token_logit_scale=self.token_logit_scale,
        )

    def _restore(self, batch: Batch, tokens: Tensor) -> Tensor:
        """Scores of the whole sentence from its masked form. [B, U, V]"""
        assert self.decoder is not None
        assert self.lm_head is not None
        if batch.masked_tokens is None or batch.masked_token_lengths is None:
            raise ValueError("VLP with masked_text needs batch.masked_tokens; set model.masked_text to false for V1.")
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.masked_text_trains_encoder):
            states = self.encode_text(batch.masked_tokens, batch.masked_token_lengths)
        mask = frame_mask(batch.masked_token_lengths, states.shape[1])
        decoded = self.decoder(
            input_ids=shift_right(tokens, self.start_id),
            encoder_hidden_states=states,
            encoder_attention_mask=mask,
            use_cache=False,
        )
        logits: Tensor = self.lm_head(decoded.last_hidden_state)
        return logits
