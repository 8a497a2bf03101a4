"""OpenASL: American Sign Language from YouTube, about 98,000 sentences, 288 hours; English text, no gloss annotation.

Reads the official table and either the clips cut by the official script or the full videos:

    ROOT[/data]/openasl-v1.0.tsv    vid  yid  start  end  raw-text  tokenized-text  gloss  split
    clips    VID.mp4                the colons of VID unchanged, or replaced by %, - or _ (crop_video.py writes %)
    whole    YID.mp4                only `start` to `end` is read (HH:MM:SS.mmm)

Videos are in ROOT or in one of its folders listed in `CLIPS` and `WHOLE`. Clips are preferred because they are cropped
to the signer. `raw-text` is the sentence with punctuation. The column `gloss` was generated from the text
automatically, so it is not read. The release calls dev `valid`; `val` and `dev` are also accepted.

Source: the repository chevalierNoir/OpenASL (prep/download.py, prep/crop_video.py: file names and the columns vid, yid,
start, end; it leaves the folder names open). Other columns: third-party readers of the table.
"""

from __future__ import annotations

from pathlib import Path

from signcl.data.annotation.table_files import OnError, find_table, has_words, read_table, stop
from signcl.data.batch import Sample, Segment
from signcl.data.corpora._layout import Layout, OnMissing, check_split, clock_seconds, names_in, present, told

__all__ = ["samples"]

TABLE = "openasl-v1.0.tsv"
OFFICIAL = {"train": ("train",), "dev": ("valid", "val", "dev"), "test": ("test",)}
CLIPS = ("clips", "cropped-vid", "cropped", "videos", ".")
WHOLE = ("raw-video", "raw", "videos", ".")
SUFFIXES = (".mp4", ".mkv", ".webm")

LAYOUT = Layout(
    files=(f"{TABLE}*", f"data/{TABLE}*"),
    about="OpenASL, American Sign Language from YouTube",
    published="https://github.com/chevalierNoir/OpenASL (table; its scripts fetch the videos)",
    needs=f"{TABLE}, and the clips VID.mp4 or the whole videos YID.mp4",
)


def samples(
    root: Path, split: str, *, videos: str = "auto", on_error: OnError = stop, on_missing: OnMissing = told
) -> list[Sample]:
    """Reads the sentences of one split. Rows without a video are left out; their number is reported.

    Args:
        root: the corpus folder.
        split: `train`, `dev` or `test`.
        videos: `clips`, `whole`, or `auto`: the clip of a row, or its full video if there is no clip.
        on_error: called with each broken row; by default the first error is raised.
        on_missing: called with the names of rows without a video.

    Raises:
        ValueError: `split` or `videos` is unknown, the table is missing, no video is found, or a row has no words or
            times.
    """
    check_split("openasl", root, split)
    if videos not in ("auto", "clips", "whole"):
        raise ValueError(f"openasl: corpus.options.videos needs auto, clips or whole, got {videos!r}")
    root = Path(root)
    table = find_table(root / TABLE, root / "data" / TABLE)
    if table is None:
        raise ValueError(f"{root}: openasl needs the table {TABLE} (here or in data/); from {LAYOUT.published}")
    cut = {} if videos == "whole" else _files(root, CLIPS)
    whole = {} if videos == "clips" else _files(root, WHOLE)
    result: list[Sample] = []
    missing: list[str] = []
    seen: set[str] = set()
    for row in read_table(table, ("vid", "yid", "start", "end", "raw-text", "split"), on_error=on_error):
        cells = row.cells
        if cells["split"] not in OFFICIAL[split]:
            continue
        name, text = cells["vid"], cells["raw-text"]
        start, end = clock_seconds(cells["start"]), clock_seconds(cells["end"])
        if not name or name in seen or not has_words(text):
            why = f"{name} comes twice" if name in seen else f"{name or 'a row'} has a text without words: {text!r}"
            on_error(row.error(why))
            continue
        seen.add(name)
        spellings = [name, *(name.replace(":", sign) for sign in "%-_")]
        clip = next((cut[spelling] for spelling in spellings if spelling in cut), None)
        if clip is not None:
            result.append(Sample(name=name, text=text, clip=clip))
        elif start is None or end is None or not start < end:
            on_error(
                row.error(f"{name} needs start before end as HH:MM:SS.mmm, got {cells['start']!r} and {cells['end']!r}")
            )
        elif cells["yid"] in whole:
            segment = Segment(start, end, row=f"{table}:{row.line}")
            result.append(Sample(name=name, text=text, clip=whole[cells["yid"]], segment=segment))
        else:
            missing.append(name)
    where = ", ".join(dict.fromkeys((*CLIPS, *WHOLE)))
    return present(
        result, missing, corpus="openasl", split=split, table=table, where=f"{root}/ {where}", on_missing=on_missing
    )


def _files(root: Path, folders: tuple[str, ...]) -> dict[str, Path]:
    """Videos by name without suffix; if several folders have a name, the first folder wins."""
    found: dict[str, Path] = {}
    for folder in folders:
        for file in names_in(root / folder):
            stem, dot, suffix = file.rpartition(".")
            if dot + suffix in SUFFIXES:
                found.setdefault(stem, root / folder / file)
    return found
