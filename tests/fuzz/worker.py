"""A process that tries cases: reads lines `READER SEED CASE`, writes JSON. `campaign` handles crashes and hangs.

A case is a fault if the reader

- raises an error that the command line would show as a traceback, or whose message is too long or lacks the file name;
- takes more than 5 CPU seconds or 1 GB of memory;
- returns NaN or infinity;
- returns a different result, without a message, from a file with a checksum (`Reader.exact`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import math
import os
import random
import re
import resource
import shutil
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .mutations import mutate
from .readers import READERS, Reader

SECONDS = 5.0
MEMORY = 1 << 30
LONGEST = 1500
"""Longest accepted message, in characters."""


def prepare(reader: str, seed: int, case: int, work: Path) -> tuple[Path, Path, bool]:
    """Makes the folder of a case with one changed file; returns it, the file, and whether a checksum must notice."""
    chosen = READERS[reader]
    seeds = valid(reader, work)
    draw = random.Random(f"{reader} {seed} {case}")
    pattern = draw.choice(sorted(chosen.files))
    file = draw.choice(sorted(path for path in seeds.glob(pattern) if path.is_file()))
    content = file.read_bytes()
    changed, blind = mutate(draw, content, chosen.files[pattern])
    folder = work / f"{reader}-{seed}-{case}"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(seeds, folder)
    target = folder / file.relative_to(seeds)
    target.write_bytes(changed)
    return folder, target, blind and str(file.relative_to(seeds)) in _names(chosen, seeds)


def valid(reader: str, work: Path) -> Path:
    """The folder with the valid files of a reader; made by the first call."""
    seeds = work / "valid" / reader
    if not seeds.is_dir():
        making = work / "valid" / f".{reader}"
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(parents=True)
        READERS[reader].make(making)
        making.rename(seeds)
    return seeds


def read_valid(reader: str, work: Path) -> str:
    """Digest of the result for the valid files; run first, so that imports and caches do not count for a case."""
    folder = shutil.copytree(valid(reader, work), work / f"{reader}-valid", dirs_exist_ok=True)
    try:
        return digest(READERS[reader].read(folder))
    finally:
        shutil.rmtree(folder)


def _names(reader: Reader, seeds: Path) -> set[str]:
    return {str(path.relative_to(seeds)) for pattern in reader.exact for path in seeds.glob(pattern)}


def judge(reader: str, folder: Path, file: Path, before: str | None) -> tuple[str, str]:
    """The outcome of a case, `read`, `refused` or `fault`, and the message.

    Args:
        reader: name of the reader.
        folder: the folder of the case.
        file: the changed file.
        before: digest of the result for the valid files, if a different result needs a message; else None.
    """
    said = io.StringIO()
    started = time.process_time()
    try:
        with contextlib.redirect_stderr(said), warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            found = READERS[reader].read(folder)
    except BaseException as error:  # `_refusal` judges every kind
        outcome = _refusal(error, folder, file)
    else:
        outcome = "read", ""
        if READERS[reader].finite and (wrong := not_finite(found)):
            outcome = "fault", f"returns {wrong}"
        elif before is not None and digest(found) != before and not said.getvalue() and not warned:
            outcome = "fault", "returns something else than before, without a word"
    if (seconds := time.process_time() - started) > SECONDS:
        outcome = "fault", f"takes {seconds:.1f} s ({outcome[1][:200]})"
    return outcome


def _refusal(error: BaseException, folder: Path, file: Path) -> tuple[str, str]:
    from signcl.cli.common import is_ours, message

    if not isinstance(error, ValueError | OSError) or not is_ours(error):
        where = "".join(traceback.format_exception(error)[-3:])
        return "fault", f"traceback of {type(error).__name__}: {' '.join(str(error).split())[:200]}\n{where[-1500:]}"
    text = message(error)
    if re.search(r"MemoryError|llocate|out of memory|bad_alloc", text):
        return "fault", f"asks for all memory: {text[:300]}"
    if len(text) > LONGEST:
        return "fault", f"a message of {len(text):,} characters: {text[:200]}"
    if str(folder) not in text and file.name not in text and file.parent.name not in text:
        return "fault", f"a message that does not name the file: {text[:300]}"
    return "refused", text


def parts(value: Any) -> Any:
    """A value as containers of arrays, numbers and text."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        return value.float().numpy() if value.is_floating_point() else value.numpy()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return value


def not_finite(value: Any, depth: int = 0) -> str:
    """Describes the first NaN or infinity in a value; empty if there is none."""
    value = parts(value)
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind == "f":
        return "" if np.isfinite(value).all() else f"an array {list(value.shape)} with {value[~np.isfinite(value)][:1]}"
    if isinstance(value, float):
        return "" if math.isfinite(value) else f"the number {value}"
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple | set) else ()
    return next((wrong for part in inner if (wrong := not_finite(part, depth + 1))), "") if depth < 50 else ""


def digest(value: Any) -> str:
    """A hash that is the same for equal values."""
    mark = hashlib.sha256()

    def walk(value: Any) -> None:
        value = parts(value)
        if isinstance(value, np.ndarray):
            mark.update(f"{value.dtype} {value.shape}".encode() + np.ascontiguousarray(value).tobytes())
        elif isinstance(value, dict):
            for key, part in value.items():
                mark.update(repr(key).encode())
                walk(part)
        elif isinstance(value, list | tuple):
            mark.update(f"{len(value)}".encode())
            for part in value:
                walk(part)
        elif not isinstance(value, Path):
            mark.update(repr(value).encode())

    walk(value)
    return mark.hexdigest()


# -- the process -------------------------------------------------------------------------------------------------------


def _memory(key: str) -> int:
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(key))


@contextlib.contextmanager
def limited(base: int | None = None) -> Iterator[None]:
    """Limits the address space to `MEMORY` bytes more than now, or more than `base`."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, ((base or _memory("VmSize")) + MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def main(work: Path) -> None:
    """Answers requests on stdin until it is closed."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)  # decoders write to stderr
    import torch

    from signcl.cli import main as _  # noqa: F401

    torch.set_num_threads(1)
    before: dict[str, str] = {}
    base = 0
    out.write("ready\n")
    for line in sys.stdin:
        reader, seed, case = line.split()
        if reader not in before:
            before[reader] = read_valid(reader, work)
            base = _memory("VmSize")
        folder, file, exact = prepare(reader, int(seed), int(case), work)
        out.write(f"{file}\n")
        with limited(base):
            outcome = judge(reader, folder, file, before[reader] if exact else None)
        out.write(json.dumps(outcome) + "\n")
        if outcome[0] != "fault":
            shutil.rmtree(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
