"""Reads and validates the results of `evaluate` and `density` in a run folder, for pages and comparisons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from signcl.data.json_files import Maybe, check_shape, read_json

__all__ = ["read_density", "read_points", "read_scores"]

PERCENT = {str: float | None}
SPLIT = {
    "signatures?": Maybe({str: str}),
    "intervals?": Maybe({str: Any}),  # pairs, and their number of resamples
    "wer_split?": Maybe(PERCENT),
    "counts?": Maybe(
        {f"{name}?": int for name in ("sentences", "hypothesis_tokens", "reference_tokens", "empty_hypotheses")}
    ),
    "bleu4?": float | None,
    "final_dot?": Maybe({"hypotheses": float | None, "references": float | None, "agree": bool}),
    "seen_in_training?": Maybe({"sentences": int, "percent": float}),
    "vocabulary_round_trip?": Maybe({"changed_references": int}),
    "unseen?": {"bleu4?": float | None},
    "confidence?": Maybe({}),
    "probes?": {},
    "health?": [{"name": str, "text": str, "empty": bool}],
    "made?": {"skipped?": Maybe({str: str}), "trained_on_this_split?": bool},
}
CONFIDENCE = {
    "quality": str,
    "mean_quality": float,
    "risk_coverage": {"area": float, "by_chance": float, "best": float},
    "why_not?": str,
    "mean_confidence?": float,
    "ece?": float,
    "bins?": [{"confidence": float, "quality": float, "count": int}],
    "calibration?": {"kind": str, "split": str, "clips": int, "cross_fitted": bool, "note?": str},
    "out_of_domain?": {"clips": int},
}
"""Fields for a split whose answers have probabilities; otherwise empty."""
PART = {"map?": float, "map_interval?": (float, float), "one_nn?": float, "one_nn_interval?": (float, float)}
DENSITY = {
    "sdr": float,
    "interval": (float, float),
    "shuffled?": float | None,
    **dict.fromkeys(("intra", "inter", "feature_norm"), float),
    **dict.fromkeys(("instances", "glosses", "glosses_left_out"), int),
    "made": {"frame": str, "tap": str, "distance": str, "inter?": str},
    "notes?": [str],
    "nearest?": {"auc?": float | None},
    "retrieval?": {"clips?": PART},
    "tsne?": Maybe({}),
}
POINTS = [{"x": float, "y": float, "gloss": str, "clip": str, "start": int, "stop": int}]


def read_scores(folder: Path) -> dict[str, Any]:
    """Read `scores.json`, one entry per split; empty if nothing was scored.

    Raises:
        ValueError: the file is damaged.
    """
    path = folder / "scores.json"
    if not path.is_file():
        return {}
    found: dict[str, Any] = read_json(
        path, {str: SPLIT}, f"delete it and run `signcl evaluate {folder}` again", _check_scores
    )
    return found


def _check_scores(found: dict[str, Any]) -> None:
    for split, scores in found.items():
        if confidence := scores.get("confidence"):
            where = f"[{split[:40]!r}].confidence"
            check_shape(confidence, CONFIDENCE, where)
            if "bins" not in confidence and "why_not" not in confidence:
                raise ValueError(f"{where}: needs `bins` of a calibrated run, or `why_not`, got neither")
        for name, pair in (scores.get("intervals") or {}).items():
            if not isinstance(pair, int | float | str) and not _two_numbers(pair):
                raise ValueError(f"[{split[:40]!r}].intervals[{name[:40]!r}]: needs two numbers, got {str(pair)[:40]}")


def _two_numbers(pair: Any) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and all(type(value) in (int, float) for value in pair)


def read_density(folder: Path, split: str) -> dict[str, Any] | None:
    """Read `density.SPLIT.json`; None if density was not measured.

    Raises:
        ValueError: the file is damaged.
    """
    path = folder / f"density.{split}.json"
    if not path.is_file():
        return None
    found: dict[str, Any] = read_json(path, DENSITY, f"make it again with `signcl density {folder} --split {split}`")
    return found


def read_points(folder: Path, split: str) -> list[dict[str, Any]] | None:
    """Read `density.SPLIT.points.json`, the points of the t-SNE map; None if there is none.

    Raises:
        ValueError: the file is damaged.
    """
    path = folder / f"density.{split}.points.json"
    if not path.is_file():
        return None
    found: list[dict[str, Any]] = read_json(path, POINTS, f"make it again with `signcl density {folder}`")
    return found
