"""Pseudo-glosses: the content words of a sentence in a base form, as targets of pseudo-gloss pretraining.

No gloss annotation is used. `spacy:MODEL` is the published method (lemmas of words selected by part of speech); the
others need no extra package. The vocabulary and the kind of lemmatiser are saved in `pseudo_glosses.json`.
"""

from __future__ import annotations

import itertools
import math
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import regex
import torch
from torch import Tensor

from signcl.data.batch import Sample
from signcl.data.files import write_json
from signcl.data.json_files import read_json
from signcl.data.text import cut, has_unspaced, is_segmented, normal_form

__all__ = ["PseudoGlosses", "lemmas"]

FILE = "pseudo_glosses.json"
CONTENT = ("NOUN", "NUM", "ADV", "PRON", "PROPN", "ADJ", "VERB")
SHORTEST_STEM = 4  # minimum letters left after removing a suffix
SUFFIXES = {
    # light stemming: remove the longest matching suffix; merges most inflected forms, and some unrelated words
    "de": ("ungen", "ern", "est", "en", "er", "em", "es", "et", "st", "e", "n", "s", "t"),
    "en": ("ings", "ing", "ies", "ed", "es", "ly", "s", "e"),
}
_LETTER = r"[\p{L}\p{M}\p{N}\u200c\u200d]"  # Devanagari has combining marks inside words, Persian joiners
_WORD = regex.compile(rf"[\p{{L}}\p{{N}}]{_LETTER}*(?:[-'’]{_LETTER}+)*")


def lemmas(text: str, kind: str) -> list[str]:
    """The pseudo-glosses of a sentence in order, with repeats, before rare and common ones are dropped.

    Args:
        kind: `words`: lower-cased words; `rules:de`, `rules:en`: words without their last suffix if at least four
            letters remain; `characters`, `bigrams`: for scripts without spaces between words (Chinese, Japanese, Thai
            ...), within runs without punctuation; `spacy:MODEL`: lemmas of nouns, numerals, adverbs, pronouns, names,
            adjectives and verbs. For scripts without spaces `words` and `rules` also use bigrams, unless the sentence
            is already segmented into words (`is_segmented`).

    Raises:
        ValueError: an unknown kind, or a spaCy model that is not installed.
    """
    if kind.startswith("spacy:"):
        found = []
        for token in _spacy(kind.removeprefix("spacy:"))(text):
            if token.pos_ in CONTENT:
                found.append((token.lemma_ or token.text).lower())  # Chinese models have no lemmas
        return found
    if kind not in ("words", "characters", "bigrams", "rules:de", "rules:en"):
        raise ValueError(
            f"model.lemmatiser: needs words, rules:de, rules:en, characters, bigrams or spacy:MODEL, got {kind!r}"
        )
    text = normal_form(normal_form(text).lower())
    words = _WORD.findall(text)
    if has_unspaced(text) and (kind in ("characters", "bigrams") or not is_segmented(text)):
        words = [part for word in words for part in _parts(word, pairs=kind != "characters")]
    if kind.startswith("rules:"):
        return [_stem(word, SUFFIXES[kind.removeprefix("rules:")]) for word in words]
    return words


def _parts(word: str, pairs: bool) -> list[str]:
    """Words, or for scripts without spaces characters (or bigrams)."""
    found: list[str] = []
    for unspaced, run in itertools.groupby(cut(word), key=lambda piece: piece.kind == "character"):
        texts = [piece.text for piece in run if piece.kind != "mark"]
        found += _pairs(texts) if unspaced and pairs and len(texts) > 1 else texts
    return found


def _pairs(run: Sequence[str]) -> list[str]:
    return [first + second for first, second in itertools.pairwise(run)]


def _letters(word: str) -> float:
    """Letters of a word, for `stop_length`; infinite for scripts in which short words are not function words."""
    if has_unspaced(word):
        return math.inf
    return sum(len(unicodedata.normalize("NFD", c)) if "가" <= c <= "힣" else 1 for c in word)


def _stem(word: str, suffixes: Iterable[str]) -> str:
    for suffix in suffixes:
        if word.endswith(suffix) and len(word) - len(suffix) >= SHORTEST_STEM:
            return word.removesuffix(suffix)
    return word


@lru_cache(maxsize=2)
def _spacy(name: str) -> Callable[[str], Iterable]:
    try:
        import spacy

        return spacy.load(name)
    except ImportError:
        what = "the package spacy (pip install spacy)"
    except OSError:
        what = f"its model {name} (python -m spacy download {name})"
    raise ValueError(
        f"model.lemmatiser=spacy:{name} needs {what}; without it use rules:de, rules:en or, "
        f"for Chinese and other scripts without spaces, bigrams"
    )


class PseudoGlosses:
    """Multi-hot targets over a vocabulary of pseudo-glosses.

    Args:
        vocabulary: pseudo-glosses, most frequent first.
        kind: see `lemmas`.
        function_words: words that `train` took for function words because they are short and frequent.
    """

    def __init__(self, vocabulary: Sequence[str], kind: str, function_words: Sequence[str] = ()) -> None:
        self.vocabulary, self.kind, self.function_words = list(vocabulary), kind, list(function_words)
        self._places = {word: i for i, word in enumerate(self.vocabulary)}
        self._known: dict[str, list[int]] = {}

    def __len__(self) -> int:
        return len(self.vocabulary)

    @classmethod
    def build(
        cls,
        config: Any,
        samples: Sequence[Sample],
        texts_of: Callable[[str], list[str]],
        folder: Path,
        settings: Any = None,
    ) -> PseudoGlosses:
        """Build from the training samples; `model.vocabulary=as_released` reads dev and test too, as published.

        Raises:
            ValueError, OSError: no pseudo-gloss is left, or the lemmatiser or a split is missing.
        """
        texts = [s.text for s in samples]
        if config.vocabulary == "as_released":
            texts += [text for split in ("dev", "test") for text in texts_of(split)]
        return cls.train(
            texts,
            config.lemmatiser,
            max_share=config.max_share,
            min_count=config.min_count,
            stop_length=config.stop_length,
            stop_share=config.stop_share,
        )

    @classmethod
    def train(
        cls,
        texts: Sequence[str],
        kind: str = "words",
        *,
        max_share: float = 0.4,
        min_count: int = 1,
        stop_length: int = 3,
        stop_share: float = 0.05,
        most: int | None = None,
    ) -> PseudoGlosses:
        """Build the vocabulary from sentences.

        Args:
            max_share: drop pseudo-glosses that occur in more than this share of the sentences.
            min_count: drop pseudo-glosses that occur in fewer sentences.
            stop_length, stop_share: drop words of at most this many letters that occur in more than this share of the
                sentences, as likely function words. Not used for spaCy, which selects by part of speech, nor for
                Chinese and other scripts without spaces. A Korean syllable counts as many letters as are written in it.
            most: keep only this many, the most frequent ones; None = all.

        Raises:
            ValueError: no sentences, or no pseudo-gloss is left.
        """
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(set(lemmas(text, kind)))
        short = 0 if kind.startswith("spacy:") or kind in ("characters", "bigrams") else stop_length
        usual = [
            word
            for word, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
            if min_count <= count <= max_share * len(texts)
        ]
        function_words = [w for w in usual if counts[w] > stop_share * len(texts) and _letters(w) <= short]
        kept = [word for word in usual if word not in function_words]
        if not kept:
            raise ValueError(
                f"model: no pseudo-gloss is left of {len(counts)} in {len(texts)} sentences; raise max_share "
                f"({max_share}), lower min_count ({min_count}) or stop_length ({stop_length})"
            )
        return cls(kept[:most], kind, function_words)

    def note(self, section: str = "model") -> str:
        """Line to print before training if `train` dropped short words; else empty. `section`: where its keys are."""
        dropped = self.function_words
        if not dropped:
            return ""
        shown = ", ".join(dropped[:8]) + (f" and {len(dropped) - 8} more" if len(dropped) > 8 else "")
        return (
            f"{section}: uses {len(self)} words; takes {shown} for function words, because they are short and "
            f"frequent; if they are signed, set {section}.stop_length=0"
        )

    def encode(self, text: str) -> list[int]:
        """Vocabulary indices of a sentence's pseudo-glosses, unique and ascending."""
        if text not in self._known:
            found = {self._places[word] for word in lemmas(text, self.kind) if word in self._places}
            self._known[text] = sorted(found)
        return self._known[text]

    def __call__(self, samples: Sequence[Sample]) -> Tensor:
        """1 if the pseudo-gloss is in the sentence, else 0. [B, P] float"""
        targets = torch.zeros(len(samples), len(self))
        for row, sample in enumerate(samples):
            targets[row, self.encode(sample.text)] = 1.0
        return targets

    def save(self, folder: Path) -> None:
        """Write `pseudo_glosses.json`."""
        write_json(folder / FILE, {"lemmatiser": self.kind, "vocabulary": self.vocabulary})

    @classmethod
    def load(cls, config: Any, folder: Path) -> PseudoGlosses:
        """Load from a run folder.

        Raises:
            FileNotFoundError, ValueError: the file is missing or damaged.
        """
        path = folder / FILE
        if not path.is_file():
            raise FileNotFoundError(f"{folder} has no {FILE}, which a run of pgp writes; copy the run folder again")
        data = read_json(path, {"vocabulary": [str], "lemmatiser": str}, "copy the run folder again")
        return cls(data["vocabulary"], data["lemmatiser"])

    def vectors(self, source: str, dim: int) -> tuple[Tensor, str]:
        """Read word vectors of the pseudo-glosses from a text file: one word and `dim` numbers per line (fastText
        .vec).

        A word that is missing in any letter case gets a random vector (the published code uses the n-grams of a
        fastText .bin, which this reader does not support).

        Returns:
            Unit vectors [P, dim], and a summary of the words found.

        Raises:
            ValueError, OSError: no such file, or vectors of the wrong size.
        """
        path = Path(source)
        if not path.is_file():
            raise FileNotFoundError(f"model.vectors: no file {path}; a text file of word vectors is needed")
        wanted = {form: word for word in self.vocabulary for form in (word.title(), word.lower(), word)}
        found: dict[str, Tensor] = {}
        with path.open(encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, start=1):
                word, _, rest = line.rstrip().partition(" ")
                if word not in wanted or (wanted[word] in found and word != wanted[word]):
                    continue
                try:
                    values = [float(value) for value in rest.split()]
                except ValueError:
                    values = []
                if number == 1 and len(values) == 1:
                    continue  # header "2000000 300", where 2000000 is also a pseudo-gloss
                if len(values) != dim or not all(map(math.isfinite, values)):
                    raise ValueError(
                        f"model.vectors: {path}, line {number}: needs a word and {dim} numbers "
                        f"(model.prototype_dim), got {len(values)}"
                    )
                found[wanted[word]] = torch.tensor(values)
        if not found:
            raise ValueError(f"model.vectors: {path} has none of the {len(self)} pseudo-glosses")
        generator = torch.Generator().manual_seed(0)
        rows = [found[w] if w in found else torch.randn(dim, generator=generator) for w in self.vocabulary]
        missing = [w for w in self.vocabulary if w not in found]
        text = f"{len(found)} of {len(self)}"
        if missing:
            text += f"; random for {', '.join(missing[:3])}{' ...' if len(missing) > 3 else ''}"
        return torch.nn.functional.normalize(torch.stack(rows), dim=1), text
