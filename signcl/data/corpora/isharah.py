"""Isharah: continuous Saudi Sign Language by smartphone, up to 2,000 sentences by 18 signers; gloss and Arabic text.

    annotation    .../PROTOCOL/SPLIT.txt (or .csv), id|gloss|text or id|gloss, PROTOCOL SI (signers unseen) or US
                  (sentences unseen), in ROOT/Annotations[/isharah1000], annotations_v2[/isharah2000] or ROOT itself
    frames        ROOT[/frames]/SIGNER/ID/frame0000.jpg ..., as unpacked from 00.zip ...; ID is SIGNER_NUMBER

A table without the column `text` gives a corpus with glosses only; a table with ids only (the hidden test of a
challenge) is an error. Key points (pose_data_isharah*.pkl) are not read; use `corpus.features` for features by name.

Source: the project page snalyami/Isharah_CSLR, which documents no layout; the starter kit of the MSLR challenge
(gufranSabri/Pose86K-CSLR-Isharah: columns, annotations_v2/isharah2000/SI); third-party code for the rest, including the
location of the frames.
"""

from __future__ import annotations

from pathlib import Path

from signcl.data.annotation.table_files import OnError, has_words, read_table, stop
from signcl.data.batch import Sample
from signcl.data.corpora._layout import Layout, OnMissing, check_split, names_in, present, told

__all__ = ["samples"]

FOLDERS = ("Annotations", "annotations", "annotations_v2", ".")
SUBSETS = ("isharah500", "isharah1000", "isharah2000")
FRAMES = (".", "frames", "videos")

LAYOUT = Layout(
    files=tuple(
        f"{folder}/{inner}{protocol}/train.{suffix}".removeprefix("./")
        for folder in FOLDERS
        for inner in ("", *(f"{subset}/" for subset in SUBSETS))
        for protocol in ("SI", "US")
        for suffix in ("txt", "csv")
    ),
    about="Isharah, continuous Saudi Sign Language",
    published="https://snalyami.github.io/Isharah_CSLR/",
    needs="Annotations/SI/SPLIT.txt (id|gloss|text) and the frames SIGNER/ID/*.jpg",
)


def samples(
    root: Path,
    split: str,
    *,
    protocol: str = "SI",
    subset: str = "",
    on_error: OnError = stop,
    on_missing: OnMissing = told,
) -> list[Sample]:
    """Reads the sentences of one split; rows without frames are left out and reported.

    Args:
        root: the corpus folder.
        split: `train`, `dev` or `test`.
        protocol: `SI` (unseen signers in dev and test) or `US` (unseen sentences).
        subset: `isharah500`, `isharah1000` or `isharah2000`, if there are annotations of several.
        on_error: called with each broken row; by default the first one is raised.
        on_missing: called with the rows without frames.

    Raises:
        ValueError: an unknown split, protocol or subset, several subsets to choose from, no annotation, no frames, a
            row without gloss.
    """
    check_split("isharah", root, split)
    if protocol not in ("SI", "US"):
        raise ValueError(f"isharah: corpus.options.protocol needs SI or US, got {protocol!r}")
    if subset not in ("", *SUBSETS):
        raise ValueError(f"isharah: corpus.options.subset needs one of {', '.join(SUBSETS)}, got {subset!r}")
    root = Path(root)
    table = _table(root, split, protocol, subset)
    there = {name: root / place / name for place in reversed(FRAMES) for name in names_in(root / place)}
    inside: dict[str, set[str]] = {}
    result: list[Sample] = []
    missing, seen = [], set()
    for row in read_table(table, ("id", "gloss"), delimiter="|", on_error=on_error):
        name, gloss, text = row.cells["id"], tuple(row.cells["gloss"].split()), row.cells.get("text", "")
        text = text.strip('"').strip()  # some have quotes from a spreadsheet
        if not name or name in seen or not gloss or ("text" in row.cells and not has_words(text)):
            why = "occurs twice" if name in seen else "has no gloss" if not gloss else "has a text without words"
            on_error(row.error(f"{name or 'a row'} {why}"))
            continue
        if set(name) & set("/\\"):
            on_error(row.error(f"the id {name!r} must not contain a path"))
            continue
        seen.add(name)
        signer = name.split("_")[0]
        if signer in there and signer not in inside:
            inside[signer] = names_in(there[signer])
        if name in inside.get(signer, ()):
            result.append(Sample(name, text, there[signer] / name, gloss=gloss, signer=signer))
        else:
            missing.append(name)
    where = f"{root}/ {', '.join(f'{place}/SIGNER/ID' for place in FRAMES)}"
    return present(result, missing, corpus="isharah", split=split, table=table, where=where, on_missing=on_missing)


def _table(root: Path, split: str, protocol: str, subset: str) -> Path:
    """The annotation file of a split; with several subsets, that of the named one."""
    found: dict[str, Path] = {}
    for folder in FOLDERS:
        for inner in (subset,) if subset else ("", *SUBSETS):
            for suffix in ("txt", "csv"):
                path = root / folder / inner / protocol / f"{split}.{suffix}"
                if path.is_file():
                    found.setdefault(inner, path)
    if not found:
        name = f"{subset or 'isharah1000'}/{protocol}/{split}.txt"
        raise ValueError(f"{root}: isharah needs the annotation Annotations/{name}; from {LAYOUT.published}")
    if len(found) > 1:
        raise ValueError(
            f"{root}: has annotations of {', '.join(filter(None, found))}; choose one with corpus.options.subset"
        )
    return next(iter(found.values()))
