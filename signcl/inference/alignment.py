"""`signcl align`: finds the frames of every gloss of a split, with a trained recogniser or given log-probabilities.

The tensor functions are in `signcl.density.forced_align`. This file applies them to runs, corpora and files, and scores
the spans if the corpus has reference spans.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from signcl.data.annotation.plain_text import read_plain
from signcl.data.annotation.span_table import write_spans
from signcl.data.annotation.table_files import read_table
from signcl.data.batch import Batch, Sample, Span
from signcl.data.features import open_features
from signcl.data.files import write_json
from signcl.data.loading import first_frame, frames_used
from signcl.data.text import GlossVocabulary, load_glosses
from signcl.density.forced_align import alignment_quality, forced_align_batch, frame_spans, peak_frames
from signcl.inference.clips import batches_of, say_skipped
from signcl.metrics import score_glosses
from signcl.systems.parts.search import ctc_prefix_beam
from signcl.training import run_folder, runs
from signcl.training.devices import memory_advice
from signcl.training.recipe import recipe_samples

__all__ = ["align_log_probs", "align_run", "gloss_samples"]

Fill = Literal["nearest", "label"]
Clock = tuple[float, float]
"""Frames from one step to the next, and the middle of the first step."""
BATCH = 16


def align_run(
    folder: str | Path,
    split: str,
    out: str | Path,
    *,
    root: str | None = None,
    fill: Fill = "nearest",
    device: str = "auto",
    transductive: bool = False,
    tolerance: int = 2,
    progress: bool = True,
) -> dict[str, Any]:
    """Align a split with a run that recognises glosses; writes the table of spans and a `.json` report next to it.

    Args:
        folder: a run with a weight for `recognition`: recogniser, smkd, cnn_ctc, Joint-SLT.
        out: the table (`signcl.data.annotation.span_table`), with the frame where each gloss is most probable as
            `peak`.
        fill: `nearest` assigns every frame to a sign, `label` only those that the path labels.
        transductive: must be set to align a split other than train that the run was trained on.
        tolerance: tolerance in frames for the share of correct boundaries.

    Returns:
        The report: settings; word error rate of the recogniser on these clips (Table 9); boundary errors and frame
        accuracy if the corpus has reference spans; the clips left out, with reasons.

    Raises:
        ValueError, OSError: a run without a gloss head, a corpus without glosses, or no clip that can be aligned.

    Source: paper section A.3, whose aligner is trained on train and test merged (`corpus.transductive`).
    """
    run = runs.load_run(folder)
    if run.glosses is None or not run.model.recognises:
        raise ValueError(f"{run.folder} recognises no glosses; align with a run that weighs recognition")
    leaked = split == "test" and run.recipe.corpus.transductive
    if leaked != transductive:
        raise ValueError(
            f"{run.folder} was trained on the test split (corpus.transductive); confirm with --transductive"
            if leaked
            else f"--transductive needs a run that was trained with corpus.transductive=true, and split test; "
            f"this is {run.folder} with split {split}"
        )
    alone = replace(run.recipe, corpus=replace(run.recipe.corpus, transductive=False))  # train without test clips
    samples = recipe_samples(alone, split, root)
    used = frames_used(samples, run.recipe.input)
    frames = {s.name: np.append(kept, count) for s, (kept, count) in zip(samples, used)}
    by_name = {sample.name: sample for sample in samples}
    stride = run.recipe.input.stride
    aligned, clock = _Aligned(run.glosses, fill, {}, first_frame(stride, run.recipe.input, None)), None
    for batch in batches_of(
        run.model,
        run.recipe,
        samples,
        dim=run.feature_dim,
        poses=run.poses,
        broken=aligned.broken,
        what="aligning",
        device=device,
        progress=progress,
    ):
        with memory_advice(run.recipe, batch, "aligning"):
            clock = clock or _clock(run.model, batch)
            found, steps = run.model.recognise(batch)
        for name, rows, length in zip(batch.names, found.cpu(), steps.tolist()):
            aligned.add(by_name[name], *_of_the_clip(rows[:length], frames[name], clock))
    made = {
        "run": str(run.folder),
        "split": split,
        "transductive": transductive,
        "trained_with_commit": run.card.get("commit", ""),
    }
    return aligned.write(Path(out), made, run.recipe.corpus.name, tolerance)


def _of_the_clip(rows: torch.Tensor, frames: np.ndarray, clock: Clock) -> tuple[torch.Tensor, np.ndarray, Clock]:
    """Remove the steps outside the clip, where a convolution reads copies of edge frames."""
    stride, centre = clock
    edges = np.floor(centre - stride / 2 + np.arange(len(rows) + 1) * stride - 0.5) + 1  # as in `frame_spans`
    edges = edges.clip(0, len(frames) - 1)
    steps = np.flatnonzero(edges[1:] > edges[:-1])
    first, last = int(steps[0]), int(steps[-1])
    return rows[first : last + 1], frames, (stride, centre + first * stride)


@torch.no_grad()
def _clock(model: Any, batch: Batch) -> Clock:
    """The positions of a model's steps in time."""
    seen = model.tapped(batch, "steps")
    return seen.stride, seen.first_centre


def align_log_probs(
    source: str | Path,
    classes: str | Path,
    samples: Sequence[Sample],
    out: str | Path,
    *,
    corpus: str = "folder",
    fill: Fill = "nearest",
    stride: float = 1.0,
    first_centre: float | None = None,
    tolerance: int = 2,
) -> dict[str, Any]:
    """Align with log-probabilities from files of any model; writes the same files as `align_run`.

    Args:
        source: log-softmax over classes of each clip [T, C], with blank as class 0: store, .npz, pickle, .npy.
        classes: `glosses.json` of a run, with the glosses of classes 2, 3, ... (class 1 is <unk>); or a text file with
            one class name per line from class 0 on.
        samples: the clips, with their glosses.
        stride: frames of the clip from one row to the next.
        first_centre: the middle of the first row in frames; None: stride / 2.

    Raises:
        ValueError, OSError: as in `align_run`; rows that are not log-probabilities; classes that do not fit them.
    """
    vocabulary = _classes(Path(classes))
    features = open_features(source)
    if features.dim != len(vocabulary):
        raise ValueError(
            f"{source} has {features.dim} classes, {classes} names {len(vocabulary)}; both need blank and all glosses"
        )
    known = set(features.names)
    aligned = _Aligned(vocabulary, fill, {})
    for sample in samples:
        if sample.name not in known:
            aligned.broken[sample.name] = f"{source} has no log-probabilities for it"
            continue
        rows = torch.from_numpy(features[sample.name])
        count = sample.num_frames or round(len(rows) * stride)
        clock = (stride, stride / 2 if first_centre is None else first_centre)
        aligned.add(sample, rows, np.arange(count + 1), clock)
    made = {"log_probs": str(source), "classes": str(classes), "transductive": None, "stride": stride}
    return aligned.write(Path(out), made, corpus, tolerance)


def gloss_samples(path: str | Path) -> list[Sample]:
    """Read clips with only their glosses from a table `name gloss` (glosses separated by spaces).

    Raises:
        ValueError, OSError: no such file, no rows, or a missing or duplicate name.
    """
    path = Path(path)
    found: dict[str, Sample] = {}
    for row in read_table(path, ("name", "gloss")):
        name = row.cells["name"]
        if not name or name in found:
            raise row.error(f"needs a name that no other row has, got {name!r}")
        found[name] = Sample(name, "", gloss=tuple(row.cells["gloss"].split()))
    if not found:
        raise ValueError(f"{path}: has a header but no rows; needs one row per clip: name gloss")
    return list(found.values())


class _Aligned:
    """Collects and aligns clips in batches; `write` makes the table and the report.

    Args:
        before: unused frames before each used frame that it also represents (`input.stride_from`).
    """

    def __init__(self, glosses: GlossVocabulary, fill: Fill, broken: dict[str, str], before: int = 0) -> None:
        self.glosses, self.fill, self.broken, self.before = glosses, fill, broken, before
        self.samples: dict[str, Sample] = {}
        self.spans: dict[str, tuple[Span, ...]] = {}
        self.peaks: dict[str, list[int]] = {}
        self.recognised: dict[str, str] = {}
        self.lengths: dict[str, int] = {}
        self._waiting: list[tuple[Sample, torch.Tensor, np.ndarray, Clock]] = []

    def add(self, sample: Sample, rows: torch.Tensor, frames: np.ndarray, clock: Clock) -> None:
        """Add a clip: log-probabilities [T, C]; indices of the frames that the model saw, then the length; its
        clock."""
        self._waiting.append((sample, rows, frames, clock))
        if len(self._waiting) == BATCH:
            self.flush()

    def flush(self) -> None:
        """Align the collected clips."""
        usable = []
        for sample, rows, frames, clock in self._waiting:
            tokens = self.glosses.encode(sample.gloss)
            if reason := _unusable(sample, tokens, rows):
                self.broken[sample.name] = reason
            else:
                usable.append((sample, rows, frames, clock, tokens))
        self._waiting.clear()
        if not usable:
            return
        padded = torch.nn.utils.rnn.pad_sequence([rows for _, rows, *_ in usable], batch_first=True)
        steps = torch.tensor([len(rows) for _, rows, *_ in usable])
        found = forced_align_batch(padded, steps, [tokens for *_, tokens in usable], fill=self.fill)
        searched = ctc_prefix_beam(padded, steps, beams=10)
        for (sample, rows, frames, (stride, centre), _), spans, paths in zip(usable, found, searched):
            seen = len(frames) - 1  # frames that the model saw
            moved = frame_spans(spans, seen, stride=stride, first_centre=centre)
            # frame k represents frames from `before` it to the start of the next one's; the last also the rest
            edges = np.append((frames[:-1] - self.before).clip(min=0), frames[-1])
            self.spans[sample.name] = tuple(
                Span(
                    gloss, start := int(edges[s.start]), max(start + 1, int(edges[s.stop])), s.score
                )  # at least one frame
                for gloss, s in zip(sample.gloss, moved)
            )
            tops = [min(max(int(centre + stride * peak), 0), seen - 1) for peak in peak_frames(rows, spans)]
            self.peaks[sample.name] = [int(frames[top]) for top in tops]
            self.recognised[sample.name] = " ".join(self.glosses.decode(paths[0].classes))
            self.samples[sample.name], self.lengths[sample.name] = sample, int(frames[-1])

    def write(self, out: Path, made: dict[str, Any], corpus: str, tolerance: int) -> dict[str, Any]:
        """Write the table to `out` and the report next to it; returns the report."""
        self.flush()
        if not self.spans:
            first = next(iter(self.broken.items()), ("", "there is no clip"))
            raise ValueError(f"no clip could be aligned; the first: {first[0]}: {first[1]}")
        names = list(self.spans)
        glosses = [" ".join(self.samples[name].gloss) for name in names]
        scored = score_glosses([self.recognised[name] for name in names], glosses, phoenix=corpus == "phoenix14t")
        report: dict[str, Any] = {
            "clips": len(names),
            "signs": sum(map(len, self.spans.values())),
            "left_out": self.broken,
            "wer": scored["wer"],
            "mean_frames": float(np.mean([s.stop - s.start for spans in self.spans.values() for s in spans])),
            "made": made | {"fill": self.fill, "commit": run_folder.git_commit()},
        }
        true = [n for n in names if [str(s.token) for s in self.samples[n].spans] == list(self.samples[n].gloss)]
        if true:
            quality = alignment_quality(
                [self.spans[name] for name in true],
                [self.samples[name].spans for name in true],
                [self.lengths[name] for name in true],
                tolerance=tolerance,
            )
            report["against_truth"] = {"clips": len(true), **asdict(quality)}
        write_spans(out, self.spans, peaks=self.peaks)
        write_json(out.with_suffix(".json"), report)
        say_skipped(self.broken, "left out")
        return report


def _unusable(sample: Sample, tokens: list[int], rows: torch.Tensor) -> str:
    """Why a clip cannot be aligned; empty if it can."""
    if not tokens:
        return "it has no glosses"
    unknown = [gloss for gloss, token in zip(sample.gloss, tokens) if token == 1 and gloss != "<unk>"]
    if unknown:
        return f"the gloss {unknown[0]} is not in the recogniser's vocabulary"
    needed = len(tokens) + sum(a == b for a, b in pairwise(tokens))
    if needed > len(rows):
        return f"its {len(tokens)} glosses need {needed} steps, it has {len(rows)}"
    if not torch.isfinite(rows.logsumexp(1)).all() or (rows.logsumexp(1).abs() > 1e-2).any():
        return "its rows are no log-probabilities (they must sum to 1 after exp); apply log_softmax"
    return ""


def _classes(path: Path) -> GlossVocabulary:
    """Read class names: `glosses.json`, its folder, or a text file with blank and <unk> on the first two lines."""
    if path.is_dir():
        return load_glosses(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: needs the names of the classes: glosses.json or one class per line")
    if path.suffix == ".json":
        return load_glosses(path.parent)
    lines = read_plain(path).split("\n")
    lines = lines[:-1] if lines and not lines[-1] else lines
    if len(lines) < 3:
        raise ValueError(f"{path}: needs a line for the blank, one for <unk> and one for each gloss, got {len(lines)}")
    if lines[1][:1].isalnum():
        raise ValueError(
            f"{path}: line 2 is class 1, for unknown glosses (<unk>), got {lines[1]!r}; if a model has no such "
            "class, add the line and a column of very small log-probabilities (-1e4)"
        )
    return GlossVocabulary(lines[2:])
