"""Reads and writes spans as ELAN files (.eaf): one file per clip, one tier of glosses, times in milliseconds.

pympi writes the XML, `eaf_document` reads it, `timed_text` converts times. This module chooses the tier and the video
that is the clip, and distributes overlapping signs over tiers.
"""

from __future__ import annotations

import mimetypes
import os
import tempfile
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from signcl.data.annotation.clip_files import check_cell, clip_files, clip_paths
from signcl.data.annotation.eaf_document import Document, Media, read_document
from signcl.data.annotation.timed_text import (
    Clock,
    Notes,
    check_rate,
    milliseconds,
    rates_to_write,
    tell_guessed,
    to_spans,
    video_beside,
)
from signcl.data.batch import Span
from signcl.data.files import write_bytes
from signcl.data.progress import say
from signcl.data.video.reading import VIDEO_SUFFIXES

__all__ = ["read_elan", "write_elan"]

TIER = "gloss"
SUFFIX = ".eaf"
VIDEO_TYPES = (*VIDEO_SUFFIXES, ".mpg", ".mpeg", ".wmv", ".mts", ".m2ts", ".ogv")  # video files that ELAN plays


def write_elan(
    folder: Path | str,
    spans: Mapping[str, Sequence[Span]],
    *,
    fps: float | None = None,
    tier: str = TIER,
    clips: Mapping[str, Path] | None = None,
    file: Path | None = None,
    more: Mapping[str, Sequence[Span]] | None = None,
) -> list[Path]:
    """Writes one .eaf per clip; slashes in clip names create folders. Nothing is written unless all files can be.

    Annotations of a tier cannot overlap, so a sign that begins before another ends goes to a further tier: `gloss 2`.
    Every file is read back first to verify that it gives the same spans.

    Args:
        folder: output folder; existing files of the same clips are replaced.
        spans: clip name -> its spans, in frames.
        fps: frames per second; None uses the rate of each clip, or 25 with a message if the video is not available.
        tier: name of the tier.
        clips: paths of the videos, for ELAN to open.
        file: the file to write instead of one in the folder; for a single clip.
        more: further tiers by name; for a single clip.

    Returns:
        The files written.

    Raises:
        ValueError: a frame rate that is not positive, an empty span, a name that leaves the folder or that two clips
            share, a gloss that XML cannot represent, or pympi is not installed.
    """
    eaf = _pympi()
    check_rate(fps)
    check_cell(tier, "--tier")
    paths = clip_paths(Path(folder), spans, SUFFIX) if file is None else dict.fromkeys(spans, file)
    rates, guessed = rates_to_write(spans, fps, clips)
    contents = {
        paths[name]: _composed(
            eaf, name, {tier: found, **(more or {})}, rates[name], (clips or {}).get(name), paths[name]
        )
        for name, found in spans.items()
    }
    for path, content in contents.items():
        write_bytes(path, content)
    tell_guessed(guessed)
    return list(contents)


def _composed(
    eaf: Any, name: str, tiers: Mapping[str, Sequence[Span]], fps: float, clip: Path | None, path: Path
) -> bytes:
    document = eaf.Eaf(author="signcl")
    document.remove_tier("default")
    if clip is not None:
        kind = mimetypes.guess_type(clip.name)[0] or "video/mp4"
        relative = Path(os.path.relpath(clip.absolute(), path.parent.absolute())).as_posix()
        document.add_linked_file(clip.absolute().as_uri(), relpath=f"./{relative}", mimetype=kind)
    for tier, spans in tiers.items():
        _add_tier(document, name, spans, fps, tier)
    with tempfile.TemporaryDirectory() as place:  # pympi writes to a path and keeps a .bak of an existing file
        one = Path(place) / "one.eaf"
        document.to_file(str(one))
        written = read_document(one)
        for tier, spans in tiers.items():
            back = to_spans(one, _texts(written, tier), Clock(fps), Notes())
            wanted = sorted((str(s.token), s.start, s.stop) for s in spans)
            if sorted((s.token, s.start, s.stop) for s in back) != wanted:
                raise ValueError(
                    f"{name}: its glosses change when written to ELAN's XML; rename those with unusual characters"
                )
        return one.read_bytes()


def _add_tier(document: Any, name: str, spans: Sequence[Span], fps: float, tier: str) -> None:
    """Adds a tier with its spans, and further tiers for overlapping spans."""
    document.add_tier(tier)
    reached = [0]  # where each tier's last annotation ends, frames
    ordered = sorted(spans, key=lambda span: (span.start, span.stop))
    for span in ordered:
        start, stop = milliseconds(name, span, fps)
        number = next((n for n, end in enumerate(reached) if end <= span.start), len(reached))
        if number == len(reached):
            reached.append(0)
            document.add_tier(_further(tier, number))
        reached[number] = span.stop
        document.add_annotation(_further(tier, number), start, stop, str(span.token))


def read_elan(
    path: Path | str,
    *,
    fps: float | None = None,
    clock: float | None = None,
    tier: str | None = None,
    media: str | None = None,
) -> dict[str, tuple[Span, ...]]:
    """Reads the spans of one .eaf, or of every .eaf below a folder.

    Args:
        path: a file, whose stem is the clip name, or a folder, in which the clip names are relative paths.
        fps: frames per second of the videos; None uses the rate of each file's video, or 25 if it is not available. The
            rate is reported on stderr.
        clock: count the spans in steps of this many a second instead of frames; the videos' rates do not matter.
        tier: the tier to read, including its further tiers (`gloss 2`); None reads the only one with annotations.
        media: the name of the linked video that is the clip, if a file has several; may contain `*`.

    Returns:
        Clip name -> spans in order of time. Empty annotations are skipped and counted on stderr.

    Raises:
        ValueError: with file and annotation: no such file or no .eaf, not ELAN, no such tier or several to choose from,
            an annotation without a time, outside the clip or shorter than half a frame.
    """
    check_rate(fps)
    notes = Notes()
    found: dict[str, tuple[Span, ...]] = {}
    changed: dict[str, int] = {}
    shared = []
    for name, file in clip_files(Path(path), (SUFFIX,), "an ELAN file (.eaf)").items():
        document = read_document(file)
        chosen = _tier(document, tier)
        times = _clock(document, fps, clock, media, notes)
        if chosen is None:
            found[name] = ()
            continue
        found[name] = to_spans(file, _texts(document, chosen), times, notes)
        if document.changed:
            changed[file.name] = document.changed
        if _all_further(chosen, document):
            shared.append(f"{file.name} ({', '.join([chosen, *_all_further(chosen, document)])})")
    notes.tell()
    if changed:
        say(
            f"{sum(changed.values())} annotations differ from their entry of the controlled vocabulary; the "
            f"entry is used, as in ELAN: {', '.join(list(changed)[:3])}"
        )
    if shared:
        say(f"{len(shared)} files have a tier split over several, which are read as one, first {shared[0]}")
    return found


def _tier(document: Document, tier: str | None) -> str | None:
    """The tier to read; None if no tier has annotations and none is requested."""
    if tier is not None:
        if tier not in document.tiers:
            raise ValueError(
                f"{document.file}: has no tier {tier!r}; it has {', '.join(document.tiers) or 'none'}; "
                "choose with --tier"
            )
        return tier
    used = [name for name, annotations in document.tiers.items() if annotations]
    used = [name for name in used if not any(name in _all_further(other, document) for other in used)]
    if len(used) > 1:
        raise ValueError(
            f"{document.file}: has annotations on several tiers ({', '.join(used)}); choose one with --tier"
        )
    return used[0] if used else None


def _texts(document: Document, tier: str) -> list[Any]:
    return [text for name in (tier, *_all_further(tier, document)) for text in document.timed(name)]


def _clock(document: Document, fps: float | None, clock: float | None, media: str | None, notes: Notes) -> Clock:
    """The frame rate and origin of the video that is the clip."""
    file = document.file
    videos = [one for one in document.media if _is_video(one)]
    if media is not None and videos:
        named = [one for one in videos if fnmatch(one.name, media)]
        if not named:
            raise ValueError(
                f"{file}: has no linked video named {media!r} (--media); it has {', '.join(one.name for one in videos)}"
            )
        videos = named
    own = [one for one in videos if Path(one.name).stem.casefold() == file.stem.casefold()]
    if len(own) == 1:  # the others are additional views
        videos = own
    origins = {one.origin for one in videos}
    if len(origins) > 1:
        listed = ", ".join(f"{one.name} {one.origin} ms" for one in videos)
        raise ValueError(f"{file}: its videos have different TIME_ORIGINs ({listed}); choose one with --media")
    present = [place for one in videos if (place := _place(file, one)) is not None]
    return notes.choose(
        file,
        fps,
        list(dict.fromkeys(present)) or ([] if videos else video_beside(file)),
        clock=clock,
        origin=origins.pop() if origins else 0,
        remedy="--media or --fps",
    )


def _is_video(media: Media) -> bool:
    return media.mime_type.startswith("video/") or Path(media.name).suffix.lower() in VIDEO_TYPES


def _place(file: Path, media: Media) -> Path | None:
    """The path of a linked video: its relative or absolute path, or next to the document; None if not found."""
    candidates = []
    for url in (media.relative_url, media.url):
        if "://" in url and not url.startswith("file://"):
            continue  # never open a stream from the web
        # file:///a/b, file:/a/b and file:./b all occur; on Windows a drive follows the slashes.
        local = url.removeprefix("file://").removeprefix("file:")
        candidates += [file.parent / spelt for spelt in dict.fromkeys((local, unquote(local))) if local]
    candidates.append(file.parent / media.name)
    for place in candidates:
        try:
            if place.name and place.is_file():
                return place
        except (OSError, ValueError):  # too long, or contains NUL
            continue
    return None


def _further(tier: str, number: int) -> str:
    """The name of a further tier for overlapping spans; 0 is the tier itself."""
    return tier if number == 0 else f"{tier} {number + 1}"


def _all_further(tier: str, document: Document) -> list[str]:
    numbers = range(1, len(document.tiers))
    return [name for number in numbers if (name := _further(tier, number)) in document.tiers]


def _pympi() -> Any:
    try:
        import pympi
    except ImportError:
        raise ValueError("ELAN files need the package pympi-ling: pip install 'signcl[elan]'") from None
    return pympi
