"""Runs that come with the package: each answers its clips as it did when it was made, and none is ever written to."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

import signcl
from signcl.cli import main
from signcl.cli.demo import demo_text
from signcl.data import progress
from signcl.evaluation.scoring import evaluate
from signcl.evaluation.shipping import SHIPMENTS
from signcl.inference.translation import load_model, translate
from signcl.training.recipe import load_recipe, recipe_path, recipe_samples, recipe_to_dict
from signcl.training.run_folder import check_run_folder
from signcl.training.shipped_runs import SHIPPED, sample_clips, shipped_path, shipped_runs

FILES = sorted(path for path in SHIPPED.rglob("*") if path.is_file())


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch) -> Path:
    """A cache folder for this file; what is shipped must be as it was afterwards."""
    place = tmp_path_factory.getbasetemp() / "shipped-cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(place))
    before = {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in FILES}
    yield place
    assert {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in FILES} == before
    assert sorted(path for path in SHIPPED.rglob("*") if path.is_file()) == FILES


def mistake(capsys, *words: str) -> str:
    assert main(list(words)) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_every_shipment_is_there_and_small():
    assert shipped_runs() == tuple(sorted(SHIPMENTS))
    assert sum(path.stat().st_size for path in FILES) < 6e6
    assert sum(path.stat().st_size for path in FILES if path.parent.name == "samples") < 300e3


@pytest.mark.parametrize("name", SHIPMENTS)
def test_a_shipped_run_answers_its_clips_as_it_did_when_it_was_made(name):
    model = load_model(f"demo:{name}", device="cpu")
    clips = sample_clips(name)
    assert len(clips) == SHIPMENTS[name].samples
    for clip in clips:
        assert clip.answer == clip.reference
        assert translate(model, f"demo:{name}/{clip.name}").text == clip.answer
    if not clips:  # at least it speaks
        silence = np.zeros((60, model.run.feature_dim), dtype=np.float32)
        assert translate(model, silence).text


def test_the_number_signs_are_read_from_raw_readings(real_data):
    model = load_model("demo:numbers", device="cpu")
    samples = recipe_samples(model.run.recipe, "test", real_data / "imu-number-signs")[::15]
    right = [translate(model, sample.features).text == sample.text for sample in samples]
    assert sum(right) >= 0.8 * len(right)  # its card: nine of ten


@pytest.mark.parametrize("name", SHIPMENTS)
def test_a_shipped_run_says_how_it_was_made(name):
    folder, plan = SHIPPED / name, SHIPMENTS[name]
    card = (folder / "README.md").read_text(encoding="utf-8")
    scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))["test"]
    assert plan.data in card
    assert f"BLEU-4 {scores['bleu4']:.2f}" in card
    assert scores["bleu4"] > 30, "it has learned something"
    assert not scores["made"]["trained_on_this_split"]
    made, written = recipe_to_dict(load_recipe(folder)), recipe_to_dict(load_recipe(recipe_path(plan.recipe)))
    assert made == written, "the recipe in the package makes this run"
    for path in folder.glob("*.*"):
        if path.suffix in (".json", ".yaml", ".md", ".tsv", ".jsonl"):
            assert not re.search(r"/(work|tmp|home|root|Users)/", path.read_text(encoding="utf-8")), path


def test_what_is_written_into_a_shipped_run_goes_into_a_copy(cache, capsys):
    assert main(["report", "demo:synthetic"]) == 0
    page = Path(capsys.readouterr().out.strip())
    assert page.is_relative_to(cache)
    assert "demo" in page.parts
    folder = page.parent
    (folder / "scores.json").write_text("{}")  # as if scored anew
    (folder / "model.safetensors").write_bytes(b"damaged")
    assert check_run_folder("demo:synthetic") == folder
    assert page.is_file()
    assert (folder / "scores.json").read_text() == "{}"
    assert signcl.load_model("demo:synthetic").run.folder == folder  # weights are whole again


def test_scores_of_a_shipped_run_stay_out_of_the_package(cache, real_data):
    root = str(real_data / "imu-number-signs")
    scores = evaluate("demo:numbers", "dev", root=root, bootstrap=0, progress=False)
    assert scores["bleu4"] > 80
    assert list(cache.rglob("predictions.dev.tsv"))


def test_a_cache_that_cannot_be_written_does_not_stop_a_translation(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert main(["translate", "demo:synthetic", "demo:synthetic/clip-1"]) == 0
    out, err = capsys.readouterr()
    assert out.split("\t")[:2] == ["demo:synthetic/clip-1", sample_clips("synthetic")[0].answer]
    assert "cannot be written" in err


def test_an_unknown_demo_names_those_that_exist(capsys):
    for words in (["translate", "demo:nothing", "x"], ["evaluate", "demo:nothing"], ["explore", "demo:nothing"],
                  ["compare", "demo:synthetic", "demo:nothing"], ["serve", "demo:nothing"],
                  ["subtitle", "x.mp4", "--run", "demo:nothing", "--segments", "x.srt", "-o", "y.srt"]):  # fmt: skip
        said = mistake(capsys, *words)
        assert all(f"demo:{name}" in said for name in shipped_runs())
    assert "did you mean demo:numbers" in mistake(capsys, "density", "demo:number")
    said = mistake(capsys, "translate", "demo:synthetic", "demo:synthetic/clip-9")
    assert "demo:synthetic/clip-1, demo:synthetic/clip-2" in said
    assert "signcl recipes list shipped" in mistake(capsys, "fit", "demo:synthetic")
    assert "may not be redistributed" in mistake(capsys, "translate", "demo:numbers", "demo:numbers/clip-1")


def test_a_folder_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("demo:synthetic").mkdir()
    assert shipped_path("demo:synthetic") == Path("demo:synthetic")
    assert shipped_path("runs/demo") == Path("runs/demo")


def test_sample_clips_can_be_copied(tmp_path, capsys):
    assert main(["demo", "--clips", str(tmp_path / "clips"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found) == sum(plan.samples for plan in SHIPMENTS.values())
    assert all(Path(row["clip"]).is_file() for row in found)


def test_progress_in_a_log_file_says_what_is_left(monkeypatch, capsys):
    clock = iter(range(0, 10_000, 5))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    with progress.track("training", total=100, done=20) as bar:
        for _ in range(80):
            bar.advance()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "training: 22 of 100, about 6 minutes left"  # 5 s a step, 78 steps: 390 s
    assert 5 < len(lines) < 12
    assert all(map(progress.is_progress, lines))
    assert not progress.is_progress("epoch 3  bleu4 1.5")


def test_the_pace_is_not_that_of_two_processes_that_begin_at_once(monkeypatch, capsys):
    clock = iter([0.0, 20.0, 20.01, 30.0, 40.0])  # start; both first steps; then 10 s a step
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with progress.track("training", total=10) as bar:
        for _ in range(4):
            bar.advance()
    # by hand: 2 steps in the 10 s after the first, 7 are left
    assert capsys.readouterr().err.splitlines()[0] == "training: 3 of 10, about 35 seconds left"


def test_a_demo_that_has_learned_nothing_compares_nothing():
    row = {"sdr": 117.0, **dict.fromkeys(("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l"), 0.0), "train_seconds": 9.0}
    found = {
        "first": {"clip": "clip-1", "signed": "you sleep .", "translated": "you sleep .", "picture": "a.png"},
        "systems": [{"system": f"{arm} SignCL", "run": arm, **row} for arm in ("without", "with")],
        "comparison": [{"metric": "bleu4", "a": 0.0, "b": 0.0, "difference": 0.0, "low": 0.0, "high": 0.0,
                        "p_value": 1.0}],
        "health": {"with SignCL": [{"name": "identical_answers", "text": "all the same", "empty": True}]},
        "seconds": 1.0, "report": "report.html", "quick": False,
    }  # fmt: skip
    for quick in (False, True):
        said = demo_text({**found, "quick": quick})
        assert "noise" in said
        assert "B - A" not in said
        assert "better" not in said
    learned = demo_text({**found, "health": {}})
    assert "B - A" in learned
    assert "noise" not in learned
