"""`python -m signcl` is the `signcl` command."""

import os
import sys

if __name__ == "__main__":
    # `python -m` looks for modules and for installed plugins in the current folder first. That folder may be a run from
    # somebody else, so it must not give us code; the command `signcl` does not look there either.
    if not sys.flags.safe_path and sys.path and sys.path[0] in ("", os.getcwd()):
        del sys.path[0]

    from signcl.cli import main

    sys.exit(main())
