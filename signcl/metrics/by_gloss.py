"""Recognition accuracy per gloss, from the edit alignment of a recogniser's output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from signcl.metrics.scores import check

__all__ = ["GlossScore", "gloss_accuracy", "matched_tokens"]


@dataclass(frozen=True)
class GlossScore:
    """Score of one gloss over all sentences."""

    occurrences: int
    """Occurrences in the references."""
    correct: int
    """Occurrences that the alignment matches with the same gloss in the hypothesis."""

    @property
    def accuracy(self) -> float:
        """Share of the occurrences that are recognised, 0..1. Higher is better."""
        return self.correct / self.occurrences


def gloss_accuracy(hypotheses: Sequence[str], references: Sequence[str]) -> dict[str, GlossScore]:
    """Recognition accuracy of each gloss in the references.

    Accuracy of a gloss = share of its occurrences in the references that the edit alignment (`matched_tokens`) matches
    with the same gloss. Deleted and substituted occurrences are wrong; insertions do not count. Summed over all
    glosses, the correct ones are the reference tokens minus the substitutions and deletions of `wer`.

    Args:
        hypotheses: recognised glosses of each sentence, separated by spaces.
        references: annotated glosses of each sentence.

    Returns:
        The score of every gloss in the references, in order of first occurrence.

    Raises:
        ValueError: empty lists or lists of different lengths.

    Source: paper section 3.3 and A.4 ("recognition accuracy" of a gloss). The paper does not define it; this definition
    is ours.
    """
    check(hypotheses, references)
    seen: dict[str, list[int]] = {}
    for hypothesis, reference in zip(hypotheses, references):
        tokens = reference.split()
        for token, right in zip(tokens, matched_tokens(hypothesis.split(), tokens)):
            count = seen.setdefault(token, [0, 0])
            count[0] += 1
            count[1] += right
    return {gloss: GlossScore(*counts) for gloss, counts in seen.items()}


def matched_tokens(hypothesis: Sequence[str], reference: Sequence[str]) -> list[bool]:
    """Whether the alignment finds each reference token in the hypothesis. [tokens of the reference]

    The alignment has the fewest edits and, among those, the most matches (as `wer` with costs="plain"). Ties are broken
    in favour of later matches.
    """
    rows, columns = len(reference), len(hypothesis)
    # (edits, -matches) of the best alignment of the first i reference tokens with the first j hypothesis tokens.
    best = [[(0, 0)] * (columns + 1) for _ in range(rows + 1)]
    for i in range(rows + 1):
        for j in range(columns + 1):
            if not i or not j:
                best[i][j] = (i + j, 0)
                continue
            same = reference[i - 1] == hypothesis[j - 1]
            (edits, matches), (up, up_matches), (left, left_matches) = (
                best[i - 1][j - 1],
                best[i - 1][j],
                best[i][j - 1],
            )
            best[i][j] = min((edits + (not same), matches - same), (up + 1, up_matches), (left + 1, left_matches))
    found = [False] * rows
    i, j = rows, columns
    while i and j:
        same = reference[i - 1] == hypothesis[j - 1]
        edits, matches = best[i - 1][j - 1]
        if best[i][j] == (edits + (not same), matches - same):
            found[i - 1] = same
            i, j = i - 1, j - 1
        elif best[i][j] == (best[i - 1][j][0] + 1, best[i - 1][j][1]):
            i -= 1
        else:
            j -= 1
    return found
