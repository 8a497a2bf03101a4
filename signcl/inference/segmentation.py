"""Finds signs and sentences in a long recording with a segmenter, in windows that do not change the result.

Windows overlap by the segmenter's `reach` on either side, so that every frame has its full context. Memory holds one
window and six numbers per frame. Finished windows are saved in a work folder, so that a stopped run can resume.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from signcl.data.batch import Sample, Span
from signcl.data.loading import collate
from signcl.data.progress import say, track
from signcl.inference.clips import pick_device, unlike_training
from signcl.inference.film import Film, open_film
from signcl.systems.segmenter import DECODING, Segmenter, spans_of_tags
from signcl.training.devices import memory_advice
from signcl.training.runs import Run, load_run

__all__ = ["Segments", "load_segmenter", "rate_of_training", "segment", "tag_frames"]

WINDOW = 512  # frames of a window, without the overlap
TAGS = 6  # O, B, I of signs, then of sentences


@dataclass(frozen=True)
class Segments:
    """Signs and sentences of a recording, in frames at `fps`."""

    signs: tuple[Span, ...]
    sentences: tuple[Span, ...]
    """Spans of sentences; the score is the mean log-probability of the frames."""
    fps: float
    num_frames: int
    notes: tuple[str, ...] = ()


def load_segmenter(folder: str | Path) -> Run:
    """Load a segmenter run.

    Raises:
        FileNotFoundError, ValueError: no run, or a run of another system.
    """
    run = load_run(folder)
    if not isinstance(run.model, Segmenter):
        raise ValueError(
            f"{folder} is a run of {run.recipe.model.name}, but a segmenter is needed; train one with "
            f"e.g. recipes/synthetic/segmenter.yaml (docs/systems/segmenter.md)"
        )
    return run


def rate_of_training(run: Run) -> float | None:
    """Frames per second of the videos or features that a run was trained on; None if unknown."""
    known: float | None = run.recipe.input.fps or run.card.get("fps")
    makers: dict[str, Any] = run.targets.makers if run.targets is not None else {}
    return known or next((fps for maker in makers.values() if (fps := getattr(maker, "fps", None))), None)


def segment(
    run: Run,
    path: str | Path,
    *,
    fps: float | None = None,
    device: str = "auto",
    window: int = WINDOW,
    work: Path | None = None,
    progress: bool = True,
) -> Segments:
    """Find signs and sentences in a recording.

    Args:
        run: from `load_segmenter`.
        path: a video, a folder of images, features or poses, of the same kind as in training. A video is resampled to
            the frame rate of training.
        fps: frame rate of features and images, which do not contain it.
        window: frames to read at a time; does not change the result.
        work: folder for finished windows, from which the same call resumes. None: do not save.

    Raises:
        FileNotFoundError, ValueError: as in `open_film`; a recording of a different kind than in training.
    """
    film = open_film(Path(path), run.recipe.input, rate_of_training(run), fps)
    if film.note:
        say(film.note)
    log_probs = torch.from_numpy(tag_frames(run, film, device=device, window=window, work=work, progress=progress))
    terms = run.recipe.loss.weights
    parts = {
        kind: tuple(spans_of_tags(log_probs[:, columns], token=kind, **DECODING[kind]))
        if terms.get(f"{kind}_tags", 0) > 0
        else ()
        for kind, columns in (("sign", slice(0, 3)), ("sentence", slice(3, 6)))
    }
    notes = (film.note,) if film.note else ()
    return Segments(parts["sign"], parts["sentence"], film.fps, film.num_frames, notes)


def tag_frames(
    run: Run,
    film: Film,
    *,
    device: str = "auto",
    window: int = WINDOW,
    work: Path | None = None,
    progress: bool = True,
) -> np.ndarray:
    """Log-probabilities of O, B, I for signs and for sentences. [T, 6] float32

    Raises:
        ValueError: an empty window, or frames of a different kind than in training.
    """
    if window < 1:
        raise ValueError(f"window: needs at least 1 frame, got {window}")
    model: Any = run.model
    place = pick_device(device)
    model.to(place).eval()
    found = np.empty((film.num_frames, TAGS), dtype=np.float32)
    done = _resume(work, found, window)
    total = -(-film.num_frames // window)
    with track("segmenting", total=total, done=done // window, show=progress) as bar:
        for start in range(done, film.num_frames, window):
            stop = min(start + window, film.num_frames)
            low, high = max(0, start - model.reach), min(film.num_frames, stop + model.reach)
            frames = film.read(low, high)
            _check_kind(run, frames, film)
            batch = collate([Sample(film.path.name, "")], [frames])
            with memory_advice(run.recipe, batch, f"segmenting {film.path.name}", batch_size=1), torch.no_grad():
                out = model(batch.to(place))
            both = torch.cat([out.signs[0], out.sentences[0]], dim=1).float().cpu().numpy()
            found[start:stop] = both[start - low : stop - low]
            if work is not None:
                with (work / "tags").open("ab") as file:
                    file.write(found[start:stop].tobytes())
            bar.advance()
    return found


def _resume(work: Path | None, found: np.ndarray, window: int) -> int:
    """Fill in complete windows saved by an earlier call; returns their number of frames."""
    if work is None or not (work / "tags").is_file():
        return 0
    kept = np.frombuffer((work / "tags").read_bytes()[: found.nbytes], dtype=np.uint8)
    frames = len(kept) // (4 * TAGS)
    if frames < len(found):
        frames = frames // window * window
    found[:frames] = np.frombuffer(kept[: frames * 4 * TAGS].tobytes(), dtype=np.float32).reshape(-1, TAGS)
    with (work / "tags").open("r+b") as file:  # drop a window that was not written completely
        file.truncate(frames * 4 * TAGS)
    return frames


def _check_kind(run: Run, frames: np.ndarray, film: Film) -> None:
    if wrong := unlike_training(run.feature_dim, frames, who=str(run.folder)):
        raise ValueError(f"{film.path}: {wrong}")
