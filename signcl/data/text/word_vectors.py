"""Reads word vectors in word2vec's text and binary formats, for embedding layers or distances between words.

The text format is written by gensim, fastText (.vec), GloVe and BPEmb (.txt): an optional line `count size`, then one
word and its numbers per line, separated by single spaces. The binary format (.bin) is that of word2vec, which BPEmb
uses. The .bin format of fastText is not supported.
"""

from __future__ import annotations

import gzip
from collections.abc import Collection, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import IO, Any

import numpy as np

from signcl.data.whole_numbers import whole_number

__all__ = ["read_vectors"]

MOST_SIZE = 100_000
"""Largest accepted size of a vector."""


def read_vectors(path: str | Path, words: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """Reads a file of word vectors. If a word occurs twice, the first vector is used.

    Args:
        path: .bin for the binary format, any other suffix for text; .gz may follow.
        words: keep only these words, to save memory with large files; None keeps all.

    Returns:
        Word -> vector. [size] float32 each

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: not word vectors, vectors of different sizes, or non-finite numbers.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file of word vectors at {path}; needs word2vec text (.txt, .vec) or binary (.bin)")
    binary = ".bin" in path.suffixes[-2:]
    reader: Any = _binary if binary else _text
    found: dict[str, np.ndarray] = {}
    with path.open("rb") as plain, gzip.GzipFile(fileobj=plain) if path.suffix == ".gz" else nullcontext(plain) as file:
        try:
            for word, vector in reader(file, None if words is None else frozenset(words)):
                found.setdefault(word, vector)
        except (ValueError, EOFError, OSError) as error:
            raise ValueError(
                f"{path} holds no word vectors in word2vec's {'binary' if binary else 'text'} form: {error}"
            ) from None
    if not all(np.isfinite(vector).all() for vector in found.values()):
        raise ValueError(f"{path} has vectors with NaN or infinite numbers")
    return found


def _text(file: IO[bytes], words: frozenset[str] | None) -> Iterator[tuple[str, np.ndarray]]:
    size = None
    for number, line in enumerate(file, start=1):
        # split only at spaces: some words are other whitespace characters, which split() would drop
        word, *numbers = line.decode("utf-8", errors="replace").rstrip("\r\n ").split(" ")
        if number == 1 and len(numbers) == 1:
            size = _size(numbers[0])
            continue
        size = len(numbers) if size is None else size
        if len(numbers) != size or not size:
            raise ValueError(f"line {number} has {len(numbers)} numbers where {size or 'some'} are needed")
        if words is None or word in words:
            yield word, np.array(numbers, dtype=np.float32)


def _size(text: str) -> int:
    """Parses the vector size from the first line; checked because memory is allocated for it."""
    size = whole_number(text) or 0
    if not 1 <= size <= MOST_SIZE:
        raise ValueError(f"the size of a vector must be 1 to {MOST_SIZE:,}, got {text[:20]}")
    return size


def _binary(file: IO[bytes], words: frozenset[str] | None) -> Iterator[tuple[str, np.ndarray]]:
    told = file.readline(100).decode("latin1").split()
    count, size = (whole_number(told[0]), _size(told[1])) if len(told) == 2 else (None, 0)
    if count is None:
        raise ValueError("its first line must be the number of words and the size of a vector")
    for _ in range(count):
        letters = bytearray()
        while (letter := file.read(1)) != b" ":
            if not letter:
                raise EOFError(f"it ends before the last of {count} words")
            letters += letter
        row = file.read(4 * size)
        if len(row) != 4 * size:
            raise EOFError(f"it ends before the last of {count} words")
        word = letters.decode("utf-8", errors="replace").lstrip("\n")
        if words is None or word in words:
            yield word, np.frombuffer(row, dtype="<f4").astype(np.float32)
