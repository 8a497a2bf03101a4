"""Wraps the tokenizers of published language models (all that AutoTokenizer of transformers reads) as `Tokenizer`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from signcl.data.files import write_text
from signcl.data.json_files import read_json
from signcl.data.registry import did_you_mean

__all__ = ["PretrainedTokenizer", "has_own_file", "is_mbart", "unknown_language"]

FOLDER = "pretrained_tokenizer"
NAMED = (
    *(("config.json", "model_type"), ("config.json", "tokenizer_class")),
    ("tokenizer_config.json", "tokenizer_class"),
)
SENTENCEPIECE = ("sentencepiece.bpe.model", "spiece.model", "sentencepiece.model")


class PretrainedTokenizer:
    """The tokenizer of a pretrained language model. Encoded sentences end with its end token.

    `start_id` is the token that the tokenizer puts before a text (XGLM: `</s>`), otherwise its begin or end token. If
    it has no separate padding token (GPT-2), `pad_id` is the first id beyond the vocabulary. That id only marks padding
    for losses and lengths; no model embeds it.

    Some encoder-decoders mark the start of their output (mBART-50 and NLLB with the language, BART with `<s>`). Then
    every sentence starts with this token, `first_id`, and search forces it.

    Args:
        source: a folder or hub id.
        tokenizer: the transformers tokenizer.
        language: code of the output language, for multilingual tokenizers (mBART-50: de_DE, NLLB: deu_Latn); ignored
            by others.
        writes: whether the model is an encoder-decoder, whose input and output have different marks.

    Raises:
        ValueError: the tokenizer has no end token, or the language is unknown.
    """

    def __init__(self, source: str, tokenizer: Any, language: str = "", *, writes: bool = False) -> None:
        self._tokenizer, self.source = tokenizer, source
        self.language, self.writes = "", writes
        if languages := _languages(tokenizer):
            if language not in languages:
                raise unknown_language(language, languages)
            self.language, self.writes = language, True
            tokenizer.src_lang = tokenizer.tgt_lang = language  # sign languages have no code
        self.num_tokens = len(tokenizer)
        end = tokenizer.eos_token_id
        if end is None:
            raise ValueError(f"text.tokenizer: the tokenizer of {source} needs an end token (eos_token), but has none")
        self.end_id = int(end)
        self.around = _marks(tokenizer, tokenizer("a").input_ids)
        """Ids before and after an input text."""
        before = self.around[0]
        begin = before[0] if before else tokenizer.bos_token_id
        self.start_id = int(self.end_id if begin is None else begin)
        first, last = _marks(tokenizer, tokenizer(text_target="a").input_ids) if self.writes else ([], [])
        self.first_id: int | None = int(first[0]) if first else None
        """First token of every output sentence, or None."""
        self.decoder_start: int | None = None
        """First decoder input, if only the tokenizer knows it: mBART's language, which it puts after the end token."""
        if self.language and last and last[-1] != end:
            self.start_id = self.decoder_start = int(last[-1])
        pad = tokenizer.pad_token_id
        own = pad is not None and pad not in (self.end_id, self.start_id)
        self.pad_id = int(pad) if own else self.num_tokens
        self.vocab_size = self.num_tokens if own else self.num_tokens + 1
        unknown = self.end_id if tokenizer.unk_token_id is None else tokenizer.unk_token_id
        self.mask_id = int(unknown if tokenizer.mask_token_id is None else tokenizer.mask_token_id)

    @classmethod
    def read(cls, source: str, language: str = "", *, writes: bool | None = None) -> PretrainedTokenizer:
        """Loads a tokenizer from a folder or hub id.

        Args:
            source: the folder or hub id.
            language: see above.
            writes: see above; None reads it from config.json.

        Raises:
            ValueError: no tokenizer found, or it does not have this language.
        """
        from transformers import AutoTokenizer

        folder = Path(source)
        names = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt")
        if folder.is_dir() and not any((folder / name).is_file() for name in (*names, *SENTENCEPIECE)):
            raise ValueError(
                f"text.tokenizer: {folder} has no tokenizer ({', '.join(names[:2])}); save the tokenizer of the "
                f"language model there, or use text.tokenizer=word with a randomly initialised language model"
            )
        writes = _is_encoder_decoder(source) if writes is None else writes
        try:
            return cls(source, AutoTokenizer.from_pretrained(source, trust_remote_code=False), language, writes=writes)
        except (OSError, ValueError, KeyError, ImportError) as error:
            if isinstance(error, ValueError) and str(error).startswith("text."):
                raise
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"text.tokenizer: no tokenizer can be read from {source}: {reason}") from None

    def is_that_of(self, source: str) -> bool:
        """Whether a folder or hub id has the same pieces with the same ids; True also where it has no tokenizer."""
        from transformers import AutoTokenizer

        if source == self.source:
            return True
        try:
            other = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        except (OSError, ValueError, KeyError, ImportError):
            return True
        return bool(other.get_vocab() == self._tokenizer.get_vocab())

    def encode(self, text: str) -> list[int]:
        """Ids of the sentence: `first_id` if there is one, the pieces, the end token."""
        ids: list[int] = [] if self.first_id is None else [self.first_id]
        for i, part in enumerate(text.split("<mask>")):
            ids += [self.mask_id] * (i > 0) + self._tokenizer(part, add_special_tokens=False).input_ids
        return [*ids, self.end_id]

    def bare(self, text: str) -> list[int]:
        """Ids of a text without special tokens around it; special tokens in the text are recognised."""
        ids: list[int] = self._tokenizer(text, add_special_tokens=False).input_ids
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The sentence without special tokens, up to the first end token that follows another token."""
        found: list[int] = []
        for i in ids:
            if i == self.end_id and found:
                break
            if i < self.num_tokens and i not in (self.pad_id, self.end_id):
                found.append(i)
        text: str = self._tokenizer.decode(found, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text.strip()

    def pieces(self) -> list[str]:
        """The piece of each id, and `<pad>` if the padding id is beyond the vocabulary. [vocab_size]"""
        own: list[str] = self._tokenizer.convert_ids_to_tokens(list(range(self.num_tokens)))
        return own + ["<pad>"] * (self.vocab_size - self.num_tokens)

    def save(self, folder: Path) -> None:
        """Writes `tokenizer.json` and the folder `pretrained_tokenizer`."""
        self._tokenizer.save_pretrained(str(folder / FOLDER))
        data = {"kind": "pretrained", "language": self.language, "writes": self.writes}
        write_text(folder / "tokenizer.json", json.dumps(data))

    @classmethod
    def load(cls, folder: Path, *, language: str = "", writes: bool = False) -> PretrainedTokenizer:
        """Loads the tokenizer that `save` wrote into a run folder."""
        return cls.read(str(folder / FOLDER), language, writes=writes)


def _marks(tokenizer: Any, marked: list[int]) -> tuple[list[int], list[int]]:
    """Ids before and after the pieces of "a" in `marked`, the text with special tokens."""
    bare = tokenizer("a", add_special_tokens=False).input_ids
    for start in range(len(marked) - len(bare) + 1):
        if marked[start : start + len(bare)] == bare:
            return marked[:start], marked[start + len(bare) :]
    return [], []


def _languages(tokenizer: Any) -> list[str]:
    """Language codes of a tokenizer that marks texts with a language (mBART-50, NLLB, M2M100); usually empty."""
    if not hasattr(tokenizer, "set_tgt_lang_special_tokens"):
        return []
    if codes := getattr(tokenizer, "lang_code_to_id", None):
        return list(codes)
    return [token for token in tokenizer.all_special_tokens if re.fullmatch(r"[a-z]{2,3}_[A-Za-z]+", token)]


def unknown_language(given: str, known: Sequence[str]) -> ValueError:
    """Makes the error for a language code that a tokenizer does not have, with a suggestion."""
    hint = did_you_mean(given, known)
    if not hint:  # de_DE and deu_Latn share only the first letters
        alike = [code for code in known if code[:2].lower() == given[:2].lower()]
        hint = f"; did you mean {' or '.join(alike[:3])}?" if alike else ""
    listed = ", ".join(known[:30]) + (" ..." if len(known) > 30 else "")
    return ValueError(f"text.language: {given!r} is no language of this tokenizer{hint}; it has {listed}")


def _is_encoder_decoder(source: str) -> bool:
    """Whether the model is an encoder-decoder by its config.json; False if it is missing or unknown to transformers."""
    from transformers import AutoConfig

    try:
        return bool(AutoConfig.from_pretrained(source, trust_remote_code=False).is_encoder_decoder)
    except (OSError, ValueError, KeyError):
        return False


def is_mbart(source: str) -> bool:
    """Whether a folder or hub id has an mBART tokenizer, which `signcl.data.text` reads without transformers.

    Decided by the model type in config.json or the class in tokenizer_config.json. A SentencePiece model without either
    file counts as mBART. mBART-50 does not: it has more languages and puts the language first.
    """
    folder, told = Path(source), []
    for name, key in NAMED:
        path = folder / name if folder.exists() else _cached(source, name)
        if path is None or not path.is_file():
            continue
        try:
            value = str(read_json(path, {}, "").get(key) or "").lower()
        except ValueError:  # transformers will report the error
            continue
        told += [value] if value else []
    if any(value.startswith("mbart50") for value in told):
        return False
    if any(value.startswith("mbart") for value in told):
        return True
    return not told and (not folder.is_dir() or any((folder / name).is_file() for name in SENTENCEPIECE))


def has_own_file(source: str) -> bool:
    """Whether a folder has a tokenizer as saved by transformers 5, without a SentencePiece model."""
    folder = Path(source)
    return (folder / "tokenizer.json").is_file() and not any((folder / name).is_file() for name in SENTENCEPIECE)


def _cached(source: str, name: str) -> Path | None:
    """A file of a hub id, downloaded if necessary; None if that fails."""
    from transformers.utils.hub import cached_file

    try:
        return Path(str(cached_file(source, name)))
    except OSError:
        return None
