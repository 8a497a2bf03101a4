"""CSL-Daily: Chinese Sign Language of daily life, 18401 / 1077 / 1176 sentences, 10 signers, 30 fps, 512x512 pixels.

Reads the official labels or a version converted to tables:

    release  ROOT/sentence_label/csl2020ct_v2.pkl and split_1.txt
    tsv      ROOT/csl-daily.SPLIT.tsv (or .tsv.gz): name signer num_frames gloss text

Frames are ROOT/sentence/frames_512x512/NAME/*.jpg. Text is the raw Chinese sentence, without spaces but with
punctuation; for margins, `signcl.data.text.count_words` counts its characters (2.18 per gloss). Each sentence is signed
by about three people (6578 distinct sentences among 18401), so a contrastive loss must handle duplicates.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from signcl.data.annotation.table_files import OnError, find_table, has_words, read_table, stop
from signcl.data.batch import Sample
from signcl.data.corpora._layout import Layout
from signcl.data.pickles import load_pickle
from signcl.data.progress import say
from signcl.data.whole_numbers import whole_number

__all__ = ["samples"]

SPLITS = ("train", "dev", "test")
FRAMES = ("sentence/frames_512x512", "frames_512x512")
COLUMNS = ("name", "signer", "num_frames", "gloss", "text")
PICKLE, SPLIT_FILE = "sentence_label/csl2020ct_v2.pkl", "sentence_label/split_1.txt"

LAYOUT = Layout(
    files=(PICKLE, SPLIT_FILE, "csl-daily.*.tsv*"),
    about="CSL-Daily, Chinese Sign Language of daily life",
    published="http://home.ustc.edu.cn/~zhouh156/dataset/csl-daily/ (after a signed agreement)",
    needs=f"{PICKLE}, {SPLIT_FILE} and the frames sentence/frames_512x512/NAME/*.jpg",
)


def samples(root: Path, split: str, *, labels: str = "auto", on_error: OnError = stop) -> list[Sample]:
    """Reads the sentences of one split.

    Clips that are in only one of the two official files are left out and reported: the split file lists
    S000005_P0004_T00, for which copies of the pickle have no label, and lacks S000007_P0003_T00.

    Args:
        root: the corpus folder.
        split: `train`, `dev` or `test`.
        labels: `release`, `tsv`, or `auto`: the first of these that exists.
        on_error: called with each broken row; by default the first one is raised.

    Raises:
        ValueError: an unknown split or kind of labels, missing labels, a rejected pickle, a row without words.
    """
    if split not in SPLITS:
        raise ValueError(f"csl_daily: split must be one of {', '.join(SPLITS)}, got {split!r}")
    if labels not in ("auto", "release", "tsv"):
        raise ValueError(f"csl_daily: labels must be auto, release or tsv, got {labels!r}")
    root = Path(root)
    table = find_table(root / f"csl-daily.{split}.tsv")
    if labels in ("auto", "release") and (root / PICKLE).is_file():
        records = _release(root, split, on_error)
    elif labels in ("auto", "tsv") and table is not None:
        records = ((f"{table}:{row.line}", row.cells) for row in read_table(table, COLUMNS, on_error=on_error))
    else:
        wanted = {"release": f"{PICKLE} and {SPLIT_FILE}", "tsv": f"csl-daily.{split}.tsv(.gz)"}
        names = " or ".join(wanted.values()) if labels == "auto" else wanted[labels]
        raise ValueError(f"{root}: csl_daily needs the labels {names}; docs/data.md says where to get them")
    frames = next((root / folder for folder in FRAMES if (root / folder).is_dir()), root / FRAMES[0])
    result, seen = [], set()
    for where, record in records:
        name, text = record["name"], record["text"]
        if not has_words(text) or name in seen:
            why = f"{name} occurs twice" if name in seen else f"{name} has a text without words: {text!r}"
            on_error(ValueError(f"{where}: {why}"))
            continue
        seen.add(name)
        result.append(
            Sample(
                name=name,
                text=text,
                clip=frames / name,
                gloss=tuple(record["gloss"].split()),
                signer=record["signer"],
                num_frames=whole_number(record["num_frames"]),
            )
        )
    return result


def _release(root: Path, split: str, on_error: OnError) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields the records of the official pickle in order, with the columns of the tables."""
    path, split_path = root / PICKLE, root / SPLIT_FILE
    if not split_path.is_file():
        raise ValueError(f"{root}: csl_daily needs {SPLIT_FILE} next to {PICKLE}; docs/data.md says where to get it")
    place: dict[str, str] = {}
    for row in read_table(split_path, ("name", "split"), delimiter="|"):
        name, part = row.cells["name"], row.cells["split"]
        if place.setdefault(name, part) != part:
            raise row.error(f"{name!r} is in the splits {place[name]!r} and {part!r}; download the file again")
    loaded = load_pickle(path)
    if not isinstance(loaded, dict) or not isinstance(loaded.get("info"), list):
        raise ValueError(f"{path}: needs a dict with a list 'info', as in the release")
    labelled = set()
    for number, info in enumerate(loaded["info"]):
        try:
            record = _record(info)
        except (KeyError, TypeError) as error:
            on_error(ValueError(f"{path}: record {number} is not as in the release ({error!r})"))
            continue
        labelled.add(record["name"])
        if place.get(record["name"]) == split:
            yield f"{path}: record {number}", record
    unlabelled = sorted(name for name, where in place.items() if where == split and name not in labelled)
    unplaced = sorted(labelled - place.keys())
    for names, what in (
        (unlabelled, f"in {split} of {SPLIT_FILE} have no label"),
        (unplaced, f"are not in {SPLIT_FILE}"),
    ):
        if names:
            say(f"csl_daily: left out {len(names)} clips that {what}: {', '.join(names[:5])}")


def _record(info: dict[str, Any]) -> dict[str, str]:
    return {
        "name": str(info["name"]),
        "signer": str(info.get("signer", "")),
        "num_frames": str(info.get("length", "")),
        "gloss": " ".join(info["label_gloss"]),
        "text": "".join(info["label_char"]),
    }
