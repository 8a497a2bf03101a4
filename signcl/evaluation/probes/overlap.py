"""How much of a score comes from sentences that occur in training, exactly or nearly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from signcl.evaluation.probes.probe_scores import scored
from signcl.metrics.scores import tokens
from signcl.metrics.written_forms import Tokenize, Unit, same_text, tokenize_as, unit_for

__all__ = ["nearest_sentences", "overlap_table"]

ROWS = 256  # sentences to compare with training at a time


def nearest_sentences(
    sentences: Sequence[str], train: Sequence[str], unit: Unit = "word"
) -> tuple[list[int], list[float]]:
    """The training sentence nearest to each sentence, and their similarity 1 - edits / tokens of the longer one, 0..1.

    Args:
        sentences: sentences to look up.
        train: training sentences; ties go to the first.
        unit: what counts as a token.
    """
    from rapidfuzz.distance import Levenshtein
    from rapidfuzz.process import cdist

    held = [tokens(line, unit) for line in train]
    places: list[int] = []
    nearness: list[float] = []
    for start in range(0, len(sentences), ROWS):
        asked = [tokens(line, unit) for line in sentences[start : start + ROWS]]
        found = cdist(asked, held, scorer=Levenshtein.normalized_similarity, dtype=np.float32)
        best = found.argmax(axis=1)
        places += best.tolist()
        nearness += found[np.arange(len(best)), best].tolist()
    return places, nearness


def overlap_table(
    names: Sequence[str],
    hypotheses: Sequence[str],
    references: Sequence[str],
    train: Sequence[str],
    *,
    near: float = 0.75,
    tokenize: Tokenize = "auto",
    samples: int = 1000,
    seed: int = 0,
    examples: int = 10,
) -> dict[str, Any]:
    """Separate scores for sentences that occur in training, nearly occur in training, and are new.

    A sentence nearly occurs in training if its similarity 1 - edits / tokens of the longer sentence is at least `near`,
    on words, or on characters with tokenize zh and char. Repeated spaces count as one; between characters spaces are
    ignored.

    Args:
        names: names of the clips.
        hypotheses: the run's answers.
        references: the correct sentences.
        train: the training sentences.
        near: minimum similarity; above 0, at most 1.
        tokenize: for BLEU.
        samples: resamples for the intervals.
        seed: seed of the resampling.
        examples: number of near-duplicates to list, nearest first.

    Returns:
        `groups`: scores of each non-empty group; `near_duplicates`: sentences of the middle group with their nearest
        training sentence; `copied`: percentage of answers that are exactly a training sentence, among all and among
        those with a new reference.

    Raises:
        ValueError: `near` is not a valid share, or no training sentences.
    """
    if not 0 < near <= 1:
        raise ValueError(f"the similarity must be above 0 and at most 1, got near={near}")
    if not train:
        raise ValueError("the overlap with training needs the training sentences, got none")
    tokenize = tokenize_as(tokenize, references)
    unit = unit_for(tokenize)
    held = sorted({same_text(line, unit) for line in train})
    places, nearness = nearest_sentences(references, held, unit)
    known = set(held)
    exact = [same_text(line, unit) in known for line in references]
    group = ["seen" if same else "near" if share >= near else "new" for same, share in zip(exact, nearness)]
    groups: dict[str, Any] = {}
    for kind in ("seen", "near", "new"):
        own = [i for i, one in enumerate(group) if one == kind]
        if own:
            hyps, refs = [hypotheses[i] for i in own], [references[i] for i in own]
            groups[kind] = scored(hyps, refs, tokenize=tokenize, samples=samples, seed=seed)
            groups[kind]["percent"] = 100 * len(own) / len(references)
    middle = sorted((i for i, one in enumerate(group) if one == "near"), key=lambda i: (-nearness[i], names[i]))
    copies = [same_text(line, unit) in known for line in hypotheses]
    fresh = [copy for copy, one in zip(copies, group) if one == "new"]
    return {
        "near": near,
        "unit": unit,
        "training_sentences": len(held),
        "groups": groups,
        "copied": {
            "all": 100 * sum(copies) / len(copies),
            "of_new": 100 * sum(fresh) / len(fresh) if fresh else None,
        },
        "near_duplicates": [
            {
                "name": names[i],
                "similarity": round(nearness[i], 4),
                "reference": references[i],
                "training": held[places[i]],
                "hypothesis": hypotheses[i],
            }
            for i in middle[:examples]
        ],
    }
