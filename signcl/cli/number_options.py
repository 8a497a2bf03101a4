"""Numbers on the command line: the `type` of every option that takes one, with bounds as the fields of a recipe have.

`add_argument("--beams", type=whole(low=1, high=1000))`. A plain int or float would let NaN and absurd values in.
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
        """The number.

        Raises:
            argparse.ArgumentTypeError: not a number, or one out of bounds.
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
    """A whole number, both ends included."""
    return Number(int, Bounds(low, high))


def real(
    *, low: float | None = None, high: float | None = None, above: float | None = None, below: float | None = None
) -> Number:
    """A number with the ends of `bounded`."""
    return Number(float, Bounds(low, high, above, below))
