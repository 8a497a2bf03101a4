"""Packs a corpus at the frame size of training (`signcl corpus pack`); `signcl.data.video.shards` reads packs.

    DIR/pack.json                        what was packed and how; "finished" if the pack is complete
    DIR/SPLIT.tsv                        the table of the split, in the format of the corpus `folder`
    DIR/SPLIT-00000.tar                  clips, in webdataset's layout
    DIR/SPLIT-00000.index.json           where each clip begins

Shards are written atomically, followed by their index, so an interrupted pack resumes after the last complete shard.
"""

from __future__ import annotations

import io
import json
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from signcl.data.batch import Sample
from signcl.data.bounds import bounded, check_bounds
from signcl.data.corpora import PACK, PACK_SHAPE, load_samples
from signcl.data.files import atomic_write, is_empty, write_json, write_text
from signcl.data.json_files import read_json
from signcl.data.progress import say, track
from signcl.data.segments import read_clip
from signcl.data.video import Frames, read_frames, video_bytes
from signcl.data.video.shards import check_shard, find_entry, index_path

__all__ = ["PackSettings", "pack_corpus"]

Form = Literal["mp4", "jpeg", "uint8"]
PRESET = "ultrafast"
"""x264 preset for packs: without CABAC and deblocking, it decodes more than twice as fast as `medium` at the same crf
(synthetic clips, benchmarks/loader.py); files of real footage may be larger."""
SUFFIXES: dict[str, str] = {"mp4": ".mp4", "jpeg": ".jpg", "uint8": ".rgb"}


@dataclass(frozen=True)
class PackSettings:
    """How clips are stored in a pack."""

    form: Form = "mp4"
    """mp4: h264, smallest; jpeg: one image per frame; uint8: as in memory, fastest and largest, height x width x 3
    bytes per frame."""
    size: int | None = bounded(256, low=1, high=8192)
    """Side of the square to which frames are resized, in pixels, as `input.size` of the recipe; None keeps the size of
    the file."""
    crf: int = bounded(18, low=0, high=51)
    """Compression of mp4, higher is smaller; 18 looks like the original."""
    quality: int = bounded(95, low=1, high=100)
    """JPEG quality."""
    shard_clips: int = bounded(200, low=1, high=1_000_000)
    """Clips per shard; at most this many are packed again after an interruption."""


def pack_corpus(
    root: Path | str,
    folder: Path | str,
    name: str = "folder",
    settings: PackSettings | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    splits: Sequence[str] = ("train", "dev", "test"),
    workers: int = 1,
    progress: bool = True,
) -> Path:
    """Writes the clips of a corpus as tar shards with their tables; repeat the call to resume after an interruption.

    To read the pack, keep `corpus.name` and set `corpus.root` to the folder.

    Args:
        root: the corpus folder.
        folder: created if missing; must be empty or contain the same pack, unfinished.
        name: a key of `CORPORA`.
        settings: how clips are stored; None uses the defaults.
        options: keyword arguments of that corpus's `samples`; they are part of the pack.
        splits: splits to pack.
        workers: decoding threads; the result does not depend on it.

    Returns:
        The folder.

    Raises:
        ValueError: another pack or other files in the folder, a corpus of features, a clip that cannot be read, or a
            sentence that cannot be stored in a table.
    """
    root, folder = Path(root), Path(folder)
    settings = settings or PackSettings()
    check_bounds(settings)
    if settings.form not in SUFFIXES:
        raise ValueError(f"the form of a pack must be mp4, jpeg or uint8, got {settings.form!r}")
    plan: dict[str, Any] = {
        "corpus": name,
        "options": dict(options or {}),
        "splits": list(splits),
        "settings": asdict(settings),
    }
    if _begun(folder, plan):
        say(f"{folder} is a finished pack of {name}; nothing was done")
        return folder
    every = {split: load_samples(name, root, split, **plan["options"]) for split in splits}
    _check_samples(every)
    write_json(folder / PACK, {"finished": False, **plan})
    total = sum(map(len, every.values()))
    with track("packing", total=total, show=progress) as bar, ThreadPoolExecutor(workers) as pool:
        for split, samples in every.items():
            rows: list[str] = ["name\tpath\ttext\tsigner\tgloss\tnum_frames\tspans\tlanguage"]
            for start in range(0, len(samples), settings.shard_clips):
                part = samples[start : start + settings.shard_clips]
                shard = folder / f"{split}-{start // settings.shard_clips:05}.tar"
                keys = [f"{start + i:08}{SUFFIXES[settings.form]}" for i in range(len(part))]
                if not _whole(shard, keys):
                    _write_shard(shard, keys, part, settings, pool)
                rows += [_row(sample, shard, key) for sample, key in zip(part, keys)]
                bar.advance(len(part))
            write_text(folder / f"{split}.tsv", "\n".join(rows) + "\n")
    write_json(folder / PACK, {"finished": True, **plan})
    _compare(every, folder, name, plan["options"])
    return folder


def _begun(folder: Path, plan: dict[str, Any]) -> bool:
    """Whether the folder contains this pack, finished.

    Raises:
        ValueError: it contains something else.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: needs to be a folder, but there is a file of that name; choose another with -o")
    path = folder / PACK
    if not path.is_file():
        if not is_empty(folder):
            raise ValueError(f"{folder}: is not empty and contains no pack; choose another folder with -o")
        return False
    old = read_json(path, PACK_SHAPE, f"delete {folder} and pack the corpus again")
    for key, value in plan.items():
        if old.get(key) != value:
            raise ValueError(
                f"{folder} contains another pack ({key}: {old.get(key)} there, {value} here); choose another -o"
            )
    return bool(old["finished"])


def _check_samples(every: dict[str, list[Sample]]) -> None:
    for split, samples in every.items():
        for sample in samples:
            if sample.clip is None:
                raise ValueError(f"split {split}: {sample.name} has features, not frames; only clips can be packed")
            cells = (sample.name, sample.text, sample.signer, sample.language, *sample.gloss)
            if any(set(cell) & set("\t\n\r") for cell in cells):
                raise ValueError(
                    f"split {split}: {sample.name} has a tab or line break in its annotation; remove it first"
                )


def _row(sample: Sample, shard: Path, key: str) -> str:
    spans = " ".join(f"{span.token}:{span.start}-{span.stop}" for span in sample.spans)
    frames = find_entry(shard / key).frames
    return "\t".join(
        (
            sample.name,
            f"{shard.name}/{key}",
            sample.text,
            sample.signer,
            " ".join(sample.gloss),
            str(frames),
            spans,
            sample.language,
        )
    )


def _whole(shard: Path, keys: Sequence[str]) -> bool:
    """Whether a shard and its index exist and match."""
    if not shard.is_file() or not index_path(shard).is_file():
        return False
    try:
        for key in keys:
            find_entry(shard / key)
    except (FileNotFoundError, ValueError):
        return False
    return True


def _write_shard(
    shard: Path, keys: Sequence[str], samples: Sequence[Sample], settings: PackSettings, pool: ThreadPoolExecutor
) -> None:
    """Writes a shard and then its index, and reads every clip back to verify it."""
    clips: dict[str, list[Any]] = {}
    index_path(shard).unlink(missing_ok=True)
    with atomic_write(shard) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
        for key, sample, (files, shape) in zip(keys, samples, _encoded(samples, settings, pool)):
            stem, suffix = key.split(".")
            offset, crc = 0, 0
            for number, content in enumerate(files):
                name = key if settings.form != "jpeg" else f"{stem}.{number:06}.{suffix}"
                start = tar.offset + tarfile.BLOCKSIZE
                offset = offset or start
                crc = zlib.crc32(content, crc)
                _add(tar, name, content)
            clips[key] = [offset, [len(content) for content in files], *shape, crc]
            about = {"name": sample.name, "text": sample.text, "gloss": sample.gloss, "signer": sample.signer}
            if sample.language:
                about["language"] = sample.language
            _add(tar, f"{stem}.json", json.dumps(about, ensure_ascii=False).encode())
    size = shard.stat().st_size
    write_text(index_path(shard), json.dumps({"tar_bytes": size, "clips": clips}) + "\n")
    for key in keys:
        check_shard(shard / key)
        there, promised = len(read_frames(shard / key, strict=False)), clips[key][2]
        if there != promised:
            index_path(shard).unlink()
            raise ValueError(
                f"{shard / key}: only {there} of {promised} frames can be read back; pack the corpus as jpeg or uint8"
            )


def _add(tar: tarfile.TarFile, name: str, content: bytes | memoryview) -> None:
    """Adds a file without time or owner, so that equal clips give equal shards."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def _encoded(samples: Sequence[Sample], settings: PackSettings, pool: ThreadPoolExecutor) -> Any:
    """Yields the files of each clip and its (frames, height, width), encoding a few clips ahead."""
    ahead = [pool.submit(_encode, sample, settings) for sample in samples[:8]]
    for number in range(len(samples)):
        if number + 8 < len(samples):
            ahead.append(pool.submit(_encode, samples[number + 8], settings))
        yield ahead[number].result()
        ahead[number] = None  # type: ignore[call-overload]


def _encode(sample: Sample, settings: PackSettings) -> tuple[list[bytes | memoryview], tuple[int, int, int]]:
    """Encodes a clip as the contents of its files."""
    only = None if sample.cut is None else range(*sample.cut)
    assert sample.clip is not None
    frames = read_clip(sample, indices=only, size=settings.size, note=say)
    shape = frames.shape[0], frames.shape[1], frames.shape[2]
    if settings.form == "uint8":
        return [frames.reshape(-1).data], shape
    if settings.form == "jpeg":
        return [_jpeg(frame, settings.quality, sample) for frame in frames], shape
    return [video_bytes(frames, crf=settings.crf, preset=PRESET)], shape


def _jpeg(frame: Frames, quality: int, sample: Sample) -> bytes:
    import cv2

    done, data = cv2.imencode(".jpg", np.ascontiguousarray(frame[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"{sample.name}: a frame of {frame.shape} cannot be written as JPEG; pack it as uint8")
    return bytes(data)


def _compare(every: dict[str, list[Sample]], folder: Path, name: str, options: dict[str, Any]) -> None:
    """Raises an error if the pack does not have the same annotation as the corpus."""
    for split, samples in every.items():
        back = load_samples(name, folder, split, **options)
        for one, other in zip(samples, back, strict=True):
            for key in ("name", "text", "gloss", "signer", "spans", "language"):
                if getattr(one, key) != getattr(other, key):
                    raise ValueError(
                        f"{folder}, split {split}: {one.name} has a different {key} ({getattr(one, key)!r} in the "
                        f"corpus, {getattr(other, key)!r} in the pack); its annotation cannot be stored in a table"
                    )
            frames = find_entry(other.clip).frames if other.clip is not None else 0
            if one.num_frames is not None and one.cut is None and one.num_frames != frames:
                say(f"{one.name} has {frames} frames, but {one.num_frames} in the corpus; the pack records {frames}")
