"""Reads tensors by name from published checkpoints: files, transformers folders, hub ids.

Checkpoints are treated as data: no code in them is executed.
"""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from signcl.data.files import naming
from signcl.data.pickles import ARRAY_PARTS, check_torch, finished

__all__ = ["hub_file", "place_of_weights", "read_data", "read_tensors", "tensors_of"]

WEIGHTS = ("model", "model_state", "model_state_dict", "state_dict")
"""Keys under which training scripts store the weights in checkpoints."""


def _path(*parts: str) -> str:
    """Replacement for pathlib.Path: returns text."""
    return "/".join(parts).replace("//", "/", 1)


PLAIN: list[Any] = [
    Namespace,
    *((_path, f"pathlib.{kind}") for kind in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")),
    *ARRAY_PARTS,
]
"""Types that torch's restricted unpickler may build besides tensors: numpy arrays and numbers, argparse arguments, and
paths as text. Training checkpoints often contain such values."""


def read_tensors(source: str, key: str) -> dict[str, torch.Tensor]:
    """Read the tensors of a published checkpoint: `pretrained:` and a file, a transformers folder or a hub id.

    Pickled checkpoints (.pth, .bin) are read with torch's restricted unpickler: tensors, arrays and containers only.
    """
    if not source.startswith("pretrained:"):
        raise ValueError(f"{key}: needs pretrained:FILE, pretrained:FOLDER or pretrained:HUB_ID, got {source!r}")
    name = source.removeprefix("pretrained:")
    path = Path(name)
    if path.is_dir():
        names = ("model.safetensors", "pytorch_model.bin")
        found = [path / n for n in names if (path / n).is_file()]
        if not found:
            raise FileNotFoundError(f"{key}: {path} has none of {', '.join(names)}")
        path = found[0]
    elif not path.is_file():
        if name.count("/") > 1 or name.startswith((".", "~")):  # cannot be a hub id
            raise FileNotFoundError(
                f"{key}: there is no {path}; if it should be one of your runs, fit its recipe first"
                f" (`{key}=` starts from random weights)"
            )
        try:
            path = hub_file(name, "model.safetensors", key)
        except FileNotFoundError:
            path = hub_file(name, "pytorch_model.bin", key)  # mbart-large-cc25 has only this file
    data = read_data(path, key)
    tensors = tensors_of(data)
    if not tensors:
        raise ValueError(f"{key}: {path} holds no tensors by name")
    return tensors


def place_of_weights(data: Mapping[Any, Any]) -> str | None:
    """The key under which a checkpoint stores its weights; None if the checkpoint itself is the state dict."""
    return next((key for key in WEIGHTS if isinstance(data.get(key), Mapping)), None)


def tensors_of(data: Any) -> dict[str, torch.Tensor]:
    """Tensors by name from a state dict or a checkpoint that contains one; empty if there are none."""
    if not isinstance(data, Mapping):
        return {}
    if (place := place_of_weights(data)) is not None:
        return tensors_of(data[place])
    return {str(name): value for name, value in data.items() if isinstance(value, torch.Tensor)}


def read_data(path: Path, key: str = "") -> Any:
    """Read a checkpoint file: tensors, arrays, numbers, text, containers and argparse arguments.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged or truncated, or contains other types, which could run code.
    """
    where = f"{key}: {path}" if key else str(path)
    if not path.is_file():
        raise FileNotFoundError(f"{where}: no such file")
    try:
        with naming(path):
            return _data(path)
    except OSError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        if asked := re.search(r"(?:GLOBAL|type|class) (\w+(?:\.\w+)+)", reason):
            raise ValueError(
                f"{where} asks for {asked[1]}, which is neither a tensor nor a plain value and could run code; a "
                f"checkpoint is read as data only"
            ) from None
        told = re.search("[a-z]", reason) and not reason.startswith("Weights only load failed")  # of torch, no reason
        more = f" ({reason[:90]})" if told else ""
        raise ValueError(f"{where} cannot be read as a checkpoint: it is damaged or truncated{more}") from None


def _data(path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    with path.open("rb") as file:
        check_torch(file)
    with torch.serialization.safe_globals(PLAIN):
        return finished(torch.load(path, map_location="cpu", weights_only=True), {})


def hub_file(name: str, file: str, key: str) -> Path:
    """A file of a hub id, from the cache or the hub.

    Raises:
        FileNotFoundError: it cannot be found or downloaded.
    """
    from transformers.utils.hub import cached_file

    try:
        return Path(str(cached_file(name, file)))
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise FileNotFoundError(
            f"{key}: no file or folder {name}, and the hub id cannot be fetched: {reason}"
        ) from None
