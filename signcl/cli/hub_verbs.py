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
    command = add_verb(verbs, "push", _push, "upload a run to the hub, with a model card and without anything private")
    add_run(command, "folder", help="a run folder made by `signcl fit`")
    command.add_argument("repo", metavar="ORG/NAME", help="the repository; made where there is none")
    command.add_argument("--private", action="store_true", help="make a private repository")
    command.add_argument("--revision", metavar="BRANCH", help="push to this branch, made where there is none")
    command.add_argument("--license", default="", metavar="ID", help="of the weights, such as cc-by-nc-sa-4.0")
    command.add_argument("--data", default="", metavar="TEXT", help="what it was trained on")
    command.add_argument("--data-license", default="", metavar="TEXT", help="licence of the training data")
    command.add_argument("--language", default="", metavar="CODE", help="of the sentences, such as de")
    command.add_argument("--dry-run", action="store_true", help="say what would be pushed and how large, and stop")
    add_json(command)

    command = add_verb(verbs, "pull", _pull, "a run of the hub as a run folder of your own")
    add_run(command, "run_name", metavar="ORG/NAME[@REVISION]", help="the repository")
    command.add_argument("-o", "--out", metavar="RUN", help="the run folder; default: runs/NAME")
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
