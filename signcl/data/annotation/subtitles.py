"""Reads and writes spans as subtitles, SubRip (.srt) and WebVTT (.vtt): one file per clip, one cue per span.

The text of a cue is the `token` of its span: a sentence or a gloss. Times are in milliseconds. We have our own parser
because known ones silently accept invalid input: a cue with a broken time becomes text of the previous cue (srt,
pysubs2) or disappears (webvtt-py), and `00:01,000` is a minute for one and ignored by others. Here, each such line is
an error.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

from signcl.data.annotation.clip_files import clip_files, clip_paths
from signcl.data.annotation.plain_text import read_plain
from signcl.data.annotation.timed_text import (
    Clock,
    Notes,
    TimedText,
    check_rate,
    milliseconds,
    rates_to_write,
    tell_guessed,
    to_spans,
    video_beside,
)
from signcl.data.batch import Span
from signcl.data.files import write_text

__all__ = ["SUFFIXES", "read_subtitles", "write_subtitles"]

SUFFIXES = (".srt", ".vtt")
TIME = r"(?:(\d{1,4}):)?(\d{1,2}):(\d{1,2})(?:[.,](\d{3}))?"  # hours are optional; SubRip uses a comma, WebVTT a dot
CUE = re.compile(rf"\s*{TIME}\s*-->\s*{TIME}(?P<settings>(?:\s+[\w-]+:\S+)*)\s*", re.ASCII)
COUNTER = re.compile(r"\s*[0-9]{1,9}\s*")
VTT_TAG = re.compile(r"</?(?:c|i|b|u|v|ruby|rt|lang)(?:[ .\t][^>]*)?>|<[\d:.]+>")
SRT_TAG = re.compile(r"</?(?:i|b|u|s|font)(?:\s[^>]*)?>|\{\\[^}]*\}", re.IGNORECASE)


def read_subtitles(
    path: Path | str,
    *,
    fps: float | None = None,
    clock: float | None = None,
    suffixes: Sequence[str] = SUFFIXES,
) -> dict[str, tuple[Span, ...]]:
    """Reads the spans of one subtitle file, or of all subtitle files below a folder.

    The lines of a cue are joined by spaces. Tags for style and speaker are removed and WebVTT's entities replaced; its
    notes, styles, regions, identifiers and positions are ignored. Cues may overlap and be in any order.

    Args:
        path: a file, whose stem is the clip name, or a folder, in which the clip names are relative paths.
        fps: frames per second of the videos; None uses the rate of the video with the same name next to each file, or
            25 if there is no such video. The rate used is printed on stderr.
        clock: count the spans in steps of this many a second instead of frames; the videos' rates do not matter.
        suffixes: suffixes of the files to read in a folder.

    Returns:
        Clip name -> spans in order of time. Cues without text are counted on stderr.

    Raises:
        ValueError: with file and line: no such file, a line that is not part of a cue, an invalid time, a cue that ends
            before it starts or beyond the clip.
    """
    check_rate(fps)
    notes = Notes()
    found: dict[str, tuple[Span, ...]] = {}
    for name, file in clip_files(Path(path), suffixes, "a subtitle file (.srt, .vtt)").items():
        cues = list(_cues(file, read_plain(file)))
        if not cues:
            raise ValueError(f"{file}: contains no cues (a line of times 00:00:01,000 --> 00:00:02,000, then text)")
        found[name] = to_spans(file, cues, notes.choose(file, fps, video_beside(file), clock=clock), notes)
    notes.tell()
    return found


def write_subtitles(
    folder: Path | str,
    spans: Mapping[str, Sequence[Span]],
    *,
    suffix: str = ".srt",
    fps: float | None = None,
    clips: Mapping[str, Path] | None = None,
    file: Path | None = None,
) -> list[Path]:
    """Writes one subtitle file per clip; slashes in clip names create folders. Nothing is written unless all can be.

    Args:
        folder: output folder; existing files of the same clips are replaced.
        spans: clip name -> its spans, in frames. Scores and peaks are not written.
        suffix: .srt or .vtt.
        fps: frames per second; None uses the rate of each clip, or 25 with a message if the video is not available.
        clips: paths of the videos.
        file: the file to write instead of one in the folder; for a single clip.

    Returns:
        The files written.

    Raises:
        ValueError: a frame rate that is not positive, an empty span, a name that leaves the folder or that two clips
            share, or a text that would be read back differently (`<i>` in SubRip).
    """
    check_rate(fps)
    if suffix not in SUFFIXES:
        raise ValueError(f"subtitles are written as {' or '.join(SUFFIXES)}, got {suffix!r}")
    paths = clip_paths(Path(folder), spans, suffix) if file is None else dict.fromkeys(spans, file)
    rates, guessed = rates_to_write(spans, fps, clips)
    contents = {paths[name]: _composed(name, found, rates[name], suffix) for name, found in spans.items()}
    for path, content in contents.items():
        write_text(path, content)
    tell_guessed(guessed)
    return list(contents)


def _composed(name: str, spans: Sequence[Span], fps: float, suffix: str) -> str:
    ordered = sorted(spans, key=lambda span: (span.start, span.stop))
    parts = ["WEBVTT\n"] if suffix == ".vtt" else []
    for number, span in enumerate(ordered, start=1):
        start, stop = milliseconds(name, span, fps)
        text = html.escape(str(span.token), quote=False) if suffix == ".vtt" else str(span.token)
        counter = "" if suffix == ".vtt" else f"{number}\n"
        parts.append(f"{counter}{_clock(start, suffix)} --> {_clock(stop, suffix)}\n{text}\n")
    content = "\n".join(parts)
    back = to_spans(Path(name), _cues(Path(f"{name}{suffix}"), content), Clock(fps), Notes())
    lost = {(str(s.token), s.start, s.stop) for s in ordered} - {(s.token, s.start, s.stop) for s in back}
    if lost or len(back) != len(ordered):
        text = min(lost)[0] if lost else ""
        raise ValueError(
            f"{name}: the text {text!r} would be read back differently from {suffix}, because part of it is markup; "
            "write .eaf or .tsv"
        )
    return content


def _clock(ms: int, suffix: str) -> str:
    seconds, ms = divmod(ms, 1000)
    mark = "." if suffix == ".vtt" else ","
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{mark}{ms:03d}"


def _cues(file: Path, text: str) -> Iterator[TimedText]:
    lines = text.split("\n")
    is_vtt = bool(re.match(r"WEBVTT([ \t].*)?$", lines[0]))
    if not is_vtt and file.suffix.lower() == ".vtt":
        raise ValueError(f"{file}:1: needs the line WEBVTT first, got {lines[0][:40]!r}; is it SubRip (.srt)?")
    at = 0
    if is_vtt:
        at = _end_of_block(lines, 0)
        for number, line in enumerate(lines[:at], start=1):
            if line.startswith("X-TIMESTAMP-MAP") or "-->" in line:
                raise ValueError(
                    f"{file}:{number}: the WebVTT header contains {line[:40]!r}; put an empty line before the first "
                    "cue, and join segments of a stream (X-TIMESTAMP-MAP) first"
                )
    counter = 0  # of the previous cue, if it has one
    while at < len(lines):
        if not lines[at].strip():
            at += 1
            continue
        if is_vtt and re.match(r"(NOTE|STYLE|REGION)([ \t]|$)", lines[at]):
            end = _end_of_block(lines, at)
            hidden = next((n for n in range(at, end) if "-->" in lines[n]), None)
            if hidden is not None:
                raise ValueError(
                    f"{file}:{hidden + 1}: {lines[at].split()[0]} contains a cue, which WebVTT forbids; delete it"
                )
            at = end
            continue
        # The line before the times may be a counter (SubRip) or an identifier (WebVTT).
        named = "-->" not in lines[at] and (is_vtt or COUNTER.fullmatch(lines[at]) is not None)
        if named:
            counter = 0 if is_vtt else int(lines[at])
            at += 1
        if at == len(lines) or "-->" not in lines[at]:
            stray = lines[at - 1 if named else at]
            raise ValueError(
                f"{file}:{at if named else at + 1}: {stray[:40]!r} is outside a cue; needs a line of times "
                "00:00:01,000 --> 00:00:02,000 before it"
            )
        first = at
        start, stop = _times(file, at + 1, lines[at])
        at += 1
        texts: list[str] = []
        while at < len(lines) and lines[at].strip():
            if "-->" in lines[at]:  # the next cue follows without an empty line
                if counter and texts and COUNTER.fullmatch(texts[-1]) and int(texts[-1]) == counter + 1:
                    texts.pop()  # the counter of the next cue, not text
                    counter += 1
                break
            texts.append(lines[at])
            at += 1
        yield TimedText(_plain(texts, is_vtt), start, stop, f"the cue in line {first + 1}")


def _end_of_block(lines: list[str], at: int) -> int:
    while at < len(lines) and lines[at].strip():
        at += 1
    return at


def _times(file: Path, line: int, text: str) -> tuple[Fraction, Fraction]:
    found = CUE.fullmatch(text)
    if found is None:
        raise ValueError(
            f"{file}:{line}: {text.strip()[:60]!r} is not a line of times; needs 00:00:01,000 --> 00:00:02,000 (hours "
            "are optional, milliseconds have three digits)"
        )
    edges = []
    for number in (1, 5):
        hours, minutes, seconds, ms = (int(found[number + k] or 0) for k in range(4))
        if minutes > 59 or seconds > 59:
            raise ValueError(
                f"{file}:{line}: {text.strip()[:60]!r} has more than 59 minutes or seconds; correct the time"
            )
        edges.append(Fraction(((hours * 60 + minutes) * 60 + seconds) * 1000 + ms))
    return edges[0], edges[1]


def _plain(lines: list[str], is_vtt: bool) -> str:
    """The text of a cue on one line, without markup."""
    text = " ".join(line.strip() for line in lines).replace("\t", " ")
    return (html.unescape(VTT_TAG.sub("", text)) if is_vtt else SRT_TAG.sub("", text)).strip()
