"""The programs of `signcl export`: three small modules around a run's model, with tensors as inputs and outputs.

visual maps frames to features, encoder maps padded features and lengths to states, and decoder predicts the next word.
`signcl.inference.exporting` writes them to files.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from signcl.data.batch import frame_mask
from signcl.inference.export_recurrent import keep_loops
from signcl.systems import System

__all__ = ["Program", "check_exportable", "programs_of"]

BATCH, TIME = 3, 29
"""Sizes of the examples for torch.export: above 1, which it would treat as a fixed size."""


@dataclass(frozen=True)
class Program:
    """A module to export, with example inputs and the names of its inputs and outputs."""

    name: str
    module: nn.Module
    example: tuple[Tensor, ...]
    inputs: dict[str, tuple[str | int, ...]]
    """Axes of each input; named axes have a dynamic size."""
    outputs: tuple[str, ...]

    def dynamic(self) -> tuple[Any, ...]:
        """Dynamic axes in the format of torch.export."""
        free = torch.export.Dim.DYNAMIC
        found = [{i: free for i, axis in enumerate(axes) if isinstance(axis, str)} for axes in self.inputs.values()]
        kinds = [one.kind for one in inspect.signature(self.module.forward).parameters.values()]
        if kinds[-1] != inspect.Parameter.VAR_POSITIONAL:
            return tuple(found)
        return (*found[: len(kinds) - 1], tuple(found[len(kinds) - 1 :]))  # torch.export wants *args as one tuple

    def drawn(self, sizes: dict[str, int], generator: torch.Generator) -> tuple[Tensor, ...]:
        """Random inputs of given sizes, with valid lengths; the first clip is the longest."""
        found = []
        for (name, axes), given in zip(self.inputs.items(), self.example):
            shape = [sizes[axis] if isinstance(axis, str) else axis for axis in axes]
            if name.endswith("lengths"):
                most = sizes["steps" if name == "step_lengths" else "time"]
                lengths = torch.randint(1, most + 1, shape, generator=generator)
                lengths[0] = most
                found.append(lengths)
            elif name == "tokens":
                found.append(torch.randint(0, int(given.max()) + 1, shape, generator=generator))
            elif given.dtype == torch.uint8:
                found.append(torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8))
            else:
                found.append(torch.randn(shape, generator=generator))
        return tuple(found)


class Visual(nn.Module):
    """Maps frames, or windows of frames, to features."""

    def __init__(self, model: System, dtype: torch.dtype) -> None:
        super().__init__()
        self.visual = model.visual.to(dtype)

    def forward(self, frames: Tensor) -> tuple[Tensor]:
        """uint8 RGB [N, H, W, 3], or windows [N, window, H, W, 3] -> [N, D] float32"""
        return (self.visual(frames).float(),)


class States(nn.Module):
    """Maps padded features to the decoder's input, or to log-probabilities of glosses.

    Args:
        inside: the frame encoder of features or key points, if it is part of this program.
    """

    def __init__(self, model: System, dtype: torch.dtype, inside: nn.Module | None) -> None:
        super().__init__()
        self.model, self.dtype, self.inside = model.to(dtype), dtype, inside

    def states(self, features: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """The states by name. [B, T, D], [B]"""
        rows = features.to(self.dtype)
        if self.inside is not None:
            rows = self._encoded(self.inside, rows, lengths)
        rows = rows * frame_mask(lengths, rows.shape[1])[..., None]  # padding is never read
        found = self.model.exported_states(rows, lengths)
        return {name: value.float() if value.is_floating_point() else value for name, value in found.items()}

    @staticmethod
    def _encoded(inside: Any, rows: Tensor, lengths: Tensor) -> Tensor:
        if hasattr(inside, "encode_padded"):
            return inside.encode_padded(rows, lengths)
        return inside(rows.flatten(0, 1)).unflatten(0, rows.shape[:2])

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """[B, T, D], [B] -> the values of `states`; floats are float32"""
        return tuple(self.states(features, lengths).values())


class NextWord(nn.Module):
    """Maps the words read so far and the states of a clip to log-probabilities of the next word.

    Args:
        names: the states that it reads, in the order of `exported_states`.
    """

    def __init__(self, model: System, dtype: torch.dtype, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.dtype, self.names = model.to(dtype), dtype, names

    def forward(self, tokens: Tensor, *states: Tensor) -> tuple[Tensor]:
        """[B, U], then the states, such as [B, S, width] and [B] -> [B, V] float32"""
        cast = [state.to(self.dtype) if state.is_floating_point() else state for state in states]
        return (self.model.exported_word(tokens, **dict(zip(self.names, cast))).float(),)


def check_exportable(model: System) -> None:
    """Check that a system can be exported, before anything is written.

    Raises:
        ValueError: it cannot; gives the reason.
    """
    name = model.config.name
    if model.answers == "nothing" and type(model).exported_states is System.exported_states:
        raise ValueError(
            f"model.name={name} is a pretraining system without answers: export the run initialised from it"
        )
    if getattr(getattr(model.config, "lm", None), "four_bit", False):
        raise ValueError(
            f"model.name={name} cannot be exported with model.lm.four_bit: bitsandbytes computes its layers, which "
            f"torch.export cannot follow; finetune without four_bit to export"
        )
    visual: Any = model.visual
    if hasattr(visual, "encode_clips") and not hasattr(visual, "encode_padded") and not hasattr(visual, "window"):
        raise ValueError(
            f"model.visual={model.config.visual} cannot be exported: it reads full batches (encode_clips) and has no "
            f"encode_padded(rows, lengths)"
        )
    for method in ("exported_states", *(("exported_word",) if model.answers == "sentences" else ())):
        if getattr(type(model), method) is getattr(System, method):
            raise ValueError(
                f"model.name={name} cannot be exported: {type(model).__name__} has no method {method} (docs/export.md)"
            )


def programs_of(
    model: System, feature_dim: int | None, pixels: tuple[int, int] | None, dtype: torch.dtype
) -> list[Program]:
    """The programs of a model in evaluation mode; converts its weights to `dtype`.

    Args:
        feature_dim: size of its input features; None for pixels.
        pixels: height and width of a frame.
    """
    check_exportable(model)
    keep_loops(model)
    visual: Any = model.visual
    found = []
    if feature_dim is None:
        assert pixels is not None
        visual.chunk = None  # the caller decides how many frames to pass at a time
        window = (int(visual.window),) if hasattr(visual, "encode_clips") else ()
        frames = torch.zeros((BATCH, *window, *pixels, 3), dtype=torch.uint8)
        module = Visual(model, dtype).eval()
        found.append(Program("visual", module, (frames,), {"frames": ("frames", *window, *pixels, 3)}, ("features",)))
    width = int(visual.dim) if feature_dim is None else feature_dim
    states = States(model, dtype, None if feature_dim is None else visual).eval()
    features, lengths = torch.randn(BATCH, TIME, width), torch.tensor([TIME, TIME // 2, 1])
    with torch.no_grad():
        given = states.states(features, lengths)
    shapes: dict[str, tuple[str | int, ...]] = {"features": ("batch", "time", width), "lengths": ("batch",)}
    found.append(Program("encoder", states, (features, lengths), shapes, tuple(given)))
    if model.answers == "sentences":
        assert model.tokenizer is not None
        words = getattr(model.tokenizer, "num_tokens", model.tokenizer.vocab_size)  # pad id may be out of range
        tokens = torch.full((BATCH, 5), words - 1)
        read = {name: value for name, value in given.items() if name != "log_probs"}  # these are of glosses
        shapes = {"tokens": ("batch", "words"), **{name: ("batch", *value.shape[1:]) for name, value in read.items()}}
        shapes["steps"] = ("batch", "steps", read["steps"].shape[2])
        decoder = NextWord(model, dtype, tuple(read)).eval()
        found.append(Program("decoder", decoder, (tokens, *read.values()), shapes, ("log_probs",)))
    return found
