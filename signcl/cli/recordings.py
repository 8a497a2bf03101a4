"""Verbs for long recordings: `segment`, `subtitle`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from signcl.cli.common import add_json, add_run, add_verb
from signcl.cli.number_options import real, whole

__all__ = ["add"]


def add(verbs: Any, words: list[str]) -> None:
    """Add the verbs of this file."""
    command = add_verb(verbs, "segment", _segment, "find where signs and sentences begin and end in a long recording")
    _add_recording(command)
    add_run(command, "--run", required=True, dest="model", help="a segmenter run")
    command.add_argument(
        "--window",
        type=whole(low=1, high=10**6),
        default=512,
        help="frames to read at a time; does not change the result",
    )
    add_json(command)

    command = add_verb(verbs, "subtitle", _subtitle, "write subtitles for a long recording, each with its confidence")
    _add_recording(command)
    add_run(command, "--run", required=True, dest="model", help="a finetuned run, to translate with")
    given = command.add_mutually_exclusive_group(required=True)
    given.add_argument("--segmenter", metavar="RUN", help="a segmenter run, to find the sentences with")
    command.runs.append("segmenter")
    given.add_argument(
        "--segments", metavar="FILE", help="take the sentences from .srt, .vtt, .eaf or a span table instead"
    )
    command.add_argument("--beams", type=whole(low=1, high=1000), help="beams of the search; default: the recipe's")
    text = "seconds before and after each sentence that are also translated"
    command.add_argument("--pad", type=real(low=0, high=60), default=0.2, help=text)
    text = "begin subtitles below this confidence with [?]"
    command.add_argument("--mark-below", type=real(low=0, high=1), metavar="CONFIDENCE", help=text)
    add_json(command)


def _add_recording(command: Any) -> None:
    command.add_argument("recording", help="a video, a folder of images, features or poses")
    text = "file to write: .eaf, .srt, .vtt or .tsv; `subtitle` keeps unfinished work in OUT.work and resumes from it"
    command.add_argument("-o", "--out", required=True, help=text)
    command.add_argument(
        "--fps", type=real(above=0, high=1000), help="frame rate of features or images, which do not record theirs"
    )
    command.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")


def _segment(options: argparse.Namespace) -> int:
    from signcl.inference.segmentation import load_segmenter, segment
    from signcl.inference.subtitling import check_out, write_segments

    out, recording = Path(options.out), Path(options.recording)
    check_out(out)
    run = load_segmenter(options.model)
    found = segment(run, recording, fps=options.fps, device=options.device, window=options.window)
    write_segments(out, found, recording)
    return _said(
        options,
        out,
        {
            "sentences": len(found.sentences),
            "signs": len(found.signs),
            "seconds": round(found.num_frames / found.fps, 3),
            "fps": found.fps,
        },
        empty=not found.sentences and not found.signs,
    )


def _subtitle(options: argparse.Namespace) -> int:
    from signcl.inference.film import open_film
    from signcl.inference.segmentation import load_segmenter
    from signcl.inference.subtitling import check_out, finish, read_segments, subtitle, work_folder, write_cues
    from signcl.inference.translation import load_model

    out, recording = Path(options.out), Path(options.recording)
    check_out(out)
    model = load_model(options.model, device=options.device)
    if options.segments:
        rate = open_film(recording, model.run.recipe.input, None, options.fps).fps
        segmenter: Any = read_segments(Path(options.segments), rate)
    else:
        segmenter = load_segmenter(options.segmenter)
    if model.judge is None:
        learn = f"signcl evaluate {options.model} --split dev"
        print(f"signcl: no confidence and no warnings about unlike clips; `{learn}` learns both", file=sys.stderr)
    work = work_folder(out)
    try:
        found = subtitle(
            model,
            recording,
            segmenter,
            fps=options.fps,
            pad=options.pad,
            beams=options.beams,
            device=options.device,
            work=work,
        )
    except KeyboardInterrupt:
        print(f"signcl: finished parts are in {work}; the same command resumes from there", file=sys.stderr)
        raise
    table = write_cues(out, found, recording, mark_below=options.mark_below)
    finish(work)
    sure = [cue.confidence for cue in found.cues if cue.confidence is not None]
    about = {
        "table": str(table),
        "sentences": len(found.cues),
        "not_read": sum(bool(cue.error) for cue in found.cues),
        "seconds": round(found.num_frames / found.fps, 3),
        "mean_confidence": round(sum(sure) / len(sure), 4) if sure else None,
        "out_of_domain": sum(bool(cue.out_of_domain) for cue in found.cues),
    }
    return _said(options, out, about, empty=not found.cues)


def _said(options: argparse.Namespace, out: Path, about: dict[str, Any], *, empty: bool) -> int:
    """Print the result to stdout; return exit code 1 if nothing was found."""
    if options.json:
        print(json.dumps({"out": str(out), **about}, ensure_ascii=False))
    else:
        print(f"{out}: " + ", ".join(f"{key} {value}" for key, value in about.items() if value is not None))
    if empty:
        print(f"signcl: no sentence was found in {options.recording}; {out} is empty", file=sys.stderr)
    return 1 if empty else 0
