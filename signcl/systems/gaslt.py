"""GASLT: the Sign Language Transformer with gloss attention, in which a frame attends to a few positions near it.

The encoder's self-attention costs O(T) instead of O(T^2): each frame attends to K positions around it, shifted by
predicted offsets and interpolated between two frames. The transfer of sentence similarity is a loss term
(`signcl.losses.sentence_similarity_loss`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from signcl.data.bounds import bounded
from signcl.data.text import Tokenizer
from signcl.data.text.word_vectors import read_vectors
from signcl.systems.base import Start, register
from signcl.systems.parts.official import Checkpoint, Published
from signcl.systems.parts.official_slt import published_slt
from signcl.systems.parts.transformer import Attention
from signcl.systems.slt import SLT
from signcl.systems.terms.shared import frame_contrast, sentence_similarity, translation

__all__ = ["GASLT", "Edge", "LocalAttention", "neighbours"]

Edge = Literal["stop", "wrap", "released"]


def neighbours(places: Tensor, lengths: Tensor, padded: int, edge: Edge) -> tuple[Tensor, Tensor]:
    """For each real-valued position, the two frames on either side and their interpolation weights.

    A position p between frames f and f + 1 has weight 1 - (p - f) for f and p - f for f + 1.

    Args:
        places: positions in frames, counted from 0; may lie outside the clip. [B, ...]
        lengths: real frames of each clip. [B]
        padded: T.
        edge: what to do with a position outside the clip.
            stop: use the nearest frame, the first or the last one;
            wrap: use p mod length, as if the clip were a ring (the published formula);
            released: use p mod (length - 1), then reproduce torch's grid_sample called with align_corners=False on
                coordinates normalised for True. That reads position p T / (T - 1) - 1/2, counts frames outside the
                padded tensor as zeros, and halves the result, since the same mismatch puts the image's only row half
                outside. It depends on the padding and can read it.

    Returns:
        Frame indices (long) and weights (at least float32), both [B, ..., 2]
    """
    places = places.to(torch.promote_types(places.dtype, torch.float32))  # bfloat16 holds integers only up to 256
    length = lengths.to(places).view(-1, *[1] * (places.dim() - 1))
    if edge == "released":
        # for a one-frame clip the released code divides by zero; here it counts as two frames
        places = places.remainder((length - 1).clamp(min=1)) * (padded / max(padded - 1, 1)) - 0.5
        lower = places.floor()
        frames = torch.stack([lower, lower + 1], dim=-1)
        share = torch.stack([1 - (places - lower), places - lower], dim=-1)
        inside = (frames >= 0) & (frames < padded)
        return frames.long().clamp(0, padded - 1), 0.5 * share * inside
    if edge == "wrap":
        places = places.remainder(length)
        places = torch.where(places < length, places, 0.0)  # -1e-9 mod 7 rounds to 7
        lower = places.floor()
        upper = torch.where(lower + 1 < length, lower + 1, 0.0)
    else:
        places = torch.minimum(places.clamp(min=0), length - 1)
        lower = places.floor()
        upper = torch.minimum(lower + 1, length - 1)
    share = torch.stack([1 - (places - lower), places - lower], dim=-1)
    frames = torch.stack([lower, upper], dim=-1).long()
    return frames.clamp(0, padded - 1), share  # a NaN position gets an arbitrary index and a NaN weight


class LocalAttention(Attention):
    """Gloss attention: each frame attends to K positions near it, different ones in each head.

    place_k(t) = t + r_k + o_k(q_t), o = a linear map of the query; attention reads the keys and values interpolated
    there. It has w H K + H K parameters more than `Attention` (width w, heads H). Memory O(B T K w); no [T, T].

    Args:
        width, heads, dropout: as in `Attention`.
        keys: K, number of positions that a frame attends to.
        edge: see `neighbours`. "released" also counts r from -floor((K + 1) / 2), -4 to 2 for 7 keys; else -3 to 3.

    Source: Yin et al. 2023 (GASLT), section 3.2.
    """

    def __init__(self, width: int, heads: int, dropout: float, *, keys: int = 7, edge: Edge = "stop") -> None:
        super().__init__(width, heads, dropout)
        if keys < 1:
            raise ValueError(f"model.keys: needs at least 1 position to attend to, got {keys}.")
        self.keys, self.edge = keys, edge
        self.first = -((keys + 1) // 2) if edge == "released" else -((keys - 1) // 2)
        self.offset = nn.Linear(width, heads * keys)

    def among(self, states: Tensor, mask: Tensor) -> Tensor:
        """Attention of each frame to positions near it. [B, T, width], [B, T] True = real -> [B, T, width]"""
        clips, padded, width = states.shape
        queries = self.query(states)
        offsets = self.offset(queries).unflatten(2, (self.heads, self.keys))  # [B, T, H, K]
        frame = torch.arange(padded, device=states.device, dtype=torch.float32)[:, None, None]
        reference = self.first + torch.arange(self.keys, device=states.device)
        index, share = neighbours(frame + reference + offsets, mask.sum(dim=1), padded, self.edge)  # [B, T, H, K, 2]
        # one row per clip, frame and head, so that one gather fetches keys and values together
        rows = torch.cat([x.unflatten(2, (self.heads, -1)) for x in (self.key(states), self.value(states))], dim=3)
        rows = rows.flatten(0, 2)  # [B T H, 2 width / H]
        row = torch.arange(clips, device=states.device)[:, None, None, None, None] * padded + index
        row = row * self.heads + torch.arange(self.heads, device=states.device)[:, None, None]
        share = share.to(rows.dtype)
        # two gathers with `embedding`: on a CPU twice as fast, including backward, as gathering pairs and summing them
        found = nn.functional.embedding(row[..., 0], rows) * share[..., :1]
        found = found + nn.functional.embedding(row[..., 1], rows) * share[..., 1:]
        keys, values = found.chunk(2, dim=4)  # [B, T, H, K, width / H]
        scores = (queries.unflatten(2, (self.heads, 1, -1)) * keys).sum(dim=4) * (width // self.heads) ** -0.5
        weights = scores.to(torch.promote_types(scores.dtype, torch.float32)).softmax(dim=3).to(values.dtype)
        weights = nn.functional.dropout(weights, self.dropout, self.training)
        out: Tensor = self.out((weights[..., None] * values).sum(dim=3).flatten(2))
        return out


@register
class GASLT(SLT):
    """Translates clips to sentences, with gloss attention.

    It has E (w H K + H K) parameters more than NSLT (see `SLT`; E encoder layers, width w, H heads, K keys), and with
    words of size e in place of w it has V (w - e) - (e w + w) fewer. The original reads I3D features of windows.

    Source: Yin et al. 2023, released code YinAoXiong/GASLT; defects in docs/paper-vs-code.md.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(SLT.Config):
        """`model` section of a GASLT recipe: local gloss attention and the transfer of sentence similarity."""

        name: str = "gaslt"
        form: Literal["fixed", "as_released"] = "fixed"
        """as_released: read positions outside the clip as the released code does (docs/systems/gaslt.md)."""
        keys: int = bounded(7, low=1, high=1000)
        """Positions around each frame that each head attends to, shifted by predicted offsets."""
        edge: Literal["stop", "wrap"] = "stop"
        """Positions outside the clip: stop reads the first or last frame, wrap continues at the other end (the
        published formula). model.form=as_released has its own rule."""
        embedding_dropout: float | None = bounded(None, low=0, below=1)
        """Dropout of frame and word embeddings, if different from model.dropout. Released: 0.1, with model.dropout
        0.5."""
        word_dim: int | None = bounded(None, low=1, high=65_536)
        """Size of a word vector, which is then mapped to model.width; None: model.width, without a map. Released:
        300."""
        word_vectors: str = ""
        """pretrained:FILE of word vectors that initialise the word embeddings: word2vec text (.txt, .vec, also .gz) or
        binary (.bin). Released: BPEmb, German, 25 000 pieces."""
        sentence_encoder: str = "tfidf"
        """How the similarity of two sentences is measured: tfidf (of the training sentences), or
        pretrained:FOLDER_OR_HUB_ID of a transformers or sentence-transformers encoder. Released:
        distiluse-base-multilingual-cased."""

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.sentence_encoder != "tfidf" and not self.sentence_encoder.startswith("pretrained:"):
                raise ValueError(
                    f"model.sentence_encoder: needs tfidf or pretrained:FOLDER, got {self.sentence_encoder!r}"
                )
            if self.word_vectors and not self.word_vectors.startswith("pretrained:"):
                raise ValueError(f"model.word_vectors: needs pretrained:FILE, got {self.word_vectors!r}")

    title: ClassVar = (
        "GASLT: Sign Language Transformer with local gloss attention and a sentence-similarity loss (Table 2)"
    )
    label: ClassVar = "GASLT"
    needs: ClassVar = "features (or frames) and sentences; optionally word vectors and a pretrained sentence encoder"
    terms: ClassVar = {
        "translation": translation,
        "sentence_similarity": sentence_similarity,
        "signcl": frame_contrast,
    }
    default: ClassVar[tuple[str, ...]] = ("translation", "sentence_similarity")

    checkpoint: ClassVar[str] = "gaslt"
    checkpoint_marks: ClassVar[tuple[str, ...]] = (
        "sgn_embed.ln.weight",
        "encoder.layers.0.src_src_att.sample_offsets.weight",
    )

    config: Config

    @classmethod
    def published(cls, given: Checkpoint) -> Published:
        """A GASLT checkpoint in the format of neccam/slt, with the SentencePiece model of its words."""
        found = published_slt(given, cls.checkpoint)
        state, width = given.tensors, found.model["width"]
        offsets = len(state["encoder.layers.0.src_src_att.sample_offsets.bias"])
        size = state["txt_embed.lut.weight"].shape[1]
        own = {
            "keys": offsets // found.model["heads"],
            "word_dim": None if size == width else size,
            "form": "as_released",
        }
        return replace(found, model={**found.model, **own})

    def attention(self) -> Callable[[], Attention]:
        """Factory of gloss attention, which replaces the encoder's self-attention."""
        c = self.config
        edge: Edge = "released" if c.form == "as_released" else c.edge
        return lambda: LocalAttention(c.width, c.heads, c.attention_dropout, keys=c.keys, edge=edge)

    def keeps_padding(self) -> bool:
        """True for the released form, whose attention reads slightly past the end of a clip."""
        return self.config.form == "as_released"

    def embedding_dropout(self) -> float | None:
        """`model.embedding_dropout`."""
        return self.config.embedding_dropout

    def word_dim(self) -> int | None:
        """`model.word_dim`."""
        return self.config.word_dim

    def load_published(self, start: Start) -> list[str]:
        """Initialise word embeddings from a file of word vectors; words missing from the file keep their random
        vectors."""
        source = self.config.word_vectors
        if not source:
            return []
        if start.tokenizer is None:
            raise ValueError("model.word_vectors needs a tokenizer, whose words get the vectors")
        return [f"word embeddings from {source}: {self._take_words(source, start.tokenizer)}"]

    @torch.no_grad()
    def _take_words(self, source: str, tokenizer: Tokenizer) -> str:
        pieces, table = tokenizer.pieces(), self.decoder.words.weight
        found = read_vectors(source.removeprefix("pretrained:"), set(pieces))
        if not found:
            raise ValueError(
                f"model.word_vectors={source}: it has none of the {len(pieces)} words of this run's tokenizer; both "
                f"must split sentences the same way, e.g. BPEmb vectors and BPEmb's SentencePiece model"
            )
        size = len(next(iter(found.values())))
        if size != table.shape[1]:
            raise ValueError(
                f"model.word_vectors={source}: vectors of size {size}, but word embeddings have {table.shape[1]}; set "
                f"model.word_dim={size}"
            )
        known = [i for i, piece in enumerate(pieces) if piece in found and i != tokenizer.pad_id]
        table[known] = torch.tensor([found[pieces[i]].tolist() for i in known], dtype=table.dtype)
        absent = [piece for piece in pieces if piece not in found]
        few = f", e.g. {' '.join(absent[-3:])}" if absent else ""
        return f"{len(known)} of {len(pieces)} words found; {len(absent)} keep random vectors{few}"
