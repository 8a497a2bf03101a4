"""Writes a synthetic corpus to disk, clip by clip. An interrupted run can be resumed, and every file is complete.

FOLDER/corpus.json           settings, version, checksums of the tables; written first
FOLDER/lexicon.json          every sign with its parameters and its twin
FOLDER/clips/SPLIT/...       the videos
FOLDER/{train,dev,test}.tsv  the tables; written last
FOLDER/poses/SPLIT/NAME.npy  key points, if requested
"""

from __future__ import annotations

import hashlib
import json
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from signcl.data.corpora.synthetic.key_points import point_clip
from signcl.data.corpora.synthetic.lexicon import PARAMETERS, Sign
from signcl.data.corpora.synthetic.plan import ClipPlan, CorpusPlan, plan_corpus, table
from signcl.data.corpora.synthetic.scene import draw_clip
from signcl.data.corpora.synthetic.settings import VERSION, SyntheticSettings
from signcl.data.files import atomic_write, clear_unfinished, is_empty, write_bytes
from signcl.data.json_files import read_json
from signcl.data.progress import Bar, track
from signcl.data.video import write_video

__all__ = ["MadeCorpus", "make_corpus"]

FORMAT = "signcl synthetic corpus"
FPS = 25
POSES = "poses"
BATCH = 8  # clips per job of a worker process
FEW = 60  # up to this many clips are drawn without workers, which would take longer to start


@dataclass(frozen=True)
class MadeCorpus:
    """Result of `make_corpus`."""

    folder: Path
    clips: dict[str, int]
    """Number of clips per split."""
    frames: int
    """Total number of frames."""
    drawn: int
    """Clips drawn in this call; the others existed from an earlier, interrupted run."""
    seconds: float
    """Elapsed time."""


def make_corpus(
    folder: str | Path,
    settings: SyntheticSettings | None = None,
    *,
    progress: bool = True,
    workers: int = 0,
    poses: bool = False,
) -> MadeCorpus:
    """Makes a synthetic signed corpus, or completes an interrupted one.

    Args:
        folder: output folder: new, empty, or a corpus with the same settings, in which only missing files are made.
        settings: settings of the corpus; None for the defaults.
        progress: show a progress bar on stderr.
        workers: number of worker processes. With 0, or for at most 60 clips, this process draws. The result is the
            same. Workers are spawned, so a script that uses them needs the usual `if __name__ == "__main__":`.
        poses: also write the exact key points of every clip to FOLDER/poses/SPLIT/NAME.npy.

    Returns:
        Counts of clips and frames, and the elapsed time.

    Raises:
        ValueError: the folder contains something else, the settings are impossible, or workers is negative.
    """
    start = time.monotonic()
    settings = settings or SyntheticSettings()
    folder = Path(folder)
    if workers < 0:
        raise ValueError(f"workers must be 0 (draw in this process) or more, got {workers}")
    _check_folder(folder, settings)
    plan = plan_corpus(settings)
    tables = {split: table(plan, split) for split in plan.clips}
    _write(folder / "corpus.json", _description(plan, tables))
    _write(folder / "lexicon.json", _lexicon(plan.lexicon))
    clips = [clip for split in plan.clips.values() for clip in split]
    missing = [clip for clip in clips if not (folder / clip.path).exists()]
    with _bar("drawing clips", clips, missing, progress) as bar:
        for count in _draw_all(folder, plan, missing, workers):
            bar.advance(count)
    for split, content in tables.items():
        _write(folder / f"{split}.tsv", content)
    if poses:
        _point_all(folder, plan, progress)
    frames = sum(clip.num_frames for clip in clips)
    return MadeCorpus(folder, settings.counts, frames, len(missing), time.monotonic() - start)


def _check_folder(folder: Path, settings: SyntheticSettings) -> None:
    """Raises an error unless the folder is new, empty, or contains (a part of) this corpus."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: a synthetic corpus needs a folder, this is a file; give another path")
    if is_empty(folder):
        return
    try:
        found = read_json(folder / "corpus.json", {"format": str, "version": Any, "settings": {}}, "")
        if found["format"] != FORMAT:
            raise ValueError(f"it has the format {found['format'][:40]!r}")
        version, old = found["version"], found["settings"]
    except (FileNotFoundError, ValueError):
        raise ValueError(
            f"{folder}: not empty and not a synthetic corpus (no readable corpus.json); give a new or empty folder"
        ) from None
    if version != VERSION:
        raise ValueError(
            f"{folder}: holds a synthetic corpus of version {version}, this program makes version {VERSION}; "
            "give another folder or delete it"
        )
    new = settings.as_dict()
    old = SyntheticSettings().as_dict() | old  # a setting that is newer than the corpus had its default value
    differing = [f"{key}={old[key]} (now {new[key]})" for key in new if old[key] != new[key]]
    if differing:
        raise ValueError(
            f"{folder}: holds a synthetic corpus of other settings: {', '.join(differing)}; "
            "give another folder, delete it, or ask for the same settings"
        )


def _draw_all(folder: Path, plan: CorpusPlan, clips: list[ClipPlan], workers: int) -> Iterator[int]:
    """Draws clips; yields the number of clips finished since the last yield."""
    light = replace(plan, clips={})  # workers get their clips in batches, so the plan they receive needs none
    if workers == 0 or len(clips) <= FEW:
        for clip in clips:
            yield _draw(folder, light, [clip])
        return
    # Spawned, not forked: a forked process could inherit locks held by other threads.
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_ignore_interrupt)
    try:
        batches = [clips[start : start + BATCH] for start in range(0, len(clips), BATCH)]
        for done in as_completed([pool.submit(_draw, folder, light, batch) for batch in batches]):
            yield done.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _bar(what: str, clips: list[ClipPlan], missing: list[ClipPlan], shown: bool) -> AbstractContextManager[Bar]:
    return track(what, total=len(clips), done=len(clips) - len(missing), show=shown and bool(missing))


def _point_all(folder: Path, plan: CorpusPlan, progress: bool) -> None:
    """Writes key points for every clip that has none yet."""
    for split in plan.clips:
        clear_unfinished(folder / POSES / split)
    clips = [clip for split in plan.clips.values() for clip in split]
    missing = [clip for clip in clips if not _pose_file(folder, clip).exists()]
    with _bar("placing key points", clips, missing, progress) as bar:
        for clip in missing:
            with atomic_write(_pose_file(folder, clip)) as temporary, temporary.open("wb") as file:
                np.save(file, point_clip(plan, clip))
            bar.advance(1)


def _pose_file(folder: Path, clip: ClipPlan) -> Path:
    return folder / POSES / clip.split / f"{clip.name}.npy"


def _draw(folder: Path, plan: CorpusPlan, clips: list[ClipPlan]) -> int:
    for clip in clips:
        frames = draw_clip(plan, clip)
        write_video(folder / clip.path, frames, FPS, crf=plan.settings.crf, preset="veryfast")
    return len(clips)


def _ignore_interrupt() -> None:
    """Ignores Ctrl-C, which reaches every process of a terminal; the main process stops after the current clips."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _description(plan: CorpusPlan, tables: dict[str, bytes]) -> bytes:
    settings = plan.settings
    return _json(
        {
            "format": FORMAT,
            "version": VERSION,
            "settings": settings.as_dict(),
            "fps": FPS,
            "clips": settings.counts,
            "signers": [signer.name for signer in plan.signers[: settings.signers]],
            "unseen_signers": [signer.name for signer in plan.signers[settings.signers :]],
            "sha256": {f"{split}.tsv": hashlib.sha256(content).hexdigest() for split, content in tables.items()},
        }
    )


def _lexicon(lexicon: list[Sign]) -> bytes:
    rows = []
    for sign in lexicon:
        row: dict[str, object] = {"gloss": sign.gloss, "class": sign.entry.word_class}
        row["words"] = [form.base for form in sign.entry.forms]
        row |= {name: getattr(sign, name) for name in PARAMETERS}
        row |= {"repeats": sign.repeats, "twin": sign.twin, "contrast": sign.contrast}
        rows.append(row)
    return _json(rows)


def _json(content: object) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def _write(path: Path, content: bytes) -> None:
    """Writes a file unless it already has this content."""
    if not path.exists() or path.read_bytes() != content:
        write_bytes(path, content)
