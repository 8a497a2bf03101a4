"""How sentences are written, as far as scores ask: which tokenizer fits their script, which unit, which form.

`tokenization_for` is what `tokenize="auto"` means; `STEPS` are the few changes that a convention may make to both sides
before scoring, `normalize` makes them. Scripts and marks are Unicode's, by the `regex` package.
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
# Southeast Asian scripts and Tibetan: spaces, where there are any, part phrases or syllables and no words
_OTHERS = "".join(rf"\p{{Script={script}}}" for script in UNSPACED_SCRIPTS)
_OTHER_UNSPACED = regex.compile(f"[{_OTHERS}]")
# A word of a spaced script is one unit, as one character of an unspaced script is: letters alone would let one
# English name outvote a Chinese sentence.
_SPACED_WORD = regex.compile(
    rf"(?:(?![\p{{Script=Han}}\p{{Script=Hiragana}}\p{{Script=Katakana}}{_OTHERS}])[\p{{L}}\p{{M}}\p{{N}}'’-])+"
)
_MARK = r"[.,!?;:…।॥։۔؟،؛።፣¡¿\"“”„«»()]"
_GLUED = regex.compile(r"(?<=[\p{L}\p{M}\p{N}])[.,!?;:…।॥։۔؟،؛።፣]+(?=\s|$|[\"”“«»)])")
_ALONE = regex.compile(rf"(?<!\S){_MARK}+(?!\S)")
GLUED_SENTENCES = 0.05
"""From which share of sentences on marks that touch words are a way of writing and no slip or abbreviation."""


def tokenization_for(texts: Sequence[str]) -> Literal["none", "13a", "zh", "char"]:
    """The BLEU tokenizer that fits the writing of these sentences: what `tokenize="auto"` chooses for references.

    - zh: Chinese, with or without spaces between characters (sacreBLEU's zh: characters apart, Latin words whole).
    - char: Japanese, Thai, Lao, Khmer, Burmese, Tibetan and the like, whose words no space parts.
    - none: spaced scripts (Latin, Cyrillic, Arabic, Hangul, ...) whose punctuation stands apart, or without any:
      PHOENIX-2014T and glosses. The sentences are tokenized already, and spaces are the tokens.
    - 13a: spaced scripts whose punctuation touches the words ("regen."), as WMT-SLT and How2Sign are written.

    The script is that of most units, where a unit is one character of an unspaced script or one word of a spaced one.

    Args:
        texts: the references, or any sentences written alike.
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
        # a borrowed の does not make Japanese of Chinese, of which kana are a half or more
        return "zh" if chinese > other and 10 * kana < chinese else "char"
    return "13a" if glued > alone and glued >= GLUED_SENTENCES * len(texts) else "none"


def tokenize_as(tokenize: Tokenize, references: Sequence[str]) -> Tokenize:
    """The tokenizer itself: what `auto` chooses for these references, every other name as it is."""
    return tokenization_for(references) if tokenize == "auto" else tokenize


def unit_for(tokenize: Tokenize) -> Unit:
    """What ROUGE-L, WER and exact match count beside this tokenizer of BLEU: characters beside zh and char."""
    return "character" if tokenize in ("zh", "char") else "word"


def tokenization_warning(tokenize: Tokenize, references: Sequence[str]) -> str | None:
    """What is wrong with a chosen tokenizer for these references; None where it fits."""
    fits = tokenization_for(references)
    if tokenize in ("auto", fits) or {tokenize, fits} <= {"zh", "char"}:
        return None
    if fits in ("zh", "char") and tokenize in ("none", "13a", "intl"):
        if any(len(line.split()) > 1 for line in references) and tokenize == "none":
            words = sum(len(line.split()) for line in references)
            letters = sum(len("".join(line.split())) for line in references)
            if letters < 2 * words:  # a space after every character: none counts characters then
                return None
        return (
            f"the references are written without spaces between words, and tokenize={tokenize} takes a whole sentence "
            f"for one word: BLEU is near 0 whatever was said; {fits} fits"
        )
    if fits == "13a" and tokenize == "none":
        return (
            "the references are not tokenized ('wetter.' is one word with its full stop) and tokenize=none splits at "
            "spaces alone: a wrong full stop is a wrong word; 13a fits, the convention of WMT-SLT and sacreBLEU"
        )
    if fits in ("none", "13a") and tokenize in ("zh", "char"):
        return (
            f"the references are written with spaces between words, and tokenize={tokenize} is meant for Chinese and "
            f"other unspaced scripts; {fits} fits"
        )
    return None


# full-width forms of ASCII, the ideographic space, half-width forms of Chinese and Japanese marks and kana
_WIDTHS = {0xFF00 + code - 0x20: code for code in range(0x21, 0x7F)}
_WIDTHS |= {0x3000: 0x20}
_HALF_KANA = regex.compile(r"[\uFF61-\uFF9F]+")
_CURLY = str.maketrans({"“": '"', "”": '"', "„": '"', "‟": '"', "‘": "'", "’": "'", "‚": "'"})


def unite_width(text: str) -> str:
    """One width for each mark, letter and digit: ，！？：（）Ａ１ become , ! ? : ( ) A 1, half-width kana full ones.

    Quotation marks become straight. The stop 。 stays: it is another mark than the full stop of Latin script.
    """
    narrow = text.translate(_WIDTHS).translate(_CURLY)
    return _HALF_KANA.sub(lambda found: unicodedata.normalize("NFKC", found[0]), narrow)


def without_stop(line: str) -> str:
    """A sentence less its full stop, where it ends in one of `STOPS`. Questions and exclamations keep their marks."""
    bare = line.rstrip()
    return bare[:-1].rstrip() if bare.endswith(tuple(STOPS)) and not bare.endswith("..") else bare


def with_stop(line: str) -> str:
    """A sentence with one final mark: " ." as a token of its own, "。" in Chinese and Japanese; ? and ! are enough."""
    bare = line.rstrip()
    if bare.endswith(tuple(ENDS.replace(".", "").replace("。", ""))):
        return bare
    bare = without_stop(bare)
    # by the last letter, since quotation marks may follow it
    letters = regex.findall(r"\p{L}", bare)
    ideographic = bool(letters) and bool(_HAN.match(letters[-1]) or _KANA.match(letters[-1]))
    return bare + ("。" if ideographic else " ." if bare else ".")


def split_marks(line: str) -> str:
    """Punctuation apart from words, numbers such as 1,5 and words such as l'eau left whole: "regen." -> "regen ."."""
    apart = regex.sub(r"(?<![\p{N}])([.,;:!?…()\"“”„«»¿¡،؛؟।])|([.,;:!?…()\"“”„«»¿¡،؛؟।])(?![\p{N}])", r" \1\2 ", line)
    return " ".join(apart.split())


def without_spaces(line: str) -> str:
    """All spaces taken out."""
    return "".join(line.split())


STEPS: dict[str, Callable[[str], str]] = {
    "nfc": lambda line: unicodedata.normalize("NFC", line),
    "width": unite_width,
    "lower": str.lower,
    "no_stop": without_stop,
    "no_spaces": without_spaces,
}
"""What may be done to hypotheses and references alike before scoring, in this order."""


def normalize(lines: Sequence[str], steps: Sequence[str] = ("nfc",)) -> list[str]:
    """Sentences after the steps of a convention, always in the order of `STEPS`.

    Args:
        lines: hypotheses or references.
        steps: names of `STEPS`.

    Raises:
        ValueError: an unknown step.
    """
    unknown = [step for step in steps if step not in STEPS]
    if unknown:
        raise ValueError(f"the steps of normalization are {', '.join(STEPS)}; got {', '.join(unknown)}")
    for name, change in STEPS.items():
        if name in steps:
            lines = [change(line) for line in lines]
    return list(lines)


def same_text(line: str, unit: Unit) -> str:
    """The form in which two sentences are called the same: NFC, runs of spaces one space; no spaces in characters."""
    words = unicodedata.normalize("NFC", line).split()
    return ("" if unit == "character" else " ").join(words)
