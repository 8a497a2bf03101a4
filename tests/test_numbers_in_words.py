"""Numbers in README, findings and recipe comments are the same as in the tables that commands wrote."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NUMBER = r"[+-]?\d+\.\d\d"
SAID = re.compile(rf"{NUMBER} to {NUMBER}|{NUMBER} ± {NUMBER}")
PAGES = ("README.md", "docs/findings.md", "docs/findings-tables.md", "paper/HEAD.md")
TEXTS = (*PAGES, "recipes/synthetic/best.yaml", "recipes/imu_numbers/best.yaml")
NOT_OURS = {"+0.91 to +1.49", "21.97 ± 0.27", "22.35 ± 0.28", "10.41 ± 0.17", "11.22 ± 0.18"}
"""Numbers of other people, quoted as such; the first is the paper's range of gains."""


def numbers(text: str) -> set[str]:
    """Intervals and means with their spread, wherever lines are broken."""
    return set(SAID.findall(re.sub(r"\s*\n#?\s*", " ", text)))


@pytest.mark.parametrize("name", TEXTS)
def test_every_interval_and_spread_is_of_a_table(name):
    written = [*(ROOT / "paper" / "results").glob("*/*.md"), ROOT / "paper" / "density_effect.md"]
    tables = "\n".join(path.read_text(encoding="utf-8") for path in written)
    said = numbers((ROOT / name).read_text(encoding="utf-8")) - NOT_OURS
    assert said, "the pattern finds nothing: this test would always pass"
    assert sorted(said - numbers(tables)) == []


def test_a_stale_number_is_found():
    assert numbers("over none +3.67 (+0.70 to\n# +6.49), 27.14 ± 1.58; 2 to 3") == {"+0.70 to +6.49", "27.14 ± 1.58"}
