"""Several answers from one search, for every system that answers sentences: the first is the answer, each has the
probability that teacher forcing gives it."""

import dataclasses
import math

import pytest
import torch
from systems import CASES, batch_of, built, recipe_of

from signcl.cli import main
from signcl.systems import Decode, system_class
from signcl.systems.base import System
from signcl.systems.parts.written import sentence_log_probs
from signcl.testing import shaken

FIRST = {case.name: case for case in reversed(CASES) if system_class(case.name).answers == "sentences"}
DECODE = Decode(beams=3, length_penalty=1.0, max_new_tokens=6)


@pytest.mark.parametrize("case", FIRST.values(), ids=str)
def test_every_system_that_writes_gives_several_answers(case, corpora, tmp_path):
    recipe = recipe_of(case, corpora, tmp_path / "run")
    model, material = built(recipe)
    shaken(model).eval()
    batch, pad_id = batch_of(material, recipe, [0, 1]), material.tokenizer.pad_id
    alone, several = model.answer_scored(batch, DECODE), model.answer_ranked(batch, DECODE, 3)
    assert [answers[0].text for answers in several] == [one.text for one in alone]
    for answers, one in zip(several, alone):
        assert 2 <= len(answers) <= 3
        assert answers[0].log_prob == pytest.approx(one.log_prob, abs=1e-4)
        assert all(math.isfinite(answer.log_prob) and answer.tokens <= 6 for answer in answers)
        assert all(torch.equal(answer.features, one.features) for answer in answers)
    greedy = model.answer_ranked(batch, dataclasses.replace(DECODE, beams=1), 3)
    assert [len(answers) for answers in greedy] == [1] * len(batch.names)
    # each clip keeps its own rows: teacher forcing on the clips one by one agrees with the search
    with torch.no_grad():
        found = model.generate_scored(batch, num_beams=3, length_penalty=1.0, max_new_tokens=6, most=3)
        for rank in range(3):
            ids = found.ids[rank::3]
            outputs = model(dataclasses.replace(batch, tokens=ids, token_lengths=(ids != pad_id).sum(dim=1)))
            forced, counts = sentence_log_probs(outputs.logits, ids, pad_id)
            there = torch.isfinite(found.log_probs[rank::3])
            torch.testing.assert_close(found.log_probs[rank::3][there], forced[there], atol=1e-3, rtol=0)
            assert torch.equal(found.counts[rank::3][there], counts[there])


def test_a_plugin_whose_search_keeps_only_the_best_gives_one_answer(corpora, tmp_path):
    kind = system_class("slt")

    class Best(kind):
        def generate(self, batch, *, num_beams, length_penalty, max_new_tokens):
            return super().generate(batch, num_beams=1, length_penalty=length_penalty, max_new_tokens=max_new_tokens)

        def generate_scored(self, batch, *, num_beams, length_penalty, max_new_tokens):
            return System.generate_scored(
                self, batch, num_beams=num_beams, length_penalty=length_penalty, max_new_tokens=max_new_tokens
            )

    recipe = recipe_of(FIRST["slt"], corpora, tmp_path / "run")
    model, material = built(recipe)
    model.__class__ = Best
    assert [len(one) for one in model.eval().answer_ranked(batch_of(material, recipe, [0, 1]), DECODE, 3)] == [1, 1]


def test_the_command_gives_alternatives_only_where_they_fit(tmp_path, capsys):
    assert main(["translate", str(tmp_path), "clip.mp4", "--alternatives=2"]) == 2
    assert "add --json, leave out -o" in capsys.readouterr().err
