"""I3D: windows of frames to one vector each, by the Inception network with time as a third axis.

Names and shapes of the weights are those of the published PyTorch Inception-I3D, so that checkpoints of Kinetics and
WLASL load by name. Its classifier (`logits`) is no part of a frame encoder: `signcl.systems.classifier` has its own.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from signcl.data.batch import Batch
from signcl.data.bounds import bounded
from signcl.systems.encoders.frame_encoders import describe, recomputed
from signcl.systems.encoders.windows import Windows

__all__ = ["I3D", "I3DConfig"]


@dataclass(frozen=True)
class I3DConfig:
    """visual=i3d: windows of frames through an Inception-I3D."""

    window: int = bounded(8, low=1, high=10_000)
    """Frames of a window. Published: 8 (GASLT); 8, 12 and 16 (TSPNet); 64 for training on isolated signs (WLASL)."""
    stride: int = bounded(2, low=1, high=10_000)
    """Frames from one window to the next."""
    width_factor: float = bounded(1.0, above=0, high=100)
    """All channels times this; 1 for published weights, 0.125 trains on a CPU."""
    channels: Literal["rgb", "bgr"] = "rgb"
    """Order of the pixels' channels; bgr for checkpoints of the WLASL code, whose loader keeps OpenCV's order."""
    norm_momentum: float = bounded(0.01, above=0, high=1)
    """Of the batch norms; 0.1 for short runs, whose running statistics would lag behind the weights."""


STEM = {
    "Conv3d_1a_7x7": (64, 7, 2),
    "Conv3d_2b_1x1": (64, 1, 1),
    "Conv3d_2c_3x3": (192, 3, 1),
}
"""Convolutions before the first mixed block: channels, side of the kernel, stride."""
MIXED = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
"""Channels of b0, b1a, b1b, b2a, b2b, b3b."""
POOLS = {
    "Conv3d_1a_7x7": ((1, 3, 3), (1, 2, 2)),
    "Conv3d_2c_3x3": ((1, 3, 3), (1, 2, 2)),
    "Mixed_3c": ((3, 3, 3), (2, 2, 2)),
    "Mixed_4f": ((2, 2, 2), (2, 2, 2)),
}
"""Max-pools, by the layer before them: kernel and stride over time, height, width."""

Sides = tuple[int, int, int]


class I3D(nn.Module):
    """Inception-I3D over overlapping windows of each clip: the mean over the last map, 1024 numbers a window.

    A clip of n frames gives (n - window) // stride + 1 windows, all of them inside the clip; one shorter than a window
    is lengthened by its last frame and gives one. 12,287,264 parameters, weights and batch norms together (published:
    12.29 M with the classifier left out).

    Args:
        window: frames of a window. Published: 8 (GASLT), 8, 12 and 16 (TSPNet), 64 in training on isolated signs.
        stride: frames from one window to the next; 2 as published.
        width_factor: all channels times this, for a small network without published weights.
        channels: order in which the pixels of a frame are read; `bgr` for checkpoints of the WLASL code, whose loader
            keeps OpenCV's order.
        norm_momentum: of the batch norms; the published 0.01 needs hundreds of steps until evaluation is as training.
        chunk: frames encoded at a time, at least one window: in training each chunk is recomputed in the backward pass
            and its batch norm sees that chunk only; None takes all at once.

    Source: Carreira and Zisserman 2017; the PyTorch form in the WLASL code (I3D/pytorch_i3d.py). Released code: the
    mean is an average pool of 2 x 7 x 7, made for 16 frames of 224 pixels; here it takes any size and is equal there.
    """

    def __init__(
        self,
        *,
        window: int = 8,
        stride: int = 2,
        width_factor: float = 1.0,
        channels: str = "rgb",
        norm_momentum: float = 0.01,
        chunk: int | None = None,
    ) -> None:
        super().__init__()
        if window < 1 or stride < 1:
            raise ValueError(
                f"I3D needs windows of at least 1 frame and a stride of at least 1, got {window}, {stride}."
            )
        if channels not in ("rgb", "bgr"):
            raise ValueError(f"model.i3d.channels needs rgb or bgr, got {channels!r}.")
        if chunk is not None and chunk < 1:
            raise ValueError(f"chunk needs at least 1 frame, got {chunk}; None takes all frames at once.")
        self.window, self.stride, self.chunk, self.channels = window, stride, chunk, channels
        self.first_centre = window / 2

        def scaled(count: int) -> int:
            return max(1, round(count * width_factor))

        before = 3
        for name, (after, kernel, step) in STEM.items():
            self.add_module(name, Unit(before, scaled(after), kernel, step))
            before = scaled(after)
        for name, sizes in MIXED.items():
            block = Mixed(before, *(scaled(size) for size in sizes))
            self.add_module(name, block)
            before = block.dim
        self.dim = before
        for part in self.modules():
            if isinstance(part, nn.BatchNorm3d):
                part.momentum = norm_momentum
        _channels_last(self)

    @classmethod
    def of(cls, config: I3DConfig, chunk: int | None = None) -> I3D:
        """With the values of a recipe."""
        return cls(**asdict(config), chunk=chunk)

    def num_windows(self, frames: int) -> int:
        """Windows of a clip of so many frames."""
        return Windows(self.window, self.stride).count(frames)

    def feature_lengths(self, lengths: Tensor) -> Tensor:
        """Windows of clips of so many frames. [B] -> [B]"""
        return Windows(self.window, self.stride).counts(lengths)

    def encode_clips(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """All windows of all clips, zero at padding, and how many each clip has. [B, W, dim], [B]

        Raises:
            ValueError: a batch without pixels.
        """
        frames = batch.inputs
        if frames.ndim != 4 or frames.shape[-1] != 3:
            raise ValueError(
                f"I3D needs RGB frames [N, H, W, 3], got {describe(frames)}; "
                "for pre-extracted features set model.visual to feature_mlp or identity."
            )
        found = Windows(self.window, self.stride).of(batch)
        return found.padded(self._windows(frames, found.frames)), found.counts

    def forward(self, windows: Tensor) -> Tensor:
        """Encode windows: uint8 RGB, or floats in 0..1. [M, window, H, W, 3] -> [M, dim]"""
        weight = self.get_submodule("Conv3d_1a_7x7.conv3d").weight
        assert isinstance(weight, Tensor)
        if self.channels == "bgr":
            windows = windows.flip(-1)
        values = windows.permute(0, 4, 1, 2, 3)  # a view whose memory already is channels_last_3d
        values = values * 2 - 1 if windows.is_floating_point() else values.to(weight.dtype) / 127.5 - 1
        # on a CPU torch 2.13's conv3d leaves parts of a bfloat16 weight gradient unset, so it stays in float32 there
        exact = torch.autocast("cpu", enabled=False) if values.device.type == "cpu" else nullcontext()
        with exact:
            for name, layer in self.named_children():
                values = layer(values)
                if name in POOLS:
                    values = _max_pool(values, *POOLS[name])
            return values.mean(dim=(2, 3, 4))

    def _windows(self, frames: Tensor, index: Tensor) -> Tensor:
        """Vectors of the windows that `index` names in packed frames. [N, H, W, 3], [M, window] -> [M, dim]"""

        def encode(frames: Tensor, index: Tensor) -> Tensor:
            gathered = frames.index_select(0, index.flatten()).view(*index.shape, *frames.shape[1:])
            vectors: Tensor = self(gathered)
            return vectors

        most = len(index) if self.chunk is None else max(1, self.chunk // self.window)
        if len(index) <= most:
            return encode(frames, index)
        parts = index.tensor_split(-(-len(index) // most))
        if torch.is_grad_enabled() and self.training:
            return torch.cat([recomputed(self, encode, frames, part) for part in parts])
        return torch.cat([encode(frames, part) for part in parts])


class Unit(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, before: int, after: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.kernel: Sides = (kernel, kernel, kernel)
        self.stride: Sides = (stride, stride, stride)
        self.conv3d = nn.Conv3d(before, after, kernel, stride, bias=False)
        self.bn = nn.BatchNorm3d(after, eps=0.001)

    def forward(self, values: Tensor) -> Tensor:
        """[M, before, t, h, w] -> [M, after, t', h', w']"""
        values, padding = _padded(values, self.kernel, self.stride)
        values = F.conv3d(values, self.conv3d.weight, None, self.stride, padding)
        if self.training and values.numel() == values.shape[1]:  # a single number a channel has no variance
            norm = self.bn
            values = F.batch_norm(values, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        else:
            values = self.bn(values)
        return F.relu(values, inplace=True)


class Mixed(nn.Module):
    """Four branches side by side: 1, 1-3, 1-3, pool-1."""

    def __init__(self, before: int, b0: int, b1a: int, b1b: int, b2a: int, b2b: int, b3b: int) -> None:
        super().__init__()
        self.dim = b0 + b1b + b2b + b3b
        self.b0 = Unit(before, b0)
        self.b1a, self.b1b = Unit(before, b1a), Unit(b1a, b1b, 3)
        self.b2a, self.b2b = Unit(before, b2a), Unit(b2a, b2b, 3)
        self.b3b = Unit(before, b3b)

    def forward(self, values: Tensor) -> Tensor:
        """[M, before, t, h, w] -> [M, dim, t, h, w]"""
        pooled = _max_pool(values, (3, 3, 3), (1, 1, 1))
        branches = [self.b0(values), self.b1b(self.b1a(values)), self.b2b(self.b2a(values)), self.b3b(pooled)]
        return torch.cat(branches, dim=1)


def _channels_last(module: Any) -> None:
    """Weights in the memory order of the frames (torch's types do not know this argument of `to`)."""
    module.to(memory_format=torch.channels_last_3d)


def _max_pool(values: Tensor, kernel: Sides, stride: Sides) -> Tensor:
    """TensorFlow's "same" max-pool; what goes in has passed a ReLU, so that padding with 0 is padding with nothing."""
    values, padding = _padded(values, kernel, stride)
    return F.max_pool3d(values, kernel, stride, padding)


def _padded(values: Tensor, kernel: Sides, stride: Sides) -> tuple[Tensor, Sides]:
    """TensorFlow's "same": ceil(size / stride) positions, an odd zero goes behind.

    Returns:
        The values and what the operation is to pad on both sides itself, which saves a copy where both are equal.
    """
    missing = [
        max(k - (s if size % s == 0 else size % s), 0)
        for size, k, s in zip(values.shape[2:], kernel, stride, strict=True)
    ]
    if all(total % 2 == 0 for total in missing):
        time, height, width = (total // 2 for total in missing)
        return values, (time, height, width)
    sides = [side for total in reversed(missing) for side in (total // 2, total - total // 2)]
    return F.pad(values, sides), (0, 0, 0)
