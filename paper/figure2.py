"""Figure 2: t-SNE maps of named glosses under several kinds of features, one beside the other, with their SDR.

    python -m paper.figure2 --corpus synthetic --seeds 3 [--glosses A B C]

Signs of the test split, one frame each. The maps are of seed 0 with the settings printed below them; the numbers are
over all seeds. A map shows neighbourhoods, not distances: read the ratio, look at the map.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence

import numpy as np

from paper.extractors import KINDS, runs_of_kinds
from paper.glosses import instances_of, run_analysis
from paper.jobs import Fit, Place, arms, results, seconds
from paper.output import Claim, Table
from paper.settings import CORPORA, describe
from paper.statistics import mean_and_spread, seed_interval, verdict
from signcl.density import sdr_interval, sign_density_ratio

__all__ = ["main", "named_glosses", "planned", "table"]

NAMED = {"phoenix14t": ("KOENNEN", "GRAD", "GEWITTER", "ZWISCHEN", "NACHT", "FREUNDLICH", "NORDOST")}
"""Those of the paper."""
THEIRS = {
    "phoenix14t": {"smkd": 66.23, "vlp": 92.59, "vlp-signcl": 81.30},
    "csl_daily": {"smkd": 48.34, "vlp": 76.55, "vlp-signcl": 68.39},
}
"""SDR of extracted features: Figure 2, Tables 11 and 12."""
MOST = 7


def planned(options: argparse.Namespace, place: Place) -> dict[str, Fit]:
    """The runs of every arm, but for their seed."""
    return runs_of_kinds(options.corpus, options.changes)


def table(options: argparse.Namespace, place: Place, command: str) -> Table:
    """Train the features, measure and map them."""
    from signcl.data.files import atomic_write
    from signcl.density.figures import density_panels
    from signcl.density.maps import tsne

    theirs = THEIRS.get(options.corpus, THEIRS["phoenix14t"])
    repeats = "" if options.corpus == "imu_numbers" else "table1"
    runs = planned(options, place)
    found = results(arms(runs, options.seeds), place)
    rows, ratios, maps, labels, shown = [], {}, [], [], []
    for kind, of_seeds in found.items():
        every = [instances_of(r, options, place, tap="features", splits=("test",)) for r in of_seeds]
        measured = [sign_density_ratio(one.features, one.numbers()[1]) for one in every]
        ratios[kind] = [100 * one.mean for one in measured]
        interval = sdr_interval(measured[0])
        rows.append([
            KINDS[kind], mean_and_spread(ratios[kind]), f"{100 * interval.low:.2f} to {100 * interval.high:.2f}",
            f"{len(measured[0].sdr)}", f"{len(every[0].glosses)}", f"{theirs[kind]:.2f}" if kind in theirs else "–",
        ])  # fmt: skip
        maps.append(tsne(np.asarray(every[0].features), perplexity=options.perplexity, seed=0))
        labels.append(every[0].glosses)
        shown.append(measured[0].mean)
    chosen, rule = named_glosses(options, place, labels[0])
    with atomic_write(options.results / options.corpus / "figure2.png") as temporary:
        titles = [KINDS[kind] for kind in found]
        density_panels(maps, labels, titles, chosen, temporary, sdr=shown, format="png")
    _, plain, signcl = runs
    lower = seed_interval([a - b for a, b in zip(ratios[signcl], ratios[plain], strict=True)])
    free = seed_interval([a - b for a, b in zip(ratios[plain], ratios["smkd"], strict=True)])
    settings = ", ".join(f"{key} {value}" for key, value in maps[0].settings.items())
    made = [result for of_seeds in found.values() for result in of_seeds]
    return Table(
        "figure2",
        f"Figure 2: feature spaces of the {CORPORA[options.corpus].title}",
        command,
        ["features", "SDR %", "95 % over glosses, seed 0", "glosses", "signs", "paper SDR %"],
        rows,
        [f"Maps: {settings}; seed 0 of every run. Glosses in colour: {', '.join(chosen)} ({rule})."],
        [
            Claim(
                f"SignCL lowers SDR of {KINDS[plain]} features",
                f"{theirs['vlp-signcl'] - theirs['vlp']:+.2f}",
                str(lower),
                verdict(lower, -1),
                repeats,
            ),
            Claim(
                f"{KINDS[plain]} features are denser than SMKD's",
                f"{theirs['vlp'] - theirs['smkd']:+.2f}",
                str(free),
                verdict(free),
                repeats,
            ),
        ],
        describe(options, place, frame=options.frame, **{"training seconds": round(seconds(made))}),
    )


def named_glosses(options: argparse.Namespace, place: Place, glosses: Sequence[str]) -> tuple[list[str], str]:
    """Which glosses are coloured, and by which rule; those that the split does not have are left out."""
    counts = Counter(glosses)
    if options.glosses or options.corpus in NAMED:
        wanted = options.glosses or NAMED[options.corpus]
        chosen = [gloss for gloss in wanted if gloss in counts]
        if chosen:
            return chosen, "as asked" if options.glosses else "the paper's"
        if options.glosses:
            raise SystemExit(f"--glosses: none of {', '.join(wanted)} is in the test split, which has {len(counts)}")
    lexicon = place.root / "lexicon.json"
    if lexicon.is_file():
        twins = {entry["gloss"]: entry["twin"] for entry in json.loads(lexicon.read_text("utf-8")) if entry["twin"]}
        pairs = sorted({tuple(sorted(pair)) for pair in twins.items()}, key=lambda p: (-min(counts[g] for g in p), p))
        chosen = [gloss for pair in pairs[: MOST // 2] for gloss in pair if gloss in counts]
        if chosen:
            return chosen, "the minimal pairs whose rarer sign is most frequent"
    return [gloss for gloss, _ in counts.most_common(MOST)], "the most frequent"


def _more(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--glosses", nargs="+", metavar="GLOSS", help="to colour; default the paper's, or by rule")
    parser.add_argument("--perplexity", type=float, default=30.0)


def main(words: list[str] | None = None) -> None:
    """Make the figure."""
    corpora = ("synthetic", "imu_numbers", "phoenix14t", "csl_daily")
    run_analysis("figure2", __doc__ or "", corpora, words, table, _more)


if __name__ == "__main__":
    main()
