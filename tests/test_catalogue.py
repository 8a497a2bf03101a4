"""`signcl systems`: every system, with sizes that are those of the models themselves."""

import json

import pytest

from signcl.cli import main
from signcl.systems import system_names
from signcl.training.catalogue import count_sizes, list_systems
from signcl.training.recipe import shipped_recipes


def test_every_system_is_listed_with_a_recipe_for_the_cpu_and_one_for_the_paper(capsys):
    assert main(["systems", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["system"] for row in rows] == system_names()
    for row in rows:
        assert row["needs"], f"{row['system']} does not say what it needs"
        assert row["taps"][0] == "features"
        assert "signcl" in row["terms"] or row["system"] == "classifier"  # one sign a clip: nothing to keep apart
        assert row["sizes"].keys() == {"small", "paper"}, f"{row['system']} lacks a recipe"
        for size in row["sizes"].values():
            assert (shipped_recipes() / size["recipe"]).is_file()
            assert size["parameters"] or size["reason"]


def test_the_kept_counts_are_those_of_the_models():
    kept = json.loads((shipped_recipes() / "sizes.json").read_text())
    assert kept == count_sizes(), "run python -m signcl.training.catalogue"


def test_the_published_count_comes_out_of_the_shipped_recipe():
    (row,) = list_systems(["gfslt"])
    assert row["sizes"]["paper"]["parameters"] == 115_412_544  # official finetuning log


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("slt", 25_559_552),
        ("gaslt", 17_889_296),
        ("recogniser", 10_541_631),
        ("smkd", 21_582_848 + 11_176_512),
        ("cnn_ctc", 3_738_687 + 11_176_512),
    ],
)
def test_the_list_gives_the_sizes_that_the_pages_give(name, parameters):
    (row,) = list_systems([name])
    assert row["sizes"]["paper"]["parameters"] == parameters


def test_one_system_tells_more_and_an_unknown_one_names_the_nearest(capsys):
    assert main(["systems", "slt"]) == 0
    said = capsys.readouterr().out
    assert "Source: Camgoz et al. 2020" in said
    assert "phoenix14t/joint-slt.yaml" in said
    assert main(["systems", "gfstl"]) == 2
    assert "did you mean gfslt?" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["synthetic/finetune.yaml"])
def test_shipped_recipes_are_found(name):
    assert (shipped_recipes() / name).is_file()
