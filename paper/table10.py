"""Table 10: correlation of density and recognition accuracy over glosses, without and with control for frequency.

    python -m paper.table10 --corpus synthetic --seeds 3

    python -m paper.table10 --corpus imu_numbers        on real signing: number signs

For each kind of features: the accuracy of each gloss with the recogniser on these features, and its D_inter, D_intra
and SDR, on dev and test together, averaged over seeds. The table also gives retrieval of the gloss in other clips
(mAP), which the paper does not measure. Intervals are 95 % bootstraps over glosses.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from paper.extractors import KINDS, extractors, probe
from paper.glosses import GlossValues, gloss_values, mean_values, run_analysis
from paper.jobs import Fit, Place, arms
from paper.measured import results, seconds
from paper.output import Claim, Table, effects_picture
from paper.settings import CORPORA, describe
from paper.statistics import Effect, verdict
from signcl.density import Correlation, correlate

__all__ = ["main", "planned", "quantities", "table"]

THEIRS = {
    "phoenix14t": {"D_inter": (0.36, 0.43), "D_intra": (-0.22, -0.24), "SDR": (-0.35, -0.34)},
    "csl_daily": {"D_inter": (0.30, 0.45), "D_intra": (-0.14, -0.16), "SDR": (-0.20, -0.22)},
}
"""The paper's Pearson and Spearman correlations with SMKD features."""
SIGNS = {"D_inter": 1, "D_intra": -1, "SDR": -1, "mAP": 1}


def quantities(values: GlossValues) -> dict[str, np.ndarray]:
    """The quantities that accuracy is correlated with. [K] each"""
    return {
        "D_inter": values.inter,
        "D_intra": values.intra,
        "SDR": values.sdr,
        "mAP": values.map,
        "log frequency": np.log(np.maximum(values.frequency, 1)),
    }


def planned(options: argparse.Namespace, place: Place) -> dict[str, Fit]:
    """The runs of every arm, without seeds."""
    kinds = extractors(options.corpus, options.changes)
    return {kind: probe(options.corpus, features, options.changes) for kind, features in kinds.items()}


def table(options: argparse.Namespace, place: Place, command: str) -> Table:
    """Trains missing extractors and recognisers, computes correlations and builds the table."""
    found = results(arms(planned(options, place), options.seeds), place)
    values = {kind: [gloss_values(r, options, place) for r in of_seeds] for kind, of_seeds in found.items()}
    theirs = THEIRS.get(options.corpus, THEIRS["phoenix14t"])
    rows, notes, claims, drawn = [], [], [], {}
    for kind, of_seeds in values.items():
        mean = mean_values(of_seeds)
        control = quantities(mean)["log frequency"]
        for quantity, x in quantities(mean).items():
            plain = correlated(x, mean.accuracy)
            partial = None if quantity == "log frequency" else correlated(x, mean.accuracy, [control])
            paper = theirs.get(quantity) if kind == "smkd" else None
            rows.append([
                KINDS[kind], quantity, *_cells(plain), *_cells(partial),
                *([f"{value:+.2f}" for value in paper] if paper else ["–", "–"]),
            ])  # fmt: skip
            if quantity == "SDR":
                drawn |= {KINDS[kind]: plain, f"{KINDS[kind]},\nfrequency fixed": partial}
            if kind == "smkd" and quantity in SIGNS:
                claims += _claims(quantity, plain, partial, len(of_seeds), theirs.get(quantity))
        alone = [correlated(one.sdr, one.accuracy) for one in of_seeds]
        each = ", ".join("–" if one is None else f"{one.spearman.value:+.2f}" for one in alone)
        notes.append(
            f"{KINDS[kind]}: {len(mean.glosses)} glosses with at least two instances, {int(mean.counts.sum())} in all; "
            f"mean SDR {100 * mean.sdr.mean():.2f} %, mAP {100 * np.nanmean(mean.map):.1f} %, accuracy "
            f"{100 * mean.accuracy.mean():.1f} %; Spearman of SDR seed by seed: {each}."
        )
    notes.append(
        "Each cell: coefficient (95 % over glosses; p). Distances are in units of their mean over glosses. Partial: "
        "with the logarithm of the gloss's training frequency held fixed, because rare glosses are recognised badly "
        "and have unstable ratios. The paper's numbers are of SMKD features on its own corpora; its p-values "
        "correspond to about 351 glosses."
    )
    effects = {label: _effect(one, options.seeds) for label, one in drawn.items() if one is not None}
    picture = options.results / options.corpus / "table10.png"
    effects_picture(picture, list(effects), list(effects.values()), "Spearman of a gloss's SDR with its recognition")
    every = [r for of_seeds in found.values() for r in of_seeds]
    return Table(
        "table10",
        f"Table 10: density against recognition, {CORPORA[options.corpus].title}",
        command,
        ["features", "accuracy with", "Pearson", "Spearman", "partial Pearson", "partial Spearman", "paper Pearson",
         "paper Spearman"],
        rows,
        notes,
        claims,
        describe(options, place, frame=options.frame, **{"training seconds": round(seconds(every))}),
    )  # fmt: skip


def correlated(x: np.ndarray, y: np.ndarray, controls: Sequence[np.ndarray] = ()) -> Correlation | None:
    """`signcl.density.correlate` over the glosses that have the quantity; None if it is constant or has few values."""
    known = np.isfinite(x)
    try:
        return correlate(x[known], y[known], [control[known] for control in controls])
    except ValueError:
        return None


def _cells(found: Correlation | None) -> list[str]:
    if found is None:
        return ["–", "–"]
    return [f"{c.value:+.2f} ({c.low:+.2f} to {c.high:+.2f}; {c.p_value:.1g})" for c in (found.pearson, found.spearman)]


def _effect(found: Correlation, seeds: int) -> Effect:
    return Effect(found.spearman.value, found.spearman.low, found.spearman.high, seeds, "glosses")


def _claims(
    quantity: str,
    plain: Correlation | None,
    partial: Correlation | None,
    seeds: int,
    theirs: tuple[float, float] | None,
) -> list[Claim]:
    way = "rises" if SIGNS[quantity] > 0 else "falls"
    claims = []
    said = f"{theirs[1]:+.2f}" if theirs else "–"
    for found, held, paper in ((plain, "", said), (partial, ", frequency held fixed", "–")):
        text = f"recognition {way} with {quantity} (Spearman, SMKD){held}"
        if found is None:
            claims.append(Claim(text, paper, "undefined: too few glosses, or all alike", "not seen"))
            continue
        seen = _effect(found, seeds)
        claims.append(Claim(text, paper, str(seen), verdict(seen, SIGNS[quantity])))
    return claims


def main(words: list[str] | None = None) -> None:
    """Makes the table."""
    run_analysis("table10", __doc__ or "", ("synthetic", "imu_numbers", "phoenix14t", "csl_daily"), words, table)


if __name__ == "__main__":
    main()
