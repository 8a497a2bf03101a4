"""The sections of a recipe about input: the corpus, how clips are read, how sentences become token ids.

`Reading` has all that the loader needs from a recipe; `signcl.training.recipe.Recipe.reading` creates it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from signcl.data.bounds import bounded
from signcl.data.poses import PoseReading

__all__ = ["AugmentRecipe", "CorpusRecipe", "InputRecipe", "Masking", "Reading", "TextRecipe"]


@dataclass
class CorpusRecipe:
    """Which corpus to use, and how much of it."""

    name: str = "folder"
    """Name of the corpus: `folder` for clips of your own (docs/adding-a-corpus.md), one of docs/data.md, or one that a
    plugin registers."""
    root: str = "data"
    """The corpus folder, relative to the current folder."""
    options: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of that corpus's `samples` function, e.g. {text: digits}."""
    fraction: float = bounded(1.0, above=0, high=1)
    """Share of the training clips to use, nested: the 10 % are a subset of the 25 %."""
    features: str | list[str] = ""
    """Extracted features to use instead of clips: a store, pickle, or folder of NAME.npy or of key points; {split} is
    replaced. A list such as [a, b] concatenates the features of several sources, frame by frame."""
    isolated: bool = False
    """Make every span of the corpus a separate clip of one sign, for training on isolated signs."""
    transductive: bool = False
    """recognise: also train on the test split, like the paper's aligner (section A.3). Good for spans to analyse; the
    word error rate on test is then not a held-out score and is marked as such."""
    on_broken: Literal["skip", "stop"] = "skip"
    """What to do in training and extraction with a clip that cannot be read: skip it and list it at the end, or stop
    the run. Scoring and alignment always continue and list the missing clips."""


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
    """Share of the side of the frame, to either side. Released GFSLT: 10 pixels of about 224."""
    brightness: float = bounded(0.0, low=0, high=1)
    """A factor from 1 - brightness to 1 + brightness."""
    contrast: float = bounded(0.0, low=0, high=1)
    """A factor from 1 - contrast to 1 + contrast on the distance from the clip's mean."""
    flip: bool = False
    """Mirrors the clip. Off by default: mirroring swaps the dominant hand."""
    temporal_rescale: float = bounded(0.0, low=0, below=1)
    """Makes every training clip (also features, regardless of `probability`) longer or shorter by up to this share,
    with frames drawn in every epoch; VAC: 0.2. `train.batch_frames` counts frames before rescaling."""
    mask_frames: float = bounded(0.0, low=0, below=1)
    """Sets this share of the frames of every training clip (also features, regardless of `probability`), rounded down,
    to 0 (black); they are drawn in every epoch. neccam/slt: random_frame_masking_ratio."""


@dataclass
class InputRecipe:
    """How the input of the frame encoder is read."""

    size: int | None = bounded(None, low=1, high=8192)
    """Side of the square to which frames are resized, in pixels; None keeps the size of the file."""
    crop: int | None = bounded(None, low=1, high=8192)
    """Side of the square cut out of each frame: random in training, central otherwise."""
    max_frames: int | None = bounded(300, low=1, high=1_000_000)
    """Longer clips are thinned to this many frames; see `thinning`."""
    thinning: Literal["spread", "window"] = "spread"
    """spread keeps frames from the entire clip: random in training, evenly spaced otherwise. window keeps consecutive
    frames: from a random position in training, from the middle otherwise."""
    fps: float | None = bounded(None, above=0, high=1000)
    """Frames per second to which videos are resampled, by the times of their frames; None uses every frame of the file.
    All other settings here count frames at this rate; annotation counts frames of the file. Folders of images and
    features have no rate and do not change."""
    damaged: Literal["refuse", "few", "read"] = "few"
    """How to treat a video that is cut off or has broken frames. refuse: reject it; few: accept it if it is not cut off
    and at most 3 frames, or 2 %, are broken; read: use everything that can be decoded. Accepted videos are listed;
    rejected ones are handled by `corpus.on_broken`."""
    stride: int = bounded(1, low=1, high=10_000)
    """Use every n-th frame."""
    stride_from: Literal["first", "middle", "random"] = "first"
    """Where `stride` begins. first: at the first frame; middle: at frame (n - 1) // 2, the middle of the first n;
    random: in training at one of the first n, drawn in every epoch, otherwise as middle. neccam/slt:
    frame_subsampling_ratio is `middle`, with random_frame_subsampling `random`. `train.batch_frames` counts frames from
    the middle."""
    augment: AugmentRecipe = field(default_factory=AugmentRecipe)
    pose_dims: int = bounded(2, low=2, high=3)
    """For key points: 2 for x and y, 3 to add the estimated depth."""
    pose_confidence: bool = False
    """For key points: add the confidence of each point as a further number; points not found are zero either way."""
    pose_layout: Literal[
        "auto",
        "coco_wholebody133",
        "uni_sign133",
        "openpose137",
        "openpose130",
        "mediapipe543",
        "mediapipe543_face_first",
        "mediapipe553",
        "mediapipe178",
        "mediapipe75",
        "mediapipe33",
    ] = "auto"
    """Order of the points in arrays of key points (docs/reading.md has the table); auto chooses by their number. Not
    needed for files that name their points. uni_sign133 reads COCO-WholeBody as Uni-Sign's code does: its points, its
    scale."""
    pose_min_confidence: float = bounded(0.0, low=0, below=1)
    """Key points with this confidence or less count as not found. RTMPose also rates hands outside the picture;
    Uni-Sign drops points below 0.3."""
    pose_fill: int = bounded(0, low=0, high=1000)
    """Gaps of a key point of at most this many frames are filled by linear interpolation, with the lower confidence of
    the two neighbours; longer gaps and gaps at the start and end stay zero. 0 fills nothing."""
    pose_aspect: float | None = bounded(None, above=0, high=100)
    """Width / height of the pictures, to correct the distortion of coordinates relative to the picture (0 to 1); pixel
    coordinates are never changed. None changes nothing."""
    cache_gb: float = bounded(4.0, low=0, high=100_000)
    """Decoded training clips are cached in memory up to this size; 0 decodes them in every epoch."""

    @property
    def pose(self) -> PoseReading:
        """The keys `pose_*` as one object."""
        return PoseReading(
            dims=self.pose_dims,
            confidence=self.pose_confidence,
            layout=self.pose_layout,
            min_confidence=self.pose_min_confidence,
            fill=self.pose_fill,
            aspect=self.pose_aspect,
        )


@dataclass
class TextRecipe:
    """How sentences become token ids."""

    tokenizer: str = "word"
    """word | character | sentencepiece (trained on the training sentences) | pretrained:FOLDER or hub id (mBART,
    or any tokenizer that transformers can load)."""
    vocab_size: int = bounded(2000, low=1, high=10_000_000)
    """Number of pieces, for `sentencepiece`."""
    lowercase: bool = False
    language: str = "de_DE"
    """Language code of a pretrained mBART tokenizer."""
    min_count: int = bounded(1, low=1, high=1_000_000)
    """Words that occur less often in training become <unk>, for `word` and `character`."""
    max_tokens: int = bounded(150, low=3, high=100_000)
    """Longer sentences are cut in training; their number is reported."""


@dataclass(frozen=True)
class Masking:
    """How words of a sentence are masked, for loss terms that restore it."""

    rate: float
    """Maximum share of masked words."""
    kind: Literal["random", "omit_last"]
    shuffle: float = 0.0
    """Probability that the words of a masked training sentence are shuffled, including the masks."""


@dataclass(frozen=True)
class Reading:
    """What the loader needs from a recipe."""

    input: InputRecipe
    max_tokens: int = 150
    """Longer sentences are cut."""
    seed: int = 0
    """Seed for random thinning, crops and masks."""
    masking: Masking | None = None
    """None leaves `Batch.masked_tokens` empty."""
