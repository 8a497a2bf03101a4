"""From samples to batches: loading, thinning, caching, length buckets, collation.

All random choices are a function of (seed, epoch, sample), never of a generator's state. Resumed runs, other numbers of
workers and other cache sizes thus get exactly the same batches.
"""

from __future__ import annotations

import contextlib
import inspect
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from signcl.data.annotation.isolated import isolated
from signcl.data.batch import Batch, Sample, pack_positions
from signcl.data.corpora import CORPORA, load_samples
from signcl.data.features import read_features, side_by_side, with_features
from signcl.data.planning import plan_batches
from signcl.data.poses import other_layout
from signcl.data.progress import say, track
from signcl.data.sections import CorpusRecipe, InputRecipe, Reading
from signcl.data.segments import count_sample, read_clip, read_clip_into, read_rows
from signcl.data.text import GlossVocabulary, Tokenizer, count_words, mask_words
from signcl.data.video import clip_rate, frames_at, other_rate, probe
from signcl.data.video.timing import resample
from signcl.data.workers import ClipLoader, batch_memory

__all__ = [
    "Clip",
    "ClipDataset",
    "ClipLoader",
    "Loaded",
    "check_size",
    "clip_loader",
    "collate",
    "corpus_samples",
    "count_frames",
    "feature_dim",
    "frames_used",
    "load_raw",
    "plan_batches",
    "read_batches",
    "read_selected",
    "say_damaged",
    "select",
    "training_rate",
    "usable",
    "source_sizes",
]


@dataclass
class Loaded:
    """What a loader yields: a batch, the clips that could not be read, and messages of the readers."""

    batch: Batch | None
    """None if every clip of the batch was broken."""
    broken: list[tuple[str, str]] = field(default_factory=list)
    """(name, reason)."""
    cut: list[str] = field(default_factory=list)
    """Clips whose sentence was cut to `text.max_tokens`."""
    damaged: list[tuple[str, str]] = field(default_factory=list)
    """Clips that were read although some of their frames are broken: (name, what is broken)."""
    error: str = ""
    """Why these clips cannot form a batch. An exception would reach the training loop as a worker's traceback."""

    def checked(self) -> Loaded:
        """Returns itself; called in the main process.

        Raises:
            ValueError: with `error`, if set.
        """
        if self.error:
            raise ValueError(self.error)
        return self

    def pin_memory(self) -> Loaded:
        """Returns a copy in page-locked memory; never called in a worker, which must not use the GPU."""
        return replace(self, batch=self.batch and self.batch.pin_memory())


def corpus_samples(corpus: CorpusRecipe, split: str, root: str | Path | None = None, *, seed: int = 0) -> list[Sample]:
    """The samples of a split for a recipe, with `corpus.fraction` applied to the training split.

    A reader with an option `fraction` (imu_numbers, whose statistics must come from the used part only) gets it for
    every split. For other corpora, a random share of the training samples is kept, in their order. With the same seed,
    a smaller share is a subset of a larger one.

    Args:
        root: the corpus folder, if it is not the recipe's.
        seed: seed of the share.
    """
    share, options = corpus.fraction, dict(corpus.options)
    own = "fraction" in inspect.signature(CORPORA[corpus.name]).parameters
    if own and share < 1:
        options = {"fraction": share, "seed": seed, **options}
    samples = load_samples(corpus.name, Path(root or corpus.root), split, **options)
    if corpus.features:
        sources = [corpus.features] if isinstance(corpus.features, str) else corpus.features
        samples = with_features(samples, *(Path(source.replace("{split}", split)) for source in sources))
    if not own and share < 1 and split == "train":
        order = np.random.default_rng(seed).permutation(len(samples))
        samples = [samples[i] for i in sorted(order[: max(1, round(share * len(samples)))].tolist())]
    if corpus.isolated:
        samples = isolated(samples, f"split {split} of corpus {corpus.name}")
    if corpus.transductive and split == "train":
        samples = samples + corpus_samples(corpus, "test", root, seed=seed)
        if len({sample.name for sample in samples}) < len(samples):
            raise ValueError("corpus.transductive: the train and test splits share names, so they cannot be merged")
    return samples


def first_frame(num_frames: int, recipe: InputRecipe, random: np.random.Generator | None) -> int:
    """The first frame to keep with `stride` and `stride_from`, or the last frame of a clip that is too short."""
    if recipe.stride_from == "first" or recipe.stride == 1:
        return 0
    drawn = random is not None and recipe.stride_from == "random"
    first = int(random.integers(recipe.stride)) if drawn and random is not None else (recipe.stride - 1) // 2
    return min(first, num_frames - 1)


def thin(num_frames: int, recipe: InputRecipe, random: np.random.Generator | None) -> np.ndarray:
    """Chooses the frames of a clip to use: every `stride`-th, at most `max_frames`, in training optionally rescaled.

    `first_frame` is the first one. (In neccam/slt, a clip that ends before its first frame becomes empty.)

    If a clip is still too long, frames are drawn at random in training (`random` is given) and chosen evenly otherwise.
    With `thinning: window`, consecutive frames are kept, at a random position or from the middle. The released code
    draws at random in dev and test too, so its scores vary between runs.

    With `augment.temporal_rescale` r, a training clip of n frames gets (1 - r) n to (1 + r) n frames: fewer are a
    sorted random choice, more are drawn with repetition, in order. VAC also limits clips to 32..230 frames.
    """
    kept = np.arange(first_frame(num_frames, recipe, random), num_frames, recipe.stride)
    limit = recipe.max_frames
    if limit is not None and len(kept) > limit and recipe.thinning == "window":
        room = len(kept) - limit
        start = room // 2 if random is None else int(random.integers(room + 1))
        kept = kept[start : start + limit]
    if random is not None and (share := recipe.augment.temporal_rescale):
        wanted = max(1, round(len(kept) * random.uniform(1 - share, 1 + share)))
        wanted = wanted if limit is None else min(wanted, limit)
        kept = kept[np.sort(random.choice(len(kept), size=wanted, replace=wanted > len(kept)))]
    elif limit is not None and len(kept) > limit:
        if random is None:
            kept = kept[np.linspace(0, len(kept) - 1, limit).round().astype(int)]
        else:
            kept = kept[np.sort(random.choice(len(kept), size=limit, replace=False))]
    return kept


def load_raw(sample: Sample, recipe: InputRecipe, note: Callable[[str], None] | None = None) -> np.ndarray:
    """Reads all frames of a sample (only its own part if it is cut): uint8 RGB [T, H, W, 3] or float32 features [T, D].

    Args:
        note: as in `read_frames`.

    Raises:
        ValueError, OSError: the clip is missing, broken or empty, or its features are not finite numbers.
    """
    if sample.features is not None:
        if isinstance(sample.features, np.ndarray):
            rows = sample.features
        elif isinstance(sample.features, tuple):
            parts = [_rows(path, sample, recipe) for path in sample.features]
            rows = side_by_side(parts, sample.features, sample.whole or sample.name)
        else:
            rows = _rows(sample.features, sample, recipe)
        if sample.cut is not None:
            rows = rows[slice(*sample.cut)]
        rows = np.asarray(rows, dtype=np.float32)
        if rows.ndim != 2 or not len(rows):
            raise ValueError(f"features of {sample.name}: needs a non-empty array [frames, size], got {rows.shape}")
        if not np.isfinite(rows).all():
            raise ValueError(f"features of {sample.name}: {int((~np.isfinite(rows)).sum())} values are NaN or infinite")
        return rows
    if sample.clip is None:
        raise ValueError(f"{sample.name} has neither a clip nor features")
    only = None if sample.cut is None else range(*sample.cut)
    size = recipe.size and (recipe.size, recipe.size)
    return read_clip(sample, indices=only, size=size, fps=recipe.fps, damaged=recipe.damaged, note=note)


def _rows(path: Path, sample: Sample, recipe: InputRecipe) -> np.ndarray:
    """Features of a sample from one source. [T, D]"""
    if sample.segment is None:
        return read_features(path, sample.whole or sample.name, recipe.pose)
    return read_rows(sample, recipe.pose)


def window(height: int, width: int, recipe: InputRecipe, random: np.random.Generator | None) -> tuple[int, int]:
    """Top and left pixel of the crop of a clip: the same for all frames, random in training, central otherwise."""
    if recipe.crop is None:
        return 0, 0
    if min(height, width) < recipe.crop:
        raise ValueError(
            f"input.crop={recipe.crop} does not fit into frames of {width}x{height}; lower it or set input.size"
        )
    room = (height - recipe.crop, width - recipe.crop)
    if random is None:
        return room[0] // 2, room[1] // 2
    return int(random.integers(room[0] + 1)), int(random.integers(room[1] + 1))


def select(
    raw: np.ndarray,
    recipe: InputRecipe,
    random: np.random.Generator | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Selects and crops the frames of a clip for a model; `random` is given in training only.

    Args:
        out: memory for the result, used if its shape and type match exactly; otherwise new memory is allocated.
    """
    kept = thin(len(raw), recipe, random)
    if raw.ndim == 4:
        top, left = window(raw.shape[1], raw.shape[2], recipe, random)
        raw = raw[:, top : top + (recipe.crop or raw.shape[1]), left : left + (recipe.crop or raw.shape[2])]
    frames = _memory((len(kept), *raw.shape[1:]), raw.dtype, out)
    step = int(kept[1] - kept[0]) if len(kept) > 1 else 1
    if step > 0 and (np.diff(kept) == step).all():
        frames[:] = raw[kept[0] : kept[-1] + 1 : step]
    else:
        for row, frame in enumerate(kept):
            frames[row] = raw[frame]
    _mask(frames, recipe, random)
    return frames


def _memory(shape: tuple[int, ...], dtype: Any, out: np.ndarray | None) -> np.ndarray:
    """`out` if its shape and type match, else new memory."""
    fits = out is not None and out.shape == shape and out.dtype == dtype
    return out if fits and out is not None else np.empty(shape, dtype)


def _mask(frames: np.ndarray, recipe: InputRecipe, random: np.random.Generator | None) -> None:
    """Sets a share of `augment.mask_frames` of the frames to 0, in place."""
    if random is not None and (count := int(len(frames) * recipe.augment.mask_frames)):
        frames[random.choice(len(frames), size=count, replace=False)] = 0


def read_selected(
    sample: Sample,
    recipe: InputRecipe,
    draw: Callable[[], np.random.Generator | None] = lambda: None,
    out: np.ndarray | None = None,
    note: Callable[[str], None] | None = None,
) -> np.ndarray:
    """`select` of `load_raw` without a copy: frames are decoded directly into the result.

    Args:
        draw: returns a fresh generator for this clip and epoch at each call.
        out: as in `select`.
        note: as in `read_frames`.

    Raises:
        ValueError, OSError: as in `load_raw`, also for broken frames that are not selected.
    """
    if sample.features is not None or sample.clip is None:
        return select(load_raw(sample, recipe, note), recipe, draw(), out)
    random: np.random.Generator | None = None
    placed = False

    def choose(num_frames: int) -> np.ndarray:
        nonlocal random, placed
        random, placed = draw(), False
        return thin(num_frames, recipe, random)

    def allocate(count: int, height: int, width: int) -> tuple[np.ndarray, int, int]:
        nonlocal placed
        placed = True
        top, left = window(height, width, recipe, random)
        shape = (count, recipe.crop or height, recipe.crop or width, 3)
        return _memory(shape, np.uint8, out), top, left

    only = None if sample.cut is None else range(*sample.cut)
    size = recipe.size and (recipe.size, recipe.size)
    frames = read_clip_into(
        sample,
        choose,
        allocate,
        only=only,
        every=True,
        size=size,
        fps=recipe.fps,
        damaged=recipe.damaged,
        note=note,
    )
    if not placed:  # the header claimed more frames, so frames were drawn for the wrong length
        return select(load_raw(sample, recipe, note), recipe, draw(), out)
    _mask(frames, recipe, random)
    return frames


def training_rate(samples: Sequence[Sample], recipe: InputRecipe) -> float | None:
    """Frames per second in training: from the recipe, or from a sample of clips spread over the split.

    None if the clips have no rate, or several rates, in which case it prints a warning.
    """
    paths = [sample.clip for sample in samples if sample.clip is not None and sample.features is None]
    rates = []
    for path in paths[:: max(1, len(paths) // RATES_LOOKED_AT)]:
        with contextlib.suppress(ValueError, OSError):
            rates.append(clip_rate(path))
    known = sorted(rate for rate in rates if rate is not None)
    if recipe.fps is not None and paths and not known:
        say(f"input.fps={recipe.fps:g} has no effect: the clips are images or packed and have no frame times")
    if not known or recipe.fps is not None:
        return recipe.fps if known else None
    if other_rate(known[0], known[-1]):
        say(
            f"the training clips have several rates, {known[0]:.4g} to {known[-1]:.4g} frames per second, so a sign "
            f"has different numbers of frames; input.fps={known[len(known) // 2]:.4g} resamples them to one rate"
        )
        return None
    return known[len(known) // 2]


RATES_LOOKED_AT = 20


def feature_dim(samples: Sequence[Sample], settings: InputRecipe) -> int | None:
    """Size of the features of a corpus, from the first readable sample; None for a corpus of clips."""
    reason = "there are no samples"
    for sample in samples:
        if sample.features is None:
            return None
        try:
            return int(load_raw(sample, settings).shape[1])
        except (ValueError, OSError) as error:
            reason = str(error)
    raise ValueError(f"no features of the split can be read ({reason}); try `signcl corpus check`")


def source_sizes(samples: Sequence[Sample], settings: InputRecipe) -> list[int]:
    """Sizes of the sources of features that are read side by side, from the first readable sample; [] if there is one
    source."""
    for sample in samples:
        if not isinstance(sample.features, tuple):
            return []
        with contextlib.suppress(ValueError, OSError):
            return [_rows(path, sample, settings).shape[1] for path in sample.features]
    return []


def check_size(samples: Sequence[Sample], settings: InputRecipe, dim: int | None) -> None:
    """Raises an error if the features do not have the size that a trained model needs (None: the model uses pixels)."""
    if dim is not None and samples and (size := feature_dim(samples, settings)) not in (None, dim):
        raise ValueError(
            other_layout(dim, size or 0)
            or f"the model needs features of size {dim}, but these clips have {size}; extract them the same way as the "
            f"features it was trained on"
        )


def count_frames(samples: Sequence[Sample], recipe: InputRecipe) -> list[int]:
    """Frames of each sample after thinning, for length buckets; does not decode clips whose length is known.

    A clip that cannot be opened counts as 1 frame and is reported when it is loaded.
    """
    return [len(thin(count, recipe, None)) for count in _count_raw(samples, recipe.fps)]


def frames_used(samples: Sequence[Sample], recipe: InputRecipe) -> list[tuple[np.ndarray, int]]:
    """The frames of each clip used outside training, numbered as in its annotation, and its number of frames.

    A clip that cannot be opened counts as 1 frame and is reported when it is loaded.
    """
    counts = _count_raw(samples, None)
    used = []
    for sample, count in zip(samples, counts):
        rows = None
        if recipe.fps is not None and sample.clip is not None:
            only = None if sample.cut is None else range(*sample.cut)
            with contextlib.suppress(ValueError, OSError):
                if sample.segment is None:
                    rows = frames_at(sample.clip, recipe.fps, only)
                elif rate := clip_rate(sample.clip):  # assumes evenly spaced frames in a segment
                    inside = np.arange(count_sample(sample)) if only is None else np.array(only)
                    rows = inside[resample(np.arange(len(inside)) / rate, len(inside) / rate, recipe.fps)]
        if rows is None:
            used.append((thin(count, recipe, None), count))
            continue
        rows = rows - (0 if sample.cut is None else sample.cut[0])
        used.append((rows[thin(len(rows), recipe, None)], max(count, int(rows[-1]) + 1)))
    return used


def _count_raw(samples: Sequence[Sample], fps: float | None) -> list[int]:
    """Frames of each sample before thinning, at least 1."""
    unknown = sum(sample.num_frames is None and not isinstance(sample.features, np.ndarray) for sample in samples)
    with track("counting frames", total=len(samples), show=unknown > 500) as bar:
        return [max(1, bar.each(_frames(sample, fps))) for sample in samples]


def _frames(sample: Sample, fps: float | None = None) -> int:
    """Number of frames of a sample, from its corpus, its array or the header of its file; 1 if it cannot be read.

    Args:
        fps: for a video, estimate the number of frames at this rate.
    """
    if fps is not None and sample.clip is not None:
        with contextlib.suppress(ValueError, OSError):
            count = count_sample(sample, fps)
            if sample.cut is None:
                return count
            return max(1, round(count * (sample.cut[1] - sample.cut[0]) / count_sample(sample)))
        return 1
    if sample.num_frames is not None:
        return sample.num_frames
    with contextlib.suppress(ValueError, OSError):
        return count_sample(sample)
    return 1


@dataclass
class Clip:
    """One clip as returned by a worker."""

    frames: np.ndarray | None = None
    """Its frames, if they are not in the memory provided for them."""
    shape: tuple[int, ...] = ()
    """Shape of its frames."""
    reason: str = ""
    """Why it cannot be used, if so."""
    tokens: list[int] | None = None
    masked: list[int] | None = None
    glosses: list[int] | None = None
    cut: bool = False
    """Whether the sentence was cut to `text.max_tokens`."""
    damage: str = ""
    """What is broken in a clip that was read anyway."""


class ClipDataset:
    """The clips of a split, read one at a time and assembled to batches: `data[[3, 7]]` is a `Loaded`.

    Args:
        samples: the sentences of a split.
        tokenizer: None leaves the batch without tokens.
        training: random thinning, crops and masking, and the memory cache.
        glosses: None leaves the batch without glosses.
        reading: how clips and sentences are read.
        targets: computes `Batch.targets` from samples; None leaves it empty.
        dim: size of the features that the model needs; None uses that of the first clip loaded.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        tokenizer: Tokenizer | None,
        reading: Reading,
        *,
        training: bool,
        cache_gb: float = 0.0,
        glosses: GlossVocabulary | None = None,
        targets: Callable[[Sequence[Sample]], dict[str, Tensor]] | None = None,
        dim: int | None = None,
    ) -> None:
        self.samples = list(samples)
        self.glosses, self.targets = glosses, targets
        self.tokenizer = tokenizer
        self.input, self.max_tokens = reading.input, reading.max_tokens
        self.masking, self.seed = reading.masking, reading.seed
        self.training = training
        self.epoch = 0
        self.dim = dim
        self._room = cache_gb * 1e9
        self._cache: dict[int, np.ndarray] = {}
        self._raw_lengths: dict[int, int] = {}
        self._frame_size: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.samples)

    @cached_property
    def lengths(self) -> list[int]:
        """Frames of each clip after thinning, as in `count_frames`."""
        self._raw_lengths = dict(enumerate(_count_raw(self.samples, self.input.fps)))
        return [len(thin(count, self.input, None)) for count in self._raw_lengths.values()]

    def _random(self, index: int, epoch: int) -> np.random.Generator | None:
        return np.random.default_rng((self.seed, epoch, index)) if self.training else None

    # -- where frames go -----------------------------------------------------------------------------------------------

    def memory_of(self, index: int, epoch: int | None = None) -> tuple[tuple[int, ...], np.dtype] | None:
        """Expected shape and type of a clip's frames in this epoch, without reading it; None if unknown.

        If the header is wrong, the clip is read to new memory and copied.
        """
        sample, epoch = self.samples[index], self.epoch if epoch is None else epoch
        if index not in self._raw_lengths:
            self._raw_lengths[index] = max(1, _frames(sample, self.input.fps))
        if sample.features is not None:
            own = sample.features.shape[-1] if isinstance(sample.features, np.ndarray) else self.dim
            row: tuple[int, ...] | None = None if own is None else (own,)
            dtype: np.dtype[Any] = np.dtype(np.float32)
        else:
            row, dtype = self._pixels(sample), np.dtype("uint8")
        if row is None:
            return None
        count = self._raw_lengths[index]
        if sample.cut is not None and self.input.fps is None:
            count = sample.cut[1] - sample.cut[0]
        return (len(thin(count, self.input, self._random(index, epoch))), *row), dtype

    def _pixels(self, sample: Sample) -> tuple[int, ...] | None:
        """Shape of a frame, from the recipe or the first clip that can be opened."""
        side = self.input.crop or self.input.size
        if side is not None:
            return side, side, 3
        if self._frame_size is None and sample.clip is not None:
            with contextlib.suppress(ValueError, OSError):
                info = probe(sample.clip)
                self._frame_size = info.height, info.width
        return None if self._frame_size is None else (*self._frame_size, 3)

    # -- one clip ------------------------------------------------------------------------------------------------------

    def read(self, index: int, epoch: int, out: np.ndarray | None = None) -> Clip:
        """Reads one clip and its sentence; frames go to `out` if they fit exactly. This is all that workers do."""
        sample = self.samples[index]
        notes: list[str] = []
        try:
            frames = self._selected(index, epoch, out, notes.append)
        except (ValueError, OSError) as error:
            return Clip(reason=str(error))
        clip = Clip(None if frames is out else frames, frames.shape, damage="; ".join(dict.fromkeys(notes)))
        if self.tokenizer is not None:
            clip.tokens, cut = self._encode(sample.text)
            clip.cut = cut
            if self.masking is not None:
                random = np.random.default_rng((self.seed, epoch if self.training else 0, index, 1))
                shuffle = self.masking.shuffle if self.training else 0.0
                text = mask_words(sample.text, self.masking.rate, random, kind=self.masking.kind, shuffle=shuffle)
                clip.masked, cut = self._encode(text)
                clip.cut |= cut
        if self.glosses is not None:
            clip.glosses = self.glosses.encode(sample.gloss)
        return clip

    def _selected(
        self, index: int, epoch: int, out: np.ndarray | None, note: Callable[[str], None] | None = None
    ) -> np.ndarray:
        """Frames of a clip, through the cache while it has room."""
        sample = self.samples[index]
        if index not in self._cache and self._room <= 0:
            return read_selected(sample, self.input, lambda: self._random(index, epoch), out, note)
        raw = self._cache[index] if index in self._cache else load_raw(sample, self.input, note)
        if index not in self._cache:
            self._room -= raw.nbytes
            if self._room >= 0:
                self._cache[index] = raw
        return select(raw, self.input, self._random(index, epoch), out)

    def _encode(self, text: str) -> tuple[list[int], bool]:
        """Token ids of a sentence, and whether it was cut."""
        assert self.tokenizer is not None
        ids = self.tokenizer.encode(text)
        if len(ids) <= self.max_tokens:
            return ids, False
        own = self.tokenizer
        ends = 2 if ids[-1] == own.start_id != own.end_id else 1  # keep </s> (and mBART's language code)
        return ids[: self.max_tokens - ends] + ids[-ends:], True

    # -- a batch -------------------------------------------------------------------------------------------------------

    def __getitem__(self, indices: list[int]) -> Loaded:
        memory = batch_memory([self.memory_of(index) for index in indices])
        whole = None if memory is None else memory.of()
        parts = [None] * len(indices) if memory is None or whole is None else memory.parts(whole)
        clips = [self.read(index, self.epoch, part) for index, part in zip(indices, parts)]
        return self.assemble(indices, clips, whole, parts)

    def assemble(
        self,
        indices: Sequence[int],
        clips: Sequence[Clip],
        whole: np.ndarray | None,
        parts: Sequence[np.ndarray | None],
    ) -> Loaded:
        """Assembles a batch from clips that were read.

        Args:
            whole: the memory of the batch.
            parts: the memory of each clip, within `whole`. A clip either filled its part or has `frames`.
        """
        chosen, kept, pieces, broken = [], [], [], []
        for index, clip, part in zip(indices, clips, parts):
            name = self.samples[index].name
            if not clip.reason and len(clip.shape) == 2:
                self.dim = self.dim or clip.shape[1]
                if clip.shape[1] != self.dim:
                    other = other_layout(self.dim, clip.shape[1])
                    clip.reason = other or f"features of size {clip.shape[1]}, the other clips have {self.dim}"
            if clip.reason:
                broken.append((name, clip.reason))
                continue
            chosen.append(index)
            kept.append(clip)
            pieces.append(part if clip.frames is None else clip.frames)
        if not chosen:
            return Loaded(None, broken)
        samples = [self.samples[i] for i in chosen]
        shapes = {clip.shape[1:] for clip in kept}
        if len(shapes) > 1:
            sizes = " and ".join("x".join(map(str, shape[1::-1])) for shape in sorted(shapes))
            names = ", ".join(sample.name for sample in samples[:3])
            why = f"the clips of a batch differ in frame size, {sizes} ({names}, ...); set input.size in the recipe"
            return Loaded(None, broken, error=why)
        in_place = whole is not None and not broken and all(clip.frames is None for clip in kept)
        inputs = whole if in_place and whole is not None else np.concatenate([p for p in pieces if p is not None])
        batch = _batch(samples, inputs, [clip.shape[0] for clip in kept])
        if self.tokenizer is not None:
            batch.tokens, batch.token_lengths = pad([clip.tokens or [] for clip in kept], self.tokenizer.pad_id)
            if self.masking is not None:
                masked = [clip.masked or [] for clip in kept]
                batch.masked_tokens, batch.masked_token_lengths = pad(masked, self.tokenizer.pad_id)
        if self.glosses is not None:
            batch.glosses, batch.gloss_lengths = pad([clip.glosses or [] for clip in kept], 0)
        if self.targets is not None:
            batch.targets = self.targets(samples)
        cut = sorted(s.name for s, clip in zip(samples, kept) if clip.cut)
        return Loaded(batch, broken, cut, [(s.name, clip.damage) for s, clip in zip(samples, kept) if clip.damage])


def collate(samples: Sequence[Sample], inputs: Sequence[np.ndarray]) -> Batch:
    """Makes a batch of clips and sentences, without tokens. Frames are packed, not padded."""
    return _batch(samples, np.concatenate(inputs), [len(frames) for frames in inputs])


def _batch(samples: Sequence[Sample], inputs: np.ndarray, lengths: list[int]) -> Batch:
    """Makes a batch of packed frames and sentences, without tokens."""
    return Batch(
        names=[s.name for s in samples],
        texts=[s.text for s in samples],
        inputs=torch.from_numpy(inputs),
        positions=pack_positions(lengths),
        lengths=torch.tensor(lengths),
        max_length=max(lengths),
        # Without a sentence, the glosses count as words (docs/data.md).
        num_words=torch.tensor(
            [count_words(s.text) if s.text or not s.gloss else float(len(s.gloss)) for s in samples]
        ),
        sentence_ids=torch.tensor([zlib.crc32(" ".join(s.text.split() or s.gloss).encode()) for s in samples]),
        languages=tuple(s.language for s in samples),
    )


def pad(sequences: list[list[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Pads lists of ids to one tensor; returns it with their lengths. [B, U], [B]"""
    lengths = torch.tensor([len(s) for s in sequences])
    padded = torch.full((len(sequences), int(lengths.max())), pad_id)
    for row, sequence in enumerate(sequences):
        padded[row, : len(sequence)] = torch.tensor(sequence)
    return padded, lengths


def clip_loader(
    dataset: ClipDataset, batches: list[list[int]], *, workers: int = 0, pin_memory: bool = False
) -> Iterator[Loaded]:
    """Yields one `Loaded` per planned batch, in order, with workers for this pass only; see `ClipLoader`."""
    with ClipLoader([dataset], workers=workers, pin_memory=pin_memory) as loader:
        yield from loader.batches(dataset, batches)


def usable(loaded: Loaded, broken: dict[str, str], on_broken: str = "skip") -> Batch | None:
    """Returns the loaded batch and adds clips that could not be read to `broken`.

    Raises:
        ValueError: a clip that cannot be read with `corpus.on_broken=stop`; clips that cannot form a batch, such as
            frames of different sizes.
    """
    for name, reason in loaded.checked().broken:
        if on_broken == "stop":
            raise ValueError(f"clip {name} cannot be used: {reason} (corpus.on_broken=skip skips it)")
        broken[name] = reason
    return loaded.batch


def read_batches(
    data: ClipDataset,
    plan: list[list[int]],
    *,
    device: torch.device | str,
    broken: dict[str, str],
    on_broken: str = "skip",
    workers: int = 0,
    loader: ClipLoader | None = None,
    what: str = "reading clips",
    progress: bool = True,
    on_host: Callable[[Batch], None] | None = None,
    damaged: dict[str, str] | None = None,
) -> Iterator[Batch]:
    """Yields all batches of a plan outside training: for evaluation, extraction, alignment, density and dev scoring.

    Args:
        plan: the clips of each batch, see `plan_batches`.
        broken: clips that cannot be read are added here, with the reason; see `usable`.
        loader: a loader whose workers read; None starts `workers` for this pass only.
        what: label of the progress bar.
        on_host: called with every batch before it is moved to the device.
        damaged: clips that were read despite broken frames are added here; None prints them at the end.

    Yields:
        Batches on `device`, in the order of the plan.
    """
    told: dict[str, str] = {} if damaged is None else damaged
    with track(what, total=len(plan), show=progress) as bar:
        passed = clip_loader(data, plan, workers=workers) if loader is None else loader.batches(data, plan)
        for loaded in passed:
            batch = usable(loaded, broken, on_broken)
            told.update(loaded.damaged)
            if batch is not None:
                if on_host is not None:
                    on_host(batch)
                yield batch.to(device)
            bar.advance()
    if damaged is None:
        say_damaged(told)


def say_damaged(damaged: dict[str, str]) -> None:
    """Prints the clips that were read despite broken frames: the names of the first five and the number of others."""
    if damaged:
        more = f" (and {len(damaged) - 5} more)" if len(damaged) > 5 else ""
        shown = "; ".join(f"{name}: {what}" for name, what in list(damaged.items())[:5])
        say(f"{len(damaged)} clips are damaged and were read anyway (input.damaged): {shown}{more}")
