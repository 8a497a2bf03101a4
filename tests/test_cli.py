"""The commands as a user types them: the whole job on a tiny corpus, real clips, and everything that can be wrong."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from signcl.cli import main

TINY = [
    "--model.visual_dim=16",
    "--model.conv_width=32",
    "--model.width=32",
    "--model.encoder_layers=1",
    "--model.decoder_layers=1",
    "--model.heads=2",
    "--model.ffn=32",
    "--train.device=cpu",
    "--train.evaluate_every=9",
]
RECIPES = Path(__file__).parents[1] / "recipes"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("cli") / "corpus"
    assert main(["corpus", "make", str(root), "--clips=40", "--size=48", "--signs=16"]) == 0
    return root


@pytest.fixture(scope="module")
def pretrained(corpus) -> Path:
    run = corpus.parent / "pretrain"
    words = ["fit", str(RECIPES / "synthetic/pretrain-signcl.yaml"), f"--corpus.root={corpus}", f"--out={run}", *TINY]
    words.append("--model.visual_weights=")
    assert (
        main([*words, "--train.epochs=1", "--model.text_layers=1", "--model.text_heads=2", "--model.text_ffn=32"]) == 0
    )
    return run


@pytest.fixture(scope="module")
def run(corpus, pretrained) -> Path:
    folder = corpus.parent / "finetune"
    recipe = RECIPES / "synthetic/finetune-signcl.yaml"
    words = ["fit", str(recipe), f"--corpus.root={corpus}", f"--out={folder}", f"--model.init_from={pretrained}", *TINY]
    assert main([*words, "--train.epochs=1", "--input.augment.probability=0.5"]) == 0
    return folder


def answer(capsys, *words: str) -> tuple[int, str]:
    """Exit code and stderr of a command; a user's mistake is one line, without a traceback."""
    capsys.readouterr()
    try:
        code = main(list(words))
    except SystemExit as error:
        code = int(error.code or 0)
    return code, capsys.readouterr().err


def mistake(capsys, *words: str) -> str:
    code, said = answer(capsys, *words)
    assert code == 2, said
    assert "Traceback" not in said
    last = said.strip().splitlines()[-1]
    assert last.startswith("signcl: "), said
    return last


@pytest.mark.slow
def test_from_corpus_to_report(corpus, run, capsys):
    assert main(["corpus", "check", str(corpus)]) == 0
    assert main(["corpus", "stats", str(corpus), "--json"]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(run), "--json", "--bootstrap=50"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert {
        "bleu1",
        "bleu4",
        "rouge_l",
        "chrf",
        "signatures",
        "intervals",
        "seen_in_training",
        "made",
    } <= scores.keys()
    assert json.loads((run / "scores.json").read_text())["test"] == scores
    lines = (run / "predictions.test.tsv").read_text().splitlines()
    assert len(lines) == scores["made"]["clips"] + 1
    assert main(["evaluate", str(run)]) == 0
    assert "BLEU-4 95 % bootstrap interval" in capsys.readouterr().out

    assert main(["density", str(run), "--split", "train", "--json"]) == 0
    density = json.loads(capsys.readouterr().out)
    assert 0 < density["sdr"] < 200
    assert density["interval"][0] <= density["sdr"] <= density["interval"][1]
    assert 80 < density["shuffled"] < 120
    for suffix in ("csv", "json", "png", "points.json"):
        assert (run / f"density.train.{suffix}").is_file()
    for frame in ("mean", "medoid"):
        assert main(["density", str(run), "--split=train", "--frame", frame, "--tap=steps", "--no-picture"]) == 0
    assert "SDR" in capsys.readouterr().out

    shutil.copytree(run, run.parent / "again", dirs_exist_ok=True)
    assert main(["compare", str(run), str(run.parent / "again"), "--samples=50"]) == 0
    assert "+0.00 to +0.00" in capsys.readouterr().out
    perfect = run.parent / "again" / "predictions.test.tsv"
    rows = [line.split("\t") for line in (run / "predictions.test.tsv").read_text().splitlines()]
    perfect.write_text("\n".join("\t".join([*row[:2], row[1]] if i else row) for i, row in enumerate(rows)) + "\n")
    assert main(["compare", str(run), str(run.parent / "again"), "--samples=50", "--json"]) == 0
    rouge = next(r for r in json.loads(capsys.readouterr().out) if r["metric"] == "rouge_l")
    assert rouge["b"] == 100.0
    assert rouge["difference"] == pytest.approx(rouge["b"] - rouge["a"])
    assert rouge["low"] > 0, "B translates every sentence right, so B - A is above 0"

    assert main(["report", str(run)]) == 0
    assert Path(capsys.readouterr().out.strip()).is_file()


def test_a_pretraining_run_is_scored_by_its_losses(pretrained, capsys):
    assert main(["evaluate", str(pretrained), "--split=dev", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert {"clip", "masked_text", "signcl", "loss", "retrieval"} <= scores.keys()
    assert "a pretrain run" in mistake(capsys, "translate", str(pretrained), "x.mp4")


def test_every_real_clip_is_answered(run, real_data, capsys):
    clips = sorted(p for p in (real_data / "sample-videos").iterdir() if p.suffix in (".mp4", ".gif"))
    assert len(clips) == 4
    capsys.readouterr()
    assert main(["translate", str(run), *map(str, clips), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    # Of 24, 30, 30 and 30 frames a second; the run was trained at 25.
    assert [line["frames"] for line in lines] == [188, 36, 36, 48]
    assert all(isinstance(line["text"], str) for line in lines)


def test_a_clip_may_be_a_folder_of_frames_or_an_array(run, real_data, corpus, tmp_path):
    from signcl import load_model, translate
    from signcl.data.video import read_frames

    model = load_model(run)
    for name in ("images0001.png", "images0002.png"):
        shutil.copy(real_data / "phoenix14t-pose1" / name, tmp_path / name)
    assert translate(model, tmp_path).num_frames == 2
    clip = next(corpus.rglob("*.mp4"))
    assert translate(model, read_frames(clip)).text == translate(model, clip).text
    with pytest.raises(ValueError, match="uint8 RGB"):
        translate(model, np.zeros((4, 8, 8, 1), dtype=np.uint8))
    with pytest.raises(ValueError, match="trained on video frames, this is features of size 7"):
        translate(model, np.zeros((4, 7), dtype=np.float32))


def test_bad_clips_are_named_and_the_good_ones_translated(run, corpus, tmp_path, capsys):
    good = next(corpus.rglob("*.mp4"))
    (tmp_path / "cut.mp4").write_bytes(good.read_bytes()[:900])
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "frames").mkdir()
    capsys.readouterr()
    bad = [tmp_path / "cut.mp4", tmp_path / "empty.mp4", tmp_path / "frames", tmp_path / "absent.mp4"]
    assert main(["translate", str(run), *map(str, bad), str(good)]) == 2
    printed = capsys.readouterr()
    assert printed.out.startswith(str(good)), "the readable clip is answered all the same"
    said = printed.err.strip().splitlines()
    assert len(said) == 4
    assert all(line.startswith("signcl: ") for line in said)
    for name, line in zip(("cut.mp4", "empty.mp4", "frames", "absent.mp4"), said):
        assert name in line


def test_one_frame_is_a_clip(run, corpus, tmp_path):
    from signcl import load_model, translate
    from signcl.data.video import read_frames, write_video

    write_video(tmp_path / "one.mp4", read_frames(next(corpus.rglob("*.mp4")))[:1])
    assert translate(load_model(run), tmp_path / "one.mp4").num_frames == 1


def test_wrong_corpora(corpus, tmp_path, capsys):
    recipe = str(RECIPES / "synthetic/finetune.yaml")
    options = ["--model.init_from=", f"--out={tmp_path}/run", *TINY]
    assert "does not exist" in mistake(capsys, "fit", recipe, f"--corpus.root={tmp_path}/none", *options)
    (tmp_path / "empty").mkdir()
    assert "train.tsv" in mistake(capsys, "fit", recipe, f"--corpus.root={tmp_path}/empty", *options)
    assert "did you mean folder" in mistake(capsys, "fit", recipe, "--corpus.name=foldr", *options)
    broken = tmp_path / "broken"
    shutil.copytree(corpus, broken)
    for clip in (broken / "clips").rglob("*.mp4"):
        clip.write_bytes(clip.read_bytes()[:500])
    said = mistake(capsys, "fit", recipe, f"--corpus.root={broken}", *options)
    assert "can be read" in said
    assert answer(capsys, "corpus", "check", str(broken))[0] == 1


def test_wrong_recipes(corpus, tmp_path, capsys):
    recipe = str(RECIPES / "synthetic/finetune.yaml")
    root = f"--corpus.root={corpus}"
    assert "no recipe at" in mistake(capsys, "fit", "absent.yaml")
    assert "fit needs a recipe" in mistake(capsys, "fit", "--train.epochs=3")
    assert "model.activation must be" in mistake(
        capsys, "fit", recipe, root, f"--out={tmp_path}/a", "--model.activation=foo"
    )
    assert "train.strategy: needs one of auto, ddp, fsdp, got 'foo'" in mistake(
        capsys, "fit", recipe, root, f"--out={tmp_path}/a", "--train.strategy=foo"
    )
    assert "leaves no word" in mistake(capsys, "fit", recipe, root, f"--out={tmp_path}/a", "--text.min_count=999")
    assert "did you mean train.epochs" in mistake(capsys, "fit", recipe, "--train.epoch=3")
    assert "needs a whole number, got 'many'" in mistake(capsys, "fit", recipe, "--train.epochs=many")
    out = [f"--out={tmp_path}/run", "--model.init_from="]
    assert "needs a corpus of features" in mistake(capsys, "fit", recipe, root, *out, "--model.visual=identity")
    assert "input.crop=99: needs a square within input.size=48" in mistake(
        capsys, "fit", recipe, root, *out, "--input.crop=99", *TINY
    )
    weights = f"--model.visual_weights=pretrained:{tmp_path}/no.pth"
    assert "fit its recipe first" in mistake(capsys, "fit", recipe, root, *out, "--model.visual=resnet18", weights)


def test_wrong_runs(run, corpus, tmp_path, capsys):
    assert "cannot be used here" in mistake(capsys, "translate", str(run), "x.mp4", "--device=cuda:77")
    assert "no run folder at" in mistake(capsys, "evaluate", str(tmp_path / "absent"))
    assert "no run folder at" in mistake(capsys, "translate", str(tmp_path / "absent"), "x.mp4")
    assert "has no recipe.yaml" in mistake(capsys, "density", str(tmp_path))
    assert "no predictions at" in mistake(capsys, "compare", str(run), str(tmp_path), "--split=dev")
    assert "split 'validation'" in mistake(capsys, "evaluate", str(run), "--split=validation")
    damaged = tmp_path / "damaged"
    shutil.copytree(run, damaged)
    (damaged / "scores.json").write_text("{")
    assert answer(capsys, "evaluate", str(damaged), "--bootstrap=0")[0] == 0
    (damaged / "tokenizer.json").write_text("{")
    assert "tokenizer.json is not what this run wrote" in mistake(capsys, "evaluate", str(damaged))
    (damaged / "manifest.json").unlink()
    assert "tokenizer.json is damaged" in mistake(capsys, "evaluate", str(damaged))
    bare = tmp_path / "bare"
    shutil.copytree(corpus, bare)
    table = (bare / "test.tsv").read_text().splitlines()
    (bare / "test.tsv").write_text("\n".join(line.rsplit("\t", 1)[0] for line in table) + "\n")
    assert "has no spans" in mistake(capsys, "density", str(run), f"--root={bare}")


def test_no_permission_is_one_line(corpus, tmp_path, capsys):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    (tmp_path / "locked").mkdir(mode=0o500)
    recipe = str(RECIPES / "synthetic/finetune.yaml")
    options = [f"--corpus.root={corpus}", "--model.init_from=", f"--out={tmp_path}/locked/run", *TINY]
    assert "no permission" in mistake(capsys, "fit", recipe, *options)


def test_a_file_where_the_run_folder_should_be(corpus, tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    recipe = str(RECIPES / "synthetic/finetune.yaml")
    options = [f"--corpus.root={corpus}", "--model.init_from=", f"--out={tmp_path}/file", *TINY]
    assert "there is a file of that name" in mistake(capsys, "fit", recipe, *options)


def test_help_is_fast_and_complete():
    done = subprocess.run([sys.executable, "-m", "signcl", "--help"], capture_output=True, text=True, check=True)
    for verb in ("demo", "fit", "evaluate", "compare", "density", "audit", "translate", "report", "corpus"):
        assert verb in done.stdout
    keys = subprocess.run([sys.executable, "-m", "signcl", "fit", "--keys"], capture_output=True, text=True, check=True)
    assert "loss.signcl.distance_margin" in keys.stdout


def test_unknown_words_are_refused(capsys):
    assert answer(capsys, "evaluate", "run", "--bogus")[0] == 2
    assert answer(capsys)[0] == 2
    assert answer(capsys, "corpus", "make", "x", "--clps=3")[0] == 2


def test_corpus_settings_are_checked(tmp_path, capsys):
    said = mistake(capsys, "corpus", "make", str(tmp_path / "c"), "--size=20")
    assert "argument --size: needs a whole number from 48 to 224, got 20" in said
