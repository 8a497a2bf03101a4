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
from typing import Any

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

__all__ = [*NAMES]
__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    if name in NAMES:
        return getattr(import_module(NAMES[name]), name)
    raise AttributeError(f"module 'signcl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *NAMES])
