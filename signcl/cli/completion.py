"""The verb that prints a shell completion script: `completion`."""

from __future__ import annotations

import argparse
from typing import Any

from signcl.cli.common import add_verb
from signcl.cli.parsing import every_parser

__all__ = ["add"]

SHELLS = ("bash", "zsh", "tcsh")


def add(verbs: Any, words: list[str]) -> None:
    """Add the verbs of this file."""
    command = add_verb(
        verbs, "completion", _completion, "print a script with which a shell completes commands and options"
    )
    command.add_argument("shell", choices=SHELLS, help="the shell to write the script for")
    command.epilog = 'bash: eval "$(signcl completion bash)"    zsh: signcl completion zsh > ~/.zfunc/_signcl'


def _completion(options: argparse.Namespace) -> None:
    import shtab

    from signcl.cli import make_parser

    parser = make_parser()
    for command in every_parser(parser):
        for action in command._actions:
            takes_path = action.metavar and any(word in str(action.metavar) for word in PATHS)
            if takes_path and action.choices is None:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    print(shtab.complete(parser, options.shell))


PATHS = ("RUN", "FILE", "CLIP", "RECIPE", "SPANS", "LABELS", "CORPUS", "DIR", "HYP", "REF")
"""Metavars of arguments that are files or folders."""
