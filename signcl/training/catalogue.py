"""The catalogue of systems with their stages, terms, taps, sizes and recipes, for `signcl systems`.

Sizes are counted on models built from the shipped recipes without memory for weights. Building all of them takes half a
minute, so the counts are stored with the recipes in `sizes.json`. `python -m signcl.training.catalogue` updates the
file, and a test checks it.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from signcl.data.files import write_json
from signcl.data.json_files import read_json
from signcl.data.registry import did_you_mean
from signcl.data.safe_yaml import parse_yaml
from signcl.data.text import GlossVocabulary
from signcl.systems import SYSTEMS, System, system_class
from signcl.systems.encoders import DINOV2_SIZES
from signcl.systems.targets import Targets
from signcl.training.recipe import Recipe, load_recipe, recipe_names, shipped_recipes
from signcl.training.runs import build_model

__all__ = ["count_sizes", "describe_system", "list_recipes", "list_systems"]

SMALL, PAPER = ("synthetic", "imu_numbers"), ("phoenix14t", "csl_daily", "how2sign", "folder")
PSEUDO_GLOSSES, FEATURES = 2500, {"imu_numbers": 36}
"""Approximate number of pseudo-glosses of PHOENIX-2014T; feature sizes by corpus, otherwise 1024."""
KEY_POINTS = 118 * 3
"""Values per frame of key points: COCO-WholeBody with confidences."""
VOCABULARY, WORDS = 2454, {"phoenix14t": 2892, "synthetic": 130, "imu_numbers": 33}
"""Vocabulary sizes: of GFSLT's trimmed German vocabulary; of the tokenizer `word` by corpus, with special tokens."""
GLOSSES = {"phoenix14t": 1087, "synthetic": 50, "imu_numbers": 34, "folder": 2002}
"""Gloss classes with blank and <unk>; folder is WLASL2000; other corpora use PHOENIX-2014T's number."""
SIZES = "sizes.json"

T5_XL: dict[str, Any] = {
    **{"num_layers": 24, "d_model": 2048, "num_heads": 32, "d_kv": 64, "d_ff": 5120},
    **{"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "own_marks": {"untied": ["lm_head.weight"]}},
}
LANGUAGE_MODELS: dict[str, dict[str, Any]] = {
    "facebook/xglm-1.7B": {
        "model_type": "xglm",
        "vocab_size": 256008,
        "num_layers": 24,
        "d_model": 2048,
        "ffn_dim": 8192,
        "attention_heads": 16,
    },
    "google/mt5-base": {
        **{"model_type": "mt5", "vocab_size": 250112, "num_layers": 12, "d_model": 768, "num_heads": 12, "d_kv": 64},
        **{"d_ff": 2048, "feed_forward_proj": "gated-gelu", "own_marks": {"untied": ["lm_head.weight"]}},
    },
    "google/flan-t5-xl": {**T5_XL, "model_type": "t5", "vocab_size": 32128},
    "bigscience/mt0-xl": {**T5_XL, "model_type": "mt5", "vocab_size": 250112},
}
"""Published sizes of the language models in the shipped recipes."""


@dataclass(frozen=True)
class _Words:
    """A tokenizer of a given size, for counting parameters."""

    vocab_size: int
    pad_id: int = 1
    start_id: int = 0
    end_id: int = 2


def list_systems(names: Sequence[str] = ()) -> list[dict[str, Any]]:
    """All systems, or those named, each with description, stage, terms, taps, sizes and recipes.

    Without names, a system of an installed package that cannot be loaded is left out and reported on stderr.

    Raises:
        ValueError: no system of that name.
    """
    for name in names:
        if name not in SYSTEMS:
            raise ValueError(f"no system {name}; the systems are {', '.join(SYSTEMS)}{did_you_mean(name, SYSTEMS)}")
    chosen = [(name, system_class(name)) for name in names] if names else SYSTEMS.loadable()
    return [_row(name, system) for name, system in chosen]


def describe_system(name: str) -> str:
    """The docstring of a system's class."""
    return inspect.cleandoc(system_class(name).__doc__ or "")


def _row(name: str, system: type[System]) -> dict[str, Any]:
    taps = system.TAPS if isinstance(system.TAPS, tuple) else _TAPS_BY_LAYER
    row: dict[str, Any] = {
        "system": name,
        "what": system.title,
        "stage": system.stage,
        "terms": list(system.terms),
        "needs": system.needs,
        "recipes": [recipe for recipe, trained in _recipes().items() if trained == name],
        "taps": list(taps),
        "sizes": {},
    }
    for label, recipe in _examples(name).items():
        row["sizes"][label] = {"recipe": recipe, **_known_sizes().get(recipe, {"parameters": None})}
    return row


_TAPS_BY_LAYER = ("features", "visual", "embedding", "layer1", "layer2", "...", "steps")
"""Taps of systems that have one for each encoder layer."""


def list_recipes(words: Sequence[str] = ()) -> list[dict[str, str]]:
    """Shipped recipes whose name or system contains all the words: name, system, stage and what it trains.

    Raises:
        ValueError: no recipe contains these words.
    """
    rows = []
    for path, data, what in _written():
        row = {"name": path.removesuffix(".yaml"), "system": str(data["model"]["name"]), "stage": data["stage"]}
        if all(word.lower() in f"{row['name']} {row['system']}".lower() for word in words):
            rows.append(row | {"what": what})
    if not rows:
        parts = {part for name in (*recipe_names(), *SYSTEMS) for part in (name, *name.split("/"))}
        unknown = [word for word in words if not any(word.lower() in part.lower() for part in parts)]
        near = did_you_mean(unknown[0], parts) if unknown else ""
        raise ValueError(f"no recipe has {' and '.join(words)} in its name or system; `signcl recipes` lists all{near}")
    return rows


@lru_cache
def _written() -> tuple[tuple[str, dict[str, Any], str], ...]:
    """Shipped recipes as corpus/file, their unchecked content, and the text of their first line."""
    found = []
    for path in sorted(shipped_recipes().glob("*/*.yaml")):
        written = path.read_text(encoding="utf-8")
        first = written.split("\n", 1)[0]
        what = first.lstrip("# ").rstrip() if first.startswith("#") else ""
        found.append((f"{path.parent.name}/{path.name}", parse_yaml(written), what))
    return tuple(found)


def _recipes() -> dict[str, str]:
    """Shipped recipes: corpus/file -> the system that it trains."""
    return {path: str(data["model"]["name"]) for path, data, _ in _written()}


@lru_cache
def _known_sizes() -> dict[str, dict[str, int]]:
    path = shipped_recipes() / SIZES
    if not path.is_file():
        return {}
    sizes: dict[str, dict[str, int]] = read_json(path, {str: {str: int}}, "install signcl again")
    return sizes


def _examples(name: str) -> dict[str, str]:
    """A small recipe of a system and one with the paper's sizes: the plain one of the first corpus that has any."""
    chosen = {}
    for label, corpora in (("small", SMALL), ("paper", PAPER)):
        for corpus in corpora:
            mine = [r for r, trained in _recipes().items() if trained == name and r.startswith(f"{corpus}/")]
            if mine:
                chosen[label] = min(mine, key=len)
                break
    return chosen


def count_sizes() -> dict[str, dict[str, int]]:
    """Number of parameters and of trained parameters of each system's example recipes."""
    found = {}
    for name in dict.fromkeys(_recipes().values()):
        for recipe in _examples(name).values():
            model = _empty(load_recipe(shipped_recipes() / recipe))
            sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
            found[recipe] = {"parameters": sum(n for n, _ in sizes), "trained": sum(n for n, train in sizes if train)}
    return found


def _empty(recipe: Recipe) -> System:
    """Build the model of a recipe without memory for its weights."""
    visual = recipe.model.visual
    features = visual in ("identity", "feature_mlp", "feature_streams")
    dim = sum(recipe.model.streams.sizes) or FEATURES.get(recipe.corpus.name, 1024) if features else None
    dim = KEY_POINTS if visual in ("pose_stream", "part_graphs") else dim
    corpus, text = recipe.corpus.name, recipe.text
    glosses = None
    if recipe.needs_glosses:
        count = GLOSSES.get(corpus, GLOSSES["phoenix14t"])
        glosses = GlossVocabulary([f"G{i}" for i in range(count - 2)])
    sizes = {"word": WORDS.get(corpus, VOCABULARY), "sentencepiece": text.vocab_size}
    words: Any = _Words(sizes.get(text.tokenizer, VOCABULARY))
    made = {name: range(PSEUDO_GLOSSES) for name, term in recipe.terms.items() if term.targets}
    with torch.device("meta"):
        return build_model(recipe, words, dim, glosses, Targets(made) if made else None, _described(recipe))


def _described(recipe: Recipe) -> dict[str, Any]:
    """Configurations of the published networks in a recipe, so that listing systems does not access the hub."""
    m: Any = recipe.model
    described: dict[str, Any] = {"visual": DINOV2_SIZES[m.dinov2.vit]} if m.visual == "dinov2" else {}
    if (lm := getattr(m, "lm", None)) is not None and lm.name:
        described["decoder"] = LANGUAGE_MODELS.get(lm.name.removeprefix("pretrained:"))
    return described


if __name__ == "__main__":
    write_json(Path(shipped_recipes() / SIZES), count_sizes())
