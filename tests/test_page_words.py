"""Texts of the pages: every language has the same keys and placeholders, and every key exists and is used."""

import json
import re
from pathlib import Path

import pytest

import signcl.pages
from signcl.cli.common import LANGUAGES as OFFERED
from signcl.density.verdicts import NOTES
from signcl.evaluation.health import FINDINGS
from signcl.metrics.titles import Score
from signcl.pages.curves import LAST
from signcl.pages.languages import LANGUAGES
from signcl.pages.page_words import Words, spoken, words
from signcl.systems import system_class, system_names
from signcl.systems.terms import shown_scores

STATIC = Path(signcl.pages.__file__).parent / "static"


def places(text: str) -> list[str]:
    return sorted(re.findall(r"\{\w+(?!\w|\?)[^}]*\}", text))


def test_every_language_has_the_same_keys_and_places():
    tables = json.loads((STATIC / "words.json").read_text(encoding="utf-8"))
    assert tuple(tables) == LANGUAGES == OFFERED
    first = words("en") | defined()
    for language in LANGUAGES[1:]:
        other = words(language)
        assert other.keys() == first.keys()
        for key, text in first.items():
            assert places(text) == places(other[key]), key
            assert other[key].strip(), key


def defined() -> dict[str, str]:
    """English texts that are defined beside what they are about: titles, findings, notes."""
    scores = shown_scores([system_class(name) for name in system_names()]) | LAST
    texts = {f"score.{name}": score.title for name, score in scores.items()}
    texts |= {f"score.{name}.explained": score.explained for name, score in scores.items() if score.explained}
    texts |= {f"finding.{name}": text for name, text in FINDINGS.items()}
    return texts | {f"note.{name}": text for name, text in NOTES.items()}


PAGES = Path(signcl.pages.__file__).parent


def test_every_key_that_a_page_asks_for_is_there_and_no_other():
    files = [*STATIC.iterdir(), *PAGES.glob("*.py"), *PAGES.glob("*.js")]
    sources = {path: path.read_text(encoding="utf-8") for path in files if path.suffix in (".js", ".html", ".py")}
    text, scripts = "\n".join(sources.values()), "\n".join(t for path, t in sources.items() if path.suffix != ".py")
    asked = set(re.findall(r"\{w\[([\w.]+)\]\}", text))
    asked |= set(re.findall(r"\b(?:say|self)(?:\.plain)?\(\s*[\"']([\w.]+)[\"']", text))
    kinds = "home|translate|annotate|subtitles|explorer|page|compare"
    asked |= set(re.findall(rf'"((?:no_server|needs_script|of|frames)|(?:{kinds})\.\w+)"', scripts))
    table = words("en")
    assert asked - table.keys() == set()
    # those that are put together: `bar.${name}`, say(f"density.row_{name}"), ...
    together = set(re.findall(r"say(?:\.plain)?\(\s*f\"([\w.]+)\{", text)) | set(
        re.findall(r"say\(`([\w.]+)\$\{", text)
    )
    together |= {"bar.", "subtitles.start", "subtitles.stop"}
    unused = {key for key in table if key not in asked and not key.startswith(tuple(together))}
    assert unused == set()


def test_one_is_singular():
    assert Words("en").plain("card.trained_for", epochs=1, steps="1", time="9 s") == "1 epoch, 1 step, 9 s"
    assert (
        str(Words("en")("card.trained_for", epochs=2, steps="1\u202f200", time="9 s"))
        == "2 epochs, 1\u202f200 steps, 9 s"
    )
    assert Words("de").plain("card.trained_for", epochs=1, steps=0, time="9 s") == "1 Epoche, 0 Schritte, 9 s"
    for language in LANGUAGES:
        for key, text in words(language).items():
            assert set(re.findall(r"\{(\w+)\?", text)) <= set(re.findall(r"\{(\w+)\}", text)), key


def test_numbers_have_the_decimal_comma_of_the_language():
    assert Words("en").decimals(1234.5) == "1\u202f234.50"
    assert Words("de").decimals(-1234.5) == "−1\u202f234,50"
    assert Words("de").decimals(None) == "–"
    assert "0,25" in Words("de").plain("confidence.tip", run="a.b", count=3, confidence=0.25, quality=0.5)
    assert "a.b" in Words("de").plain("confidence.tip", run="a.b", count=3, confidence=0.25, quality=0.5)
    assert Words("de")("samples.instead", words="<b> {x}") == "statt: &lt;b&gt; {x}"
    with pytest.raises(ValueError, match="language: needs one of en, de, got 'fr'"):
        Words("fr")


def test_an_unknown_title_of_a_plugin_stays_as_it_is():
    assert Words("de").title("mine", Score("My loss", "by hand")) == "My loss"
    assert Words("de").title("translation", Score("Translation loss")) == "Übersetzungsverlust"


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
