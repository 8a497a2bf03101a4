"""Tables 1, 11 and 12: density of the features of five extractors, and recognition and translation scores on them.

    python -m paper.table1 --corpus synthetic --seeds 3
    python -m paper.table1 --corpus synthetic --extractors srp i3d      two rows, in a separate table
    python -m paper.table1 --corpus phoenix14t --plan                   prints what would be trained; trains nothing

Extractors: SRP and SMKD (gloss-based), I3D and VLP (gloss-free), SMKD and VLP also with SignCL. For each, the output of
the frame encoder is extracted for every clip (tap `features`, the input of SignCL) and its density is measured on the
test split. Then a recogniser (its WER is the "SLR" column), Joint-SLT, NSLT, and NSLT with SignCL on its embedding are
trained on these features; on SMKD also Joint-SLT with SignCL, the gloss-based half of Table 1. Extractor and probe have
the same seed.

SRP and I3D are published features: on PHOENIX-2014T the files of neccam/slt and an I3D checkpoint of WLASL. On the
synthetic corpus they are replaced (`paper.extractors`) by `cnn_ctc`, which learns glosses, and by an I3D trained once,
for all seeds, on isolated signs of another lexicon. Neither replacement is the paper's extractor.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict

from scipy.stats import spearmanr

from paper.extractors import KINDS, add_kinds, at_tap, borrowed, chosen, look, ready, title
from paper.jobs import Extract, Files, Fit, Place, Result, arms
from paper.measured import results, seconds
from paper.output import NO_SPANS, Claim, Table, effects_picture
from paper.script import command_of, name_of_part, run_script
from paper.settings import CORPORA, describe
from paper.statistics import effect, mean_and_spread, values_of, verdict
from signcl.training.recipe import load_recipe, recipe_path

__all__ = ["extractors", "jobs", "main", "planned", "table"]

COLUMNS = ("density", "recogniser", "joint-slt", "joint-slt-signcl", "nslt", "nslt-signcl")
SHOWN = {"density": "SDR %", "recogniser": "SLR WER", "joint-slt": "Joint-SLT BLEU-4", "nslt": "NSLT BLEU-4",
         "joint-slt-signcl": "Joint-SLT + SignCL", "nslt-signcl": "NSLT + SignCL"}  # fmt: skip
Row = tuple[float | None, ...]
THEIRS: dict[str, dict[str, Row]] = {
    "phoenix14t": {
        "srp": (74.07, 29.59, 21.32, None, 17.68, 19.02),
        "i3d": (83.33, 61.74, 14.17, None, 11.70, 12.81),
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
"""The paper's numbers by extractor, in the order of `COLUMNS`. For NSLT on VLP + SignCL on CSL-Daily, Table 12 gives
2.29 and Table 1 gives 2.15."""
Cell = tuple[str, str]
CLAIMS: tuple[tuple[str, Cell, Cell, int], ...] = (
    ("gloss-free I3D is denser than gloss-based SRP", ("i3d", "density"), ("srp", "density"), 1),
    ("the denser I3D is recognised worse than SRP (WER)", ("i3d", "recogniser"), ("srp", "recogniser"), 1),
    ("the denser I3D is translated worse than SRP by NSLT", ("i3d", "nslt"), ("srp", "nslt"), -1),
    ("the denser I3D is translated worse than SRP by Joint-SLT", ("i3d", "joint-slt"), ("srp", "joint-slt"), -1),
    ("SignCL in finetuning raises BLEU-4 of NSLT on SRP", ("srp", "nslt-signcl"), ("srp", "nslt"), 1),
    ("SignCL in finetuning raises BLEU-4 of NSLT on I3D", ("i3d", "nslt-signcl"), ("i3d", "nslt"), 1),
    ("SRP is denser than SMKD", ("srp", "density"), ("smkd", "density"), 1),
    ("the denser SRP is translated worse than SMKD by NSLT", ("srp", "nslt"), ("smkd", "nslt"), -1),
    ("VLP is denser than I3D", ("vlp", "density"), ("i3d", "density"), 1),
    ("the denser VLP is translated worse than I3D by NSLT", ("vlp", "nslt"), ("i3d", "nslt"), -1),
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


def extractors(corpus: str, changes: Sequence[str], place: Place | None = None) -> dict[str, Extract | Files]:
    """The features of every extractor of the corpus. SMKD uses the SignCL settings of the corpus's GFSLT recipe.

    Args:
        place: gives the I3D of the synthetic corpus; None keeps the weights of its recipe.
    """
    setting = CORPORA[corpus]
    signcl = load_recipe(recipe_path(setting.recipes["gfslt-signcl"])).loss.signcl
    with_signcl = (f"loss.weights.signcl={setting.gfslt_weight}", f"loss.signcl={json.dumps(asdict(signcl))}")
    found = borrowed(corpus, place, changes) | {
        "smkd": Extract(Fit(setting.recipes["smkd"], tuple(changes))),
        "smkd-signcl": Extract(Fit(setting.recipes["smkd"], (*with_signcl, *changes))),
        "vlp": Extract(Fit(setting.recipes["vlp"], tuple(changes))),
        "vlp-signcl": Extract(Fit(setting.recipes["vlp-signcl"], tuple(changes))),
    }
    return {kind: found[kind] for kind in KINDS if kind in found}


def jobs(
    corpus: str, changes: Sequence[str], place: Place | None = None, kinds: dict[str, Extract | Files] | None = None
) -> dict[Cell, Fit]:
    """The run of every cell of the table, by extractor and column.

    The run in the column `density` is the one whose density is measured: the extractor, or the probe on published
    features.

    Args:
        place: see `extractors`.
        kinds: the features; None takes all.
    """
    recipes, extra = CORPORA[corpus].recipes, CORPORA[corpus].extra
    signcl = load_recipe(recipe_path(recipes["features-nslt-signcl"])).loss
    found: dict[Cell, Fit] = {}
    for kind, features in (extractors(corpus, changes, place) if kinds is None else kinds).items():
        found[kind, "density"], _ = look(corpus, features, changes)
        own = _in_rows(extra["i3d"], signcl.signcl.frame_margin_floor) if kind == "i3d" else ()
        for part in ("recogniser", "joint-slt", "nslt", "nslt-signcl"):
            values = own if part == "nslt-signcl" else ()
            found[kind, part] = Fit(recipes[f"features-{part}"], (*values, *changes), features=features)
        if kind.startswith("smkd"):
            weight = (f"loss.weights.signcl={signcl.weights['signcl']}", *changes)
            found[kind, "joint-slt-signcl"] = Fit(recipes["features-joint-slt"], weight, features=features)
    return found


def _in_rows(recipe: str, floor: float) -> tuple[str, ...]:
    """Converts SignCL's floor from frames to feature rows, of which I3D has one every few frames (its stride)."""
    stride = load_recipe(recipe_path(recipe)).model.i3d.stride
    return (f"loss.signcl.frame_margin_floor={math.ceil(floor / stride)}",)


def planned(options: argparse.Namespace, place: Place) -> dict[Cell, Fit]:
    """The runs of every cell, without seeds."""
    kinds = chosen(extractors(options.corpus, options.changes, place), options)
    return jobs(options.corpus, options.changes, place, kinds)


def rows_of(options: argparse.Namespace, place: Place) -> dict[str, tuple[str, list[Fit]]]:
    """The runs of each row, for `--plan`."""
    found: dict[str, tuple[str, list[Fit]]] = {}
    for (kind, _), job in planned(options, place).items():
        found.setdefault(kind, (title(kind, options.corpus), []))[1].append(job)
    return found


def table(options: argparse.Namespace, place: Place) -> Table:
    """Trains missing runs and builds the table."""
    every = extractors(options.corpus, options.changes, place)
    kinds = chosen(every, options)
    ready(kinds, options, place)
    cells = jobs(options.corpus, options.changes, place, kinds)
    named = {"/".join(cell): job for cell, job in cells.items()}
    found: dict[Cell, list[Result]] = {}
    for name, of_seeds in results(arms(named, options.seeds), place).items():
        kind, _, column = name.partition("/")
        found[kind, column] = of_seeds
    trained = {result.key or result.folder: result for of_seeds in found.values() for result in of_seeds}
    for kind, features in kinds.items():
        _, tap = look(options.corpus, features, options.changes)
        found[kind, "density"] = at_tap(found[kind, "density"], tap, place)
    theirs = THEIRS.get(options.corpus, THEIRS["phoenix14t"])
    rows = []
    for kind in kinds:
        paper = theirs.get(kind, (None,) * len(COLUMNS))
        cell = [mean_and_spread(v) if (v := _values(found, (kind, column))) else "–" for column in COLUMNS]
        shown = ("–" if value is None else f"{value:.2f}" for value in paper)
        rows.append([title(kind, options.corpus), *cell, *shown])
    claims, effects = [], []
    for text, treated, plain, sign in CLAIMS:
        if not _values(found, treated) or not _values(found, plain):  # no spans, or an arm that does not exist
            continue
        metric = {"density": "sdr", "recogniser": "wer"}.get(treated[1], "bleu4")
        seen = effect(metric, found[treated], found[plain])
        claims.append(Claim(text, _said(theirs, treated, plain), str(seen), verdict(seen, sign)))
        if metric == "bleu4":
            effects.append((text, seen))
    name = name_of_part("table1", options.extractors)
    picture = options.results / options.corpus / f"{name}.png"
    effects_picture(picture, [text for text, _ in effects], [seen for _, seen in effects], "difference in BLEU-4")
    return Table(
        name,
        f"Tables 1, 11 and 12 on the {CORPORA[options.corpus].title}{_part(kinds, every, options.corpus)}",
        command_of("table1", options),
        ["features", *(SHOWN[column] for column in COLUMNS), *(f"paper {SHOWN[column]}" for column in COLUMNS)],
        rows,
        [
            "Ours: mean ± standard deviation over seeds, test split. Differences of WER and BLEU-4: 95 % over seeds "
            "and sentences; of SDR over seeds. The paper's numbers are of PHOENIX-2014T unless the corpus is "
            "CSL-Daily; only the direction of a difference can be compared.",
            *_borrowed_note(kinds, options.corpus),
            *_order(found, list(kinds), options.seeds, theirs),
        ],
        claims,
        describe(options, place, **{"training seconds of the arms": round(seconds([*trained.values()]))}),
    )


def _part(kinds: dict[str, Extract | Files], every: dict[str, Extract | Files], corpus: str) -> str:
    """Names of the selected rows, for the title; empty if the table has all rows."""
    if set(kinds) == set(every):
        return ""
    return f": {', '.join(title(kind, corpus) for kind in kinds)}"


def _borrowed_note(kinds: dict[str, Extract | Files], corpus: str) -> list[str]:
    """Notes that explain SRP and I3D on this corpus."""
    notes = []
    if isinstance(kinds.get("srp"), Files):
        notes.append("SRP: the released features, the same for every seed.")
    elif "srp" in kinds:
        notes.append(
            "SRP (cnn_ctc) is a stand-in, not SRP: the same frame encoder as in the other rows, trained on glosses by "
            "CTC without SMKD's tricks."
        )
    if "i3d" in kinds:
        signs = "another lexicon" if corpus == "synthetic" else "WLASL"
        notes.append(f"I3D: one I3D trained on isolated signs of {signs}, the same for every seed; only probes differ.")
    return notes


def _values(found: dict[Cell, list[Result]], cell: Cell) -> list[float]:
    """The number of a cell for each seed; empty if the cell has no numbers."""
    of_seeds, column = found.get(cell, []), cell[1]
    if column == "density":
        return values_of("sdr", of_seeds)
    return values_of("wer" if column == "recogniser" else "bleu4", of_seeds)


def _order(found: dict[Cell, list[Result]], kinds: list[str], seeds: int, theirs: dict[str, Row]) -> list[str]:
    """Rank correlation of density with each score over the extractors, seed by seed."""
    if not all(_values(found, (kind, "density")) for kind in kinds):
        return [NO_SPANS]
    if len(kinds) < 3:
        return []
    notes = []
    for column in ("recogniser", "joint-slt", "nslt"):
        place = COLUMNS.index(column)
        known = [row for kind, row in theirs.items() if kind in kinds and row[place] is not None]
        ours = {part: [_values(found, (kind, part)) for kind in kinds] for part in ("density", column)}
        each = ", ".join(
            _ranked(*([of_kind[seed] for of_kind in ours[part]] for part in ("density", column)))
            for seed in range(seeds)
        )
        said = _ranked([row[0] for row in known], [row[place] for row in known])
        notes.append(
            f"Spearman's correlation of SDR with {SHOWN[column]} over the {len(kinds)} extractors: {each} by seed; "
            f"paper {said} over {len(known)}. So few points give no interval."
        )
    return notes


def _ranked(x: Sequence[float | None], y: Sequence[float | None]) -> str:
    """Spearman's correlation as text; "none" if one side is constant."""
    return "none" if len(set(x)) < 2 or len(set(y)) < 2 else f"{spearmanr(x, y).statistic:+.2f}"


def _said(theirs: dict[str, Row], treated: Cell, plain: Cell) -> str:
    a, b = (theirs[kind][COLUMNS.index(column)] if kind in theirs else None for kind, column in (treated, plain))
    return "–" if a is None or b is None else f"{a - b:+.2f}"


def main(words: list[str] | None = None, corpora: Sequence[str] = ("synthetic", "phoenix14t", "csl_daily")) -> None:
    """Makes the table, on the first of the corpora unless the arguments name another."""
    run_script("table1", __doc__, table, corpora, words, more=add_kinds, rows=("extractors", rows_of))


if __name__ == "__main__":
    main()
