"""Finds recipes by path or name: shipped ones, in a checkout or installed, and those of runs."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from signcl.data.files import read_text
from signcl.data.registry import did_you_mean
from signcl.data.safe_yaml import parse_yaml

__all__ = ["find_recipe", "is_recipe", "recipe_names", "recipe_path", "recipe_that_makes", "shipped_recipes"]

ENDINGS = (".yaml", ".yml")


def shipped_recipes() -> Path:
    """The folder of the shipped recipes, with one subfolder per corpus.

    Raises:
        FileNotFoundError: the recipes are not installed.
    """
    package = Path(__file__).parents[2]
    for folder in (package.parent / "recipes", package / "recipes"):
        if (folder / "synthetic").is_dir():
            return folder
    raise FileNotFoundError("the recipes are not installed with signcl; reinstall the package")


@lru_cache
def recipe_names() -> tuple[str, ...]:
    """Names of the shipped recipes, as `synthetic/finetune`."""
    return tuple(f"{path.parent.name}/{path.stem}" for path in sorted(shipped_recipes().glob("*/*.yaml")))


def recipe_path(name: str) -> Path:
    """The file of a shipped recipe, named e.g. `synthetic/finetune`, with or without `.yaml`.

    Raises:
        FileNotFoundError: no recipe of that name; suggests the closest one.
    """
    stem = name.removesuffix(".yaml")
    if stem not in recipe_names():
        raise FileNotFoundError(f"no recipe {name} comes with signcl; {_near_recipes(stem)}")
    return shipped_recipes() / f"{stem}.yaml"


def recipe_that_makes(run: str | Path) -> str:
    """The name of the shipped recipe whose run folder this is by default; "" if there is none."""
    names = [name for name in recipe_names() if parse_yaml(read_text(recipe_path(name))).get("out") == str(run)]
    return names[0] if names else ""


def is_recipe(source: str | Path) -> bool:
    """Whether a name looks like a recipe rather than another kind of folder or file."""
    known = not Path(source).exists() and str(source) in recipe_names()
    return known or Path(source).suffix in ENDINGS


def find_recipe(source: str | Path) -> Path:
    """The recipe file given as a path, the name of a shipped recipe, or a run folder.

    Raises:
        FileNotFoundError: no such path or name, or a folder that is not a run; suggests alternatives.
    """
    path, name = Path(source), str(source)
    if path.is_file():
        return path
    if path.is_dir():
        if (path / "recipe.yaml").is_file():
            return path / "recipe.yaml"
        inside = sorted(child.name for child in path.iterdir() if child.suffix in ENDINGS)
        runs = sorted(child.name for child in path.iterdir() if (child / "recipe.yaml").is_file())
        held = (
            f"its recipes are {_some(inside)}" if inside else f"its runs are {_some(runs)}" if runs else "it has none"
        )
        raise FileNotFoundError(f"{source} is a folder, and a recipe or a run folder is needed; {held}")
    if name.removesuffix(".yaml") in recipe_names():
        return recipe_path(name)
    words = name.removeprefix("recipes/").removesuffix(".yaml")
    raise FileNotFoundError(f"no recipe at {source}, and none of that name comes with signcl; {_near_recipes(words)}")


def _near_recipes(name: str) -> str:
    """The end of an error for an unknown recipe: the recipes of that corpus, or a similar name."""
    corpus, _, own = name.strip("/").partition("/")
    inside = [recipe.partition("/")[2] for recipe in recipe_names() if recipe.partition("/")[0] == corpus]
    if inside:
        near = did_you_mean(own, inside, f"{corpus}/") if own else ""
        return f"`signcl recipes list {corpus}` lists those of {corpus}{near or f': {_some(inside)}'}"
    near = did_you_mean(name.strip("/"), recipe_names())
    like_hub = name.count("/") == 1 and not name.startswith(("runs/", "recipes/"))
    hub = f"; to start from a run of the hub, set --model.init_from={name}" if like_hub else ""
    return f"`signcl recipes` lists them{near or hub}"


def _some(names: list[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
