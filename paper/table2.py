"""Tables 2 and 3: GFSLT-VLP with SignCL in pretraining, finetuning or both, and the systems that these tables quote.

    python -m paper.table2 --corpus phoenix14t        the paper's Table 2
    python -m paper.table2 --corpus csl_daily         the paper's Table 3 (also: python -m paper.table3)
    python -m paper.table2 --corpus synthetic --seeds 3
    python -m paper.table2 --systems nslt2018 gaslt gfslt sign2gpt gfslt-vlp      some rows, in a separate table
    python -m paper.table2 --plan                     prints what each row needs and its command; trains nothing

Every system is trained here, including the quoted ones; the columns "paper" hold the published numbers. The four arms
with VLP, and GFSLT without it, are shared with `paper.table8`. NSLT (2018) and GASLT use the recipes of those systems
without SignCL: NSLT reads frames (with a ResNet instead of its AlexNet), and GASLT reads features of an I3D if the
corpus has published weights. Sign2GPT is first pretrained with pseudo-glosses (PGP).

The paper's gain from GFSLT-VLP to SignCL is largest in BLEU-1. Adding a full stop to every line has the same effect
(`signcl evaluate RUN --probe dot` measures it). Our scores use the raw references for all rows.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from paper.extractors import windows
from paper.jobs import Fit, Place, arms
from paper.measured import results, seconds
from paper.output import Claim, Table, effects_picture
from paper.published import EXPECTED, NOISE
from paper.script import command_of, name_of_part, run_script
from paper.settings import CORPORA, describe
from paper.statistics import cell, effect, verdict
from paper.table8 import jobs
from signcl.training.recipe import load_recipe, recipe_path

__all__ = ["SYSTEMS", "main", "planned", "systems", "table", "without_signcl"]

METRICS = ("rouge_l", "bleu1", "bleu2", "bleu3", "bleu4")
SYSTEMS = {
    "nslt2018": "NSLT (2018)",
    "gaslt": "GASLT",
    "gfslt": "GFSLT (no VLP)",
    "sign2gpt": "Sign2GPT (PGP)",
    "gfslt-vlp": "GFSLT-VLP",
    "signcl-pre": "+ SignCL into pretraining",
    "signcl-ft": "+ SignCL into finetuning",
    "signcl-both": "+ SignCL into both",
}
"""Name of a row in `--systems` -> its title in the table."""
ARMS = {"gfslt": "000", "gfslt-vlp": "100", "signcl-pre": "110", "signcl-ft": "101", "signcl-both": "111"}
"""The rows that are arms of Table 8."""
THEIRS: dict[str, dict[str, tuple[float | None, ...]]] = {
    "phoenix14t": {
        "nslt2018": (None, 30.07, 29.86, 17.52, 11.96, 9.00),
        "gaslt": (None, 39.86, 39.07, 26.74, 21.86, 15.74),
        "gfslt": (None, 40.93, 41.39, 31.00, 24.20, 19.66),
        "sign2gpt": (None, 48.90, 49.54, 35.96, 28.83, 22.52),
        "gfslt-vlp": (68.53, 42.97, 42.13, 32.04, 25.62, 21.25),
        "signcl-pre": (62.68, 49.25, 49.99, 36.73, 29.76, 22.69),
        "signcl-ft": (62.73, 48.17, 48.56, 35.04, 27.73, 22.16),
        "signcl-both": (62.32, 49.04, 49.76, 36.85, 29.97, 22.74),
    },
    "csl_daily": {
        "nslt2018": (None, 34.54, 34.16, 19.57, 7.56, 7.56),
        "gaslt": (None, 20.35, 19.90, 9.94, 5.98, 4.07),
        "gfslt": (None, 35.16, 37.69, 23.28, 14.93, 9.88),
        "sign2gpt": (None, 42.36, 41.75, 28.73, 20.60, 15.40),
        "gfslt-vlp": (58.20, 39.08, 36.37, 23.32, 15.45, 11.10),
        "signcl-pre": (55.24, 47.38, 46.20, 32.33, 22.35, 15.85),
        "signcl-ft": (55.03, 48.26, 46.53, 32.41, 22.42, 15.98),
        "signcl-both": (54.61, 48.92, 47.47, 32.53, 22.62, 16.16),
    },
}
"""The paper's SDR, ROUGE-L and BLEU-1 to BLEU-4 on test. It quotes the first four rows and trained the others. For the
last arm on PHOENIX-2014T, Table 8 prints ROUGE-L 49.23. For NSLT on CSL-Daily, Table 3 prints 7.56 for both BLEU-3 and
BLEU-4; one of them must be a mistake."""
QUOTED = {"phoenix14t": "GFSLT-VLP 21.44", "csl_daily": "GFSLT-VLP 11.00"}
"""BLEU-4 that the paper quotes for a system that it also trained itself."""
BASELINES = (
    ("GFSLT-VLP is better than the baseline NSLT (2018), in BLEU-4", "gfslt-vlp", "nslt2018", ""),
    ("GFSLT-VLP is better than the baseline GASLT, in BLEU-4", "gfslt-vlp", "gaslt", ""),
    ("GFSLT-VLP is better than the baseline GFSLT, in BLEU-4", "gfslt-vlp", "gfslt", "table8"),
    (
        "GFSLT-VLP + SignCL in both is better than the baseline Sign2GPT, in BLEU-4",
        "signcl-both",
        "sign2gpt",
        "",
    ),
)
"""Claims implied by the order of rows in the paper's tables: (claim, better row, worse row, table that has this claim
already)."""


def systems(corpus: str, changes: Sequence[str], place: Place | None = None) -> dict[str, Fit]:
    """The run of every row, without its seed."""
    setting, own = CORPORA[corpus], tuple(changes)
    extra = setting.extra
    eight = jobs(corpus, list(changes))
    found = {name: eight[arm] for name, arm in ARMS.items()}
    if "nslt2018" in extra:
        frames = _from_frames(extra["nslt2018"], setting.recipes["gfslt"])
        found["nslt2018"] = Fit(extra["nslt2018"], (*without_signcl(extra["nslt2018"]), *frames, *own))
    if "gaslt" in extra:
        read = windows(extra["windows"], place, changes) if "windows" in extra else None
        found["gaslt"] = Fit(extra["gaslt"], (*without_signcl(extra["gaslt"]), *own), features=read)
    if "sign2gpt" in extra:
        found["sign2gpt"] = Fit(extra["sign2gpt"], own, Fit(extra["pgp"], own))
    return {name: found[name] for name in SYSTEMS if name in found}


def without_signcl(recipe: str) -> tuple[str, ...]:
    """The override that removes SignCL from a recipe, which gives the system of its authors."""
    weights = load_recipe(recipe_path(recipe)).loss.weights
    kept = {term: weight for term, weight in weights.items() if term != "signcl"}
    return (f"loss.weights={json.dumps(kept)}",) if kept != weights else ()


CHUNK = 32
"""Frames per pass through the frame encoder of NSLT, whose batch is one clip."""


def _from_frames(recipe: str, gfslt: str) -> tuple[str, ...]:
    """Overrides that make a recipe for extracted features read frames with GFSLT's frame encoder.

    SMKD's features would not do, because SMKD is trained on glosses.
    """
    own, theirs = (load_recipe(recipe_path(name)) for name in (recipe, gfslt))
    if not own.corpus.features:
        return ()
    weights, size = theirs.model.visual_weights, theirs.input.crop or theirs.input.size
    encoder = (f"model.visual={theirs.model.visual}", f"model.visual_weights={weights}", f"model.chunk={CHUNK}")
    return ("corpus.features=", *encoder, f"input.size={size}")


def planned(options: argparse.Namespace, place: Place) -> dict[str, Fit]:
    """The runs of the selected rows, without seeds.

    Raises:
        ValueError: a row that the corpus does not have.
    """
    found = systems(options.corpus, options.changes, place)
    names = getattr(options, "systems", None) or list(found)
    if unknown := [name for name in names if name not in found]:
        raise ValueError(f"--systems: {options.corpus} has {', '.join(found)}, got {', '.join(unknown)}")
    return {name: job for name, job in found.items() if name in names}


def rows_of(options: argparse.Namespace, place: Place) -> dict[str, tuple[str, list[Fit]]]:
    """The run of each row, for `--plan`."""
    return {name: (SYSTEMS[name], [job]) for name, job in planned(options, place).items()}


def table(options: argparse.Namespace, place: Place) -> Table:
    """Trains missing runs and builds the table."""
    wanted = planned(options, place)
    found = results(arms(wanted, options.seeds), place)
    source = options.corpus if options.corpus in THEIRS else "phoenix14t"
    theirs = THEIRS[source]
    rows = []
    for name in found:
        cells = [cell(metric, found[name]) for metric in METRICS]
        said = ("–" if value is None else f"{value:.2f}" for value in theirs[name])
        rows.append([SYSTEMS[name], cell("sdr", found[name]), *cells, *said])
    claims, effects = [], []
    for name in ("signcl-pre", "signcl-ft", "signcl-both"):
        if name not in found or "gfslt-vlp" not in found:
            continue
        for metric in ("rouge_l", "bleu1", "bleu4"):
            seen = effect(metric, found[name], found["gfslt-vlp"])
            text = f"{SYSTEMS[name].removeprefix('+ ')} raises {_name(metric)} of GFSLT-VLP"
            effects.append((text, seen))
            if metric != "bleu4":  # Table 8 makes the claim about BLEU-4
                claims.append(Claim(text, _said(theirs, name, "gfslt-vlp", metric), str(seen), verdict(seen)))
    for text, better, worse, repeats in BASELINES:
        if better in found and worse in found:
            seen = effect("bleu4", found[better], found[worse])
            effects.append((text, seen))
            claims.append(Claim(text, _said(theirs, better, worse, "bleu4"), str(seen), verdict(seen), repeats))
    stem = name_of_part("table2", options.systems)
    picture = options.results / options.corpus / f"{stem}.png"
    if effects:
        effects_picture(picture, [text for text, _ in effects], [seen for _, seen in effects], "difference")
    names = ["SDR %", *map(_name, METRICS)]
    part = f": {', '.join(SYSTEMS[name] for name in found)}" if options.systems else ""
    return Table(
        stem,
        f"Tables 2 and 3 on the {CORPORA[options.corpus].title}{part}",
        command_of("table2", options),
        ["system", *names, *(f"paper {name}" for name in names)],
        rows,
        [
            "Ours: mean ± standard deviation over seeds, test split; differences: 95 % over seeds and sentences. The "
            f"paper's numbers are of {CORPORA[source].title}, without seeds; it quotes those of the first four systems "
            "from their authors. Only the direction of a difference can be compared on another corpus. BLEU-4 of "
            f"independent reruns there: {_independent(source)}; the interval of one score over its test sentences is "
            f"about ± {NOISE[source]}. The paper also quotes {QUOTED[source]} beside its own run.",
        ],
        claims,
        describe(options, place, **{"training seconds of the arms": round(sum(map(seconds, found.values())))}),
    )


def _said(theirs: dict[str, tuple[float | None, ...]], better: str, worse: str, metric: str) -> str:
    """The paper's difference between two rows."""
    column = 1 + METRICS.index(metric)
    a, b = theirs[better][column], theirs[worse][column]
    return "–" if a is None or b is None else f"{a - b:+.2f}"


def _independent(corpus: str) -> str:
    """Published scores by independent groups, from `paper.published`."""
    return "; ".join(f"{what} {much} ({whose})" for whose, what, much in EXPECTED[corpus] if "independent" in whose)


def _name(metric: str) -> str:
    return {"rouge_l": "ROUGE-L"}.get(metric, metric.replace("bleu", "BLEU-"))


def main(words: list[str] | None = None, corpora: Sequence[str] = ("synthetic", "phoenix14t", "csl_daily")) -> None:
    """Makes the table, on the first of the corpora unless the arguments name another."""
    run_script("table2", __doc__, table, corpora, words, more=_more, rows=("systems", rows_of))


def _more(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--systems", nargs="+", choices=tuple(SYSTEMS), metavar="NAME",
                        help=f"make only these rows, in a separate table: {', '.join(SYSTEMS)}")  # fmt: skip


if __name__ == "__main__":
    main()
