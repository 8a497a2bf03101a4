"""What every reader says of its corpus's files, for `signcl corpus doctor`, and what becomes of rows without a clip."""

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
"""What to do with rows whose clip is not there: (corpus, split, their names, rows in all). `told` says it."""


@dataclass(frozen=True)
class Layout:
    """By which files a corpus is recognised."""

    files: tuple[str, ...]
    """Patterns relative to the corpus folder (`Path.glob`); one that is there makes it this corpus."""
    about: str
    """What it is, in a few words."""
    published: str
    """Where the data is had."""
    needs: str
    """What the folder has to hold, for people who have only a part of it."""


def told(corpus: str, split: str, names: Sequence[str], total: int) -> None:
    """The default `OnMissing`: count the rows without a clip, and name the first."""
    say(f"{corpus}: left out {len(names)} of {total} {split} sentences without a clip: {', '.join(names[:3])}")


def check_split(corpus: str, root: Path, split: str) -> None:
    """Refuse a split that is none of train, dev and test.

    Raises:
        ValueError: names the corpus folder, the splits and what came.
    """
    if split not in SPLITS:
        raise ValueError(f"{root}: {corpus} has the splits {', '.join(SPLITS)}, got {split!r}")


def names_in(folder: Path) -> set[str]:
    """Names of the files of a folder, by one look at it; empty where there is no such folder."""
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
    """The samples that have a clip; those that have none are told.

    Args:
        samples: of rows whose clip is there.
        missing: names of the rows without one.
        corpus, split: for messages.
        table: what names the rows.
        where: where clips are looked for.
        on_missing: called once, where there are such rows.

    Raises:
        ValueError: no clip at all is there, or the split has no row.
    """
    total = len(samples) + len(missing)
    if missing:
        on_missing(corpus, split, missing, total)
    if not total:
        raise ValueError(f"{table}: has no sentence of split {split}; check corpus.root")
    if not samples and on_missing is told:
        raise ValueError(
            f"{table}: none of its {total} clips of split {split} is there; they are looked for in {where} "
            f"(first {missing[0]}); `signcl corpus doctor` says what is missing"
        )
    return list(samples)


def check_share(corpus: str, key: str, share: float) -> None:
    """Refuse a share that is none.

    Raises:
        ValueError: names the option.
    """
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 0.5:
        raise ValueError(f"{corpus}: corpus.options.{key} needs a number from 0 to 0.5, got {share!r}")


def split_by_share(source: str, dev_share: float, test_share: float) -> str:
    """The split of a recording of a corpus that publishes no splits: by a checksum of its name, so that it never
    changes, and so that all sentences of a recording are in one split."""
    place = zlib.crc32(source.encode()) / 2**32
    return "dev" if place < dev_share else "test" if place < dev_share + test_share else "train"


CLOCK = re.compile(r"(?:(\d{1,6}):)?(\d{1,2}):(\d{1,2}(?:[.,]\d+)?)", re.ASCII)


def clock_seconds(text: str) -> float | None:
    """`00:01:02.500` or `01:02,500` as seconds; None where it is no such time."""
    match = CLOCK.fullmatch(text.strip())
    if match is None or int(match[2]) > 59 or float(match[3].replace(",", ".")) >= 60:
        return None
    return int(match[1] or 0) * 3600 + int(match[2]) * 60 + float(match[3].replace(",", "."))
