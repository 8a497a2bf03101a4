"""Parses whole numbers in text files. All readers use it; tests/test_fuzz.py enforces that.

Python's `int` rejects thousands of digits with a message about its own settings, and accepts numbers above 64 bits.
"""

from __future__ import annotations

__all__ = ["whole_number"]

MOST_DIGITS = 15
"""Enough for any frame or millisecond; `int64` and `float64` represent such numbers exactly."""


def whole_number(text: str) -> int | None:
    """Parses a whole number of at least 0; None if the text is not such a number or has more than 15 digits.

    Leading zeros do not count. Digits of other scripts are accepted, as in `int`.
    """
    if not text.isdecimal():
        return None
    digits = text.lstrip("0")
    return int(digits or "0") if len(digits) <= MOST_DIGITS else None
