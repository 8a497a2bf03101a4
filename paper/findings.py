"""What beats plain SignCL at the same size and length? Compares options of this package with equal steps.

    python -m paper.findings --corpus imu_numbers --seeds 5
    python -m paper.findings --corpus synthetic --seeds 3

Every arm is the corpus's GFSLT recipe with a few changed values, and the same parameters, steps and clips; its training
time is given. The best arm is selected by BLEU-4 on dev. Its gain is reported on test, which was not used for
selection. Number signs: a tenth of the training sequences (56), which leaves room to gain. Synthetic: finetuned from
VLP. Not a table of the paper; `docs/findings.md` reports the results.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Sequence

from paper.jobs import Fit, Place, Result, arms
from paper.measured import results, seconds
from paper.output import Claim, Table, effects_picture
from paper.script import command_of, run_script
from paper.settings import CORPORA, PRESETS, describe, for_steps
from paper.statistics import cell, effect, mean_and_spread, verdict
from signcl.training.recipe import load_recipe, recipe_path

__all__ = ["OPTIONS", "best_on_dev", "main", "planned", "table"]

FRACTION = 0.1
"""Share of the number signs' training sequences that is used."""
SAME_SIGN = ("loss.signcl.same_sign=0.75",)
RELATIVE = ("loss.signcl.distance_margin_mode=relative", "loss.signcl.distance_margin=1.0")
TEMPO = ("input.augment.temporal_rescale=0.2",)
DROPOUT = ("model.dropout=0.3",)
OPTIONS: dict[str, tuple[bool, tuple[str, ...]]] = {
    "no SignCL": (False, ()),
    "SignCL as in the paper": (True, ()),
    "same_sign": (True, SAME_SIGN),
    "relative margin": (True, RELATIVE),
    "SignCL in the first half only": (True, ("first half",)),
    "SignCL in the second half only": (True, ("second half",)),
    "tempo, no SignCL": (False, TEMPO),
    "tempo": (True, TEMPO),
    "tempo + same_sign": (True, TEMPO + SAME_SIGN),
    "dropout 0.3, no SignCL": (False, DROPOUT),
    "token contrast in pretraining": (False, ()),
}
"""Name -> (with SignCL?, changed recipe values). Fixed before these runs; `same_sign` and `relative margin` had been
tried before on one seed of the number signs (docs/systems/beyond.md)."""
PLAIN, PAPER, TOKENS = "no SignCL", "SignCL as in the paper", "token contrast in pretraining"
ON_SYNTHETIC = (PLAIN, PAPER, "same_sign", "relative margin", "tempo, no SignCL", TOKENS)
"""The other arms would take too long for `make paper`; all arms are tried on the number signs."""


def planned(options: argparse.Namespace, place: Place) -> dict[str, Fit]:
    """The runs of every arm, without seeds."""
    corpus = options.corpus
    recipes, length, start = CORPORA[corpus].recipes, _length(options), None
    if "vlp" in recipes:
        start = Fit(recipes["vlp"], tuple(options.changes))
    names = ON_SYNTHETIC if corpus == "synthetic" else tuple(name for name in OPTIONS if name != TOKENS)
    found = {}
    for name in names:
        signcl, values = OPTIONS[name]
        recipe = recipes["gfslt-signcl" if signcl else "gfslt"]
        changes = (*length, *(_in_time(value, recipe, length, corpus) for value in values), *options.changes)
        before = Fit("synthetic/vlp-token.yaml", tuple(options.changes)) if name == TOKENS else start
        found[name] = Fit(recipe, changes, before)
    return found


def _length(options: argparse.Namespace) -> tuple[str, ...]:
    """The length of the arms of `paper.imu`, so that runs are shared; the recipe's length on other corpora."""
    if options.corpus != "imu_numbers":
        return ()
    return (*for_steps(PRESETS[options.preset].imu_steps), f"corpus.fraction={FRACTION}")


def _in_time(value: str, recipe: str, length: Sequence[str], corpus: str) -> str:
    """Converts `first half` and `second half` to epochs of this training; returns other values unchanged."""
    if not value.endswith(" half"):
        return value
    read = load_recipe(recipe_path(recipe), length)
    batches = math.ceil(round(CORPORA[corpus].clips * read.corpus.fraction) / read.train.batch_size)
    epochs = read.train.max_steps / batches if read.train.max_steps else read.train.epochs
    half = round(epochs / 2)
    when = [0, half] if value == "first half" else [half, None]
    return f"loss.schedule={{signcl: {json.dumps(when)}}}"


def best_on_dev(found: dict[str, list[Result]]) -> str:
    """The arm with the highest mean BLEU-4 on dev."""
    return max(found, key=lambda name: statistics.mean(_dev(found[name])))


def table(options: argparse.Namespace, place: Place) -> Table:
    """Trains missing runs and builds the table."""
    found = results(arms(planned(options, place), options.seeds), place)
    best, usual = best_on_dev(found), seconds(found[PAPER])
    rows, effects = [], []
    for name, of_seeds in sorted(found.items(), key=lambda item: -statistics.mean(_dev(item[1]))):
        gain = None if name == PAPER else effect("bleu4", of_seeds, found[PAPER])
        if gain is not None:
            effects.append((name, gain))
        rows.append([
            f"{name} (best on dev)" if name == best else name,
            mean_and_spread(_dev(of_seeds)),
            *(cell(metric, of_seeds) for metric in ("bleu4", "exact_match", "sdr")), str(gain or "–"),
            "–" if name == PLAIN else str(effect("bleu4", of_seeds, found[PLAIN])),
            f"{seconds(of_seeds) / usual:.2f}",
        ])  # fmt: skip
    picture = options.results / options.corpus / "findings.png"
    effects_picture(
        picture, [n for n, _ in effects], [e for _, e in effects], "BLEU-4 on test over SignCL as in the paper"
    )
    sizes = {result.card["parameters"] for of_seeds in found.values() for result in of_seeds}
    return Table(
        "findings",
        f"What beats plain SignCL, on the {CORPORA[options.corpus].title}",
        command_of("findings", options),
        ["arm", "BLEU-4 dev", "BLEU-4 test", "exact match % test", "SDR % test", "over plain SignCL, test",
         "over no SignCL, test", "time"],
        rows,
        [
            f"All arms: {' '.join(_length(options)) or 'the number of steps in the recipe'}, "
            f"{' or '.join(map(str, sorted(sizes)))} parameters, sorted by BLEU-4 on dev. Mean ± standard deviation "
            "over seeds; differences: 95 % over seeds and sentences; time: finetuning seconds over those of plain "
            f"SignCL. {len(effects)} arms are compared with plain SignCL, without correction: by chance, about one "
            "interval in twenty excludes 0.",
        ],
        _claims(found, best),
        describe(options, place, **{"training seconds of the arms": round(sum(map(seconds, found.values())))}),
    )  # fmt: skip


def _claims(found: dict[str, list[Result]], best: str) -> list[Claim]:
    others = [name for name in ("same_sign", "relative margin") if name in found and name != best]
    asked = [(best, PAPER), (best, PLAIN), *((name, PAPER) for name in others)]
    claims = []
    for treated, plain in asked:
        if treated == plain:
            continue
        seen = effect("bleu4", found[treated], found[plain])
        chosen = ", the best on dev," if treated == best else ""
        claims.append(Claim(f"{treated}{chosen} raises BLEU-4 over: {plain}", "–", str(seen), verdict(seen)))
    return claims


def _dev(found: Sequence[Result]) -> list[float]:
    """BLEU-4 on dev for every seed."""
    return [result.on_dev("bleu4") for result in found]


def main(words: list[str] | None = None) -> None:
    """Makes the table."""
    run_script("findings", __doc__, table, ("imu_numbers", "synthetic"), words)


if __name__ == "__main__":
    main()
