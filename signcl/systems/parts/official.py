"""Reads official checkpoints as data and maps all their tensors to our names.

`read_checkpoint` opens a file. A system's `published` converts it, with `take` and a table of names, and
`signcl.training.importing` makes a run folder from the result. No code in a checkpoint is executed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from signcl.data.files import read_text
from signcl.data.safe_yaml import parse_yaml
from signcl.data.text import GlossVocabulary, Tokenizer
from signcl.systems.parts.checkpoints import place_of_weights, read_data, tensors_of

__all__ = ["Checkpoint", "Name", "Published", "Taken", "count_layers", "mapping", "read_checkpoint", "take"]


@dataclass(frozen=True)
class Checkpoint:
    """An official checkpoint as read from its file."""

    file: Path
    tensors: Mapping[str, Tensor]
    """The weights under their original names, without the `module.` of data parallel training."""
    parts: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    """Other dictionaries of tensors in the file, e.g. `text_decoder` in VLP version 2."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """Other content of the file: `epoch`, `args` (an argparse.Namespace), scores."""
    beside: Mapping[str, Path] = field(default_factory=dict)
    """Files that belong to it, by kind: `words`, `glosses`, `config`, `pieces`."""

    def argument(self, name: str, default: Any = None) -> Any:
        """A value of the training script's arguments, if the checkpoint contains them."""
        return getattr(self.values.get("args"), name, default)

    def needs(self, what: str, usual: str) -> Path:
        """A file that belongs to the checkpoint: the given one, or the one with the usual name in its folder.

        Raises:
            FileNotFoundError: neither exists.
        """
        path = self.beside.get(what, self.file.parent / usual)
        if not path.is_file():
            raise FileNotFoundError(
                f"{self.file} needs its {what}: there is no {path}; name the file with --{what} ({usual} in the "
                f"official run folder)"
            )
        return path


@dataclass(frozen=True)
class Published:
    """An official checkpoint, converted."""

    taken: Taken
    """Its tensors under our names, and those that are not used."""
    model: Mapping[str, Any] = field(default_factory=dict)
    """Values of the recipe's model section, determined by the tensors and the configuration."""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """Other recipe values by dotted key, e.g. {"input.max_frames": 400}."""
    assumed: Mapping[str, Any] = field(default_factory=dict)
    """Further values of `model` that the file does not contain, as published."""
    asks: Mapping[str, str] = field(default_factory=dict)
    """Recipe values by dotted key that the user must give, since nothing published fits all files -> the message."""
    tokenizer: Tokenizer | None = None
    """Tokenizer of its sentences; None: the recipe's `text.tokenizer` must name a published one."""
    glosses: GlossVocabulary | None = None
    feature_dim: int | None = None
    """Size of its input features; None for pixels."""
    targets: Any = None
    """Training targets of the sentences (`signcl.systems.targets.Targets`), for systems whose size depends on them."""
    fresh: Mapping[str, str] = field(default_factory=dict)
    """Patterns of our tensor names for which the checkpoint has no value -> the reason."""
    described: Mapping[str, Any] = field(default_factory=dict)
    """Configurations of published networks in it, by module name."""
    system: str = ""
    """The system, if not the requested one, e.g. `recogniser` for a Sign Language Transformer without its decoder."""


@dataclass(frozen=True)
class Taken:
    """Tensors under our names, and the reasons why others are not used."""

    tensors: dict[str, Tensor]
    names: dict[str, str]
    """Our name -> theirs."""
    left: dict[str, str]
    """Their name -> why it is not used."""

    def __or__(self, other: Taken) -> Taken:
        return Taken(self.tensors | other.tensors, self.names | other.names, self.left | other.left)


Name = str | Callable[[re.Match[str]], str]
"""Replacement for a pattern: text, which may use groups (`\\1`), or a function of the match."""


def take(state: Mapping[str, Tensor], table: Mapping[str, Name], left: Mapping[str, str], kind: str) -> Taken:
    """Rename tensors to our names.

    Args:
        state: tensors by their names.
        table: patterns of their names -> our names. The first full match is used.
        left: patterns of names that are not used -> the reason.
        kind: kind of checkpoint, for the message.

    Raises:
        ValueError: names that match neither table, or two tensors with the same new name.
    """
    taken, strange = Taken({}, {}, {}), []
    for theirs, tensor in state.items():
        reason = next((why for pattern, why in left.items() if re.fullmatch(pattern, theirs)), None)
        if reason is not None:
            taken.left[theirs] = reason
            continue
        ours = _renamed(theirs, table)
        if ours is None:
            strange.append(theirs)
        elif ours in taken.names:
            raise ValueError(f"{theirs} and {taken.names[ours]} are the same tensor in a checkpoint of {kind}")
        else:
            taken.tensors[ours], taken.names[ours] = tensor, theirs
    if strange:
        raise ValueError(
            f"{len(strange)} of {len(state)} tensors are not in the released form of {kind}, first "
            f"{', '.join(strange[:3])}"
        )
    return taken


def _renamed(theirs: str, table: Mapping[str, Name]) -> str | None:
    for pattern, ours in table.items():
        if hit := re.fullmatch(pattern, theirs):
            return hit.expand(ours) if isinstance(ours, str) else ours(hit)
    return None


def count_layers(names: Sequence[str] | Mapping[str, Any], pattern: str) -> int:
    """The number of layers: one more than the highest number matched by the pattern's group; 0 if none."""
    found = [int(hit[1]) for name in names if (hit := re.match(pattern, name))]
    return max(found, default=-1) + 1


def mapping(path: Path) -> dict[str, Any]:
    """Read a YAML configuration next to a checkpoint.

    Raises:
        ValueError: not YAML, or not a mapping.
    """
    try:
        found = parse_yaml(read_text(path))
    except ValueError as error:  # also raised for non-UTF-8 files
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: a configuration is a mapping of keys to values, got {type(found).__name__}")
    return found


def read_checkpoint(file: str | Path, beside: Mapping[str, Path] | None = None) -> Checkpoint:
    """Read an official checkpoint: weights, further tensors and plain values, without optimizer states.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged or truncated, has no tensors, or could run code.
    """
    file = Path(file)
    for what, path in (beside or {}).items():
        if not path.is_file():
            raise FileNotFoundError(f"--{what} {path}: no such file")
    data = read_data(file)
    if not isinstance(data, Mapping):
        raise ValueError(f"{file}: a checkpoint is a dictionary with tensors by name, this is {type(data).__name__}")
    place, weights = place_of_weights(data), tensors_of(data)
    if not weights:
        raise ValueError(
            f"{file} holds no tensors by name; its keys are {', '.join(map(str, list(data)[:5])) or 'none at all'}"
        )
    others = {} if place is None else {key: value for key, value in data.items() if key != place}
    parts = {key: tensors_of(value) for key, value in others.items() if isinstance(value, Mapping)}
    return Checkpoint(
        file,
        {re.sub(r"(^|\.)module\.", r"\1", name): value for name, value in weights.items()},
        {key: value for key, value in parts.items() if value},
        {key: value for key, value in others.items() if not isinstance(value, Mapping)},
        dict(beside or {}),
    )
