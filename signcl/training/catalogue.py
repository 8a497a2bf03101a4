"""What there is to train: every system with its stage, terms, taps, sizes and recipes, as `signcl systems` lists them.

Sizes are counted on models built from the shipped recipes without memory for their weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from signcl.systems import model_class
from signcl.systems.targets import Targets
from signcl.training.build import build_model
from signcl.training.recipe import GLOSS_TERMS, SYSTEMS, Recipe, load_recipe, shipped_recipes

__all__ = ["describe_system", "list_systems"]

SMALL, PAPER = ("synthetic", "imu_numbers"), ("phoenix14t", "csl_daily", "how2sign", "folder")
PSEUDO_GLOSSES, FEATURES = 2500, {"imu_numbers": 36}
"""About the pseudo-glosses of PHOENIX-2014T; numbers of a frame's features, 1024 elsewhere."""
VOCABULARY, WORDS = 2454, {"phoenix14t": 2892, "synthetic": 130, "imu_numbers": 33}
"""Rows of the word table: of the trimmed German vocabulary of GFSLT; of the tokenizer `word`, marks included."""
GLOSSES = {"phoenix14t": 1087, "synthetic": 50, "imu_numbers": 34, "folder": 2002}
"""Gloss classes with blank and <unk>; a folder is WLASL2000, and of others PHOENIX-2014T's count."""

LANGUAGE_MODELS: dict[str, dict[str, Any]] = {
    "facebook/xglm-1.7B": {
        "model_type": "xglm",
        "vocab_size": 256008,
        "num_layers": 24,
        "d_model": 2048,
        "ffn_dim": 8192,
        "attention_heads": 16,
    }
}
"""Published sizes of the language models that the shipped recipes name."""


@dataclass(frozen=True)
class _Words:
    """A tokenizer of a size, for counting parameters."""

    vocab_size: int
    pad_id: int = 1
    start_id: int = 0
    end_id: int = 2


def list_systems(names: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Every system, or those named: what it is, what trains it, where SignCL looks, how large it is, its recipes.

    Raises:
        ValueError: no system of that name.
    """
    for name in names:
        model_class(name)
    recipes = _recipes()
    return [_row(name, recipes) for name in (names or SYSTEMS)]


def describe_system(name: str) -> str:
    """The docstring of a system's class, for people."""
    import inspect

    return inspect.cleandoc(model_class(name).__doc__ or "")


def _recipes() -> list[tuple[Path, Recipe]]:
    return [(path, load_recipe(path)) for path in sorted(shipped_recipes().glob("*/*.yaml"))]


def _row(name: str, recipes: list[tuple[Path, Recipe]]) -> dict[str, Any]:
    system = SYSTEMS[name]
    mine = [(path, recipe) for path, recipe in recipes if recipe.model.name == name]
    row: dict[str, Any] = {
        "system": name,
        "what": system.title,
        "stage": system.stage,
        "terms": list(system.terms),
        "needs": system.needs,
        "recipes": [f"{path.parent.name}/{path.name}" for path, _ in mine],
        "taps": [],
        "sizes": {},
    }
    for label, corpora in (("small", SMALL), ("paper", PAPER)):
        chosen = [(path, recipe) for corpus in corpora for path, recipe in mine if path.parent.name == corpus]
        if not chosen:
            continue
        first = [(path, recipe) for path, recipe in chosen if path.parent == chosen[0][0].parent]
        path, recipe = min(first, key=lambda found: len(found[0].name))  # the plain one of the variants
        size: dict[str, Any] = {"recipe": f"{path.parent.name}/{path.name}"}
        try:
            model = _empty(recipe)
        except (ValueError, OSError) as error:
            size["parameters"], size["reason"] = None, " ".join(str(error).split())
        else:
            size["parameters"] = sum(p.numel() for p in model.parameters())
            size["trained"] = sum(p.numel() for p in model.parameters() if p.requires_grad)
            row["taps"] = row["taps"] or list(model.TAPS)  # type: ignore[arg-type]
        row["sizes"][label] = size
    return row


def _empty(recipe: Recipe) -> nn.Module:
    """The model of a recipe without memory for its weights."""
    features = recipe.model.visual in ("identity", "feature_mlp")
    dim = FEATURES.get(recipe.corpus.name, 1024) if features else None
    corpus, text = recipe.corpus.name, recipe.text
    glosses = None
    if any(term in recipe.loss.weights for term in GLOSS_TERMS):
        glosses = GLOSSES.get(corpus, GLOSSES["phoenix14t"])
    sizes = {"word": WORDS.get(corpus, VOCABULARY), "sentencepiece": text.vocab_size}
    words: Any = _Words(sizes.get(text.tokenizer, VOCABULARY))
    targets = Targets({"pseudo_gloss": range(PSEUDO_GLOSSES)}) if "pseudo_gloss" in recipe.loss.weights else None
    with torch.device("meta"):
        return build_model(recipe, words, dim, glosses, targets, _described(recipe))


def _described(recipe: Recipe) -> dict[str, Any]:
    """Configurations of the published networks in a recipe, so that a list of systems asks no hub."""
    from signcl.systems.encoders import DINOV2_SIZES

    m = recipe.model
    described: dict[str, Any] = {"visual": DINOV2_SIZES[m.pgp.vit]} if m.visual == "dinov2" else {}
    if m.name == "sign2gpt" and m.lm.name:
        described["decoder"] = LANGUAGE_MODELS.get(m.lm.name.removeprefix("pretrained:"))
    return described
