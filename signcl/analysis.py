"""`run_density`: how crowded the signs lie in a run's feature space, on a split whose spans the corpus knows.

For features of other models, call `signcl.density` directly; this file only brings a run, a corpus and it together.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from signcl import checkpoint
from signcl.batch import Sample, Span
from signcl.checkpoint import Run
from signcl.data import ClipDataset, clip_loader, count_frames, plan_batches, recipe_samples, thin
from signcl.density import pool_spans, sdr_interval, shuffle_baseline, sign_density_ratio, to_rows
from signcl.density.spans import Choice
from signcl.evaluation import pick_device
from signcl.files import atomic_write, write_json
from signcl.models.frames import Tapped
from signcl.progress import say, track

__all__ = ["extract_features", "run_density", "sign_instances"]


@torch.no_grad()
def extract_features(
    run: Run, samples: list[Sample], *, tap: str = "features", device: str = "auto", progress: bool = True
) -> Iterator[tuple[Sample, Tapped]]:
    """Features of every clip, one at a time and in order of length: without augmentation, padding or repeats.

    Args:
        tap: `features` (where SignCL looks) or another of the system's `TAPS`.

    Yields:
        (sample, states of the clip on the CPU as one row of `signcl.models.frames.Tapped`); clips that cannot be read
        are said and left out.

    Raises:
        ValueError: no such tap.
    """
    place = pick_device(device)
    model = run.model.to(place).eval()
    data = ClipDataset(samples, None, run.recipe, training=False, dim=run.card.get("feature_dim"))
    plan = plan_batches(
        count_frames(samples, run.recipe.input),
        batch_size=run.recipe.train.batch_size,
        batch_frames=run.recipe.train.batch_frames,
        shuffle=False,
    )
    by_name = {s.name: s for s in samples}
    with track("extracting features", total=len(plan), show=progress) as bar:
        for loaded in clip_loader(data, plan):
            for name, reason in loaded.checked().broken:
                say(f"skipped {name}: {reason}")
            if loaded.batch is not None:
                batch = loaded.batch.to(place)
                seen: Tapped = model.tapped(batch, tap)  # type: ignore[operator]
                for name, row, length in zip(batch.names, seen.rows.float().cpu(), seen.lengths.cpu()):
                    yield by_name[name], replace(seen, rows=row[: int(length)], lengths=length)
            bar.advance()


def sign_instances(
    run: Run, samples: list[Sample], *, frame: Choice, tap: str, device: str, progress: bool
) -> tuple[torch.Tensor, list[str], list[tuple[str, int, int]]]:
    """One vector per annotated sign of the samples.

    Returns:
        Features [N, D], the gloss of each row, and (clip, start, stop) of each row in frames of the clip.
    """
    rows, glosses, where = [], [], []
    samples = [s for s in samples if s.spans]
    frames = count_frames(samples, replace(run.recipe.input, stride=1, max_frames=None))  # of the clips, unthinned
    num_frames = {s.name: count for s, count in zip(samples, frames)}
    for sample, tapped in extract_features(run, samples, tap=tap, device=device, progress=progress):
        kept = thin(num_frames[sample.name], run.recipe.input, None)
        seen = [  # spans are in frames of the clip; the model saw the frames `kept`
            (span, Span(span.token, *(int(np.searchsorted(kept, edge)) for edge in (span.start, span.stop))))
            for span in sample.spans
        ]
        seen = [(span, inner) for span, inner in seen if inner.start < inner.stop]
        if seen:
            inner = [inner for _, inner in seen]
            rows.append(pool_spans(tapped.rows, inner, frame, stride=tapped.stride, first_centre=tapped.first_centre))
            glosses += [str(span.token) for span, _ in seen]
            where += [(sample.name, span.start, span.stop) for span, _ in seen]
    if not rows:
        raise ValueError("no clip of this split has spans; run `signcl corpus stats` to see what the corpus holds")
    return torch.cat(rows), glosses, where


def run_density(
    folder: str | Path,
    split: str = "test",
    *,
    root: str | None = None,
    device: str = "auto",
    frame: Choice = "centre",
    tap: str = "features",
    distance: str = "euclidean",
    inter: str = "gloss",
    min_count: int = 2,
    seed: int = 0,
    picture: bool = True,
    progress: bool = True,
) -> dict[str, Any]:
    """Sign Density Ratio of a run on a split; writes `density.<split>.{csv,json,png}` into the run folder.

    Args:
        frame: the one vector of a sign: `centre` frame, `mean` of its frames, or `medoid`. The paper had two
            volunteers choose a frame.
        tap: see `extract_features`.
        distance, inter, min_count: see `signcl.density.sign_density_ratio`.

    Returns:
        The summary that the JSON file holds: SDR in percent with a bootstrap interval over glosses, the same under
        shuffled labels, mean intra- and inter-gloss distance, the densest and sparsest glosses, and how it was made.
    """
    run = checkpoint.load_run(folder)
    samples = recipe_samples(run.recipe, split, root)
    if not any(s.spans for s in samples):
        raise ValueError(
            f"density needs the frames of each sign, and split {split} of corpus {run.recipe.corpus.name} has no spans"
        )
    features, glosses, where = sign_instances(run, samples, frame=frame, tap=tap, device=device, progress=progress)
    names = sorted(set(glosses))
    ids = torch.tensor([names.index(g) for g in glosses])
    options: dict[str, Any] = {"distance": distance, "inter": inter, "min_count": min_count}
    density = sign_density_ratio(features, ids, **options)
    interval = sdr_interval(density, seed=seed)
    rows = to_rows(density, names)
    _write_csv(run.folder / f"density.{split}.csv", rows)
    counts = Counter(glosses)
    result = {
        "split": split,
        "sdr": 100 * density.mean,
        "interval": [100 * interval.low, 100 * interval.high],
        "shuffled": 100 * shuffle_baseline(features, ids, seed=seed, **options).mean,
        "intra": float(density.intra.mean()),
        "inter": float(density.inter.mean()),
        "feature_norm": float(features.norm(dim=1).mean()),
        "glosses": len(rows),
        "glosses_left_out": sum(n < min_count for n in counts.values()),
        "instances": len(glosses),
        "densest": rows[:5],
        "sparsest": rows[:-6:-1],
        "made": {"frame": frame, "tap": tap, **options, "seed": seed, "commit": checkpoint.git_commit()},
    }
    if picture:
        result["tsne"] = _picture(run.folder / f"density.{split}", features, glosses, where, seed)
    write_json(run.folder / f"density.{split}.json", result)
    return result


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        for row in rows:
            table.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})


def _picture(
    stem: Path, features: torch.Tensor, glosses: list[str], where: list[tuple[str, int, int]], seed: int
) -> dict[str, Any]:
    """The t-SNE map, its picture, and its points for the report."""
    from signcl.projection import density_figure, tsne

    if len(features) > 3000:
        say(f"drawing the t-SNE map of {len(features)} signs; --no-picture leaves it out")
    projection = tsne(features, seed=seed)
    common = [gloss for gloss, _ in Counter(glosses).most_common(7)]
    with atomic_write(stem.with_name(stem.name + ".png")) as temporary:
        density_figure(projection, glosses, highlight=common, path=temporary, format="png")
    points = [
        {"x": round(float(x), 3), "y": round(float(y), 3), "gloss": gloss, "clip": clip, "start": start, "stop": stop}
        for (x, y), gloss, (clip, start, stop) in zip(projection.coordinates, glosses, where)
    ]
    write_json(stem.with_name(stem.name + ".points.json"), points)
    return dict(projection.settings)
