"""Table 11 is the PHOENIX-2014T part of Table 1: runs `paper.table1` with that corpus by default.

Its rows SRP and I3D use published features: phoenix14t.pami0.* of neccam/slt, and an I3D checkpoint.

python -m paper.table11 [--corpus phoenix14t] [--root FOLDER] [--extractors srp smkd i3d vlp] [--plan]
"""

from __future__ import annotations

from paper import table1

__all__ = ["main"]


def main(words: list[str] | None = None) -> None:
    """Makes the table."""
    table1.main(words, ("phoenix14t", "csl_daily", "synthetic"))


if __name__ == "__main__":
    main()
