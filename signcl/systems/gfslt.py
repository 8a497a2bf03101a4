"""GFSLT: gloss-free translation from frames to a sentence, the network of the finetuning stage (paper Table 5).

Frame encoder, temporal convolution, a linear "sign embedding", and an encoder and decoder of mBART architecture with a
separate output layer.

At the published sizes (ResNet-18, width 1024, 3+3 layers of 8 heads and 4096, trimmed vocabulary of 2454) it has the
115,412,544 parameters of the official finetuning log:

    11,176,512  ResNet-18 without its classifier
     7,870,464  temporal convolution: 2,622,464 + 5,243,904, and two batch norms of 2,048
     1,051,648  sign embedding: linear 1,049,600 and batch norm 2,048
    37,788,672  3 encoder layers of 12,596,224
    50,390,016  3 decoder layers of 16,796,672
     2,109,440  positions (1024 + 2 rows) and two layer norms, once for the encoder and once for the decoder
     2,512,896  word embeddings, shared by encoder and decoder
     2,512,896  output layer, untied, without bias
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from signcl.data.batch import Batch, frame_mask
from signcl.data.bounds import bounded
from signcl.systems.base import (
    EarlierRun,
    Sizes,
    Start,
    System,
    TransformerConfig,
    check_same_words,
    register,
)
from signcl.systems.parts.frames import Tapped, feature_lengths, feature_size, frame_features, tap_of_frames
from signcl.systems.parts.language_model import check_language_model, read_language_model
from signcl.systems.parts.layers import ConvKind, TemporalConv
from signcl.systems.parts.lm import search_settings
from signcl.systems.parts.mbart import (
    SignEmbedding,
    TiedHead,
    attention_mask,
    causal_mask,
    check_contrast_moves,
    check_language_model_keys,
    check_positions,
    check_steps,
    decoder_sizes,
    frames_and_steps,
    mbart_config,
    share_words,
    shift_right,
    untold_words,
)
from signcl.systems.parts.module_names import check_parts
from signcl.systems.parts.official import Checkpoint, Name, Published, count_layers, take
from signcl.systems.parts.official_gfslt import released_input, visual_names, visual_sizes
from signcl.systems.parts.transfer import DECODER, OFFSET, load_language_model, transfer
from signcl.systems.parts.written import Written, mean_features, sentence_log_probs
from signcl.systems.terms.shared import frame_contrast, translation

__all__ = ["GFSLT", "GFSLTEncoding", "GFSLTOutput"]


@dataclass(frozen=True)
class GFSLTEncoding:
    """A batch of clips after the encoder."""

    features: Tensor
    """Frame features, where SignCL and density look: for ResNet the mean over its last map. [B, T, D]"""
    lengths: Tensor
    """[B]"""
    steps: Tensor
    """Encoder states, one per step (about four frames). [B, S, width]"""
    step_lengths: Tensor
    """[B]"""
    contrast: tuple[Tensor, Tensor] | None
    """With form=as_released, rows and lengths for SignCL instead of `features` and `lengths`: with edge copies, and 1
    at padding."""


@dataclass(frozen=True)
class GFSLTOutput(GFSLTEncoding):
    """A batch of clips with decoder logits."""

    logits: Tensor
    """Token scores at each position of `batch.tokens`, given the tokens before it. [B, U, V]"""


def adapter_of(kind: str, dim_in: int, width: int) -> nn.Module:
    """A module that replaces the sign embedding, with the same shapes but without batch statistics."""
    if kind == "linear":
        return StepMap(nn.Linear(dim_in, width))
    if kind == "mlp":
        return StepMap(nn.Linear(dim_in, width), nn.GELU(), nn.Linear(width, width))
    raise ValueError(f"model.adapter: needs sign_emb, linear or mlp, got {kind!r}")


class StepMap(nn.Sequential):
    """Layers that process each step independently, so they ignore the lengths."""

    def forward(self, steps: Tensor, step_lengths: Tensor) -> Tensor:  # type: ignore[override]
        """[B, S, dim_in], [B] -> [B, S, width]"""
        mapped: Tensor = super().forward(steps)
        return mapped


@register
class GFSLT(System):
    """Translates clips to sentences.

    Word embeddings are scaled by sqrt(width) and steps are not, as in the released model: its language model has
    `scale_embedding` on, which transformers applies to word ids only.

    Source: paper Table 5 and section 4.1; released GFSLT-VLP.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(TransformerConfig):
        """`model` section of a GFSLT recipe. Published: width, conv_width 1024, 3 + 3 layers, 8 heads, ffn 4096."""

        name: str = "gfslt"
        conv_width: int = bounded(256, low=1, high=65_536)
        """Width of the temporal convolution."""
        conv: ConvKind = "k5p2k5p2"
        """Kernels and pools of the temporal convolution: one step per 4 (k5p2k5p2), 2 (k5p2) or 1 frames (k3).
        Released: conv_type 2, 1, 0."""
        decoder_layers: int = bounded(2, low=0, high=1000)
        """Layers of the text decoder."""
        decoder_heads: int | None = bounded(None, low=1, high=1024)
        """Heads of the decoder, if different from the encoder's (16 in the released LLMD configuration)."""
        tie_embeddings: bool = False
        """Tie the output layer to the word embeddings. The released model has a separate output layer."""
        max_positions: int = bounded(1024, low=2, high=1_000_000)
        """Longest input in steps and longest output in tokens."""
        form: Literal["fixed", "as_released"] = "fixed"
        """as_released reproduces the released code's padding, its frames for SignCL (with copies of edge frames and 1
        at padding, both seen by batch norms) and its weight transfer (docs/paper-vs-code.md)."""
        language_model: str = ""
        """pretrained:FOLDER_OR_HUB_ID of an mBART, or of a vlp run, whose text side is then used. It initialises the
        word embeddings, and with encoder_from and decoder_from more of the model."""
        encoder_from: Literal["init_from", "language_model"] = "init_from"
        """Initial weights of the encoder over steps: init_from (random without one), or the complete encoder of the
        language model; encoder_layers, heads, ffn, activation and max_positions must then match it."""
        decoder_from: Literal["init_from", "language_model"] = "init_from"
        """Initial weights of the text decoder. language_model takes its complete decoder: layers, cross-attention,
        layer norms, positions, word embeddings and output layer (LLMD as released); the text decoder of init_from is
        then not used."""
        adapter: Literal["sign_emb", "linear", "mlp"] = "sign_emb"
        """Module between the convolution and the encoder: GFSLT's linear-BN-ReLU, a linear layer, or
        linear-GELU-linear. It is named `sign_emb` in all three cases."""

        def __post_init__(self) -> None:
            super().__post_init__()
            check_language_model_keys(self, ("encoder_from", "decoder_from"))
            if self.adapter != "sign_emb" and self.form == "as_released":
                raise ValueError(f"model.adapter={self.adapter}: the released form has sign_emb; set model.form=fixed")

    title: ClassVar = "GFSLT: frames to a sentence (paper Tables 2, 3, 5)"
    label: ClassVar = "GFSLT"
    needs: ClassVar = "frames (or features) and sentences; starts from a vlp run or an mBART"
    stage: ClassVar = "finetune"
    terms: ClassVar = {"translation": translation, "signcl": frame_contrast}
    answers: ClassVar = "sentences"
    TAPS: ClassVar = ("features", "conv", "steps")
    starts_from: ClassVar = ("vlp",)
    checkpoint: ClassVar = "gfslt"
    checkpoint_marks: ClassVar = ("backbone.conv_1d.temporal_conv.0.weight", "mbart.model.decoder.embed_tokens.weight")

    config: Config

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        words = sizes.words()
        self.pad_id, self.start_id, self.end_id = words.pad_id, words.start_id, words.end_id
        self.max_positions = config.max_positions
        as_released = config.form == "as_released"
        self.conv = TemporalConv(
            feature_size(self.visual),
            config.conv_width,
            kind=config.conv,
            as_released=as_released,
            sync=config.sync_norm,
        )
        self.sign_emb = (
            SignEmbedding(config.conv_width, config.width, as_released=as_released, sync=config.sync_norm)
            if config.adapter == "sign_emb"
            else adapter_of(config.adapter, config.conv_width, config.width)
        )
        from transformers import MBartForConditionalGeneration

        self.mbart = MBartForConditionalGeneration(
            mbart_config(
                vocab_size=words.vocab_size,
                pad_id=words.pad_id,
                width=config.width,
                encoder_layers=config.encoder_layers,
                decoder_layers=config.decoder_layers,
                heads=config.heads,
                decoder_heads=config.decoder_heads,
                ffn=config.ffn,
                dropout=config.dropout,
                attention_dropout=config.attention_dropout,
                activation=config.activation,
                max_positions=config.max_positions,
            )
        )
        self.mbart.model.encoder._modules["embed_tokens"] = None  # it reads steps, never words
        share_words(self.mbart.model.decoder, self.mbart.model.shared)
        bias = self.mbart.final_logits_bias  # zeros that are never trained, so checkpoints do not store them
        del self.mbart.final_logits_bias
        self.mbart.register_buffer("final_logits_bias", bias.detach(), persistent=False)
        if config.tie_embeddings:
            self.mbart.lm_head = TiedHead(self.mbart.model.shared)

    @classmethod
    def check(cls, recipe: Any) -> None:
        """Check that sentences fit the positions, and that SignCL does not act on a frozen frame encoder."""
        check_positions(recipe)
        check_contrast_moves(recipe)

    def step_lengths(self, lengths: Tensor) -> Tensor:
        """Number of steps for clips with these numbers of frames. [B] -> [B]"""
        return self.conv.step_lengths(feature_lengths(self.visual, lengths))

    def tap(self, batch: Batch, name: str) -> Tapped:
        """Steps after the convolution, or encoder states."""
        features, lengths = frame_features(self.visual, batch)
        frames = tap_of_frames(self.visual, features, lengths)
        if name != "conv":
            check_steps(self.conv, features.shape[1], self.max_positions)
        steps, step_lengths = self.conv(features, lengths)
        if name != "conv":
            steps = self._states(steps, step_lengths)
        return Tapped(steps, step_lengths, *self.conv.geometry(frames.stride, frames.first_centre))

    def encode(self, batch: Batch) -> GFSLTEncoding:
        """Encode clips.

        Raises:
            ValueError: a clip with more steps than the model has positions.
        """
        clips = frames_and_steps(self.visual, self.conv, batch, self.max_positions)
        states = self._states(clips.steps, clips.step_lengths)
        return GFSLTEncoding(clips.features, clips.lengths, states, clips.step_lengths, clips.contrast)

    def _states(self, steps: Tensor, step_lengths: Tensor) -> Tensor:
        embedded = self.sign_emb(steps, step_lengths)
        mask = attention_mask(step_lengths, steps.shape[1], steps.shape[1])
        states: Tensor = self.mbart.model.encoder(inputs_embeds=embedded, attention_mask=mask).last_hidden_state
        return states

    def forward(self, batch: Batch) -> GFSLTOutput:
        """Token scores of each clip's sentence (teacher forcing).

        Raises:
            ValueError: a batch without tokens, or a clip or sentence that is too long.
        """
        if batch.tokens is None:
            raise ValueError("GFSLT needs batch.tokens to score a sentence; to translate use `generate`.")
        if batch.tokens.shape[1] > self.max_positions:
            raise ValueError(
                f"a sentence of {batch.tokens.shape[1]} tokens needs model.max_positions of at least that, "
                f"got {self.max_positions}; lower text.max_tokens or raise it."
            )
        encoding = self.encode(batch)
        return GFSLTOutput(**vars(encoding), logits=self._token_scores(encoding, batch.tokens))

    def _token_scores(self, encoding: GFSLTEncoding, tokens: Tensor) -> Tensor:
        """Token scores at each position of `tokens`, given the clip and the tokens before it. [B, U] -> [B, U, V]"""
        read = shift_right(tokens, self.start_id)  # padding is on the right, so the causal mask hides it
        return self._scores(read, encoding.steps, encoding.step_lengths)

    def _scores(self, read: Tensor, steps: Tensor, step_lengths: Tensor) -> Tensor:
        from transformers.modeling_outputs import BaseModelOutput

        decoded = self.mbart(
            encoder_outputs=BaseModelOutput(last_hidden_state=steps),
            attention_mask=attention_mask(step_lengths, steps.shape[1], read.shape[1]),
            decoder_input_ids=read,
            decoder_attention_mask=causal_mask(read),
            use_cache=False,
        )
        logits: Tensor = decoded.logits
        return logits

    def exported_states(self, features: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Encoder states."""
        steps, step_lengths = self.conv(features, lengths)
        return {"steps": self._states(steps, step_lengths), "step_lengths": step_lengths}

    def exported_word(self, tokens: Tensor, steps: Tensor, step_lengths: Tensor) -> Tensor:
        """Next-token log-probabilities as in transformers' greedy search: padding may be generated."""
        return self._scores(tokens, steps, step_lengths)[:, -1].float().log_softmax(dim=1)

    @torch.no_grad()
    def generate(
        self, batch: Batch, *, num_beams: int = 4, length_penalty: float = 1.0, max_new_tokens: int = 150
    ) -> Tensor:
        """Translate; put the model in eval mode first.

        Args:
            batch: clips; its tokens are ignored.
            num_beams: 1 is greedy.
            length_penalty: a hypothesis is scored by its log-probability over length ** length_penalty, so values
                above 0 favour longer sentences (transformers' rule; not ((5 + len) / 6) ** alpha).
            max_new_tokens: maximum length of a sentence in tokens.

        Returns:
            Token ids without the start token, up to end_id if the model produced it, then pad_id. [B, U] long
        """
        self._check_search(num_beams, max_new_tokens)
        return self._write(self.encode(batch), num_beams, length_penalty, max_new_tokens)

    @torch.no_grad()
    def generate_scored(
        self, batch: Batch, *, num_beams: int = 4, length_penalty: float = 1.0, max_new_tokens: int = 150, most: int = 1
    ) -> Written:
        """`generate` with log p of each sentence.

        The decoder scores the finished sentences in one extra pass, because transformers would have to keep the scores
        of the entire vocabulary for every step and beam.
        """
        self._check_search(num_beams, max_new_tokens)
        encoding = self.encode(batch)
        ids = self._write(encoding, num_beams, length_penalty, max_new_tokens, most)
        repeated = replace(
            encoding,
            steps=encoding.steps.repeat_interleave(most, dim=0),
            step_lengths=encoding.step_lengths.repeat_interleave(most, dim=0),
        )
        log_probs, counts = sentence_log_probs(self._token_scores(repeated, ids), ids, self.pad_id)
        return Written(ids, log_probs, counts, mean_features(encoding.features, encoding.lengths))

    def _check_search(self, num_beams: int, max_new_tokens: int) -> None:
        if num_beams < 1 or not 1 <= max_new_tokens < self.max_positions:
            raise ValueError(
                f"generate needs num_beams >= 1 and max_new_tokens in 1..{self.max_positions - 1} "
                f"(model.max_positions - 1), got {num_beams} and {max_new_tokens}."
            )

    def _write(
        self, encoding: GFSLTEncoding, num_beams: int, length_penalty: float, max_new_tokens: int, most: int = 1
    ) -> Tensor:
        """The `most` best sentences of each clip, clip by clip. [B * most, U]"""
        from transformers.modeling_outputs import BaseModelOutput

        settings = search_settings(
            num_beams=num_beams,
            length_penalty=length_penalty,
            max_new_tokens=max_new_tokens,
            pad_id=self.pad_id,
            start_id=self.start_id,
            ends=self.end_id,
            most=most,
        )
        mbart: Any = self.mbart
        ids: Tensor = mbart.generate(
            encoder_outputs=BaseModelOutput(last_hidden_state=encoding.steps),
            attention_mask=frame_mask(encoding.step_lengths, encoding.steps.shape[1]).long(),
            generation_config=settings,
        )
        ids = ids[:, 1:]
        # if the pad id is 0, transformers pads short rows with the end token, which would count as words
        ends = ids == self.end_id
        return ids.masked_fill((ends.cumsum(dim=1) - ends.long()) > 0, self.pad_id)

    # -- loading weights ----------------------------------------------------------------------------------------------

    @classmethod
    def published(cls, given: Checkpoint) -> Published:
        """A finetuning checkpoint of GFSLT-VLP or SignCL (`best_checkpoint.pth`)."""
        state, mbart = given.tensors, "mbart.model."
        words = state[f"{mbart}decoder.embed_tokens.weight"]  # in training all three tables are one tensor
        head = state["mbart.lm_head.weight"]
        tied = head.shape == words.shape and bool((head == words).all())
        table: dict[str, Name] = {
            **visual_names(r"backbone\."),
            r"sign_emb\.src_emb\.(.+)": r"sign_emb.linear.\1",
            r"sign_emb\.bn_ac\.0\.(.+)": r"sign_emb.norm.\1",
            r"mbart\.model\.decoder\.embed_tokens\.weight": "mbart.model.shared.weight",
            r"(mbart\.model\.(?:encoder|decoder)\..+)": r"\1",
            r"(mbart\.lm_head\.weight)": r"\1",
        }
        left = {
            r"mbart\.model\.shared\.weight": "a duplicate of the decoder's word embeddings",
            r"mbart\.model\.encoder\.embed_tokens\.weight": "the encoder reads steps, never words",
            r"mbart\.final_logits_bias": "zeros that are never trained",
            **({r"mbart\.lm_head\.weight": "tied: a duplicate of the word embeddings"} if tied else {}),
        }
        if bool(state.get("mbart.final_logits_bias", torch.zeros(1)).any()):
            raise ValueError(f"{given.file}: mbart.final_logits_bias is not zero, and this package has no such bias")
        layers = count_layers(state, r"mbart\.model\.decoder\.layers\.(\d+)\.")
        whole = layers >= 12  # LLMD: the decoder of mbart-large
        positions = len(state[f"{mbart}decoder.embed_positions.weight"]) - OFFSET
        return Published(
            take(state, table, left, "a gfslt checkpoint"),
            model={
                **visual_sizes(state, "backbone."),
                "width": words.shape[1],
                "encoder_layers": count_layers(state, r"mbart\.model\.encoder\.layers\.(\d+)\."),
                "decoder_layers": layers,
                "ffn": len(state[f"{mbart}decoder.layers.0.fc1.bias"]),
                "max_positions": positions,
                "tie_embeddings": tied,
                "form": "as_released",
            },
            assumed={
                "heads": 8,
                "decoder_heads": 16 if whole else 8,
                "activation": "gelu" if whole else "relu",
                "dropout": 0.5 if whole else 0.1,
            },
            recipe={
                **released_input(given),
                "loss.label_smoothing": 0.2,
                "decode.max_new_tokens": min(150, positions - 1),
                "decode.dev_beams": 4,
            },
        )

    def load_published(self, start: Start) -> list[str]:
        """Load the word embeddings of an mBART, and its encoder and decoder if the config asks for them."""
        c = self.config
        if not c.language_model:
            return []
        found = read_language_model(c.language_model, earlier=start.earlier)
        pairs: list[tuple[str, Any, str]] = [("width", c.width, "d_model")]
        if c.encoder_from == "language_model":
            pairs += [
                ("encoder_layers", c.encoder_layers, "encoder_layers"),
                ("heads", c.heads, "encoder_attention_heads"),
                ("ffn", c.ffn, "encoder_ffn_dim"),
                ("activation", c.activation, "activation_function"),
            ]
        if c.decoder_from == "language_model":
            pairs += decoder_sizes(c)
        whole = "language_model" in (c.encoder_from, c.decoder_from)
        if whole:
            pairs.append(("max_positions", c.max_positions, "max_position_embeddings"))
        check_language_model(found, start.tokenizer, pairs, whole=whole)
        taken = load_language_model(
            self,
            found.tensors,
            encoder=c.encoder_from == "language_model",
            decoder=c.decoder_from == "language_model",
        )
        self._raw = found.tensors if c.form == "as_released" else None
        return [f"language model from {c.language_model}: {taken}{untold_words(found)}"]

    def filled(self) -> Sequence[str]:
        """Modules loaded from the language model."""
        encoder = ("mbart.model.encoder",) if self.config.encoder_from == "language_model" else ()
        return (*encoder, *(DECODER if self.config.decoder_from == "language_model" else ()))

    def take_over(self, earlier: EarlierRun, start: Start) -> str:
        """Load a run of this system or of the pretraining stage; `form: as_released` omits what the released code
        omits."""
        if not earlier.is_a("vlp"):
            return super().take_over(earlier, start)
        theirs, parts = getattr(earlier.config, "conv", ""), self.config.init_parts
        if theirs != self.config.conv and (not parts or any(part.split(".")[0] == "conv" for part in parts)):
            raise ValueError(
                f"model.conv={self.config.conv}: the convolution of model.init_from is {theirs}; give both stages the "
                f"same"
            )
        as_released = self.config.form == "as_released"
        raw: dict[str, Tensor] = {}
        if as_released:
            tensors = getattr(self, "_raw", None)
            if tensors is None:
                raise ValueError(
                    "model.form=as_released overwrites the transferred embeddings: set model.language_model too"
                )
            raw = {
                "raw_words": _ending(tensors, "shared.weight"),
                "raw_positions": _ending(tensors, "decoder.embed_positions.weight"),
            }
        check_parts(self, self.config.init_parts, "model.init_parts")
        keep = self.filled()
        report = transfer(
            earlier.module().state_dict(),
            self,
            as_released=as_released,
            keep=keep,
            only=self.config.init_parts,
            **raw,
        )
        if not keep or "mbart.model.shared.weight" in report.transferred:
            check_same_words(earlier, start)
        return str(report)


def _ending(tensors: dict[str, Tensor], name: str) -> Tensor:
    return next(value for key, value in tensors.items() if key.endswith(name))


# -- shared by GFSLT and VLP ----------------------------------------------------------------------------------------
