"""The vocabulary words in each clip's sentence, for the losses of `signcl.systems.terms.word_terms`.

The words are pseudo-glosses; no gloss annotation is used. For a corpus without sentences, glosses are used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from signcl.data.batch import Sample
from signcl.data.bounds import bounded
from signcl.data.files import write_json
from signcl.data.json_files import read_json
from signcl.systems.targets.pseudo_glosses import PseudoGlosses

__all__ = ["ClipWords", "ContrastWords", "SignCLWords", "WordSettings"]


@dataclass
class WordSettings:
    """Recipe keys shared by the terms that locate a sentence's words in its clip."""

    lemmatiser: Literal["words", "rules:de", "rules:en", "characters", "bigrams"] = "words"
    """What counts as a word, as for pseudo-glosses. words: lower-cased words; rules: words without their last suffix;
    characters and bigrams: for scripts without spaces, where `words` also uses bigrams."""
    max_share: float = bounded(0.5, above=0, high=1)
    """Drop words that occur in more than this share of the training sentences."""
    min_count: int = bounded(2, low=1, high=1_000_000)
    """Drop words that occur in fewer training sentences, too few to learn from."""
    stop_length: int = bounded(3, low=0, high=1000)
    """Drop words of at most this many letters that occur in more than `stop_share` of the training sentences, as likely
    function words. Set it to 0 for a small vocabulary, where such words are signed (man, two)."""
    stop_share: float = bounded(0.05, low=0, high=1)
    """See `stop_length`."""
    most: int = bounded(4096, low=1, high=65_536)
    """Maximum vocabulary size; keeps the most frequent words. Each word costs one number per frame."""
    share_temperature: float = bounded(0.05, above=0, high=1000)
    """Temperature of the softmax over a clip's words; towards 0 each frame is assigned only to its nearest word."""
    rate: float = bounded(0.05, above=0, high=1)
    """How far each step moves a word's vector towards the frames assigned to it."""


class ClipWords:
    """Makes `batch.targets` for one such term.

    Args:
        words: the vocabulary.
    """

    TERM = ""

    def __init__(self, words: PseudoGlosses) -> None:
        self.words = words

    def __len__(self) -> int:
        return len(self.words)

    @classmethod
    def build(
        cls,
        config: Any,
        samples: Sequence[Sample],
        texts_of: Callable[[str], list[str]],
        folder: Path,
        settings: Any = None,
    ) -> ClipWords:
        """Build from the training samples.

        Raises:
            ValueError: no word is left.
        """
        asked: WordSettings = settings or WordSettings()
        texts = [_text(sample) for sample in samples]
        try:
            return cls(
                PseudoGlosses.train(
                    texts,
                    asked.lemmatiser,
                    max_share=asked.max_share,
                    min_count=asked.min_count,
                    stop_length=asked.stop_length,
                    stop_share=asked.stop_share,
                    most=asked.most,
                )
            )
        except ValueError:
            raise ValueError(
                f"loss.{cls.TERM}: no word of the {len(texts)} training sentences is left; raise max_share "
                f"({asked.max_share}), lower min_count ({asked.min_count}) or stop_length ({asked.stop_length})"
            ) from None

    def note(self) -> str:
        """See `PseudoGlosses.note`."""
        return self.words.note(f"loss.{self.TERM}")

    def __call__(self, samples: Sequence[Sample]) -> Tensor:
        """1 if the word is in the sentence, else 0. [B, V] float"""
        rows = torch.zeros(len(samples), len(self))
        for row, sample in enumerate(samples):
            rows[row, self.words.encode(_text(sample))] = 1.0
        return rows

    def save(self, folder: Path) -> None:
        """Save to a run folder."""
        content = {"lemmatiser": self.words.kind, "vocabulary": self.words.vocabulary}
        write_json(folder / f"{self.TERM}.words.json", content)

    @classmethod
    def load(cls, config: Any, folder: Path) -> ClipWords:
        """Load from a run folder.

        Raises:
            FileNotFoundError, ValueError: the file is missing or damaged.
        """
        path = folder / f"{cls.TERM}.words.json"
        if not path.is_file():
            raise FileNotFoundError(f"{folder} has no {path.name}, which its training wrote; copy the run folder again")
        data = read_json(path, {"vocabulary": [str], "lemmatiser": str}, "copy the run folder again")
        return cls(PseudoGlosses(data["vocabulary"], data["lemmatiser"]))


class SignCLWords(ClipWords):
    """Targets of `loss.weights.word_signcl`."""

    TERM = "word_signcl"


class ContrastWords(ClipWords):
    """Targets of `loss.weights.word_contrast`."""

    TERM = "word_contrast"


def _text(sample: Sample) -> str:
    return sample.text or " ".join(sample.gloss)
