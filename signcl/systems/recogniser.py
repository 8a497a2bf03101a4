"""The recogniser: an encoder and a CTC head, an independent probe that measures the word error rate of a feature.

The same encoder as the Sign Language Transformer (`slt`), without a decoder. Paper Tables 1, 11 and 12 take the WER of
a frame feature from such a network, but do not say which one.
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
    """Features for SignCL and density: the encoder's embedding or the output of one of its layers. [B, T, width]"""
    lengths: Tensor
    """[B]"""
    steps: Tensor
    """Encoder states, one step per frame. [B, S, width]"""
    step_lengths: Tensor
    """[B]"""
    log_probs: Tensor | None
    """Log-softmax over gloss classes; class 0 is the blank. None without a gloss head. [B, S, C]"""


@register
class Recogniser(System):
    """Maps clips to gloss log-probabilities.

    With frame features of size D, width w, feed-forward f, L layers and C gloss classes it has
    (D w + w) + 2 w + L (4 w^2 + 9 w + 2 w f + f) + 2 w + (w C + C) parameters, besides the frame encoder's.

    Source: paper Tables 1, 4 and 11; neccam/slt with its translation loss off.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(TransformerConfig):
        """`model` section of a recogniser recipe."""

        name: str = "recogniser"
        signcl_tap: str = "embedding"
        """Tap that SignCL reads: embedding (the encoder's input) or an encoder layer (layer1, layer2, ...)."""

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
        """Factory of the encoder layers' attention; None: standard attention."""
        return None

    def keeps_padding(self) -> bool:
        """Whether the encoder's attention sees the released code's values at padding."""
        return False

    def embedding_dropout(self) -> float | None:
        """Dropout of the embeddings, if different from that of the layers."""
        return None

    def step_lengths(self, lengths: Tensor) -> Tensor:
        """Number of steps for clips with these numbers of frames: the rows of the frame encoder. [B] -> [B]"""
        return feature_lengths(self.visual, lengths)

    @property
    def contrast_dim(self) -> int:
        """Size of the encoder's states."""
        return self.config.width

    def features(self, batch: Batch) -> Tensor:
        """Features at the tap that SignCL reads, zero at padding. [B, T, width]"""
        return self.encoder(*frame_features(self.visual, batch), only_tap=True)[0]

    @property
    def TAPS(self) -> tuple[str, ...]:  # type: ignore[override]
        """Taps that `tapped` can read; SignCL reads `features`."""
        layers = [f"layer{number + 1}" for number in range(len(self.encoder.layers))]
        return ("features", "visual", "embedding", *layers, "steps")

    def tapped(self, batch: Batch, tap: str = "features") -> Tapped:
        """States at a tap of `TAPS`: of the frame encoder, the encoder's input, a layer, or the last layer."""
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
        """Encoder states and gloss log-probabilities of each clip."""
        rows, lengths = frame_features(self.visual, batch)
        tap, states = self.encoder(rows, lengths)
        log_probs = None
        if self.gloss_head is not None:
            log_probs = self.gloss_head(states).float().log_softmax(dim=2)
        return RecogniserOutput(tap, lengths, states, lengths, log_probs)

    def exported_states(self, features: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Encoder states, and gloss log-probabilities if there is a gloss head."""
        states = self.encoder(features, lengths)[1]
        found = {"steps": states, "step_lengths": lengths.clone()}  # torch.export needs outputs that are not inputs
        if self.gloss_head is not None:
            found["log_probs"] = self.gloss_head(states).float().log_softmax(dim=2)
        return found

    def forward(self, batch: Batch) -> RecogniserOutput:
        """The same as `encode`."""
        return self.encode(batch)

    @torch.no_grad()
    def recognise(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Gloss log-probabilities and steps, for `signcl.systems.parts.search`; in eval mode.

        Returns:
            [B, S, C], [B]

        Raises:
            ValueError: the model has no gloss head.
        """
        out = self.encode(batch)
        if out.log_probs is None:
            raise ValueError(
                "this model has no gloss head, so it recognises nothing; train with loss.weights.recognition"
            )
        return out.log_probs, out.step_lengths
