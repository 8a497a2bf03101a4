"""Scores subtitle files against references: boundaries, overlap, and text of sentences that overlap in time."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from signcl.data.annotation.eaf_document import read_document
from signcl.data.annotation.elan import read_elan
from signcl.data.annotation.subtitles import read_subtitles
from signcl.data.batch import Span
from signcl.metrics import score_all
from signcl.metrics.in_time import aligned_in_time, boundary_f1, mean_iou, segment_f1
from signcl.metrics.written_forms import Tokenize

__all__ = ["SUBTITLES", "score_subtitles"]

SUBTITLES = (".srt", ".vtt", ".eaf")
TICKS = 1000.0  # spans are in milliseconds


def score_subtitles(
    hypothesis: str | Path,
    reference: str | Path,
    *,
    tolerance: float = 0.2,
    tokenize: Tokenize = "auto",
    samples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Score subtitles in time and in text.

    Args:
        hypothesis, reference: .srt, .vtt, or .eaf with a tier `sentence` (or only one tier), of the same recording.
        tolerance: allowed error of a boundary in seconds.
        tokenize, samples, seed: settings of BLEU and its interval, as in `score_all`.

    Returns:
        `boundaries` (F1, precision, recall), `segments` (the same, with IoU of at least 0.5), `iou` of the time, `text`
        (scores of the sentences, each reference cue with the cues that overlap it most), and the numbers of cues.

    Raises:
        ValueError: an unreadable file, or references without cues.
    """
    found, true = _cues(Path(hypothesis), may_be_empty=True), _cues(Path(reference))
    pairs = aligned_in_time(found, true)
    times = [[(start, stop) for start, stop, _ in cues] for cues in (found, true)]
    ours, theirs = [times[0]], [times[1]]
    return {
        "hypothesis": str(hypothesis),
        "reference": str(reference),
        "cues": {"found": len(found), "true": len(true), "unanswered": sum(not answer for answer, _ in pairs)},
        "tolerance": tolerance,
        "boundaries": asdict(boundary_f1(ours, theirs, tolerance=tolerance)),
        "segments": asdict(segment_f1(ours, theirs)),
        "iou": mean_iou(ours, theirs),
        "text": score_all(
            [answer for answer, _ in pairs], [text for _, text in pairs], tokenize=tokenize, samples=samples, seed=seed
        ),
    }


def _cues(path: Path, *, may_be_empty: bool = False) -> list[tuple[float, float, str]]:
    """Start and stop in seconds and text of each cue."""
    suffix = path.suffix.lower()
    if not path.is_file():
        raise FileNotFoundError(f"no subtitles at {path}")
    spans: tuple[Span, ...] = ()
    if suffix == ".eaf":
        tier = "sentence" if "sentence" in read_document(path).tiers else None
        (spans,) = read_elan(path, clock=TICKS, tier=tier).values()
    elif not may_be_empty or _holds_cues(path):
        (spans,) = read_subtitles(path, clock=TICKS).values()
    return [(span.start / TICKS, span.stop / TICKS, str(span.token)) for span in spans]


def _holds_cues(path: Path) -> bool:
    """Whether a file has more than the WebVTT header; for a recording without sentences it does not."""
    return bool(path.read_text(encoding="utf-8-sig", errors="replace").replace("WEBVTT", "").strip())
