"""Checks and reads uploads: their size, their kind by content, and limits on time and memory.

The kind of a file is detected from its first bytes, never from its name. A video is measured by counting its packets
before it is decoded, so that a small file cannot expand to hours of frames.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from signcl.data.batch import Sample, Segment
from signcl.data.bounds import bounded, check_bounds
from signcl.data.features import look_at_features
from signcl.data.json_files import parse_json
from signcl.data.loading import load_raw
from signcl.data.pose_estimation import BROWSER_EXTRACTOR, Extractor, check_extractor
from signcl.data.pose_files import is_pose_head
from signcl.data.sections import InputRecipe
from signcl.data.segments import read_clip
from signcl.data.video import Frames, clip_rate, frames_at, probe
from signcl.data.video.tracks import open_video, video_track
from signcl.inference.clips import unlike_training
from signcl.inference.estimated_poses import PoseReader, browser_rows
from signcl.inference.translation import input_for, key_point_rate_note
from signcl.training.runs import Run

__all__ = ["Limits", "Part", "Refused", "kind_of", "read_part_of_upload", "read_upload"]

Part = tuple[float, float | None]
"""Start and stop of a part of a clip, in seconds; a stop of None is the end of the clip."""

MEGABYTE = 1_000_000
HUNDREDTHS = 100.0  # per second
USUAL, FASTEST = 25.0, 60.0
"""Frames per second: assumed for a clip that does not record its rate, and the highest rate that is kept."""
FEATURES = "features or key points (.npy, .npz, .pose)"
KINDS = ("mp4", "mov", "webm", "mkv", "avi", "gif")


@dataclass(frozen=True)
class Limits:
    """Limits of an upload."""

    megabytes: float = bounded(64.0, above=0, high=1e6)
    """Largest file."""
    frames: int = bounded(3000, low=1, high=10**7)
    """Most frames; the default is two minutes at 25 frames per second."""
    side: int = bounded(4096, low=1, high=65_536)
    """Most pixels of the longer side."""
    unfolded_megabytes: float = bounded(2000.0, above=0, high=1e7)
    """Most memory of all decoded frames."""
    seconds: float = bounded(60.0, above=0, high=1e6)
    """Longest time to decode and translate one clip."""
    memory_megabytes: float = bounded(4000.0, above=0, high=1e7)
    """Most memory for one clip, besides the model's."""
    upload_seconds: float = bounded(120.0, above=0, high=1e6)
    """Longest time for a complete request to arrive."""
    silence_seconds: float = bounded(15.0, above=0, high=1e6)
    """Longest pause between two pieces of a request."""
    waiting: int = bounded(16, low=1, high=100_000)
    """Most clips in the queue."""
    receiving: int = bounded(32, low=1, high=100_000)
    """Most clips that arrive at the same time."""
    kept_megabytes: float = bounded(5000.0, above=0, high=1e9)
    """Most that the folder of kept clips may hold."""

    def __post_init__(self) -> None:
        check_bounds(self, "limit of an upload: ")

    @property
    def size(self) -> int:
        """Largest file in bytes."""
        return int(self.megabytes * MEGABYTE)


class Refused(ValueError):
    """An upload is refused with the HTTP status `status`."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def kind_of(head: bytes) -> str | None:
    """The kind of a file from its first 16 bytes: video, npy, npz or pose; None for anything else."""
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return "video"
    if head.startswith((b"\x1a\x45\xdf\xa3", b"GIF87a", b"GIF89a")) or (head[:4] == b"RIFF" and head[8:12] == b"AVI "):
        return "video"
    if head.startswith(b"\x93NUMPY"):
        return "npy"
    if is_pose_head(head):
        return "pose"
    return "npz" if head.startswith(b"PK\x03\x04") else None


def read_upload(
    path: Path,
    run: Run,
    limits: Limits,
    note: Callable[[str], None],
    poses: PoseReader | None = None,
    part: Part | None = None,
    extractor: str | None = None,
) -> np.ndarray:
    """Read the frames or features of an uploaded file.

    Args:
        path: the file; its name is ignored.
        run: defines how clips are read, at which rate, and whether it reads features.
        limits: limits of uploads.
        note: called with one line if a clip was resampled, or read although it is damaged.
        poses: for a key-point run: computes key points from videos.
        part: for a video: the only part to read.
        extractor: for key points: how the sender says they were made, the JSON of a pose.json.

    Raises:
        Refused: with the HTTP status and one line for the user.
    """
    recipe, wants_features = run.recipe.input, run.feature_dim is not None
    with path.open("rb") as file:
        kind = kind_of(file.read(16))
    if kind is None:
        needs = f"a file of {FEATURES}" if wants_features else f"a video ({', '.join(KINDS)})"
        needs += f" or a video ({', '.join(KINDS)})" if poses is not None else ""
        raise Refused(415, f"this is not a clip: needs {needs}, detected by content, not by name")
    if (kind == "video") == wants_features and not (kind == "video" and poses is not None):
        needs = FEATURES if wants_features else f"video ({', '.join(KINDS)})"
        holds = {"video": "video", "pose": "key points"}.get(kind, "arrays")
        raise Refused(415, f"the model was trained on {needs}, this file holds {holds}")
    try:
        if kind == "video":
            _measure(path, recipe, limits)
            recipe, said = input_for(run, path)
            if recipe.fps is not None:
                _measure_at(path, recipe.fps, limits)
            if said:
                note(said.removeprefix(f"{path.name}: "))
            sample = Sample("clip", "", clip=path, segment=_segment(path, part))
            if poses is not None:
                return poses.rows(sample, recipe, lambda what: note(_without_path(what, path)))
            return load_raw(sample, recipe, lambda what: note(_without_path(what, path)))
        if part is not None:
            raise Refused(422, "start and stop are for videos; cut the features or key points before you send them")
        made_by = None if extractor is None else _extractor(extractor)
        if kind == "npz":
            _unpacked(path, limits)
        named = path.with_suffix(f".{kind}")  # the reader goes by the ending
        path.rename(named)
        try:
            return _features(named, run, limits, note, made_by)
        finally:
            named.rename(path)
    except Refused:
        raise
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise Refused(422, _without_path(str(error), path)) from None


def _features(
    path: Path, run: Run, limits: Limits, note: Callable[[str], None], made_by: Extractor | None
) -> np.ndarray:
    """Rows of a file of features or key points, after the checks of `translate`: extractor, layout, rate, signer."""
    if made_by is not None and made_by.estimator == BROWSER_EXTRACTOR.estimator:
        return _browser_rows(path, run, limits, note, made_by)
    check_extractor(run.poses, made_by, str(path))
    rows = load_raw(Sample("clip", "", features=path), run.recipe.input)
    _check_size(run, rows)
    points = look_at_features(path, None, run.recipe.input.pose)[1]
    if points is not None:
        if len(rows) > limits.frames:
            raise Refused(413, f"the clip has {len(rows)} frames, the limit is {limits.frames}")
        for line in filter(None, (key_point_rate_note(run, path), *points.notes)):
            note(_without_path(line, path))
    return rows


def _browser_rows(path: Path, run: Run, limits: Limits, note: Callable[[str], None], made_by: Extractor) -> np.ndarray:
    """Rows of what our page found in the browser, see `browser_rows`."""
    other = made_by.differs(BROWSER_EXTRACTOR)
    if other:
        raise Refused(422, f"key points of another page than this server's ({other}); load the page again")
    if run.poses is None:
        raise Refused(422, "the run was not trained on key points of `signcl pose`; send what it was trained on")
    rows = browser_rows(path, run.poses, run.recipe.input, lambda line: note(_without_path(line, path)))
    if len(rows) > limits.frames:
        raise Refused(413, f"the clip has {len(rows)} frames, the limit is {limits.frames}")
    if line := key_point_rate_note(run, path):
        note(line)
    _check_size(run, rows)
    return rows


def _check_size(run: Run, rows: np.ndarray) -> None:
    """Refuse features of another size, or key points of another layout, than those of the training."""
    if wrong := unlike_training(run.feature_dim, rows):
        raise Refused(422, wrong)


def _extractor(said: str) -> Extractor:
    """What key points were made with, as a pose.json says it: the whole of it, or its `extractor` alone."""
    try:
        content = parse_json(said)
        inner = content.get("extractor", content) if isinstance(content, dict) else content
        return Extractor.read(inner, "extractor")
    except ValueError:
        raise Refused(
            422,
            "extractor: needs the text of a pose.json of `signcl pose`, with estimator, version, settings and fill; "
            "leave the field out where it is not known",
        ) from None


def read_part_of_upload(path: Path, limits: Limits, part: Part | None) -> tuple[Frames, float]:
    """Read an uploaded video to be kept, in its own size: its frames [T, H, W, 3] and their rate in frames per second.

    A camera's frames come at uneven times. They are resampled to the clip's mean rate, at most `FASTEST`.

    Raises:
        Refused: with the HTTP status and one line for the user.
    """
    with path.open("rb") as file:
        if kind_of(file.read(16)) != "video":
            raise Refused(415, f"only videos are kept ({', '.join(KINDS)}), detected by content, not by name")
    whole = InputRecipe()
    try:
        _measure(path, whole, limits)
        rate = min(FASTEST, clip_rate(path) or USUAL)
        _measure_at(path, rate, limits)
        return read_clip(Sample("clip", "", clip=path, segment=_segment(path, part)), fps=rate), rate
    except Refused:
        raise
    except (ValueError, OSError) as error:
        raise Refused(422, _without_path(str(error), path)) from None


def _segment(path: Path, part: Part | None) -> Segment | None:
    """A part of a video as a `Segment`; a stop after the end means the end, since players round up."""
    if part is None:
        return None
    start, stop = part
    rows = frames_at(path, HUNDREDTHS)
    if rows is None:
        raise Refused(422, "only videos with time stamps can be cut; send the complete clip")
    end = len(rows) / HUNDREDTHS
    if start >= end:
        raise Refused(422, f"the clip ends at {end:.2f} s, and start is {start:g}")
    return Segment(start, end if stop is None else min(stop, end), row="start and stop")


def _measure(path: Path, recipe: InputRecipe, limits: Limits) -> None:
    """Refuse a video that would be too long or too large after decoding."""
    import av

    info = probe(path)
    if max(info.height, info.width) > limits.side:
        raise Refused(413, f"the clip is {info.width} x {info.height} pixels; the limit is {limits.side} per side")
    count = 0
    with open_video(path) as container:
        try:
            for packet in container.demux(video_track(container, path)):
                count += packet.size > 0
                if count > limits.frames:
                    raise Refused(413, f"the clip has more than {limits.frames} frames; cut it to one sentence")
        except av.error.FFmpegError:
            pass  # decoding reports what is wrong
    pixels = recipe.size**2 if recipe.size else info.height * info.width
    if 3 * pixels * count > limits.unfolded_megabytes * MEGABYTE:
        raise Refused(
            413, f"the clip expands to {3 * pixels * count / MEGABYTE:.0f} MB of frames; make it smaller or shorter"
        )


def _measure_at(path: Path, fps: float, limits: Limits) -> None:
    """Refuse a video that becomes too long at the model's rate: time stamps can stretch a few frames over hours."""
    rows = frames_at(path, fps)
    if rows is not None and len(rows) > limits.frames:
        raise Refused(413, f"the clip has {len(rows)} frames at {fps:g} per second; the limit is {limits.frames}")


def _unpacked(path: Path, limits: Limits) -> None:
    with zipfile.ZipFile(path) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > limits.unfolded_megabytes * MEGABYTE:
        raise Refused(413, f"the file unpacks to {size / MEGABYTE:.0f} MB; cut it to one sentence")


def _without_path(message: str, path: Path) -> str:
    """A reader's message without the path of the upload, which means nothing to the sender."""
    for place in (*(str(path.with_suffix(ending)) for ending in (".npy", ".npz", ".pose")), str(path)):
        message = message.replace(f"{place}: ", "").replace(place, "the file")
    return message.replace("; copy it again or take it out of the corpus", "; send it again")
