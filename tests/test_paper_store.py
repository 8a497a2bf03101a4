"""The committed numbers of paper/: nothing is lost, and nothing of an older run is taken for the new one's."""

import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from paper_tiny import TINY, place_of_features

from paper import jobs
from paper import measured as measured_module
from paper.jobs import Extract, Fit, Place
from paper.measured import committed, key_of, measured, results
from paper.plan import estimate_runs
from paper.store import COLUMNS, Missing, Store, plain


def row(job: str, run: str, **values) -> dict:
    return {"job": job, "run": run, "code": "c0de", "seed": 0, "recipe": "a.yaml", **values}


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_numbers_come_back_as_they_were_written(tmp_path):
    store = Store(tmp_path)
    answers = {"test-1": ("der Wind", 'sagt "ja"\tnein')}
    store.record(row("a-seed0", "a-1", bleu4=100 / 3, sdr=math.nan, steps=7), answers)
    told = store.keep("a-seed0", "a-1", "map", {"tap": "features"}, {"method": "t-SNE", "all": np.float32([1 / 3, 2])})
    store.write()
    again = Store(tmp_path, reading=True)
    assert again.row("a-seed0")["bleu4"] == store.row("a-seed0")["bleu4"] == 33.333333, "computed from what is written"
    assert again.row("a-seed0")["steps"] == 7
    assert again.row("a-seed0")["wer"] is None
    assert math.isnan(again.row("a-seed0")["sdr"])
    assert again.answers("a-seed0") == answers
    assert again.value("a-seed0", "map", {"tap": "features"}) == told == {"method": "t-SNE", "all": [0.33333334, 2.0]}
    assert again.codes() == ["c0de"]
    first = files(tmp_path)
    Store(tmp_path).write()  # nothing is new
    store.write()
    assert files(tmp_path) == first
    assert first["runs.csv"].decode().splitlines()[0].split(",") == list(COLUMNS)
    with pytest.raises(Missing, match="the run b-seed0 is not in"):
        again.row("b-seed0")
    with pytest.raises(Missing, match='map tap="steps" of a-seed0 is not in'):
        again.value("a-seed0", "map", {"tap": "steps"})
    with pytest.raises(TypeError, match="a measurement is made of numbers, texts"):
        plain(object())


def test_two_commands_lose_nothing_of_each_other(tmp_path):
    one, other = Store(tmp_path), Store(tmp_path)
    one.record(row("a-seed0", "a-1"), {"t": ("x", "y")})
    other.record(row("b-seed0", "b-1"), {"t": ("x", "z")})
    other.keep("a-seed0", "a-1", "sdr", {}, 50.0)
    one.write()
    other.write()
    whole = Store(tmp_path, reading=True)
    assert {"a-seed0", "b-seed0"} == {job for job in ("a-seed0", "b-seed0", "c-seed0") if job in whole}
    assert (whole.answers("a-seed0"), whole.answers("b-seed0")) == ({"t": ("x", "y")}, {"t": ("x", "z")})
    assert whole.value("a-seed0", "sdr", {}) == 50.0


def test_runs_that_were_done_before_an_interruption_are_stored(tmp_path, monkeypatch):
    place = replace(place_of_features(tmp_path), corpus="c", store=Store(tmp_path / "numbers"))
    first, second = (Fit("imu_numbers/nslt.yaml", (*TINY, f"train.seed={seed}")) for seed in (0, 1))
    work = jobs._work

    def stopped(job, *rest):
        if job == second:
            raise KeyboardInterrupt
        work(job, *rest)

    monkeypatch.setattr(jobs, "_work", stopped)
    with pytest.raises(KeyboardInterrupt):
        results({"arm": [first, second]}, place)
    assert key_of(first, place) in place.store
    assert key_of(second, place) not in place.store


def test_what_was_measured_of_an_older_run_is_not_of_the_new_one(tmp_path):
    store = Store(tmp_path)
    store.record(row("a-seed0", "a-1"), {"t": ("x", "y")})
    store.keep("a-seed0", "a-1", "sdr", {}, 50.0)
    store.write()
    again = Store(tmp_path)
    again.record(row("a-seed0", "a-2"), {})
    again.write()
    read = Store(tmp_path, reading=True)
    assert read.answers("a-seed0") == {}
    with pytest.raises(Missing, match="sdr of a-seed0"):
        read.value("a-seed0", "sdr", {})
    again.keep("a-seed0", "a-1", "sdr", {}, 50.0)  # measured by a command that began before
    again.write()
    with pytest.raises(Missing, match="sdr of a-seed0"):
        Store(tmp_path, reading=True).value("a-seed0", "sdr", {})


@pytest.mark.parametrize(("name", "said"), [
    ("runs.csv", "has no column job, run, code"),
    ("predictions.tsv.gz", "is damaged"),
    ("measurements.json.gz", "is damaged"),
])  # fmt: skip
def test_damaged_numbers_are_named(tmp_path, name, said):
    (tmp_path / name).write_bytes(b"no such thing\n")
    with pytest.raises(ValueError, match=f"{name} {said}"):
        Store(tmp_path)


def test_a_job_is_its_content_and_neither_code_nor_place(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "code_version", lambda *_, **__: "one")
    place = Place(tmp_path / "a", tmp_path / "corpus", "one", corpus="imu_numbers")
    first = Fit("imu_numbers/finetune.yaml", ("train.epochs=3",))
    second = Fit("imu_numbers/finetune-signcl.yaml", start=first)
    read = Fit("imu_numbers/nslt.yaml", features=Extract(first))
    keys = [key_of(job.seeded(1), place) for job in (first, second, read)]
    elsewhere = replace(place, out=tmp_path / "b", root=tmp_path / "c", corpus_id="two", device="cuda")
    monkeypatch.setattr(jobs, "code_version", lambda *_, **__: "another")
    key_of.cache_clear()
    assert [key_of(job.seeded(1), elsewhere) for job in (first, second, read)] == keys
    store = Store(tmp_path / "numbers", reading=True)
    assert [key_of(job.seeded(1), replace(elsewhere, store=store)) for job in (first, second, read)] == keys
    plain_too = Fit("imu_numbers/finetune.yaml", ("train.epochs=3", "loss.mask_rate=0.15"))  # the default
    assert key_of(plain_too.seeded(1), place) == keys[0]
    longer = Fit("imu_numbers/finetune.yaml", ("train.epochs=4",))
    changed = [longer, replace(second, start=longer), replace(read, features=Extract(longer))]
    others = [key_of(job, place) for job in (*(job.seeded(1) for job in changed), first.seeded(2))]
    assert len({*keys, *others}) == 7
    assert key_of(first.seeded(1), replace(place, corpus="another")) not in keys
    with pytest.raises(Missing, match=f"2 of 2 runs are not in {store.folder}"):
        results({"arm": [first.seeded(0), first.seeded(1)]}, replace(place, store=store))


def test_nothing_is_measured_where_all_comes_from_numbers(tmp_path):
    store = Store(tmp_path)
    place = Place(tmp_path, tmp_path, "one", corpus="c", store=store)
    result = jobs.Result(tmp_path / "a-1", {}, None, {}, "a-seed0")
    assert measured("sdr", result, place, lambda: 1 / 3, tap="steps") == 0.33333333
    store.write()
    read = replace(place, store=Store(tmp_path, reading=True))
    assert measured("sdr", result, read, lambda: pytest.fail("it measures"), tap="steps") == 0.33333333


def test_runs_of_another_machine_are_repeated_only_when_a_measurement_needs_them(tmp_path, capsys):
    first = replace(place_of_features(tmp_path), corpus="c", store=Store(tmp_path / "numbers"))
    made = Fit("imu_numbers/nslt.yaml", (*TINY, "train.seed=3"))
    (there,) = results({"arm": [made]}, first)["arm"]
    first.store.write()
    shutil.move(first.out, tmp_path / "runs of another machine")

    def place_here(**changes) -> Place:
        return replace(first, store=Store(tmp_path / "numbers", only_missing=True), **changes)

    here = place_here()
    (result,) = results({"arm": [made]}, here)["arm"]
    assert not first.out.exists()
    assert result.scores == there.scores
    assert "1 of 1 runs are in" in capsys.readouterr().err
    assert estimate_runs({here: [made]}, set()).runs == 0
    assert estimate_runs({replace(here, store=None): [made]}, set()).runs == 1, "without the option, all is made"
    changed = Fit("imu_numbers/nslt.yaml", (*TINY, "train.seed=4"))
    assert estimate_runs({here: [made, changed]}, set()).runs == 1
    assert estimate_runs({place_here(corpus_id="drawn anew"): [made]}, set()).runs == 1
    measured("files", result, here, lambda: len(list(result.folder.iterdir())))
    assert (first.out / result.folder.name / "result.json").is_file(), "the measurement had the run itself"


def test_a_plan_without_the_corpus_compares_the_code(tmp_path, monkeypatch):
    place = replace(place_of_features(tmp_path), corpus="c", corpus_id="", store=Store(tmp_path, only_missing=True))
    job = Fit("imu_numbers/nslt.yaml", (*TINY, "train.seed=3"))
    place.store.record(
        row(key_of(job, place), "nslt-of-a-drawn-corpus", code=jobs.code_of(jobs.recipe_of(job, place))), {}
    )
    assert committed(job, place)
    monkeypatch.setattr(measured_module, "code_of", lambda recipe: "another")
    assert not committed(job, place)
