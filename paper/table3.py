"""Table 3 is Table 2 on CSL-Daily: runs `paper.table2` with that corpus by default.

python -m paper.table3 [--corpus csl_daily] [--root FOLDER]
"""

from __future__ import annotations

from paper import table2

__all__ = ["main"]


def main(words: list[str] | None = None) -> None:
    """Makes the table."""
    table2.main(words, ("csl_daily", "phoenix14t", "synthetic"))


if __name__ == "__main__":
    main()
