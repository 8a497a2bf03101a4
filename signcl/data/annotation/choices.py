"""Best frames of signs chosen by people: the file of their choices, and the agreement between annotators.

In the paper, two volunteers picked the frames (section A.3). Choices are JSON lines, one per decision, and the file is
only appended to. A killed server thus loses nothing, and several people can write at once:

    {"annotator": "ada", "role": "annotator", "clip": "test-000001", "gloss": "KEY", "start": 7, "stop": 16,
     "action": "choose", "frame": 11, "time": "2026-01-31T12:00:00.123Z", "id": "..."}

`frame` counts from the start of the clip, like `start` and `stop`. `action` is choose, skip (no frame shows the sign)
or undo (reverts this annotator's latest valid decision on this span). `role` is annotator, or judge for the person who
settles disagreements. The pages and server are in `signcl.pages`.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from statistics import median_low
from typing import Any, Literal, NamedTuple

from signcl.data.files import append_line, read_bytes
from signcl.data.json_files import parse_json
from signcl.data.progress import say

__all__ = [
    "Agreement",
    "Decision",
    "PairAgreement",
    "SpanKey",
    "agreement",
    "append_decision",
    "disagreements",
    "last_standing",
    "progress",
    "read_choices",
    "read_decisions",
    "standing",
]

Action = Literal["choose", "skip", "undo"]
Role = Literal["annotator", "judge"]
TOLERANCE = 1  # frames; neighbours can hardly be told apart at 25 frames a second


class SpanKey(NamedTuple):
    """A sign in a clip; frames from 0, stop exclusive."""

    clip: str
    gloss: str
    start: int
    stop: int


@dataclass(frozen=True)
class Decision:
    """One decision: a line of the file."""

    annotator: str
    clip: str
    gloss: str
    start: int
    stop: int
    action: Action
    frame: int | None = None
    """The chosen frame, counted in the clip; None unless `action` is choose."""
    role: Role = "annotator"
    time: str = ""
    """Time of writing, UTC, ISO 8601."""
    id: str = ""
    """Set by the sender, so that a decision that is sent twice counts once."""

    def __post_init__(self) -> None:
        for name in ("annotator", "clip", "gloss"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value.strip():
                raise ValueError(f"a decision needs a {name}, got {value!r}")
        if not isinstance(self.time, str) or not isinstance(self.id, str):
            raise ValueError(f"a decision needs time and id as text, got {self.time!r} and {self.id!r}")
        if not all(_whole(n) for n in (self.start, self.stop)) or not 0 <= self.start < self.stop:
            raise ValueError(f"a decision needs whole frames 0 <= start < stop, got {self.start!r} and {self.stop!r}")
        if self.action not in ("choose", "skip", "undo") or self.role not in ("annotator", "judge"):
            raise ValueError(
                f"a decision needs the action choose, skip or undo and the role annotator or judge, got "
                f"{self.action!r} and {self.role!r}"
            )
        if self.action == "choose" and not (_whole(self.frame) and self.start <= (self.frame or 0) < self.stop):
            raise ValueError(
                f"{self.clip} {self.gloss}:{self.start}-{self.stop}: the chosen frame must be one of "
                f"{self.start}..{self.stop - 1}, got {self.frame!r}"
            )
        if self.action != "choose" and self.frame is not None:
            raise ValueError(f"a decision to {self.action} has no frame, got {self.frame!r}")

    @property
    def span(self) -> SpanKey:
        """The sign that the decision is about."""
        return SpanKey(self.clip, self.gloss, self.start, self.stop)


@dataclass(frozen=True)
class PairAgreement:
    """Agreement of two annotators on the spans for which both chose a frame."""

    a: str
    b: str
    spans: int
    distance: float
    """Mean distance in frames; 0 is perfect."""
    near: float
    """Share of spans within the tolerance, 0..1; higher is better."""
    same: float
    """Share of spans with exactly the same frame, 0..1."""
    by_chance: float
    """Expected `near` if both picked at random within each span."""


@dataclass(frozen=True)
class Agreement:
    """Agreement between all annotators."""

    tolerance: int
    """Maximum difference in frames that counts as agreement."""
    pairs: tuple[PairAgreement, ...]
    """All pairs of annotators with a span in common."""
    spans: int
    """Spans for which at least two chose a frame."""
    distance: float | None
    """Mean distance over pairs of choices for the same span, in frames; None without pairs."""
    near: float | None
    """Share of those pairs within the tolerance."""
    by_chance: float | None


def append_decision(path: Path | str, decision: Decision) -> Decision:
    """Appends one decision to the file, see `append_line`.

    Returns:
        The decision as written, with its time.

    Raises:
        OSError: the file cannot be written.
    """
    decision = Decision(**{**asdict(decision), "time": decision.time or _now()})
    line = json.dumps(asdict(decision), ensure_ascii=False, separators=(", ", ": ")).encode()
    append_line(Path(path), line)
    return decision


def read_decisions(path: Path | str) -> list[Decision]:
    """Reads all decisions of a file in order, repeated ones (same `id`) once; an empty list if there is no file.

    Incomplete lines (from a power failure or full disk) are left out and counted on stderr.

    Raises:
        ValueError: a complete line that is not a decision, with its number.
    """
    path = Path(path)
    if not path.exists():
        return []
    found, cut, seen = [], 0, set()
    for number, raw in enumerate(read_bytes(path).split(b"\n"), start=1):
        if not raw.strip():
            continue
        try:
            content = parse_json(raw)
        except ValueError:
            if raw.startswith(b"{") and not raw.rstrip().endswith(b"}"):
                cut += 1
                continue
            raise ValueError(
                f"{path}, line {number}: not a line of choices (JSON object): {raw[:60]!r}; correct or delete it"
            ) from None
        try:
            if not isinstance(content, dict):
                raise TypeError("not an object")
            decision = Decision(**{f.name: content[f.name] for f in fields(Decision) if f.name in content})
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}, line {number}: {error}; correct or delete it") from None
        if decision.id and decision.id in seen:
            continue
        seen.add(decision.id)
        found.append(decision)
    if cut:
        say(f"{path}: {cut} incomplete line{'s were' if cut > 1 else ' was'} left out")
    return found


def standing(decisions: Iterable[Decision], role: Role = "annotator") -> dict[SpanKey, dict[str, Decision]]:
    """Valid decisions after applying every undo: span -> annotator -> the latest decision, never an undo."""
    stacks: dict[tuple[SpanKey, str], list[Decision]] = defaultdict(list)
    for decision in decisions:
        if decision.role != role:
            continue
        stack = stacks[decision.span, decision.annotator]
        if decision.action != "undo":
            stack.append(decision)
        elif stack:
            stack.pop()
    found: dict[SpanKey, dict[str, Decision]] = {}
    for (span, annotator), stack in stacks.items():
        if stack:
            found.setdefault(span, {})[annotator] = stack[-1]
    return found


def read_choices(
    path: Path | str,
    *,
    spans: Collection[SpanKey] | None = None,
    unsettled: Literal["median", "leave_out"] = "median",
    tolerance: int = TOLERANCE,
) -> dict[SpanKey, int]:
    """Reads the chosen frame of each span: the judge's choice if there is one, else the annotators' median.

    For an even number of choices, the median is the lower middle one, so it is always a frame that somebody chose. A
    span has no frame if the judge skipped it, or if more annotators skipped it than chose a frame.

    Args:
        path: a file of choices.
        spans: if given, choices for other spans are left out and counted on stderr.
        unsettled: how to treat spans on which annotators differ by more than `tolerance` or some skipped, and no judge
            decided: use the median, or leave them out.
        tolerance: frames.

    Returns:
        Span -> chosen frame of the clip, start <= frame < stop.

    Raises:
        ValueError: no such file, a file without choices, or a line that is not a decision.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no file of choices at {path}; `signcl serve --annotate SPANS` writes one")
    decisions = read_decisions(path)
    judged = {span: list(found.values())[-1] for span, found in standing(decisions, "judge").items()}
    theirs = standing(decisions)
    open_spans = set(disagreements(decisions, tolerance)) if unsettled == "leave_out" else set()
    chosen: dict[SpanKey, int] = {}
    for span in dict.fromkeys(decision.span for decision in decisions):
        if span in judged:
            frame = judged[span].frame
        else:
            frames = [d.frame for d in theirs.get(span, {}).values() if d.frame is not None]
            skipped = len(theirs.get(span, {})) - len(frames)
            frame = median_low(frames) if frames and skipped <= len(frames) and span not in open_spans else None
        if frame is not None:
            chosen[span] = frame
    if spans is not None:
        known = set(spans)
        foreign = [span for span in chosen if span not in known]
        if foreign:
            say(f"{path}: {len(foreign)} choices for other spans are left out, first {foreign[0]}")
        chosen = {span: frame for span, frame in chosen.items() if span in known}
    if not chosen:
        raise ValueError(
            f"{path}: contains no chosen frame{'' if spans is None else ' for these spans'}; choose some with "
            "`signcl serve --annotate SPANS`"
        )
    return chosen


def disagreements(decisions: Iterable[Decision], tolerance: int = TOLERANCE) -> list[SpanKey]:
    """Spans without a judge's decision on which annotators differ by more than `tolerance`, or some skipped."""
    decisions = list(decisions)
    judged = standing(decisions, "judge")
    found = []
    for span, by_whom in standing(decisions).items():
        frames = [d.frame for d in by_whom.values() if d.frame is not None]
        apart = bool(frames) and max(frames) - min(frames) > tolerance
        if span not in judged and (apart or 0 < len(frames) < len(by_whom)):
            found.append(span)
    return sorted(found)


def agreement(decisions: Iterable[Decision], tolerance: int = TOLERANCE) -> Agreement:
    """Agreement of annotators on the spans for which they chose a frame; judges are not counted.

    Args:
        decisions: from `read_decisions`.
        tolerance: frames within which two choices count as the same.
    """
    pairs: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)  # -> (distance, length of the span)
    several = 0
    for span, by_whom in standing(decisions).items():
        frames = sorted((name, d.frame) for name, d in by_whom.items() if d.frame is not None)
        several += len(frames) > 1
        for (a, x), (b, y) in combinations(frames, 2):
            pairs[a, b].append((abs(x - y), span.stop - span.start))
    rows = tuple(
        PairAgreement(a, b, len(found), *_measures(found, tolerance)) for (a, b), found in sorted(pairs.items())
    )
    every = [entry for found in pairs.values() for entry in found]
    distance, near, _, by_chance = _measures(every, tolerance) if every else (None, None, None, None)
    return Agreement(tolerance, rows, several, distance, near, by_chance)


def progress(decisions: Iterable[Decision]) -> dict[str, Counter[str]]:
    """Annotator -> number of spans with valid decisions, by action (choose, skip)."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for by_whom in standing(decisions).values():
        for name, decision in by_whom.items():
            counts[name][decision.action] += 1
    return dict(sorted(counts.items()))


def last_standing(decisions: Iterable[Decision], annotator: str, role: Role = "annotator") -> Decision | None:
    """The decision that an undo by this annotator would revert, or None."""
    stack: list[Decision] = []
    for decision in decisions:
        if decision.annotator != annotator or decision.role != role:
            continue
        if decision.action != "undo":
            stack.append(decision)
            continue
        for place in range(len(stack) - 1, -1, -1):
            if stack[place].span == decision.span:
                del stack[place]
                break
    return stack[-1] if stack else None


def _measures(found: list[tuple[int, int]], tolerance: int) -> tuple[float, float, float, float]:
    count = len(found)
    return (
        sum(apart for apart, _ in found) / count,
        sum(apart <= tolerance for apart, _ in found) / count,
        sum(apart == 0 for apart, _ in found) / count,
        sum(_blind(length, tolerance) for _, length in found) / count,
    )


def _blind(length: int, tolerance: int) -> float:
    """Probability that two uniform random picks from `length` frames are at most `tolerance` apart."""
    t = min(tolerance, length - 1)
    return (length + 2 * sum(length - apart for apart in range(1, t + 1))) / length**2


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
