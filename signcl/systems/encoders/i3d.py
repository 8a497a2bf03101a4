"""I3D: encodes each window of frames as one vector, with a 3D Inception network.

Names and shapes of the weights are those of the published PyTorch Inception-I3D, so that Kinetics and WLASL checkpoints
load by name. The frame encoder omits its classifier (`logits`); `signcl.systems.classifier` has its own.
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
    """visual=i3d: an Inception-I3D over windows of frames."""

    window: int = bounded(8, low=1, high=10_000)
    """Frames per window. Published: 8 (GASLT); 8, 12 and 16 (TSPNet); 64 for training on isolated signs (WLASL)."""
    stride: int = bounded(2, low=1, high=10_000)
    """Frames from one window to the next."""
    width_factor: float = bounded(1.0, above=0, high=100)
    """Factor on all channels; 1 for published weights, 0.125 trains on a CPU."""
    channels: Literal["rgb", "bgr"] = "rgb"
    """Order of the colour channels; bgr for checkpoints of the WLASL code, whose loader keeps OpenCV's order."""
    norm_momentum: float = bounded(0.01, above=0, high=1)
    """Momentum of the batch norms; 0.1 for short runs, where running statistics would lag behind the weights."""


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
    """Inception-I3D over overlapping windows of each clip: the mean over the last map, a vector of 1024 per window.

    A clip of n frames has (n - window) // stride + 1 windows, all inside the clip; a clip shorter than one window is
    padded with its last frame to one window. 12,287,264 parameters including batch norms (published: 12.29 M without
    the classifier).

    Args:
        window: frames per window. Published: 8 (GASLT), 8, 12 and 16 (TSPNet), 64 in training on isolated signs.
        stride: frames from one window to the next; 2 as published.
        width_factor: factor on all channels, for a small network without published weights.
        channels: order of the colour channels; `bgr` for checkpoints of the WLASL code, whose loader keeps OpenCV's
            order.
        norm_momentum: momentum of the batch norms; with the published 0.01 the running statistics need hundreds of
            steps to match the batch statistics.
        chunk: frames encoded at a time, at least one window. In training each chunk is recomputed in the backward pass
            and batch norm sees only that chunk; None: all at once.

    Source: Carreira and Zisserman 2017; the PyTorch form in the WLASL code (I3D/pytorch_i3d.py). Released code: the
    mean is an average pool of 2 x 7 x 7, for 16 frames of 224 pixels; here it works for any size and is equal at
    that size.
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
        """Build from the values of a recipe."""
        return cls(**asdict(config), chunk=chunk)

    def num_windows(self, frames: int) -> int:
        """Number of windows of a clip with this number of frames."""
        return Windows(self.window, self.stride).count(frames)

    def feature_lengths(self, lengths: Tensor) -> Tensor:
        """Number of windows of clips with these numbers of frames. [B] -> [B]"""
        return Windows(self.window, self.stride).counts(lengths)

    def encode_clips(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Encode all windows of all clips: vectors, zero at padding, and windows per clip. [B, W, dim], [B]

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
        values = windows.permute(0, 4, 1, 2, 3)  # a view that is already channels_last_3d in memory
        values = values * 2 - 1 if windows.is_floating_point() else values.to(weight.dtype) / 127.5 - 1
        # on a CPU, conv3d of torch 2.13 leaves parts of a bfloat16 weight gradient unset, so use float32 there
        exact = torch.autocast("cpu", enabled=False) if values.device.type == "cpu" else nullcontext()
        with exact:
            for name, layer in self.named_children():
                values = layer(values)
                if name in POOLS:
                    values = _max_pool(values, *POOLS[name])
            return values.mean(dim=(2, 3, 4))

    def _windows(self, frames: Tensor, index: Tensor) -> Tensor:
        """Encode the windows given by frame indices into packed frames. [N, H, W, 3], [M, window] -> [M, dim]"""

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
        if self.training and values.numel() == values.shape[1]:  # one value per channel has no variance
            norm = self.bn
            values = F.batch_norm(values, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        else:
            values = self.bn(values)
        return F.relu(values, inplace=True)


class Mixed(nn.Module):
    """Four parallel branches: 1, 1-3, 1-3, pool-1."""

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
    """Weights in the memory format of the frames (torch's type stubs lack this argument of `to`)."""
    module.to(memory_format=torch.channels_last_3d)


def _max_pool(values: Tensor, kernel: Sides, stride: Sides) -> Tensor:
    """TensorFlow's "same" max-pool; the input has passed a ReLU, so padding with 0 has no effect."""
    values, padding = _padded(values, kernel, stride)
    return F.max_pool3d(values, kernel, stride, padding)


def _padded(values: Tensor, kernel: Sides, stride: Sides) -> tuple[Tensor, Sides]:
    """TensorFlow's "same" padding: ceil(size / stride) output positions; an odd zero goes at the end.

    Returns:
        The values, and the symmetric padding left to the operation, which saves a copy if both sides are equal.
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
