"""Configurations and published weights of transformers networks inside a system.

The configuration is read from the source that the recipe names and saved in the run folder (`architecture.json`), so
that a run loads without the published folder.
"""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from signcl.systems.parts.lora import published_names

__all__ = [
    "is_weight_file",
    "load_published_model",
    "one_line",
    "read_published_config",
    "tied_names",
    "untie",
]


def load_published_model(target: nn.Module, kind: Any, source: str, key: str) -> str:
    """Load published weights into a network, all or nothing; its adapters stay unchanged.

    Args:
        target: a transformers network, possibly with adapters.
        kind: the transformers class that loads it.
        source: a folder or hub id.
        key: the recipe key that names it.

    Returns:
        What happened to every tensor.

    Raises:
        ValueError: no weights found, or tensors that do not fit.
    """
    from transformers.utils import logging as progress

    shown, level = progress.is_progress_bar_enabled(), progress.get_verbosity()
    progress.disable_progress_bar()
    progress.set_verbosity_error()  # its warnings, e.g. about tied weights, are handled below
    try:
        found, told = kind.from_pretrained(source, output_loading_info=True, dtype=torch.float32)
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"{key}: no weights can be read from {source}: {one_line(error)}") from None
    finally:
        progress.set_verbosity(level)
        if shown:
            progress.enable_progress_bar()
    if missing := sorted(told["missing_keys"]):
        raise ValueError(f"{key}: {source} lacks {len(missing)} tensors, first {', '.join(missing[:3])}")
    own = target.state_dict()
    here = published_names(list(own))
    theirs = _language_part(found, here)
    wrong = [name for name in here if name not in theirs or theirs[name].shape != own[here[name]].shape]
    if wrong or len(theirs) != len(here):
        raise ValueError(
            f"{key}: {len(wrong)} tensors of {source} do not fit this {type(target).__name__}, first "
            f"{', '.join(wrong[:3]) or 'a tensor more than there is place for'}"
        )
    for name in own_copies(target, {here[name]: value for name, value in theirs.items()}):
        untie(target, name)
    target.load_state_dict({**own, **{here[name]: value for name, value in theirs.items()}})
    unused = sorted(told["unexpected_keys"])
    left = f", left behind: {', '.join(unused[:3])}{' ...' if len(unused) > 3 else ''}" if unused else ""
    return f"{len(theirs)} tensors of {type(found).__name__} loaded, no tensor missing{left}"


def _language_part(found: Any, names: Container[str]) -> dict[str, Tensor]:
    """Tensors of a loaded model; of one that reads pictures too, those of its language model alone.

    The language model of Gemma 3 is called `model.language_model.layers`... inside the whole, and `model.layers`...
    alone. The tensors of the vision tower and the projector are dropped.
    """
    tensors: dict[str, Tensor] = found.state_dict()
    inner = ".language_model."
    if any(name in names for name in tensors if inner in name) or not any(inner in name for name in tensors):
        return tensors
    alone = {name.replace(inner, ".", 1): value for name, value in tensors.items()}
    return {name: value for name, value in alone.items() if name in names}


def tied_names(network: nn.Module) -> dict[str, str]:
    """Map further names of shared weights to their first name."""
    first: dict[int, str] = {}
    tied = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        before = first.setdefault(id(parameter), name)
        if before != name:
            tied[name] = before
    return tied


def own_copies(network: nn.Module, tensors: dict[str, Tensor]) -> list[str]:
    """Names that the network ties to others although the published tensors differ.

    transformers 5 builds every T5 and mT5 with tied word embeddings and output layer. Checkpoints of Flan-T5 and mT5
    have two separate tensors, and `from_pretrained` silently unties them.
    """
    return [
        name
        for name, first in tied_names(network).items()
        if name in tensors and first in tensors and not torch.equal(tensors[name], tensors[first])
    ]


def untie(network: nn.Module, name: str) -> None:
    """Give the weight with this name a separate tensor."""
    path, _, leaf = name.rpartition(".")
    module = network.get_submodule(path)
    shared = getattr(module, leaf)
    setattr(module, leaf, nn.Parameter(shared.detach().clone(), requires_grad=shared.requires_grad))


def read_published_config(source: str, key: str) -> Any:
    """Read the transformers configuration of a folder or hub id.

    Raises:
        ValueError: no configuration is found.
    """
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"{key}: no folder {source} with a config.json, and no such hub id: {one_line(error)}"
        ) from None


def is_weight_file(name: str) -> bool:
    """Whether a name is a tensor file rather than a folder or hub id."""
    return Path(name).is_file() or Path(name).suffix in (".pth", ".pt", ".bin", ".safetensors")


def one_line(error: Exception) -> str:
    """A transformers error, shortened to one line."""
    return " ".join(str(error).split())[:200]
