"""Verbs about where signs stand in time: `align`, `spans`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from signcl.cli.common import add_json, add_verb, show
from signcl.cli.number_options import real, whole

__all__ = ["add"]


def add(verbs: Any, words: list[str]) -> None:
    """Add the verbs of this file."""
    command = add_verb(verbs, "align", _align, "the frames of every gloss, by forced alignment with a recogniser")
    command.add_argument("folder", metavar="RUN", nargs="?", help="a run that weighs recognition")
    command.add_argument("-o", "--out", required=True, metavar="TSV", help="where the spans go; a report beside it")
    command.add_argument("--split", default="test")
    command.add_argument("--fill", choices=("nearest", "label"), default="nearest", help="whose the blank frames are")
    command.add_argument("--transductive", action="store_true", help="the run was trained on test too, as the paper's")
    command.add_argument(
        "--tolerance", type=whole(low=0, high=1_000_000), default=2, help="frames that a boundary may be off"
    )
    command.add_argument("--device", default="auto")
    command.add_argument("--log-probs", metavar="SOURCE", help="in place of RUN: log-probabilities of any model")
    command.add_argument("--classes", metavar="FILE", help="with --log-probs: glosses.json, or a class a line")
    command.add_argument("--glosses", metavar="TSV", help="with --log-probs: a table name, gloss in place of --root")
    command.add_argument(
        "--stride", type=real(above=0, high=1e6), default=1.0, help="with --log-probs: frames from row to row"
    )
    _corpus(command)
    add_json(command)

    command = add_verb(verbs, "spans", _spans, "spans from a corpus, table or ELAN files into a table or ELAN files")
    command.add_argument("source", metavar="FROM", nargs="?", help="TSV, .eaf, or a folder of .eaf files")
    command.add_argument("-o", "--out", required=True, metavar="TO", help="a .tsv table, or a folder for .eaf files")
    command.add_argument("--split", default="test")
    command.add_argument("--fps", type=real(above=0, high=10_000), default=25.0, help="frames of a second, for ELAN")
    command.add_argument("--tier", help="ELAN tier to read or write")
    command.add_argument("--phoenix-alignments", metavar="DIR", help="from the HMM states of PHOENIX-2014T")
    _corpus(command)


def _corpus(command: Any) -> None:
    command.add_argument("--corpus", default="folder", help="kind of the corpus at --root")
    command.add_argument("--root", help="a corpus folder: its glosses (align), its own spans (spans)")


def _align(options: argparse.Namespace) -> None:
    from signcl.cli.tables import alignment_table
    from signcl.inference.alignment import align_log_probs, align_run, gloss_samples

    if (options.folder is None) == (options.log_probs is None):
        raise ValueError("signcl align needs a RUN, or --log-probs with --classes and --root, one of the two")
    if options.folder is not None:
        if options.glosses is not None:
            raise ValueError("--glosses goes with --log-probs; a run has the glosses of its corpus")
        report = align_run(
            options.folder,
            options.split,
            options.out,
            root=options.root,
            fill=options.fill,
            device=options.device,
            transductive=options.transductive,
            tolerance=options.tolerance,
        )
    else:
        if options.classes is None or (options.root is None) == (options.glosses is None):
            raise ValueError(
                "--log-probs needs --classes (names of the classes), and --root (the corpus with glosses) or --glosses "
                "(a table name, gloss), one of the two"
            )
        from signcl.data.corpora import load_samples

        report = align_log_probs(
            options.log_probs,
            options.classes,
            load_samples(options.corpus, options.root, options.split)
            if options.glosses is None
            else gloss_samples(options.glosses),
            options.out,
            corpus=options.corpus if options.glosses is None else str(options.glosses),
            fill=options.fill,
            stride=options.stride,
            tolerance=options.tolerance,
        )
    show(options, report, lambda found: f"{alignment_table(found)}\n{options.out}")


def _spans(options: argparse.Namespace) -> None:
    from signcl.data.annotation import phoenix_states
    from signcl.data.annotation.elan import read_elan, write_elan
    from signcl.data.annotation.span_table import read_spans, write_spans
    from signcl.data.corpora import load_samples

    given = [value for value in (options.source, options.phoenix_alignments, options.root) if value is not None]
    if len(given) != 1:
        raise ValueError("signcl spans needs one source: FROM, --phoenix-alignments DIR, or --corpus KIND --root DIR")
    if options.source is None:
        if options.phoenix_alignments is not None:
            samples = phoenix_states.samples(options.phoenix_alignments, options.split)
        else:
            samples = load_samples(options.corpus, options.root, options.split)
        spans = {sample.name: sample.spans for sample in samples if sample.spans}
        if not spans:
            raise ValueError(f"no clip of split {options.split} at {given[0]} has spans of its own; align it first")
    elif Path(options.source).suffix == ".eaf" or Path(options.source).is_dir():
        spans = read_elan(options.source, fps=options.fps, tier=options.tier)
    else:
        spans = read_spans(options.source)
    out = Path(options.out)
    if out.suffix == ".tsv":
        write_spans(out, spans)
    elif out.suffix and out.suffix != ".eaf":
        raise ValueError(f"{out}: spans are written as a .tsv table, or as .eaf files into a folder")
    else:
        write_elan(out, spans, fps=options.fps, tier=options.tier or "gloss")
    print(f"{sum(map(len, spans.values()))} spans of {len(spans)} clips -> {out}")
