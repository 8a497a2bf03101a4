"""How2Sign: American Sign Language of instructional videos, about 31,000 / 1,700 / 2,350 sentences; no gloss.

Reads the official tables or a plain list of clips:

    release  how2sign_realigned_SPLIT.csv or how2sign_SPLIT.csv, tab-separated, in ROOT or as in the official download:
             ROOT[/sentence_level]/SPLIT/text/en/raw_text[/re_aligned]
    tsv      ROOT/how2sign.SPLIT.tsv (or .tsv.gz): name text

Clips are SENTENCE_NAME.mp4 in raw_videos, which is in ROOT, ROOT/SPLIT or ROOT[/sentence_level]/SPLIT/rgb_front. The
corpus calls its dev split `val`. Times in the tables are not used, because the clips are already cut.
"""

from __future__ import annotations

import os
from pathlib import Path

from signcl.data.annotation.table_files import OnError, find_table, has_words, read_table, stop
from signcl.data.batch import Sample
from signcl.data.corpora._layout import Layout, OnMissing, told

__all__ = ["samples"]

OFFICIAL = {"train": "train", "dev": "val", "test": "test"}

LAYOUT = Layout(
    files=(
        "how2sign_*.csv*",
        "how2sign.*.tsv*",
        "*/text/en/raw_text/how2sign_*.csv",
        "*/text/en/raw_text/re_aligned/how2sign_*.csv",
        "sentence_level/*/text/en/raw_text/how2sign_*.csv",
        "sentence_level/*/text/en/raw_text/re_aligned/how2sign_*.csv",
    ),
    about="How2Sign, American Sign Language of instructional videos",
    published="https://how2sign.github.io/",
    needs="how2sign_realigned_{train,val,test}.csv and the clips raw_videos/SENTENCE_NAME.mp4",
)


def samples(
    root: Path,
    split: str,
    *,
    labels: str = "auto",
    realigned: bool = True,
    on_error: OnError = stop,
    on_missing: OnMissing = told,
) -> list[Sample]:
    """Reads the sentences of one split.

    The official tables list more sentences than there are clips (8 more of 2,357 in the realigned test); rows without a
    clip are left out and reported.

    Args:
        root: the corpus folder.
        split: `train`, `dev` or `test`.
        labels: `release`, `tsv`, or `auto`: the first of these that exists.
        realigned: read `how2sign_realigned_*.csv`, the authors' corrected list, or the original `how2sign_*.csv`. Use
            the one by which your clips were cut.
        on_error: called with each broken row; by default the first one is raised.
        on_missing: called with the rows without a clip.

    Raises:
        ValueError: an unknown split or kind of labels, a missing table or folder of clips, no clips, a row without
            words.
    """
    if split not in OFFICIAL:
        raise ValueError(f"how2sign: split must be one of {', '.join(OFFICIAL)}, got {split!r}")
    if labels not in ("auto", "release", "tsv"):
        raise ValueError(f"how2sign: labels must be auto, release or tsv, got {labels!r}")
    root, val = Path(root), OFFICIAL[split]
    name = f"how2sign_realigned_{val}.csv" if realigned else f"how2sign_{val}.csv"
    texts = [root / part / val / "text/en/raw_text" for part in ("", "sentence_level")]
    release = find_table(root / name, *(text / "re_aligned" / name for text in texts), *(text / name for text in texts))
    plain = find_table(*(root / f"how2sign.{part}.tsv" for part in dict.fromkeys((split, val))))
    if labels in ("auto", "release") and release is not None:
        table, key, sentence = release, "SENTENCE_NAME", "SENTENCE"
    elif labels in ("auto", "tsv") and plain is not None:
        table, key, sentence = plain, "name", "text"
    else:
        wanted = {"release": name, "tsv": f"how2sign.{split}.tsv(.gz)"}
        names = " or ".join(wanted.values()) if labels == "auto" else wanted[labels]
        other = f"how2sign_{val}.csv" if realigned else f"how2sign_realigned_{val}.csv"
        hint = f"; {other} is read with realigned: {str(not realigned).lower()}"
        raise ValueError(f"{root}: how2sign needs the table {names}{hint}; docs/data.md says where to get it")
    clips = _clips(root, val)
    with os.scandir(clips) as entries:
        there = {entry.name for entry in entries}  # list the folder once instead of checking 31,000 files
    result, seen, missing = [], set(), []
    for row in read_table(table, (key, sentence), quoted=table is release, on_error=on_error):
        name, text = row.cells[key].removesuffix(".mp4"), row.cells[sentence]
        if not has_words(text) or name in seen:
            on_error(
                row.error(f"{name} occurs twice" if name in seen else f"{name} has a text without words: {text!r}")
            )
            continue
        seen.add(name)
        if f"{name}.mp4" in there:
            result.append(Sample(name=name, text=text, clip=clips / f"{name}.mp4"))
        else:
            missing.append(name)
    if not result and on_missing is told:
        raise ValueError(f"{clips}: has none of the {len(missing)} clips that {table} names; check corpus.root")
    if missing:
        on_missing("how2sign", split, missing, len(seen))
    return result


def _clips(root: Path, val: str) -> Path:
    places = [f"{val}/raw_videos", f"{val}/rgb_front/raw_videos", f"sentence_level/{val}/rgb_front/raw_videos"]
    for place in [*places, "raw_videos"]:
        if (root / place).is_dir():
            return root / place
    raise ValueError(f"{root}: how2sign needs the folder of clips raw_videos, {' or '.join(places)}; check corpus.root")
