"""The verb that prints a shell completion script: `completion`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from signcl.cli.common import add_verb
from signcl.cli.parsing import every_parser

__all__ = ["add"]

SHELLS = ("bash", "zsh", "fish", "tcsh", "powershell")
PATHS = ("RUN", "FILE", "CLIP", "SPANS", "LABELS", "CORPUS", "DIR", "FOLDER", "TSV", "HYP", "REF")
"""Metavars of arguments that are files or folders."""
SPLITS = ("train", "dev", "test")
"""Usual values of --split, which takes others too."""


def add(verbs: Any, words: list[str]) -> None:
    """Add the verbs of this file."""
    command = add_verb(
        verbs, "completion", _completion, "print a script with which a shell completes commands and options"
    )
    command.add_argument("shell", metavar="SHELL", choices=SHELLS, help=f"one of {', '.join(SHELLS)}")
    command.epilog = (
        'bash: eval "$(signcl completion bash)"    zsh: signcl completion zsh > ~/.zfunc/_signcl    '
        "fish: signcl completion fish > ~/.config/fish/completions/signcl.fish"
    )


def _completion(options: argparse.Namespace) -> None:
    import shtab

    from signcl.cli import EVERY_VERB, make_parser
    from signcl.inference.clips import DEVICES
    from signcl.systems import SYSTEMS
    from signcl.training.recipe import recipe_names

    usual = {"--split": SPLITS, "--device": DEVICES}
    parser = make_parser(EVERY_VERB)
    for command in every_parser(parser):
        for action in command._actions:
            flags = [flag for flag in action.option_strings if flag in usual]
            if action.choices is not None:
                continue
            if flags:
                action.choices = usual[flags[0]]
            elif action.metavar == "SYSTEM":
                action.choices = list(SYSTEMS)
            elif action.metavar == "NAME" and command.prog.startswith("signcl recipes"):
                action.choices = recipe_names()
            elif action.metavar == "RECIPE":
                action.complete = _names_and_files(recipe_names(), shtab.FILE)  # type: ignore[attr-defined]
            elif any(word in str(action.metavar) for word in PATHS):
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    print(shtab.complete(parser, options.shell))


def _names_and_files(names: Sequence[str], files: dict[str, Any]) -> dict[str, Any]:
    """Completions of a recipe: the names of shipped ones, and files; in tcsh and PowerShell only files."""
    text = " ".join(names)
    return {
        **files,
        "bash": "_signcl_recipes",
        "zsh": "_signcl_recipes",
        "fish": f"(string split ' ' '{text}'; __fish_complete_path (commandline -ct))",
        "preamble": {
            "bash": f'_signcl_recipes() {{\n  compgen -W "{text}" -- "$1"\n  compgen -f -- "$1"\n}}',
            "zsh": f"_signcl_recipes() {{\n  compadd -- {text}\n  _files\n}}",
        },
    }
