"""Sign2GPT: frames to a sentence through a frozen language model (the second stage; PGP is the first).

Frame encoder and sign encoder as in PGP, then a causal language model that reads the steps through zero-gated adapters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from signcl.data.batch import Batch
from signcl.data.bounds import bounded
from signcl.data.text import Tokenizer
from signcl.systems.base import EarlierRun, Sizes, Start, System, register
from signcl.systems.parts.adapted_lm import AdaptedLM
from signcl.systems.parts.frames import Tapped, feature_lengths, feature_size, frame_features
from signcl.systems.parts.official import Checkpoint, Published
from signcl.systems.parts.official_sign2gpt import published_sign2gpt
from signcl.systems.parts.published_models import load_published_model, one_line, read_published_config
from signcl.systems.parts.transfer import transfer_signs
from signcl.systems.parts.written import Written, mean_features, sentence_log_probs
from signcl.systems.pgp import SignEncoderConfig, sign_encoder, tapped_steps
from signcl.systems.terms.shared import frame_contrast, translation

__all__ = ["Sign2GPT", "Sign2GPTEncoding", "Sign2GPTOutput"]


@dataclass(frozen=True)
class Sign2GPTEncoding:
    """A batch of clips after the sign encoder."""

    features: Tensor
    """Frame features, where SignCL and density look. [B, T, D]"""
    lengths: Tensor
    """[B]"""
    steps: Tensor
    """States of the sign encoder, one for every two frames. [B, S, width]"""
    step_lengths: Tensor
    """[B]"""


@dataclass(frozen=True)
class Sign2GPTOutput(Sign2GPTEncoding):
    """A batch of clips with the language model's logits."""

    logits: Tensor
    """Scores of `batch.tokens`, position by position, given the tokens before. [B, U, V]"""


@dataclass(frozen=True)
class LMConfig:
    """The causal language model that writes the sentence, and its adapters."""

    name: str = ""
    """pretrained:FOLDER_OR_HUB_ID of any causal language model of transformers; empty: one that starts at random."""
    adapters: Literal["inside", "hook"] = "inside"
    """How layers look at the steps. inside, as released: in their own attention, for XGLM. hook: before each layer, by
    a narrow attention of its own, for any model."""
    architecture: Literal["gpt2", "xglm"] = "xglm"
    """Of one that starts at random, with these sizes, `model.dropout` and `model.max_positions`:"""
    layers: int = bounded(2, low=1, high=1000)
    width: int = bounded(128, low=1, high=65_536)
    heads: int = bounded(4, low=1, high=1024)
    ffn: int = bounded(256, low=1, high=1_000_000)
    train: Literal["adapters", "all"] = "adapters"
    """all: the language model is trained too, for one that starts at random."""
    lora_rank: int = bounded(4, low=0, high=4096)
    """In query, key, value and output of every layer's attention, inside in its look at the steps too; 0 leaves LoRA
    out."""
    lora_alpha: float = bounded(4.0, above=0, high=1e6)
    lora_dropout: float = bounded(0.1, low=0, below=1)
    adapter_width: int = bounded(256, low=1, high=65_536)
    """Of hook: width of the gated attention by which each layer looks at the steps."""
    adapter_heads: int = bounded(8, low=1, high=1024)
    gate: float = bounded(0.0, low=-100, high=100)
    """What the gates start at, inside one for each head, held between 0 and 1; of hook one, through tanh. 0, as
    published, lets nothing of the clip in before the first step."""

    def __post_init__(self) -> None:
        if self.name and not self.name.startswith("pretrained:"):
            raise ValueError(f"model.lm.name: needs pretrained:FOLDER_OR_HUB_ID, got {self.name!r}")
        if self.width % self.heads or self.adapter_width % self.adapter_heads:
            raise ValueError("model.lm: heads must divide width, and adapter_heads adapter_width")
        if self.adapters == "inside" and not self.name and self.architecture != "xglm":
            raise ValueError(
                f"model.lm.architecture={self.architecture} needs model.lm.adapters=hook: inside is for xglm alone"
            )
        if self.adapters == "inside" and (self.adapter_width, self.adapter_heads) != (256, 8):
            raise ValueError(
                "model.lm: adapter_width and adapter_heads belong to adapters=hook; inside has the heads of the "
                "language model"
            )


@register
class Sign2GPT(System):
    """Clips in, sentences out.

    Trained beside the frame encoder's: the sign encoder, the linear map w W + W of steps to the width W of the language
    model, and 14 r W + H in each of its L layers of H heads. With XGLM-1.7B (L = 24, W = 2048, H = 16) and the defaults
    that is 12,811,776 + 1,050,624 + 2,752,896.

    Source: Sign2GPT (ICLR 2024), in the form of the released code; docs/paper-vs-code.md has what differs.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(SignEncoderConfig):
        """`model` of a Sign2GPT."""

        name: str = "sign2gpt"
        lm: LMConfig = field(default_factory=LMConfig)
        max_positions: int = bounded(1024, low=2, high=1_000_000)
        """Longest sentence of a language model that starts at random."""

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
        words, own = sizes.words(), config.lm
        lm = language_model(config, words, sizes.described.get("decoder"))
        self.encoder = sign_encoder(config, feature_size(self.visual))
        self.decoder = AdaptedLM(
            lm,
            config.width,
            pad_id=words.pad_id,
            start_id=words.start_id,
            end_id=words.end_id,
            adapters=own.adapters,
            adapter_width=own.adapter_width,
            adapter_heads=own.adapter_heads,
            gate=own.gate,
            lora_rank=own.lora_rank,
            lora_alpha=own.lora_alpha,
            lora_dropout=own.lora_dropout,
            train_all=own.train == "all",
        )

    @classmethod
    def check(cls, recipe: Any) -> None:
        """A published language model with its own tokenizer."""
        name, tokenizer = recipe.model.lm.name, recipe.text.tokenizer
        if name and not tokenizer.startswith("pretrained:"):
            raise ValueError(
                f"text.tokenizer: the language model of model.lm.name knows the ids of its own tokenizer alone; needs "
                f"{name}, got {tokenizer!r}"
            )

    def step_lengths(self, lengths: Tensor) -> Tensor:
        """Steps that clips of so many frames give. [B] -> [B]"""
        return self.encoder.step_lengths(feature_lengths(self.visual, lengths))

    def tap(self, batch: Batch, name: str) -> Tapped:
        """The sign encoder's input, or its steps."""
        return tapped_steps(self.visual, self.encoder, batch, name)

    def encode(self, batch: Batch) -> Sign2GPTEncoding:
        """Clips to steps."""
        features, lengths = frame_features(self.visual, batch)
        steps, step_lengths = self.encoder(features, lengths)
        return Sign2GPTEncoding(features, lengths, steps, step_lengths)

    def forward(self, batch: Batch) -> Sign2GPTOutput:
        """Clips and their sentences to token scores (teacher forcing).

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
        """As transformers' greedy search reads it."""
        return self.decoder.scores(tokens, steps, step_lengths)[:, -1].float().log_softmax(dim=1)

    @torch.no_grad()
    def generate(
        self, batch: Batch, *, num_beams: int = 4, length_penalty: float = 1.0, max_new_tokens: int = 64
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
        self, batch: Batch, *, num_beams: int = 4, length_penalty: float = 1.0, max_new_tokens: int = 64
    ) -> Written:
        """`generate` with log p of each sentence. The language model reads the finished sentences once more, all words
        at once: transformers would have to keep the scores of its whole vocabulary for every step and beam."""
        encoded = self.encode(batch)
        steps, lengths = encoded.steps, encoded.step_lengths
        ids = self.decoder.generate(
            steps,
            lengths,
            num_beams=num_beams,
            length_penalty=length_penalty,
            max_new_tokens=max_new_tokens,
        )
        log_probs, counts = sentence_log_probs(self.decoder(ids, steps, lengths), ids, self.decoder.pad_id)
        return Written(ids, log_probs, counts, mean_features(encoded.features, encoded.lengths))

    @classmethod
    def published(cls, given: Checkpoint) -> Published:
        """A checkpoint of the second stage of Sign2GPT, its XGLM in it."""
        return published_sign2gpt(given)

    def load_published(self, start: Start) -> list[str]:
        """The weights of the language model; its adapters keep what they have."""
        source = self.config.lm.name
        if not source:
            return []
        from transformers import AutoModelForCausalLM

        name = source.removeprefix("pretrained:")
        report = load_published_model(self.decoder.lm, AutoModelForCausalLM, name, "model.lm.name")
        return [f"language model from {source}: {report}"]

    def take_over(self, earlier: EarlierRun, start: Start) -> str:
        """From a run of its own, or from the pseudo-gloss pretraining: frame encoder and sign encoder."""
        if not earlier.is_a("pgp"):
            return super().take_over(earlier, start)
        return str(transfer_signs(earlier.tensors, self))


def language_model(config: Sign2GPT.Config, tokenizer: Tokenizer, described: Mapping[str, Any] | None) -> nn.Module:
    """The causal language model of a config, with random weights.

    Args:
        described: its configuration, where a run folder has it; None reads it from where the config names it.

    Raises:
        ValueError: no such language model, or one whose vocabulary is smaller than the tokenizer's.
    """
    from transformers import AutoModelForCausalLM
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    own = config.lm
    if described is not None:
        sizes = CONFIG_MAPPING[described["model_type"]].from_dict(dict(described))
    elif own.name:
        sizes = read_published_config(own.name.removeprefix("pretrained:"), "model.lm.name")
    else:
        sizes = _random_config(config, tokenizer)
    words = getattr(tokenizer, "num_tokens", tokenizer.vocab_size)
    rows = sizes.get_text_config(decoder=True).vocab_size
    if rows < words:
        raise ValueError(
            f"model.lm: its vocabulary has {rows} rows and the tokenizer {words} tokens; set text.tokenizer to the "
            f"folder or hub id of the language model itself"
        )
    try:
        lm: nn.Module = AutoModelForCausalLM.from_config(sizes, dtype=torch.float32)
    except (ValueError, ImportError) as error:
        raise ValueError(
            f"model.lm.name={own.name}: no causal language model of transformers: {one_line(error)}"
        ) from None
    return lm


def _random_config(config: Sign2GPT.Config, tokenizer: Tokenizer) -> Any:
    """A GPT-2 or XGLM of the config's sizes and the tokenizer's vocabulary."""
    from transformers import GPT2Config, XGLMConfig

    lm = config.lm
    words: dict[str, Any] = {
        "vocab_size": tokenizer.vocab_size,
        "pad_token_id": None,
        "bos_token_id": tokenizer.start_id,
        "eos_token_id": tokenizer.end_id,
    }
    if lm.architecture == "gpt2":
        return GPT2Config(
            n_layer=lm.layers, n_embd=lm.width, n_head=lm.heads, n_inner=lm.ffn, n_positions=config.max_positions,
            resid_pdrop=config.dropout, embd_pdrop=config.dropout, attn_pdrop=config.dropout, **words,
        )  # fmt: skip
    return XGLMConfig(
        num_layers=lm.layers, d_model=lm.width, attention_heads=lm.heads, ffn_dim=lm.ffn, dropout=config.dropout,
        attention_dropout=0.0, max_position_embeddings=config.max_positions, **words,
    )  # fmt: skip
