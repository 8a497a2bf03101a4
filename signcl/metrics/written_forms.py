"""Written forms of sentences for scoring: the tokenizer and unit for a script, and normalization.

`tokenization_for` implements `tokenize="auto"`. `STEPS` are the normalization steps that a scoring convention may apply
to both sides; `normalize` applies them. Scripts and marks are Unicode's, by the `regex` package.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from typing import Literal

import regex

from signcl.data.text.writing_systems import UNSPACED_SCRIPTS

__all__ = [
    "STEPS",
    "STOPS",
    "Step",
    "Tokenize",
    "Unit",
    "normalize",
    "same_text",
    "split_marks",
    "tokenization_for",
    "tokenization_warning",
    "tokenize_as",
    "unit_for",
    "unite_width",
    "with_stop",
    "without_stop",
]

Tokenize = Literal["auto", "none", "13a", "intl", "zh", "char"]
Unit = Literal["word", "character"]
Step = Literal["nfc", "width", "lower", "no_stop", "no_spaces"]

STOPS = ".。｡．।॥։۔።"
"""Marks that end a statement and nothing else: Latin, Chinese and Japanese in three widths, Devanagari, Armenian, Urdu,
Ethiopic."""
ENDS = STOPS + "!?！？؟…‼⁇⁈⁉"
"""Marks that end a sentence: statements, questions, exclamations."""

_HAN = regex.compile(r"\p{Script=Han}")
_KANA = regex.compile(r"[\p{Script=Hiragana}\p{Script=Katakana}]")
# Southeast Asian scripts and Tibetan: spaces, if any, separate phrases or syllables, not words.
_OTHERS = "".join(rf"\p{{Script={script}}}" for script in UNSPACED_SCRIPTS)
_OTHER_UNSPACED = regex.compile(f"[{_OTHERS}]")
# A unit is a word of a spaced script or a character of an unspaced one. If letters were counted, one English name could
# outvote a Chinese sentence.
_SPACED_WORD = regex.compile(
    rf"(?:(?![\p{{Script=Han}}\p{{Script=Hiragana}}\p{{Script=Katakana}}{_OTHERS}])[\p{{L}}\p{{M}}\p{{N}}'’-])+"
)
_MARK = r"[.,!?;:…।॥։۔؟،؛።፣¡¿\"“”„«»()]"
_GLUED = regex.compile(r"(?<=[\p{L}\p{M}\p{N}])[.,!?;:…।॥։۔؟،؛።፣]+(?=\s|$|[\"”“«»)])")
_ALONE = regex.compile(rf"(?<!\S){_MARK}+(?!\S)")
GLUED_SENTENCES = 0.05
"""From this share of sentences on, marks attached to words are the writing convention, not typos or abbreviations."""


def tokenization_for(texts: Sequence[str]) -> Literal["none", "13a", "zh", "char"]:
    """Chooses the BLEU tokenizer for the script of these sentences; used by `tokenize="auto"` for references.

    - zh: Chinese, with or without spaces between characters (sacreBLEU's zh splits characters but not Latin words).
    - char: Japanese, Thai, Lao, Khmer, Burmese, Tibetan and other scripts without spaces between words.
    - none: spaced scripts (Latin, Cyrillic, Arabic, Hangul, ...) with separate punctuation or none, as in PHOENIX-2014T
      and glosses. The sentences are already tokenized, so tokens are split at spaces.
    - 13a: spaced scripts with punctuation attached to words ("regen."), as in WMT-SLT and How2Sign.

    The script is that of most units; a unit is one character of an unspaced script or one word of a spaced one.

    Args:
        texts: the references, or any sentences written the same way.
    """
    chinese = kana = other = spaced = glued = alone = 0
    for text in texts:
        text = unicodedata.normalize("NFC", text)
        chinese += len(_HAN.findall(text))
        kana += len(_KANA.findall(text))
        other += len(_OTHER_UNSPACED.findall(text))
        spaced += len(_SPACED_WORD.findall(text))
        touching, apart = len(_GLUED.findall(text)), len(_ALONE.findall(text))
        glued += touching > apart
        alone += apart > touching
    unspaced = chinese + kana + other
    if unspaced > spaced:
        # A borrowed の does not make Chinese Japanese, which is half or more kana.
        return "zh" if chinese > other and 10 * kana < chinese else "char"
    return "13a" if glued > alone and glued >= GLUED_SENTENCES * len(texts) else "none"


def tokenize_as(tokenize: Tokenize, references: Sequence[str]) -> Tokenize:
    """Resolves `auto` to the tokenizer for these references; returns other names unchanged."""
    return tokenization_for(references) if tokenize == "auto" else tokenize


def unit_for(tokenize: Tokenize) -> Unit:
    """The unit of ROUGE-L, WER and exact match for a BLEU tokenizer: characters with zh and char, else words."""
    return "character" if tokenize in ("zh", "char") else "word"


def tokenization_warning(tokenize: Tokenize, references: Sequence[str]) -> str | None:
    """A warning if a tokenizer does not fit these references, else None."""
    fits = tokenization_for(references)
    if tokenize in ("auto", fits) or {tokenize, fits} <= {"zh", "char"}:
        return None
    if fits in ("zh", "char") and tokenize in ("none", "13a", "intl"):
        if any(len(line.split()) > 1 for line in references) and tokenize == "none":
            words = sum(len(line.split()) for line in references)
            letters = sum(len("".join(line.split())) for line in references)
            if letters < 2 * words:  # a space after every character: "none" then counts characters
                return None
        return (
            f"the references have no spaces between words, so tokenize={tokenize} treats a sentence as one word and "
            f"BLEU is near 0 for any translation; use tokenize={fits}"
        )
    if fits == "13a" and tokenize == "none":
        return (
            "the references are not tokenized ('wetter.' is one word with its full stop) and tokenize=none splits only "
            "at spaces, so a wrong full stop is a wrong word; use 13a, the convention of WMT-SLT and sacreBLEU"
        )
    if fits in ("none", "13a") and tokenize in ("zh", "char"):
        return (
            f"the references have spaces between words, but tokenize={tokenize} is for Chinese and other scripts "
            f"without spaces; use tokenize={fits}"
        )
    return None


# full-width forms of ASCII, the ideographic space, half-width forms of Chinese and Japanese marks and kana
_WIDTHS = {0xFF00 + code - 0x20: code for code in range(0x21, 0x7F)}
_WIDTHS |= {0x3000: 0x20}
_HALF_KANA = regex.compile(r"[\uFF61-\uFF9F]+")
_CURLY = str.maketrans({"“": '"', "”": '"', "„": '"', "‟": '"', "‘": "'", "’": "'", "‚": "'"})


def unite_width(text: str) -> str:
    """Unifies character widths: ，！？：（）Ａ１ become , ! ? : ( ) A 1, and half-width kana become full-width.

    Quotation marks become straight. The stop 。 stays, because it differs from the full stop of Latin script.
    """
    narrow = text.translate(_WIDTHS).translate(_CURLY)
    return _HALF_KANA.sub(lambda found: unicodedata.normalize("NFKC", found[0]), narrow)


def without_stop(line: str) -> str:
    """Removes the final full stop if it is one of `STOPS`. Questions and exclamations keep their marks."""
    bare = line.rstrip()
    return bare[:-1].rstrip() if bare.endswith(tuple(STOPS)) and not bare.endswith("..") else bare


def with_stop(line: str) -> str:
    """Adds a final stop unless the sentence ends in ? or !: " ." as a separate token, "。" in Chinese and Japanese."""
    bare = line.rstrip()
    if bare.endswith(tuple(ENDS.replace(".", "").replace("。", ""))):
        return bare
    bare = without_stop(bare)
    # Decide by the last letter, since quotation marks may follow it.
    letters = regex.findall(r"\p{L}", bare)
    ideographic = bool(letters) and bool(_HAN.match(letters[-1]) or _KANA.match(letters[-1]))
    return bare + ("。" if ideographic else " ." if bare else ".")


def split_marks(line: str) -> str:
    """Separates punctuation from words: "regen." -> "regen .". Numbers such as 1,5 and words such as l'eau are kept."""
    apart = regex.sub(r"(?<![\p{N}])([.,;:!?…()\"“”„«»¿¡،؛؟।])|([.,;:!?…()\"“”„«»¿¡،؛؟।])(?![\p{N}])", r" \1\2 ", line)
    return " ".join(apart.split())


def without_spaces(line: str) -> str:
    """Removes all spaces."""
    return "".join(line.split())


STEPS: dict[str, Callable[[str], str]] = {
    "nfc": lambda line: unicodedata.normalize("NFC", line),
    "width": unite_width,
    "lower": str.lower,
    "no_stop": without_stop,
    "no_spaces": without_spaces,
}
"""Normalization steps for hypotheses and references before scoring, in this order."""


def normalize(lines: Sequence[str], steps: Sequence[str] = ("nfc",)) -> list[str]:
    """Applies normalization steps to sentences, always in the order of `STEPS`.

    Args:
        lines: hypotheses or references.
        steps: names from `STEPS`.

    Raises:
        ValueError: an unknown step.
    """
    unknown = [step for step in steps if step not in STEPS]
    if unknown:
        raise ValueError(f"normalization steps must be from {', '.join(STEPS)}; got {', '.join(unknown)}")
    for name, change in STEPS.items():
        if name in steps:
            lines = [change(line) for line in lines]
    return list(lines)


def same_text(line: str, unit: Unit) -> str:
    """The form in which sentences are compared: NFC, with single spaces, or without spaces if the unit is character."""
    words = unicodedata.normalize("NFC", line).split()
    return ("" if unit == "character" else " ").join(words)
