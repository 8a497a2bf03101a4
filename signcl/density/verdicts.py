"""What the measures say together, in a line: where the Sign Density Ratio and retrieval disagree, and where both fail.

Pure functions of results; `signcl density`, `report`, `explore` and `compare` print the same lines.
"""

from __future__ import annotations

from typing import Any

__all__ = ["HARD", "compared_line", "disagreement", "measured_alike", "notes_on"]

HARD = 0.6  # AUC below which a gloss can hardly be told from its nearest one; 0.5 is not at all
DENSE, FOUND = 0.85, 0.8  # share of the shuffled ratio, and of signs that are found first
SIGNER = 0.5  # share of the variance


def notes_on(found: dict[str, Any]) -> list[str]:
    """What one result asks its reader to look at.

    Args:
        found: as `signcl.density.measuring.measure_instances` gives it.
    """
    notes = []
    pairs = [pair for pair in found.get("nearest", {}).get("pairs", []) if pair["auc"] < HARD]
    if pairs:
        shown = ", ".join(f"{pair['gloss']}–{pair['nearest']}" for pair in pairs[:5])
        of = found["nearest"]["glosses"]
        notes.append(
            f"{found['nearest']['hard']} of {of} glosses can hardly be told from their nearest one (AUC below {HARD}): "
            f"{shown}; SDR, a mean over all other glosses, does not show it"
        )
    clips = found.get("retrieval", {}).get("clips", {})
    dense = found.get("shuffled") and found["sdr"] > DENSE * found["shuffled"]
    if dense and clips.get("one_nn", 0) > 100 * FOUND:
        notes.append(
            f"SDR is near that of shuffled glosses, yet {clips['one_nn']:.0f} % of signs are found first in other "
            "clips: dimensions that the glosses do not use make the features look dense"
        )
    across = found.get("retrieval", {}).get("signers", {})
    if "one_nn" in clips and across.get("one_nn", 100.0) < 0.5 * clips["one_nn"]:
        notes.append(
            f"the nearest sign is the same sign for {clips['one_nn']:.0f} % in other clips, but for "
            f"{across['one_nn']:.0f} % of other signers: the features say who signs"
        )
    shares = found.get("variance", {})
    if (shares.get("signer") or 0) > 100 * SIGNER:
        notes.append(f"{shares['signer']:.0f} % of the variance is between signers")
    return notes


def measured_alike(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether two results were measured in the same way, so that they may be compared."""
    return all(a["made"].get(key) == b["made"].get(key) for key in ("frame", "tap", "distance", "inter"))


def compared_line(a: dict[str, Any], b: dict[str, Any]) -> str | None:
    """Where SDR and retrieval disagree between two results, the sentence that says so; None where they agree.

    Args:
        a, b: results of the same signs; `b` is spoken of.
    """
    one, two = (found.get("retrieval", {}).get("clips", {}).get("map") for found in (a, b))
    return None if one is None or two is None else disagreement((a["sdr"], b["sdr"]), (one, two))


def disagreement(sdr: tuple[float, float], found: tuple[float, float]) -> str | None:
    """The sentence of `compared_line` from SDR and mAP of the two, in percent."""
    shown = f"(SDR {sdr[0]:.1f} to {sdr[1]:.1f} %, mAP {found[0]:.1f} to {found[1]:.1f} %)"
    if sdr[1] < sdr[0] and found[1] < found[0]:
        return f"SDR is lower, but signs are harder to find {shown}"
    if sdr[1] > sdr[0] and found[1] > found[0]:
        return f"SDR is higher, but signs are easier to find {shown}"
    return None
