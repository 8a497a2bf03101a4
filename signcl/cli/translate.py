"""The verb that translates clips: `translate`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from signcl.cli.common import add_json, add_run, add_verb, is_ours, message, show
from signcl.cli.number_options import real, whole

__all__ = ["add"]


def add(verbs: Any, words: list[str]) -> None:
    """Add the verbs of this file."""
    command = add_verb(verbs, "translate", _translate, "translate clips to sentences")
    add_run(command, "model", help="a finetuned run folder, or org/name on the hub")
    command.add_argument(
        "clips",
        metavar="CLIP",
        nargs="+",
        help="a video or a folder of frames (also for a key-point run), or features; A.npy,B.npy: features side by "
        "side; a folder of clips: every clip in it, in sorted order",
    )
    command.add_argument(
        "-o",
        "--out",
        metavar="TSV",
        help="write a table instead of lines on stdout; the same command resumes after a stop",
    )
    command.add_argument("--beams", type=whole(low=1, high=1000), help="beams of the search; default: the recipe's")
    command.add_argument(
        "--alternatives",
        type=whole(low=0, high=999),
        default=0,
        metavar="N",
        help="also give up to N other sentences of the beam search, with --json; at most one less than the beams",
    )
    command.add_argument(
        "--fps",
        type=real(above=0, high=1000),
        help="resample videos to this frame rate by their time stamps; default: the rate that the run was trained at",
    )
    command.add_argument(
        "--damaged",
        choices=("refuse", "few", "read"),
        help="damaged videos: refuse them, accept a few broken frames, or read whatever is readable; default: "
        "the recipe's input.damaged",
    )
    command.add_argument(
        "--pose-python", metavar="PATH", help="for a key-point run on videos: the Python that has MediaPipe"
    )
    command.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    add_json(command)


def _translate(options: argparse.Namespace) -> int:
    from signcl.inference.answers import search_of
    from signcl.inference.clips import none_read, say_skipped
    from signcl.inference.many_clips import Work, write_translations
    from signcl.inference.translation import load_model, translate, trust_of, why_no_confidence
    from signcl.training.manifest import known_checksum

    out = options.out and Path(options.out)
    if out and out.suffix.lower() != ".tsv":
        raise ValueError(f"{out}: translations are written to a .tsv table; give a name that ends in .tsv")
    if options.alternatives and (out or not options.json):
        raise ValueError("--alternatives: other sentences are given in the lines of --json; add --json, leave out -o")
    model = load_model(options.model, device=options.device, pose_python=options.pose_python)
    beams = search_of(model.run, options.beams).beams
    if options.alternatives and beams == 1:
        raise ValueError("--alternatives: a search with one beam finds one sentence; give --beams 2 or more")
    why_not = why_no_confidence(model)
    if why_not and sys.stderr.isatty():  # for people; a script finds it in the JSON
        print(f"signcl: confidence unknown: {why_not}", file=sys.stderr)
    told = {"why_no_confidence": why_not} if why_not else {}
    how = {"beams": options.beams, "fps": options.fps, "damaged": options.damaged}
    failed: dict[str, str] = {}
    clips = _clips(options, model)
    work = Work(out, {"run": known_checksum(model.run.folder, "model.safetensors"), **how}) if out else None
    rows: list[dict[str, Any]] = []
    for name, (clip, of_folder) in clips.items():
        several = "," in clip and not Path(clip).exists()
        try:
            if isinstance(of_folder, Exception):
                raise of_folder
            kept = None if work is None or several else work.done(name, Path(clip))
            if kept is not None:
                rows.append(kept)
                continue
            found = translate(model, clip.split(",") if several else clip, **how, alternatives=options.alternatives)
        except (ValueError, OSError) as error:
            if options.traceback or not is_ours(error):
                raise
            failed[name] = message(error)
            if of_folder is not True:
                print(f"signcl: {failed[name]}", file=sys.stderr)
            continue
        rows.append({"name": name, "text": found.text, "confidence": found.confidence, "warnings": [*found.warnings]})
        if work is not None:
            if not several:
                work.add(name, Path(clip), found.text, found.confidence, [*found.warnings])
        elif options.json:
            line = {"clip": clip, "text": found.text, "frames": found.num_frames, "seconds": round(found.seconds, 3)}
            if options.alternatives:
                line["alternatives"] = [{"text": text, "probability": p} for text, p in found.alternatives]
            print(json.dumps(line | trust_of(found) | told, ensure_ascii=False), flush=True)
        else:
            sure = "-" if found.confidence is None else f"{found.confidence:.2f}"
            print("\t".join((clip, found.text, sure, *found.warnings)), flush=True)
    say_skipped({name: why for name, why in failed.items() if clips[name][1] is True}, "not translated:")
    if work is not None:
        if not rows:
            raise none_read(failed, "these")
        write_translations(out, rows)
        work.close()
        about = {"table": str(out), "clips": len(rows), "not_translated": failed, **told}
        show(options, about, lambda found: f"{found['table']}: {found['clips']} clips")
    return 2 if failed else 0


def _clips(options: argparse.Namespace, model: Any) -> dict[str, tuple[str, bool | Exception]]:
    """Map the table name of each clip to its path and whether it came from a folder, or why a folder has no clips."""
    from signcl.inference.many_clips import clips_of_folder, holds_clips

    found: dict[str, tuple[str, bool | Exception]] = {}
    for clip in options.clips:
        if not holds_clips(Path(clip)):
            found[clip] = (clip, False)
            continue
        wants = model.run.feature_dim
        videos = wants is None or model.poses is not None
        try:
            below = clips_of_folder(Path(clip), videos=videos, features=wants is not None)
        except (ValueError, OSError) as error:
            found[clip] = (clip, error)  # reported when its turn comes
            continue
        for name, path in below.items():
            found[name if len(options.clips) == 1 else str(path)] = (str(path), True)
    return found
