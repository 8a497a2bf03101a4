"""The dry run on made-up corpora of the official layouts: what is missing is said, nothing is trained."""

import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from systems import write_png

sys.path.insert(0, str(Path(__file__).parents[1]))

from paper import check
from paper.check import COUNTS, main

FEW = {"phoenix14t": {"train": 5, "dev": 2, "test": 3}, "csl_daily": {"train": 4, "dev": 2, "test": 2}}
TEXTS = ["und nun das wetter", "am montag regen", "am dienstag sonne", "regen und sonne", "wind aus norden"]


@pytest.fixture
def few(monkeypatch) -> dict[str, dict[str, int]]:
    """The published numbers of sentences are too many to make up."""
    monkeypatch.setattr(check, "COUNTS", FEW)
    return FEW


def phoenix(root: Path, labels: str = "release") -> Path:
    (root / "annotations/manual").mkdir(parents=True)
    for split, count in FEW["phoenix14t"].items():
        lines, records = ["name|video|start|end|speaker|orth|translation"], []
        for i in range(count):
            name = f"{split}-{i}"
            folder = root / f"features/fullFrame-210x260px/{split}/{name}"
            folder.mkdir(parents=True)
            for frame in range(1, 4):
                write_png(folder / f"images{frame:04d}.png", np.full((26, 21, 3), 90, np.uint8))
            lines.append(f"{name}|{name}/1/*.png|-1|-1|Signer01|REGEN|{TEXTS[i]}")
            records.append({"name": f"{split}/{name}", "gloss": "FALSCH", "text": TEXTS[i], "length": 3})
        if labels == "release":
            table = root / f"annotations/manual/PHOENIX-2014-T.{split}.corpus.csv"
            table.write_text("\n".join(lines) + "\n")
        else:
            (root / f"labels.{split}").write_bytes(pickle.dumps(records))
    return root


def facts(capsys, words: list[str]) -> tuple[int, dict]:
    code = main([*words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_whole_corpus_is_ready(few, tmp_path, capsys):
    root = phoenix(tmp_path / "p")
    code, found = facts(capsys, ["--corpus", "phoenix14t", "--root", str(root), "--out", str(tmp_path / "no/where")])
    assert code == 0
    assert found["errors"] == []
    assert found["facts"]["test sentences"] == "3 of 3"
    assert found["facts"]["test clips opened"] == "3 of 3"
    assert found["facts"]["test sentences that occur in train"] == "3"
    assert any("signcl spans --phoenix-alignments" in line for line in found["warnings"])
    assert found["noise"] == "2.2"
    assert {"source": "independent, sltbaselines, 3 seeds", "system": "+ SignCL", "bleu4": "22.35 ± 0.28"} in found[
        "expected"
    ]
    assert not (tmp_path / "no").exists(), "nothing is written"
    assert main(["--corpus", "phoenix14t", "--root", str(root), "--all"]) == 0
    text = capsys.readouterr().out
    assert text.rstrip().endswith("ready")
    assert "± 2.2 BLEU-4" in text
    assert "GFSLT-VLP#6" in text


def test_the_published_numbers_of_sentences_are_asked_for(tmp_path, capsys):
    assert COUNTS["phoenix14t"] == {"train": 7096, "dev": 519, "test": 642}
    assert COUNTS["csl_daily"] == {"train": 18401, "dev": 1077, "test": 1176}
    code, found = facts(capsys, ["--corpus", "phoenix14t", "--root", str(phoenix(tmp_path / "p"))])
    assert code == 1
    assert "train has 5 sentences, the published split has 7096" in found["errors"][0]


def test_the_glosses_of_gfslts_labels_are_refused(few, tmp_path, capsys):
    code, found = facts(capsys, ["--corpus", "phoenix14t", "--root", str(phoenix(tmp_path / "p", "gfslt"))])
    assert code == 1
    assert sum("475 of the 642 test sentences" in line for line in found["errors"]) == 3


def test_missing_frames_and_splits_are_named(few, tmp_path, capsys):
    root = phoenix(tmp_path / "p")
    for path in (root / "features/fullFrame-210x260px/dev/dev-0").iterdir():
        path.unlink()
    (root / "annotations/manual/PHOENIX-2014-T.test.corpus.csv").unlink()
    code, found = facts(capsys, ["--corpus", "phoenix14t", "--root", str(root)])
    assert code == 1
    assert any(line.startswith("test: ") and "needs the labels" in line for line in found["errors"])
    assert any(line.startswith("dev: 1 of 2 clips cannot be opened") for line in found["errors"])
    assert main(["--corpus", "phoenix14t", "--root", str(tmp_path / "nothing")]) == 2
    assert "there is no such folder; name it with --root" in capsys.readouterr().err


def test_csl_daily_is_checked_by_its_tables(few, tmp_path, capsys):
    root = tmp_path / "csl"
    for split, count in FEW["csl_daily"].items():
        lines = ["name\tsigner\tnum_frames\tgloss\ttext"]
        for i in range(count):
            name = f"S{split}{i}"
            folder = root / "sentence/frames_512x512" / name
            folder.mkdir(parents=True)
            for frame in range(3):
                write_png(folder / f"{frame:06d}.png", np.full((16, 16, 3), 90, np.uint8))
            lines.append(f"{name}\tP01\t{4 if i else 3}\t他 买\t他买了{i}。")
        (root / f"csl-daily.{split}.tsv").write_text("\n".join(lines) + "\n")
    code, found = facts(capsys, ["--corpus", "csl_daily", "--root", str(root)])
    assert code == 0
    assert any("train: 3 of 4 clips have other lengths" in line for line in found["warnings"])
    assert found["facts"]["gloss types in train"] == "2"


def test_costs_are_those_of_the_basis(few, tmp_path, capsys):
    # By hand: 11 runs a seed, 3 x 4 x 24 h + 8 x 4 x 36 h = 1440 GPU hours; as many frames a clip as PHOENIX's.
    root = phoenix(tmp_path / "p")
    code, found = facts(capsys, ["--corpus", "phoenix14t", "--root", str(root), "--seeds", "2"])
    assert code == 0
    assert found["facts"]["Table 8, 2 seeds"] == "2,880 GPU hours (3090)"
    # 2 x (3 x 223.5 + 8 x 263.9) M parameters x 16 bytes
    assert found["facts"]["room for the runs of Table 8"].startswith("89 GB")
