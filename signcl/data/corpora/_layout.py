"""File layouts of corpora, for `signcl corpus doctor`, and handling of rows without a clip."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from signcl.data.batch import Sample
from signcl.data.progress import say

__all__ = [
    "SPLITS",
    "Layout",
    "OnMissing",
    "check_share",
    "check_split",
    "clock_seconds",
    "names_in",
    "present",
    "split_by_share",
    "told",
]

SPLITS = ("train", "dev", "test")

OnMissing = Callable[[str, str, Sequence[str], int], None]
"""Called with rows whose clip is missing: (corpus, split, their names, total rows). `told` prints them."""


@dataclass(frozen=True)
class Layout:
    """The files by which a corpus is recognised."""

    files: tuple[str, ...]
    """Patterns relative to the corpus folder (`Path.glob`); any match identifies the corpus."""
    about: str
    """A short description."""
    published: str
    """Where to get the data."""
    needs: str
    """What the folder must contain, for users who have only a part of it."""


def told(corpus: str, split: str, names: Sequence[str], total: int) -> None:
    """The default `OnMissing`: prints the number of rows without a clip and names the first."""
    say(f"{corpus}: left out {len(names)} of {total} {split} sentences without a clip: {', '.join(names[:3])}")


def check_split(corpus: str, root: Path, split: str) -> None:
    """Checks that a split is train, dev or test.

    Raises:
        ValueError: with the corpus folder, the known splits and the given one.
    """
    if split not in SPLITS:
        raise ValueError(f"{root}: {corpus} has the splits {', '.join(SPLITS)}, got {split!r}")


def names_in(folder: Path) -> set[str]:
    """Names of the files in a folder, listed once; empty if there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries}
    except (FileNotFoundError, NotADirectoryError):
        return set()


def present(
    samples: Sequence[Sample],
    missing: Sequence[str],
    *,
    corpus: str,
    split: str,
    table: Path,
    where: str,
    on_missing: OnMissing,
) -> list[Sample]:
    """Returns the samples that have a clip and reports missing ones.

    Args:
        samples: samples of rows with a clip.
        missing: names of the rows without a clip.
        corpus, split: for messages.
        table: the table of the rows.
        where: where clips were searched.
        on_missing: called once if clips are missing.

    Raises:
        ValueError: no clips, or no rows in the split.
    """
    total = len(samples) + len(missing)
    if missing:
        on_missing(corpus, split, missing, total)
    if not total:
        raise ValueError(f"{table}: has no sentence of split {split}; check corpus.root")
    if not samples and on_missing is told:
        raise ValueError(
            f"{table}: found none of its {total} clips of split {split}; searched in {where} "
            f"(first {missing[0]}); `signcl corpus doctor` lists what is missing"
        )
    return list(samples)


def check_share(corpus: str, key: str, share: float) -> None:
    """Checks that a share is a number from 0 to 0.5.

    Raises:
        ValueError: with the option.
    """
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 0.5:
        raise ValueError(f"{corpus}: corpus.options.{key} needs a number from 0 to 0.5, got {share!r}")


def split_by_share(source: str, dev_share: float, test_share: float) -> str:
    """Chooses the split of a recording by a checksum of its name, for corpora without published splits.

    The split never changes, and all sentences of a recording are in the same split.
    """
    place = zlib.crc32(source.encode()) / 2**32
    return "dev" if place < dev_share else "test" if place < dev_share + test_share else "train"


CLOCK = re.compile(r"(?:(\d{1,6}):)?(\d{1,2}):(\d{1,2}(?:[.,]\d+)?)", re.ASCII)


def clock_seconds(text: str) -> float | None:
    """Parses `00:01:02.500` or `01:02,500` to seconds; None if the text is not such a time."""
    match = CLOCK.fullmatch(text.strip())
    if match is None or int(match[2]) > 59 or float(match[3].replace(",", ".")) >= 60:
        return None
    return int(match[1] or 0) * 3600 + int(match[2]) * 60 + float(match[3].replace(",", "."))
