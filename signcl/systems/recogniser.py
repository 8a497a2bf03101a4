"""The recogniser: an encoder and a CTC head, the independent probe that gives a feature its word error rate.

The same encoder as the Sign Language Transformer (`slt`), without a decoder. Paper Tables 1, 11 and 12 read the WER of
a frame feature from such a network; which one is not said. Takes plain numbers, reads no file, computes no loss.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from signcl.data.batch import Batch
from signcl.systems.parts.frames import (
    Tapped,
    feature_lengths,
    feature_size,
    frame_features,
    no_such_tap,
    tap_of_frames,
)
from signcl.systems.parts.transformer import Attention, Encoder, xavier

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
        embedding_dropout, attention: of the encoder, see there.

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
        embedding_dropout: float | None = None,
        attention: Callable[[], Attention] | None = None,
    ) -> None:
        super().__init__()
        self.visual = visual
        self.encoder = Encoder(
            feature_size(visual),
            width=width,
            layers=encoder_layers,
            heads=heads,
            ffn=ffn,
            dropout=dropout,
            attention_dropout=attention_dropout,
            activation=activation,
            tap=signcl_tap,
            sync_norm=sync_norm,
            embedding_dropout=embedding_dropout,
            attention=attention,
        )
        self.gloss_head = None if num_glosses is None else nn.Linear(width, num_glosses)
        self.encoder.apply(xavier)
        if self.gloss_head is not None:
            xavier(self.gloss_head)

    def step_lengths(self, lengths: Tensor) -> Tensor:
        """Steps that clips of so many frames give: as many as the frame encoder gives rows. [B] -> [B]"""
        return feature_lengths(self.visual, lengths)

    def features(self, batch: Batch) -> Tensor:
        """The tap of SignCL, zero at padding. [B, T, width]"""
        return self.encoder(*frame_features(self.visual, batch), only_tap=True)[0]

    @property
    def TAPS(self) -> tuple[str, ...]:
        """Where `tapped` can look; `features` is where SignCL does."""
        layers = [f"layer{number + 1}" for number in range(len(self.encoder.layers))]
        return ("features", "visual", "embedding", *layers, "steps")

    def tapped(self, batch: Batch, tap: str = "features") -> Tapped:
        """States at a tap of `TAPS`: the frame encoder's, the encoder's input or a layer's, or its last.

        Raises:
            ValueError: no such tap.
        """
        if tap not in self.TAPS:
            raise no_such_tap(tap, self.TAPS)
        rows, lengths = frame_features(self.visual, batch)
        clock = tap_of_frames(self.visual, rows, lengths)
        if tap == "visual":
            return clock
        if tap == "steps":
            found = self.encoder(rows, lengths)[1]
        else:
            found = self.encoder(rows, lengths, only_tap=True, tap=None if tap == "features" else tap)[0]
        return Tapped(found, lengths, clock.stride, clock.first_centre)

    def encode(self, batch: Batch) -> RecogniserOutput:
        """Clips to states and gloss log-probabilities."""
        rows, lengths = frame_features(self.visual, batch)
        tap, states = self.encoder(rows, lengths)
        log_probs = None
        if self.gloss_head is not None:
            log_probs = self.gloss_head(states).float().log_softmax(dim=2)
        return RecogniserOutput(tap, lengths, states, lengths, log_probs)

    def forward(self, batch: Batch) -> RecogniserOutput:
        """The same as `encode`."""
        return self.encode(batch)

    @torch.no_grad()
    def recognise(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What `signcl.systems.parts.search` searches in: gloss log-probabilities and steps; in eval mode.

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
