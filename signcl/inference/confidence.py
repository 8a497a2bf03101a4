"""How reliable a translation is: its calibrated confidence, and whether its clip resembles the training clips.

`calibrate` fits both on a run's dev and training splits and saves them in the run folder (`confidence.json`,
`confidence.safetensors`). `load_judge` reads them, and a `Judge` returns a verdict on an answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from signcl.data.batch import Sample
from signcl.data.files import atomic_write, write_json
from signcl.data.json_files import read_json
from signcl.data.progress import say
from signcl.inference.extraction import tapped_clips
from signcl.metrics import chrf, normalize
from signcl.metrics.calibration import Calibration, fit_calibration
from signcl.systems import Decode
from signcl.systems.parts.written import Answer
from signcl.training.manifest import known_checksum
from signcl.training.recipe import recipe_samples
from signcl.training.runs import Run

__all__ = ["Judge", "Verdict", "calibrate", "load_judge", "quality_of", "raw_score"]

SETTINGS, VECTORS = "confidence.json", "confidence.safetensors"
MOST_CLIPS = 1000  # training clips to compare with: enough for a nearest neighbour, 2 MB at 1,024 values
FARTHEST = 99  # a clip is out of domain beyond this percentile of the distances of in-domain clips
FEWEST_CLIPS = 30  # minimum dev clips for that percentile; with fewer, training clips are used


@dataclass(frozen=True)
class Verdict:
    """How reliable an answer is."""

    probability: float | None = None
    """p of the sentence ** (1 / tokens): the geometric mean over its tokens. Comparable between sentences but not
    calibrated; None for a system that does not give it."""
    confidence: float | None = None
    """Expected sentence chrF / 100, calibrated on dev; None if the run is not calibrated."""
    distance: float | None = None
    """Distance of the clip's mean features to the nearest training clip's. 1 is the 99th percentile of in-domain clips;
    more is out of domain. None if the run has no reference."""
    nearest: str = ""
    """The sentence of the nearest training clip."""

    @property
    def out_of_domain(self) -> bool | None:
        """Whether the clip is unlike the training clips; None if unknown."""
        return None if self.distance is None else self.distance > 1

    @property
    def warning(self) -> str:
        """A one-line warning about the clip; empty if there is none."""
        if not self.out_of_domain or self.distance is None:
            return ""
        return (
            f"unlike the training clips: {self.distance:.2f} times the largest distance that a similar clip has from "
            f"its nearest training clip; do not trust this translation"
        )


@dataclass(frozen=True)
class Judge:
    """A run's calibration and training reference, from its folder."""

    made: dict[str, Any]
    """Clips and search settings of the calibration, and the source of the distance limit."""
    calibration: Calibration | None
    """Maps the logarithm of `Verdict.probability` to quality; None with too few dev clips."""
    vectors: np.ndarray | None = None
    """Mean features of training clips, standardised with `mean` and `spread`. [M, D]"""
    mean: np.ndarray | None = None
    spread: np.ndarray | None = None
    texts: tuple[str, ...] = ()
    """Their sentences."""
    limit: float = math.inf
    """99th percentile of the distances of in-domain clips."""

    def __call__(self, answer: Answer) -> Verdict:
        """The verdict on one answer."""
        raw = raw_score(answer)
        confidence = None if raw is None or self.calibration is None else float(self.calibration([raw])[0])
        distance, nearest = None, ""
        if self.vectors is not None and answer.features is not None:
            row = self._scaled(np.asarray(answer.features.numpy(), dtype=np.float64))
            apart = _distances(row[None], self.vectors)[0]
            at = int(apart.argmin())
            distance, nearest = float(apart[at]) / self.limit, self.texts[at]
        return Verdict(None if raw is None else math.exp(raw), confidence, distance, nearest)

    def _scaled(self, row: np.ndarray) -> np.ndarray:
        assert self.mean is not None
        assert self.spread is not None
        return (row - self.mean) / self.spread

    def unlike(self, decode: Decode) -> str:
        """Why its confidence is not valid for these search settings; empty if it is."""
        then = self.made["search"]
        now = _search(decode)
        other = [f"{key} {then[key]:g}, now {now[key]:g}" for key in then if then[key] != now[key]]
        return f"confidence was calibrated with {', '.join(other)}" if other else ""

    @property
    def why_not(self) -> str:
        """Why there is no confidence; empty if there is."""
        return "" if self.calibration else str(self.made.get("why_not", ""))


def raw_score(answer: Answer) -> float | None:
    """Mean log p over the tokens of an answer."""
    return None if answer.log_prob is None or not answer.tokens else answer.log_prob / answer.tokens


def quality_of(hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """Quality of each sentence: its chrF / 100. [N]

    chrF is graded and meaningful for single sentences. Sentence BLEU-4 is 0 unless four words in a row are correct, and
    exact matches are too rare to fit.
    """
    found, true = normalize(list(hypotheses)), normalize(list(references))
    return np.array([min(1.0, chrf([one], [other]) / 100) for one, other in zip(found, true)])


def calibrate(
    run: Run,
    samples: Sequence[Sample],
    answers: Mapping[str, Answer],
    decode: Decode,
    *,
    split: str = "dev",
    root: str | None = None,
    device: str = "auto",
    batch_size: int | None = None,
    progress: bool = True,
) -> Judge:
    """Calibrate a run's confidence on dev and save it in its folder.

    Args:
        samples: samples of dev; those without an answer are left out.
        answers: the run's answers by name.
        decode: the search settings of the answers.
        root: the corpus folder, if not the recipe's; training clips are read from it.

    Returns:
        The judge, as `load_judge` will read it. Its `made` says what could not be calibrated.
    """
    kept = [s for s in samples if s.name in answers and raw_score(answers[s.name]) is not None]
    raw = [score for s in kept if (score := raw_score(answers[s.name])) is not None]
    good = quality_of([answers[s.name].text for s in kept], [s.text for s in kept])
    curve = fit_calibration(raw, good)
    made: dict[str, Any] = {
        "split": split,
        "clips": len(kept),
        "quality": "sentence chrF / 100",
        "search": _search(decode),
        "weights": known_checksum(run.folder, "model.safetensors"),
    }
    if curve is None:
        made["why_not"] = (
            f"not calibrated: {len(kept)} clips of {split} are too few, 30 are needed"
            if len(kept) < 30
            else f"not calibrated: all clips of {split} have the same probability"
        )
    reference = _reference(run, root, device=device, batch_size=batch_size, progress=progress)
    if reference is None:
        judge = Judge(made, curve)
    else:
        vectors, mean, spread, texts = reference
        seen = [answers[s.name].features for s in kept]
        rows = np.array([(row.double().numpy() - mean) / spread for row in seen if row is not None])
        if len(rows) >= FEWEST_CLIPS:
            apart, made["limit_from"] = _distances(rows, vectors).min(axis=1), split
        else:
            between = _distances(vectors, vectors)
            np.fill_diagonal(between, np.inf)
            apart, made["limit_from"] = between.min(axis=1), "train"
        limit = float(np.percentile(apart, FARTHEST)) or 1.0  # 0 if every clip also occurs in training
        judge = Judge(made, curve, vectors, mean, spread, texts, limit)
    _save(judge, run.folder)
    return judge


def load_judge(folder: Path) -> Judge | None:
    """Load the judge of a run folder; None if the run is not calibrated, or (with a warning) has changed weights.

    Raises:
        ValueError: a damaged file.
    """
    path = folder / SETTINGS
    if not path.is_file():
        return None
    advice = f"make it again with `signcl evaluate {folder} --split dev`"
    shape = {"made": {"split": str, "clips": int, "search": {str: int | float}}, "calibration": dict | None}
    said = read_json(path, shape | {"limit": int | float | None, "texts": [str]}, advice)
    known = known_checksum(folder, "model.safetensors")
    if said["made"].get("weights") not in (None, known):
        say(f"{path}: calibrated with different weights than the run has now, so it is not used; {advice}")
        return None
    try:
        given = said["calibration"]
        curve = given and Calibration(given["kind"], tuple(given["x"]), tuple(given["y"]))
        if said["limit"] is None:
            return Judge(said["made"], curve)
        tensors = load_file(folder / VECTORS)
        vectors = tensors["vectors"].astype(np.float64)
        if len(vectors) != len(said["texts"]) or not len(vectors):
            raise ValueError(f"{len(vectors)} vectors and {len(said['texts'])} texts")
        mean, spread = (tensors[name].astype(np.float64) for name in ("mean", "spread"))
        return Judge(said["made"], curve, vectors, mean, spread, tuple(said["texts"]), float(said["limit"]))
    except Exception as error:  # safetensors has its own exception types
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} or {VECTORS} is damaged ({reason}); {advice}") from None


def _save(judge: Judge, folder: Path) -> None:
    """Save the vectors first, since settings without them would count as damaged."""
    if judge.vectors is not None and judge.mean is not None and judge.spread is not None:
        tensors: dict[str, np.ndarray] = {
            "vectors": judge.vectors.astype(np.float16),
            "mean": judge.mean.astype(np.float32),
            "spread": judge.spread.astype(np.float32),
        }
        with atomic_write(folder / VECTORS) as temporary:
            save_file(tensors, temporary)
    said = {
        "made": judge.made,
        "calibration": None if judge.calibration is None else asdict(judge.calibration),
        "limit": None if judge.vectors is None else judge.limit,
        "texts": list(judge.texts),
    }
    write_json(folder / SETTINGS, said)


def _reference(
    run: Run, root: str | None, **how: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[str, ...]] | None:
    """Standardised mean features of training clips, their mean and spread, and their sentences. [M, D], [D], [D]"""
    try:
        train = recipe_samples(run.recipe, "train", root)
    except (ValueError, OSError) as error:
        if "imported" not in run.card:  # a run trained by signcl must have its training split
            raise
        say(f"clips cannot be compared with the training clips: {error}")
        return None
    if len(train) > MOST_CLIPS:
        chosen = np.random.default_rng(0).permutation(len(train))[:MOST_CLIPS]
        train = [train[i] for i in sorted(chosen.tolist())]
    rows, texts = [], []
    for sample, seen in tapped_clips(run.model, run.recipe, train, dim=run.feature_dim, **how):
        rows.append(seen["features"].rows.double().mean(dim=0).numpy())
        texts.append(sample.signed)
    if len(rows) < 2:
        return None
    found = np.array(rows)
    mean, spread = found.mean(axis=0), found.std(axis=0)
    # a nearly constant feature would make any other value infinitely distant
    spread = np.maximum(spread, max(0.1 * float(np.sqrt((spread**2).mean())), 1e-6))
    scaled = ((found - mean) / spread).clip(-6e4, 6e4).astype(np.float16)  # as saved
    return scaled.astype(np.float64), mean, spread, tuple(texts)


def _distances(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Root mean square difference between all pairs of rows. [N, D], [M, D] -> [N, M]"""
    squared = (rows**2).sum(axis=1)[:, None] + (others**2).sum(axis=1)[None, :] - 2 * rows @ others.T
    found: np.ndarray = np.sqrt(np.maximum(squared, 0.0) / rows.shape[1])
    return found


def _search(decode: Decode) -> dict[str, float]:
    return {"beams": decode.beams, "length_penalty": decode.length_penalty}
