"""Sentences to token ids and back: words, characters, SentencePiece, pretrained mBART folders; gloss vocabularies.

Every tokenizer is the same few plain things: `encode`, `decode`, the special ids, `save`. Vocabularies are built from
training sentences only. Scores are always computed on raw references, never on decoded ones (docs/paper-vs-code.md).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from signcl.data.json_files import check_shape, read_json
from signcl.data.text.pretrained import PretrainedTokenizer, has_own_file, is_mbart, unknown_language

__all__ = [
    "GlossVocabulary",
    "SentencePieceTokenizer",
    "Tokenizer",
    "VocabularyTokenizer",
    "build_tokenizer",
    "load_glosses",
    "load_tokenizer",
]

_LANGUAGES = (
    "ar_AR cs_CZ de_DE en_XX es_XX et_EE fi_FI fr_XX gu_IN hi_IN it_IT ja_XX kk_KZ ko_KR lt_LT lv_LV my_MM ne_NP "
    "nl_XX ro_RO ru_RU si_LK tr_TR vi_VN zh_CN"
)


class Tokenizer(Protocol):
    """What the package asks of a tokenizer; ids are plain numbers."""

    vocab_size: int
    pad_id: int
    start_id: int
    """First input of the decoder (for mBART the language code)."""
    end_id: int
    mask_id: int

    def encode(self, text: str) -> list[int]:
        """Ids of a sentence with its end marks."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """The sentence of generated ids, up to the end mark, without special tokens."""
        ...

    def pieces(self) -> list[str]:
        """What each id stands for, as word vectors name it (SentencePiece: `▁` before a word). [vocab_size]"""
        ...

    def save(self, folder: Path) -> None:
        """Write what `load_tokenizer` needs."""
        ...


class VocabularyTokenizer:
    """Words between spaces, characters, or the pieces of a SentencePiece model: a vocabulary, most frequent first.

    Args:
        words: in the order of their ids, which follow the special tokens.
        level: `word`, `character` or `piece`.
        lowercase: sentences are put in lower case first.
        specials: in the order of their ids; neccam/slt has `<unk> <pad> <s> </s>`, without `<mask>`.
        model: the SentencePiece model that cuts sentences, for `piece`.
    """

    SPECIALS = ("<pad>", "<s>", "</s>", "<unk>", "<mask>")

    def __init__(
        self,
        words: Sequence[str],
        *,
        level: str = "word",
        lowercase: bool = False,
        specials: Sequence[str] = SPECIALS,
        model: bytes | None = None,
    ) -> None:
        if lacking := set(self.SPECIALS[:4]) - set(specials):
            raise ValueError(f"a vocabulary needs the special tokens {', '.join(sorted(lacking))} among its specials")
        self.words, self.specials = list(words), tuple(specials)
        self.level = level
        self.lowercase = lowercase
        self._ids = {word: i for i, word in enumerate((*self.specials, *self.words))}
        self.vocab_size = len(self._ids)
        if self.vocab_size != len(self.specials) + len(self.words):
            raise ValueError("the vocabulary lists a word twice, or a special token as a word")
        self.pad_id, self.start_id, self.end_id, self.unk_id = (self._ids[name] for name in self.SPECIALS[:4])
        self.mask_id = self._ids.get("<mask>", self.unk_id)
        self.model, self._pieces = model, None
        if level == "piece":
            import sentencepiece

            if model is None:
                raise ValueError("a vocabulary of pieces needs the SentencePiece model that cuts sentences into them")
            self._pieces = sentencepiece.SentencePieceProcessor(model_proto=model)

    @classmethod
    def train(
        cls, texts: Iterable[str], *, level: str = "word", lowercase: bool = False, min_count: int = 1
    ) -> VocabularyTokenizer:
        """The vocabulary of `texts`, by frequency and then alphabetically (as neccam/slt orders it)."""
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(cls._split(text.lower() if lowercase else text, level))
        if not counts:
            raise ValueError("a vocabulary needs training sentences with words in them, got none")
        kept = [w for w, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if n >= min_count]
        if not kept:
            raise ValueError(
                f"text.min_count={min_count} leaves no word: the most frequent stands {max(counts.values())} times"
            )
        return cls([w for w in kept if w not in cls.SPECIALS], level=level, lowercase=lowercase)

    @staticmethod
    def _split(text: str, level: str) -> list[str]:
        return text.split() if level == "word" else list(text.strip())

    def encode(self, text: str) -> list[int]:
        """Ids of the sentence, ending with `</s>`."""
        text = text.lower() if self.lowercase else text
        pieces = self._split(text, self.level) if self._pieces is None else self._pieces.encode(text, out_type=str)
        return [
            self.mask_id if piece == "<mask>" else self._ids.get(piece, self.unk_id) for piece in _join_mask(pieces)
        ] + [self.end_id]

    @property
    def around(self) -> tuple[list[int], list[int]]:
        """Ids before and after a text that an encoder reads."""
        return [], [self.end_id]

    def bare(self, text: str) -> list[int]:
        """Ids of a text without marks."""
        return self.encode(text)[:-1]

    def decode(self, ids: Iterable[int]) -> str:
        """The sentence up to the first `</s>`; `<unk>` stays visible."""
        words: list[str] = []
        for i in ids:
            if i == self.end_id and words:
                break
            if i == self.unk_id:
                words.append("<unk>")
            elif i not in (self.pad_id, self.start_id, self.end_id, self.mask_id):
                words.append(self.words[i - len(self.specials)])
        if self.level == "piece":
            return "".join(words).replace("▁", " ").strip()
        return (" " if self.level == "word" else "").join(words)

    def pieces(self) -> list[str]:
        """What each id stands for: specials, then the vocabulary. [vocab_size]"""
        return [*self.specials, *self.words]

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json`, and the SentencePiece model of a vocabulary of pieces."""
        data: dict[str, Any] = {"kind": "vocabulary", "level": self.level, "lowercase": self.lowercase}
        if self.specials != self.SPECIALS:
            data["specials"] = self.specials
        if self.model is not None:
            (folder / "sentencepiece.bpe.model").write_bytes(self.model)
        data["words"] = self.words
        (folder / "tokenizer.json").write_text(json.dumps(data, ensure_ascii=False, indent=0), encoding="utf-8")


def _join_mask(pieces: list[str]) -> list[str]:
    """Put `<mask>` together again where a character tokenizer has split it."""
    if "<" not in pieces:
        return pieces
    joined, i, mark = [], 0, list("<mask>")
    while i < len(pieces):
        if pieces[i : i + len(mark)] == mark:
            joined.append("<mask>")
            i += len(mark)
        else:
            joined.append(pieces[i])
            i += 1
    return joined


class SentencePieceTokenizer:
    """A SentencePiece model with the fairseq id rule of mBART: `<s> <pad> </s> <unk>`, pieces, languages, `<mask>`.

    id(piece) = piece + 1; the language codes follow the pieces; `<mask>` is last. With the trimmed mBART of GFSLT
    (2427 pieces) this gives 2454 ids, `de_DE` = 2430, `<mask>` = 2453. A sentence ends with `</s>` and the language
    code, which is also the decoder's first input.
    """

    LANGUAGES = tuple(_LANGUAGES.split())
    pad_id, end_id, unk_id = 1, 2, 3

    def __init__(self, model: bytes, language: str = "de_DE") -> None:
        import sentencepiece

        if language not in self.LANGUAGES:
            raise unknown_language(language, self.LANGUAGES)
        self.model = model
        """The SentencePiece model, as its file holds it."""
        self.language = language
        self._pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
        self.num_pieces: int = self._pieces.get_piece_size()
        self.start_id = self.num_pieces + 1 + self.LANGUAGES.index(language)
        self.mask_id = self.num_pieces + 1 + len(self.LANGUAGES)
        self.vocab_size = self.mask_id + 1

    @classmethod
    def train(cls, texts: Iterable[str], *, vocab_size: int, language: str = "de_DE") -> SentencePieceTokenizer:
        """Train a unigram model on `texts`; deterministic."""
        import io

        import sentencepiece

        model = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(list(texts)),
                model_writer=model,
                vocab_size=vocab_size,
                hard_vocab_limit=False,
                character_coverage=1.0,
                unk_id=0,
                bos_id=1,
                eos_id=2,
                minloglevel=2,
                num_threads=1,
            )
        except RuntimeError as error:
            raise ValueError(f"text.vocab_size={vocab_size}: SentencePiece could not be trained: {error}") from None
        return cls(model.getvalue(), language)

    def encode(self, text: str) -> list[int]:
        """Pieces of the sentence, `</s>`, language code."""
        ids: list[int] = []
        for i, part in enumerate(text.split("<mask>")):
            if i:
                ids.append(self.mask_id)
            # SentencePiece calls <unk> 0, fairseq calls it 3; every other piece moves up by one
            ids += [self.unk_id if piece == 0 else piece + 1 for piece in self._pieces.encode(part)]
        return [*ids, self.end_id, self.start_id]

    @property
    def decoder_start(self) -> int:
        """What a decoder reads first: the language."""
        return self.start_id

    @property
    def around(self) -> tuple[list[int], list[int]]:
        """Ids before and after a text that an encoder reads: mBART ends it with `</s>` and the language."""
        return [], [self.end_id, self.start_id]

    def bare(self, text: str) -> list[int]:
        """Ids of a text without marks."""
        return self.encode(text)[:-2]

    def decode(self, ids: Iterable[int]) -> str:
        """The sentence up to the first `</s>` after some piece."""
        pieces: list[int] = []
        for i in ids:
            if i == self.end_id and pieces:
                break
            if 3 < i <= self.num_pieces or i == self.unk_id:
                pieces.append(0 if i == self.unk_id else i - 1)
        return self._pieces.decode(pieces).strip()

    def cut(self, text: str) -> list[str]:
        """The pieces of a sentence as SentencePiece writes them; unknown characters stand as they are."""
        pieces: list[str] = self._pieces.encode(text, out_type=str)
        return pieces

    def normalized(self, text: str) -> str:
        """A sentence in the Unicode forms that the pieces are made of, runs of spaces as one."""
        normal: str = self._pieces.normalize(text)
        return " ".join(normal.replace("▁", " ").split())

    def pieces(self) -> list[str]:
        """What each id stands for: specials, pieces, language codes, mask. [vocab_size]"""
        own = [self._pieces.id_to_piece(i) for i in range(3, self.num_pieces)]
        return ["<s>", "<pad>", "</s>", "<unk>", *own, *self.LANGUAGES, "<mask>"]

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json` and `sentencepiece.bpe.model`."""
        (folder / "sentencepiece.bpe.model").write_bytes(self.model)
        data = {"kind": "sentencepiece", "language": self.language}
        (folder / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")


def build_tokenizer(
    kind: str,
    texts: Sequence[str],
    *,
    vocab_size: int = 2000,
    lowercase: bool = False,
    language: str = "de_DE",
    min_count: int = 1,
) -> Tokenizer:
    """The tokenizer that a recipe's `text` section asks for.

    Args:
        kind: word, character, sentencepiece, or `pretrained:` with a folder or hub id of a tokenizer: mBART's
            SentencePiece model, or whatever transformers' AutoTokenizer reads.
        texts: training sentences; the vocabulary comes from these alone.

    Raises:
        ValueError: unknown kind, no words, or a folder without a SentencePiece model.
    """
    if kind in ("word", "character"):
        return VocabularyTokenizer.train(texts, level=kind, lowercase=lowercase, min_count=min_count)
    if kind == "sentencepiece":
        return SentencePieceTokenizer.train(texts, vocab_size=vocab_size, language=language)
    if kind.startswith("pretrained:"):
        source = kind.removeprefix("pretrained:")
        if is_mbart(source) and not has_own_file(source):
            return SentencePieceTokenizer(pretrained_sentencepiece(source), language)
        return PretrainedTokenizer.read(source, language)
    raise ValueError(f"text.tokenizer: needs word, character, sentencepiece or pretrained:FOLDER, got {kind!r}")


def pretrained_sentencepiece(source: str) -> bytes:
    """The SentencePiece model of an mBART folder or hub id.

    Read from the model file itself: transformers' tokenizer leaves the language code in decoded text for folders
    whose tokenizer_config.json says `additional_special_tokens: null`, as the released trimmed mBART does.
    """
    folder = Path(source)
    names = ("sentencepiece.bpe.model", "spiece.model", "sentencepiece.model")
    for name in names:
        if (folder / name).is_file():
            return (folder / name).read_bytes()
    if folder.exists():
        raise ValueError(f"{folder} has no tokenizer: one of {', '.join(names)} is needed there")
    from transformers.utils.hub import cached_file

    try:
        found = cached_file(source, names[0])
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"text.tokenizer: no folder {source}, and no tokenizer under that hub id: {reason}") from None
    return Path(str(found)).read_bytes()


COPY = "copy the run folder again"
SHAPES: dict[str, Any] = {
    "vocabulary": {"words": [str], "level": str, "lowercase": bool, "specials?": [str]},
    "sentencepiece": {"language": str | None},
    "pretrained": {"language?": str, "writes?": bool},
}
"""What `tokenizer.json` holds beside its kind."""


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """The tokenizer that `save` wrote into a run folder."""
    folder = Path(folder)
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no tokenizer.json; is it a run folder made by `signcl fit`?")
    data = read_json(path, {"kind": str}, COPY, lambda found: check_shape(found, SHAPES.get(found["kind"], {})))
    if data["kind"] == "pretrained":
        return PretrainedTokenizer.load(folder, language=data.get("language", ""), writes=data.get("writes", False))
    if data["kind"] == "vocabulary":
        return VocabularyTokenizer(
            data["words"],
            level=data["level"],
            lowercase=data["lowercase"],
            specials=data.get("specials", VocabularyTokenizer.SPECIALS),
            model=(folder / "sentencepiece.bpe.model").read_bytes() if data["level"] == "piece" else None,
        )
    return SentencePieceTokenizer((folder / "sentencepiece.bpe.model").read_bytes(), data["language"])


class GlossVocabulary:
    """Gloss classes for CTC: 0 is the blank, 1 the unknown gloss, then the glosses of training, most frequent first."""

    def __init__(self, glosses: Sequence[str]) -> None:
        self.glosses = list(glosses)
        self._ids = {gloss: i + 2 for i, gloss in enumerate(self.glosses)}

    @classmethod
    def train(cls, sequences: Iterable[Sequence[str]]) -> GlossVocabulary:
        """The vocabulary of the training annotation."""
        counts = Counter(gloss for sequence in sequences for gloss in sequence)
        return cls([g for g, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))])

    def __len__(self) -> int:
        return len(self.glosses) + 2

    def encode(self, sequence: Sequence[str]) -> list[int]:
        """Class of each gloss; 1 where training never saw it."""
        return [self._ids.get(gloss, 1) for gloss in sequence]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Glosses of classes, without blanks."""
        return ["<unk>" if i == 1 else self.glosses[i - 2] for i in ids if i > 0]

    def save(self, folder: Path) -> None:
        """Write `glosses.json`."""
        (folder / "glosses.json").write_text(json.dumps(self.glosses, ensure_ascii=False, indent=0), encoding="utf-8")


def load_glosses(folder: str | Path) -> GlossVocabulary:
    """The gloss vocabulary that `save` wrote into a run folder."""
    path = Path(folder) / "glosses.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no glosses.json, which a run with loss.weights.recognition writes")
    return GlossVocabulary(read_json(path, [str], COPY))
