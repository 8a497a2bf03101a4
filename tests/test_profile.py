"""Where the time of a run goes, and how dev is scored: in the run's precision, by frames."""

import json

import numpy as np
import pytest
import torch
from test_train import corpus, recipe  # noqa: F401

from signcl.data.planning import plan_batches
from signcl.systems.gfslt import GFSLT
from signcl.training import fit
from signcl.training.dev_scores import scoring_limits
from signcl.training.profile import WARM_UP, Profile


def test_a_profiled_run_says_where_its_time_went_and_is_the_same_run(corpus, tmp_path, capsys):  # noqa: F811
    from signcl.training.run_folder import load_state

    folder = fit(recipe(corpus, tmp_path / "run", epochs=1), progress=False, profile=True)
    said = capsys.readouterr().err
    found = json.loads((folder / "profile.json").read_text())
    assert found["steps"] == 6 - WARM_UP
    parts = {name: part["seconds"] for name, part in found["parts"].items()}
    assert set(parts) == {
        "waiting for data", "augmentation", "forward", "backward", "optimizer", "scoring", "other",
    }  # fmt: skip
    assert sum(parts.values()) == pytest.approx(found["seconds"])
    assert all(seconds >= 0 for seconds in parts.values())
    assert min(parts["forward"], parts["backward"], parts["scoring"]) > 1e-4
    for name in parts:
        assert name in said
    plain = fit(recipe(corpus, tmp_path / "plain", epochs=1), progress=False)
    assert not (plain / "profile.json").exists()
    a, b = load_state(folder)["model"], load_state(plain)["model"]
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_a_run_too_short_to_profile_says_so(tmp_path, capsys):
    profile = Profile(torch.device("cpu"), on=True)
    with profile("forward"):
        pass
    profile.step_done()
    profile.tell(tmp_path)
    assert "needs more than 3 steps, the run took 1" in capsys.readouterr().err


def test_dev_is_scored_in_the_precision_of_the_run(corpus, tmp_path, monkeypatch):  # noqa: F811
    seen = []
    forward = GFSLT.forward

    def looking(self, batch):
        seen.append((self.training, torch.is_autocast_enabled("cpu")))
        return forward(self, batch)

    monkeypatch.setattr(GFSLT, "forward", looking)
    fit(recipe(corpus, tmp_path / "run", epochs=1, max_steps=1, precision="bf16-mixed"), progress=False)
    assert {training for training, _ in seen} == {True, False}
    assert all(autocast for _, autocast in seen)
    seen.clear()
    fit(recipe(corpus, tmp_path / "full", epochs=1, max_steps=1), progress=False)
    assert not any(autocast for _, autocast in seen)


def test_dev_batches_hold_as_many_frames_as_training_has_shown_to_fit(corpus, tmp_path):  # noqa: F811
    r = recipe(corpus, tmp_path / "run", batch_size=4)
    lengths = [100, 120, 80, 90, 300, 280, 310, 290]
    plan = plan_batches(lengths, batch_size=4, shuffle=False)
    clips, frames = scoring_limits(plan, lengths, r)
    assert (clips, frames) == (16, 280 + 290 + 300 + 310)
    dev = [60] * 20 + [300] * 5
    scored = plan_batches(dev, batch_size=clips, batch_frames=frames, shuffle=False)
    assert max(len(batch) for batch in scored) == 16, "twice the clips of training whatever their lengths, before"
    assert max(sum(dev[i] for i in batch) for batch in scored) <= frames
    r.train.batch_frames = 500
    assert scoring_limits(plan, lengths, r) == (16, 500)
    pretrain = recipe(corpus, tmp_path / "pre", "pretrain", batch_size=4)
    assert scoring_limits(plan, lengths, pretrain) == (8, None), "a contrast depends on who is in the batch"


def test_the_same_run_with_workers_as_without(corpus, tmp_path):  # noqa: F811
    from signcl.training.run_folder import load_state

    folders = [
        fit(recipe(corpus, tmp_path / f"w{workers}", epochs=2, workers=workers, save_every=4), progress=False)
        for workers in (0, 2)
    ]
    a, b = (load_state(folder)["model"] for folder in folders)
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert (folders[0] / "metrics.jsonl").read_text() == (folders[1] / "metrics.jsonl").read_text()
    assert np.isfinite(json.loads((folders[1] / "card.json").read_text())["best"])
