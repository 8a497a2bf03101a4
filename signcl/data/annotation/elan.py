"""Spans to and from ELAN (.eaf), where sign linguists annotate: one file per clip, one tier of glosses, milliseconds.

Writing the XML is pympi's; reading it is `eaf_document`'s; the clocks are `timed_text`'s. Here is which tier is taken,
which video of a file is the clip, and how signs that overlap share tiers.
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
VIDEO_TYPES = (*VIDEO_SUFFIXES, ".mpg", ".mpeg", ".wmv", ".mts", ".m2ts", ".ogv")  # what ELAN plays as video


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
    """One .eaf for each clip; folders in clip names become folders. Nothing is written unless all can be.

    Annotations of one tier cannot overlap, so a sign that begins before another ends goes to a further tier: `gloss 2`.
    Every file is read again before it is kept: what is on the disk gives the same spans.

    Args:
        folder: where the files go; existing ones of the same clips are replaced.
        spans: clip name -> its spans, frames.
        fps: frames of a second; None takes each clip's own, or 25 where the video is not at hand, and says so.
        tier: name of the tier.
        clips: where the videos are, for ELAN to open beside the tier.
        file: the file to write in place of one in the folder; for one clip.
        more: further tiers beside the first, by name; for one clip.

    Returns:
        The files written.

    Raises:
        ValueError: a frame rate that is not positive, an empty span, a name that leaves the folder or that two clips
            share, a gloss that XML cannot hold, or pympi not installed.
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
    with tempfile.TemporaryDirectory() as place:  # pympi writes to a path, and keeps a .bak of what was there
        one = Path(place) / "one.eaf"
        document.to_file(str(one))
        written = read_document(one)
        for tier, spans in tiers.items():
            back = to_spans(one, _texts(written, tier), Clock(fps), Notes())
            wanted = sorted((str(s.token), s.start, s.stop) for s in spans)
            if sorted((s.token, s.start, s.stop) for s in back) != wanted:
                raise ValueError(
                    f"{name}: its glosses do not come back from ELAN's XML unchanged; rename those with odd signs"
                )
        return one.read_bytes()


def _add_tier(document: Any, name: str, spans: Sequence[Span], fps: float, tier: str) -> None:
    """A tier with its spans, and further ones for those that overlap."""
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
    path: Path | str, *, fps: float | None = None, tier: str | None = None, media: str | None = None
) -> dict[str, tuple[Span, ...]]:
    """Spans of one .eaf, or of every .eaf below a folder.

    Args:
        path: a file, whose clip is named by its stem, or a folder, whose clips are named by their paths in it.
        fps: frames of a second of the videos; None takes the rate of each file's video and, where it is not at hand,
            25. What was taken is said on stderr.
        tier: the tier to take; None takes the only one with annotations. Its further tiers (`gloss 2`) belong to it.
        media: which linked video is the clip, where a file has several: its name, `*` for any part of it.

    Returns:
        Clip name -> spans in order of time. Empty annotations are no signs; they are counted on stderr.

    Raises:
        ValueError: no such file or no .eaf, not ELAN, no such tier or several to choose from, an annotation that has no
            time, lies outside of the clip or is shorter than half a frame; named with file and annotation.
    """
    check_rate(fps)
    notes = Notes()
    found: dict[str, tuple[Span, ...]] = {}
    changed: dict[str, int] = {}
    shared = []
    for name, file in clip_files(Path(path), (SUFFIX,), "an ELAN file (.eaf)").items():
        document = read_document(file)
        chosen = _tier(document, tier)
        clock = _clock(document, fps, media, notes)
        if chosen is None:
            found[name] = ()
            continue
        found[name] = to_spans(file, _texts(document, chosen), clock, notes)
        if document.changed:
            changed[file.name] = document.changed
        if _all_further(chosen, document):
            shared.append(f"{file.name} ({', '.join([chosen, *_all_further(chosen, document)])})")
    notes.tell()
    if changed:
        say(
            f"{sum(changed.values())} annotations have another text than their entry of the controlled vocabulary; the "
            f"entry is taken, as in ELAN: {', '.join(list(changed)[:3])}"
        )
    if shared:
        say(f"{len(shared)} files have signs of one tier on several, which are read as one, first {shared[0]}")
    return found


def _tier(document: Document, tier: str | None) -> str | None:
    """The tier to take; None where no tier has annotations and none is asked for."""
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
        raise ValueError(f"{document.file}: has annotations on several tiers ({', '.join(used)}); name one with --tier")
    return used[0] if used else None


def _texts(document: Document, tier: str) -> list[Any]:
    return [text for name in (tier, *_all_further(tier, document)) for text in document.timed(name)]


def _clock(document: Document, fps: float | None, media: str | None, notes: Notes) -> Clock:
    """The rate and the origin of the video that is the clip."""
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
    if len(own) == 1:  # the others are further views of it
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
        origin=origins.pop() if origins else 0,
        remedy="--media or --fps",
    )


def _is_video(media: Media) -> bool:
    return media.mime_type.startswith("video/") or Path(media.name).suffix.lower() in VIDEO_TYPES


def _place(file: Path, media: Media) -> Path | None:
    """Where a linked video is today: at its relative or absolute place, or beside the document; None if nowhere."""
    candidates = []
    for url in (media.relative_url, media.url):
        if "://" in url and not url.startswith("file://"):
            continue  # a stream of the web is never opened
        # file:///a/b, file:/a/b and file:./b all occur; on Windows a drive follows the slashes.
        local = url.removeprefix("file://").removeprefix("file:")
        candidates += [file.parent / spelt for spelt in dict.fromkeys((local, unquote(local))) if local]
    candidates.append(file.parent / media.name)
    for place in candidates:
        try:
            if place.name and place.is_file():
                return place
        except (OSError, ValueError):  # too long, or a NUL in it
            continue
    return None


def _further(tier: str, number: int) -> str:
    """The name of the tier for what overlaps; 0 is the tier itself."""
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
