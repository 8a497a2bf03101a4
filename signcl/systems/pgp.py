"""PGP: pseudo-gloss pretraining of Sign2GPT, the network of its first stage.

Frame encoder, sign encoder, and a head that compares every step with a vector per pseudo-gloss. It learns which words
of the sentence are signed and when, without supervision of the time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from signcl.data.batch import Batch
from signcl.data.bounds import bounded
from signcl.systems.base import Sizes, Start, System, TransformerConfig, register
from signcl.systems.parts.frames import Tapped, feature_lengths, feature_size, frame_features, tap_of_frames
from signcl.systems.parts.metaformer import SignEncoder
from signcl.systems.parts.official import Checkpoint, Published
from signcl.systems.parts.official_sign2gpt import published_pgp
from signcl.systems.terms.shared import frame_contrast, pseudo_gloss

__all__ = ["PGP", "PGPOutput", "PrototypeHead", "SignEncoderConfig", "sign_encoder", "tapped_steps"]

LEMMATISERS = ("words", "rules:de", "rules:en", "characters", "bigrams")


@dataclass(frozen=True)
class PGPOutput:
    """A batch of clips with the similarity of each step to each pseudo-gloss."""

    features: Tensor
    """Frame features for SignCL and density. [B, T, D]"""
    lengths: Tensor
    """[B]"""
    steps: Tensor
    """States of the sign encoder, one per two frames. [B, S, width]"""
    step_lengths: Tensor
    """[B]"""
    similarity: Tensor
    """Cosine similarity of each step with each pseudo-gloss vector; undefined at padding. [B, S, P]"""
    class_temperature: Tensor
    """Temperature of the softmax over pseudo-glosses. Scalar"""
    time_temperature: Tensor
    """Temperature of the softmax over time. Scalar"""


class PrototypeHead(nn.Module):
    """Cosine similarity of steps with one vector per pseudo-gloss.

    It has width * E + E parameters, two temperatures, and P * E vector entries, which are parameters only if learned.

    Args:
        width: size of a step.
        num_glosses: pseudo-glosses P. The null class, a zero vector, has cosine 0 with everything; the loss adds it.
        dim: size E of a vector. Published: 300, fastText.
        dropout: dropout on the steps.
        temperature: initial value of both temperatures.
        learn_temperatures: train the temperatures; otherwise they are fixed.
        learned: train the vectors; otherwise they stay as initialised (random, orthogonal if P <= E) or loaded.
    """

    def __init__(
        self,
        width: int,
        num_glosses: int,
        *,
        dim: int = 300,
        dropout: float = 0.2,
        temperature: float = 0.1,
        learn_temperatures: bool = True,
        learned: bool = False,
    ) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(width, dim)
        self.class_temperature: Tensor
        self.time_temperature: Tensor
        for name in ("class_temperature", "time_temperature"):
            value = torch.tensor(temperature)
            if learn_temperatures:
                self.register_parameter(name, nn.Parameter(value))
            else:
                self.register_buffer(name, value)
        vectors = F.normalize(nn.init.orthogonal_(torch.empty(num_glosses, dim)), dim=1)
        self.vectors: Tensor
        if learned:
            self.vectors = nn.Parameter(vectors)
        else:
            self.register_buffer("vectors", vectors)

    def forward(self, steps: Tensor) -> Tensor:
        """[B, S, width] -> [B, S, P], in -1..1"""
        projected = self.project(self.dropout(steps))
        single = torch.promote_types(projected.dtype, torch.float32)
        return F.normalize(projected.to(single), dim=2) @ F.normalize(self.vectors.to(single), dim=1).T


@dataclass(frozen=True, kw_only=True)
class SignEncoderConfig(TransformerConfig):
    """The visual encoder of Sign2GPT, shared by its two stages. Published: width 512, 8 heads, ffn 2048, dropout 0.1
    and gelu."""

    blocks: tuple[int, int] = bounded((2, 2), low=0, high=1000)
    """Blocks of the sign encoder before and after halving the time resolution."""
    window: int = bounded(7, low=1, high=9999, odd=True)
    """Frames that each frame attends to, centred on itself."""
    layer_scale: float = bounded(1e-5, low=0, high=100)
    drop_path: float = bounded(0.1, low=0, below=1)
    """Share of clips for which the last block is skipped in training; rises from 0 at the first block."""


def sign_encoder(config: SignEncoderConfig, dim: int) -> SignEncoder:
    """Build the sign encoder for frame features of size `dim`."""
    return SignEncoder(
        dim,
        width=config.width,
        heads=config.heads,
        ffn=config.ffn,
        blocks=config.blocks,
        window=config.window,
        layer_scale=config.layer_scale,
        drop_path=config.drop_path,
        dropout=config.dropout,
        activation=config.activation,
        sync_norm=config.sync_norm,
    )


@register
class PGP(System):
    """Maps clips to cosine similarities with pseudo-glosses.

    Source: Sign2GPT (ICLR 2024), pseudo-gloss pretraining, in the form of the released code.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(SignEncoderConfig):
        """`model` section of a PGP recipe."""

        name: str = "pgp"
        prototype_dim: int = bounded(300, low=1, high=65_536)
        """Size of a pseudo-gloss vector."""
        vectors: str = ""
        """pretrained:FILE of word vectors as text (fastText .vec); empty: random vectors, orthogonal if possible."""
        learn_prototypes: bool = False
        """Train the pseudo-gloss vectors too."""
        head_dropout: float = bounded(0.2, low=0, below=1)
        """Dropout on the steps that the head reads."""
        start_temperature: float = bounded(0.1, low=0.01, high=1)
        """Initial temperature of the softmaxes over pseudo-glosses and over time."""
        learn_temperatures: bool = True
        """Train both temperatures; false, as released for CSL-Daily, keeps them fixed."""
        lemmatiser: str = "words"
        """words | rules:de | rules:en | characters | bigrams | spacy:MODEL (lemmas of content words, as published)."""
        max_share: float = bounded(0.4, above=0, high=1)
        """Drop pseudo-glosses that occur in more than this share of the sentences."""
        min_count: int = bounded(1, low=1, high=1_000_000)
        """Drop pseudo-glosses that occur in fewer sentences."""
        stop_length: int = bounded(3, low=0, high=1000)
        """Drop words of at most this many letters that occur in more than `stop_share` of the sentences; not with
        spacy."""
        stop_share: float = bounded(0.05, low=0, high=1)
        vocabulary: Literal["train", "as_released"] = "train"
        """Sentences from which pseudo-glosses are made; as_released reads train, dev and test."""

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.vectors and not self.vectors.startswith("pretrained:"):
                raise ValueError(f"model.vectors: needs pretrained:FILE, got {self.vectors!r}")
            if self.lemmatiser not in LEMMATISERS and not self.lemmatiser.startswith("spacy:"):
                raise ValueError(
                    f"model.lemmatiser: needs {', '.join(LEMMATISERS)} or spacy:MODEL, got {self.lemmatiser!r}"
                )

    title: ClassVar = "PGP: pseudo-gloss pretraining of Sign2GPT, the sentence's words found in the clip (ICLR 2024)"
    label: ClassVar = "PGP"
    needs: ClassVar = "frames (or features) and sentences; a spaCy model and word vectors for the published form"
    stage: ClassVar = "pretrain"
    terms: ClassVar = {"pseudo_gloss": pseudo_gloss, "signcl": frame_contrast}
    required_terms: ClassVar = ("pseudo_gloss",)
    TAPS: ClassVar = ("features", "embedding", "steps")
    checkpoint: ClassVar = "pgp"
    checkpoint_marks: ClassVar = ("sign_model.spatial_model.lin.weight", "post_model.vocab_embedding")

    config: Config

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        maker = None if sizes.targets is None else sizes.targets.makers.get("pseudo_gloss")
        if maker is None:
            raise ValueError("model.name=pgp: needs a weight for pseudo_gloss, whose vocabulary determines its size")
        self.encoder = sign_encoder(config, feature_size(self.visual))
        self.head = PrototypeHead(
            config.width,
            len(maker),
            dim=config.prototype_dim,
            dropout=config.head_dropout,
            temperature=config.start_temperature,
            learn_temperatures=config.learn_temperatures,
            learned=config.learn_prototypes,
        )

    def step_lengths(self, lengths: Tensor) -> Tensor:
        """Number of steps for clips with these numbers of frames. [B] -> [B]"""
        return self.encoder.step_lengths(feature_lengths(self.visual, lengths))

    def tap(self, batch: Batch, name: str) -> Tapped:
        """The input of the sign encoder (`embedding`) or its steps."""
        return tapped_steps(self.visual, self.encoder, batch, name)

    def forward(self, batch: Batch) -> PGPOutput:
        """Steps and cosine similarities of each clip."""
        features, lengths = frame_features(self.visual, batch)
        steps, step_lengths = self.encoder(features, lengths)
        similarity = self.head(steps)
        temperatures = self.head.class_temperature, self.head.time_temperature
        return PGPOutput(features, lengths, steps, step_lengths, similarity, *temperatures)

    @classmethod
    def published(cls, given: Checkpoint) -> Published:
        """A checkpoint of the first stage of Sign2GPT, with its pseudo-glosses (`processed_words.phx_pkl`)."""
        return published_pgp(given)

    @torch.no_grad()
    def load_published(self, start: Start) -> list[str]:
        """Load the word vectors of the pseudo-glosses."""
        source = self.config.vectors
        if not source or start.targets is None:
            return []
        maker = start.targets.makers["pseudo_gloss"]
        vectors, text = maker.vectors(source.removeprefix("pretrained:"), self.config.prototype_dim)
        self.head.vectors.copy_(vectors)
        return [f"vectors of the pseudo-glosses from {source}: {text}"]


def tapped_steps(visual: nn.Module, encoder: SignEncoder, batch: Batch, tap: str) -> Tapped:
    """States at `features`, `embedding` or `steps`, with their positions in time."""
    features, lengths = frame_features(visual, batch)
    frames = tap_of_frames(visual, features, lengths)
    if tap == "features":
        return frames
    if tap == "embedding":
        return Tapped(encoder.embed(features, lengths), lengths, frames.stride, frames.first_centre)
    steps, step_lengths = encoder(features, lengths)
    return Tapped(
        steps, step_lengths, 2 * frames.stride, frames.first_centre
    )  # a step is centred at every second frame
