"""Subtitles for a long recording: a segmenter finds sentences, and each is translated, with its confidence.

The recording is read one window and then one sentence at a time. Finished work is saved in a work folder next to the
output (OUT.work) until the output is written, so that the same command can resume after a stop.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from signcl.data.annotation.eaf_document import read_document
from signcl.data.annotation.elan import read_elan, write_elan
from signcl.data.annotation.span_table import read_spans
from signcl.data.annotation.subtitles import read_subtitles, write_subtitles
from signcl.data.batch import Sample, Segment, Span
from signcl.data.features import is_feature_file
from signcl.data.files import write_json, write_text
from signcl.data.json_files import parse_json
from signcl.data.loading import collate, read_selected
from signcl.data.progress import say, track
from signcl.inference.answers import search_of
from signcl.inference.confidence import Judge
from signcl.inference.film import Film, open_film
from signcl.inference.segmentation import Segments, rate_of_training, segment
from signcl.inference.translation import Model, input_for
from signcl.training.devices import memory_advice
from signcl.training.manifest import known_checksum
from signcl.training.runs import Run

__all__ = [
    "KINDS",
    "Cue",
    "Subtitles",
    "check_out",
    "finish",
    "read_segments",
    "subtitle",
    "work_folder",
    "write_cues",
    "write_segments",
]

KINDS = (".srt", ".vtt", ".eaf", ".tsv")
TOGETHER = 4  # sentences to translate at a time
TABLE = ("start", "stop", "text", "confidence", "probability", "out_of_domain")


@dataclass(frozen=True)
class Cue:
    """One sentence of a recording."""

    start: float
    """Seconds."""
    stop: float
    text: str
    confidence: float | None = None
    """As in `signcl.translate`; None if the run is not calibrated."""
    probability: float | None = None
    out_of_domain: bool | None = None
    error: str = ""
    """Why it could not be read; the text is then empty."""


@dataclass(frozen=True)
class Subtitles:
    """Result of `subtitle`."""

    cues: tuple[Cue, ...]
    signs: tuple[Span, ...]
    """Spans of signs in frames at `fps`; empty if segments were given."""
    fps: float
    """Frames per second of the recording as read by the segmenter."""
    num_frames: int


def work_folder(out: Path) -> Path:
    """The folder for unfinished work on an output."""
    return out.with_name(out.name + ".work")


def subtitle(
    model: Model,
    path: str | Path,
    segmenter: Run | Sequence[Span],
    *,
    fps: float | None = None,
    pad: float = 0.2,
    beams: int | None = None,
    device: str = "auto",
    work: Path | None = None,
    progress: bool = True,
) -> Subtitles:
    """Translate every sentence of a recording.

    Args:
        model: from `load_model`.
        path: a video, a folder of images, features or poses; both runs read it.
        segmenter: from `load_segmenter`; or the spans of the sentences, in frames of the recording at its own rate.
        fps: frame rate of features and images, which do not contain it.
        pad: seconds before and after a sentence to include, at most half way to its neighbour, since translators are
            trained on clips that begin and end at rest.
        beams: beam size; None: the recipe's.
        work: folder for finished work, from which the same call resumes. None: do not save.

    Raises:
        FileNotFoundError, ValueError: as in `segment`; a negative pad; work of another recording, run or setting.
    """
    path = Path(path)
    if pad < 0:
        raise ValueError(f"pad: needs at least 0 seconds, got {pad:g}")
    if work is not None:
        _check_work(work, model, path, segmenter, pad=pad, beams=beams, fps=fps)
    found: Segments
    try:
        if isinstance(segmenter, Run):
            found = segment(segmenter, path, fps=fps, device=device, work=work, progress=progress)
        else:
            film = open_film(path, model.run.recipe.input, None, fps)
            found = Segments((), tuple(segmenter), film.fps, film.num_frames)
        cues = _translated(model, path, found, fps, pad, beams, work, progress)
    except (ValueError, OSError):
        if work is not None and not _is_begun(work):  # a mistake leaves nothing behind
            finish(work)
        raise
    return Subtitles(tuple(cues), found.signs, found.fps, found.num_frames)


def _translated(
    model: Model,
    path: Path,
    found: Segments,
    fps: float | None,
    pad: float,
    beams: int | None,
    work: Path | None,
    progress: bool,
) -> list[Cue]:
    """One cue per sentence; cues of an earlier call are read from its file."""
    cues = _kept_cues(work)
    spans = found.sentences
    if not spans:
        return []
    film, reading = _for_translator(model, path, fps)
    decode, judge = search_of(model.run, beams), model.judge or Judge({}, None)
    with track("translating", total=len(spans), done=len(cues), show=progress) as bar:
        for first in range(len(cues), len(spans), TOGETHER):
            numbers = range(first, min(first + TOGETHER, len(spans)))
            made: dict[int, Cue] = {}
            samples, frames = [], []
            for number in numbers:
                span = spans[number]
                start, stop = _padded(spans, number, pad * found.fps, found.num_frames)
                part = Segment(start / found.fps, stop / found.fps, row=str(path))
                made[number] = Cue(span.start / found.fps, span.stop / found.fps, "")
                try:
                    frames.append(_read(film, path, part, reading))
                    samples.append(Sample(str(number), ""))
                except (ValueError, OSError) as error:
                    reason = " ".join(str(error).split())
                    say(f"{path.name}, {made[number].start:.2f} s: cannot be read: {reason}")
                    made[number] = replace(made[number], error=reason)
            if samples:
                batch = collate(samples, frames)
                with memory_advice(model.run.recipe, batch, f"translating {path.name}", batch_size=len(samples)):
                    answers = model.run.model.answer_scored(batch.to(model.device), decode)
                for sample, answer in zip(samples, answers):
                    verdict, number = judge(answer), int(sample.name)
                    made[number] = replace(
                        made[number],
                        text=" ".join(answer.text.split()),
                        confidence=verdict.confidence,
                        probability=verdict.probability,
                        out_of_domain=verdict.out_of_domain,
                    )
            new = [made[number] for number in numbers]
            _keep_cues(work, new)
            cues += new
            bar.advance(len(new))
    return cues


def _for_translator(model: Model, path: Path, fps: float | None) -> tuple[Film | None, Any]:
    """The recording's features, or for a video how to read it at the frame rate of the translator's training."""
    recipe = model.run.recipe.input
    if is_feature_file(path):
        film = open_film(path, recipe, rate_of_training(model.run), fps)
        dim, size = model.run.feature_dim, film.read(0, 1).shape[1]
        if dim != size:
            needs = "video frames" if dim is None else f"features of size {dim}"
            raise ValueError(f"{path}: {model.run.folder} was trained on {needs}, this is features of size {size}")
        return film, recipe
    if model.run.feature_dim is not None:
        raise ValueError(
            f"{path}: {model.run.folder} reads features of size {model.run.feature_dim}, this is a video; give its "
            f"features"
        )
    reading, note = input_for(model.run, path)
    if note:
        say(note)
    return None, reading


def _read(film: Film | None, path: Path, part: Segment, reading: Any) -> Any:
    if film is None:
        return read_selected(Sample(path.name, "", clip=path, segment=part), reading)
    rows = part.at(film.fps)
    return read_selected(
        Sample(path.name, "", features=film.read_sentence(rows.start, max(rows.stop, rows.start + 1))), reading
    )


def _padded(spans: Sequence[Span], number: int, pad: float, num_frames: int) -> tuple[float, float]:
    """A span with padding, at most half way to its neighbours, in frames."""
    span = spans[number]
    before = spans[number - 1].stop if number else -span.start
    after = spans[number + 1].start if number + 1 < len(spans) else 2 * num_frames - span.stop
    start = max(span.start - pad, (before + span.start) / 2, 0)
    return min(start, span.start), max(min(span.stop + pad, (span.stop + after) / 2, num_frames), span.stop)


# -- resuming ----------------------------------------------------------------------------------------------------------


def _check_work(work: Path, model: Model, path: Path, segmenter: Run | Sequence[Span], **settings: Any) -> None:
    """Create a work folder; ValueError if it holds other work."""
    if not path.exists():
        raise FileNotFoundError(f"no recording at {path}")
    about = path.stat()
    sentences = None
    if not isinstance(segmenter, Run):
        rows = "".join(f"{span.start} {span.stop}\n" for span in segmenter)
        sentences = hashlib.sha256(rows.encode()).hexdigest()[:16]
    now = {
        "recording": [str(path.resolve()), about.st_size, about.st_mtime],
        "run": [str(model.run.folder.resolve()), known_checksum(model.run.folder, "model.safetensors")],
        "segmenter": [str(segmenter.folder.resolve()), known_checksum(segmenter.folder, "model.safetensors")]
        if isinstance(segmenter, Run)
        else sentences,
        "settings": settings,
    }
    said = work / "about.json"
    if said.is_file() and _is_begun(work):
        try:
            then = parse_json(said.read_bytes())
        except ValueError:
            then = None
        then = then if isinstance(then, dict) else {}
        if other := [key for key in now if then.get(key) != parse_json(json.dumps(now[key]))]:
            raise ValueError(
                f"{work}: unfinished work with another {' and '.join(other)}; delete the folder to begin again, or "
                f"give another -o"
            )
        return
    work.mkdir(parents=True, exist_ok=True)
    write_json(said, now)


def _is_begun(work: Path) -> bool:
    """Whether a work folder holds tags or cues."""
    return any((work / name).is_file() for name in ("tags", "cues.jsonl"))


def _kept_cues(work: Path | None) -> list[Cue]:
    """Cues of an earlier call in order; removes a line that was not written completely."""
    path = None if work is None else work / "cues.jsonl"
    if path is None or not path.is_file():
        return []
    cues, kept = [], []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            cues.append(Cue(**parse_json(line)))
        except (ValueError, TypeError):
            break
        kept.append(line)
    write_text(path, "".join(f"{line}\n" for line in kept))
    return cues


def _keep_cues(work: Path | None, cues: Sequence[Cue]) -> None:
    if work is not None:
        with (work / "cues.jsonl").open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(asdict(cue), ensure_ascii=False) + "\n" for cue in cues))


def finish(work: Path | None) -> None:
    """Delete the work folder, after the output was written."""
    if work is not None and work.is_dir():
        shutil.rmtree(work)


# -- files -------------------------------------------------------------------------------------------------------------


def read_segments(path: Path, fps: float) -> tuple[Span, ...]:
    """Read the sentence spans of one recording: .srt, .vtt, .eaf (tier `sentence`, or the only one), or a span table.

    Times become frames at `fps`, the rate at which the recording is read.

    Raises:
        ValueError: another kind of file, several recordings, or no segment.
    """
    suffix = path.suffix.lower()
    if suffix not in KINDS:
        raise ValueError(f"{path}: segments are read from {', '.join(KINDS)}")
    if suffix == ".eaf":
        tier = "sentence" if path.is_file() and "sentence" in read_document(path).tiers else None
        found = read_elan(path, clock=fps, tier=tier)
    else:
        found = read_spans(path) if suffix == ".tsv" else read_subtitles(path, clock=fps)
    if len(found) != 1:
        raise ValueError(f"{path}: needs the segments of one recording, has {len(found)}")
    (spans,) = found.values()
    if not spans:
        raise ValueError(f"{path}: holds no segment")
    return tuple(sorted(spans, key=lambda span: span.start))


def write_segments(out: Path, found: Segments, recording: Path) -> None:
    """Write signs and sentences as .eaf (two tiers), .tsv (a span table named after the recording), .srt or .vtt.

    .srt and .vtt have sentences, or signs if there are none, with numbers as text.

    Raises:
        ValueError: an unknown ending.
    """
    name, suffix = recording.stem, _kind(out)
    numbered = {
        kind: [replace(span, token=f"{kind} {number}") for number, span in enumerate(spans, start=1)]
        for kind, spans in (("sentence", found.sentences), ("sign", found.signs))
    }
    if suffix == ".eaf":
        clips = None if is_feature_file(recording) else {name: recording}
        more = {"sign": numbered["sign"]}
        write_elan(
            out.parent, {name: numbered["sentence"]}, fps=found.fps, tier="sentence", clips=clips, file=out, more=more
        )
        return
    if suffix == ".tsv":
        rows = [(kind, span) for kind, spans in numbered.items() for span in spans]
        lines = [f"{name}\t{kind}\t{span.start}\t{span.stop}\t{span.score:.4g}" for kind, span in rows]
        write_text(out, "\n".join(["name\tgloss\tstart\tstop\tscore", *lines]) + "\n")
        return
    spans = numbered["sentence"] or numbered["sign"]
    write_subtitles(out.parent, {name: spans}, suffix=suffix, fps=found.fps, file=out)


def write_cues(out: Path, found: Subtitles, recording: Path, *, mark_below: float | None = None) -> Path:
    """Write subtitles as .srt, .vtt, .eaf (tiers sentence, confidence and sign) or .tsv.

    The first three also get a table with confidences, OUT.tsv.

    Sentences without text (empty or unreadable) are only in the table.

    Args:
        mark_below: mark sentences of lower confidence with [?].

    Returns:
        The table.

    Raises:
        ValueError: an unknown ending.
    """
    name, suffix = recording.stem, _kind(out)
    lines = ["\t".join(TABLE)]
    for cue in found.cues:
        numbers = ["" if value is None else f"{value:.4f}" for value in (cue.confidence, cue.probability)]
        outside = "" if cue.out_of_domain is None else str(cue.out_of_domain).lower()
        lines.append("\t".join((f"{cue.start:.3f}", f"{cue.stop:.3f}", cue.text, *numbers, outside)))
    table = out if suffix == ".tsv" else out.with_suffix(".tsv")
    if suffix != ".tsv":
        spoken = [cue for cue in found.cues if cue.text]
        spans = [_span(cue, found.fps, _marked(cue, suffix, mark_below)) for cue in spoken]
        if suffix == ".eaf":
            clips = None if is_feature_file(recording) else {name: recording}
            sure = [_span(c, found.fps, f"{c.confidence:.2f}") for c in spoken if c.confidence is not None]
            signs = [replace(span, token=f"sign {number}") for number, span in enumerate(found.signs, start=1)]
            more = {"confidence": sure, "sign": signs}
            write_elan(out.parent, {name: spans}, fps=found.fps, tier="sentence", clips=clips, file=out, more=more)
        else:
            write_subtitles(out.parent, {name: spans}, suffix=suffix, fps=found.fps, file=out)
    write_text(table, "\n".join(lines) + "\n")
    return table


def _span(cue: Cue, fps: float, text: str) -> Span:
    return Span(text, round(cue.start * fps), round(cue.stop * fps))


def _marked(cue: Cue, suffix: str, mark_below: float | None) -> str:
    """The text of a cue, without < and {, which are markup in SubRip."""
    unsure = mark_below is not None and cue.confidence is not None and cue.confidence < mark_below
    text = f"[?] {cue.text}" if unsure else cue.text
    if suffix == ".eaf":
        return text
    return text.translate(str.maketrans("<>{}", "‹›()"))


def _kind(out: Path) -> str:
    suffix = out.suffix.lower()
    if suffix not in KINDS:
        raise ValueError(f"-o {out}: needs a file name that ends in {', '.join(KINDS)}")
    return suffix


def check_out(out: Path) -> None:
    """Check that the output can be written, before hours of work.

    Raises:
        ValueError, FileNotFoundError: an unknown ending, a folder with that name, or a missing parent folder.
    """
    _kind(out)
    if out.is_dir():
        raise ValueError(f"-o {out}: needs a file name, but this is a folder")
    out.parent.mkdir(parents=True, exist_ok=True)
