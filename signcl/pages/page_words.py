"""Texts of the pages in each language, from `static/words.json`, which has one table per language.

`Words` is what a page written in Python says: `say("card.recipe", run="signcl")`. Served pages give their table to
`static/words.js`, which has the same `say`. Texts are plain: HTML comes in only as a value of a placeholder.
`{epochs} {epochs?epoch|epochs}` is "1 epoch" and "2 epochs".

Messages of the library, such as why a clip cannot be read, are always in English, like those of the command line.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from signcl.data.json_files import parse_json
from signcl.metrics.titles import Score
from signcl.pages.languages import LANGUAGES
from signcl.pages.markup import Html, code, data, decimals, html, page_file

__all__ = ["ENGLISH", "Words", "spoken", "words"]


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


def _numbered(template: str, values: Mapping[str, object]) -> str:
    """The template with the singular or plural of each `{name?one|many}`."""
    return re.sub(r"\{(\w+)\?(.*?)\|(.*?)\}", lambda m: m[2] if str(values[m[1]]) == "1" else m[3], template)


class _Comma(float):
    """A number that a format such as `.2f` writes with a decimal comma."""

    def __format__(self, wanted: str) -> str:
        return super().__format__(wanted).replace(".", ",")


@dataclass(frozen=True)
class Words:
    """What a page says, in one language."""

    language: str = LANGUAGES[0]

    def __post_init__(self) -> None:
        if self.language not in LANGUAGES:
            raise ValueError(f"language: needs one of {', '.join(LANGUAGES)}, got {self.language!r}")

    def __call__(self, key: str, /, **values: object) -> Html:
        """A text as HTML; values are escaped unless they are HTML, and floats are written as in the language."""
        return html(Html.escape(_numbered(words(self.language)[key], values)), **self._local(values))

    def plain(self, key: str, /, **values: object) -> str:
        """A text without markup, for titles and for data of scripts."""
        return _numbered(words(self.language)[key], values).format(**self._local(values))

    def defined(self, key: str, english: str, values: Mapping[str, object]) -> str:
        """A text whose English template stands where it is defined, since the command line prints it too."""
        return words(self.language).get(key, english).format(**self._local(values))

    def title(self, name: str, score: Score) -> str:
        """The title of a score or loss; those of plugins stay as they are."""
        return self.defined(f"score.{name}", score.title, {})

    def explained(self, name: str, score: Score) -> str:
        """The unit of a score or loss, or what is averaged."""
        return self.defined(f"score.{name}.explained", score.explained, {}) if score.explained else ""

    def decimals(self, value: float | None, places: int = 2, sign: bool = False) -> str:
        """See `signcl.pages.markup.decimals`; with the decimal comma of the language."""
        shown = decimals(value, places, sign)
        return shown if self.language == "en" else shown.replace(".", ",")

    def localized(self, shown: str) -> str:
        """A number that is already text, such as `0.5` or `1e-05`, as the language writes it."""
        return shown if self.language == "en" else shown.replace(".", ",")

    def english(self, message: object) -> Html:
        """A message of the library, marked as English for screen readers."""
        return html("{}", message) if self.language == "en" else html('<span lang="en">{}</span>', message)

    def gap(self, what: object, makes: str) -> Html:
        """A placeholder for a missing piece: what is missing, and the command that makes it."""
        return html('<p class="gap">{}</p>', self("gap", what=what, command=code(makes)))

    def table(self, *prefixes: str) -> Html:
        """The texts that the page's script says, as data for `words.js`."""
        shown = {key: text for key, text in words(self.language).items() if key.startswith(prefixes)}
        return data("words", shown)

    def _local(self, values: Mapping[str, object]) -> dict[str, Any]:
        if self.language == "en":
            return dict(values)
        return {name: _Comma(value) if isinstance(value, float) else value for name, value in values.items()}


ENGLISH = Words("en")
