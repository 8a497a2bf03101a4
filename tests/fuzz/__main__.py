"""`python -m tests.fuzz`: tries mutated files with every reader, until the time is up or all cases are done."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Iterator

from .campaign import new_campaign
from .readers import READERS

BLOCK, SLOW_BLOCK = 50, 10  # consecutive cases per reader, so that modules and files of the worker are cached


def _cases(options: argparse.Namespace) -> Iterator[tuple[str, int, int]]:
    names = options.reader or list(READERS)
    if options.case is not None:
        yield from ((name, options.seed, options.case) for name in names)
        return
    started, number = time.monotonic(), dict.fromkeys(names, options.first)
    while any(options.cases is None or number[name] < options.first + options.cases for name in names):
        for name in names:
            block = SLOW_BLOCK if READERS[name].slow else BLOCK
            stop = number[name] + block
            if options.cases is not None:
                stop = min(stop, options.first + options.cases)
            for case in range(number[name], stop):
                if time.monotonic() - started > 60 * options.minutes:
                    return
                yield name, options.seed, case
            number[name] = stop


def main() -> int:
    """Runs the campaign and prints a table; returns exit code 1 if there was a fault."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--cases", type=int, help="of each reader; default as many as the time allows")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--reader", action="append", choices=list(READERS), help="may be repeated; default all")
    parser.add_argument("--case", type=int, help="this one alone, to see a fault again")
    parser.add_argument("--keep", metavar="DIR", help="where the files of faults go")
    options = parser.parse_args()
    campaign = new_campaign(options.keep)
    try:
        for outcome, said in campaign.run(_cases(options)):
            if outcome == "fault":
                print(f"FAULT {campaign.faults[-1]}", file=sys.stderr, flush=True)
            elif options.case is not None:
                print(outcome, said)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    finally:
        shutil.rmtree(campaign.work, ignore_errors=True)
    print(f"{'reader':20}{'cases':>8}{'read':>8}{'refused':>9}{'faults':>8}")
    total = [0, 0, 0]
    for name in READERS:
        found = [campaign.counts[name, outcome] for outcome in ("read", "refused", "fault")]
        if sum(found):
            print(f"{name:20}{sum(found):8,}{found[0]:8,}{found[1]:9,}{found[2]:8,}")
            total = [a + b for a, b in zip(total, found)]
    print(f"{'all':20}{sum(total):8,}{total[0]:8,}{total[1]:9,}{total[2]:8,}")
    return int(bool(campaign.faults))


if __name__ == "__main__":
    sys.exit(main())
