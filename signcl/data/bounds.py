"""Bounds of a number, written beside its field, and the one check that holds all of them.

A number of a recipe, a command or a corpus has bounds on both sides; NaN and infinity never pass. The bounds stand in
the field's metadata, so that the check, the error and the help say the same.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["Bounds", "bounded", "bounds_of", "check_bounds", "numbers_without_bounds"]


@dataclass(frozen=True)
class Bounds:
    """Where a number must lie. Each side has one of two ends: included (`low`, `high`) or not (`above`, `below`)."""

    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None
    odd: bool = False

    def __post_init__(self) -> None:
        assert (self.low is None) != (self.above is None), "a number needs one lower end: low or above"
        assert (self.high is None) != (self.below is None), "a number needs one upper end: high or below"

    def hold(self, value: float) -> bool:
        """Whether a number lies within; NaN and infinity never do."""
        return (
            math.isfinite(value)
            and (self.low is None or value >= self.low)
            and (self.high is None or value <= self.high)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
            and (not self.odd or value % 2 == 1)
        )

    def __str__(self) -> str:
        kind = "an odd number" if self.odd else "a number"
        if self.low is not None:
            start = f"of at least {self.low:.15g}" if self.below is not None else f"from {self.low:.15g}"
        else:
            start = f"above {self.above:.15g}"
        if self.low is not None and self.high is not None:
            end = f" to {self.high:.15g}"
        else:
            end = f" and at most {self.high:.15g}" if self.high is not None else f" and below {self.below:.15g}"
        return f"{kind} {start}{end}"

    def short(self) -> str:
        """In a bracket of a help text: `0 to 1`, `above 0 to 1000`."""
        start = f"above {self.above:.15g}" if self.low is None else f"{self.low:.15g}"
        end = f"below {self.below:.15g}" if self.high is None else f"{self.high:.15g}"
        return f"{'odd, ' if self.odd else ''}{start} to {end}"


def bounded(
    default: Any,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
    odd: bool = False,
) -> Any:
    """A dataclass field with bounds: `width: int = bounded(512, low=8, high=8192)`.

    The bounds hold for every number of the field: of a tuple, list or dict for each of its values. None passes where
    the type allows it.

    Args:
        default: the value of the field where none is given.
        low, above: the smallest value, included or not; one of the two.
        high, below: the largest value, included or not; one of the two.
        odd: only odd numbers.
    """
    metadata = {"bounds": Bounds(low, high, above, below, odd)}
    if isinstance(default, list | dict):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def bounds_of(field: dataclasses.Field[Any]) -> Bounds | None:
    """The bounds of a field, None where it has none."""
    return field.metadata.get("bounds")


def check_bounds(settings: Any, where: str = "") -> None:
    """Refuse a number outside its bounds, in a dataclass and in those within it.

    Args:
        where: what stands before a field's name in the message, such as `train.`.

    Raises:
        ValueError: names the field, its bounds and the value.
    """
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            check_bounds(value, f"{where}{field.name}.")
        elif (bounds := bounds_of(field)) is not None:
            for name, number in _numbers(value, f"{where}{field.name}"):
                if not bounds.hold(number):
                    raise ValueError(f"{name}: needs {bounds}, got {number}")


def _numbers(value: Any, name: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _numbers(inner, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _numbers(inner, name)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, value


def numbers_without_bounds(kind: type, where: str = "") -> list[str]:
    """Fields of a dataclass, and of those within it, that hold numbers and have no bounds: there should be none."""
    hints = typing.get_type_hints(kind)
    bare = []
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint):
            bare += numbers_without_bounds(typing.cast(type, hint), f"{where}{field.name}.")
        elif _holds_numbers(hint) and bounds_of(field) is None:
            bare.append(where + field.name)
    return bare


def _holds_numbers(hint: Any) -> bool:
    if typing.get_origin(hint) in (typing.Union, types.UnionType, dict, list, tuple):
        return any(map(_holds_numbers, typing.get_args(hint)))
    return hint in (int, float)
