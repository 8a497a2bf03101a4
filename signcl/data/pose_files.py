"""Reads key point files of all common estimators as one array of all people in all frames.

Formats: .pose (pose-format), arrays of numpy and torch, the pickles of MSKA and Uni-Sign, JSON of MMPose (RTMPose) and
AlphaPose, folders of OpenPose. The format is recognised by keys and shapes; an unknown one is an error. Key points are
not normalised here, and no person is chosen: see `signcl.data.poses`.
"""

from __future__ import annotations

import re
import struct
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from signcl.data.array_files import load_arrays, parsed
from signcl.data.files import read_bytes
from signcl.data.json_files import read_json
from signcl.data.pickles import check_torch, load_pickle, read_npy
from signcl.data.pose_layouts import LAYOUTS, PoseLayout, known_orders, order_of
from signcl.data.whole_numbers import whole_number

__all__ = [
    "KEY_POINT_SUFFIXES",
    "RawPoints",
    "find_points",
    "is_key_points",
    "is_openpose_folder",
    "is_pose_head",
    "load_tensors",
    "pose_file_rate",
    "read_points",
]

KEY_POINT_SUFFIXES = (".pose", ".pkl", ".pickle", ".json", ".pt", ".pth")
"""Suffixes of files that may have the key points of one clip; .npy and .npz may also have features."""
POINT_KEYS = ("keypoints", "keypoint", "key_points")
SCORE_KEYS = ("scores", "keypoint_scores", "keypoints_scores", "keypoint_score", "score", "confidence")
MOST_PEOPLE = 50
OPENPOSE_PARTS = ("pose_keypoints_2d", "face_keypoints_2d", "hand_left_keypoints_2d", "hand_right_keypoints_2d")
FRAME_NUMBER = re.compile(r"(\d+)_keypoints\.json$")
NUMBERS = re.compile(r"\d+")
POSE_VERSIONS = (0.0, 0.1, 0.2)  # of pose-format


@dataclass(frozen=True)
class RawPoints:
    """Key points as in the file, before a layout is chosen."""

    where: str
    """The file, and the clip in it."""
    numbers: np.ndarray
    """x, y and further numbers of each point; NaN without a person. [T, P, K, 2 to 4] float32"""
    scores: np.ndarray | None = None
    """Confidence of each point, if stored separately from the numbers. [T, P, K] float32"""
    layout: PoseLayout | None = None
    """The layout, if the file names its points. None: chosen by K (`order_of`)."""
    columns: tuple[int, ...] = ()
    """With `layout`: indices of the layout's points among K."""

    def __len__(self) -> int:
        """T"""
        return len(self.numbers)

    def placed(self, name: str = "auto") -> tuple[PoseLayout, np.ndarray, np.ndarray]:
        """Returns the layout and the coordinates and confidences of its points.

        Without confidences, a point has confidence 1, or 0 if its numbers are NaN or x and y are both exactly 0.

        Args:
            name: name of the order of points, see `order_of`; ignored if the file names its points.

        Returns:
            The layout, coordinates [T, P, K, 2 or 3] and confidences [T, P, K], with K of the layout.

        Raises:
            ValueError: no known order of points, or more numbers per point than it allows.
        """
        if self.layout is not None:
            layout, columns, third = self.layout, self.columns, "depth"
        else:
            order = order_of(self.numbers.shape[2], name, self.where)
            layout, columns, third = order.layout, order.columns, order.third
        numbers = self.numbers[:, :, columns]
        scores = None if self.scores is None else self.scores[:, :, columns]
        dims = numbers.shape[3]
        if third == "confidence":
            if dims == 4:
                raise ValueError(
                    f"{self.where}: key points of {layout.name} have x, y and a confidence, got 4 numbers per point; "
                    f"remove the fourth"
                )
            if dims == 3:
                own = numbers[..., 2]
                if scores is not None and not np.allclose(own, scores, atol=1e-3, equal_nan=True):
                    raise ValueError(
                        f"{self.where}: has scores and also a third number per point that differs from them; "
                        f"write only x and y with the scores"
                    )
                numbers, scores = numbers[..., :2], own
        elif dims == 4:
            if scores is not None:
                raise ValueError(f"{self.where}: has scores twice, as fourth number and separately; remove one")
            numbers, scores = numbers[..., :3], numbers[..., 3]
        there = ~np.isnan(numbers).any(axis=3) & numbers[..., :2].any(axis=3)
        if scores is None:
            return layout, numbers, there.astype(np.float32)
        if self.layout is None and layout.name.startswith("mediapipe"):
            # MediaPipe rates only the body: found points of face and hands have visibility 0 in all frames.
            scores = scores.copy()
            for first, last in layout.ranges().values():
                if not scores[:, :, first:last].any():
                    scores[:, :, first:last] = there[:, :, first:last]
        return layout, numbers, scores


def is_openpose_folder(path: Path) -> bool:
    """Whether a folder has the frames of a clip as written by OpenPose."""
    return path.is_dir() and next(path.glob("*_keypoints.json"), None) is not None


def is_key_points(path: Path) -> bool:
    """Whether a file or folder can only contain key points or features, by its name."""
    return path.suffix.lower() in KEY_POINT_SUFFIXES or is_openpose_folder(path)


def is_pose_head(head: bytes) -> bool:
    """Whether a file begins as a .pose file does, by its first 16 bytes: a version, a size, named components."""
    if len(head) < 16:
        return False
    version, _, _, _, components, letters = struct.unpack("<f5H", head[:14])
    known = any(abs(version - one) < 1e-6 for one in POSE_VERSIONS)
    return known and 1 <= components <= 1000 and 2 <= letters <= 1000 and head[14:16].isalnum()


def read_points(path: Path) -> dict[str, RawPoints] | None:
    """Reads the key points in a file, by name of the clip (for a file of one clip, its stem). None if it has no key
    points.

    Raises:
        FileNotFoundError: nothing at `path`.
        ValueError: a broken file, a pickle or .pt with more than data, or key points that cannot be read.
    """
    if path.is_dir():
        return {path.name: _openpose(path)} if is_openpose_folder(path) else None
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; needs key points or features")
    suffix = path.suffix.lower()
    if suffix == ".pose":
        return {path.stem: _pose_format(path)}
    if suffix == ".json":
        return {path.stem: _from_json(path)}
    if suffix == ".npz":
        try:
            with load_arrays(path) as loaded:
                content: Any = {key: parsed(partial(loaded.__getitem__, key)) for key in loaded.files}
            if not any(key in content for key in POINT_KEYS) and all(array.ndim == 2 for array in content.values()):
                return None
        except Exception:  # broken in some way; the reader of features reports it
            return None
    elif suffix == ".npy":
        content = read_npy(path)
        if isinstance(content, np.ndarray) and content.ndim == 0 and content.dtype == object:
            content = content.item()
    elif suffix in (".pt", ".pth"):
        content = load_tensors(path)
    else:
        content = load_pickle(path)
    return find_points(content, path)


def find_points(content: Any, path: Path) -> dict[str, RawPoints] | None:
    """Finds key points in the content of a file: an array, a record of one clip or records of several. None if none.

    Raises:
        ValueError: key points that cannot be read.
    """
    if _shape(content) is not None:
        return {path.stem: _array(content, None, str(path))} if _looks_like_points(content) else None
    if isinstance(content, list | tuple) and all(isinstance(r, Mapping) and "name" in r for r in content):
        records = {str(record["name"]): record for record in content}
        if len(records) < len(content):
            return None  # the reader of features reports the duplicate name
    elif isinstance(content, Mapping):
        if _key(content, POINT_KEYS) is not None:
            return {path.stem: _record(content, str(path))}
        records = {str(name): record for name, record in content.items()}
    else:
        return None
    held = [r for r in records.values() if _holds_points(r)]
    if not held:
        return None
    if len(held) < len(records):
        lacking = next(name for name, record in records.items() if not _holds_points(record))
        raise ValueError(f"{path}: {lacking!r} has no key points, but {len(held)} other clips do; leave it out")
    found = {}
    for name, record in records.items():
        where = f"{path} ({name})"
        found[name] = _record(record, where) if isinstance(record, Mapping) else _array(record, None, where)
    return found


def load_tensors(path: Path) -> Any:
    """Loads a .pt file as data only: tensors and containers of tensors; never runs code.

    Raises:
        ValueError: the file has anything else, is broken, or has the weights of a model.
    """
    import torch

    advice = (
        "a .pt file needs a tensor of one clip, key points [T, K, 2 or 3] or features [T, D], or a dict of such "
        "tensors by name; write it with torch.save, or save the array with numpy.save"
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles not written by torch; the error below reports them
            with path.open("rb") as file:
                check_torch(file)
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling, zip, and end-of-file errors
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        kind = "holds more than tensors" if "weights_only" in str(error) or "Unsupported" in str(error) else "is broken"
        raise ValueError(f"{path}: a torch file that {kind} ({reason[:100]}); {advice}") from None
    if isinstance(content, Mapping) and _key(content, POINT_KEYS) is None:
        if any(
            not isinstance(v, Mapping) and (_shape(v) is None or len(_shape(v) or ()) < 2) for v in content.values()
        ):
            some = ", ".join(map(str, list(content)[:3]))
            raise ValueError(f"{path}: a torch file that looks like weights of a model (it has {some}); {advice}")
    elif isinstance(content, torch.Tensor) and content.ndim < 2:
        raise ValueError(f"{path}: a tensor {list(content.shape)}; {advice}")
    return content


# --- arrays ------------------------------------------------------------------------------------------------------


def _key(record: Mapping[Any, Any], keys: Sequence[str]) -> str | None:
    return next((key for key in keys if key in record), None)


def _shape(value: Any) -> tuple[int, ...] | None:
    """Shape of an array or tensor; None for anything else."""
    if isinstance(value, np.ndarray) or hasattr(value, "detach"):
        return tuple(value.shape)
    return None


def _looks_like_points(value: Any) -> bool:
    shape = _shape(value)
    return shape is not None and len(shape) in (3, 4) and 2 <= shape[-1] <= 4


def _holds_points(record: Any) -> bool:
    """Whether a record has key points, such as MSKA's `keypoint` [T, K, 3], but not features [T, D] with that name."""
    if not isinstance(record, Mapping):
        return _looks_like_points(record)
    key = _key(record, POINT_KEYS)
    if key is None:
        return False
    shape = _shape(record[key])
    return shape is None or len(shape) != 2


def _record(record: Mapping[Any, Any], where: str) -> RawPoints:
    """Key points of one clip with their scores: arrays, or lists with one array per frame.

    With `start` and `end`, as in pickles of Uni-Sign, the clip has only these frames of the file, `end` exclusive.
    """
    whole = _whole_record(record, where)
    if "start" not in record or "end" not in record:
        return whole
    start, end = (_frame_number(record[key], whole, f"{where}, {key}") for key in ("start", "end"))
    if start >= end:
        raise ValueError(f"{where}: starts at frame {start} and ends before frame {end}; write it again")
    scores = None if whole.scores is None else whole.scores[start:end]
    return replace(whole, numbers=whole.numbers[start:end], scores=scores)


def _frame_number(value: Any, whole: RawPoints, where: str) -> int:
    """A frame of a clip, or the one after its last."""
    number = value.item() if hasattr(value, "item") and _shape(value) in (None, (), (1,)) else value
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= len(whole):
        raise ValueError(
            f"{where}: needs a frame from 0 to {len(whole)}, got {str(value)[:40]}; leave out start and end if they "
            f"are not frames of the key points"
        )
    return number


def _whole_record(record: Mapping[Any, Any], where: str) -> RawPoints:
    """All frames of a record."""
    key, score_key = _key(record, POINT_KEYS), _key(record, SCORE_KEYS)
    assert key is not None
    points, scores = record[key], record[score_key] if score_key is not None else None
    if isinstance(points, list | tuple):
        if scores is not None and (_shape(scores) is None and not isinstance(scores, list | tuple)):
            raise ValueError(f"{where}: {score_key} needs an array or one per frame, got {type(scores).__name__}")
        if scores is not None and len(scores) != len(points):
            raise ValueError(f"{where}: {len(points)} frames of {key} and {len(scores)} of {score_key}; write it again")
        return _frames([(points[t], None if scores is None else scores[t]) for t in range(len(points))], where)
    if _shape(points) is None:
        raise ValueError(f"{where}: {key} needs an array [T, K, 2 or 3] or one per frame, got {type(points).__name__}")
    return _array(points, scores, where)


def _numbers(value: Any, where: str) -> np.ndarray:
    """Converts values to float32; raises a one-line error if that is impossible."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = (value.float() if value.is_floating_point() else value).numpy()
    try:
        array = np.asarray(value)
        if array.dtype.kind == "O":
            array = array.astype(np.float64)  # None becomes NaN; text and ragged rows raise an error
    except (ValueError, TypeError, OverflowError):
        raise ValueError(
            f"{where}: key points are ragged or not numbers; needs one row of 2 to 4 numbers per point"
        ) from None
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{where}: key points must be numbers, got {array.dtype}")
    with np.errstate(over="ignore"):  # a value too large for float32 becomes infinity, which is an error later
        return array.astype(np.float32)


def _array(points: Any, scores: Any, where: str) -> RawPoints:
    """Converts points [T, K, C], [1, T, K, C] or [T, P, K, C], and scores of these axes, to [T, P, K, C], [T, P, K]."""
    array = _numbers(points, where)
    shape = list(array.shape)
    if array.ndim not in (3, 4) or not 2 <= array.shape[-1] <= 4 or 0 in array.shape:
        raise ValueError(
            f"{where}: key points need axes [T, K, 2 to 4] (frames, points, numbers) or [T, P, K, 2 to 4] with people, "
            f"got {shape}; known layouts are {known_orders()}"
        )
    marks = None if scores is None else _numbers(scores, f"{where}, scores")
    if marks is not None and marks.ndim == array.ndim and marks.shape[-1] == 1:
        marks = marks[..., 0]
    if marks is not None and marks.shape != array.shape[:-1]:
        raise ValueError(f"{where}: scores need {shape[:-1]} like the key points, got {list(marks.shape)}")
    if array.ndim == 3:
        array, marks = array[:, None], None if marks is None else marks[:, None]
    elif shape[0] == 1 and shape[1] > 1:  # a batch of one clip
        array, marks = array[0][:, None], None if marks is None else marks[0][:, None]
    elif shape[1] > min(MOST_PEOPLE, shape[0]):
        raise ValueError(
            f"{where}: key points need axes [T, P, K, numbers] (frames, people, points), got {shape}, more people than "
            f"frames or than {MOST_PEOPLE}; put frames first, or write one file per clip"
        )
    return RawPoints(where, array, marks)


def _frames(frames: Sequence[tuple[Any, Any]], where: str) -> RawPoints:
    """Combines frames of (points [P, K, C] or [K, C], scores [P, K] or [K] or None) with varying numbers of people."""
    people: list[np.ndarray] = []
    marks: list[np.ndarray | None] = []
    size: tuple[int, ...] | None = None
    for t, (points, scores) in enumerate(frames):
        here = f"{where}, frame {t}"
        if not (points is None or isinstance(points, list | tuple) or _shape(points)):
            raise ValueError(f"{here}: needs key points [K, 2 or 3] or [P, K, 2 or 3], got {type(points).__name__}")
        if points is None or len(points) == 0:
            people.append(np.empty((0, 0, 0), np.float32))
            marks.append(None)
            continue
        array = _numbers(points, here)
        if array.ndim not in (2, 3) or not 2 <= array.shape[-1] <= 4:
            raise ValueError(f"{here}: needs key points [K, 2 or 3] or [P, K, 2 or 3], got {list(array.shape)}")
        array = array[None] if array.ndim == 2 else array
        if len(array) > MOST_PEOPLE:
            raise ValueError(f"{here}: {len(array)} people; at most {MOST_PEOPLE} are read, so axes may be mixed up")
        if size is not None and len(array) and array.shape[1:] != size:
            raise ValueError(f"{here}: key points {list(array.shape[1:])}, but earlier frames have {list(size)}")
        size = array.shape[1:] if len(array) else size
        mark = None if scores is None else _numbers(scores, f"{here}, scores")
        if mark is not None:
            mark = mark[..., 0] if mark.ndim == 3 and mark.shape[-1] == 1 else mark
            mark = mark[None] if mark.ndim == 1 else mark
            if mark.shape != array.shape[:2]:
                raise ValueError(f"{here}: scores need {list(array.shape[:2])}, got {list(mark.shape)}")
        people.append(array)
        marks.append(mark)
    if size is None:
        raise ValueError(f"{where}: no frame has a person")
    scored = [mark is not None for array, mark in zip(people, marks) if len(array)]
    if any(scored) and not all(scored):
        raise ValueError(f"{where}: some frames have scores and others do not; write it again with all or none")
    most = max(map(len, people))
    numbers = np.full((len(people), most, *size), np.nan, np.float32)
    scores_of_all = np.zeros(numbers.shape[:3], np.float32) if any(scored) else None
    for t, (array, mark) in enumerate(zip(people, marks)):
        if len(array):
            numbers[t, : len(array)] = array
            if scores_of_all is not None and mark is not None:
                scores_of_all[t, : len(array)] = mark
    return RawPoints(where, numbers, scores_of_all)


# --- JSON --------------------------------------------------------------------------------------------------------


def _json(path: Path) -> Any:
    return read_json(path, Any, "write it again")


def _from_json(path: Path) -> RawPoints:
    """Reads JSON of MMPose (`instance_info` or frames with `instances`), AlphaPose (`image_id`) or a record."""
    content = _json(path)
    if isinstance(content, Mapping) and "instance_info" in content:
        content = content["instance_info"]
    if isinstance(content, Mapping) and _key(content, POINT_KEYS) is not None:
        return _record(content, str(path))
    if isinstance(content, Mapping) and "people" in content:
        raise ValueError(f"{path}: one frame of OpenPose; give the folder of the clip's *_keypoints.json files")
    if isinstance(content, list) and content and all(isinstance(entry, Mapping) for entry in content):
        if all("instances" in entry for entry in content):
            return _mmpose(content, path)
        if all("image_id" in entry and _key(entry, POINT_KEYS) for entry in content):
            return _alphapose(content, path)
    kind = f"keys {', '.join(map(str, list(content)[:5]))}" if isinstance(content, Mapping) else type(content).__name__
    raise ValueError(
        f"{path}: needs key points as JSON of MMPose (instance_info, or frames with instances), AlphaPose (entries "
        f"with image_id and keypoints), or a record with keypoints and scores, got {kind}"
    )


def _mmpose(entries: Sequence[Mapping[str, Any]], path: Path) -> RawPoints:
    numbers = [entry.get("frame_id", t) for t, entry in enumerate(entries)]
    if not all(isinstance(number, int) for number in numbers):
        raise ValueError(f"{path}: frame_id needs whole numbers")
    _in_a_row(numbers, str(path))
    frames = []
    for t, entry in enumerate(entries):
        people = entry["instances"]
        if not isinstance(people, list) or not all(isinstance(p, Mapping) and _key(p, POINT_KEYS) for p in people):
            raise ValueError(f"{path}, frame {t}: instances need a list of entries with keypoints")
        frames.append(_people(people, f"{path}, frame {t}"))
    return _frames(frames, str(path))


def _people(people: Sequence[Mapping[str, Any]], where: str) -> tuple[Any, Any]:
    """Points and scores of the people in one frame."""
    points = [_numbers(person[_key(person, POINT_KEYS) or ""], where) for person in people]
    keys = [_key(person, SCORE_KEYS[:-2]) for person in people]  # AlphaPose's `score` is for the person as a whole
    if len({array.shape for array in points}) > 1:
        raise ValueError(
            f"{where}: people have different numbers of key points, {sorted({a.shape[0] for a in points})}"
        )
    if not any(keys):
        return points, None
    if not all(keys):
        raise ValueError(f"{where}: some people have scores and others do not; write it again")
    return points, [_numbers(person[key], f"{where}, scores") for person, key in zip(people, keys) if key]


def _alphapose(entries: Sequence[Mapping[str, Any]], path: Path) -> RawPoints:
    """Reads entries of one person each; the last number in `image_id` is the frame. Frames between have no person."""
    frames: dict[int, list[Mapping[str, Any]]] = {}
    for entry in entries:
        found = NUMBERS.findall(str(entry["image_id"]))
        number = whole_number(found[-1]) if found else None
        if number is None:
            raise ValueError(f"{path}: image_id {entry['image_id']!r} has no number of a frame")
        flat = _numbers(entry[_key(entry, POINT_KEYS) or ""], f"{path}, image_id {entry['image_id']}")
        if flat.ndim == 1 and len(flat) % 3:
            raise ValueError(
                f"{path}, image_id {entry['image_id']}: {len(flat)} numbers are not points of x, y, confidence"
            )
        frames.setdefault(number, []).append({"keypoints": flat.reshape(-1, 3) if flat.ndim == 1 else flat})
    first, last = min(frames), max(frames)  # frames without a person have no entry
    if last - first > 10 * len(frames) + 1000:
        raise ValueError(
            f"{path}: image_id runs from {first} to {last} with {len(frames)} frames of people; number frames from 0"
        )
    rows = [_people(frames.get(n, []), f"{path}, frame {n}") for n in range(first, last + 1)]
    return _frames(rows, str(path))


def _in_a_row(numbers: Sequence[int], where: str) -> None:
    """Raises an error if frames are missing or out of order."""
    for before, after in pairwise(numbers):
        if after != before + 1:
            raise ValueError(
                f"{where}: frame {before} is followed by frame {after}; frames without a person need an empty entry "
                f"to keep the timing"
            )


def _openpose(folder: Path) -> RawPoints:
    """Reads a folder of NAME_000000000012_keypoints.json, one per frame; concatenates the parts of each person."""
    numbered = []
    for file in folder.glob("*_keypoints.json"):
        if file.name.startswith("."):  # metadata files of macOS
            continue
        number = FRAME_NUMBER.search(file.name)
        if number is None:
            raise ValueError(f"{file}: needs a name such as clip_000000000012_keypoints.json, with the frame's number")
        numbered.append((int(number[1]), file))
    numbered.sort()
    if not numbered:
        raise ValueError(f"{folder}: contains no *_keypoints.json")
    _in_a_row([number for number, _ in numbered], str(folder))
    frames, sizes = [], None
    for _, file in numbered:
        content = _json(file)
        people = content.get("people") if isinstance(content, Mapping) else None
        if not isinstance(people, list) or not all(isinstance(person, Mapping) for person in people):
            raise ValueError(f"{file}: needs a list of people, as written by OpenPose")
        rows = []
        for person in people:
            parts = {part: _numbers(person.get(part, []), f"{file}, {part}") for part in OPENPOSE_PARTS}
            own = {part: values.size for part, values in parts.items()}
            if any(values.ndim != 1 or values.size % 3 for values in parts.values()):
                raise ValueError(f"{file}: each part needs numbers x, y, confidence in a row, got {own}")
            empty = [part for part, count in own.items() if not count]
            if empty:
                raise ValueError(f"{file}: has no {', '.join(empty)}; run OpenPose with --face and --hand")
            if sizes is not None and own != sizes:
                raise ValueError(f"{file}: has parts of {own} numbers, but earlier frames {sizes}")
            sizes = own
            rows.append(np.concatenate([values.reshape(-1, 3) for values in parts.values()]))
        frames.append((rows, None))
    return _frames(frames, str(folder))


# --- .pose -------------------------------------------------------------------------------------------------------


def _pose_format(path: Path) -> RawPoints:
    """Reads a pose-format file; its points are identified by their names."""
    pose = _opened(path)
    layout, columns = _named_points(pose.header.components, path)
    data, seen = pose.body.data, np.asarray(pose.body.confidence, dtype=np.float32)  # [T, people, points, ...]
    if data.shape[0] == 0 or data.shape[1] == 0:
        raise ValueError(f"{path}: has no frame with a person")
    numbers = np.asarray(np.ma.getdata(data), dtype=np.float32)[..., :3]
    return RawPoints(str(path), numbers, seen, layout, columns)


def pose_file_rate(path: Path) -> float | None:
    """Frames per second of a .pose file; None for other files and files without a rate.

    Raises:
        ValueError: not a readable .pose file.
    """
    if path.suffix.lower() != ".pose":
        return None
    return float(_opened(path).body.fps) or None


def _opened(path: Path) -> Any:
    """Opens a file with pose-format; raises a one-line error if that fails."""
    try:
        from pose_format import Pose
    except ImportError:
        raise ValueError(
            f"{path}: reading .pose files needs the package pose-format; install it with pip install 'signcl[pose]'"
        ) from None
    content = read_bytes(path)
    try:
        return Pose.read(content)
    except Exception as error:  # struct, value, memory and index errors all mean a broken file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: not a readable .pose file ({reason}); copy or convert it again") from None


def _named_points(components: Any, path: Path) -> tuple[PoseLayout, tuple[int, ...]]:
    """The layout that has exactly the parts of a file, and the indices of its points."""
    starts, start = {}, 0
    for component in components:
        starts[component.name] = (start, component)
        start += len(component.points)
    layouts = [layout for layout in LAYOUTS.values() if layout.parts[0].component]  # the others exist in arrays only
    parts_of_all = {part.component for layout in layouts for part in layout.parts}
    here = {name for name in starts if name in parts_of_all}
    fitting = [layout for layout in layouts if {part.component for part in layout.parts} == here]
    wrong = ""
    for layout in fitting:
        columns: list[int] = []
        for part in layout.parts:
            first, component = starts[part.component]
            points = {name: first + n for n, name in enumerate(component.points)}
            names = part.points or tuple(points)[: part.count]
            missing = [name for name in names if name not in points]
            if missing or len(names) < part.count:
                some = f", missing {', '.join(missing[:3])}" if points else ""
                wrong = f"needs {part.count} points of {part.component}, found {len(points)}{some}"
                break
            columns += [points[name] for name in names]
        else:
            return layout, tuple(columns)
    if wrong:
        raise ValueError(f"{path}: {wrong}; write the file with face and both hands")
    known = ", or ".join(sorted({" + ".join(part.component for part in layout.parts) for layout in layouts}))
    raise ValueError(f"{path}: needs key points with {known}, found {', '.join(starts) or 'none'}")
