"""The command line: one verb, one public function. Parses, calls, prints; nothing heavy is imported until a verb runs.

Results go to stdout (`--json` for machines), talk to stderr. Exit codes: 0 done, 1 problems found by a check, 2 wrong
use or input, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["main"]

PACKAGE = str(Path(__file__).parent)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    # OpenMP threads that spin while they wait make training 3 to 6 times slower on a machine that does anything else
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    parser = _parser(words)
    options, rest = parser.parse_known_args(words)
    if rest and not getattr(options, "takes_overrides", False):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if not hasattr(options, "run"):
        parser.print_help(sys.stderr)
        return 2
    options.overrides = rest
    try:
        return int(options.run(options) or 0)
    except KeyboardInterrupt:
        print("signcl: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError) as error:
        if options.traceback or not _ours(error):
            raise
        print(f"signcl: {_message(error)}", file=sys.stderr)
        return 2


def _ours(error: BaseException) -> bool:
    """Whether the message was written for the user: raised in this package, or an error of the file system."""
    if isinstance(error, OSError):
        return True
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return frame is not None and frame.tb_frame.f_code.co_filename.startswith(PACKAGE)


def _message(error: BaseException) -> str:
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.strerror}: {error.filename}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split())


def _parser(words: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="signcl",
        description="Gloss-free sign language translation: train, score, translate, measure representation density.",
    )
    parser.add_argument("--version", action="version", version=_version())
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND")

    def verb(name: str, run: Callable[[argparse.Namespace], Any], text: str, group: Any = verbs) -> Any:
        command = group.add_parser(name, help=text, description=text, formatter_class=_Help)
        command.add_argument("--traceback", action="store_true", help="show where an error came from")
        command.set_defaults(run=run)
        return command

    command = verb("demo", _demo, "the main job end to end on a synthetic corpus, without and with SignCL")
    command.add_argument("--out", default="runs/demo", help="where the corpus, the runs and the report go")
    command.add_argument("--quick", action="store_true", help="a pass of a minute or two, too short to learn much")

    command = verb("fit", _fit, "train a run from a recipe, or go on with a stopped one")
    command.add_argument("recipe", nargs="?", help="a YAML recipe, e.g. recipes/synthetic/finetune.yaml")
    command.add_argument("--fresh", action="store_true", help="start anew where the run folder holds a run")
    command.add_argument("--keys", action="store_true", help="list every recipe key with its default and meaning")
    command.usage = "signcl fit RECIPE.yaml [--key.sub=value ...] [--fresh]"
    command.epilog = (
        "Any recipe key is a flag: --train.lr=0.001 --out=runs/mine. `signcl fit RECIPE --keys` lists them."
    )
    command.set_defaults(takes_overrides=True)

    command = verb("evaluate", _evaluate, "translate a split and score it against the raw references")
    _run_and_split(command)
    command.add_argument("--beams", type=int)
    command.add_argument("--length-penalty", type=float)
    command.add_argument("--batch-size", type=int)
    command.add_argument("--bootstrap", type=int, default=1000, help="resamples for the interval of BLEU-4")

    command = verb("compare", _compare, "paired bootstrap between two runs scored on the same split")
    command.add_argument("run_a", metavar="RUN_A")
    command.add_argument("run_b", metavar="RUN_B")
    command.add_argument("--split", default="test")
    command.add_argument("--samples", type=int, default=1000)
    _json(command)

    command = verb("density", _density, "Sign Density Ratio of a run's features, with interval and shuffled baseline")
    _run_and_split(command)
    command.add_argument("--frame", choices=("centre", "mean", "medoid"), default="centre", help="a sign's one vector")
    command.add_argument("--tap", default="features", help="where to look; `signcl systems` lists a system's taps")
    command.add_argument("--distance", choices=("euclidean", "squared", "cosine"), default="euclidean")
    command.add_argument("--inter", choices=("gloss", "instance"), default="gloss")
    command.add_argument("--min-count", type=int, default=2, help="glosses with fewer instances have no ratio")
    command.add_argument("--no-picture", action="store_true", help="leave out the t-SNE picture")

    command = verb("audit", _audit, "how often SignCL's positives share a sign and its negatives do not")
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
    _json(command)

    command = verb("translate", _translate, "clips in, sentences out")
    command.add_argument("model", metavar="RUN", help="a finetuned run folder")
    command.add_argument("clips", metavar="CLIP", nargs="+", help="video file, folder of frames, or features")
    command.add_argument("--beams", type=int)
    command.add_argument("--device", default="auto")
    _json(command)

    command = verb("report", _report, "one self-contained HTML page for a run, or for several side by side")
    command.add_argument("runs", metavar="RUN", nargs="+")
    command.add_argument("-o", "--out", help="where the page goes; default RUN/report.html")
    command.add_argument("--split", default="test")

    corpus = verbs.add_parser("corpus", help="make, check or describe a corpus").add_subparsers(
        title="commands", metavar="COMMAND", required=True
    )
    command = verb("make", _corpus_make, "draw a synthetic signed corpus: videos, sentences, exact spans", corpus)
    command.add_argument("folder")
    command.add_argument("--workers", type=int, default=1, help="processes; the result is the same for any number")
    if words[:2] == ["corpus", "make"]:  # only then, since the settings' module is not free to import
        _add_settings(command)
    _corpus_verbs(lambda name, run, text: verb(name, run, text, corpus))
    return parser


def _add_settings(command: Any) -> None:
    """One flag per field of `SyntheticSettings`, with its docstring as help."""
    from dataclasses import fields

    from signcl.corpora.synthetic import SyntheticSettings
    from signcl.recipe import field_docs

    docs = field_docs(SyntheticSettings)
    for field in fields(SyntheticSettings):
        flag = f"--{field.name.replace('_', '-')}"
        kind = type(field.default)
        if kind is bool:
            text = docs[field.name]
            command.add_argument(flag, action=argparse.BooleanOptionalAction, default=field.default, help=text)
        else:
            command.add_argument(flag, type=kind, default=field.default, metavar=kind.__name__, help=docs[field.name])


def _corpus_verbs(verb: Callable[..., Any]) -> None:
    for name, run, text in (
        ("check", _corpus_check, "find every problem of a corpus; exit code 1 when there is one"),
        ("stats", _corpus_stats, "counts, lengths, words per gloss, margins"),
    ):
        command = verb(name, run, text)
        command.add_argument("folder")
        command.add_argument("--corpus", default="folder", help="its kind: folder, synthetic, phoenix14t, ...")
        if name == "check":
            command.add_argument("--fast", action="store_true", help="read headers only instead of every frame")
        _json(command)


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Says a default only where there is one to say."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, False) else super()._get_help_string(action)


def _run_and_split(command: Any) -> None:
    command.add_argument("folder", metavar="RUN", help="a run folder made by `signcl fit`")
    command.add_argument("--split", default="test")
    command.add_argument("--root", help="the corpus folder, where it has moved")
    command.add_argument("--device", default="auto")
    _json(command)


def _json(command: Any) -> None:
    command.add_argument("--json", action="store_true", help="print one JSON object")


def _version() -> str:
    from importlib.metadata import version

    return f"signcl {version('signcl')}"


# -- verbs -------------------------------------------------------------------------------------------------------------


def _demo(options: argparse.Namespace) -> None:
    from signcl.demo import demo

    print(demo(Path(options.out), quick=options.quick))


def _fit(options: argparse.Namespace) -> None:
    from signcl.recipe import describe_keys, load_recipe

    if options.keys:
        print(describe_keys())
        return
    if options.recipe is None:
        raise ValueError(
            "fit needs a recipe, e.g. `signcl fit recipes/synthetic/finetune.yaml`; --keys lists what it holds"
        )
    recipe = load_recipe(options.recipe, options.overrides)
    from signcl.train import fit

    print(fit(recipe, fresh=options.fresh))


def _evaluate(options: argparse.Namespace) -> None:
    from signcl.evaluation import evaluate
    from signcl.tables import scores_table

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
    print(json.dumps(scores, indent=2, ensure_ascii=False) if options.json else scores_table(scores))


def _compare(options: argparse.Namespace) -> None:
    from signcl.evaluation import compare
    from signcl.tables import comparison_table

    rows = compare(options.run_a, options.run_b, options.split, samples=options.samples)
    print(json.dumps(rows, indent=2) if options.json else comparison_table(rows))


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
    print(json.dumps(found, indent=2, ensure_ascii=False) if options.json else density_table(found))


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
    print(json.dumps(rows, indent=2) if options.json else audit_table(rows))


def _translate(options: argparse.Namespace) -> int:
    from signcl.translation import load_model, translate

    model = load_model(options.model, device=options.device)
    failed = 0
    for clip in options.clips:
        try:
            found = translate(model, clip, beams=options.beams)
        except (ValueError, OSError) as error:
            if options.traceback or not _ours(error):
                raise
            failed += 1
            print(f"signcl: {_message(error)}", file=sys.stderr)
            continue
        if options.json:
            line = {"clip": clip, "text": found.text, "frames": found.num_frames, "seconds": round(found.seconds, 3)}
            print(json.dumps(line, ensure_ascii=False), flush=True)
        else:
            print(f"{clip}\t{found.text}", flush=True)
    return 2 if failed else 0


def _report(options: argparse.Namespace) -> None:
    from signcl.report import report

    print(report([Path(run) for run in options.runs], out=options.out and Path(options.out), split=options.split))


def _corpus_make(options: argparse.Namespace) -> None:
    from dataclasses import fields

    from signcl.corpora.synthetic import SyntheticSettings, make_corpus

    settings = SyntheticSettings(**{field.name: getattr(options, field.name) for field in fields(SyntheticSettings)})
    make_corpus(Path(options.folder), settings, workers=options.workers)
    print(options.folder)


def _corpus_check(options: argparse.Namespace) -> int:
    from signcl.corpora.check import check_corpus

    problems = check_corpus(Path(options.folder), name=options.corpus, fast=options.fast)
    if options.json:
        print(json.dumps([vars(p) for p in problems], indent=2, ensure_ascii=False, default=str))
    else:
        for problem in problems:
            print(problem)
    if not problems:
        print(f"{options.folder}: no problem found", file=sys.stderr)
    return 1 if any(problem.level == "error" for problem in problems) else 0


def _corpus_stats(options: argparse.Namespace) -> None:
    from dataclasses import asdict

    from signcl.corpora.check import corpus_stats

    stats = corpus_stats(Path(options.folder), name=options.corpus)
    print(json.dumps(asdict(stats), indent=2, ensure_ascii=False) if options.json else stats)


if __name__ == "__main__":
    sys.exit(main())
