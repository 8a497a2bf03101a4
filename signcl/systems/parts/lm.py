"""The text decoder of all systems: a transformers language model that reads a clip's steps and writes the sentence.

It can be any encoder-decoder (T5, mT5, Flan-T5, mBART, mBART-50, NLLB, BART, ...) or causal model (XGLM, GPT-2, Qwen,
Gemma, Llama, ...), either published (a folder or hub id) or small and randomly initialised. How a system uses it:

    # Config: `lm: LMConfig = field(default_factory=LMConfig)`; in `System.check`: `check_words(recipe)`
    # the name `decoder` is where the run folder looks; `config.dropout` and `config.max_positions` are read too
    self.decoder = TextDecoder(lm_of(config, sizes), sizes.words(), config.lm)
    self.project = nn.Linear(..., self.decoder.width)   # steps must have the width of a word's embedding
    logits = self.decoder(batch.tokens, steps, step_lengths)           # teacher forcing, [B, U, V]
    ids = self.decoder.generate(steps, step_lengths, num_beams=..., length_penalty=..., max_new_tokens=...)
    lines = self.decoder.load_published(config.lm)      # in `System.load_published`

Steps enter the first layer unscaled, word embeddings scaled as in the model. `LMConfig` sets what is trained, LoRA and
the prompt; prompts per clip (for several languages) are an argument of `forward` and `generate`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor, nn

from signcl.data.batch import frame_mask
from signcl.data.bounds import bounded
from signcl.systems.parts.four_bit import hold_in_four_bits
from signcl.systems.parts.frames import one_by_one
from signcl.systems.parts.lora import add_lora, attention_maps, named_maps
from signcl.systems.parts.published_models import (
    load_published_model,
    one_line,
    read_published_config,
    tied_names,
    untie,
)
from signcl.systems.parts.written import sentence_log_probs

__all__ = ["SLOT", "LMConfig", "LMSizes", "Marks", "TextDecoder", "build_lm", "check_words", "lm_of", "search_settings"]

SLOT = "{signs}"
"""Position of a clip's steps in a prompt."""
ENCODER_DECODERS = ("t5", "mbart")


@dataclass(frozen=True)
class LMSizes:
    """Which language model to use, what to train of it, and LoRA."""

    name: str = ""
    """pretrained:FOLDER_OR_HUB_ID of a transformers language model; empty: a randomly initialised one."""
    architecture: Literal["t5", "mbart", "gpt2", "xglm", "llama"] = "t5"
    """Architecture of a randomly initialised model, with the sizes below, `model.dropout` and `model.max_positions`:"""
    layers: int = bounded(2, low=1, high=1000)
    """Layers; an encoder-decoder has this many in each half."""
    width: int = bounded(128, low=1, high=65_536)
    heads: int = bounded(4, low=1, high=1024)
    ffn: int = bounded(256, low=1, high=1_000_000)
    train: Literal["auto", "adapters", "all"] = "auto"
    """adapters: freeze the language model except for LoRA (with lora_rank 0 all of it). all: train it too. auto:
    adapters for a published model; all, without LoRA, for a randomly initialised one."""
    lora_rank: int = bounded(4, low=0, high=4096)
    """Rank of LoRA; 0: no LoRA."""
    lora_alpha: float = bounded(4.0, above=0, high=1e6)
    lora_dropout: float = bounded(0.1, low=0, below=1)
    four_bit: bool = False
    """Store the linear layers of a frozen published model in 4 bits (bitsandbytes NF4): an eighth of the memory, with
    values that differ in the second digit. Output layer and word embeddings are not converted."""

    def __post_init__(self) -> None:
        if self.four_bit and (not self.name or self.trains_all):
            raise ValueError("model.lm.four_bit needs a published language model (model.lm.name) that is not trained")
        if self.name and not self.name.startswith("pretrained:"):
            raise ValueError(f"model.lm.name: needs pretrained:FOLDER_OR_HUB_ID, got {self.name!r}")
        if self.width % self.heads:
            raise ValueError(f"model.lm: heads must divide width, got {self.heads} and {self.width}")

    @property
    def source(self) -> str:
        """The folder or hub id; "" for a randomly initialised model."""
        return self.name.removeprefix("pretrained:")

    @property
    def trains_all(self) -> bool:
        """Whether the language model itself is trained."""
        return self.train == "all" or (self.train == "auto" and not self.name)

    @property
    def rank(self) -> int:
        """Rank of LoRA; 0 without LoRA."""
        return 0 if self.train == "auto" and not self.name else self.lora_rank


@dataclass(frozen=True)
class LMConfig(LMSizes):
    """A language model that reads the steps of a clip instead of words."""

    lora_on: list[str] = field(default_factory=list)
    """Linear layers with LoRA: name endings (q_proj) or patterns (*.decoder.*.q). Empty: query, key, value and output
    of every attention."""
    prompt: str = ""
    """Text around the steps, e.g. "Translate sign language video to German: {signs}"; without {signs} the steps come
    before the text. It may contain special tokens (</s>)."""
    specials: bool = True
    """Put the tokenizer's special tokens around prompt and steps, as around any text."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_prompt(self.prompt, "model.lm.prompt")


def check_prompt(prompt: str, key: str) -> None:
    """Raise ValueError if a prompt has several {signs} or other fields."""
    if prompt.count(SLOT) > 1:
        raise ValueError(
            f"{key}: needs {SLOT} at most once, as the position of the steps; got it {prompt.count(SLOT)} times"
        )


def check_words(recipe: Any) -> None:
    """Check that a published language model is used with its own tokenizer. For `System.check`.

    Raises:
        ValueError: another tokenizer; the message names both keys.
    """
    name, tokenizer = recipe.model.lm.name, recipe.text.tokenizer
    if name and not tokenizer.startswith("pretrained:"):
        raise ValueError(
            f"text.tokenizer: the language model of model.lm.name works only with its own tokenizer; needs "
            f"{name}, got {tokenizer!r}"
        )


@dataclass(frozen=True)
class Marks:
    """The special token ids that a decoder needs, to use it without a tokenizer."""

    pad_id: int
    """Padding; may lie outside the model's vocabulary, since GPT-2 has no such token."""
    start_id: int
    """First input token of the model."""
    end_id: int
    """End of a sentence."""


class TextDecoder(nn.Module):
    """A language model that reads the steps of a clip like word embeddings and writes its sentence.

    Encoder-decoder: the encoder reads [before] steps [after], where `before` and `after` are the prompt and the special
    tokens that the tokenizer puts around any text. The decoder starts as the checkpoint specifies (T5: padding; mBART:
    the language; mBART-50 and NLLB: the end token, then the language as the first token of each sentence).
    Causal: it reads start, [before] steps [after], and continues with the sentence. Padding is left of the steps, so
        that every sentence begins in the same column; positions do not count padding.

    Search is greedy or beam search with only the given settings. From the `generation_config.json` of a checkpoint,
    which may enable sampling or penalties, only end and start tokens are used.

    Args:
        lm: from `build_lm`, or a transformers language model; modified in place.
        words: the tokenizer (or `Marks`).
        config: what to train, LoRA, the prompt.

    Attributes:
        width: size of a word embedding and of a step.
        encodes: whether it is an encoder-decoder.

    Raises:
        ValueError: the model does not accept embeddings, there are no layers for LoRA, or peft is not installed.
    """

    def __init__(self, lm: nn.Module, words: Any, config: LMSizes) -> None:
        super().__init__()
        self.pad_id, self.end_id = int(words.pad_id), int(words.end_id)
        config_of_lm: Any = lm.config
        self.config = config_of_lm
        self.encodes: bool = bool(config_of_lm.is_encoder_decoder)
        self._words = words
        own: Mapping[str, Any] = getattr(lm, "own_marks", {})
        told = (getattr(words, "decoder_start", None), own.get("start") if self.encodes else None, words.start_id)
        self.start_id = int(next(start for start in told if start is not None))
        self.ends: list[int] = sorted({self.end_id, *own.get("ends", ())})
        self.first_id: int | None = getattr(words, "first_id", None)
        self._own = dict(own)
        text: Any = config_of_lm.get_text_config(decoder=True)
        self.max_positions: int = getattr(text, "max_position_embeddings", None) or 2**31
        _check_takes_embeddings(lm, self.encodes)
        _forget_generation_settings(lm)
        if config.four_bit:
            hold_in_four_bits(lm, leave=[lm.get_output_embeddings()])  # type: ignore[operator]
        lm.requires_grad_(config.trains_all)
        self.lm: Any = lm
        table: Any = lm.get_input_embeddings()  # type: ignore[operator]
        self.width = int(table.embedding_dim)
        self.rows = int(table.num_embeddings)
        self._scale = _outer_scale(lm, table)
        accepted = inspect.signature(lm.forward).parameters
        self._keeps, self._places = "logits_to_keep" in accepted, "position_ids" in accepted
        self.prompt, self.specials = getattr(config, "prompt", ""), getattr(config, "specials", True)
        self._lora(config)

    def _lora(self, config: LMSizes) -> None:
        """Add LoRA to the layers that the config names."""
        if config.rank == 0:
            return
        chosen = getattr(config, "lora_on", [])
        maps = named_maps(self.lm, chosen, "model.lm.lora_on") if chosen else attention_maps(self.lm)
        add_lora(self.lm, maps, rank=config.rank, alpha=config.lora_alpha, dropout=config.lora_dropout, key="model.lm")
        if config.trains_all:
            self.lm.requires_grad_(True)

    def described(self) -> dict[str, Any]:
        """The language model's configuration, to save in the run folder."""
        config: Any = self.config
        described: dict[str, Any] = config.to_dict()
        return {**described, OWN: self._own} if self._own else described

    def load_published(self, config: LMSizes) -> list[str]:
        """Load the published weights that the config names; LoRA stays unchanged. Returns a line that says what was
        loaded.

        Raises:
            ValueError: no weights found, tensors that do not fit, or a tokenizer that is not that of the weights.
        """
        if not config.name:
            return []
        if not getattr(self._words, "is_that_of", lambda source: True)(config.source):
            raise ValueError(
                f"text.tokenizer: {self._words.source} gives words other ids than the tokenizer of the language model; "
                f"set it to {config.name}"
            )
        tied = tied_names(self.lm)
        report = load_published_model(self.lm, _auto_class(self.encodes), config.source, "model.lm.name")
        if untied := sorted(tied.keys() - tied_names(self.lm).keys()):
            self._own["untied"] = [*self._own.get("untied", []), *(n.replace(".base_layer.", ".") for n in untied)]
        return [f"language model from {config.name}: {report}"]

    # -- inputs --------------------------------------------------------------------------------------------------------

    def inputs(
        self, steps: Tensor, step_lengths: Tensor, prompts: Sequence[str] | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """The input of the encoder or causal model for each clip, prompt and steps, with its mask.

        Padding is on the right for an encoder, on the left for a causal model.

        Args:
            steps: [B, S, width]
            step_lengths: [B]
            prompts: one per clip; None: the config's prompt.

        Returns:
            Embeddings [B, P, width] and a mask [B, P], True = real; None: all real.

        Raises:
            ValueError: more than the model's positions, or steps of the wrong width.
        """
        if steps.shape[2] != self.width:
            raise ValueError(f"this language model reads steps of width {self.width}, got {steps.shape[2]}")
        mask = frame_mask(step_lengths, steps.shape[1])
        table: Any = self.lm.get_input_embeddings()
        parts, masks = [steps.to(table.weight.dtype)], [mask]
        texts = [self._around(prompt) for prompt in ([self.prompt] * len(steps) if prompts is None else prompts)]
        if len(texts) != len(steps):
            raise ValueError(f"needs a prompt for each of {len(steps)} clips, got {len(texts)}")
        for place in (0, 1):
            rows = [text[place] for text in texts]
            if longest := max(map(len, rows)):
                ids = torch.tensor([[*row, *[self.end_id] * (longest - len(row))] for row in rows])
                real = torch.tensor([[True] * len(row) + [False] * (longest - len(row)) for row in rows])
                where = 0 if place == 0 else len(parts)
                parts.insert(where, self.embed(ids.to(steps.device, non_blocking=True)))
                masks.insert(where, real.to(steps.device, non_blocking=True))
        embeds, mask = torch.cat(parts, dim=1), torch.cat(masks, dim=1)
        if embeds.shape[1] > self.max_positions:
            around = f" and {embeds.shape[1] - steps.shape[1]} tokens around it" if len(parts) > 1 else ""
            raise ValueError(
                f"a clip of {steps.shape[1]} steps{around} is longer than the {self.max_positions} positions of the "
                f"language model; lower input.max_frames"
            )
        if len(parts) == 1 and self.encodes:
            return embeds, mask
        # move padding to the right for an encoder, to the left for a causal model
        order = torch.argsort(mask.long(), dim=1, stable=True, descending=self.encodes)
        return embeds.gather(1, order[:, :, None].expand_as(embeds)), mask.gather(1, order)

    def _around(self, prompt: str) -> tuple[list[int], list[int]]:
        """Ids before and after the steps."""
        if prompt == "":
            before: list[int] = []
            after: list[int] = []
        else:
            left, found, right = prompt.partition(SLOT)
            before, after = (self._ids(left), self._ids(right)) if found else ([], self._ids(left))
        marks: tuple[Sequence[int], Sequence[int]] = ((), ())
        if self.specials:
            marks = getattr(self._words, "around", marks) if self.encodes else ((self.start_id,), ())
        before, after = [*marks[0], *before], [*after, *marks[1]]
        return before, after

    def _ids(self, text: str) -> list[int]:
        """Token ids of a piece of a prompt, without start and end."""
        if not text:
            return []
        bare = getattr(self._words, "bare", None)
        if bare is None:
            raise ValueError("model.lm.prompt needs a tokenizer with a method bare(text): ids without start and end")
        return list(bare(text))

    def embed(self, ids: Tensor) -> Tensor:
        """Word embeddings as input to the first layer; padding, which the model may lack, becomes the end token."""
        embedded: Tensor = self.lm.get_input_embeddings()(ids.masked_fill(ids == self.pad_id, self.end_id))
        return embedded * self._scale if self._scale != 1 else embedded

    # -- scores and search ---------------------------------------------------------------------------------------------

    def forward(
        self, tokens: Tensor, steps: Tensor, step_lengths: Tensor, prompts: Sequence[str] | None = None
    ) -> Tensor:
        """Token scores at each position of `tokens`, given the clip and the tokens before it (teacher forcing).

        Args:
            tokens: [B, U]
            steps: [B, S, width]
            step_lengths: [B]
            prompts: one per clip; None: the config's prompt.

        Returns:
            [B, U, V]
        """
        return self.score(tokens, *self.inputs(steps, step_lengths, prompts))

    def score(self, tokens: Tensor, embeds: Tensor, mask: Tensor | None) -> Tensor:
        """Token scores given the result of `inputs`; a mask of None means that all positions are real. [B, U, V]"""
        self._check_length(tokens.shape[1] + (0 if self.encodes else embeds.shape[1] - 1))
        if self.encodes:
            read = torch.cat([tokens.new_full((len(tokens), 1), self.start_id), tokens[:, :-1]], dim=1)
            if self.pad_id >= self.rows:
                read = read.masked_fill(read == self.pad_id, self.end_id)
            told = None if mask is None else mask.long()
            decoded = self.lm(inputs_embeds=embeds, attention_mask=told, decoder_input_ids=read, use_cache=False)
            return decoded.logits  # type: ignore[no-any-return]
        return self._continued(self.embed(tokens[:, :-1]), embeds, mask, tokens.shape[1])

    def _continued(self, words: Tensor, embeds: Tensor, mask: Tensor | None, keep: int) -> Tensor:
        """Scores of a causal model after each of the last `keep` of its input rows and embedded words.
        [B, keep, V]"""
        rows = torch.cat([embeds, words.to(embeds.dtype)], dim=1)
        more: dict[str, Any] = {}
        if mask is not None:  # tokens are right of all input rows, so the causal mask hides their padding
            mask = torch.cat([mask, mask.new_ones(words.shape[:2])], dim=1)
            more["attention_mask"] = mask.long()
            if self._places:
                more["position_ids"] = (mask.long().cumsum(dim=1) - 1).clamp(min=0)
        if self._keeps:
            more["logits_to_keep"] = keep
        logits: Tensor = self.lm(inputs_embeds=rows, use_cache=False, **more).logits
        return logits[:, -keep:]

    @torch.no_grad()
    def generate(
        self,
        steps: Tensor,
        step_lengths: Tensor,
        *,
        num_beams: int,
        length_penalty: float,
        max_new_tokens: int,
        prompts: Sequence[str] | None = None,
        most: int = 1,
    ) -> Tensor:
        """Generate sentences; put the model in eval mode first.

        Args:
            num_beams: 1 is greedy.
            length_penalty: transformers' rule: log-probability over length ** length_penalty.
            max_new_tokens: maximum length of a sentence in tokens.
            most: sentences per clip, at most `num_beams`: the final hypotheses of the search, best first.

        Returns:
            Token ids without the start token, up to an end token if the model produced one, then pad_id; `most` rows
            for each clip. [B * most, U] long
        """
        embeds, mask = self.inputs(steps, step_lengths, prompts)
        return self.search(
            embeds,
            mask,
            num_beams=num_beams,
            length_penalty=length_penalty,
            max_new_tokens=max_new_tokens,
            most=most,
        )

    @torch.no_grad()
    def generate_scored(
        self,
        steps: Tensor,
        step_lengths: Tensor,
        *,
        num_beams: int,
        length_penalty: float,
        max_new_tokens: int,
        prompts: Sequence[str] | None = None,
        most: int = 1,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`generate`, with log p and the number of tokens of each sentence. [B * most, U], [B * most], [B * most]

        The model scores the finished sentences in one extra pass, because transformers would have to keep the scores of
        the entire vocabulary for every step and beam.
        """
        ids = self.generate(
            steps,
            step_lengths,
            num_beams=num_beams,
            length_penalty=length_penalty,
            max_new_tokens=max_new_tokens,
            prompts=prompts,
            most=most,
        )
        steps, step_lengths = (part.repeat_interleave(most, dim=0) for part in (steps, step_lengths))
        prompts = prompts and [prompt for prompt in prompts for _ in range(most)]
        return ids, *sentence_log_probs(self(ids, steps, step_lengths, prompts), ids, self.pad_id)

    def search(
        self,
        embeds: Tensor,
        mask: Tensor | None,
        *,
        num_beams: int,
        length_penalty: float,
        max_new_tokens: int,
        most: int = 1,
    ) -> Tensor:
        """Search for sentences given the result of `inputs`. [B * most, U] long"""
        if num_beams < 1 or max_new_tokens < 1:
            raise ValueError(
                f"generate needs num_beams and max_new_tokens of at least 1, got {num_beams} and {max_new_tokens}."
            )
        self._check_length(max_new_tokens + (0 if self.encodes else embeds.shape[1] - 1))
        settings = search_settings(
            num_beams=num_beams,
            length_penalty=length_penalty,
            max_new_tokens=max_new_tokens,
            pad_id=self.pad_id if self.pad_id < self.rows else self.end_id,
            start_id=self.start_id,
            ends=self.ends,
            first_id=self.first_id if self.encodes else None,
            most=most,
        )
        told = torch.ones(embeds.shape[:2], dtype=torch.long, device=embeds.device) if mask is None else mask.long()
        ids: Tensor = self.lm.generate(inputs_embeds=embeds, attention_mask=told, generation_config=settings)
        if self.encodes:
            ids = ids[:, 1:]
        ends = torch.isin(ids, torch.tensor(self.ends, device=ids.device))
        return ids.masked_fill((ends.cumsum(dim=1) - ends.long()) > 0, self.pad_id)

    # -- what `signcl export` writes -----------------------------------------------------------------------------------

    def exported_states(self, steps: Tensor, step_lengths: Tensor, prompt: str) -> dict[str, Tensor]:
        """What a sentence depends on: states of an encoder, or the input rows of a causal model, padded on the right.

        Args:
            steps: [B, S, width]
            step_lengths: [B]
            prompt: of all clips.

        Returns:
            `steps` [B, P, width], zero at padding, and `step_lengths` [B].
        """
        before, after = (self._row(ids, steps) for ids in self._around(prompt))
        rows, lengths = steps.to(self.lm.get_input_embeddings().weight.dtype), step_lengths
        if before is not None:
            rows, lengths = torch.cat([before, rows], dim=1), lengths + before.shape[1]
        if after is not None:
            rows, lengths = one_by_one(rows, lengths, after), lengths + after.shape[1]
        mask = frame_mask(lengths, rows.shape[1])
        if self.encodes:
            rows = self.lm.get_encoder()(inputs_embeds=rows, attention_mask=mask.long()).last_hidden_state
        return {"steps": rows * mask[:, :, None], "step_lengths": lengths}

    def _row(self, ids: list[int], steps: Tensor) -> Tensor | None:
        """The same words for each clip. [B, words, width]"""
        if not ids:
            return None
        row = self.embed(torch.tensor([ids], device=steps.device))
        return row.expand(steps.shape[0], -1, -1)

    def exported_word(self, tokens: Tensor, steps: Tensor, step_lengths: Tensor) -> Tensor:
        """Log-probabilities of the next token, as in transformers' greedy search without a cache.

        Args:
            tokens: read so far; the first is the start token. A causal model has its start in `steps`, and does not
                read the first token. [B, U]
            steps, step_lengths: from `exported_states`.

        Returns:
            [B, V]
        """
        mask = frame_mask(step_lengths, steps.shape[1])
        if self.encodes:
            from transformers.modeling_outputs import BaseModelOutput

            if self.pad_id >= self.rows:
                tokens = tokens.masked_fill(tokens == self.pad_id, self.end_id)
            states = BaseModelOutput(last_hidden_state=steps)
            found = self.lm(
                encoder_outputs=states, attention_mask=mask.long(), decoder_input_ids=tokens, use_cache=False
            )
            return found.logits[:, -1].float().log_softmax(dim=1)  # type: ignore[no-any-return]
        # as in `inputs`: padding on the left, so that every sentence begins in the same column
        size = steps.shape[1]
        order = torch.arange(size, device=steps.device)[None, :] + step_lengths[:, None]
        order = torch.where(order < size, order, order - size)
        rows = steps.gather(1, order[:, :, None].expand(-1, -1, steps.shape[2]))
        return self._next_word(tokens, rows, mask.gather(1, order))

    def _next_word(self, tokens: Tensor, embeds: Tensor, mask: Tensor | None) -> Tensor:
        """Log-probabilities of a causal model after its input rows and all tokens but the first. [B, V]"""
        words = tokens[:, 1:]
        if self.pad_id >= self.rows:
            words = words.masked_fill(words == self.pad_id, self.end_id)
        embedded = self.lm.get_input_embeddings()(words) * self._scale  # search reads padding as any other word
        return self._continued(embedded, embeds, mask, 1)[:, -1].float().log_softmax(dim=1)

    def _check_length(self, tokens: int) -> None:
        if tokens > self.max_positions:
            raise ValueError(
                f"a sentence of {tokens} tokens{'' if self.encodes else ' with the input before it'} is "
                f"longer than the {self.max_positions} positions of the language model; lower text.max_tokens or "
                f"decode.max_new_tokens"
            )


def search_settings(
    *,
    num_beams: int,
    length_penalty: float,
    max_new_tokens: int,
    pad_id: int,
    start_id: int,
    ends: int | Sequence[int],
    first_id: int | None = None,
    most: int = 1,
) -> Any:
    """A complete generation config for greedy or beam search.

    transformers would fill unset values from the model's `generation_config`: sampling, penalties, forced tokens.

    Args:
        pad_id: fills rows that have ended.
        start_id: first input token of the decoder of an encoder-decoder.
        ends: tokens that end a sentence.
        first_id: first token of every sentence (the language in mBART-50 and NLLB).
        most: sentences per input, the final hypotheses of the search.
    """
    from transformers import GenerationConfig

    return GenerationConfig(
        num_beams=num_beams,
        num_return_sequences=most,
        length_penalty=length_penalty if num_beams > 1 else None,
        early_stopping=False,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        use_cache=True,
        pad_token_id=pad_id,
        bos_token_id=start_id,
        eos_token_id=ends if isinstance(ends, int) else list(ends),
        decoder_start_token_id=start_id,
        forced_bos_token_id=first_id,
        forced_eos_token_id=None,
    )


# -- building ----------------------------------------------------------------------------------------------------------

OWN = "own_marks"
"""Key in a run folder's description of a published model: its start and end tokens, and its untied weights."""


def lm_of(config: Any, sizes: Any) -> nn.Module:
    """Build the language model of a system's config, from its `lm`, `dropout` and `max_positions`.

    Args:
        config: config of the system.
        sizes: a `signcl.systems.Sizes`.
    """
    described = sizes.described.get("decoder")
    return build_lm(config.lm, sizes.words(), described, dropout=config.dropout, max_positions=config.max_positions)


def build_lm(
    config: LMSizes,
    words: Any,
    described: Mapping[str, Any] | None = None,
    *,
    dropout: float = 0.1,
    max_positions: int = 1024,
) -> nn.Module:
    """Build the language model of a config with random weights; `TextDecoder.load_published` loads published weights.

    Args:
        words: the tokenizer, which sets the vocabulary size of a randomly initialised model.
        described: its configuration from a run folder; None: read it from the source that the config names.
        dropout, max_positions: for a randomly initialised model.

    Raises:
        ValueError: no such language model, or its vocabulary is smaller than the tokenizer's.
    """
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    own: Mapping[str, Any] = {}
    if described is not None:
        own = described.get(OWN) or {}
        kept = {key: value for key, value in described.items() if key != OWN}
        sizes = CONFIG_MAPPING[described["model_type"]].from_dict(kept)
    elif config.name:
        sizes = read_published_config(config.source, "model.lm.name")
        own = _own_marks(config.source, sizes)
        if not sizes.is_encoder_decoder:  # of a model that reads pictures too (Gemma 3) only what reads and writes text
            sizes = sizes.get_text_config(decoder=True)
    else:
        sizes = _random_config(config, words, dropout, max_positions)
    count = getattr(words, "num_tokens", words.vocab_size)
    rows = getattr(sizes.get_text_config(decoder=True), "vocab_size", None)
    if rows is None:
        raise ValueError(
            f"model.lm.name={config.name}: a {sizes.model_type} has no vocabulary, so it is not a language model"
        )
    if rows < count:
        raise ValueError(
            f"model.lm: its vocabulary has {rows} rows but the tokenizer has {count} tokens; set text.tokenizer to the "
            f"folder or hub id of the language model itself"
        )
    if not sizes.is_encoder_decoder and _reads_both_ways(sizes):
        raise ValueError(
            f"model.lm.name={config.name}: a {sizes.model_type} is a bidirectional encoder and writes no text; needs "
            f"an encoder-decoder such as T5, or a causal model such as GPT-2"
        )
    try:
        lm: nn.Module = _auto_class(bool(sizes.is_encoder_decoder)).from_config(sizes, dtype=torch.float32)
    except (ValueError, ImportError) as error:
        kind = "encoder-decoder that writes text" if sizes.is_encoder_decoder else "causal language model"
        raise ValueError(f"model.lm.name={config.name}: no {kind} of transformers: {one_line(error)}") from None
    for name in own.get("untied", ()):
        untie(lm, name)
    lm.own_marks = dict(own)  # type: ignore[assignment]
    return lm


def _auto_class(encodes: bool) -> Any:
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    return AutoModelForSeq2SeqLM if encodes else AutoModelForCausalLM


def _reads_both_ways(sizes: Any) -> bool:
    """Whether it is a bidirectional encoder such as BERT, which transformers would build as a causal model."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    return sizes.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(sizes, "is_decoder", False)


def _own_marks(source: str, sizes: Any) -> dict[str, Any]:
    """Start and end tokens of a published model, from its generation_config.json, else its config.json."""
    from transformers import GenerationConfig

    try:
        told: Any = GenerationConfig.from_pretrained(source)
    except (OSError, ValueError):
        told = None

    def value(name: str) -> Any:
        found = getattr(told, name, None)
        return getattr(sizes, name, None) if found is None else found

    ends, start = value("eos_token_id"), value("decoder_start_token_id")
    own: dict[str, Any] = {"ends": [] if ends is None else [ends] if isinstance(ends, int) else list(ends)}
    return own if start is None else {**own, "start": start}


def _random_config(config: LMSizes, words: Any, dropout: float, max_positions: int) -> Any:
    """Configuration of a language model with the config's sizes and the tokenizer's vocabulary."""
    from transformers import GPT2Config, LlamaConfig, MBartConfig, T5Config, XGLMConfig

    T5: Any = T5Config  # mypy does not know all its keys
    rows: dict[str, Any] = {
        "vocab_size": words.vocab_size,
        "pad_token_id": None,
        "bos_token_id": words.start_id,
        "eos_token_id": words.end_id,
    }
    if config.architecture == "t5":  # tied and scaled as T5 v1.0: the untied output layer of v1.1 starts at a huge loss
        return T5(
            num_layers=config.layers, d_model=config.width, num_heads=config.heads, d_kv=config.width // config.heads,
            d_ff=config.ffn, dropout_rate=dropout, feed_forward_proj="gated-gelu", tie_word_embeddings=True,
            decoder_start_token_id=words.start_id, **{**rows, "pad_token_id": words.pad_id},
        )  # fmt: skip
    if config.architecture == "mbart":
        return MBartConfig(
            encoder_layers=config.layers, decoder_layers=config.layers, d_model=config.width, dropout=dropout,
            encoder_attention_heads=config.heads, decoder_attention_heads=config.heads, encoder_ffn_dim=config.ffn,
            decoder_ffn_dim=config.ffn, max_position_embeddings=max_positions, scale_embedding=True,
            forced_eos_token_id=None, decoder_start_token_id=words.start_id, **{**rows, "pad_token_id": words.pad_id},
        )  # fmt: skip
    if config.architecture == "gpt2":
        return GPT2Config(
            n_layer=config.layers, n_embd=config.width, n_head=config.heads, n_inner=config.ffn,
            n_positions=max_positions, resid_pdrop=dropout, embd_pdrop=dropout, attn_pdrop=dropout, **rows,
        )  # fmt: skip
    if config.architecture == "llama":
        return LlamaConfig(
            num_hidden_layers=config.layers, hidden_size=config.width, num_attention_heads=config.heads,
            num_key_value_heads=config.heads, intermediate_size=config.ffn, max_position_embeddings=max_positions,
            attention_dropout=dropout, **rows,
        )  # fmt: skip
    return XGLMConfig(
        num_layers=config.layers, d_model=config.width, attention_heads=config.heads, ffn_dim=config.ffn,
        dropout=dropout, attention_dropout=0.0, max_position_embeddings=max_positions, **rows,
    )  # fmt: skip


@lru_cache
def _parameters_of(function: Any) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)


def _check_takes_embeddings(lm: nn.Module, encodes: bool) -> None:
    """Raise ValueError for a model that accepts only token ids; transformers' search would fail much later."""
    kind: Any = type(lm)
    takes = "inputs_embeds" in _parameters_of(kind.forward)
    if not encodes:
        takes = takes and "inputs_embeds" in _parameters_of(kind.prepare_inputs_for_generation)
    config: Any = lm.config
    if getattr(config.get_text_config(decoder=True), "hidden_size_per_layer_input", 0):
        takes = False  # it looks up each token again in every layer
    if not takes:
        raise ValueError(
            f"model.lm: {kind.__name__} accepts only token ids, not embeddings (inputs_embeds), so it cannot read a "
            f"clip; choose another, such as GPT-2, XGLM, Llama, Qwen, Gemma, T5 or mBART"
        )


def _forget_generation_settings(lm: Any) -> None:
    """Remove the checkpoint's search settings (sampling, penalties, forced tokens), which transformers would apply."""
    from transformers import GenerationConfig

    lm.generation_config = GenerationConfig()


def _outer_scale(lm: Any, table: nn.Module) -> float:
    """Factor that a model applies to its word embeddings outside the embedding layer (Marian, Pegasus)."""
    if hasattr(table, "embed_scale"):
        return 1.0
    for part in lm.modules():
        scale = getattr(part, "embed_scale", None)
        if isinstance(scale, int | float) and hasattr(part, "embed_tokens"):
            return float(scale)
    return 1.0
