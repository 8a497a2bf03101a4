"""`python -m signcl` is the `signcl` command."""

import sys

from signcl.cli import main

sys.exit(main())
