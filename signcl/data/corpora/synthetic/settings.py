"""Settings of the synthetic signed corpus, and the random generator used for everything in it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

from signcl.data.bounds import bounded, check_bounds

__all__ = ["VERSION", "Dice", "SyntheticSettings"]

VERSION = 1
"""Increased whenever the same settings would give a different corpus."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class SyntheticSettings:
    """Settings of a synthetic corpus. The same settings give byte-identical tables on every machine."""

    clips: int = bounded(600, low=40, high=100_000)
    """Total number of clips in all splits."""
    dev_share: float = bounded(0.1, low=0, high=0.5)
    """Share of the clips in the dev split; its sentences occur in no other split."""
    test_share: float = bounded(0.1, low=0, high=0.5)
    """Share of the clips in the test split; its sentences occur in no other split."""
    clauses: float = bounded(1.0, low=1, high=4)
    """Mean number of clauses per sentence; each sentence has this number rounded up or down. Clauses are joined by a
    conjunction or by a pause (a full stop in the text). Above 1, the lexicon includes conjunctions."""
    size: int = bounded(64, low=48, high=224)
    """Height and width of the video in pixels."""
    signs: int = bounded(48, low=16, high=240)
    """Number of signs in the lexicon."""
    density: float = bounded(0.5, low=0, high=1)
    """Share of the signs that have a twin: a sign that differs in only one parameter (a minimal pair). With 0, any two
    signs differ in at least two parameters. With 1, every sign has a twin."""
    zipf: float = bounded(1.0, low=0, high=3)
    """The frequency of the n-th sign of a word class is proportional to n ** -zipf; with 0, all are the same."""
    repetition: float = bounded(0.25, low=0, high=1)
    """Share of the signs whose movement is made twice, so that near-identical frames recur within one sign."""
    variation: float = bounded(0.2, low=0, high=1)
    """Probability of each free choice in the text that the signs do not show: a synonym, or the time at the end."""
    looseness: float = bounded(1.0, low=0, high=3)
    """How much each performance of a sign deviates from its dictionary form; 0 for no deviation."""
    signers: int = bounded(4, low=1, high=1000)
    """Number of signers who occur in every split."""
    unseen_signers: int = bounded(1, low=0, high=1000)
    """Number of additional signers who occur only in the test split."""
    unseen_share: float = bounded(0.5, low=0, high=1)
    """Share of the test clips that are signed by unseen signers."""
    sign_frames: int = bounded(9, low=6, high=40)
    """Typical number of frames per sign; the mean is slightly higher because repeated signs take longer."""
    transition_frames: int = bounded(4, low=1, high=20)
    """Typical number of frames between two signs (at least 2), before the first and after the last sign. These frames
    belong to no sign."""
    jitter: float = bounded(1.0, low=0, high=10)
    """Camera shake, and differences in zoom and aim between clips; 0 for a fixed camera."""
    noise: float = bounded(3.0, low=0, high=60)
    """Standard deviation of the sensor noise, on the scale of 0..255."""
    crf: int = bounded(23, low=0, high=51)
    """Constant rate factor of the h264 encoder; higher means more compression loss."""
    seed: int = bounded(0, low=0, high=2**63 - 1)

    def __post_init__(self) -> None:
        for item in fields(self):  # a recipe checks the types; a call from Python does not
            value, whole = getattr(self, item.name), item.type == "int"
            if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
                kind = "a whole number" if whole else "a number"
                raise ValueError(f"synthetic corpus: {item.name}: needs {kind}, got {value!r}")
        check_bounds(self, "synthetic corpus: ")
        if self.size % 2:
            raise ValueError(f"synthetic corpus: size must be even (video players need it), got {self.size}")
        if min(self.counts.values()) < 1:
            given = ", ".join(f"{count} for {split}" for split, count in self.counts.items())
            raise ValueError(
                f"synthetic corpus: every split needs a clip, but {self.clips} clips with dev_share={self.dev_share} "
                f"and test_share={self.test_share} give {given}; change the shares"
            )

    @property
    def counts(self) -> dict[str, int]:
        """Number of clips per split."""
        dev, test = round(self.clips * self.dev_share), round(self.clips * self.test_share)
        return {"train": self.clips - dev - test, "dev": dev, "test": test}

    def as_dict(self) -> dict[str, int | float]:
        """All settings by name."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


class Dice:
    """Random generator with the same results on every machine and Python version (SplitMix64 on plain integers)."""

    def __init__(self, *path: object) -> None:
        """All draws depend only on `path`, such as a seed, a purpose and a number."""
        digest = hashlib.blake2b("\x1f".join(map(str, path)).encode(), digest_size=8).digest()
        self.state = int.from_bytes(digest, "big")

    def bits(self) -> int:
        """64 random bits."""
        self.state = (self.state + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        mixed = ((self.state ^ (self.state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        return mixed ^ (mixed >> 31)

    def below(self, count: int) -> int:
        """An integer in 0..count-1."""
        return (self.bits() * count) >> 64

    def chance(self, probability: float) -> bool:
        """True with this probability, which is rounded to millionths."""
        return self.below(1_000_000) < round(probability * 1_000_000)

    def uniform(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        return low + (high - low) * (self.bits() >> 11) / 2**53

    def pick(self, items: Sequence[Item]) -> Item:
        """One of the items, all equally likely."""
        return items[self.below(len(items))]

    def weighted(self, items: Sequence[Item], weights: Sequence[int]) -> Item:
        """One of the items, with probability proportional to its integer weight."""
        mark = self.below(sum(weights))
        for item, weight in zip(items, weights, strict=True):
            mark -= weight
            if mark < 0:
                return item
        raise AssertionError("weights sum to less than their sum")

    def shuffled(self, items: Sequence[Item]) -> list[Item]:
        """The items in random order."""
        result = list(items)
        for index in range(len(result) - 1, 0, -1):
            other = self.below(index + 1)
            result[index], result[other] = result[other], result[index]
        return result
