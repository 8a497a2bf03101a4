"""What the scripts of this folder have in common: options in, a table in every form out."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from paper.jobs import Fit, Place
from paper.output import Table
from paper.plan import estimate_runs, with_encoders
from paper.settings import CORPORA, add_arguments, place_of
from paper.store import Missing, Store

__all__ = ["Rows", "command_of", "dry_run", "end", "name_of_part", "run_script"]

SHARED = {"corpus", "seeds", "preset", "changes", "root", "jobs", "device", "out", "results", "check", "plan"}
SHARED |= {"from_results", "store"}
"""Options of every script: those that change a number are named in its command, the rest say where and how fast."""


Rows = Callable[[argparse.Namespace, Place], dict[str, tuple[str, list[Fit]]]]
"""Rows of a table that can be made alone: what the option calls each -> its title, and its runs but for the seed."""


def name_of_part(name: str, chosen: Sequence[str] | None) -> str:
    """The stem of a table's files; of some of its rows another, so that the whole table stays."""
    return "-".join([name, *chosen]) if chosen else name


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
    rows: tuple[str, Rows] | None = None,
) -> Table:
    """Read the options, make the table, write and print it.

    Args:
        about: the docstring of the script.
        corpora: that it can be made on, the usual one first.
        words: the command line; None takes the process's.
        seeds: of every run, where the options do not say.
        more: adds the script's own options.
        rows: the option that chooses rows, and what they are, for --plan.
    """
    parser = argparse.ArgumentParser(prog=f"python -m paper.{name}", description=(about or "").splitlines()[0])
    add_arguments(parser, tuple(corpora), seeds)
    parser.add_argument("--check", action="store_true", help="of a licensed corpus: is all there, what would it cost?")
    if more is not None:
        more(parser)
    if rows is not None:
        parser.add_argument("--plan", action="store_true", help="say what each row needs and its command, run nothing")
    options = parser.parse_args(words)
    if rows is not None and options.plan:
        try:
            print(plan_of(name, options, *rows))
        except (SystemExit, ValueError, OSError) as error:
            end(name, error, words)
        raise SystemExit(0)
    if options.preset != "cpu" and options.results == parser.get_default("results"):
        options.results /= options.preset  # beside the shipped tables, not over them
    if options.changes and options.results == parser.get_default("results"):
        parser.error("--changes makes another table than the one in paper/results: name a folder with --results")
    if options.check:
        raise SystemExit(
            dry_run(options.corpus, options.root, "--seeds", str(options.seeds), "--out", str(options.out))
        )
    folder = options.results / options.corpus
    try:
        options.store = Store(folder, reading=options.from_results)
        try:
            made = table(options, place_of(options))
        finally:
            options.store.write()  # of a table that failed, too: its other runs are there
    except Missing as error:
        missing = Missing(f"{error}; make what is missing with `{command_of(name, options)}`")
        end(name, missing, words, code=1)
    except (SystemExit, RuntimeError, ValueError, OSError) as error:
        end(name, error, words)
    made.write(folder)
    print(made.markdown())
    print(f"written: {folder}/{made.name}.md .tex .csv .json", file=sys.stderr)
    return made


def plan_of(name: str, options: argparse.Namespace, option: str, rows: Rows) -> str:
    """Each row of a table, what is still to be trained for it, and the command that makes it alone."""
    place = place_of(options, make=False)
    counted: set[Path] = set()
    lines = []
    setattr(options, option, None)  # every row has its own command
    for row, (title, jobs) in rows(options, place).items():
        seeded = [job.seeded(seed) for job in jobs for seed in range(options.seeds)]
        found = estimate_runs(with_encoders({place: seeded}, options), counted)
        recipes = ", ".join(dict.fromkeys(recipe for job in jobs for recipe in _recipes(job)))
        lines += [f"{title}: {found}", f"    {recipes}", f"    {command_of(name, options)} --{option} {row}"]
    lines += ["all rows, runs that they share counted once with the first:", f"    {command_of(name, options)}"]
    return "\n".join(lines)


def _recipes(job: Fit) -> list[str]:
    """The recipes of a run and of what it needs, first things first."""
    before = job.start or (getattr(job.features, "run", None) if job.features else None)
    files = [job.features.pattern] if hasattr(job.features, "pattern") else []
    return [*(_recipes(before) if before else files), job.recipe]


def end(name: str, error: BaseException, words: Sequence[str] | None, code: int = 2) -> NoReturn:
    """A script that cannot go on: whoever called it with words goes on with the next, a command ends with a code: 2,
    or 1 where its numbers are missing."""
    if words is not None:
        raise error
    print(f"python -m paper.{name}: {error}", file=sys.stderr)
    raise SystemExit(code) from None


def dry_run(corpus: str, root: object, *more: str) -> int:
    """`paper.check` of a licensed corpus, with what a command was told; its exit code."""
    from paper.check import main

    if not CORPORA[corpus].licensed:
        print(f"nothing to check: {corpus} is no licensed corpus, and is read as it is", file=sys.stderr)
        return 2
    return main(["--corpus", corpus, *more, *(["--root", str(root)] if root else [])])
