"""The grid of beams and length penalties: equal to `evaluate` for each pair; only dev chooses."""

import json

import pytest
from test_gaslt import recipe as gaslt_recipe
from test_slt import recipe, write_corpus

from signcl import evaluate, fit
from signcl.cli import main
from signcl.cli.tables import grid_table
from signcl.evaluation.grid import evaluate_grid, search_grid
from signcl.evaluation.scoring import read_predictions
from signcl.training import runs

BEAMS, ALPHAS = (1, 3), (-1.0, 0.0, 5.0)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A GASLT that has learned a little, so that the search has something to decide."""
    top = tmp_path_factory.mktemp("grid")
    corpus = write_corpus(top / "corpus", {"train": 24, "dev": 8, "test": 4})
    return fit(gaslt_recipe(corpus, top / "run", epochs=4, evaluate_every=4, lr=2e-3), progress=False)


def test_every_pair_is_what_evaluate_gives_and_the_best_goes_to_test(run):
    scores = evaluate_grid(run, "test", bootstrap=0, beams=BEAMS, alphas=ALPHAS, progress=False)
    grid = scores["grid"]
    assert (grid["split"], grid["clips"], grid["beams"]) == ("dev", 8, [1, 3])
    for width, row in zip(BEAMS, grid["bleu4"]):
        for alpha, value in zip(ALPHAS, row):
            alone = evaluate(run, "dev", beams=width, length_penalty=alpha, bootstrap=0, progress=False)
            assert value == pytest.approx(alone["bleu4"])
    assert len({value for row in grid["bleu4"] for value in row}) > 1, "a grid of one value decides nothing"
    assert grid["best"]["bleu4"] == max(value for row in grid["bleu4"] for value in row)
    assert scores["made"]["beams"] == grid["best"]["beams"]
    assert scores["made"]["length_penalty"] == grid["best"]["length_penalty"]
    kept = json.loads((run / "scores.json").read_text())
    assert kept["test"]["grid"] == grid
    assert set(kept) == {"test", "dev"}
    said = read_predictions(run / "predictions.test.tsv")
    best = {"beams": grid["best"]["beams"], "length_penalty": grid["best"]["length_penalty"]}
    evaluate(run, "test", bootstrap=0, progress=False, **best)
    assert read_predictions(run / "predictions.test.tsv") == said


def test_of_equal_pairs_the_cheapest_is_taken_and_shown():
    grid = {"split": "dev", "beams": [1, 2], "length_penalties": [-1.0, 2.0], "bleu4": [[3.0, 4.0], [4.0, 1.0]],
            "best": {"beams": 1, "length_penalty": 2.0, "bleu4": 4.0}}  # fmt: skip
    text = grid_table(grid)
    assert text.count("[") == 1
    assert "[4.00]" in text.splitlines()[2]
    assert "alpha -1" in text.splitlines()[0]


def test_the_command_line_searches_the_published_grid(run, capsys):
    assert main(["evaluate", str(run), "--grid", "--bootstrap", "0", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "dev BLEU-4: beams" in out
    assert "alpha 5" in out
    assert "BLEU-1" in out
    grid = json.loads((run / "scores.json").read_text())["test"]["grid"]
    assert (grid["beams"], grid["length_penalties"]) == (list(range(1, 11)), [-1, 0, 1, 2, 3, 4, 5])
    first = next((i, j) for i, row in enumerate(grid["bleu4"]) for j, v in enumerate(row) if v == grid["best"]["bleu4"])
    chosen = grid["best"]["beams"], grid["best"]["length_penalty"]
    assert (grid["beams"][first[0]], grid["length_penalties"][first[1]]) == chosen
    assert main(["evaluate", str(run), "--grid", "--beams", "3"]) == 2
    assert "leave out either --grid or those two" in capsys.readouterr().err


def test_the_grid_is_for_systems_with_its_penalty(run, tmp_path):
    corpus = runs.load_run(run).recipe.corpus.root
    weights, model = {"translation": 1.0}, {"conv_width": 32}
    other = fit(recipe(corpus, tmp_path / "gfslt", "gfslt", weights=weights, model=model, max_steps=1), progress=False)
    with pytest.raises(ValueError, match="is a run of gfslt; the grid is only for slt and gaslt"):
        search_grid(runs.load_run(other), progress=False)
