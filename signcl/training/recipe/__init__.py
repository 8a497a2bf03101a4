"""The recipe: one dataclass tree = one YAML file = the command line's `--key.sub=value`.

A recipe says everything that a run depends on; the run folder keeps the complete, resolved form. Unknown keys are
refused with the nearest known key. Nothing here imports torch.
"""

from signcl.training.recipe.describing import describe_keys, field_docs
from signcl.training.recipe.fields import (
    AugmentRecipe,
    CorpusRecipe,
    DecodeRecipe,
    InputRecipe,
    LossRecipe,
    Recipe,
    SignCLRecipe,
    TextRecipe,
    TrainRecipe,
)
from signcl.training.recipe.model import ModelRecipe
from signcl.training.recipe.recipe_files import load_recipe, recipe_from_dict, recipe_to_dict, save_recipe
from signcl.training.recipe.shipped import recipe_path, shipped_recipes
from signcl.training.recipe.system_list import GLOSS_TERMS, SYSTEMS, I3DRecipe, System

__all__ = [
    "GLOSS_TERMS",
    "SYSTEMS",
    "AugmentRecipe",
    "CorpusRecipe",
    "DecodeRecipe",
    "I3DRecipe",
    "InputRecipe",
    "LossRecipe",
    "ModelRecipe",
    "Recipe",
    "SignCLRecipe",
    "System",
    "TextRecipe",
    "TrainRecipe",
    "describe_keys",
    "field_docs",
    "load_recipe",
    "recipe_from_dict",
    "recipe_path",
    "recipe_to_dict",
    "save_recipe",
    "shipped_recipes",
]
