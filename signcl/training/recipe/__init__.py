"""The recipe: one dataclass tree = one YAML file = the command line's `--key.sub=value`.

A recipe says everything that a run depends on; the run folder keeps the complete, resolved form. Unknown keys are
refused with the nearest known key. `model` is the config of the system that `model.name` names.
"""

from signcl.training.recipe.describing import describe_keys, field_docs
from signcl.training.recipe.fields import (
    AugmentRecipe,
    CorpusRecipe,
    Decode,
    InputRecipe,
    LossRecipe,
    PartRecipe,
    Recipe,
    SignCLRecipe,
    TextRecipe,
    TrainRecipe,
)
from signcl.training.recipe.recipe_files import load_recipe, recipe_from_dict, recipe_text, recipe_to_dict, save_recipe
from signcl.training.recipe.samples import recipe_samples
from signcl.training.recipe.shipped import find_recipe, is_recipe, recipe_names, recipe_path, shipped_recipes

__all__ = [
    "AugmentRecipe",
    "CorpusRecipe",
    "Decode",
    "InputRecipe",
    "LossRecipe",
    "PartRecipe",
    "Recipe",
    "SignCLRecipe",
    "TextRecipe",
    "TrainRecipe",
    "describe_keys",
    "field_docs",
    "find_recipe",
    "is_recipe",
    "load_recipe",
    "recipe_from_dict",
    "recipe_names",
    "recipe_path",
    "recipe_samples",
    "recipe_text",
    "recipe_to_dict",
    "save_recipe",
    "shipped_recipes",
]
