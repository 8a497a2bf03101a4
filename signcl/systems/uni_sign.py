"""Uni-Sign: graph networks over key points of body, hands and face feed a multilingual language model.

The same model and loss serve for pretraining on a large corpus and for finetuning on another (`model.init_from`), also
on corpora with several languages: the prompt names the target language.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from signcl.data.batch import Batch, frame_mask
from signcl.data.bounds import bounded
from signcl.systems.base import Outputs, Sizes, Start, System, register
from signcl.systems.parts.frames import Tapped, feature_size, frame_features, tap_of_frames
from signcl.systems.parts.layers import MaskedBatchNorm1d
from signcl.systems.parts.lm import SLOT, LMConfig, TextDecoder, check_words, lm_of
from signcl.systems.parts.official import Checkpoint, Published
from signcl.systems.parts.official_uni_sign import published_uni_sign
from signcl.systems.parts.written import Written, mean_features
from signcl.systems.terms.shared import frame_contrast, translation

__all__ = ["UniSign"]

LANGUAGE = "{language}"
PROMPT = f"Translate sign language video to {LANGUAGE}: </s>{SLOT}"
"""As published: the tokenizer adds its end token to the prompt, and the signs follow it."""

UNNAMED = "spoken language"
"""Language in the prompt if none is named."""


@dataclass(frozen=True)
class PromptedLM(LMConfig):
    """The language model of Uni-Sign: fully trained, with a prompt."""

    train: Literal["adapters", "all"] = "all"
    """adapters: freeze the language model except for LoRA (with lora_rank 0 all of it). all: train it too, as
    published."""
    lora_rank: int = bounded(0, low=0, high=4096)
    """Rank of LoRA in the linear layers of `lora_on`; 0: no LoRA."""
    prompt: str = PROMPT
    """Text around the steps; {signs} marks their position, {language} is replaced by the language of each clip."""
    specials: bool = False
    """Put the tokenizer's special tokens around prompt and steps, as around any text."""


@register
class UniSign(System):
    """Translates clips to sentences in the language named by the prompt.

    Every frame is one step of the language model's input: the concatenated vectors of the parts, mapped linearly to the
    width of a word embedding. `sync_norm` shares the batch norm statistics of the part graphs over ranks, as released.

    Source: Uni-Sign (ICLR 2025, arXiv 2501.15187), pose-only, in the form of the released code.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(System.Config):
        """`model` section of a Uni-Sign recipe."""

        name: str = "uni_sign"
        visual: str = "part_graphs"
        lm: PromptedLM = field(default_factory=PromptedLM)
        """The language model; published: mT5-base, fully trained."""
        language: str = ""
        """Language in the prompt for clips whose corpus names none, e.g. German."""
        languages: dict[str, str] = field(default_factory=dict)
        """Names in the prompt for the languages of the corpus, e.g. {de: German, zh: Chinese}. Any other language
        appears as in the column `language`."""
        dropout: float = bounded(0.1, low=0, below=1)
        """Dropout of a randomly initialised language model; a published one has its own."""
        max_positions: int = bounded(1024, low=2, high=1_000_000)
        """Maximum text length of a randomly initialised language model with positions; T5 has none."""

    title: ClassVar = "Uni-Sign: key points through part graphs into a prompted language model (ICLR 2025)"
    label: ClassVar = "Uni-Sign"
    needs: ClassVar = "key points (or features, or frames) and sentences; an encoder-decoder such as mT5"
    stage: ClassVar = "finetune"
    terms: ClassVar = {"translation": translation, "signcl": frame_contrast}
    answers: ClassVar = "sentences"
    TAPS: ClassVar = ("features", "steps")
    checkpoint: ClassVar = "uni_sign"
    checkpoint_marks: ClassVar = ("part_para", "pose_proj.weight", "gcn_modules.body.layer0_0.gcn.A")

    config: Config

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        for part in self.visual.modules() if config.sync_norm else ():  # all its batch norms are in the frame encoder
            if isinstance(part, MaskedBatchNorm1d):
                part.sync = True
        self.decoder = TextDecoder(lm_of(config, sizes), sizes.words(), config.lm)
        self.project = nn.Linear(feature_size(self.visual), self.decoder.width)
        nn.init.trunc_normal_(self.project.weight, std=0.02)
        nn.init.zeros_(self.project.bias)

    @classmethod
    def check(cls, recipe: Any) -> None:
        """Check that a published language model is used with its own tokenizer, and that the prompt can name
        languages."""
        check_words(recipe)
        model = recipe.model
        if LANGUAGE not in model.lm.prompt and (model.language or model.languages):
            raise ValueError(
                f"model.language and model.languages are names for {LANGUAGE} in model.lm.prompt, which is "
                f"{model.lm.prompt!r}; put {LANGUAGE} there or leave them out"
            )

    def prompts(self, batch: Batch) -> list[str]:
        """The prompt of each clip, with its target language.

        Raises:
            ValueError: a clip without a language if the prompt needs one; languages that the tokenizer cannot
                distinguish.
        """
        config = self.config
        if LANGUAGE not in config.lm.prompt:
            return [config.lm.prompt] * len(batch)
        said = batch.languages or ("",) * len(batch)
        named = [config.languages.get(language, language) or config.language for language in said]
        if "" in named and config.languages:
            raise ValueError(
                f"{batch.names[named.index('')]}: its language is unknown, but model.lm.prompt needs one; set "
                f"model.language, or give the corpus a column language"
            )
        self._check_told_apart(set(named))
        return [config.lm.prompt.replace(LANGUAGE, name or UNNAMED) for name in named]

    def _check_told_apart(self, named: set[str]) -> None:
        """Raise ValueError if two language names have the same token ids: a small tokenizer may know neither."""
        ids: dict[tuple[int, ...], str] = {}
        words: Any = self.tokenizer
        for name in sorted(named) if len(named) > 1 else ():
            prompt = self.config.lm.prompt.replace(LANGUAGE, name).replace(SLOT, "")
            other = ids.setdefault(tuple(words.bare(prompt)), name)
            if other != name:
                raise ValueError(
                    f"model.lm.prompt: the tokenizer has the same ids for {other!r} and {name!r}, so the model cannot "
                    f"distinguish them; name them in model.languages with words in its vocabulary"
                )

    def forward(self, batch: Batch) -> Outputs:
        """Token scores of each clip's sentence (teacher forcing)."""
        if batch.tokens is None:
            raise ValueError("Uni-Sign needs batch.tokens to score a sentence; to translate use `generate`.")
        features, lengths = frame_features(self.visual, batch)
        steps = self._steps(features, lengths)
        logits = self.decoder(batch.tokens, steps, lengths, self.prompts(batch))
        return Outputs(features, lengths, steps, lengths, logits=logits)

    def _steps(self, features: Tensor, lengths: Tensor) -> Tensor:
        steps: Tensor = self.project(features) * frame_mask(lengths, features.shape[1])[..., None]
        return steps

    def tap(self, batch: Batch, name: str) -> Tapped:
        """The language model's input (`steps`)."""
        features, lengths = frame_features(self.visual, batch)
        return tap_of_frames(self.visual, self._steps(features, lengths), lengths)

    def exported_states(self, features: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """What the language model reads before a sentence (`TextDecoder.exported_states`); the prompt names
        `model.language`."""
        return self.decoder.exported_states(self._steps(features, lengths), lengths, self.exported_prompt())

    def exported_prompt(self) -> str:
        """The prompt of the export, with one language for all clips.

        Raises:
            ValueError: the run has several languages and `model.language` chooses none.
        """
        config = self.config
        if LANGUAGE in config.lm.prompt and config.languages and not config.language:
            raise ValueError(
                f"the prompt of this run names the language of each clip, and an export has one prompt: give "
                f"--language, one of {', '.join(config.languages)}"
            )
        return config.lm.prompt.replace(LANGUAGE, config.language or UNNAMED)

    def exported_word(self, tokens: Tensor, steps: Tensor, step_lengths: Tensor) -> Tensor:
        """Next-token log-probabilities as in transformers' greedy search."""
        return self.decoder.exported_word(tokens, steps, step_lengths)

    @torch.no_grad()
    def generate(
        self, batch: Batch, *, num_beams: int = 4, length_penalty: float = 1.0, max_new_tokens: int = 100
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
        features, lengths = frame_features(self.visual, batch)
        return self.decoder.generate(
            self._steps(features, lengths),
            lengths,
            num_beams=num_beams,
            length_penalty=length_penalty,
            max_new_tokens=max_new_tokens,
            prompts=self.prompts(batch),
        )

    @torch.no_grad()
    def generate_scored(
        self, batch: Batch, *, num_beams: int = 4, length_penalty: float = 1.0, max_new_tokens: int = 100, most: int = 1
    ) -> Written:
        """`generate` with log p of each sentence; the clip is encoded once."""
        features, lengths = frame_features(self.visual, batch)
        found = self.decoder.generate_scored(
            self._steps(features, lengths),
            lengths,
            num_beams=num_beams,
            length_penalty=length_penalty,
            max_new_tokens=max_new_tokens,
            most=most,
            prompts=self.prompts(batch),
        )
        return Written(*found, mean_features(features, lengths))

    @classmethod
    def published(cls, given: Checkpoint) -> Published:
        """Convert a pose-only checkpoint of the released code."""
        return published_uni_sign(given)

    def load_published(self, start: Start) -> list[str]:
        """Load the weights of the language model."""
        return self.decoder.load_published(self.config.lm)
