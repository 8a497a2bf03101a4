"""Checks whether the scores of a run are meaningful, from the files of its run folder.

A finding with `empty` means that the scores show no learning at all, so that a difference to another run is
meaningless.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Finding", "equal_outputs", "health"]

FEW_SENTENCES = 8
"""Minimum number of answers for the checks of identical and few answers."""
SAME_ANSWER, FEW_ANSWERS = 0.5, 0.1
"""Share of the most frequent answer above which, and of different answers below which, a system ignores its input."""
FEW_STEPS = 500
"""Optimizer steps below which no published system has learnt to translate."""
SEEN = 20.0
"""Percentage of test sentences that also occur in training above which this is reported."""
DEV_ABOVE_TEST = (1.5, 5.0)
"""Ratio and BLEU-4 points by which dev exceeds test for this to be reported."""
LENGTHS = (0.5, 2.0)
"""Normal range of tokens of answers divided by tokens of references."""
SHUFFLED = 0.97
"""Threshold of SDR divided by SDR of shuffled glosses; at 1 the features contain nothing about the signs."""


@dataclass(frozen=True)
class Finding:
    """A fact that a reader of the scores should know."""

    name: str
    """Identifier, such as `identical_answers`."""
    text: str
    """Description for the reader."""
    empty: bool = False
    """Whether it shows that the run has learnt nothing."""


def health(
    card: Mapping[str, Any],
    scores: Mapping[str, Any] | None = None,
    *,
    dev: Mapping[str, Any] | None = None,
    density: Mapping[str, Any] | None = None,
    answers: Sequence[str] | None = None,
    references: Sequence[str] | None = None,
) -> list[Finding]:
    """Reasons for caution about the scores of a run, from its files; an empty list if there are none.

    Args:
        card: `card.json`.
        scores: entry of the split in `scores.json`.
        dev: entry of dev, if it was scored too.
        density: `density.<split>.json`.
        answers, references: answers and references of the split, in the same order.
    """
    found = [*_of_answers(answers or (), references or ()), *_of_density(density)]
    if scores is not None:
        found += [*_of_scores(scores), *_of_dev(scores, dev)]
    steps = card.get("steps")
    if isinstance(steps, int) and steps < FEW_STEPS:
        found.append(Finding("few_steps", f"trained for only {steps} steps, too few to learn to translate"))
    return found


def _of_answers(answers: Sequence[str], references: Sequence[str]) -> list[Finding]:
    if len(answers) < FEW_SENTENCES:
        return []
    found = []
    answer, times = Counter(answers).most_common(1)[0]
    different = len(set(answers))
    # if a sentence is frequent in the corpus, it may be frequent in the answers
    expected = max(Counter(references).values()) / len(references) if references else 0.0
    if times / len(answers) >= max(SAME_ANSWER, 2 * expected) or different == 1 < len(set(references)):
        share = f"{100 * times / len(answers):.0f} % of the answers"
        found.append(Finding("identical_answers", f"{share} are the same sentence, {answer!r}", empty=True))
    elif references and different / len(answers) < FEW_ANSWERS < len(set(references)) / len(references) / 2:
        found.append(Finding("few_answers", f"only {different} different answers to {len(answers)} clips", empty=True))
    return found


def _of_density(density: Mapping[str, Any] | None) -> list[Finding]:
    if not density or not density.get("shuffled"):
        return []
    if density["sdr"] < SHUFFLED * density["shuffled"]:
        return []
    text = f"SDR {density['sdr']:.1f} % is at the level of shuffled glosses ({density['shuffled']:.1f} %)"
    return [Finding("sdr_shuffled", f"{text}: its features do not distinguish signs", empty=True)]


def _of_scores(scores: Mapping[str, Any]) -> list[Finding]:
    found, made, counts = [], scores.get("made", {}), scores.get("counts", {})
    if made.get("trained_on_this_split"):
        found.append(Finding("trained_on_split", "the run was trained on this split"))
    if skipped := len(made.get("skipped") or ()):
        found.append(Finding("skipped_clips", f"{skipped} clips could not be read and are not in the scores"))
    if empty := counts.get("empty_hypotheses"):
        found.append(
            Finding("empty_answers", f"{empty} of {counts.get('sentences', made.get('clips'))} answers are empty")
        )
    tokens, theirs = counts.get("hypothesis_tokens"), counts.get("reference_tokens")
    if tokens is not None and theirs:
        low, high = LENGTHS
        if not low <= tokens / theirs <= high:
            found.append(
                Finding("lengths", f"answers have {tokens / theirs:.2f} times as many words as the references")
            )
    seen = scores.get("seen_in_training") or {}
    if seen.get("percent", 0) >= SEEN:
        unseen = scores.get("unseen", {}).get("bleu4")
        alone = "" if unseen is None else f"; BLEU-4 is {unseen:.2f} on the others"
        found.append(
            Finding(
                "seen_in_training", f"{seen['percent']:.0f} % of the sentences occur in training word for word{alone}"
            )
        )
    return found


def _of_dev(scores: Mapping[str, Any], dev: Mapping[str, Any] | None) -> list[Finding]:
    ours, theirs = scores.get("bleu4"), (dev or {}).get("bleu4")
    ratio, points = DEV_ABOVE_TEST
    if ours is None or theirs is None or theirs < ratio * ours or theirs < ours + points:
        return []
    return [Finding("dev_above_test", f"BLEU-4 is {theirs:.2f} on dev and {ours:.2f} here")]


def equal_outputs(a: Sequence[str], b: Sequence[str]) -> bool:
    """Whether two systems gave identical answers, so that a comparison is meaningless."""
    return len(a) == len(b) > 0 and all(ours == theirs for ours, theirs in zip(a, b))
