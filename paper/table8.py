"""Tables 2, 3 and 8: full 2 x 2 x 2 factorial of VLP, SignCL in pretraining and SignCL in finetuning.

    python -m paper.table8 --corpus synthetic --seeds 3

There are eight arms per seed. Without VLP, "SignCL in pretraining" is a pretraining with SignCL alone (the paper's row
0 1 0); its frame encoder and convolution initialise the finetuning. An arm without any pretraining starts like the
GFSLT recipe: from published weights on the paper's corpora, from the shared frame encoder on the synthetic one. Apart
from SignCL, all arms of a seed have the same finetuning recipe.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import product

import numpy as np

from paper import pooled
from paper.jobs import Fit, Place, Result, arms
from paper.measured import results, seconds
from paper.output import NO_SPANS, Claim, Table, effects_picture
from paper.pooled import Contrast, fit_model, holm, pooled_effect, resampled_runs
from paper.script import command_of, run_script
from paper.settings import CORPORA, describe
from paper.statistics import Effect, cell, effect, values_of, verdict
from signcl.training.recipe import load_recipe, recipe_path

THEIRS = {
    "phoenix14t": {
        "000": (72.83, 38.67, 18.53),
        "010": (63.23, 39.12, 18.71),
        "100": (68.53, 42.97, 21.25),
        "110": (62.68, 49.25, 22.69),
        "001": (69.54, 41.78, 19.81),
        "011": (63.67, 44.52, 20.03),
        "101": (62.73, 48.17, 22.16),
        "111": (62.32, 49.23, 22.74),
    },
    "csl_daily": {"100": (58.20, 39.08, 11.10), "110": (55.24, 47.38, 15.85), "101": (55.03, 48.26, 15.98),
                  "111": (54.61, 48.92, 16.16)},
}  # fmt: skip
"""The paper's SDR, ROUGE-L and BLEU-4 from Table 8 (PHOENIX-2014T) and Table 3 (CSL-Daily). The three digits of an arm
are VLP, SignCL in pretraining, SignCL in finetuning."""
COLUMNS = ("sdr", "rouge_l", "bleu4")
CLAIMS = (
    ("SignCL in pretraining raises BLEU-4 of GFSLT-VLP", "110", "100", "bleu4", 1),
    ("SignCL in finetuning raises BLEU-4 of GFSLT-VLP", "101", "100", "bleu4", 1),
    ("SignCL in both raises BLEU-4 of GFSLT-VLP", "111", "100", "bleu4", 1),
    ("SignCL in both lowers SDR of GFSLT-VLP", "111", "100", "sdr", -1),
    ("VLP raises BLEU-4", "100", "000", "bleu4", 1),
    ("SignCL in finetuning raises BLEU-4 without VLP", "001", "000", "bleu4", 1),
    ("SignCL alone as pretraining lowers SDR", "010", "000", "sdr", -1),
)


def jobs(corpus: str, changes: list[str]) -> dict[str, Fit]:
    """The eight arms, by three digits as in Table 8."""
    recipes, weight = CORPORA[corpus].recipes, CORPORA[corpus].gfslt_weight
    alone = (f"loss.weights={{signcl: {weight}}}", "train.select=-loss")
    starts = {
        "00": None,
        "10": Fit(recipes["vlp"], tuple(changes)),
        "01": Fit(recipes["vlp-signcl"], (*alone, *changes)),
        "11": Fit(recipes["vlp-signcl"], tuple(changes)),
    }
    found = {}
    for vlp, before, after in product("01", repeat=3):
        recipe = recipes["gfslt-signcl" if after == "1" else "gfslt"]
        start = starts[vlp + before]
        own = () if start else ("model.init_from=", *_first_weights(recipes["gfslt"], recipe))
        found[vlp + before + after] = Fit(recipe, (*own, *changes), start)
    return found


def _first_weights(plain: str, recipe: str) -> tuple[str, ...]:
    """Overrides with the initial weights of the plain recipe, for a recipe that expects to start from a pretraining."""
    theirs, own = (load_recipe(recipe_path(name)).model for name in (plain, recipe))
    keys = ("visual_weights", "language_model")
    return tuple(f"model.{k}={getattr(theirs, k)}" for k in keys if getattr(theirs, k, "") != getattr(own, k, ""))


def planned(options: argparse.Namespace, place: Place) -> dict[str, Fit]:
    """The runs of every arm, without seeds."""
    return jobs(options.corpus, options.changes)


def table(options: argparse.Namespace, place: Place) -> Table:
    """Trains missing runs and builds the table."""
    found = results(arms(jobs(options.corpus, options.changes), options.seeds), place)
    theirs = THEIRS.get(options.corpus, THEIRS["phoenix14t"])
    rows = []
    for arm, of_seeds in found.items():
        paper = [f"{value:.2f}" for value in theirs[arm]] if arm in theirs else ["–"] * 3
        marks = ["yes" if digit == "1" else "no" for digit in arm]
        gain = "–" if arm == "100" else str(effect("bleu4", of_seeds, found["100"]))
        rows.append([*marks, *(cell(metric, of_seeds) for metric in COLUMNS), gain, *paper])
    claims, effects = [], []
    for text, treated, plain, metric, sign in CLAIMS:
        if metric == "sdr" and any(r.density is None for r in (*found[treated], *found[plain])):
            continue  # `NO_SPANS` explains this in the notes
        seen = effect(metric, found[treated], found[plain])
        effects.append((text, seen))
        claims.append(Claim(text, _said(theirs, treated, plain, metric), str(seen), verdict(seen, sign)))
    for text, metric, contrast, said, sign in _main_effects(found, theirs):
        if metric == "bleu4":
            effects.append((text, pooled_effect(contrast, options.seeds)))
        claims.append(Claim(text, said, contrast.tested, pooled.verdict(contrast, sign)))
    picture = options.results / options.corpus / "table8.png"
    chosen: list[tuple[str, Effect]] = [(text, seen) for text, seen in effects if "BLEU" in text]
    effects_picture(picture, [text for text, _ in chosen], [seen for _, seen in chosen], "difference in BLEU-4")
    every = [result for of_seeds in found.values() for result in of_seeds]
    return Table(
        "table8",
        f"Tables 2, 3 and 8 on the {CORPORA[options.corpus].title}",
        command_of("table8", options),
        ["VLP", "SignCL pre", "SignCL ft", "SDR %", "ROUGE-L", "BLEU-4", "BLEU-4 over VLP alone",
         "paper SDR", "paper ROUGE-L", "paper BLEU-4"],
        rows,
        [
            "Ours: mean ± standard deviation over seeds, test split. Differences: 95 % over seeds and sentences; of "
            "SDR over seeds. A main effect is the mean of the four arms with a factor, minus the mean of the four "
            "without it. It comes from one linear model over all runs (value = arm + seed + rest) with pooled "
            "residuals and, for BLEU-4, the variance over sentences. Its p-values are corrected by Holm for the three "
            "factors. *could have seen* is the true difference that 4 of 5 such experiments would find. Unless this is "
            "the paper's own corpus, only the direction of a difference can be compared with its numbers.",
            *([NO_SPANS] if any(r.density is None for r in every) else []),
        ],
        claims,
        describe(options, place, **{"training seconds of the arms": round(seconds(every))}),
    )  # fmt: skip


FACTORS = ("VLP", "SignCL in pretraining", "SignCL in finetuning")


def _main_effects(
    found: dict[str, list[Result]], theirs: dict[str, tuple[float, float, float]]
) -> Iterator[tuple[str, str, Contrast, str, int]]:
    """Main effect of each factor, averaged over the other two: claim, metric, contrast, the paper's number, sign.

    Uses one linear model over all runs of the eight arms; p-values are corrected by Holm for a metric's three factors.
    """
    drawn = resampled_runs(found)
    for metric, does, sign in (("bleu4", "raises BLEU-4", 1), ("sdr", "lowers SDR", -1)):
        if metric == "sdr" and any(r.density is None for of_seeds in found.values() for r in of_seeds):
            continue
        model = fit_model({arm: dict(enumerate(values_of(metric, of_seeds))) for arm, of_seeds in found.items()})
        contrasts = []
        for place, factor in enumerate(FACTORS):
            weights = {arm: 0.25 if arm[place] == "1" else -0.25 for arm in found}
            over = np.sum([weight * drawn[arm] for arm, weight in weights.items()], axis=0)
            sentences = float(np.var(over, ddof=1)) if metric == "bleu4" else 0.0
            contrasts.append(model.contrast(f"{factor} {does}, main effect of the factorial", weights, sentences))
        column = COLUMNS.index(metric)
        for place, contrast in enumerate(holm(contrasts)):
            said = "–"
            if set(found) <= set(theirs):
                said = f"{sum(theirs[a][column] * (0.25 if a[place] == '1' else -0.25) for a in found):+.2f}"
            yield contrast.name, metric, contrast, said, sign


def _said(theirs: dict[str, tuple[float, float, float]], treated: str, plain: str, metric: str) -> str:
    if treated not in theirs or plain not in theirs:
        return "–"
    place = COLUMNS.index(metric)
    return f"{theirs[treated][place] - theirs[plain][place]:+.2f}"


def main(words: list[str] | None = None) -> None:
    """Makes the table."""
    run_script("table8", __doc__, table, ("synthetic", "phoenix14t", "csl_daily"), words)


if __name__ == "__main__":
    main()
