"""Verbs that score runs: `evaluate`, `compare`, `report`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from signcl.cli.common import add_json, add_language, add_run, add_run_and_split, add_verb, show
from signcl.cli.number_options import real, whole

__all__ = ["add"]

PROBES = ("overlap", "visual", "dot")  # keys of signcl.evaluation.probes.PROBES, which is slow to import


def add(verbs: Any, words: list[str]) -> None:
    """Add the verbs of this file."""
    command = add_verb(verbs, "evaluate", _evaluate, "translate a split and score it against the raw references")
    add_run_and_split(command)
    command.add_argument("--beams", type=whole(low=1, high=1000), help="beams of the search; default: the recipe's")
    command.add_argument(
        "--length-penalty", type=real(low=-100, high=100), help="length penalty of the search; default: the recipe's"
    )
    command.add_argument(
        "--batch-size", type=whole(low=1, high=1_000_000), help="clips in a batch; default: the recipe's"
    )
    command.add_argument(
        "--bootstrap", type=whole(low=0, high=10**7), default=1000, help="number of resamples for the BLEU-4 interval"
    )
    text = "first choose the beams (1 to 10) and length penalty (-1 to 5) with the best BLEU-4 on dev (slt, gaslt)"
    command.add_argument("--grid", action="store_true", help=text)
    text = (
        "check if scores can be trusted: overlap (sentences seen in training), visual (altered video), dot (full stops)"
    )
    command.add_argument("--probe", nargs="+", choices=PROBES, metavar="NAME", help=text)
    command.add_argument(
        "--near",
        type=real(above=0, high=1),
        default=0.75,
        help="for overlap: smallest share of equal tokens that makes a near-duplicate",
    )
    command.add_argument(
        "--probe-seed",
        type=whole(low=0, high=2**32 - 1),
        default=0,
        help="for visual: seed of the altered videos and intervals",
    )

    command = add_verb(verbs, "compare", _compare, "compare two runs or files of sentences by paired bootstrap")
    text = "a run, or a file of sentences in a format that `signcl score` reads"
    add_run(command, "run_a", metavar="A", help=text)
    add_run(command, "run_b", metavar="B", help="the run or file to compare with A")
    command.add_argument("--ref", metavar="FILE", help="file of references; default: those of the run or of the files")
    command.add_argument("--split", default="test", help="split to compare")
    command.add_argument("--samples", type=whole(low=1, high=10**7), default=1000, help="number of resamples")
    command.add_argument(
        "--examples",
        type=whole(low=1, high=1_000_000),
        metavar="N",
        help="also print the N sentences that gained and lost most",
    )
    command.add_argument(
        "--by", choices=("rouge_l", "bleu"), default="rouge_l", help="sentence score that ranks the examples"
    )
    command.add_argument("--html", metavar="FILE", help="also write a page: sentences side by side, with their clips")
    command.add_argument(
        "--clips", type=whole(low=0, high=10_000), default=40, metavar="N", help="most clips in the page"
    )
    add_language(command)
    add_json(command)

    command = add_verb(
        verbs, "report", _report, "write one self-contained HTML page about one run, or several side by side"
    )
    add_run(command, "runs", nargs="+", help="one or more runs; files of sentences can be added for comparison")
    command.add_argument("-o", "--out", help="file of the page; default: RUN/report.html")
    command.add_argument("--split", default="test", help="split to report")
    add_language(command)
    add_json(command)


def _evaluate(options: argparse.Namespace) -> None:
    from signcl.cli.tables import scores_table
    from signcl.evaluation.scoring import evaluate

    if options.probe:
        _probe(options)
        return
    if options.grid:
        from signcl.evaluation.grid import evaluate_grid

        if options.beams is not None or options.length_penalty is not None:
            raise ValueError("--grid chooses --beams and --length-penalty itself; leave out either --grid or those two")
        scores = evaluate_grid(
            options.folder,
            options.split,
            root=options.root,
            device=options.device,
            batch_size=options.batch_size,
            bootstrap=options.bootstrap,
        )
        show(options, scores, scores_table)
        return
    scores = evaluate(
        options.folder,
        options.split,
        root=options.root,
        device=options.device,
        beams=options.beams,
        length_penalty=options.length_penalty,
        batch_size=options.batch_size,
        bootstrap=options.bootstrap,
    )
    show(options, scores, scores_table)


def _probe(options: argparse.Namespace) -> None:
    from signcl.cli.tables import probes_table
    from signcl.evaluation.probes import probe

    if options.grid:
        raise ValueError(
            "--grid chooses how to translate and --probe examines the translations; run --grid first, then --probe"
        )
    found = probe(
        options.folder,
        list(dict.fromkeys(options.probe)),
        options.split,
        root=options.root,
        device=options.device,
        beams=options.beams,
        length_penalty=options.length_penalty,
        batch_size=options.batch_size,
        bootstrap=options.bootstrap,
        near=options.near,
        seed=options.probe_seed,
    )
    show(options, found, probes_table)


def _compare(options: argparse.Namespace) -> None:
    from signcl.cli.tables import changes_table, comparison_table
    from signcl.data.progress import say
    from signcl.evaluation.comparison import compare, density_line
    from signcl.evaluation.scoring import run_health

    rows = compare(options.run_a, options.run_b, options.split, samples=options.samples, reference=options.ref)
    if line := density_line(options.run_a, options.run_b, options.split):
        say(f"B against A: {line}")
    for letter, run in (("A", options.run_a), ("B", options.run_b)):
        for finding in run_health(run, options.split) if Path(run).is_dir() else ():
            say(f"{letter}: {finding.text}")
    if options.html:
        from signcl.pages.compare_page import write_compare_page

        page = write_compare_page(
            options.run_a,
            options.run_b,
            Path(options.html),
            rows,
            split=options.split,
            reference=options.ref,
            by=options.by,
            clips=options.clips,
            language=options.language,
        )
        say(f"page: {page}")
    if options.examples is None:
        show(options, rows, comparison_table)
        return
    from signcl.evaluation.probes import changes

    changed = changes(
        options.run_a,
        options.run_b,
        options.split,
        by=options.by,
        examples=options.examples,
        reference=options.ref,
    )
    both = {"scores": rows, "changes": changed}
    show(options, both, lambda found: f"{comparison_table(found['scores'])}\n\n{changes_table(found['changes'])}")


def _report(options: argparse.Namespace) -> None:
    from signcl.pages.report import report

    page = report(
        [Path(run) for run in options.runs],
        out=options.out and Path(options.out),
        split=options.split,
        language=options.language,
    )
    show(options, {"page": str(page)}, lambda found: found["page"])
