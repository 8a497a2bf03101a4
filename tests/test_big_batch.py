"""Accumulated batches are one big batch: each term is weighed by what it counts, not batch by batch.

Batch norm would see each batch by itself, so the norms here are frozen; there is no dropout, which draws per batch.
"""

import pytest
import torch
from systems import Case, recipe_of

from signcl.data.batch import Batch
from signcl.systems.terms import LossRecipe, Term, TermContext, as_term, term_counts
from signcl.training.loop import Loop

SLT = {"freeze": ["visual.standardize", "encoder.embedding.norm", "decoder.embedding.norm"]}
GFSLT = {"freeze": ["visual.standardize", "conv.norm1", "conv.norm2", "sign_emb.norm"]}
CASES = {
    "slt": Case("slt", SLT, {"translation": 1.0, "recognition": 1.0}),
    "gfslt": Case("gfslt", GFSLT, {"translation": 1.0}),
}


def trained(case, corpora, folder, groups, **train):
    """Weights and the logged losses after three steps on these groups of clips."""
    torch.manual_seed(0)
    recipe = recipe_of(case, corpora, folder, optimizer="sgd", lr=0.01, clip_norm=None, **train)
    loop = Loop(recipe, folder, None, progress=False)
    logged = []
    loop._log = lambda seen, *_: logged.append({name: float(value) for name, value in seen.items()})
    for _ in range(3):
        loop._train_step([loop.material.train[group].batch for group in groups])
        loop.step += 1
    return {name: value.clone() for name, value in loop.model.state_dict().items()}, logged


@pytest.mark.parametrize("name", CASES)
def test_accumulated_batches_are_one_big_batch(name, corpora, tmp_path):
    clips = [0, 1, 2, 3, 4, 5]
    whole, logged = trained(CASES[name], corpora, tmp_path / "a", [clips])
    parts, logged_too = trained(CASES[name], corpora, tmp_path / "b", [clips[:1], clips[1:3], clips[3:]])
    for key, value in whole.items():
        torch.testing.assert_close(parts[key], value, rtol=1e-5, atol=3e-5)  # sums in another order, three steps
    assert logged[0].keys() >= {"loss", "signcl", "translation"}
    for key, value in logged[0].items():
        assert logged_too[0][key] == pytest.approx(value, rel=1e-5), key


def batch(**values):
    given = {"lengths": torch.tensor([9, 5]), "max_length": 9, "num_words": torch.ones(2)}
    return Batch(["a", "b"], ["", ""], torch.zeros(14, 2), torch.arange(14), **{**given, **values})


def test_a_term_counts_what_its_mean_is_over(corpora, tmp_path):
    terms = recipe_of(CASES["slt"], corpora, tmp_path).terms
    loss = recipe_of(CASES["slt"], corpora, tmp_path).loss
    tokens = torch.tensor([[5, 6, 2], [7, 2, 0]])
    glosses = torch.tensor([[2, 3, 4], [2, 2, 0]])
    made = batch(tokens=tokens, glosses=glosses, gloss_lengths=torch.tensor([3, 2]))
    context = TermContext(loss, 0, step_lengths=lambda lengths: lengths // 2)
    counts = dict(zip(terms, term_counts(made, terms, context).tolist()))
    # five tokens; 4 steps hold three glosses, 2 steps do not hold two equal ones with a blank between; two clips
    assert counts == {"translation": 5, "recognition": 1, "signcl": 2}


def test_a_term_of_a_plugin_counts_clips_unless_it_says_otherwise():
    plain = as_term(lambda outputs, batch: outputs)
    own = Term(lambda outputs, batch: outputs, counts=lambda batch, context: batch.lengths.sum())
    counts = term_counts(batch(), {"plain": plain, "own": own}, TermContext(LossRecipe()))
    assert counts.tolist() == [2, 14]
    with pytest.raises(ValueError, match="counts of a loss term"):
        Term(lambda outputs, batch: outputs, counts=3)
