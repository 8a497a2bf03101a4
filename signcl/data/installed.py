"""Versions of what is installed; this package may also be run from its source tree."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import signcl

__all__ = ["version_of"]


def version_of(package: str) -> str:
    """The version of an installed package, e.g. "2.9.1"; that of signcl too where its source tree is not installed.

    "not installed" where nothing is known of it: a run's card goes on without.
    """
    if package == "signcl":
        return signcl.__version__
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
