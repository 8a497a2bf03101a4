"""Figure 2: t-SNE maps of named glosses under several kinds of features, side by side, with their SDR.

    python -m paper.figure2 --corpus synthetic --seeds 3 [--glosses A B C] [--extractors srp smkd i3d vlp vlp-signcl]
    python -m paper.figure2 --corpus phoenix14t --plan

Uses the signs of the test split, one frame each. Maps show seed 0, with the settings printed below them; numbers cover
all seeds. A map shows neighbourhoods, not distances; use the ratio to compare distances. SRP and I3D are defined in
`paper.extractors`: published features on PHOENIX-2014T, replacements on the synthetic corpus, absent on other corpora.
Their density is measured at the input of the recogniser of Table 1.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paper.extractors import (
    KINDS,
    add_kinds,
    borrowed,
    chosen,
    extractors,
    look,
    ready,
    runs_of_kinds,
    title,
)
from paper.glosses import instances_of, map_of, run_analysis
from paper.jobs import Extract, Files, Fit, Place, Result, arms
from paper.measured import measured, measured_of_corpus, results, seconds
from paper.output import Claim, Table
from paper.script import name_of_part
from paper.settings import CORPORA, describe
from paper.statistics import mean_and_spread, seed_interval, verdict
from signcl.cli.number_options import real
from signcl.density import sdr_interval, sign_density_ratio

__all__ = ["kinds_of", "main", "named_glosses", "planned", "table"]

NAMED = {"phoenix14t": ("KOENNEN", "GRAD", "GEWITTER", "ZWISCHEN", "NACHT", "FREUNDLICH", "NORDOST")}
"""Glosses that the paper's figure shows."""
THEIRS = {
    "phoenix14t": {"srp": 74.07, "smkd": 66.23, "i3d": 83.33, "vlp": 92.59, "vlp-signcl": 81.30},
    "csl_daily": {"smkd": 48.34, "vlp": 76.55, "vlp-signcl": 68.39},
}
"""The paper's SDR of extracted features: Figure 2, Tables 11 and 12."""
MOST = 7


def kinds_of(options: argparse.Namespace, place: Place) -> dict[str, Extract | Files]:
    """The features shown in the figure, or those selected by the options."""
    corpus, changes = options.corpus, options.changes
    own = runs_of_kinds(corpus, changes)
    found = borrowed(corpus, place, changes) | extractors(corpus, changes)
    return chosen({kind: found[kind] for kind in KINDS if kind in found and kind in (*own, "srp", "i3d")}, options)


def planned(options: argparse.Namespace, place: Place) -> dict[str, Fit]:
    """The run in which each kind of features is measured, without its seed."""
    kinds = kinds_of(options, place)
    return {kind: look(options.corpus, features, options.changes)[0] for kind, features in kinds.items()}


def rows_of(options: argparse.Namespace, place: Place) -> dict[str, tuple[str, list[Fit]]]:
    """The run of each panel, for `--plan`."""
    return {kind: (title(kind, options.corpus), [job]) for kind, job in planned(options, place).items()}


def table(options: argparse.Namespace, place: Place, command: str) -> Table:
    """Trains missing runs, measures and maps their features, and builds the table."""
    from signcl.data.files import atomic_write
    from signcl.density.figures import density_panels

    theirs = THEIRS.get(options.corpus, THEIRS["phoenix14t"])
    repeats = "" if options.corpus == "imu_numbers" else "table1"
    kinds = kinds_of(options, place)
    ready(kinds, options, place)
    runs = planned(options, place)
    found = results(arms(runs, options.seeds), place)
    rows, ratios, maps, labels, shown = [], {}, [], [], []
    for kind, of_seeds in found.items():
        _, tap = look(options.corpus, kinds[kind], options.changes)
        crowded = [_crowded(result, options, place, tap) for result in of_seeds]
        first = crowded[0]
        ratios[kind] = [100 * one["ratio"] for one in crowded]
        rows.append([
            title(kind, options.corpus), mean_and_spread(ratios[kind]),
            f"{100 * first['low']:.2f} to {100 * first['high']:.2f}", f"{first['kinds']}",
            f"{len(first['glosses'])}", f"{theirs[kind]:.2f}" if kind in theirs else "–",
        ])  # fmt: skip
        maps.append(map_of(of_seeds[0], options, place, tap, ("test",), options.perplexity))
        labels.append(first["glosses"])
        shown.append(first["ratio"])
    coloured, rule = named_glosses(options, place, labels[0])
    name = name_of_part("figure2", options.extractors)
    with atomic_write(options.results / options.corpus / f"{name}.png") as temporary:
        titles = [title(kind, options.corpus) for kind in found]
        density_panels(maps, labels, titles, coloured, temporary, sdr=shown, format="png")
    settings = ", ".join(f"{key} {value}" for key, value in maps[0].settings.items())
    made = [result for of_seeds in found.values() for result in of_seeds]
    return Table(
        name,
        f"Figure 2: feature spaces of the {CORPORA[options.corpus].title}"
        + (f": {', '.join(titles)}" if options.extractors else ""),
        command,
        ["features", "SDR %", "95 % over glosses, seed 0", "glosses", "signs", "paper SDR %"],
        rows,
        [f"Maps: {settings}; seed 0 of every run. Glosses in colour: {', '.join(coloured)} ({rule})."],
        _claims(options.corpus, ratios, theirs, repeats),
        describe(options, place, frame=options.frame, **{"training seconds": round(seconds(made))}),
    )


def _crowded(result: Result, options: argparse.Namespace, place: Place, tap: str) -> dict[str, Any]:
    """SDR of a run's test signs with its interval, the number of different glosses, and the gloss of each sign."""

    def make() -> dict[str, Any]:
        instances = instances_of(result, options, place, tap=tap, splits=("test",))
        density = sign_density_ratio(instances.features, instances.numbers()[1])
        interval = sdr_interval(density)
        return {"ratio": density.mean, "low": interval.low, "high": interval.high, "kinds": len(density.sdr),
                "glosses": instances.glosses}  # fmt: skip

    found: dict[str, Any] = measured("crowding", result, place, make, tap=tap, frame=options.frame, spans=options.spans)
    return found


PAIRS = (
    ("SignCL lowers SDR of {0} features", "vlp-signcl", "vlp", -1),
    ("SignCL lowers SDR of {0} features", "gfslt-signcl", "gfslt", -1),
    ("{1} features are denser than {0}'s", "vlp", "smkd", 1),
    ("{1} features are denser than {0}'s", "gfslt", "smkd", 1),
    ("{1} features are denser than {0}'s", "i3d", "srp", 1),
    ("{1} features are denser than {0}'s", "srp", "smkd", 1),
    ("{1} features are denser than {0}'s", "vlp", "i3d", 1),
)
"""(claim, the denser or treated kind, the kind it is compared with, sign). GFSLT replaces VLP on a corpus without
pretraining."""


def _claims(corpus: str, ratios: dict[str, list[float]], theirs: dict[str, float], repeats: str) -> list[Claim]:
    """The claims for which both kinds of features exist."""
    claims = []
    for text, first, second, sign in PAIRS:
        if first not in ratios or second not in ratios:
            continue
        seen = seed_interval([a - b for a, b in zip(ratios[first], ratios[second], strict=True)])
        names = [kind.replace("gfslt", "vlp") for kind in (first, second)]
        said = f"{theirs[names[0]] - theirs[names[1]]:+.2f}" if {*names} <= {*theirs} else "–"
        words = text.format(title(second, corpus), title(first, corpus))
        claims.append(Claim(words, said, str(seen), verdict(seen, sign), repeats))
    return claims


def named_glosses(options: argparse.Namespace, place: Place, glosses: Sequence[str]) -> tuple[list[str], str]:
    """The glosses to colour, without those missing in the split, and the rule that selected them."""
    counts = Counter(glosses)
    if options.glosses or options.corpus in NAMED:
        wanted = options.glosses or NAMED[options.corpus]
        coloured = [gloss for gloss in wanted if gloss in counts]
        if coloured:
            return coloured, "as asked" if options.glosses else "the paper's"
        if options.glosses:
            raise SystemExit(f"--glosses: none of {', '.join(wanted)} is in the test split, which has {len(counts)}")
    twins = measured_of_corpus("twins", place, lambda: _twins(place.root))
    if twins:
        pairs = sorted({tuple(sorted(pair)) for pair in twins.items()}, key=lambda p: (-min(counts[g] for g in p), p))
        coloured = [gloss for pair in pairs[: MOST // 2] for gloss in pair if gloss in counts]
        if coloured:
            return coloured, "the minimal pairs whose rarer sign is most frequent"
    return [gloss for gloss, _ in counts.most_common(MOST)], "the most frequent"


def _twins(root: Path) -> dict[str, str]:
    """The twin of each sign that has one; empty if the corpus has no minimal pairs."""
    lexicon = root / "lexicon.json"
    entries = json.loads(lexicon.read_text("utf-8")) if lexicon.is_file() else []
    return {entry["gloss"]: entry["twin"] for entry in entries if entry["twin"]}


def _more(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--glosses", nargs="+", metavar="GLOSS", help="to colour; default: the paper's, or by rule")
    parser.add_argument("--perplexity", type=real(low=1, high=1000), default=30.0)
    add_kinds(parser)


def main(words: list[str] | None = None) -> None:
    """Makes the figure."""
    corpora = ("synthetic", "imu_numbers", "phoenix14t", "csl_daily")
    run_analysis("figure2", __doc__ or "", corpora, words, table, _more, rows=("extractors", rows_of))


if __name__ == "__main__":
    main()
