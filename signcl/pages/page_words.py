"""What the served pages say, in each language that they speak: `static/words.json`, one table for a language.

Messages of the server itself (why a clip cannot be read) are in English in every language, like those of the shell.
"""

from __future__ import annotations

import functools

from signcl.data.json_files import parse_json
from signcl.pages.markup import page_file

__all__ = ["LANGUAGES", "spoken", "words"]

LANGUAGES = ("en", "de")
"""The first is taken where a reader's browser asks for none of them."""


@functools.cache
def words(language: str) -> dict[str, str]:
    """The table of a language: a key as `translate.about`, and the text, in which `{name}` is put in by the page."""
    tables: dict[str, dict[str, str]] = parse_json(page_file("words.json"))
    return tables[language]


def spoken(accepted: str) -> str:
    """The language that a browser's Accept-Language likes best among ours: `de-AT,de;q=0.9,en;q=0.8` -> `de`."""
    best, weight = LANGUAGES[0], 0.0
    for part in accepted.split(","):
        name, _, rest = part.partition(";")
        language = name.strip().lower().partition("-")[0]
        try:
            liked = float(rest.strip().removeprefix("q=") or 1) if rest else 1.0
        except ValueError:
            continue
        if language in LANGUAGES and liked > weight:
            best, weight = language, liked
    return best
