"""Verbs for the spans of signs: `align`, `spans`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signcl.cli.common import add_json, add_run, add_verb, show
from signcl.cli.number_options import real, whole

if TYPE_CHECKING:
    from signcl.data.batch import Span

__all__ = ["add"]

KINDS = ("eaf", "srt", "vtt")  # annotation files, one for each clip


def add(verbs: Any, words: list[str]) -> None:
    """Add the verbs of this file."""
    command = add_verb(verbs, "align", _align, "find the frames of every gloss, by forced alignment with a recogniser")
    add_run(command, "folder", nargs="?", help="a run trained with a recognition loss")
    command.add_argument(
        "-o", "--out", required=True, metavar="TSV", help="table of spans to write; a report is written next to it"
    )
    command.add_argument("--split", default="test", help="split to align")
    command.add_argument(
        "--fill",
        choices=("nearest", "label"),
        default="nearest",
        help="blank frames go to the nearest sign (nearest) or to no sign (label)",
    )
    command.add_argument(
        "--transductive",
        action="store_true",
        help="allow a run that was also trained on test, as the paper's aligner was",
    )
    command.add_argument(
        "--tolerance",
        type=whole(low=0, high=1_000_000),
        default=2,
        help="how many frames a boundary may be off and still count as correct",
    )
    command.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    command.add_argument("--log-probs", metavar="SOURCE", help="instead of RUN: log-probabilities from any model")
    command.add_argument(
        "--classes", metavar="FILE", help="with --log-probs: glosses.json, or a file with one class per line"
    )
    command.add_argument("--glosses", metavar="TSV", help="with --log-probs: a table (name, gloss), instead of --root")
    command.add_argument("--stride", type=real(above=0, high=1e6), default=1.0, help="with --log-probs: frames per row")
    _corpus(command)
    add_json(command)

    command = add_verb(
        verbs,
        "spans",
        _spans,
        "convert spans of a corpus, table, ELAN files or subtitles to a table, ELAN files or subtitles",
    )
    command.add_argument(
        "source", metavar="FROM", nargs="?", help="a .tsv, .eaf, .srt or .vtt file, or a folder of them"
    )
    command.add_argument(
        "-o",
        "--out",
        required=True,
        metavar="TO",
        help="a .tsv table, an .eaf, .srt or .vtt file, or a folder for them",
    )
    command.add_argument(
        "--from", dest="source_kind", choices=KINDS, help="the kind of file to read from the folder FROM"
    )
    command.add_argument(
        "--to", dest="out_kind", choices=KINDS, help="the kind of file to write to the folder TO (default: eaf)"
    )
    command.add_argument("--split", default="test", help="split of the corpus")
    command.add_argument(
        "--fps",
        type=real(above=0, high=10_000),
        help="frames per second, for ELAN and subtitles (default: the video's, or 25 without a video)",
    )
    command.add_argument("--tier", help="ELAN tier to read or write")
    command.add_argument(
        "--media",
        metavar="NAME",
        help="name of the linked video that is the clip, for ELAN files with several; * matches anything",
    )
    command.add_argument(
        "--phoenix-alignments", metavar="DIR", help="read the HMM states of PHOENIX-2014T from this folder"
    )
    _corpus(command)
    add_json(command)


def _corpus(command: Any) -> None:
    command.add_argument("--corpus", default="folder", help="kind of the corpus at --root")
    command.add_argument("--root", help="a corpus folder, for its glosses (align) or its spans (spans)")


def _align(options: argparse.Namespace) -> None:
    from signcl.cli.tables import alignment_table
    from signcl.inference.alignment import align_log_probs, align_run, gloss_samples

    if Path(options.out).suffix.lower() in (".eaf", ".srt", ".vtt"):
        raise ValueError(
            f"{options.out}: align writes a .tsv table; `signcl spans TABLE -o TO` converts it to .eaf, .srt or .vtt"
        )
    if (options.folder is None) == (options.log_probs is None):
        raise ValueError("signcl align needs either a RUN, or --log-probs with --classes and --root")
    if options.folder is not None:
        if options.glosses is not None:
            raise ValueError("--glosses needs --log-probs; a run takes its glosses from its corpus")
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
                "--log-probs needs --classes (names of the classes), and either --root (a corpus with glosses) or "
                "--glosses (a table with columns name, gloss)"
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
    from signcl.data.annotation.elan import write_elan
    from signcl.data.annotation.span_table import write_spans
    from signcl.data.annotation.subtitles import write_subtitles
    from signcl.data.corpora import load_samples
    from signcl.data.progress import say

    given = [value for value in (options.source, options.phoenix_alignments, options.root) if value is not None]
    if len(given) != 1:
        raise ValueError(
            "signcl spans needs exactly one source: FROM, --phoenix-alignments DIR, or --corpus KIND --root DIR"
        )
    out = Path(options.out)
    kind = out.suffix.lower().removeprefix(".") if out.suffix and not out.is_dir() else "folder"
    if kind not in ("tsv", "folder", *KINDS):
        raise ValueError(
            f"{out}: spans can be written to a .tsv table, to one .eaf, .srt or .vtt file, or to a folder of such "
            "files (--to)"
        )
    if options.out_kind is not None and kind not in ("folder", options.out_kind):
        raise ValueError(f"--to {options.out_kind} is the kind of files in a folder, but {out} is a .{kind} file")
    clips: dict[str, Path] = {}
    spans: Mapping[str, Sequence[Span]]
    if options.source is None:
        if options.phoenix_alignments is not None:
            samples = phoenix_states.samples(options.phoenix_alignments, options.split)
        else:
            samples = load_samples(options.corpus, options.root, options.split)
        spans = {sample.name: sample.spans for sample in samples if sample.spans}
        clips = {sample.name: sample.clip for sample in samples if sample.spans and sample.clip is not None}
        if not spans:
            raise ValueError(f"no clip of split {options.split} at {given[0]} has spans; run `signcl align` first")
    else:
        spans = _read_any(Path(options.source), options)
    if kind == "tsv":
        write_spans(out, spans)
    else:
        file = None
        if kind != "folder":
            if len(spans) != 1:
                raise ValueError(f"{out}: can hold only one clip, got {len(spans)}; give a folder and --to {kind}")
            file = out
            (name,) = spans
            if name != out.stem:
                say(f"{out}: holds the clip {name}, but reading this file back will name it {out.stem}")
        form = options.out_kind or (kind if kind != "folder" else "eaf")
        if form == "eaf":
            write_elan(out, spans, fps=options.fps, tier=options.tier or "gloss", clips=clips, file=file)
        else:
            write_subtitles(out, spans, suffix=f".{form}", fps=options.fps, clips=clips, file=file)
    found = {"spans": sum(map(len, spans.values())), "clips": len(spans), "file": str(out)}
    show(options, found, lambda found: f"{found['spans']} spans of {found['clips']} clips -> {out}")


def _read_any(source: Path, options: argparse.Namespace) -> Mapping[str, Sequence[Span]]:
    """Read spans from a table, an annotation file, or a folder of annotation files of one kind."""
    from signcl.data.annotation.elan import read_elan
    from signcl.data.annotation.span_table import read_spans
    from signcl.data.annotation.subtitles import read_subtitles

    kind = source.suffix.lower().removeprefix(".")
    if source.is_dir():
        endings = {file.suffix.lower().removeprefix(".") for file in source.rglob("*") if file.name[0] != "."}
        held = [kind for kind in KINDS if kind in endings]
        if options.source_kind is None and not held:
            raise ValueError(
                f"{source}: holds no .eaf, .srt or .vtt file; if it is a corpus folder, give it as --root {source}"
            )
        if options.source_kind is None and len(held) > 1:
            raise ValueError(f"{source}: holds files of several kinds ({', '.join(held)}); choose one with --from")
        kind = options.source_kind or held[0]
    elif options.source_kind is not None and options.source_kind != kind:
        raise ValueError(
            f"--from {options.source_kind} is the kind of files in a folder, but {source} is a .{kind} file"
        )
    if kind == "eaf":
        return read_elan(source, fps=options.fps, tier=options.tier, media=options.media)
    if kind in KINDS:
        return read_subtitles(source, fps=options.fps, suffixes=(f".{kind}",))
    return read_spans(source)
