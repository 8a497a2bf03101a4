"""Builds the model of a recipe, loads its initial weights, and loads trained runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import signcl
from signcl.data.pose_estimation import PoseKind
from signcl.data.text import GlossVocabulary, Tokenizer, load_glosses, load_tokenizer
from signcl.systems import Sizes, Start, System
from signcl.systems.base import EarlierRun
from signcl.systems.encoders import build_frame_encoder, initialise_visual
from signcl.systems.targets import Targets, load_targets
from signcl.training import run_folder
from signcl.training.hub import local_run
from signcl.training.manifest import BESIDE_WEIGHTS, verify
from signcl.training.memory import built_if_it_fits
from signcl.training.recipe import Recipe, load_recipe, recipe_that_makes

__all__ = [
    "Run",
    "attach_memory",
    "build_model",
    "build_recipe_encoder",
    "earlier_run",
    "initialise",
    "load_run",
    "read_recipe",
]


@dataclass
class Run:
    """A trained system, loaded from its folder. Using it on clips does not change it."""

    folder: Path
    recipe: Recipe
    model: System
    tokenizer: Tokenizer
    card: dict[str, Any]
    glosses: GlossVocabulary | None = None
    """Gloss vocabulary, if the run recognises glosses."""
    targets: Targets | None = None
    """Makers of targets, if a term of the run needs more than the tokens of a sentence."""

    @property
    def feature_dim(self) -> int | None:
        """Size of its input features; None for pixels."""
        dim: int | None = self.card.get("feature_dim")
        return dim

    def push_to_hub(self, repo: str, **facts: Any) -> Any:
        """Upload it as `org/name`; see `signcl.push_to_hub` for the arguments."""
        return signcl.push_to_hub(self.folder, repo, **facts)

    @property
    def poses(self) -> PoseKind | None:
        """Kind of key points that it was trained on; None: other inputs, or an older run that does not record this."""
        return PoseKind.read(self.card.get("poses"), f"{self.folder}/card.json")


def build_model(
    recipe: Recipe,
    tokenizer: Tokenizer | None,
    feature_dim: int | None,
    glosses: GlossVocabulary | None = None,
    targets: Targets | None = None,
    described: dict[str, Any] | None = None,
) -> System:
    """Build the system of a recipe with random weights.

    Args:
        feature_dim: size of pre-extracted features, or None when the corpus gives pixels.
        glosses: gloss classes, if a term of the recipe needs them.
        targets: targets of the recipe's terms, for systems whose sizes depend on them.
        described: configurations of published networks in it, from a run folder; None: read them from the sources that
            the recipe names.

    Raises:
        ValueError: a pixel encoder for a corpus of features, or vice versa; a model too large for this machine's
            memory.
    """
    described = dict(described or {})
    described.setdefault("visual", _described_visual(recipe))
    sizes = Sizes(
        tokenizer=tokenizer,
        feature_dim=feature_dim,
        glosses=glosses,
        terms=tuple(recipe.loss.weights),
        targets=targets,
        described=described,
    )
    return built_if_it_fits(lambda: recipe.system(recipe.model, sizes))


def attach_memory(model: System, recipe: Recipe, targets: Targets | None) -> None:
    """Attach empty memories of the recipe's terms (`Term.memory`) to a model, if any term has one.

    Call it after `initialise`: the words of an earlier run differ, so its memory must not be loaded.
    """
    makers: Mapping[str, Any] = {} if targets is None else targets.makers
    memories = {
        name: term.memory(model.contrast_dim, makers.get(name))
        for name, term in recipe.terms.items()
        if term.memory is not None
    }
    if memories:
        model.term_memory = torch.nn.ModuleDict(memories)


def _described_visual(recipe: Recipe) -> Any:
    """The configuration of a DINOv2 from an earlier run."""
    folder = Path(recipe.model.visual_weights.removeprefix("pretrained:"))
    if recipe.model.visual != "dinov2" or not (folder / "recipe.yaml").is_file():
        return None
    return (run_folder.read_architecture(folder) or {}).get("visual")


def build_recipe_encoder(recipe: Recipe, feature_dim: int | None) -> Any:
    """Build only the frame encoder of a recipe, with random weights."""
    return build_frame_encoder(recipe.model, feature_dim, _described_visual(recipe))


def initialise(
    model: System, recipe: Recipe, tokenizer: Tokenizer | None = None, targets: Targets | None = None
) -> list[str]:
    """Load the initial weights that a recipe names into a new model. Returns one line per source.

    Args:
        tokenizer: tokenizer of this run; an earlier run must have the same id for every word. None: not checked.
        targets: targets of this run, if published weights depend on them.

    Raises:
        ValueError, OSError: nothing found, or tensors that do not fit. Nothing is skipped silently.
    """
    config, start = recipe.model, Start(tokenizer, targets, earlier_run)
    said = []
    if config.visual_weights:
        said.append(initialise_visual(model.visual, config.visual_weights, earlier_run))
    said += model.load_published(start)
    if config.init_from:
        said.append(f"weights from {config.init_from}: {_from_run(model, recipe, start)}")
    return said


def _from_run(model: System, recipe: Recipe, start: Start) -> str:
    folder = place = local_run(recipe.model.init_from)
    if place.is_file():
        if place.name != "model.safetensors" or not (place.parent / "recipe.yaml").is_file():
            raise ValueError(
                f"model.init_from={place} is a file, but a run folder is needed; make one from an official checkpoint "
                f"first: signcl import KIND {place} -o RUN, then model.init_from=RUN"
            )
        folder = place.parent
    if not folder.is_dir():
        recipe_name = recipe_that_makes(folder)
        made = f"`signcl fit {recipe_name}` makes it" if recipe_name else ""
        raise FileNotFoundError(
            f"model.init_from={folder}: no such run folder; {made or 'train the pretraining recipe first'}"
        )
    earlier = earlier_run(str(folder))
    if earlier is None:
        raise FileNotFoundError(f"model.init_from={folder}: it has no recipe.yaml, so it is not a run folder")
    able = (*model.starts_from, recipe.model.name)
    if not any(earlier.is_a(name) for name in able):
        raise ValueError(
            f"model.init_from={folder} is a run of {earlier.system}, which cannot start {recipe.model.name}; that "
            f"starts from {' or '.join(able)}"
        )
    return model.take_over(earlier, start)


def earlier_run(folder: str) -> EarlierRun | None:
    """The run in a folder, to initialise another; None if the folder holds none."""
    place = Path(folder)
    if not (place / "recipe.yaml").is_file():
        return None
    recipe = read_recipe(place)
    return EarlierRun(
        folder=place,
        config=recipe.model,
        terms=tuple(recipe.loss.weights),
        read_tensors=lambda: run_folder.without_memory(run_folder.read_weights(place)),
        read_tokenizer=lambda: load_tokenizer(place),
        module=lambda: load_run(place).model,
        load_into=lambda model: run_folder.load_weights(place, model, memory=False),
    )


def read_recipe(folder: str | Path) -> Recipe:
    """Read the recipe of a run folder; its plugins must already be imported (`--plugins`), since they are code.

    Raises:
        FileNotFoundError: not a run folder.
    """
    return load_recipe(run_folder.check_run_folder(folder) / "recipe.yaml", of_run=True)


def load_run(folder: str | Path | Run) -> Run:
    """Load a run, ready to evaluate on the CPU.

    Args:
        folder: a run folder, `demo:NAME`, or `org/name[@revision]` on the hub; a `Run` is returned unchanged.

    Returns:
        The run: its recipe, model, tokenizer and card.

    Raises:
        FileNotFoundError, ValueError: no such folder, not a run folder, damaged or foreign weights.
    """
    if isinstance(folder, Run):
        return folder
    folder = run_folder.check_run_folder(folder)
    recipe = read_recipe(folder)
    verify(folder, BESIDE_WEIGHTS)
    tokenizer = load_tokenizer(folder)
    card = run_folder.read_card(folder)
    run_folder.say_changed_plugins(folder)
    glosses = load_glosses(folder) if recipe.needs_glosses else None
    targets = load_targets(recipe.terms, recipe.model, folder)
    described = run_folder.read_architecture(folder)
    try:
        model = build_model(recipe, tokenizer, card.get("feature_dim"), glosses, targets, described)
    except ValueError as error:  # recipe and card do not match
        raise ValueError(f"{folder}: {error}") from None
    attach_memory(model, recipe, targets)
    run_folder.load_weights(folder, model)
    model.eval()
    return Run(folder, recipe, model, tokenizer, card, glosses, targets)
