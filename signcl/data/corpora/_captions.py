"""Reads captions of long videos, for corpora of broadcasts and YouTube: WebVTT, SubRip, or transcripts as JSON.

Times are in seconds. Spans of signs from subtitles are read in `signcl.data.annotation.subtitles`.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from signcl.data.annotation.plain_text import read_plain
from signcl.data.annotation.table_files import OnError, has_words
from signcl.data.corpora._layout import clock_seconds
from signcl.data.json_files import parse_json

__all__ = ["SUFFIXES", "Caption", "read_captions"]

SUFFIXES = (".vtt", ".srt", ".json")
TAG = re.compile(r"</?(?:c|i|b|u|s|v|font|ruby|rt|lang)(?:[ .\t][^>]*)?>|<[\d:.]+>", re.IGNORECASE)


@dataclass(frozen=True)
class Caption:
    """A text with the time it is shown."""

    start: float
    """Seconds from the beginning of the video."""
    stop: float
    text: str
    where: str
    """File and line, for messages."""


def read_captions(path: Path, on_error: OnError) -> list[Caption]:
    """Reads the captions of one file, in order; those without words are left out.

    Raises:
        ValueError: not UTF-8, or not a file of captions. Broken captions go to `on_error`.
    """
    text = read_plain(path)
    found = []
    for caption in _transcript(path, text, on_error) if path.suffix == ".json" else _cues(path, text, on_error):
        if not 0 <= caption.start < caption.stop < 1e7:
            on_error(
                ValueError(
                    f"{caption.where}: a caption needs 0 <= start < end in seconds, got {caption.start:g} to "
                    f"{caption.stop:g}"
                )
            )
        elif has_words(caption.text):
            found.append(caption)
    return found


def _cues(path: Path, text: str, on_error: OnError) -> Iterator[Caption]:
    """Cues of WebVTT or SubRip: a line of times, then text up to an empty line."""
    lines = text.splitlines()
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        if "-->" not in line:
            continue  # the header, an identifier of a cue, a note or a style
        where = f"{path}:{number}"
        first, _, rest = line.partition("-->")
        start, stop = clock_seconds(first), clock_seconds((rest.split() or [""])[0])
        block = []
        while number < len(lines) and lines[number].strip():
            block.append(lines[number])
            number += 1
        if start is None or stop is None:
            on_error(ValueError(f"{where}: needs times such as 00:01:02.500 --> 00:01:04.000, got {line.strip()!r}"))
            continue
        yield Caption(start, stop, " ".join(html.unescape(TAG.sub("", " ".join(block))).split()), where)


def _transcript(path: Path, text: str, on_error: OnError) -> Iterator[Caption]:
    """Yields captions from a list of {text, start, duration}, in seconds, as written by youtube-transcript-api."""
    try:
        loaded = parse_json(text)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; download it again") from None
    if not isinstance(loaded, list):
        raise ValueError(f"{path}: needs a list of captions with text, start and duration, got {type(loaded).__name__}")
    for number, entry in enumerate(loaded):
        where = f"{path}: caption {number}"
        try:
            start, lasts, said = entry["start"], entry["duration"], entry["text"]
            if isinstance(start, bool) or isinstance(lasts, bool) or not isinstance(said, str):
                raise TypeError
            yield Caption(float(start), float(start) + float(lasts), " ".join(html.unescape(said).split()), where)
        except (KeyError, TypeError, ValueError):
            on_error(ValueError(f"{where} needs text, start and duration (seconds), got {str(entry)[:60]!r}"))
