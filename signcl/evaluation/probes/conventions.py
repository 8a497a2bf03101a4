"""What conventions of scoring do to BLEU: the final full stop, the tokenizer, lower-casing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from signcl.metrics import bleu
from signcl.metrics.scores import Tokenize

__all__ = ["DOTS", "convention_table", "with_dot", "without_dot"]

DOTS = ("as written", "with", "without")
TOKENIZERS: tuple[Tokenize, ...] = ("none", "13a", "zh", "char")
STOPS = (".", "。")


def without_dot(line: str) -> str:
    """A sentence less its full stop, where it ends in one. Other marks stay."""
    bare = line.rstrip()
    return bare[:-1].rstrip() if bare.endswith(STOPS) else bare


def with_dot(line: str) -> str:
    """A sentence with one full stop: " ." as a token of its own, "。" after a Chinese character."""
    bare = without_dot(line)
    chinese = bool(bare) and "\u4e00" <= bare[-1] <= "\u9fff"
    return bare + ("。" if chinese else " ." if bare else ".")


def convention_table(
    hypotheses: Sequence[str], references: Sequence[str], *, tokenize: Tokenize = "none"
) -> list[dict[str, Any]]:
    """BLEU-1..4 of the same answers under every convention, each applied to answers and references alike.

    Full stop as written, on every line, on none; tokenizers none, 13a, zh and char; case as written and lower.

    Args:
        hypotheses: the answers.
        references: the raw references.
        tokenize: the tokenizer of the run's own scores, for `scored`.

    Returns:
        A row per convention: dot, tokenize, case, bleu1..bleu4, signature; `scored` marks the run's own.
    """
    change: dict[str, Callable[[str], str]] = {"as written": str, "with": with_dot, "without": without_dot}
    cases: dict[str, Callable[[str], str]] = {"as written": str, "lower": str.lower}
    rows = []
    for case, cased in cases.items():
        for dot in DOTS:
            ours = [cased(change[dot](line)) for line in hypotheses]
            theirs = [cased(change[dot](line)) for line in references]
            for tokenizer in TOKENIZERS:
                found = bleu(ours, theirs, tokenizer)
                rows.append({
                    "dot": dot,
                    "tokenize": tokenizer,
                    "case": case,
                    **{f"bleu{order}": getattr(found, f"bleu{order}") for order in (1, 2, 3, 4)},
                    "scored": (dot, tokenizer, case) == ("as written", tokenize, "as written"),
                    "signature": found.signature,
                })  # fmt: skip
    return rows
