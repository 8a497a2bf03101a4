"""CSL-News: Chinese Sign Language of television news, 722,711 clips, about 1,985 hours; Chinese text, no gloss.

    ROOT[/data/train]/CSL_News_Labels.json    a list of {"video": NAME.mp4, "pose": NAME.pkl, "text": sentence}
    clips    NAME.mp4 in ROOT/rgb_format, or in the folder of the unpacked archives (`VIDEOS`)

The labels have **no splits** (the corpus is for pretraining), so by default everything is train. `dev_share` and
`test_share` assign complete broadcasts (Common-Concerns_20201113) to dev and test by a checksum of their names; this
split is ours. The key points in pose_format are not read; use `corpus.features` for features by name.

Source: the data set ZechengLi19/CSL-News and the repository ZechengLi19/Uni-Sign (its README shows rgb_format and
pose_format, its config.py the labels); keys of a record as in third-party code. Counts from the paper, arXiv
2501.15187, from memory.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from signcl.data.annotation.table_files import OnError, has_words, stop
from signcl.data.batch import Sample
from signcl.data.corpora._layout import (
    Layout,
    OnMissing,
    check_share,
    check_split,
    names_in,
    present,
    split_by_share,
    told,
)
from signcl.data.json_files import read_json

__all__ = ["samples"]

LABELS = "CSL_News_Labels.json"
FOLDERS = (".", "data/train", "CSL_News", "data/CSL_News")
VIDEOS = ("rgb_format", "CSL_News/rgb_format", "dataset/CSL_News/rgb_format", "videos", "data/train", ".")

LAYOUT = Layout(
    files=tuple(f"{folder}/{LABELS}".removeprefix("./") for folder in FOLDERS),
    about="CSL-News, Chinese Sign Language of television news",
    published="https://huggingface.co/datasets/ZechengLi19/CSL-News (CC BY-NC 4.0, about 935 GB)",
    needs=f"{LABELS}, and the clips of its archives in rgb_format",
)


def samples(
    root: Path,
    split: str,
    *,
    dev_share: float = 0.0,
    test_share: float = 0.0,
    on_error: OnError = stop,
    on_missing: OnMissing = told,
) -> list[Sample]:
    """Reads the sentences of one split; records without a clip are left out and reported.

    Args:
        root: the corpus folder.
        split: `train`, `dev` or `test`.
        dev_share, test_share: share of the broadcasts for dev and test; 0 leaves the split empty.
        on_error: called with each broken record; by default the first one is raised.
        on_missing: called with the records without a clip.

    Raises:
        ValueError: an unknown split, missing labels or invalid JSON, an empty split, no clips, a record without words.
    """
    check_split("csl_news", root, split)
    check_share("csl_news", "dev_share", dev_share)
    check_share("csl_news", "test_share", test_share)
    root = Path(root)
    table = next((root / folder / LABELS for folder in FOLDERS if (root / folder / LABELS).is_file()), None)
    if table is None:
        raise ValueError(f"{root}: csl_news needs the labels {LABELS}; from {LAYOUT.published}")
    records = read_json(table, [Any], "it needs a list of records with video and text; download it again")
    files = {name: root / folder / name for folder in reversed(VIDEOS) for name in names_in(root / folder)}
    result: list[Sample] = []
    missing, seen, inside = [], set(), 0
    for number, record in enumerate(records):
        where = f"{table}: record {number}"
        if not isinstance(record, dict) or not all(isinstance(record.get(key), str) for key in ("video", "text")):
            on_error(ValueError(f"{where} needs the keys video and text, got {str(record)[:60]!r}"))
            continue
        video, text = record["video"].replace("\\", "/").rpartition("/")[2], record["text"]
        name = video.removesuffix(".mp4")
        if split_by_share("_".join(name.split("_")[:2]), dev_share, test_share) != split:
            continue
        inside += 1
        if name in seen or not has_words(text):
            why = f"{name} occurs twice" if name in seen else f"{name} has a text without words: {text!r}"
            on_error(ValueError(f"{where}: {why}"))
            continue
        seen.add(name)
        if f"{name}.mp4" in files:
            result.append(Sample(name, text, files[f"{name}.mp4"]))
        else:
            missing.append(name)
    if not inside and split != "train":
        raise ValueError(
            f"{table}: the release has no splits, and none of its {len(records)} clips is in {split}; set "
            f"corpus.options.{split}_share=0.02 to use some broadcasts for it"
        )
    where = f"{root}/ {', '.join(VIDEOS)}"
    return present(result, missing, corpus="csl_news", split=split, table=table, where=where, on_missing=on_missing)
