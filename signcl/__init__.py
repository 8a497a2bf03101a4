"""signcl: gloss-free sign language translation, its contrastive loss (SignCL) and its density analysis.

The public names load on first use, so that `import signcl` costs nothing:

    signcl.SignCL, signcl.signcl_loss           the loss, for your own model
    signcl.sign_density_ratio                   how densely packed your features are
    signcl.load_model, signcl.translate         translate a clip into a sentence
    signcl.fit, signcl.load_recipe              train from a recipe
    signcl.evaluate                             score a run
    signcl.load_run, signcl.push_to_hub         a run by folder or hub id; upload one
    signcl.extract                              write its features to a feature store
    signcl.System, signcl.register              add your own system (docs/adding-a-system.md)
    signcl.register_term, signcl.register_corpus, signcl.load_plugins
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

NAMES = {
    "Density": "signcl.density",
    "Outputs": "signcl.systems",
    "Recipe": "signcl.training.recipe",
    "SignCL": "signcl.losses",
    "Sizes": "signcl.systems",
    "System": "signcl.systems",
    "Translation": "signcl.inference.translation",
    "count_words": "signcl.data.text",
    "estimate_frame_margin": "signcl.losses",
    "evaluate": "signcl.evaluation.scoring",
    "extract": "signcl.inference.extraction",
    "fit": "signcl.training.fitting",
    "forced_align": "signcl.density.forced_align",
    "load_model": "signcl.inference.translation",
    "load_plugins": "signcl.data.registry",
    "load_recipe": "signcl.training.recipe",
    "load_run": "signcl.training.runs",
    "push_to_hub": "signcl.pages.publishing",
    "read_frames": "signcl.data.video",
    "register": "signcl.systems",
    "register_corpus": "signcl.data.corpora",
    "register_term": "signcl.systems",
    "sign_density_ratio": "signcl.density",
    "signcl_loss": "signcl.losses",
    "translate": "signcl.inference.translation",
}

if TYPE_CHECKING:  # what type checkers see of the names above; tests/test_imports.py keeps both the same
    from signcl.data.corpora import register_corpus as register_corpus
    from signcl.data.registry import load_plugins as load_plugins
    from signcl.data.text import count_words as count_words
    from signcl.data.video import read_frames as read_frames
    from signcl.density import Density as Density
    from signcl.density import sign_density_ratio as sign_density_ratio
    from signcl.density.forced_align import forced_align as forced_align
    from signcl.evaluation.scoring import evaluate as evaluate
    from signcl.inference.extraction import extract as extract
    from signcl.inference.translation import Translation as Translation
    from signcl.inference.translation import load_model as load_model
    from signcl.inference.translation import translate as translate
    from signcl.losses import SignCL as SignCL
    from signcl.losses import estimate_frame_margin as estimate_frame_margin
    from signcl.losses import signcl_loss as signcl_loss
    from signcl.pages.publishing import push_to_hub as push_to_hub
    from signcl.systems import Outputs as Outputs
    from signcl.systems import Sizes as Sizes
    from signcl.systems import System as System
    from signcl.systems import register as register
    from signcl.systems import register_term as register_term
    from signcl.training.fitting import fit as fit
    from signcl.training.recipe import Recipe as Recipe
    from signcl.training.recipe import load_recipe as load_recipe
    from signcl.training.runs import load_run as load_run

__all__ = [*NAMES]
__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    if name in NAMES:
        return getattr(import_module(NAMES[name]), name)
    raise AttributeError(f"module 'signcl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *NAMES])
