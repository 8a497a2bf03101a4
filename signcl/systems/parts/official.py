"""Official checkpoints: read as data, their tensors under our names, every one of them accounted for.

`read_checkpoint` opens a file. A system's `published` says what in it is what, with `take` and a table of names.
`signcl.training.importing` makes a run folder of the result. Nothing in a checkpoint is run.
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
    """An official checkpoint as it was read."""

    file: Path
    tensors: Mapping[str, Tensor]
    """The weights under their own names, without the `module.` of data parallel training."""
    parts: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    """Other tensors by name that stand beside the weights, e.g. `text_decoder` in VLP version 2."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """What else the file holds: `epoch`, `args` (an argparse.Namespace), scores."""
    beside: Mapping[str, Path] = field(default_factory=dict)
    """Files that belong to it, by what they are: `words`, `glosses`, `config`, `pieces`."""

    def argument(self, name: str, default: Any = None) -> Any:
        """A value of the script's arguments, where the checkpoint has kept them."""
        return getattr(self.values.get("args"), name, default)

    def needs(self, what: str, usual: str) -> Path:
        """A file that belongs to the checkpoint: as named, or of the usual name in its folder.

        Raises:
            FileNotFoundError: neither is there.
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
    """What an official checkpoint is in our terms."""

    taken: Taken
    """Its tensors under our names, and those that are left behind."""
    model: Mapping[str, Any] = field(default_factory=dict)
    """Values of the recipe's model section that the tensors and the configuration decide."""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """Other recipe values by dotted key, e.g. {"input.max_frames": 400}."""
    assumed: Mapping[str, Any] = field(default_factory=dict)
    """Of `model`: values that the file does not tell, as published."""
    tokenizer: Tokenizer | None = None
    """Of its sentences; None: the recipe's `text.tokenizer` has to name a published one."""
    glosses: GlossVocabulary | None = None
    feature_dim: int | None = None
    """Size of the features that it reads; None for pixels."""
    targets: Any = None
    """What terms need of each sentence (`signcl.systems.targets.Targets`), for systems whose size depends on it."""
    fresh: Mapping[str, str] = field(default_factory=dict)
    """Patterns of our names that the checkpoint has no value for -> the reason."""
    described: Mapping[str, Any] = field(default_factory=dict)
    """Configurations of published networks inside it, by the name of their module."""
    system: str = ""
    """Another system than the one asked, e.g. `recogniser` for a Sign Language Transformer without its decoder."""


@dataclass(frozen=True)
class Taken:
    """Tensors by our names, and what became of the rest."""

    tensors: dict[str, Tensor]
    names: dict[str, str]
    """Our name -> theirs."""
    left: dict[str, str]
    """Their name -> why it has no place here."""

    def __or__(self, other: Taken) -> Taken:
        return Taken(self.tensors | other.tensors, self.names | other.names, self.left | other.left)


Name = str | Callable[[re.Match[str]], str]
"""What a pattern becomes: text, where groups may be used (`\\1`), or a function of the match."""


def take(state: Mapping[str, Tensor], table: Mapping[str, Name], left: Mapping[str, str], kind: str) -> Taken:
    """Tensors under our names.

    Args:
        state: their names to tensors.
        table: patterns of their names -> our names. The first that matches wholly counts.
        left: patterns of names that have no place here -> the reason.
        kind: of checkpoint, for the message.

    Raises:
        ValueError: names that neither table knows, or two tensors for one place.
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
            f"{len(strange)} of {len(state)} tensors are no part of {kind} as it was released, first "
            f"{', '.join(strange[:3])}"
        )
    return taken


def _renamed(theirs: str, table: Mapping[str, Name]) -> str | None:
    for pattern, ours in table.items():
        if hit := re.fullmatch(pattern, theirs):
            return hit.expand(ours) if isinstance(ours, str) else ours(hit)
    return None


def count_layers(names: Sequence[str] | Mapping[str, Any], pattern: str) -> int:
    """How many layers there are: one more than the highest number that the pattern's group finds; 0 for none."""
    found = [int(hit[1]) for name in names if (hit := re.match(pattern, name))]
    return max(found, default=-1) + 1


def mapping(path: Path) -> dict[str, Any]:
    """A YAML configuration that lies beside a checkpoint.

    Raises:
        ValueError: not YAML, or no mapping.
    """
    try:
        found = parse_yaml(read_text(path))
    except ValueError as error:  # not UTF-8 is one too
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: a configuration is a mapping of keys to values, got {type(found).__name__}")
    return found


def read_checkpoint(file: str | Path, beside: Mapping[str, Path] | None = None) -> Checkpoint:
    """An official checkpoint: weights, further tensors, plain values. Optimizer states are not kept.

    Raises:
        FileNotFoundError: no such file.
        ValueError: damaged, cut short, without tensors, or asking for code to be run.
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
