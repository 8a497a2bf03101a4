"""The sections of a recipe that say what comes in: which corpus, how clips are read, how sentences become ids.

`Reading` is what the loader needs of a whole recipe; `signcl.training.recipe.Recipe.reading` makes it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from signcl.data.bounds import bounded

__all__ = ["AugmentRecipe", "CorpusRecipe", "InputRecipe", "Masking", "Reading", "TextRecipe"]


@dataclass
class CorpusRecipe:
    """Which corpus, and how much of it."""

    name: str = "folder"
    """A corpus by name: folder, synthetic, imu_numbers, phoenix14t, csl_daily, how2sign, dgs_sentences, or one that is
    registered from outside (docs/adding-a-corpus.md)."""
    root: str = "data"
    """The corpus folder, relative to where you stand."""
    options: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of that corpus's `samples` function, e.g. {text: digits}."""
    fraction: float = bounded(1.0, above=0, high=1)
    """Share of the training clips to use, nested: the 10 % lie within the 25 %."""
    features: str | list[str] = ""
    """Features extracted before, in place of clips: a store, pickle, folder of NAME.npy or .pose; {split} is filled. A
    list such as [a, b] puts the features of several sources side by side, frame by frame."""
    isolated: bool = False
    """Every span of the corpus becomes a clip of its own, of one sign, for training on isolated signs."""
    transductive: bool = False
    """recognise: train on the test split too, as the paper's aligner did (section A.3). Good for spans to analyse; the
    word error rate on test is then no test score, and says so."""
    on_broken: Literal["skip", "stop"] = "skip"
    """In training and extraction, a clip that cannot be read is skipped, counted and named at the end, or stops the
    run. Scores and spans always go on, and name the clips that they lack."""


@dataclass
class AugmentRecipe:
    """Training augmentation, the same for all frames of a clip; each kind is applied with its `probability`."""

    probability: float = bounded(0.0, low=0, high=1)
    """0 switches augmentation off. Released GFSLT: 0.5."""
    rotate: float = bounded(30.0, low=0, high=180)
    """Degrees to either side."""
    scale: float = bounded(0.2, low=0, below=1)
    """Relative size to either side."""
    translate: float = bounded(0.05, low=0, high=1)
    """Share of the frame's side, to either side. Released GFSLT: 10 pixels of about 224."""
    brightness: float = bounded(0.0, low=0, high=1)
    """A factor from 1 - brightness to 1 + brightness."""
    contrast: float = bounded(0.0, low=0, high=1)
    """A factor from 1 - contrast to 1 + contrast on the distance from the clip's mean."""
    flip: bool = False
    """Mirrors the clip. Off by default: mirroring swaps the dominant hand."""
    temporal_rescale: float = bounded(0.0, low=0, below=1)
    """Every training clip (features too, whatever `probability` says) is made up to this share longer or shorter, by
    frames drawn anew in every epoch; VAC: 0.2. `train.batch_frames` counts frames before it."""
    mask_frames: float = bounded(0.0, low=0, below=1)
    """This share of the frames of every training clip (features too, whatever `probability` says), rounded down, is set
    to 0, black in pixels; which ones is drawn anew in every epoch. neccam/slt: random_frame_masking_ratio."""


@dataclass
class InputRecipe:
    """What the frame encoder is given."""

    size: int | None = bounded(None, low=1, high=8192)
    """Side of the square that frames are resized to, pixels; None keeps the file's size."""
    crop: int | None = bounded(None, low=1, high=8192)
    """Side of the square cut out of it: at random in training, from the centre otherwise."""
    max_frames: int | None = bounded(300, low=1, high=1_000_000)
    """Longer clips are thinned to this many frames; see `thinning`."""
    thinning: Literal["spread", "window"] = "spread"
    """spread keeps frames over the whole clip: at random in training, evenly otherwise. window keeps frames in a row:
    from a random place in training, the middle otherwise."""
    fps: float | None = bounded(None, above=0, high=1000)
    """Frames per second that videos are brought to, by the times of their frames; None takes every frame of the file.
    Everything else here counts frames at this rate; annotation counts those of the file. Folders of images and features
    have no rate and stay as they are."""
    damaged: Literal["refuse", "few", "read"] = "few"
    """A video that is cut off or has broken frames: refuse takes none of them; few takes one that is not cut off and
    has at most 3, or 2 %, broken frames; read takes whatever can be decoded. What is taken is named and counted; what
    is refused goes the way of `corpus.on_broken`."""
    stride: int = bounded(1, low=1, high=10_000)
    """Use every n-th frame."""
    stride_from: Literal["first", "middle", "random"] = "first"
    """Where every n-th frame begins: the first frame; frame (n - 1) // 2, the middle of the first n; or in training one
    of the first n, drawn anew in every epoch, and the middle otherwise. neccam/slt: frame_subsampling_ratio is
    `middle`, with random_frame_subsampling `random`. `train.batch_frames` counts frames from the middle."""
    augment: AugmentRecipe = field(default_factory=AugmentRecipe)
    pose_dims: int = bounded(2, low=2, high=3)
    """Of .pose files: x and y, or 3 for the estimated depth too."""
    pose_confidence: bool = False
    """Of .pose files: keep each point's confidence as one more number; points not found are zero either way."""
    cache_gb: float = bounded(4.0, low=0, high=100_000)
    """Decoded training clips are kept in memory up to this size; 0 decodes every epoch anew."""


@dataclass
class TextRecipe:
    """How sentences become token ids."""

    tokenizer: str = "word"
    """word | character | sentencepiece (trained on the training sentences) | pretrained:FOLDER or hub id (mBART,
    or any tokenizer that transformers reads)."""
    vocab_size: int = bounded(2000, low=1, high=10_000_000)
    """Pieces, for `sentencepiece`."""
    lowercase: bool = False
    language: str = "de_DE"
    """Language code of a pretrained mBART tokenizer."""
    min_count: int = bounded(1, low=1, high=1_000_000)
    """Words seen less often in training become <unk>, for `word` and `character`."""
    max_tokens: int = bounded(150, low=3, high=100_000)
    """Longer sentences are cut in training (counted and said)."""


@dataclass(frozen=True)
class Masking:
    """How words of a sentence are masked, for terms that restore it."""

    rate: float
    """Share of the words, at most."""
    kind: Literal["random", "omit_last"]
    shuffle: float = 0.0
    """Probability that the words of a masked training sentence are shuffled, masks among them."""


@dataclass(frozen=True)
class Reading:
    """What the loader needs of a recipe."""

    input: InputRecipe
    max_tokens: int = 150
    """Longer sentences are cut."""
    seed: int = 0
    """Of random thinning, crops and masks."""
    masking: Masking | None = None
    """None leaves `Batch.masked_tokens` empty."""
