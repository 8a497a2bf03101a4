"""The recurrent NSLT of 2018: a GRU encoder reads the frames, a GRU decoder with attention writes the sentence.

It was the first system to translate sign language videos end to end. The paper's "NSLT" is a different system, the Sign
Language Transformer without recognition (`slt`); both appear in the paper's tables as earlier work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from signcl.data.batch import Batch, frame_mask
from signcl.data.bounds import bounded
from signcl.systems.base import Outputs, Sizes, System, SystemConfig, register
from signcl.systems.parts.frames import Tapped, feature_size, frame_features, tap_of_frames
from signcl.systems.parts.scan import scan
from signcl.systems.parts.search import beam_search
from signcl.systems.parts.written import Written, mean_features
from signcl.systems.terms.shared import frame_contrast, translation

__all__ = ["NSLT2018"]


@register
class NSLT2018(System):
    """Translates clips to sentences with recurrent layers only.

    With frame features of size D, width w, L layers and V words it has
        3 w (D + w + 2) + (L - 1) 3 w (2 w + 2)                    encoder
        V w + 3 w (3 w + 2) + (L - 1) 3 w (2 w + 2)                decoder: words, GRU layers
        w^2 + 2 w^2                                                attention: keys and output
        V w                                                        output layer, without bias
    parameters besides the frame encoder's, and w^2 + w more with Bahdanau's attention.

    Source: Camgoz et al. 2018, neccam/nslt. Differences of the released code: AlexNet on frames of 227 x 227, trained
    jointly; TensorFlow's GRU cells, which reset the state before the matrix product, while torch resets after it;
    the loss is the sum over a sentence's tokens, while the term `translation` is their mean.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(SystemConfig):
        """`model` section of a recurrent NSLT recipe. Published: width 1000, 4 layers, dropout 0.2."""

        name: str = "nslt2018"
        width: int = bounded(256, low=1, high=65_536)
        """Size of states, word vectors and attention outputs."""
        layers: int = bounded(2, low=1, high=100)
        """GRU layers of the encoder and of the decoder. Each decoder layer starts from the last state of its encoder
        layer."""
        dropout: float = bounded(0.2, low=0, below=1)
        """Dropout on the input of each layer."""
        attention: Literal["luong", "bahdanau"] = "luong"
        reverse: bool = True
        """Read the frames from last to first, so that the decoder starts from a state that has just seen the first
        frames."""

    title: ClassVar = "NSLT of 2018: GRU layers over reversed frames, a GRU decoder with attention (Tables 2, 3)"
    label: ClassVar = "NSLT (2018)"
    needs: ClassVar = "features (or frames) and sentences"
    stage: ClassVar[Any] = "finetune"
    terms: ClassVar = {"translation": translation, "signcl": frame_contrast}
    default: ClassVar[tuple[str, ...]] = ("translation",)
    required_terms: ClassVar[tuple[str, ...]] = ("translation",)
    answers: ClassVar[Any] = "sentences"
    TAPS: ClassVar[tuple[str, ...]] = ("features", "steps")

    config: Config

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        words, width, more = sizes.words(), config.width, range(config.layers - 1)
        self.start_id, self.end_id, self.pad_id = words.start_id, words.end_id, words.pad_id
        dim = feature_size(self.visual)
        self.encoder = nn.ModuleList([_gru(dim, width), *(_gru(width, width) for _ in more)])
        self.words = nn.Embedding(words.vocab_size, width, padding_idx=words.pad_id)
        self.cells = nn.ModuleList([nn.GRUCell(2 * width, width), *(nn.GRUCell(width, width) for _ in more)])
        self.attention = Attention(width, config.attention)
        self.word_head = nn.Linear(width, words.vocab_size, bias=False)
        self.dropout = nn.Dropout(config.dropout)
        for layers in (self.encoder, self.cells):
            for name, value in layers.named_parameters():
                if ".weight" in name:
                    for gate in value.chunk(3):
                        nn.init.xavier_normal_(gate)
                else:
                    nn.init.zeros_(value)
                    if "bias_ih" in name:  # gate biases start at 1, as in TensorFlow, so that states persist
                        nn.init.ones_(value[: 2 * width])

    def encode(self, batch: Batch) -> tuple[Outputs, list[Tensor]]:
        """Frame features and states in temporal order, and the last state of each layer. [B, width]"""
        features, lengths = frame_features(self.visual, batch)
        states, final = self._read(features, lengths)
        return Outputs(features, lengths, states, lengths), final

    def _read(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, list[Tensor]]:
        """States in temporal order, and the last state of each layer. [B, T, D], [B] -> [B, T, width], [B, width]"""
        # reverse each clip within its own length, so that no layer reads padding before the end of the clip
        order = torch.arange(features.shape[1], device=features.device)[None, :]
        if self.config.reverse:
            order = torch.where(order < lengths[:, None], lengths[:, None] - 1 - order, order)
        order = order.expand(features.shape[0], -1)[:, :, None]
        states, final = features.gather(1, order.expand_as(features)), []
        last = (lengths - 1)[:, None, None]
        for number, layer in enumerate(self.encoder):
            read, _ = layer(self.dropout(states))
            final.append(read.gather(1, last.expand(-1, 1, read.shape[2]))[:, 0])
            states = read if number == 0 else states + read
        real = frame_mask(lengths, states.shape[1])[:, :, None]
        return states.gather(1, order.expand_as(states)).masked_fill(~real, 0.0), final

    def forward(self, batch: Batch) -> Outputs:
        """Token scores of each clip's sentence; each word is read with the attention output of the previous word.

        Raises:
            ValueError: a batch without tokens.
        """
        if batch.tokens is None:
            raise ValueError("nslt2018 needs batch.tokens to score a sentence; to translate use `generate`.")
        encoded, hidden = self.encode(batch)
        memory = self.attention.remember(encoded.steps, encoded.step_lengths)
        attended, found = torch.zeros_like(hidden[0]), []
        start = batch.tokens.new_full((len(batch), 1), self.start_id)
        # loop over words, not frames: each word needs the attention output of the previous word
        for word in self.words(torch.cat([start, batch.tokens[:, :-1]], dim=1)).unbind(dim=1):
            attended, hidden = self.write(word, attended, hidden, memory)
            found.append(attended)
        logits = self.word_head(torch.stack(found, dim=1))
        return Outputs(encoded.features, encoded.lengths, encoded.steps, encoded.step_lengths, logits=logits)

    def write(
        self, word: Tensor, attended: Tensor, hidden: list[Tensor], memory: Memory
    ) -> tuple[Tensor, list[Tensor]]:
        """One decoder step: from a word vector [B, width] to the attention output and the new states."""
        state, new = torch.cat([word, attended], dim=1), []
        for number, (cell, before) in enumerate(zip(self.cells, hidden)):
            now = cell(self.dropout(state), before)
            new.append(now)
            state = now if number == 0 else state + now
        return self.attention(state, memory), new

    def exported_states(self, features: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """States of the top layer, and the last state of each layer. [B, T, width], [B], [B, layers, width]"""
        steps, final = self._read(features, lengths)
        return {"steps": steps, "step_lengths": lengths, "last_states": torch.stack(final, dim=1)}

    def exported_word(
        self, tokens: Tensor, steps: Tensor, step_lengths: Tensor, last_states: Tensor | None = None
    ) -> Tensor:
        """Next-token log-probabilities as in the beam search; the decoder starts from `last_states`."""
        assert last_states is not None
        memory = self.attention.remember(steps, step_lengths)
        hidden = last_states.unbind(dim=1)

        def read(state: tuple[Tensor, ...], word: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
            attended, new = self.write(word, state[0], list(state[1:]), memory)
            return (attended, *new), attended

        _, attended = scan(read, (torch.zeros_like(hidden[0]), *hidden), self.words(tokens).transpose(0, 1))
        return self.word_head(attended[-1]).float().log_softmax(dim=1)

    def tap(self, batch: Batch, name: str) -> Tapped:
        """States of the top layer, one per frame feature."""
        encoded, _ = self.encode(batch)
        frames = tap_of_frames(self.visual, encoded.features, encoded.lengths)
        return Tapped(encoded.steps, encoded.step_lengths, frames.stride, frames.first_centre)

    @torch.no_grad()
    def generate(
        self, batch: Batch, *, num_beams: int = 3, length_penalty: float = 0.0, max_new_tokens: int = 50
    ) -> Tensor:
        """Translate; put the model in eval mode first.

        Args:
            batch: clips; its tokens are ignored.
            num_beams: 1 is greedy; published: 3.
            length_penalty: alpha of ((5 + length) / 6) ** alpha, which divides the log-probability; published: 0.
            max_new_tokens: maximum length of a sentence in tokens.

        Returns:
            Token ids without the start token, up to end_id if the model produced it, then pad_id. [B, U] long
        """
        return self.generate_scored(
            batch, num_beams=num_beams, length_penalty=length_penalty, max_new_tokens=max_new_tokens
        ).ids

    @torch.no_grad()
    def generate_scored(
        self, batch: Batch, *, num_beams: int = 3, length_penalty: float = 0.0, max_new_tokens: int = 50, most: int = 1
    ) -> Written:
        """`generate` with log p of each sentence, summed by the search."""
        encoded, hidden = self.encode(batch)
        hidden = [state.repeat_interleave(num_beams, dim=0) for state in hidden]
        steps = encoded.steps.repeat_interleave(num_beams, dim=0)
        # the beams of a clip stay in adjacent rows, so the memory needs no reordering
        memory = self.attention.remember(steps, encoded.step_lengths.repeat_interleave(num_beams, dim=0))
        attended = torch.zeros_like(hidden[0])

        def step(last: Tensor, rows: Tensor | None) -> Tensor:
            nonlocal attended, hidden
            if rows is not None:
                attended, hidden = attended[rows], [state[rows] for state in hidden]
            attended, hidden = self.write(self.words(last), attended, hidden, memory)
            return self.word_head(attended).float().log_softmax(dim=1)

        found = beam_search(
            step,
            batch_size=len(batch),
            start_id=self.start_id,
            end_id=self.end_id,
            pad_id=self.pad_id,
            beams=num_beams,
            alpha=length_penalty,
            max_new_tokens=max_new_tokens,
            most=most,
            device=steps.device,
        )
        counts = (found.ids != self.pad_id).sum(dim=1)
        return Written(found.ids, found.log_probs, counts, mean_features(encoded.features, encoded.lengths))


@dataclass(frozen=True)
class Memory:
    """The encoded clips that attention reads."""

    values: Tensor
    """[B, T, width]"""
    keys: Tensor
    """[B, T, width]"""
    real: Tensor
    """[B, T] bool"""


class Attention(nn.Module):
    """Attention from a decoder state to the clip; returns a new state. Source: Luong et al., Bahdanau et al. 2015.

    As in the released code, the new state has no tanh: it is a linear map of the old state and the context vector.
    """

    def __init__(self, width: int, kind: Literal["luong", "bahdanau"]) -> None:
        super().__init__()
        self.key = nn.Linear(width, width, bias=False)
        self.query = nn.Linear(width, width, bias=False) if kind == "bahdanau" else None
        self.score = nn.Linear(width, 1, bias=False) if kind == "bahdanau" else None
        self.out = nn.Linear(2 * width, width, bias=False)
        for layer in (self.key, self.query, self.score, self.out):
            if layer is not None:
                nn.init.xavier_normal_(layer.weight)

    def remember(self, steps: Tensor, lengths: Tensor) -> Memory:
        """Prepare encoded clips for attention. [B, T, width], [B]"""
        return Memory(steps, self.key(steps), frame_mask(lengths, steps.shape[1]))

    def forward(self, state: Tensor, memory: Memory) -> Tensor:
        """[B, width] -> [B, width]"""
        if self.query is None or self.score is None:
            scores = (memory.keys @ state[:, :, None])[:, :, 0]
        else:
            scores = self.score((memory.keys + self.query(state)[:, None]).tanh())[:, :, 0]
        weights = scores.float().masked_fill(~memory.real, -torch.inf).softmax(dim=1).to(memory.values.dtype)
        found = (weights[:, None] @ memory.values)[:, 0]
        return self.out(torch.cat([state, found], dim=1))


def _gru(read: int, width: int) -> nn.GRU:
    """One GRU layer, whose initial state is zero."""
    return nn.GRU(read, width, batch_first=True)
