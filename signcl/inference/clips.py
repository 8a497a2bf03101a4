"""The one loop over the clips of a run: batches on the device, and how unreadable clips are handled."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from signcl.data.batch import Batch, Sample
from signcl.data.loading import ClipDataset, check_size, read_batches
from signcl.data.planning import plan_batches
from signcl.data.pose_estimation import PoseKind, check_kind
from signcl.data.progress import say
from signcl.data.text import GlossVocabulary, Tokenizer
from signcl.training.recipe import Recipe

__all__ = ["batches_of", "none_read", "pick_device", "say_skipped"]


def pick_device(device: str) -> torch.device:
    """`auto` is the GPU where there is one."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device={device}: cannot be used here ({str(error).splitlines()[0]}); try cpu") from None


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
    """The clips of a split as a run reads them, in order of length, without augmentation, padding or repeats.

    Everything that looks at the clips of a run goes through here, so that clips that cannot be read, frames of several
    sizes and features of the wrong size are treated alike. The model is put on the device and in evaluation mode.

    Args:
        dim: size of the features that the model reads, None for pixels.
        poses: the key points that it was trained on; those of another extractor are refused.
        broken: clips that cannot be read are added here, with the reason.
        what: beside the progress bar.
        batch_size: clips of a batch; None takes the recipe's.
        workers: loader processes.
        tokenizer: None leaves batches without tokens.
        glosses: classes of glosses; None leaves batches without them.
        targets: makes `Batch.targets`; None leaves it empty.
        known: names that are not needed again. A batch is passed over when all of its clips are known; the batches
            themselves do not depend on it, so that a clip gives the same bits with and without.
        on_broken: "stop" raises at the first clip that cannot be read.

    Raises:
        ValueError: features of another size than the model reads, or key points of another extractor; frames of
            several sizes in a batch; a clip that cannot be read, under `on_broken="stop"`.
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
    """Name the clips that were left out: the first five with the reason, the others by their number."""
    for name, reason in list(broken.items())[:5]:
        say(f"{what} {name}: {reason}")
    if len(broken) > 5:
        say(f"{what} {len(broken) - 5} more")


def none_read(broken: dict[str, str], where: str) -> ValueError:
    """The error where no clip at all could be read."""
    name, reason = next(iter(broken.items()), ("", "it has no clips"))
    return ValueError(f"no clip of {where} could be read; the first: {name}: {reason}")
