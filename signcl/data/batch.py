"""What travels between files, models and losses: `Sample`, `Span`, `Batch`, and the one mask.

This file is the legend of shapes for the whole package; nothing here reads a file or knows a model.

    B   clips in a batch              N   frames of all clips of a batch, one after the other ("packed")
    T   frames of the longest clip    D   feature size
    S   steps after temporal pooling  U, G   text tokens, glosses of a sentence
    V, C   text vocabulary, gloss classes (0 = CTC blank)     K   gloss types (density)

Frames travel *packed*: `[N, ...]` with no padding row at all, so that a frame encoder never spends time on
padding and never sees it in its batch statistics. `unpack` turns encoded rows into `[B, T, D]`.
Lengths travel, masks do not: the only mask is `frame_mask`, True = real.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

__all__ = ["Batch", "Sample", "Segment", "Span", "frame_mask", "pack_positions", "padded_to", "unpack"]


@dataclass(frozen=True)
class Span:
    """The frames of one sign in one clip."""

    token: str | int
    """The gloss (a string in a corpus, a class number in an aligner)."""
    start: int
    """First frame, counted from 0."""
    stop: int
    """One past the last frame."""
    score: float = 1.0
    """How sure the aligner is (mean log-probability), or 1.0 for the corpus's own truth."""
    peak: int | None = field(default=None, compare=False)
    """The frame of the clip on which the aligner is surest, where a table of spans says so."""


@dataclass(frozen=True)
class Segment:
    """The part of a longer file that one sentence is.

    Times are those of a player: seconds from the beginning of the file. A frame belongs to the segment when the middle
    of the time that it is shown does, so that a time which is rounded to milliseconds gives the same frames.
    """

    start: float
    """In `unit`, from 0."""
    stop: float
    """In `unit`, exclusive."""
    unit: Literal["seconds", "frames"] = "seconds"
    fps: float | None = None
    """Frames a second, for files that do not say: folders of images, features."""
    row: str = ""
    """The line of the table that says so (`train.tsv:17`), for messages."""

    def __str__(self) -> str:
        return f"{self.start:.15g}-{self.stop:.15g} {self.unit}"

    def at(self, fps: float) -> range:
        """The frames at a constant rate."""
        if self.unit == "frames":
            return range(int(self.start), int(self.stop))
        # frame n is shown from n / fps to (n + 1) / fps
        return range(math.ceil(self.start * fps - 0.5 - EDGE), math.ceil(self.stop * fps - 0.5 - EDGE))

    def error(self, what: str) -> ValueError:
        """A complaint that names the line of the table."""
        return ValueError(f"{self.row or 'segment'}: the segment {self} {what}")


EDGE = 1e-6  # frames: a middle that falls on an edge, up to rounding, belongs to the segment that begins there


@dataclass(frozen=True)
class Sample:
    """One signed sentence of a corpus. Exactly one of `clip` and `features` says where its frames are."""

    name: str
    """Unique within its split."""
    text: str
    """The sentence as the corpus writes it: never tokenized, never round-tripped. Empty in a corpus of glosses only."""
    clip: Path | None = None
    """A video file or a folder of frame images."""
    features: Path | tuple[Path, ...] | np.ndarray | None = field(default=None, repr=False, compare=False)
    """A .npy/.npz/.pose file or feature store, or the array itself. [T, D] Several are put side by side."""
    gloss: tuple[str, ...] = ()
    """Gloss annotation where the corpus has one; never used in gloss-free training."""
    signer: str = ""
    num_frames: int | None = None
    """Frames, where the corpus says it without opening the clip."""
    spans: tuple[Span, ...] = ()
    """Frames of each sign where the corpus knows them, in order of time."""
    sentences: tuple[Span, ...] = ()
    """Frames of each sentence, of a recording that holds several (`signcl corpus join`), in order of time; the token is
    the sentence. Then `text` is all of them."""
    cut: tuple[int, int] | None = None
    """Where this is a part of a clip (`corpus.isolated`): its first frame and one past its last."""
    whole: str = ""
    """The name of the clip that it is a part of, under which features extracted before are found."""
    segment: Segment | None = None
    """The part of the file that this is, where several sentences share one. `num_frames`, `spans` and `cut` count
    from the first frame of the segment."""
    language: str = ""
    """The language of `text`, where the corpus says it: `de`, `deu`, `German`, as its table writes it."""

    @property
    def signed(self) -> str:
        """What was signed: the sentence, or the glosses of a corpus without sentences."""
        return self.text or " ".join(self.gloss)


@dataclass
class Batch:
    """Clips and sentences, ready for a model. `to` is the only method that moves it."""

    names: list[str]
    texts: list[str]
    inputs: Tensor
    """Packed frames: uint8 RGB [N, H, W, 3], or float features [N, D]."""
    positions: Tensor
    """Where row n goes in the padded [B*T] layout. [N] long"""
    lengths: Tensor
    """Frames of each clip. [B] long"""
    max_length: int
    """T, known on the host so that no step has to ask the device."""
    num_words: Tensor
    """Spoken words of each sentence, for the frame margin. [B] float"""
    tokens: Tensor | None = None
    """Token ids with their end marks, padded with the tokenizer's pad id. [B, U] long"""
    token_lengths: Tensor | None = None
    """[B] long"""
    masked_tokens: Tensor | None = None
    """The sentence with words replaced by the mask token (pretraining). [B, U'] long"""
    masked_token_lengths: Tensor | None = None
    """[B] long"""
    sentence_ids: Tensor | None = None
    """Equal numbers for equal sentences, so that a contrast does not push twins apart. [B] long"""
    glosses: Tensor | None = None
    """Gloss classes, 1..C-1, padded with 0. [B, G] long"""
    gloss_lengths: Tensor | None = None
    """[B] long"""
    targets: dict[str, Tensor] = field(default_factory=dict)
    """What a loss term needs of each sentence beside these, by the name of the term (`signcl.systems.targets`): e.g.
    `sentence_similarity` [B, E], `pseudo_gloss` [B, P]."""
    languages: tuple[str, ...] = ()
    """`Sample.language` of each clip, for systems that have a language."""
    host_lengths: tuple[int, ...] = ()
    """`lengths` again, made from it, for sizes that the host must know: a batch on a device keeps the host's copy."""

    @property
    def clip_of_row(self) -> Tensor:
        """The clip of each packed row. [N] long"""
        return torch.div(self.positions, self.max_length, rounding_mode="floor")

    def __post_init__(self) -> None:
        if self.lengths.device.type == "cpu" or len(self.host_lengths) != len(self.lengths):
            self.host_lengths = tuple(self.lengths.tolist())

    def __len__(self) -> int:
        return len(self.names)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with every tensor on `device` (uint8 frames cross as uint8)."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory, from which a GPU copies without being waited for."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        changed: dict[str, Any] = {k: change(v) for k, v in vars(self).items() if isinstance(v, torch.Tensor)}
        changed["targets"] = {k: change(v) for k, v in self.targets.items()}
        return replace(self, **changed)


def frame_mask(lengths: Tensor, max_length: int) -> Tensor:
    """Which positions of a padded layout are real: True = real.

    Args:
        lengths: valid positions of each row. [B]
        max_length: T, the padded size.

    Returns:
        Bool mask. [B, T]
    """
    return torch.arange(max_length, device=lengths.device)[None, :] < lengths[:, None]


def pack_positions(lengths: list[int]) -> Tensor:
    """Where each packed row belongs in the flattened padded layout [B * T], T = max(lengths). [N] long"""
    longest = max(lengths)
    return torch.cat([torch.arange(length) + row * longest for row, length in enumerate(lengths)])


def unpack(rows: Tensor, positions: Tensor, batch_size: int, max_length: int) -> Tensor:
    """Packed rows to the padded layout; padding is exactly zero.

    Args:
        rows: one row per real frame. [N, D]
        positions: from `pack_positions`. [N]

    Returns:
        Padded rows. [B, T, D]
    """
    padded = rows.new_zeros(batch_size * max_length, rows.shape[-1])
    return padded.index_copy(0, positions, rows).view(batch_size, max_length, -1)


def padded_to(batch: Batch, multiple: int, pad_id: int) -> Batch:
    """The same clips with T a multiple of so many frames, and U of a fourth of it, so that shapes repeat.

    Packed frames stay as they are, without padding. 1 changes nothing.
    """
    if multiple == 1:
        return batch
    longest = -(-batch.max_length // multiple) * multiple
    positions = batch.positions + batch.clip_of_row * (longest - batch.max_length)
    texts: dict[str, Any] = {}
    few = max(1, multiple // 4)
    for name in ("tokens", "masked_tokens"):
        tokens = getattr(batch, name)
        if tokens is not None:
            texts[name] = torch.nn.functional.pad(tokens, (0, -tokens.shape[1] % few), value=pad_id)
    return replace(batch, positions=positions, max_length=longest, **texts)
