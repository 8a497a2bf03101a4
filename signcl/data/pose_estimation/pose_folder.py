"""A folder of .pose files: made from many clips by several processes, gone on with where it was stopped, and measured.

    DIR/pose.json      which extractor made the files, and at which rate
    DIR/clips.jsonl    a line for each clip that is done: frames, size, what was not found, what was filled
    DIR/NAME.pose      the key points
    DIR/look/NAME.png  skeletons over frames, for those who want to see them

A file is written beside its place and moved there, and its line is written after it, so that a clip with a line is
whole and one without is made again.
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
    """What is in a folder of key points, and what could not be put there."""

    folder: str
    extractor: dict[str, Any]
    clips: list[dict[str, Any]]
    """A line of clips.jsonl for each clip that was asked for and has key points."""
    broken: dict[str, str]
    """Clips without key points, with the reason."""
    made: int
    """Clips that were done now; the others were there."""
    seconds: float = 0.0
    said: list[str] = field(default_factory=list)
    """The report for people: what was not found, over all clips."""

    def __str__(self) -> str:
        frames = sum(clip["frames"] for clip in self.clips)
        head = f"{self.folder}: {len(self.clips)} clips, {frames} frames, {self.made} made now in {self.seconds:.0f} s"
        return "\n".join([head, *self.said])


def clips_in(paths: Sequence[str | Path]) -> list[Sample]:
    """The clips at some places, by name.

    A video file is a clip of its stem; so is a folder of images. Any other folder is looked through, and its clips have
    their path below it, without ending.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: no clip there, or two of one name.
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
            raise ValueError(f"two clips are called {sample.name}: {other.clip} and {sample.clip}; extract them apart")
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
    """What made the key points in a folder (or in one above it, up to two); None where that is not known.

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
    """Put the key points of clips into a folder, or go on with one that was stopped.

    Args:
        samples: clips by name; a name may hold folders.
        folder: where the files go.
        start: starts a process that estimates.
        workers: processes at once, each with one clip.
        fill: gaps of at most so many frames are filled.
        fps: rate that videos are brought to; None takes every frame.
        damaged: as of `read_frames`.

    Raises:
        ValueError: the folder holds key points of another extractor or rate, another process writes it, or no process
            can be started.
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
    """`one` of each sample, by several processes: (sample, result or what went wrong), in order of finishing."""
    idle: queue.Queue[PoseProcess | None] = queue.Queue()
    idle.put(first)
    for _ in range(min(workers, len(samples)) - 1):
        idle.put(None)  # started by the thread that takes it
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
    except BaseException:  # Ctrl-C above all: nobody waits for the clips under way
        for process in (first, *made):
            process.kill()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for process in made:
            process.close()


def _claim(folder: Path, extractor: Extractor, fps: float | None) -> None:
    """Say whose key points the folder holds, or refuse one of others; clear what a killed process left."""
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
    """What is known of finished clips; a last line that a kill cut short is taken out of the file."""
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
                f"{path}:{number}: is no line that `signcl pose` writes; take it out, and its clip is made again"
            ) from None
    if len(whole) < len(text):
        write_text(path, whole)
    return found


def _file(folder: Path, name: str) -> Path:
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ValueError(f"the clip name {name!r} leaves the folder {folder}; give it another name")
    return folder / f"{name}.pose"


def _stamp(sample: Sample) -> Any:
    """What changes when a clip is another one: its bytes, or the number of its images; and its segment."""
    assert sample.clip is not None
    try:
        size = len(os.listdir(sample.clip)) if sample.clip.is_dir() else sample.clip.stat().st_size
    except OSError:
        size = None  # a member of a shard, or missing: reading says what is wrong
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
    """Pictures of the first clips that have key points: skeletons over frames, DIR/look/NAME.png.

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
