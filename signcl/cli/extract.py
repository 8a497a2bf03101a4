"""The verb that writes features: `extract`."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import Any

from signcl.cli.common import add_json, add_run, add_verb
from signcl.cli.number_options import whole
from signcl.data.pose_layouts import CROPPED_PARTS

__all__ = ["add"]

ENCODER = "a vision model of transformers: CLIP, SigLIP, DINOv2, DINOv3, ViT, or VideoMAE on windows of frames"


def add(verbs: Any, words: list[str]) -> None:
    """Add the verbs of this file."""
    text = "compute features of a split with a run or a published vision model, as a feature store for corpus.features"
    command = add_verb(verbs, "extract", _extract, text)
    add_run(
        command,
        "source",
        nargs="?",
        help="a run, or a recipe with model.visual_weights (not trained); with --encoder, a recipe for its corpus",
    )
    command.add_argument(
        "-o",
        "--out",
        metavar="STORE",
        required=True,
        help="folder of the feature store; the same command resumes after a stop",
    )
    command.add_argument("--split", default="train", help="split to read")
    command.add_argument(
        "--tap", default="features", help="where in the model to read features; `signcl systems NAME` lists the taps"
    )
    command.add_argument("--root", help="the corpus folder, if it has moved")
    command.add_argument("--encoder", default="", metavar="HUB_ID_OR_FOLDER", help=ENCODER)
    command.add_argument(
        "--corpus",
        default="",
        metavar="NAME",
        help="with --encoder and --root: the kind of corpus, instead of a recipe",
    )
    command.add_argument("--window", type=whole(low=1, high=10_000), help="with a video model: frames per window")
    command.add_argument(
        "--stride",
        type=whole(low=1, high=10_000),
        help="with a video model: frames from one window to the next; default: half a window",
    )
    command.add_argument(
        "--scales",
        type=whole(low=1, high=8),
        nargs="+",
        default=[1],
        help="read frames at 1, 2, ... times the model's size",
    )
    command.add_argument(
        "--pool",
        choices=("auto", "cls", "mean"),
        default="auto",
        help="vector to keep for each frame: the class token, or the mean over the patches",
    )
    command.add_argument(
        "--crops",
        nargs="+",
        choices=CROPPED_PARTS,
        default=[],
        metavar="PART",
        help=f"read only these parts of each frame, cut out by --poses: {', '.join(CROPPED_PARTS)}",
    )
    command.add_argument(
        "--poses", default="", metavar="SOURCE", help="with --crops: folder or file of key points; {split} is replaced"
    )
    command.add_argument("--chunk", type=whole(low=1, high=100_000), default=64, help="frames to compute at a time")
    command.add_argument("--half", action="store_true", help="run the encoder in bfloat16")
    command.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    command.add_argument(
        "--batch-size", type=whole(low=1, high=1_000_000), help="clips in a batch; default: the recipe's"
    )
    command.add_argument("--workers", type=whole(low=0, high=1024), help="loader processes; default: the recipe's")
    command.add_argument(
        "--pose-python", metavar="PATH", help="for a key-point run on videos: the Python that has MediaPipe"
    )
    command.add_argument(
        "--dtype", choices=("float16", "float32"), default="float16", help="type of the stored features"
    )
    command.add_argument(
        "--shard-samples",
        type=whole(low=1, high=1_000_000),
        default=500,
        help="clips per shard; a stop loses at most one shard",
    )
    command.usage = (
        "signcl extract RUN -o STORE [--split S] [--tap T] ...\n       signcl extract RECIPE.yaml -o STORE "
        "[--key.sub=value]\n       signcl extract --encoder ID RECIPE.yaml -o STORE\n       "
        "signcl extract --encoder ID --corpus NAME --root FOLDER -o STORE"
    )
    command.epilog = "Exit code 2 if clips could not be read: they are listed, and the others are in the store."
    command.set_defaults(takes_overrides=True)
    add_json(command)


def _extract(options: argparse.Namespace) -> int:
    from signcl.inference.extraction import extract
    from signcl.systems.encoders import VisionReading

    reading = VisionReading(
        window=options.window,
        stride=options.stride,
        scales=tuple(options.scales),
        pool=options.pool,
        chunk=options.chunk,
        half=options.half,
    )
    if len({*options.crops}) < len(options.crops):
        raise ValueError(f"--crops: names a part twice: {' '.join(options.crops)}")
    if not options.encoder and (reading != VisionReading() or options.corpus):
        raise ValueError("--corpus, --window, --stride, --scales, --pool, --chunk and --half need --encoder")
    found = extract(
        options.source,
        options.out,
        options.split,
        tap=options.tap,
        root=options.root,
        overrides=options.overrides,
        device=options.device,
        batch_size=options.batch_size,
        workers=options.workers,
        dtype=options.dtype,
        shard_samples=options.shard_samples,
        pose_python=options.pose_python,
        encoder=options.encoder,
        corpus=options.corpus,
        reading=reading,
        crops=options.crops,
        poses=options.poses,
    )
    print(json.dumps(asdict(found), indent=2, ensure_ascii=False) if options.json else found)
    if found.broken:
        few = ", ".join(list(found.broken)[:5])
        print(f"signcl: {len(found.broken)} clips could not be read and are not in the store: {few}", file=sys.stderr)
    return 2 if found.broken else 0
