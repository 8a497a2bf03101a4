"""Spans of signs in PHOENIX-2014T, from the HMM states that neccam/slt publishes for every video (no pixels needed).

The states are the alignment of Koller's CNN-LSTM-HMM: one number per frame, 0 = no sign, 3u+1..3u+3 = first to last
state of unit u; units 1057 and 1058 are silence.

- In train and dev, they are a forced alignment to the true glosses. The glosses of the units differ from the annotation
  in 2.3 % and 2.6 % of the tokens, counting immediately repeated glosses once.
- In test, they are a recognition with 20 % errors, not ground truth.

The recogniser was trained on glosses, so use the spans for analysis only.

    DIR/{train,dev,test}.tsv[.gz]   name  num_frames  gloss  text  pami0_gloss_hmm_state
    DIR/unit2gloss.json             {"0": "A", ...}

docs/alignment.md has the measured table and explains how a repeated movement appears.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from signcl.data.annotation.table_files import OnError, find_table, has_words, read_table, stop
from signcl.data.batch import Sample, Span
from signcl.data.json_files import read_json
from signcl.data.progress import say
from signcl.data.whole_numbers import whole_number

__all__ = ["SILENCE", "collapse", "decode_states", "read_unit_glosses", "samples"]

SILENCE = (1057, 1058)  # units at the end and the start of a sentence
STATES = "pami0_gloss_hmm_state"


def decode_states(
    states: Sequence[int] | np.ndarray,
    glosses: Mapping[int, str] | None = None,
    *,
    silence: Iterable[int] = SILENCE,
    merge: bool = False,
) -> list[Span]:
    """Decodes a sequence of HMM states to signs: one span per run through the states of a unit.

    A new span starts if the unit changes, if the state decreases (the sign is repeated), and after frames without sign.

    Args:
        states: one per frame, 0 = none, 3u+1..3u+3 = unit u. [T]
        glosses: gloss of each unit (`read_unit_glosses`). Without it, tokens are unit numbers; with it, units without a
            gloss are left out, like silence.
        silence: units that are not signs.
        merge: join adjacent spans of the same token. The model repeats a unit if a movement is repeated or held,
            although the annotation has one gloss.

    Returns:
        Spans in order of time, stop exclusive, score 1.

    Raises:
        ValueError: not one row of whole numbers of at least 0.

    Source: neccam/slt base_annotations, key `alignments`.
    """
    found = np.asarray(states)
    if found.ndim != 1 or (found.size and (found.dtype.kind not in "iu" or found.min() < 0)):
        raise ValueError(
            f"decode_states needs one whole number >= 0 per frame [T], got {found.dtype} of shape {found.shape}"
            + (f" from {found.min()}" if found.size and found.dtype.kind in "iu" else "")
        )
    unit = np.where(found > 0, (found - 1) // 3, -1)
    change = (unit[1:] != unit[:-1]) | (found[1:] < found[:-1])
    edges = [0, *(np.flatnonzero(change) + 1).tolist(), len(found)]
    skip = {-1, *silence}
    spans: list[Span] = []
    for start, stop_ in pairwise(edges):
        here = int(unit[start]) if start < stop_ else -1
        if here in skip or (glosses is not None and here not in glosses):
            continue
        token: str | int = here if glosses is None else glosses[here]
        if merge and spans and spans[-1].token == token and spans[-1].stop == start:
            spans[-1] = Span(token, spans[-1].start, stop_)
        else:
            spans.append(Span(token, start, stop_))
    return spans


def read_unit_glosses(path: Path | str) -> dict[int, str]:
    """Reads the gloss of each unit from `unit2gloss.json`.

    Raises:
        ValueError: no such file, or not an object of unit numbers and glosses.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no such file: {path}; needs the glosses of the HMM units (docs/alignment.md)")
    loaded = read_json(path, {str: str | None}, 'it needs {"unit number": "GLOSS", ...}', _check_units)
    numbers = ((whole_number(unit), gloss) for unit, gloss in loaded.items())
    return {unit: gloss for unit, gloss in numbers if unit is not None and gloss}


def _check_units(loaded: dict[str, Any]) -> None:
    for unit in loaded:
        if whole_number(unit) is None:
            raise ValueError(f"a unit must be a whole number from 0, got {unit[:40]!r}")


def collapse(tokens: Iterable[str]) -> list[str]:
    """Removes immediate repetitions of tokens, to compare decoded units with the annotation."""
    return [token for token, _ in groupby(tokens)]


def samples(root: Path | str, split: str, *, merge: bool = False, on_error: OnError = stop) -> list[Sample]:
    """Names, texts, glosses, frame counts and spans of one split, without frames: for counting, not for training.

    Args:
        root: the folder with the tables and `unit2gloss.json`.
        split: `train`, `dev` or `test`.
        merge: see `decode_states`.
        on_error: called with each broken row; by default the first one is raised.

    Raises:
        ValueError: a file or column missing, or a row whose states do not fit its frames.
    """
    root = Path(root)
    table = find_table(root / f"{split}.tsv")
    if table is None:
        raise ValueError(f"{root}: PHOENIX alignments need the file {split}.tsv or {split}.tsv.gz (docs/alignment.md)")
    glosses = read_unit_glosses(root / "unit2gloss.json")
    unnamed: Counter[int] = Counter()
    result = []
    for row in read_table(table, ("name", "num_frames", "gloss", "text", STATES), on_error=on_error):
        cells = row.cells
        name, text = cells["name"].removeprefix(f"{split}/"), cells["text"]
        try:
            numbers = [whole_number(state) for state in cells[STATES].split()]
            if None in numbers:
                raise ValueError("states that are not whole numbers")
            states = np.array(numbers, dtype=np.int64)
            if str(len(states)) != cells["num_frames"]:
                raise ValueError(f"{len(states)} states for {cells['num_frames'] or 'no'} frames")
            if not has_words(text):
                raise ValueError(f"a text without words: {text!r}")
            spans = tuple(decode_states(states, glosses, merge=merge))
        except ValueError as error:
            on_error(row.error(f"{name} has {error}"))
            continue
        unnamed.update(u for u in np.unique((states[states > 0] - 1) // 3).tolist() if u not in glosses)
        result.append(
            Sample(
                name=name,
                text=text,
                gloss=tuple(cells["gloss"].split()),
                signer=cells.get("signer", ""),
                num_frames=len(states),
                spans=spans,
            )
        )
    if not result and on_error is stop:
        raise ValueError(f"{table}: has a header but no rows; a split needs at least one sentence")
    lost = {unit: count for unit, count in unnamed.items() if unit not in SILENCE}
    if lost:
        say(f"{table}: {len(lost)} units have no gloss and are left out, in {sum(lost.values())} clips")
    return result
