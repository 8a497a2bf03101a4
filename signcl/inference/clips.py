"""The loop over clips for all uses of a run: batches on the device, and handling of unreadable clips."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from signcl.data.batch import Batch, Sample
from signcl.data.installed import version_of
from signcl.data.loading import ClipDataset, check_size, read_batches
from signcl.data.planning import plan_batches
from signcl.data.pose_estimation import PoseKind, check_kind
from signcl.data.poses import other_layout, points_of
from signcl.data.progress import say
from signcl.data.registry import did_you_mean
from signcl.data.text import GlossVocabulary, Tokenizer
from signcl.training.recipe import Recipe

__all__ = ["batches_of", "none_read", "pick_device", "say_skipped", "unlike_training"]


DEVICES = ("auto", "cpu", "cuda", "mps")


def pick_device(device: str) -> torch.device:
    """The torch device; `auto` is the GPU if there is one."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        kind = device.partition(":")[0]
        if kind not in DEVICES:
            near = "; did you mean cuda?" if kind == "gpu" else did_you_mean(kind, DEVICES)
            raise ValueError(f"device={device}: needs {', '.join(DEVICES)} or cuda:NUMBER{near}") from None
        why = f"torch {version_of('torch')} finds no Apple GPU" if kind == "mps" else str(error).splitlines()[0]
        raise ValueError(f"device={device}: cannot be used here ({why}); try cpu") from None


def batches_of(
    model: nn.Module,
    recipe: Recipe,
    samples: Sequence[Sample],
    *,
    dim: int | None,
    poses: PoseKind | None = None,
    broken: dict[str, str],
    what: str,
    device: str = "auto",
    batch_size: int | None = None,
    workers: int = 0,
    tokenizer: Tokenizer | None = None,
    glosses: GlossVocabulary | None = None,
    targets: Any = None,
    known: Collection[str] = (),
    on_broken: str = "skip",
    progress: bool = True,
) -> Iterator[Batch]:
    """The clips of a split as a run reads them, sorted by length, without augmentation, padding clips or repeats.

    All functions that apply a run to clips use it, so that unreadable clips, frames of several sizes and features of
    the wrong size are handled the same way. The model is moved to the device and put in evaluation mode.

    Args:
        dim: size of the model's input features; None for pixels.
        poses: the key points that it was trained on; key points of another extractor are an error.
        broken: unreadable clips are added here, with reasons.
        what: label of the progress bar.
        batch_size: clips per batch; None: the recipe's.
        workers: number of loader processes.
        tokenizer: None: batches without tokens.
        glosses: gloss classes; None: batches without glosses.
        targets: makes `Batch.targets`; None: empty.
        known: names of clips that are already done. A batch is skipped if all of its clips are known. Batches do not
            depend on `known`, so that results are bit-identical with and without it.
        on_broken: "stop" raises an error at the first unreadable clip.

    Raises:
        ValueError: features of the wrong size or key points of another extractor; frames of several sizes in a batch;
            an unreadable clip with `on_broken="stop"`.
    """
    check_kind(poses, samples)
    check_size(samples, recipe.input, dim)
    place = pick_device(device)
    model.to(place).eval()
    data = ClipDataset(samples, tokenizer, recipe.reading, training=False, glosses=glosses, dim=dim, targets=targets)
    plan = plan_batches(
        data.lengths,
        batch_size=recipe.train.batch_size if batch_size is None else batch_size,
        batch_frames=recipe.train.batch_frames,
        shuffle=False,
    )
    if known:
        plan = [batch for batch in plan if not all(samples[i].name in known for i in batch)]
    yield from read_batches(
        data,
        plan,
        device=place,
        broken=broken,
        on_broken=on_broken,
        workers=workers,
        what=what,
        progress=progress,
    )


def say_skipped(broken: dict[str, str], what: str = "skipped") -> None:
    """Report the clips that were left out: the first five with reasons, then the number of others."""
    for name, reason in list(broken.items())[:5]:
        say(f"{what} {name}: {reason}")
    if len(broken) > 5:
        say(f"{what} {len(broken) - 5} more")


def none_read(broken: dict[str, str], where: str) -> ValueError:
    """The error for the case that no clip could be read."""
    name, reason = next(iter(broken.items()), ("", "it has no clips"))
    return ValueError(f"no clip of {where} could be read; the first: {name}: {reason}")


def unlike_training(feature_dim: int | None, inputs: np.ndarray, *, who: str = "the model") -> str:
    """Return what is wrong with the kind or size of a clip, as one line; nothing if it suits the model.

    Args:
        feature_dim: features per frame in training; None: trained on video frames.
        inputs: frames [T, H, W, 3] or features [T, D].
        who: names the model in the line.
    """
    is_features = inputs.ndim == 2
    if inputs.ndim == (4 if feature_dim is None else 2) and (feature_dim is None or inputs.shape[1] == feature_dim):
        return ""
    other = other_layout(feature_dim, inputs.shape[1]) if feature_dim is not None and is_features else ""
    came = f"features of size {inputs.shape[1]}" if is_features else "video frames"
    if feature_dim is None:
        return f"{who} was trained on video frames, this is {came}; give the video"
    key_points = points_of(feature_dim)
    needs = f"features of size {feature_dim}" + (f" (the size of {key_points} key points)" if key_points else "")
    return other or f"{who} was trained on {needs}, this is {came}; give what the training read"
