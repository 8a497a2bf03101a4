"""The effect of scoring conventions on BLEU: the final full stop, the tokenizer, lower-casing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from signcl.metrics import bleu
from signcl.metrics.written_forms import Tokenize, tokenize_as
from signcl.metrics.written_forms import with_stop as with_dot
from signcl.metrics.written_forms import without_stop as without_dot

__all__ = ["DOTS", "convention_table", "with_dot", "without_dot"]

DOTS = ("as written", "with", "without")
TOKENIZERS: tuple[Tokenize, ...] = ("none", "13a", "zh", "char")


def convention_table(
    hypotheses: Sequence[str], references: Sequence[str], *, tokenize: Tokenize = "auto"
) -> list[dict[str, Any]]:
    """BLEU-1..4 of the same answers under every convention, each applied to answers and references.

    Full stop as written, on every line, on none; tokenizers none, 13a, zh and char; case as written and lower.

    Args:
        hypotheses: the answers.
        references: the raw references.
        tokenize: the tokenizer of the run's own scores, for `scored`.

    Returns:
        One row per convention: dot, tokenize, case, bleu1..bleu4, signature; `scored` marks the run's own convention.
    """
    tokenize = tokenize_as(tokenize, references)
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
