"""Verbs that measure features and spans: `density`, `audit`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from signcl.cli.common import add_json, add_run, add_verb, show
from signcl.cli.number_options import real, whole

__all__ = ["add"]


def add(verbs: Any, words: list[str]) -> None:
    """Add the verbs of this file; `words` is the typed command line."""
    command = add_verb(
        verbs, "density", _density, "measure the Sign Density Ratio (SDR) of a run, or of features from any model"
    )
    command.usage = (
        "signcl density RUN [options]\n       signcl density FEATURES --spans TSV | --glosses LABELS [options]"
    )
    add_run(command, "folder", metavar="SOURCE", help="a run, or features: .npy, .npz, pickle, feature store")
    annotation = command.add_argument_group("where the glosses come from (a run takes them from its corpus)")
    annotation.add_argument("--spans", metavar="TSV", help="a table: name, gloss, start, stop")
    annotation.add_argument(
        "--glosses", metavar="LABELS", help="the gloss of each row or clip: .txt, .tsv, .npy, or a key"
    )
    annotation.add_argument("--phoenix-alignments", metavar="DIR", help="folder with the HMM states of PHOENIX-2014T")
    annotation.add_argument("--corpus", metavar="KIND", help="SOURCE is a corpus folder with features and spans")
    annotation.add_argument("--split", default="test", help="split to measure, of a run, alignments or a corpus")
    annotation.add_argument(
        "--signers",
        metavar="TSV",
        help="the signer of each clip: a table (name, signer); or of each row: a .txt with one signer per line",
    )
    annotation.add_argument("--partial", action="store_true", help="leave out annotated clips without features")
    reading = command.add_argument_group("how features are read")
    reading.add_argument("--key", help="which array of an .npz holds the features")
    reading.add_argument(
        "--stride",
        type=real(above=0, high=1e6),
        help="frames per row of the features; default: as the feature store says, otherwise 1",
    )
    reading.add_argument(
        "--first-centre",
        type=real(low=-1e9, high=1e9),
        help="centre of the first row, in frames; default: as for --stride",
    )
    reading.add_argument(
        "--log-probs", metavar="FILE", help="a recogniser's log-probabilities of each clip, for --frame peak"
    )
    reading.add_argument("--classes", metavar="FILE", help="with --log-probs: the glosses, one per line, blank first")
    reading.add_argument(
        "--tap", default="features", help="where in the model to read features; `signcl systems NAME` lists the taps"
    )
    reading.add_argument("--root", help="the corpus folder of a run, if it has moved")
    reading.add_argument("--device", default="auto", help="device of the run's model and of the distances")
    measure = command.add_argument_group("what to measure")
    frames = ("centre", "peak", "mean", "medoid")
    measure.add_argument(
        "--frame", nargs="+", choices=frames, default=["centre"], help="which vector of a span represents the sign"
    )
    measure.add_argument(
        "--distance",
        choices=("euclidean", "squared", "cosine"),
        default="euclidean",
        help="distance between two vectors",
    )
    measure.add_argument(
        "--inter",
        choices=("gloss", "instance"),
        default="gloss",
        help="whether the distance to other glosses is averaged per gloss or per instance",
    )
    measure.add_argument(
        "--min-count", type=whole(low=2, high=10**9), default=2, help="glosses with fewer instances get no SDR"
    )
    measure.add_argument(
        "--cap", type=whole(low=2, high=10**9), help="keep at most this many instances of each gloss, drawn with --seed"
    )
    measure.add_argument(
        "--weight",
        choices=("even", "frames", "signers"),
        default="even",
        help="how instances are weighted: equally, by frames, or each signer of a gloss equally",
    )
    measure.add_argument(
        "--by", choices=("signer",), help="also report SDR within signers, across signers, and for each signer"
    )
    measure.add_argument(
        "--interval",
        choices=("glosses", "instances", "both", "signers"),
        default="glosses",
        help="what to resample for the interval; with several signers, use signers",
    )
    measure.add_argument(
        "--samples", type=whole(low=1, high=10**7), default=1000, help="number of resamples for intervals"
    )
    measure.add_argument("--seed", type=whole(low=0, high=2**63 - 1), default=0, help="seed of all random draws")
    measure.add_argument("--no-baseline", action="store_true", help="skip the SDR with shuffled glosses")
    measure.add_argument("--no-retrieval", action="store_true", help="skip retrieval and nearest glosses")
    measure.add_argument(
        "--measures",
        action="store_true",
        help="also report shares of variance, a linear probe, silhouette, Fisher, ...",
    )
    measure.add_argument(
        "--against",
        metavar="SCORES",
        help="relate SDR to scores of glosses: a recogniser's predictions.SPLIT.tsv, or a table (gloss, score)",
    )
    measure.add_argument(
        "--bins", type=whole(low=1, high=10_000), default=9, help="number of bins of glosses by SDR, for --against"
    )
    measure.add_argument(
        "--versus", metavar="B", help="compare with another run, or other features, of the same sign instances"
    )
    command.runs.append("versus")
    measure.add_argument("--label-free", action="store_true", help="estimate density without glosses; needs sequences")
    measure.add_argument(
        "--frames-per-sign", type=real(low=1, high=1e6), default=15.0, help="rows per segment, for --label-free"
    )
    command.add_argument(
        "-o", "--out", metavar="STEM", help="write STEM.json, .csv, .md and .tex; a run also writes to its folder"
    )
    command.add_argument(
        "--picture", action=argparse.BooleanOptionalAction, help="draw the t-SNE map; default: only for a run"
    )
    add_json(command)
    command.set_defaults(given=_given(command, words) if words[:1] == ["density"] else [])

    command = add_verb(
        verbs,
        "audit",
        _audit,
        "count how often SignCL's positive pairs show the same sign, and its negative pairs different signs",
    )
    command.add_argument("folder", metavar="CORPUS", nargs="?", help="a corpus folder whose spans are known")
    command.add_argument("--corpus", default="folder", help="its kind: folder, synthetic, imu_numbers, ...")
    command.add_argument(
        "--phoenix-alignments", metavar="DIR", help="folder with the HMM states of PHOENIX-2014T, instead of CORPUS"
    )
    command.add_argument("--spans", metavar="TSV", help="take the spans from a table: name, gloss, start, stop")
    command.add_argument("--split", default="train", help="split to audit")
    command.add_argument("--rule", nargs="+", default=["paper", "released", "fixed"], help="rules for the frame margin")
    command.add_argument(
        "--stride", nargs="+", type=whole(low=1, high=10_000), default=[1, 2, 4], help="keep every n-th frame"
    )
    command.add_argument(
        "--zipf", nargs="+", type=real(above=0, high=1000), default=[2.3], help="spoken words per gloss"
    )
    command.add_argument(
        "--floor", type=real(low=0, high=1e6), default=10.0, help="smallest frame margin, in kept frames"
    )
    command.add_argument(
        "--pieces-per-word", type=real(above=0, high=1000), default=1.53, help="tokens per word, for the rule released"
    )
    add_json(command)


WITHOUT_LABELS = {
    *("--label-free", "--frames-per-sign", "--split", "--root", "--device", "--tap", "--key", "--frame", "--seed"),
    *("--out", "--json", "--signers", "--corpus", "--traceback", "--plugins"),
}
"""Options that affect the estimates without glosses."""


def _given(command: argparse.ArgumentParser, words: list[str]) -> list[str]:
    """Return the options on the command line by their long names; the start of a name counts as that name."""
    long = {flag: action.option_strings[-1] for action in command._actions for flag in action.option_strings}
    long = {flag: name for flag, name in long.items() if name.startswith("--")}
    names = []
    for word in (word.partition("=")[0] for word in words if word.startswith("-")):
        begun = [name for flag, name in long.items() if len(word) > 3 and flag.startswith(word)]
        names += [long[word]] if word in long else begun
    return names


IDLE = {
    "run": (
        "a run, which has its own features and corpus",
        ("--key", "--stride", "--first-centre", "--log-probs", "--classes", "--partial"),
    ),
    "corpus": ("the features of a corpus", ("--tap", "--root", "--key", "--partial")),
    "phoenix": ("features of --phoenix-alignments", ("--tap", "--root", "--key")),
    "file": ("features from a file", ("--tap", "--root", "--split")),
}
"""For each source of features: its name in a message, and the options without effect."""

NEEDED = (
    ("--frames-per-sign", "--label-free"),
    ("--bins", "--against"),
    ("--classes", "--log-probs"),
)
"""An option, and the option without which it has no effect."""


def _check_combination(options: argparse.Namespace, is_run: bool) -> None:
    """Reject options that would have no effect."""
    if options.label_free:
        allowed = WITHOUT_LABELS - ({"--signers", "--corpus", "--key"} if is_run else {"--root", "--device", "--tap"})
        if not is_run:
            allowed -= {"--key", "--signers"} if options.corpus else {"--split"}
        idle = [name for name in options.given if name not in allowed]
        if idle or len(options.frame) > 1:
            what = ", ".join(idle) or f"--frame {' '.join(options.frame)}"
            raise ValueError(
                f"{what}: has no effect with --label-free{' of a run' if is_run else ''}, which uses no glosses and "
                "one --frame; leave it out, or measure with glosses"
            )
        return
    for option, needed in NEEDED:
        if option in options.given and needed not in options.given:
            raise ValueError(f"{option}: has no effect without {needed}")
    if options.log_probs is not None and "peak" not in options.frame:
        raise ValueError("--log-probs: has no effect without --frame peak")
    source, flags = IDLE[
        "run" if is_run else "corpus" if options.corpus else "phoenix" if options.phoenix_alignments else "file"
    ]
    if idle := [name for name in options.given if name in flags]:
        raise ValueError(f"{', '.join(idle)}: has no effect for {source}; leave it out")
    if options.key is not None and (options.glosses is None or Path(options.folder).suffix.lower() != ".npz"):
        raise ValueError(
            "--key: has no effect without --glosses and an .npz, one of whose arrays it names; leave it out"
        )


def _density(options: argparse.Namespace) -> None:
    from signcl.density.processes import joined

    with joined() as (rank, world):
        found, text = _measured(options, rank, world)
    if rank == 0:
        show(options, found, text)


def _measured(options: argparse.Namespace, rank: int, world: int) -> tuple[Any, Callable[[Any], str]]:
    from signcl.density.against import read_scores
    from signcl.density.instance_files import Annotation
    from signcl.density.measuring import Settings
    from signcl.density.results import density_text, label_free_text
    from signcl.inference.run_density import feature_density, run_density, run_label_free

    folder = Path(options.folder)
    places = ("spans", "glosses", "phoenix_alignments", "corpus")
    given = [name for name in places if getattr(options, name) is not None]
    is_run = (folder / "recipe.yaml").is_file()
    # A folder that is neither a run nor a store is treated as a run: that error message explains what a run folder is.
    is_file = folder.is_file() or folder.suffix in (".npy", ".npz", ".pkl", ".pickle")
    runs = is_run or not (given or is_file or (folder / "index.json").is_file())
    if not runs or is_run:
        _check_combination(options, is_run)
    if options.label_free:
        found = run_label_free(
            folder,
            options.split,
            root=options.root,
            device=options.device,
            tap=options.tap,
            key=options.key,
            frame=options.frame[0],
            frames_per_sign=options.frames_per_sign,
            seed=options.seed,
            out=options.out,
            signers=options.signers,
            corpus=options.corpus,
        )
        return found, label_free_text
    if is_run and (strange := [f"--{name.replace('_', '-')}" for name in given if name != "spans"]):
        raise ValueError(f"{folder} is a run, which takes its glosses from its corpus or --spans, not {strange[0]}")
    if is_run and options.signers:
        raise ValueError(
            f"--signers is for feature files; the run {folder} takes signers from its corpus (column signer)"
        )
    settings = Settings(
        distance=options.distance,
        inter=options.inter,
        min_count=options.min_count,
        cap=options.cap,
        weight=options.weight,
        interval=options.interval,
        samples=options.samples,
        seed=options.seed,
        by=options.by or "",
        retrieval=not options.no_retrieval,
        measures=options.measures,
        baseline=not options.no_baseline,
        distributed=world > 1,
    )
    shared: dict[str, Any] = {
        "frame": options.frame,
        "settings": settings,
        "scores": None if options.against is None else read_scores(options.against),
        "bins": options.bins,
        "versus": options.versus,
        "rank": rank,
        "device": options.device,
    }
    if runs:
        shared |= {"root": options.root, "tap": options.tap, "spans": options.spans, "out": options.out}
        return run_density(folder, options.split, picture=options.picture is not False, **shared), density_text
    annotation = Annotation(
        **{name: getattr(options, name) for name in places},
        split=options.split,
        key=options.key,
        stride=options.stride,
        first_centre=options.first_centre,
        log_probs=options.log_probs,
        classes=options.classes,
        signers=options.signers,
        partial=options.partial,
    )
    return feature_density(folder, annotation, out=options.out, picture=bool(options.picture), **shared), density_text


def _audit(options: argparse.Namespace) -> None:
    from signcl.cli.tables import audit_table
    from signcl.density.audit import run_audit

    if (options.folder is None) == (options.phoenix_alignments is None):
        raise ValueError("signcl audit needs either a CORPUS folder or --phoenix-alignments DIR")
    if options.phoenix_alignments is not None:
        from signcl.data.annotation import phoenix_states

        samples = phoenix_states.samples(options.phoenix_alignments, options.split)
    else:
        from signcl.data.corpora import load_samples

        samples = load_samples(options.corpus, options.folder, options.split)
    if options.spans:
        from signcl.data.annotation.span_table import attach_spans

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
