"""The `type` of every option that takes a number, with bounds like those of recipe fields.

`add_argument("--beams", type=whole(low=1, high=1000))`. A plain int or float would accept NaN and absurd values.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

from signcl.data.bounds import Bounds, shown

__all__ = ["Number", "real", "whole"]


@dataclass(frozen=True)
class Number:
    """Reads a number from the command line and checks its bounds."""

    kind: type
    """int or float."""
    bounds: Bounds

    def __call__(self, text: str) -> Any:
        """Parse the number.

        Raises:
            argparse.ArgumentTypeError: not a number, or out of bounds.
        """
        try:
            value = self.kind(text)
        except ValueError:
            value = None
        if value is None or not self.bounds.hold(value):
            wanted = self.bounds.described(whole=self.kind is int)
            raise argparse.ArgumentTypeError(f"needs {wanted}, got {shown(text if value is None else value)}")
        return value


def whole(*, low: int, high: int) -> Number:
    """The type of a whole number from `low` to `high`, both included."""
    return Number(int, Bounds(low, high))


def real(
    *, low: float | None = None, high: float | None = None, above: float | None = None, below: float | None = None
) -> Number:
    """The type of a number with the bounds of `signcl.data.bounds.bounded`."""
    return Number(float, Bounds(low, high, above, below))
