"""`run_density` measures how densely signs are packed in a run's features; `feature_density` does so for any features.

This file connects runs, features, annotation and `signcl.density`. A run's split needs spans.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from signcl.data.annotation.span_table import attach_spans, is_choices
from signcl.data.batch import Sample, Span
from signcl.data.files import write_json
from signcl.data.loading import frames_used
from signcl.data.progress import say
from signcl.density import label_free_density, pool_spans, span_steps
from signcl.density.against import GlossTable
from signcl.density.figures import density_figure
from signcl.density.forced_align import peak_frames
from signcl.density.instance_files import (
    Annotation,
    corpus_clips,
    load_clips,
    load_instances,
    signers_of_clips,
)
from signcl.density.instances import Frame, Instances, Place, known_signers, on_peaks
from signcl.density.maps import tsne
from signcl.density.measuring import Settings, measure_instances
from signcl.density.results import write_result
from signcl.inference.clips import pick_device
from signcl.inference.extraction import tapped_clips
from signcl.systems.parts.frames import Tapped
from signcl.training import run_folder, runs
from signcl.training.recipe import recipe_samples
from signcl.training.runs import Run

__all__ = ["extract_features", "feature_density", "run_density", "run_label_free", "sign_instances"]


def extract_features(
    run: Run, samples: list[Sample], *, tap: str = "features", device: str = "auto", progress: bool = True
) -> Iterator[tuple[Sample, Tapped]]:
    """Features of every clip, one at a time, sorted by length, without augmentation or padding.

    Args:
        tap: `features` (which SignCL reads) or another of the system's `TAPS`.

    Yields:
        (sample, states of the clip on the CPU, as a `signcl.systems.parts.frames.Tapped` of one clip); unreadable clips
        are reported and left out.

    Raises:
        ValueError: no such tap.
    """
    for sample, seen in _extracted(run, samples, (tap,), device=device, progress=progress):
        yield sample, seen[tap]


def _extracted(
    run: Run, samples: list[Sample], taps: Sequence[str], *, device: str, progress: bool
) -> Iterator[tuple[Sample, dict[str, Tapped]]]:
    """States of every clip at several taps; the tap `log_probs` gives a recogniser's gloss log-probabilities."""
    dim = run.feature_dim
    yield from tapped_clips(
        run.model, run.recipe, samples, taps, dim=dim, poses=run.poses, device=device, progress=progress
    )


@torch.no_grad()
def sign_instances(
    run: Run, samples: list[Sample], frames: Sequence[Frame], *, tap: str, device: str, progress: bool
) -> list[Instances]:
    """One vector per annotated sign of the samples, for every choice of frame.

    "peak" takes the row nearest to the span's peak. If a span has none, it takes the row nearest to where the run, a
    recogniser, is most certain of the gloss, or the centre for a gloss that is not in its vocabulary.

    Raises:
        ValueError: no spans; "peak" if spans have none and the run does not recognise glosses.
    """
    told = all(span.peak is not None for sample in samples for span in sample.spans)
    if "peak" in frames and not run.model.recognises and not told:
        raise ValueError(
            f"--frame peak needs a run that recognises glosses, {run.folder} does not; train with "
            "loss.weights.recognition, give --spans with a column `peak` for every sign, or choose centre, "
            "mean or medoid"
        )
    picked: dict[Frame, list[torch.Tensor]] = {frame: [] for frame in frames}
    glosses: list[str] = []
    where: list[Place] = []
    signers: list[str | None] = []
    unknown: set[str] = set()
    samples = [s for s in samples if s.spans]
    used = {s.name: kept for s, (kept, _) in zip(samples, frames_used(samples, run.recipe.input))}
    taps = (tap, "log_probs") if "peak" in frames and not told else (tap,)
    for sample, seen in _extracted(run, samples, taps, device=device, progress=progress):
        kept = used[sample.name]
        both = [(span, _among(span, kept)) for span in sample.spans]
        inner, here = [inner for _, inner in both], seen[tap]
        for frame in frames:
            if frame == "peak" and told:
                peaks = [_among(peak, kept) for peak in on_peaks(sample.spans) or ()]
                rows = pool_spans(here.rows, peaks, "centre", stride=here.stride, first_centre=here.first_centre)
            elif frame == "peak":
                rows = _peaks(run, here, seen["log_probs"], inner, unknown)
            else:
                rows = pool_spans(here.rows, inner, frame, stride=here.stride, first_centre=here.first_centre)
            picked[frame].append(rows)
        glosses += [str(span.token) for span, _ in both]
        where += [(sample.name, span.start, span.stop) for span, _ in both]
        signers += [sample.signer or None] * len(both)
    if not glosses:
        raise ValueError("no clip of this split has spans; run `signcl corpus stats` to see what the corpus holds")
    if unknown:
        first = ", ".join(sorted(unknown)[:5])
        say(f"{len(unknown)} glosses have no class in this run; their peak is the centre: {first}")
    return [Instances(torch.cat(picked[frame]), glosses, where, frame, known_signers(signers)) for frame in frames]


def _among(span: Span, kept: np.ndarray) -> Span:
    """Convert a span to indices into the frames `kept` that the model saw; the nearest one if it saw none."""
    start, stop = (int(np.searchsorted(kept, edge)) for edge in (span.start, span.stop))
    if start == stop:
        start = int(np.abs(kept - (span.start + span.stop - 1) / 2).argmin())
    return Span(span.token, start, max(stop, start + 1))


def _peaks(run: Run, tapped: Tapped, said: Tapped, spans: list[Span], unknown: set[str]) -> torch.Tensor:
    """For each span, the row nearest to the step with the highest probability of its gloss."""
    assert run.glosses is not None
    rows = pool_spans(tapped.rows, spans, "centre", stride=tapped.stride, first_centre=tapped.first_centre).clone()
    places = span_steps(len(said.rows), spans, stride=said.stride, first_centre=said.first_centre)
    for i, (span, place) in enumerate(zip(spans, places)):
        (number,) = run.glosses.encode([str(span.token)])
        if number == 1:
            unknown.add(str(span.token))
            continue
        (step,) = peak_frames(said.rows, [Span(number, *place)])
        point = said.first_centre + step * said.stride
        row = round((point - tapped.first_centre) / tapped.stride)
        rows[i] = tapped.rows[min(max(row, 0), len(tapped.rows) - 1)]
    return rows


def run_density(
    folder: str | Path | Run,
    split: str = "test",
    *,
    root: str | None = None,
    device: str = "auto",
    frame: Frame | Sequence[Frame] = "centre",
    tap: str = "features",
    settings: Settings | None = None,
    spans: str | None = None,
    scores: GlossTable | None = None,
    bins: int = 9,
    versus: str | None = None,
    out: str | Path | None = None,
    picture: bool = True,
    progress: bool = True,
    rank: int = 0,
) -> dict[str, Any]:
    """Sign Density Ratio of a run on a split; writes `density.<split>.{csv,json,md,tex,png}` into the run folder.

    Args:
        folder: a run folder, or a loaded run.
        frame: how to get the vector of a sign: `centre` frame, `peak` of a recogniser's certainty, `mean` of its
            frames, or `medoid`. With several, all are measured, the first in full. In the paper two volunteers chose.
        tap: see `extract_features`.
        settings: measurement settings.
        spans: a table of spans to use instead of the corpus's; or a file of choices, whose frames ("people") then
            override `frame`.
        scores: accuracies of glosses, to relate to density.
        bins: number of bins for `scores`.
        versus: another run on the same corpus to compare with.
        out: also write `out.{json,csv,md,tex}`.

    Returns:
        The content of the JSON file: SDR in percent with an interval, SDR with shuffled labels, mean intra- and
        inter-gloss distance, the densest and sparsest glosses, and the settings.
    """
    settings = settings or Settings()
    frames: list[Frame] = [frame] if isinstance(frame, str) else list(frame)
    run, choices = _of_run(folder, split, root, frames, tap, spans, device, progress)
    other = None if versus is None else _of_run(versus, split, root, frames[:1], tap, spans, device, progress)[1][0]
    found, rows = measure_instances(
        choices, settings, scores=scores, bins=bins, versus=other, rank=rank, device=pick_device(device)
    )
    if rank:
        return {}
    found = {"split": split, **found}
    found["made"] |= {"tap": tap, "commit": run_folder.git_commit()}
    if spans is not None:
        found["made"]["spans"] = str(spans)
    stem = run.folder / f"density.{split}"
    if picture:
        found["tsne"] = _picture(stem, choices[0], settings.seed)
    for place in (stem, *([] if out is None else [Path(out)])):
        write_result(place, found, rows)
    return found


def _of_run(
    folder: str | Path | Run,
    split: str,
    root: str | None,
    frames: Sequence[Frame],
    tap: str,
    spans: str | None,
    device: str,
    progress: bool,
) -> tuple[Run, list[Instances]]:
    run = runs.load_run(folder)
    samples = recipe_samples(run.recipe, split, root)
    if spans is not None:
        samples = attach_spans(samples, spans)
    if not any(s.spans for s in samples):
        raise ValueError(
            f"density needs the frames of each sign, but split {split} of corpus {run.recipe.corpus.name} has no spans"
            "; give them with --spans TSV"
        )
    if is_choices(spans):
        (one,) = sign_instances(run, samples, ("centre",), tap=tap, device=device, progress=progress)
        return run, [replace(one, frame="people")]
    return run, sign_instances(run, samples, frames, tap=tap, device=device, progress=progress)


def feature_density(
    path: str | Path,
    annotation: Annotation,
    *,
    frame: Frame | Sequence[Frame] = "centre",
    settings: Settings | None = None,
    scores: GlossTable | None = None,
    bins: int = 9,
    versus: str | None = None,
    out: str | Path | None = None,
    picture: bool = False,
    rank: int = 0,
    device: str = "auto",
) -> dict[str, Any]:
    """Sign Density Ratio of any model's features, from files; see `signcl.density`.

    Args:
        path: .npy, .npz, pickle or feature store, of sequences or of one row per sign.
        annotation: the positions of the glosses.
        versus: other features of the same instances.
        out: write `out.{json,csv,md,tex}`, and with `picture` the t-SNE map; None: write nothing.
        frame, settings, scores, bins: as in `run_density`.
        device: device for the distances; `auto` is the GPU if there is one.
    """
    settings = settings or Settings()
    frames: list[Frame] = [frame] if isinstance(frame, str) else list(frame)
    choices = load_instances(path, annotation, frames)
    other = None if versus is None else load_instances(versus, annotation, frames[:1])[0]
    found, rows = measure_instances(
        choices, settings, scores=scores, bins=bins, versus=other, rank=rank, device=pick_device(device)
    )
    if rank:
        return {}
    given = {key: value for key, value in asdict(annotation).items() if value not in (None, False)}
    found["made"] |= {"features": str(path), "annotation": given, "commit": run_folder.git_commit()}
    if versus is not None:
        found["made"]["versus"] = str(versus)
    if out is not None:
        stem = Path(out)
        if picture:
            found["tsne"] = _picture(stem, choices[0], settings.seed)
        write_result(stem, found, rows)
    elif picture:
        raise ValueError("a picture needs an output path: give --out STEM")
    return found


def run_label_free(
    path: str | Path,
    split: str = "test",
    *,
    root: str | None = None,
    device: str = "auto",
    tap: str = "features",
    key: str | None = None,
    frame: Frame = "centre",
    frames_per_sign: float = 15.0,
    seed: int = 0,
    out: str | Path | None = None,
    signers: str | Path | None = None,
    corpus: str | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """`signcl.density.label_free_density` of a run's features on a split, or of a feature file of sequences.

    With `out` the result is written to `out.json`.

    Args:
        path: a run, a feature file, or with `corpus` a corpus folder of this kind, which has features.
        signers: for a feature file, a table with the columns name and signer; a corpus names its own.
        root, device, tap: for a run.
        key: for a feature file.
    """
    if frame == "peak":
        raise ValueError("--frame peak needs glosses; without them choose centre, mean or medoid")
    people: list[str] | None = None
    if (Path(path) / "recipe.yaml").is_file():
        run = runs.load_run(path)
        samples = recipe_samples(run.recipe, split, root)
        extracted = extract_features(run, samples, tap=tap, device=device, progress=progress)
        named = sorted(((s.name, seen.rows.numpy()) for s, seen in extracted), key=lambda clip: clip[0])
        of_clip = {s.name: s.signer or None for s in samples}
        people = known_signers([of_clip[name] for name, _ in named])
    elif corpus is not None:
        clips = list(corpus_clips(path, corpus, split))
        named, people = [(name, rows) for name, rows, _ in clips], known_signers([signer for *_, signer in clips])
    else:
        named = list(load_clips(path, key))
        people = None if signers is None else signers_of_clips(signers, [name for name, _ in named])
    found = asdict(
        label_free_density(
            [c for _, c in named], frames_per_sign=frames_per_sign, frame=frame, seed=seed, signers=people
        )
    )
    if out is not None:
        write_json(Path(out).with_name(Path(out).name + ".json"), found)
    return found


def _picture(stem: Path, instances: Instances, seed: int) -> dict[str, Any]:
    """Compute the t-SNE map and write its picture and its points for the report."""
    features = torch.as_tensor(np.asarray(instances.features)).float()
    if len(features) > 3000:
        say(f"drawing the t-SNE map of {len(features)} signs; --no-picture leaves it out")
    projection = tsne(features, seed=seed)
    common = [gloss for gloss, _ in Counter(instances.glosses).most_common(7)]
    picture = stem.with_name(stem.name + ".png")
    density_figure(projection, instances.glosses, highlight=common, path=picture, format="png")
    points = [
        {"x": round(float(x), 3), "y": round(float(y), 3), "gloss": gloss, "clip": clip, "start": start, "stop": stop}
        for (x, y), gloss, (clip, start, stop) in zip(projection.coordinates, instances.glosses, instances.where)
    ]
    write_json(stem.with_name(stem.name + ".points.json"), points)
    return dict(projection.settings)
