"""The rehearsal of full-size trainings and the benchmark for GPUs, in their small forms on a CPU."""

import csv
import importlib.util
import json
import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import cv2
import pytest
from fresh_process import start

from paper import made_up, rehearsal
from signcl.data.corpora import load_samples

ROOT = Path(__file__).parents[1]


def test_the_made_up_release_has_the_layout_and_the_statistics(tmp_path):
    shapes = made_up.Shapes(**{**vars(made_up.SMALL), "frames": made_up.FRAMES, "picture": (26, 21), "words": 2887})
    counts = made_up.write_release(tmp_path, 0.01, shapes, threads=2)
    assert counts == {"train": 71, "dev": 5, "test": 6}
    train = load_samples("phoenix14t", tmp_path, "train")
    assert len(train) == 71
    frames = [len(list(s.clip.glob("*.png"))) for s in train]
    assert 95 < sum(frames) / len(frames) < 140
    assert 16 <= min(frames) <= max(frames) <= 475
    assert 12 < sum(len(s.text.split()) for s in train) / 71 < 16
    assert 6.5 < sum(len(s.gloss) for s in train) / 71 < 9.5
    assert cv2.imread(str(train[0].clip / "images0001.png")).shape == (26, 21, 3)
    with (tmp_path / "annotations/manual/PHOENIX-2014-T.dev.corpus.csv").open() as file:
        assert next(csv.reader(file, delimiter="|"))[:2] == ["name", "video"]


class Forked:
    """What the rehearsal asks of a process, of one that a server with torch has forked."""

    def __init__(self, words, **_):
        assert words[:3] == [sys.executable, "-m", "signcl"]
        self.stderr = None
        self.place = tempfile.TemporaryDirectory()
        self.process = start(words[3:], Path.cwd(), Path(self.place.name))

    @property
    def returncode(self):
        return self.process.exitcode

    def poll(self):
        return self.process.exitcode

    def send_signal(self, number):
        os.kill(self.process.pid, number)

    def wait(self):
        self.process.join()


def test_a_stage_is_killed_resumed_scored_and_passed_over(tmp_path, capsys, monkeypatch):
    forked = SimpleNamespace(Popen=Forked, PIPE=None, DEVNULL=None)  # a process all the same, killed in its training
    monkeypatch.setattr(rehearsal, "subprocess", forked)
    words = ["--small", "--out", str(tmp_path), "--stages", "pgp", "--steps", "4"]
    assert rehearsal.main(words) == 0
    table = capsys.readouterr().out
    (row,) = json.loads((tmp_path / "rehearsal.json").read_text())
    assert row["stage"] == "pgp"
    assert row["steps"] == 4
    assert row["resumed"]
    assert row["evaluated_clips"] == 4
    assert row["published_hours"] == pytest.approx(100 * 7096 / row["clips_per_second"] / 3600)
    before = (tmp_path / "runs/pgp/card.json").stat().st_mtime_ns
    assert rehearsal.main(words) == 0
    assert capsys.readouterr().out == table
    assert (tmp_path / "runs/pgp/card.json").stat().st_mtime_ns == before


def test_the_benchmark_for_gpus_runs_dry(capsys):
    spec = importlib.util.spec_from_file_location("gpu", ROOT / "benchmarks" / "gpu.py")
    gpu = sys.modules["gpu"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(gpu)
    assert gpu.main(["--device", "cpu", "--quick", "--tiny", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["part"] for row in rows] == ["tests", "loss", "density", "step", "step"]
    assert all("failed" not in row["what"] for row in rows)
