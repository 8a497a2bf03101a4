"""MeineDGS, the Public DGS Corpus: free dialogues in German Sign Language, 50 fps; German, English, glosses with times.

Reads the transcripts as ELAN files, or the translation protocols of Saunders et al.:

    eaf         TRANSCRIPT.eaf anywhere below ROOT: tiers Deutsche_Übersetzung_A, Translation_into_English_A,
                Lexem_Gebärde_r_A, Lexem_Gebärde_l_A, and the same tiers for B; times in milliseconds
                split*.json {"train": [TRANSCRIPT, ...], "dev": ..., "test": ...}: the transcripts of each split
    protocol    mDGS_Protocol_Train.csv, _Dev, _Test: filename|camera|ger_text|gloss|start_time|stop_time, in frames;
                gloss is GLOSS/start/stop, in frames from the start of the sentence; lower-case text without umlauts
    videos      TRANSCRIPT_1a1.mp4 shows A, TRANSCRIPT_1b1.mp4 shows B; anywhere below ROOT

A sentence is a segment of its signer's video, and its glosses are spans in the segment. The corpus annotates a
two-handed sign on one hand only; signs of both tiers are merged in order of time. The corpus publishes no splits; those
of sign-language-processing/datasets (splits/split.3.0.0-uzh-document.json) can be placed next to the transcripts. The
SRT files (TRANSCRIPT_de.srt) are not read: they mix both signers in a format for which we found no documentation.

Source: sign-language-processing/datasets, dgs_corpus (tiers, splits, 50 fps); the repository
BenSaunders27/meineDGS-Translation-Protocols (CSV); video names from the download pages, as quoted by third parties.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from signcl.data.annotation.table_files import OnError, find_table, has_words, read_table, stop
from signcl.data.batch import Sample, Segment, Span
from signcl.data.corpora._layout import Layout, OnMissing, check_split, present, told
from signcl.data.json_files import read_json
from signcl.data.whole_numbers import whole_number

__all__ = ["samples"]

FPS = 50
TEXTS = {"german": "Deutsche_Übersetzung_{}", "english": "Translation_into_English_{}"}
HANDS = ("Lexem_Gebärde_r_{}", "Lexem_Gebärde_l_{}")
CAMERAS = {"A": "1a1", "B": "1b1"}
NAME = re.compile(r"(?P<transcript>.+)(?P<camera>[AB])-\d+")

LAYOUT = Layout(
    files=("mDGS_Protocol_*.csv", "*/mDGS_Protocol_*.csv", "*_1a1.mp4", "*/*_1a1.mp4"),
    about="MeineDGS, the Public DGS Corpus",
    published="https://www.sign-lang.uni-hamburg.de/meinedgs/ (ask before research use)",
    needs="TRANSCRIPT.eaf with a split*.json (or mDGS_Protocol_*.csv), and the videos TRANSCRIPT_1a1.mp4, _1b1.mp4",
)


def samples(
    root: Path,
    split: str,
    *,
    labels: str = "auto",
    language: str = "german",
    on_error: OnError = stop,
    on_missing: OnMissing = told,
) -> list[Sample]:
    """Reads the sentences of one split. Sentences without a video are left out; their number is reported.

    Args:
        root: the corpus folder.
        split: `train`, `dev` or `test`.
        labels: `eaf`, `protocol`, or `auto`: the protocol if it exists, otherwise ELAN files.
        language: `german`, or `english` with ELAN files. Sentences without text in this language are left out.
        on_error: called with each broken row or transcript; by default the first error is raised.
        on_missing: called with the names of sentences without a video.

    Raises:
        ValueError: the split, `labels` or `language` is unknown, labels or splits are missing, no video is found, a
            row or transcript is broken, or pympi is not installed.
    """
    check_split("meine_dgs", root, split)
    if labels not in ("auto", "eaf", "protocol"):
        raise ValueError(f"meine_dgs: corpus.options.labels needs auto, eaf or protocol, got {labels!r}")
    if language not in TEXTS:
        raise ValueError(f"meine_dgs: corpus.options.language needs {' or '.join(TEXTS)}, got {language!r}")
    root = Path(root)
    name = f"mDGS_Protocol_{split.capitalize()}.csv"
    protocol = find_table(root / name, *(folder / name for folder in sorted(root.glob("*")) if folder.is_dir()))
    videos = {path.stem: path for path in sorted(root.rglob("*_1[ab]1.mp4")) if path.name[0] != "."}
    result: list[Sample] = []
    missing: list[str] = []
    if labels == "protocol" or (labels == "auto" and protocol is not None):
        if protocol is None:
            raise ValueError(f"{root}: meine_dgs needs the protocol {name}; from the repository of Saunders et al.")
        if language != "german":
            raise ValueError(f"meine_dgs: {protocol} has German sentences only; English is read with labels=eaf")
        table = protocol
        _read_protocol(table, videos, result, missing, on_error)
    else:
        files = {path.stem: path for path in sorted(root.rglob("*.eaf")) if path.name[0] != "."}
        if not files:
            raise ValueError(f"{root}: meine_dgs needs TRANSCRIPT.eaf or the protocol {name}; from {LAYOUT.published}")
        table, wanted = _split_file(root, split)
        for transcript in wanted:
            if transcript not in files:
                missing.append(transcript)
                continue
            try:
                _read_transcript(files[transcript], language, videos, result, missing)
            except ValueError as error:
                on_error(error)
    where = f"{root} (TRANSCRIPT_1a1.mp4, TRANSCRIPT_1b1.mp4)"
    return present(result, missing, corpus="meine_dgs", split=split, table=table, where=where, on_missing=on_missing)


def _split_file(root: Path, split: str) -> tuple[Path, list[str]]:
    """The split*.json file, and the transcripts that it lists for a split."""
    files = sorted(root.glob("split*.json")) or sorted(root.glob("*/split*.json"))
    if len(files) != 1:
        what = f"found {', '.join(path.name for path in files)}; keep one" if files else "found none"
        raise ValueError(
            f"{root}: meine_dgs needs one split*.json with the transcripts of each split, {what} (that of "
            f"sign-language-processing/datasets, or your own)"
        )
    needed = 'it needs {"train": [TRANSCRIPT, ...], "dev": ..., "test": ...}'
    found: list[str] = read_json(files[0], {split: [str]}, needed)[split]
    if not found:
        raise ValueError(f"{files[0]}: no transcript for {split}; {needed}")
    return files[0], found


def _read_protocol(
    table: Path, videos: dict[str, Path], result: list[Sample], missing: list[str], on_error: OnError
) -> None:
    columns = ("filename", "camera", "ger_text", "gloss", "start_time", "stop_time")
    seen: set[str] = set()
    for row in read_table(table, columns, delimiter="|", on_error=on_error):
        cells = row.cells
        name, match = cells["filename"], NAME.fullmatch(cells["filename"])
        start, end = whole_number(cells["start_time"]), whole_number(cells["stop_time"])
        try:
            if match is None or match["camera"] != cells["camera"]:
                raise ValueError(f"filename {name!r} must be TRANSCRIPT, camera A or B, '-' and a number")
            if name in seen:
                raise ValueError(f"{name} comes twice")
            if not has_words(cells["ger_text"]):
                raise ValueError(f"{name} has a text without words: {cells['ger_text']!r}")
            if start is None or end is None or start >= end:
                raise ValueError(
                    f"{name} needs start_time before stop_time, whole frames, got {cells['start_time']} and "
                    f"{cells['stop_time']}"
                )
            spans = tuple(_signs(cells["gloss"], name))
        except ValueError as error:
            on_error(row.error(str(error)))
            continue
        seen.add(name)
        video = videos.get(f"{match['transcript']}_{CAMERAS[match['camera']]}")
        if video is None:
            missing.append(name)
            continue
        spans = tuple(Span(s.token, s.start, min(s.stop, end - start)) for s in spans if s.start < end - start)
        result.append(
            Sample(
                name,
                cells["ger_text"],
                video,
                gloss=tuple(str(span.token) for span in spans),
                signer=match["transcript"] + match["camera"],
                num_frames=end - start,
                spans=spans,
                segment=Segment(start, end, "frames", row=f"{table}:{row.line}"),
            )
        )


def _signs(text: str, name: str) -> list[Span]:
    """Parses glosses with their frames in the sentence, such as `STIMMT/20/29 FRUHER/45/65`."""
    found = []
    for entry in text.split():
        gloss, *edges = entry.rsplit("/", 2)
        start, end = map(whole_number, edges) if len(edges) == 2 else (None, None)
        if start is None or end is None or not gloss:
            raise ValueError(f"{name} has the gloss {entry!r}, needs GLOSS/start/stop in frames")
        found.append(Span(gloss.rstrip("/"), start, max(end, start + 1)))
    return sorted(found, key=lambda span: (span.start, span.stop))


def _read_transcript(
    path: Path, language: str, videos: dict[str, Path], result: list[Sample], missing: list[str]
) -> None:
    """Adds the sentences of both signers of a transcript, with the signs that start within them."""
    document = _elan(path)
    tiers = set(document.get_tier_names())
    for person, camera in CAMERAS.items():
        sentences = TEXTS[language].format(person)
        if sentences not in tiers:
            continue
        signs = sorted(
            (start, end, gloss.strip())
            for hand in HANDS
            if hand.format(person) in tiers
            for start, end, gloss, *_ in document.get_annotation_data_for_tier(hand.format(person))
            if gloss.strip()
        )
        video = videos.get(f"{path.stem}_{camera}")
        for number, (start, end, text, *_) in enumerate(sorted(document.get_annotation_data_for_tier(sentences))):
            if not has_words(text):
                continue
            if not 0 <= start < end:
                raise ValueError(
                    f"{path}: the sentence {text[:40]!r} of {person} has the times {start} to {end} ms; "
                    f"needs 0 <= start < end"
                )
            name = f"{path.stem}{person}-{number}"
            if video is None:
                missing.append(name)
                continue
            first, last = round(start * FPS / 1000), round(end * FPS / 1000)
            spans = tuple(
                Span(gloss, begin, min(stop, last - first))
                for begin, stop, gloss in (
                    (round(a * FPS / 1000) - first, round(b * FPS / 1000) - first, gloss)
                    for a, b, gloss in signs
                    if start <= a < end
                )
                if begin < min(stop, last - first)
            )
            result.append(
                Sample(
                    name,
                    text.strip(),
                    video,
                    gloss=tuple(str(span.token) for span in spans),
                    signer=path.stem + person,
                    spans=spans,
                    segment=Segment(start / 1000, end / 1000, row=f"{path}, {sentences} {start}-{end} ms"),
                )
            )


def _elan(path: Path) -> Any:
    try:
        import pympi
    except ImportError:
        raise ValueError(f"{path}: ELAN files need the package pympi-ling: pip install 'signcl[elan]'") from None
    try:
        return pympi.Eaf(str(path))
    except Exception as error:  # pympi passes on any error of its XML reader
        raise ValueError(f"{path}: is not an ELAN file ({' '.join(str(error).split())[:120]})") from None
