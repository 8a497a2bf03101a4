"""Finds pairs of signs that are easily confused, and detects translations that confuse them.

Pairs come from the table given with `--pairs`, or else from the minimal pairs of the synthetic corpus (with every form
of their words), or else are mined: the nearest glosses in the baseline's features, with their names as words.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from signcl.density.instances import Instances

__all__ = ["Pair", "confusion", "mined_pairs", "read_pairs", "twins"]

MINED = 50


@dataclass(frozen=True)
class Pair:
    """Two signs and the words that each of them is translated to."""

    a: str
    b: str
    words_a: frozenset[str]
    words_b: frozenset[str]

    def __str__(self) -> str:
        return f"{self.a} / {self.b}"

    def plain(self) -> list[Any]:
        """The pair as JSON-compatible lists."""
        return [self.a, self.b, sorted(self.words_a), sorted(self.words_b)]

    @classmethod
    def of(cls, cells: Sequence[Any]) -> Pair:
        """The inverse of `plain`."""
        a, b, words_a, words_b = cells
        return cls(a, b, frozenset(words_a), frozenset(words_b))


def twins(root: Path) -> list[Pair]:
    """The minimal pairs of a synthetic corpus, with all forms of their words."""
    from signcl.data.corpora.synthetic.words import choose_entries

    lexicon = json.loads((root / "lexicon.json").read_text(encoding="utf-8"))
    forms = {
        entry.gloss: frozenset(word for form in entry.forms for word in (form.base, form.other, form.third) if word)
        for entry in choose_entries(len(lexicon))
    }
    pairs = {tuple(sorted((sign["gloss"], sign["twin"]))) for sign in lexicon if sign["twin"]}
    return [Pair(a, b, forms[a], forms[b]) for a, b in sorted(pairs)]


def read_pairs(path: Path) -> list[Pair]:
    """Reads pairs from a table with the columns a, b (glosses) and words_a, words_b (forms separated by `|`).

    Raises:
        ValueError: wrong columns, or a cell without words.
    """
    from signcl.data.annotation.table_files import read_table

    found = []
    for row in read_table(path, ("a", "b", "words_a", "words_b")):
        words = [frozenset(w.strip() for w in row.cells[key].split("|") if w.strip()) for key in ("words_a", "words_b")]
        if not all(words):
            raise row.error("needs words for both signs")
        found.append(Pair(row.cells["a"], row.cells["b"], *words))
    if not found:
        raise ValueError(f"{path}: contains no pairs")
    return found


def mined_pairs(instances: Instances, references: Sequence[str], most: int = MINED) -> list[Pair]:
    """Pairs of glosses whose names occur, in lower case, as words of the sentences, nearest first.

    Distance is the mean distance of their instances; at most `most` pairs are returned.
    """
    from signcl.density import gloss_distances

    names, numbers = instances.numbers()
    distances = np.array(gloss_distances(instances.features, numbers).mean)
    usable = [i for i, name in enumerate(names) if any(has(line, frozenset([name.lower()])) for line in references)]
    near = sorted((float(distances[i, j]), i, j) for i in usable for j in usable if i < j)
    return [
        Pair(names[i], names[j], frozenset([names[i].lower()]), frozenset([names[j].lower()]))
        for _, i, j in near[:most]
    ]


def has(line: str, words: frozenset[str]) -> bool:
    """Whether a sentence contains one of the words: between spaces, or anywhere if the word is Chinese."""
    spaced = f" {' '.join(line.lower().split())} "
    return any(
        word in spaced.replace(" ", "")
        if any("\u4e00" <= letter <= "\u9fff" for letter in word)
        else f" {word} " in spaced
        for word in words
    )


def confusion(pair: Pair, reference: str, hypothesis: str) -> str:
    """Whether a translation confuses the two signs in a sentence that contains exactly one of them.

    Returns:
        `kept`: the translation has only the same sign; `confused`: only the other one; `neither`: none or both. Empty
        if the reference itself has none or both.
    """
    truth = has(reference, pair.words_a), has(reference, pair.words_b)
    if truth[0] == truth[1]:
        return ""
    said = has(hypothesis, pair.words_a), has(hypothesis, pair.words_b)
    if said[0] == said[1]:
        return "neither"
    return "kept" if said == truth else "confused"
