"""Tokenizers (words, characters, SentencePiece, pretrained mBART) and gloss vocabularies.

All tokenizers have the same interface: `encode`, `decode`, the special ids, `save`. Vocabularies are built from
training sentences only. Scores are computed on raw references, never on decoded ones (docs/paper-vs-code.md).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from signcl.data.files import write_bytes, write_text
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
    """Interface of all tokenizers; ids are plain integers."""

    vocab_size: int
    pad_id: int
    start_id: int
    """First decoder input (for mBART the language code)."""
    end_id: int
    mask_id: int

    def encode(self, text: str) -> list[int]:
        """Ids of a sentence, including its end marks."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """The sentence for generated ids, up to the end mark, without special tokens."""
        ...

    def pieces(self) -> list[str]:
        """The text of each id, as in word vector files (SentencePiece: `▁` before a word). [vocab_size]"""
        ...

    def save(self, folder: Path) -> None:
        """Writes the files that `load_tokenizer` reads."""
        ...


class VocabularyTokenizer:
    """A tokenizer with an explicit vocabulary of words (split at spaces), characters or SentencePiece pieces.

    Args:
        words: the vocabulary in order of ids, which follow those of the special tokens.
        level: `word`, `character` or `piece`.
        lowercase: convert sentences to lower case first.
        specials: special tokens in order of ids; neccam/slt has `<unk> <pad> <s> </s>`, without `<mask>`.
        model: for `piece`, the SentencePiece model that splits sentences.
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
        """Builds the vocabulary of `texts`, sorted by frequency and then alphabetically (as in neccam/slt)."""
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(cls._split(text.lower() if lowercase else text, level))
        if not counts:
            raise ValueError("a vocabulary needs training sentences with words in them, got none")
        kept = [w for w, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if n >= min_count]
        if not kept:
            raise ValueError(
                f"text.min_count={min_count} leaves no word: the most frequent occurs {max(counts.values())} times"
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
        """Ids before and after an encoder input."""
        return [], [self.end_id]

    def bare(self, text: str) -> list[int]:
        """Ids of a text without special tokens around it."""
        return self.encode(text)[:-1]

    def decode(self, ids: Iterable[int]) -> str:
        """The sentence up to the first `</s>`; unknown words are written as `<unk>`."""
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
        """The text of each id: special tokens, then the vocabulary. [vocab_size]"""
        return [*self.specials, *self.words]

    def save(self, folder: Path) -> None:
        """Writes `tokenizer.json` and, for `piece`, the SentencePiece model."""
        data: dict[str, Any] = {"kind": "vocabulary", "level": self.level, "lowercase": self.lowercase}
        if self.specials != self.SPECIALS:
            data["specials"] = self.specials
        if self.model is not None:
            write_bytes(folder / "sentencepiece.bpe.model", self.model)
        data["words"] = self.words
        write_text(folder / "tokenizer.json", json.dumps(data, ensure_ascii=False, indent=0))


def _join_mask(pieces: list[str]) -> list[str]:
    """Joins the characters of `<mask>` that a character tokenizer has split."""
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
    """A SentencePiece model with the fairseq ids of mBART: `<s> <pad> </s> <unk>`, pieces, languages, `<mask>`.

    Piece i has the id i + 1. The language codes follow the pieces, and `<mask>` is last. The trimmed mBART of GFSLT
    (2427 pieces) has 2454 ids, with `de_DE` = 2430 and `<mask>` = 2453. A sentence ends with `</s>` and the language
    code, which is also the first decoder input.
    """

    LANGUAGES = tuple(_LANGUAGES.split())
    pad_id, end_id, unk_id = 1, 2, 3

    def __init__(self, model: bytes, language: str = "de_DE") -> None:
        import sentencepiece

        if language not in self.LANGUAGES:
            raise unknown_language(language, self.LANGUAGES)
        self.model = model
        """The content of the SentencePiece model file."""
        self.language = language
        self._pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
        self.num_pieces: int = self._pieces.get_piece_size()
        self.start_id = self.num_pieces + 1 + self.LANGUAGES.index(language)
        self.mask_id = self.num_pieces + 1 + len(self.LANGUAGES)
        self.vocab_size = self.mask_id + 1

    @classmethod
    def train(cls, texts: Iterable[str], *, vocab_size: int, language: str = "de_DE") -> SentencePieceTokenizer:
        """Trains a unigram model on `texts`; deterministic."""
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
        """Ids of the pieces of the sentence, `</s>`, and the language code."""
        ids: list[int] = []
        for i, part in enumerate(text.split("<mask>")):
            if i:
                ids.append(self.mask_id)
            # <unk> is 0 in SentencePiece and 3 in fairseq; all other pieces move up by one
            ids += [self.unk_id if piece == 0 else piece + 1 for piece in self._pieces.encode(part)]
        return [*ids, self.end_id, self.start_id]

    @property
    def decoder_start(self) -> int:
        """First decoder input: the language code."""
        return self.start_id

    @property
    def around(self) -> tuple[list[int], list[int]]:
        """Ids before and after an encoder input: mBART puts `</s>` and the language code after it."""
        return [], [self.end_id, self.start_id]

    def bare(self, text: str) -> list[int]:
        """Ids of a text without special tokens around it."""
        return self.encode(text)[:-2]

    def decode(self, ids: Iterable[int]) -> str:
        """The sentence up to the first `</s>` that follows a piece."""
        pieces: list[int] = []
        for i in ids:
            if i == self.end_id and pieces:
                break
            if 3 < i <= self.num_pieces or i == self.unk_id:
                pieces.append(0 if i == self.unk_id else i - 1)
        return self._pieces.decode(pieces).strip()

    def cut(self, text: str) -> list[str]:
        """The pieces of a sentence as SentencePiece writes them; unknown characters are left unchanged."""
        pieces: list[str] = self._pieces.encode(text, out_type=str)
        return pieces

    def normalized(self, text: str) -> str:
        """A sentence in the Unicode forms of the pieces, with single spaces."""
        normal: str = self._pieces.normalize(text)
        return " ".join(normal.replace("▁", " ").split())

    def pieces(self) -> list[str]:
        """The text of each id: special tokens, pieces, language codes, mask. [vocab_size]"""
        own = [self._pieces.id_to_piece(i) for i in range(3, self.num_pieces)]
        return ["<s>", "<pad>", "</s>", "<unk>", *own, *self.LANGUAGES, "<mask>"]

    def save(self, folder: Path) -> None:
        """Writes `tokenizer.json` and `sentencepiece.bpe.model`."""
        write_bytes(folder / "sentencepiece.bpe.model", self.model)
        data = {"kind": "sentencepiece", "language": self.language}
        write_text(folder / "tokenizer.json", json.dumps(data))


def build_tokenizer(
    kind: str,
    texts: Sequence[str],
    *,
    vocab_size: int = 2000,
    lowercase: bool = False,
    language: str = "de_DE",
    min_count: int = 1,
) -> Tokenizer:
    """Builds the tokenizer for the `text` section of a recipe.

    Args:
        kind: word, character, sentencepiece, or `pretrained:` and a folder or hub id of a tokenizer: the SentencePiece
            model of mBART, or any tokenizer that AutoTokenizer of transformers reads.
        texts: training sentences; the vocabulary is built only from these.
        vocab_size: maximum number of pieces, for sentencepiece.
        lowercase: convert sentences to lower case, for word and character.
        language: language code, for sentencepiece and pretrained.
        min_count: rarer words are unknown, for word and character.

    Raises:
        ValueError: the kind is unknown, there are no words, or the folder has no tokenizer.
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
    """Reads the SentencePiece model file of an mBART folder or hub id.

    The tokenizer of transformers is not used: it leaves the language code in decoded text if tokenizer_config.json has
    `additional_special_tokens: null`, as in the released trimmed mBART.
    """
    folder = Path(source)
    names = ("sentencepiece.bpe.model", "spiece.model", "sentencepiece.model")
    for name in names:
        if (folder / name).is_file():
            return (folder / name).read_bytes()
    if folder.exists():
        raise ValueError(f"{folder} has no tokenizer; needs one of {', '.join(names)}")
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
"""The keys of `tokenizer.json` for each kind."""


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """Loads the tokenizer that `save` wrote into a run folder."""
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
    """Gloss classes for CTC: 0 is the blank, 1 the unknown gloss, then the training glosses, most frequent first."""

    def __init__(self, glosses: Sequence[str]) -> None:
        self.glosses = list(glosses)
        self._ids = {gloss: i + 2 for i, gloss in enumerate(self.glosses)}

    @classmethod
    def train(cls, sequences: Iterable[Sequence[str]]) -> GlossVocabulary:
        """Builds the vocabulary of the training annotation."""
        counts = Counter(gloss for sequence in sequences for gloss in sequence)
        return cls([g for g, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))])

    def __len__(self) -> int:
        return len(self.glosses) + 2

    def encode(self, sequence: Sequence[str]) -> list[int]:
        """Class of each gloss; 1 for glosses that do not occur in training."""
        return [self._ids.get(gloss, 1) for gloss in sequence]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """The glosses of classes, without blanks."""
        return ["<unk>" if i == 1 else self.glosses[i - 2] for i in ids if i > 0]

    def save(self, folder: Path) -> None:
        """Writes `glosses.json`."""
        write_text(folder / "glosses.json", json.dumps(self.glosses, ensure_ascii=False, indent=0))


def load_glosses(folder: str | Path) -> GlossVocabulary:
    """Loads the gloss vocabulary that `save` wrote into a run folder."""
    path = Path(folder) / "glosses.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no glosses.json; only runs with loss.weights.recognition have one")
    return GlossVocabulary(read_json(path, [str], COPY))
