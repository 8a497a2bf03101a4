"""Tables 2 and 3: GFSLT-VLP and SignCL in pretraining, in finetuning, in both, beside the systems that they quote.

    python -m paper.table2 --corpus phoenix14t        the paper's Table 2
    python -m paper.table2 --corpus csl_daily         the paper's Table 3 (also: python -m paper.table3)
    python -m paper.table2 --corpus synthetic --seeds 3

The four arms with VLP of `paper.table8`, which are trained once for both, with ROUGE-L and BLEU-1 to BLEU-4. The
paper's jump from the first row to the second is largest in BLEU-1, which is what a full stop on every line also does
(`signcl evaluate RUN --probe dot` shows how much); ours are scored on the raw references, all rows alike.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from paper.jobs import Fit, Place, arms, results, seconds
from paper.output import Claim, Table, effects_picture
from paper.published import EXPECTED, NOISE
from paper.script import command_of, run_script
from paper.settings import CORPORA, describe
from paper.statistics import cell, effect, verdict
from paper.table8 import jobs

__all__ = ["main", "planned", "table"]

METRICS = ("rouge_l", "bleu1", "bleu2", "bleu3", "bleu4")
ARMS = {
    "100": "GFSLT-VLP",
    "110": "+ SignCL into pretraining",
    "101": "+ SignCL into finetuning",
    "111": "+ SignCL into both",
}
THEIRS: dict[str, dict[str, tuple[float, ...]]] = {
    "phoenix14t": {
        "100": (68.53, 42.97, 42.13, 32.04, 25.62, 21.25),
        "110": (62.68, 49.25, 49.99, 36.73, 29.76, 22.69),
        "101": (62.73, 48.17, 48.56, 35.04, 27.73, 22.16),
        "111": (62.32, 49.04, 49.76, 36.85, 29.97, 22.74),
    },
    "csl_daily": {
        "100": (58.20, 39.08, 36.37, 23.32, 15.45, 11.10),
        "110": (55.24, 47.38, 46.20, 32.33, 22.35, 15.85),
        "101": (55.03, 48.26, 46.53, 32.41, 22.42, 15.98),
        "111": (54.61, 48.92, 47.47, 32.53, 22.62, 16.16),
    },
}
"""SDR, ROUGE-L, BLEU-1 to BLEU-4 on test. Table 8 prints ROUGE-L 49.23 for the last arm of PHOENIX-2014T."""
QUOTED = {
    "phoenix14t": "NSLT 9.00, GASLT 15.74, GFSLT 19.66, GFSLT-VLP 21.44, Sign2GPT 22.52",
    "csl_daily": "GASLT 4.07, NSLT 7.56, GFSLT 9.88, GFSLT-VLP 11.00, Sign2GPT 15.40",
}
"""BLEU-4 that the paper quotes of others. It prints 7.56 for BLEU-3 of NSLT on CSL-Daily too, by mistake."""


def planned(options: argparse.Namespace, place: Place) -> dict[str, Fit]:
    """The four arms, but for their seed."""
    found = jobs(options.corpus, options.changes)
    return {arm: found[arm] for arm in ARMS}


def table(options: argparse.Namespace, place: Place) -> Table:
    """Train what is missing and lay out the table."""
    found = results(arms(planned(options, place), options.seeds), place)
    source = options.corpus if options.corpus in THEIRS else "phoenix14t"
    theirs = THEIRS[source]
    rows = []
    for arm, title in ARMS.items():
        cells = [cell(metric, found[arm]) for metric in METRICS]
        rows.append([title, cell("sdr", found[arm]), *cells, *(f"{value:.2f}" for value in theirs[arm])])
    claims, effects = [], []
    for arm in ("110", "101", "111"):
        for place_of_metric, metric in enumerate(METRICS, start=1):
            if metric not in ("rouge_l", "bleu1", "bleu4"):
                continue
            seen = effect(metric, found[arm], found["100"])
            text = f"{ARMS[arm].removeprefix('+ ')} raises {_name(metric)} of GFSLT-VLP"
            said = f"{theirs[arm][place_of_metric] - theirs['100'][place_of_metric]:+.2f}"
            effects.append((text, seen))
            if metric != "bleu4":  # that claim is Table 8's
                claims.append(Claim(text, said, str(seen), verdict(seen)))
    picture = options.results / options.corpus / "table2.png"
    effects_picture(picture, [text for text, _ in effects], [seen for _, seen in effects], "difference over GFSLT-VLP")
    names = ["SDR %", *map(_name, METRICS)]
    return Table(
        "table2",
        f"Tables 2 and 3 on the {CORPORA[options.corpus].title}",
        command_of("table2", options),
        ["system", *names, *(f"paper {name}" for name in names)],
        rows,
        [
            "Ours: mean ± standard deviation over seeds, test split; differences: 95 % over seeds and sentences. The "
            f"paper's numbers are of {CORPORA[source].title}, no seeds given; only the direction of a difference can "
            f"be compared on another corpus. BLEU-4 of others who ran it there: {_independent(source)}; the interval "
            f"of one score over its test sentences is about ± {NOISE[source]}. Quoted by the paper: {QUOTED[source]}.",
        ],
        claims,
        describe(options, place, **{"training seconds of the arms": round(sum(map(seconds, found.values())))}),
    )


def _independent(corpus: str) -> str:
    """The rows of `paper.check` that are not the paper's own."""
    return "; ".join(f"{what} {much} ({whose})" for whose, what, much in EXPECTED[corpus] if "independent" in whose)


def _name(metric: str) -> str:
    return {"rouge_l": "ROUGE-L"}.get(metric, metric.replace("bleu", "BLEU-"))


def main(words: list[str] | None = None, corpora: Sequence[str] = ("synthetic", "phoenix14t", "csl_daily")) -> None:
    """Make the table; on the first of the corpora unless `words` name another."""
    run_script("table2", __doc__, table, corpora, words)


if __name__ == "__main__":
    main()
