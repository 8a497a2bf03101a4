"""Any vision model of transformers as a frozen frame encoder: CLIP, SigLIP, DINOv2, DINOv3, ViT; VideoMAE over windows.

Frames are resized, cropped and normalized on the device, as the model's preprocessor specifies. An image model gives
one vector per frame, a video model one per window. Nothing here is trained.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from signcl.data.batch import Batch
from signcl.systems.encoders.frame_encoders import describe
from signcl.systems.encoders.windows import Windows
from signcl.systems.parts.published_models import one_line, read_published_config

__all__ = ["Preprocessing", "PublishedImages", "PublishedVideos", "VisionReading", "open_vision"]

KEY = "--encoder"
POOLED = ("clip_vision_model", "siglip_vision_model", "dinov2", "dinov2_with_registers", "dinov3_vit")
"""Models whose `pooler_output` belongs to the published weights: the normalized class token, SigLIP's attention pool.
In other models (ViT) it is a layer that many checkpoints lack."""
FILTERS = {0: "nearest", 2: "bilinear", 3: "bicubic"}
"""Pillow's filter numbers, used by a preprocessor's `resample`."""


@dataclass(frozen=True)
class VisionReading:
    """How a published vision model is applied to clips."""

    window: int | None = None
    """Frames per window of a video model; None: as many as it was trained with."""
    stride: int | None = None
    """Frames from one window to the next; None: half a window."""
    scales: tuple[int, ...] = (1,)
    """Scales of a frame, as multiples of the model's input size. At 2 the frame is resized to twice the side and cut
    into 2 x 2 tiles, whose vectors are averaged. Vectors of several scales are concatenated (S2, as in SpaMo: 1 and
    2)."""
    pool: Literal["auto", "cls", "mean"] = "auto"
    """How patches are pooled. auto: the model's own pooling, else its class token, else the mean over patches."""
    chunk: int = 64
    """Frames encoded at a time."""
    half: bool = False
    """Use bfloat16: twice as fast on a GPU; rows differ in the third digit."""


@dataclass(frozen=True)
class Preprocessing:
    """A model's preprocessing of frames, read from its configuration."""

    resize: tuple[int, int] | int | None
    """Height and width, or the shorter side."""
    crop: tuple[int, int] | None
    """Height and width of the centre crop of the resized frame."""
    resample: str
    scale: float
    shift: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the model's input."""
        if self.crop is not None:
            return self.crop
        assert isinstance(self.resize, tuple)
        return self.resize

    def __call__(self, frames: Tensor, times: int = 1) -> Tensor:
        """Preprocess uint8 RGB frames to `times` the model's input size. [N, H, W, 3] -> [N, 3, h, w]"""
        images = frames.permute(0, 3, 1, 2).float()
        if self.resize is not None:
            images = self._resized(images, times)
        if self.crop is not None:
            images = _cropped(images, self.crop[0] * times, self.crop[1] * times)
        return self.normalized(images)

    def normalized(self, images: Tensor) -> Tensor:
        """Scale and normalize pictures of 0 to 255 that have the model's input size already. [N, 3, h, w]"""
        mean, std = (images.new_tensor(values).view(1, 3, 1, 1) for values in (self.mean, self.std))
        return (images * self.scale + self.shift - mean) / std

    def _resized(self, images: Tensor, times: int) -> Tensor:
        height, width = images.shape[2:]
        if isinstance(self.resize, tuple):
            target = self.resize[0] * times, self.resize[1] * times
        else:
            assert self.resize is not None
            short = self.resize * times
            target = (short, int(short * width / height)) if height <= width else (int(short * height / width), short)
        if target == (height, width):
            return images
        if self.resample == "nearest":
            return F.interpolate(images, target, mode="nearest-exact")
        for step in ((height, target[1]), target):  # as Pillow: width, then height, rounding after each
            images = F.interpolate(images, step, mode=self.resample, antialias=True, align_corners=False)
            images = images.round().clamp(0, 255)
        return images


def _cropped(images: Tensor, height: int, width: int) -> Tensor:
    """Centre crop; pads smaller pictures with black. [N, 3, H, W] -> [N, 3, height, width]"""
    above, left = height - images.shape[2], width - images.shape[3]
    if above > 0 or left > 0:
        sides = [max(0, left) // 2, max(0, left) - max(0, left) // 2]
        images = F.pad(images, [*sides, max(0, above) // 2, max(0, above) - max(0, above) // 2])
    top, start = (images.shape[2] - height) // 2, (images.shape[3] - width) // 2
    return images[:, :, top : top + height, start : start + width]


class PublishedImages(nn.Module):
    """A published image model, applied to each packed frame."""

    def __init__(self, model: nn.Module, prepare: Preprocessing, reading: VisionReading, source: str) -> None:
        super().__init__()
        self.model: Any = model.requires_grad_(False).eval()
        self.prepare, self.reading, self.source = prepare, reading, source
        config: Any = model.config
        self.kind: str = config.model_type
        self.dim = _probed(self, source)

    def described(self) -> dict[str, Any]:
        """Description saved in a feature store."""
        height, width = self.prepare.size
        return {
            "source": self.source,
            "model": self.kind,
            "size": [height, width],
            "scales": list(self.reading.scales),
            "pool": self.reading.pool,
            "half": self.reading.half,
        }

    def forward(self, inputs: Tensor) -> Tensor:
        """uint8 RGB [N, H, W, 3] -> [N, dim]"""
        if inputs.ndim != 4 or inputs.shape[-1] != 3:
            raise ValueError(f"{KEY}={self.source} needs RGB frames [N, H, W, 3], got {describe(inputs)}")
        return torch.cat([self._vectors(part) for part in inputs.split(self.reading.chunk)])

    def _vectors(self, frames: Tensor) -> Tensor:
        """Vectors of frames, concatenated over scales. [n, H, W, 3] -> [n, dim]"""
        found = []
        for scale in self.reading.scales:
            tiles = _tiles(self.prepare(frames, scale), scale)  # [n * scale ** 2, 3, h, w]
            rows = self.pooled(tiles)
            found.append(rows.unflatten(0, (len(frames), -1)).mean(dim=1))
        return torch.cat(found, dim=1)

    @torch.no_grad()
    def pooled(self, values: Tensor) -> Tensor:
        """The model's pooled output, one row per input. -> [n, D]"""
        device = values.device.type
        with torch.autocast(device, torch.bfloat16) if self.reading.half else nullcontext():
            out = self.model(pixel_values=values)
        states, pool = out.last_hidden_state, self.reading.pool
        if states.dim() == 4:  # a convolutional network: its last map
            return states.float().mean(dim=(2, 3))
        if pool == "auto" and self.kind in POOLED:
            return out.pooler_output.float()  # type: ignore[no-any-return]
        marks = _class_tokens(self.model)
        if pool == "cls" and not marks:
            raise ValueError(
                f"{KEY}={self.source}: pool=cls needs a model with a class token, but a {self.kind} has none"
            )
        if marks and pool != "mean":
            return states[:, 0].float()  # type: ignore[no-any-return]
        skipped = marks + int(getattr(self.model.config, "num_register_tokens", 0) or 0) if marks else 0
        return states[:, skipped:].float().mean(dim=1)  # type: ignore[no-any-return]


class PublishedVideos(PublishedImages):
    """A published video model (VideoMAE, ViViT, TimeSformer), applied to windows of each clip."""

    def __init__(self, model: nn.Module, prepare: Preprocessing, reading: VisionReading, source: str) -> None:
        frames = int(model.config.num_frames)  # type: ignore[union-attr, arg-type]
        size = frames if reading.window is None else reading.window
        if size != frames:
            raise ValueError(f"--window={size}: {source} reads {frames} frames at a time")
        self.windows = Windows(size, max(1, size // 2) if reading.stride is None else reading.stride)
        self.stride, self.first_centre = self.windows.stride, size / 2
        super().__init__(model, prepare, reading, source)

    def described(self) -> dict[str, Any]:
        """Description saved in a feature store."""
        return {**super().described(), "window": self.windows.size, "window_stride": self.windows.stride}

    def feature_lengths(self, lengths: Tensor) -> Tensor:
        """Number of windows of clips with these numbers of frames. [B] -> [B]"""
        return self.windows.counts(lengths)

    def encode_clips(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Encode all windows of all clips: vectors, zero at padding, and windows per clip. [B, W, dim], [B]"""
        if batch.inputs.ndim != 4 or batch.inputs.shape[-1] != 3:
            raise ValueError(f"{KEY}={self.source} needs RGB frames [N, H, W, 3], got {describe(batch.inputs)}")
        found = self.windows.of(batch)
        most = max(1, self.reading.chunk // self.windows.size)
        rows = torch.cat([self.forward(batch.inputs[part]) for part in found.frames.split(most)])
        return found.padded(rows), found.counts

    def forward(self, inputs: Tensor) -> Tensor:
        """Encode windows of uint8 RGB. [M, window, H, W, 3] -> [M, dim]"""
        count, size = inputs.shape[:2]
        found = []
        for scale in self.reading.scales:
            frames = self.prepare(inputs.flatten(0, 1), scale).unflatten(0, (count, size))
            tiles = _tiles(frames.flatten(1, 2), scale)  # the same tile of all frames of a window
            rows = self.pooled(tiles.unflatten(1, (size, 3)))
            found.append(rows.unflatten(0, (count, -1)).mean(dim=1))
        return torch.cat(found, dim=1)


def _tiles(images: Tensor, count: int) -> Tensor:
    """Cut every picture into count x count tiles, which stay adjacent. [n, C, h, w] -> [n count ** 2, C, h', w']"""
    if count == 1:
        return images
    height, width = images.shape[2] // count, images.shape[3] // count
    cut = images.unflatten(3, (count, width)).unflatten(2, (count, height))  # [n, C, count, h', count, w']
    return cut.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)


def _class_tokens(model: nn.Module) -> int:
    """Number of class tokens before the patches; the distilled DeiT has two."""
    names = [name.rsplit(".", 1)[-1] for name, _ in model.named_parameters()]
    return sum(any(name == mark for name in names) for mark in ("cls_token", "class_embedding", "distillation_token"))


@torch.no_grad()
def _probed(encoder: PublishedImages, source: str) -> int:
    """Size of a row, found by encoding a black picture, so that an unsupported model fails before any work."""
    shape = (*encoder.prepare.size, 3)
    window = getattr(encoder, "windows", None)
    picture = torch.zeros(1, *((window.size,) if window else ()), *shape, dtype=torch.uint8)
    try:
        return int(encoder(picture).shape[1])
    except (TypeError, RuntimeError, AttributeError) as error:
        raise ValueError(
            f"{KEY}={source}: a {encoder.kind} does not read plain pictures ({one_line(error)}); CLIP, SigLIP, DINOv2, "
            f"DINOv3, ViT and VideoMAE do"
        ) from None


def open_vision(source: str, reading: VisionReading | None = None) -> PublishedImages:
    """A published vision model, frozen, with its weights and its preprocessing.

    Args:
        source: a folder or hub id, with or without `pretrained:`.

    Raises:
        ValueError: nothing found; not a vision model; missing weights or preprocessor; windows for an image model, or
            of a different length than a video model was trained with.
    """
    from transformers import AutoModel
    from transformers.utils import logging as progress

    reading, source = reading or VisionReading(), source.removeprefix("pretrained:")
    if not reading.scales or min(reading.scales) < 1:
        raise ValueError(f"--scales: needs whole numbers of at least 1, got {list(reading.scales)}")
    read_published_config(source, KEY)
    shown = progress.is_progress_bar_enabled()
    progress.disable_progress_bar()
    try:
        found, told = AutoModel.from_pretrained(
            source, trust_remote_code=False, output_loading_info=True, dtype=torch.float32
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"{KEY}: no model can be read from {source}: {one_line(error)}") from None
    finally:
        if shown:
            progress.enable_progress_bar()
    model = getattr(found, "vision_model", found)  # for CLIP and SigLIP, the vision half
    kind = model.config.model_type
    if getattr(model, "main_input_name", "") != "pixel_values":
        raise ValueError(
            f"{KEY}={source}: a {kind} does not read pictures; needs e.g. openai/clip-vit-large-patch14, "
            f"facebook/dinov2-base or MCG-NJU/videomae-large"
        )
    missing = sorted(n for n in told["missing_keys"] if "pooler" not in n or kind in POOLED)
    if missing := [name for name in missing if "mask_token" not in name and not name.startswith("text_model")]:
        raise ValueError(f"{KEY}: {source} lacks {len(missing)} tensors, first {', '.join(missing[:3])}")
    prepare = _preprocessing(source, model.config)
    video = getattr(model.config, "num_frames", None) is not None
    if not video and (reading.window, reading.stride) != (None, None):
        raise ValueError(
            f"--window, --stride: {source} ({kind}) reads single frames; windows are only for video models"
        )
    return (PublishedVideos if video else PublishedImages)(model, prepare, reading, source)


def _preprocessing(source: str, config: Any) -> Preprocessing:
    from transformers import AutoImageProcessor

    try:
        told: Any = AutoImageProcessor.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise ValueError(
            f"{KEY}: {source} has no preprocessor_config.json that says how pictures are resized and normalized: "
            f"{one_line(error)}"
        ) from None

    def has(name: str) -> bool:
        return bool(getattr(told, name, False))

    size = _side(getattr(told, "size", None)) if has("do_resize") else None
    crop = _side(getattr(told, "crop_size", None)) if has("do_center_crop") else None
    if isinstance(crop, int):
        crop = (crop, crop)
    if size is None and crop is None:
        side = config.image_size
        size = (side, side) if isinstance(side, int) else tuple(side)
    if isinstance(size, int) and crop is None:  # central square: one size for all frames
        crop = (size, size)
    resample = FILTERS.get(int(getattr(told, "resample", 2) or 2))
    if resample is None:
        raise ValueError(
            f"{KEY}={source}: its preprocessor resizes by Pillow's filter {told.resample}, known are 0, 2, 3"
        )
    scale = float(told.rescale_factor) if has("do_rescale") else 1.0
    normal = has("do_normalize")
    return Preprocessing(
        resize=size,
        crop=crop,
        resample=resample,
        scale=scale,
        shift=-1.0 if has("offset") else 0.0,  # ViViT: from -1 to 1
        mean=tuple(map(float, told.image_mean)) if normal else (0.0, 0.0, 0.0),
        std=tuple(map(float, told.image_std)) if normal else (1.0, 1.0, 1.0),
    )


def _side(size: Any) -> tuple[int, int] | int | None:
    """The size in a preprocessor's configuration: height and width, or the shorter side."""
    if size is None or isinstance(size, int):
        return size
    told = dict(size)
    if told.get("height") and told.get("width"):
        return int(told["height"]), int(told["width"])
    return int(told["shortest_edge"]) if told.get("shortest_edge") else None
