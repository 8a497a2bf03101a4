"""Validates features and lengths given by callers: masks, mix-ups and impossible numbers are errors of one line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["clip_lengths", "float_features", "one_per_clip", "refuse_swapped"]


def float_features(features: Any, name: str) -> None:
    """Raises an error unless the features are a float tensor [B, T, D] of at least one clip.

    Raises:
        ValueError: with `name`, the loss.
    """
    if not isinstance(features, Tensor):
        raise ValueError(f"{name} needs features as a torch tensor [B, T, D], got {type(features).__name__}.")
    if features.dim() != 3 or not features.is_floating_point() or len(features) == 0:
        got = f"{features.dtype} {list(features.shape)}; one clip is features[None]"
        raise ValueError(f"{name} needs float features [B, T, D] with B >= 1, got {got}.")


def one_per_clip(
    values: Tensor | Sequence[float] | Any,
    clips: int,
    name: str,
    device: torch.device,
    *,
    whole: bool = True,
    padded: int | None = None,
) -> Tensor:
    """Returns one number per clip as a tensor. [B]

    Args:
        values: a tensor (stays on its device), a numpy array or a list of numbers.
        clips: B.
        name: name of the values for error messages, e.g. `lengths`.
        device: device for a list or array.
        whole: they are counts. Values on a GPU are not checked, because the host would have to wait for the device.
        padded: T of the features, to recognise features with time before the batch.

    Raises:
        ValueError: None, text, a mask, a count that differs from the number of clips, or a number below 0 or, if
            `whole`, between two whole numbers.
    """
    if values is None:
        raise _not_one_per_clip(name, clips, "None")
    if isinstance(values, int | float):
        raise _not_one_per_clip(name, clips, f"the number {values}")
    if not isinstance(values, Tensor):
        if isinstance(values, Sequence) and any(isinstance(value, str) for value in values):
            hint = "; signcl.count_words counts those of a sentence" if name == "num_words" else ""
            raise _not_one_per_clip(name, clips, f"text{hint}")
        try:
            values = torch.as_tensor(values, device=device)
        except (TypeError, ValueError, RuntimeError) as error:
            raise _not_one_per_clip(name, clips, type(values).__name__) from error
    if values.dtype == torch.bool or (values.dim() == 2 and len(values) == clips):
        raise _not_one_per_clip(name, clips, _as_table(values))
    if values.shape != (clips,):
        hint = "; the batch is the first dimension of features [B, T, D]" if values.shape == (padded,) else ""
        raise _not_one_per_clip(name, clips, f"{list(values.shape)}{hint}")
    if values.device.type == "cpu" and not torch.compiler.is_compiling():
        for value in values.tolist():
            if not value >= 0:  # NaN too
                raise ValueError(f"{name} must be at least 0, got {value:g}.")
            if whole and value % 1:
                raise ValueError(f"{name} must be counts, got {value:g}; multiply shares of T by T.")
    return values


def clip_lengths(
    values: Tensor | Sequence[float] | Any, features: Tensor, loss: str, *, name: str = "lengths"
) -> Tensor:
    """Returns the lengths of the clips as a tensor. [B]

    A length beyond the features would give a wrong mean without any sign of it. Tensors on a GPU are not checked for
    this, because the host would have to wait for the device.

    Args:
        values, name: as in `one_per_clip`.
        features: padded features, [B, T, ...].
        loss: name of the loss for error messages.

    Raises:
        ValueError: as `one_per_clip`; lengths beyond T.
    """
    clips, padded = features.shape[:2]
    lengths = one_per_clip(values, clips, name, features.device, padded=padded)
    if lengths.device.type == "cpu" and not torch.compiler.is_compiling() and max(lengths.tolist(), default=0) > padded:
        raise ValueError(f"{loss} got lengths up to {max(lengths.tolist())} for features of {padded} frames.")
    return lengths


def _not_one_per_clip(name: str, clips: int, came: str) -> ValueError:
    return ValueError(f"{name} must be one number per clip, [{clips}], got {came}.")


def _as_table(values: Tensor) -> str:
    """What a mask or table is, and how to make counts of it."""
    shape = list(values.shape)
    if values.dtype == torch.bool:
        if values.dim() != 2:
            return f"true and false {shape}"
        return f"a mask {shape}; give (~mask).sum(1), where True is padding, else mask.sum(1)"
    if values.shape[1] == 1:
        return f"{shape}; give squeeze(1)"
    if bool(((values == 0) | (values == 1)).all()):
        return f"a mask {shape}; give sum(1)"
    return f"a table {shape}; give how many of each row are not padding"


def refuse_swapped(lengths: Tensor, num_words: Tensor, frames: int) -> None:
    """Raises an error if `lengths` and `num_words` look swapped.

    They do if no clip has fewer words than frames, and either the features are padded to the largest of `num_words` and
    no clip is that long, or the words fill more than half of the padded frames and the clips less than half. Tensors on
    a GPU are not checked, because the host would have to wait for the device.

    Raises:
        ValueError: the two look swapped.
    """
    if lengths.device.type != "cpu" or num_words.device.type != "cpu" or torch.compiler.is_compiling():
        return
    longest, most = max(lengths.tolist(), default=0), max(num_words.tolist(), default=0)
    fills = longest < frames == most or 2 * longest < frames < 2 * most <= 2 * frames
    if fills and all((num_words >= lengths).tolist()):
        raise ValueError(
            f"lengths (up to {longest}) and num_words (up to {most}) look swapped for features of {frames} frames; "
            f"the order is features, lengths, num_words."
        )
