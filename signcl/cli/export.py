"""The verb that exports a run for other programs: `export`."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from signcl.cli.common import add_json, add_run, add_verb, show
from signcl.cli.number_options import whole

__all__ = ["add"]


def add(verbs: Any, words: list[str]) -> None:
    """Add the verbs of this file."""
    text = "export a run as ONNX or torch.export programs that run without signcl, and check them against the run"
    command = add_verb(verbs, "export", _export, text)
    add_run(command, "folder", help="a run folder made by `signcl fit`, or org/name on the hub")
    form = command.add_mutually_exclusive_group()
    form.add_argument("--onnx", dest="form", action="store_const", const="onnx", help="write ONNX files (the default)")
    form.add_argument(
        "--torch", dest="form", action="store_const", const="torch", help="write torch.export programs, .pt2"
    )
    command.set_defaults(form="onnx")
    command.add_argument("-o", "--out", metavar="DIR", required=True, help="folder of the export")
    command.add_argument(
        "--dtype",
        choices=("float32", "float16"),
        default="float32",
        help="type of the weights; float16 halves the files",
    )
    command.add_argument(
        "--size",
        nargs=2,
        type=whole(low=1, high=8192),
        metavar=("H", "W"),
        help="height and width of a frame in pixels, for a run without input.size and input.crop",
    )
    command.add_argument(
        "--language",
        default="",
        metavar="NAME",
        help="language of the sentences, for a run whose prompt names it (uni_sign)",
    )
    add_json(command)


def _export(options: argparse.Namespace) -> None:
    from signcl.inference.exporting import export

    size = None if options.size is None else (options.size[0], options.size[1])
    found = export(options.folder, options.out, options.form, dtype=options.dtype, size=size, language=options.language)
    show(options, asdict(found) if options.json else found, str)
