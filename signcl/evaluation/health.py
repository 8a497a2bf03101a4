"""Checks whether the scores of a run are meaningful, from the files of its run folder.

A finding with `empty` means that the scores show no learning at all, so that a difference to another run is
meaningless.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["FINDINGS", "Finding", "equal_outputs", "health"]

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


FINDINGS = {
    "few_steps": "trained for only {steps} steps, too few to learn to translate",
    "identical_answers": "{share:.0f} % of the answers are the same sentence, {answer}",
    "few_answers": "only {different} different answers to {clips} clips",
    "sdr_shuffled": "SDR {sdr:.1f} % is at the level of shuffled glosses ({shuffled:.1f} %): its features do not "
    "distinguish signs",
    "trained_on_split": "the run was trained on this split",
    "skipped_clips": "{clips} clips could not be read and are not in the scores",
    "empty_answers": "{empty_answers} of {clips} answers are empty",
    "lengths": "answers have {ratio:.2f} times as many words as the references",
    "seen_in_training": "{percent:.0f} % of the sentences occur in training word for word",
    "seen_in_training_unseen": "{percent:.0f} % of the sentences occur in training word for word; BLEU-4 is "
    "{unseen:.2f} on the others",
    "dev_above_test": "BLEU-4 is {dev:.2f} on dev and {here:.2f} here",
}
"""What each finding says; the pages have the same in other languages."""


@dataclass(frozen=True)
class Finding:
    """A fact that a reader of the scores should know."""

    name: str
    """Identifier, such as `identical_answers`."""
    text: str
    """Description for the reader."""
    empty: bool = False
    """Whether it shows that the run has learnt nothing."""
    template: str = ""
    """Which of `FINDINGS` the text is made from."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """What is filled into it."""


def _finding(name: str, *, empty: bool = False, template: str = "", **values: Any) -> Finding:
    template = template or name
    return Finding(name, FINDINGS[template].format(**values), empty, template, values)


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
        found.append(_finding("few_steps", steps=steps))
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
        share = 100 * times / len(answers)
        found.append(_finding("identical_answers", empty=True, share=share, answer=repr(answer)))
    elif references and different / len(answers) < FEW_ANSWERS < len(set(references)) / len(references) / 2:
        found.append(_finding("few_answers", empty=True, different=different, clips=len(answers)))
    return found


def _of_density(density: Mapping[str, Any] | None) -> list[Finding]:
    if not density or not density.get("shuffled"):
        return []
    if density["sdr"] < SHUFFLED * density["shuffled"]:
        return []
    sdr, shuffled = float(density["sdr"]), float(density["shuffled"])
    return [_finding("sdr_shuffled", empty=True, sdr=sdr, shuffled=shuffled)]


def _of_scores(scores: Mapping[str, Any]) -> list[Finding]:
    found, made, counts = [], scores.get("made", {}), scores.get("counts", {})
    if made.get("trained_on_this_split"):
        found.append(_finding("trained_on_split"))
    if skipped := len(made.get("skipped") or ()):
        found.append(_finding("skipped_clips", clips=skipped))
    if empty := counts.get("empty_hypotheses"):
        found.append(_finding("empty_answers", empty_answers=empty, clips=counts.get("sentences", made.get("clips"))))
    tokens, theirs = counts.get("hypothesis_tokens"), counts.get("reference_tokens")
    if tokens is not None and theirs:
        low, high = LENGTHS
        if not low <= tokens / theirs <= high:
            found.append(_finding("lengths", ratio=tokens / theirs))
    seen = scores.get("seen_in_training") or {}
    if seen.get("percent", 0) >= SEEN:
        unseen = scores.get("unseen", {}).get("bleu4")
        percent = float(seen["percent"])
        if unseen is None:
            found.append(_finding("seen_in_training", percent=percent))
        else:
            template = "seen_in_training_unseen"
            found.append(_finding("seen_in_training", template=template, percent=percent, unseen=float(unseen)))
    return found


def _of_dev(scores: Mapping[str, Any], dev: Mapping[str, Any] | None) -> list[Finding]:
    ours, theirs = scores.get("bleu4"), (dev or {}).get("bleu4")
    ratio, points = DEV_ABOVE_TEST
    if ours is None or theirs is None or theirs < ratio * ours or theirs < ours + points:
        return []
    return [_finding("dev_above_test", dev=float(theirs), here=float(ours))]


def equal_outputs(a: Sequence[str], b: Sequence[str]) -> bool:
    """Whether two systems gave identical answers, so that a comparison is meaningless."""
    return len(a) == len(b) > 0 and all(ours == theirs for ours, theirs in zip(a, b))
