"""Splits sentences of any script into words, characters and punctuation marks.

Used for word counts (and thus the frame margins of SignCL), word masking, pseudo-glosses, the vocabularies of `signcl
corpus stats`, and characters in WER and ROUGE-L. Scripts and characters follow Unicode, with the library `regex`: a
script is the property Script (Script_Extensions for kana), a character is an extended grapheme cluster (`\\X`).

Most scripts have spaces between words, including Hangul. Other scripts are split into characters, and
`CHARACTERS_PER_WORD` converts characters to words. A sentence with several scripts is split piece by piece.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import regex

__all__ = [
    "CHARACTERS_PER_WORD",
    "UNSPACED_SCRIPTS",
    "Piece",
    "characters",
    "count_words",
    "cut",
    "has_unspaced",
    "is_segmented",
    "is_spaced",
    "mask_words",
    "normal_form",
    "script_names",
    "units",
]

CHARACTERS_PER_GLOSS_CHINESE = 2.18  # CSL-Daily, punctuation counted (data sheet §9)
WORDS_PER_GLOSS = 2.3  # paper section 4.1

CHARACTERS_PER_WORD = {
    # Chosen so that words / 2.3 is the number of glosses in CSL-Daily. Punctuation and digits count as characters.
    "Chinese": CHARACTERS_PER_GLOSS_CHINESE / WORDS_PER_GLOSS,
    # Characters per English word in articles 1-30 of the Universal Declaration of Human Rights, times 4.00 / 4.92: the
    # mean letters per English word in How2Sign and in the Declaration, which has longer words
    # (benchmarks/words_of_scripts.py). Punctuation and digits are not counted. This rule gives 1.2 for Chinese.
    "Japanese": 1.8,  # kanji and kana together
    "Thai": 3.2,
    "Lao": 3.4,
    "Khmer": 2.4,
    "Burmese": 3.7,
    "Tibetan": 2.9,
    "Yi": 1.4,
    "Javanese": 2.2,
    "Tai Tham": 1.7,
    # No translation of the Declaration was available; copied from the most closely related script.
    "Tai Le": 3.2,
    "New Tai Lue": 3.2,
    "Balinese": 2.2,
}
"""Characters per word in writing systems without spaces between words."""

UNSPACED_SCRIPTS = tuple(
    "Myanmar" if name == "Burmese" else name.replace(" ", "_")
    for name in CHARACTERS_PER_WORD
    if name not in ("Chinese", "Japanese")
)
"""Unicode names of the scripts without spaces between words, other than Chinese characters and kana."""

# The characters of words in these writing systems; combining marks can come first in a damaged text.
_SETS = {
    "Chinese": r"[\p{Script=Han}\p{Script=Bopomofo}]",
    "Japanese": r"[[\p{scx=Hiragana}\p{scx=Katakana}]&&[\p{L}\p{M}]--\p{Script=Han}]",
    **{
        name: rf"[\p{{Script={script}}}&&[\p{{L}}\p{{M}}]]"
        for name, script in zip(
            (name for name in CHARACTERS_PER_WORD if name not in ("Chinese", "Japanese")), UNSPACED_SCRIPTS
        )
    },
}
_UNSPACED_SET = "[" + "".join(_SETS.values()) + "]"
_UNSPACED = regex.compile(_UNSPACED_SET, regex.V1)
_SCRIPT = regex.compile("|".join(f"(?P<{name.replace(' ', '_')}>{found})" for name, found in _SETS.items()), regex.V1)
_KANA = regex.compile(_SETS["Japanese"], regex.V1)
_HANGUL = regex.compile(r"[\p{Script=Hangul}&&\p{L}]", regex.V1)
# Only Chinese with punctuation and digits: every code point is a character.
_CHINESE = regex.compile(r"[\p{Script=Han}\p{P}\p{Sm}\p{Sc}\p{Nd}\s]+", regex.V1)
_CHARACTER = regex.compile(r"\X")
_INVISIBLE = regex.compile(r"[\p{DI}\p{Cc}]+", regex.V1)  # zero-width space, joiners, byte order mark, Hangul filler
_IGNORABLE = regex.compile(r"\p{DI}+")
_WIDTH = regex.compile("[\uff01-\uffdc]+")  # full-width ASCII, half-width kana and Hangul
_WORDSPACE = str.maketrans({"\u1361": " "})  # Ethiopic
_CUTS = regex.compile(r"[\s\u200b\u0f0b\u0f0c\u0f0d]+")  # space, zero-width space; Tibetan tsheg and shad
JOINTS = "-'’.,"
"""Marks that belong to a word or number if there are letters or digits on both sides."""
SEGMENTED = 0.5
"""A sentence counts as segmented into words if it has at least this many tokens per word."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A word, a character of a writing system without spaces, or punctuation next to such characters."""

    text: str
    """As written."""
    kind: Literal["word", "number", "character", "mark"]
    """`word` and `number` are separated by spaces or another script; a word may include punctuation (`rain.`)."""
    script: str
    """For `character`, a key of `CHARACTERS_PER_WORD`; else empty."""
    spaced: bool
    """Whether there is a space before it."""


def normal_form(text: str) -> str:
    """Unifies spellings that look the same: Unicode NFC, with East Asian width forms folded (Ａ to A, ｶﾞ to ガ).

    NFKC is not used because it would split `gibt´s` in two and change word counts.
    """
    if text.isascii():
        return text
    folded = _WIDTH.sub(lambda found: unicodedata.normalize("NFKC", found[0]), text)
    return unicodedata.normalize("NFC", folded)


def cut(text: str) -> list[Piece]:
    """Splits a sentence into pieces. Joining their texts gives the sentence without spaces.

    Args:
        text: as written; apply `normal_form` first if spelling should not matter.
    """
    kanji = "Japanese" if _KANA.search(text) else "Chinese"
    pieces: list[Piece] = []
    for token in text.split():
        spaced = bool(pieces)
        if not _UNSPACED.search(token):
            pieces.append(Piece(token, _kind(token), "", spaced))
            continue
        korean = _HANGUL.search(token) is not None
        for word, script in _parts(token, korean):
            if script == "Chinese":
                script = kanji
            pieces.append(Piece(word, "character" if script else _kind(word), script, spaced))
            spaced = False
    return pieces


def _parts(token: str, korean: bool) -> list[tuple[str, str]]:
    """Words, punctuation and characters of a token, each with its writing system if that has no spaces, else "".

    Args:
        korean: the token has Hangul; Chinese characters then belong to the Korean word.
    """
    parts: list[tuple[str, str]] = []
    run = ""  # letters and digits of the current word
    clusters = _CHARACTER.findall(token)
    classes = [_class(cluster[0]) for cluster in clusters]
    if korean:
        classes = ["letter" if found == "Chinese" else found for found in classes]
    for place, (cluster, found) in enumerate(zip(clusters, classes)):
        joins = found == "mark" and cluster in JOINTS and run and classes[place + 1 : place + 2] == ["letter"]
        if found == "letter" or joins or (found == "invisible" and not (parts and not run)):
            run += cluster
            continue
        if found == "invisible":
            parts[-1] = (parts[-1][0] + cluster, parts[-1][1])
            continue
        if run:
            parts.append((run, ""))
            run = ""
        parts.append((cluster, "" if found == "mark" else found))
    return [*parts, (run, "")] if run else parts


@lru_cache(maxsize=1 << 16)
def _class(character: str) -> str:
    """A key of `CHARACTERS_PER_WORD`, `letter` (also digits and combining marks), `invisible` or `mark`."""
    if found := _SCRIPT.match(character):
        return str(found.lastgroup).replace("_", " ")
    if _INVISIBLE.match(character):
        return "invisible"
    return "letter" if unicodedata.category(character)[0] in "LMN" else "mark"


def _kind(token: str) -> Literal["word", "number", "mark"]:
    visible = _INVISIBLE.sub("", token)
    if not any(character.isalnum() for character in visible):
        return "mark"
    return "word" if any(character.isalpha() for character in visible) else "number"


def has_unspaced(text: str) -> bool:
    """Whether a text has a character of a writing system without spaces between words."""
    return not text.isascii() and _UNSPACED.search(text) is not None


@lru_cache(maxsize=1 << 16)  # margins need it in every epoch, and each sentence of CSL-Daily occurs three times
def count_words(text: str) -> float:
    """Number of spoken words in a sentence, for the frame margin; at least 1.

    A word is a token between spaces that contains a letter or digit; separate punctuation and emoji are not words. In
    writing systems without spaces, `CHARACTERS_PER_WORD` converts characters to words. In a mainly Chinese sentence,
    punctuation and digits also count as characters, as in CSL-Daily's 2.18 characters per gloss: words = 2.3 *
    characters / 2.18, so frames / words * 2.3 (the paper's margin) is the mean number of frames per gloss. Spelling
    variants (`normal_form`) and invisible characters make no difference.

    Args:
        text: one sentence, as the corpus writes it.

    Source: paper section 4.1 ("spoken words"); the rules for scripts without spaces are ours (docs/data.md).
    """
    if not text.isascii():
        text = normal_form(text).translate(_WORDSPACE)
    if not has_unspaced(text):
        text = text if text.isascii() else _IGNORABLE.sub("", text)
        return float(max(1, sum(any(c.isalnum() for c in token) for token in text.split())))
    if _CHINESE.fullmatch(text):
        return max(1.0, _words_of(Counter(Chinese=len("".join(text.split()))), "Chinese"))
    words, numbers, extra = 0.0, 0.0, 0
    counts: Counter[str] = Counter()
    for piece in cut(text):
        if piece.kind == "character":
            counts[piece.script] += 1
        elif piece.kind == "word":
            words += 1
        else:
            numbers += piece.kind == "number"
            extra += len(characters(piece.text))
    if counts["Chinese"] > words + counts.total() - counts["Chinese"]:
        counts["Chinese"] += extra
        numbers = 0
    return max(1.0, words + numbers + sum(_words_of(counts, name) for name in counts))


def _words_of(counts: Counter[str], name: str) -> float:
    if name == "Chinese":  # this order of operations keeps the margins of CSL-Daily the same to the last digit
        return WORDS_PER_GLOSS * counts[name] / CHARACTERS_PER_GLOSS_CHINESE
    return counts[name] / CHARACTERS_PER_WORD[name]


def characters(text: str) -> list[str]:
    """Characters as a reader perceives them, in NFC, without spaces and invisible characters: the unit of CER.

    Full-width and half-width forms are different; unifying them is a matter of the scoring convention.
    """
    if text.isascii():
        return list("".join(text.split()))
    found = _CHARACTER.findall(unicodedata.normalize("NFC", "".join(text.split())))
    return [character for character in found if not _IGNORABLE.fullmatch(character)]


def units(text: str) -> list[str]:
    """Words in normal form, or characters for writing systems without spaces; separate punctuation is left out."""
    text = normal_form(text)
    if not has_unspaced(text):
        return [token for token in text.split() if any(character.isalnum() for character in token)]
    return [_INVISIBLE.sub("", piece.text) for piece in cut(text) if piece.kind != "mark"]


def script_names(texts: Sequence[str]) -> list[str]:
    """Names of the writing systems without spaces that occur in these sentences, most frequent first."""
    counts = Counter(piece.script for text in texts if has_unspaced(text) for piece in cut(text) if piece.script)
    return [name for name, _ in counts.most_common()]


def is_spaced(texts: Sequence[str]) -> bool:
    """Whether most sentences are written with spaces between words.

    False for Chinese, even if a corpus adds spaces, and for Japanese, Thai and others. A Chinese name in an English
    sentence makes no difference: a sentence is unspaced only if its unspaced part has more words.
    """
    return 2 * sum(map(_mainly_unspaced, texts)) < max(1, len(texts))


def _mainly_unspaced(text: str) -> bool:
    if not has_unspaced(text):
        return False
    pieces = cut(normal_form(text))
    counts = Counter(piece.script for piece in pieces if piece.script)
    return sum(_words_of(counts, name) for name in counts) > sum(piece.kind == "word" for piece in pieces)


def is_segmented(text: str) -> bool:
    """Whether a sentence is segmented into words, by spaces, zero-width spaces or the Tibetan tsheg."""
    tokens = sum(any(character.isalnum() for character in token) for token in _CUTS.split(text))
    return not has_unspaced(text) or tokens >= SEGMENTED * count_words(text)


def mask_words(text: str, rate: float, random: Any, *, kind: str = "random", shuffle: float = 0.0) -> str:
    """Replaces words (characters in scripts without spaces) by `<mask>`, for the masked-text term of VLP.

    Args:
        text: the sentence.
        rate: the masked share is drawn between 0 and `rate`; at least one word is masked.
        random: a numpy Generator.
        kind: `random` masks words anywhere; `omit_last` masks the last ones, as the released code does. (Its
            NoiseInjecting splits only at spaces and so masks an unspaced Chinese sentence completely.)
        shuffle: probability of shuffling the words, including masks.
    """
    pieces = cut(text)
    if not pieces:
        return text
    words = [piece.text for piece in pieces]
    count = min(len(words), max(1, int(-(-len(words) * random.uniform(0, rate) // 1))))
    if kind == "omit_last":
        chosen = range(len(words) - count, len(words))
    else:
        chosen = random.choice(len(words), size=count, replace=False)
    for i in chosen:
        words[i] = "<mask>"
    spaces = [piece.spaced for piece in pieces]
    if shuffle and random.random() < shuffle:
        order = random.permutation(len(words))
        words = [words[i] for i in order]
        # Words of scripts with spaces need spaces around them in the new order.
        unspaced = has_unspaced(text)
        free = [unspaced and pieces[i].kind in ("character", "mark") for i in order]
        spaces = [i > 0 and not (free[i - 1] and free[i]) for i in range(len(order))]
    return "".join(f"{' ' if space else ''}{word}" for space, word in zip(spaces, words))
