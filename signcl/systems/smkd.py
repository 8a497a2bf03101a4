"""SMKD and VAC: continuous sign language recognition from frames, whose features the translation literature uses.

A frame encoder, the K5-P2-K5-P2 convolution, a two-way LSTM, and a gloss classifier on both of the latter: the one on
the convolution (VAC) makes short-term features carry the glosses; SMKD lets both share one classifier with rows of unit
length. Takes plain numbers, reads no published file, computes no loss; `load_published` takes tensors by name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from signcl.data.batch import Batch
from signcl.systems.encoders import ResNet, load_resnet_weights
from signcl.systems.parts.frames import (
    Tapped,
    feature_lengths,
    feature_size,
    frame_features,
    no_such_tap,
    tap_of_frames,
)
from signcl.systems.parts.layers import BiLSTM, TemporalConv

__all__ = ["SMKD", "SMKDOutput", "UnitLinear", "load_published"]


@dataclass(frozen=True)
class SMKDOutput:
    """A batch of clips, recognised twice: after the convolution and after the LSTM."""

    features: Tensor
    """Frame features, where SignCL looks. [B, T, D]"""
    lengths: Tensor
    """[B]"""
    steps: Tensor
    """LSTM states. [B, S, width]"""
    step_lengths: Tensor
    """Of `steps` and of the convolution alike. [B]"""
    log_probs: Tensor
    """Log-softmax over gloss classes after the LSTM, 0 the blank; the answer. [B, S, C]"""
    conv_log_probs: Tensor
    """The same after the convolution. [B, S, C]"""


class UnitLinear(nn.Module):
    """A linear layer without bias whose rows have length 1, so that no gloss wins by the length of its row.

    Args:
        dim_in: size of a state.
        dim_out: classes.

    Source: VAC_CSLR, its normalized classifier (there stored the other way round, [dim_in, dim_out]).
    """

    def __init__(self, dim_in: int, dim_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim_out, dim_in))
        nn.init.xavier_uniform_(self.weight, gain=math.sqrt(2))

    def forward(self, states: Tensor) -> Tensor:
        """[..., dim_in] -> [..., dim_out]"""
        return nn.functional.linear(states, nn.functional.normalize(self.weight, dim=1))


class SMKD(nn.Module):
    """Clips in, gloss log-probabilities out, a quarter as many steps as frames.

    With frame features of size D, convolution width c, LSTM width w and C gloss classes it has
        (5 D c + c) + 2 c + (5 c^2 + c) + 2 c                            convolution
        2 (2 w (c + w/2) + 4 w) + (L - 1) 2 (2 w (w + w/2) + 4 w)        L layers of LSTM
        w C                                                              one shared classifier with unit rows
    parameters beside the frame encoder's: 21,582,848 at D = 512, c = w = 1024, L = 2, C = 1087. A plain classifier adds
    C biases, one of its own for the convolution c C more.

    Args:
        visual: frame encoder with attribute `dim`.
        num_glosses: gloss classes C, blank and unknown included.
        width: LSTM states, both directions together.
        conv_width: convolution; the same as `width` where the classifier is shared.
        layers: of the LSTM.
        dropout: between them.
        share_classifier: one classifier for both heads (SMKD); VAC has two.
        weight_norm: rows of unit length, no bias (SMKD); VAC has a plain linear layer.
        sync_norm: batch norm statistics over ranks.

    Source: Min et al. 2021 (VAC), Hao et al. 2021 (SMKD), VAC_CSLR.
    """

    TAPS = ("features", "frames", "conv", "steps")

    def __init__(
        self,
        visual: nn.Module,
        *,
        num_glosses: int,
        width: int = 1024,
        conv_width: int = 1024,
        layers: int = 2,
        dropout: float = 0.3,
        share_classifier: bool = True,
        weight_norm: bool = True,
        sync_norm: bool = False,
    ) -> None:
        super().__init__()
        if share_classifier and conv_width != width:
            raise ValueError(f"a shared classifier needs conv_width = width, got {conv_width} and {width}.")
        self.visual = visual
        self.conv = TemporalConv(feature_size(visual), conv_width, edge="vac", sync=sync_norm)
        self.lstm = BiLSTM(conv_width, width, layers=layers, dropout=dropout)
        kind = UnitLinear if weight_norm else nn.Linear
        self.classifier = kind(width, num_glosses)
        self.conv_classifier = None if share_classifier else kind(conv_width, num_glosses)

    def features(self, batch: Batch) -> Tensor:
        """Frame features, zero at padding: the tap of SignCL. [B, T, D]"""
        return frame_features(self.visual, batch)[0]

    def step_lengths(self, lengths: Tensor) -> Tensor:
        """Steps that clips of so many frames give: a quarter, rounded up. [B] -> [B]"""
        return self.conv.step_lengths(feature_lengths(self.visual, lengths))

    def tapped(self, batch: Batch, tap: str = "features") -> Tapped:
        """States at a tap of `TAPS`: frame features (both first names), steps of the convolution, or of the LSTM.

        Raises:
            ValueError: no such tap.
        """
        if tap not in self.TAPS:
            raise no_such_tap(tap, self.TAPS)
        rows, lengths = frame_features(self.visual, batch)
        frames = tap_of_frames(self.visual, rows, lengths)
        if tap in ("features", "frames"):
            return frames
        steps, step_lengths = self.conv(rows, lengths)
        if tap == "steps":
            steps = self.lstm(steps, step_lengths)
        return Tapped(steps, step_lengths, *self.conv.geometry(frames.stride, frames.first_centre))

    def encode(self, batch: Batch) -> SMKDOutput:
        """Clips to states and gloss log-probabilities of both heads."""
        rows, lengths = frame_features(self.visual, batch)
        short, step_lengths = self.conv(rows, lengths)
        states = self.lstm(short, step_lengths)
        head = self.classifier if self.conv_classifier is None else self.conv_classifier
        log_probs, conv_log_probs = (
            logits.float().log_softmax(dim=2) for logits in (self.classifier(states), head(short))
        )
        return SMKDOutput(rows, lengths, states, step_lengths, log_probs, conv_log_probs)

    def forward(self, batch: Batch) -> SMKDOutput:
        """The same as `encode`."""
        return self.encode(batch)

    @torch.no_grad()
    def recognise(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What `signcl.systems.parts.search` searches in: log-probabilities after the LSTM, steps; in eval mode.
        [B, S, C], [B]"""
        out = self.encode(batch)
        return out.log_probs, out.step_lengths


def load_published(model: SMKD, state: Mapping[str, Tensor]) -> str:
    """Weights of a VAC_CSLR checkpoint, all or nothing; classifiers stay fresh: its glosses have other numbers.

    Args:
        model: changed in place.
        state: its `model_state_dict`: conv2d.*, conv1d.temporal_conv.*, temporal_model.rnn.*, classifier.*.

    Returns:
        What became of every tensor.

    Raises:
        ValueError: a tensor missing, unknown or of another shape.
    """
    state = {key.replace(".module.", ".").removeprefix("module."): value for key, value in state.items()}
    own, names = model.state_dict(), {}
    for here, there in (("conv1", "0"), ("norm1", "1"), ("conv2", "4"), ("norm2", "5")):
        for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            names[f"conv.{here}.{part}"] = f"conv1d.temporal_conv.{there}.{part}"
    for layer in range(len(model.lstm.forwards)):
        for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            names[f"lstm.forwards.{layer}.{part}_l0"] = f"temporal_model.rnn.{part}_l{layer}"
            names[f"lstm.backwards.{layer}.{part}_l0"] = f"temporal_model.rnn.{part}_l{layer}_reverse"
    names = {here: there for here, there in names.items() if here in own}
    missing = [there for there in names.values() if there not in state and not there.endswith("num_batches_tracked")]
    heads = [key for key in state if key.startswith(("classifier.", "conv1d.fc."))]
    strange = [key for key in state if key not in heads and key not in names.values() and key[:7] != "conv2d."]
    if missing or strange:
        raise ValueError(
            f"model.smkd.weights: not a checkpoint of VAC_CSLR with {len(model.lstm.forwards)} LSTM layers: "
            f"{len(missing)} tensors missing{_first(missing)}, {len(strange)} unknown{_first(strange)}"
        )
    found = {here: state[there] for here, there in names.items() if there in state}
    for here, value in found.items():
        if value.shape != own[here].shape:
            raise ValueError(
                f"model.smkd.weights: {names[here]} has shape {list(value.shape)}, this model needs "
                f"{list(own[here].shape)}; set model.width, model.conv_width and model.visual to the checkpoint's"
            )
    if not isinstance(model.visual, ResNet):
        raise ValueError("model.smkd.weights: a VAC_CSLR checkpoint holds a ResNet; set model.visual=resnet18")
    frames = load_resnet_weights(model.visual, {k: v for k, v in state.items() if k.startswith("conv2d.")})
    model.load_state_dict({**own, **model.visual.state_dict(prefix="visual."), **found})
    return (
        f"{frames}; {len(found)} tensors of convolution and LSTM loaded; left behind, since its glosses have other "
        f"numbers: {', '.join(heads) or 'none'}"
    )


def _first(names: list[str]) -> str:
    return f" (first {names[0]})" if names else ""
