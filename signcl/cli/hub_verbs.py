"""Verbs for runs on the Hugging Face hub: `push`, `pull`."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from signcl.cli.common import add_json, add_run, add_verb, show

__all__ = ["add"]


def add(verbs: Any, words: list[str]) -> None:
    """Add the verbs of this file."""
    command = add_verb(
        verbs, "push", _push, "upload a run to the Hugging Face hub, with a model card and without private files"
    )
    add_run(command, "folder", help="a run folder made by `signcl fit`")
    command.add_argument("repo", metavar="ORG/NAME", help="the repository; created if it is missing")
    command.add_argument("--private", action="store_true", help="create the repository as private")
    command.add_argument("--revision", metavar="BRANCH", help="branch to push to; created if it is missing")
    command.add_argument("--license", default="", metavar="ID", help="licence of the weights, such as cc-by-nc-sa-4.0")
    command.add_argument("--data", default="", metavar="TEXT", help="what the run was trained on")
    command.add_argument("--data-license", default="", metavar="TEXT", help="licence of the training data")
    command.add_argument("--language", default="", metavar="CODE", help="language of the sentences, such as de")
    command.add_argument("--dry-run", action="store_true", help="list what would be pushed and its size, and stop")
    add_json(command)

    command = add_verb(verbs, "pull", _pull, "download a run from the Hugging Face hub into a run folder")
    add_run(command, "run_name", metavar="ORG/NAME[@REVISION]", help="the repository")
    command.add_argument("-o", "--out", metavar="RUN", help="folder for the run; default: runs/NAME")
    add_json(command)


def _push(options: argparse.Namespace) -> None:
    from signcl.pages.publishing import push_to_hub

    found = push_to_hub(
        options.folder,
        options.repo,
        private=options.private,
        revision=options.revision,
        license=options.license,
        data=options.data,
        data_license=options.data_license,
        language=options.language,
        dry_run=options.dry_run,
    )
    if options.json or not options.dry_run:
        show(options, asdict(found) if options.json else found, str)


def _pull(options: argparse.Namespace) -> None:
    from signcl.training.hub import copy_run

    folder = copy_run(Path(options.run_name), options.out and Path(options.out))
    show(options, {"run": str(folder)}, lambda found: found["run"])
