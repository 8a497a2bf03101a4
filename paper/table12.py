"""Table 12 is the CSL-Daily part of Table 1: runs `paper.table1` with that corpus by default.

python -m paper.table12 [--corpus csl_daily] [--root FOLDER]
"""

from __future__ import annotations

from paper import table1

__all__ = ["main"]


def main(words: list[str] | None = None) -> None:
    """Makes the table."""
    table1.main(words, ("csl_daily", "phoenix14t", "synthetic"))


if __name__ == "__main__":
    main()
