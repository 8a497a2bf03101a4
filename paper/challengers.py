"""Losses in place of SignCL on real continuous signing (Persian number signs): design fixed before the runs.

    python -m paper.challengers --corpus imu_numbers --seeds 8
    python -m paper.challengers --corpus imu_numbers --seeds 8 --all-words

Every arm is GFSLT on the same 10 % or 25 % of the training sequences, with the steps of `paper.imu` and fresh seeds
(from 100 on). `paper/preregistered.md` has the design. On the synthetic corpus `python -m paper.density_effect
--challengers` asks the same. Not a table of the paper.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

import numpy as np

from paper import effect_design
from paper.effect_design import ALL_WORDS, CHALLENGERS, Arm
from paper.jobs import Fit, Place, Result, arms
from paper.measured import results, seconds
from paper.output import Claim, Table, effects_picture
from paper.pooled import Contrast, fit_model, holm, pooled_effect, resampled_runs, verdict
from paper.script import command_of, run_script
from paper.settings import CORPORA, PRESETS, describe, for_steps
from paper.statistics import Effect, mean_and_spread

__all__ = ["ARMS", "FIRST_SEED", "WORDS", "main", "planned", "table"]

FRACTIONS = (0.1, 0.25)
FIRST_SEED = 100
MARGIN = 8.0
"""Mean distance between signs of GFSLT without SignCL: 7.6 to 7.9 with three seeds (`paper.all_systems`), rounded."""
ARMS = {
    name.replace("both", "SignCL"): effect_design.ARMS[name] for name in ("none", "both", "slow + SIGReg", *CHALLENGERS)
}
"""Name -> loss terms beside translation."""
WORDS = {name: effect_design.ARMS[name] for name in effect_design.WORDS}
"""The arms that `--all-words` adds: in those without this ending, "one", "two" and "six" were dropped."""
PLAIN, USUAL = "none", "SignCL"
METRICS = {"bleu4": "BLEU-4", "exact_match": "exact match %", "sdr": "SDR %", "map": "mAP %"}


def planned(options: argparse.Namespace, place: Place) -> dict[tuple[float, str], Fit]:
    """(share of the training sequences, arm) -> the run, without its seed."""
    length = for_steps(PRESETS[options.preset].imu_steps)
    found = {}
    for fraction in FRACTIONS:
        for name, arm in _arms(options).items():
            # the other settings of SignCL are those of its recipe
            recipe = CORPORA[options.corpus].recipes["gfslt-signcl" if arm.has_margin else "gfslt"]
            changes = (*length, f"corpus.fraction={fraction}", *arm.changes(MARGIN), *options.changes)
            found[fraction, name] = Fit(recipe, changes)
    return found


def _arms(options: argparse.Namespace) -> dict[str, Arm]:
    """The compared arms: all of `ARMS`, or with `--all-words` the word losses, each in both forms."""
    if not options.all_words:
        return ARMS
    repeated = [name.removesuffix(ALL_WORDS) for name in WORDS]
    return {name: ARMS[name] for name in (PLAIN, USUAL, *repeated)} | WORDS


def table(options: argparse.Namespace, place: Place) -> Table:
    """Trains missing runs and builds the table."""
    compared, wanted = _arms(options), planned(options, place)
    made = results(
        arms({"/".join(map(str, key)): job for key, job in wanted.items()}, options.seeds, FIRST_SEED), place
    )
    rows: list[list[str]] = []
    effects: list[tuple[str, Effect]] = []
    primary: list[tuple[str, Contrast]] = []
    for fraction in FRACTIONS:
        found = {name: made[f"{fraction}/{name}"] for name in compared}
        over_none, over_usual = _contrasts(found)
        clips = found[PLAIN][0].card["clips"]["train"]
        for name, of_seeds in found.items():
            gains = [str(over_none[metric].get(name, "–")) for metric in ("bleu4", "map")]
            usual = str(over_usual.get(name, "–"))
            shown = [mean_and_spread(_values(metric, of_seeds)) for metric in METRICS]
            rows.append([f"{clips} ({fraction:.0%})", name, *shown, *gains, usual])
        for name, gain in over_none["bleu4"].items():
            if options.all_words and name not in WORDS:
                continue  # asked before
            primary.append((f"{name} raises BLEU-4 on {fraction:.0%} of the training sequences", gain))
            effects.append((f"{name}, {fraction:.0%}", pooled_effect(gain, options.seeds)))
    corrected = holm([gain for _, gain in primary])
    claims = [Claim(text, "–", gain.tested, verdict(gain)) for (text, _), gain in zip(primary, corrected, strict=True)]
    names, values = zip(*effects)
    stem = "challengers-all-words" if options.all_words else "challengers"
    effects_picture(options.results / options.corpus / f"{stem}.png", names, values, "BLEU-4 on test over none")
    every = [result for of_seeds in made.values() for result in of_seeds]
    return Table(
        stem,
        f"Losses in place of SignCL, {CORPORA[options.corpus].title}{', short words too' * options.all_words}",
        command_of("challengers", options),
        ["training sequences", "arm", *METRICS.values(), "BLEU-4 over none", "mAP over none", "BLEU-4 over SignCL"],
        rows,
        [
            f"{PRESETS[options.preset].imu_steps} steps a run, seeds from {FIRST_SEED} on. Mean ± standard deviation "
            "over seeds, on test. Differences: 95 % from one linear model for each size (value = arm + seed + rest), "
            "for BLEU-4 with the variance over sentences (takes of one number together). P-values of BLEU-4 over none "
            f"are corrected by Holm for {len(primary)} contrasts; nothing else is tested. mAP: how well a sign is "
            "found among the signs of other clips. "
            + " ".join(f"{name}: {_weights(arm)}." for name, arm in compared.items() if arm.weights),
        ],
        claims,
        describe(options, place, **{"training seconds of the arms": round(seconds(every))}),
    )


def _weights(arm: Arm) -> str:
    margin = f", margin {MARGIN:g}" if arm.has_margin else ""
    return ", ".join(f"{name} {weight:g}" for name, weight in arm.weights.items()) + margin


def _values(metric: str, found: Sequence[Result]) -> list[float]:
    return [(result.density or {})[metric] if metric in ("sdr", "map") else result.scores[metric] for result in found]


def _contrasts(found: Mapping[str, Sequence[Result]]) -> tuple[dict[str, dict[str, Contrast]], dict[str, Contrast]]:
    """Each arm against none, for each metric, and each challenger against SignCL in BLEU-4.

    Each metric has one linear model over all runs of a size.
    """
    models = {
        metric: fit_model({name: dict(enumerate(_values(metric, of_seeds))) for name, of_seeds in found.items()})
        for metric in METRICS
    }
    drawn = resampled_runs(found)

    def over(plain: str, metric: str) -> dict[str, Contrast]:
        made = {}
        for name in found:
            sentences = float(np.var(drawn[name] - drawn[plain], ddof=1)) if metric == "bleu4" else 0.0
            if name not in (PLAIN, plain):
                made[name] = models[metric].contrast(f"{name} − {plain}", {name: 1.0, plain: -1.0}, sentences)
        return made

    return {metric: over(PLAIN, metric) for metric in METRICS}, over(USUAL, "bleu4")


def main(words: list[str] | None = None) -> None:
    """Makes the table and draws the picture."""

    def more(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--all-words", action="store_true", help="run the word losses again, with short words too")

    run_script("challengers", __doc__, table, ("imu_numbers",), words, seeds=8, more=more)


if __name__ == "__main__":
    main()
