"""Shared main function of the scripts in this folder: reads options, makes a table, writes it in all formats."""

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
SHARED |= {"from_results", "only_missing", "store"}
"""Options of all scripts. A table's command repeats those that change numbers; the others set paths and speed."""


Rows = Callable[[argparse.Namespace, Place], dict[str, tuple[str, list[Fit]]]]
"""Rows of a table that can be made separately: name in the option -> its title, and its runs without seeds."""


def name_of_part(name: str, chosen: Sequence[str] | None) -> str:
    """Stem of a table's files. Selected rows get another stem, so they do not overwrite the full table."""
    return "-".join([name, *chosen]) if chosen else name


def command_of(name: str, options: argparse.Namespace) -> str:
    """The command that reproduces a table: the shared options that change numbers, and all options of this script."""
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
    """Reads the options; makes, writes and prints the table.

    Args:
        about: the docstring of the script.
        corpora: possible corpora, the default first.
        words: the command-line arguments; None takes those of the process.
        seeds: default number of seeds.
        more: adds further options of the script.
        rows: the option that selects rows, and the rows, for --plan.
    """
    parser = argparse.ArgumentParser(prog=f"python -m paper.{name}", description=(about or "").splitlines()[0])
    add_arguments(parser, tuple(corpora), seeds)
    parser.add_argument("--check", action="store_true", help="check the files of a licensed corpus and estimate costs")
    if more is not None:
        more(parser)
    if rows is not None:
        parser.add_argument("--plan", action="store_true", help="print each row's needs and command; run nothing")
    options = parser.parse_args(words)
    if rows is not None and options.plan:
        try:
            print(plan_of(name, options, *rows))
        except (SystemExit, ValueError, OSError) as error:
            end(name, error, words)
        raise SystemExit(0)
    if options.preset != "cpu" and options.results == parser.get_default("results"):
        options.results /= options.preset  # do not overwrite the shipped tables
    if options.changes and options.results == parser.get_default("results"):
        parser.error("--changes makes a different table than the one in paper/results; name a folder with --results")
    if options.check:
        raise SystemExit(
            dry_run(options.corpus, options.root, "--seeds", str(options.seeds), "--out", str(options.out))
        )
    folder = options.results / options.corpus
    try:
        options.store = Store(folder, reading=options.from_results, only_missing=options.only_missing)
        try:
            made = table(options, place_of(options))
        finally:
            options.store.write()  # also after a failure, to keep the finished runs
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
    """Lists each row of a table with its missing runs and the command that makes only this row."""
    place = place_of(options, make=False)
    counted: set[Path] = set()
    lines = []
    setattr(options, option, None)  # each row's command names this row only
    for row, (title, jobs) in rows(options, place).items():
        seeded = [job.seeded(seed) for job in jobs for seed in range(options.seeds)]
        found = estimate_runs(with_encoders({place: seeded}, options), counted)
        recipes = ", ".join(dict.fromkeys(recipe for job in jobs for recipe in _recipes(job)))
        lines += [f"{title}: {found}", f"    {recipes}", f"    {command_of(name, options)} --{option} {row}"]
    lines += ["all rows (shared runs are counted once, in the first row):", f"    {command_of(name, options)}"]
    return "\n".join(lines)


def _recipes(job: Fit) -> list[str]:
    """The recipes of a run and of its dependencies, dependencies first."""
    before = job.start or (getattr(job.features, "run", None) if job.features else None)
    files = [job.features.pattern] if hasattr(job.features, "pattern") else []
    return [*(_recipes(before) if before else files), job.recipe]


def end(name: str, error: BaseException, words: Sequence[str] | None, code: int = 2) -> NoReturn:
    """Ends a script after an error: re-raises it for a caller in Python (`words` given), else exits with `code`.

    The code is 2, or 1 if numbers are missing.
    """
    if words is not None:
        raise error
    print(f"python -m paper.{name}: {error}", file=sys.stderr)
    raise SystemExit(code) from None


def dry_run(corpus: str, root: object, *more: str) -> int:
    """Runs `paper.check` for a licensed corpus with the options of a command; returns its exit code."""
    from paper.check import main

    if not CORPORA[corpus].licensed:
        print(f"nothing to check: {corpus} is not a licensed corpus", file=sys.stderr)
        return 2
    return main(["--corpus", corpus, *more, *(["--root", str(root)] if root else [])])
