"""Verbs for single clips: `translate`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from signcl.cli.common import add_json, add_run, add_verb, is_ours, message
from signcl.cli.number_options import real, whole

__all__ = ["add"]


def add(verbs: Any, words: list[str]) -> None:
    """Add the verbs of this file; `words` is the command line, for those that need a look at it first."""
    command = add_verb(verbs, "translate", _translate, "clips in, sentences out")
    add_run(command, "model", help="a finetuned run folder, or org/name on the hub")
    command.add_argument(
        "clips",
        metavar="CLIP",
        nargs="+",
        help="video file or folder of frames (of a run of key points too), or features; A.npy,B.npy: side by side",
    )
    command.add_argument("--beams", type=whole(low=1, high=1000))
    command.add_argument(
        "--fps",
        type=real(above=0, high=1000),
        help="bring videos to this rate by the times of their frames; default: the rate that the run was trained at",
    )
    command.add_argument(
        "--damaged",
        choices=("refuse", "few", "read"),
        help="take no damaged video, one with a few broken frames, or whatever can be read; default: input.damaged",
    )
    command.add_argument(
        "--pose-python", metavar="PATH", help="for a run of key points given videos: the Python that has MediaPipe"
    )
    command.add_argument("--device", default="auto")
    add_json(command)


def _translate(options: argparse.Namespace) -> int:
    from signcl.inference.translation import load_model, translate, trust_of, why_no_confidence

    model = load_model(options.model, device=options.device, pose_python=options.pose_python)
    why_not = why_no_confidence(model)
    if why_not and sys.stderr.isatty():  # for people; a script finds it in the JSON
        print(f"signcl: {why_not}", file=sys.stderr)
    told = {"why_no_confidence": why_not} if why_not else {}
    failed = 0
    for clip in options.clips:
        try:
            several = "," in clip and not Path(clip).exists()
            found = translate(
                model,
                clip.split(",") if several else clip,
                beams=options.beams,
                fps=options.fps,
                damaged=options.damaged,
            )
        except (ValueError, OSError) as error:
            if options.traceback or not is_ours(error):
                raise
            failed += 1
            print(f"signcl: {message(error)}", file=sys.stderr)
            continue
        if options.json:
            line = {"clip": clip, "text": found.text, "frames": found.num_frames, "seconds": round(found.seconds, 3)}
            print(json.dumps(line | trust_of(found) | told, ensure_ascii=False), flush=True)
        else:
            sure = "-" if found.confidence is None else f"{found.confidence:.2f}"
            print("\t".join((clip, found.text, sure, *found.warnings)), flush=True)
    return 2 if failed else 0
