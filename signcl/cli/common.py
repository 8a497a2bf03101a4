"""What every group of verbs shares: how a verb is added, the options that several take, and whose error it is."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from signcl.data.registry import is_outside_module

__all__ = ["add_json", "add_run", "add_run_and_split", "add_verb", "is_ours", "message", "show", "with_local_runs"]

LONGEST = 1000
"""Characters of an error: a file may hold a word of a million."""
PACKAGE = str(Path(__file__).parents[1])


def add_verb(verbs: Any, name: str, run: Callable[[argparse.Namespace], Any], text: str) -> Any:
    """A subcommand: `run` is called with the parsed options, its result is the exit code (None for 0)."""
    command = verbs.add_parser(name, help=text, description=text, formatter_class=_Help)
    command.add_argument("--traceback", action="store_true", help="show where an error came from")
    command.add_argument(
        "--plugins",
        action="append",
        default=[],
        metavar="FILE.py|MODULE",
        help="import this code first: it registers systems, corpora or loss terms; may be repeated",
    )
    command.set_defaults(run=run)
    return command


def add_run(command: Any, *names: str, **settings: Any) -> None:
    """An argument that names a run, or several: a folder, or a hub id, which `main` turns into a folder."""
    action = command.add_argument(*names, **{"metavar": "RUN", **settings})
    command.runs.append(action.dest)


def with_local_runs(options: argparse.Namespace) -> argparse.Namespace:
    """The options with folders in place of hub ids; runs of the hub are downloaded.

    Raises:
        OSError, ValueError: a run of the hub that cannot be had.
    """
    for dest in options.parser.runs:
        if given := getattr(options, dest):
            from signcl.training.hub import local_run

            setattr(
                options,
                dest,
                [str(local_run(one)) for one in given] if isinstance(given, list) else str(local_run(given)),
            )
    return options


def add_run_and_split(command: Any) -> None:
    """A run folder, the split to look at, and where."""
    add_run(command, "folder", help="a run folder made by `signcl fit`, or org/name on the hub")
    command.add_argument("--split", default="test")
    command.add_argument("--root", help="the corpus folder, where it has moved")
    command.add_argument("--device", default="auto")
    add_json(command)


def add_json(command: Any) -> None:
    """The flag for machines."""
    command.add_argument("--json", action="store_true", help="print one JSON object")


def show(options: argparse.Namespace, found: Any, table: Callable[[Any], object]) -> None:
    """The result on stdout: as JSON under `--json`, else as the text that `table` makes of it."""
    if options.json:
        print(json.dumps(found, indent=2, ensure_ascii=False, default=str))
    else:
        print(table(found))


def is_ours(error: BaseException) -> bool:
    """Whether the message was written for the user: raised in this package or a plugin, or by the file system."""
    if isinstance(error, OSError):
        return True
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    if frame is None:
        return False
    code, module = frame.tb_frame.f_code, str(frame.tb_frame.f_globals.get("__name__", ""))
    return code.co_filename.startswith(PACKAGE) or is_outside_module(module)


def message(error: BaseException) -> str:
    """An error as one line, cut in its middle where it is long."""
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror if error.filename is None else f"{error.strerror}: {error.filename}"
    else:
        text = " ".join(str(error).split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Says a default only where there is one to say."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, False) else super()._get_help_string(action)
