"""Trained runs that come with the package: `demo:NAME` names a run and `demo:NAME/clip-1` one of its clips.

They are in `shipped/` next to this file, one run folder each, with a model card (README.md), sample clips (`samples/`)
and the answers to them. Nothing is written there: a run is copied to the user's cache folder, where scores, reports and
maps are written. `python -m signcl.evaluation.shipping` rebuilds the runs.
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
"""Folder of a run's sample clips, and its table: clip, sentence, the run's answer."""
RESULTS = ("scores.json", "predictions.*.tsv", "confidence.*")
"""Files that commands may rewrite in the copy of a run; all others must stay as shipped."""


@dataclass(frozen=True)
class SampleClip:
    """A sample clip of a shipped run."""

    name: str
    """Name, as in `demo:RUN/NAME`."""
    path: Path
    reference: str
    """The signed sentence."""
    answer: str
    """The run's answer when it was made."""


def shipped_runs() -> tuple[str, ...]:
    """Names of the runs that come with the package."""
    return tuple(sorted(path.parent.name for path in SHIPPED.glob("*/recipe.yaml")))


def sample_clips(name: str) -> list[SampleClip]:
    """The sample clips of a shipped run, in order; empty if its data may not be redistributed.

    Raises:
        FileNotFoundError: no shipped run of that name.
    """
    folder = SHIPPED / _checked(name) / SAMPLES
    if not (folder / ANSWERS).is_file():
        return []
    rows = [line.split("\t") for line in read_text(folder / ANSWERS).splitlines()[1:]]
    return [SampleClip(Path(file).stem, folder / file, reference, answer) for file, reference, answer in rows]


def shipped_path(source: str | Path) -> Path:
    """Resolve a name: the local copy of the run for `demo:NAME`, a clip for `demo:NAME/CLIP`, otherwise the path
    itself.

    Raises:
        FileNotFoundError: no shipped run or sample clip of that name; lists the existing ones.
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
    none = "none comes with this run, since its data may not be redistributed; docs/shipped-runs.md makes one"
    raise FileNotFoundError(f"no sample clip {MARK}{name}/{clip}; {f'there are {known}' if known else none}")


def _own_copy(name: str) -> Path:
    """The copy of a shipped run in the cache folder; missing or changed files are copied again.

    Different weights get a different folder, so that results of an older package are not mixed with newer weights.
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
    """A temporary folder of this process, if the cache folder is not writable."""
    folder = Path(tempfile.mkdtemp(prefix="signcl-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    say(f"{cache_folder()} cannot be written ({why}); files written to demo runs are lost at the end")
    return folder
