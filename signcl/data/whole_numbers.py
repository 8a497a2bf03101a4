"""Whole numbers of text files. Every cell of digits becomes a number here; tests/test_fuzz.py holds the rule.

Python's `int` refuses thousands of digits, in words about its own settings, and what it takes may not fit into 64 bits.
"""

from __future__ import annotations

__all__ = ["whole_number"]

MOST_DIGITS = 15
"""More than any frame or millisecond has; `int64` and `float64` hold such numbers exactly."""


def whole_number(text: str) -> int | None:
    """The number of at least 0 that digits stand for; None where the text is no such number, or has over 15 digits.

    Zeros at the front do not count. Digits of other scripts are digits, as for `int`.
    """
    if not text.isdecimal():
        return None
    digits = text.lstrip("0")
    return int(digits or "0") if len(digits) <= MOST_DIGITS else None
