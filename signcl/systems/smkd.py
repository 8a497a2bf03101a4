"""SMKD and VAC: continuous sign language recognition from frames; the translation literature uses their features.

The network has a frame encoder, the K5-P2-K5-P2 convolution and a bidirectional LSTM, with a gloss classifier after the
convolution and after the LSTM. The one after the convolution (VAC) makes short-term features represent glosses. SMKD
shares one classifier with unit-length rows between both. `load_published` loads VAC_CSLR tensors by name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from signcl.data.batch import Batch
from signcl.data.bounds import bounded
from signcl.data.pickles import read_npy
from signcl.data.text import GlossVocabulary
from signcl.systems.base import Sizes, Start, System, SystemConfig, register
from signcl.systems.encoders import ResNet, load_resnet_weights
from signcl.systems.encoders.published_weights import resnet_name, resnet_of
from signcl.systems.parts.checkpoints import read_tensors
from signcl.systems.parts.frames import Tapped, feature_lengths, feature_size, frame_features, tap_of_frames
from signcl.systems.parts.layers import BiLSTM, ConvKind, TemporalConv, kind_of
from signcl.systems.parts.official import Checkpoint, Name, Published, count_layers, take
from signcl.systems.parts.official_gfslt import CONV
from signcl.systems.terms.shared import auxiliary, distillation, frame_contrast, recognition

__all__ = ["SMKD", "SMKDOutput", "UnitLinear", "load_published"]

NEVER = -1e4
"""Score of a class that is never predicted: its probability is 0 in float32, and its log-probability is finite."""


@dataclass(frozen=True)
class SMKDOutput:
    """A batch of clips with gloss scores after the convolution and after the LSTM."""

    features: Tensor
    """Frame features for SignCL. [B, T, D]"""
    lengths: Tensor
    """[B]"""
    steps: Tensor
    """LSTM states. [B, S, width]"""
    step_lengths: Tensor
    """Lengths of `steps` and of the convolution's output. [B]"""
    log_probs: Tensor
    """Log-softmax over gloss classes after the LSTM, used for answers; class 0 is the blank. [B, S, C]"""
    conv_log_probs: Tensor
    """Log-softmax over gloss classes after the convolution. [B, S, C]"""


class UnitLinear(nn.Module):
    """A linear layer without bias and with unit-length rows, so that no gloss is favoured by the length of its row.

    Args:
        dim_in: size of the input states.
        dim_out: number of classes.

    Source: the normalized classifier of VAC_CSLR (which stores the transpose, [dim_in, dim_out]).
    """

    def __init__(self, dim_in: int, dim_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim_out, dim_in))
        nn.init.xavier_uniform_(self.weight, gain=math.sqrt(2))

    def forward(self, states: Tensor) -> Tensor:
        """[..., dim_in] -> [..., dim_out]"""
        return nn.functional.linear(states, nn.functional.normalize(self.weight, dim=1))


@register
class SMKD(System):
    """Maps clips to gloss log-probabilities, one step per four frames (`conv: k5p2k5p2`).

    With frame features of size D, convolution width c, LSTM width w and C gloss classes it has
        (5 D c + c) + 2 c + (5 c^2 + c) + 2 c                            convolution
        2 (2 w (c + w/2) + 4 w) + (L - 1) 2 (2 w (w + w/2) + 4 w)        L layers of LSTM
        w C                                                              one shared classifier with unit rows
    parameters besides the frame encoder's: 21,582,848 at D = 512, c = w = 1024, L = 2, C = 1087. A plain classifier
    adds C biases, and a separate one for the convolution c C more. `conv: k5p2` has 5 D c + 3 c in row 1, k3 3 D c + 3
    c.

    Source: Min et al. 2021 (VAC), Hao et al. 2021 (SMKD), VAC_CSLR.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(SystemConfig):
        """`model` section of an SMKD or VAC recipe."""

        name: str = "smkd"
        width: int = bounded(256, low=2, high=65_536)
        """Size of the LSTM states, both directions together; must be even."""
        conv_width: int = bounded(256, low=1, high=65_536)
        """Width of the convolution; must equal `width` if the classifier is shared."""
        conv: ConvKind = "k5p2k5p2"
        """Kernels and pools of the convolution: one step per 4 (k5p2k5p2), 2 (k5p2) or 1 frames (k3). Released:
        conv_type 2, 1, 0."""
        encoder_layers: int = bounded(2, low=1, high=1000)
        """Layers of the LSTM."""
        dropout: float = bounded(0.1, low=0, below=1)
        """Dropout between the LSTM layers."""
        share_classifier: bool = True
        """Share one gloss classifier between convolution and LSTM (SMKD); false: one classifier each (VAC)."""
        weight_norm: bool = True
        """Normalise the rows of the classifier to length 1 (SMKD); false: a plain linear layer with bias (VAC)."""
        unknown_class: bool = True
        """Include a class for glosses not seen in training. VAC_CSLR has none; if false, it has probability 0."""
        pixels: Literal["imagenet", "symmetric"] = "imagenet"
        """Pixel normalization for a ResNet: ImageNet's mean and standard deviation, or x / 127.5 - 1 as in VAC_CSLR."""
        weights: str = ""
        """pretrained:FILE of a VAC_CSLR checkpoint: loads everything except its classifiers."""

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.width % 2:
                raise ValueError(f"model.width: smkd needs an even number, half for each direction, got {self.width}")
            if self.share_classifier and self.conv_width != self.width:
                raise ValueError(
                    f"model.share_classifier needs model.conv_width = model.width, got {self.conv_width} and "
                    f"{self.width}; make them equal or set it to false"
                )
            if self.pixels == "symmetric" and not self.visual.startswith("resnet"):
                raise ValueError(f"model.pixels=symmetric is for a ResNet, got model.visual={self.visual}")

    title: ClassVar = "SMKD and VAC: ResNet, temporal convolution, BiLSTM, CTC on both (Tables 1, 11, 12)"
    label: ClassVar = "SMKD"
    needs: ClassVar = "frames (or features) and glosses; starts from an ImageNet ResNet or a VAC_CSLR checkpoint"
    stage: ClassVar = "recognise"
    terms: ClassVar = {
        "recognition": recognition,
        "auxiliary": auxiliary,
        "distillation": distillation,
        "signcl": frame_contrast,
    }
    required_terms: ClassVar = ("recognition",)
    answers: ClassVar = "glosses"
    TAPS: ClassVar = ("features", "frames", "conv", "steps")
    checkpoint: ClassVar = "vac"
    checkpoint_marks: ClassVar = (
        "conv1d.temporal_conv.0.weight",
        "temporal_model.rnn.weight_ih_l0",
        "classifier.weight",
    )

    config: Config

    def __init__(self, config: Config, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        if config.pixels == "symmetric":  # x / 127.5 - 1
            visual: Any = self.visual
            visual.mean.fill_(0.5)
            visual.scale.fill_(2.0)
        self.conv = TemporalConv(
            feature_size(self.visual), config.conv_width, kind=config.conv, edge="vac", sync=config.sync_norm
        )
        self.lstm = BiLSTM(config.conv_width, config.width, layers=config.encoder_layers, dropout=config.dropout)
        kind = UnitLinear if config.weight_norm else nn.Linear
        classes = sizes.classes() - (not config.unknown_class)
        self.classifier = kind(config.width, classes)
        self.conv_classifier = None if config.share_classifier else kind(config.conv_width, classes)

    def step_lengths(self, lengths: Tensor) -> Tensor:
        """Number of steps for clips with these numbers of frames; with k5p2k5p2 a quarter, rounded up. [B] -> [B]"""
        return self.conv.step_lengths(feature_lengths(self.visual, lengths))

    def tap(self, batch: Batch, name: str) -> Tapped:
        """Frame features (tap `frames`), steps of the convolution or steps of the LSTM."""
        rows, lengths = frame_features(self.visual, batch)
        frames = tap_of_frames(self.visual, rows, lengths)
        if name == "frames":
            return frames
        steps, step_lengths = self.conv(rows, lengths)
        if name == "steps":
            steps = self.lstm(steps, step_lengths)
        return Tapped(steps, step_lengths, *self.conv.geometry(frames.stride, frames.first_centre))

    def exported_states(self, features: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """States of the LSTM and their gloss scores."""
        steps, step_lengths = self.conv(features, lengths)
        states = self.lstm(steps, step_lengths)
        log_probs = self._with_unknown(self.classifier(states).float()).log_softmax(dim=2)
        return {"steps": states, "step_lengths": step_lengths, "log_probs": log_probs}

    def forward(self, batch: Batch) -> SMKDOutput:
        """States of each clip and gloss log-probabilities of both heads."""
        rows, lengths = frame_features(self.visual, batch)
        short, step_lengths = self.conv(rows, lengths)
        states = self.lstm(short, step_lengths)
        head = self.classifier if self.conv_classifier is None else self.conv_classifier
        log_probs, conv_log_probs = (
            self._with_unknown(logits.float()).log_softmax(dim=2) for logits in (self.classifier(states), head(short))
        )
        return SMKDOutput(rows, lengths, states, step_lengths, log_probs, conv_log_probs)

    def _with_unknown(self, logits: Tensor) -> Tensor:
        """Add the class for unknown glosses if the classifier lacks it; it is then never predicted. [B, S, C]"""
        if self.config.unknown_class:
            return logits
        never = logits.new_full((*logits.shape[:2], 1), NEVER)
        return torch.cat([logits[..., :1], never, logits[..., 1:]], dim=2)

    @classmethod
    def published(cls, given: Checkpoint) -> Published:
        """A checkpoint of VAC_CSLR, including its classifiers and its `gloss_dict.npy`."""
        state = given.tensors
        weight, own = state["classifier.weight"], state.get("conv1d.fc.weight")
        normed = "classifier.bias" not in state
        shared = own is None or (own.shape == weight.shape and bool((own == weight).all()))
        layers = count_layers(state, r"temporal_model\.rnn\.weight_ih_l(\d+)")
        table: dict[str, Name] = {
            r"conv2d\.(.+)": lambda hit: f"visual.resnet.{resnet_name(hit[1])}",
            **{re.escape(theirs): ours for ours, theirs in released_names(layers).items()},
            r"classifier\.(.+)": r"classifier.\1",
            r"conv1d\.fc\.(.+)": r"conv_classifier.\1",
        }
        left = {r"conv1d\.fc\..+": "shared: a duplicate of the classifier"} if shared else {}
        taken = take(state, table, left, "a vac checkpoint")
        if normed:  # they store the transpose
            for name in ("classifier.weight", "conv_classifier.weight"):
                if name in taken.tensors:
                    taken.tensors[name] = taken.tensors[name].T.contiguous()
        glosses = _official_glosses(given.needs("glosses", "gloss_dict.npy"), weight.shape[1 if normed else 0])
        return Published(
            taken,
            model={
                "visual": resnet_of(name.removeprefix("conv2d.") for name in state if name.startswith("conv2d.")),
                "conv": kind_of(state, "conv1d.temporal_conv."),
                "conv_width": len(state["conv1d.temporal_conv.0.bias"]),
                "width": 2 * state["temporal_model.rnn.weight_hh_l0"].shape[1],
                "encoder_layers": layers,
                "share_classifier": shared,
                "weight_norm": normed,
                "unknown_class": False,
                "pixels": "symmetric",
            },
            assumed={"dropout": 0.3},
            recipe={
                "input.size": 256,
                "input.crop": 224,
                "loss.weights": {"recognition": 1.0, **({} if shared and own is None else {"auxiliary": 1.0})},
                "decode.gloss_beams": 10,
            },
            glosses=glosses,
        )

    def load_published(self, start: Start) -> list[str]:
        """Load everything except the classifiers of a VAC_CSLR checkpoint."""
        source = self.config.weights
        return (
            [f"weights from {source}: {load_published(self, read_tensors(source, 'model.weights'))}"] if source else []
        )


def released_names(layers: int) -> dict[str, str]:
    """Map our tensor names of convolution and LSTM to those of VAC_CSLR, for this number of LSTM layers."""
    names = {
        f"conv.{ours}.{part}": f"conv1d.temporal_conv.{place}.{part}"
        for place, ours in CONV.items()
        for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    }
    for layer in range(layers):
        for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            names[f"lstm.forwards.{layer}.{part}_l0"] = f"temporal_model.rnn.{part}_l{layer}"
            names[f"lstm.backwards.{layer}.{part}_l0"] = f"temporal_model.rnn.{part}_l{layer}_reverse"
    return names


def _official_glosses(path: Path, classes: int) -> GlossVocabulary:
    """The glosses of a VAC_CSLR dictionary (gloss -> [class, occurrences]), ordered by class.

    Raises:
        ValueError: not such a dictionary, or the wrong size.
    """
    found = read_npy(path)
    found = found.item() if isinstance(found, np.ndarray) and found.ndim == 0 else found
    try:
        numbers = {str(gloss): int(entry[0]) for gloss, entry in found.items()}
    except (AttributeError, TypeError, ValueError, IndexError):
        raise ValueError(
            f"{path}: a dictionary of gloss -> [class, occurrences] is needed, as VAC_CSLR makes it"
        ) from None
    if sorted(numbers.values()) != list(range(1, classes)):
        raise ValueError(
            f"{path} has {len(numbers)} glosses, but the classifier has {classes - 1} besides the blank: it belongs to "
            f"another checkpoint"
        )
    return GlossVocabulary(sorted(numbers, key=lambda gloss: numbers[gloss]))


def load_published(model: SMKD, state: Mapping[str, Tensor]) -> str:
    """Load a VAC_CSLR checkpoint, all or nothing, except the classifiers, since its glosses are numbered differently.

    Args:
        model: modified in place.
        state: its `model_state_dict`: conv2d.*, conv1d.temporal_conv.*, temporal_model.rnn.*, classifier.*.

    Returns:
        What happened to every tensor.

    Raises:
        ValueError: a tensor is missing, unknown or has the wrong shape.
    """
    state = {key.replace(".module.", ".").removeprefix("module."): value for key, value in state.items()}
    _check_conv(model, state)
    own = model.state_dict()
    names = {here: there for here, there in released_names(len(model.lstm.forwards)).items() if here in own}
    missing = [there for there in names.values() if there not in state and not there.endswith("num_batches_tracked")]
    heads = [key for key in state if key.startswith(("classifier.", "conv1d.fc."))]
    strange = [key for key in state if key not in heads and key not in names.values() and key[:7] != "conv2d."]
    if missing or strange:
        raise ValueError(
            f"model.weights: not a checkpoint of VAC_CSLR with {len(model.lstm.forwards)} LSTM layers: "
            f"{len(missing)} tensors missing{_first(missing)}, {len(strange)} unknown{_first(strange)}"
        )
    found = {here: state[there] for here, there in names.items() if there in state}
    for here, value in found.items():
        if value.shape != own[here].shape:
            raise ValueError(
                f"model.weights: {names[here]} has shape {list(value.shape)}, this model needs "
                f"{list(own[here].shape)}; set model.width, model.conv_width and model.visual to the checkpoint's"
            )
    if not isinstance(model.visual, ResNet):
        raise ValueError("model.weights: a VAC_CSLR checkpoint holds a ResNet; set model.visual=resnet18")
    frames = load_resnet_weights(model.visual, {k: v for k, v in state.items() if k.startswith("conv2d.")})
    model.load_state_dict({**own, **model.visual.state_dict(prefix="visual."), **found})
    return (
        f"{frames}; {len(found)} tensors of convolution and LSTM loaded; left behind, since its glosses have other "
        f"numbers: {', '.join(heads) or 'none'}"
    )


def _check_conv(model: SMKD, state: Mapping[str, Tensor]) -> None:
    """Raise ValueError if the checkpoint has a different kind of convolution than the model."""
    if (
        "conv1d.temporal_conv.0.weight" in state
        and (kind := kind_of(state, "conv1d.temporal_conv.")) != model.conv.kind
    ):
        raise ValueError(
            f"model.conv={model.conv.kind}: the convolution of model.weights is {kind}; set model.conv={kind}"
        )


def _first(names: list[str]) -> str:
    return f" (first {names[0]})" if names else ""
