"""Table 12 is the CSL-Daily part of Table 1: `python -m paper.table1`, with that corpus unless another is named.

python -m paper.table12 [--corpus csl_daily] [--root FOLDER]
"""

from __future__ import annotations

from paper import table1

__all__ = ["main"]


def main(words: list[str] | None = None) -> None:
    """Make the table."""
    table1.main(words, ("csl_daily", "phoenix14t", "synthetic"))


if __name__ == "__main__":
    main()
