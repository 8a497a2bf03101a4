"""signcl: gloss-free sign language translation, its contrastive loss (SignCL) and its density analysis.

The public names load on first use, so that `import signcl` costs nothing:

    signcl.SignCL, signcl.signcl_loss           the loss, for your own model
    signcl.sign_density_ratio                   how crowded your features are
    signcl.load_model, signcl.translate         a clip in, a sentence out
    signcl.fit, signcl.load_recipe              train from a recipe
    signcl.evaluate                             score a run
    signcl.extract                              its features as a store
"""

from importlib import import_module
from typing import Any

NAMES = {
    "Density": "signcl.density",
    "Recipe": "signcl.training.recipe",
    "SignCL": "signcl.losses",
    "Translation": "signcl.inference.translation",
    "estimate_frame_margin": "signcl.losses",
    "evaluate": "signcl.evaluation.scoring",
    "extract": "signcl.inference.extraction",
    "fit": "signcl.training.fitting",
    "load_model": "signcl.inference.translation",
    "load_recipe": "signcl.training.recipe",
    "sign_density_ratio": "signcl.density",
    "signcl_loss": "signcl.losses",
    "translate": "signcl.inference.translation",
}

__all__ = [*NAMES]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in NAMES:
        return getattr(import_module(NAMES[name]), name)
    raise AttributeError(f"module 'signcl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *NAMES])
