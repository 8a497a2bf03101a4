"""`load_model` and `translate`: translate a clip to a sentence."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from signcl.data.batch import Sample
from signcl.data.features import is_feature_file, look_at_features
from signcl.data.files import near_file
from signcl.data.loading import collate, load_raw, select
from signcl.data.pose_estimation import PoseKind, check_kind
from signcl.data.pose_files import pose_file_rate
from signcl.data.progress import say
from signcl.data.video import Damaged, frames_at, other_rate, probe, resize_frames
from signcl.inference.answers import search_of
from signcl.inference.clips import pick_device, unlike_training
from signcl.inference.confidence import Judge, Verdict, load_judge
from signcl.inference.estimated_poses import PoseReader
from signcl.systems.parts.written import Answer
from signcl.training.devices import memory_advice
from signcl.training.recipe import InputRecipe
from signcl.training.runs import Run, load_run
from signcl.training.shipped_runs import shipped_path

__all__ = [
    "Model",
    "Translation",
    "input_for",
    "key_point_rate_note",
    "load_model",
    "rate_of_training",
    "translate",
    "trust_of",
    "why_no_confidence",
]


@dataclass(frozen=True)
class Translation:
    """The translation of a clip."""

    text: str
    num_frames: int
    """Frames given to the model, after thinning."""
    seconds: float
    """Time taken, including decoding."""
    notes: tuple[str, ...] = ()
    """How the clip was converted (resampled to the frame rate of training, read although damaged), and at which frames
    key points may belong to another person."""
    verdict: Verdict = field(default_factory=Verdict)
    """Its reliability: probability, calibrated confidence, distance to the training clips."""
    warnings: tuple[str, ...] = ()
    """Why it may be unreliable: a clip unlike the training clips, or search settings other than in the calibration."""
    alternatives: tuple[tuple[str, float | None], ...] = ()
    """Other final hypotheses of the search, best first, with their probabilities (as in `Verdict`)."""

    @property
    def confidence(self) -> float | None:
        """Expected sentence chrF / 100; None if the run is not calibrated (`signcl evaluate RUN --split dev`)."""
        return self.verdict.confidence


@dataclass
class Model:
    """A run that translates; see `load_model`."""

    run: Run
    device: str
    judge: Judge | None = None
    """Its calibration; None if it was never calibrated."""
    poses: PoseReader | None = None
    """For a pose run: reads videos."""


def load_model(source: str | Path, *, device: str = "auto", pose_python: str | None = None) -> Model:
    """Load a finetuned run for translation.

    Args:
        source: a run folder, `demo:NAME` for a shipped run, or `org/name[@revision]` on the hub.
        device: auto | cpu | cuda.
        pose_python: for a pose run applied to videos: a Python with the extractor of its training; None: the
            environment of `signcl pose --install`.

    Raises:
        FileNotFoundError, ValueError: nothing found, not a run folder, or a run that cannot translate.
    """
    place = pick_device(device)
    run = load_run(source)
    if run.model.answers != "sentences":
        raise ValueError(f"{source} is a {run.recipe.stage} run; `translate` needs a finetune run")
    run.model.to(place)
    return Model(run, str(place), load_judge(run.folder), PoseReader.of(run.poses, pose_python))


def input_for(run: Run, clip: Path, fps: float | None = None) -> tuple[InputRecipe, str]:
    """How a run reads a clip: resampled to the frame rate of its training if both rates are known and differ.

    Args:
        run: the run; its card has the rate (`fps`); without it every frame is read.
        clip: a video file; other inputs have no rate.
        fps: a rate to resample the clip to instead.

    Returns:
        The run's `input:` section for this clip, and a note for the user.

    Raises:
        ValueError, OSError: the clip cannot be read.
    """
    recipe = run.recipe.input
    if fps is not None and not 0 < fps <= 1000:
        raise ValueError(f"fps: needs a number above 0 and at most 1000, got {fps}")
    wanted = fps or rate_of_training(recipe, run.poses, run.card)
    if wanted is None or is_feature_file(clip) or not clip.is_file():
        return recipe, ""
    rows = frames_at(clip, wanted)
    if rows is None:
        return recipe, ""
    info = probe(clip)
    count = info.num_frames
    if abs(len(rows) - count) <= max(1, 0.02 * count):  # ignore jitter, and 29.97 versus 30
        return (recipe if fps is None else replace(recipe, fps=fps)), ""
    why = f"{fps:g} are asked for" if fps else f"the run was trained at {wanted:g}"
    mean = count / len(rows) * wanted
    rate = info.fps if info.fps and abs(info.fps - mean) < 0.1 * mean else mean  # frames may be unevenly spaced
    note = f"{clip.name}: {rate:.4g} frames per second, {why}: its {count} frames are resampled to {len(rows)}"
    return replace(recipe, fps=wanted), note


def rate_of_training(recipe: InputRecipe, poses: PoseKind | None, card: Mapping[str, Any]) -> float | None:
    """Frames a second that a run was trained at; None where its clips had no times, or several rates.

    Args:
        recipe, poses, card: of the run.
    """
    rate = recipe.fps or (poses and poses.fps) or card.get("fps")
    return None if rate is None else float(rate)


def key_point_rate_note(run: Run, path: Path) -> str:
    """What is to be said of a .pose file whose rate is not that of the training; nothing of others.

    A video is brought to the rate by its times. Key points are read as they are, as `evaluate` reads those of a corpus.

    Raises:
        ValueError: not a readable .pose file.
    """
    own, wanted = pose_file_rate(path), rate_of_training(run.recipe.input, run.poses, run.card)
    if own is None or wanted is None or not other_rate(own, wanted):
        return ""
    return (
        f"{own:.4g} frames a second, the run was trained at {wanted:g}: the key points are read as they are, and the "
        f"signs in them look faster or slower; extract them at that rate (signcl pose --fps {wanted:g})"
    )


def translate(
    model: Model,
    clip: str | Path | np.ndarray | Sequence[str | Path],
    *,
    beams: int | None = None,
    fps: float | None = None,
    damaged: Damaged | None = None,
    alternatives: int = 0,
) -> Translation:
    """Translate one clip. A video is resampled to the frame rate of training if necessary, which is reported.

    Args:
        model: from `load_model`.
        clip: a video file or a folder of frames, from which a pose run estimates key points; a file of features (.npy,
            .npz) or key points (.pose, .pkl, .json, a folder of OpenPose's frames); or an array, uint8 RGB [T, H, W, 3]
            or float features [T, D]. Several files of features are concatenated per frame, in the order of the run's
            `corpus.features`. `demo:NAME/clip-1` is a sample clip of a shipped run.
        beams: beam size; None: the recipe's.
        fps: frames per second to resample a video to; None: the rate of training.
        damaged: how to handle a damaged video, see `read_frames`; None: the recipe's `input.damaged`.
        alternatives: maximum number of other sentences of the beam search to return. There are none with one beam, nor
            for systems of plugins whose `generate_scored` does not take `most`.

    Raises:
        ValueError, OSError: the clip cannot be read, has no frames, or is of a kind that the model was not trained on;
            beams outside the bounds of `Decode`.
    """
    started = time.perf_counter()
    run = model.run
    decode = search_of(run, beams)
    name = "array" if isinstance(clip, np.ndarray) else " and ".join(path.name for path in _paths(clip))
    recipe, notes = run.recipe.input, []
    if not isinstance(clip, np.ndarray) and len(_paths(clip)) == 1:
        recipe, note = input_for(run, _paths(clip)[0], fps)
        notes += [note] if note else []
    recipe = recipe if damaged is None else replace(recipe, damaged=damaged)
    if model.poses is not None and _is_video(clip):
        inputs = select(_estimated(clip, name, model.poses, recipe, notes), recipe)
    else:
        if not isinstance(clip, np.ndarray):
            check_kind(run.poses, [Sample(path.stem, "", features=path) for path in _paths(clip)])
        inputs = select(_frames(clip, recipe, notes.append), recipe)
    notes += [f"{name}: {note}" for note in _notes(clip, run, recipe)]
    for note in notes:
        say(note)
    if wrong := unlike_training(run.feature_dim, inputs):
        raise ValueError(f"{name}: {wrong}")
    batch = collate([Sample(name, "")], [inputs])
    with memory_advice(run.recipe, batch, f"translating {name}", batch_size=1):
        ((answer, *others),) = run.model.answer_ranked(batch.to(model.device), decode, 1 + alternatives)
    verdict = (model.judge or Judge({}, None))(answer)
    warnings = [verdict.warning]
    if model.judge is not None and verdict.confidence is not None:
        warnings.append(model.judge.unlike(decode))
    seconds = time.perf_counter() - started
    warned = tuple(filter(None, warnings))
    return Translation(
        answer.text, len(inputs), seconds, tuple(notes), verdict, warned, alternatives=_others(answer, others)
    )


def _others(answer: Answer, others: Sequence[Answer]) -> tuple[tuple[str, float | None], ...]:
    """Other sentences of a search with their probabilities, best first, without duplicates."""
    found: dict[str, float | None] = {}
    for other in others:
        if other.text not in ("", answer.text):
            found.setdefault(other.text, Judge({}, None)(other).probability)
    return tuple(found.items())


def why_no_confidence(model: Model) -> str:
    """Why translations of a model have no confidence, and how to calibrate it; empty if they have."""
    if model.judge is None:
        learn = f"signcl evaluate {model.run.folder} --split dev"
        return f"run `{learn}` to calibrate confidence and out-of-domain warnings"
    return model.judge.why_not


def trust_of(found: Translation) -> dict[str, Any]:
    """The reliability entries in a translation's JSON; null means unknown."""

    def short(value: float | None) -> float | None:
        return None if value is None else round(value, 4)

    verdict = found.verdict
    return {
        "confidence": short(verdict.confidence),
        "probability": short(verdict.probability),
        "distance": short(verdict.distance),
        "out_of_domain": verdict.out_of_domain,
        "nearest": verdict.nearest,
        "warnings": list(found.warnings),
    }


def _is_video(clip: str | Path | np.ndarray | Sequence[str | Path]) -> bool:
    """Whether a clip has pictures, judged by its type or name."""
    if isinstance(clip, np.ndarray):
        return clip.ndim == 4
    paths = _paths(clip)
    return len(paths) == 1 and paths[0].exists() and not is_feature_file(paths[0])


def _estimated(
    clip: str | Path | np.ndarray | Sequence[str | Path],
    name: str,
    poses: PoseReader,
    recipe: InputRecipe,
    notes: list[str],
) -> np.ndarray:
    """The input features of a video for a pose run."""

    def note(line: str) -> None:
        notes.append(f"{name}: {line}")

    if isinstance(clip, np.ndarray):
        return poses.rows(Sample(name, ""), recipe, note, frames=_frames(clip, replace(recipe, size=None), note))
    return poses.rows(Sample(name, "", clip=_paths(clip)[0]), recipe, note)


def _notes(clip: str | Path | np.ndarray | Sequence[str | Path], run: Run, recipe: InputRecipe) -> list[str]:
    """Notes on key points of another rate, and on frames where they may belong to another person."""
    if isinstance(clip, np.ndarray):
        return []
    rates = [key_point_rate_note(run, path) for path in _paths(clip)]
    looked = [look_at_features(path, None, recipe.pose)[1] for path in _paths(clip) if is_feature_file(path)]
    return [*filter(None, rates), *(note for points in looked if points is not None for note in points.notes)]


def _paths(clip: str | Path | Sequence[str | Path]) -> tuple[Path, ...]:
    return (shipped_path(clip),) if isinstance(clip, str | Path) else tuple(map(shipped_path, clip))


def _frames(
    clip: str | Path | np.ndarray | Sequence[str | Path], recipe: InputRecipe, note: Callable[[str], None]
) -> np.ndarray:
    if isinstance(clip, np.ndarray):
        if clip.ndim == 2:
            return load_raw(Sample("array", "", features=clip), recipe)
        if clip.ndim != 4 or clip.shape[-1] != 3 or clip.dtype != np.uint8 or not len(clip):
            raise ValueError(f"a clip is uint8 RGB [T, H, W, 3] with T > 0, got {clip.dtype} {list(clip.shape)}")
        if recipe.size is None:
            return clip
        return resize_frames(clip, (recipe.size, recipe.size))
    paths = _paths(clip)
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"no clip at {path}{near_file(path)}")
        if (path / "recipe.yaml").is_file():  # pictures of results in it are no clip
            raise ValueError(f"{path} is a run folder; a clip or a folder of clips is needed")
        if len(paths) > 1 and not is_feature_file(path):
            raise ValueError(
                f"{path}: only files of features or key points (.npy, .npz, .pose, ...) of one clip can be combined"
            )
    if len(paths) > 1:
        return load_raw(Sample(paths[0].stem, "", features=paths), recipe)
    path = paths[0]
    is_features = is_feature_file(path)
    return load_raw(Sample(path.name, "", features=path if is_features else None, clip=path), recipe, note)
