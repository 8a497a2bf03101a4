"""The data structures shared by readers, models and losses: `Sample`, `Span`, `Batch`, and `frame_mask`.

This module is the legend of shapes for the package. It reads no files and knows no models.

    B   clips in a batch              N   frames of all clips of a batch, concatenated ("packed")
    T   frames of the longest clip    D   feature size
    S   steps after temporal pooling  U, G   text tokens, glosses of a sentence
    V, C   text vocabulary, gloss classes (0 = CTC blank)     K   gloss types (density)

Frames are passed *packed*, as `[N, ...]` without padding rows, so a frame encoder spends no time on padding and its
batch statistics do not include it. `unpack` turns encoded rows into `[B, T, D]`.
Lengths are passed, masks are not: the only mask is `frame_mask`, True = real.
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
    """Confidence of the aligner (mean log-probability), or 1.0 for ground truth of the corpus."""
    peak: int | None = field(default=None, compare=False)
    """The frame of the clip on which the aligner is surest, if a table of spans gives it."""


@dataclass(frozen=True)
class Segment:
    """The part of a longer file that holds one sentence.

    Times are seconds from the beginning of the file, as in a player. A frame belongs to the segment if the middle of
    its display time does, so rounding times to milliseconds does not change the frames.
    """

    start: float
    """In `unit`, from 0."""
    stop: float
    """In `unit`, exclusive."""
    unit: Literal["seconds", "frames"] = "seconds"
    fps: float | None = None
    """Frames per second, for files without a frame rate: folders of images, features."""
    row: str = ""
    """The line of the table that defines the segment (`train.tsv:17`), for messages."""

    def __str__(self) -> str:
        return f"{self.start:.15g}-{self.stop:.15g} {self.unit}"

    def at(self, fps: float) -> range:
        """The frames of the segment at a constant frame rate."""
        if self.unit == "frames":
            return range(int(self.start), int(self.stop))
        # frame n is shown from n / fps to (n + 1) / fps
        return range(math.ceil(self.start * fps - 0.5 - EDGE), math.ceil(self.stop * fps - 0.5 - EDGE))

    def error(self, what: str) -> ValueError:
        """An error that names the line of the table."""
        return ValueError(f"{self.row or 'segment'}: the segment {self} {what}")


EDGE = 1e-6  # frames: tolerance so that a frame whose middle is on an edge belongs to the segment that begins there


@dataclass(frozen=True)
class Sample:
    """One signed sentence of a corpus. Exactly one of `clip` and `features` is set and gives its frames."""

    name: str
    """Unique within its split."""
    text: str
    """The sentence exactly as in the corpus: never tokenized or round-tripped. Empty in a corpus with glosses only."""
    clip: Path | None = None
    """A video file or a folder of frame images."""
    features: Path | tuple[Path, ...] | np.ndarray | None = field(default=None, repr=False, compare=False)
    """A .npy/.npz/.pose file or feature store, or the array itself. [T, D] Several are concatenated along D."""
    gloss: tuple[str, ...] = ()
    """Gloss annotation, if the corpus has one; never used in gloss-free training."""
    signer: str = ""
    num_frames: int | None = None
    """Number of frames, if the corpus gives it without opening the clip."""
    spans: tuple[Span, ...] = ()
    """Frames of each sign, if known, in order of time."""
    sentences: tuple[Span, ...] = ()
    """Frames of each sentence of a recording with several (`signcl corpus join`), in order of time; the token is the
    sentence. `text` then has all of them."""
    cut: tuple[int, int] | None = None
    """For a part of a clip (`corpus.isolated`): its first frame and one past its last."""
    whole: str = ""
    """For a part of a clip: the name of the full clip, under which extracted features are found."""
    segment: Segment | None = None
    """The part of the file to read, if several sentences share a file. `num_frames`, `spans` and `cut` count from the
    first frame of the segment."""
    language: str = ""
    """The language of `text` as written in the corpus, if known: `de`, `deu`, `German`."""

    @property
    def signed(self) -> str:
        """The signed content: the sentence, or the glosses in a corpus without sentences."""
        return self.text or " ".join(self.gloss)


@dataclass
class Batch:
    """Clips and sentences, ready for a model. Only `to` moves it to a device."""

    names: list[str]
    texts: list[str]
    inputs: Tensor
    """Packed frames: uint8 RGB [N, H, W, 3], or float features [N, D]."""
    positions: Tensor
    """Position of row n in the padded [B*T] layout. [N] long"""
    lengths: Tensor
    """Frames of each clip. [B] long"""
    max_length: int
    """T, known on the host to avoid waiting for the device."""
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
    """Equal numbers for equal sentences, so that a contrast does not push duplicates apart. [B] long"""
    glosses: Tensor | None = None
    """Gloss classes, 1..C-1, padded with 0. [B, G] long"""
    gloss_lengths: Tensor | None = None
    """[B] long"""
    targets: dict[str, Tensor] = field(default_factory=dict)
    """Further targets per sentence, by name of the loss term that needs them (`signcl.systems.targets`): e.g.
    `sentence_similarity` [B, E], `pseudo_gloss` [B, P]."""
    languages: tuple[str, ...] = ()
    """`Sample.language` of each clip, for systems that use a language."""
    host_lengths: tuple[int, ...] = ()
    """Copy of `lengths` on the host, for sizes that the host needs; set automatically."""

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
        """Returns the batch with all tensors on `device` (uint8 frames are copied as uint8)."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """Returns the batch in page-locked memory, from which a GPU can copy asynchronously."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        changed: dict[str, Any] = {k: change(v) for k, v in vars(self).items() if isinstance(v, torch.Tensor)}
        changed["targets"] = {k: change(v) for k, v in self.targets.items()}
        return replace(self, **changed)


def frame_mask(lengths: Tensor, max_length: int) -> Tensor:
    """Mask of the real (not padded) positions: True = real.

    Args:
        lengths: number of real positions of each row. [B]
        max_length: T, the padded size.

    Returns:
        Bool mask. [B, T]
    """
    return torch.arange(max_length, device=lengths.device)[None, :] < lengths[:, None]


def pack_positions(lengths: list[int]) -> Tensor:
    """Where each packed row stands in the flattened padded layout `[B * T]`, with T = max(lengths).

    Args:
        lengths: frames of each clip. B numbers

    Returns:
        Positions, for `unpack`. [N] long, N = sum(lengths)
    """
    longest = max(lengths)
    return torch.cat([torch.arange(length) + row * longest for row, length in enumerate(lengths)])


def unpack(rows: Tensor, positions: Tensor, batch_size: int, max_length: int) -> Tensor:
    """Converts packed rows to the padded layout; padding is exactly zero.

    Args:
        rows: one row per real frame. [N, D]
        positions: from `pack_positions`. [N]
        batch_size: B.
        max_length: T, frames of the longest clip.

    Returns:
        Padded rows. [B, T, D]
    """
    padded = rows.new_zeros(batch_size * max_length, rows.shape[-1])
    return padded.index_copy(0, positions, rows).view(batch_size, max_length, -1)


def padded_to(batch: Batch, multiple: int, pad_id: int) -> Batch:
    """Pads T to a multiple of `multiple` frames, and U to a multiple of a fourth of that, so that shapes repeat.

    Packed frames do not change and have no padding.

    Args:
        batch: the batch; it is not changed.
        multiple: in frames, `train.pad_to` of a recipe; with 1, the batch is returned as it is.
        pad_id: padding id of the tokenizer.
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
