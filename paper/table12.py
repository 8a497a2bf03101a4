"""Table 12 is the CSL-Daily part of Table 1: `python -m paper.table1`, with that corpus unless another is named.

python -m paper.table12 [--corpus csl_daily] [--root FOLDER]
"""

from __future__ import annotations

import sys

from paper.table1 import main as main_of_both

__all__ = ["main"]


def main(words: list[str] | None = None) -> None:
    """Make the table."""
    told = sys.argv[1:] if words is None else words
    named = any(word.split("=")[0] == "--corpus" for word in told)
    main_of_both(told if named else ["--corpus", "csl_daily", *told])


if __name__ == "__main__":
    main()
