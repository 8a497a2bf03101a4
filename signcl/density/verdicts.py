"""One-line notes on a density result, for example where the Sign Density Ratio and retrieval disagree.

Pure functions of results. `signcl density`, `report`, `explore` and `compare` print these notes.
"""

from __future__ import annotations

from typing import Any

__all__ = ["FOUND", "HARD", "compared_line", "disagreement", "measured_alike", "notes_on"]

HARD = 0.6  # below this AUC, a gloss can hardly be told from its nearest one; 0.5 means not at all
DENSE, FOUND = 0.85, 0.8  # thresholds: share of the shuffled ratio, and share of signs found first
SIGNER = 0.5  # threshold: share of the variance


def notes_on(found: dict[str, Any]) -> list[str]:
    """Notes on what to look at in a result.

    Args:
        found: the result of `signcl.density.measuring.measure_instances`.
    """
    notes = []
    nearest = found.get("nearest", {})
    pairs = [pair for pair in nearest.get("pairs", []) if pair["auc"] < HARD and pair.get("lost", True)]
    lost = nearest.get("lost", nearest.get("hard", 0))
    of = nearest.get("glosses")
    if lost:
        shown = ", ".join(f"{pair['gloss']}–{pair['nearest']}" for pair in pairs)
        chance = f"; {nearest['shuffled_hard']} of shuffled glosses" if "shuffled_hard" in nearest else ""
        notes.append(
            f"{lost} of {of} glosses can hardly be told from their nearest one (AUC below {HARD}{chance})"
            + (f": {shown}" if shown else "")
            + "; SDR does not show this, because it averages over all other glosses"
        )
    if (found_first := nearest.get("hard", 0) - lost) > 0:
        notes.append(
            f"{found_first} of {of} glosses are as wide as their nearest one is far (AUC below {HARD}), and yet their "
            "signs are found first in other clips, for example because a gloss has several forms"
        )
    clips = found.get("retrieval", {}).get("clips", {})
    dense = found.get("shuffled") and found["sdr"] > DENSE * found["shuffled"]
    if dense and clips.get("one_nn", 0) > 100 * FOUND:
        notes.append(
            f"SDR is near that of shuffled glosses, yet {clips['one_nn']:.0f} % of signs are found first in other "
            "clips: dimensions unrelated to the glosses make the features look dense"
        )
    across = found.get("retrieval", {}).get("signers", {})
    if "one_nn" in clips and across.get("one_nn", 100.0) < 0.5 * clips["one_nn"]:
        notes.append(
            f"the nearest sign is the same sign for {clips['one_nn']:.0f} % in other clips, but only for "
            f"{across['one_nn']:.0f} % of other signers: the features identify the signer"
        )
    shares = found.get("variance", {})
    if (shares.get("signer") or 0) > 100 * SIGNER:
        notes.append(f"{shares['signer']:.0f} % of the variance is between signers")
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
    one, two = (found.get("retrieval", {}).get("clips", {}).get("map") for found in (a, b))
    if one is None or two is None or any(a.get(key) != b.get(key) for key in ("instances", "glosses")):
        return None
    return disagreement((a["sdr"], b["sdr"]), (one, two))


def disagreement(sdr: tuple[float, float], found: tuple[float, float]) -> str | None:
    """The note of `compared_line`, from the SDR and mAP of both results, in percent."""
    shown = f"(SDR {sdr[0]:.1f} to {sdr[1]:.1f} %, mAP {found[0]:.1f} to {found[1]:.1f} %)"
    if sdr[1] < sdr[0] and found[1] < found[0]:
        return f"SDR is lower, but signs are harder to find {shown}"
    if sdr[1] > sdr[0] and found[1] > found[0]:
        return f"SDR is higher, but signs are easier to find {shown}"
    return None
