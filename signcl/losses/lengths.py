"""Validates lengths given by callers: one number per clip, as a tensor, array or list; masks and mix-ups are errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["clip_lengths", "one_per_clip", "refuse_swapped"]


def one_per_clip(values: Tensor | Sequence[float] | Any, clips: int, name: str, device: torch.device) -> Tensor:
    """Returns one number per clip as a tensor. [B]

    Args:
        values: a tensor (stays on its device), a numpy array or a list of numbers.
        clips: B.
        name: name of the values for error messages, e.g. `lengths`.
        device: device for a list or array.

    Raises:
        ValueError: None, text, a mask, or a count that differs from the number of clips.
    """
    if values is None:
        raise ValueError(f"{name} must be one number per clip, [{clips}], got None.")
    if not isinstance(values, Tensor):
        if isinstance(values, Sequence) and any(isinstance(value, str) for value in values):
            hint = "; signcl.count_words counts those of a sentence" if name == "num_words" else ""
            raise ValueError(f"{name} must be one number per clip, [{clips}], got text{hint}.")
        try:
            values = torch.as_tensor(values, device=device)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"{name} must be one number per clip, [{clips}], got {type(values).__name__}.") from error
    if values.dtype == torch.bool or (values.dim() == 2 and len(values) == clips):
        hint = "(~mask).sum(1), where True is padding, else mask.sum(1)" if values.dtype == torch.bool else "sum(1)"
        raise ValueError(
            f"{name} must be one number per clip, [{clips}], got a mask {list(values.shape)}; give {hint}."
        )
    if values.shape != (clips,):
        raise ValueError(f"{name} must be one number per clip, [{clips}], got {list(values.shape)}.")
    return values


def clip_lengths(
    values: Tensor | Sequence[float] | Any, clips: int, padded: int, loss: str, device: torch.device
) -> Tensor:
    """Returns the lengths of the clips as a tensor. [B]

    A length beyond the features, or below 0, would give a wrong mean without any sign of it. Tensors on a GPU are not
    checked for this, because the host would have to wait for the device.

    Args:
        values, clips, device: as in `one_per_clip`.
        padded: T of the features.
        loss: name of the loss for error messages.

    Raises:
        ValueError: as `one_per_clip`; lengths beyond `padded`, or below 0.
    """
    lengths = one_per_clip(values, clips, "lengths", device)
    if lengths.device.type == "cpu" and not torch.compiler.is_compiling():
        given = lengths.tolist()
        if max(given) > padded:
            raise ValueError(f"{loss} got lengths up to {max(given)} for features of {padded} frames.")
        if min(given) < 0:
            raise ValueError(f"{loss} got a length of {min(given)}; lengths count the frames without padding.")
    return lengths


def refuse_swapped(lengths: Tensor, num_words: Tensor, frames: int) -> None:
    """Raises an error if `lengths` and `num_words` look swapped.

    They do if the features are padded to the largest of `num_words` and no clip is that long. Tensors on a GPU are not
    checked, because the host would have to wait for the device.

    Raises:
        ValueError: the two look swapped.
    """
    if lengths.device.type != "cpu" or num_words.device.type != "cpu" or torch.compiler.is_compiling():
        return
    longest, most = max(lengths.tolist(), default=0), max(num_words.tolist(), default=0)
    if longest < frames == most and bool((num_words >= lengths).all()):
        raise ValueError(
            f"lengths (up to {longest}) and num_words (up to {most}) look swapped for features of {frames} frames; "
            f"the order is features, lengths, num_words."
        )
