"""When does SignCL help? Its gain by share of minimal pairs and training size, which the paper could not vary.

    python -m paper.surface --corpus synthetic --seeds 3

Three synthetic corpora of the same size are generated, in which no sign, half of the signs or every sign has a twin
that differs in only one parameter (setting `density`). On each, GFSLT is trained without and with SignCL on a share of
the clips, from the shared frame encoder, without VLP, and with the same number of steps
(`paper.settings.Preset.surface_steps`). Each cell is the difference in BLEU-4 on test.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace

from paper.jobs import Fit, Place, Result, arms
from paper.measured import results, seconds
from paper.output import Claim, Table
from paper.pictures import heat_map
from paper.script import command_of, run_script
from paper.settings import CORPORA, PRESETS, describe, for_steps, place_of
from paper.statistics import Effect, cell, effect, seed_interval, verdict

__all__ = ["main", "planned", "table"]

DENSITIES = (0.0, 0.5, 1.0)
FRACTIONS = (0.25, 1.0)
Cell = tuple[float, float]
"""(share of the signs with a twin, share of the training clips)"""


def planned(options: argparse.Namespace, place: Place) -> dict[tuple[float, bool], Fit]:
    """The runs on one corpus, without seeds, by share of the clips and with or without SignCL."""
    recipes, steps = CORPORA["synthetic"].recipes, PRESETS[options.preset].surface_steps
    length = for_steps(steps)
    return {
        (fraction, signcl): Fit(
            recipes["gfslt-signcl" if signcl else "gfslt"],
            ("model.init_from=", *length, f"corpus.fraction={fraction}", *options.changes),
        )
        for fraction in FRACTIONS
        for signcl in (False, True)
    }


def places(options: argparse.Namespace, *, make: bool = True) -> dict[float, Place]:
    """The place of each corpus, by share of signs with a twin."""
    if options.root is not None:
        raise SystemExit(f"the surface generates its three corpora and cannot use --root {options.root}; omit --root")
    return {density: place_of(options, make=make, density=density) for density in DENSITIES}


def table(options: argparse.Namespace, place: Place) -> Table:
    """Trains missing runs, draws the surface and builds the table."""
    found: dict[Cell, tuple[list[Result], list[Result]]] = {}
    ids = []
    for density, where in places(options).items():
        wanted = planned(options, where)
        made = results(arms({f"{f}/{s}": job for (f, s), job in wanted.items()}, options.seeds), where)
        for fraction in FRACTIONS:
            found[density, fraction] = made[f"{fraction}/False"], made[f"{fraction}/True"]
        ids.append(where.corpus_id)
    gains = {at: effect("bleu4", treated, plain) for at, (plain, treated) in found.items()}
    rows = []
    for (density, fraction), (plain, treated) in found.items():
        gain = gains[density, fraction]
        rows.append([
            f"{density:.0%}", f"{plain[0].card['clips']['train']} ({fraction:.0%})",
            *(cell(metric, of_seeds) for of_seeds in (plain, treated) for metric in ("sdr", "bleu4")),
            str(gain), str(effect("sdr", treated, plain)), _word(gain),
        ])  # fmt: skip
    picture = options.results / options.corpus / "surface.png"
    heat_map(
        picture,
        [[gains[d, f].difference for f in FRACTIONS] for d in DENSITIES],
        [[_word(gains[d, f]) != "not seen" for f in FRACTIONS] for d in DENSITIES],
        [f"{d:.0%}" for d in DENSITIES],
        [f"{f:.0%}" for f in FRACTIONS],
        labels=("signs with a minimal pair", "training clips used", "BLEU-4 gained by SignCL"),
        least=max(gain.high - gain.low for gain in gains.values()) / 2 if options.seeds > 1 else 0.0,
    )
    words = [_word(gain) for gain in gains.values()]
    steps = PRESETS[options.preset].surface_steps
    return Table(
        "surface",
        "When SignCL helps: minimal pairs x training size, synthetic corpus",
        command_of("surface", options),
        ["signs with a twin", "training clips", "SDR %", "BLEU-4", "SDR % with SignCL", "BLEU-4 with SignCL",
         "gain in BLEU-4", "in SDR", "SignCL"],
        rows,
        [
            f"GFSLT from the shared frame encoder, {steps} steps a run. SignCL helps in {words.count('helps')} "
            f"of {len(words)} cells and hurts in {words.count('hurts')}; in {words.count('not seen')} no difference is "
            "seen. By chance, about one cell in twenty would show one. Mean ± standard deviation over seeds; gains: "
            "BLEU-4 95 % over seeds and sentences, SDR over seeds. In the picture a star marks a difference that is "
            "seen. Corpora with another share of twins have other signs and sentences, so only differences within a "
            "row can be compared.",
        ],
        _claims(found, options.seeds),
        describe(options, replace(place, corpus_id=" ".join(ids)),
                 **{"training seconds of the arms": round(sum(seconds([*a, *b]) for a, b in found.values()))}),
    )  # fmt: skip


def _claims(found: dict[Cell, tuple[list[Result], list[Result]]], seeds: int) -> list[Claim]:
    def gain(at: Cell, seed: int) -> float:
        plain, treated = found[at]
        difference: float = treated[seed].scores["bleu4"] - plain[seed].scores["bleu4"]
        return difference

    def mean(cells: list[Cell], seed: int) -> float:
        return statistics.mean(gain(at, seed) for at in cells)

    over = seed_interval([mean(list(found), seed) for seed in range(seeds)])
    crowded = seed_interval([
        mean([(DENSITIES[-1], f) for f in FRACTIONS], seed) - mean([(DENSITIES[0], f) for f in FRACTIONS], seed)
        for seed in range(seeds)
    ])  # fmt: skip
    small = seed_interval([
        mean([(d, FRACTIONS[0]) for d in DENSITIES], seed) - mean([(d, FRACTIONS[-1]) for d in DENSITIES], seed)
        for seed in range(seeds)
    ])  # fmt: skip
    return [
        Claim("SignCL raises BLEU-4, mean over the surface", "–", str(over), verdict(over)),
        Claim("SignCL helps more where every sign has a minimal pair than where none has", "–", str(crowded),
              verdict(crowded)),
        Claim("SignCL helps more with a quarter of the clips than with all", "–", str(small), verdict(small)),
    ]  # fmt: skip


def _word(gain: Effect) -> str:
    return {"supported": "helps", "contradicted": "hurts"}.get(verdict(gain), "not seen")


def main(words: list[str] | None = None) -> None:
    """Makes the table and draws the surface."""
    run_script("surface", __doc__, table, ("synthetic",), words)


if __name__ == "__main__":
    main()
