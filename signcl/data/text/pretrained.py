"""Tokenizers of published language models (any that transformers' AutoTokenizer reads) as `signcl.data.text` wants
them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from signcl.data.files import write_text
from signcl.data.json_files import read_json

__all__ = ["PretrainedTokenizer", "is_mbart"]

FOLDER = "pretrained_tokenizer"
SENTENCEPIECE = ("sentencepiece.bpe.model", "spiece.model", "sentencepiece.model")


class PretrainedTokenizer:
    """A language model's own tokenizer; sentences end with its end token.

    `start_id` is what the tokenizer itself puts before a text (XGLM: `</s>`), else its begin or its end token. Where it
    has no padding token of its own (GPT-2), padding is the first id beyond the vocabulary: a mark for losses and
    lengths that no model embeds.

    Args:
        source: a folder or hub id.
        tokenizer: the tokenizer itself, from transformers.

    Raises:
        ValueError: a tokenizer without end token.
    """

    def __init__(self, source: str, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.num_tokens = len(tokenizer)
        end = tokenizer.eos_token_id
        if end is None:
            raise ValueError(f"text.tokenizer: the tokenizer of {source} names no end token (eos_token), and needs one")
        self.end_id = int(end)
        marked, bare = tokenizer("a").input_ids, tokenizer("a", add_special_tokens=False).input_ids
        begin = marked[0] if marked[:1] != bare[:1] else tokenizer.bos_token_id
        self.start_id = int(self.end_id if begin is None else begin)
        pad = tokenizer.pad_token_id
        own = pad is not None and pad not in (self.end_id, self.start_id)
        self.pad_id = int(pad) if own else self.num_tokens
        self.vocab_size = self.num_tokens if own else self.num_tokens + 1
        unknown = self.end_id if tokenizer.unk_token_id is None else tokenizer.unk_token_id
        self.mask_id = int(unknown if tokenizer.mask_token_id is None else tokenizer.mask_token_id)

    @classmethod
    def read(cls, source: str) -> PretrainedTokenizer:
        """From a folder or hub id.

        Raises:
            ValueError: no tokenizer there.
        """
        from transformers import AutoTokenizer

        folder = Path(source)
        names = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt")
        if folder.is_dir() and not any((folder / name).is_file() for name in (*names, *SENTENCEPIECE)):
            raise ValueError(
                f"text.tokenizer: {folder} has no tokenizer ({', '.join(names[:2])}); save the language model's own "
                f"there, or use text.tokenizer=word with a language model that starts at random"
            )
        try:
            return cls(source, AutoTokenizer.from_pretrained(source))
        except (OSError, ValueError, KeyError, ImportError) as error:
            if isinstance(error, ValueError) and str(error).startswith("text.tokenizer"):
                raise
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"text.tokenizer: no tokenizer can be read from {source}: {reason}") from None

    def encode(self, text: str) -> list[int]:
        """Ids of the sentence, ending with the end token."""
        ids: list[int] = []
        for i, part in enumerate(text.split("<mask>")):
            ids += [self.mask_id] * (i > 0) + self._tokenizer(part, add_special_tokens=False).input_ids
        return [*ids, self.end_id]

    def decode(self, ids: Iterable[int]) -> str:
        """The sentence up to the first end token after some other, without special tokens."""
        found: list[int] = []
        for i in ids:
            if i == self.end_id and found:
                break
            if i < self.num_tokens and i not in (self.pad_id, self.end_id):
                found.append(i)
        text: str = self._tokenizer.decode(found, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text.strip()

    def pieces(self) -> list[str]:
        """What each id stands for, and `<pad>` where padding lies beyond the vocabulary. [vocab_size]"""
        own: list[str] = self._tokenizer.convert_ids_to_tokens(list(range(self.num_tokens)))
        return own + ["<pad>"] * (self.vocab_size - self.num_tokens)

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json` and the folder `pretrained_tokenizer`."""
        self._tokenizer.save_pretrained(str(folder / FOLDER))
        write_text(folder / "tokenizer.json", json.dumps({"kind": "pretrained"}))

    @classmethod
    def load(cls, folder: Path) -> PretrainedTokenizer:
        """What `save` wrote into a run folder."""
        return cls.read(str(folder / FOLDER))


def is_mbart(source: str) -> bool:
    """Whether a folder or hub id holds an mBART tokenizer, which `signcl.data.text` reads by itself.

    By the model type in config.json or the class in tokenizer_config.json; a SentencePiece model with neither file
    beside it counts as one.
    """
    folder, told = Path(source), False
    for name, key in (("config.json", "model_type"), ("tokenizer_config.json", "tokenizer_class")):
        path = folder / name if folder.exists() else _cached(source, name)
        if path is None or not path.is_file():
            continue
        try:
            value = str(read_json(path, {}, "").get(key, "")).lower()
        except ValueError:  # transformers says what is wrong with it
            continue
        if value.startswith("mbart"):
            return True
        told = told or bool(value)
    return not told and (not folder.is_dir() or any((folder / name).is_file() for name in SENTENCEPIECE))


def _cached(source: str, name: str) -> Path | None:
    """A file of a hub id, fetched where it can be."""
    from transformers.utils.hub import cached_file

    try:
        return Path(str(cached_file(source, name)))
    except OSError:
        return None
