"""SpaMo: features of frozen image and video encoders, a short temporal convolution, an MLP and a language model.

At the published sizes (CLIP ViT-L/14 at two scales 2048, VideoMAE-L 1024, width 768, Flan-T5-XL, LoRA of rank 16 in
query and value) 23,472,129 parameters train, in the modules of the released code:

     1,573,632  linear map of the image features, 2048 -> 768
       787,200  linear map of the video features, 1024 -> 768
     5,902,848  temporal convolution: two of 2,949,888, and two batch norms of 1,536
     5,771,264  MLP: 768 -> 2048 -> 2048
     9,437,184  LoRA: 72 attentions x 2 maps x 16 x (2048 + 2048)
             1  logit scale
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from signcl.data.batch import Batch, frame_mask
from signcl.data.bounds import bounded
from signcl.systems.base import EarlierRun, Sizes, Start, System, SystemConfig, register
from signcl.systems.encoders.windows import Windows
from signcl.systems.parts.frames import (
    Tapped,
    feature_lengths,
    feature_size,
    frame_features,
    one_by_one,
    tap_of_frames,
)
from signcl.systems.parts.layers import ConvKind, TemporalConv
from signcl.systems.parts.lm import LMConfig, TextDecoder, check_words, lm_of
from signcl.systems.parts.written import Written, mean_features
from signcl.systems.terms.shared import clip, frame_contrast, translation

__all__ = ["SpaMo", "SpaMoOutput"]


@dataclass(frozen=True)
class SpaMoOutput:
    """A batch of clips and sentences."""

    features: Tensor
    """Mapped features of both sources per frame, for SignCL and density. [B, T, D]"""
    lengths: Tensor
    """[B]"""
    steps: Tensor
    """Input of the language model. [B, S, width of its word embeddings]"""
    step_lengths: Tensor
    """[B]"""
    logits: Tensor | None = None
    """Scores of `batch.tokens`, given the clip and the tokens before; None if no term needs them. [B, U, V]"""
    video_embedding: Tensor | None = None
    """Mean over the steps of a clip. This and the fields below need the term clip. [B, width of word embeddings]"""
    text_embedding: Tensor | None = None
    """Mean over the word embeddings of a sentence. [B, width of word embeddings]"""
    logit_scale: Tensor | None = None
    """Logarithm of the scale of cosine similarities. Scalar"""


@register
class SpaMo(System):
    """Translates clips to sentences.

    One temporal convolution reads the image features followed by the video features (`join: time`, as released). An MLP
    with GELU maps its output to the language model, which reads it instead of words, before the prompt. The warm-up is
    a separate run with `loss.weights: {clip: 1.0}`, which pulls the mean of a clip's steps towards the mean of its
    sentence's word embeddings; a second run with `model.init_from` continues with `{translation: 1.0}`. Both terms
    together are the released `combined_loss` (weights 0.1 and 1).

    Source: SpaMo (NAACL 2025), in the form of the released code. Differences: means exclude padding, there are no
    in-context examples, search does not sample, and references are the original sentences of the corpus
    (docs/systems/spamo.md).
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(SystemConfig):
        """`model` section of a SpaMo recipe. Published: visual feature_streams, visual_dim and width 768, join time."""

        name: str = "spamo"
        width: int = bounded(128, low=1, high=65_536)
        """Width of the temporal convolution."""
        conv: ConvKind = "k5p2k5p2"
        """Kernels and pools of the temporal convolution: one step per 4 (k5p2k5p2), 2 (k5p2) or 1 rows (k3)."""
        edge: Literal["none", "replicate"] = "none"
        """Pad with copies of a clip's first and last rows before the convolution; the released code does not."""
        join: Literal["frames", "time"] = "frames"
        """frames: the convolution reads the rows of the frame encoder. time, as released: it reads the rows of the
        first source, then one row per window of the second; needs visual=feature_streams with two sources and
        fusion=apart."""
        window: int = bounded(16, low=1, high=10_000)
        """With join=time: frames per window of the second source,"""
        window_stride: int = bounded(8, low=1, high=10_000)
        """and frames from one window to the next; both as in `signcl extract --encoder --window --stride`."""
        lm: LMConfig = field(default_factory=LMConfig)
        dropout: float = bounded(0.1, low=0, below=1)
        """Dropout of a randomly initialised language model."""
        max_positions: int = bounded(1024, low=2, high=1_000_000)
        """Positions of a randomly initialised language model, if its kind has positions."""
        logit_scale: float = bounded(2.6592, low=-10, high=4.6)
        """Initial logarithm of the scale of similarities; 2.6592 is CLIP's log(1 / 0.07)."""

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.join == "time" and (
                self.visual != "feature_streams" or len(self.streams.sizes) != 2 or self.streams.fusion != "apart"
            ):
                raise ValueError(
                    f"model.join=time needs visual=feature_streams with two model.streams.sizes and fusion=apart, got "
                    f"visual={self.visual}, sizes {self.streams.sizes}, fusion={self.streams.fusion}"
                )

    title: ClassVar = "SpaMo: features of frozen encoders to a language model with LoRA (NAACL 2025)"
    label: ClassVar = "SpaMo"
    needs: ClassVar = "features of CLIP and VideoMAE (signcl extract --encoder), sentences, a language model"
    stage: ClassVar = "finetune"
    terms: ClassVar = {"translation": translation, "clip": clip, "signcl": frame_contrast}
    default: ClassVar = ("translation",)
    answers: ClassVar = "sentences"
    TAPS: ClassVar = ("features", "steps")

    config: Config

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        weighed = sizes.terms or tuple(self.terms)
        self.translates, self.contrasts = "translation" in weighed, "clip" in weighed
        self.windows = Windows(config.window, config.window_stride) if config.join == "time" else None
        dim = feature_size(self.visual)
        rows = dim // 2 if self.windows else dim
        self.conv = TemporalConv(rows, config.width, kind=config.conv, edge=config.edge, sync=config.sync_norm)
        self.decoder = TextDecoder(lm_of(config, sizes), sizes.words(), config.lm)
        width = self.decoder.width
        self.mlp = nn.Sequential(nn.Linear(config.width, width), nn.GELU(), nn.Linear(width, width))
        self.logit_scale = nn.Parameter(torch.tensor(config.logit_scale)) if self.contrasts else None

    @classmethod
    def check(cls, recipe: Any) -> None:
        """Check that a published language model is used with its own tokenizer."""
        check_words(recipe)

    def step_lengths(self, lengths: Tensor) -> Tensor:
        """Number of steps for clips with these numbers of frames. [B] -> [B]"""
        rows = feature_lengths(self.visual, lengths)
        return self.conv.step_lengths(rows + self.windows.counts(rows) if self.windows else rows)

    def tap(self, batch: Batch, name: str) -> Tapped:
        """The language model's input; with join=time only that of the first source, whose rows have positions in
        time."""
        features, lengths = frame_features(self.visual, batch)
        frames = tap_of_frames(self.visual, features, lengths)
        steps, step_lengths = self._steps(features, lengths)
        if self.windows:  # drop steps that begin in rows of the second source
            step_lengths = torch.minimum(self.conv.step_lengths(lengths), step_lengths)
        return Tapped(steps, step_lengths, *self.conv.geometry(frames.stride, frames.first_centre))

    def _steps(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        rows, row_lengths = self._one_after_the_other(features, lengths) if self.windows else (features, lengths)
        steps, step_lengths = self.conv(rows, row_lengths)
        return self.mlp(steps) * frame_mask(step_lengths, steps.shape[1])[:, :, None], step_lengths

    def _one_after_the_other(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of the first source, then one row per window of the second. [B, T, 2 D] -> [B, T + M, D], [B]

        In the input every frame has a row of the second source (`side_by_side`); each window uses the row at its middle
        frame.
        """
        assert self.windows is not None
        windows, (first, second) = self.windows, features.chunk(2, dim=2)
        longest, counts = features.shape[1], self.windows.counts(lengths)
        middles = torch.arange(windows.count(longest), device=features.device) * windows.stride + windows.size // 2
        index = torch.minimum(middles[None, :].expand(features.shape[0], -1), lengths[:, None] - 1)  # [B, M]
        chosen = second.gather(1, index[:, :, None].expand(-1, -1, second.shape[2]))
        return one_by_one(first, lengths, chosen), lengths + counts

    def forward(self, batch: Batch) -> SpaMoOutput:
        """Token scores of each clip's sentence (teacher forcing), and one vector per clip and per sentence.

        Raises:
            ValueError: a batch without tokens, or a clip or sentence that is too long.
        """
        if batch.tokens is None:
            raise ValueError("SpaMo needs batch.tokens to score a sentence; to translate use `generate`.")
        features, lengths = frame_features(self.visual, batch)
        steps, step_lengths = self._steps(features, lengths)
        more: dict[str, Any] = {}
        if self.translates:
            more["logits"] = self.decoder(batch.tokens, steps, step_lengths)
        if self.contrasts:
            assert batch.token_lengths is not None
            words, count = self.decoder.embed(batch.tokens).float(), batch.token_lengths
            real = frame_mask(count, words.shape[1])[:, :, None]
            more["video_embedding"] = steps.sum(dim=1) / step_lengths[:, None].clamp(min=1)  # zero at padding
            more["text_embedding"] = (words * real).sum(dim=1) / count[:, None].clamp(min=1)
            more["logit_scale"] = self.logit_scale
        return SpaMoOutput(features, lengths, steps, step_lengths, **more)

    def exported_states(self, features: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """What the language model reads before a sentence (`TextDecoder.exported_states`)."""
        return self.decoder.exported_states(*self._steps(features, lengths), self.decoder.prompt)

    def exported_word(self, tokens: Tensor, steps: Tensor, step_lengths: Tensor) -> Tensor:
        """Next-token log-probabilities as in transformers' greedy search."""
        return self.decoder.exported_word(tokens, steps, step_lengths)

    @torch.no_grad()
    def generate(
        self, batch: Batch, *, num_beams: int = 5, length_penalty: float = 1.0, max_new_tokens: int = 64
    ) -> Tensor:
        """Translate; put the model in eval mode first. Arguments and result as in `TextDecoder.generate`."""
        steps, step_lengths = self._steps(*frame_features(self.visual, batch))
        return self.decoder.generate(
            steps, step_lengths, num_beams=num_beams, length_penalty=length_penalty, max_new_tokens=max_new_tokens
        )

    @torch.no_grad()
    def generate_scored(
        self, batch: Batch, *, num_beams: int = 5, length_penalty: float = 1.0, max_new_tokens: int = 64, most: int = 1
    ) -> Written:
        """`generate` with log p of each sentence; the clip is encoded once."""
        features, lengths = frame_features(self.visual, batch)
        found = self.decoder.generate_scored(
            *self._steps(features, lengths),
            num_beams=num_beams,
            length_penalty=length_penalty,
            max_new_tokens=max_new_tokens,
            most=most,
        )
        return Written(*found, mean_features(features, lengths))

    def load_published(self, start: Start) -> list[str]:
        """Load the weights of the language model; its LoRA weights stay unchanged."""
        return self.decoder.load_published(self.config.lm)

    def take_over(self, earlier: EarlierRun, start: Start) -> str:
        """Load an earlier run, such as the warm-up, except `logit_scale` if only one of the two runs has it."""
        own = self.logit_scale
        theirs = "clip" in earlier.terms
        if theirs == self.contrasts:
            return super().take_over(earlier, start)
        self.logit_scale = nn.Parameter(torch.tensor(self.config.logit_scale)) if theirs else None
        try:
            said = super().take_over(earlier, start)
        finally:
            self.logit_scale = own
        return f"{said}; {'left behind' if theirs else 'start fresh'}: logit_scale"
