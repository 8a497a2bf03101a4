"""Checks whether a tokenizer can write the sentences of a corpus: encodes and decodes each one and compares.

A model can only write what its tokenizer can. A character that the tokenizer loses is wrong in every hypothesis. With
decoded references, as in the released code, this goes unnoticed: the character is missing on both sides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from signcl.data.batch import Sample
from signcl.data.text import SentencePieceTokenizer, Tokenizer, VocabularyTokenizer

__all__ = ["SplitCheck", "check_split", "check_table", "check_vocabulary", "failed"]

UNKNOWN = "<unk>"
"""Output of a word vocabulary for unknown words; SentencePiece writes ⁇, which occurs in no sentence."""
SHOWN = 5
"""Number of sentences shown per split in the text report."""


@dataclass(frozen=True)
class SplitCheck:
    """What changes in the sentences of one split when they are encoded and decoded."""

    split: str
    sentences: int
    exact: int
    """Sentences that do not change (several spaces count as one)."""
    lossy: int
    """Sentences that lose characters."""
    rewritten: int
    """Sentences that lose nothing, but in which the tokenizer's normalisation replaces characters."""
    respaced: int
    """Sentences in which only spaces change."""
    characters: int
    """Number of characters without spaces."""
    lost_characters: int
    lost: dict[str, int] = field(default_factory=dict)
    """Lost character -> count, most frequent first."""
    replaced: dict[str, int] = field(default_factory=dict)
    """"a -> b" -> how often the normalisation writes b for a, most frequent first."""
    examples: tuple[tuple[str, str, str], ...] = ()
    """(name, sentence, decoded sentence) of every sentence that is not exact."""

    @property
    def lost_percent(self) -> float:
        """Percentage of the characters that are lost."""
        return 100 * self.lost_characters / max(1, self.characters)

    def as_dict(self) -> dict[str, Any]:
        """The fields and `lost_percent`, for JSON."""
        return {**asdict(self), "lost_percent": self.lost_percent}


def check_vocabulary(tokenizer: Tokenizer, splits: Mapping[str, Sequence[Sample]]) -> list[SplitCheck]:
    """Encodes and decodes every sentence with a tokenizer and reports what changes.

    Args:
        tokenizer: the tokenizer to check.
        splits: samples by name of the split.

    Returns:
        One report per split, in the same order.
    """
    return [check_split(tokenizer, split, samples) for split, samples in splits.items()]


def check_split(tokenizer: Tokenizer, split: str, samples: Iterable[Sample]) -> SplitCheck:
    """Does the work of `check_vocabulary` for one split."""
    counts: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    replaced: Counter[str] = Counter()
    examples = []
    for sample in samples:
        text = " ".join(sample.text.split())
        found = " ".join(tokenizer.decode(tokenizer.encode(text)).split())
        normal = normalized(tokenizer, text)
        counts["sentences"] += 1
        counts["characters"] += len(_bare(text))
        if found == text:
            counts["exact"] += 1
            continue
        missing = Counter(_bare(normal)) - Counter(_bare(found.replace(UNKNOWN, "")))
        lost += missing
        replaced.update(
            f"{character} -> {new}"
            for character in _bare(text)
            if (new := normalized(tokenizer, character)) != character
        )
        if missing:
            counts["lossy"] += 1
        elif _bare(text) == _bare(found):
            counts["respaced"] += 1
        else:
            counts["rewritten"] += 1
        examples.append((sample.name, text, found))
    return SplitCheck(
        split=split,
        **{name: counts[name] for name in ("sentences", "exact", "lossy", "rewritten", "respaced", "characters")},
        lost_characters=lost.total(),
        lost=dict(lost.most_common()),
        replaced=dict(replaced.most_common()),
        examples=tuple(examples),
    )


def normalized(tokenizer: Tokenizer, text: str) -> str:
    """A sentence after the tokenizer's normalisation: Unicode forms (SentencePiece) or lower case (words)."""
    if isinstance(tokenizer, SentencePieceTokenizer):
        return tokenizer.normalized(text)
    if isinstance(tokenizer, VocabularyTokenizer) and tokenizer.lowercase:
        return text.lower()
    return text


def _bare(text: str) -> str:
    return "".join(text.split())


def failed(checks: Iterable[SplitCheck]) -> bool:
    """Whether any sentence changes when it is encoded and decoded."""
    return any(check.exact < check.sentences for check in checks)


def check_table(checks: Iterable[SplitCheck], shown: int = SHOWN) -> str:
    """The reports as text: counts, the most frequent lost and replaced characters, the first changed sentences."""
    lines = []
    for check in checks:
        lines.append(
            f"{check.split}: {check.exact} of {check.sentences} sentences are unchanged after encoding and decoding; "
            f"{check.lossy} lose {check.lost_characters} of {check.characters} characters "
            f"({check.lost_percent:.2f} %), {check.rewritten} change in Unicode form or case, {check.respaced} change "
            f"only in spaces"
        )
        for title, found in (("lost", check.lost), ("replaced", check.replaced)):
            if found:
                most = ", ".join(f"{character} ({count})" for character, count in list(found.items())[: 4 * shown])
                more = f" and {len(found) - 4 * shown} more" if len(found) > 4 * shown else ""
                lines.append(f"  {title}: {most}{more}")
        for name, text, back in check.examples[:shown]:
            lines += [f"  {name}", f"    {text}", f"    {back}"]
        if len(check.examples) > shown:
            lines.append(f"  ... and {len(check.examples) - shown} more sentences (--json lists them)")
    return "\n".join(lines)
