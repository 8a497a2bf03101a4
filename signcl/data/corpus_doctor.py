"""`signcl corpus doctor`: recognises the corpus in a folder, lists what is missing, and suggests what to do next."""

from __future__ import annotations

import importlib
import inspect
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from signcl.data.batch import Sample
from signcl.data.corpora import CORPORA, PACK
from signcl.data.corpora._layout import SPLITS, Layout
from signcl.data.video import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from signcl.data.video.shards import in_shard

__all__ = ["CorpusFound", "Diagnosis", "SplitFound", "diagnose", "layouts"]

TABLES = (".tsv", ".csv", ".txt", ".json", ".jsonl", ".xlsx", ".gz")
FEATURES = (".npy", ".npz", ".pose", ".pkl", ".pt", ".h5", ".hdf5", ".lmdb")
ANNOTATION = (".eaf", ".srt", ".vtt")
MOST_FILES = 200_000  # maximum number of files to look at; a folder of frames has millions
FIRST = 3  # number of missing files to name


@dataclass(frozen=True)
class SplitFound:
    """What a reader finds in one split."""

    split: str
    sentences: int = 0
    """Usable rows, without the missing and broken ones."""
    missing: list[str] = field(default_factory=list)
    """Names of rows (or videos) without a file."""
    broken: list[str] = field(default_factory=list)
    """Errors in rows, one line each."""
    problem: str = ""
    """Why the split cannot be read, if so."""


@dataclass(frozen=True)
class CorpusFound:
    """A corpus that the folder may contain."""

    name: str
    """Name of the reader: `corpus.name`."""
    about: str
    recognised_by: list[str]
    """Files of its layout that exist."""
    published: str
    needs: str
    splits: list[SplitFound]

    @property
    def whole(self) -> bool:
        """Whether every split can be read and nothing is missing."""
        return all(not (s.problem or s.missing or s.broken) for s in self.splits)

    @property
    def readable(self) -> bool:
        """Whether any sentence can be used."""
        return any(s.sentences for s in self.splits)


@dataclass(frozen=True)
class Diagnosis:
    """Result of `diagnose` for a folder; `str()` gives text for people."""

    root: str
    corpora: list[CorpusFound]
    """Most likely first; empty for an unknown folder."""
    contents: dict[str, int]
    """For an unknown folder: number of files of each kind (suffix), most frequent first."""
    examples: dict[str, str]
    """One file of each of these kinds."""
    next: list[str]
    """Commands to run, or other steps to take."""

    @property
    def healthy(self) -> bool:
        """Whether the folder is a complete corpus."""
        return bool(self.corpora) and self.corpora[0].whole

    def __str__(self) -> str:
        lines = []
        for found in self.corpora:
            lines.append(f"{self.root}: {found.about}; reader {found.name} (found {', '.join(found.recognised_by)})")
            for part in found.splits:
                lines += [f"  {line}" for line in _split_lines(part)]
            if not found.whole:
                lines.append(f"  needs: {found.needs}")
                lines.append(f"  published: {found.published}")
        if not self.corpora:
            kinds = ", ".join(f"{count:,} {kind or 'without suffix'}" for kind, count in self.contents.items())
            lines.append(f"{self.root}: no known corpus; it contains {kinds or 'nothing'}")
            lines += [f"  {kind}: such as {example}" for kind, example in self.examples.items()]
        return "\n".join([*lines, "next:", *(f"  {line}" for line in self.next)])


def _split_lines(part: SplitFound) -> Iterator[str]:
    if part.problem:
        yield f"{part.split}: cannot be read: {part.problem}"
    else:
        yield f"{part.split}: {part.sentences:,} sentences"
    if part.missing:
        more = ", ..." if len(part.missing) > FIRST else ""
        yield f"  {len(part.missing):,} without a file: {', '.join(part.missing[:FIRST])}{more}"
    if part.broken:
        yield f"  {len(part.broken):,} broken rows, first: {part.broken[0]}"


def layouts() -> dict[str, Layout]:
    """The file layout by which each built-in corpus is recognised."""
    found = {}
    for name in CORPORA:
        try:
            module = importlib.import_module(f"signcl.data.corpora.{name}")
        except ModuleNotFoundError:  # a plugin's corpus
            continue
        if isinstance(layout := getattr(module, "LAYOUT", None), Layout):
            found[name] = layout
    return found


def diagnose(root: Path | str) -> Diagnosis:
    """Recognises the corpus in a folder and lists what is missing. Reads tables and looks for files; opens no clips.

    Raises:
        ValueError: no such folder.
    """
    root = Path(root)
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise ValueError(f"{root}: {what}; give the folder of a corpus")
    found = []
    for name, layout in layouts().items():
        files = _matching(root, layout)
        if files:
            found.append((name, layout, files))
    specific = [one for one in found if one[0] != "folder"] or found
    if (root / PACK).is_file():
        specific = [one for one in found if one[0] == "folder"]
    corpora = [
        CorpusFound(name, layout.about, files[:FIRST], layout.published, layout.needs, _splits(name, root))
        for name, layout, files in specific
    ]
    corpora.sort(key=lambda one: (not one.readable, sum(bool(s.problem) for s in one.splits)))
    contents, examples = ({}, {}) if corpora else _contents(root)
    return Diagnosis(str(root), corpora, contents, examples, _next(root, corpora, contents, examples))


def _matching(root: Path, layout: Layout) -> list[str]:
    """Files of a layout that exist."""
    found: list[str] = []
    for pattern in layout.files:
        if "*" in pattern:
            found += [path.relative_to(root).as_posix() for path in sorted(root.glob(pattern))[:FIRST]]
        elif (root / pattern).is_file():
            found.append(pattern)
    return found


def _splits(name: str, root: Path) -> list[SplitFound]:
    return [_split(name, root, split) for split in SPLITS]


def _split(name: str, root: Path, split: str) -> SplitFound:
    """Reads one split and collects its broken rows and missing files."""
    broken: list[str] = []
    missing: list[str] = []
    reader = CORPORA[name]
    accepted = inspect.signature(reader).parameters
    options: dict[str, Any] = {}
    if "on_error" in accepted:
        options["on_error"] = lambda error: broken.append(str(error))
    if "on_missing" in accepted:
        options["on_missing"] = lambda corpus, part, names, total: missing.extend(names)
    try:
        samples = reader(root, split, **options)
    except (ValueError, OSError) as error:
        return SplitFound(split, 0, missing, broken, str(error))
    lost = _without_file(samples)
    return SplitFound(split, len(samples) - len(lost), [*missing, *lost], broken)


def _without_file(samples: Sequence[Sample]) -> list[str]:
    """Names of the samples whose file does not exist; each file is looked up once."""
    there: dict[Path, bool] = {}
    lost = []
    for sample in samples:
        source = sample.clip if sample.clip is not None else sample.features
        if not isinstance(source, Path):
            continue
        path = source.parent if in_shard(source) else source
        if path not in there:
            there[path] = path.exists()
        if not there[path]:
            lost.append(sample.name)
    return lost


def _contents(root: Path) -> tuple[dict[str, int], dict[str, str]]:
    """Kinds of files below a folder, most frequent first, and an example of each."""
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for number, path in enumerate(path for path in root.rglob("*") if path.name[0] != "." and path.is_file()):
        if number == MOST_FILES:
            break
        kind = path.suffix.lower()
        counts[kind] += 1
        examples.setdefault(kind, path.relative_to(root).as_posix())
    kept = dict(sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:12])  # directory order is arbitrary
    return kept, {kind: examples[kind] for kind in kept}


def _next(root: Path, corpora: list[CorpusFound], contents: dict[str, int], examples: dict[str, str]) -> list[str]:
    if not corpora:
        return _folder_advice(root, contents, examples)
    found = corpora[0]
    if len(corpora) > 1:
        others = ", ".join(one.name for one in corpora[1:])
        return [
            f"the folder looks like {found.name} and {others}; choose one with --corpus",
            *_next_of(root, found),
        ]
    return _next_of(root, found)


def _next_of(root: Path, found: CorpusFound) -> list[str]:
    advice = []
    lost = sum(len(part.missing) for part in found.splits)
    if lost or not found.readable:
        advice.append(f"get the missing files from {found.published}")
    if found.readable:
        flag = "" if found.name == "folder" else f" --corpus {found.name}"
        advice.append(f"signcl corpus check {root}{flag}")
        advice.append(f"in a recipe: corpus: {{name: {found.name}, root: {root}}}")
    return advice


def _folder_advice(root: Path, contents: dict[str, int], examples: dict[str, str]) -> list[str]:
    """How to make a table for the corpus `folder` from the files."""

    def first(suffixes: Sequence[str]) -> str:
        return next((examples[kind] for kind in contents if kind in suffixes), "")

    clip, picture = first([*VIDEO_SUFFIXES, ".npy", ".npz", ".pose"]), first(IMAGE_SUFFIXES)
    if not clip and picture:
        clip = Path(picture).parent.as_posix()
    if not clip:
        return [
            "put video files, folders of images, or features (.npy, .npz, .pose) into the folder, then make a table",
            "docs/adding-a-corpus.md describes the table; an unpacked archive of a known corpus needs no table",
        ]
    advice = [
        f"make {root}/train.tsv, dev.tsv and test.tsv, tab-separated, with the columns name, path and text:",
        f"name\tpath\ttext -> {Path(clip).stem}\t{clip}\tthe sentence that is signed",
        "optional columns: gloss (instead of text for recognition), start and stop (seconds) if sentences are parts "
        "of long videos, signer, language",
    ]
    if table := first(TABLES):
        advice.append(f"the sentences may be in {table}")
    if timed := first(ANNOTATION):
        advice.append(f"the times may be in {timed}")
    return [*advice, f"signcl corpus check {root}"]
