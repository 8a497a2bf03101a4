"""Versions of installed packages; signcl may also be run from its source tree."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import signcl

__all__ = ["version_of"]


def version_of(package: str) -> str:
    """The version of an installed package, e.g. "2.9.1"; also of signcl if it runs from its source tree.

    "not installed" for an unknown package, so that the card of a run can still be written.
    """
    if package == "signcl":
        return signcl.__version__
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
