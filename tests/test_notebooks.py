"""The notebooks run, and the outputs that they show are what their code gives."""

import re
from pathlib import Path

import pytest
from notebook_cells import outputs, read_cells

NOTEBOOKS = sorted((Path(__file__).parents[1] / "docs" / "notebooks").glob("*.ipynb"))
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")


def printed(results: list[dict]) -> str:
    return "".join("".join(output.get("text", "")) for output in results)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_what_it_gives(path):
    stored = [cell["outputs"] for cell in read_cells(path) if cell["cell_type"] == "code"]
    given = outputs(path)
    assert [[output["output_type"] for output in cell] for cell in given] == [
        [output["output_type"] for output in cell] for cell in stored
    ]
    shown, said = ("\n".join(map(printed, cells)) for cells in (stored, given))
    assert NUMBER.sub("#", said) == NUMBER.sub("#", shown)
    # 40 steps of training are not equal to the last digit on another processor
    assert [float(n) for n in NUMBER.findall(said)] == pytest.approx(
        [float(n) for n in NUMBER.findall(shown)], rel=0.05, abs=0.02
    )


def test_both_are_there():
    assert [path.stem for path in NOTEBOOKS] == ["density-of-your-features", "signcl-in-your-model"]
