"""Loads published weights into our frame encoders.

ResNet (torchvision's or transformers' names, or inside a GFSLT checkpoint) and I3D (the PyTorch Inception-I3D of
Kinetics and WLASL). It takes state dicts and opens no file. Every key is loaded, dropped with a reason, or an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from signcl.systems.encoders.frame_encoders import ResNet
from signcl.systems.encoders.i3d import I3D
from signcl.systems.parts.checkpoints import tensors_of

__all__ = ["WeightReport", "load_i3d_weights", "load_resnet_weights", "resnet_name", "resnet_of"]


@dataclass(frozen=True)
class WeightReport:
    """What happened to every key of a checkpoint."""

    source: str
    """Naming scheme: torchvision, transformers or Inception-I3D."""
    prefix: str
    """Prefix of the frame encoder's keys, e.g. `backbone.conv_2d.resnet.`."""
    loaded: tuple[str, ...]
    """Keys loaded into the encoder."""
    dropped: tuple[str, ...]
    """Keys of the classifier, which an encoder does not have."""
    outside: tuple[str, ...]
    """Keys of other parts of a larger model."""
    kept: tuple[str, ...]
    """Names in the encoder that the checkpoint lacks: only batch counters, which old files do not have."""
    network: str = "ResNet"
    classes: int | None = None
    """Number of classes of the dropped classifier, if known."""

    def __str__(self) -> str:
        text = f"{len(self.loaded)} {self.network} tensors loaded ({self.source} names, prefix {self.prefix!r})"
        text += f", classifier{'' if self.classes is None else f' of {self.classes} classes'} dropped: "
        text += ", ".join(self.dropped) or "none"
        if self.outside:
            text += f", {len(self.outside)} keys of other parts ignored"
        return text + (f", {len(self.kept)} batch counters absent" if self.kept else "")


def load_resnet_weights(encoder: ResNet, state_dict: Mapping[str, Any]) -> WeightReport:
    """Load published weights into `encoder`, all or nothing.

    Args:
        encoder: modified in place.
        state_dict: tensors by name, or a checkpoint that holds them under "model" or "state_dict".

    Returns:
        What happened to every key.

    Raises:
        ValueError: no ResNet found, two of them, another depth, or a tensor of another shape.
    """
    state = tensors_of(state_dict)
    own: dict[str, Tensor] = encoder.resnet.state_dict()
    source, prefix = _find(state)
    name_of = {_torchvision_name(key) if source == "torchvision" else key: key for key in own}
    loaded: dict[str, tuple[str, Tensor]] = {}
    dropped: list[str] = []
    outside: list[str] = []
    strange: list[str] = []
    for key, value in state.items():
        inner = key.removeprefix(prefix)
        if not key.startswith(prefix) or (source == "transformers" and not inner.startswith(("embedder.", "encoder."))):
            (dropped if "classifier" in key or inner.startswith("fc.") else outside).append(key)
        elif inner in name_of:
            loaded[key] = (name_of[inner], value)
        elif inner.startswith("fc."):
            dropped.append(key)
        elif re.match(r"layer\d|conv\d|bn\d|embedder\.|encoder\.", inner):
            strange.append(key)
        else:
            outside.append(key)
    found = {name for name, _ in loaded.values()}
    missing = [name for name in name_of if name_of[name] not in found and not name.endswith("num_batches_tracked")]
    if strange or missing:
        raise ValueError(
            f"resnet{encoder.depth} and the checkpoint differ: {_some(missing, 'missing')}; "
            f"{_some(strange, 'unknown')}; set model.visual to the depth that the checkpoint was trained with."
        )
    for key, (name, value) in loaded.items():
        if value.shape != own[name].shape:
            raise ValueError(f"{key} needs shape {list(own[name].shape)}, the checkpoint has {list(value.shape)}.")
    kept = tuple(name for name in own if name not in found)
    encoder.resnet.load_state_dict({**own, **dict(loaded.values())})
    return WeightReport(source, prefix, tuple(loaded), tuple(dropped), tuple(outside), kept)


def load_i3d_weights(encoder: I3D, state_dict: Mapping[str, Any]) -> WeightReport:
    """Load a published Inception-I3D into `encoder`, all or nothing; its classifier is not loaded.

    Args:
        encoder: modified in place.
        state_dict: tensors by name, or a checkpoint that holds them under "model" or "state_dict".

    Returns:
        What happened to every key.

    Raises:
        ValueError: no I3D found, two of them, an optical flow network, or a tensor that is missing, unknown or of the
            wrong shape.
    """
    state = tensors_of(state_dict)
    stem = "Conv3d_1a_7x7.conv3d.weight"
    own: dict[str, Tensor] = encoder.state_dict()
    prefixes = [key.removesuffix(stem) for key in state if key.endswith(stem)]
    if len(prefixes) != 1:
        what = f"{len(prefixes)} ({', '.join(map(repr, prefixes))})" if prefixes else "none"
        raise ValueError(
            f"the checkpoint needs exactly one I3D (names such as {stem}), it has {what}; "
            f"its first keys are {', '.join(list(state)[:3]) or 'no tensors at all'}."
        )
    prefix = prefixes[0]
    inner = {key: key.removeprefix(prefix) for key in state if key.startswith(prefix)}
    dropped = [key for key, name in inner.items() if name.startswith("logits.")]
    loaded = {key: name for key, name in inner.items() if name in own}
    parts = tuple(name.split(".")[0] for name in own)
    strange = [key for key, name in inner.items() if name not in own and name.startswith(parts)]
    missing = [name for name in own if prefix + name not in state and not name.endswith("num_batches_tracked")]
    if strange or missing:
        raise ValueError(
            f"I3D and the checkpoint differ: {_some(missing, 'missing')}; {_some(strange, 'unknown')}; "
            f"a PyTorch Inception-I3D is needed."
        )
    for key, name in loaded.items():
        if state[key].shape != own[name].shape:
            flow = name == stem and state[key].shape[1] == 2
            hint = (
                "it reads optical flow, but an rgb network is needed" if flow else "published ones have width_factor 1"
            )
            raise ValueError(
                f"{key} needs shape {list(own[name].shape)}, the checkpoint has {list(state[key].shape)}; {hint}."
            )
    encoder.load_state_dict({**own, **{name: state[key] for key, name in loaded.items()}})
    heads = [len(state[key]) for key in dropped if key.endswith("bias")]
    return WeightReport(
        source="Inception-I3D",
        prefix=prefix,
        loaded=tuple(loaded),
        dropped=tuple(dropped),
        outside=tuple(key for key in state if key not in loaded and key not in dropped),
        kept=tuple(name for name in own if prefix + name not in state),
        network="I3D",
        classes=heads[0] if heads else None,
    )


def _find(state: Mapping[str, Tensor]) -> tuple[str, str]:
    """Naming scheme and prefix, found from the stem and the first block, which every ResNet of either scheme has."""
    anchors = {
        "torchvision": ("conv1.weight", "layer1.0.conv1.weight"),
        "transformers": (
            "embedder.embedder.convolution.weight",
            "encoder.stages.0.layers.0.layer.0.convolution.weight",
        ),
    }
    hits = []
    for source, (stem, block) in anchors.items():
        for key in state:
            prefix = key.removesuffix(stem)
            if key.endswith(stem) and prefix + block in state:
                hits.append((source, prefix))
    if len(hits) != 1:
        what = f"{len(hits)} ({', '.join(repr(prefix) for _, prefix in hits)})" if hits else "none"
        raise ValueError(
            f"the checkpoint needs exactly one ResNet (torchvision, transformers or GFSLT names), it has {what}; "
            f"its first keys are {', '.join(list(state)[:3]) or 'no tensors at all'}."
        )
    return hits[0]


def _torchvision_name(key: str) -> str:
    """Map transformers' name of a ResNet tensor to torchvision's."""
    if key.startswith("embedder."):
        return key.replace("embedder.embedder.convolution", "conv1").replace("embedder.embedder.normalization", "bn1")
    stage, block, inner = re.fullmatch(r"encoder\.stages\.(\d+)\.layers\.(\d+)\.(.+)", key).groups()  # type: ignore[union-attr]
    inner = inner.replace("shortcut.convolution", "downsample.0").replace("shortcut.normalization", "downsample.1")
    inner = re.sub(r"layer\.(\d)\.convolution", lambda hit: f"conv{int(hit[1]) + 1}", inner)
    inner = re.sub(r"layer\.(\d)\.normalization", lambda hit: f"bn{int(hit[1]) + 1}", inner)
    return f"layer{int(stage) + 1}.{block}.{inner}"


def resnet_name(torchvision: str) -> str:
    """Map torchvision's name of a ResNet tensor to ours, which is transformers'."""
    stem = {"conv1": "convolution", "bn1": "normalization"}
    first, _, rest = torchvision.partition(".")
    if first in stem:
        return f"embedder.embedder.{stem[first]}.{rest}"
    stage, block, part, end = re.fullmatch(r"layer(\d)\.(\d+)\.(downsample\.\d|[a-z]+\d)\.(.+)", torchvision).groups()  # type: ignore[union-attr]
    if part.startswith("downsample"):
        inner = "shortcut." + ("convolution" if part.endswith("0") else "normalization")
    else:
        inner = f"layer.{int(part[-1]) - 1}." + ("convolution" if part.startswith("conv") else "normalization")
    return f"encoder.stages.{int(stage) - 1}.layers.{block}.{inner}.{end}"


def resnet_of(names: Iterable[str]) -> str:
    """Identify a ResNet from torchvision tensor names: `resnet18`, `resnet34`, `resnet50` or `resnet101`.

    Raises:
        ValueError: another network.
    """
    names = set(names)
    blocks = tuple(
        len({hit[1] for name in names if (hit := re.match(rf"layer{stage}\.(\d+)\.", name))}) for stage in (1, 2, 3, 4)
    )
    known = {(2, 2, 2, 2): 18, (3, 4, 6, 3): 50 if "layer1.0.conv3.weight" in names else 34, (3, 4, 23, 3): 101}
    if blocks not in known:
        raise ValueError(
            f"its frame encoder has {blocks} blocks in its stages, which is no ResNet-18, 34, 50 or 101 as torchvision "
            f"names them"
        )
    return f"resnet{known[blocks]}"


def _some(names: list[str], what: str) -> str:
    if not names:
        return f"none {what}"
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{what} {', '.join(names[:3])}{more}"
