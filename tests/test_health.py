"""Health warnings about scores: given when they apply, and only then."""

import json
from pathlib import Path

import pytest

from signcl.cli.tables import comparison_table, scores_table
from signcl.evaluation.comparison import compare
from signcl.evaluation.health import equal_outputs, health
from signcl.evaluation.scoring import run_health
from signcl.training.recipe import load_recipe, save_recipe

REFERENCES = [
    f"tomorrow {word} in the {place}"
    for word in ("rain", "sun", "wind", "snow")
    for place in ("north", "south", "west")
]
GOOD = [line.replace("rain", "sun") for line in REFERENCES]
CARD = {"steps": 5000}


def names(found) -> list[str]:
    return [finding.name for finding in found]


def test_a_healthy_run_has_no_finding():
    scores = {
        "bleu4": 20.0,
        "counts": {"hypothesis_tokens": 60, "reference_tokens": 60, "empty_hypotheses": 0, "sentences": 12},
        "seen_in_training": {"percent": 3.0},
        "made": {"trained_on_this_split": False, "skipped": {}},
    }
    density = {"sdr": 60.0, "shuffled": 101.0}
    assert health(CARD, scores, dev={"bleu4": 22.0}, density=density, answers=GOOD, references=REFERENCES) == []


@pytest.mark.parametrize(
    ("given", "name", "empty", "words"),
    [
        ({"answers": ["the ."] * 12}, "identical_answers", True, "100 % of the answers are the same sentence, 'the .'"),
        ({"answers": ["the ."] * 7 + GOOD[:5]}, "identical_answers", True, "58 % of the answers"),
        ({"density": {"sdr": 100.5, "shuffled": 102.5}}, "sdr_shuffled", True, "do not distinguish signs"),
        ({"scores": {"bleu4": 4.0}, "dev": {"bleu4": 20.0}}, "dev_above_test", False, "20.00 on dev and 4.00 here"),
        (
            {"scores": {"seen_in_training": {"percent": 80.0}, "unseen": {"bleu4": 3.0}}},
            "seen_in_training",
            False,
            "BLEU-4 is 3.00 on the others",
        ),
        ({"scores": {"made": {"trained_on_this_split": True}}}, "trained_on_split", False, "trained on this split"),
        ({"scores": {"made": {"skipped": {"a": "cut"}}}}, "skipped_clips", False, "1 clips could not be read"),
        ({"scores": {"counts": {"empty_hypotheses": 2, "sentences": 12}}}, "empty_answers", False, "2 of 12"),
        ({"scores": {"counts": {"hypothesis_tokens": 18, "reference_tokens": 60}}}, "lengths", False, "0.30 times"),
        ({"card": {"steps": 24}}, "few_steps", False, "24 steps"),
    ],
)
def test_each_thing_is_found(given, name, empty, words):
    found = health(given.pop("card", CARD), given.pop("scores", None), references=REFERENCES, **given)
    assert names(found) == [name]
    assert found[0].empty == empty
    assert words in found[0].text


def test_few_different_answers_to_many_clips():
    references = [f"{line} on day {day}" for day in range(20) for line in REFERENCES]
    answers = [REFERENCES[i % 4] for i in range(len(references))]
    assert names(health(CARD, answers=answers, references=references)) == ["few_answers"]


def test_what_is_no_fault_is_not_said():
    # a corpus that itself has one sentence most of the time, or single signs of few glosses
    assert health(CARD, answers=["no rain"] * 9 + ["rain"], references=["no rain"] * 8 + ["rain"] * 2) == []
    glosses = [f"g{i % 4}" for i in range(200)]
    assert health(CARD, answers=glosses, references=glosses) == []
    assert health(CARD, answers=["the ."] * 3, references=REFERENCES[:3]) == []  # too few to say
    assert health(CARD, {"bleu4": 19.0}, dev={"bleu4": 23.0}) == []
    assert health({}, density={"sdr": 70.0, "shuffled": 100.0}) == []


def write_run(folder: Path, answers: list[str]) -> Path:
    folder.mkdir()
    save_recipe(load_recipe("synthetic/finetune"), folder / "recipe.yaml")
    rows = "".join(f"c{i}\t{r}\t{a}\n" for i, (r, a) in enumerate(zip(REFERENCES, answers)))
    (folder / "predictions.test.tsv").write_text(f"name\treference\thypothesis\n{rows}")
    (folder / "card.json").write_text(json.dumps({"steps": 30}))
    (folder / "scores.json").write_text(json.dumps({"test": {"bleu4": 1.0}, "dev": {"bleu4": 30.0}}))
    numbers = {"sdr": 101.0, "shuffled": 102.0, "intra": 1.0, "inter": 1.0, "feature_norm": 9.0, "interval": [99, 103]}
    counts = {"instances": 40, "glosses": 9, "glosses_left_out": 0}
    made = {"frame": "centre", "tap": "features", "distance": "euclidean"}
    (folder / "density.test.json").write_text(json.dumps(numbers | counts | {"made": made}))
    return folder


def test_it_is_read_from_a_run_folder(tmp_path):
    found = run_health(write_run(tmp_path / "run", ["the ."] * 12))
    assert set(names(found)) == {"identical_answers", "sdr_shuffled", "dev_above_test", "few_steps"}
    assert names(run_health(tmp_path / "run", "dev")) == ["few_steps"]


def test_equal_outputs_are_called_so(tmp_path):
    a, b = write_run(tmp_path / "a", GOOD), write_run(tmp_path / "b", GOOD)
    assert "outputs identical" in comparison_table(compare(a, b, samples=20))
    c = write_run(tmp_path / "c", [*GOOD[:-1], "something else"])
    assert "outputs identical" not in comparison_table(compare(a, c, samples=20))
    assert not equal_outputs([], [])


def test_it_stands_under_the_scores():
    from signcl.metrics import score_all

    scores = score_all(GOOD, REFERENCES, samples=0) | {"made": {"split": "test", "clips": 12, "skipped": {}}}
    assert "these numbers" not in scores_table(scores)
    scores["health"] = [{"name": "few_steps", "text": "trained for 24 steps", "empty": False}]
    assert scores_table(scores).endswith("before you use these numbers:\n  - trained for 24 steps")
    scores["health"][0]["empty"] = True
    assert "these numbers show no learning:" in scores_table(scores)
