"""The verbs of `signcl corpus`: `make`, `join`, `doctor`, `check`, `stats`, `pack`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from signcl.cli.common import EVERY_VERB, add_json, add_verb, show
from signcl.cli.number_options import Number, real, whole

__all__ = ["add"]


def add(verbs: Any, words: list[str]) -> None:
    """Add the verbs of this file; `words` is the typed command line, which decides whose settings are imported."""
    words = words[:2]
    corpus = verbs.add_parser("corpus", help="make, identify, check, describe, join or pack a corpus").add_subparsers(
        title="commands", metavar="COMMAND", required=True
    )
    command = add_verb(corpus, "make", _make, "generate a synthetic signed corpus: videos, sentences, exact spans")
    command.add_argument("folder", help="folder to write the corpus to")
    command.add_argument(
        "--workers", type=whole(low=0, high=1024), default=1, help="number of processes; does not change the result"
    )
    add_json(command)
    command.add_argument(
        "--poses", action="store_true", help="also write exact key points: FOLDER/poses/SPLIT/NAME.npy"
    )
    if words in (EVERY_VERB, ["corpus", "make"]):  # only then, since importing the settings takes time
        _add_settings(command)
    command = add_verb(
        corpus, "pack", _pack, "resize a corpus once to a recipe's size and store it as tar shards, for fast reading"
    )
    command.add_argument(
        "corpora",
        nargs="+",
        metavar="CORPUS",
        help="a recipe, for its corpus, corpus options and input.size; or a corpus folder",
    )
    command.add_argument("-o", "--out", required=True, help="folder of the pack; several corpora go to OUT/NAME each")
    command.add_argument("--corpus", default="folder", help="kind of the corpus folders: folder, phoenix14t, ...")
    command.add_argument("--splits", default="train,dev,test", help="splits to pack, separated by commas")
    command.add_argument(
        "--workers", type=whole(low=1, high=1024), default=1, help="number of threads; does not change the result"
    )
    add_json(command)
    if words in (EVERY_VERB, ["corpus", "pack"]):
        _add_pack_settings(command)
    text = "join clips into long recordings with pauses, as exact ground truth for `segment` and `subtitle`"
    command = add_verb(corpus, "join", _join, text)
    command.add_argument("source", metavar="CORPUS", help="a recipe, for its corpus and input; or a corpus folder")
    command.add_argument(
        "-o", "--out", required=True, help="folder of the recordings, written as a corpus of kind `folder`"
    )
    command.add_argument("--corpus", default="folder", help="kind of a corpus folder: folder, synthetic, ...")
    command.add_argument("--root", help="the corpus folder of a recipe, if it has moved")
    command.add_argument("--splits", default="train,dev,test", help="splits to join, separated by commas")
    text = "table of spans to use instead of the corpus's own; {split} stands for the name of the split"
    command.add_argument("--spans", metavar="TABLE", help=text)
    text = "make one recording of this many minutes from the clips of --splits, as split `film`"
    command.add_argument("--film", type=real(above=0, high=1440), metavar="MINUTES", help=text)
    command.add_argument(
        "--fps", type=real(above=0, high=1000), help="frame rate of features that do not record theirs; default: 25"
    )
    if words in (EVERY_VERB, ["corpus", "join"]):
        _add_join_settings(command)
    add_json(command)
    text = "identify the corpus in a folder, list what is missing and what to do next; exit code 1 if parts are missing"
    command = add_verb(corpus, "doctor", _doctor, text)
    command.add_argument("folder", help="a folder with a corpus, complete or not")
    add_json(command)
    for name, run, text in (
        ("check", _check, "find all problems of a corpus; exit code 1 if there is an error"),
        ("stats", _stats, "print counts, lengths, words per gloss and frame margins of a corpus"),
    ):
        command = add_verb(corpus, name, run, text)
        command.add_argument("folder", help="the corpus folder")
        command.add_argument("--corpus", default="folder", help="its kind: folder, synthetic, phoenix14t, ...")
        if name == "check":
            command.add_argument("--fast", action="store_true", help="read only the headers of videos, not every frame")
            command.add_argument(
                "--features", default="", help="features to check instead of the clips, written as in corpus.features"
            )
            command.add_argument(
                "--pose-layout",
                default="auto",
                metavar="NAME",
                help="order of the key points, written as in input.pose_layout",
            )
            command.add_argument(
                "--pose-min-confidence",
                type=real(low=0, below=1),
                default=0.0,
                help="key points at or below this confidence count as not found",
            )
        else:
            command.add_argument(
                "--words-per-gloss",
                type=real(above=0, high=1000),
                default=2.3,
                help="spoken words per gloss, for SignCL's frame margin",
            )
            command.add_argument(
                "--frame-margin-floor", type=real(low=0, high=1_000_000), default=10, help="smallest margin, in frames"
            )
        add_json(command)


def _add_settings(command: Any) -> None:
    """Add one flag per field of `SyntheticSettings`, with the field's docstring as help."""
    from dataclasses import fields

    from signcl.data.bounds import bounds_of
    from signcl.data.corpora.synthetic import SyntheticSettings
    from signcl.training.recipe import field_docs

    docs = field_docs(SyntheticSettings)
    for field in fields(SyntheticSettings):
        flag = f"--{field.name.replace('_', '-')}"
        kind, bounds = type(field.default), bounds_of(field)
        if kind is bool:
            text = docs[field.name]
            command.add_argument(flag, action=argparse.BooleanOptionalAction, default=field.default, help=text)
        else:
            number = kind if bounds is None else Number(kind, bounds)
            command.add_argument(flag, type=number, default=field.default, metavar=kind.__name__, help=docs[field.name])


def _add_pack_settings(command: Any) -> None:
    """Add one flag per field of `PackSettings`; its default is the recipe's `input.size` or that of the field."""
    from dataclasses import fields

    from signcl.data.bounds import bounds_of
    from signcl.data.packing import PackSettings
    from signcl.training.recipe import field_docs

    docs = field_docs(PackSettings)
    for field in fields(PackSettings):
        flag, bounds = f"--{field.name.replace('_', '-')}", bounds_of(field)
        if bounds is None:
            command.add_argument(flag, choices=("mp4", "jpeg", "uint8"), help=docs[field.name])
        else:
            command.add_argument(flag, type=Number(int, bounds), metavar="int", help=docs[field.name])


def _add_join_settings(command: Any) -> None:
    """Add one flag per field of `JoinSettings`."""
    from dataclasses import fields

    from signcl.data.bounds import bounds_of
    from signcl.data.joining import JoinSettings
    from signcl.training.recipe import field_docs

    docs = field_docs(JoinSettings)
    for field in fields(JoinSettings):
        flag, kind, bounds = f"--{field.name.replace('_', '-')}", type(field.default), bounds_of(field)
        assert bounds is not None
        command.add_argument(
            flag, type=Number(kind, bounds), default=field.default, metavar=kind.__name__, help=docs[field.name]
        )


def _join(options: argparse.Namespace) -> None:
    from dataclasses import asdict, fields

    from signcl.data.annotation.span_table import attach_spans
    from signcl.data.corpora import load_samples
    from signcl.data.joining import JoinSettings, join_split
    from signcl.training.recipe import load_recipe, recipe_samples

    settings = JoinSettings(**{field.name: getattr(options, field.name) for field in fields(JoinSettings)})
    source, out, splits = Path(options.source), Path(options.out), options.splits.split(",")
    recipe = load_recipe(source) if source.suffix in (".yaml", ".yml") else None
    made = []
    parts: dict[str, Any] = {
        split: recipe_samples(recipe, split, options.root) if recipe else load_samples(options.corpus, source, split)
        for split in splits
    }
    if options.spans:
        parts = {s: attach_spans(samples, options.spans.replace("{split}", s)) for s, samples in parts.items()}
    if options.film is not None:
        parts = {"film": [sample for samples in parts.values() for sample in samples]}
    for split, samples in parts.items():
        reading = recipe.input if recipe else None
        found = join_split(samples, out, split, settings, reading=reading, film=options.film, fps=options.fps)
        made.append(asdict(found))
    show(options, made, lambda rows: "\n".join(
        f"{out}/{r['split']}.tsv: {r['recordings']} recordings of {r['sentences']} sentences, {r['seconds']:.0f} s"
        for r in rows
    ))  # fmt: skip


def _pack(options: argparse.Namespace) -> None:
    from dataclasses import fields

    from signcl.data.packing import PackSettings, pack_corpus
    from signcl.training.recipe import is_recipe, load_recipe

    given = {field.name: getattr(options, field.name) for field in fields(PackSettings)}
    given = {name: value for name, value in given.items() if value is not None}
    packs = []
    for source in options.corpora:
        name, root, how, found = options.corpus, source, {}, Path(source).name
        settings = PackSettings(**given)
        if is_recipe(source):
            recipe = load_recipe(source)
            name, root, how, found = recipe.corpus.name, recipe.corpus.root, recipe.corpus.options, Path(source).stem
            settings = PackSettings(**{"size": recipe.input.size, **given})
        out = Path(options.out) / found if len(options.corpora) > 1 else Path(options.out)
        splits = [split for split in options.splits.split(",") if split]
        packs.append(pack_corpus(root, out, name, settings, options=how, splits=splits, workers=options.workers))
        if not options.json:
            print(packs[-1], flush=True)
    if options.json:
        show(options, [str(pack) for pack in packs], str)


def _make(options: argparse.Namespace) -> None:
    from dataclasses import fields

    from signcl.data.corpora.synthetic import SyntheticSettings, make_corpus

    settings = SyntheticSettings(**{field.name: getattr(options, field.name) for field in fields(SyntheticSettings)})
    make_corpus(Path(options.folder), settings, workers=options.workers, poses=options.poses)
    show(options, {"folder": options.folder}, lambda found: found["folder"])


def _doctor(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from signcl.data.corpus_doctor import diagnose

    found = diagnose(Path(options.folder))
    show(options, {**asdict(found), "healthy": found.healthy}, lambda _: found)
    return 0 if found.healthy else 1


def _check(options: argparse.Namespace) -> int:
    from signcl.data.corpus_check import check_corpus
    from signcl.data.poses import POINT_ORDERS, PoseReading

    if options.pose_layout not in ("auto", *POINT_ORDERS):
        raise ValueError(f"--pose-layout: needs one of auto, {', '.join(POINT_ORDERS)}, got {options.pose_layout!r}")
    problems = check_corpus(
        Path(options.folder),
        name=options.corpus,
        fast=options.fast,
        features=options.features,
        pose=PoseReading(layout=options.pose_layout, min_confidence=options.pose_min_confidence),
    )
    if problems or options.json:
        show(options, [vars(p) for p in problems], lambda _: "\n".join(map(str, problems)))
    if all(problem.level == "note" for problem in problems):
        print(f"{options.folder}: no problem found", file=sys.stderr)
    return 1 if any(problem.level == "error" for problem in problems) else 0


def _stats(options: argparse.Namespace) -> None:
    from dataclasses import asdict

    from signcl.data.corpus_check import corpus_stats

    stats = corpus_stats(
        Path(options.folder),
        name=options.corpus,
        words_per_gloss=options.words_per_gloss,
        frame_margin_floor=options.frame_margin_floor,
    )
    show(options, asdict(stats), lambda _: stats)
