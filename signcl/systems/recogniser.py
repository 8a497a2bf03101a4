"""The recogniser: an encoder and a CTC head, the independent probe that gives a feature its word error rate.

The same encoder as the Sign Language Transformer (`slt`), without a decoder. Paper Tables 1, 11 and 12 read the WER of
a frame feature from such a network; which one is not said.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from signcl.data.batch import Batch
from signcl.systems.base import Sizes, System, TransformerConfig, register
from signcl.systems.parts.frames import Tapped, feature_lengths, feature_size, frame_features, tap_of_frames
from signcl.systems.parts.transformer import Attention, Encoder, xavier
from signcl.systems.terms.shared import frame_contrast, recognition

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


@register
class Recogniser(System):
    """Clips in, gloss log-probabilities out.

    With frame features of size D, width w, feed-forward f, L layers and C gloss classes it has
    (D w + w) + 2 w + L (4 w^2 + 9 w + 2 w f + f) + 2 w + (w C + C) parameters, beside the frame encoder's.

    Source: paper Tables 1, 4 and 11; neccam/slt with its translation loss off.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(TransformerConfig):
        """`model` of a recogniser."""

        name: str = "recogniser"
        signcl_tap: str = "embedding"
        """Where SignCL looks: embedding (of the encoder's input) or layer1, layer2, ... of it."""

        def __post_init__(self) -> None:
            super().__post_init__()
            taps = ["embedding", *(f"layer{k + 1}" for k in range(self.encoder_layers))]
            if self.signcl_tap not in taps:
                raise ValueError(f"model.signcl_tap: needs one of {', '.join(taps)}, got {self.signcl_tap!r}")
            if self.activation not in ("relu", "gelu"):
                raise ValueError(f"model.activation: {self.name} knows relu and gelu, got {self.activation!r}")

    title: ClassVar = "the CTC probe that gives a feature its word error rate (Tables 1, 11, 12)"
    label: ClassVar = "Recogniser"
    needs: ClassVar = "features (or frames) and glosses"
    stage: ClassVar[Any] = "recognise"
    terms: ClassVar = {"recognition": recognition, "signcl": frame_contrast}
    required_terms: ClassVar[tuple[str, ...]] = ("recognition",)
    answers: ClassVar[Any] = "glosses"

    config: Config

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        self.encoder = Encoder(
            feature_size(self.visual),
            width=config.width,
            layers=config.encoder_layers,
            heads=config.heads,
            ffn=config.ffn,
            dropout=config.dropout,
            attention_dropout=config.attention_dropout,
            activation=config.activation,
            tap=config.signcl_tap,
            sync_norm=config.sync_norm,
            embedding_dropout=self.embedding_dropout(),
            attention=self.attention(),
            keep_padding=self.keeps_padding(),
        )
        self.gloss_head = nn.Linear(config.width, sizes.classes()) if self.recognises else None
        self.encoder.apply(xavier)
        if self.gloss_head is not None:
            xavier(self.gloss_head)

    def attention(self) -> Callable[[], Attention] | None:
        """Makes the attention of an encoder layer, where it is not the usual one."""
        return None

    def keeps_padding(self) -> bool:
        """Whether the encoder's attention finds at padding what the released code has there."""
        return False

    def embedding_dropout(self) -> float | None:
        """Dropout of the embeddings, where it differs from that of the layers."""
        return None

    def step_lengths(self, lengths: Tensor) -> Tensor:
        """Steps that clips of so many frames give: as many as the frame encoder gives rows. [B] -> [B]"""
        return feature_lengths(self.visual, lengths)

    @property
    def contrast_dim(self) -> int:
        """Of the encoder's states."""
        return self.config.width

    def features(self, batch: Batch) -> Tensor:
        """The tap of SignCL, zero at padding. [B, T, width]"""
        return self.encoder(*frame_features(self.visual, batch), only_tap=True)[0]

    @property
    def TAPS(self) -> tuple[str, ...]:  # type: ignore[override]
        """Where `tapped` can look; `features` is where SignCL does."""
        layers = [f"layer{number + 1}" for number in range(len(self.encoder.layers))]
        return ("features", "visual", "embedding", *layers, "steps")

    def tapped(self, batch: Batch, tap: str = "features") -> Tapped:
        """States at a tap of `TAPS`: the frame encoder's, the encoder's input or a layer's, or its last."""
        self.check_tap(tap)
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

    def exported_states(self, features: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Encoder states, and gloss log-probabilities with a gloss head."""
        states = self.encoder(features, lengths)[1]
        found = {"steps": states, "step_lengths": lengths.clone()}  # an output must not be an input
        if self.gloss_head is not None:
            found["log_probs"] = self.gloss_head(states).float().log_softmax(dim=2)
        return found

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
