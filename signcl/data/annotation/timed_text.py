"""Converts annotations in milliseconds (ELAN files, subtitles) to spans of frames and back.

The conversion uses the frame rate of the video and the video time at which annotation time is 0. A span of frames
start..stop lasts from 1000 start / fps to 1000 stop / fps milliseconds. Reading rounds to the nearest frame edge, so
writing and reading gives the same frames for any frame rate below 500.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from signcl.data.annotation.clip_files import check_cell
from signcl.data.batch import Span
from signcl.data.progress import say
from signcl.data.video.reading import VIDEO_SUFFIXES, VideoInfo, probe

__all__ = [
    "DEFAULT_FPS",
    "DAY",
    "Clock",
    "Notes",
    "TimedText",
    "check_rate",
    "clip_rate",
    "milliseconds",
    "tell_guessed",
    "to_spans",
    "video_beside",
]

DEFAULT_FPS = 25.0  # PHOENIX-2014T, CSL-Daily and most European sign corpora
DAY = 24 * 3600 * 1000  # milliseconds; a later time is a typo or in another unit
SLACK = 3  # frames by which the header of a video may be wrong, or 2 %, as in reading videos


@dataclass(frozen=True)
class TimedText:
    """One annotation."""

    text: str
    """Text as in the file, including outer spaces."""
    start: Fraction
    """Milliseconds, as in the file."""
    stop: Fraction
    """Milliseconds; not before `start` in a valid file."""
    place: str
    """Position for error messages: "annotation a1 of tier 'gloss'"."""


@dataclass(frozen=True)
class Clock:
    """How the milliseconds of a file become frames of its clip."""

    fps: float
    """Frames per second."""
    origin: int = 0
    """Video time at which annotation time is 0, milliseconds (ELAN's TIME_ORIGIN)."""
    num_frames: int | None = None
    """Number of frames of the clip at `fps`; None if the video is not available."""


@dataclass
class Notes:
    """Notes collected while reading files: the frame rates used and what was left out; `tell` prints them."""

    taken: dict[str, list[str]] = field(default_factory=dict)
    """Rate used and why -> names of files."""
    differ: list[str] = field(default_factory=list)
    """Files whose video has a different rate than requested."""
    empty: Counter[str] = field(default_factory=Counter)
    """File -> number of annotations without text, which are left out."""
    cut: Counter[str] = field(default_factory=Counter)
    """File -> number of annotations that end slightly after the clip and are cut to it."""

    def choose(
        self,
        file: Path,
        fps: float | None,
        videos: Sequence[Path],
        *,
        clock: float | None = None,
        origin: int = 0,
        remedy: str = "--fps",
    ) -> Clock:
        """Chooses the clock of a file: the requested rate, else that of its videos, else `DEFAULT_FPS`.

        With `clock`, spans are counted in steps of it, not in frames: the rates of the videos do not matter.

        Raises:
            ValueError: no rate is requested, and the videos cannot be read or have several rates.
        """
        infos = {video: _info(file, video, required=fps is None and clock is None) for video in videos}
        rates = {video: info.fps for video, info in infos.items() if info is not None and info.fps}
        if fps is None and clock is None and rates and max(rates.values()) - min(rates.values()) > 0.01:
            listed = ", ".join(f"{video.name} {rate:g}" for video, rate in rates.items())
            raise ValueError(f"{file}: its videos have different frame rates ({listed}); choose one with {remedy}")
        video, rate = next(iter(rates.items()), (None, None))
        used = next(one for one in (clock, fps, rate, DEFAULT_FPS) if one is not None)
        if clock is not None:
            pass
        elif fps is not None:
            if rate is not None and abs(rate - fps) > 0.01:
                assert video is not None
                self.differ.append(f"{file.name} ({video.name} has {rate:g})")
        else:
            why = "from its video" if rate is not None else "without a video next to it; --fps sets another rate"
            self.taken.setdefault(f"{used:g} frames per second, {why}", []).append(
                file.name if video is None else f"{file.name} ({video.name})"
            )
        frames = max(
            (math.ceil(info.num_frames * used / (info.fps or used)) for info in infos.values() if info), default=None
        )
        return Clock(used, origin, frames)

    def tell(self) -> None:
        """Prints on stderr what was used, left out and cut, each with its first files."""
        for what, names in self.taken.items():
            say(f"{what}: {_first(names)}")
        if self.differ:
            say(f"--fps is used, although the video has another rate: {_first(self.differ)}")
        for counts, what in ((self.empty, "without text, left out"), (self.cut, "cut to the end of the clip")):
            if total := counts.total():
                say(f"{total} annotation{'s' if total > 1 else ''} {what}: {_first(list(counts))}")


def to_spans(file: Path, texts: Iterable[TimedText], clock: Clock, notes: Notes) -> tuple[Span, ...]:
    """Converts annotations to spans in order of time. Annotations without text are left out and counted in `notes`.

    Raises:
        ValueError: with the file: an annotation that ends before it starts, is outside the clip or a day, covers no
            frame, or contains a line break or control character.
    """
    spans = []
    frames_a_ms = Fraction(clock.fps) / 1000
    for text in texts:
        value = text.text.strip()
        if not value:
            notes.empty[file.name] += 1
            continue
        shown = value if len(value) <= 40 else f"{value[:40]}…"

        def wrong(what: str, text: TimedText = text, shown: str = shown) -> ValueError:
            return ValueError(f"{file}: {text.place}, {shown!r} from {_ms(text.start)} to {_ms(text.stop)} ms, {what}")

        if len(value.splitlines()) > 1 or "\t" in value:
            raise wrong("contains a line break or tab, which a gloss cannot; write it on one line")
        try:
            check_cell(value, "its text")
        except ValueError as error:
            raise wrong(f"cannot be a gloss: {error}") from None
        if text.start > text.stop:
            raise wrong("ends before it starts; correct its times")
        if text.start == text.stop:
            raise wrong("has no length; correct its times or delete it")
        start, stop = text.start + clock.origin, text.stop + clock.origin
        if start < 0:
            origin = f" with the video's origin of {clock.origin} ms" if clock.origin else ""
            raise wrong(f"starts before the clip{origin}; correct its times")
        if stop > DAY:
            raise wrong("ends more than a day after the start; are the times milliseconds?")
        first, last = round(start * frames_a_ms), round(stop * frames_a_ms)
        if last <= first:
            raise wrong(f"has no frame at {clock.fps:g} frames per second; is --fps right?")
        if clock.num_frames is not None and last > clock.num_frames:
            if last - clock.num_frames > max(SLACK, clock.num_frames // 50) or first >= clock.num_frames:
                raise wrong(
                    f"lies beyond the clip, which ends after {clock.num_frames} frames at {clock.fps:g} frames per "
                    "second; correct its times, or is it the file of another video?"
                )
            last = clock.num_frames  # ELAN ends the last annotation with the file, slightly after the last frame
            notes.cut[file.name] += 1
        spans.append(Span(value, first, last))
    return tuple(sorted(spans, key=lambda span: (span.start, span.stop)))


def milliseconds(name: str, span: Span, fps: float) -> tuple[int, int]:
    """Start and stop of a span in milliseconds, such that reading gives the same frames.

    Raises:
        ValueError: an empty span, a text that cannot be written, or a frame rate too high for milliseconds.
    """
    check_cell(str(span.token), name)
    if not 0 <= span.start < span.stop:
        raise ValueError(f"{name}: span {span.token}:{span.start}-{span.stop} needs 0 <= start < stop")
    start, stop = (round(Fraction(1000 * frame) / Fraction(fps)) for frame in (span.start, span.stop))
    if [round(edge * Fraction(fps) / 1000) for edge in (start, stop)] != [span.start, span.stop] or stop > DAY:
        why = "milliseconds cannot tell its frames apart" if stop <= DAY else "it ends more than a day after the start"
        raise ValueError(
            f"{name}: span {span.token}:{span.start}-{span.stop} cannot be written at {fps:g} frames/s, {why}; "
            "is --fps right?"
        )
    return start, stop


def clip_rate(clip: Path) -> float | None:
    """Frames per second of a clip; None if it has no rate (a folder of images, a feature file)."""
    if clip.suffix.lower() not in VIDEO_SUFFIXES or not clip.is_file():
        return None
    return probe(clip).fps


def video_beside(file: Path) -> list[Path]:
    """The video with the same name next to an annotation file, or an empty list."""
    endings = [ending for suffix in VIDEO_SUFFIXES for ending in (suffix, suffix.upper())]
    return [video for ending in endings if (video := file.with_suffix(ending)).is_file()][:1]


def check_rate(fps: float | None) -> None:
    """Validates a frame rate.

    Raises:
        ValueError: it is not a finite number above 0.
    """
    if fps is not None and not (fps > 0 and math.isfinite(fps)):
        raise ValueError(f"--fps: needs a number of frames per second above 0, got {fps}")


def rates_to_write(
    names: Iterable[str], fps: float | None, clips: Mapping[str, Path] | None
) -> tuple[dict[str, float], list[str]]:
    """Frames per second at which to write each clip, and the clips whose rate is unknown (for `tell_guessed`).

    Args:
        names: names of the clips.
        fps: the rate of all clips; None uses the rate of each clip.
        clips: paths of the videos.
    """
    rates, guessed = {}, []
    for name in names:
        clip = clips.get(name) if clips else None
        rate = fps if fps is not None else clip_rate(clip) if clip is not None else None
        if rate is None:
            guessed.append(name)
        rates[name] = rate or DEFAULT_FPS
    return rates, guessed


def tell_guessed(names: Sequence[str]) -> None:
    """Prints on stderr which clips were written at `DEFAULT_FPS` because their rate is unknown."""
    if names:
        say(f"written at {DEFAULT_FPS:g} frames per second (--fps sets another rate): {_first(names)}")


def _info(file: Path, video: Path, *, required: bool) -> VideoInfo | None:
    try:
        info = probe(video)
    except (ValueError, OSError) as error:
        if required:
            raise ValueError(f"{file}: needs the frame rate of its video ({error}); give it with --fps") from None
        return None
    if required and not info.fps:
        raise ValueError(f"{file}: its video {video} has no frame rate; give it with --fps")
    return info


def _first(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _ms(value: Fraction) -> str:
    return f"{float(value):.0f}"
