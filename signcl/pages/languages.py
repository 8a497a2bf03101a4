"""The languages of the pages; a module of its own, so that the command line can list them without loading the pages."""

__all__ = ["LANGUAGES"]

LANGUAGES = ("en", "de")
"""The first one is the default, for browsers that ask for none of them."""
