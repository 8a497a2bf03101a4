"""The verb that estimates key points of videos: `pose`."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from signcl.cli.common import add_json, add_verb, show
from signcl.cli.number_options import real, whole

__all__ = ["add"]


def add(verbs: Any, words: list[str]) -> None:
    """Add the verbs of this file."""
    text = "estimate key points of videos with MediaPipe Holistic, in a separate environment, and write .pose files"
    command = add_verb(verbs, "pose", _pose, text)
    command.add_argument(
        "clips", metavar="CLIPS", nargs="*", help="video files, folders of images, or folders that contain these"
    )
    command.add_argument("-o", "--out", metavar="DIR", help="folder of the .pose files; a stopped run continues there")
    command.add_argument("--corpus", help="instead of CLIPS: a kind of corpus; the files are named after its samples")
    command.add_argument("--root", help="with --corpus: its folder")
    command.add_argument("--split", default="train", help="with --corpus: the split")
    command.add_argument(
        "--workers",
        type=whole(low=1, high=1024),
        help="number of processes, each with one clip at a time; default: half the cores",
    )
    command.add_argument(
        "--fill", type=whole(low=0, high=1000), default=5, help="longest gap to fill by linear interpolation, in frames"
    )
    command.add_argument(
        "--fps",
        type=real(above=0, high=1000),
        help="resample videos to this frame rate first; default: use every frame",
    )
    command.add_argument(
        "--damaged",
        choices=("refuse", "few", "read"),
        default="few",
        help="how to treat damaged videos, as input.damaged",
    )
    command.add_argument(
        "--look", type=whole(low=0, high=100_000), default=0, metavar="N",
        help="draw the skeletons of the first N clips over their frames: DIR/look/NAME.png",
    )  # fmt: skip
    command.add_argument("--pose-python", metavar="PATH", help="the Python of an environment that has MediaPipe")
    command.add_argument("--install", action="store_true", help="only create the MediaPipe environment")
    command.add_argument(
        "--install-browser", nargs="?", const=True, metavar="FILE.tgz",
        help="only install MediaPipe Holistic for the pages of `signcl serve`: with npm, or from its package",
    )  # fmt: skip
    command.epilog = "Exit code 2 if clips have no key points: they are listed, and the others are in the folder."
    add_json(command)


def _pose(options: argparse.Namespace) -> int:
    from signcl.data.corpora import load_samples
    from signcl.data.pose_estimation import (
        clips_in,
        extract_poses,
        install_browser_holistic,
        look_at_poses,
        make_environment,
        start_holistic,
    )

    if options.install_browser:
        print(install_browser_holistic(None if options.install_browser is True else options.install_browser))
    if options.install:
        print(make_environment())
    if options.install or options.install_browser:
        return 0
    if bool(options.clips) == bool(options.corpus):
        raise ValueError("pose needs either CLIPS, or --corpus with --root")
    if not options.out:
        raise ValueError("pose needs -o DIR, the folder of the .pose files")
    if options.corpus:
        if not options.root:
            raise ValueError("--corpus needs --root, the folder of the corpus")
        samples = load_samples(options.corpus, options.root, options.split)
        without = [sample.name for sample in samples if sample.clip is None]
        if without:
            raise ValueError(
                f"{options.root}: {len(without)} clips have features but no video, the first: {without[0]}"
            )
    else:
        samples = clips_in(options.clips)
    python = options.pose_python or make_environment()
    found = extract_poses(
        samples,
        options.out,
        lambda: start_holistic(python),
        workers=options.workers or max(1, (os.cpu_count() or 2) // 2),
        fill=options.fill,
        fps=options.fps,
        damaged=options.damaged,
        progress=not options.json,
    )
    show(options, asdict(found), lambda _: found)
    for picture in look_at_poses(samples, Path(options.out), options.look):
        print(picture, file=sys.stderr)
    for name, why in list(found.broken.items())[:5]:
        print(f"signcl: {name} has no key points: {why}", file=sys.stderr)
    if len(found.broken) > 5:
        print(f"signcl: {len(found.broken) - 5} more clips have no key points", file=sys.stderr)
    return 2 if found.broken else 0
