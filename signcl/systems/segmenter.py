"""The segmenter: where signs and sentences begin and end in a long recording.

A tag O, B or I for each frame, once for signs and once for sentences (Moryossef et al. 2023 tag poses so). The network
is a stack of dilated convolutions over frame features (as MS-TCN, which Renz et al. 2021 segment signs with), because
its reach in time is finite: a frame's tags depend on `reach` frames on either side and on no others, so that a film can
be read in windows that overlap by them, with the same result as in one piece. A recurrent network has no such bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from signcl.data.batch import Batch, Span, frame_mask
from signcl.data.bounds import bounded
from signcl.metrics.in_time import boundary_f1, mean_iou, segment_f1
from signcl.metrics.titles import Score
from signcl.systems.base import Sizes, System, SystemConfig, register
from signcl.systems.parts.frames import Tapped, feature_size, frame_features, tap_of_frames
from signcl.systems.targets.frame_tags import BEGIN, OUTSIDE, UNKNOWN, SentenceTags, SignTags
from signcl.systems.terms import Measure, Term, TermContext
from signcl.systems.terms.shared import frame_contrast

__all__ = ["Segmenter", "SegmenterOutput", "spans_of_tags"]

TAGS = 3
BEGIN_WEIGHT = 4.0  # B is one frame of a span: without it the loss hardly asks where a span begins
TOLERANCE = 3  # frames by which a boundary may be off on dev


@dataclass(frozen=True)
class SegmenterOutput:
    """A batch of recordings with scores of tags."""

    features: Tensor
    """Frame features, where SignCL looks. [B, T, D]"""
    lengths: Tensor
    """[B]"""
    steps: Tensor
    """States after the convolutions; a step is a frame. [B, S, width]"""
    step_lengths: Tensor
    """[B]"""
    signs: Tensor
    """Log-softmax over O, B, I of signs. [B, S, 3]"""
    sentences: Tensor
    """The same of sentences. [B, S, 3]"""


def spans_of_tags(log_probs: Tensor, *, shortest: int = 2, bridge: int = 0, token: str = "sign") -> list[Span]:
    """Spans from the tags of one recording: one begins at a B, or where I follows O, and ends before the next O or B.

    Args:
        log_probs: of O, B, I. [T, 3]
        shortest: spans of fewer frames are left out.
        bridge: gaps of at most so many frames are closed, where no B stands behind them.
        token: of the spans.

    Returns:
        Spans in order of time; the score is the mean log-probability that their frames are not O.
    """
    tags = log_probs.argmax(dim=1).tolist()
    raw: list[list[int]] = []  # start, stop, whether a B began it
    for frame, tag in enumerate(tags):
        if tag == OUTSIDE:
            continue
        going_on = bool(raw) and raw[-1][1] == frame
        # a B right behind a B is the same beginning, seen twice
        if going_on and (tag != BEGIN or tags[frame - 1] == BEGIN):
            raw[-1][1] = frame + 1
        else:
            raw.append([frame, frame + 1, int(tag == BEGIN)])
    joined: list[list[int]] = []
    for start, stop, begun in raw:
        if joined and not begun and start - joined[-1][1] <= bridge:
            joined[-1][1] = stop
        else:
            joined.append([start, stop, begun])
    inside = torch.logsumexp(log_probs[:, 1:].float(), dim=1)
    return [
        Span(token, start, stop, float(inside[start:stop].mean()))
        for start, stop, _ in joined
        if stop - start >= shortest
    ]


class Block(nn.Module):
    """One dilated convolution over time, with a residual. Padding is kept at zero, as the edge of a clip is."""

    def __init__(self, width: int, kernel: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.conv = nn.Conv1d(width, width, kernel, dilation=dilation, padding=dilation * (kernel // 2))
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, real: Tensor) -> Tensor:
        """[B, S, width], [B, S, 1] -> [B, S, width]"""
        read = (self.norm(states) * real).transpose(1, 2)
        found = self.out(F.gelu(self.conv(read)).transpose(1, 2))
        return (states + self.dropout(found)) * real


def _tag_loss(log_probs: Tensor, tags: Tensor, lengths: Tensor, key: str) -> Tensor:
    """Cross-entropy per frame, B weighed more; frames of recordings without spans have no part."""
    tags = _fitted(tags, log_probs.shape[1], lengths, key)
    weight = log_probs.new_ones(TAGS)
    weight[BEGIN] = BEGIN_WEIGHT
    total = F.nll_loss(log_probs.transpose(1, 2), tags, weight, ignore_index=UNKNOWN, reduction="sum")
    return total / (tags != UNKNOWN).sum().clamp(min=1)


def _fitted(tags: Tensor, size: int, lengths: Tensor, key: str) -> Tensor:
    """Tags on the padded frames of a batch. [B, U] -> [B, S]

    Raises:
        ValueError: frames were left out or changed in number on the way.
    """
    told = (tags != UNKNOWN).sum(dim=1)
    wrong = (told > 0) & (told != lengths.to(told.device))
    if bool(wrong.any()):
        at = int(wrong.nonzero()[0])
        raise ValueError(
            f"{key}: a recording has {int(told[at])} tagged frames, and the model sees {int(lengths[at])}; a segmenter "
            f"sees every frame: raise input.max_frames, and give num_frames in the table of the corpus"
        )
    return F.pad(tags, (0, max(0, size - tags.shape[1])), value=UNKNOWN)[:, :size]


def _sign_loss(outputs: SegmenterOutput, batch: Batch) -> Tensor:
    return _tag_loss(outputs.signs, batch.targets["sign_tags"], outputs.step_lengths, "loss.weights.sign_tags")


def _sentence_loss(outputs: SegmenterOutput, batch: Batch) -> Tensor:
    tags = batch.targets["sentence_tags"]
    return _tag_loss(outputs.sentences, tags, outputs.step_lengths, "loss.weights.sentence_tags")


def _measure(kind: str) -> Measure:
    """F1 of boundaries and segments, and IoU, on dev."""

    def collect(outputs: Any, batch: Batch) -> tuple[Tensor, ...]:
        tags, lengths = batch.targets[f"{kind}_tags"], outputs.step_lengths
        log_probs = getattr(outputs, f"{kind}s")
        tags = _fitted(tags, log_probs.shape[1], lengths, f"loss.weights.{kind}_tags")
        return log_probs.float().cpu(), tags.cpu(), lengths.cpu()

    def summarise(rows: list[tuple[Tensor, ...]], loss: Any) -> dict[str, float]:
        found, true = [], []
        for log_probs, tags, lengths in rows:
            for said, told, length in zip(log_probs, tags, lengths.tolist()):
                if int(told[0]) == UNKNOWN:
                    continue
                exact = F.one_hot(told[:length].clamp(min=0), TAGS).float()
                found.append([(s.start, s.stop) for s in spans_of_tags(said[:length], **DECODING[kind])])
                true.append([(s.start, s.stop) for s in spans_of_tags(exact, shortest=1)])
        if not true:
            return {}
        return {
            f"{kind}_f1": segment_f1(found, true).f1,
            f"{kind}_boundary_f1": boundary_f1(found, true, tolerance=TOLERANCE).f1,
            f"{kind}_iou": mean_iou(found, true),
        }

    name = kind.capitalize()
    titles = {
        f"{kind}_f1": Score(f"{name} F1", "dev, %, IoU of at least 0.5"),
        f"{kind}_boundary_f1": Score(f"{name} boundary F1", f"dev, %, within {TOLERANCE} frames"),
        f"{kind}_iou": Score(f"{name} IoU", "dev, %, of frames"),
    }
    return Measure(collect, summarise, titles)


DECODING: dict[str, dict[str, Any]] = {
    "sign": {"shortest": 2, "bridge": 1},
    "sentence": {"shortest": 8, "bridge": 2},
}
"""How tags become spans, frames: a sign of one frame and a sentence of a third of a second are noise."""


def _tagged(name: str) -> Any:
    """Frames with a tag, which a loss is a mean of."""

    def count(batch: Batch, context: TermContext) -> Tensor:
        return (batch.targets[name] != UNKNOWN).sum()

    return count


sign_tags = Term(
    _sign_loss, "Sign tag loss", "cross-entropy per frame", targets=SignTags, measure=_measure("sign"),
    counts=_tagged("sign_tags"),
)  # fmt: skip
sentence_tags = Term(
    _sentence_loss, "Sentence tag loss", "cross-entropy per frame", targets=SentenceTags, measure=_measure("sentence"),
    counts=_tagged("sentence_tags"),
)  # fmt: skip


@register
class Segmenter(System):
    """Recordings in, the frames of signs and sentences out (`signcl segment`).

    With frame features of size D, width w, kernel k and L layers it has (D w + w) + L (2 w + k w^2 + w + w^2 + w) +
    (6 w + 6) parameters, beside the frame encoder's. Layer l has the dilation 2 ** l, so that the reach on either side
    is (k - 1) / 2 * (2 ** L - 1) frames: 63 with the defaults, 2.5 s at 25 frames a second.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(SystemConfig):
        """`model` of a segmenter."""

        name: str = "segmenter"
        width: int = bounded(64, low=1, high=65_536)
        """Size of a state."""
        layers: int = bounded(6, low=1, high=12)
        """Dilated convolutions; each doubles the reach in time."""
        kernel: int = bounded(3, low=3, high=31)
        """Frames that a convolution reads; odd."""
        dropout: float = bounded(0.1, low=0, below=1)

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.kernel % 2 == 0:
                raise ValueError(
                    f"model.kernel: needs an odd number, as a frame stands in its middle, got {self.kernel}"
                )
            if self.visual == "i3d":
                raise ValueError("model.visual: a segmenter needs a feature for each frame; i3d gives one for several")

    title: ClassVar = "the segmenter: where signs and sentences begin and end (BIO tags over dilated convolutions)"
    label: ClassVar = "Segmenter"
    needs: ClassVar = "frames, features or poses of recordings, with spans of signs or sentences"
    stage: ClassVar[Any] = "recognise"
    terms: ClassVar = {"sentence_tags": sentence_tags, "sign_tags": sign_tags, "signcl": frame_contrast}
    answers: ClassVar[Any] = "nothing"
    TAPS: ClassVar[tuple[str, ...]] = ("features", "steps")

    config: Config

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        width = config.width
        self.embed = nn.Linear(feature_size(self.visual), width)
        self.blocks = nn.ModuleList(
            Block(width, config.kernel, 2**layer, config.dropout) for layer in range(config.layers)
        )
        self.head = nn.Linear(width, 2 * TAGS)

    @property
    def reach(self) -> int:
        """Frames on either side that a frame's tags depend on."""
        config = self.config
        own = (config.kernel // 2) * (2**config.layers - 1)
        time: Any = getattr(self.visual, "time", None)  # pose_stream looks at neighbouring frames too
        return own + (time.kernel_size[0] // 2 if isinstance(time, nn.Conv1d) else 0)

    @classmethod
    def check(cls, recipe: Any) -> None:
        """Every frame of the corpus, in its place: tags count frames."""
        given = recipe.input
        if given.stride != 1:
            raise ValueError(f"input.stride: a segmenter tags every frame; needs 1, got {given.stride}")
        if given.augment.temporal_rescale:
            raise ValueError("input.augment.temporal_rescale: a segmenter tags frames in their places; needs 0")
        if given.fps is not None:
            raise ValueError(
                "input.fps: spans count the frames of the corpus, so a segmenter trains at their rate; leave it out, "
                "and `signcl segment` brings videos to the rate of training"
            )
        if recipe.corpus.isolated:
            raise ValueError("corpus.isolated: a segmenter needs whole recordings; needs false")

    def forward(self, batch: Batch) -> SegmenterOutput:
        """Recordings to tags."""
        features, lengths = frame_features(self.visual, batch)
        states = self._states(features, lengths)
        return SegmenterOutput(features, lengths, states, lengths, *self._tags(states))

    def exported_states(self, features: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Log-probabilities of the tags O, B and I of signs and of sentences. [B, T, 3]"""
        signs, sentences = self._tags(self._states(features, lengths))
        return {"signs": signs, "sentences": sentences, "step_lengths": lengths}

    def _tags(self, states: Tensor) -> tuple[Tensor, ...]:
        """[B, S, width] -> two of [B, S, 3]"""
        return self.head(states).float().unflatten(2, (2, TAGS)).log_softmax(dim=3).unbind(dim=2)

    def _states(self, features: Tensor, lengths: Tensor) -> Tensor:
        real = frame_mask(lengths, features.shape[1])[:, :, None]
        states = self.embed(features) * real
        for block in self.blocks:
            states = block(states, real)
        return states

    def tap(self, batch: Batch, name: str) -> Tapped:
        """States after the convolutions."""
        features, lengths = frame_features(self.visual, batch)
        clock = tap_of_frames(self.visual, features, lengths)
        return Tapped(self._states(features, lengths), lengths, clock.stride, clock.first_centre)
