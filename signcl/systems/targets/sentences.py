"""Vectors of sentences for the term `sentence_similarity`: TF-IDF of the training sentences, or a pretrained encoder.

TF-IDF needs no download and no model: sentences are similar if they share rare words. For scripts without spaces
(Chinese, Japanese, Thai ...) the units are characters and bigrams instead of words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from signcl.data.batch import Sample
from signcl.data.files import atomic_write, write_json
from signcl.data.json_files import read_json
from signcl.data.text import is_spaced
from signcl.systems.targets.sentence_encoder import SentenceEncoder, source_stamp

__all__ = ["PretrainedVectors", "SentenceVectors", "TfidfVectors"]

TFIDF_FILE = "sentence_similarity.json"
VECTORS_FILE = "sentence_vectors.safetensors"
SENTENCES_FILE = "sentence_vectors.json"
LARGEST = 4096
"""Maximum number of TF-IDF units, keeping the most frequent: a batch holds one number per unit and clip."""


class TfidfVectors:
    """TF-IDF with scikit-learn's weights: count * (ln((1 + n) / (1 + document frequency)) + 1), normalised to length 1.

    Args:
        vocabulary: units in the order of the columns.
        idf: inverse document frequency of each unit.
        spaced: units are lower-cased words; otherwise characters and bigrams.
    """

    def __init__(self, vocabulary: Sequence[str], idf: Sequence[float], *, spaced: bool) -> None:
        self.vocabulary, self.spaced = list(vocabulary), spaced
        self.size = len(self.vocabulary)
        self._counter = _vectorizer(spaced, vocabulary={unit: i for i, unit in enumerate(self.vocabulary)})
        self._counter.idf_ = np.asarray(idf, dtype=np.float64)

    @classmethod
    def train(cls, texts: Iterable[str]) -> TfidfVectors:
        """Build from training sentences; repeated sentences count each time."""
        texts = list(texts)
        spaced = is_spaced(texts)
        fitted = _vectorizer(spaced).fit([_plain(text, spaced) for text in texts])
        return cls(fitted.get_feature_names_out().tolist(), fitted.idf_.tolist(), spaced=spaced)

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """One unit vector per sentence, or zeros if it has no known unit. [B, E] float32"""
        rows = self._counter.transform([_plain(text, self.spaced) for text in texts])
        return torch.from_numpy(rows.toarray().astype(np.float32))

    def save(self, folder: Path) -> None:
        """Write `sentence_similarity.json`."""
        data = {"spaced": self.spaced, "vocabulary": self.vocabulary, "idf": self._counter.idf_.tolist()}
        write_json(folder / TFIDF_FILE, data)

    @classmethod
    def load(cls, folder: Path) -> TfidfVectors:
        """Load the files written by `save`."""
        data = _read(folder / TFIDF_FILE)
        return cls(data["vocabulary"], data["idf"], spaced=data["spaced"])


def _vectorizer(spaced: bool, vocabulary: dict[str, int] | None = None) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    units = {"token_pattern": r"\S+"} if spaced else {"analyzer": "char", "ngram_range": (1, 2)}
    limit = LARGEST if vocabulary is None else None
    return TfidfVectorizer(**units, lowercase=True, max_features=limit, vocabulary=vocabulary)


def _plain(text: str, spaced: bool) -> str:
    return text if spaced else "".join(text.split())


class PretrainedVectors:
    """Vectors from a pretrained encoder, computed once per sentence; it is loaded only for new sentences.

    Args:
        source: a folder or hub id, see `SentenceEncoder`.
        known: vectors by sentence.
    """

    def __init__(self, source: str, known: dict[str, Tensor] | None = None) -> None:
        self.source, self.stamp = source, source_stamp(source)
        self.known = {} if known is None else known

    def learn(self, texts: Iterable[str]) -> None:
        """Compute the vectors of sentences that are not known yet."""
        missing = [text for text in dict.fromkeys(map(_squeezed, texts)) if text not in self.known]
        if missing:
            vectors = SentenceEncoder.load(self.source)(missing)
            self.known.update(zip(missing, vectors))

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """One vector per sentence. [B, E] float32"""
        self.learn(texts)
        return torch.stack([self.known[_squeezed(text)] for text in texts])

    def save(self, folder: Path) -> None:
        """Write `sentence_vectors.safetensors` and `.json`."""
        from safetensors.torch import save_file

        with atomic_write(folder / VECTORS_FILE) as temporary:
            save_file({"vectors": torch.stack(list(self.known.values()))}, str(temporary))
        write_json(folder / SENTENCES_FILE, {"stamp": self.stamp, "sentences": list(self.known)})

    @classmethod
    def load(cls, source: str, folder: Path) -> PretrainedVectors:
        """Load the files written by `save`."""
        from safetensors.torch import load_file

        sentences = _read(folder / SENTENCES_FILE)["sentences"]
        if not (folder / VECTORS_FILE).is_file():
            raise FileNotFoundError(f"{folder} has no {VECTORS_FILE}, which its training wrote; copy the folder again")
        return cls(source, dict(zip(sentences, load_file(folder / VECTORS_FILE)["vectors"])))

    @classmethod
    def again(cls, source: str, folder: Path) -> PretrainedVectors:
        """Reuse vectors that an earlier start of the same run computed with the same encoder, if any."""
        try:
            stamp = _read(folder / SENTENCES_FILE)["stamp"]
            return cls.load(source, folder) if stamp == source_stamp(source) else cls(source)
        except (OSError, ValueError):
            return cls(source)


def _squeezed(text: str) -> str:
    return " ".join(text.split())


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} has no {path.name}, which its training wrote; copy it again")
    data: dict[str, Any] = read_json(path, {}, "copy the run folder again")
    return data


class SentenceVectors:
    """Makes `batch.targets["sentence_similarity"]`; `model.sentence_encoder` chooses the kind of vectors."""

    def __init__(self, vectors: TfidfVectors | PretrainedVectors) -> None:
        self.vectors = vectors

    @classmethod
    def build(
        cls,
        config: Any,
        samples: Sequence[Sample],
        texts_of: Callable[[str], list[str]],
        folder: Path,
        settings: Any = None,
    ) -> SentenceVectors:
        """Build from the training samples; reuses vectors in the run folder that were made with the same encoder."""
        texts, encoder = [s.text for s in samples], config.sentence_encoder
        if encoder == "tfidf":
            return cls(TfidfVectors.train(texts))
        vectors = PretrainedVectors.again(encoder.removeprefix("pretrained:"), folder)
        vectors.learn(texts)
        return cls(vectors)

    def __call__(self, samples: Sequence[Sample]) -> Tensor:
        """One vector per sample. [B, E]"""
        return self.vectors([s.text for s in samples])

    def foresee(self, samples: Sequence[Sample]) -> None:
        """Encode further sentences in advance."""
        if isinstance(self.vectors, PretrainedVectors):
            self.vectors.learn(s.text for s in samples)

    def save(self, folder: Path) -> None:
        """Save to a run folder."""
        self.vectors.save(folder)

    @classmethod
    def load(cls, config: Any, folder: Path) -> SentenceVectors:
        """Load from a run folder; the encoder is needed only for new sentences."""
        encoder = config.sentence_encoder
        if encoder == "tfidf":
            return cls(TfidfVectors.load(folder))
        return cls(PretrainedVectors.load(encoder.removeprefix("pretrained:"), folder))
