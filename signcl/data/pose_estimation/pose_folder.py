"""Extracts key points of many clips into a folder of .pose files, with several processes; resumable.

    DIR/pose.json      extractor and frame rate of the files
    DIR/clips.jsonl    one line per finished clip: frames, size, missing parts, filled gaps
    DIR/NAME.pose      the key points
    DIR/look/NAME.png  skeletons drawn over frames, if requested

A .pose file is written under a temporary name and then renamed, and its line is written last. So a clip with a line is
complete, and a clip without one is extracted again.
"""

from __future__ import annotations

import json
import os
import queue
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from signcl.data.batch import Sample
from signcl.data.files import clear_unfinished, write_json, write_text
from signcl.data.folder_lock import only_writer
from signcl.data.json_files import parse_json, read_json
from signcl.data.pose_estimation.pose_estimator import Extractor, PoseProcess
from signcl.data.pose_estimation.pose_of_clip import FILL, estimate, rate_of, write_pose
from signcl.data.pose_estimation.pose_pictures import draw_clip
from signcl.data.pose_quality import PoseQuality, describe_poses
from signcl.data.progress import say, track
from signcl.data.video import IMAGE_SUFFIXES, VIDEO_SUFFIXES, Damaged

__all__ = ["PoseReport", "clips_in", "extract_poses", "folder_extractor", "look_at_poses"]

EXTRACTOR, CLIPS, LOOK = "pose.json", "clips.jsonl", "look"
NOBODY = "no person"


@dataclass(frozen=True)
class PoseReport:
    """Result of `extract_poses`: the clips with key points, and those without."""

    folder: str
    extractor: dict[str, Any]
    clips: list[dict[str, Any]]
    """The line of clips.jsonl for each requested clip that has key points."""
    broken: dict[str, str]
    """Clip without key points -> reason."""
    made: int
    """Clips extracted in this call; the others existed."""
    seconds: float = 0.0
    said: list[str] = field(default_factory=list)
    """Report lines for people: what is missing, over all clips."""

    def __str__(self) -> str:
        frames = sum(clip["frames"] for clip in self.clips)
        head = f"{self.folder}: {len(self.clips)} clips, {frames} frames, {self.made} made now in {self.seconds:.0f} s"
        return "\n".join([head, *self.said])


def clips_in(paths: Sequence[str | Path]) -> list[Sample]:
    """Finds clips in files and folders.

    A video file or a folder of images is one clip, named by its stem. Other folders are searched recursively; their
    clips are named by the path relative to the folder, without suffix.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError: a folder has no clip, or two clips have the same name.
    """
    found: list[Sample] = []
    for path in map(Path, paths):
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such clip or folder")
        if path.is_file():
            found.append(Sample(path.stem, "", clip=path))
            continue
        below = [Sample(path.name, "", clip=path)] if _has_images(path) else _below(path)
        if not below:
            raise ValueError(f"{path}: no video ({', '.join(VIDEO_SUFFIXES)}) and no folder of images in it")
        found += below
    by_name: dict[str, Sample] = {}
    for sample in found:
        other = by_name.setdefault(sample.name, sample)
        if other.clip != sample.clip:
            raise ValueError(
                f"two clips are called {sample.name}: {other.clip} and {sample.clip}; extract them into two folders"
            )
    return list(by_name.values())


def _has_images(folder: Path) -> bool:
    return any(item.suffix.lower() in IMAGE_SUFFIXES and item.name[0] != "." for item in folder.iterdir())


def _below(folder: Path) -> list[Sample]:
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name[0] != ".")
        here = Path(place)
        if here != folder and any(Path(name).suffix.lower() in IMAGE_SUFFIXES for name in files if name[0] != "."):
            found.append(Sample(here.relative_to(folder).as_posix(), "", clip=here))
            folders[:] = []
            continue
        for name in sorted(files):
            if Path(name).suffix.lower() in VIDEO_SUFFIXES and name[0] != ".":
                file = here / name
                found.append(Sample(file.relative_to(folder).with_suffix("").as_posix(), "", clip=file))
    return found


def folder_extractor(folder: Path) -> Extractor | None:
    """The extractor of the key points in a folder, by pose.json there or up to two levels above; None if unknown.

    Raises:
        ValueError: pose.json is damaged.
    """
    for place in (folder, *folder.parents[:2]):
        if (place / EXTRACTOR).is_file():
            return Extractor.read(_said(place)["extractor"], str(place / EXTRACTOR))
    return None


def _said(folder: Path) -> Any:
    shape = {"extractor": dict, "fps": float | int | None}
    return read_json(folder / EXTRACTOR, shape, "extract the key points again into another folder")


def extract_poses(
    samples: Sequence[Sample],
    folder: Path | str,
    start: Callable[[], PoseProcess],
    *,
    workers: int = 1,
    fill: int = FILL,
    fps: float | None = None,
    damaged: Damaged = "few",
    progress: bool = True,
) -> PoseReport:
    """Extracts key points of clips into a folder, or resumes an interrupted extraction.

    Args:
        samples: the clips; a name may include folders.
        folder: output folder.
        start: starts an estimation process.
        workers: number of processes; each handles one clip at a time.
        fill: gaps of at most this many frames are filled.
        fps: frame rate to which videos are resampled; None uses every frame.
        damaged: handling of damaged videos, as in `read_frames`.
        progress: show a progress bar on stderr.

    Returns:
        The clips with key points, and those without.

    Raises:
        ValueError: the folder has key points of another extractor or rate, another process is writing to it, or no
            process can be started.
    """
    began, folder = time.perf_counter(), Path(folder)
    with only_writer(folder, "extracts key points into"):
        first = start()
        try:
            extractor = replace(first.extractor, fill=fill)
            _claim(folder, extractor, fps)
            lines = _lines(folder)
            todo = [s for s in samples if not _done(lines.get(s.name), s, folder)]
            if len(todo) < len(samples):
                say(f"{len(samples) - len(todo)} of {len(samples)} clips are done already")
            broken = {}

            def one(process: PoseProcess, sample: Sample) -> dict[str, Any]:
                file = _file(folder, sample.name)
                line: dict[str, Any] = {"name": sample.name, "source": _stamp(sample)}
                try:
                    found = estimate(process, sample, fill=fill, fps=fps, damaged=damaged)
                except ValueError as error:
                    if "no person was found" in str(error):
                        return {**line, "frames": 0, "problem": NOBODY, "why": str(error)}
                    raise
                rate = rate_of(sample, fps)
                write_pose(file, found, rate)
                quality = {k: v for k, v in asdict(found.quality).items() if k not in ("name", "frames")}
                size = {"frames": len(found.points), "fps": rate, "height": found.height, "width": found.width}
                return {**line, **size, **quality, "filled": found.filled, "notes": list(found.notes)}

            with (
                (folder / CLIPS).open("a", encoding="utf-8") as record,
                track("estimating key points", total=len(samples), done=len(samples) - len(todo), show=progress) as bar,
            ):
                for sample, found in _all(todo, one, first, start, workers):
                    bar.advance()
                    if isinstance(found, Exception):
                        broken[sample.name] = str(found)
                        continue
                    record.write(json.dumps(found, ensure_ascii=False) + "\n")
                    record.flush()
                    lines[sample.name] = found
        finally:
            first.close()
    return _report(folder, extractor, samples, lines, broken, len(todo) - len(broken), time.perf_counter() - began)


def _all(
    samples: Sequence[Sample],
    one: Callable[[PoseProcess, Sample], dict[str, Any]],
    first: PoseProcess,
    start: Callable[[], PoseProcess],
    workers: int,
) -> Any:
    """Runs `one` on all samples with several processes; yields (sample, result or exception) in order of completion."""
    idle: queue.Queue[PoseProcess | None] = queue.Queue()
    idle.put(first)
    for _ in range(min(workers, len(samples)) - 1):
        idle.put(None)  # the thread that takes it starts a process
    made: list[PoseProcess] = []

    def work(sample: Sample) -> dict[str, Any]:
        process = idle.get()
        try:
            if process is None or not process.alive():
                process = start()
                made.append(process)
            return one(process, sample)
        finally:
            idle.put(process)

    pool = ThreadPoolExecutor(max_workers=max(1, workers))
    try:
        jobs: dict[Future[dict[str, Any]], Sample] = {pool.submit(work, sample): sample for sample in samples}
        for job in as_completed(jobs):
            try:
                yield jobs[job], job.result()
            except (ValueError, OSError) as error:
                yield jobs[job], error
    except BaseException:  # mainly Ctrl-C: do not wait for clips in progress
        for process in (first, *made):
            process.kill()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for process in made:
            process.close()


def _claim(folder: Path, extractor: Extractor, fps: float | None) -> None:
    """Writes pose.json, or checks that it has the same extractor and rate; deletes files left by a killed process."""
    if (folder / EXTRACTOR).is_file():
        said = _said(folder)
        other = Extractor.read(said["extractor"], str(folder / EXTRACTOR)).differs(extractor)
        other = other or ("" if said["fps"] == fps else f"--fps {said['fps']} against {fps}")
        if other:
            raise ValueError(f"{folder}: holds key points of another extractor ({other}); choose another folder")
    else:
        write_json(folder / EXTRACTOR, {"extractor": extractor.described(), "fps": fps})
    for place, folders, _ in os.walk(folder):
        folders[:] = [name for name in folders if name != LOOK]
        clear_unfinished(Path(place))


def _lines(folder: Path) -> dict[str, dict[str, Any]]:
    """The lines of clips.jsonl by clip. An incomplete last line (of a killed process) is removed from the file."""
    path = folder / CLIPS
    found: dict[str, dict[str, Any]] = {}
    if not path.is_file():
        return found
    text = path.read_text(encoding="utf-8", errors="replace")
    whole = text[: text.rfind("\n") + 1]
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            said = parse_json(line)
            found[said["name"]] = said
        except (ValueError, KeyError, TypeError):
            raise ValueError(
                f"{path}:{number}: not a line written by `signcl pose`; delete it and its clip is extracted again"
            ) from None
    if len(whole) < len(text):
        write_text(path, whole)
    return found


def _file(folder: Path, name: str) -> Path:
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ValueError(f"the clip name {name!r} leaves the folder {folder}; give it another name")
    return folder / f"{name}.pose"


def _stamp(sample: Sample) -> Any:
    """Identifies a clip by its size in bytes (or its number of images) and its segment, to notice a changed clip."""
    assert sample.clip is not None
    try:
        size = len(os.listdir(sample.clip)) if sample.clip.is_dir() else sample.clip.stat().st_size
    except OSError:
        size = None  # in a shard, or missing: then reading it raises an error
    return [size, str(sample.segment or "")]


def _done(line: dict[str, Any] | None, sample: Sample, folder: Path) -> bool:
    if line is None or line.get("source") != _stamp(sample):
        return False
    return line.get("problem") == NOBODY or _file(folder, sample.name).is_file()


def _report(
    folder: Path,
    extractor: Extractor,
    samples: Sequence[Sample],
    lines: dict[str, dict[str, Any]],
    broken: dict[str, str],
    made: int,
    seconds: float,
) -> PoseReport:
    asked = [lines[s.name] for s in samples if s.name in lines and s.name not in broken]
    broken |= {line["name"]: line["why"] for line in asked if line.get("problem") == NOBODY}
    clips = [line for line in asked if "problem" not in line]
    keys = ("name", "layout", "frames", "lacks", "small", "always_rated", "astray")
    qualities = [PoseQuality(**{key: line[key] for key in keys}) for line in clips]
    said = [line if level == "note" else f"{level}: {line}" for level, line in describe_poses(qualities)]
    frames = sum(line["frames"] for line in clips)
    if any(line["filled"] for line in clips):
        parts: dict[str, int] = {}
        for line in clips:
            for part, count in line["filled"].items():
                parts[part] = parts.get(part, 0) + count
        shares = ", ".join(f"{part.replace('_', ' ')} {count / frames:.1%}" for part, count in parts.items())
        said.append(f"filled in gaps of at most {extractor.fill} frames: {shares} of all frames")
    for line in clips:
        said += [f"{line['name']}: {note}" for note in line["notes"]]
    return PoseReport(str(folder), extractor.described(), clips, broken, made, round(seconds, 2), said)


def look_at_poses(samples: Sequence[Sample], folder: Path | str, most: int) -> list[Path]:
    """Draws skeletons over frames of the first clips that have key points, into DIR/look/NAME.png.

    Args:
        samples: the clips.
        folder: the folder of key points.
        most: number of pictures.

    Returns:
        The paths of the pictures.

    Raises:
        ValueError, OSError: a clip or its key points cannot be read.
    """
    folder = Path(folder)
    fps = _said(folder)["fps"]
    made: list[Path] = []
    for sample in samples:
        file = _file(folder, sample.name)
        if len(made) < most and file.is_file():
            made.append(draw_clip(sample, file, folder / LOOK / f"{sample.name}.png", fps))
    return made
