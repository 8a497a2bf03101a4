"""Sign Language Transformers: NSLT (translation only) and Joint-SLT (also CTC recognition), paper Table 4.

Frame features, a linear embedding, a Transformer encoder with a gloss head for Joint-SLT, a Transformer decoder. The
paper's NSLT is this network without the recognition loss, not the recurrent NSLT of 2018.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from signcl.data.batch import Batch, frame_mask
from signcl.data.bounds import bounded
from signcl.systems.base import Sizes, register
from signcl.systems.parts.official import Checkpoint, Published
from signcl.systems.parts.official_slt import published_slt
from signcl.systems.parts.search import Found, beam_search_alphas, beam_search_released
from signcl.systems.parts.transformer import Decoder, Memory, xavier
from signcl.systems.parts.written import Written, mean_features
from signcl.systems.recogniser import Recogniser, RecogniserOutput
from signcl.systems.terms.shared import frame_contrast, recognition, translation

__all__ = ["SLT", "SLTOutput"]


@dataclass(frozen=True)
class SLTOutput(RecogniserOutput):
    """A batch of clips with decoder logits."""

    logits: Tensor
    """Token scores at each position of `batch.tokens`, given the tokens before it. [B, U, V]"""


@register
class SLT(Recogniser):
    """Translates clips to sentences; with a gloss head also recognises glosses.

    With frame features of size D, width w, feed-forward f, E and L layers, C gloss classes and V words it has
        (D w + w) + 2 w + E (4 w^2 + 9 w + 2 w f + f) + 2 w      encoder
        w C + C                                                  gloss head (Joint-SLT)
        V w + 2 w + L (8 w^2 + 15 w + 2 w f + f) + 2 w           decoder
        V w                                                      output layer, without bias; none when tied
    parameters: 26,117,183 for Joint-SLT at Table 4's PHOENIX-2014T sizes (D = 1024, w = 512, f = 2048, 3 + 3 layers,
    1087 gloss classes, 2892 words), 25,559,552 for NSLT.

    Source: Camgoz et al. 2020, neccam/slt; paper Table 4. Released code: treats frames whose first feature is exactly 0
    as padding; here the lengths decide.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(Recogniser.Config):
        """`model` section of a Sign Language Transformer recipe. Published: Table 4."""

        name: str = "slt"
        decoder_layers: int = bounded(2, low=0, high=1000)
        decoder_heads: int | None = bounded(None, low=1, high=1024)
        """Heads of the decoder, if different from the encoder's."""
        tie_embeddings: bool = False
        """Tie the output layer to the word embeddings; published: separate."""
        search: Literal["exact", "released"] = "exact"
        """When beam search stops: exact continues until no hypothesis can improve; released stops as neccam/slt does,
        as soon as the most likely hypothesis ends."""

    title: ClassVar = (
        "Sign Language Transformer: NSLT, and Joint-SLT with a weight for recognition (Tables 1, 4, 11, 12)"
    )
    label: ClassVar = "Sign Language Transformer"
    needs: ClassVar = "features (or frames) and sentences; glosses for Joint-SLT"
    stage: ClassVar[Any] = "finetune"
    terms: ClassVar = {"translation": translation, "recognition": recognition, "signcl": frame_contrast}
    default: ClassVar[tuple[str, ...]] = ("translation",)
    required_terms: ClassVar[tuple[str, ...]] = ("translation",)
    answers: ClassVar[Any] = "sentences"
    gloss_term: ClassVar[str] = "recognition"
    checkpoint: ClassVar[str] = "slt"
    checkpoint_marks: ClassVar[tuple[str, ...]] = ("sgn_embed.ln.weight",)

    config: Config

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        words, word_dim = sizes.words(), self.word_dim()
        if config.tie_embeddings and word_dim not in (None, config.width):
            raise ValueError(
                f"model.tie_embeddings needs word vectors of model.width {config.width}, got {word_dim}; switch it off."
            )
        self.pad_id, self.start_id, self.end_id = words.pad_id, words.start_id, words.end_id
        self.decoder = Decoder(
            words.vocab_size,
            words.pad_id,
            width=config.width,
            layers=config.decoder_layers,
            heads=config.decoder_heads or config.heads,
            ffn=config.ffn,
            dropout=config.dropout,
            attention_dropout=config.attention_dropout,
            activation=config.activation,
            sync_norm=config.sync_norm,
            embedding_dropout=self.embedding_dropout(),
            word_dim=word_dim,
        )
        self.decoder.apply(xavier)
        self.word_head = nn.Linear(config.width, words.vocab_size, bias=False)
        xavier(self.word_head)
        if config.tie_embeddings:
            self.word_head.weight = self.decoder.words.weight

    @classmethod
    def published(cls, given: Checkpoint) -> Published:
        """A checkpoint of neccam/slt (`best.ckpt`, with `txt.vocab`, `gls.vocab` and `config.yaml` in the same
        folder)."""
        return published_slt(given, cls.checkpoint)

    def word_dim(self) -> int | None:
        """Size of the word embeddings if they are mapped to the width, else None."""
        return None

    def forward(self, batch: Batch) -> SLTOutput:
        """Token scores of each clip's sentence (teacher forcing), and gloss scores if there is a gloss head.

        Raises:
            ValueError: a batch without tokens.
        """
        if batch.tokens is None or batch.token_lengths is None:
            raise ValueError("SLT needs batch.tokens to score a sentence; to translate use `generate`.")
        encoded = self.encode(batch)
        start = batch.tokens.new_full((len(batch), 1), self.start_id)
        read = torch.cat([start, batch.tokens[:, :-1]], dim=1)  # [B, U], same lengths as the tokens
        real = frame_mask(batch.token_lengths, read.shape[1])
        memory = self.decoder.remember(encoded.steps, encoded.step_lengths)
        return SLTOutput(**vars(encoded), logits=self.word_head(self.decoder(read, real, memory)))

    def exported_word(self, tokens: Tensor, steps: Tensor, step_lengths: Tensor) -> Tensor:
        """Next-token log-probabilities as in the beam search: padding is never generated, unless `search` is
        released."""
        memory = self.decoder.remember(steps, step_lengths)
        states = self.decoder(tokens, torch.ones_like(tokens, dtype=torch.bool), memory)
        found = self.word_head(states[:, -1]).float().log_softmax(dim=1)
        if self.config.search == "released":
            return found
        padding = torch.arange(found.shape[1], device=found.device) == self.pad_id
        return found.masked_fill(padding, -torch.inf)

    @torch.no_grad()
    def generate(
        self, batch: Batch, *, num_beams: int = 4, length_penalty: float = 1.0, max_new_tokens: int = 30
    ) -> Tensor:
        """Translate; put the model in eval mode first.

        Args:
            batch: clips; its tokens are ignored.
            num_beams: 1 is greedy.
            length_penalty: alpha of ((5 + length) / 6) ** alpha, which divides the log-probability; negative is off.
                GFSLT uses transformers' rule instead.
            max_new_tokens: maximum length of a sentence in tokens; Table 4 has 30 (PHOENIX-2014T) and 50 (CSL-Daily).

        Returns:
            Token ids without the start token, up to end_id if the model produced it, then pad_id. [B, U] long
        """
        found = self.generate_grid(batch, beams=[num_beams], alphas=[length_penalty], max_new_tokens=max_new_tokens)
        return found[num_beams, length_penalty]

    @torch.no_grad()
    def generate_scored(
        self, batch: Batch, *, num_beams: int = 4, length_penalty: float = 1.0, max_new_tokens: int = 30, most: int = 1
    ) -> Written:
        """`generate` with log p of each sentence, summed by the search."""
        encoded = self.encode(batch)
        memory = self.decoder.remember(encoded.steps, encoded.step_lengths)
        (found,) = self._search(memory, num_beams, [length_penalty], max_new_tokens, most)
        features = mean_features(encoded.features, encoded.lengths)
        return Written(found.ids, found.log_probs, (found.ids != self.pad_id).sum(dim=1), features)

    @torch.no_grad()
    def generate_grid(
        self, batch: Batch, *, beams: Sequence[int], alphas: Sequence[float], max_new_tokens: int
    ) -> dict[tuple[int, float], Tensor]:
        """Translate with every number of beams and every length penalty.

        Costs one encoding, and one search per number of beams.

        Returns:
            (beams, alpha) -> the result of `generate`. Each [B, U] long
        """
        encoded = self.encode(batch)
        clips = self.decoder.remember(encoded.steps, encoded.step_lengths)
        found = {}
        for width in beams:
            memory = Memory(clips.clips, clips.mask)  # every search needs a fresh memory
            for alpha, best in zip(alphas, self._search(memory, width, alphas, max_new_tokens)):
                found[width, alpha] = best.ids
        return found

    def _search(
        self, memory: Memory, beams: int, alphas: Sequence[float], max_new_tokens: int, most: int = 1
    ) -> list[Found]:
        def step(last: Tensor, rows: Tensor | None) -> Tensor:
            if rows is not None:
                memory.words = [(keys[rows], values[rows]) for keys, values in memory.words]
            states = self.decoder(last[:, None], torch.ones_like(last, dtype=torch.bool)[:, None], memory)
            return self.word_head(states[:, -1]).float().log_softmax(dim=1)

        search = beam_search_released if self.config.search == "released" and beams > 1 else beam_search_alphas
        return search(
            step,
            batch_size=len(memory.mask),
            start_id=self.start_id,
            end_id=self.end_id,
            pad_id=self.pad_id,
            beams=beams,
            alphas=alphas,
            max_new_tokens=max_new_tokens,
            most=most,
            device=memory.mask.device,
        )
