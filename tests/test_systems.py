"""What every system owes its users: SignCL by recipe alone, lengths honoured, saved and loaded, bf16.

The table of systems is tests/systems.py. What only one system owes stands in its own test file.
"""

from dataclasses import replace
from pathlib import Path

import torch
from systems import ALL, CASES, CONTRASTED, batch_of, built, recipe_of, shaken

from signcl.data.loading import recipe_samples
from signcl.density import sign_density_ratio
from signcl.inference.run_density import sign_instances
from signcl.losses import frame_distances
from signcl.systems.terms import compute_terms, weighted_sum
from signcl.training import fit, run_folder
from signcl.training.recipe import SYSTEMS, Recipe


def test_every_system_has_a_row():
    assert {case.name for case in CASES} == set(SYSTEMS)


def density(run: run_folder.Run) -> float:
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
    terms = compute_terms(out, batch, recipe.loss, pad_id=material.tokenizer.pad_id)
    assert terms.keys() == recipe.loss.weights.keys()
    assert all(torch.isfinite(value) for value in terms.values())
    for name, term in terms.items():
        if name == "masked_text":  # sees text alone, in the published design too
            continue
        model.zero_grad()
        term.backward(retain_graph=True)
        reached = [p.grad for p in model.visual.parameters() if p.requires_grad and p.grad is not None]
        assert sum(float(g.abs().sum()) for g in reached) > 0, f"{name} stops before the frame encoder"

    # the margin that a user would set: between near and far frames as they are now
    apart = frame_distances(out.features.detach(), out.lengths, 2.0)
    recipe.loss.signcl.distance_margin = 2 * float(apart.far)
    recipe.loss.weights = {name: 0.1 * value for name, value in recipe.loss.weights.items()} | {"signcl": 1.0}
    first = fit(replace_steps(recipe, tmp_path / "before", lr=1e-12), progress=False)
    last = fit(recipe, progress=False)
    before, after = density(run_folder.load_run(first)), density(run_folder.load_run(last))
    assert after < before, f"SDR of the training clips rose from {100 * before:.1f} to {100 * after:.1f}"


def replace_steps(recipe: Recipe, out: Path, lr: float) -> Recipe:
    """The same run with steps too small to change anything."""
    return replace(recipe, out=str(out), train=replace(recipe.train, lr=lr, weight_decay=0.0))


@ALL
def test_a_clip_alone_gives_what_it_gives_in_a_padded_batch(case, corpora, tmp_path):
    recipe = recipe_of(case, corpora, tmp_path / "run")
    model, material = built(recipe)
    shaken(model).eval()
    together = batch_of(material, recipe, [0, 1, 2, 3])
    assert len(set(together.lengths.tolist())) > 1
    with torch.no_grad():
        out = model(together)
        for row in range(4):
            alone = batch_of(material, recipe, [row])
            single = model(alone)
            for tap in model.TAPS:
                whole, part = model.tapped(together, tap), model.tapped(alone, tap)
                length = int(whole.lengths[row])
                assert int(part.lengths[0]) == length
                torch.testing.assert_close(whole.rows[row, :length], part.rows[0, :length], atol=1e-4, rtol=0)
            steps = model.step_lengths(together.lengths)
            assert torch.equal(model.step_lengths(alone.lengths)[0], steps[row])
            for name, value in vars(single).items():
                if isinstance(value, torch.Tensor) and value.ndim and value.is_floating_point():
                    other = getattr(out, name)[row]
                    cut = tuple(slice(0, size) for size in value[0].shape)
                    torch.testing.assert_close(
                        other[cut], value[0], atol=1e-4, rtol=0, msg=lambda m, n=name: f"{n}: {m}"
                    )


@ALL
def test_a_saved_and_loaded_model_is_the_same(case, corpora, tmp_path):
    recipe = recipe_of(case, corpora, tmp_path / "run")
    model, material = built(recipe)
    shaken(model).eval()
    run_folder.save_run_start(tmp_path / "run", recipe, material.tokenizer, material.glosses, material.targets)
    run_folder.save_weights(tmp_path / "run", model)
    run_folder.save_card(tmp_path / "run", {"feature_dim": material.feature_dim})
    torch.manual_seed(9)
    run = run_folder.load_run(tmp_path / "run")
    batch = batch_of(material, recipe, [0, 1])
    with torch.no_grad():
        before, after = model(batch), run.model(batch)
    for name, value in vars(before).items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, getattr(after, name)), name


@ALL
def test_bf16_trains_and_stays_near(case, corpora, tmp_path):
    recipe = recipe_of(case, corpora, tmp_path / "run")
    model, material = built(recipe)
    batch = batch_of(material, recipe, [0, 1, 2, 3])
    model.eval()  # nothing drawn
    totals = []
    for half in (False, True):
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            terms = compute_terms(model(batch), batch, recipe.loss, pad_id=material.tokenizer.pad_id)
            totals.append(weighted_sum(terms, recipe.loss.weights))
    totals[1].backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    torch.testing.assert_close(totals[1], totals[0], rtol=0.05, atol=0.05)
