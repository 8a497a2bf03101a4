"""What the scripts of this folder have in common: options in, a table in every form out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from paper.jobs import Place
from paper.output import Table
from paper.settings import add_arguments, place_of

__all__ = ["command_of", "run_script"]


def command_of(name: str, options: argparse.Namespace) -> str:
    """The command that makes a table again, with what differs from the usual."""
    words = ["python -m", f"paper.{name}", f"--corpus {options.corpus}", f"--seeds {options.seeds}"]
    words += [] if options.preset == "cpu" else [f"--preset {options.preset}"]
    words += [f"--changes {' '.join(options.changes)}"] if options.changes else []
    return " ".join(words)


def run_script(
    name: str,
    about: str | None,
    table: Callable[[argparse.Namespace, Place], Table],
    corpora: Sequence[str],
    words: Sequence[str] | None,
    *,
    seeds: int = 3,
) -> None:
    """Read the options, make the table, write and print it.

    Args:
        about: the docstring of the script.
        corpora: that it can be made on, the usual one first.
        words: the command line; None takes the process's.
        seeds: of every run, where the options do not say.
    """
    parser = argparse.ArgumentParser(prog=f"python -m paper.{name}", description=(about or "").splitlines()[0])
    add_arguments(parser, tuple(corpora), seeds)
    options = parser.parse_args(words)
    made = table(options, place_of(options))
    made.write(options.results / options.corpus)
    print(made.markdown())
    print(f"written: {options.results / options.corpus}/{made.name}.md .tex .csv .png", file=sys.stderr)
