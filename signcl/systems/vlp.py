"""VLP: visual-language pretraining of GFSLT, the network of the pretraining stage.

A clip and its sentence are each encoded as one vector, and a contrastive loss pulls them together (version 1, "V1").
Version 2 adds a decoder that restores the sentence from its masked form.

At the published sizes everything except the text decoder has the 216,175,169 parameters of the official pretraining
log:

     19,046,976  ResNet-18 without its classifier and temporal convolution
          1,024  the class token, which represents the clip
     38,843,392  3 encoder layers, positions, two layer norms
      1,048,576  linear head of the clip vector, without bias
    154,722,304  12 text encoder layers with positions, two layer norms, word embeddings (mbart-large, trimmed)
              1  logit scale
      2,512,896  second word embeddings. The released model has them in the clip encoder, which never uses them. Here
                 they belong to the text decoder (GFSLT shares one table between both), so V1 does not have them.

The text decoder of V2 has 53,957,632 more; the released script optimizes it separately and does not count it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from signcl.data.batch import Batch
from signcl.data.bounds import bounded
from signcl.systems.base import Sizes, Start, System, SystemConfig, TransformerConfig, register
from signcl.systems.parts.frames import Tapped, feature_lengths, feature_size, frame_features, tap_of_frames
from signcl.systems.parts.language_model import check_language_model, read_language_model
from signcl.systems.parts.layers import ConvKind, TemporalConv
from signcl.systems.parts.mbart import (
    SignEmbedding,
    TiedHead,
    attention_mask,
    causal_mask,
    check_contrast_moves,
    check_language_model_keys,
    decoder_sizes,
    frames_and_steps,
    mbart_config,
    share_words,
    shift_right,
    untold_words,
)
from signcl.systems.parts.official import Checkpoint, Name, Published, count_layers, take
from signcl.systems.parts.official_gfslt import released_input, visual_names, visual_sizes
from signcl.systems.parts.transfer import OFFSET, load_language_model
from signcl.systems.terms.shared import clip, frame_contrast, masked_text, token_clip, translation

__all__ = ["VLP", "VLPOutput"]


@dataclass(frozen=True)
class VLPOutput:
    """Embeddings of a batch of clips and sentences."""

    features: Tensor
    """Frame features for SignCL and density. [B, T, D]"""
    lengths: Tensor
    """[B]"""
    video_embedding: Tensor
    """One vector per clip, not normalized. [B, width]"""
    text_embedding: Tensor
    """One vector per sentence, not normalized. [B, width]"""
    logit_scale: Tensor | None
    """Logarithm of the scale of cosine similarities; the loss clamps it. None without the term clip. Scalar"""
    masked_logits: Tensor | None
    """Scores of `batch.tokens` given the masked sentence and the tokens before; None in V1. [B, U, V]"""
    step_lengths: Tensor
    """Steps of each clip. [B]"""
    step_embeddings: Tensor | None = None
    """One vector per step, with the term token_clip. [B, S, width]"""
    token_embeddings: Tensor | None = None
    """One vector per token of `batch.tokens`, with the term token_clip. [B, U, width]"""
    token_logit_scale: Tensor | None = None
    """`logit_scale` of the term token_clip. Scalar"""
    logits: Tensor | None = None
    """Scores of `batch.tokens` given the clip and the tokens before, with the term translation. [B, U, V]"""
    contrast: tuple[Tensor, Tensor] | None = None
    """With form=as_released, rows and lengths for SignCL instead of `features` and `lengths`: with edge copies, and 1
    at padding."""


@register
class VLP(System):
    """Encodes each clip and each sentence as one vector.

    Source: GFSLT-VLP, which paper section 4.2 pretrains with SignCL. Released code: the masked-text loss has a separate
    optimizer that steps every fifth batch. Here it is a weighted term, and `train.parts` can give its decoder such
    an optimizer. In both forms it does not train the frame encoder: the decoder sees the masked sentence, not the
    clip.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(TransformerConfig):
        """`model` section of a VLP recipe. width, heads, ffn, dropout and activation apply to clip encoder and text
        decoder.

        Published: width, conv_width 1024, 3 + 3 layers, 8 heads, ffn 4096; the text encoder is a trimmed
        mbart-large-cc25: 12 layers, 16 heads, ffn 4096, gelu, dropout 0.3, attention dropout 0.1.
        """

        name: str = "vlp"
        conv_width: int = bounded(256, low=1, high=65_536)
        """Width of the temporal convolution. Without `sign_emb` it must equal width."""
        conv: ConvKind = "k5p2k5p2"
        """Kernels and pools of the temporal convolution, as in gfslt; finetuning needs the same."""
        decoder_layers: int = bounded(2, low=0, high=1000)
        """Layers of the text decoder, which finetuning reuses."""
        decoder_heads: int | None = bounded(None, low=1, high=1024)
        """Heads of the text decoder, if different."""
        tie_embeddings: bool = False
        """Tie the output layer of the text decoder to its word embeddings."""
        text_layers: int = bounded(2, low=0, high=1000)
        """Layers of the text encoder."""
        text_heads: int = bounded(4, low=1, high=1024)
        text_ffn: int = bounded(512, low=1, high=1_000_000)
        text_dropout: float = bounded(0.1, low=0, below=1)
        text_attention_dropout: float = bounded(0.0, low=0, below=1)
        text_activation: str = "relu"
        masked_text: bool = True
        """VLP version 2: add the decoder that restores the masked sentence. If false, or if `masked_text` has no
        weight, it is version 1, with the contrastive loss only."""
        masked_text_trains_encoder: bool = False
        """Let the masked-text term train the text encoder too; off as in the released code, whose text encoder is
        trained only by the contrastive loss."""
        sign_emb: bool = False
        """Use GFSLT's sign embedding already in pretraining, so that finetuning has no untrained layer between trained
        ones."""
        max_positions: int = bounded(1024, low=2, high=1_000_000)
        """Longest input in steps (including the class token) and in tokens."""
        form: Literal["fixed", "as_released"] = "fixed"
        """as_released reproduces the released code's padding, its frames for SignCL (with copies of edge frames and 1
        at padding, both seen by batch norms) and its text decoder without dropout (docs/paper-vs-code.md)."""
        language_model: str = ""
        """pretrained:FOLDER_OR_HUB_ID of an mBART that initialises the text encoder and the word embeddings."""
        decoder_from: Literal["init_from", "language_model"] = "init_from"
        """Initial weights of the text decoder; language_model takes the complete decoder of that model (LLMD as
        released)."""

        def __post_init__(self) -> None:
            super().__post_init__()
            check_language_model_keys(self, ("decoder_from",))
            if self.conv_width != self.width and not self.sign_emb:
                raise ValueError(
                    f"vlp needs model.conv_width equal to model.width, because its encoder reads the convolution's "
                    f"steps, got {self.conv_width} and {self.width}."
                )

        def language_model_config(self) -> dict[str, Any]:
            """The text side as a transformers mBART configuration, so that a run can be used as a language model."""
            return {
                "model_type": "mbart",
                "d_model": self.width,
                "encoder_layers": self.text_layers,
                "encoder_attention_heads": self.text_heads,
                "encoder_ffn_dim": self.text_ffn,
                "activation_function": self.text_activation,
                "decoder_layers": self.decoder_layers,
                "decoder_attention_heads": self.decoder_heads or self.heads,
                "decoder_ffn_dim": self.ffn,
                "decoder_activation": self.activation,
                "max_position_embeddings": self.max_positions,
                "scale_embedding": True,
            }

    title: ClassVar = "GFSLT-VLP: clips and sentences brought together before translation (Tables 2, 3, 8)"
    label: ClassVar = "VLP"
    needs: ClassVar = "frames (or features) and sentences; its text encoder starts from an mBART"
    stage: ClassVar = "pretrain"
    terms: ClassVar = {
        "clip": clip,
        "token_clip": token_clip,
        "translation": translation,
        "masked_text": masked_text,
        "signcl": frame_contrast,
    }
    TAPS: ClassVar = ("features", "conv", "steps")
    checkpoint: ClassVar = "vlp"
    checkpoint_marks: ClassVar = ("model_images.cls_token", "model_txt.model_txt.embed_tokens.weight")

    config: Config

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        words, width = sizes.words(), config.width
        self.pad_id, self.start_id, self.max_positions = words.pad_id, words.start_id, config.max_positions
        self.masked_text_trains_encoder = config.masked_text_trains_encoder
        shared = {
            "vocab_size": words.vocab_size,
            "pad_id": words.pad_id,
            "width": width,
            "max_positions": config.max_positions,
        }
        as_released, sync = config.form == "as_released", config.sync_norm
        clip_config = mbart_config(
            **shared,
            encoder_layers=config.encoder_layers,
            decoder_layers=config.decoder_layers,
            heads=config.heads,
            decoder_heads=config.decoder_heads,
            ffn=config.ffn,
            dropout=config.dropout,
            attention_dropout=config.attention_dropout,
            activation=config.activation,
        )
        text_config = mbart_config(
            **shared,
            encoder_layers=config.text_layers,
            decoder_layers=0,
            heads=config.text_heads,
            ffn=config.text_ffn,
            dropout=config.text_dropout,
            attention_dropout=config.text_attention_dropout,
            activation=config.text_activation,
        )
        self.conv = TemporalConv(
            feature_size(self.visual), config.conv_width, kind=config.conv, as_released=as_released, sync=sync
        )
        self.sign_emb = (
            SignEmbedding(config.conv_width, width, as_released=as_released, sync=sync) if config.sign_emb else None
        )
        self.cls_token = nn.Parameter(torch.randn(1, 1, width))
        from transformers.models.mbart.modeling_mbart import MBartDecoder, MBartEncoder

        self.encoder = MBartEncoder(clip_config)
        self.encoder._modules["embed_tokens"] = None  # it reads steps, never words
        self.head = nn.Linear(width, width, bias=False)
        self.text_encoder = MBartEncoder(text_config)
        # leave out modules that no term trains: in DDP every rank would wait for their gradients
        by_token = "token_clip" in sizes.terms
        by_clip = "clip" in sizes.terms or not by_token
        start = torch.tensor(math.log(1 / 0.07))
        self.logit_scale = nn.Parameter(start) if by_clip else None
        self.token_logit_scale = nn.Parameter(start.clone()) if by_token else None
        self.words: nn.Embedding | None = None
        self.decoder: MBartDecoder | None = None
        self.lm_head: nn.Module | None = None
        self.restores = config.masked_text and ("masked_text" in sizes.terms or not sizes.terms)
        self.translates = "translation" in sizes.terms
        if self.restores or self.translates:
            decoder_config = copy.deepcopy(clip_config)
            if as_released:  # the released code loads it in evaluation mode and never calls train()
                decoder_config.dropout = decoder_config.attention_dropout = 0.0
            self.decoder = MBartDecoder(decoder_config)
            self.words = self.decoder.embed_tokens
            share_words(self.decoder, self.words)
            if config.tie_embeddings:
                self.lm_head = TiedHead(self.words)
            else:
                self.lm_head = nn.Linear(width, words.vocab_size, bias=False)
                nn.init.normal_(self.lm_head.weight, std=clip_config.init_std)

    @classmethod
    def check(cls, recipe: Any) -> None:
        """Check that SignCL does not act on a frozen frame encoder."""
        check_contrast_moves(recipe)

    @classmethod
    def default_terms(cls, config: SystemConfig) -> tuple[str, ...]:
        """The term clip, and in version 2 masked_text."""
        return ("clip", "masked_text") if getattr(config, "masked_text", True) else ("clip",)

    def step_lengths(self, lengths: Tensor) -> Tensor:
        """Number of steps for clips with these numbers of frames, without the class token. [B] -> [B]"""
        return self.conv.step_lengths(feature_lengths(self.visual, lengths))

    def tap(self, batch: Batch, name: str) -> Tapped:
        """Steps after the convolution, or their encoder states."""
        features, lengths = frame_features(self.visual, batch)
        frames = tap_of_frames(self.visual, features, lengths)
        steps, step_lengths = self.conv(features, lengths)
        if name != "conv":
            steps = self._states(steps, step_lengths)[:, 1:]
        return Tapped(steps, step_lengths, *self.conv.geometry(frames.stride, frames.first_centre))

    def _states(self, steps: Tensor, step_lengths: Tensor) -> Tensor:
        """Encoder states of the class token, then of the steps. [B, 1 + S, width]"""
        if self.sign_emb is not None:
            steps = self.sign_emb(steps, step_lengths)
        cls = self.cls_token.to(steps.dtype).expand(len(steps), -1, -1)
        inputs = torch.cat([cls, steps], dim=1)
        mask = attention_mask(step_lengths + 1, inputs.shape[1], inputs.shape[1])
        states: Tensor = self.encoder(inputs_embeds=inputs, attention_mask=mask).last_hidden_state
        return states

    def encode_text(self, tokens: Tensor, token_lengths: Tensor) -> Tensor:
        """States of the text encoder. [B, U], [B] -> [B, U, width]"""
        if tokens.shape[1] > self.max_positions:
            raise ValueError(
                f"a sentence of {tokens.shape[1]} tokens needs model.max_positions of at least that, "
                f"got {self.max_positions}; lower text.max_tokens or raise it."
            )
        mask = attention_mask(token_lengths, tokens.shape[1], tokens.shape[1])
        states: Tensor = self.text_encoder(input_ids=tokens, attention_mask=mask).last_hidden_state
        return states

    @staticmethod
    def _last(states: Tensor, token_lengths: Tensor) -> Tensor:
        return states[torch.arange(len(states), device=states.device), token_lengths - 1]

    def forward(self, batch: Batch) -> VLPOutput:
        """Embed clips and sentences; in V2 also restore the masked sentences.

        Raises:
            ValueError: no tokens, in V2 no masked tokens, or a clip or sentence that is too long.
        """
        if batch.tokens is None or batch.token_lengths is None:
            raise ValueError("VLP needs batch.tokens and batch.token_lengths: it compares clips with their sentences.")
        clips = frames_and_steps(self.visual, self.conv, batch, self.max_positions - 1)
        states = self._states(clips.steps, clips.step_lengths)
        text_states = self.encode_text(batch.tokens, batch.token_lengths)
        by_token = self.token_logit_scale is not None
        return VLPOutput(
            features=clips.features,
            lengths=clips.lengths,
            video_embedding=self.head(states[:, 0]),
            text_embedding=self._last(text_states, batch.token_lengths),
            logit_scale=self.logit_scale,
            masked_logits=self._restore(batch, batch.tokens) if self.restores else None,
            step_lengths=clips.step_lengths,
            step_embeddings=self.head(states[:, 1:]) if by_token else None,
            token_embeddings=text_states if by_token else None,
            token_logit_scale=self.token_logit_scale,
            logits=self._decoded(batch.tokens, states[:, 1:], clips.step_lengths) if self.translates else None,
            contrast=clips.contrast,
        )

    def _restore(self, batch: Batch, tokens: Tensor) -> Tensor:
        """Token scores of the sentence given its masked form. [B, U, V]"""
        if batch.masked_tokens is None or batch.masked_token_lengths is None:
            raise ValueError("VLP with masked_text needs batch.masked_tokens; set model.masked_text to false for V1.")
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.masked_text_trains_encoder):
            states = self.encode_text(batch.masked_tokens, batch.masked_token_lengths)
        return self._decoded(tokens, states, batch.masked_token_lengths)

    def _decoded(self, tokens: Tensor, states: Tensor, lengths: Tensor) -> Tensor:
        """Scores of each token given the tokens before it and encoder states. [B, U], [B, S, width], [B] ->
        [B, U, V]"""
        assert self.decoder is not None
        assert self.lm_head is not None
        decoded = self.decoder(
            input_ids=shift_right(tokens, self.start_id),
            attention_mask=causal_mask(tokens),
            encoder_hidden_states=states,
            encoder_attention_mask=attention_mask(lengths, states.shape[1], tokens.shape[1]),
            use_cache=False,
        )
        logits: Tensor = self.lm_head(decoded.last_hidden_state)
        return logits

    # -- loading weights -----------------------------------------------------------------------------------------------

    @classmethod
    def published(cls, given: Checkpoint) -> Published:
        """A pretraining checkpoint of GFSLT-VLP, version 1 or 2, or of SignCL."""
        state = given.tensors
        images, text = "model_images.trans_encoder.", "model_txt.model_txt."
        table: dict[str, Name] = {
            **visual_names(r"model_images\.model\."),
            r"model_images\.cls_token": "cls_token",
            r"model_images\.lm_head\.(weight)": r"head.\1",
            r"model_images\.trans_encoder\.(.+)": r"encoder.\1",
            r"model_txt\.model_txt\.(.+)": r"text_encoder.\1",
            r"logit_scale": "logit_scale",
        }
        left = {r"model_images\.trans_encoder\.embed_tokens\.weight": "the clip encoder reads steps, never words"}
        taken = take(state, table, left, "a vlp checkpoint")
        decoder = given.parts.get("text_decoder", {})
        if decoder:
            decoder_table = {
                r"text_decoder\.embed_tokens\.weight": "words.weight",
                r"text_decoder\.(.+)": r"decoder.\1",
                r"lm_head\.(weight)": r"lm_head.\1",
            }
            zeros = {r"final_logits_bias": "zeros that are never trained"}
            taken |= take(decoder, decoder_table, zeros, "the text decoder of a vlp checkpoint")
        layers = count_layers(decoder, r"text_decoder\.layers\.(\d+)\.")
        return Published(
            taken,
            model={
                **visual_sizes(state, "model_images.model."),
                "width": state["model_images.cls_token"].shape[2],
                "encoder_layers": count_layers(state, rf"{images}layers\.(\d+)\."),
                "decoder_layers": layers,
                "ffn": len(state[f"{images}layers.0.fc1.bias"]),
                "max_positions": len(state[f"{images}embed_positions.weight"]) - OFFSET,
                "text_layers": count_layers(state, rf"{text}layers\.(\d+)\."),
                "text_ffn": len(state[f"{text}layers.0.fc1.bias"]),
                "masked_text": bool(decoder),
                "form": "as_released",
            },
            assumed={
                "heads": 8,
                "activation": "relu",
                "dropout": 0.1,
                "text_heads": 16,
                "text_activation": "gelu",
                "text_dropout": 0.3,
                "text_attention_dropout": 0.1,
            },
            recipe={
                **released_input(given),
                "loss.weights": {"clip": 1.0, "masked_text": 1.0} if decoder else {"clip": 1.0},
                "loss.clip_target": "released",
                "loss.mask_kind": "omit_last",
                "loss.mask_duplicates": False,
                "loss.label_smoothing": 0.2,
            },
        )

    def load_published(self, start: Start) -> list[str]:
        """Load the text encoder and word embeddings of an mBART, and its decoder if the config asks for it."""
        c = self.config
        if not c.language_model:
            return []
        found = read_language_model(c.language_model, earlier=start.earlier)
        pairs: list[tuple[str, Any, str]] = [
            ("width", c.width, "d_model"),
            ("text_layers", c.text_layers, "encoder_layers"),
            ("text_heads", c.text_heads, "encoder_attention_heads"),
            ("text_ffn", c.text_ffn, "encoder_ffn_dim"),
            ("text_activation", c.text_activation, "activation_function"),
        ]
        whole = c.decoder_from == "language_model"
        if whole:
            pairs += decoder_sizes(c)
        pairs.append(("max_positions", c.max_positions, "max_position_embeddings"))
        check_language_model(found, start.tokenizer, pairs, whole=True)
        taken = load_language_model(self, found.tensors, encoder=False, decoder=whole)
        return [f"language model from {c.language_model}: {taken}{untold_words(found)}"]

    def filled(self) -> Sequence[str]:
        """Modules loaded from the language model."""
        return ("decoder", "words", "lm_head") if self.config.decoder_from == "language_model" else ()
