"""`python -m signcl` is the `signcl` command."""

import os
import sys

if __name__ == "__main__":
    # `python -m` searches the current folder first for modules and installed plugins. That folder may be somebody
    # else's run, so we must not execute code from it. The `signcl` command does not search there either.
    if not sys.flags.safe_path and sys.path and sys.path[0] in ("", os.getcwd()):
        del sys.path[0]

    from signcl.cli import main

    sys.exit(main())
