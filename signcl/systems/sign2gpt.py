"""Sign2GPT: frames to a sentence through a frozen language model (the second stage; PGP is the first).

Frame encoder and sign encoder as in PGP, then a causal language model that reads the steps through zero-gated adapters.
Takes plain numbers and a language model, reads no file, computes no loss.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from signcl.data.batch import Batch
from signcl.systems.parts.adapted_lm import AdaptedLM
from signcl.systems.parts.frames import Tapped, feature_lengths, feature_size, frame_features, no_such_tap
from signcl.systems.parts.metaformer import SignEncoder
from signcl.systems.pgp import tapped_steps

__all__ = ["Sign2GPT", "Sign2GPTEncoding", "Sign2GPTOutput"]


@dataclass(frozen=True)
class Sign2GPTEncoding:
    """A batch of clips after the sign encoder."""

    features: Tensor
    """Frame features, where SignCL and density look. [B, T, D]"""
    lengths: Tensor
    """[B]"""
    steps: Tensor
    """States of the sign encoder, one per step of about two frames. [B, S, width]"""
    step_lengths: Tensor
    """[B]"""


@dataclass(frozen=True)
class Sign2GPTOutput(Sign2GPTEncoding):
    """A batch of clips and the language model's opinion on their sentences."""

    logits: Tensor
    """Scores of `batch.tokens`, position by position, given the tokens before. [B, U, V]"""


class Sign2GPT(nn.Module):
    """Clips in, sentences out.

    Trainable beside the frame encoder's: the sign encoder, the projection w a + a + 2 a, and in each of the L layers of
    the language model (width W) LoRA, rank * (in + out) for each of its attention maps, and a `SignAdapter`. With
    XGLM-1.7B (L = 24, W = 2048) and the defaults that is 13,338,624 + 131,840 + 1,572,864 + 28,477,464.

    Args:
        visual: frame encoder with attribute `dim`.
        lm: a causal language model of transformers.
        pad_id, start_id, end_id: token ids, see `AdaptedLM`.
        adapter_width, adapter_heads, gate, lora_rank, lora_alpha, lora_dropout, train_all: see `AdaptedLM`.
        width, heads, ffn, blocks, window, layer_scale, drop_path, dropout, activation, sync_norm: see `SignEncoder`.

    Source: Sign2GPT (ICLR 2024). How its zero-gated adapter is built differs: docs/systems/sign2gpt.md.
    """

    TAPS = ("features", "embedding", "steps")

    def __init__(
        self,
        visual: nn.Module,
        lm: nn.Module,
        *,
        pad_id: int,
        start_id: int,
        end_id: int,
        adapter_width: int = 256,
        adapter_heads: int = 8,
        gate: float = 0.0,
        lora_rank: int = 4,
        lora_alpha: float = 4.0,
        lora_dropout: float = 0.1,
        train_all: bool = False,
        width: int = 512,
        heads: int = 8,
        ffn: int = 2048,
        blocks: tuple[int, int] = (2, 2),
        window: int = 7,
        layer_scale: float = 1e-5,
        drop_path: float = 0.1,
        dropout: float = 0.0,
        activation: str = "gelu",
        sync_norm: bool = False,
    ) -> None:
        super().__init__()
        self.visual = visual
        self.encoder = SignEncoder(
            feature_size(visual),
            width=width,
            heads=heads,
            ffn=ffn,
            blocks=blocks,
            window=window,
            layer_scale=layer_scale,
            drop_path=drop_path,
            dropout=dropout,
            activation=activation,
            sync_norm=sync_norm,
        )
        self.decoder = AdaptedLM(
            lm,
            width,
            pad_id=pad_id,
            start_id=start_id,
            end_id=end_id,
            adapter_width=adapter_width,
            adapter_heads=adapter_heads,
            gate=gate,
            lora_rank=lora_rank,
            lora_alpha=lora_alpha,
            lora_dropout=lora_dropout,
            train_all=train_all,
        )

    def features(self, batch: Batch) -> Tensor:
        """Frame features, zero at padding: the tap of SignCL. [B, T, D]"""
        return frame_features(self.visual, batch)[0]

    def step_lengths(self, lengths: Tensor) -> Tensor:
        """Steps that clips of so many frames give. [B] -> [B]"""
        return self.encoder.step_lengths(feature_lengths(self.visual, lengths))

    def tapped(self, batch: Batch, tap: str = "features") -> Tapped:
        """States at a tap of `TAPS`: frame features, the sign encoder's input, or its steps.

        Raises:
            ValueError: no such tap.
        """
        if tap not in self.TAPS:
            raise no_such_tap(tap, self.TAPS)
        return tapped_steps(self.visual, self.encoder, batch, tap)

    def encode(self, batch: Batch) -> Sign2GPTEncoding:
        """Clips to steps."""
        features, lengths = frame_features(self.visual, batch)
        steps, step_lengths = self.encoder(features, lengths)
        return Sign2GPTEncoding(features, lengths, steps, step_lengths)

    def forward(self, batch: Batch) -> Sign2GPTOutput:
        """Clips and their sentences to token scores (teacher forcing).

        Raises:
            ValueError: a batch without tokens, or a sentence that is too long.
        """
        if batch.tokens is None:
            raise ValueError("Sign2GPT needs batch.tokens to score a sentence; to translate use `generate`.")
        encoded = self.encode(batch)
        logits = self.decoder(batch.tokens, encoded.steps, encoded.step_lengths)
        return Sign2GPTOutput(**vars(encoded), logits=logits)

    @torch.no_grad()
    def generate(
        self, batch: Batch, *, num_beams: int = 4, length_penalty: float = 1.0, max_new_tokens: int = 64
    ) -> Tensor:
        """Translate; put the model in eval mode first.

        Args:
            batch: clips; its tokens are not read.
            num_beams: 1 is greedy.
            length_penalty: transformers' rule: log-probability over length ** length_penalty.
            max_new_tokens: longest sentence.

        Returns:
            Token ids without the start token, ending with end_id where the model ended, then pad_id. [B, U] long
        """
        encoded = self.encode(batch)
        return self.decoder.generate(
            encoded.steps,
            encoded.step_lengths,
            num_beams=num_beams,
            length_penalty=length_penalty,
            max_new_tokens=max_new_tokens,
        )
