"""cnn_ctc: a recogniser that sees a few frames at a time, a trainable substitute for SRP frame features.

It has a frame encoder, one short convolution over time and a gloss classifier per frame, trained with CTC. It has no
recurrence and no attention, so each row of `steps` is a local feature trained on glosses. It is not SRP (CNN-LSTM-HMM,
Koller et al. 2019), whose extraction code was never released: docs/systems/cnn_ctc.md lists the differences.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from signcl.data.batch import Batch, frame_mask
from signcl.data.bounds import bounded
from signcl.systems.base import Sizes, System, SystemConfig, register
from signcl.systems.parts.frames import Tapped, feature_size, frame_features, tap_of_frames
from signcl.systems.parts.layers import MaskedBatchNorm1d
from signcl.systems.recogniser import RecogniserOutput
from signcl.systems.terms.shared import frame_contrast, recognition

__all__ = ["CNNCTC"]


@register
class CNNCTC(System):
    """Maps clips to gloss log-probabilities, one step per frame.

    With frame features of size D, width w, a window of k frames and C gloss classes it has
    (k D w + w) + 2 w + (w C + C) parameters besides the frame encoder's.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(SystemConfig):
        """`model` section of a cnn_ctc recipe."""

        name: str = "cnn_ctc"
        conv_width: int = bounded(256, low=1, high=65_536)
        """Size of a local feature; 1024, as in SRP, in the recipes of the paper."""
        window: int = bounded(5, low=1, high=9999, odd=True)
        """Frames that a local feature sees; 1: only its own frame."""
        dropout: float = bounded(0.1, low=0, below=1)
        """Dropout before the classifier."""

    title: ClassVar = "per-frame CNN with CTC: local gloss features of our own, a stand-in for SRP (Tables 1, 11)"
    label: ClassVar = "CNN and CTC"
    needs: ClassVar = "frames (or features) and glosses"
    stage: ClassVar = "recognise"
    terms: ClassVar = {"recognition": recognition, "signcl": frame_contrast}
    required_terms: ClassVar = ("recognition",)
    answers: ClassVar = "glosses"
    TAPS: ClassVar = ("features", "frames", "steps")

    config: Config

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        self.window = config.window
        self.conv = nn.Conv1d(feature_size(self.visual), config.conv_width, kernel_size=config.window)
        self.norm = MaskedBatchNorm1d(config.conv_width, sync=config.sync_norm)
        self.dropout = nn.Dropout(config.dropout)
        self.gloss_head = nn.Linear(config.conv_width, sizes.classes())

    def tap(self, batch: Batch, name: str) -> Tapped:
        """Frame features (tap `frames`) or the local features that the classifier reads."""
        rows, lengths = frame_features(self.visual, batch)
        frames = tap_of_frames(self.visual, rows, lengths)
        if name == "frames":
            return frames
        return Tapped(self._local(rows, lengths), lengths, frames.stride, frames.first_centre)

    def forward(self, batch: Batch) -> RecogniserOutput:
        """Local features and gloss log-probabilities of each clip."""
        rows, lengths = frame_features(self.visual, batch)
        steps = self._local(rows, lengths)
        log_probs = self.gloss_head(self.dropout(steps)).float().log_softmax(dim=2)
        return RecogniserOutput(rows, lengths, steps, lengths, log_probs)

    def exported_states(self, features: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Local features and gloss log-probabilities."""
        steps = self._local(features, lengths)
        log_probs = self.gloss_head(steps).float().log_softmax(dim=2)
        return {"steps": steps, "step_lengths": lengths.clone(), "log_probs": log_probs}

    def _local(self, rows: Tensor, lengths: Tensor) -> Tensor:
        """Convolve the window around each frame; the first and last frames are repeated beyond the clip.
        [B, T, width]"""
        half, longest = self.window // 2, rows.shape[1]
        place = torch.arange(-half, longest + half, device=rows.device)[None, :]
        place = torch.minimum(place.clamp(min=0), lengths[:, None] - 1)  # [B, T + window - 1], never padding
        wide = rows.gather(1, place[:, :, None].expand(-1, -1, rows.shape[2]))
        real = frame_mask(lengths, longest)
        hidden = torch.relu(self.norm(self.conv(wide.transpose(1, 2)), real))  # [B, width, T]
        return hidden.transpose(1, 2) * real[:, :, None]
