"""Makes all evidence that is possible on this machine: `python -m paper [--only table8 imu] [--plan]`, or `make paper`.

Scripts run in order of importance. Each writes its tables, and `paper/README.md` is updated after each. After an
interruption, repeat the command: finished runs are kept and a stopped run continues where it was. `--from-results`
trains nothing and needs no corpus: it writes tables, pictures and pages from the committed numbers.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import shlex
import sys
import time
import traceback
from pathlib import Path

from paper import density_effect
from paper.check import SCRIPTS
from paper.page import read_tables, write_page
from paper.plan import STEPS, Step, estimate, plans, reason_not_to_run
from paper.settings import CORPORA, JOBS, PRESETS, SEEDS, add_arguments, add_only_missing, has_corpus, jobs_at_a_time
from paper.store import Missing
from signcl.cli.number_options import real

__all__ = ["main"]

HERE = Path(__file__).resolve().parent
LICENSED = tuple(name for name, setting in CORPORA.items() if setting.licensed)


def main(words: list[str] | None = None) -> int:
    """Runs the scripts; returns 1 if one of them failed."""
    parser = argparse.ArgumentParser(prog="python -m paper", description=(__doc__ or "").splitlines()[0])
    names = tuple(dict.fromkeys(step.script for step in STEPS))
    parser.add_argument("--only", nargs="+", choices=names, metavar="SCRIPT", help=f"any of {', '.join(names)}")
    parser.add_argument("--corpus", choices=LICENSED, help="run all scripts on this licensed corpus only")
    parser.add_argument("--root", help="folder of that corpus, if it is not the default one")
    parser.add_argument("--spans", help="table of its spans, for density; {split} is replaced")
    parser.add_argument("--plan", action="store_true", help="print what is missing and how long it takes; run nothing")
    parser.add_argument("--from-results", action="store_true", help="run nothing; write all from committed numbers")
    add_only_missing(parser)
    parser.add_argument("--page", action="store_true", help="write only the page, from existing tables; run nothing")
    parser.add_argument("--minutes", type=real(low=0, high=1e6), help="start no new script after this many minutes")
    parser.add_argument("--seeds", type=SEEDS, help="default: 3, or 5 on the number signs")
    parser.add_argument("--jobs", type=JOBS, help="parallel runs, one thread each; default: 2 on a CPU, 1 on a GPU")
    parser.add_argument("--preset", choices=tuple(PRESETS), default="cpu", help="size of runs on the synthetic corpus")
    parser.add_argument("--device", help="default: the device of the preset")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("SIGNCL_REAL_DATA", "../shared/data")))
    parser.add_argument("--out", type=Path, default=Path("runs/paper"), help="folder for runs")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="folder for tables")
    options = parser.parse_args(words)
    if options.preset != "cpu" and options.results == HERE / "results":
        options.results = HERE / "results" / options.preset  # do not overwrite the shipped tables
    usual = options.results.resolve() == HERE / "results"
    page = (HERE if usual else options.results) / "README.md"  # for a user's folder, inside it
    if options.page:
        write_page(options.results, page, HERE / "HEAD.md")
        return 0
    if options.from_results:
        return _from_results(options, page)
    if not options.corpus and (options.root or options.spans):
        parser.error("--root and --spans belong to a corpus; name it with --corpus")
    if options.corpus and not has_corpus(options.corpus, options.root):
        folder = options.root or CORPORA[options.corpus].root
        parser.error(f"{options.corpus} is needed at {folder}, but there is no such folder; name it with --root")
    steps = []
    for step in [Step(script, options.corpus) for script in SCRIPTS] if options.corpus else STEPS:
        if options.only and step.script not in options.only:
            continue
        if not options.corpus and (reason := reason_not_to_run(step, options.data)):
            _say(f"{step.title}: left out, {reason}")
        else:
            steps.append(step)
    try:
        _say_plan(steps, options)
    except (SystemExit, ValueError, OSError) as error:
        _say(f"python -m paper: {error}")
        return 2
    return 0 if options.plan else _run(steps, options, page)


def arguments_of(step: Step, options: argparse.Namespace) -> list[str]:
    """The command-line arguments of a script."""
    words = ["--corpus", step.corpus, "--results", str(options.results)]
    if not step.trains:
        return [*words, "--data", str(options.data)]
    words += ["--seeds", str(options.seeds or step.seeds), "--out", str(options.out)]
    words += ["--jobs", str(options.jobs)] if options.jobs else []
    words += ["--preset", options.preset]
    words += ["--only-missing"] if options.only_missing else []
    words += ["--device", options.device] if options.device else []
    words += ["--spans", options.spans] if options.spans else []
    root = options.data / step.data if step.data else options.root
    return words + (["--root", str(root)] if root else [])


def _from_results(options: argparse.Namespace, page: Path) -> int:
    """Rewrites all existing and planned tables from committed numbers; returns 1 if numbers are missing."""
    started, missing = time.monotonic(), 0
    wanted = _commands(options)
    for title, (script, words) in wanted.items():
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                importlib.import_module(f"paper.{script}").main([*words, "--from-results"])
        except (Missing, ValueError, OSError, SystemExit) as error:
            missing += 1
            _say(f"{title}: {error}")
    for preset in density_effect.PRESETS if not options.only and not options.corpus else ():
        if any(density_effect.results_of(preset, options.results).rglob("runs.csv")):
            with contextlib.redirect_stdout(io.StringIO()):
                words = ["--preset", preset, "--from-results", "--results", str(options.results)]
                missing += density_effect.main(words) != 0
    write_page(options.results, page, HERE / "HEAD.md")
    taken = time.monotonic() - started
    _say(f"{len(wanted) - missing} of {len(wanted)} tables and {page} written from {options.results} in {taken:.0f} s")
    return 1 if missing else 0


def _commands(options: argparse.Namespace) -> dict[str, tuple[str, list[str]]]:
    """Title of a table -> its script and arguments: those recorded in the table if it exists, else the planned ones."""
    scripts = {*SCRIPTS, *(step.script for step in STEPS if step.trains)}
    found: dict[str, tuple[str, list[str]]] = {}
    whole: set[str] = set()
    for path, table in read_tables(options.results) if options.results.is_dir() else ():
        module, *words = shlex.split(table["command"])[2:]
        script = module.removeprefix("paper.")
        if script not in scripts:
            continue  # Figure 6 reads published labels and is not rewritten
        found[f"{table['name']} on {path.parent.name}"] = script, [*words, "--results", str(options.results)]
        if table["name"] == script:
            whole.add(f"{script} on {path.parent.name}")
    planned = [Step(script, options.corpus) for script in SCRIPTS] if options.corpus else STEPS
    found |= {
        step.title: (step.script, arguments_of(step, options))
        for step in planned
        if step.trains and step.title not in whole
    }
    return {
        title: (script, words)
        for title, (script, words) in found.items()
        if (not options.only or script in options.only)
        and (not options.corpus or title.endswith(f" on {options.corpus}"))
    }


def _say_plan(steps: list[Step], options: argparse.Namespace) -> None:
    counted: set[Path] = set()
    minutes = 0.0
    for step in steps:
        parser = argparse.ArgumentParser()
        if step.trains and plans(step):
            add_arguments(parser)
            found = estimate(step, parser.parse_args(arguments_of(step, options)), counted)
            minutes += found.minutes
            _say(f"{step.title}: {found}")
        else:
            _say(f"{step.title}: " + ("probes the runs above, trains few itself" if step.trains else "trains nothing"))
    jobs = jobs_at_a_time(options.jobs, options.device or PRESETS[options.preset].device)
    _say(f"about {minutes:.0f} min in total with {jobs} parallel runs; runs shared by scripts are counted once")


def _run(steps: list[Step], options: argparse.Namespace, page: Path) -> int:
    started, failed = time.monotonic(), []
    for number, step in enumerate(steps):
        if options.minutes is not None and time.monotonic() - started > 60 * options.minutes:
            left = ", ".join(s.title for s in steps[number:])
            _say(f"{options.minutes:g} min are over; not started: {left}. Repeat the command to continue.")
            break
        _say(f"== {step.title}, after {(time.monotonic() - started) / 60:.0f} min")
        try:
            importlib.import_module(f"paper.{step.script}").main(arguments_of(step, options))
        except (Exception, SystemExit) as error:  # the other scripts do not depend on it
            if not isinstance(error, (RuntimeError, ValueError, OSError, SystemExit)):
                traceback.print_exc()  # a bug in a script, not a user's mistake
            failed.append(step.title)
            _say(f"{step.title} failed: {error}")
        write_page(options.results, page, HERE / "HEAD.md")
    _say(f"{page} written after {(time.monotonic() - started) / 60:.0f} min")
    if failed:
        _say(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
