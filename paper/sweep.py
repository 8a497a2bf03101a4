"""Shared code of Tables 6 and 7 and Figure 7: sweeps of one SignCL setting in the same finetuning.

The paper sweeps GFSLT-VLP shortened to 80 epochs (section A.2.1). The same is done here on its corpora and with the GPU
presets. On a CPU the sweep is NSLT + SignCL on frozen VLP features (`paper.settings.Preset.sweep`), at a tenth of the
cost and the full length of its recipe. The arm with the recipe's values is shared by all sweeps and trained once.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from paper.jobs import Extract, Fit, Place, Result
from paper.measured import measured_of_corpus
from paper.settings import CORPORA, PRESETS, Sweep
from paper.statistics import Effect, Noise, cell, effect, noise, values_of
from signcl.data.batch import Sample
from signcl.data.corpora import load_samples
from signcl.data.text import count_words
from signcl.training.recipe import load_recipe, recipe_path

__all__ = [
    "CORPORA_OF_SWEEPS",
    "Margins",
    "arm",
    "arm_rows",
    "factor_of",
    "length_note",
    "margins",
    "margins_of",
    "recipe_values",
    "sweep_of",
    "true_factor",
]

CORPORA_OF_SWEEPS = ("synthetic", "imu_numbers", "phoenix14t", "csl_daily")


def arm(options: argparse.Namespace, *values: str, signcl: bool = True) -> Fit:
    """A finetuning with recipe overrides `values`; without SignCL if `signcl` is false."""
    recipes = CORPORA[options.corpus].recipes
    before = Fit(recipes["vlp"], tuple(options.changes)) if "vlp" in recipes else None
    sweep = sweep_of(options)
    own = () if before or sweep.system == "features-nslt" else ("model.init_from=",)
    changes = (*own, *sweep.length, *options.changes, *values)
    recipe = recipes[f"{sweep.system}-signcl" if signcl else sweep.system]
    if sweep.system == "features-nslt":
        assert before is not None
        return Fit(recipe, changes, features=Extract(before))
    return Fit(recipe, changes, before)


def sweep_of(options: argparse.Namespace) -> Sweep:
    """The system and length of sweeps on this corpus with this preset."""
    return PRESETS[options.preset].sweep.get(options.corpus, Sweep("gfslt"))


def length_note(options: argparse.Namespace) -> str:
    """A description of the arms, for the notes of a table."""
    sweep, first = sweep_of(options), arm(options)
    long = f"with {' '.join(sweep.length)}" if sweep.length else "for the recipe's number of steps"
    what = "trains NSLT on the fixed features of VLP"
    where = " SignCL acts on NSLT's embedding of these features, and SDR is measured there."
    if first.features is None:
        start = "VLP" if first.start else "random" if options.corpus == "imu_numbers" else "shared"
        what, where = f"finetunes GFSLT from the same {start} weights", ""
    return f"Every arm {what}, {long}.{where}"


def arm_rows(
    found: Mapping[str, Sequence[Result]], default: str, theirs: Mapping[str, float], facts: Mapping[str, Sequence[str]]
) -> tuple[list[list[str]], list[tuple[str, Effect]], Noise]:
    """One row per arm with its difference from the default arm, here and in the paper.

    Args:
        default: the arm that the others are compared with.
        theirs: BLEU-4 in the paper, by arm.
        facts: further cells of each arm, between its name and its scores.

    Returns:
        Rows; differences by arm; spread of the arms compared with that of seeds.
    """
    rows, effects = [], []
    for name, of_seeds in found.items():
        gain, their_gain = "–", "–"
        if name != default:
            seen = effect("bleu4", of_seeds, found[default])
            effects.append((name, seen))
            gain = str(seen)
            if name in theirs and default in theirs:
                their_gain = f"{theirs[name] - theirs[default]:+.2f}"
        rows.append([
            name, *facts.get(name, ()), cell("sdr", of_seeds), cell("bleu4", of_seeds), gain,
            f"{theirs[name]:.2f}" if name in theirs else "–", their_gain,
        ])  # fmt: skip
    return rows, effects, noise([values_of("bleu4", of_seeds) for of_seeds in found.values()])


@dataclass(frozen=True)
class Margins:
    """Statistics of the training clips' frame margins."""

    mean: float
    none: float
    """Share of clips in which no frame has a negative, percent."""

    def cells(self) -> list[str]:
        """The cells of a table row."""
        return [f"{self.mean:.1f}", f"{self.none:.0f}"]


def margins(samples: Sequence[Sample], factor: float, floor: float) -> Margins:
    """Statistics of max(floor, frames / words * factor) over the clips of known length."""
    known = [(s.num_frames, count_words(s.text)) for s in samples if s.num_frames]
    frames = np.array([length for length, _ in known], dtype=float)
    words = np.array([max(count, 1) for _, count in known], dtype=float)
    found = np.maximum(floor, frames / words * factor)
    return Margins(float(found.mean()), float(100 * (frames - 1 <= 2 * found).mean()))


def margins_of(options: argparse.Namespace, place: Place, factor: float, floor: float) -> Margins:
    """`margins` of the corpus's training clips, stored with the results."""

    def make() -> list[float]:
        found = margins(load_samples(options.corpus, place.root, "train"), factor, floor)
        return [found.mean, found.none]

    return Margins(*measured_of_corpus("margins", place, make, factor=float(factor), floor=float(floor)))


def factor_of(options: argparse.Namespace, place: Place) -> float:
    """The corpus's true words per gloss, stored with the results."""
    found: float = measured_of_corpus(
        "words per gloss", place, lambda: true_factor(load_samples(options.corpus, place.root, "train"))
    )
    return found


def true_factor(samples: Sequence[Sample]) -> float:
    """Spoken words per gloss of a corpus (GT in the paper's Table 7), rounded to one decimal as in the paper."""
    words, glosses = sum(count_words(s.text) for s in samples if s.gloss), sum(len(s.gloss) for s in samples)
    if not glosses:
        raise ValueError("the corpus has no glosses, so its words per gloss are not known")
    return round(words / glosses, 1)


def recipe_values(options: argparse.Namespace) -> tuple[float, float, float]:
    """Words per gloss, margin floor and weight of SignCL in the corpus's recipe."""
    recipe = load_recipe(recipe_path(CORPORA[options.corpus].recipes[f"{sweep_of(options).system}-signcl"]))
    signcl = recipe.loss.signcl
    return signcl.words_per_gloss, signcl.frame_margin_floor, recipe.loss.weights["signcl"]
