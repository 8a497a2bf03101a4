"""Shared by all groups of verbs: adding a verb, common options, and telling user errors from bugs."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from signcl.data.files import near_file
from signcl.data.registry import is_outside_module
from signcl.pages.languages import LANGUAGES

__all__ = [
    "EVERY_VERB",
    "add_json",
    "add_language",
    "add_run",
    "add_run_and_split",
    "add_verb",
    "is_ours",
    "message",
    "show",
    "with_local_runs",
    "with_shipped_runs",
]

EVERY_VERB = ["*"]
"""In place of a typed command line, for `make_parser`: options of every verb."""
LONGEST = 1000
"""Longest error message, in characters; it may quote a user's file, which can hold a word of a million."""
PACKAGE = str(Path(__file__).parents[1])


def add_verb(verbs: Any, name: str, run: Callable[[argparse.Namespace], Any], text: str) -> Any:
    """Add a subcommand; `run` takes the parsed options and returns the exit code (None for 0)."""
    command = verbs.add_parser(name, help=text, description=text, formatter_class=_Help)
    command.add_argument("--traceback", action="store_true", help="show the full traceback of an error")
    command.add_argument(
        "--plugins",
        action="append",
        default=[],
        metavar="FILE.py|MODULE",
        help="import this code first, to register systems, corpora or loss terms; may be repeated",
    )
    command.set_defaults(run=run)
    return command


def add_run(command: Any, *names: str, **settings: Any) -> None:
    """Add an argument for one or more runs: folders, or hub ids, which `main` replaces with folders."""
    action = command.add_argument(*names, **{"metavar": "RUN", **settings})
    command.runs.append(action.dest)


def add_language(command: Any) -> None:
    """Add the language of a page that is written to a file."""
    command.add_argument("--language", choices=LANGUAGES, default=LANGUAGES[0], help="language of the page")


def with_local_runs(options: argparse.Namespace) -> argparse.Namespace:
    """Download runs that are named by hub id, and put their folders into the options.

    Raises:
        OSError, ValueError: a run cannot be downloaded.
    """
    for dest in options.parser.runs:
        if given := getattr(options, dest):
            found = [_local(options, one) for one in (given if isinstance(given, list) else [given])]
            setattr(options, dest, found if isinstance(given, list) else found[0])
    return options


def _local(options: argparse.Namespace, name: str) -> str:
    from signcl.training.hub import hub_name, local_run

    folder = str(local_run(name))
    if hub_name(name):
        options.given_names[folder] = name
    return folder


def add_run_and_split(command: Any) -> None:
    """Add the run, and the options for its split, corpus folder, device and JSON."""
    add_run(command, "folder", help="a run folder made by `signcl fit`, or org/name on the hub")
    command.add_argument("--split", default="test", help="split to score")
    command.add_argument("--root", help="the corpus folder, if it has moved")
    command.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    add_json(command)


def with_shipped_runs(options: argparse.Namespace) -> None:
    """Replace `demo:NAME` with the folder of that shipped run, in every option except clips and recipe keys.

    Raises:
        FileNotFoundError: there is no shipped run of that name.
        ValueError: a shipped run is given where a recipe is needed.
    """
    for dest, given in vars(options).items():
        several = given if isinstance(given, list) else [given]
        named = [isinstance(one, str) and one.startswith("demo:") for one in several]
        if dest in ("clips", "overrides") or not any(named):
            continue
        if dest in ("recipe", "name"):
            raise ValueError(
                f"{given} is a trained run that comes with the package, and cannot be trained further; `signcl recipes "
                f"list shipped` lists the recipes of such runs, for `signcl fit`"
            )
        from signcl.training.shipped_runs import shipped_path

        found = [str(shipped_path(one)) if demo else one for one, demo in zip(several, named)]
        options.given_names |= {path: one for one, path, demo in zip(several, found, named) if demo}
        setattr(options, dest, found if isinstance(given, list) else found[0])


def add_json(command: Any) -> None:
    """Add `--json`, for output that programs read."""
    command.add_argument("--json", action="store_true", help="print the result as JSON")


def show(options: argparse.Namespace, found: Any, table: Callable[[Any], object]) -> None:
    """Print the result to stdout: as JSON with `--json`, otherwise as the text that `table` returns."""
    if options.json:
        print(json.dumps(found, indent=2, ensure_ascii=False, default=str))
    else:
        print(table(found))


def is_ours(error: BaseException) -> bool:
    """Whether an error message is meant for the user: raised by this package, a plugin or the file system."""
    if isinstance(error, OSError):
        return True
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    if frame is None:
        return False
    code, module = frame.tb_frame.f_code, str(frame.tb_frame.f_globals.get("__name__", ""))
    return code.co_filename.startswith(PACKAGE) or is_outside_module(module)


def message(error: BaseException, given_names: Mapping[str, str] | None = None) -> str:
    """Return an error as one line; a long one is shortened in the middle.

    Args:
        given_names: folder -> the name by which the user gave it (`demo:NAME`, `org/name`), which the line shows.
    """
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror if error.filename is None else f"{error.strerror}: {error.filename}"
        if isinstance(error, FileNotFoundError) and error.filename is not None:
            text += near_file(Path(os.fsdecode(error.filename)))
    else:
        text = " ".join(str(error).split())
    for folder, name in (given_names or {}).items():
        text = text.replace(folder, name)
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows a default only where it tells the reader something."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if not action.default or action.nargs == 0:  # nothing, or a flag
            return action.help
        if isinstance(action.default, list):
            return f"{action.help} (default: {' '.join(map(str, action.default))})"
        return super()._get_help_string(action)
