"""Can the scores of a run be read as scores? What a careful reader would check first, from the files of the run folder.

A finding with `empty` says that the numbers show no learning at all, so that a difference to another run means nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Finding", "equal_outputs", "health"]

FEW_SENTENCES = 8
"""With fewer answers nothing is said about how alike they are."""
SAME_ANSWER, FEW_ANSWERS = 0.5, 0.1
"""Share of the most frequent answer, and of different answers among all, at which a system has stopped to look."""
FEW_STEPS = 500
"""Optimizer steps below which no system of the field has learnt to translate."""
SEEN = 20.0
"""Per cent of test sentences that training has in the same words."""
DEV_ABOVE_TEST = (1.5, 5.0)
"""Ratio and points of BLEU-4 by which dev is above test."""
LENGTHS = (0.5, 2.0)
"""Tokens of answers over tokens of references."""
SHUFFLED = 0.97
"""SDR over the SDR of shuffled glosses: at 1 the features know nothing of the signs."""


@dataclass(frozen=True)
class Finding:
    """One thing that a reader of the scores should know."""

    name: str
    """A short name for machines, such as `identical_answers`."""
    text: str
    """A sentence for people."""
    empty: bool = False
    """Whether the numbers show no learning at all."""


def health(
    card: Mapping[str, Any],
    scores: Mapping[str, Any] | None = None,
    *,
    dev: Mapping[str, Any] | None = None,
    density: Mapping[str, Any] | None = None,
    answers: Sequence[str] | None = None,
    references: Sequence[str] | None = None,
) -> list[Finding]:
    """What the files of a run say against reading its scores as they stand; an empty list where nothing does.

    Args:
        card: `card.json`.
        scores: the entry of the split in `scores.json`.
        dev: the entry of dev, where it was scored too.
        density: `density.<split>.json`.
        answers, references: of the split, in one order.
    """
    found = [*_of_answers(answers or (), references or ()), *_of_density(density)]
    if scores is not None:
        found += [*_of_scores(scores), *_of_dev(scores, dev)]
    steps = card.get("steps")
    if isinstance(steps, int) and steps < FEW_STEPS:
        found.append(Finding("few_steps", f"trained for {steps} steps only, too few to learn to translate"))
    return found


def _of_answers(answers: Sequence[str], references: Sequence[str]) -> list[Finding]:
    if len(answers) < FEW_SENTENCES:
        return []
    found = []
    answer, times = Counter(answers).most_common(1)[0]
    different = len(set(answers))
    # a corpus may have one sentence many times; then so may the answers
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
    return [Finding("sdr_shuffled", f"{text}: its features do not tell signs apart", empty=True)]


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
            Finding("seen_in_training", f"{seen['percent']:.0f} % of the sentences are in training word by word{alone}")
        )
    return found


def _of_dev(scores: Mapping[str, Any], dev: Mapping[str, Any] | None) -> list[Finding]:
    ours, theirs = scores.get("bleu4"), (dev or {}).get("bleu4")
    ratio, points = DEV_ABOVE_TEST
    if ours is None or theirs is None or theirs < ratio * ours or theirs < ours + points:
        return []
    return [Finding("dev_above_test", f"BLEU-4 is {theirs:.2f} on dev and {ours:.2f} here")]


def equal_outputs(a: Sequence[str], b: Sequence[str]) -> bool:
    """Whether two systems gave the same answers, so that a comparison compares nothing."""
    return len(a) == len(b) > 0 and all(ours == theirs for ours, theirs in zip(a, b))
