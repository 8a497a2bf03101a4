"""Figure 5: a pair of signs that the baseline confuses and SignCL separates, and how often the reverse happens.

    python -m paper.figure5 --corpus synthetic --seeds 3 [--pairs TABLE]

Selection rule: a sentence is helped if the baseline says the other sign's word and SignCL the right one, and hurt in
the reverse case. Among the minimal pairs of the corpus, the pair with the most helped minus hurt test sentences over
all seeds is chosen; ties go to more helped sentences, then to the alphabet. The example is its first helped sentence by
seed and name. A counter-example is chosen by the same rule with the two systems exchanged, and all pairs are counted.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from paper import table8
from paper.extractors import runs_of_kinds
from paper.glosses import instances_of, map_of, run_analysis
from paper.jobs import Fit, Place, Result, arms
from paper.measured import measured, measured_of_corpus, results, seconds
from paper.output import Claim, Table
from paper.pairs import Pair, confusion, mined_pairs, read_pairs, twins
from paper.settings import CORPORA, describe
from paper.statistics import Effect, verdict
from signcl.metrics import seeded_bootstrap

__all__ = ["Count", "counted", "main", "planned", "table"]


@dataclass
class Count:
    """How two systems translate the sentences of a pair, counted over all seeds."""

    pair: Pair
    chances: int = 0
    """Sentences with exactly one of the two signs."""
    baseline: int = 0
    """Number of these that the baseline confuses."""
    signcl: int = 0
    """Number of these that SignCL confuses."""
    helped: list[tuple[int, int]] = field(default_factory=list)
    """(seed, sentence): the baseline confuses it, SignCL keeps it."""
    hurt: list[tuple[int, int]] = field(default_factory=list)
    """The reverse."""

    @property
    def net(self) -> int:
        """Helped minus hurt sentences."""
        return len(self.helped) - len(self.hurt)


def systems(corpus: str, changes: Sequence[str]) -> dict[str, Fit]:
    """Baseline and SignCL: GFSLT-VLP without and with SignCL in both stages (Table 8); GFSLT on the number signs."""
    if "vlp" in CORPORA[corpus].recipes:
        jobs = table8.jobs(corpus, list(changes))
        return {"baseline": jobs["100"], "signcl": jobs["111"]}
    kinds = runs_of_kinds(corpus, changes)
    return {"baseline": kinds["gfslt"], "signcl": kinds["gfslt-signcl"]}


def counted(
    pairs: Sequence[Pair], baseline: Sequence[Sequence[str]], signcl: Sequence[Sequence[str]], references: Sequence[str]
) -> list[Count]:
    """Counts for every pair how both systems translate its sentences.

    Args:
        pairs: pairs of signs.
        baseline, signcl: answers of each system, one list per seed.
        references: reference sentences.
    """
    counts = []
    for pair in pairs:
        count = Count(pair)
        for seed, (ours, theirs) in enumerate(zip(baseline, signcl, strict=True)):
            for number, reference in enumerate(references):
                before, after = (confusion(pair, reference, told[number]) for told in (ours, theirs))
                if not before:
                    continue
                count.chances += 1
                count.baseline += before == "confused"
                count.signcl += after == "confused"
                if (before, after) == ("confused", "kept"):
                    count.helped.append((seed, number))
                if (before, after) == ("kept", "confused"):
                    count.hurt.append((seed, number))
        counts.append(count)
    return counts


def planned(options: argparse.Namespace, place: Place) -> dict[str, Fit]:
    """The runs of both systems, without seeds."""
    return systems(options.corpus, options.changes)


def table(options: argparse.Namespace, place: Place, command: str) -> Table:
    """Trains missing runs, counts confusions, chooses the pair by the rule, draws it and builds the table."""
    found = results(arms(planned(options, place), options.seeds), place)
    answers = {name: [result.answers() for result in of_seeds] for name, of_seeds in found.items()}
    references = answers["baseline"][0][1]
    pairs, source = _pairs(options, place, found["baseline"][0], references)
    told = {name: [one[0] for one in of_seeds] for name, of_seeds in answers.items()}
    counts = counted(pairs, told["baseline"], told["signcl"], references)
    seen = _rate(pairs, told, references)
    separated, mixed = sum(c.net > 0 for c in counts), sum(c.net < 0 for c in counts)
    notes = [
        f"Pairs: {source}. Percentages are of the {sum(c.chances for c in counts)} sentences, over {options.seeds} "
        f"seeds, that have exactly one of the two signs. On balance SignCL separates {separated} of {len(counts)} "
        f"pairs and confuses {mixed}. It helps in {sum(len(c.helped) for c in counts)} sentences and hurts in "
        f"{sum(len(c.hurt) for c in counts)}."
    ]
    best = min((c for c in counts if c.helped), key=lambda c: (-c.net, -len(c.helped), str(c.pair)), default=None)
    worst = min((c for c in counts if c.hurt), key=lambda c: (c.net, -len(c.hurt), str(c.pair)), default=None)
    for head, count in (("Found", best), ("Counter-example", worst)):
        if count is None:
            notes.append(f"{head}: none; in no sentence does one system confuse a pair and the other keep it.")
            continue
        seed, number = (count.helped if head == "Found" else count.hurt)[0]
        notes.append(
            f"{head}: {count.pair}, seed {seed}. Reference: {references[number]} | "
            f"baseline: {told['baseline'][seed][number]} | SignCL: {told['signcl'][seed][number]}"
        )
    if best is not None:
        notes += _picture(best, found, options, place)
    rows = [
        [
            str(c.pair),
            str(c.chances),
            _share(c.baseline, c.chances),
            _share(c.signcl, c.chances),
            str(len(c.helped)),
            str(len(c.hurt)),
        ]
        for c in sorted(counts, key=lambda c: (-c.net, -len(c.helped), str(c.pair)))
        if c.chances
    ]
    every = [result for of_seeds in found.values() for result in of_seeds]
    return Table(
        "figure5",
        f"Figure 5: pairs of signs in translation, {CORPORA[options.corpus].title}",
        command,
        ["pair", "sentences", "baseline confuses %", "SignCL confuses %", "helped", "hurt"],
        rows,
        notes,
        [
            Claim(
                "SignCL confuses pairs of signs less often (percent of sentences, SignCL − baseline)",
                "one pair shown",
                str(seen),
                verdict(seen, -1),
            )
        ],
        describe(options, place, **{"training seconds": round(seconds(every))}),
    )


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}"


def _pairs(
    options: argparse.Namespace, place: Place, baseline: Result, references: Sequence[str]
) -> tuple[list[Pair], str]:
    if options.pairs:
        return read_pairs(options.pairs), f"as in {options.pairs.name}"
    own = measured_of_corpus("minimal pairs", place, lambda: [pair.plain() for pair in _own_pairs(place.root)])
    if own:
        return [Pair.of(cells) for cells in own], "the corpus's minimal pairs, in every form of their words"

    def mine() -> list[list[Any]]:
        instances = instances_of(baseline, options, place, tap="features", splits=("test",))
        return [pair.plain() for pair in mined_pairs(instances, references)]

    told = {"frame": options.frame, "spans": options.spans}
    found = [Pair.of(cells) for cells in measured("nearest pairs", baseline, place, mine, **told)]
    if not found:
        raise SystemExit(
            "no two glosses of this corpus are words of its sentences; name pairs of words by --pairs TABLE"
        )
    return found, f"the {len(found)} nearest of the baseline's glosses (seed 0) whose names are words of the sentences"


def _own_pairs(root: Path) -> list[Pair]:
    return twins(root) if (root / "lexicon.json").is_file() else []


def _rate(pairs: Sequence[Pair], told: dict[str, list[list[str]]], references: Sequence[str]) -> Effect:
    """Confusion rate of SignCL minus that of the baseline, percent, with its interval over seeds and sentences."""

    @cache
    def case(hypothesis: str, reference: str) -> tuple[int, int]:
        kinds = [confusion(pair, reference, hypothesis) for pair in pairs]
        return sum(map(bool, kinds)), kinds.count("confused")

    def rate(hypotheses: Sequence[str], truth: Sequence[str]) -> float:
        cases = [case(h, r) for h, r in zip(hypotheses, truth)]
        chances = sum(chance for chance, _ in cases)
        return 100 * sum(wrong for _, wrong in cases) / chances if chances else 0.0

    found = seeded_bootstrap(rate, told["signcl"], told["baseline"], references, together=references)
    return Effect(found.difference, found.low, found.high, len(told["signcl"]), "seeds and sentences")


def _picture(count: Count, found: dict[str, list[Result]], options: argparse.Namespace, place: Place) -> list[str]:
    """Draws maps of the pair in both systems, for the example's seed; returns notes with the distance of the signs."""
    from signcl.data.files import atomic_write
    from signcl.density.figures import density_panels

    seed, _ = count.helped[0]
    both = [count.pair.a, count.pair.b]
    maps, labels, apart = [], [], []
    for of_seeds in found.values():
        signs = _signs(of_seeds[seed], options, place, both)
        if signs["apart"] is None:
            return ["No map: the pair's names are no glosses of dev and test."]
        apart.append(signs["apart"])
        maps.append(map_of(of_seeds[seed], options, place, "features"))
        labels.append(signs["glosses"])
    with atomic_write(options.results / options.corpus / "figure5.png") as temporary:
        density_panels(maps, labels, ["baseline", "SignCL"], both, temporary, format="png")
    settings = ", ".join(f"{key} {value}" for key, value in maps[0].settings.items())
    return [
        f"Mean distance between the two signs over that of all signs, dev and test, seed {seed}: baseline "
        f"{apart[0]:.3f}, SignCL {apart[1]:.3f}. Maps: {settings}."
    ]


def _signs(result: Result, options: argparse.Namespace, place: Place, pair: Sequence[str]) -> dict[str, Any]:
    """The gloss of every sign of dev and test, and the relative distance of a pair.

    The distance is the mean distance of the two glosses over that of all glosses; None if one of them does not occur.
    """
    from signcl.density import gloss_distances

    def make() -> dict[str, Any]:
        instances = instances_of(result, options, place, tap="features", splits=("dev", "test"))
        if not set(pair) <= set(instances.glosses):
            return {"apart": None, "glosses": []}
        names, numbers = instances.numbers()
        distances = np.array(gloss_distances(instances.features, numbers).mean)
        mean = distances[~np.eye(len(names), dtype=bool)].mean()
        apart = float(distances[names.index(pair[0]), names.index(pair[1])] / mean)
        return {"apart": apart, "glosses": instances.glosses}

    told = {"pair": list(pair), "frame": options.frame, "spans": options.spans}
    found: dict[str, Any] = measured("pair", result, place, make, **told)
    return found


def _more(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pairs", type=Path, help="a table with the columns a, b, words_a, words_b (forms separated by |)"
    )


def main(words: list[str] | None = None) -> None:
    """Makes the figure."""
    corpora = ("synthetic", "imu_numbers", "phoenix14t", "csl_daily")
    run_analysis("figure5", __doc__ or "", corpora, words, table, _more)


if __name__ == "__main__":
    main()
