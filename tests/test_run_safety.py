"""Runs that are interrupted, shared, moved or changed: nothing is lost, and changed files are never used."""

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import fresh_process
import numpy as np
import pytest
import torch
from kill import campaign
from systems import SMALL, having

from signcl.cli import main
from signcl.data.corpora.synthetic import SyntheticSettings
from signcl.data.corpora.synthetic.making import _check_folder
from signcl.data.files import atomic_write, clear_unfinished, is_empty, write_text
from signcl.data.folder_lock import LOCK, only_writer
from signcl.data.interrupts import Terminated, sigterm_stops, whole_or_not
from signcl.training import fit, run_folder
from signcl.training.manifest import MANIFEST, checked_write, verify
from signcl.training.recipe import recipe_from_dict, save_recipe
from signcl.training.runs import load_run

NAMES = ["model.safetensors"]


@pytest.fixture
def corpus(corpora, tmp_path) -> Path:
    return Path(shutil.copytree(corpora[False], tmp_path / "corpus"))


def recipe(corpus: Path, out: Path, system: str = "gfslt", **train):
    stage, weights = ("recognise", {"recognition": 1.0}) if system == "recogniser" else ("finetune", {"translation": 1})
    return recipe_from_dict({
        "stage": stage, "out": str(out), "corpus": {"name": "folder", "root": str(corpus)},
        "model": {"name": system, "visual": "feature_mlp", "visual_dim": 16, **having(system, SMALL)},
        "loss": {"weights": weights},
        "train": {"epochs": 2, "batch_size": 4, "device": "cpu", "evaluate_every": 1, **train},
        "decode": {"beams": 1, "max_new_tokens": 4, "gloss_beams": 2},
    })  # fmt: skip


@pytest.fixture(scope="module")
def trained(corpora, tmp_path_factory) -> Path:
    return fit(recipe(corpora[False], tmp_path_factory.mktemp("trained") / "run", max_steps=1), progress=False)


def unfinished(folder: Path) -> None:
    run_folder.save_state(folder, {**run_folder.load_state(folder), "finished": False})


# -- data that has changed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("split", "said"), [("train", r"\(train, glosses\)"), ("dev", r"\(dev\)")])
def test_a_renamed_gloss_is_not_trained_on_in_silence(corpus, tmp_path, split, said):
    # The classes are in the order of the glosses: a new name moved all of them under the old weights.
    r = recipe(corpus, tmp_path / "run", "recogniser", max_steps=1)
    folder = fit(r, progress=False)
    unfinished(folder)
    table = corpus / f"{split}.tsv"
    head, *rows = table.read_text().splitlines()
    column = head.split("\t").index("gloss")
    cells = [row.split("\t") for row in rows]
    name = cells[0][column].split()[0]
    for row in cells:
        row[column] = " ".join("AAA" if gloss == name else gloss for gloss in row[column].split())
    table.write_text("\n".join([head, *("\t".join(row) for row in cells)]) + "\n")
    with pytest.raises(ValueError, match=f"has changed since .* was begun {said}"):
        fit(r, progress=False)


def test_a_gloss_that_the_run_does_not_use_may_be_renamed(corpus, tmp_path):
    folder = fit(recipe(corpus, tmp_path / "run", max_steps=1), progress=False)
    unfinished(folder)
    table = corpus / "train.tsv"
    head, first, *rest = table.read_text().splitlines()
    cells = first.split("\t")
    cells[head.split("\t").index("gloss")] = "AAA"
    table.write_text("\n".join([head, "\t".join(cells), *rest]) + "\n")
    fit(recipe(corpus, tmp_path / "run", max_steps=1), progress=False)


def test_features_of_another_size_are_another_corpus(corpus, tmp_path):
    r = recipe(corpus, tmp_path / "run", max_steps=1)
    folder = fit(r, progress=False)
    unfinished(folder)
    path = next(corpus.glob("dev*.npy"))
    np.save(path, np.concatenate([np.load(path)] * 2))
    with pytest.raises(ValueError, match=r"\(dev files\)"):
        fit(r, progress=False)


def test_another_segment_of_the_same_file_is_another_corpus(corpus, tmp_path):
    table = corpus / "train.tsv"
    head, *rows = table.read_text().splitlines()

    def write(stop):
        table.write_text("\n".join([f"{head}\tstart_frame\tstop_frame", *(f"{row}\t0\t{stop}" for row in rows)]) + "\n")

    write(8)
    r = recipe(corpus, tmp_path / "run", max_steps=1)
    unfinished(fit(r, progress=False))
    write(7)
    with pytest.raises(ValueError, match=r"was begun \(train\)"):
        fit(r, progress=False)


def test_a_moved_corpus_is_the_same_corpus(corpus, tmp_path):
    folder = fit(recipe(corpus, tmp_path / "run", max_steps=1), progress=False)
    unfinished(folder)
    state = run_folder.load_state(folder)
    moved = corpus.rename(tmp_path / "moved")
    run_folder.save_state(folder, {**state, "recipe": {**state["recipe"], "corpus": {**state["recipe"]["corpus"],
                          "root": str(moved)}}})  # fmt: skip
    fit(recipe(moved, tmp_path / "run", max_steps=1), progress=False)


# -- files of a run that have changed ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_changed_file_is_not_used(corpus, tmp_path, name):
    folder = fit(recipe(corpus, tmp_path / "run", max_steps=1), progress=False)
    load_run(folder)
    path = folder / name
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} is not what this run wrote: its checksum differs"):
        load_run(folder)
    (folder / MANIFEST).unlink()
    if name == "model.safetensors":
        load_run(folder)  # a run of an earlier version has no manifest


def test_the_recipe_of_a_run_may_be_edited(corpus, tmp_path):
    folder = fit(recipe(corpus, tmp_path / "run", max_steps=1), progress=False)
    path = folder / "recipe.yaml"
    path.write_text(path.read_text().replace("beams: 1", "beams: 2"))
    assert load_run(folder).recipe.decode.beams == 2


def test_a_kill_between_weights_and_manifest_leaves_a_run_that_can_be_read(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    for content in (b"old", b"new"):
        with checked_write(path) as temporary:
            temporary.write_bytes(content)
        verify(tmp_path, NAMES)
    with pytest.raises(ZeroDivisionError), checked_write(path):  # before the file is replaced
        _ = 1 / 0
    verify(tmp_path, NAMES)
    replace = os.replace

    def killed_after(source, target):
        replace(source, target)
        if Path(target) == path:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed_after)
    with pytest.raises(KeyboardInterrupt), checked_write(path) as temporary:  # after it, before the manifest is settled
        temporary.write_bytes(b"newest")
    assert path.read_bytes() == b"newest"
    verify(tmp_path, NAMES)
    path.write_bytes(b"other")
    with pytest.raises(ValueError, match="checksum differs"):
        verify(tmp_path, NAMES)


@pytest.mark.parametrize("text", ["{", "[]", '{"files": 3}', '{"files": {"model.safetensors": 1}}'])
def test_a_damaged_manifest_is_named(tmp_path, text):
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(ValueError, match=r"manifest.json is damaged.*delete this file"):
        verify(tmp_path, NAMES)


def test_the_manifest_says_what_the_run_was_trained_on(corpus, tmp_path):
    folder = fit(recipe(corpus, tmp_path / "run", "recogniser", max_steps=1), progress=False)
    said = json.loads((folder / MANIFEST).read_text())
    assert said["trained_on"].keys() == {"train", "train files", "dev", "dev files", "glosses"}
    assert said["files"].keys() == {"model.safetensors", "tokenizer.json", "glosses.json"}


# -- two processes, signals --------------------------------------------------------------------------------------------


def test_one_process_writes_a_folder_and_the_next_is_told_which(tmp_path):
    said = rf"process {os.getpid()} on .* is training {tmp_path}; wait for it"
    first, second, third = (only_writer(tmp_path, "is training") for _ in range(3))
    with first, pytest.raises(ValueError, match=said):
        second.__enter__()
    with third:
        pass


@pytest.fixture
def long_run(corpus, tmp_path):
    """A very long training in a separate process, after it has written a state."""
    save_recipe(recipe(corpus, tmp_path / "run", epochs=10_000, save_every=1), tmp_path / "long.yaml")
    process = fresh_process.start(["fit", str(tmp_path / "long.yaml")], tmp_path, tmp_path / "said")
    state = tmp_path / "run/state/last.pt"
    until = time.monotonic() + 60
    while not state.is_file() and process.is_alive() and time.monotonic() < until:
        time.sleep(0.02)
    assert state.is_file(), (tmp_path / "said/stderr").read_text()
    yield process
    process.kill()
    process.join()


def test_a_second_fit_is_refused_and_a_killed_one_leaves_no_lock(long_run, corpus, tmp_path):
    second = recipe(corpus, tmp_path / "run", epochs=10_000, save_every=1)
    with pytest.raises(ValueError, match=rf"process {long_run.pid} on .* is training|another process trained"):
        fit(second, progress=False)
    long_run.kill()
    long_run.join()
    assert "is training" in (tmp_path / "run" / LOCK).read_text()  # it could not report its end
    with only_writer(tmp_path / "run", "is training"):
        pass


def test_sigterm_saves_and_the_same_command_goes_on(long_run, corpus, tmp_path):
    os.kill(long_run.pid, signal.SIGTERM)
    long_run.join(60)
    assert long_run.exitcode == 143
    said = (tmp_path / "said/stderr").read_text()
    assert "the same command resumes there" in said
    assert "Traceback" not in said
    step = run_folder.load_state(tmp_path / "run")["step"]
    assert step > 0
    assert f"stopped at step {step}" in said


def test_sigterm_waits_for_the_end_of_a_step():
    done = []

    def step():
        with sigterm_stops(), whole_or_not():
            os.kill(os.getpid(), signal.SIGTERM)
            done.append("step")

    with pytest.raises(Terminated):
        step()
    assert done == ["step"]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_what_a_kill_left_half_written_is_cleared(corpus, tmp_path):
    r = recipe(corpus, tmp_path / "run", max_steps=1)
    folder = fit(r, progress=False)
    unfinished(folder)
    left = [folder / ".model.safetensors.ab12_xyz.part", folder / "state/.last.pt.k3j2h1g0.part"]
    kept = [
        folder / name for name in (".gitignore", "notes.txt", ".notes.original", ".notes.part", "notes.ab12_xyz.part")
    ]
    for path in (*left, *kept):
        path.write_text("half")
    fit(r, progress=False)
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in kept)


def test_a_file_that_another_process_is_writing_stays(tmp_path):
    with atomic_write(tmp_path / "table.tsv") as temporary:
        temporary.write_text("hal")
        assert clear_unfinished(tmp_path) == 0
        temporary.write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["table.tsv"]


def test_a_folder_with_nothing_but_half_a_file_is_empty(corpora, tmp_path):
    # killed while it wrote its very first file: the same command found the folder "not empty"
    for name in ("pack", "made"):
        (tmp_path / name).mkdir()
        (tmp_path / name / ".pack.json.ab12_xyz.part").write_text("half")
    assert main(["corpus", "pack", str(corpora[True]), "-o", str(tmp_path / "pack"), "--size=16", "--form=uint8"]) == 0
    _check_folder(tmp_path / "made", SyntheticSettings())
    assert is_empty(tmp_path / "made")


def test_the_first_file_written_to_a_folder_clears_it(tmp_path):
    (tmp_path / ".table.tsv.ab12_xyz.part").write_text("half")
    write_text(tmp_path / "other.txt", "whole")
    assert [path.name for path in tmp_path.iterdir()] == ["other.txt"]


WRITES = r"\.write_(text|bytes)\(|\.open\(\"[wax]|savefig\(|np\.save\(|torch\.save\(|save_file\(|save_model\(|imwrite\("
ATOMIC = (
    r"temporary|file\.write|testing\.py|pages/clip_form\.py|record\.py|folder_lock\.py|np\.save\((memory|file),"
    r"|subtitling\.py|segmentation\.py|pose_folder\.py|many_clips\.py|kept_clips\.py"
)
"""What needs no care beside it: logs that are appended to, whose cut last line is taken out; an upload that is thrown
away, tiny corpora of checks, bytes in memory."""


def test_no_file_of_the_package_is_written_half():
    """What goes around `signcl.data.files` can be cut short by a kill, or left lying about."""
    package = Path(run_folder.__file__).parents[1]
    found = [
        f"{path.relative_to(package)}: {line.strip()}"
        for path in package.rglob("*.py")
        if path.name != "files.py"
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(WRITES, line) and not re.search(ATOMIC, f"{path}: {line}")
    ]
    assert found == []


@pytest.mark.parametrize("verb", ["extract", "evaluate", "corpus pack", "corpus make"])
def test_sigterm_ends_a_verb_without_a_half_file_and_it_goes_on(verb, trained, corpora, tmp_path, monkeypatch, capsys):
    out = str(tmp_path / "out")
    words = {
        "extract": ["extract", str(trained), "-o", out, "--shard-samples=2", "--device=cpu"],
        "evaluate": ["evaluate", str(trained), "--split=dev", "--device=cpu", "--bootstrap=10"],
        "corpus pack": ["corpus", "pack", str(corpora[True]), "-o", out, "--size=16", "--form=uint8"],
        "corpus make": ["corpus", "make", out, "--clips=40", "--size=48", "--signs=16"],
    }[verb]
    replace, done = os.replace, []

    def stopped(source, target):
        done.append(target)
        if len(done) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", stopped)
        assert main(words) == 143
    said = capsys.readouterr().err
    assert said.endswith("signcl: stopped\n")
    assert "Traceback" not in said
    assert len(done) == 2
    assert not [path for place in (tmp_path, trained) for path in place.rglob("*.part")]
    assert Path(done[0]).is_file()
    if verb != "corpus make":  # which has 40 clips to draw
        assert main(words) == 0
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize("verb", ["score", "corpus pack"])
def test_a_killed_verb_goes_on_as_if_it_had_not_been_killed(verb, tmp_path):
    """Two runs of the campaign, `python -m tests.kill`, which does the same for every verb."""
    tally = campaign([verb], 1, 7, tmp_path)[verb]
    assert (tally.kills > 0, tally.resumed, tally.lost) == (True, 1, [])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_said_however_torch_says_it(tmp_path):
    path = tmp_path / "state/last.pt"
    path.parent.mkdir()
    path.write_bytes(b"old")
    content = {"x": torch.zeros(1_000_000)}
    with pytest.raises(OSError, match=r"no space left while writing .*last\.pt; the previous file is intact"):
        run_folder.save_state(tmp_path, content, save=lambda state, _: full(state))
    assert path.read_bytes() == b"old"


def full(state):
    torch.save(state, "/dev/full")


# -- longer ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [{"epochs": 2}, {"epochs": 4, "max_steps": 3}])
def test_a_finished_run_is_trained_longer(corpus, tmp_path, capsys, first):
    folder = fit(recipe(corpus, tmp_path / "run", schedule="constant", **first), progress=False)
    fit(recipe(corpus, tmp_path / "run", schedule="constant", epochs=4), progress=False)
    assert "resumes at step" in capsys.readouterr().err
    whole = fit(recipe(corpus, tmp_path / "whole", schedule="constant", epochs=4), progress=False)
    a, b = (run_folder.load_state(path) for path in (folder, whole))
    assert (a["step"], a["epoch"]) == (b["step"], b["epoch"])
    for key, value in b["model"].items():  # with a constant rate, as if it had never stopped
        assert torch.equal(a["model"][key], value), key
    with pytest.raises(ValueError, match=r"another recipe \(train.epochs: 4 there, 3 here"):
        fit(recipe(corpus, tmp_path / "run", schedule="constant", epochs=3), progress=False)
