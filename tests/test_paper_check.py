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
from paper.check import COUNTS, SCRIPTS, WHERE, main
from paper.settings import CORPORA, Setting

FEW = {"phoenix14t": {"train": 5, "dev": 2, "test": 3}, "csl_daily": {"train": 4, "dev": 2, "test": 2}}
TEXTS = ["und nun das wetter", "am montag regen", "am dienstag sonne", "regen und sonne", "wind aus norden"]


@pytest.fixture
def few(monkeypatch, tmp_path) -> Path:
    """The published numbers of sentences are too many to make up; weights that recipes start from; one script."""
    monkeypatch.setattr(check, "COUNTS", FEW)
    monkeypatch.setattr(check, "SCRIPTS", ("table8",))
    work = tmp_path / "work"
    for folder in ("MBart_trimmed", "MBart_trimmed_csl"):
        (work / "pretrained" / folder).mkdir(parents=True)
        (work / "pretrained" / folder / "model.safetensors").write_bytes(b"weights")
    (work / "pretrained/resnet18.pth").write_bytes(b"weights")
    monkeypatch.chdir(work)
    return work


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
    code = main([*words, *([] if "--seeds" in words else ["--seeds", "1"]), "--json"])
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


def test_the_published_numbers_of_sentences_are_asked_for(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(check, "SCRIPTS", ())
    assert COUNTS["phoenix14t"] == {"train": 7096, "dev": 519, "test": 642}
    assert COUNTS["csl_daily"] == {"train": 18401, "dev": 1077, "test": 1176}
    code, found = facts(capsys, ["--corpus", "phoenix14t", "--root", str(phoenix(tmp_path / "p"))])
    assert code == 1
    assert "train has 5 sentences, the published split has 7096" in found["errors"][0]


def test_the_glosses_of_gfslts_labels_are_refused(few, tmp_path, capsys):
    code, found = facts(capsys, ["--corpus", "phoenix14t", "--root", str(phoenix(tmp_path / "p", "gfslt"))])
    assert code == 1
    assert sum("475 of the 642 test sentences" in line for line in found["errors"]) == 3


def test_missing_frames_and_splits_are_named(few, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(check, "SCRIPTS", ("table7", "table8"))
    root = phoenix(tmp_path / "p")
    (root / "annotations/manual/PHOENIX-2014-T.train.corpus.csv").rename(tmp_path / "train.csv")
    _, found = facts(capsys, ["--corpus", "phoenix14t", "--root", str(root)])
    unknown = [line for line in found["warnings"] if "are not known yet" in line]
    assert len(unknown) == 1, "one line for all scripts that fail alike"
    assert "table7" in unknown[0]
    (tmp_path / "train.csv").rename(root / "annotations/manual/PHOENIX-2014-T.train.corpus.csv")
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
    assert found["facts"]["22 runs of VLP and GFSLT"].startswith("2,880 GPU hours (3090)")
    assert found["facts"]["by system"] == "16 gfslt, 6 vlp"
    # 2 x (3 x 270.1 + 8 x 115.4) M parameters, best and last and one moment of SGD, 4 bytes each: 41.6 GB
    assert found["facts"]["room for their weights"].startswith("42 GB")
    assert found["facts"]["room for their features"].startswith("0.0 GB (0 x")


def test_room_is_that_of_every_script_but_shared_and_finished_runs_count_once(few, tmp_path, capsys, monkeypatch):
    root = phoenix(tmp_path / "p")
    words = ["--corpus", "phoenix14t", "--root", str(root), "--out", str(tmp_path / "runs")]
    monkeypatch.setattr(check, "SCRIPTS", ("table8", "table2", "table6"))
    monkeypatch.setattr(check.shutil, "disk_usage", lambda place: type("Usage", (), {"free": 1e9})())
    _, found = facts(capsys, words)
    # Table 2 is five arms of Table 8, NSLT, PGP, Sign2GPT, and GASLT on one set of features
    # Table 6 is six finetunings of 80 epochs from Table 8's VLP
    name = "to make for 1 seeds, each once"
    assert found["facts"][name] == "21 trainings, 1 sets of features: table8 11, table2 4, table6 6"
    # 12 bytes x (3 x 270.1 + 14 x 115.4) M = 29.1 GB; 16 x (59.9 + 17.9 + 35.6 + 1798.5) M = 30.6 GB
    assert any(
        w.startswith("60 GB are needed for what all scripts still have to make, 1 GB") for w in found["warnings"]
    )
    # 3 x 96 h + 8 x 144 h + 6 x 144 h x 80 / 200 epochs, as many frames a clip as PHOENIX's
    assert found["facts"]["17 runs of VLP and GFSLT"].startswith("1,786 GPU hours")
    monkeypatch.setattr(check, "SCRIPTS", ("table1",))
    _, found = facts(capsys, words)
    assert found["facts"][name] == "30 trainings, 5 sets of features: table1 30"
    # 5 sets x 10 clips x 116.6 frames x 512 x 2 bytes: the frames of a made-up corpus
    assert found["facts"]["room for their features"].startswith("0.0 GB (5 x 1,166 frames x 512 x 2 bytes)")


def test_every_script_that_trains_on_a_licensed_corpus_is_counted():
    folder = Path(check.__file__).parent
    trains = {path.stem for path in folder.glob("*.py") if "\ndef planned(" in path.read_text()}
    free = {"imu", "challengers", "surface", "findings", "best", "contrast", "density_effect", "all_systems"}
    assert set(SCRIPTS) == trains - free, "of corpora that need no licence"


def test_weights_that_are_missing_are_errors_and_hub_ids_are_not(few, tmp_path, capsys, monkeypatch):
    words = ["--corpus", "phoenix14t", "--root", str(phoenix(tmp_path / "p"))]
    _, found = facts(capsys, words)
    assert found["facts"]["pretrained weights"] == "2 of 2 are there"
    (few / "pretrained/resnet18.pth").unlink()
    (few / "pretrained/MBart_trimmed/model.safetensors").unlink()
    code, found = facts(capsys, words)
    assert code == 1
    encoder = next(line for line in found["errors"] if line.startswith("pretrained/resnet18.pth is not there"))
    assert "model.visual_weights of phoenix14t/vlp.yaml" in encoder
    assert "phoenix14t/smkd.yaml" in encoder
    assert "docs/models.md" in encoder
    text = next(line for line in found["errors"] if line.startswith("pretrained/MBart_trimmed is empty"))
    assert "text.tokenizer of phoenix14t/vlp.yaml" in text
    assert "model.language_model of" in text
    assert "docs/systems/language-models.md (`signcl vocab trim`" in text
    assert len(found["errors"]) == 2
    setting = CORPORA["phoenix14t"]
    more = Setting(setting.title, setting.root, setting.recipes | {"pgp": "phoenix14t/pgp.yaml"}, 0.01, licensed=True)
    monkeypatch.setitem(CORPORA, "phoenix14t", more)
    _, found = facts(capsys, words)
    hub = [line for line in found["warnings"] if "loaded from the hub" in line]
    assert len(hub) == 1
    assert hub[0].startswith("facebook/dinov2-small ")
    assert any(line.startswith("pretrained/cc.de.300.vec is not there: model.vectors") for line in found["errors"])
    for where in WHERE.values():
        assert (Path(check.__file__).parents[1] / where.split()[0]).exists()


def test_devices_of_recipes_and_machine_are_told(few, tmp_path, capsys, monkeypatch):
    import torch

    words = ["--corpus", "phoenix14t", "--root", str(phoenix(tmp_path / "p"))]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(check, "_seconds_of_a_frame", lambda size: {224: 0.5}[size])
    code, found = facts(capsys, words)
    assert code == 0
    assert found["facts"]["CUDA GPUs here"] == "none"
    assert found["facts"]["devices, by the recipes as shipped"].startswith("4: vlp, vlp-signcl, gfslt, ")
    assert "runs on " in found["facts"]["devices, by the scripts"]
    # 5 clips x 116.6 frames x 200 epochs x 0.5 s = 58,300 s
    assert any("ResNet-18 takes 0.50 s a frame" in w and ": 1 days for each" in w for w in found["warnings"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda place: "a card")
    _, found = facts(capsys, words)
    assert found["facts"]["CUDA GPUs here"] == "2, a card; --device cuda trains there"
    assert not any("no CUDA GPU" in w for w in found["warnings"])
