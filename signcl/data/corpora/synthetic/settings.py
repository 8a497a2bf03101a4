"""The knobs of the synthetic signed corpus, and the dice that everything in it is drawn with."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

__all__ = ["VERSION", "Dice", "SyntheticSettings"]

VERSION = 1
"""Raised whenever the same settings would give another corpus."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class SyntheticSettings:
    """What kind of corpus to make. Equal settings give byte-identical tables on every machine."""

    clips: int = 600
    """Clips of all splits together, 40 to 100,000."""
    dev_share: float = 0.1
    """Share of the clips in the dev split; its sentences occur in no other split."""
    test_share: float = 0.1
    """Share of the clips in the test split; its sentences occur in no other split."""
    size: int = 64
    """Height and width of the video in pixels, 48 to 224."""
    signs: int = 48
    """Entries of the lexicon, 16 to 240."""
    density: float = 0.5
    """Share of the signs that have a twin differing in one parameter only (a minimal pair). 0 leaves none: then any
    two signs differ in at least two parameters. 1 gives every sign a twin."""
    zipf: float = 1.0
    """Frequency of the n-th sign of a word class is proportional to n ** -zipf; 0 makes all equally frequent."""
    repetition: float = 0.25
    """Share of the signs whose movement is made twice, so that a clip repeats near-identical frames within a sign."""
    variation: float = 0.2
    """How often the text takes a free choice that the signs do not show: a synonym, the time at the end."""
    looseness: float = 1.0
    """How far each signing of a sign strays from its dictionary form; 0 is a robot."""
    signers: int = 4
    """Signers who sign in every split."""
    unseen_signers: int = 1
    """Further signers, who sign in the test split only."""
    unseen_share: float = 0.5
    """Share of the test clips that are signed by unseen signers."""
    sign_frames: int = 9
    """Usual frames of one sign, 6 to 40; the mean lies a little above, for repeated signs take longer."""
    transition_frames: int = 4
    """Usual frames between two signs, which belong to neither, 2 to 20."""
    jitter: float = 1.0
    """Unsteadiness of the camera; 0 is a tripod."""
    noise: float = 3.0
    """Standard deviation of the sensor noise, in grey values of 0..255."""
    crf: int = 23
    """Loss of the h264 encoder, 0 to 51."""
    seed: int = 0

    def __post_init__(self) -> None:
        whole = {"clips": (40, 100_000), "size": (48, 224), "signs": (16, 240), "signers": (1, 1000)}
        whole |= {"unseen_signers": (0, 1000), "sign_frames": (6, 40), "transition_frames": (2, 20), "crf": (0, 51)}
        whole |= {"seed": (0, 2**63 - 1)}
        real = {"dev_share": (0, 0.5), "test_share": (0, 0.5), "density": (0, 1), "zipf": (0, 3), "repetition": (0, 1)}
        real |= {"variation": (0, 1), "looseness": (0, 3), "unseen_share": (0, 1), "jitter": (0, 10), "noise": (0, 60)}
        for name, (low, high) in (whole | real).items():
            value = getattr(self, name)
            kinds = (int,) if name in whole else (int, float)
            if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
                kind = "a whole number" if name in whole else "a number"
                raise ValueError(f"synthetic corpus: {name} must be {kind} in {low}..{high}, got {value!r}")
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
        """Clips of each split."""
        dev, test = round(self.clips * self.dev_share), round(self.clips * self.test_share)
        return {"train": self.clips - dev - test, "dev": dev, "test": test}

    def as_dict(self) -> dict[str, int | float]:
        """Every knob by name."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


class Dice:
    """Random draws that are the same on every machine and every version of Python (SplitMix64 on plain integers)."""

    def __init__(self, *path: object) -> None:
        """Draws that depend on nothing but `path`, e.g. a seed, a purpose and a number."""
        digest = hashlib.blake2b("\x1f".join(map(str, path)).encode(), digest_size=8).digest()
        self.state = int.from_bytes(digest, "big")

    def bits(self) -> int:
        """64 random bits."""
        self.state = (self.state + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        mixed = ((self.state ^ (self.state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        return mixed ^ (mixed >> 31)

    def below(self, count: int) -> int:
        """A whole number in 0..count-1."""
        return (self.bits() * count) >> 64

    def chance(self, probability: float) -> bool:
        """True with this probability, to the millionth."""
        return self.below(1_000_000) < round(probability * 1_000_000)

    def uniform(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        return low + (high - low) * (self.bits() >> 11) / 2**53

    def pick(self, items: Sequence[Item]) -> Item:
        """One of the items, all equally likely."""
        return items[self.below(len(items))]

    def weighted(self, items: Sequence[Item], weights: Sequence[int]) -> Item:
        """One of the items, by whole-numbered weight."""
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
