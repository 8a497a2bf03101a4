"""One-line notes on a density result, for example where the Sign Density Ratio and retrieval disagree.

Pure functions of results. `signcl density`, `report`, `explore` and `compare` print these notes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = [
    "FOUND",
    "HARD",
    "NOTES",
    "Note",
    "compared_line",
    "compared_note",
    "disagreement",
    "disagreement_note",
    "measured_alike",
    "notes_on",
    "run_notes",
]

HARD = 0.6  # below this AUC, a gloss can hardly be told from its nearest one; 0.5 means not at all
DENSE, FOUND = 0.85, 0.8  # thresholds: share of the shuffled ratio, and share of signs found first
SIGNER = 0.5  # threshold: share of the variance


NOTES = {
    "hard": "{hard} of {glosses} glosses can hardly be told from their nearest one (AUC below {below}){pairs}; SDR "
    "does not show this, because it averages over all other glosses",
    "hard_chance": "{hard} of {glosses} glosses can hardly be told from their nearest one (AUC below {below}; {chance} "
    "of shuffled glosses){pairs}; SDR does not show this, because it averages over all other glosses",
    "wide": "{hard} of {glosses} glosses are as wide as their nearest one is far (AUC below {below}), and yet their "
    "signs are found first in other clips, for example because a gloss has several forms",
    "looks_dense": "SDR is near that of shuffled glosses, yet {found:.0f} % of signs are found first in other clips: "
    "dimensions unrelated to the glosses make the features look dense",
    "signer": "the nearest sign is the same sign for {clips:.0f} % in other clips, but only for {signers:.0f} % of "
    "other signers: the features identify the signer",
    "variance": "{share:.0f} % of the variance is between signers",
    "denser_harder": "SDR is lower, but signs are harder to find (SDR {sdr_a:.1f} to {sdr_b:.1f} %, mAP {map_a:.1f} "
    "to {map_b:.1f} %)",
    "looser_easier": "SDR is higher, but signs are easier to find (SDR {sdr_a:.1f} to {sdr_b:.1f} %, mAP {map_a:.1f} "
    "to {map_b:.1f} %)",
}
"""What each note says; the pages have the same in other languages."""


@dataclass(frozen=True)
class Note:
    """A note: one of `NOTES`, and what is filled into it."""

    name: str
    values: Mapping[str, Any]

    def __str__(self) -> str:
        return NOTES[self.name].format(**self.values)


def notes_on(found: dict[str, Any]) -> list[str]:
    """Notes on what to look at in a result.

    Args:
        found: the result of `signcl.density.measuring.measure_instances`.
    """
    return [str(note) for note in run_notes(found)]


def run_notes(found: dict[str, Any]) -> list[Note]:
    """The notes of `notes_on` with their parts."""
    notes = []
    nearest = found.get("nearest", {})
    pairs = [pair for pair in nearest.get("pairs", []) if pair["auc"] < HARD and pair.get("lost", True)]
    lost = nearest.get("lost", nearest.get("hard", 0))
    values = {"glosses": nearest.get("glosses"), "below": HARD}
    if lost:
        shown = ", ".join(f"{pair['gloss']}–{pair['nearest']}" for pair in pairs)
        values |= {"hard": lost, "pairs": f": {shown}" if shown else ""}
        chance = {"chance": nearest["shuffled_hard"]} if "shuffled_hard" in nearest else {}
        notes.append(Note("hard_chance" if chance else "hard", values | chance))
    if (found_first := nearest.get("hard", 0) - lost) > 0:
        notes.append(Note("wide", {**values, "hard": found_first}))
    clips = found.get("retrieval", {}).get("clips", {})
    dense = found.get("shuffled") and found["sdr"] > DENSE * found["shuffled"]
    if dense and clips.get("one_nn", 0) > 100 * FOUND:
        notes.append(Note("looks_dense", {"found": float(clips["one_nn"])}))
    across = found.get("retrieval", {}).get("signers", {})
    if "one_nn" in clips and across.get("one_nn", 100.0) < 0.5 * clips["one_nn"]:
        notes.append(Note("signer", {"clips": float(clips["one_nn"]), "signers": float(across["one_nn"])}))
    shares = found.get("variance", {})
    if (shares.get("signer") or 0) > 100 * SIGNER:
        notes.append(Note("variance", {"share": float(shares["signer"])}))
    return notes


MADE = ("frame", "tap", "distance", "inter", "min_count", "cap", "weight", "spans")
"""Settings that change a result."""


def measured_alike(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether two results were measured the same way and can be compared; a setting that one lacks is not compared."""
    made, other = a["made"], b["made"]
    both = {"frame", "tap", "distance", "inter"} | (made.keys() & other.keys()) | ({"spans"} & (made | other).keys())
    return all(made.get(key) == other.get(key) for key in MADE if key in both)


def compared_line(a: dict[str, Any], b: dict[str, Any]) -> str | None:
    """A note if SDR and retrieval disagree about whether `b` is better than `a`, else None.

    Args:
        a, b: results; of different signs, they are not compared.
    """
    note = compared_note(a, b)
    return None if note is None else str(note)


def compared_note(a: dict[str, Any], b: dict[str, Any]) -> Note | None:
    """The note of `compared_line` with its parts."""
    one, two = (found.get("retrieval", {}).get("clips", {}).get("map") for found in (a, b))
    if one is None or two is None or any(a.get(key) != b.get(key) for key in ("instances", "glosses")):
        return None
    return disagreement_note((a["sdr"], b["sdr"]), (one, two))


def disagreement(sdr: tuple[float, float], found: tuple[float, float]) -> str | None:
    """The note of `compared_line`, from the SDR and mAP of both results, in percent."""
    note = disagreement_note(sdr, found)
    return None if note is None else str(note)


def disagreement_note(sdr: tuple[float, float], found: tuple[float, float]) -> Note | None:
    """The note of `disagreement` with its parts."""
    values = dict(zip(("sdr_a", "sdr_b", "map_a", "map_b"), map(float, (*sdr, *found))))
    if sdr[1] < sdr[0] and found[1] < found[0]:
        return Note("denser_harder", values)
    if sdr[1] > sdr[0] and found[1] > found[0]:
        return Note("looser_easier", values)
    return None
