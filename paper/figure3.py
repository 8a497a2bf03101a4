"""Figure 3: (a) recognition accuracy of glosses in nine bins by density; (b) effect of density on translation.

    python -m paper.figure3 --corpus synthetic --seeds 3
    python -m paper.figure3 --corpus imu_numbers        on real signing: number signs

Glosses of dev and test are sorted by their SDR under SMKD features, so a bin holds the same glosses for every kind of
features. The accuracy of a gloss is the share of its occurrences that the recogniser on these features gets right. The
table also gives retrieval of a gloss in other clips (mAP), which the paper does not measure.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from paper.extractors import KINDS, extractors, probe, translators
from paper.glosses import GlossValues, gloss_values, mean_values, run_analysis
from paper.jobs import Fit, Place, arms
from paper.measured import results, seconds
from paper.output import Claim, Table
from paper.settings import CORPORA, describe
from paper.statistics import Effect, cell, effect, unpaired, values_of, verdict
from signcl.density import density_bins

__all__ = ["drop", "main", "planned", "table"]

BINS = 9
THEIRS = {
    "phoenix14t": {"NSLT": 10.73 - 19.35, "Joint-SLT": 12.73 - 22.79},
    "csl_daily": {"NSLT": 1.82 - 8.97, "Joint-SLT": 2.93 - 11.61},
}
"""The paper's BLEU-4 on VLP features minus that on SMKD features: Tables 1 and 12."""


def planned(options: argparse.Namespace, place: Place) -> dict[str, Fit]:
    """The runs of every arm, without seeds."""
    found = {}
    for kind, features in extractors(options.corpus, options.changes).items():
        found[kind] = probe(options.corpus, features, options.changes)
        if not getattr(options, "no_translation", False):
            own = translators(options.corpus, features, options.changes)
            found |= {f"{kind} {name}": job for name, job in own.items()}
    return found


def table(options: argparse.Namespace, place: Place, command: str) -> Table:
    """Trains missing extractors and probes, bins the glosses, draws the picture and builds the table."""
    from signcl.data.files import atomic_write
    from signcl.density.figures import impact_figure

    kinds = extractors(options.corpus, options.changes)
    found = results(arms(planned(options, place), options.seeds), place)
    values = {kind: mean_values([gloss_values(r, options, place) for r in found[kind]]) for kind in kinds}
    order = values["smkd"].sdr
    count = min(BINS, len(order))
    bins = {kind: density_bins(own.sdr, own.accuracy, count, by=order) for kind, own in values.items()}
    parts = np.array_split(np.argsort(order, kind="stable"), count)
    rows = [
        [str(number + 1), str(bins["smkd"][number].glosses), *(_cell(values[kind], part) for kind in kinds)]
        for number, part in enumerate(parts)
    ]
    rows.append(["all", str(len(order)), *(_cell(own, np.arange(len(order))) for own in values.values())])
    claims = []
    for kind in kinds:
        seen = drop(values[kind].accuracy, order, count, options.seeds)
        text = f"crowded glosses are recognised worse: accuracy of the last bin − the first, {KINDS[kind]}"
        claims.append(Claim(text, "below 0 (drawn, not printed)", str(seen), verdict(seen, -1)))
    gloss_free = list(kinds)[1]
    theirs = THEIRS.get(options.corpus, THEIRS["phoenix14t"])
    repeats = "" if options.corpus == "imu_numbers" else "table1"
    names = [key.removeprefix("smkd ") for key in found if key.startswith("smkd ")]
    for name in names:
        gap = effect("bleu4", found[f"{gloss_free} {name}"], found[f"smkd {name}"])
        text = f"crowded features translate worse: BLEU-4 of {name} on {KINDS[gloss_free]} less SMKD"
        claims.append(Claim(text, f"{theirs[name]:+.2f}", str(gap), verdict(gap, -1), repeats))
        scores = [cell("bleu4", found[f"{kind} {name}"]) for kind in kinds]
        rows.append([f"{name}, BLEU-4", "–", *scores])
    means = {
        KINDS[kind]: {name: float(np.mean(values_of("bleu4", found[f"{kind} {name}"]))) for name in names}
        for kind in kinds
    }
    with atomic_write(options.results / options.corpus / "figure3.png") as temporary:
        drawn = {KINDS[kind]: own for kind, own in bins.items()}
        impact_figure(drawn, means if names else None, path=temporary, format="png")
    every = [r for of_seeds in found.values() for r in of_seeds]
    return Table(
        "figure3",
        f"Figure 3: density, recognition and translation, {CORPORA[options.corpus].title}",
        command,
        ["bin", "glosses", *(f"{KINDS[kind]}: SDR % / mAP % / accuracy %" for kind in kinds)],
        rows,
        [
            f"Bin 1 has the least crowded glosses under SMKD features. {len(order)} glosses have at least two "
            "instances in dev and test; each has the same weight. Ratios and accuracies are means over seeds. Interval "
            "of a drop in accuracy: 95 %, Welch's t over the glosses of the first and the last bin. The paper's bins "
            "have about 60 glosses. Translation: mean ± standard deviation over seeds; differences over seeds and "
            "sentences.",
        ],
        claims,
        describe(options, place, frame=options.frame, **{"training seconds": round(seconds(every))}),
    )


def _cell(values: GlossValues, part: np.ndarray) -> str:
    """Means over some glosses, percent: SDR, mAP (of glosses that occur in several clips), accuracy."""
    known = values.map[part][np.isfinite(values.map[part])]
    found = f"{100 * known.mean():.1f}" if len(known) else "–"
    return f"{100 * values.sdr[part].mean():.2f} / {found} / {100 * values.accuracy[part].mean():.1f}"


def drop(accuracy: np.ndarray, order: np.ndarray, bins: int, seeds: int) -> Effect:
    """Accuracy of the densest bin minus that of the least dense, percent, with its interval over glosses.

    Args:
        accuracy: accuracy of each gloss, 0..1. [K]
        order: values that the glosses are sorted by. [K]
        bins: number of bins.
        seeds: number of seeds that the accuracies are averaged over.
    """
    parts: Sequence[np.ndarray] = np.array_split(np.argsort(order, kind="stable"), bins)
    first, last = (100 * accuracy[part] for part in (parts[0], parts[-1]))
    return unpaired(last.tolist(), first.tolist(), seeds, "glosses")


def _more(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-translation", action="store_true", help="make only part (a)")


def main(words: list[str] | None = None) -> None:
    """Makes the figure."""
    corpora = ("synthetic", "imu_numbers", "phoenix14t", "csl_daily")
    run_analysis("figure3", __doc__ or "", corpora, words, table, _more)


if __name__ == "__main__":
    main()
