"""Verbs that look at features and spans: `density`, `audit`."""

from __future__ import annotations

import argparse
from typing import Any

from signcl.cli.common import add_json, add_run_and_split, add_verb, show

__all__ = ["add"]


def add(verbs: Any, words: list[str]) -> None:
    """Add the verbs of this file; `words` is the command line, for those that need a look at it first."""
    command = add_verb(
        verbs, "density", _density, "Sign Density Ratio of a run's features, with interval and shuffled baseline"
    )
    add_run_and_split(command)
    command.add_argument("--frame", choices=("centre", "mean", "medoid"), default="centre", help="a sign's one vector")
    command.add_argument("--tap", default="features", help="where to look; `signcl systems` lists a system's taps")
    command.add_argument("--distance", choices=("euclidean", "squared", "cosine"), default="euclidean")
    command.add_argument("--inter", choices=("gloss", "instance"), default="gloss")
    command.add_argument("--min-count", type=int, default=2, help="glosses with fewer instances have no ratio")
    command.add_argument("--no-picture", action="store_true", help="leave out the t-SNE picture")

    command = add_verb(verbs, "audit", _audit, "how often SignCL's positives share a sign and its negatives do not")
    command.add_argument("folder", metavar="CORPUS", nargs="?", help="a corpus folder whose spans are known")
    command.add_argument("--corpus", default="folder", help="its kind: folder, synthetic, imu_numbers, ...")
    command.add_argument("--phoenix-alignments", metavar="DIR", help="in its place: HMM states of PHOENIX-2014T")
    command.add_argument("--spans", metavar="TSV", help="take the spans from a table: name, gloss, start, stop")
    command.add_argument("--split", default="train")
    command.add_argument("--rule", nargs="+", default=["paper", "released", "fixed"], help="margin rules")
    command.add_argument("--stride", nargs="+", type=int, default=[1, 2, 4], help="keep every n-th frame")
    command.add_argument("--zipf", nargs="+", type=float, default=[2.3], help="spoken words per gloss")
    command.add_argument("--floor", type=float, default=10.0, help="smallest margin, in kept frames")
    command.add_argument("--pieces-per-word", type=float, default=1.53, help="tokens per word, for the rule released")
    add_json(command)


def _density(options: argparse.Namespace) -> None:
    from signcl.analysis import run_density
    from signcl.tables import density_table

    found = run_density(
        options.folder,
        options.split,
        root=options.root,
        device=options.device,
        frame=options.frame,
        tap=options.tap,
        distance=options.distance,
        inter=options.inter,
        min_count=options.min_count,
        picture=not options.no_picture,
    )
    show(options, found, density_table)


def _audit(options: argparse.Namespace) -> None:
    from signcl.audit import run_audit
    from signcl.tables import audit_table

    if (options.folder is None) == (options.phoenix_alignments is None):
        raise ValueError("signcl audit needs a CORPUS folder or --phoenix-alignments DIR, one of the two")
    if options.phoenix_alignments is not None:
        from signcl.corpora import phoenix_states

        samples = phoenix_states.samples(options.phoenix_alignments, options.split)
    else:
        from signcl.corpora import load_samples

        samples = load_samples(options.corpus, options.folder, options.split)
    if options.spans:
        from signcl.corpora.span_table import attach_spans

        samples = attach_spans(samples, options.spans)
    rows = run_audit(
        samples,
        rules=options.rule,
        strides=options.stride,
        zipf=options.zipf,
        floor=options.floor,
        pieces_per_word=options.pieces_per_word,
    )
    show(options, rows, audit_table)
