"""The recipes that come with the package, in a checkout or installed."""

from __future__ import annotations

from pathlib import Path

__all__ = ["recipe_path", "shipped_recipes"]


def shipped_recipes() -> Path:
    """Their folder: one folder inside for each corpus.

    Raises:
        FileNotFoundError: they were not installed.
    """
    package = Path(__file__).parents[2]
    for folder in (package.parent / "recipes", package / "recipes"):
        if (folder / "synthetic").is_dir():
            return folder
    raise FileNotFoundError("the recipes are not installed with signcl; reinstall the package")


def recipe_path(name: str) -> Path:
    """A recipe by its name such as `synthetic/finetune.yaml`.

    Raises:
        FileNotFoundError: there is none of that name.
    """
    path = shipped_recipes() / name
    if not path.is_file():
        raise FileNotFoundError(f"the recipe {name} is not installed with signcl; reinstall the package")
    return path
