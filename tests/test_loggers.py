"""Loggers: each gets what metrics.jsonl gets, a resumed run continues its log, a missing package is one line."""

import json
from pathlib import Path

import pytest
from systems import CASES, recipe_of

from signcl.cli import main
from signcl.training import fit
from signcl.training.loggers import IDS, PACKAGES
from signcl.training.recipe import load_recipe
from signcl.training.record import Record, read_record

GFSLT = next(case for case in CASES if case.name == "gfslt")


def trained(corpora, folder: Path, epochs: int, logger: list[str]) -> Path:
    recipe = recipe_of(GFSLT, corpora, folder, epochs=epochs, evaluate_every=1)
    recipe.logger = logger
    return fit(recipe, progress=False)


def test_tensorboard_has_the_same_values(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    record = Record(tmp_path, 0)
    record.log("dev", 5, 1, {"bleu4": 12.5})
    record.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("dev/bleu4")] == [(5, 12.5)]
    assert read_record(tmp_path) == [{"kind": "dev", "step": 5, "epoch": 1, "bleu4": 12.5}]
    Record(tmp_path, 0, []).close()
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"], "of an earlier run, nothing stays"


def test_a_missing_package_and_a_wrong_name_are_one_line(corpora, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(PACKAGES, "wandb", "wandb_not_here")
    with pytest.raises(ValueError, match=r"wandb needs the package wandb_not_here; pip install 'signcl\[wandb\]'"):
        trained(corpora, tmp_path / "run", 1, ["tensorboard", "wandb"])
    assert not (tmp_path / "run").exists()
    assert main(["fit", "synthetic/finetune", "--logger=[wandbb]"]) == 2
    assert "did you mean wandb" in capsys.readouterr().err
    assert load_recipe("synthetic/finetune").logger == ["tensorboard"]


def test_mlflow_goes_on_in_the_same_run(corpora, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path}/mlruns")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    folder = trained(corpora, tmp_path / "run", 1, ["mlflow"])
    trained(corpora, tmp_path / "run", 2, ["mlflow"])
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("signcl")
    (run,) = client.search_runs([experiment.experiment_id])
    assert json.loads((folder / IDS).read_text()) == {"mlflow": run.info.run_id}
    assert (run.info.run_name, run.info.status) == ("run", "FINISHED")
    assert run.data.params["train.seed"] == "0"
    found = [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "dev/bleu4")]
    assert found == [(line["step"], line["bleu4"]) for line in read_record(folder) if line["kind"] == "dev"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(ValueError, match="logger: mlflow cannot start"):
        trained(corpora, tmp_path / "other", 1, ["mlflow"])


def test_wandb_offline_goes_on_in_the_same_run(corpora, tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    folder = trained(corpora, tmp_path / "run", 1, ["wandb"])
    first = json.loads((folder / IDS).read_text())["wandb"]
    trained(corpora, tmp_path / "run", 2, ["wandb"])
    wandb.teardown()
    assert json.loads((folder / IDS).read_text()) == {"wandb": first}
    kept = sorted((folder / "wandb").glob("offline-run-*/*.wandb"))
    assert [path.name for path in kept] == [f"run-{first}.wandb"] * 2
    assert all(b"dev/bleu4" in path.read_bytes() for path in kept)
