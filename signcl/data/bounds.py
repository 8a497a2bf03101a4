"""Bounds of numbers, declared with their dataclass field, and one function that checks them all.

Every number in a recipe, command or corpus setting has a lower and an upper bound; NaN and infinity are never valid.
The bounds are field metadata, so check, error message and help text agree.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import numbers
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

__all__ = ["Bounds", "bounded", "bounds_of", "check_bounds", "hints_of", "numbers_without_bounds", "shown"]


@dataclass(frozen=True)
class Bounds:
    """The valid range of a number. Each end is either inclusive (`low`, `high`) or exclusive (`above`, `below`)."""

    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None
    odd: bool = False

    def __post_init__(self) -> None:
        assert (self.low is None) != (self.above is None), "a number needs one lower end: low or above"
        assert (self.high is None) != (self.below is None), "a number needs one upper end: high or below"

    def hold(self, value: float) -> bool:
        """Whether a number is within the bounds. NaN and infinity never are, because both ends are finite.

        Numbers are not converted, because an int may be too large for a float.
        """
        return (
            (self.low is None or value >= self.low)
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

    def refuse(self, value: Any, name: str, *, whole: bool = False) -> None:
        """Raises an error if a value is not a number, not whole although it must be, or out of bounds.

        Raises:
            ValueError: with `name`, the bounds and the value.
        """
        number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if number and (isinstance(value, numbers.Integral) or not whole):
            if not self.hold(value):
                raise ValueError(f"{name}: needs {self}, got {shown(value)}")
            return
        raise ValueError(f"{name}: needs {self.described(whole=whole)}, got {shown(value)}")

    def described(self, *, whole: bool) -> str:
        """The bounds for an error message: `a whole number from 1 to 8`."""
        return str(self).replace("a number", "a whole number") if whole else str(self)

    def short(self) -> str:
        """The bounds for a help text: `0 to 1`, `above 0 to 1000`."""
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
    """Declares a dataclass field with bounds: `width: int = bounded(512, low=8, high=8192)`.

    The bounds apply to every number in the field, also within a tuple, list or dict. None is valid if the type allows
    it.

    Args:
        default: default value of the field.
        low, above: lower bound, inclusive or exclusive; give one of the two.
        high, below: upper bound, inclusive or exclusive; give one of the two.
        odd: allow only odd numbers.
    """
    metadata = {"bounds": Bounds(low, high, above, below, odd)}
    if isinstance(default, list | dict):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def bounds_of(field: dataclasses.Field[Any]) -> Bounds | None:
    """The bounds of a field, or None."""
    return field.metadata.get("bounds")


def shown(value: Any) -> str:
    """A value for an error message, shortened if it is long."""
    try:
        text = str(value) if isinstance(value, numbers.Number) else repr(value)
    except ValueError:  # Python does not print an int of more than 4300 digits
        return "a number of thousands of digits"
    return text if len(text) <= 60 else f"{text[:20]}... ({len(text)} characters)"


def check_bounds(settings: Any, where: str = "") -> None:
    """Checks the bounds of all numbers in a dataclass and its nested dataclasses.

    A field with bounds must hold numbers, and whole numbers if its type hint is int.

    Args:
        where: prefix of the field name in the message, such as `train.`.

    Raises:
        ValueError: with the field, its bounds and the value.
    """
    hints = hints_of(typing.cast(Any, type(settings)))
    for field in dataclasses.fields(settings):
        value, name, hint = getattr(settings, field.name), f"{where}{field.name}", hints[field.name]
        bounds = bounds_of(field)
        if bounds is None or _is_settings(value):
            for inner_name, inner in _inner_settings(value, hint, name):
                check_bounds(inner, f"{inner_name}.")
        else:
            for inner_name, number, whole in _numbers(value, hint, name):
                bounds.refuse(number, inner_name, whole=whole)


@lru_cache(maxsize=1024)
def hints_of(kind: Any) -> dict[str, Any]:
    """The type hints of a dataclass, cached."""
    return typing.get_type_hints(kind)


def _is_settings(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _inner_settings(value: Any, hint: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yields the dataclasses in a field: its value, or the values of a list or dict of dataclasses."""
    if _is_settings(value):
        yield name, value
    elif isinstance(value, dict | list | tuple) and any(map(dataclasses.is_dataclass, _types_in(hint))):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _inner_settings(inner, hint, f"{name}.{key}")


def _numbers(value: Any, hint: Any, name: str) -> Iterator[tuple[str, Any, bool]]:
    """Yields the values of a field that must be numbers: name, value, and whether it must be whole."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        fitting = [member for member in arguments if _is_of(value, member)]
        if not fitting:
            whole = int in arguments and float not in arguments
            yield from _numbers(value, int if whole else float, name)
        elif (typing.get_origin(fitting[0]) or fitting[0]) in (int, float, dict, list, tuple):
            yield from _numbers(value, fitting[0], name)  # otherwise None, or a text of `int | str`
    elif origin in (list, tuple) and not isinstance(value, list | tuple):
        raise ValueError(f"{name}: needs a list of numbers, got {shown(value)}")
    elif origin is dict and not isinstance(value, dict):
        raise ValueError(f"{name}: needs numbers by name, got {shown(value)}")
    elif isinstance(value, dict) and hint not in (int, float):
        for key, inner in value.items():
            yield from _numbers(inner, arguments[1] if len(arguments) == 2 else Any, f"{name}.{key}")
    elif isinstance(value, list | tuple) and hint not in (int, float):
        each = arguments[:1] if origin is list or Ellipsis in arguments else arguments
        if len(each) > 1 and len(each) != len(value):
            raise ValueError(f"{name}: needs {len(each)} numbers, got {shown(value)}")
        for i, inner in enumerate(value):
            yield from _numbers(inner, each[min(i, len(each) - 1)] if each else Any, name)
    else:
        yield name, value, hint is int


def _is_of(value: Any, hint: Any) -> bool:
    """Whether a value is of a member type of a union; list and tuple are equivalent, since YAML has only lists."""
    kind = typing.get_origin(hint) or hint
    if kind is typing.Literal:
        return value in typing.get_args(hint)
    return isinstance(value, list | tuple if kind in (list, tuple) else kind) if isinstance(kind, type) else False


def numbers_without_bounds(kind: type, where: str = "") -> list[str]:
    """Fields of a dataclass and its nested dataclasses that hold numbers but have no bounds. There should be none."""
    return _bare(kind, where, ())


def _bare(kind: Any, where: str, outer: tuple[Any, ...]) -> list[str]:
    hints = hints_of(kind)
    bare = []
    for field in dataclasses.fields(kind):
        held = list(_types_in(hints[field.name]))
        for inner in held:
            if dataclasses.is_dataclass(inner) and inner not in (*outer, kind):
                bare += _bare(inner, f"{where}{field.name}.", (*outer, kind))
        if (int in held or float in held) and bounds_of(field) is None:
            bare.append(where + field.name)
    return bare


def _types_in(hint: Any) -> Iterator[Any]:
    """Yields the plain types in a type hint: int and str for `dict[str, int | None]`. Callables are skipped."""
    origin = typing.get_origin(hint)
    if origin is None:
        yield hint
    elif origin not in (typing.Literal, type, collections.abc.Callable):
        for argument in typing.get_args(hint):
            yield from _types_in(argument)
