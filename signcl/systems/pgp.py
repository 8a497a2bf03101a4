"""PGP: pseudo-gloss pretraining of Sign2GPT, the network of its first stage.

Frame encoder, sign encoder, and a head that compares every step with a vector of each pseudo-gloss: which words of the
sentence are signed, and when, without being told the latter. Takes plain numbers, reads no file, computes no loss.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
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
from signcl.systems.parts.metaformer import SignEncoder

__all__ = ["PGP", "PGPOutput", "PrototypeHead", "tapped_steps"]


@dataclass(frozen=True)
class PGPOutput:
    """A batch of clips and how near each step is to each pseudo-gloss."""

    features: Tensor
    """Frame features, where SignCL and density look. [B, T, D]"""
    lengths: Tensor
    """[B]"""
    steps: Tensor
    """States of the sign encoder, one per step of about two frames. [B, S, width]"""
    step_lengths: Tensor
    """[B]"""
    similarity: Tensor
    """Cosine of each step with each pseudo-gloss's vector; what stands at padding means nothing. [B, S, P]"""
    log_temperature: Tensor
    """Logarithm of what cosines are divided by before a softmax. Scalar"""


class PrototypeHead(nn.Module):
    """Steps to cosines with one vector per pseudo-gloss.

    width * E + E parameters, one temperature, and P * E numbers of the vectors, which count only when learned.

    Args:
        width: of a step.
        num_glosses: pseudo-glosses P. The null class, a zero vector, has cosine 0 with everything; the loss adds it.
        dim: size E of a vector. Published: 300, fastText.
        temperature: what it starts at; it is learned.
        learned: the vectors are trained; else they stay as they begin (random, orthogonal where P <= E) or are loaded.
    """

    def __init__(
        self, width: int, num_glosses: int, *, dim: int = 300, temperature: float = 0.1, learned: bool = False
    ) -> None:
        super().__init__()
        self.project = nn.Linear(width, dim)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))
        vectors = F.normalize(nn.init.orthogonal_(torch.empty(num_glosses, dim)), dim=1)
        self.vectors: Tensor
        if learned:
            self.vectors = nn.Parameter(vectors)
        else:
            self.register_buffer("vectors", vectors)

    def forward(self, steps: Tensor) -> Tensor:
        """[B, S, width] -> [B, S, P], in -1..1"""
        return F.normalize(self.project(steps).float(), dim=2) @ F.normalize(self.vectors.float(), dim=1).T


class PGP(nn.Module):
    """Clips in, cosines with pseudo-glosses out.

    Args:
        visual: frame encoder with attribute `dim`.
        num_glosses: pseudo-glosses P.
        prototype_dim, temperature, learn_prototypes: see `PrototypeHead`.
        width, heads, ffn, blocks, window, layer_scale, drop_path, dropout, activation, sync_norm: see `SignEncoder`.

    Source: Sign2GPT (ICLR 2024), pseudo-gloss pretraining.
    """

    TAPS = ("features", "embedding", "steps")

    def __init__(
        self,
        visual: nn.Module,
        *,
        num_glosses: int,
        prototype_dim: int = 300,
        temperature: float = 0.1,
        learn_prototypes: bool = False,
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
        self.head = PrototypeHead(
            width, num_glosses, dim=prototype_dim, temperature=temperature, learned=learn_prototypes
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

    def encode(self, batch: Batch) -> PGPOutput:
        """Clips to steps and cosines."""
        features, lengths = frame_features(self.visual, batch)
        steps, step_lengths = self.encoder(features, lengths)
        similarity = self.head(steps)
        return PGPOutput(features, lengths, steps, step_lengths, similarity, self.head.log_temperature)

    def forward(self, batch: Batch) -> PGPOutput:
        """The same as `encode`."""
        return self.encode(batch)


def tapped_steps(visual: nn.Module, encoder: SignEncoder, batch: Batch, tap: str) -> Tapped:
    """States at `features`, `embedding` or `steps`, each with its place in time."""
    features, lengths = frame_features(visual, batch)
    frames = tap_of_frames(visual, features, lengths)
    if tap == "features":
        return frames
    if tap == "embedding":
        return Tapped(encoder.embed(features, lengths), lengths, frames.stride, frames.first_centre)
    steps, step_lengths = encoder(features, lengths)
    return Tapped(steps, step_lengths, 2 * frames.stride, frames.first_centre + 0.5 * frames.stride)
