"""The recogniser: an encoder and a CTC head, the independent probe that gives a feature its word error rate.

The same encoder as the Sign Language Transformer (`slt`), without a decoder. Paper Tables 1, 11 and 12 read the WER of
a frame feature from such a network; which one is not said. Takes plain numbers, reads no file, computes no loss.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from signcl.batch import Batch, unpack
from signcl.models.transformer import Encoder, xavier

__all__ = ["Recogniser", "RecogniserOutput"]


@dataclass(frozen=True)
class RecogniserOutput:
    """A batch of clips after the encoder."""

    features: Tensor
    """Where SignCL and density look: the encoder's embedding or the output of one of its layers. [B, T, width]"""
    lengths: Tensor
    """[B]"""
    steps: Tensor
    """Encoder states; a step is a frame. [B, S, width]"""
    step_lengths: Tensor
    """[B]"""
    log_probs: Tensor | None
    """Log-softmax over gloss classes, 0 the blank; None for a model without gloss head. [B, S, C]"""


class Recogniser(nn.Module):
    """Clips in, gloss log-probabilities out.

    With frame features of size D, width w, feed-forward f, L layers and C gloss classes it has
    (D w + w) + 2 w + L (4 w^2 + 9 w + 2 w f + f) + 2 w + (w C + C) parameters, beside the frame encoder's.

    Args:
        visual: frame encoder with attribute `dim`.
        num_glosses: gloss classes C, blank and unknown included; None leaves the gloss head out.
        width, encoder_layers, heads, ffn, dropout, attention_dropout, activation: of the encoder.
        signcl_tap: where SignCL looks: `embedding`, `layer1`, `layer2`, ...
        sync_norm: batch norm statistics over ranks.

    Source: paper Tables 1, 4 and 11; neccam/slt with its translation loss off.
    """

    def __init__(
        self,
        visual: nn.Module,
        *,
        num_glosses: int | None,
        width: int = 512,
        encoder_layers: int = 3,
        heads: int = 8,
        ffn: int = 2048,
        dropout: float = 0.3,
        attention_dropout: float = 0.3,
        activation: str = "gelu",
        signcl_tap: str = "embedding",
        sync_norm: bool = False,
    ) -> None:
        super().__init__()
        self.visual = visual
        self.encoder = Encoder(
            int(visual.dim),  # type: ignore[arg-type]
            width=width,
            layers=encoder_layers,
            heads=heads,
            ffn=ffn,
            dropout=dropout,
            attention_dropout=attention_dropout,
            activation=activation,
            tap=signcl_tap,
            sync_norm=sync_norm,
        )
        self.gloss_head = None if num_glosses is None else nn.Linear(width, num_glosses)
        self.encoder.apply(xavier)
        if self.gloss_head is not None:
            xavier(self.gloss_head)

    def step_lengths(self, lengths: Tensor) -> Tensor:
        """Steps that clips of so many frames give: as many. [B] -> [B]"""
        return lengths

    def _unpacked(self, batch: Batch) -> Tensor:
        return unpack(self.visual(batch.inputs), batch.positions, len(batch), batch.max_length)

    def features(self, batch: Batch) -> Tensor:
        """The tap of SignCL, zero at padding. [B, T, width]"""
        return self.encoder(self._unpacked(batch), batch.lengths, only_tap=True)[0]

    def encode(self, batch: Batch) -> RecogniserOutput:
        """Clips to states and gloss log-probabilities."""
        tap, states = self.encoder(self._unpacked(batch), batch.lengths)
        log_probs = None
        if self.gloss_head is not None:
            log_probs = self.gloss_head(states).float().log_softmax(dim=2)
        return RecogniserOutput(tap, batch.lengths, states, self.step_lengths(batch.lengths), log_probs)

    def forward(self, batch: Batch) -> RecogniserOutput:
        """The same as `encode`."""
        return self.encode(batch)

    @torch.no_grad()
    def recognise(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What `signcl.decode` searches in: gloss log-probabilities and steps; put the model in eval mode first.

        Returns:
            [B, S, C], [B]

        Raises:
            ValueError: a model without gloss head.
        """
        out = self.encode(batch)
        if out.log_probs is None:
            raise ValueError(
                "this model has no gloss head, so it recognises nothing; train with loss.weights.recognition"
            )
        return out.log_probs, out.step_lengths
