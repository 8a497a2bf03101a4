"""RWTH-PHOENIX-Weather 2014, for recognition: German weather forecasts, 5672 / 540 / 629 sentences, gloss and no text.

Reads the official labels, either of all signers or of the signer-independent part:

    ROOT/annotations/manual/SPLIT.corpus.csv    id|folder|signer|annotation          (phoenix-2014-multisigner)
    ROOT/annotations/manual/SPLIT.SI5.corpus.csv                                     (...-signerindependent-SI5)
    frames   ROOT/features/fullFrame-210x260px/SPLIT/ID/1/*.png, from the column `folder`

ROOT is the folder phoenix-2014-multisigner (or the other one), or a folder that contains it. 25 frames per second. The
gloss is unchanged and includes `__ON__`, `loc-NORD` and similar marks. The official scoring removes them, so a WER with
the marks is not comparable with published ones. Other code often drops training row 2390; here it is read.

Source: the loaders of VAC, SMKD and CorrNet (csv2dict), which read these files; counts from the label files of SLRT.
"""

from __future__ import annotations

from pathlib import Path

from signcl.data.annotation.table_files import OnError, find_table, read_table, stop
from signcl.data.batch import Sample
from signcl.data.corpora._layout import Layout, OnMissing, check_split, names_in, present, told

__all__ = ["samples"]

FOLDERS = (
    ".",
    "phoenix-2014-multisigner",
    "phoenix2014-release/phoenix-2014-multisigner",
    "phoenix-2014-signerindependent-SI5",
    "phoenix2014-release/phoenix-2014-signerindependent-SI5",
)
FRAMES = "features/fullFrame-210x260px"

LAYOUT = Layout(
    files=tuple(
        f"{folder}/annotations/manual/{name}".removeprefix("./")
        for folder in FOLDERS
        for name in ("train.corpus.csv", "dev.corpus.csv", "test.corpus.csv", "train.SI5.corpus.csv")
    ),
    about="RWTH-PHOENIX-Weather 2014, for recognition",
    published="https://www-i6.informatik.rwth-aachen.de/~koller/RWTH-PHOENIX/",
    needs="annotations/manual/SPLIT.corpus.csv and features/fullFrame-210x260px/SPLIT/ID/1/*.png",
)


def samples(
    root: Path, split: str, *, part: str = "multisigner", on_error: OnError = stop, on_missing: OnMissing = told
) -> list[Sample]:
    """Reads the sentences of one split, without text. Rows without frames are left out; their number is reported.

    Args:
        root: the corpus folder.
        split: `train`, `dev` or `test`.
        part: `multisigner`, or `si5`: the signer-independent setting, with signer 5 in dev and test.
        on_error: called with each broken row; by default the first error is raised.
        on_missing: called with the names of rows without frames.

    Raises:
        ValueError: `split` or `part` is unknown, labels are missing, no frames are found, or a row has no gloss.
    """
    check_split("phoenix2014", root, split)
    if part not in ("multisigner", "si5"):
        raise ValueError(f"phoenix2014: corpus.options.part needs multisigner or si5, got {part!r}")
    root = Path(root)
    name = f"{split}.SI5.corpus.csv" if part == "si5" else f"{split}.corpus.csv"
    table = find_table(*(root / folder / "annotations/manual" / name for folder in FOLDERS))
    if table is None:
        raise ValueError(f"{root}: phoenix2014 needs the labels annotations/manual/{name}; from {LAYOUT.published}")
    base = table.parents[2] / FRAMES
    there = names_in(base / split)
    result: list[Sample] = []
    missing, seen = [], set()
    for row in read_table(table, ("id", "folder", "signer", "annotation"), delimiter="|", on_error=on_error):
        cells = row.cells
        clip, gloss = cells["id"], tuple(cells["annotation"].split())
        if not clip or clip in seen or not gloss:
            on_error(row.error(f"{clip} comes twice" if clip in seen else f"{clip or 'a row'} has no gloss"))
            continue
        seen.add(clip)
        folder = cells["folder"].removesuffix("*.png").rstrip("/") or f"{clip}/1"
        if folder.startswith("/") or ".." in folder.split("/"):
            on_error(row.error(f"{clip} has the folder {cells['folder']!r}, which leaves the corpus folder"))
        elif folder.split("/")[0] in there:
            result.append(Sample(clip, "", base / split / folder, gloss=gloss, signer=cells["signer"]))
        else:
            missing.append(clip)
    return present(
        result, missing, corpus="phoenix2014", split=split, table=table, where=str(base / split), on_missing=on_missing
    )
