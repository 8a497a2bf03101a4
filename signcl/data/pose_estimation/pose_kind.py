"""The kind of key points that a run was trained on: extractor, layout, frame rate. Other kinds are rejected."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from signcl.data.batch import Sample
from signcl.data.pose_estimation.pose_estimator import Extractor
from signcl.data.pose_estimation.pose_folder import folder_extractor
from signcl.data.pose_files import is_key_points, pose_file_rate
from signcl.data.pose_layouts import layout_of
from signcl.data.video import other_rate

__all__ = ["PoseKind", "check_extractor", "check_kind", "kind_of"]

LOOKED_AT = 20  # number of files whose frame rate is read


@dataclass(frozen=True)
class PoseKind:
    """The kind of key points used in training."""

    layout: str
    """A key of `LAYOUTS`."""
    extractor: Extractor | None
    """None if unknown: only `signcl pose` records it."""
    fps: float | None
    """Frames per second; None if the files have no rate or different rates."""

    def described(self) -> dict[str, Any]:
        """The fields, for card.json."""
        made_by = None if self.extractor is None else self.extractor.described()
        return {"layout": self.layout, "extractor": made_by, "fps": self.fps}

    @classmethod
    def read(cls, said: Any, where: str) -> PoseKind | None:
        """Reads the kind from the content of card.json; None without key points or for a run of an earlier version.

        Args:
            said: the value of `poses` in card.json.
            where: the file, for messages.

        Raises:
            ValueError: the content is damaged.
        """
        if said is None:
            return None
        if not isinstance(said, dict) or not isinstance(said.get("layout"), str):
            raise ValueError(f"{where}: poses needs layout, extractor and fps; copy the run folder again")
        made_by, fps = said.get("extractor"), said.get("fps")
        if fps is not None and not (isinstance(fps, int | float) and 0 < fps <= 1000):
            raise ValueError(f"{where}: poses.fps needs a rate or null, got {fps!r}; copy the run folder again")
        return cls(said["layout"], None if made_by is None else Extractor.read(made_by, where), fps)


def kind_of(samples: Sequence[Sample], dim: int | None) -> PoseKind | None:
    """The kind of key points in a training corpus; None if its features are not key points.

    Args:
        samples: samples of train and dev.
        dim: number of values per frame.

    Raises:
        ValueError: the key points are from several extractors.
    """
    files = sorted(_key_point_files(samples))
    if dim is None or not files:
        return None
    made_by = _extractors(files)
    if len(made_by) > 1:
        (one, first), (other, second) = list(made_by.items())[:2]
        raise ValueError(
            f"the clips have key points of several extractors: {_named(one)} ({first}) and {_named(other)} ({second}); "
            f"a model needs one kind, so extract all clips with the same extractor"
        )
    rates: list[float] = []
    for file in files[:: max(1, len(files) // LOOKED_AT)]:
        with contextlib.suppress(ValueError, OSError):
            rate = pose_file_rate(file)
            rates += [rate] if rate else []
    rates.sort()
    one_rate = bool(rates) and not other_rate(rates[0], rates[-1])
    try:
        layout = layout_of(dim)[0].name
    except ValueError:  # key points mixed with other features
        return None
    return PoseKind(layout, next(iter(made_by)), rates[len(rates) // 2] if one_rate else None)


def check_kind(trained: PoseKind | None, samples: Sequence[Sample]) -> None:
    """Checks that key points were made by the extractor used in training, if both are known.

    Raises:
        ValueError: the extractors differ; the message names both and a file.
    """
    if trained is None or trained.extractor is None:
        return
    for extractor, file in _extractors(_key_point_files(samples)).items():
        check_extractor(trained, extractor, str(file))


def check_extractor(trained: PoseKind | None, extractor: Extractor | None, where: str) -> None:
    """Checks that an extractor is the one used in training, if both are known.

    Args:
        trained: the kind of key points used in training.
        extractor: the extractor of the given key points.
        where: their file, for the message.

    Raises:
        ValueError: the extractors differ; the message names both.
    """
    if trained is None or trained.extractor is None or extractor is None:
        return
    other = extractor.differs(trained.extractor)
    if other:
        raise ValueError(
            f"{where}: key points of another extractor than in training ({other}); extract them again with the "
            f"training extractor: signcl pose"
        )


def _key_point_files(samples: Iterable[Sample]) -> set[Path]:
    return {s.features for s in samples if isinstance(s.features, Path) and is_key_points(s.features)}


def _extractors(files: Iterable[Path]) -> dict[Extractor | None, Path]:
    """Each extractor with one of its files; None stands for an unknown extractor."""
    found: dict[Extractor | None, Path] = {}
    seen: set[Path] = set()
    for file in files:
        if file.parent not in seen:
            seen.add(file.parent)
            found.setdefault(folder_extractor(file.parent), file)
    return found


def _named(extractor: Extractor | None) -> str:
    return "an unknown one" if extractor is None else f"{extractor}, fill {extractor.fill}"
