"""GASLT: the Sign Language Transformer with gloss attention, in which a frame attends to a few places near it.

The encoder's self-attention costs O(T) in place of O(T^2): a frame looks at K places around it, moved by offsets that
it predicts itself, between two frames where they fall there. Takes plain numbers, reads no file, computes no loss; the
transfer of sentence similarity is a loss term (`signcl.losses.sentence_similarity_loss`).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from signcl.systems.parts.transformer import Attention
from signcl.systems.slt import SLT

__all__ = ["GASLT", "Edge", "LocalAttention", "neighbours"]

Edge = Literal["stop", "wrap", "released"]


def neighbours(places: Tensor, lengths: Tensor, padded: int, edge: Edge) -> tuple[Tensor, Tensor]:
    """The two frames that a real-valued place lies between, and the weight of each.

    A place p between frames f and f + 1 gets (1 - (p - f)) of the one and (p - f) of the other.

    Args:
        places: in frames, counted from 0; may lie outside the clip. [B, ...]
        lengths: real frames of each clip. [B]
        padded: T.
        edge: what a place outside the clip means.
            stop: its nearest frame, the first or the last one;
            wrap: p mod length, so that the clip is a ring (the published formula);
            released: p mod (length - 1), then as torch's grid_sample places it when coordinates are normalised for
                align_corners=True and it is called with False: at p T / (T - 1) - 1/2, where frames outside the padded
                tensor count as zeros, and the whole halved, since the same mismatch puts the one row of the image half
                outside. It depends on the padding and can read it.

    Returns:
        Frame numbers, long, and weights, float32 at least. Twice [B, ..., 2]
    """
    places = places.to(torch.promote_types(places.dtype, torch.float32))  # bfloat16 counts to 256 only
    length = lengths.to(places).view(-1, *[1] * (places.dim() - 1))
    if edge == "released":
        # one frame: the released code divides by zero; here it counts as two
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
    return frames.clamp(0, padded - 1), share  # a place that is NaN has no number; its weight is NaN, and so the loss


class LocalAttention(Attention):
    """Gloss attention: each frame attends to K places near it, in every head to its own.

    place_k(t) = t + r_k + o_k(q_t), o = a linear map of the query; attention over keys and values interpolated there.
    It has w H K + H K parameters more than `Attention` (width w, heads H). Memory O(B T K w); no [T, T].

    Args:
        width, heads, dropout: as of `Attention`.
        keys: K, places that a frame attends to.
        edge: see `neighbours`. "released" also counts r from -floor((K + 1) / 2), -4 to 2 for 7 keys; else -3 to 3.

    Source: Yin et al. 2023 (GASLT), section 3.2.
    """

    def __init__(self, width: int, heads: int, dropout: float, *, keys: int = 7, edge: Edge = "stop") -> None:
        super().__init__(width, heads, dropout)
        if keys < 1:
            raise ValueError(f"model.gaslt.keys: needs at least 1 place to attend to, got {keys}.")
        self.keys, self.edge = keys, edge
        self.first = -((keys + 1) // 2) if edge == "released" else -((keys - 1) // 2)
        self.offset = nn.Linear(width, heads * keys)

    def among(self, states: Tensor, mask: Tensor) -> Tensor:
        """The frames of a clip attend to places near them. [B, T, width], [B, T] True = real -> [B, T, width]"""
        clips, padded, width = states.shape
        queries = self.query(states)
        offsets = self.offset(queries).unflatten(2, (self.heads, self.keys))  # [B, T, H, K]
        frame = torch.arange(padded, device=states.device, dtype=torch.float32)[:, None, None]
        reference = self.first + torch.arange(self.keys, device=states.device)
        index, share = neighbours(frame + reference + offsets, mask.sum(dim=1), padded, self.edge)  # [B, T, H, K, 2]
        # one row per clip, frame and head, so that a gather fetches keys and values together
        rows = torch.cat([x.unflatten(2, (self.heads, -1)) for x in (self.key(states), self.value(states))], dim=3)
        rows = rows.flatten(0, 2)  # [B T H, 2 width / H]
        row = torch.arange(clips, device=states.device)[:, None, None, None, None] * padded + index
        row = row * self.heads + torch.arange(self.heads, device=states.device)[:, None, None]
        share = share.to(rows.dtype)
        # two gathers by `embedding`: on a CPU twice as fast, backward included, as one of pairs that are then summed
        found = nn.functional.embedding(row[..., 0], rows) * share[..., :1]
        found = found + nn.functional.embedding(row[..., 1], rows) * share[..., 1:]
        keys, values = found.chunk(2, dim=4)  # [B, T, H, K, width / H]
        scores = (queries.unflatten(2, (self.heads, 1, -1)) * keys).sum(dim=4) * (width // self.heads) ** -0.5
        weights = scores.to(torch.promote_types(scores.dtype, torch.float32)).softmax(dim=3).to(values.dtype)
        weights = nn.functional.dropout(weights, self.dropout, self.training)
        out: Tensor = self.out((weights[..., None] * values).sum(dim=3).flatten(2))
        return out


class GASLT(SLT):
    """Clips in, sentences out, through gloss attention.

    It has E (w H K + H K) parameters more than NSLT (see `SLT`; E encoder layers, width w, H heads, K keys), and with
    words of size e in place of w it has V (w - e) - (e w + w) fewer.

    Args:
        visual: frame encoder with attribute `dim`; the original reads I3D features of windows.
        keys, edge: of `LocalAttention`.
        word_dim: size of a word vector, mapped to `width`; published 300.
        vocab_size, pad_id, start_id, end_id, num_glosses, width, encoder_layers, decoder_layers, heads, decoder_heads,
            ffn, dropout, attention_dropout, activation, tie_embeddings, signcl_tap, sync_norm, embedding_dropout: see
            `SLT`. The original has no gloss head.

    Source: Yin et al. 2023, released code YinAoXiong/GASLT; defects in docs/paper-vs-code.md.
    """

    def __init__(
        self,
        visual: nn.Module,
        *,
        vocab_size: int,
        pad_id: int,
        start_id: int,
        end_id: int,
        width: int = 512,
        encoder_layers: int = 2,
        decoder_layers: int = 2,
        heads: int = 8,
        decoder_heads: int | None = None,
        ffn: int = 2048,
        dropout: float = 0.5,
        attention_dropout: float = 0.5,
        activation: str = "relu",
        tie_embeddings: bool = False,
        signcl_tap: str = "embedding",
        sync_norm: bool = False,
        embedding_dropout: float | None = 0.1,
        word_dim: int | None = None,
        keys: int = 7,
        edge: Edge = "stop",
    ) -> None:
        super().__init__(
            visual,
            vocab_size=vocab_size,
            pad_id=pad_id,
            start_id=start_id,
            end_id=end_id,
            width=width,
            encoder_layers=encoder_layers,
            decoder_layers=decoder_layers,
            heads=heads,
            decoder_heads=decoder_heads,
            ffn=ffn,
            dropout=dropout,
            attention_dropout=attention_dropout,
            activation=activation,
            tie_embeddings=tie_embeddings,
            signcl_tap=signcl_tap,
            sync_norm=sync_norm,
            embedding_dropout=embedding_dropout,
            word_dim=word_dim,
            attention=lambda: LocalAttention(width, heads, attention_dropout, keys=keys, edge=edge),
        )
