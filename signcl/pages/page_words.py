"""Texts of the served pages in each language, from `static/words.json`, which has one table per language.

Messages of the server itself, such as why a clip cannot be read, are always in English, like those of the command line.
"""

from __future__ import annotations

import functools

from signcl.data.json_files import parse_json
from signcl.pages.markup import page_file

__all__ = ["LANGUAGES", "spoken", "words"]

LANGUAGES = ("en", "de")
"""The first one is the default, for browsers that ask for none of them."""


@functools.cache
def words(language: str) -> dict[str, str]:
    """Texts of a language by key, such as `translate.about`; the page fills in placeholders such as `{name}`."""
    tables: dict[str, dict[str, str]] = parse_json(page_file("words.json"))
    return tables[language]


def spoken(accepted: str) -> str:
    """The available language that a browser's Accept-Language prefers: `de-AT,de;q=0.9,en;q=0.8` -> `de`."""
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
