"""Compares two runs sentence by sentence: how many changed, and which changed most in each direction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from signcl.metrics.scores import check, rouge_rows, sacrebleu_metric
from signcl.metrics.written_forms import Tokenize, same_text, tokenize_as, unit_for

__all__ = ["By", "changed_sentences", "sentence_scores"]

By = Literal["rouge_l", "bleu"]
SAID = {
    "rouge_l": "sentence ROUGE-L (beta 1.2)",
    "bleu": "sentence BLEU-4 (sacreBLEU, effective order, exp smoothing)",
}


def sentence_scores(
    hypotheses: Sequence[str], references: Sequence[str], by: By = "rouge_l", *, tokenize: Tokenize = "auto"
) -> np.ndarray:
    """Score of each sentence separately, 0-100. [sentences]

    Args:
        hypotheses: one each.
        references: one each.
        by: `rouge_l`, or `bleu`: sentence BLEU-4 over the n-gram orders that fit the answer's length.
        tokenize: for BLEU; zh and char also make ROUGE-L count characters.

    Raises:
        ValueError: lists of different lengths, or an unknown score.
    """
    check(hypotheses, references)
    tokenize = tokenize_as(tokenize, references)
    if by == "rouge_l":
        return 100 * rouge_rows(hypotheses, references, 1.2, unit_for(tokenize))
    if by != "bleu":
        raise ValueError(f"sentences are scored by rouge_l or bleu, got {by!r}")
    metric = sacrebleu_metric(tokenize, "exp")
    metric.effective_order = True
    return np.array([metric.sentence_score(h, [r]).score for h, r in zip(hypotheses, references)])


def changed_sentences(
    names: Sequence[str],
    references: Sequence[str],
    a: Sequence[str],
    b: Sequence[str],
    *,
    by: By = "rouge_l",
    tokenize: Tokenize = "auto",
    examples: int = 5,
) -> dict[str, Any]:
    """The numbers of sentences on which each of two runs is better, and those on which they differ most.

    Args:
        names: names of the clips.
        references: one each.
        a: answers of the first run.
        b: answers of the second run.
        by: see `sentence_scores`.
        tokenize: see `sentence_scores`.
        examples: number of examples in each direction.

    Returns:
        `counts`: b_better, a_better, equal (including `same_answer`, identical answers); `p_value`: two-sided sign test
        over sentences with different scores; `b_better` and `a_better`: rows of name, reference, a, b, their scores and
        difference (b - a), largest first, ties by name; `by`: the score.

    Raises:
        ValueError: as in `sentence_scores`; fewer than one example.
    """
    from scipy.stats import binomtest

    if examples < 1:
        raise ValueError(f"at least 1 example is needed, got {examples}")
    tokenize = tokenize_as(tokenize, references)
    unit = unit_for(tokenize)
    of_a = sentence_scores(a, references, by, tokenize=tokenize)
    of_b = sentence_scores(b, references, by, tokenize=tokenize)
    difference = of_b - of_a
    gained, lost = int((difference > 0).sum()), int((difference < 0).sum())
    order = sorted(range(len(names)), key=lambda i: (-abs(difference[i]), names[i]))

    def rows(sign: int) -> list[dict[str, Any]]:
        return [
            {
                "name": names[i],
                "reference": references[i],
                "a": a[i],
                "b": b[i],
                "a_score": float(of_a[i]),
                "b_score": float(of_b[i]),
                "difference": float(difference[i]),
            }
            for i in [i for i in order if difference[i] * sign > 0][:examples]
        ]

    return {
        "by": SAID[by],
        "sentences": len(names),
        "counts": {
            "b_better": gained,
            "a_better": lost,
            "equal": len(names) - gained - lost,
            "same_answer": sum(same_text(one, unit) == same_text(other, unit) for one, other in zip(a, b)),
        },
        "p_value": float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0,
        "b_better": rows(1),
        "a_better": rows(-1),
    }
