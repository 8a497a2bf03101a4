"""Losses in place of SignCL on real continuous signing (Persian number signs): design fixed before the runs.

    python -m paper.challengers --corpus imu_numbers --seeds 8

Every arm is GFSLT on the same 10 % or 25 % of the training sequences, with the steps of `paper.imu` and fresh seeds
(from 100 on). `paper/preregistered.md` has the design. On the synthetic corpus `python -m paper.density_effect
--challengers` asks the same. Not a table of the paper.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

import numpy as np

from paper.density_effect import Arm
from paper.jobs import Fit, Place, Result, arms
from paper.measured import results, seconds
from paper.output import Claim, Table, effects_picture
from paper.pooled import Contrast, fit_model, holm, p_shown, resampled, verdict
from paper.script import command_of, run_script
from paper.settings import CORPORA, PRESETS, describe
from paper.statistics import Effect, mean_and_spread

__all__ = ["ARMS", "FIRST_SEED", "main", "planned", "table"]

FRACTIONS = (0.1, 0.25)
FIRST_SEED = 100
MARGIN = 8.0
"""Mean distance between signs of GFSLT without SignCL: 7.6 to 7.9 with three seeds (`paper.all_systems`), rounded."""
ARMS = {
    "none": Arm(),
    "SignCL": Arm({"signcl": 0.03}),
    "slow + SIGReg": Arm({"slow": 0.3, "sigreg": 3.0}),
    "slow + invariance + SIGReg": Arm({"slow": 0.3, "invariance": 0.3, "sigreg": 3.0}),
    "word-aware SignCL": Arm({"word_signcl": 0.03}),
    "word contrast": Arm({"word_contrast": 0.1}),
}
"""Name -> loss terms beside translation."""
PLAIN, USUAL = "none", "SignCL"
METRICS = {"bleu4": "BLEU-4", "exact_match": "exact match %", "sdr": "SDR %", "map": "mAP %"}


def planned(options: argparse.Namespace, place: Place) -> dict[tuple[float, str], Fit]:
    """(share of the training sequences, arm) -> the run, without its seed."""
    steps = PRESETS[options.preset].imu_steps
    length = (f"train.max_steps={steps}", "train.epochs=1000", "train.evaluate_every=1000")
    found = {}
    for fraction in FRACTIONS:
        for name, arm in ARMS.items():
            # SignCL's margins are those of its recipe; a recipe without SignCL refuses them
            margins = "signcl" in arm.weights or "word_signcl" in arm.weights
            recipe = CORPORA[options.corpus].recipes["gfslt-signcl" if margins else "gfslt"]
            values = (f"loss.signcl.distance_margin={MARGIN}",) if margins else ()
            changes = (*length, f"corpus.fraction={fraction}", arm.changes(MARGIN)[0], *values, *options.changes)
            found[fraction, name] = Fit(recipe, changes)
    return found


def table(options: argparse.Namespace, place: Place) -> Table:
    """Trains missing runs and builds the table."""
    wanted = planned(options, place)
    made = results(
        arms({"/".join(map(str, key)): job for key, job in wanted.items()}, options.seeds, FIRST_SEED), place
    )
    rows: list[list[str]] = []
    effects: list[tuple[str, Effect]] = []
    primary: list[tuple[str, Contrast]] = []
    for fraction in FRACTIONS:
        found = {name: made[f"{fraction}/{name}"] for name in ARMS}
        over_none = {metric: _contrasts(metric, found, PLAIN) for metric in METRICS}
        over_usual = _contrasts("bleu4", found, USUAL)
        clips = found[PLAIN][0].card["clips"]["train"]
        for name, of_seeds in found.items():
            gains = [str(over_none[metric].get(name, "–")) for metric in ("bleu4", "map")]
            usual = "–" if name == PLAIN else str(over_usual.get(name, "–"))
            shown = [mean_and_spread(_values(metric, of_seeds)) for metric in METRICS]
            rows.append([f"{clips} ({fraction:.0%})", name, *shown, *gains, usual])
        for name, gain in over_none["bleu4"].items():
            primary.append((f"{name} raises BLEU-4 on {fraction:.0%} of the training sequences", gain))
            over = "seeds and sentences, pooled"
            effects.append((f"{name}, {fraction:.0%}", Effect(gain.estimate, gain.low, gain.high, options.seeds, over)))
    corrected = holm([gain for _, gain in primary])
    claims = [
        Claim(
            text, "–", f"{gain}; p {p_shown(gain.p_holm)} by Holm; could have seen {gain.could_see:.2f}", verdict(gain)
        )
        for (text, _), gain in zip(primary, corrected, strict=True)
    ]
    names, values = zip(*effects)
    effects_picture(options.results / options.corpus / "challengers.png", names, values, "BLEU-4 on test over none")
    every = [result for of_seeds in made.values() for result in of_seeds]
    return Table(
        "challengers",
        f"Losses in place of SignCL, {CORPORA[options.corpus].title}",
        command_of("challengers", options),
        ["training sequences", "arm", *METRICS.values(), "BLEU-4 over none", "mAP over none", "BLEU-4 over SignCL"],
        rows,
        [
            f"{PRESETS[options.preset].imu_steps} steps a run, seeds from {FIRST_SEED} on. Mean ± standard deviation "
            "over seeds, on test. Differences: 95 % from one linear model for each size (value = arm + seed + rest), "
            "for BLEU-4 with the variance over sentences (takes of one number together). P-values of BLEU-4 over none "
            f"are corrected by Holm for {len(primary)} contrasts; nothing else is tested. mAP: how well a sign is "
            "found among the signs of other clips. "
            + " ".join(f"{name}: {_weights(arm)}." for name, arm in ARMS.items() if arm.weights),
        ],
        claims,
        describe(options, place, **{"training seconds of the arms": round(seconds(every))}),
    )


def _weights(arm: Arm) -> str:
    margin = f", margin {MARGIN:g}" if "signcl" in arm.weights or "word_signcl" in arm.weights else ""
    return ", ".join(f"{name} {weight:g}" for name, weight in arm.weights.items()) + margin


def _values(metric: str, found: Sequence[Result]) -> list[float]:
    return [(result.density or {})[metric] if metric in ("sdr", "map") else result.scores[metric] for result in found]


def _contrasts(metric: str, found: Mapping[str, Sequence[Result]], plain: str) -> dict[str, Contrast]:
    """Each other arm against one, from one linear model over the runs of a size."""
    model = fit_model({name: dict(enumerate(_values(metric, of_seeds))) for name, of_seeds in found.items()})
    sentences = dict.fromkeys(found, 0.0)
    if metric == "bleu4":
        answers = {name: [result.answers() for result in of_seeds] for name, of_seeds in found.items()}
        told = {name: [hypotheses for hypotheses, _ in runs] for name, runs in answers.items()}
        drawn = resampled(told, answers[plain][0][1], found[plain][0].scored_as()[1])
        sentences = {name: float(np.var(drawn[name] - drawn[plain], ddof=1)) for name in found}
    return {
        name: model.contrast(f"{name} − {plain}", {name: 1.0, plain: -1.0}, sentences[name])
        for name in found
        if name != plain and not (plain == USUAL and name == PLAIN)
    }


def main(words: list[str] | None = None) -> None:
    """Makes the table and draws the picture."""
    run_script("challengers", __doc__, table, ("imu_numbers",), words, seeds=8)


if __name__ == "__main__":
    main()
