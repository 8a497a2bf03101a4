"""`report`: one self-contained HTML page for a run, or for several side by side; docs/report.md shows what is on it.

The page is made from what the run folders hold already. Nothing is trained, translated or measured here, so it takes
seconds; where a piece is missing the page names the command that makes it.
"""

from signcl.report.page import report

__all__ = ["report"]
