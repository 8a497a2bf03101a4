"""Uni-Sign: key points of body, hands and face through graph networks into a multilingual language model.

One model and one loss for pretraining on a large corpus and for finetuning on another (`model.init_from`), and for
corpora of several languages at once: a prompt says which language is to be written.
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
from signcl.systems.parts.lm import SLOT, LMConfig, TextDecoder, check_words, lm_of
from signcl.systems.parts.written import Written, mean_features
from signcl.systems.terms.shared import frame_contrast, translation

__all__ = ["UniSign"]

LANGUAGE = "{language}"
PROMPT = f"Translate sign language video to {LANGUAGE}: </s>{SLOT}"
"""As published: the tokenizer ends the prompt as any text, and the signs stand behind that end."""

UNNAMED = "spoken language"
"""What the prompt says where nobody names a language."""


@dataclass(frozen=True)
class PromptedLM(LMConfig):
    """The language model of a Uni-Sign: all of it trained, behind a prompt."""

    train: Literal["adapters", "all"] = "all"
    """adapters: the language model stands still but for LoRA (with lora_rank 0 all of it). all: it is trained too, as
    published."""
    lora_rank: int = bounded(0, low=0, high=4096)
    """Rank of LoRA in the linear maps of `lora_on`; 0 leaves LoRA out."""
    prompt: str = PROMPT
    """Text around the steps; {signs} is their place, {language} is filled with the language of each clip."""
    specials: bool = False
    """The special tokens that the tokenizer puts around any text stand around prompt and steps too."""


@register
class UniSign(System):
    """Clips in, sentences out, in the language that the prompt names.

    Every frame is a step of the language model: the vectors of the parts side by side, and a linear map to the width of
    a word.

    Source: Uni-Sign (ICLR 2025, arXiv 2501.15187), pose-only, in the form of the released code.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(System.Config):
        """`model` of a Uni-Sign."""

        name: str = "uni_sign"
        visual: str = "part_graphs"
        lm: PromptedLM = field(default_factory=PromptedLM)
        """The language model; published: mT5-base, all of it trained."""
        language: str = ""
        """What the prompt calls the language of clips whose corpus names none, e.g. German."""
        languages: dict[str, str] = field(default_factory=dict)
        """What the prompt calls the languages of the corpus, e.g. {de: German, zh: Chinese}; others as it writes them.
        A language that is not here is written as the column `language` has it."""
        dropout: float = bounded(0.1, low=0, below=1)
        """Of a language model that starts at random; a published one has its own."""
        max_positions: int = bounded(1024, low=2, high=1_000_000)
        """Longest text of a language model that starts at random and counts positions; T5 does not."""

    title: ClassVar = "Uni-Sign: key points through part graphs into a prompted language model (ICLR 2025)"
    label: ClassVar = "Uni-Sign"
    needs: ClassVar = "key points (or features, or frames) and sentences; an encoder-decoder such as mT5"
    stage: ClassVar = "finetune"
    terms: ClassVar = {"translation": translation, "signcl": frame_contrast}
    answers: ClassVar = "sentences"
    TAPS: ClassVar = ("features", "steps")

    config: Config

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        self.decoder = TextDecoder(lm_of(config, sizes), sizes.words(), config.lm)
        self.project = nn.Linear(feature_size(self.visual), self.decoder.width)
        nn.init.trunc_normal_(self.project.weight, std=0.02)
        nn.init.zeros_(self.project.bias)

    @classmethod
    def check(cls, recipe: Any) -> None:
        """A published language model with its own tokenizer; a prompt for languages that are named."""
        check_words(recipe)
        model = recipe.model
        if LANGUAGE not in model.lm.prompt and (model.language or model.languages):
            raise ValueError(
                f"model.language and model.languages are names for {LANGUAGE} in model.lm.prompt, which is "
                f"{model.lm.prompt!r}; put {LANGUAGE} there or leave them out"
            )

    def prompts(self, batch: Batch) -> list[str]:
        """The prompt of each clip, in which the language is named that is to be written.

        Raises:
            ValueError: a clip without language where the prompt needs one; languages that the tokenizer cannot tell
                apart.
        """
        config = self.config
        if LANGUAGE not in config.lm.prompt:
            return [config.lm.prompt] * len(batch)
        said = batch.languages or ("",) * len(batch)
        named = [config.languages.get(language, language) or config.language for language in said]
        if "" in named and config.languages:
            raise ValueError(
                f"{batch.names[named.index('')]}: its language is not known, and model.lm.prompt names one; set "
                f"model.language, or give the corpus a column language"
            )
        self._check_told_apart(set(named))
        return [config.lm.prompt.replace(LANGUAGE, name or UNNAMED) for name in named]

    def _check_told_apart(self, named: set[str]) -> None:
        """Refuse names of languages that are the same ids: a small tokenizer may know neither."""
        ids: dict[tuple[int, ...], str] = {}
        words: Any = self.tokenizer
        for name in sorted(named) if len(named) > 1 else ():
            prompt = self.config.lm.prompt.replace(LANGUAGE, name).replace(SLOT, "")
            other = ids.setdefault(tuple(words.bare(prompt)), name)
            if other != name:
                raise ValueError(
                    f"model.lm.prompt: the tokenizer has the same ids for {other!r} and {name!r}, so the model cannot "
                    f"know which to write; name them in model.languages by words that it has"
                )

    def forward(self, batch: Batch) -> Outputs:
        """Clips and their sentences to token scores (teacher forcing)."""
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
        """What the language model reads."""
        features, lengths = frame_features(self.visual, batch)
        return tap_of_frames(self.visual, self._steps(features, lengths), lengths)

    @torch.no_grad()
    def generate(
        self, batch: Batch, *, num_beams: int = 4, length_penalty: float = 1.0, max_new_tokens: int = 100
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
        self, batch: Batch, *, num_beams: int = 4, length_penalty: float = 1.0, max_new_tokens: int = 100
    ) -> Written:
        """`generate` with log p of each sentence; the clip is encoded once."""
        features, lengths = frame_features(self.visual, batch)
        found = self.decoder.generate_scored(
            self._steps(features, lengths),
            lengths,
            num_beams=num_beams,
            length_penalty=length_penalty,
            max_new_tokens=max_new_tokens,
            prompts=self.prompts(batch),
        )
        return Written(*found, mean_features(features, lengths))

    def load_published(self, start: Start) -> list[str]:
        """The weights of the language model."""
        return self.decoder.load_published(self.config.lm)
