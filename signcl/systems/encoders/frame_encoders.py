"""Frame encoders: map packed frames to one vector per frame, the features that SignCL and density use.

Pixels are uint8 RGB and are normalized here, on their device; pre-extracted features are floats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from signcl.systems.parts.layers import MaskedBatchNorm1d

__all__ = ["FeatureMLP", "Identity", "Pixels", "ResNet", "SmallCNN", "describe", "recomputed"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
RESNET_DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


class Pixels(nn.Module):
    """Base of pixel encoders: input checks, normalization and encoding in chunks."""

    dim: int
    draws = False
    """Whether it uses random numbers (dropout), which a recomputation must reproduce."""

    def __init__(self, chunk: int | None) -> None:
        super().__init__()
        if chunk is not None and chunk < 1:
            raise ValueError(f"chunk needs at least 1 frame, got {chunk}; None takes all frames at once.")
        self.chunk = chunk
        self.mean: Tensor
        self.scale: Tensor
        # not persistent: constants need not be in checkpoints
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", 1 / torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def _encode(self, images: Tensor) -> Tensor:
        """Encode normalized images. [n, 3, H, W] -> [n, dim]"""
        raise NotImplementedError

    def forward(self, inputs: Tensor) -> Tensor:
        """Encode frames.

        Args:
            inputs: uint8 RGB, or floats in 0..1. [N, H, W, 3]

        Returns:
            One vector per frame. [N, dim]
        """
        if inputs.ndim != 4 or inputs.shape[-1] != 3:
            raise ValueError(
                f"{type(self).__name__} needs RGB frames [N, H, W, 3], got {describe(inputs)}; "
                "for pre-extracted features set model.visual to feature_mlp or identity."
            )
        if self.chunk is None or len(inputs) <= self.chunk:
            return self._from_pixels(inputs)
        parts = inputs.tensor_split(-(-len(inputs) // self.chunk))  # equal chunks: batch norm gets no tiny last one
        if not (torch.is_grad_enabled() and self.training):
            return torch.cat([self._from_pixels(part) for part in parts])
        return torch.cat([recomputed(self, self._from_pixels, part, draws=self.draws) for part in parts])

    def _from_pixels(self, inputs: Tensor) -> Tensor:
        return self._encode(self.normalized(inputs))

    def normalized(self, inputs: Tensor) -> Tensor:
        """Normalize pixels for the network, in its precision. [n, H, W, 3] -> [n, 3, H, W]"""
        images = inputs.permute(0, 3, 1, 2)  # a view that is already channels_last in memory: 1.3 x faster on CPU
        shift, factor = -self.mean * self.scale, self.scale
        if not inputs.is_floating_point():
            images, factor = images.to(self.mean.dtype), factor / 255
        images = torch.addcmul(shift, images, factor)  # one pass over the frames
        kind = inputs.device.type
        if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
            images = images.to(torch.get_autocast_dtype(kind))
        return images


def recomputed(module: nn.Module, encode: Callable[..., Tensor], *inputs: Tensor, draws: bool = False) -> Tensor:
    """Compute `encode(*inputs)` with activation checkpointing: activations are recomputed in the backward pass.

    Args:
        module: the module whose batch norms must not count the inputs twice.
        draws: `encode` uses random numbers, which must be the same the second time.
    """
    contexts = lambda: (nullcontext(), _norm_statistics_kept(module))  # noqa: E731
    features: Tensor = checkpoint(encode, *inputs, use_reentrant=False, preserve_rng_state=draws, context_fn=contexts)
    return features


@contextmanager
def _norm_statistics_kept(module: nn.Module) -> Iterator[None]:
    """Keep the running statistics of batch norm unchanged during recomputation."""
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d | nn.BatchNorm3d)]
    before = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, momentum, count in before:
            norm.momentum, norm.num_batches_tracked = momentum, count


class SmallCNN(Pixels):
    """Four strided convolutions and a 4 x 4 map, for CPUs and frames of 48 to 96 pixels. 0.18 M parameters at dim 128.

    It uses group norm instead of batch norm, so it also works with one short clip per batch. The map keeps spatial
    positions (a mean over the frame would lose where the hands are).

    Args:
        dim: size of a feature.
        channels: channels of the four convolutions; multiples of 8.
        chunk: frames encoded at a time (recomputed in the backward pass); None: all.
    """

    def __init__(
        self, dim: int = 128, channels: tuple[int, int, int, int] = (16, 32, 48, 64), chunk: int | None = None
    ) -> None:
        super().__init__(chunk)
        self.dim = dim
        layers: list[nn.Module] = []
        for i, (before, after) in enumerate(zip((3, *channels), channels, strict=False)):
            kernel = 5 if i == 0 else 3
            layers += [nn.Conv2d(before, after, kernel, stride=2, padding=kernel // 2, bias=False)]
            layers += [nn.GroupNorm(8, after), nn.ReLU(inplace=True)]
        self.convs = _channels_last(nn.Sequential(*layers))
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.head = nn.Linear(channels[-1] * 16, dim)

    def _encode(self, images: Tensor) -> Tensor:
        return torch.relu(self.head(self.pool(self.convs(images)).flatten(1)))


class ResNet(Pixels):
    """ResNet without its classifier: the mean over the last map, of size 512, or 2048 from depth 50 on.

    From depth 50 on its blocks are bottlenecks (1 x 1, 3 x 3, 1 x 1), with the stride in the 3 x 3 as in torchvision.

    Args:
        depth: 18 (11,176,512 parameters), 34 (21,284,672), 50 (23,508,032) or 101 (42,500,160).
        chunk: frames encoded at a time, so that memory does not grow with the clip. In training each chunk is
            recomputed in the backward pass and batch norm uses the statistics of that chunk only; in evaluation chunks
            do not change the result.

    Source: paper Table 5 "Resnet w/o fc". Released code: torchvision's resnet18 with ImageNet weights.
    """

    def __init__(self, depth: int = 18, chunk: int | None = None) -> None:
        super().__init__(chunk)
        if depth not in RESNET_DEPTHS:
            raise ValueError(f"ResNet needs depth {' or '.join(map(str, RESNET_DEPTHS))}, got {depth}.")
        from transformers import ResNetConfig, ResNetModel

        deep = depth >= 50
        self.depth, self.dim = depth, 2048 if deep else 512
        config = ResNetConfig(
            depths=list(RESNET_DEPTHS[depth]),
            hidden_sizes=[self.dim // 8, self.dim // 4, self.dim // 2, self.dim],
            layer_type="bottleneck" if deep else "basic",
        )
        self.resnet = _channels_last(ResNetModel(config))

    def _encode(self, images: Tensor) -> Tensor:
        pooled: Tensor = self.resnet(images).pooler_output
        return pooled.flatten(1)


class Identity(nn.Module):
    """Pre-extracted features, unchanged.

    Args:
        dim: their size.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, inputs: Tensor) -> Tensor:
        """Check the rows and return them unchanged. [N, dim] -> [N, dim]"""
        return _checked_features(self, inputs, self.dim)


class FeatureMLP(nn.Module):
    """Two layers of linear, layer norm and ReLU over pre-extracted features, so that SignCL has features to train.

    Inputs may have any units: each column is first normalized to mean 0 and variance 1, in training with the statistics
    of the batch's frames, in evaluation with running statistics (a column that varies by less than 0.01 stays small).

    Args:
        feature_dim: size of an input row (36 for the sensor glove of the number signs).
        dim: size of a feature.
    """

    def __init__(self, feature_dim: int, dim: int = 128) -> None:
        super().__init__()
        self.feature_dim, self.dim = feature_dim, dim
        self.standardize = MaskedBatchNorm1d(feature_dim)
        self.layers = nn.Sequential(
            nn.Linear(feature_dim, dim), nn.LayerNorm(dim), nn.ReLU(), nn.Linear(dim, dim), nn.LayerNorm(dim), nn.ReLU()
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Encode rows. [N, feature_dim] -> [N, dim]"""
        rows = _checked_features(self, inputs, self.feature_dim)
        encoded: Tensor = self.layers(self.standardize(rows[:, :, None])[:, :, 0])
        return encoded


def _checked_features(module: nn.Module, inputs: Tensor, dim: int) -> Tensor:
    if inputs.ndim != 2 or inputs.shape[1] != dim or not inputs.is_floating_point():
        raise ValueError(
            f"{type(module).__name__} needs float features [N, {dim}], got {describe(inputs)}; "
            "features must come from the extractor that this model was trained with."
        )
    return inputs


def _channels_last(module: Any) -> Any:
    """Weights in the memory format of the frames (torch's type stubs lack this argument of `to`)."""
    return module.to(memory_format=torch.channels_last)


def describe(inputs: Tensor) -> str:
    """Type and shape, for an error message."""
    return f"{str(inputs.dtype).removeprefix('torch.')} {list(inputs.shape)}"
