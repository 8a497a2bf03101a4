"""RWTH-PHOENIX-Weather 2014 T: German weather forecasts, 7096 / 519 / 642 sentences, 9 signers, 25 fps, 210x260 pixels.

Reads three kinds of labels. The text is not changed, so each kind keeps its convention for the final full stop:

    release   ROOT/annotations/manual/PHOENIX-2014-T.SPLIT.corpus.csv   no full stop, true gloss
    slt       ROOT/phoenix14t.pami0.SPLIT (neccam/slt, with features)   ends in " .",  true gloss
              ROOT/phoenix14t.SPLIT       (the same without features)
    gfslt     ROOT/labels.SPLIT           (zhoubenjia/GFSLT-VLP)        no full stop, gloss not read

Frames are ROOT/features/fullFrame-210x260px/SPLIT/NAME/images0001.png ..., except for `phoenix14t.pami0.*`.
The gloss in `labels.*` is not read because it differs from the annotation in 475 of the 642 test sentences. Everything
measured with it (WER, density per gloss) would be wrong (docs/paper-vs-code.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from signcl.data.annotation.table_files import OnError, find_table, has_words, read_table, stop
from signcl.data.batch import Sample
from signcl.data.corpora._layout import Layout
from signcl.data.pickles import load_pickle
from signcl.data.whole_numbers import whole_number

__all__ = ["samples"]

SPLITS = ("train", "dev", "test")
FRAMES = "features/fullFrame-210x260px"
LABELS = {
    "release": ("annotations/manual/PHOENIX-2014-T.{split}.corpus.csv",),
    "slt": ("phoenix14t.pami0.{split}", "phoenix14t.{split}"),
    "gfslt": ("labels.{split}",),
}

LAYOUT = Layout(
    files=tuple(
        f"{folder}{name}"
        for folder in ("", "PHOENIX-2014-T/")
        for name in ("annotations/manual/PHOENIX-2014-T.*.corpus.csv", "phoenix14t.*", "labels.train", "labels.dev")
    ),
    about="RWTH-PHOENIX-Weather 2014 T, German weather forecasts",
    published="https://www-i6.informatik.rwth-aachen.de/~koller/RWTH-PHOENIX-2014-T/",
    needs="annotations/manual/PHOENIX-2014-T.SPLIT.corpus.csv and features/fullFrame-210x260px/SPLIT/NAME/*.png",
)


def samples(root: Path, split: str, *, labels: str = "auto", on_error: OnError = stop) -> list[Sample]:
    """Reads the sentences of one split. Names follow the release (without `train/`) for all kinds of labels.

    Args:
        root: the folder PHOENIX-2014-T, or the release folder that contains it.
        split: `train`, `dev` or `test`.
        labels: `release`, `slt` or `gfslt` (see above), or `auto`: the first of these that exists.
        on_error: called with each broken row; by default the first error is raised.

    Raises:
        ValueError: `split` or `labels` is unknown, labels are missing, a pickle is unsafe, or a row has no words.
    """
    if split not in SPLITS:
        raise ValueError(f"phoenix14t: split must be one of {', '.join(SPLITS)}, got {split!r}")
    if labels not in ("auto", *LABELS):
        raise ValueError(f"phoenix14t: labels must be auto, {', '.join(LABELS)}, got {labels!r}")
    root = Path(root)
    if (root / "PHOENIX-2014-T").is_dir():
        root = root / "PHOENIX-2014-T"
    for kind in LABELS if labels == "auto" else (labels,):
        path = find_table(*(root / name.format(split=split) for name in LABELS[kind]))
        if path is not None:
            break
    else:
        wanted = [name.format(split=split) for kind in LABELS if labels in ("auto", kind) for name in LABELS[kind]]
        raise ValueError(f"{root}: phoenix14t needs the labels {' or '.join(wanted)}; see docs/data.md for sources")
    records = _release(path, on_error) if kind == "release" else _pickled(path, on_error)
    frames, nested = root / FRAMES / split, None
    result, seen = [], set()
    for where, record in records:
        name = str(record["name"]).removeprefix(f"{split}/")
        text = str(record["text"]).strip()
        if not has_words(text) or name in seen:
            why = f"{name} comes twice" if name in seen else f"{name} has a text without words: {text!r}"
            on_error(ValueError(f"{where}: {why}"))
            continue
        seen.add(name)
        if nested is None:  # some copies of the release have one more folder level, as in its column `video`
            nested = (frames / name / "1").is_dir()
        features = _features(record)
        length = len(features) if features is not None else record.get("num_frames") or record.get("length") or None
        num_frames = None if length is None else whole_number(str(length))
        if length is not None and num_frames is None:
            on_error(ValueError(f"{where}: {name} has num_frames {str(length)[:40]!r}, needs a whole number"))
            continue
        result.append(
            Sample(
                name=name,
                text=text,
                clip=None if features is not None else frames / name / "1" if nested else frames / name,
                features=features,
                gloss=() if kind == "gfslt" else tuple(str(record.get("gloss", "")).split()),
                signer=str(record.get("signer", "")),
                num_frames=num_frames or None,
            )
        )
    return result


def _release(path: Path, on_error: OnError) -> Iterator[tuple[str, dict[str, Any]]]:
    for row in read_table(path, ("name", "speaker", "orth", "translation"), delimiter="|", on_error=on_error):
        cells = row.cells
        record = {
            "name": cells["name"],
            "signer": cells["speaker"],
            "gloss": cells["orth"],
            "text": cells["translation"],
        }
        yield f"{path}:{row.line}", record


def _pickled(path: Path, on_error: OnError) -> Iterator[tuple[str, Mapping[str, Any]]]:
    loaded = load_pickle(path)
    records = list(loaded.values()) if isinstance(loaded, Mapping) else loaded
    if not isinstance(records, list):
        raise ValueError(f"{path}: needs a list or dict of records, got {type(loaded).__name__}")
    for number, record in enumerate(records):
        if isinstance(record, Mapping) and {"name", "text"} <= record.keys():
            yield f"{path}: record {number}", record
        else:
            on_error(
                ValueError(f"{path}: record {number} needs 'name' and 'text'; these are not labels of PHOENIX-2014-T")
            )


def _features(record: Mapping[str, Any]) -> Any:
    """Features of a record, [T, D], or None. Some files have an empty placeholder instead of features."""
    sign = record.get("sign")
    if sign is None or getattr(sign, "ndim", 0) != 2 or not len(sign):
        return None
    return sign.numpy() if hasattr(sign, "numpy") else sign
