"""Tables 1, 11 and 12: the features of four extractors, and what recognition and translation make of them.

    python -m paper.table1 --corpus synthetic --seeds 3

Extractors: SMKD (gloss-based), VLP (gloss-free), both without and with SignCL. Of each, the frame encoder's output is
extracted for every clip (tap `features`, where SignCL looks); its density is measured on the test split; and on it
are trained a recogniser (its WER is the "SLR" column), Joint-SLT, NSLT, and NSLT with SignCL on its embedding. For SMKD
also Joint-SLT with SignCL, the gloss-based half of Table 1. Extractor and probe have the same seed.

SRP and I3D of Table 11 are features that others published; they are not trained here.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict

from scipy.stats import spearmanr

from paper.jobs import Extract, Fit, Place, Result, arms, results, seconds
from paper.output import NO_SPANS, Claim, Table, effects_picture
from paper.script import command_of, run_script
from paper.settings import CORPORA, describe
from paper.statistics import effect, mean_and_spread, values_of, verdict
from signcl.training.recipe import load_recipe, recipe_path

__all__ = ["extractors", "jobs", "main", "planned", "table"]

KINDS = {"smkd": "SMKD", "smkd-signcl": "SMKD + SignCL", "vlp": "VLP", "vlp-signcl": "VLP + SignCL"}
COLUMNS = ("density", "recogniser", "joint-slt", "joint-slt-signcl", "nslt", "nslt-signcl")
SHOWN = {"density": "SDR %", "recogniser": "SLR WER", "joint-slt": "Joint-SLT BLEU-4", "nslt": "NSLT BLEU-4",
         "joint-slt-signcl": "Joint-SLT + SignCL", "nslt-signcl": "NSLT + SignCL"}  # fmt: skip
Row = tuple[float | None, ...]
THEIRS: dict[str, dict[str, Row]] = {
    "phoenix14t": {
        "smkd": (66.23, 25.38, 22.79, 22.92, 19.35, 20.23),
        "smkd-signcl": (62.18, 24.76, 23.23, 23.46, None, None),
        "vlp": (92.59, 69.72, 12.73, None, 10.73, 12.14),
        "vlp-signcl": (81.30, 63.33, 14.76, None, 12.04, 13.51),
    },
    "csl_daily": {
        "smkd": (48.34, 29.52, 11.61, None, 8.97, 10.35),
        "vlp": (76.55, 85.78, 2.93, None, 1.82, 2.19),
        "vlp-signcl": (68.39, 80.71, 3.18, None, 2.29, 2.53),
    },
}
"""By extractor, in the order of `COLUMNS`. NSLT on VLP + SignCL, CSL-Daily: 2.29 in Table 12, 2.15 in Table 1."""
Cell = tuple[str, str]
CLAIMS: tuple[tuple[str, Cell, Cell, int], ...] = (
    ("gloss-free VLP is denser than gloss-based SMKD", ("vlp", "density"), ("smkd", "density"), 1),
    ("the denser VLP is recognised worse than SMKD (WER)", ("vlp", "recogniser"), ("smkd", "recogniser"), 1),
    ("the denser VLP is translated worse than SMKD by NSLT", ("vlp", "nslt"), ("smkd", "nslt"), -1),
    ("the denser VLP is translated worse than SMKD by Joint-SLT", ("vlp", "joint-slt"), ("smkd", "joint-slt"), -1),
    ("SignCL in extraction lowers SDR of VLP", ("vlp-signcl", "density"), ("vlp", "density"), -1),
    ("SignCL in extraction lowers WER on VLP", ("vlp-signcl", "recogniser"), ("vlp", "recogniser"), -1),
    ("SignCL in extraction raises BLEU-4 of Joint-SLT on VLP", ("vlp-signcl", "joint-slt"), ("vlp", "joint-slt"), 1),
    ("SignCL in extraction raises BLEU-4 of NSLT on VLP", ("vlp-signcl", "nslt"), ("vlp", "nslt"), 1),
    ("SignCL in finetuning raises BLEU-4 of NSLT on VLP", ("vlp", "nslt-signcl"), ("vlp", "nslt"), 1),
    ("SignCL in both raises BLEU-4 of NSLT on VLP", ("vlp-signcl", "nslt-signcl"), ("vlp", "nslt"), 1),
    ("SignCL in finetuning raises BLEU-4 of NSLT on SMKD", ("smkd", "nslt-signcl"), ("smkd", "nslt"), 1),
    ("SignCL in extraction lowers SDR of SMKD", ("smkd-signcl", "density"), ("smkd", "density"), -1),
    ("SignCL in extraction raises BLEU-4 of Joint-SLT on SMKD", ("smkd-signcl", "joint-slt"), ("smkd", "joint-slt"), 1),
    ("SignCL in finetuning raises BLEU-4 of Joint-SLT on SMKD", ("smkd", "joint-slt-signcl"), ("smkd", "joint-slt"), 1),
    ("SignCL in both raises BLEU-4 of Joint-SLT on SMKD",
     ("smkd-signcl", "joint-slt-signcl"), ("smkd", "joint-slt"), 1),
)  # fmt: skip


def extractors(corpus: str, changes: Sequence[str]) -> dict[str, Fit]:
    """The runs whose frame encoders give the features. SMKD takes SignCL as the corpus's GFSLT recipe has it."""
    setting = CORPORA[corpus]
    signcl = load_recipe(recipe_path(setting.recipes["gfslt-signcl"])).loss.signcl
    with_signcl = (f"loss.weights.signcl={setting.gfslt_weight}", f"loss.signcl={json.dumps(asdict(signcl))}")
    return {
        "smkd": Fit(setting.recipes["smkd"], tuple(changes)),
        "smkd-signcl": Fit(setting.recipes["smkd"], (*with_signcl, *changes)),
        "vlp": Fit(setting.recipes["vlp"], tuple(changes)),
        "vlp-signcl": Fit(setting.recipes["vlp-signcl"], tuple(changes)),
    }


def jobs(corpus: str, changes: Sequence[str]) -> dict[Cell, Fit]:
    """Every cell of the table, by extractor and column; the column `density` is the extractor itself."""
    recipes = CORPORA[corpus].recipes
    weight = load_recipe(recipe_path(recipes["features-nslt-signcl"])).loss.weights["signcl"]
    found: dict[Cell, Fit] = {}
    for kind, run in extractors(corpus, changes).items():
        features = Extract(run)
        found[kind, "density"] = run
        for part in ("recogniser", "joint-slt", "nslt", "nslt-signcl"):
            found[kind, part] = Fit(recipes[f"features-{part}"], tuple(changes), features=features)
        if kind.startswith("smkd"):
            own = (f"loss.weights.signcl={weight}", *changes)
            found[kind, "joint-slt-signcl"] = Fit(recipes["features-joint-slt"], own, features=features)
    return found


def planned(options: argparse.Namespace, place: Place) -> dict[Cell, Fit]:
    """The runs of every arm, but for their seed."""
    return jobs(options.corpus, options.changes)


def table(options: argparse.Namespace, place: Place) -> Table:
    """Train what is missing and lay out the table."""
    named = {"/".join(cell): job for cell, job in jobs(options.corpus, options.changes).items()}
    found: dict[Cell, list[Result]] = {}
    for name, of_seeds in results(arms(named, options.seeds), place).items():
        kind, _, column = name.partition("/")
        found[kind, column] = of_seeds
    theirs = THEIRS.get(options.corpus, THEIRS["phoenix14t"])
    rows = []
    for kind, title in KINDS.items():
        paper = theirs.get(kind, (None,) * len(COLUMNS))
        cells = [mean_and_spread(v) if (v := _values(found, (kind, column))) else "–" for column in COLUMNS]
        rows.append([title, *cells, *("–" if value is None else f"{value:.2f}" for value in paper)])
    claims, effects = [], []
    for text, treated, plain, sign in CLAIMS:
        if not _values(found, treated):  # the corpus knows no spans
            continue
        metric = {"density": "sdr", "recogniser": "wer"}.get(treated[1], "bleu4")
        seen = effect(metric, found[treated], found[plain])
        claims.append(Claim(text, _said(theirs, treated, plain), str(seen), verdict(seen, sign)))
        if metric == "bleu4":
            effects.append((text, seen))
    picture = options.results / options.corpus / "table1.png"
    effects_picture(picture, [text for text, _ in effects], [seen for _, seen in effects], "difference in BLEU-4")
    return Table(
        "table1",
        f"Tables 1, 11 and 12 on the {CORPORA[options.corpus].title}",
        command_of("table1", options),
        ["features", *(SHOWN[column] for column in COLUMNS), *(f"paper {SHOWN[column]}" for column in COLUMNS)],
        rows,
        [
            "Ours: mean ± standard deviation over seeds, test split. Differences of WER and BLEU-4: 95 % over seeds "
            "and sentences; of SDR over seeds. The paper's numbers are of PHOENIX-2014T unless the corpus is "
            "CSL-Daily; only the direction of a difference can be compared.",
            *_order(found, options.seeds, theirs),
        ],
        claims,
        describe(options, place, **{"training seconds of the arms": round(sum(map(seconds, found.values())))}),
    )


def _values(found: dict[Cell, list[Result]], cell: Cell) -> list[float]:
    """The number of a cell for every seed; empty where there is none."""
    of_seeds, column = found.get(cell, []), cell[1]
    if column == "density":
        return values_of("sdr", of_seeds)
    return values_of("wer" if column == "recogniser" else "bleu4", of_seeds)


def _order(found: dict[Cell, list[Result]], seeds: int, theirs: dict[str, Row]) -> list[str]:
    """Rank correlation of density with each score over the extractors, seed by seed."""
    if not _values(found, ("vlp", "density")):
        return [NO_SPANS]
    notes = []
    for column in ("recogniser", "joint-slt", "nslt"):
        place = COLUMNS.index(column)
        known = [row for row in theirs.values() if row[place] is not None]
        ours = {part: [_values(found, (kind, part)) for kind in KINDS] for part in ("density", column)}
        each = ", ".join(
            _ranked(*([of_kind[seed] for of_kind in ours[part]] for part in ("density", column)))
            for seed in range(seeds)
        )
        said = _ranked([row[0] for row in known], [row[place] for row in known])
        notes.append(
            f"Spearman's correlation of SDR with {SHOWN[column]} over the extractors: {each} by seed; paper "
            f"{said} over {len(known)}. Four points give no interval."
        )
    return notes


def _ranked(x: Sequence[float | None], y: Sequence[float | None]) -> str:
    """Spearman's correlation; none where one side does not vary."""
    return "none" if len(set(x)) < 2 or len(set(y)) < 2 else f"{spearmanr(x, y).statistic:+.2f}"


def _said(theirs: dict[str, Row], treated: Cell, plain: Cell) -> str:
    a, b = (theirs[kind][COLUMNS.index(column)] if kind in theirs else None for kind, column in (treated, plain))
    return "–" if a is None or b is None else f"{a - b:+.2f}"


def main(words: list[str] | None = None, corpora: Sequence[str] = ("synthetic", "phoenix14t", "csl_daily")) -> None:
    """Make the table; on the first of the corpora unless `words` name another."""
    run_script("table1", __doc__, table, corpora, words)


if __name__ == "__main__":
    main()
