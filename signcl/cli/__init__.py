"""The command line: each verb parses its options, calls one public function and prints the result.

The other files of this folder each hold a group of verbs; `add` registers them, in the order of `GROUPS`. Heavy modules
are imported only when a verb runs. Results go to stdout (`--json` for machines), other messages to stderr. Exit codes:
0 done, 1 a check found problems, 2 wrong usage or input, 130 stopped by Ctrl-C, 143 by SIGTERM.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from signcl.cli import align as alignment
from signcl.cli import completion, corpus, recipes, recordings, systems
from signcl.cli import density_verbs as density
from signcl.cli import evaluate as scoring
from signcl.cli import export as programs
from signcl.cli import extract as extraction
from signcl.cli import fit as training
from signcl.cli import hub_verbs as hub
from signcl.cli import official_checkpoints as checkpoints
from signcl.cli import pose as key_points
from signcl.cli import score as text_files
from signcl.cli import serve as pages
from signcl.cli import translate as clips
from signcl.cli import vocab as vocabulary
from signcl.cli.common import EVERY_VERB, is_ours, message, with_local_runs, with_shipped_runs
from signcl.cli.parsing import Parser, joined_overrides, refuse_unless_overrides
from signcl.data.installed import version_of
from signcl.data.interrupts import sigterm_stops
from signcl.data.registry import load_plugins

__all__ = ["EVERY_VERB", "main", "make_parser"]

GROUPS = (
    training,
    checkpoints,
    scoring,
    text_files,
    alignment,
    density,
    key_points,
    extraction,
    clips,
    recordings,
    programs,
    hub,
    pages,
    corpus,
    vocabulary,
    recipes,
    systems,
    completion,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    # OpenMP threads that spin while waiting make training 3 to 6 times slower on a machine that has other work
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    parser = make_parser(words)
    options, rest = parser.parse_known_args(words)
    if not hasattr(options, "run"):
        parser.print_help(sys.stderr)
        return 2
    if rest and not getattr(options, "takes_overrides", False):
        options.parser.refuse(rest)
    options.overrides = joined_overrides(rest)
    if rest:
        refuse_unless_overrides(options.parser, options.overrides)
    options.given_names = {}
    try:
        with_shipped_runs(options)
        with sigterm_stops():
            if options.plugins:
                load_plugins(options.plugins)
            return int(options.run(with_local_runs(options)) or 0)
    except KeyboardInterrupt as stopped:
        print("signcl: stopped", file=sys.stderr)
        return getattr(stopped, "exit_code", 130)  # `Terminated` carries its own code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError) as error:
        if options.traceback or not is_ours(error):
            raise
        print(f"signcl: {message(error, options.given_names)}", file=sys.stderr)
        return 2


def make_parser(words: Sequence[str] = ()) -> Parser:
    """Build the parser of all verbs; `words` is the typed command line, which decides the options of some verbs.

    With `EVERY_VERB` the parser has all options of all verbs, which takes longer to build.
    """
    parser = Parser(
        prog="signcl",
        description="Gloss-free sign language translation: train, score, translate, measure representation density.",
    )
    parser.add_argument("--version", action="version", version=f"signcl {version_of('signcl')}")
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND")
    for group in GROUPS:
        group.add(verbs, list(words))
    return parser
