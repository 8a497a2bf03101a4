"""`extract`: writes the features of a split to a feature store, with a trained run or a published frame encoder.

It uses no augmentation, writes no padding, reads every clip once, and thins frames evenly if the recipe thins. It is
resumable: after a kill it continues after the last complete shard and writes the same files, because batches are always
planned over the entire split.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from signcl.data.batch import Batch, Sample
from signcl.data.features import (
    FeatureStore,
    finished_store,
    look_at_features,
    stored_names,
    unfinished_meta,
    with_features,
    write_store,
)
from signcl.data.loading import count_frames, feature_dim, first_frame, thin
from signcl.data.pose_crops import only_parts, part_squares
from signcl.data.pose_estimation import PoseKind
from signcl.data.poses import PoseClip
from signcl.data.progress import say, track
from signcl.inference.clips import batches_of, none_read, say_skipped
from signcl.inference.estimated_poses import with_estimated_poses
from signcl.systems.encoders import (
    OF_FEATURES,
    PublishedCrops,
    PublishedImages,
    VisionReading,
    initialise_visual,
    open_vision,
)
from signcl.systems.parts.frames import FrameEncoder, Tapped, no_such_tap
from signcl.training import run_folder, runs
from signcl.training.devices import memory_advice
from signcl.training.recipe import (
    InputRecipe,
    Recipe,
    TrainRecipe,
    is_recipe,
    load_recipe,
    recipe_from_dict,
    recipe_samples,
)
from signcl.training.runs import build_recipe_encoder, earlier_run

__all__ = ["Extraction", "Extractor", "extract", "open_encoder", "open_extractor", "tapped_clips"]

LOG_PROBS = "log_probs"


@dataclass(frozen=True)
class Extractor:
    """The model that extracts features."""

    name: str
    """The run folder, or the recipe and weights of its frame encoder."""
    model: nn.Module
    """A model with `TAPS` and `tapped(batch, tap)`."""
    recipe: Recipe
    dim: int | None
    """Size of the input features; None for pixels."""
    trained_with_commit: str = ""
    poses: PoseKind | None = None
    """The key points that it was trained on."""
    encoder: dict[str, Any] = field(default_factory=dict)
    """For a published vision model: its source and how it is applied to clips."""


@dataclass(frozen=True)
class Extraction:
    """Result of `extract`."""

    store: str
    clips: int
    rows: int
    dim: int
    """Size of a row."""
    meta: dict[str, Any]
    """Metadata of the store."""
    broken: dict[str, str]
    """Clips that could not be read and are not in the store, with reasons."""
    seconds: float

    def __str__(self) -> str:
        meta = self.meta
        text = f"{self.store}: {self.clips} clips, {self.rows} rows of {self.dim}, tap {meta['tap']}, "
        text += f"a row every {meta['stride']:g} frames, the first at {meta['first_centre']:g}, {self.seconds:.0f} s"
        return text + (f"; {len(self.broken)} clips could not be read" if self.broken else "")


def open_extractor(source: str | Path, overrides: Sequence[str] = (), *, split: str = "train") -> Extractor:
    """Open a run folder, or a recipe whose frame encoder has published weights and is used without training.

    Args:
        source: a run folder, or a YAML recipe with `model.visual_weights`.
        overrides: `key.sub=value`, for a recipe.
        split: split whose features are the input, if the recipe's corpus has features.

    Raises:
        ValueError, OSError: neither of the two, or weights that do not fit.
    """
    path = Path(source)
    if not is_recipe(source):
        if overrides:
            raise ValueError(f"{overrides[0]}: recipe keys need a recipe; the run {path} has its own")
        run = runs.load_run(path)
        return Extractor(str(path), run.model, run.recipe, run.feature_dim, str(run.card.get("commit", "")), run.poses)
    recipe = load_recipe(path, list(overrides))
    m = recipe.model
    if not m.visual_weights:
        raise ValueError(
            f"{path}: extracting with a recipe uses a published frame encoder, so it needs "
            f"--model.visual_weights=pretrained:FILE (or pretrained:RUN); for the features of a trained run give the "
            f"run folder"
        )
    dim = None
    if recipe.corpus.features or m.visual in OF_FEATURES:
        dim = feature_dim(recipe_samples(recipe, split), recipe.input)
    visual = build_recipe_encoder(recipe, dim)
    say(initialise_visual(visual, m.visual_weights, earlier_run))
    return Extractor(m.visual_weights, FrameEncoder(visual).eval(), recipe, dim)


def open_encoder(
    encoder: str,
    source: str | Path | None,
    overrides: Sequence[str] = (),
    *,
    corpus: str = "",
    root: str = "",
    reading: VisionReading | None = None,
) -> Extractor:
    """Open a published vision model for the clips of a corpus; it reads every frame at the model's input size.

    Args:
        encoder: a folder or hub id.
        source: a recipe, of which only `corpus` is used, without its features. None: use `corpus` and `root`.
        overrides: `key.sub=value` for the recipe; `input` keys given here do apply (input.stride=2).
        corpus, root: name and folder of a corpus, without a recipe.
        reading: windows, scales, pooling.

    Raises:
        ValueError, OSError: no such model, recipe or corpus.
    """
    if source is None:
        if not corpus or not root:
            raise ValueError("--encoder needs a recipe, or --corpus NAME and --root FOLDER")
        base = recipe_from_dict({"corpus": {"name": corpus, "root": root}})
        for override in overrides:
            raise ValueError(f"{override}: recipe keys need a recipe")
    else:
        path = Path(source)
        if path.suffix not in (".yaml", ".yml"):
            raise ValueError(f"--encoder needs a recipe (.yaml) for its corpus, or --corpus and --root, got {path}")
        base = load_recipe(path, list(overrides))
    named = {word.lstrip("-").split("=")[0] for word in overrides}
    kept = {f.name: getattr(base.input, f.name) for f in fields(base.input) if f"input.{f.name}" in named}
    recipe = Recipe(
        corpus=replace(base.corpus, features=""),
        input=InputRecipe(**{"max_frames": None} | kept),  # every frame, since rows of several stores are joined
        train=TrainRecipe(batch_size=base.train.batch_size, workers=base.train.workers, seed=base.train.seed),
    )
    visual = open_vision(encoder, reading)
    return Extractor(encoder, FrameEncoder(visual).eval(), recipe, None, encoder=visual.described())


def _with_crops(
    extractor: Extractor, crops: Sequence[str], poses: str, samples: Sequence[Sample], split: str, progress: bool
) -> tuple[Extractor, list[Sample], dict[str, str]]:
    """The same image model, applied to parts of the signer that key points find in each frame.

    Returns:
        The extractor, the samples with readable key points, and the others with reasons.
    """
    settings, images = extractor.recipe.input, extractor.model.visual
    if settings.size is not None or settings.crop is not None or settings.fps is not None:
        raise ValueError("--crops: key points count pixels and frames of the files; leave out input.size, crop and fps")
    assert isinstance(images, PublishedImages)
    clips: dict[str, tuple[PoseClip, np.ndarray]] = {}  # with the frames that are used
    broken: dict[str, str] = {}
    sources = with_features(samples, Path(poses.replace("{split}", split)))
    counts = count_frames(samples, settings)
    with track("reading key points", total=len(samples), show=progress) as bar:
        for sample, count in zip(sources, counts):
            assert isinstance(sample.features, Path)
            try:
                clip = look_at_features(sample.features, sample.name, settings.pose)[1]
                if clip is None:
                    raise ValueError(
                        f"--poses: {sample.features} has no key points in pixels; needs files such as those of "
                        f"`signcl pose`"
                    )
                used = thin(len(clip.points), settings, None)
                if len(used) != count:
                    raise ValueError(
                        f"{sample.name}: its key points give {len(used)} frames and its clip {count}; make them again"
                    )
                clips[sample.name] = only_parts(clip, crops), used
            except (ValueError, OSError) as error:
                broken[sample.name] = str(error)
            bar.advance(1)
    if not clips:
        raise none_read(broken, f"split {split}")

    def squares(name: str, frames: int, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
        clip, used = clips[name]
        if len(used) != frames:  # the file promises another number of frames than it has
            raise ValueError(f"{name}: its key points give {len(used)} frames and its clip {frames}")
        places, found = part_squares(clip, crops, (width, height), fill=settings.pose_fill)
        return places[used], found[used]

    visual = PublishedCrops(images, crops, squares)
    about = {**visual.described(), "poses": poses, "fill": settings.pose_fill}
    found = replace(extractor, model=FrameEncoder(visual).eval(), encoder=about)
    return found, [sample for sample in samples if sample.name in clips], broken


@torch.no_grad()
def tapped_clips(
    model: nn.Module,
    recipe: Recipe,
    samples: Sequence[Sample],
    taps: Sequence[str] = ("features",),
    *,
    dim: int | None = None,
    poses: PoseKind | None = None,
    device: str = "auto",
    batch_size: int | None = None,
    workers: int = 0,
    known: set[str] | None = None,
    broken: dict[str, str] | None = None,
    progress: bool = True,
) -> Iterator[tuple[Sample, dict[str, Tapped]]]:
    """States of every clip at some taps, one clip at a time, sorted by length, without augmentation or padding.

    Args:
        taps: some of the system's `TAPS`, and `log_probs` for a recogniser's gloss log-probabilities.
        dim: size of the model's input features; None for pixels.
        poses: as in `batches_of`.
        batch_size: clips per batch; None: the recipe's.
        workers: number of loader processes.
        known: names of clips that are already done. A batch is skipped if all of its clips are known. Batches do not
            depend on `known`, so that results are bit-identical with and without it.
        broken: unreadable clips are added here, with reasons, and reported at the end.

    Yields:
        (sample, tap -> states of the clip on the CPU, as a `Tapped` of one clip).

    Raises:
        ValueError: no such tap; an unreadable clip if the recipe has corpus.on_broken=stop.
    """
    check_taps(model, taps)
    broken = {} if broken is None else broken
    by_name = {s.name: s for s in samples}
    for batch in batches_of(
        model,
        recipe,
        samples,
        dim=dim,
        poses=poses,
        broken=broken,
        what="extracting features",
        device=device,
        batch_size=batch_size,
        workers=workers,
        known=known or (),
        on_broken=recipe.corpus.on_broken,  # features may become training data, so the recipe decides
        progress=progress,
    ):
        with memory_advice(recipe, batch, "extracting features", batch_size=batch_size):
            seen = {tap: _on_cpu(_states(model, batch, tap)) for tap in taps}
        for i, name in enumerate(batch.names):
            alone = {
                tap: replace(s, rows=s.rows[i, : int(s.lengths[i])], lengths=s.lengths[i]) for tap, s in seen.items()
            }
            yield by_name[name], alone
    say_skipped(broken)


def check_taps(model: nn.Module, taps: Sequence[str]) -> None:
    """Raise ValueError for a tap that a system does not have."""
    known: Any = model.TAPS
    for tap in taps:
        if tap not in known and tap != LOG_PROBS:
            raise no_such_tap(tap, known)


def _states(model: Any, batch: Batch, tap: str) -> Tapped:
    if tap != LOG_PROBS:
        tapped: Tapped = model.tapped(batch, tap)
        return tapped
    clock = model.tapped(batch, "steps")
    said, lengths = model.recognise(batch)
    return replace(clock, rows=said, lengths=lengths)


def _on_cpu(seen: Tapped) -> Tapped:
    return replace(seen, rows=seen.rows.float().cpu(), lengths=seen.lengths.cpu())


def extract(
    source: str | Path | None,
    store: str | Path,
    split: str = "train",
    *,
    tap: str = "features",
    root: str | None = None,
    overrides: Sequence[str] = (),
    device: str = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    dtype: str = "float16",
    shard_samples: int = 500,
    pose_python: str | None = None,
    progress: bool = True,
    encoder: str = "",
    corpus: str = "",
    reading: VisionReading | None = None,
    crops: Sequence[str] = (),
    poses: str = "",
) -> Extraction:
    """Write the features of a split to a feature store, or resume an unfinished one.

    The store has one array `[rows, D]` per clip, without padding; `FeatureStore` reads it.

    Args:
        source, overrides: see `open_extractor`.
        encoder, corpus, reading: a published vision model instead of a run's model, see `open_encoder`.
        crops: with `encoder`: parts of the signer to cut out of each frame, some of `CROPPED_PARTS`; a row has their
            vectors, zero for a part that was not found. None of them: the whole frame.
        poses: key points that find the parts: files or a folder as in `corpus.features`; {split} is replaced.
        store: the folder of the store.
        split: train, dev or test.
        tap: one of the system's `TAPS`; SignCL reads `features`.
        root: the corpus folder, if not the recipe's.
        batch_size, workers: None: the recipe's.
        dtype, shard_samples: see `write_store`.
        device: auto | cpu | cuda.
        pose_python: for a pose run applied to videos: a Python with the extractor of its training.
        progress: show progress bars on stderr.

    Returns:
        What was written: clips, rows, size, and the broken clips with their reasons.

    Raises:
        ValueError, OSError: the folder holds a store of another run, tap, split or recipe; no such tap; no readable
            clip; input features of the wrong size.
    """
    started = time.perf_counter()
    if encoder:
        extractor = open_encoder(encoder, source, overrides, corpus=corpus, root=root or "", reading=reading)
    elif source is None:
        raise ValueError("extract needs a run folder or a recipe, or --encoder with --corpus and --root")
    else:
        extractor = open_extractor(source, overrides, split=split)
    if bool(crops) != bool(poses) or (crops and not encoder):
        raise ValueError("--crops and --poses belong together, and need --encoder")
    samples = recipe_samples(extractor.recipe, split, root)
    broken: dict[str, str] = {}
    if crops:
        extractor, samples, broken = _with_crops(extractor, crops, poses, samples, split, progress)
    model, recipe = extractor.model, extractor.recipe
    if tap == LOG_PROBS:
        raise no_such_tap(tap, model.TAPS)  # type: ignore[arg-type]
    check_taps(model, (tap,))
    if extractor.poses is not None and any(sample.clip is not None for sample in samples):
        samples, broken = with_estimated_poses(
            samples, extractor.poses, f"{store}.poses", pose_python, progress=progress
        )
    clips = tapped_clips(
        model,
        recipe,
        samples,
        (tap,),
        dim=extractor.dim,
        poses=extractor.poses,
        device=device,
        batch_size=batch_size,
        workers=recipe.train.workers if workers is None else workers,
        known=stored_names(store),
        broken=broken,
        progress=progress,
    )
    meta = {
        "run": extractor.name,
        "system": extractor.encoder.get("model") or _system(model, recipe),
        "tap": tap,
        "corpus": recipe.corpus.name,
        "split": split,
        "weights": _digest(model.state_dict()),
        "recipe": _digest_text(recipe),
        "commit": run_folder.git_commit(),
        "trained_with_commit": extractor.trained_with_commit,
        "thinned": _thinned(samples, recipe),
    }
    if extractor.encoder:
        meta["encoder"] = extractor.encoder
    if (there := finished_store(store, meta, dtype)) is not None:
        say(f"{store} is finished; nothing was done")
        gone = {s.name: "could not be read when the store was written" for s in samples if s.name not in there}
        return _written(there, gone, started)
    first = next(clips, None)
    earlier = unfinished_meta(store)
    if first is not None:
        stride = recipe.input.stride  # rows count used frames, the clock counts frames of the clip
        offset = first_frame(stride, recipe.input, None)
        clock = {
            "stride": first[1][tap].stride * stride,
            "first_centre": (first[1][tap].first_centre - 0.5) * stride + 0.5 + offset,
        }
        if offset:
            clock["offset"] = offset
        if recipe.input.fps is not None:
            clock["fps"] = recipe.input.fps  # the clip's frames are at this rate
    elif earlier:  # killed between the last shard and the index
        clock = {key: earlier[key] for key in ("stride", "first_centre", "offset", "fps") if key in earlier}
    else:
        raise none_read(broken, f"split {split}")

    def items() -> Iterator[tuple[str, Tensor]]:
        for sample, seen in itertools.chain([first] if first is not None else [], clips):
            yield sample.name, seen[tap].rows

    written = write_store(store, items(), shard_samples=shard_samples, meta=meta | clock, dtype=dtype)
    return _written(written, broken, started)


def _written(store: FeatureStore, broken: dict[str, str], started: float) -> Extraction:
    seconds, rows = round(time.perf_counter() - started, 2), sum(store.lengths.values())
    return Extraction(str(store.folder), len(store), rows, store.dim, store.meta, broken, seconds)


def _system(model: nn.Module, recipe: Recipe) -> str:
    return recipe.model.visual if isinstance(model, FrameEncoder) else recipe.model.name


def _thinned(samples: Sequence[Sample], recipe: Recipe) -> dict[str, tuple[int, int]]:
    """Clips that `input.max_frames` shortens: number of frames (every `stride`-th), number of used frames."""
    if recipe.input.max_frames is None:
        return {}
    every = count_frames(samples, replace(recipe.input, max_frames=None))
    return {
        s.name: (count, len(thin(count, replace(recipe.input, stride=1), None)))
        for s, count in zip(samples, every)
        if count > recipe.input.max_frames
    }


def _digest(tensors: dict[str, Tensor]) -> str:
    """A digest of the weights."""
    found = hashlib.sha256()
    for name, tensor in tensors.items():
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:16]


def _digest_text(recipe: Recipe) -> str:
    """A digest of the recipe's corpus, input and model."""
    parts = {name: asdict(getattr(recipe, name)) for name in ("corpus", "input", "model")}
    parts["corpus"].pop("root")
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]
