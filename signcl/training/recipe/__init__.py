"""The recipe: one dataclass tree = one YAML file = the command line's `--key.sub=value`.

A recipe has all settings of a run; the run folder stores the complete, resolved form. An unknown key is an error that
suggests the closest known key. `model` is the config of the system named by `model.name`.
"""

from signcl.training.recipe.describing import describe_keys, field_docs, list_keys
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
from signcl.training.recipe.shipped import (
    find_recipe,
    is_recipe,
    recipe_names,
    recipe_path,
    recipe_that_makes,
    shipped_recipes,
)

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
    "list_keys",
    "load_recipe",
    "recipe_from_dict",
    "recipe_names",
    "recipe_path",
    "recipe_samples",
    "recipe_text",
    "recipe_that_makes",
    "recipe_to_dict",
    "save_recipe",
    "shipped_recipes",
]
