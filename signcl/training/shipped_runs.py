"""Trained runs that come with the package: `demo:NAME` is one wherever a run is named, `demo:NAME/clip-1` a clip of it.

They lie in `shipped/` beside this file, one run folder each, with its model card (README.md), sample clips (`samples/`)
and the answers to them. Nothing is ever written there: a run is used through a copy in the user's cache folder, where
scores, reports and maps have their place. `python -m signcl.evaluation.shipping` makes the runs anew.
"""

from __future__ import annotations

import atexit
import filecmp
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from signcl.data.files import atomic_write, read_text
from signcl.data.progress import say
from signcl.data.registry import did_you_mean
from signcl.data.user_cache import cache_folder
from signcl.training.manifest import known_checksum

__all__ = ["ANSWERS", "MARK", "SAMPLES", "SHIPPED", "SampleClip", "sample_clips", "shipped_path", "shipped_runs"]

MARK = "demo:"
SHIPPED = Path(__file__).parent / "shipped"
SAMPLES, ANSWERS = "samples", "answers.tsv"
"""Folder of a run's sample clips, and the table in it: clip, its sentence, the run's answer."""
RESULTS = ("scores.json", "predictions.*.tsv", "confidence.*")
"""Files that verbs may have written anew in the copy of a run; the others must stay as they were shipped."""


@dataclass(frozen=True)
class SampleClip:
    """A clip that comes with a run."""

    name: str
    """As in `demo:RUN/NAME`."""
    path: Path
    reference: str
    """What is signed."""
    answer: str
    """What the run answered when it was made."""


def shipped_runs() -> tuple[str, ...]:
    """Names of the runs that come with the package."""
    return tuple(sorted(path.parent.name for path in SHIPPED.glob("*/recipe.yaml")))


def sample_clips(name: str) -> list[SampleClip]:
    """The sample clips of a shipped run, in their order; none where its data may not be passed on.

    Raises:
        FileNotFoundError: no shipped run of that name.
    """
    folder = SHIPPED / _checked(name) / SAMPLES
    if not (folder / ANSWERS).is_file():
        return []
    rows = [line.split("\t") for line in read_text(folder / ANSWERS).splitlines()[1:]]
    return [SampleClip(Path(file).stem, folder / file, reference, answer) for file, reference, answer in rows]


def shipped_path(source: str | Path) -> Path:
    """The path that a name means: a copy of the run for `demo:NAME`, a clip for `demo:NAME/CLIP`, else itself.

    Raises:
        FileNotFoundError: no shipped run or no sample clip of that name; those that exist are named.
    """
    text = str(source)
    if not text.startswith(MARK) or Path(text).exists():
        return Path(source)
    name, slash, clip = text.removeprefix(MARK).partition("/")
    return _clip(_checked(name), clip) if slash else _own_copy(_checked(name))


def _checked(name: str) -> str:
    names = shipped_runs()
    if name not in names:
        known = ", ".join(f"{MARK}{one}" for one in names) or "none; reinstall the package"
        raise FileNotFoundError(
            f"no run {MARK}{name} comes with signcl, there are {known}{did_you_mean(name, names, MARK)}"
        )
    return name


def _clip(name: str, clip: str) -> Path:
    clips = sample_clips(name)
    for one in clips:
        if clip in (one.name, one.path.name):
            return one.path
    known = ", ".join(f"{MARK}{name}/{one.name}" for one in clips)
    why = known or f"its data may not be passed on, so it has none: see {SHIPPED / name / 'README.md'}"
    raise FileNotFoundError(f"no sample clip {MARK}{name}/{clip}; there are {known}" if known else f"{name}: {why}")


def _own_copy(name: str) -> Path:
    """The copy of a shipped run in the cache folder; what is missing or has changed there is copied again.

    Other weights are another folder, so that no results of an older package stand beside newer weights.
    """
    source = SHIPPED / name
    version = (known_checksum(source, "model.safetensors") or "")[:8]
    folder = cache_folder() / "demo" / version / name
    try:
        _bring(source, folder)
    except OSError as error:
        folder = _temporary(str(error)) / name
        _bring(source, folder)
    return folder


def _bring(source: Path, folder: Path) -> None:
    for file in sorted(source.iterdir()):
        to = folder / file.name
        if not file.is_file() or (to.is_file() and any(file.match(pattern) for pattern in RESULTS)):
            continue
        if not to.is_file() or not filecmp.cmp(file, to, shallow=False):
            with atomic_write(to) as temporary:
                shutil.copyfile(file, temporary)


@cache
def _temporary(why: str) -> Path:
    """A folder of this process, where the cache folder cannot be written."""
    folder = Path(tempfile.mkdtemp(prefix="signcl-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    say(f"{cache_folder()} cannot be written ({why}); what is written into demo runs is lost at the end")
    return folder
