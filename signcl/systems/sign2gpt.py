"""Sign2GPT: translation from frames to a sentence with a frozen language model (second stage; PGP is the first).

Frame encoder and sign encoder as in PGP, then a causal language model that reads the steps through zero-gated adapters.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from signcl.data.batch import Batch
from signcl.data.bounds import bounded
from signcl.systems.base import EarlierRun, Sizes, Start, System, register
from signcl.systems.parts.adapted_lm import AdaptedLM, AdapterConfig
from signcl.systems.parts.frames import Tapped, feature_lengths, feature_size, frame_features
from signcl.systems.parts.lm import check_words, lm_of
from signcl.systems.parts.official import Checkpoint, Published
from signcl.systems.parts.official_sign2gpt import published_sign2gpt
from signcl.systems.parts.transfer import transfer_signs
from signcl.systems.parts.written import Written, mean_features
from signcl.systems.pgp import SignEncoderConfig, sign_encoder, tapped_steps
from signcl.systems.terms.shared import frame_contrast, translation

__all__ = ["Sign2GPT", "Sign2GPTEncoding", "Sign2GPTOutput"]


@dataclass(frozen=True)
class Sign2GPTEncoding:
    """A batch of clips after the sign encoder."""

    features: Tensor
    """Frame features for SignCL and density. [B, T, D]"""
    lengths: Tensor
    """[B]"""
    steps: Tensor
    """States of the sign encoder, one per two frames. [B, S, width]"""
    step_lengths: Tensor
    """[B]"""


@dataclass(frozen=True)
class Sign2GPTOutput(Sign2GPTEncoding):
    """A batch of clips with the logits of the language model."""

    logits: Tensor
    """Token scores at each position of `batch.tokens`, given the tokens before it. [B, U, V]"""


@register
class Sign2GPT(System):
    """Translates clips to sentences.

    Trained parameters besides the frame encoder's: the sign encoder, the linear map w W + W from steps to the width W
    of the language model, and 14 r W + H in each of its L layers of H heads. With XGLM-1.7B (L = 24, W = 2048, H = 16)
    and the defaults that is 12,811,776 + 1,050,624 + 2,752,896.

    Source: Sign2GPT (ICLR 2024), in the form of the released code; docs/paper-vs-code.md lists the differences.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(SignEncoderConfig):
        """`model` section of a Sign2GPT recipe."""

        name: str = "sign2gpt"
        lm: AdapterConfig = field(default_factory=AdapterConfig)
        max_positions: int = bounded(1024, low=2, high=1_000_000)
        """Maximum sentence length of a randomly initialised language model."""

    title: ClassVar = "Sign2GPT: frames to a sentence through a frozen language model (ICLR 2024); starts from pgp"
    label: ClassVar = "Sign2GPT"
    needs: ClassVar = "frames (or features) and sentences; starts from a pgp run and a causal language model"
    stage: ClassVar = "finetune"
    terms: ClassVar = {"translation": translation, "signcl": frame_contrast}
    answers: ClassVar = "sentences"
    TAPS: ClassVar = ("features", "embedding", "steps")
    checkpoint: ClassVar = "sign2gpt"
    checkpoint_marks: ClassVar = ("sign_model.spatial_model.lin.weight", "lang_model.model.embed_tokens.weight")
    starts_from: ClassVar = ("pgp",)

    config: Config

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        lm = lm_of(config, sizes)  # before the encoder, to keep the order of random initialisation
        self.encoder = sign_encoder(config, feature_size(self.visual))
        self.decoder = AdaptedLM(lm, config.width, sizes.words(), config.lm)

    @classmethod
    def check(cls, recipe: Any) -> None:
        """Check that a published language model is used with its own tokenizer."""
        check_words(recipe)

    def step_lengths(self, lengths: Tensor) -> Tensor:
        """Number of steps for clips with these numbers of frames. [B] -> [B]"""
        return self.encoder.step_lengths(feature_lengths(self.visual, lengths))

    def tap(self, batch: Batch, name: str) -> Tapped:
        """The input of the sign encoder (`embedding`) or its steps."""
        return tapped_steps(self.visual, self.encoder, batch, name)

    def encode(self, batch: Batch) -> Sign2GPTEncoding:
        """Encode clips."""
        features, lengths = frame_features(self.visual, batch)
        steps, step_lengths = self.encoder(features, lengths)
        return Sign2GPTEncoding(features, lengths, steps, step_lengths)

    def forward(self, batch: Batch) -> Sign2GPTOutput:
        """Token scores of each clip's sentence (teacher forcing).

        Raises:
            ValueError: a batch without tokens, or a sentence that is too long.
        """
        if batch.tokens is None:
            raise ValueError("Sign2GPT needs batch.tokens to score a sentence; to translate use `generate`.")
        encoded = self.encode(batch)
        logits = self.decoder(batch.tokens, encoded.steps, encoded.step_lengths)
        return Sign2GPTOutput(**vars(encoded), logits=logits)

    def exported_states(self, features: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """States of the sign encoder."""
        steps, step_lengths = self.encoder(features, lengths)
        return {"steps": steps, "step_lengths": step_lengths}

    def exported_word(self, tokens: Tensor, steps: Tensor, step_lengths: Tensor) -> Tensor:
        """Next-token log-probabilities as in transformers' greedy search."""
        return self.decoder.exported_word(tokens, steps, step_lengths)

    @torch.no_grad()
    def generate(
        self, batch: Batch, *, num_beams: int = 4, length_penalty: float = 1.0, max_new_tokens: int = 64
    ) -> Tensor:
        """Translate; put the model in eval mode first.

        Args:
            batch: clips; its tokens are ignored.
            num_beams: 1 is greedy.
            length_penalty: transformers' rule: log-probability over length ** length_penalty.
            max_new_tokens: maximum length of a sentence in tokens.

        Returns:
            Token ids without the start token, up to end_id if the model produced it, then pad_id. [B, U] long
        """
        encoded = self.encode(batch)
        return self.decoder.generate(
            encoded.steps,
            encoded.step_lengths,
            num_beams=num_beams,
            length_penalty=length_penalty,
            max_new_tokens=max_new_tokens,
        )

    @torch.no_grad()
    def generate_scored(
        self, batch: Batch, *, num_beams: int = 4, length_penalty: float = 1.0, max_new_tokens: int = 64, most: int = 1
    ) -> Written:
        """`generate` with log p of each sentence; the clip is encoded once."""
        encoded = self.encode(batch)
        found = self.decoder.generate_scored(
            encoded.steps,
            encoded.step_lengths,
            num_beams=num_beams,
            length_penalty=length_penalty,
            max_new_tokens=max_new_tokens,
            most=most,
        )
        return Written(*found, mean_features(encoded.features, encoded.lengths))

    @classmethod
    def published(cls, given: Checkpoint) -> Published:
        """A checkpoint of the second stage of Sign2GPT, including its XGLM."""
        return published_sign2gpt(given)

    def load_published(self, start: Start) -> list[str]:
        """Load the weights of the language model; its adapters stay unchanged."""
        return self.decoder.load_published(self.config.lm)

    def take_over(self, earlier: EarlierRun, start: Start) -> str:
        """Load a run of this system, or the frame encoder and sign encoder of a pseudo-gloss pretraining run."""
        if not earlier.is_a("pgp"):
            return super().take_over(earlier, start)
        return str(transfer_signs(earlier.tensors, self))
