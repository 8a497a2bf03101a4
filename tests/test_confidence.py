"""How far a translation can be trusted: calibration by hand and against scikit-learn, and what a run says of clips."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from signcl.cli import main
from signcl.inference.confidence import Judge, calibrate, load_judge, quality_of
from signcl.inference.translation import _others, load_model, translate
from signcl.metrics.calibration import (
    calibration_error,
    cross_fitted,
    fit_calibration,
    reliability,
    risk_coverage_area,
)
from signcl.systems import system_class
from signcl.systems.parts.written import Answer
from signcl.testing import tiny_recipe, write_tiny_corpus
from signcl.training.fitting import fit
from signcl.training.recipe import recipe_samples


def test_calibration_error_by_hand():
    # Two bins of two: confidence 0.3 and 0.8, quality 0.5 and 1.0 -> (0.2 + 0.2) / 2.
    confidence, quality = [0.2, 0.4, 0.7, 0.9], [0, 1, 1, 1]
    assert [part.count for part in reliability(confidence, quality, bins=2)] == [2, 2]
    assert calibration_error(confidence, quality, bins=2) == pytest.approx(0.2)
    assert calibration_error([0.25] * 4, [0, 0, 0, 1], bins=1) == 0.0
    assert calibration_error([], []) == 0.0


def test_risk_coverage_by_hand_and_ties_do_not_depend_on_their_order():
    # By confidence: right, wrong, right. Risk of the first k: 0, 1/2, 1/3.
    assert risk_coverage_area([0.9, 0.5, 0.1], [1, 0, 1]) == pytest.approx((0 + 1 / 2 + 1 / 3) / 3)
    assert risk_coverage_area([0.5, 0.5], [1, 0]) == risk_coverage_area([0.5, 0.5], [0, 1]) == 0.5


@pytest.mark.parametrize(("count", "kind"), [(60, "logistic"), (400, "isotonic")])
def test_a_curve_recovers_the_quality_that_scores_stand_for(count, kind):
    random = np.random.default_rng(0)
    scores = random.normal(size=count)
    true = 1 / (1 + np.exp(-2 * scores))
    quality = (random.random(count) < true).astype(float)
    curve = fit_calibration(scores, quality)
    assert curve.kind == kind
    assert np.abs(curve(scores) - true).mean() < (0.15 if count == 60 else 0.1)  # as far as so many draws tell
    assert (np.diff(curve(np.linspace(-5, 5, 50))) >= 0).all()
    assert calibration_error(cross_fitted(scores, quality), quality, bins=5) < 0.12
    again = type(curve)(**json.loads(json.dumps(curve.as_dict())))
    assert np.array_equal(again(scores), curve(scores))


def test_a_graded_quality_is_fitted_as_its_mean():
    scores = np.repeat([-1.0, 1.0], 50)
    quality = np.where(scores > 0, 0.7, 0.2)
    assert fit_calibration(scores, quality)([-1.0, 1.0]) == pytest.approx([0.2, 0.7], abs=0.01)


def test_what_cannot_be_learned_is_not_claimed():
    assert fit_calibration([0.1] * 29, [1.0] * 29) is None
    assert fit_calibration([0.1] * 40, [1.0] * 40) is None  # one score
    assert cross_fitted([0.1] * 29, [1.0] * 29) is None
    against = fit_calibration(
        np.linspace(0, 1, 50), np.linspace(1, 0, 50)
    )  # the most confident are worst: the curve is flat, never falling
    assert np.ptp(against([0.0, 1.0])) == 0
    assert fit_calibration(np.linspace(0, 1, 50), [1.0] * 50)([0.5]) == pytest.approx(0.999)
    with pytest.raises(ValueError, match="numbers from 0 to 1"):
        fit_calibration([0.0], [2.0])
    with pytest.raises(ValueError, match="finite"):
        reliability([float("nan")], [1.0])


def test_quality_is_graded_and_blind_to_how_letters_are_composed():
    assert quality_of(["schön", "a b"], ["schön", "c d"]).tolist() == [1.0, 0.0]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run trained for a second on 8 clips, with 40 clips of dev."""
    folder = tmp_path_factory.mktemp("confidence")
    recipe = tiny_recipe(system_class("slt"), folder, {"train": {"epochs": 3}, "loss": {"weights": {"translation": 1}}})
    root = write_tiny_corpus(folder / "features")
    head, *lines = (root / "dev.tsv").read_text().splitlines()
    random = np.random.default_rng(0)
    more = []
    for number in range(40):
        _, path, *rest = lines[number % 4].split("\t")
        rows = np.load(root / path)
        np.save(root / f"more{number}.npy", rows + random.normal(size=rows.shape).astype(np.float32) * 0.3)
        more.append("\t".join((f"more{number}", f"more{number}.npy", *rest)))
    (root / "dev.tsv").write_text("\n".join([head, *more]) + "\n")
    return fit(replace(recipe, out=str(folder / "run")), progress=False)


def test_a_run_learns_its_confidence_from_dev_and_translate_says_it(run, capsys):
    clip = str(run.parent / "features" / "test0.npy")
    assert main(["translate", str(run), clip, "--json", "--device=cpu"]) == 0
    shown = capsys.readouterr()
    before = json.loads(shown.out)
    assert before["confidence"] is before["out_of_domain"] is None
    assert 0 < before["probability"] <= 1
    assert f"signcl evaluate {run} --split dev" in before["why_no_confidence"]
    assert shown.err == ""

    assert main(["evaluate", str(run), "--split=dev", "--json", "--bootstrap=0", "--device=cpu"]) == 0
    found = json.loads(capsys.readouterr().out)["confidence"]
    assert found["calibration"] | {"search": 0} == {
        "kind": "logistic", "split": "dev", "clips": 40, "search": 0, "cross_fitted": True,
    }  # fmt: skip
    assert 0 <= found["ece"] <= 1
    assert found["risk_coverage"]["best"] <= found["risk_coverage"]["area"]
    assert sum(part["count"] for part in found["bins"]) == 40

    assert main(["evaluate", str(run), "--json", "--bootstrap=0", "--device=cpu"]) == 0
    test = json.loads(capsys.readouterr().out)["confidence"]
    assert not test["calibration"]["cross_fitted"]
    with (run / "confidence.test.tsv").open() as file:
        rows = {row["name"]: row for row in csv.DictReader(file, delimiter="\t")}
    assert main(["translate", str(run), clip, "--json", "--device=cpu"]) == 0
    said = json.loads(capsys.readouterr().out)
    for key in ("probability", "confidence", "distance"):
        assert said[key] == pytest.approx(float(rows["test0"][key]), abs=2e-3)
    assert said["probability"] == before["probability"]
    assert "why_no_confidence" not in said
    assert said["nearest"] == rows["test0"]["nearest"]
    assert main(["translate", str(run), clip, "--device=cpu"]) == 0
    assert capsys.readouterr().out == f"{clip}\t{said['text']}\t{said['confidence']:.2f}\n"
    assert main(["report", str(run)]) == 0
    page = (run / "report.html").read_text()
    assert "Reliability: mean sentence chrF / 100 by confidence" in page
    assert f"<td>{test['ece']:.3f}</td>" in page


def test_clips_unlike_the_training_ones_are_called_so_and_another_search_is_told(run):
    model = load_model(run, device="cpu")
    clip = np.load(run.parent / "features" / "test0.npy")
    like = translate(model, clip)
    assert like.verdict.out_of_domain is False
    assert like.verdict.distance < 1
    assert like.warnings == ()
    unlike = translate(model, clip * -5)
    assert unlike.verdict.out_of_domain
    assert "unlike the training clips" in unlike.warnings[0]
    greedy = translate(model, clip, beams=1)
    assert "calibrated with beams 2, now 1" in " ".join(greedy.warnings)


def test_few_dev_clips_are_not_calibrated_and_stale_or_damaged_files_are_told(run, tmp_path, capsys):
    model = load_model(run, device="cpu")
    samples = recipe_samples(model.run.recipe, "dev")[:4]
    given = {
        s.name: Answer(s.text, -1.0 - i, 3, torch.zeros(model.judge.vectors.shape[1])) for i, s in enumerate(samples)
    }
    place = replace(model.run, folder=tmp_path)
    judge = calibrate(place, samples, given, model.run.recipe.decode, device="cpu", progress=False)
    assert judge.why_not == "not calibrated: 4 clips of dev are too few, 30 are needed"
    assert judge.made["limit_from"] == "train"  # with so few dev clips, the farthest 1 % is no clip
    assert judge(given[samples[0].name]).confidence is None
    again = load_judge(tmp_path)
    assert again.calibration is None
    assert np.array_equal(again.vectors, judge.vectors)
    (tmp_path / "confidence.safetensors").write_bytes(b"cut")
    with pytest.raises(ValueError, match=r"signcl evaluate .* --split dev"):
        load_judge(tmp_path)
    said = json.loads((run / "confidence.json").read_text())
    (tmp_path / "confidence.json").write_text(json.dumps(said))  # learned for weights that this folder does not have
    assert load_judge(tmp_path) is None
    assert "different weights" in capsys.readouterr().err


def test_an_answer_without_probability_has_no_verdict():
    verdict = Judge({}, None)(Answer("words"))
    assert (verdict.probability, verdict.confidence, verdict.out_of_domain, verdict.warning) == (None, None, None, "")


def test_a_system_with_a_search_of_its_own_has_the_probability_of_what_it_wrote(run):
    model = load_model(run, device="cpu")
    parent = type(model.run.model)

    class Silent(parent):
        def generate(self, batch, **options):
            return torch.full((len(batch), 1), self.end_id)

    model.run.model.__class__ = Silent
    found = translate(model, np.load(run.parent / "features" / "test0.npy"))
    assert found.text == ""
    model.run.model.__class__ = parent
    assert (
        found.verdict.probability
        != translate(model, np.load(run.parent / "features" / "test0.npy")).verdict.probability
    )


def test_other_sentences_of_a_search_keep_its_order():
    # By hand: of the two B the better one stays, in its place; the answer itself and an empty sentence are left out.
    ranked = [("A", -1.0), ("B", -2.0), ("C", -3.0), ("B", -4.0), ("", -5.0), ("A", -6.0)]
    answer, *others = (Answer(text, log_prob, tokens=1) for text, log_prob in ranked)
    found = _others(answer, others)
    assert [text for text, _ in found] == ["B", "C"]
    assert found[0][1] > found[1][1]
