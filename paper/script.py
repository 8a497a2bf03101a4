"""What the scripts of this folder have in common: options in, a table in every form out."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from paper.jobs import Place
from paper.output import Table
from paper.settings import CORPORA, add_arguments, place_of

__all__ = ["command_of", "dry_run", "end", "run_script"]

SHARED = {"corpus", "seeds", "preset", "changes", "root", "jobs", "device", "out", "results", "check"}
"""Options of every script: those that change a number are named in its command, the rest say where and how fast."""


def command_of(name: str, options: argparse.Namespace) -> str:
    """The command that makes a table again: what every script is told, and all that this one was told of its own."""
    words = ["python -m", f"paper.{name}", f"--corpus {options.corpus}", f"--seeds {options.seeds}"]
    words += [] if options.preset == "cpu" else [f"--preset {options.preset}"]
    words += [f"--changes {shlex.join(options.changes)}"] if options.changes else []
    for own, value in vars(options).items():
        if own not in SHARED and value is not None and value is not False:
            told = [] if value is True else value if isinstance(value, list) else [value]
            words.append(" ".join([f"--{own.replace('_', '-')}", *(shlex.quote(str(word)) for word in told)]))
    return " ".join(words)


def run_script(
    name: str,
    about: str | None,
    table: Callable[[argparse.Namespace, Place], Table],
    corpora: Sequence[str],
    words: Sequence[str] | None,
    *,
    seeds: int = 3,
    more: Callable[[argparse.ArgumentParser], None] | None = None,
) -> Table:
    """Read the options, make the table, write and print it.

    Args:
        about: the docstring of the script.
        corpora: that it can be made on, the usual one first.
        words: the command line; None takes the process's.
        seeds: of every run, where the options do not say.
        more: adds the script's own options.
    """
    parser = argparse.ArgumentParser(prog=f"python -m paper.{name}", description=(about or "").splitlines()[0])
    add_arguments(parser, tuple(corpora), seeds)
    parser.add_argument("--check", action="store_true", help="of a licensed corpus: is all there, what would it cost?")
    if more is not None:
        more(parser)
    options = parser.parse_args(words)
    if options.preset != "cpu" and options.results == parser.get_default("results"):
        options.results /= options.preset  # beside the shipped tables, not over them
    if options.changes and options.results == parser.get_default("results"):
        parser.error("--changes makes another table than the one in paper/results: name a folder with --results")
    if options.check:
        raise SystemExit(
            dry_run(options.corpus, options.root, "--seeds", str(options.seeds), "--out", str(options.out))
        )
    folder = options.results / options.corpus
    folder.mkdir(parents=True, exist_ok=True)
    try:
        made = table(options, place_of(options))
    except (SystemExit, RuntimeError, ValueError, OSError) as error:
        end(name, error, words)
    made.write(folder)
    print(made.markdown())
    print(f"written: {folder}/{made.name}.md .tex .csv .json", file=sys.stderr)
    return made


def end(name: str, error: BaseException, words: Sequence[str] | None) -> NoReturn:
    """A script that cannot go on: whoever called it with words goes on with the next, a command ends with 2."""
    if words is not None:
        raise error
    print(f"python -m paper.{name}: {error}", file=sys.stderr)
    raise SystemExit(2) from None


def dry_run(corpus: str, root: object, *more: str) -> int:
    """`paper.check` of a licensed corpus, with what a command was told; its exit code."""
    from paper.check import main

    if not CORPORA[corpus].licensed:
        print(f"nothing to check: {corpus} is no licensed corpus, and is read as it is", file=sys.stderr)
        return 2
    return main(["--corpus", corpus, *more, *(["--root", str(root)] if root else [])])
