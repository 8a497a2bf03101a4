"""What a tokenizer can write of a corpus: every sentence encoded, decoded, and held against the raw one.

A model never writes what its tokenizer cannot: such a character is wrong in every hypothesis, whatever is learned.
Scored against decoded references, as the released code does it, the same character vanishes on both sides.
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
"""How a vocabulary of words writes what it does not know; SentencePiece writes ⁇, which no sentence has."""
SHOWN = 5
"""Sentences and characters shown of each split, in the text form."""


@dataclass(frozen=True)
class SplitCheck:
    """What comes back of the sentences of one split."""

    split: str
    sentences: int
    exact: int
    """Sentences that come back as they are (runs of spaces taken as one)."""
    lossy: int
    """Sentences that lose characters."""
    rewritten: int
    """Sentences that lose nothing, but have characters replaced by the tokenizer's normalisation."""
    respaced: int
    """Sentences that differ in spaces only."""
    characters: int
    """Without spaces."""
    lost_characters: int
    lost: dict[str, int] = field(default_factory=dict)
    """Character -> times it is lost, most frequent first."""
    replaced: dict[str, int] = field(default_factory=dict)
    """"a -> b" -> times the normalisation writes b for a, most frequent first."""
    examples: tuple[tuple[str, str, str], ...] = ()
    """(name, sentence, what comes back) of every sentence that is not exact."""

    @property
    def lost_percent(self) -> float:
        """Share of the characters that are lost, in percent."""
        return 100 * self.lost_characters / max(1, self.characters)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "lost_percent": self.lost_percent}


def check_vocabulary(tokenizer: Tokenizer, splits: Mapping[str, Sequence[Sample]]) -> list[SplitCheck]:
    """Write every sentence with a tokenizer and read it back.

    Args:
        splits: samples by the name of their split.

    Returns:
        One report for each split, in their order.
    """
    return [check_split(tokenizer, split, samples) for split, samples in splits.items()]


def check_split(tokenizer: Tokenizer, split: str, samples: Iterable[Sample]) -> SplitCheck:
    """`check_vocabulary` for one split."""
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
    """What a tokenizer makes of a sentence before it cuts it: Unicode forms (SentencePiece) or lower case (words)."""
    if isinstance(tokenizer, SentencePieceTokenizer):
        return tokenizer.normalized(text)
    if isinstance(tokenizer, VocabularyTokenizer) and tokenizer.lowercase:
        return text.lower()
    return text


def _bare(text: str) -> str:
    return "".join(text.split())


def failed(checks: Iterable[SplitCheck]) -> bool:
    """Whether some sentence does not come back as it is."""
    return any(check.exact < check.sentences for check in checks)


def check_table(checks: Iterable[SplitCheck], shown: int = SHOWN) -> str:
    """The reports as text: counts, the most frequent characters, the first sentences."""
    lines = []
    for check in checks:
        lines.append(
            f"{check.split}: {check.exact} of {check.sentences} sentences come back as they are; {check.lossy} lose "
            f"{check.lost_characters} of {check.characters} characters ({check.lost_percent:.2f} %), {check.rewritten} "
            f"are written in another Unicode form or case, {check.respaced} differ in spaces"
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
