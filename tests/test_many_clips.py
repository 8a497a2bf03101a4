"""`signcl translate RUN FOLDER`: every clip in sorted order, to stdout or to a table that goes on after a stop."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from systems import CASES, recipe_of

from signcl.cli import main
from signcl.evaluation.sentence_files import read_sentences
from signcl.inference.many_clips import clips_of_folder, holds_clips
from signcl.training import fit


@pytest.fixture(scope="module")
def run(corpora, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clips") / "run"
    case = next(case for case in CASES if case.name == "gfslt")
    return fit(recipe_of(case, corpora, folder, epochs=1, evaluate_every=1), progress=False)


@pytest.fixture
def folder(corpora, tmp_path) -> Path:
    clips = tmp_path / "clips"
    (clips / "b").mkdir(parents=True)
    for name, to in (("test0", "c"), ("test1", "b/x"), ("test2", "a")):
        shutil.copy(corpora[False] / f"{name}.npy", clips / f"{to}.npy")
    (clips / "notes.md").write_text("x")
    (clips / ".hidden.npy").write_text("x")
    return clips


def test_a_folder_to_stdout_and_to_a_table(run, folder, capsys, tmp_path):
    assert main(["translate", str(run), str(folder)]) == 0
    printed = capsys.readouterr()
    lines = [line.split("\t") for line in printed.out.splitlines()]
    assert [Path(line[0]).relative_to(folder).as_posix() for line in lines] == ["a.npy", "b/x.npy", "c.npy"]
    assert "3 clips; ignores other files: 1 .md" in printed.err
    table = tmp_path / "out.tsv"
    assert main(["translate", str(run), str(folder), "-o", str(table), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["clips"] == 3
    found = read_sentences(table)
    assert list(found.texts) == [line[1] for line in lines]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clips", "out.tsv"]


def test_broken_clips_are_named_at_the_end_and_a_stop_loses_nothing(run, folder, capsys, tmp_path, monkeypatch):
    np.save(folder / "b" / "bad.npy", np.zeros((3, 7), dtype=np.float32))
    (folder / "cut.npy").write_bytes(b"\x93NUMPY")
    table, work = tmp_path / "out.tsv", tmp_path / "out.tsv.work"
    words = ["translate", str(run), str(folder), "-o", str(table)]
    import signcl.inference.translation as translation

    whole, asked, stops = translation.translate, [], []

    def stopped(model, clip, **how):
        asked.append(Path(clip).name)
        if Path(clip).name == "c.npy" and not stops:
            stops.append(clip)
            raise KeyboardInterrupt
        return whole(model, clip, **how)

    monkeypatch.setattr(translation, "translate", stopped)
    assert main(words) == 130
    assert not table.exists()
    assert len(work.read_text().splitlines()) == 3
    work.write_bytes(work.read_bytes() + b'{"name": "c.n')
    capsys.readouterr()
    assert main([*words, "--beams", "5"]) == 2
    assert "unfinished work with another beams" in capsys.readouterr().err
    asked.clear()
    assert main(words) == 2
    assert asked == ["bad.npy", "c.npy", "cut.npy"], "what was done is not done again"
    said = capsys.readouterr().err.splitlines()
    assert [line.split()[2] for line in said[-2:]] == ["b/bad.npy:", "cut.npy:"]
    assert len(table.read_text().splitlines()) == 4
    assert not work.exists()


def test_what_a_folder_holds(run, folder, tmp_path, capsys):
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "1.png").write_bytes(b"x")
    assert not holds_clips(tmp_path / "frames")
    assert list(clips_of_folder(tmp_path, videos=True, features=False)) == ["frames"]
    (tmp_path / "none").mkdir()
    assert main(["translate", str(run), str(tmp_path / "none"), str(folder / "a.npy")]) == 2
    printed = capsys.readouterr()
    assert "no clip in it; features are needed, there are no files" in printed.err
    assert printed.out.startswith(str(folder / "a.npy"))
    with pytest.raises(ValueError, match=r"videos are needed, there are 3 \.npy, 1 \.md|1 \.md, 3 \.npy"):
        clips_of_folder(folder, videos=True, features=False)
    assert main(["translate", str(run), str(folder), "-o", str(tmp_path / "x.csv")]) == 2
