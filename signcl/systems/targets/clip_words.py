"""Which words of a vocabulary each clip's sentence has, for the losses of `signcl.systems.terms.word_terms`.

The words are those of pseudo-glosses: no gloss annotation is used. A corpus without sentences gives its glosses.
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
    """Keys of every term that looks for a sentence's words in its clip."""

    lemmatiser: Literal["words", "rules:de", "rules:en", "characters", "bigrams"] = "words"
    """What counts as a word, as for pseudo-glosses: words in lower case; rules take off the last suffix; characters and
    bigrams are for writing without spaces, whose words are bigrams under `words` too."""
    max_share: float = bounded(0.5, above=0, high=1)
    """Words in more than this share of the training sentences are left out."""
    min_count: int = bounded(2, low=1, high=1_000_000)
    """Words in fewer training sentences are left out: nothing could be learned of them."""
    most: int = bounded(4096, low=1, high=65_536)
    """Most words, the frequent ones; each costs a number for every frame."""
    share_temperature: float = bounded(0.05, above=0, high=1000)
    """Of the softmax over a clip's words: towards 0 each frame shows its nearest word alone."""
    rate: float = bounded(0.05, above=0, high=1)
    """How far a word's vector moves in a step towards the frames that show it."""


class ClipWords:
    """The maker of `batch.targets` for one such term.

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
        """From the training samples.

        Raises:
            ValueError: no word is left.
        """
        asked: WordSettings = settings or WordSettings()
        texts = [_text(sample) for sample in samples]
        try:
            words = PseudoGlosses.train(
                texts, asked.lemmatiser, max_share=asked.max_share, min_count=asked.min_count
            ).vocabulary
        except ValueError:
            raise ValueError(
                f"loss.{cls.TERM}: no word of the {len(texts)} training sentences is left; raise max_share "
                f"({asked.max_share}) or lower min_count ({asked.min_count})"
            ) from None
        return cls(PseudoGlosses(words[: asked.most], asked.lemmatiser))

    def __call__(self, samples: Sequence[Sample]) -> Tensor:
        """1 where the sentence has the word. [B, V] float"""
        rows = torch.zeros(len(samples), len(self))
        for row, sample in enumerate(samples):
            rows[row, self.words.encode(_text(sample))] = 1.0
        return rows

    def save(self, folder: Path) -> None:
        """Into a run folder."""
        content = {"lemmatiser": self.words.kind, "vocabulary": self.words.vocabulary}
        write_json(folder / f"{self.TERM}.words.json", content)

    @classmethod
    def load(cls, config: Any, folder: Path) -> ClipWords:
        """From a run folder.

        Raises:
            FileNotFoundError, ValueError: no such file, or a damaged one.
        """
        path = folder / f"{cls.TERM}.words.json"
        if not path.is_file():
            raise FileNotFoundError(f"{folder} has no {path.name}, which its training wrote; copy the run folder again")
        data = read_json(path, {"vocabulary": [str], "lemmatiser": str}, "copy the run folder again")
        return cls(PseudoGlosses(data["vocabulary"], data["lemmatiser"]))


class SignCLWords(ClipWords):
    """Of `loss.weights.word_signcl`."""

    TERM = "word_signcl"


class ContrastWords(ClipWords):
    """Of `loss.weights.word_contrast`."""

    TERM = "word_contrast"


def _text(sample: Sample) -> str:
    return sample.text or " ".join(sample.gloss)
