"""Spans to and from ELAN (.eaf), where sign linguists annotate: one file per clip, one tier of glosses, milliseconds.

Reading and writing the XML is pympi's; this file holds the clocks. A span of frames start..stop lasts from
1000 start / fps to 1000 stop / fps milliseconds; reading rounds to the nearest frame edge, so that a table written and
read again is the same for any frame rate below 500.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from signcl.data.batch import Span
from signcl.data.files import write_bytes

__all__ = ["read_elan", "write_elan"]

TIER = "gloss"


def write_elan(
    folder: Path | str,
    spans: Mapping[str, Sequence[Span]],
    *,
    fps: float,
    tier: str = TIER,
    clips: Mapping[str, Path] | None = None,
) -> list[Path]:
    """One .eaf for each clip; folders in clip names become folders.

    Annotations of one tier cannot overlap, so a sign that begins before another ends goes to a further tier: `gloss 2`.

    Args:
        folder: where the files go; existing ones of the same clips are replaced.
        spans: clip name -> its spans, frames.
        fps: frames of a second.
        tier: name of the tier.
        clips: where the videos are, for ELAN to open beside the tier.

    Returns:
        The files written.

    Raises:
        ValueError: a frame rate that is not positive, an empty span, or pympi not installed.
    """
    eaf = _pympi()
    _check_rate(fps)
    written = []
    for name, found in spans.items():
        document = eaf.Eaf(author="signcl")
        document.remove_tier("default")
        document.add_tier(tier)
        if clips and name in clips:
            document.add_linked_file(str(clips[name]), mimetype="video/mp4")
        reached = [0]  # where each tier's last annotation ends, frames
        for span in sorted(found, key=lambda span: (span.start, span.stop)):
            if not 0 <= span.start < span.stop:
                raise ValueError(f"{name}: span {span.token}:{span.start}-{span.stop} needs 0 <= start < stop")
            number = next((n for n, end in enumerate(reached) if end <= span.start), len(reached))
            if number == len(reached):
                reached.append(0)
                document.add_tier(_further(tier, number))
            reached[number] = span.stop
            start, stop = (round(1000 * frame / fps) for frame in (span.start, span.stop))
            document.add_annotation(_further(tier, number), start, stop, str(span.token))
        path = Path(folder) / f"{name}.eaf"
        with tempfile.TemporaryDirectory() as place:  # pympi writes to a path, and keeps a .bak of what was there
            document.to_file(f"{place}/one.eaf")
            write_bytes(path, Path(f"{place}/one.eaf").read_bytes())
        written.append(path)
    return written


def read_elan(path: Path | str, *, fps: float, tier: str | None = None) -> dict[str, tuple[Span, ...]]:
    """Spans of one .eaf, or of every .eaf below a folder.

    Args:
        path: a file, whose clip is named by its stem, or a folder, whose clips are named by their paths in it.
        fps: frames of a second of the videos.
        tier: the tier to take; None takes the only one with annotations. Its further tiers (`gloss 2`) belong to it.

    Returns:
        Clip name -> spans in order of time; empty annotations are no signs.

    Raises:
        ValueError: no such file or no .eaf, not ELAN, no such tier or several to choose from, an annotation
            shorter than half a frame.
    """
    eaf = _pympi()
    _check_rate(fps)
    path = Path(path)
    files = sorted(path.rglob("*.eaf")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise ValueError(f"{path}: an ELAN file (.eaf) or a folder of them is needed, there is none")
    found: dict[str, tuple[Span, ...]] = {}
    for file in files:
        try:
            document = eaf.Eaf(str(file))
        except Exception as error:  # pympi raises what its XML reader raises
            raise ValueError(f"{file}: is not an ELAN file ({' '.join(str(error).split())[:120]})") from None
        name = file.relative_to(path).with_suffix("").as_posix() if path.is_dir() else file.stem
        found[name] = _spans(document, file, fps, tier)
    return found


def _spans(document: Any, file: Path, fps: float, tier: str | None) -> tuple[Span, ...]:
    tiers = list(document.get_tier_names())
    if tier is None:
        used = [t for t in tiers if document.get_annotation_data_for_tier(t)]
        used = [t for t in used if not any(t in _all_further(other, tiers) for other in used)]
        if len(used) > 1:
            raise ValueError(f"{file}: has annotations on several tiers ({', '.join(used)}); name one with --tier")
        if not used:
            return ()
        tier = used[0]
    if tier not in tiers:
        raise ValueError(f"{file}: has no tier {tier!r}; it has {', '.join(tiers) or 'none'}")
    spans = []
    parts = [document.get_annotation_data_for_tier(name) for name in (tier, *_all_further(tier, tiers))]
    for start, stop, value, *_ in sorted(row for part in parts for row in part):
        if not value.strip():
            continue
        first, last = round(start * fps / 1000), round(stop * fps / 1000)
        if last <= first:
            raise ValueError(
                f"{file}: {value!r} from {start} to {stop} ms has no frame at {fps:g} frames a second; is --fps right?"
            )
        spans.append(Span(value.strip(), first, last))
    return tuple(spans)


def _further(tier: str, number: int) -> str:
    """The name of the tier for what overlaps; 0 is the tier itself."""
    return tier if number == 0 else f"{tier} {number + 1}"


def _all_further(tier: str, tiers: list[str]) -> list[str]:
    return [name for number in range(1, len(tiers)) if (name := _further(tier, number)) in tiers]


def _check_rate(fps: float) -> None:
    if not fps > 0:
        raise ValueError(f"--fps: the frames of a second are needed to turn them into ELAN's milliseconds, got {fps}")


def _pympi() -> Any:
    try:
        import pympi
    except ImportError:
        raise ValueError("ELAN files need the package pympi-ling: pip install 'signcl[elan]'") from None
    return pympi
