"""cnn_ctc: a recogniser that sees a few frames at a time, a trainable stand-in for frame features of the SRP kind.

A frame encoder, one short convolution over time, a gloss classifier per frame, CTC. There is no recurrence and no
attention, so each row of `steps` is a local feature that was trained on glosses. It is not SRP (CNN-LSTM-HMM, Koller et
al. 2019), whose extraction code was never released: docs/systems/cnn_ctc.md says what differs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from signcl.data.batch import Batch, frame_mask
from signcl.systems.parts.frames import (
    Tapped,
    feature_lengths,
    feature_size,
    frame_features,
    no_such_tap,
    tap_of_frames,
)
from signcl.systems.parts.layers import MaskedBatchNorm1d
from signcl.systems.recogniser import RecogniserOutput

__all__ = ["CNNCTC"]


class CNNCTC(nn.Module):
    """Clips in, gloss log-probabilities out, one step per frame.

    With frame features of size D, width w, a window of k frames and C gloss classes it has
    (k D w + w) + 2 w + (w C + C) parameters beside the frame encoder's.

    Args:
        visual: frame encoder with attribute `dim`.
        num_glosses: gloss classes C, blank and unknown included.
        width: size of a feature; 1024, as SRP's.
        window: frames that a feature sees, odd; 1 sees its own alone.
        dropout: before the classifier.
        sync_norm: batch norm statistics over ranks.
    """

    TAPS = ("features", "frames", "steps")

    def __init__(
        self,
        visual: nn.Module,
        *,
        num_glosses: int,
        width: int = 1024,
        window: int = 5,
        dropout: float = 0.3,
        sync_norm: bool = False,
    ) -> None:
        super().__init__()
        if window < 1 or window % 2 == 0:
            raise ValueError(f"window needs an odd number of frames, got {window}.")
        self.visual, self.window = visual, window
        self.conv = nn.Conv1d(feature_size(visual), width, kernel_size=window)
        self.norm = MaskedBatchNorm1d(width, sync=sync_norm)
        self.dropout = nn.Dropout(dropout)
        self.gloss_head = nn.Linear(width, num_glosses)

    def features(self, batch: Batch) -> Tensor:
        """Frame features, zero at padding: the tap of SignCL. [B, T, D]"""
        return frame_features(self.visual, batch)[0]

    def step_lengths(self, lengths: Tensor) -> Tensor:
        """Steps that clips of so many frames give: as many as the frame encoder gives rows. [B] -> [B]"""
        return feature_lengths(self.visual, lengths)

    def tapped(self, batch: Batch, tap: str = "features") -> Tapped:
        """States at a tap of `TAPS`: frame features (both first names), or the local features under the classifier.

        Raises:
            ValueError: no such tap.
        """
        if tap not in self.TAPS:
            raise no_such_tap(tap, self.TAPS)
        rows, lengths = frame_features(self.visual, batch)
        frames = tap_of_frames(self.visual, rows, lengths)
        return (
            frames
            if tap != "steps"
            else Tapped(self._local(rows, lengths), lengths, frames.stride, frames.first_centre)
        )

    def encode(self, batch: Batch) -> RecogniserOutput:
        """Clips to local features and gloss log-probabilities."""
        rows, lengths = frame_features(self.visual, batch)
        steps = self._local(rows, lengths)
        log_probs = self.gloss_head(self.dropout(steps)).float().log_softmax(dim=2)
        return RecogniserOutput(rows, lengths, steps, lengths, log_probs)

    def _local(self, rows: Tensor, lengths: Tensor) -> Tensor:
        """The window around each frame; beyond the ends of a clip stand its first and last frame. [B, T, width]"""
        half, longest = self.window // 2, rows.shape[1]
        place = torch.arange(-half, longest + half, device=rows.device)[None, :]
        place = torch.minimum(place.clamp(min=0), lengths[:, None] - 1)  # [B, T + window - 1], always a real frame
        wide = rows.gather(1, place[:, :, None].expand(-1, -1, rows.shape[2]))
        real = frame_mask(lengths, longest)
        hidden = torch.relu(self.norm(self.conv(wide.transpose(1, 2)), real))  # [B, width, T]
        return hidden.transpose(1, 2) * real[:, :, None]

    def forward(self, batch: Batch) -> RecogniserOutput:
        """The same as `encode`."""
        return self.encode(batch)

    @torch.no_grad()
    def recognise(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What `signcl.systems.parts.search` searches in: gloss log-probabilities and steps; put the model in eval
        mode first."""
        out = self.encode(batch)
        assert out.log_probs is not None
        return out.log_probs, out.step_lengths
