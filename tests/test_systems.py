"""Tests for every system: SignCL by recipe alone, lengths respected, saved and loaded, bf16.

The table of systems is tests/systems.py. Tests for a single system are in its own test file.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from systems import ALL, CONTRASTED, batch_of, built, recipe_of, terms_on

from signcl.data.bounds import numbers_without_bounds
from signcl.density import sign_density_ratio
from signcl.inference.run_density import sign_instances
from signcl.losses import frame_distances
from signcl.systems import system_class, system_names
from signcl.systems.terms import TERMS
from signcl.testing import check_system
from signcl.training import fit, runs
from signcl.training.recipe import Recipe, recipe_samples

OF_ANY_SYSTEM = TERMS.names()
WORDS = {name: {"min_count": 1, "max_share": 1.0} for name in ("word_signcl", "word_contrast")}
"""Of the few sentences of the tiny corpus every word counts."""


def density(run: runs.Run) -> float:
    samples = recipe_samples(run.recipe, "train")
    (found,) = sign_instances(run, samples, ["centre"], tap="features", device="cpu", progress=False)
    rows, glosses = found.features, found.glosses
    names = sorted(set(glosses))
    return sign_density_ratio(rows, torch.tensor([names.index(g) for g in glosses])).mean


@CONTRASTED
def test_signcl_attaches_by_recipe_alone(case, corpora, tmp_path):
    recipe = recipe_of(case, corpora, tmp_path / "run")
    model, material = built(recipe)
    batch = batch_of(material, recipe, [0, 1, 2, 3])
    out = model(batch)
    terms = terms_on(out, batch, recipe)
    assert terms.keys() == recipe.loss.weights.keys()
    assert all(torch.isfinite(value) for value in terms.values())
    for name, term in terms.items():
        if name == "masked_text":  # sees text alone, in the published design too
            continue
        model.zero_grad()
        term.backward(retain_graph=True)
        reached = [p.grad for p in model.visual.parameters() if p.requires_grad and p.grad is not None]
        assert sum(float(g.abs().sum()) for g in reached) > 0, f"{name} stops before the frame encoder"

    # the margin that a user would set: between the distances of near and far frames
    apart = frame_distances(out.features.detach(), out.lengths, 2.0)
    recipe.loss.signcl.distance_margin = 2 * float(apart.far)
    recipe.loss.weights = {name: 0.1 * value for name, value in recipe.loss.weights.items()} | {"signcl": 1.0}
    first = fit(still(recipe, tmp_path / "before"), progress=False)
    last = fit(recipe, progress=False)
    before, after = density(runs.load_run(first)), density(runs.load_run(last))
    assert after < before, f"SDR of the training clips rose from {100 * before:.1f} to {100 * after:.1f}"


def still(recipe: Recipe, out: Path) -> Recipe:
    """A short run with steps too small to change anything but the statistics of batch norms."""
    return replace(recipe, out=str(out), train=replace(recipe.train, lr=1e-12, weight_decay=0.0, epochs=2))


@ALL
@pytest.mark.parametrize("check", ["terms", "padding", "taps", "saved", "half"])
def test_a_system_passes_the_checks_that_third_parties_can_call(case, check, corpora, tmp_path):
    """With every term that any system can weigh, beside its own."""
    kind = system_class(case.name)
    values = {"model": {"visual": case.visual, **case.model}, "loss": {**case.loss}, "corpus": {**case.corpus}}
    own = case.weights or dict.fromkeys(kind.default_terms(kind.Config()), 1.0)
    further = ["signcl"] if "signcl" in kind.terms else []
    if check in ("terms", "saved", "half"):
        further += OF_ANY_SYSTEM
        values["loss"] |= WORDS
    values["loss"]["weights"] = {**own, **dict.fromkeys(further, 1.0)}
    for pixels, root in corpora.items():  # it is written once for all
        (tmp_path / ("pictures" if pixels else "features")).symlink_to(root)
    assert check_system(case.name, values, checks=[check], folder=tmp_path) == [check]


@pytest.mark.parametrize("name", system_names())
def test_a_system_says_what_it_is_and_every_number_of_it_has_bounds(name):
    kind = system_class(name)
    assert kind.title
    assert kind.needs
    assert kind.label
    assert numbers_without_bounds(kind.Config) == []
    assert kind.Config().name == name
