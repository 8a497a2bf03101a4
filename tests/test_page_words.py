"""Texts of the pages: every language has the same keys and placeholders, and every key exists and is used."""

import json
import re
from pathlib import Path

import pytest

import signcl.pages
from signcl.pages.page_words import LANGUAGES, spoken, words

STATIC = Path(signcl.pages.__file__).parent / "static"


def test_every_language_has_the_same_keys_and_places():
    tables = json.loads((STATIC / "words.json").read_text(encoding="utf-8"))
    assert tuple(tables) == LANGUAGES
    first = words(LANGUAGES[0])
    for language in LANGUAGES[1:]:
        other = words(language)
        assert other.keys() == first.keys()
        for key, text in first.items():
            assert sorted(re.findall(r"\{\w+\}", text)) == sorted(re.findall(r"\{\w+\}", other[key])), key
            assert other[key].strip(), key


def test_every_key_that_a_page_asks_for_is_there_and_no_other():
    sources = {
        path.name: path.read_text(encoding="utf-8") for path in STATIC.iterdir() if path.suffix in (".js", ".html")
    }
    text = "\n".join(sources.values())
    asked = set(re.findall(r"\{w\[([\w.]+)\]\}", text))
    asked |= set(
        re.findall(
            r'"((?:no_server|needs_script|of|frames)|(?:home|translate|annotate|subtitles|explorer)\.\w+)"', text
        )
    )
    table = words("en")
    assert asked - table.keys() == set()
    # those that are put together: `bar.${name}`, `translate.${stage}`, `annotate.head_${key}`, `subtitles.${side}`
    made = {key for key in table if key.startswith(("bar.", "annotate.head_"))}
    made |= {"translate.starting", "translate.reading", "translate.translating", "subtitles.start", "subtitles.stop"}
    assert table.keys() - asked - made == set()


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("", "en"),
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("fr,en;q=0.4,de;q=0.7", "de"),
        ("en-GB,de", "en"),
        ("fr", "en"),
        ("de;q=x, ;;,", "en"),
    ],
)
def test_the_language_that_a_browser_likes_best(accepted, language):
    assert spoken(accepted) == language
