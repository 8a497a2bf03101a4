"""The annotation task: spans of a corpus, and the file that stores the chosen frames.

The file is the only state. It is read again whenever it has changed, so that several servers can write to one file and
see each other's decisions.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from signcl.data.annotation.choices import (
    Decision,
    Role,
    SpanKey,
    agreement,
    append_decision,
    disagreements,
    last_standing,
    progress,
    read_decisions,
    standing,
)
from signcl.data.annotation.span_table import read_spans
from signcl.data.batch import Sample
from signcl.data.corpora import load_samples
from signcl.data.json_files import parse_json
from signcl.data.progress import say
from signcl.pages.markup import visible
from signcl.pages.signs import num_frames, span_view

__all__ = ["Task", "make_task"]


@dataclass
class Task:
    """Spans to choose frames for."""

    spans: list[SpanKey]
    """In order of the corpus and of time."""
    samples: dict[str, Sample]
    """The clips by name."""
    path: Path
    """The file of choices."""
    broken: dict[str, str] = field(default_factory=dict)
    """Clips that cannot be opened, with the reason; their spans can only be skipped."""
    _seen: tuple[int, int] = (-1, -1)
    _decisions: list[Decision] = field(default_factory=list)
    _guard: threading.Lock = field(default_factory=threading.Lock)
    _held: Any = None

    def __post_init__(self) -> None:
        self.places = {span: place for place, span in enumerate(self.spans)}

    def decisions(self) -> list[Decision]:
        """All decisions in the file about these spans."""
        with self._guard:
            try:
                found = self.path.stat()
                now = (found.st_size, found.st_mtime_ns)
            except FileNotFoundError:
                now = (0, 0)
            if now != self._seen:
                every = read_decisions(self.path)
                self._decisions = [decision for decision in every if decision.span in self.places]
                self._seen = now
                self.foreign = len(every) - len(self._decisions)
            return self._decisions

    def describe(self) -> dict[str, Any]:
        """Data for the page: a row (clip, gloss, start, stop) per span, and the sentences."""
        clips = {span.clip for span in self.spans}
        return {
            "spans": [(visible(s.clip), visible(s.gloss), s.start, s.stop) for s in self.spans],
            "texts": {visible(name): visible(self.samples[name].text) for name in clips},
            "file": visible(str(self.path)),
        }

    def state(self, annotator: str, role: Role = "annotator") -> dict[str, Any]:
        """The decisions of one annotator, span index -> frame (null: skipped), and the one that an undo would revert.

        A judge also gets the spans on which annotators differ, and who chose what; an annotator sees only their own.
        """
        decisions = self.decisions()
        own = {
            self.places[span]: by_whom[annotator].frame
            for span, by_whom in standing(decisions, role).items()
            if annotator in by_whom
        }
        last = last_standing(decisions, annotator, role)
        found: dict[str, Any] = {"decided": own, "last": None if last is None else self.places[last.span]}
        if role == "judge":
            theirs = standing(decisions)
            settled = {self.places[span] for span in standing(decisions, "judge")}
            unsettled = [self.places[span] for span in disagreements(decisions)]
            found["unsettled"] = unsettled
            found["queue"] = sorted({*unsettled, *(settled & {self.places[span] for span in theirs})})
            found["others"] = {
                place: [[name, decision.frame] for name, decision in sorted(theirs.get(self.spans[place], {}).items())]
                for place in found["queue"]
            }
        return found

    def decide(self, place: int, *, annotator: str, role: Role, action: Any, frame: Any, id: str) -> Decision:
        """Write one decision; it is on disk when this returns. Repeating an `id` changes nothing.

        Raises:
            ValueError: there is no such span, or the decision is invalid.
        """
        if not 0 <= place < len(self.spans):
            raise ValueError(f"there is no span {place}; there are {len(self.spans)}, counted from 0")
        span = self.spans[place]
        decision = Decision(annotator.strip(), *span, action=action, frame=frame, role=role, id=id)
        if span.clip in self.broken and action == "choose":
            raise ValueError(f"{span.clip} cannot be read, so none of its frames can be chosen; skip it")
        if id and any(known.id == id for known in reversed(self.decisions())):
            return decision
        return append_decision(self.path, decision)

    def view(self, place: int) -> dict[str, Any]:
        """The frames of a span, see `signs.span_view`.

        Raises:
            ValueError, OSError: there is no such span, or its clip cannot be read.
        """
        if not 0 <= place < len(self.spans):
            raise ValueError(f"there is no span {place}; there are {len(self.spans)}, counted from 0")
        span = self.spans[place]
        return span_view(self.samples[span.clip], span.start, span.stop)

    def summary(self) -> dict[str, Any]:
        """Progress of each annotator, and their agreement."""
        decisions = self.decisions()
        return {
            "spans": len(self.spans),
            "annotators": [{"name": name, **counts} for name, counts in progress(decisions).items()],
            "judges": sorted({d.annotator for found in standing(decisions, "judge").values() for d in found.values()}),
            "settled": len(standing(decisions, "judge")),
            "unsettled": [self.places[span] for span in disagreements(decisions)],
            "agreement": asdict(agreement(decisions)),
            "foreign": self.foreign,
            "file": str(self.path),
        }

    def hold(self, address: str) -> str | None:
        """Leave a note next to the file that this server writes to it.

        Returns:
            The address of another server that already writes to it, or None.
        """
        try:
            import fcntl
        except ImportError:  # Windows
            return None
        path = self.path.with_name(f".{self.path.name}.server")
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        self._held = handle  # the lock lasts as long as this process
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with contextlib.suppress(ValueError, OSError, KeyError, TypeError):
                return str(parse_json(path.read_bytes())["address"])
            return "unknown"
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps({"address": address, "pid": os.getpid()}).encode(), 0)
        return None


def make_task(
    spans: Path | str | None, *, corpus: str, root: Path | str, split: str, choices: Path | str | None = None
) -> Task:
    """Make a task from the spans of a table, or the corpus's own, with their clips.

    Args:
        spans: a TSV that `signcl.data.annotation.span_table` reads; None takes the spans of the corpus.
        corpus: kind of corpus, a key of `CORPORA`.
        root: its folder.
        split: its split.
        choices: file for the choices; default: SPANS with the ending `.choices.jsonl`, or choices.SPLIT.jsonl here.

    Raises:
        ValueError: an invalid table or corpus, spans beyond the end of their clips, no spans, or an invalid file of
            choices.
    """
    samples = load_samples(corpus, root, split)
    by_name = {sample.name: sample for sample in samples}
    if spans is None:
        found = {sample.name: sample.spans for sample in samples if sample.spans}
        if not found:
            raise ValueError(f"corpus {root} has no spans in split {split}; give a table: --annotate SPANS.tsv")
    else:
        found = read_spans(spans, names=by_name.keys())
    lengths, broken = _lengths([by_name[name] for name in found])
    if spans is not None:
        read_spans(spans, lengths={**dict.fromkeys(by_name), **lengths})
    if broken:
        name, reason = next(iter(broken.items()))
        say(
            f"{len(broken)} of {len(found)} clips cannot be read; their spans can only be skipped; the first: "
            f"{name}: {reason}"
        )
    order = [
        SpanKey(sample.name, str(span.token), span.start, span.stop)
        for sample in samples
        for span in found.get(sample.name, ())
    ]
    default = Path(f"choices.{split}.jsonl") if spans is None else Path(spans).with_suffix(".choices.jsonl")
    task = Task(order, by_name, Path(choices) if choices is not None else default, broken)
    task.decisions()
    if task.foreign:
        say(f"{task.path}: {task.foreign} decisions are about spans that are not in this table; they stay in the file")
    return task


def _lengths(samples: Sequence[Sample]) -> tuple[dict[str, int], dict[str, str]]:
    """Number of frames of each clip, and the clips that cannot be opened, with the reason."""
    lengths, broken = {}, {}
    for sample in samples:
        try:
            lengths[sample.name] = num_frames(sample)
            if sample.clip is not None and not sample.clip.exists():
                raise FileNotFoundError(f"no clip at {sample.clip}")
        except (ValueError, OSError) as error:
            broken[sample.name] = str(error)
            lengths.pop(sample.name, None)
    return lengths, broken
